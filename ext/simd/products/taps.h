/* Every channel by itself over a window's taps: depthwise convolution, and pools.
 *
 * A tile is several rows (pixels) and one vector of channels, whose sums are made tap by tap in order, each by single
 * FMAs. Windows that overlap along a row share what they read: the taps of a kernel's row stay in registers while its
 * inputs pass, and each input is loaded once for all the sums that it is a term of. Then it is bound by FMA, else by
 * loads, one of x for each product.
 */
enum { VL_TAP_ROWS = 8, VL_LONGEST_STRETCH = 7 };

/* Taps side by side (a kernel's row) whose distance is 1 / `stride` of that from window to window, or from one to the
 * `every`th after it: a dilated kernel's. */
typedef struct {
    int length, stride; /* length 0: windows that share nothing */
    ptrdiff_t every;
} vl_stretch;

/* sum[r] += taps [tap, end) of `rows` windows, one vector of n channels at x[r] and w. */
VL_INLINE void vl_tap_by_tap(int rows, const vl_taps *p, const real *const *x, const real *w, ptrdiff_t n,
                             ptrdiff_t tap, ptrdiff_t end, vec *sum)
{
    if (n == L)
        for (; tap < end; tap++) {
            vec weight = vl_load(w + tap * p->channels);
#pragma GCC unroll 8
            for (int r = 0; r < rows; r++)
                sum[r] = VL_FMA(vl_load(x[r] + p->x_taps[tap]), weight, sum[r]);
        }
    else
        for (; tap < end; tap++) {
            vec weight = vl_load_first(w + tap * p->channels, n);
#pragma GCC unroll 8
            for (int r = 0; r < rows; r++)
                sum[r] = VL_FMA(vl_load_first(x[r] + p->x_taps[tap], n), weight, sum[r]);
        }
}

/* `rows` windows and the channels [c, c + n), n of at most a vector. */
VL_INLINE void vl_tap_tile(int rows, const vl_taps *p, ptrdiff_t row, ptrdiff_t c, ptrdiff_t n)
{
    const real *x[VL_TAP_ROWS], *w = (const real *)p->w + c;
    vec total[VL_TAP_ROWS], sum[VL_TAP_ROWS], bias = VL_SPLAT(0);
    if (p->bias)
        bias = vl_load_first((const real *)p->bias + c, n);
#pragma GCC unroll 8
    for (int r = 0; r < rows; r++) {
        x[r] = (const real *)p->x + p->x_rows[row + r] + c;
        total[r] = bias;
    }
    for (ptrdiff_t tap = 0, end; tap < p->taps; tap = end) {
        end = p->taps - tap < VL_TERMS ? p->taps : tap + VL_TERMS;
#pragma GCC unroll 8
        for (int r = 0; r < rows; r++)
            sum[r] = VL_SPLAT(0);
        vl_tap_by_tap(rows, p, x, w, n, tap, end, sum);
#pragma GCC unroll 8
        for (int r = 0; r < rows; r++)
            total[r] += sum[r];
    }
#pragma GCC unroll 8
    for (int r = 0; r < rows; r++)
        vl_store_first((real *)p->out + p->out_rows[row + r] + c, total[r], n);
}

/* The last vector of channels from `first` on begins where it is whole: some are computed twice, alike. */
VL_INLINE ptrdiff_t vl_tap_channel(const vl_taps *p, ptrdiff_t first)
{
    return first + L <= p->channels ? first : p->channels - L;
}

/* Rows of the channels [first, end): of whole vectors, or of all where they are fewer than a vector. */
static __attribute__((noinline)) void vl_tap_tiles(const vl_taps *p, ptrdiff_t row, ptrdiff_t rows, ptrdiff_t first,
                                                   ptrdiff_t end)
{
    if (p->channels < L) {
        for (; rows >= 6; row += 6, rows -= 6)
            vl_tap_tile(6, p, row, 0, p->channels);
        for (; rows; row++, rows--)
            vl_tap_tile(1, p, row, 0, p->channels);
        return;
    }
    for (; rows >= 6; row += 6, rows -= 6)
        for (ptrdiff_t c = first; c < end; c += L)
            vl_tap_tile(6, p, row, vl_tap_channel(p, c), L);
    for (; rows >= 2; row += 2, rows -= 2)
        for (ptrdiff_t c = first; c < end; c += L)
            vl_tap_tile(2, p, row, vl_tap_channel(p, c), L);
    if (rows)
        for (ptrdiff_t c = first; c < end; c += L)
            vl_tap_tile(1, p, row, vl_tap_channel(p, c), L);
}

/* Windows as far from one another at x as at out, for the vectors of channels [first, end). All taps are one part of
 * their sums. */
typedef struct {
    const vl_taps *p;
    const real *x;                  /* of channel 0 */
    real *out;
    ptrdiff_t first, end;
    ptrdiff_t x_step, out_distance; /* from tap to tap of a stretch, from window to window */
    ptrdiff_t count;
} vl_shared_windows;

/* A tile of `rows` of them. Input number i of a stretch is a term of the windows r with a tap there,
 * i = r stride + tap. */
VL_INLINE void vl_tap_stretch(int rows, int length, int stride, const vl_shared_windows *s, const real *x, real *out,
                              ptrdiff_t c)
{
    const ptrdiff_t channels = s->p->channels, *x_taps = s->p->x_taps, step = s->x_step;
    const vec bias = s->p->bias ? vl_load((const real *)s->p->bias + c) : VL_SPLAT(0);
    const real *w = (const real *)s->p->w + c;
    vec sum[VL_TAP_ROWS];
#pragma GCC unroll 8
    for (int r = 0; r < rows; r++)
        sum[r] = VL_SPLAT(0);
    for (ptrdiff_t tap = 0; tap < s->p->taps; tap += length, w += length * channels) {
        const real *from = x + x_taps[tap] + c;
        vec weights[VL_LONGEST_STRETCH];
#pragma GCC unroll 8
        for (int t = 0; t < length; t++) {
            weights[t] = vl_load(w + t * channels);
            VL_KEEP(weights[t]);
        }
#pragma GCC unroll 32
        for (int i = 0; i < (rows - 1) * stride + length; i++, from += step) {
            vec input = vl_load(from);
            VL_KEEP(input);
#pragma GCC unroll 8
            for (int r = 0; r < rows; r++)
                if (i - r * stride >= 0 && i - r * stride < length)
                    sum[r] = VL_FMA(input, weights[i - r * stride], sum[r]);
        }
    }
    out += c;
#pragma GCC unroll 8
    for (int r = 0; r < rows; r++, out += s->out_distance)
        vl_store(out, bias + sum[r]);
}

/* The first of them, `rows` at a time: how many. */
VL_INLINE ptrdiff_t vl_tap_stretches(int rows, int length, int stride, const vl_shared_windows *s)
{
    const real *x = s->x;
    real *out = s->out;
    ptrdiff_t done = 0;
    for (; done + rows <= s->count; done += rows, x += rows * stride * s->x_step, out += rows * s->out_distance)
        for (ptrdiff_t c = s->first; c < s->end; c += L)
            vl_tap_stretch(rows, length, stride, s, x, out, vl_tap_channel(s->p, c));
    return done;
}

typedef ptrdiff_t vl_stretch_function(const vl_shared_windows *s);
#define VL_STRETCHES(name, rows, length, stride)                                                                       \
    static __attribute__((noinline)) ptrdiff_t name(const vl_shared_windows *s)                                        \
    {                                                                                                                  \
        return vl_tap_stretches(rows, length, stride, s);                                                              \
    }
/* As many rows as leave registers for a stretch's weights, where there are 16; and fewer for the last windows of a row, but
 * enough to hide the FMA's latency over long sums. */
VL_STRETCHES(vl_stretch_8x3, 8, 3, 1)
VL_STRETCHES(vl_stretch_3x3, 3, 3, 1)
VL_STRETCHES(vl_stretch_8x5, 8, 5, 1)
VL_STRETCHES(vl_stretch_4x5, 4, 5, 1)
VL_STRETCHES(vl_stretch_7x7, 7, 7, 1)
VL_STRETCHES(vl_stretch_4x7, 4, 7, 1)
VL_STRETCHES(vl_stretch_8x3_by_2, 8, 3, 2)
VL_STRETCHES(vl_stretch_3x3_by_2, 3, 3, 2)
VL_STRETCHES(vl_stretch_8x5_by_2, 8, 5, 2)
VL_STRETCHES(vl_stretch_4x5_by_2, 4, 5, 2)
VL_STRETCHES(vl_stretch_7x7_by_2, 7, 7, 2)
VL_STRETCHES(vl_stretch_4x7_by_2, 4, 7, 2)

/* What windows `distance` apart share: all taps in stretches of one length, as long as there are functions for. */
static vl_stretch vl_stretch_of(const vl_taps *p, ptrdiff_t distance)
{
    const vl_stretch none = {0, 0, 1};
    if (p->taps < 2 || p->taps > VL_TERMS || distance <= 0)
        return none;
    const ptrdiff_t step = p->x_taps[1] - p->x_taps[0], every = step > distance ? step / distance : 1;
    if (step <= 0 || (distance * every != step && distance != 2 * step))
        return none;
    for (int length = VL_LONGEST_STRETCH; length >= 3; length -= 2) {
        int fits = p->taps % length == 0;
        for (ptrdiff_t tap = 0; fits && tap < p->taps; tap++)
            fits = tap % length == 0 || p->x_taps[tap] - p->x_taps[tap - 1] == step;
        if (fits)
            return (vl_stretch){length, (int)(distance * every / step), every};
    }
    return none;
}

/* Rows [row, row + rows), equally far apart, of the channels [first, end). */
static void vl_tap_shared(const vl_taps *p, vl_stretch stretch, ptrdiff_t row, ptrdiff_t rows, ptrdiff_t first,
                          ptrdiff_t end)
{
    static const struct {
        int rows;
        vl_stretch_function *by[2];
    } tall[3] = {{8, {vl_stretch_8x3, vl_stretch_8x3_by_2}},
                 {8, {vl_stretch_8x5, vl_stretch_8x5_by_2}},
                 {7, {vl_stretch_7x7, vl_stretch_7x7_by_2}}},
      low[3] = {{3, {vl_stretch_3x3, vl_stretch_3x3_by_2}},
                {4, {vl_stretch_4x5, vl_stretch_4x5_by_2}},
                {4, {vl_stretch_4x7, vl_stretch_4x7_by_2}}};
    const int kind = (stretch.length - 3) / 2;
    vl_shared_windows s = {.p = p,
                           .first = first,
                           .end = end,
                           .x_step = p->x_taps[1] - p->x_taps[0],
                           .out_distance = vl_row_distance(p->out_rows + row, rows) * stretch.every};
    for (ptrdiff_t turn = 0; turn < stretch.every && turn < rows; turn++) {
        const ptrdiff_t count = (rows - turn + stretch.every - 1) / stretch.every;
        ptrdiff_t done = 0;
        /* Whole tiles; then, of long sums, one that begins earlier, if more is left than a low one makes: some windows
         * are computed twice, alike. */
        for (int lower = 0; lower < 2; lower++) {
            const ptrdiff_t height = lower ? low[kind].rows : tall[kind].rows;
            for (int last = 0; last < 2 && done < count && height <= count; last++) {
                if (last ? kind == 0 || (!lower && count - done <= low[kind].rows) : count - done < height)
                    continue;
                const ptrdiff_t from = last ? count - height : done, place = row + turn + from * stretch.every;
                s.x = (const real *)p->x + p->x_rows[place];
                s.out = (real *)p->out + p->out_rows[place];
                s.count = count - from;
                done = from + (lower ? low : tall)[kind].by[stretch.stride - 1](&s);
            }
        }
        if (done < count && stretch.every == 1)
            vl_tap_tiles(p, row + done, count - done, first, end);
        else
            for (; done < count; done++)
                vl_tap_tiles(p, row + turn + done * stretch.every, 1, first, end);
    }
}

/* Elements that rows which are finished together have about: they are in the nearest cache still. What a long stretch
 * of windows is cut by, which tiles of 7 and of 8 divide. And what a tile may read: so many vectors of channels
 * pass by it, in the order of memory, before they pass by the next tile. */
enum { VL_TAP_BLOCK = 8192, VL_TAP_CUT = 56, VL_TAP_TILE_BYTES = 16384 };

static void vl_kernel_taps(const vl_taps *p)
{
    const ptrdiff_t tall = p->channels * VL_TAP_ROWS < VL_TAP_BLOCK ? VL_TAP_BLOCK / p->channels : VL_TAP_ROWS;
    const ptrdiff_t most = tall < VL_TAP_CUT ? tall : tall / VL_TAP_CUT * VL_TAP_CUT;
    for (ptrdiff_t row = 0, equal, done = 0; row < p->rows; row += equal) {
        equal = vl_equal_rows(p->x_rows + row, p->rows - row < most ? p->rows - row : most);
        equal = vl_equal_rows(p->out_rows + row, equal);
        const vl_stretch stretch = vl_stretch_of(p, vl_row_distance(p->x_rows + row, equal));
        const ptrdiff_t inputs = stretch.length
                                     ? (VL_TAP_ROWS * stretch.stride + stretch.length) * (p->taps / stretch.length)
                                     : VL_TAP_ROWS * p->taps;
        const ptrdiff_t elements = VL_TAP_TILE_BYTES / (ptrdiff_t)sizeof(real);
        const ptrdiff_t near = p->taps ? elements / (inputs + p->taps) / L * L : p->channels;
        const ptrdiff_t together = near > L ? near : L;
        for (ptrdiff_t c = 0, end; c < p->channels; c = end) {
            end = p->channels - c < together ? p->channels : c + together;
            if (stretch.length && p->channels >= L)
                vl_tap_shared(p, stretch, row, equal, c, end);
            else
                vl_tap_tiles(p, row, equal, c, end);
        }
        if (row + equal - done >= tall || row + equal == p->rows) {
            vl_finish_rows(p->epilogue, row + equal - done, p->channels, p->out, p->out_rows + done);
            done = row + equal;
        }
    }
}

/* ---- pools ------------------------------------------------------------------------------------------- */

/* `vectors` vectors of channels, the last of n, from the `last`-th on; the sum in parts, as tile.h's. */
VL_INLINE void vl_pooled(int vectors, const vl_pool *p, const real *x, real *out, ptrdiff_t n, ptrdiff_t last)
{
    vec result[VL_MOST_VECTORS], part[VL_MOST_VECTORS];
#define VL_POOL_LOAD(t, v)                                                                                             \
    ((v) == vectors - 1 ? vl_load_first(x + p->x_taps[t] + last, n) : vl_load(x + p->x_taps[t] + (v) * L))
    if (p->divisor != 0) {
#pragma GCC unroll 4
        for (int v = 0; v < vectors; v++)
            result[v] = VL_SPLAT(0);
        for (ptrdiff_t t = 0; t < p->taps;) {
            ptrdiff_t end = p->taps - t < VL_TERMS ? p->taps : t + VL_TERMS;
#pragma GCC unroll 4
            for (int v = 0; v < vectors; v++)
                part[v] = VL_POOL_LOAD(t, v);
            for (t++; t < end; t++)
#pragma GCC unroll 4
                for (int v = 0; v < vectors; v++)
                    part[v] += VL_POOL_LOAD(t, v);
#pragma GCC unroll 4
            for (int v = 0; v < vectors; v++)
                result[v] += part[v];
        }
#pragma GCC unroll 4
        for (int v = 0; v < vectors; v++)
            result[v] /= VL_SPLAT((real)p->divisor);
    } else {
        vec seen[VL_MOST_VECTORS]; /* VL_MAX forgets the first operand's NaN */
#pragma GCC unroll 4
        for (int v = 0; v < vectors; v++) {
            result[v] = VL_POOL_LOAD(0, v);
            seen[v] = VL_NOTE_NAN(VL_SPLAT(0), result[v]);
        }
        for (ptrdiff_t t = 1; t < p->taps; t++)
#pragma GCC unroll 4
            for (int v = 0; v < vectors; v++) {
                vec next = VL_POOL_LOAD(t, v);
                seen[v] = VL_NOTE_NAN(seen[v], next);
                result[v] = VL_MAX(result[v], next);
            }
#pragma GCC unroll 4
        for (int v = 0; v < vectors; v++)
            result[v] = vl_select(seen[v] != seen[v], VL_SPLAT((real)NAN), result[v]);
    }
#undef VL_POOL_LOAD
#pragma GCC unroll 4
    for (int v = 0; v < vectors; v++)
        vl_store_first(out + (v == vectors - 1 ? last : v * L), result[v], v == vectors - 1 ? n : L);
}

/* What is no whole vector begins where it is one, with those before it, for sums of many taps wait for one another: some
 * channels are computed twice, alike. */
static void vl_pool_row(const vl_pool *p, const real *x, real *out, ptrdiff_t columns)
{
    ptrdiff_t c = 0;
    if (columns < L) {
        vl_pooled(1, p, x, out, columns, 0);
        return;
    }
    for (; c + 4 * L <= columns; c += 4 * L)
        vl_pooled(4, p, x + c, out + c, L, 3 * L);
    const ptrdiff_t last = columns - c - L;
    switch ((columns - c + L - 1) / L) {
    case 1: vl_pooled(1, p, x + c, out + c, L, last); break;
    case 2: vl_pooled(2, p, x + c, out + c, L, last); break;
    case 3: vl_pooled(3, p, x + c, out + c, L, last); break;
    case 4: vl_pooled(4, p, x + c, out + c, L, last); break;
    }
}

/* Windows whose inputs and outputs lie side by side are one row of as many channels: few channels leave lanes idle. */
static void vl_kernel_pool(const vl_pool *p)
{
    const real *x = p->x;
    real *out = p->out;
    for (ptrdiff_t row = 0, equal; row < p->rows; row += equal) {
        equal = vl_equal_rows(p->out_rows + row, vl_equal_rows(p->x_rows + row, p->rows - row));
        const int joined = vl_row_distance(p->x_rows + row, equal) == p->channels &&
                           vl_row_distance(p->out_rows + row, equal) == p->channels;
        for (ptrdiff_t r = row; r < row + (joined ? 1 : equal); r++)
            vl_pool_row(p, x + p->x_rows[r], out + p->out_rows[r], joined ? equal * p->channels : p->channels);
    }
}
