/* Elements in other places: Concat, Gather, Pad, Tile and the like, for elements of any size. */
#include "program.h"

#include <math.h>

/* tensors along an axis; ints[0]: axis */
static int concat(vl_frame *f, const vl_instruction *i)
{
    const vl_tensor *first = vl_in(f, i, 0);
    int axis = first ? vl_axis(i->ints[0], first->axes) : -1;
    if (axis < 0)
        return VL_DECLINED;
    int64_t shape[VL_MOST_AXES];
    memcpy(shape, first->shape, sizeof shape);
    int axes = first->axes, type = first->type;
    shape[axis] = 0;
    for (int k = 0; k < i->input_count; k++) {
        const vl_tensor *x = vl_in(f, i, k);
        if (!x || x->axes != axes || x->type != type)
            return VL_DECLINED;
        for (int a = 0; a < axes; a++)
            if (a != axis && x->shape[a] != shape[a])
                return VL_DECLINED;
        if (__builtin_add_overflow(shape[axis], x->shape[axis], &shape[axis]))
            return VL_DECLINED;
    }
    if (vl_count(axes, shape) < 0)
        return VL_DECLINED;
    /* In the order of the axes of the largest input: channels-last stays so. */
    const vl_tensor *large = first;
    for (int k = 1; k < i->input_count; k++)
        if (vl_count(axes, vl_in(f, i, k)->shape) > vl_count(axes, large->shape))
            large = vl_in(f, i, k);
    int8_t order[VL_MOST_AXES];
    vl_order_of(large, order);
    vl_tensor *out = vl_new_in_order(f, i, 0, type, axes, shape, order);
    if (!out)
        return VL_NO_MEMORY;
    if (!vl_count(out->axes, out->shape)) /* whose strides may not fit */
        return VL_DONE;
    vl_tensor part = *out;
    for (int k = 0; k < i->input_count; k++) {
        const vl_tensor *x = vl_in(f, i, k);
        part.shape[axis] = x->shape[axis];
        vl_copy(f, &part, x);
        part.data += x->shape[axis] * part.strides[axis];
    }
    return VL_DONE;
}

/* x, indices; ints[0]: axis. A single index is a view. */
static int gather(vl_frame *f, const vl_instruction *i)
{
    const vl_tensor *x = vl_in(f, i, 0), *indices = vl_in(f, i, 1);
    int axis = x ? vl_axis(i->ints[0], x->axes) : -1;
    if (axis < 0 || !indices || (indices->type != VL_I64 && indices->type != VL_I32))
        return VL_DECLINED;
    int64_t size = x->shape[axis], count = vl_count(indices->axes, indices->shape);
    vl_tensor from = *x;
    if (indices->axes == 0) {
        int64_t at = indices->type == VL_I64 ? *(int64_t *)indices->data : *(int32_t *)indices->data;
        at += at < 0 ? size : 0;
        if (at < 0 || at >= size)
            return VL_DECLINED;
        vl_tensor *out = vl_share(f, i, 0, &from);
        out->data += at * from.strides[axis];
        out->axes--;
        for (int a = axis; a < out->axes; a++) {
            out->shape[a] = from.shape[a + 1];
            out->strides[a] = from.strides[a + 1];
        }
        return VL_DONE;
    }
    int axes = from.axes - 1 + indices->axes;
    int64_t shape[VL_MOST_AXES];
    if (axes > VL_MOST_AXES)
        return VL_DECLINED;
    for (int a = 0; a < axis; a++)
        shape[a] = from.shape[a];
    for (int a = 0; a < indices->axes; a++)
        shape[axis + a] = indices->shape[a];
    for (int a = axis + 1; a < from.axes; a++)
        shape[a - 1 + indices->axes] = from.shape[a];
    if (vl_count(axes, shape) < 0)
        return VL_DECLINED;
    vl_tensor copy;
    const vl_tensor *at = vl_contiguous(f, indices, &copy);
    if (!at)
        return VL_NO_MEMORY;
    int64_t most = 0, least = 0;
    vl_pace pace = vl_pace_of(f);
    for (int64_t k = 0; k < count && vl_goes_on(&pace, 1); k++) {
        int64_t v = at->type == VL_I64 ? ((int64_t *)at->data)[k] : ((int32_t *)at->data)[k];
        most = v > most ? v : most;
        least = v < least ? v : least;
    }
    if (count && (most >= size || least < -size)) {
        vl_block_drop(f, copy.block);
        return VL_DECLINED;
    }
    vl_tensor *out = vl_new(f, i, 0, from.type, axes, shape);
    if (!out) {
        vl_block_drop(f, copy.block);
        return VL_NO_MEMORY;
    }
    /* Before the axis, the index, behind it: out[outer][index][inner]. */
    int64_t outer = vl_count(axis, from.shape), inner = vl_count(from.axes - axis - 1, from.shape + axis + 1);
    size_t bytes = (size_t)inner * vl_size_of(from.type);
    vl_tensor row = from, target = *out; /* the inner axes of one index, where rows are no single run */
    row.axes = target.axes = (int8_t)(from.axes - axis - 1);
    memcpy(row.shape, from.shape + axis + 1, (size_t)row.axes * 8);
    memcpy(row.strides, from.strides + axis + 1, (size_t)row.axes * 8);
    memcpy(target.shape, row.shape, sizeof row.shape);
    vl_set_contiguous(&target);
    int whole = vl_is_contiguous(&row);
    int64_t place[VL_MOST_AXES] = {0};
    char *to = out->data, *base = from.data;
    for (int64_t o = 0; o < outer && inner; o++) {
        for (int64_t k = 0; k < count && vl_goes_on(&pace, inner); k++, to += bytes) {
            int64_t v = at->type == VL_I64 ? ((int64_t *)at->data)[k] : ((int32_t *)at->data)[k];
            char *source = base + (v < 0 ? v + size : v) * from.strides[axis];
            if (whole && bytes <= 8)
                for (size_t b = 0; b < bytes; b++)
                    to[b] = source[b];
            else if (whole)
                memcpy(to, source, bytes);
            else {
                row.data = source;
                target.data = to;
                vl_copy(f, &target, &row);
            }
        }
        for (int a = axis - 1; a >= 0; a--) {
            base += from.strides[a];
            if (++place[a] < from.shape[a])
                break;
            base -= from.shape[a] * from.strides[a];
            place[a] = 0;
        }
    }
    vl_block_drop(f, copy.block);
    return VL_DONE;
}

static void fill(const vl_frame *f, const vl_tensor *t, const char *value)
{
    vl_tensor from = *t;
    from.data = (char *)value;
    for (int a = 0; a < t->axes; a++)
        from.strides[a] = 0;
    vl_copy(f, t, &from);
}

/* x, pads or ints[2 ...], constant or floats[0], axes; ints: mode (0 constant, 1 reflect, 2 edge, 3 wrap), 1 if pads are ints */
static int pad(vl_frame *f, const vl_instruction *i)
{
    const vl_tensor *x = vl_in(f, i, 0);
    int64_t pads[2 * VL_MOST_AXES], over[VL_MOST_AXES];
    int mode = (int)i->ints[0], count;
    if (!x)
        return VL_DECLINED;
    if (i->ints[1]) {
        count = i->int_count - 2;
        if (count > 2 * VL_MOST_AXES)
            return VL_DECLINED;
        memcpy(pads, i->ints + 2, (size_t)count * 8);
    } else
        count = vl_list(vl_in(f, i, 1), pads, 2 * VL_MOST_AXES);
    int given = count / 2;
    for (int a = 0; a < given; a++)
        over[a] = a;
    if (vl_has_in(i, 3) ? vl_list(vl_in(f, i, 3), over, VL_MOST_AXES) != given : given != x->axes)
        return VL_DECLINED;
    if (count < 0 || count % 2)
        return VL_DECLINED;
    char value[8] __attribute__((aligned(8))) = {0};
    if (vl_has_in(i, 2)) {
        const vl_tensor *v = vl_in(f, i, 2);
        if (!v || v->type != x->type || vl_count(v->axes, v->shape) != 1)
            return VL_DECLINED;
        memcpy(value, v->data, vl_size_of(v->type));
    } else if (i->float_count) {
        if (x->type != VL_F32 && i->floats[0] != 0)
            return VL_DECLINED;
        memcpy(value, i->floats, x->type == VL_F32 ? 4 : 0);
    }
    vl_tensor from = *x;
    int64_t before[VL_MOST_AXES] = {0}, after[VL_MOST_AXES] = {0}, shape[VL_MOST_AXES];
    int seen[VL_MOST_AXES] = {0}, padded = 0;
    for (int k = 0; k < given; k++) {
        int axis = vl_axis(over[k], from.axes);
        if (axis < 0 || seen[axis]++)
            return VL_DECLINED;
        before[axis] = pads[k];
        after[axis] = pads[given + k];
    }
    for (int a = 0; a < from.axes; a++) {
        if (before[a] < 0 && mode == 0) { /* cut off instead */
            from.data -= before[a] * from.strides[a];
            from.shape[a] += before[a];
            before[a] = 0;
        }
        if (after[a] < 0 && mode == 0) {
            from.shape[a] += after[a];
            after[a] = 0;
        }
        if (before[a] < 0 || after[a] < 0 || from.shape[a] < 0 || before[a] > INT64_C(1) << 40 ||
            after[a] > INT64_C(1) << 40)
            return VL_DECLINED;
        if (before[a] || after[a]) {
            padded++;
            if (mode != 0 && from.shape[a] == 0)
                return VL_DECLINED;
            if ((mode == 1 && (before[a] >= from.shape[a] || after[a] >= from.shape[a])) ||
                (mode == 3 && (before[a] > from.shape[a] || after[a] > from.shape[a])))
                return VL_DECLINED;
        }
        shape[a] = from.shape[a] + before[a] + after[a];
    }
    if (vl_count(from.axes, shape) < 0)
        return VL_DECLINED;
    if (!padded) {
        *vl_share(f, i, 0, x) = from;
        return VL_DONE;
    }
    int8_t order[VL_MOST_AXES];
    vl_order_of(&from, order);
    vl_tensor *out = vl_new_in_order(f, i, 0, from.type, from.axes, shape, order);
    if (!out)
        return VL_NO_MEMORY;
    /* The middle, then axis by axis what stands before and behind it, over what is already filled. */
    vl_tensor middle = *out;
    for (int a = 0; a < from.axes; a++) {
        middle.data += before[a] * middle.strides[a];
        middle.shape[a] = from.shape[a];
    }
    vl_copy(f, &middle, &from);
    for (int a = 0; a < from.axes; a++) {
        vl_tensor slab = middle;
        slab.shape[a] = before[a];
        slab.data -= before[a] * slab.strides[a];
        if (mode == 0) {
            if (before[a])
                fill(f, &slab, value);
            slab.shape[a] = after[a];
            slab.data = middle.data + middle.shape[a] * middle.strides[a];
            if (after[a])
                fill(f, &slab, value);
        } else {
            /* What is copied runs from an element of the middle forward, backward, or stays there. */
            int64_t size = from.shape[a], step = middle.strides[a];
            int64_t first = mode == 1 ? before[a] : mode == 2 ? 0 : size - before[a];
            int64_t last = mode == 1 ? size - 2 : mode == 2 ? size - 1 : 0;
            vl_tensor source = middle;
            source.strides[a] = mode == 1 ? -step : mode == 2 ? 0 : step;
            source.shape[a] = before[a];
            source.data = middle.data + first * step;
            if (before[a])
                vl_copy(f, &slab, &source);
            slab.shape[a] = source.shape[a] = after[a];
            slab.data = middle.data + size * step;
            source.data = middle.data + last * step;
            if (after[a])
                vl_copy(f, &slab, &source);
        }
        middle.data -= before[a] * middle.strides[a];
        middle.shape[a] = shape[a];
    }
    return VL_DONE;
}

/* x, repeats */
static int tile(vl_frame *f, const vl_instruction *i)
{
    const vl_tensor *x = vl_in(f, i, 0);
    int64_t repeats[VL_MOST_AXES], shape[VL_MOST_AXES];
    if (!x || vl_list(vl_in(f, i, 1), repeats, VL_MOST_AXES) != x->axes || 2 * x->axes > VL_MOST_AXES)
        return VL_DECLINED;
    for (int a = 0; a < x->axes; a++)
        if (repeats[a] < 0 || __builtin_mul_overflow(x->shape[a], repeats[a], &shape[a]))
            return VL_DECLINED;
    if (vl_count(x->axes, shape) < 0)
        return VL_DECLINED;
    vl_tensor from = *x, *out = vl_new(f, i, 0, x->type, x->axes, shape);
    if (!out)
        return VL_NO_MEMORY;
    vl_tensor to = *out; /* [repeats, size] for each axis */
    to.axes = (int8_t)(2 * from.axes);
    vl_tensor source = from;
    source.axes = to.axes;
    for (int a = 0; a < from.axes; a++) {
        to.shape[2 * a] = source.shape[2 * a] = repeats[a];
        to.shape[2 * a + 1] = source.shape[2 * a + 1] = from.shape[a];
        to.strides[2 * a] = out->strides[a] * from.shape[a];
        to.strides[2 * a + 1] = out->strides[a];
        source.strides[2 * a] = 0;
        source.strides[2 * a + 1] = from.strides[a];
    }
    vl_copy(f, &to, &source);
    return VL_DONE;
}

/* shape; ints: type, the value's bits */
static int constant_of_shape(vl_frame *f, const vl_instruction *i)
{
    int64_t shape[VL_MOST_AXES];
    int axes = vl_list(vl_in(f, i, 0), shape, VL_MOST_AXES);
    if (axes < 0 || vl_count(axes, shape) < 0 || vl_count(axes, shape) > INT64_C(1) << 31)
        return VL_DECLINED;
    vl_tensor *out = vl_new(f, i, 0, (int)i->ints[0], axes, shape);
    if (!out)
        return VL_NO_MEMORY;
    if (i->ints[1] == 0)
        vl_zero(f, out->data, vl_count(axes, shape) * (int64_t)vl_size_of(out->type));
    else
        fill(f, out, (const char *)&i->ints[1]);
    return VL_DONE;
}

/* "range": start, limit, delta, scalars of one type; no parameters */
#define VL_RANGE(kind, expression)                                                                                     \
    for (int64_t begin = 0, end; begin < count && vl_goes_on(&pace, VL_PIECE); begin = end) {                          \
        end = count - begin < VL_PIECE ? count : begin + VL_PIECE;                                                     \
        for (int64_t k = begin; k < end; k++)                                                                          \
            ((kind *)out->data)[k] = (kind)(expression);                                                               \
    }                                                                                                                  \
    break
static int range(vl_frame *f, const vl_instruction *i)
{
    const vl_tensor *start = vl_in(f, i, 0), *limit = vl_in(f, i, 1), *delta = vl_in(f, i, 2);
    if (!start || !limit || !delta || start->axes || limit->axes || delta->axes || start->type != limit->type ||
        start->type != delta->type)
        return VL_DECLINED;
    const int type = start->type;
    const int64_t bound = INT64_C(1) << 40;
    int64_t first = 0, by = 1, last = 0, count;
    double real = 0, step = 1;
    if (vl_integers(start, &first, 1) == 1) {
        if (vl_integers(limit, &last, 1) != 1 || vl_integers(delta, &by, 1) != 1 || by == 0 || first > bound ||
            first < -bound || last > bound || last < -bound || by > bound || by < -bound)
            return VL_DECLINED;
        count = by > 0 ? (last - first + by - 1) / by : (first - last - by - 1) / -by;
    } else {
        double end;
        if (type == VL_F32) {
            real = *(const float *)start->data;
            end = *(const float *)limit->data;
            step = *(const float *)delta->data;
        } else if (type == VL_F64) {
            real = *(const double *)start->data;
            end = *(const double *)limit->data;
            step = *(const double *)delta->data;
        } else
            return VL_DECLINED;
        const double steps = ceil((end - real) / step);
        if (!(steps < (double)(INT64_C(1) << 31))) /* by 0, or of what is no number */
            return VL_DECLINED;
        count = steps > 0 ? (int64_t)steps : 0;
    }
    count = count < 0 ? 0 : count;
    if (count > INT64_C(1) << 31)
        return VL_DECLINED;
    vl_tensor *out = vl_new(f, i, 0, type, 1, &count);
    if (!out)
        return VL_NO_MEMORY;
    vl_pace pace = vl_pace_of(f);
    switch (type) {
    case VL_F32: VL_RANGE(float, (float)real + (float)k * (float)step);
    case VL_F64: VL_RANGE(double, real + (double)k * step);
    case VL_I32: VL_RANGE(int32_t, first + k * by);
    default: VL_RANGE(int64_t, first + k * by);
    }
    return VL_DONE;
}

const vl_named_handler vl_movement_handlers[] = {
    {"concat", concat}, {"gather", gather}, {"pad", pad}, {"tile", tile}, {"constant_of_shape", constant_of_shape},
    {"range", range},   {NULL, NULL},
};
