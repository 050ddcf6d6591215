/* Reductions, softmax and the norms of rows, over two axes of which the inner one has no gaps.
 *
 * Sums are made in parts, in vectors that are added up at the end, so that rounding errors do not grow with the length;
 * what a result is depends on its own elements alone, never on how rows are shared out. NaN in -> NaN out.
 */
enum { VL_PART_TERMS = 16 }; /* vectors that are added up one after another, and parts of them, and so on */

static const vl_int vl_lane_numbers[16]
    __attribute__((aligned(VL_BYTES))) = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};

/* The first n elements, and `rest` in the lanes behind. */
VL_INLINE vec vl_load_and(const real *p, ptrdiff_t n, vec rest)
{
    veci number = *(const veci *)vl_lane_numbers;
    return vl_select(number < (vl_int)n, vl_load_first(p, n), rest);
}

/* A term is what of an element is added up, or multiplied, or compared. */
VL_INLINE vec vl_term(int kind, vec x, vec shift)
{
    switch (kind) {
    case VL_SUM_ABS: return vl_abs(x);
    case VL_SUM_SQUARES: return x * x;
    case VL_SUM_CENTRED_SQUARES: return (x - shift) * (x - shift);
    case VL_SUM_EXP: return vl_exp(x - shift);
    default: return x;
    }
}

VL_INLINE vec vl_joined(int kind, vec a, vec b)
{
    switch (kind) {
    case VL_GREATEST: return vl_maximum(a, b);
    case VL_LEAST: return vl_minimum(a, b);
    case VL_PRODUCT: return a * b;
    default: return a + b;
    }
}

VL_INLINE vec vl_nothing(int kind) /* what joining leaves as it is */
{
    switch (kind) {
    case VL_GREATEST: return VL_SPLAT(-(real)__builtin_inf());
    case VL_LEAST: return VL_SPLAT((real)__builtin_inf());
    case VL_PRODUCT: return VL_SPLAT(1);
    default: return VL_SPLAT(0);
    }
}

/* of all lanes: each meets the one half a vector on, then a quarter, and so on */
VL_INLINE real vl_across(int kind, vec x)
{
#pragma GCC unroll 4
    for (int half = L / 2; half; half /= 2) {
#ifdef __clang__
        real lanes[2 * L] __attribute__((aligned(VL_BYTES)));
        vl_store(lanes, x);
        vl_store(lanes + L, x);
        vec other = vl_load(lanes + half);
#else
        vec other = __builtin_shuffle(x, (*(const veci *)vl_lane_numbers + half) & (L - 1));
#endif
        x = vl_joined(kind, x, other);
    }
    return x[0];
}

VL_INLINE vec vl_terms_of_row(int kind, const real *x, ptrdiff_t n, vec shift)
{
    vec total = vl_nothing(kind);
    ptrdiff_t k = 0;
    while (k + 4 * L <= n) {
        ptrdiff_t end = n - k < 4 * L * VL_PART_TERMS ? n : k + 4 * L * VL_PART_TERMS;
        vec sum[4];
#pragma GCC unroll 4
        for (int v = 0; v < 4; v++)
            sum[v] = vl_nothing(kind);
        for (; k + 4 * L <= end; k += 4 * L)
#pragma GCC unroll 4
            for (int v = 0; v < 4; v++)
                sum[v] = vl_joined(kind, sum[v], vl_term(kind, vl_load(x + k + v * L), shift));
        total =
            vl_joined(kind, total, vl_joined(kind, vl_joined(kind, sum[0], sum[1]), vl_joined(kind, sum[2], sum[3])));
    }
    vec sum = vl_nothing(kind);
    for (; k + L <= n; k += L)
        sum = vl_joined(kind, sum, vl_term(kind, vl_load(x + k), shift));
    if (k < n) {
        veci number = *(const veci *)vl_lane_numbers;
        vec term = vl_term(kind, vl_load_and(x + k, n - k, VL_SPLAT(0)), shift);
        sum = vl_joined(kind, sum, vl_select(number < (vl_int)(n - k), term, vl_nothing(kind)));
    }
    return vl_joined(kind, total, sum);
}

VL_INLINE void vl_reduce_rows(int kind, const vl_reduction *reduction)
{
    const real *x = reduction->x, *shift = reduction->shift;
    real *out = reduction->out;
    for (ptrdiff_t r = 0; r < reduction->rows; r++, x += reduction->ld) {
        real value = vl_across(kind, vl_terms_of_row(kind, x, reduction->columns, VL_SPLAT(shift ? shift[r] : 0)));
        if (reduction->join)
            value = vl_joined(kind, VL_SPLAT(out[r]), VL_SPLAT(value))[0];
        out[r] = value;
    }
}

/* `vectors` whole ones, or one of n < L elements */
VL_INLINE void vl_reduce_strip(int kind, int vectors, const vl_reduction *reduction, ptrdiff_t column, ptrdiff_t n)
{
    const real *x = (const real *)reduction->x + column,
               *shift = reduction->shift ? (const real *)reduction->shift + column : NULL;
    real *out = (real *)reduction->out + column;
    vec total[4], away[4];
#define VL_AT(p, v) vl_load_and((p) + (v) * L, n ? n : L, VL_SPLAT(0))
#pragma GCC unroll 4
    for (int v = 0; v < vectors; v++) {
        total[v] = reduction->join ? VL_AT(out, v) : vl_nothing(kind);
        away[v] = shift ? VL_AT(shift, v) : VL_SPLAT(0);
    }
    for (ptrdiff_t r = 0; r < reduction->rows;) {
        const ptrdiff_t most = VL_PART_TERMS * VL_PART_TERMS,
                        last = reduction->rows - r < most ? reduction->rows : r + most;
        vec parts[4];
#pragma GCC unroll 4
        for (int v = 0; v < vectors; v++)
            parts[v] = vl_nothing(kind);
        while (r < last) {
            ptrdiff_t end = last - r < VL_PART_TERMS ? last : r + VL_PART_TERMS;
            vec sum[4];
#pragma GCC unroll 4
            for (int v = 0; v < vectors; v++)
                sum[v] = vl_nothing(kind);
            for (; r < end; r++, x += reduction->ld)
#pragma GCC unroll 4
                for (int v = 0; v < vectors; v++)
                    sum[v] = vl_joined(kind, sum[v], vl_term(kind, VL_AT(x, v), away[v]));
#pragma GCC unroll 4
            for (int v = 0; v < vectors; v++)
                parts[v] = vl_joined(kind, parts[v], sum[v]);
        }
#pragma GCC unroll 4
        for (int v = 0; v < vectors; v++)
            total[v] = vl_joined(kind, total[v], parts[v]);
    }
#pragma GCC unroll 4
    for (int v = 0; v < vectors; v++)
        vl_store_first(out + v * L, total[v], n ? n : L);
#undef VL_AT
}

VL_INLINE void vl_reduce_columns(int kind, const vl_reduction *reduction)
{
    ptrdiff_t c = 0;
    for (; c + 4 * L <= reduction->columns; c += 4 * L)
        vl_reduce_strip(kind, 4, reduction, c, 0);
    for (; c + L <= reduction->columns; c += L)
        vl_reduce_strip(kind, 1, reduction, c, 0);
    if (c < reduction->columns)
        vl_reduce_strip(kind, 1, reduction, c, reduction->columns - c);
}

#define VL_REDUCE(kind)                                                                                                \
    static __attribute__((noinline)) void vl_reduce_##kind(const vl_reduction *s)                                      \
    {                                                                                                                  \
        if (s->of_rows)                                                                                                \
            vl_reduce_rows(kind, s);                                                                                   \
        else                                                                                                           \
            vl_reduce_columns(kind, s);                                                                                \
    }
VL_REDUCE(VL_SUM)
VL_REDUCE(VL_SUM_ABS)
VL_REDUCE(VL_SUM_SQUARES)
VL_REDUCE(VL_SUM_CENTRED_SQUARES)
VL_REDUCE(VL_SUM_EXP)
VL_REDUCE(VL_PRODUCT)
VL_REDUCE(VL_GREATEST)
VL_REDUCE(VL_LEAST)

static void vl_kernel_reduce(const vl_reduction *reduction)
{
    static void (*const of_kind[])(const vl_reduction *) = {
        vl_reduce_VL_SUM,     vl_reduce_VL_SUM_ABS, vl_reduce_VL_SUM_SQUARES, vl_reduce_VL_SUM_CENTRED_SQUARES,
        vl_reduce_VL_SUM_EXP, vl_reduce_VL_PRODUCT, vl_reduce_VL_GREATEST,    vl_reduce_VL_LEAST};
    of_kind[reduction->kind](reduction);
}

/* ---- softmax ------------------------------------------------------------------------------------- */

/* exp(x - max) / sum of it, or x - max - log(sum of exp(x - max)). Three passes over a row, which stays in the cache. */
static void vl_softmax_of_rows(const vl_softmax *softmax)
{
    const real *x = softmax->x;
    real *out = softmax->out;
    const ptrdiff_t n = softmax->columns, whole = n / L * L, rest = n - whole;
    const vec lowest = VL_SPLAT(-(real)__builtin_inf());
    const veci number = *(const veci *)vl_lane_numbers;
    for (ptrdiff_t r = 0; r < softmax->rows; r++, x += softmax->ld, out += softmax->ld_out) {
        const vec top = VL_SPLAT(vl_across(VL_GREATEST, vl_terms_of_row(VL_GREATEST, x, n, VL_SPLAT(0))));
        if (softmax->log) {
            const real sum = vl_across(VL_SUM, vl_terms_of_row(VL_SUM_EXP, x, n, top));
            const vec log = vl_log(VL_SPLAT(sum));
            for (ptrdiff_t k = 0; k < whole; k += L)
                vl_store(out + k, vl_load(x + k) - top - log);
            if (rest)
                vl_store_first(out + whole, vl_load_and(x + whole, rest, lowest) - top - log, rest);
            continue;
        }
        vec total = VL_SPLAT(0);
        for (ptrdiff_t k = 0; k < whole;) {
            ptrdiff_t end = whole - k < L * VL_PART_TERMS ? whole : k + L * VL_PART_TERMS;
            vec sum = VL_SPLAT(0);
            for (; k < end; k += L) {
                vec e = vl_exp(vl_load(x + k) - top);
                vl_store(out + k, e);
                sum += e;
            }
            total += sum;
        }
        vec last = VL_SPLAT(0);
        if (rest) {
            last = vl_exp(vl_load_and(x + whole, rest, lowest) - top);
            total += vl_select(number < (vl_int)rest, last, VL_SPLAT(0));
        }
        const vec inverse = 1 / VL_SPLAT(vl_across(VL_SUM, total));
        for (ptrdiff_t k = 0; k < whole; k += L)
            vl_store(out + k, vl_load(out + k) * inverse);
        if (rest)
            vl_store_first(out + whole, last * inverse, rest);
    }
}

/* one vector of columns, n < L of them if n */
VL_INLINE void vl_softmax_strip(const vl_softmax *softmax, ptrdiff_t column, ptrdiff_t n)
{
    const real *x = (const real *)softmax->x + column;
    real *out = (real *)softmax->out + column;
#define VL_AT(p) vl_load_and(p, n ? n : L, VL_SPLAT(0))
    vec top = VL_SPLAT(-(real)__builtin_inf()), total = VL_SPLAT(0);
    for (ptrdiff_t r = 0; r < softmax->rows; r++)
        top = vl_maximum(top, VL_AT(x + r * softmax->ld));
    for (ptrdiff_t r = 0; r < softmax->rows;) {
        ptrdiff_t end = softmax->rows - r < VL_TERMS ? softmax->rows : r + VL_TERMS;
        vec sum = VL_SPLAT(0);
        for (; r < end; r++) {
            vec e = vl_exp(VL_AT(x + r * softmax->ld) - top);
            if (!softmax->log)
                vl_store_first(out + r * softmax->ld_out, e, n ? n : L);
            sum += e;
        }
        total += sum;
    }
    vec last = 1 / total;
    if (softmax->log)
        last = vl_log(total);
    for (ptrdiff_t r = 0; r < softmax->rows; r++) {
        vec y;
        if (softmax->log)
            y = VL_AT(x + r * softmax->ld) - top - last;
        else
            y = VL_AT(out + r * softmax->ld_out) * last;
        vl_store_first(out + r * softmax->ld_out, y, n ? n : L);
    }
#undef VL_AT
}

static void vl_kernel_softmax(const vl_softmax *softmax)
{
    if (softmax->of_rows) {
        vl_softmax_of_rows(softmax);
        return;
    }
    ptrdiff_t c = 0;
    for (; c + L <= softmax->columns; c += L)
        vl_softmax_strip(softmax, c, 0);
    if (c < softmax->columns)
        vl_softmax_strip(softmax, c, softmax->columns - c);
}

/* ---- norms of rows --------------------------------------------------------------------------------- */

/* (x - mean) / sqrt(mean of (x - mean)^2 + epsilon) * scale + bias; without the mean where it is not centred */
static void vl_kernel_norm(const vl_norm *norm)
{
    const real *x = norm->x, *scale = norm->scale, *bias = norm->bias;
    real *out = norm->out;
    const ptrdiff_t n = norm->columns, whole = n / L * L, rest = n - whole;
    const vec zero = VL_SPLAT(0);
    for (ptrdiff_t r = 0; r < norm->rows; r++, x += norm->ld, out += n) {
        real mean = 0, squares;
        if (norm->centred) {
            mean = vl_across(VL_SUM, vl_terms_of_row(VL_SUM, x, n, zero)) / (real)n;
            squares = vl_across(VL_SUM, vl_terms_of_row(VL_SUM_CENTRED_SQUARES, x, n, VL_SPLAT(mean)));
        } else
            squares = vl_across(VL_SUM, vl_terms_of_row(VL_SUM_SQUARES, x, n, zero));
        const real inverse = 1 / VL_ROOT_OF_ONE(squares / (real)n + norm->epsilon);
        const vec m = VL_SPLAT(mean), f = VL_SPLAT(inverse);
        for (ptrdiff_t k = 0; k < whole; k += L) {
            vec y = (vl_load(x + k) - m) * f * vl_load(scale + k);
            if (bias)
                y += vl_load(bias + k);
            vl_store(out + k, y);
        }
        if (rest) {
            vec y = (vl_load_and(x + whole, rest, zero) - m) * f * vl_load_and(scale + whole, rest, zero);
            if (bias)
                y += vl_load_and(bias + whole, rest, zero);
            vl_store_first(out + whole, y, rest);
        }
        if (norm->mean)
            ((real *)norm->mean)[r] = mean;
        if (norm->inverse)
            ((real *)norm->inverse)[r] = inverse;
    }
}
