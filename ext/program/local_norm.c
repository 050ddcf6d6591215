/* LpNormalization and LRN: elements divided by what those on their axis (float32 and float64), or in the channels around
 * (float32), add up to. */
#include "program.h"

static int is_number(const vl_tensor *t)
{
    return t && (t->type == VL_F32 || t->type == VL_F64) && (uintptr_t)t->data % vl_size_of(t->type) == 0;
}

/* [rows, columns] without gaps through a chain whose operand 0 it is, operand 1 is another array with these steps, and
 * whose only result is its last array. */
static void run_chain(const vl_kernels *kernels, vl_chain_array *arrays, const double *constants, int constant_count,
                      const int64_t *micro, int micros, int scratch, int64_t rows, int64_t columns)
{
    float singles[4];
    for (int k = 0; k < constant_count; k++)
        singles[k] = (float)constants[k];
    const vl_chain c = {.rows = rows,
                        .columns = columns,
                        .operands = 2,
                        .constants = constant_count,
                        .results = 1,
                        .scratch = scratch,
                        .micros = micros,
                        .arrays = arrays,
                        .constant = kernels->arithmetic == VL_IN_FLOAT64 ? (const void *)constants : singles,
                        .micro = micro};
    kernels->chain(&c);
}

/* "lp_normalization": x; ints: axis, p (1 or 2). What is divided by 0 is 0. */
static int lp_normalization(vl_frame *f, const vl_instruction *i)
{
    const vl_tensor *t = vl_in(f, i, 0);
    const int axis = t ? vl_axis(i->ints[0], t->axes) : -1, squares = i->ints[1] == 2;
    if (axis < 0 || !is_number(t) || vl_count(t->axes, t->shape) <= 0)
        return VL_DECLINED;
    const vl_kernels *kernels = vl_kernels_for(f, t->type);
    const int64_t each = (int64_t)vl_size_of(t->type), size = t->shape[axis];
    int64_t outer = 1, inner = 1;
    for (int a = 0; a < t->axes; a++)
        if (a != axis)
            *(a < axis ? &outer : &inner) *= t->shape[a];
    vl_tensor copy;
    const vl_tensor *from = vl_contiguous(f, t, &copy);
    vl_block *norms = vl_block_new(f, (size_t)((inner == 1 ? outer : inner) * each));
    const vl_tensor x = from ? *from : *t;
    vl_tensor *out = from && norms ? vl_new(f, i, 0, x.type, x.axes, x.shape) : NULL;
    if (out) {
        /* rows of an axis that lies innermost are one block, else each of `outer` has rows along it */
        const int of_rows = inner == 1;
        const int64_t blocks = of_rows ? 1 : outer, rows = of_rows ? outer : size, columns = of_rows ? size : inner;
        enum { X, NORM, ZERO, OUT, ROOT, MASK };
        const double zero = 0;
        const int64_t micro[] = {VL_MICRO(squares ? VL_MICRO_sqrt : VL_MICRO_copy, ROOT, NORM, 0, 0),
                                 VL_MICRO(VL_MICRO_equal, MASK, ROOT, ZERO, 0),
                                 VL_MICRO(VL_MICRO_divide, OUT, X, ROOT, 0),
                                 VL_MICRO(VL_MICRO_where, OUT, MASK, ZERO, OUT)};
        for (int64_t b = 0; b < blocks && !vl_shall_end(f->heed); b++) {
            char *own = x.data + b * rows * columns * each, *to = out->data + b * rows * columns * each;
            const vl_reduction sum = {.rows = rows,
                                      .columns = columns,
                                      .kind = squares ? VL_SUM_SQUARES : VL_SUM_ABS,
                                      .of_rows = of_rows,
                                      .x = own,
                                      .ld = columns,
                                      .out = norms->data};
            kernels->reduce(&sum);
            vl_chain_array arrays[] = {{own, columns, 1, 0}, {norms->data, of_rows, !of_rows, 0}, {to, columns, 1, 0}};
            run_chain(kernels, arrays, &zero, 1, micro, 4, 2, rows, columns);
        }
    }
    vl_block_drop(f, norms);
    if (from)
        vl_block_drop(f, copy.block);
    return out ? VL_DONE : VL_NO_MEMORY;
}

/* Each channel sums as many around it; the Python operator, whose time grows with the logarithm of that, sums more. */
enum { VL_MOST_CHANNELS_AROUND = 128 };

/* sums[p] = the sum of the squares of x[c][p] over the channels [low, high) */
static void sum_channels(int64_t low, int64_t high, int64_t pixels, const float *x, float *restrict sums)
{
    memset(sums, 0, (size_t)pixels * sizeof *sums);
    for (int64_t c = low; c < high; c++)
        for (int64_t p = 0; p < pixels; p++)
            sums[p] += x[c * pixels + p] * x[c * pixels + p];
}

/* "lrn": x [N, C, ...]; ints: size, how many channels count; floats: alpha / size, beta, bias.
 * x / (bias + alpha / size sum of squares)^beta */
static int lrn(vl_frame *f, const vl_instruction *i)
{
    const vl_tensor *t = vl_in(f, i, 0);
    if (!is_number(t) || t->type != VL_F32 || t->axes < 2 || vl_count(t->axes, t->shape) <= 0)
        return VL_DECLINED;
    const int64_t size = i->ints[0], before = (size - 1) / 2, behind = size / 2, channels = t->shape[1];
    const int64_t pixels = vl_count(t->axes, t->shape) / t->shape[0] / channels;
    if (size > VL_MOST_CHANNELS_AROUND && channels > VL_MOST_CHANNELS_AROUND)
        return VL_DECLINED;
    vl_tensor copy;
    const vl_tensor *from = vl_contiguous(f, t, &copy);
    vl_block *sums = vl_block_new(f, (size_t)pixels * sizeof(float));
    const vl_tensor x = from ? *from : *t;
    vl_tensor *out = from && sums ? vl_new(f, i, 0, VL_F32, x.axes, x.shape) : NULL;
    for (int64_t n = 0; out && n < x.shape[0]; n++)
        for (int64_t c = 0; c < channels && !vl_shall_end(f->heed); c++) {
            const int64_t low = c > before ? c - before : 0,
                          high = behind < channels - c - 1 ? c + behind + 1 : channels;
            float *sample = (float *)x.data + n * channels * pixels;
            sum_channels(low, high, pixels, sample, (float *)sums->data);
            enum { X, SUM, ALPHA, BETA, BIAS, OUT, POWER };
            const double constants[] = {i->floats[0], i->floats[1], i->floats[2]};
            /* the power that everyone takes is the root, times the root of that */
            const int by_roots = i->floats[1] == 0.75f;
            static const int64_t by_roots_micro[] = {
                VL_MICRO(VL_MICRO_multiply_add, POWER, SUM, ALPHA, BIAS), VL_MICRO(VL_MICRO_sqrt, POWER, POWER, 0, 0),
                VL_MICRO(VL_MICRO_sqrt, OUT, POWER, 0, 0), VL_MICRO(VL_MICRO_multiply, POWER, POWER, OUT, 0),
                VL_MICRO(VL_MICRO_divide, OUT, X, POWER, 0)};
            static const int64_t by_power_micro[] = {VL_MICRO(VL_MICRO_multiply_add, POWER, SUM, ALPHA, BIAS),
                                                     VL_MICRO(VL_MICRO_power, POWER, POWER, BETA, 0),
                                                     VL_MICRO(VL_MICRO_divide, OUT, X, POWER, 0)};
            vl_chain_array arrays[] = {{sample + c * pixels, pixels, 1, 0},
                                       {sums->data, 0, 1, 0},
                                       {(float *)out->data + (n * channels + c) * pixels, pixels, 1, 0}};
            run_chain(f->kernels, arrays, constants, 3, by_roots ? by_roots_micro : by_power_micro, by_roots ? 5 : 3, 1,
                      1, pixels);
        }
    vl_block_drop(f, sums);
    if (from)
        vl_block_drop(f, copy.block);
    return out ? VL_DONE : VL_NO_MEMORY;
}

const vl_named_handler vl_local_norm_handlers[] = {{"lp_normalization", lp_normalization}, {"lrn", lrn}, {NULL, NULL}};
