/* What runs along one axis: places of the largest, Hardmax, running sums. */
#include "program.h"

/* ---- places of the largest ---------------------------------------------------------------------------------- */

#define VL_FIND(kind, better)                                                                                          \
    {                                                                                                                  \
        kind best = *(const kind *)p;                                                                                  \
        for (int64_t k = 1; k < n; k++) {                                                                              \
            const kind x = *(const kind *)(p + k * step);                                                              \
            if (better) {                                                                                              \
                best = x;                                                                                              \
                place = k;                                                                                             \
            }                                                                                                          \
        }                                                                                                              \
    }                                                                                                                  \
    break

/* The first of the greatest, or least; the first NaN before all. */
static int64_t place_of(const char *p, int64_t n, int64_t step, int type, int least)
{
    int64_t place = 0;
    switch (type * 2 + least) {
    case VL_F32 * 2: VL_FIND(float, best == best && !(x <= best));
    case VL_F32 * 2 + 1: VL_FIND(float, best == best && !(x >= best));
    case VL_F64 * 2: VL_FIND(double, best == best && !(x <= best));
    case VL_F64 * 2 + 1: VL_FIND(double, best == best && !(x >= best));
    case VL_I64 * 2: VL_FIND(int64_t, x > best);
    case VL_I64 * 2 + 1: VL_FIND(int64_t, x < best);
    case VL_I32 * 2: VL_FIND(int32_t, x > best);
    default: VL_FIND(int32_t, x < best);
    }
    return place;
}

/* "arg": ints: axis, whether it stays, whether the last of equals counts, whether the least is sought. */
static int arg(vl_frame *f, const vl_instruction *i)
{
    const vl_tensor *t = vl_in(f, i, 0);
    const int least = (int)i->ints[3], last = (int)i->ints[2], keep = (int)i->ints[1];
    if (!t || (t->type != VL_F32 && t->type != VL_F64 && t->type != VL_I64 && t->type != VL_I32))
        return VL_DECLINED;
    const int axis = vl_axis(i->ints[0], t->axes);
    if (axis < 0 || t->shape[axis] == 0 || vl_count(t->axes, t->shape) < 0 || (uintptr_t)t->data % vl_size_of(t->type))
        return VL_DECLINED;
    for (int a = 0; a < t->axes; a++)
        if (t->shape[a] != 1 && t->strides[a] % (int64_t)vl_size_of(t->type))
            return VL_DECLINED;
    const vl_tensor from = *t;
    int64_t shape[VL_MOST_AXES] = {0}, index[VL_MOST_AXES] = {0};
    int axes = 0;
    for (int a = 0; a < from.axes; a++)
        if (a != axis || keep)
            shape[axes++] = a == axis ? 1 : from.shape[a];
    vl_tensor *out = vl_new(f, i, 0, VL_I64, axes, shape);
    if (!out)
        return VL_NO_MEMORY;
    const int64_t n = from.shape[axis], step = from.strides[axis], outs = vl_count(axes, shape);
    vl_pace pace = vl_pace_of(f);
    for (int64_t k = 0; k < outs && vl_goes_on(&pace, n); k++) {
        const char *p = from.data;
        for (int a = 0; a < from.axes; a++)
            if (a != axis)
                p += index[a] * from.strides[a];
        int64_t place = last ? n - 1 - place_of(p + (n - 1) * step, n, -step, from.type, least)
                             : place_of(p, n, step, from.type, least);
        ((int64_t *)out->data)[k] = place;
        for (int a = from.axes - 1; a >= 0; a--)
            if (a != axis) {
                if (++index[a] < from.shape[a])
                    break;
                index[a] = 0;
            }
    }
    return VL_DONE;
}

/* "hardmax": x; ints: axis, whether all axes from it on are one. 1 at the first of the greatest, 0 elsewhere. */
static int hardmax(vl_frame *f, const vl_instruction *i)
{
    const vl_tensor *t = vl_in(f, i, 0);
    if (!t || (t->type != VL_F32 && t->type != VL_F64) || vl_count(t->axes, t->shape) <= 0 || t->axes == 0 ||
        (uintptr_t)t->data % vl_size_of(t->type))
        return VL_DECLINED;
    const int flat = (int)i->ints[1], axis = flat && i->ints[0] == t->axes ? t->axes : vl_axis(i->ints[0], t->axes);
    if (axis < 0)
        return VL_DECLINED;
    vl_tensor copy;
    const vl_tensor *laid = vl_contiguous(f, t, &copy);
    if (!laid)
        return VL_NO_MEMORY;
    const vl_tensor from = *laid;
    const int64_t all = vl_count(from.axes, from.shape), outer = vl_count(axis, from.shape),
                  n = flat ? all / outer : from.shape[axis], inner = all / outer / n,
                  size = (int64_t)vl_size_of(from.type);
    vl_tensor *out = vl_new(f, i, 0, from.type, from.axes, from.shape);
    if (out) {
        vl_zero(f, out->data, all * size);
        vl_pace pace = vl_pace_of(f);
        for (int64_t o = 0; o < outer; o++)
            for (int64_t k = 0; k < inner && vl_goes_on(&pace, n); k++) {
                const int64_t begin = o * n * inner + k,
                              at = begin + inner * place_of(from.data + begin * size, n, inner * size, from.type, 0);
                if (from.type == VL_F32)
                    ((float *)out->data)[at] = 1;
                else
                    ((double *)out->data)[at] = 1;
            }
    }
    vl_block_drop(f, copy.block);
    return out ? VL_DONE : VL_NO_MEMORY;
}

/* ---- running sums ---------------------------------------------------------------------------------------------- */

#define VL_RUNNING(kind, wide)                                                                                         \
    {                                                                                                                  \
        wide sum = 0;                                                                                                  \
        for (int64_t k = 0; k < n && vl_goes_on(&pace, 1); k++) {                                                      \
            int64_t at = reverse ? n - 1 - k : k;                                                                      \
            wide x = (wide) * (const kind *)(p + at * step);                                                           \
            wide before = sum;                                                                                         \
            sum = k ? sum + x : x;                                                                                     \
            *(kind *)(q + at * step_out) = (kind)(exclusive ? before : sum);                                           \
        }                                                                                                              \
    }                                                                                                                  \
    break

/* "cumsum": ints: exclusive, reverse; the axis is the second input. */
static int cumsum(vl_frame *f, const vl_instruction *i)
{
    const vl_tensor *t = vl_in(f, i, 0);
    const int exclusive = (int)i->ints[0], reverse = (int)i->ints[1];
    int64_t given;
    if (!t || vl_integers(vl_in(f, i, 1), &given, 1) != 1 || vl_count(t->axes, t->shape) < 0 ||
        (t->type != VL_F32 && t->type != VL_F64 && t->type != VL_I64 && t->type != VL_I32) ||
        (uintptr_t)t->data % vl_size_of(t->type))
        return VL_DECLINED;
    const int axis = vl_axis(given, t->axes);
    if (axis < 0)
        return VL_DECLINED;
    for (int a = 0; a < t->axes; a++)
        if (t->shape[a] != 1 && t->strides[a] % (int64_t)vl_size_of(t->type))
            return VL_DECLINED;
    const vl_tensor from = *t;
    vl_tensor *out = vl_new(f, i, 0, from.type, from.axes, from.shape);
    if (!out)
        return VL_NO_MEMORY;
    const int64_t n = from.shape[axis], all = vl_count(from.axes, from.shape);
    int64_t index[VL_MOST_AXES] = {0};
    vl_pace pace = vl_pace_of(f);
    for (int64_t row = 0; all && row < all / n; row++) {
        const char *p = from.data;
        char *q = out->data;
        for (int a = 0; a < from.axes; a++) {
            p += index[a] * from.strides[a];
            q += index[a] * out->strides[a];
        }
        const int64_t step = from.strides[axis], step_out = out->strides[axis];
        switch (from.type) {
        case VL_F32: VL_RUNNING(float, float);
        case VL_F64: VL_RUNNING(double, double);
        case VL_I64: VL_RUNNING(int64_t, uint64_t);
        default: VL_RUNNING(int32_t, uint64_t);
        }
        for (int a = from.axes - 1; a >= 0; a--)
            if (a != axis) {
                if (++index[a] < from.shape[a])
                    break;
                index[a] = 0;
            }
    }
    return VL_DONE;
}

const vl_named_handler vl_along_axis_handlers[] = {
    {"arg", arg}, {"hardmax", hardmax}, {"cumsum", cumsum}, {NULL, NULL}};
