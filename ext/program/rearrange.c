/* Elements at other places, all of which are known beforehand: ReverseSequence, DepthToSpace, SpaceToDepth. */
#include "program.h"

/* x, lengths; ints: time axis, batch axis (0 and 1 in either order) */
static int reverse_sequence(vl_frame *f, const vl_instruction *i)
{
    const vl_tensor *x = vl_in(f, i, 0), *lengths = vl_in(f, i, 1);
    int time = (int)i->ints[0], batch = (int)i->ints[1];
    if (!x || x->axes < 2 || !lengths || lengths->type != VL_I64 || lengths->axes != 1 ||
        lengths->shape[0] != x->shape[batch])
        return VL_DECLINED;
    for (int64_t b = 0; b < x->shape[batch]; b++) {
        int64_t n = *(int64_t *)(lengths->data + b * lengths->strides[0]);
        if (n < 0 || n > x->shape[time])
            return VL_DECLINED;
    }
    vl_tensor from = *x, which = *lengths, *out = vl_new(f, i, 0, from.type, from.axes, from.shape);
    if (!out)
        return VL_NO_MEMORY;
    for (int64_t b = 0; b < from.shape[batch]; b++) {
        vl_tensor to = *out, source = from;
        int64_t n = *(int64_t *)(which.data + b * which.strides[0]), steps = from.shape[time];
        to.shape[batch] = source.shape[batch] = 1;
        to.data += b * to.strides[batch];
        source.data += b * source.strides[batch];
        to.shape[time] = source.shape[time] = steps - n; /* what stays */
        vl_tensor rest_to = to, rest = source;
        rest_to.data += n * to.strides[time];
        rest.data += n * source.strides[time];
        vl_copy(f, &rest_to, &rest);
        if (n == 0)
            continue;
        to.shape[time] = source.shape[time] = n;
        source.data += (n - 1) * source.strides[time];
        source.strides[time] = -source.strides[time];
        vl_copy(f, &to, &source);
    }
    return VL_DONE;
}

/* x [N, C, H, W]; ints: block, whether depth to space, whether DCR */
static int blocks(vl_frame *f, const vl_instruction *i)
{
    const vl_tensor *x = vl_in(f, i, 0);
    int64_t b = i->ints[0];
    if (!x || x->axes != 4)
        return VL_DECLINED;
    int to_space = (int)i->ints[1], dcr = (int)i->ints[2];
    if (to_space ? x->shape[1] % (b * b) : x->shape[2] % b || x->shape[3] % b)
        return VL_DECLINED;
    vl_tensor from = *x;
    int64_t n = from.shape[0], c = from.shape[1], h = from.shape[2], w = from.shape[3];
    int64_t space[4] = {n, c / (b * b), h * b, w * b}, depth[4] = {n, c * b * b, h / b, w / b};
    vl_tensor *out = vl_new(f, i, 0, from.type, 4, to_space ? space : depth);
    if (!out)
        return VL_NO_MEMORY;
    /* Both sides as [n, channel, row, row in block, column, column in block]: `deep` is the one with many channels. */
    vl_tensor deep = to_space ? from : *out, wide = to_space ? *out : from;
    int64_t channels = wide.shape[1], rows = deep.shape[2], columns = deep.shape[3], step = deep.strides[1];
    int64_t shape[6] = {n, channels, rows, b, columns, b};
    int64_t deep_strides[6] = {deep.strides[0], dcr ? step : step * b * b,
                               deep.strides[2], dcr ? step * b * channels : step * b,
                               deep.strides[3], dcr ? step * channels : step};
    int64_t wide_strides[6] = {wide.strides[0], wide.strides[1],     wide.strides[2] * b,
                               wide.strides[2], wide.strides[3] * b, wide.strides[3]};
    deep.axes = wide.axes = 6;
    memcpy(deep.shape, shape, sizeof shape);
    memcpy(wide.shape, shape, sizeof shape);
    memcpy(deep.strides, deep_strides, sizeof deep_strides);
    memcpy(wide.strides, wide_strides, sizeof wide_strides);
    if (to_space)
        vl_copy(f, &wide, &deep);
    else
        vl_copy(f, &deep, &wide);
    return VL_DONE;
}

const vl_named_handler vl_rearrange_handlers[] = {
    {"reverse_sequence", reverse_sequence},
    {"blocks", blocks},
    {NULL, NULL},
};
