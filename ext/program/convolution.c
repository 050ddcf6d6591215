/* Conv and ConvTranspose with known weights, and what follows them element by element. */
#include "program.h"
#include "convolve.h"

/* How auto_pad reads in handlers' parameters. */
enum { VL_PADS_GIVEN, VL_SAME_UPPER, VL_SAME_LOWER };

static void halve(int64_t total, int more_before, ptrdiff_t *before, ptrdiff_t *after)
{
    *before = more_before ? total - total / 2 : total / 2;
    *after = total - *before;
}

/* Sizes of the output, and what is padded or cut off in front: vl_convolving's. 0 where they do not fit the input. */
static int place_windows(vl_convolving *c, const int64_t *ints)
{
    const int64_t auto_pad = ints[1], *spans = ints + 2, *strides = ints + 5, *pads = ints + 8, *more = ints + 14;
    for (int a = 0; a < VL_SPATIAL; a++) {
        const int64_t size = c->in_size[a], stride = strides[a], span = spans[a];
        ptrdiff_t before = pads[a], after = pads[VL_SPATIAL + a];
        if (c->transposed) {
            int64_t full = (size - 1) * stride + span + more[a], wanted = full - before - after;
            int fixed = ints[17] || auto_pad != VL_PADS_GIVEN;
            if (fixed) {
                wanted = ints[17] ? ints[18 + a] : size * stride;
                halve(full > wanted ? full - wanted : 0, auto_pad != VL_SAME_UPPER, &before, &after);
            }
            if (size < 1 || wanted < 0)
                return 0;
            c->out_size[a] = wanted;
        } else {
            if (auto_pad != VL_PADS_GIVEN) {
                int64_t total = ((size + stride - 1) / stride - 1) * stride + span - size;
                halve(total > 0 ? total : 0, auto_pad == VL_SAME_LOWER, &before, &after);
            }
            if (size + before + after < span)
                return 0;
            c->out_size[a] = (size + before + after - span) / stride + 1;
        }
        c->before[a] = before;
    }
    return 1;
}

/* The chain's operands beside the sums, as vl_epilogue wants them. What lies otherwise is copied; its block is left in
 * blocks[k]. Called twice: at first only to see whether it can. */
static int describe_operand(vl_frame *f, const vl_tensor *t, const vl_tensor *out, const int64_t *chain, int k, int ask,
                            int pooled, int folded, vl_chain_array *array, vl_block **block)
{
    const int element = vl_chain_element_of(chain[5], k), vector = chain[6] >> k & 1,
              type = vl_chain_type(element, VL_F32);
    const int64_t size = (int64_t)vl_size_of(type);
    if (!t || t->type != type || (vector ? t->axes != 1 : t->axes > out->axes) || (uintptr_t)t->data % (size_t)size)
        return VL_DECLINED;
    vl_tensor wide = *t;
    int by_channel = 1, alike = 1;
    wide.axes = out->axes;
    for (int a = out->axes - 1, own = vector ? a - 1 : t->axes - 1; a >= 0; a--, own--) {
        if (vector && own > 0) {
            wide.shape[a] = out->shape[a];
            wide.strides[a] = 0;
            alike &= out->shape[a] == 1;
            continue;
        }
        int64_t n = own >= 0 ? t->shape[own] : 1;
        if ((n != 1 && n != out->shape[a]) || (own >= 0 && t->strides[own] % size))
            return VL_DECLINED;
        wide.shape[a] = out->shape[a];
        wide.strides[a] = n == 1 ? 0 : t->strides[own];
        by_channel &= a == 1 || n == 1;
        alike &= out->shape[a] == 1 || (n != 1 && wide.strides[a] / size == out->strides[a] / (int64_t)sizeof(float));
    }
    if (ask)
        return pooled && !by_channel ? VL_DECLINED : VL_DONE;
    *array = (vl_chain_array){wide.data, 0, wide.strides[1] / size, element};
    if (by_channel && (folded == 1 || !array->column))
        return VL_DONE;
    if (by_channel) { /* the kernel's channels are the output's several times over */
        const int64_t channels = out->shape[1];
        *block = vl_block_new(f, (size_t)(folded * channels * size));
        if (!*block)
            return VL_NO_MEMORY;
        for (int64_t c = 0; c < folded * channels; c++)
            memcpy((*block)->data + c * size, wide.data + c % channels * wide.strides[1], (size_t)size);
        *array = (vl_chain_array){(*block)->data, 0, 1, element};
        return VL_DONE;
    }
    array->row = 1;
    if (alike)
        return VL_DONE;
    vl_tensor copy = *out;
    copy.type = wide.type;
    *block = vl_block_new(f, (size_t)(vl_count(out->axes, out->shape) * size));
    if (!*block)
        return VL_NO_MEMORY;
    copy.data = (*block)->data;
    for (int a = 0; a < out->axes; a++)
        copy.strides[a] = out->strides[a] / (int64_t)sizeof(float) * size;
    vl_copy(f, &copy, &wide);
    array->data = copy.data;
    return VL_DONE;
}

/* Rows and columns of a pool's windows, for each of which the convolution makes what the pool takes; 0 where there would
 * be none. Windows on the first of three axes are not pooled. */
static int place_pool(vl_convolving *c, const int64_t *pool)
{
    c->pool[0] = pool[0];
    c->pool[1] = pool[1];
    c->divisor = pool[2] ? (double)(pool[0] * pool[1]) : 0;
    c->out_size[1] -= c->out_size[1] % pool[0];
    c->out_size[2] -= c->out_size[2] % pool[1];
    return c->out_size[1] && c->out_size[2];
}

/* Channels first to channels last, where each phase of a transposed convolution would copy its part anew: the block that
 * has it, or NULL where it is not so or memory is short, and nothing is changed. */
static vl_block *turn_planes(vl_frame *f, vl_convolving *c)
{
    const vl_convolution *v = c->convolution;
    const ptrdiff_t pixels = c->in_size[0] * c->in_size[1] * c->in_size[2], channels = v->in_channels;
    enum { PIECE = 4096 };
    ptrdiff_t step = 1;
    for (int a = VL_SPATIAL - 1; a >= 0; step *= c->in_size[a--])
        if (c->in_size[a] != 1 && c->x_strides[a] != step)
            return NULL;
    if (v->phase_count < 2 || channels == 1 || c->x_channel == 1)
        return NULL;
    vl_block *block = vl_block_new(f, (size_t)(c->samples * pixels * channels) * sizeof(float));
    if (!block)
        return NULL;
    float *to = (float *)block->data;
    for (ptrdiff_t n = 0; n < c->samples; n++)
        for (ptrdiff_t i = 0; i < pixels && !vl_shall_end(f->heed); i += PIECE)
            v->kernels->transpose(channels, pixels - i < PIECE ? pixels - i : PIECE,
                                  (const float *)c->x + n * c->x_sample + i, c->x_channel,
                                  to + (n * pixels + i) * channels, channels);
    c->x = to;
    c->x_sample = pixels * channels;
    c->x_channel = 1;
    c->x_strides[2] = channels;
    c->x_strides[1] = c->in_size[2] * channels;
    c->x_strides[0] = c->in_size[1] * c->x_strides[1];
    return block;
}

/* "conv", "conv_transpose": x, then a chain's operands beside the convolution's result; objects: the vl_convolution.
 * ints: the number of spatial axes; auto_pad; then for three axes each (leading ones have spans and strides of 1) spans
 * of the dilated kernel, strides, pads before, pads after, output_padding; whether output_shape is given, and it; rows
 * and columns of a pool's windows that takes the results (1, 1: none), and whether it averages; how many neighbours of
 * the result on the last axis the kernel makes as channels (KnownConvTranspose); the epilogue's kind, then for a chain what
 * "chain" takes (chain.c): operand 0 is the convolution's result, and there is one result, not bool. floats: low and high, or the slope, or the chain's constants. */
enum { VL_CONV_POOL = 21, VL_CONV_FOLDED = 24, VL_CONV_EPILOGUE = 25, VL_CHAIN_MICROS = 9 };

static int convolve(vl_frame *f, const vl_instruction *i, int transposed)
{
    const int64_t *ints = i->ints, *chain_ints = ints + VL_CONV_EPILOGUE + 1;
    const int rank = (int)ints[0], missing = VL_SPATIAL - rank, folded = (int)ints[VL_CONV_FOLDED];
    const vl_convolution *v = i->objects[0];
    const vl_tensor *x = vl_in(f, i, 0);
    const int64_t item = sizeof(float);
    if (!x || x->type != VL_F32 || x->axes != 2 + rank || x->shape[1] != v->in_channels ||
        (uintptr_t)x->data % sizeof(float))
        return VL_DECLINED;
    for (int a = 0; a < x->axes; a++)
        if (x->strides[a] % item)
            return VL_DECLINED;
    vl_epilogue epilogue = {.kind = (int)ints[VL_CONV_EPILOGUE]};
    vl_convolving c = {.convolution = v,
                       .limits = f->limits,
                       .x = x->data,
                       .samples = x->shape[0],
                       .x_sample = x->strides[0] / item,
                       .x_channel = x->strides[1] / item,
                       .transposed = transposed,
                       .epilogue = &epilogue,
                       .heed = f->heed};
    for (int a = 0; a < VL_SPATIAL; a++) {
        c.in_size[a] = a < missing ? 1 : x->shape[2 + a - missing];
        c.x_strides[a] = a < missing ? 0 : x->strides[2 + a - missing] / item;
    }
    vl_taps_met met;
    if (!place_windows(&c, ints))
        return VL_DECLINED;
    /* by the sizes before a pool's, which are the Python operator's: it makes what is not there yet */
    if (!vl_leave_out(&c, &met) || !place_pool(&c, ints + VL_CONV_POOL))
        return VL_DECLINED;
    vl_tensor wanted = {.axes = (int8_t)(2 + rank), .type = VL_F32, .shape = {c.samples, v->out_channels / folded}};
    int8_t order[VL_MOST_AXES] = {0};
    for (int a = 0; a < rank; a++) {
        wanted.shape[2 + a] = c.out_size[missing + a] / (missing + a > 0 ? c.pool[missing + a - 1] : 1);
        order[1 + a] = (int8_t)(2 + a);
    }
    order[1 + rank] = 1;
    if (wanted.shape[1 + rank] > INT64_MAX / folded)
        return VL_DECLINED;
    wanted.shape[1 + rank] *= folded;
    const int64_t count = vl_count(wanted.axes, wanted.shape);
    if (count < 0 || (count && vl_convolving_plan(&c, f->threads) < 0))
        return VL_DECLINED;
    const int pooled = c.pool[0] * c.pool[1] > 1;
    const int operands = epilogue.kind == VL_CHAINED ? (int)chain_ints[0] : 1;
    if (epilogue.kind == VL_CHAINED && chain_ints[7] > wanted.axes)
        return VL_DECLINED;
    for (int k = 1; k < operands; k++)
        if (describe_operand(f, vl_in(f, i, k), &wanted, chain_ints, k, 1, pooled, folded, NULL, NULL) != VL_DONE)
            return VL_DECLINED;

    vl_tensor *out = vl_new_in_order(f, i, 0, VL_F32, wanted.axes, wanted.shape, order);
    if (!out)
        return VL_NO_MEMORY;
    if (!count)
        return VL_DONE;
    int status = VL_DONE;
    vl_chain_array arrays[VL_CHAIN_ARRAYS];
    vl_block *copies[VL_CHAIN_ARRAYS] = {NULL};
    vl_chain chain;
    switch (epilogue.kind) {
    case VL_BOUND: epilogue.low = i->floats[0], epilogue.high = i->floats[1]; break;
    case VL_LEAKY: epilogue.slope = i->floats[0]; break;
    case VL_CHAINED:
        for (int k = 1; k < operands && status == VL_DONE; k++)
            status = describe_operand(f, vl_in(f, i, k), out, chain_ints, k, 0, pooled, folded, &arrays[k], &copies[k]);
        chain = (vl_chain){.operands = operands,
                           .constants = (int)chain_ints[1],
                           .results = 1,
                           .scratch = (int)chain_ints[3],
                           .micros = (int)chain_ints[4],
                           .arrays = arrays,
                           .constant = i->floats,
                           .micro = chain_ints + VL_CHAIN_MICROS};
        epilogue.chain = &chain;
        epilogue.out = out->data;
        break;
    default: break;
    }
    vl_block *scratch = vl_block_new(f, (size_t)c.members * c.scratch_bytes), *turned = NULL;
    if (!scratch || status != VL_DONE)
        status = VL_NO_MEMORY;
    else {
        turned = turn_planes(f, &c);
        c.out = out->data;
        c.scratch = scratch->data;
        if (c.members > 1)
            f->parallel(c.members, vl_convolving_run, &c, f->heed);
        else
            vl_convolving_run(&c, 0, 1);
    }
    vl_block_drop(f, scratch);
    vl_block_drop(f, turned);
    for (int k = 1; k < operands; k++)
        vl_block_drop(f, copies[k]);
    return status;
}

static int conv(vl_frame *f, const vl_instruction *i) { return convolve(f, i, 0); }
static int conv_transpose(vl_frame *f, const vl_instruction *i) { return convolve(f, i, 1); }

const vl_named_handler vl_convolution_handlers[] = {{"conv", conv}, {"conv_transpose", conv_transpose}, {NULL, NULL}};
