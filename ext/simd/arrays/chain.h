/* Element-wise chains: a list of micro-operations run block by block, so that what passes between them stays in the
 * nearest cache. Arrays of bytes are in chains of float only.
 *
 * A block is rows x columns elements in a row, at most VL_CHAIN_BLOCK. Every place that a micro-operation reads or
 * writes is an address of that many elements, whole vectors of them: an operand's or result's own memory where the block
 * lies there without gaps, else a buffer that is filled before or written out after. One that is the same for the whole
 * block has one vector and a step of 0, and what is made of such alone is computed once.
 *
 * A vector costs an operation two or three loads and a store, about a cycle; a call some 3 ns.
 */
enum { VL_CHAIN_BLOCK = 512 };

typedef struct {
    const real *at;
    ptrdiff_t step; /* L, or 0: one vector for all */
} vl_source;

typedef void vl_micro_function(ptrdiff_t n, real *to, const vl_source *sources);

#define VL_MICRO_1(name, unroll, expression)                                                                           \
    static __attribute__((noinline)) void vl_micro_##name(ptrdiff_t n, real *to, const vl_source *sources)             \
    {                                                                                                                  \
        const real *p = sources[0].at;                                                                                 \
        const ptrdiff_t sp = sources[0].step;                                                                          \
        _Pragma(unroll) for (ptrdiff_t i = 0; i < n; i += L, p += sp)                                                  \
        {                                                                                                              \
            vec x = vl_load(p);                                                                                        \
            vl_store(to + i, (vec)(expression));                                                                       \
        }                                                                                                              \
    }
#define VL_MICRO_2(name, unroll, expression)                                                                           \
    static __attribute__((noinline)) void vl_micro_##name(ptrdiff_t n, real *to, const vl_source *sources)             \
    {                                                                                                                  \
        const real *p = sources[0].at, *q = sources[1].at;                                                             \
        const ptrdiff_t sp = sources[0].step, sq = sources[1].step;                                                    \
        _Pragma(unroll) for (ptrdiff_t i = 0; i < n; i += L, p += sp, q += sq)                                         \
        {                                                                                                              \
            vec x = vl_load(p), y = vl_load(q);                                                                        \
            vl_store(to + i, (vec)(expression));                                                                       \
        }                                                                                                              \
    }
#define VL_MICRO_3(name, unroll, expression)                                                                           \
    static __attribute__((noinline)) void vl_micro_##name(ptrdiff_t n, real *to, const vl_source *sources)             \
    {                                                                                                                  \
        const real *p = sources[0].at, *q = sources[1].at, *r = sources[2].at;                                         \
        const ptrdiff_t sp = sources[0].step, sq = sources[1].step, sr = sources[2].step;                              \
        _Pragma(unroll) for (ptrdiff_t i = 0; i < n; i += L, p += sp, q += sq, r += sr)                                \
        {                                                                                                              \
            vec x = vl_load(p), y = vl_load(q), z = vl_load(r);                                                        \
            vl_store(to + i, (vec)(expression));                                                                       \
        }                                                                                                              \
    }
#define VL_ONCE "GCC unroll 1"
#define VL_TWICE "GCC unroll 2"

VL_MICRO_1(copy, VL_TWICE, x)
VL_MICRO_1(negative, VL_TWICE, -x)
VL_MICRO_1(abs, VL_TWICE, vl_abs(x))
VL_MICRO_1(sign, VL_ONCE, vl_sign(x))
VL_MICRO_1(square, VL_TWICE, x *x)
VL_MICRO_1(reciprocal, VL_ONCE, 1 / x)
VL_MICRO_1(floor, VL_ONCE, vl_floor(x))
VL_MICRO_1(ceil, VL_ONCE, vl_ceil(x))
VL_MICRO_1(round, VL_ONCE, vl_round(x))
VL_MICRO_1(exp, VL_ONCE, vl_exp(x))
VL_MICRO_1(expm1, VL_ONCE, vl_expm1(x))
VL_MICRO_1(log, VL_ONCE, vl_log(x))
VL_MICRO_1(tanh, VL_ONCE, vl_tanh(x))
VL_MICRO_1(sigmoid, VL_ONCE, vl_sigmoid(x))
VL_MICRO_1(erf, VL_ONCE, vl_erf(x))
VL_MICRO_1(softplus, VL_ONCE, vl_softplus(x))
VL_MICRO_1(gelu, VL_ONCE, vl_gelu(x))
VL_MICRO_1(gelu_by_tanh, VL_ONCE, vl_gelu_by_tanh(x))
VL_MICRO_1(hard_swish, VL_ONCE, x *VL_MIN(VL_SPLAT(1), VL_MAX(VL_SPLAT(0), x *(real)(1.0 / 6) + 0.5f)))
VL_MICRO_1(asin, VL_ONCE, vl_asin(x))
VL_MICRO_1(acos, VL_ONCE, vl_acos(x))
VL_MICRO_1(atan, VL_ONCE, vl_atan(x))
VL_MICRO_1(sinh, VL_ONCE, vl_sinh(x))
VL_MICRO_1(cosh, VL_ONCE, vl_cosh(x))
VL_MICRO_1(asinh, VL_ONCE, vl_asinh(x))
VL_MICRO_1(acosh, VL_ONCE, vl_acosh(x))
VL_MICRO_1(atanh, VL_ONCE, vl_atanh(x))
VL_MICRO_1(sqrt, VL_ONCE, vl_sqrt(x))
VL_MICRO_1(silu, VL_ONCE, x / (1 + vl_exp_negated(x)))
VL_MICRO_2(add, VL_TWICE, x + y)
VL_MICRO_2(subtract, VL_TWICE, x - y)
VL_MICRO_2(multiply, VL_TWICE, x *y)
VL_MICRO_2(divide, VL_ONCE, x / y)
VL_MICRO_2(maximum, VL_ONCE, vl_maximum(x, y))
VL_MICRO_2(minimum, VL_ONCE, vl_minimum(x, y))
VL_MICRO_2(at_least, VL_TWICE, VL_MAX(y, x))
VL_MICRO_2(at_most, VL_TWICE, VL_MIN(y, x))
VL_MICRO_2(leaky, VL_TWICE, VL_IF_LESS(x, VL_SPLAT(0), x *y, x))
VL_MICRO_2(elu, VL_ONCE, VL_IF_LESS(x, VL_SPLAT(0), vl_expm1(x) * y, x))
VL_MICRO_3(multiply_add, VL_TWICE, x *y + z)
VL_MICRO_3(fused_multiply_add, VL_TWICE, VL_FMA(x, y, z))
VL_MICRO_3(clip, VL_TWICE, VL_MIN(z, VL_MAX(y, x)))
VL_MICRO_3(hard_sigmoid, VL_ONCE, VL_MIN(VL_SPLAT(1), VL_MAX(VL_SPLAT(0), x *y + z)))
VL_MICRO_2(less, VL_ONCE, x < y)
VL_MICRO_2(less_equal, VL_ONCE, x <= y)
VL_MICRO_2(equal, VL_ONCE, x == y)
VL_MICRO_1(is_nan, VL_ONCE, x != x)
VL_MICRO_2(both, VL_ONCE, (veci)x &(veci)y)
VL_MICRO_2(either, VL_ONCE, (veci)x | (veci)y)
VL_MICRO_2(differ, VL_ONCE, (veci)x ^ (veci)y)
VL_MICRO_1(not, VL_ONCE, ~(veci)x)
VL_MICRO_3(where, VL_ONCE, vl_select((veci)x, y, z))

/* Whether any lane's bits are set. */
VL_INLINE int vl_any(veci mask)
{
    uint64_t words[VL_BYTES / 8], any = 0;
    memcpy(words, &mask, sizeof words);
#pragma GCC unroll 8
    for (int k = 0; k < VL_BYTES / 8; k++)
        any |= words[k];
    return any != 0;
}

#if VL_F64

#define VL_MICRO_OF_LIBM(name) VL_MICRO_1(name, VL_ONCE, vl_each(x, name))
VL_MICRO_OF_LIBM(sin)
VL_MICRO_OF_LIBM(cos)
VL_MICRO_OF_LIBM(tan)
static vec vl_power_of_lanes(vec x, vec y)
{
    for (int lane = 0; lane < L; lane++)
        x[lane] = pow(x[lane], y[lane]);
    return x;
}
VL_MICRO_2(power, VL_ONCE, vl_power_of_lanes(x, y))

#else

/* Bases that are not positive, subnormals and what is not finite are libm's. */
static __attribute__((noinline)) void vl_micro_power(ptrdiff_t n, real *to, const vl_source *sources)
{
    const real *p = sources[0].at, *q = sources[1].at;
    const vec least = VL_SPLAT(0x1p-126f), most = VL_SPLAT(0x1.fffffep127f);
    for (ptrdiff_t i = 0; i < n; i += L, p += sources[0].step, q += sources[1].step) {
        vec x = vl_load(p), y = vl_load(q);
        veci usual = (x >= least) & (x <= most) & (vl_abs(y) <= most);
        vec result = vl_power_of_positive(vl_select(usual, x, VL_SPLAT(1)), vl_select(usual, y, VL_SPLAT(1)));
        if (__builtin_expect(vl_any(~usual), 0))
            for (int lane = 0; lane < L; lane++)
                if (!usual[lane])
                    result[lane] = powf(x[lane], y[lane]);
        vl_store(to + i, result);
    }
}

/* Angles that are too large for vl_sine are libm's. */
#define VL_MICRO_OF_ANGLES(name, expression)                                                                           \
    static __attribute__((noinline)) void vl_micro_##name(ptrdiff_t n, real *to, const vl_source *sources)             \
    {                                                                                                                  \
        const real *p = sources[0].at;                                                                                 \
        for (ptrdiff_t i = 0; i < n; i += L, p += sources[0].step) {                                                   \
            vec x = vl_load(p), result = expression;                                                                   \
            veci large = ~(vl_abs(x) <= VL_LARGEST_ANGLE);                                                             \
            if (__builtin_expect(vl_any(large), 0))                                                                    \
                for (int lane = 0; lane < L; lane++)                                                                   \
                    if (large[lane])                                                                                   \
                        result[lane] = name##f(x[lane]);                                                               \
            vl_store(to + i, result);                                                                                  \
        }                                                                                                              \
    }
VL_MICRO_OF_ANGLES(sin, vl_sine(x, 0))
VL_MICRO_OF_ANGLES(cos, vl_sine(x, 1))
VL_MICRO_OF_ANGLES(tan, vl_tan(x))

#endif

static vl_micro_function *const vl_micro_of[VL_MICRO_COUNT] = {
#define VL_MICRO_ENTRY(name, sources) vl_micro_##name,
    VL_MICROS(VL_MICRO_ENTRY)
#undef VL_MICRO_ENTRY
};
static const uint8_t vl_micro_sources[VL_MICRO_COUNT] = {
#define VL_MICRO_SOURCES(name, sources) sources,
    VL_MICROS(VL_MICRO_SOURCES)
#undef VL_MICRO_SOURCES
};

#if !VL_F64
/* A row of bytes as numbers. */
VL_INLINE void vl_chain_fill_bytes(real *to, const uint8_t *from, ptrdiff_t step, ptrdiff_t columns, int is_signed)
{
    ptrdiff_t c = 0;
    if (step == 1)
        for (; c + L <= columns; c += L)
            vl_store(to + c, __builtin_convertvector(vl_load_bytes(from + c, is_signed), vec));
    if (step == 0 && columns > 0) { /* whole vectors, as below */
        const real number = is_signed ? (real)(int8_t)*from : (real)*from;
        for (; c < columns; c += L)
            vl_store(to + c, VL_SPLAT(number));
    }
    for (; c < columns; c++)
        to[c] = is_signed ? (real)(int8_t)from[c * step] : (real)from[c * step];
}

/* Whole numbers, low bytes of which are what is meant; NaN becomes 0. */
VL_INLINE void vl_chain_write_bytes(uint8_t *to, ptrdiff_t step, const real *from, ptrdiff_t columns)
{
    ptrdiff_t c = 0;
    for (; step == 1 && c + 4 * L <= columns; c += 4 * L) {
        veci whole[4];
#pragma GCC unroll 4
        for (int i = 0; i < 4; i++)
            whole[i] = vl_whole(vl_load(from + c + i * L));
        vl_store_bytes(to + c, whole);
    }
    for (; c < columns; c += L) {
        const ptrdiff_t left = columns - c < L ? columns - c : L;
        const veci whole = vl_whole(vl_load_first(from + c, left));
        for (ptrdiff_t i = 0; i < left; i++)
            to[(c + i) * step] = (uint8_t)whole[i];
    }
}
#endif

/* rows x columns elements of an array one after another into a buffer */
static void vl_chain_fill(real *to, const vl_chain_array *array, ptrdiff_t row, ptrdiff_t rows, ptrdiff_t column,
                          ptrdiff_t columns)
{
    vl_store(to + rows * columns / L * L, VL_SPLAT(0)); /* a tail has no garbage behind it */
    for (ptrdiff_t r = 0; r < rows; r++, to += columns) {
        ptrdiff_t first = (row + r) * array->row + column * array->column;
#if !VL_F64
        if (array->element == VL_CHAIN_U8 || array->element == VL_CHAIN_I8) {
            vl_chain_fill_bytes(to, (const uint8_t *)array->data + first, array->column, columns,
                                array->element == VL_CHAIN_I8);
            continue;
        }
#endif
        if (array->element == VL_CHAIN_MASKS) {
            const uint8_t *from = (const uint8_t *)array->data + first;
            vl_lane *mask = (vl_lane *)to;
            if (array->column == 1)
                for (ptrdiff_t c = 0; c < columns; c++)
                    mask[c] = -(vl_int)(from[c] != 0);
            else
                for (ptrdiff_t c = 0; c < columns; c++)
                    mask[c] = -(vl_int)(from[c * array->column] != 0);
            continue;
        }
        const real *from = (const real *)array->data + first;
        if (array->column == 1) {
            ptrdiff_t c = 0;
            for (; c + L <= columns; c += L)
                vl_store(to + c, vl_load(from + c));
            for (; c < columns; c++)
                to[c] = from[c];
        } else if (array->column == 0) /* whole vectors: the next row begins where this one ends */
            for (ptrdiff_t c = 0; c < columns; c += L)
                vl_store(to + c, VL_SPLAT(*from));
        else
            for (ptrdiff_t c = 0; c < columns; c++)
                to[c] = from[c * array->column];
    }
}

static void vl_chain_write(const real *from, const vl_chain_array *array, ptrdiff_t row, ptrdiff_t rows,
                           ptrdiff_t column, ptrdiff_t columns)
{
    for (ptrdiff_t r = 0; r < rows; r++, from += columns) {
        ptrdiff_t first = (row + r) * array->row + column * array->column;
#if !VL_F64
        if (array->element == VL_CHAIN_U8 || array->element == VL_CHAIN_I8) {
            vl_chain_write_bytes((uint8_t *)array->data + first, array->column, from, columns);
            continue;
        }
#endif
        if (array->element == VL_CHAIN_MASKS) {
            uint8_t *to = (uint8_t *)array->data + first;
            const vl_lane *mask = (const vl_lane *)from;
            for (ptrdiff_t c = 0; c < columns; c++)
                to[c * array->column] = (uint8_t)(mask[c] & 1);
            continue;
        }
        real *to = (real *)array->data + first;
        if (array->column == 1) {
            ptrdiff_t c = 0;
            for (; c + L <= columns; c += L)
                vl_store(to + c, vl_load(from + c));
            for (; c < columns; c++)
                to[c] = from[c];
        } else
            for (ptrdiff_t c = 0; c < columns; c++)
                to[c * array->column] = from[c];
    }
}

/* Rows of a block: as many as fit, a number that makes whole vectors of them if there is one. */
VL_INLINE ptrdiff_t vl_chain_rows(ptrdiff_t rows, ptrdiff_t columns)
{
    if (columns >= VL_CHAIN_BLOCK)
        return 1;
    ptrdiff_t most = VL_CHAIN_BLOCK / columns, whole = L;
    for (ptrdiff_t c = columns; whole > 1 && c % 2 == 0; c /= 2)
        whole /= 2;
    if (most > rows)
        return rows;
    return most >= whole ? most / whole * whole : most;
}

static void vl_kernel_chain(const vl_chain *chain)
{
    /* a little more than the buffers need: filling and copying work in whole vectors */
    real memory[VL_CHAIN_BUFFERS][VL_CHAIN_BLOCK + L] __attribute__((aligned(VL_BYTES)));
    real vectors[VL_CHAIN_PLACES][L] __attribute__((aligned(VL_BYTES)));
    vl_source places[VL_CHAIN_PLACES];
    real *buffers[VL_CHAIN_ARRAYS]; /* of operands and results */
    ptrdiff_t rows = chain->rows, columns = chain->columns;
    const int operands = chain->operands, constants = chain->constants, results = chain->results;
    if (rows <= 0 || columns <= 0)
        return;

    int flat = 1; /* rows that follow one another everywhere are one */
    for (int k = 0; k < operands + results; k++)
        flat &= chain->arrays[k].row == chain->arrays[k].column * columns;
    if (flat) {
        columns *= rows;
        rows = 1;
    }
    const ptrdiff_t tall = vl_chain_rows(rows, columns);
    const ptrdiff_t wide = columns < VL_CHAIN_BLOCK ? columns : VL_CHAIN_BLOCK;

    int used = 0;
    for (int k = 0; k < operands + results; k++)
        buffers[k] = memory[used++];
    for (int k = 0; k < constants; k++) {
        vl_store(vectors[operands + k], VL_SPLAT(((const real *)chain->constant)[k]));
        places[operands + k] = (vl_source){vectors[operands + k], 0};
    }
    const int first_result = operands + constants, first_scratch = first_result + results;

    for (ptrdiff_t row = 0, height; row < rows; row += height) {
        height = rows - row < tall ? rows - row : tall;
        for (ptrdiff_t column = 0, width; column < columns; column += width) {
            width = columns - column < wide ? columns - column : wide;
            const ptrdiff_t elements = height * width;
            const int whole = elements % L == 0, first = row == 0 && column == 0;
            for (int k = 0; k < operands; k++) {
                const vl_chain_array *array = &chain->arrays[k];
                ptrdiff_t at = row * array->row + column * array->column;
                if (array->column == 0 && (height == 1 || array->row == 0)) {
                    if (first || array->row) {
                        real value;
                        if (array->element == VL_CHAIN_MASKS)
                            *(vl_lane *)&value = -(vl_int)(((const uint8_t *)array->data)[at] != 0);
                        else if (array->element == VL_CHAIN_U8)
                            value = ((const uint8_t *)array->data)[at];
                        else if (array->element == VL_CHAIN_I8)
                            value = ((const int8_t *)array->data)[at];
                        else
                            value = ((const real *)array->data)[at];
                        vl_store(vectors[k], VL_SPLAT(value));
                    }
                    places[k] = (vl_source){vectors[k], 0};
                } else if (whole && !array->element && array->column == 1 && (height == 1 || array->row == width))
                    places[k] = (vl_source){(const real *)array->data + at, L};
                else {
                    if (first || array->row || columns > wide)
                        vl_chain_fill(buffers[k], array, row, height, column, width);
                    places[k] = (vl_source){buffers[k], L};
                }
            }
            int written = 0; /* results that lie in buffers */
            for (int k = 0; k < results; k++) {
                const vl_chain_array *array = &chain->arrays[operands + k];
                int direct = whole && !array->element && array->column == 1 && (height == 1 || array->row == width);
                written |= !direct;
                places[first_result + k] = (vl_source){
                    direct ? (const real *)array->data + row * array->row + column : buffers[operands + k], L};
            }
            for (int m = 0; m < chain->micros; m++) {
                const int64_t micro = chain->micro[m];
                const int kind = micro & 0xff, to = micro >> 8 & 0xff;
                const vl_source sources[3] = {places[micro >> 16 & 0xff], places[micro >> 24 & 0xff],
                                              places[micro >> 32 & 0xff]};
                ptrdiff_t steps = sources[0].step;
                for (int k = 1; k < vl_micro_sources[kind]; k++)
                    steps |= sources[k].step;
                ptrdiff_t length = elements;
                if (to >= first_scratch) { /* not where a single vector lies: it may be read meanwhile */
                    places[to] =
                        steps ? (vl_source){memory[used + to - first_scratch], L} : (vl_source){vectors[to], 0};
                    length = steps ? elements : L;
                }
                vl_micro_of[kind](length, (real *)places[to].at, sources);
            }
            if (written)
                for (int k = 0; k < results; k++)
                    if (places[first_result + k].at == buffers[operands + k])
                        vl_chain_write(buffers[operands + k], &chain->arrays[operands + k], row, height, column, width);
        }
    }
}
