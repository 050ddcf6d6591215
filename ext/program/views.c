/* Other shapes of the same elements: outputs share their input's memory wherever strides can say it. */
#include "program.h"

/* x again as a C-contiguous tensor of another shape, the n-th output; x's strides or a copy. */
static int reshaped(vl_frame *f, const vl_instruction *i, const vl_tensor *x, int axes, const int64_t *shape)
{
    int64_t strides[VL_MOST_AXES];
    /* The new axes run over old ones: each new run of axes must be made of old axes that are one run. */
    int old = 0, fresh = 0, fits = 1;
    if (vl_count(x->axes, x->shape) != 0) {
        while (fits && fresh < axes) {
            if (shape[fresh] == 1) {
                strides[fresh++] = (int64_t)vl_size_of(x->type);
                continue;
            }
            while (old < x->axes && x->shape[old] == 1)
                old++;
            int64_t have = x->shape[old], want = shape[fresh];
            int old_end = old + 1, fresh_end = fresh + 1;
            while (have != want) {
                if (have < want) {
                    while (x->shape[old_end] == 1)
                        old_end++;
                    int last = old_end - 1;
                    while (x->shape[last] == 1)
                        last--;
                    if (x->strides[last] != x->strides[old_end] * x->shape[old_end])
                        fits = 0;
                    have *= x->shape[old_end++];
                } else
                    want *= shape[fresh_end++];
            }
            int64_t step = x->strides[old_end - 1];
            for (int a = fresh_end - 1; a >= fresh; a--) {
                strides[a] = step;
                step *= shape[a];
            }
            old = old_end;
            fresh = fresh_end;
        }
        if (fits) {
            vl_tensor *out = vl_share(f, i, 0, x);
            out->axes = (int8_t)axes;
            for (int a = 0; a < axes; a++) {
                out->shape[a] = shape[a];
                out->strides[a] = strides[a];
            }
            return VL_DONE;
        }
    }
    vl_tensor from = *x, *out = vl_new(f, i, 0, x->type, axes, shape);
    if (!out)
        return VL_NO_MEMORY;
    vl_tensor to = *out;
    to.axes = from.axes;
    memcpy(to.shape, from.shape, sizeof to.shape);
    vl_set_contiguous(&to);
    vl_copy(f, &to, &from);
    return VL_DONE;
}

/* The node's integers: its n-th input where it names one (that must be a tensor), else ints[first ...]. */
static int integers(vl_frame *f, const vl_instruction *i, int n, int first, int64_t *values)
{
    if (vl_has_in(i, n))
        return vl_integers(vl_in(f, i, n), values, VL_MOST_AXES);
    int count = i->int_count - first;
    if (count > VL_MOST_AXES)
        return -1;
    for (int k = 0; k < count; k++)
        values[k] = i->ints[first + k];
    return count;
}

/* x, shape or ints[1 ...]; ints[0]: allowzero */
static int reshape(vl_frame *f, const vl_instruction *i)
{
    const vl_tensor *x = vl_in(f, i, 0);
    int64_t shape[VL_MOST_AXES], known = 1;
    int axes = integers(f, i, 1, 1, shape), open = -1;
    if (!x || axes < 0 || (vl_has_in(i, 1) && vl_in(f, i, 1)->axes != 1))
        return VL_DECLINED;
    for (int a = 0; a < axes; a++) {
        if (shape[a] == 0 && !i->ints[0]) {
            if (a >= x->axes)
                return VL_DECLINED;
            shape[a] = x->shape[a];
        }
        if (shape[a] == -1) {
            if (open >= 0)
                return VL_DECLINED;
            open = a;
        } else if (shape[a] < 0 || __builtin_mul_overflow(known, shape[a], &known))
            return VL_DECLINED;
    }
    int64_t count = vl_count(x->axes, x->shape);
    if (open >= 0) {
        if (known == 0 || count % known)
            return VL_DECLINED;
        shape[open] = count / known;
        known *= shape[open];
    }
    if (known != count)
        return VL_DECLINED;
    return reshaped(f, i, x, axes, shape);
}

/* x; ints[0]: axis */
static int flatten(vl_frame *f, const vl_instruction *i)
{
    const vl_tensor *x = vl_in(f, i, 0);
    if (!x)
        return VL_DECLINED;
    int64_t axis = i->ints[0] < 0 ? i->ints[0] + x->axes : i->ints[0], shape[2] = {1, 1};
    if (axis < 0 || axis > x->axes)
        return VL_DECLINED;
    for (int a = 0; a < x->axes; a++)
        shape[a >= axis] *= x->shape[a];
    return reshaped(f, i, x, 2, shape);
}

static int identity(vl_frame *f, const vl_instruction *i)
{
    const vl_tensor *x = vl_in(f, i, 0);
    if (!x)
        return VL_DECLINED;
    vl_share(f, i, 0, x);
    return VL_DONE;
}

/* x, axes or ints; none: every axis of size 1 */
static int squeeze(vl_frame *f, const vl_instruction *i)
{
    const vl_tensor *x = vl_in(f, i, 0);
    int64_t axes[VL_MOST_AXES];
    int count = integers(f, i, 1, 0, axes), gone[VL_MOST_AXES] = {0};
    if (!x || count < 0)
        return VL_DECLINED;
    int all = count == 0;
    for (int k = 0; k < count; k++) {
        int axis = vl_axis(axes[k], x->axes);
        if (axis < 0 || x->shape[axis] != 1)
            return VL_DECLINED;
        gone[axis] = 1;
    }
    vl_tensor from = *x, *out = vl_share(f, i, 0, x);
    out->axes = 0;
    for (int a = 0; a < from.axes; a++)
        if (all ? from.shape[a] != 1 : !gone[a]) {
            out->shape[out->axes] = from.shape[a];
            out->strides[out->axes++] = from.strides[a];
        }
    return VL_DONE;
}

/* x, axes or ints */
static int unsqueeze(vl_frame *f, const vl_instruction *i)
{
    const vl_tensor *x = vl_in(f, i, 0);
    int64_t axes[VL_MOST_AXES];
    int count = integers(f, i, 1, 0, axes), fresh[VL_MOST_AXES] = {0};
    if (!x || count < 0 || x->axes + count > VL_MOST_AXES)
        return VL_DECLINED;
    int rank = x->axes + count;
    for (int k = 0; k < count; k++) {
        int axis = vl_axis(axes[k], rank);
        if (axis < 0 || fresh[axis])
            return VL_DECLINED;
        fresh[axis] = 1;
    }
    vl_tensor from = *x, *out = vl_share(f, i, 0, x);
    out->axes = (int8_t)rank;
    for (int a = 0, old = 0; a < rank; a++) {
        out->shape[a] = fresh[a] ? 1 : from.shape[old];
        out->strides[a] = fresh[a] ? (int64_t)vl_size_of(from.type) : from.strides[old++];
    }
    return VL_DONE;
}

/* x; ints: the axis that each of the output's is, or none for all in reverse */
static int transpose(vl_frame *f, const vl_instruction *i)
{
    const vl_tensor *x = vl_in(f, i, 0);
    if (!x || (i->int_count && i->int_count != x->axes))
        return VL_DECLINED;
    vl_tensor from = *x;
    int seen[VL_MOST_AXES] = {0}, order[VL_MOST_AXES];
    for (int a = 0; a < from.axes; a++) {
        order[a] = i->int_count ? vl_axis(i->ints[a], from.axes) : from.axes - 1 - a;
        if (order[a] < 0 || seen[order[a]]++)
            return VL_DECLINED;
    }
    vl_tensor *out = vl_share(f, i, 0, x);
    for (int a = 0; a < from.axes; a++) {
        out->shape[a] = from.shape[order[a]];
        out->strides[a] = from.strides[order[a]];
    }
    return VL_DONE;
}

/* x, starts, ends, axes, steps; or without inputs but x: ints = count, starts, ends, axes */
static int slice(vl_frame *f, const vl_instruction *i)
{
    const vl_tensor *x = vl_in(f, i, 0);
    int64_t starts[VL_MOST_AXES], ends[VL_MOST_AXES], axes[VL_MOST_AXES], steps[VL_MOST_AXES];
    if (!x)
        return VL_DECLINED;
    int count;
    if (i->int_count) {
        count = (int)i->ints[0];
        if (count > VL_MOST_AXES || i->int_count != 1 + 3 * count) /* a file's lists may differ in length */
            return VL_DECLINED;
        memcpy(starts, i->ints + 1, (size_t)count * 8);
        memcpy(ends, i->ints + 1 + count, (size_t)count * 8);
        memcpy(axes, i->ints + 1 + 2 * count, (size_t)count * 8);
    } else {
        count = vl_integers(vl_in(f, i, 1), starts, VL_MOST_AXES);
        if (count < 0 || vl_integers(vl_in(f, i, 2), ends, VL_MOST_AXES) != count)
            return VL_DECLINED;
        for (int k = 0; k < count; k++)
            axes[k] = k;
        if (vl_has_in(i, 3) && vl_integers(vl_in(f, i, 3), axes, VL_MOST_AXES) != count)
            return VL_DECLINED;
    }
    for (int k = 0; k < count; k++)
        steps[k] = 1;
    if (vl_has_in(i, 4) && vl_integers(vl_in(f, i, 4), steps, VL_MOST_AXES) != count)
        return VL_DECLINED;
    vl_tensor view = *x;
    int seen[VL_MOST_AXES] = {0};
    for (int k = 0; k < count; k++) {
        int axis = vl_axis(axes[k], view.axes);
        int64_t step = steps[k], start = starts[k], end = ends[k];
        if (axis < 0 || seen[axis]++ || step == 0 || step < -INT64_C(0x80000000) || step > INT64_C(0x80000000))
            return VL_DECLINED;
        int64_t size = view.shape[axis], length;
        if (start < 0)
            start = start < -size ? 0 : start + size; /* an ONNX start before the first is the first */
        if (end < 0)
            end = end < -size ? -1 : end + size;
        if (step > 0) {
            start = start > size ? size : start;
            end = end > size ? size : end < 0 ? 0 : end;
            length = end > start ? (end - start + step - 1) / step : 0;
        } else {
            start = start > size - 1 ? size - 1 : start;
            end = end > size - 1 ? size - 1 : end;
            length = start > end ? (start - end - step - 1) / -step : 0;
        }
        if (length > 0)
            view.data += start * view.strides[axis];
        view.shape[axis] = length;
        view.strides[axis] *= step;
    }
    *vl_share(f, i, 0, x) = view;
    return VL_DONE;
}

/* x, sizes or ints[2 ...]; ints[0]: axis, ints[1]: 1 where sizes come from neither: equal parts, the last smaller */
static int split(vl_frame *f, const vl_instruction *i)
{
    const vl_tensor *x = vl_in(f, i, 0);
    int64_t sizes[64], total = 0;
    int count = i->output_count;
    int axis = x ? vl_axis(i->ints[0], x->axes) : -1;
    if (axis < 0 || count > 64)
        return VL_DECLINED;
    if (vl_has_in(i, 1)) {
        if (vl_list(vl_in(f, i, 1), sizes, 64) != count)
            return VL_DECLINED;
    } else if (i->ints[1]) {
        int64_t part = (x->shape[axis] + count - 1) / count;
        for (int k = 0; k < count; k++) {
            sizes[k] = part < x->shape[axis] - total ? part : x->shape[axis] - total;
            total += sizes[k];
        }
        if (sizes[count - 1] <= 0 && count > 1)
            return VL_DECLINED;
        total = 0;
    } else {
        if (i->int_count - 2 != count)
            return VL_DECLINED;
        memcpy(sizes, i->ints + 2, (size_t)count * 8);
    }
    for (int k = 0; k < count; k++) {
        if (sizes[k] < 0 || sizes[k] > x->shape[axis])
            return VL_DECLINED;
        total += sizes[k];
    }
    if (total != x->shape[axis])
        return VL_DECLINED;
    vl_tensor from = *x;
    total = 0;
    for (int k = 0; k < count; k++) {
        if (vl_wants(i, k)) {
            vl_tensor *out = vl_share(f, i, k, &from);
            out->shape[axis] = sizes[k];
            out->data += total * from.strides[axis];
        }
        total += sizes[k];
    }
    return VL_DONE;
}

/* x, shape: broadcast together */
static int expand(vl_frame *f, const vl_instruction *i)
{
    const vl_tensor *x = vl_in(f, i, 0);
    int64_t shape[VL_MOST_AXES];
    int count = vl_integers(vl_in(f, i, 1), shape, VL_MOST_AXES);
    if (!x || count < 0)
        return VL_DECLINED;
    int axes = count > x->axes ? count : x->axes;
    vl_tensor view = *x;
    view.axes = (int8_t)axes;
    for (int a = axes - 1; a >= 0; a--) {
        int own = a - (axes - x->axes), wanted = a - (axes - count);
        int64_t have = own >= 0 ? x->shape[own] : 1, want = wanted >= 0 ? shape[wanted] : 1;
        if (want < 0 || (have != want && have != 1 && want != 1))
            return VL_DECLINED;
        view.shape[a] = have == 1 ? want : have;
        view.strides[a] = have == 1 ? 0 : x->strides[own];
    }
    /* a view takes no memory, but who reads it is at it as long as for an array */
    int64_t elements = vl_count(axes, view.shape);
    if (elements < 0 || (size_t)elements * vl_size_of(x->type) > f->most)
        return VL_DECLINED;
    *vl_share(f, i, 0, x) = view;
    return VL_DONE;
}

/* x; ints: start, end */
static int shape_of(vl_frame *f, const vl_instruction *i)
{
    const vl_tensor *x = vl_in(f, i, 0);
    if (!x)
        return VL_DECLINED;
    int64_t sizes[VL_MOST_AXES], start = i->ints[0], end = i->ints[1], axes = x->axes;
    memcpy(sizes, x->shape, sizeof sizes);
    start = start < 0 ? (start < -axes ? 0 : start + axes) : start > axes ? axes : start;
    end = end < 0 ? (end < -axes ? 0 : end + axes) : end > axes ? axes : end;
    int64_t count = end > start ? end - start : 0;
    vl_tensor *out = vl_new(f, i, 0, VL_I64, 1, &count);
    if (!out)
        return VL_NO_MEMORY;
    memcpy(out->data, sizes + start, (size_t)count * 8);
    return VL_DONE;
}

static int size_of(vl_frame *f, const vl_instruction *i)
{
    const vl_tensor *x = vl_in(f, i, 0);
    if (!x)
        return VL_DECLINED;
    int64_t count = vl_count(x->axes, x->shape);
    vl_tensor *out = vl_new(f, i, 0, VL_I64, 0, NULL);
    if (!out)
        return VL_NO_MEMORY;
    memcpy(out->data, &count, 8);
    return VL_DONE;
}

const vl_named_handler vl_views_handlers[] = {
    {"reshape", reshape},     {"flatten", flatten},     {"identity", identity}, {"squeeze", squeeze},
    {"unsqueeze", unsqueeze}, {"transpose", transpose}, {"slice", slice},       {"split", split},
    {"expand", expand},       {"shape", shape_of},      {"size", size_of},      {NULL, NULL},
};
