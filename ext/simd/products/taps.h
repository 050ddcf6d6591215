/* Every channel by itself over a window's taps: depthwise convolution, and pools.
 *
 * A tile is several rows (pixels) and one vector of channels, whose sums are made tap by tap in order, each by single
 * FMAs. Windows that overlap along a row share what they read: the taps of a kernel's row stay in registers while its
 * inputs pass, and each input is loaded once for all the sums that it is a term of. Then it is bound by FMA, else by
 * loads, one of x for each product.
 */
enum { VL_TAP_ROWS = 8, VL_LOW_ROWS = 4, VL_LONGEST_STRETCH = 7 };

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

static __attribute__((noinline)) void vl_tap_tiles(const vl_taps *p, ptrdiff_t row, ptrdiff_t rows, ptrdiff_t c,
                                                   ptrdiff_t n)
{
    const ptrdiff_t end = row + rows;
    for (; row + 6 <= end; row += 6)
        vl_tap_tile(6, p, row, c, n);
    for (; row + 2 <= end; row += 2)
        vl_tap_tile(2, p, row, c, n);
    if (row < end)
        vl_tap_tile(1, p, row, c, n);
}

/* Windows as far from one another at x as at out, for one vector of channels. All taps are one part of their sums. */
typedef struct {
    const vl_taps *p;
    const real *x, *w, *bias;       /* of these channels; bias or NULL */
    real *out;
    ptrdiff_t x_step, out_distance; /* from tap to tap of a stretch, from window to window */
    ptrdiff_t count;
} vl_shared_windows;

/* The first of them, `rows` at a time: how many. Input number i of a stretch is a term of the windows r with a tap there,
 * i = r stride + tap. */
VL_INLINE ptrdiff_t vl_tap_stretches(int rows, int length, int stride, const vl_shared_windows *s)
{
    const ptrdiff_t channels = s->p->channels, *x_taps = s->p->x_taps, step = s->x_step;
    const vec bias = s->bias ? vl_load(s->bias) : VL_SPLAT(0);
    const real *x = s->x;
    real *out = s->out;
    ptrdiff_t done = 0;
    for (; done + rows <= s->count; done += rows, x += rows * stride * step) {
        const real *w = s->w;
        vec sum[VL_TAP_ROWS];
#pragma GCC unroll 8
        for (int r = 0; r < rows; r++)
            sum[r] = VL_SPLAT(0);
        for (ptrdiff_t tap = 0; tap < s->p->taps; tap += length, w += length * channels) {
            const real *from = x + x_taps[tap];
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
#pragma GCC unroll 8
        for (int r = 0; r < rows; r++, out += s->out_distance)
            vl_store(out, bias + sum[r]);
    }
    return done;
}

typedef ptrdiff_t vl_stretch_function(const vl_shared_windows *s);
#define VL_STRETCHES(name, rows, length, stride)                                                                       \
    static __attribute__((noinline)) ptrdiff_t name(const vl_shared_windows *s)                                        \
    {                                                                                                                  \
        return vl_tap_stretches(rows, length, stride, s);                                                              \
    }
/* As many rows as leave registers for a stretch's weights, where there are 16; and VL_LOW_ROWS, enough to hide the FMA's
 * latency, for the last windows of a row. */
VL_STRETCHES(vl_stretch_8x3, 8, 3, 1)
VL_STRETCHES(vl_stretch_4x3, 4, 3, 1)
VL_STRETCHES(vl_stretch_8x5, 8, 5, 1)
VL_STRETCHES(vl_stretch_4x5, 4, 5, 1)
VL_STRETCHES(vl_stretch_7x7, 7, 7, 1)
VL_STRETCHES(vl_stretch_4x7, 4, 7, 1)
VL_STRETCHES(vl_stretch_8x3_by_2, 8, 3, 2)
VL_STRETCHES(vl_stretch_4x3_by_2, 4, 3, 2)
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

/* Rows [row, row + rows), equally far apart, of one vector of channels from c on. */
static void vl_tap_shared(const vl_taps *p, vl_stretch stretch, ptrdiff_t row, ptrdiff_t rows, ptrdiff_t c)
{
    static vl_stretch_function *const tall[3][2] = {{vl_stretch_8x3, vl_stretch_8x3_by_2},
                                                    {vl_stretch_8x5, vl_stretch_8x5_by_2},
                                                    {vl_stretch_7x7, vl_stretch_7x7_by_2}};
    static vl_stretch_function *const low[3][2] = {{vl_stretch_4x3, vl_stretch_4x3_by_2},
                                                   {vl_stretch_4x5, vl_stretch_4x5_by_2},
                                                   {vl_stretch_4x7, vl_stretch_4x7_by_2}};
    const int kind = (stretch.length - 3) / 2;
    vl_shared_windows s = {.p = p,
                           .w = (const real *)p->w + c,
                           .bias = p->bias ? (const real *)p->bias + c : NULL,
                           .x_step = p->x_taps[1] - p->x_taps[0],
                           .out_distance = vl_row_distance(p->out_rows + row, rows)};
    s.out_distance *= stretch.every;
    for (ptrdiff_t first = row; first < row + stretch.every && first < row + rows; first++) {
        const ptrdiff_t count = (row + rows - first + stretch.every - 1) / stretch.every;
        ptrdiff_t done = 0;
        for (int turn = 0; turn < 2; turn++) {
            const ptrdiff_t height = turn ? VL_LOW_ROWS : kind == 2 ? VL_LONGEST_STRETCH : VL_TAP_ROWS;
            /* whole tiles, then one that begins earlier, if more is left than a low one makes: some windows are
             * computed twice, alike */
            for (int last = 0; last < 2 && done < count && height <= count; last++) {
                if (last ? !turn && count - done <= VL_LOW_ROWS : count - done < height)
                    continue;
                const ptrdiff_t from = last ? count - height : done, place = first + from * stretch.every;
                s.x = (const real *)p->x + p->x_rows[place] + c;
                s.out = (real *)p->out + p->out_rows[place] + c;
                s.count = count - from;
                done = from + (turn ? low : tall)[kind][stretch.stride - 1](&s);
            }
        }
        if (done < count && stretch.every == 1)
            vl_tap_tiles(p, first + done, count - done, c, L);
        else
            for (; done < count; done++)
                vl_tap_tiles(p, first + done * stretch.every, 1, c, L);
    }
}

/* Elements that rows which all channels' vectors pass by one after another have about, so that what neighbouring rows read
 * is in the nearest cache still; and what a long stretch of windows is cut by, which tiles of 7 and of 8 divide. */
enum { VL_TAP_BLOCK = 8192, VL_TAP_CUT = 56 };

static void vl_kernel_taps(const vl_taps *p)
{
    const ptrdiff_t tall = p->channels * VL_TAP_ROWS < VL_TAP_BLOCK ? VL_TAP_BLOCK / p->channels : VL_TAP_ROWS;
    const ptrdiff_t most = tall < VL_TAP_CUT ? tall : tall / VL_TAP_CUT * VL_TAP_CUT;
    for (ptrdiff_t row = 0, equal, done = 0; row < p->rows; row += equal) {
        equal = vl_equal_rows(p->x_rows + row, p->rows - row < most ? p->rows - row : most);
        equal = vl_equal_rows(p->out_rows + row, equal);
        const vl_stretch stretch = vl_stretch_of(p, vl_row_distance(p->x_rows + row, equal));
        if (p->channels < L)
            vl_tap_tiles(p, row, equal, 0, p->channels);
        else
            for (ptrdiff_t channel = 0; channel < p->channels; channel += L) {
                /* the last vector begins where it is whole: some channels are computed twice, alike */
                const ptrdiff_t c = channel + L <= p->channels ? channel : p->channels - L;
                if (stretch.length)
                    vl_tap_shared(p, stretch, row, equal, c);
                else
                    vl_tap_tiles(p, row, equal, c, L);
            }
        if (row + equal - done >= tall || row + equal == p->rows) {
            vl_finish_rows(p->epilogue, row + equal - done, p->channels, p->out, p->out_rows + done);
            done = row + equal;
        }
    }
}

/* ---- pools ------------------------------------------------------------------------------------------- */

/* `vectors` vectors of channels, the last of n; the sum in parts, as tile.h's. */
VL_INLINE void vl_pooled(int vectors, const vl_pool *p, const real *x, real *out, ptrdiff_t n)
{
    vec result[VL_MOST_VECTORS], part[VL_MOST_VECTORS];
#define VL_POOL_LOAD(t, v)                                                                                             \
    ((v) == vectors - 1 ? vl_load_first(x + p->x_taps[t] + (v) * L, n) : vl_load(x + p->x_taps[t] + (v) * L))
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
        veci unordered[VL_MOST_VECTORS]; /* VL_MAX forgets the first operand's NaN */
#pragma GCC unroll 4
        for (int v = 0; v < vectors; v++) {
            result[v] = VL_POOL_LOAD(0, v);
            unordered[v] = result[v] != result[v];
        }
        for (ptrdiff_t t = 1; t < p->taps; t++)
#pragma GCC unroll 4
            for (int v = 0; v < vectors; v++) {
                vec next = VL_POOL_LOAD(t, v);
                unordered[v] |= next != next;
                result[v] = VL_MAX(result[v], next);
            }
#pragma GCC unroll 4
        for (int v = 0; v < vectors; v++)
            result[v] = vl_select(unordered[v], VL_SPLAT((real)NAN), result[v]);
    }
#undef VL_POOL_LOAD
#pragma GCC unroll 4
    for (int v = 0; v < vectors; v++)
        vl_store_first(out + v * L, result[v], v == vectors - 1 ? n : L);
}

static void vl_kernel_pool(const vl_pool *p)
{
    for (ptrdiff_t row = 0; row < p->rows; row++) {
        const real *x = (const real *)p->x + p->x_rows[row];
        real *out = (real *)p->out + p->out_rows[row];
        ptrdiff_t c = 0;
        for (; c + 4 * L <= p->channels; c += 4 * L)
            vl_pooled(4, p, x + c, out + c, L);
        const ptrdiff_t left = p->channels - c, last = (left - 1) % L + 1;
        switch ((left + L - 1) / L) {
        case 1: vl_pooled(1, p, x + c, out + c, last); break;
        case 2: vl_pooled(2, p, x + c, out + c, last); break;
        case 3: vl_pooled(3, p, x + c, out + c, last); break;
        case 4: vl_pooled(4, p, x + c, out + c, last); break;
        }
    }
}
