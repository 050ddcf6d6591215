/* Resize and Upsample: axis by axis, each output element from one (nearest), two (linear) or four (cubic) of the input's.
 * Places are computed in single precision, as by the Python operator (vledge/graph/operators/resize.py), which says why. */
#include "program.h"

#include <math.h>

enum { VL_NEAREST, VL_LINEAR, VL_CUBIC };
enum { VL_MOST_TAPS = 4 };
enum {
    VL_ALIGN_CORNERS,
    VL_ASYMMETRIC,
    VL_HALF_PIXEL,
    VL_HALF_PIXEL_SYMMETRIC,
    VL_PYTORCH_HALF_PIXEL,
    VL_HALF_PIXEL_NN
};
enum { VL_CEIL, VL_FLOOR, VL_PREFER_CEIL, VL_PREFER_FLOOR, VL_BY_SCALE }; /* the last one before operator set 11 */

/* Of one output element on an axis: the input's elements, and how much each counts. */
typedef struct {
    int64_t from[VL_MOST_TAPS];
    float weight[VL_MOST_TAPS];
} vl_mixed;

typedef struct {
    int mode, coordinates, nearest, exclude_outside;
    double cubic; /* the coefficient a */
} vl_resizing;

static float place_of(const vl_resizing *resizing, int64_t i, int64_t count, int64_t size, double scale)
{
    const float at = (float)i, by = (float)scale;
    const double length = (double)count * scale;
    switch (resizing->coordinates) {
    case VL_ALIGN_CORNERS: return size > 1 ? at * (float)(count - 1) / (float)(length - 1) : 0;
    case VL_ASYMMETRIC: return at / by;
    case VL_PYTORCH_HALF_PIXEL: return size > 1 ? (at + 0.5f) / by - 0.5f : 0;
    case VL_HALF_PIXEL_NN: return (at + 0.5f) / by;
    case VL_HALF_PIXEL_SYMMETRIC:
        return (float)((double)count / 2 * (1 - (double)size / length)) + (at + 0.5f) / by - 0.5f;
    default: return (at + 0.5f) / by - 0.5f;
    }
}

static int64_t within(float place, int64_t count)
{
    return place<1 ? 0 : place>(float)(count - 1) ? count - 1 : (int64_t)place;
}

/* Keys' cubic convolution: of elements up to 2 away */
static double cubic_weight(double a, double d)
{
    if (d <= 1)
        return ((a + 2) * d - (a + 3)) * d * d + 1;
    return d < 2 ? ((a * d - 5 * a) * d + 8 * a) * d - 4 * a : 0;
}

static vl_mixed mixed(const vl_resizing *resizing, float place, int64_t count, double scale)
{
    if (resizing->mode == VL_NEAREST) {
        int nearest = resizing->nearest;
        if (nearest == VL_BY_SCALE)
            nearest = scale < 1 ? VL_CEIL : VL_FLOOR;
        switch (nearest) {
        case VL_CEIL: place = ceilf(place); break;
        case VL_FLOOR: place = floorf(place); break;
        case VL_PREFER_CEIL: place = floorf(place + 0.5f); break;
        default: place = ceilf(place - 0.5f); break;
        }
        return (vl_mixed){{within(place, count)}, {1}};
    }
    const int taps = resizing->mode == VL_LINEAR ? 2 : 4;
    const float base = floorf(place), first = base - (float)(taps / 2 - 1);
    double weight[VL_MOST_TAPS], sum = 0;
    vl_mixed of;
    for (int k = 0; k < taps; k++) {
        const float at = first + (float)k;
        const double distance = fabs((double)(at - base) - (double)(place - base));
        weight[k] = taps == 2 ? fmax(1 - distance, 0) : cubic_weight(resizing->cubic, distance);
        if (resizing->exclude_outside && (at < 0 || at > (float)(count - 1)))
            weight[k] = 0;
        sum += weight[k];
        of.from[k] = within(at, count);
    }
    for (int k = 0; k < taps; k++)
        of.weight[k] = (float)(resizing->exclude_outside ? weight[k] / sum : weight[k]);
    return of;
}

/* x [outer, count, inner] to [outer, size, inner] */
static void along_axis(const vl_frame *f, const vl_resizing *resizing, const vl_mixed *of, int64_t outer, int64_t count,
                       int64_t size, int64_t inner, size_t item, const char *x, char *out)
{
    const size_t row = (size_t)inner * item;
    vl_pace pace = vl_pace_of(f);
    for (int64_t o = 0; o < outer; o++, x += (size_t)count * row)
        for (int64_t j = 0; j < size && vl_goes_on(&pace, inner); j++, out += row) {
            const char *first = x + (size_t)of[j].from[0] * row;
            if (resizing->mode == VL_NEAREST) {
                if (row == 4)
                    memcpy(out, first, 4);
                else if (row % 16 == 0 && row <= 512) /* shorter than a call of memcpy takes */
                    for (size_t k = 0; k < row; k += 16)
                        memcpy(out + k, first + k, 16);
                else
                    memcpy(out, first, row);
                continue;
            }
            const float *a = (const float *)first, *b = (const float *)(x + (size_t)of[j].from[1] * row);
            const float *weight = of[j].weight;
            float *restrict to = (float *)out;
            if (resizing->mode == VL_LINEAR) {
                for (int64_t k = 0; k < inner; k++)
                    to[k] = a[k] * weight[0] + b[k] * weight[1];
                continue;
            }
            const float *c = (const float *)(x + (size_t)of[j].from[2] * row),
                        *d = (const float *)(x + (size_t)of[j].from[3] * row);
            for (int64_t k = 0; k < inner; k++)
                to[k] = a[k] * weight[0] + b[k] * weight[1] + c[k] * weight[2] + d[k] * weight[3];
        }
}

/* The factors of `axes` axes and the sizes that they lead to; 0 where they are not given as lists of so many. */
static int factors_of(const vl_tensor *scales, const vl_tensor *sizes, const vl_tensor *x, const int64_t *over,
                      int axes, double *factors, int64_t *extents)
{
    if (scales && scales->axes == 1 && scales->shape[0] > 0) {
        if (scales->type != VL_F32 || scales->shape[0] != axes)
            return 0;
        for (int k = 0; k < axes; k++) {
            float factor;
            memcpy(&factor, scales->data + k * scales->strides[0], sizeof factor);
            factors[k] = factor;
            const double extent = floor((double)x->shape[over[k]] * factors[k]);
            if (!(factors[k] > 0) || !(extent >= 0 && extent < (double)((int64_t)1 << 40)))
                return 0;
            extents[k] = (int64_t)extent;
        }
        return 1;
    }
    if (vl_list(sizes, extents, VL_MOST_AXES) != axes)
        return 0;
    for (int k = 0; k < axes; k++) {
        if (extents[k] <= 0 || x->shape[over[k]] <= 0)
            return 0;
        factors[k] = (double)extents[k] / (double)x->shape[over[k]];
    }
    return 1;
}

/* What each element of an axis is made of; whether that is the axis as it is. */
static int mix_axis(const vl_resizing *resizing, int64_t count, int64_t size, double scale, vl_mixed *of)
{
    int as_it_is = size == count;
    for (int64_t j = 0; j < size; j++) {
        const float place = place_of(resizing, j, count, size, scale);
        as_it_is &= place == (float)j;
        of[j] = mixed(resizing, place, count, scale);
    }
    return as_it_is;
}

/* Those of some axes that lie innermost, by the order of axes in memory, first. */
static void sort_by_place(int *some, int count, const int64_t *axis_of, const int8_t *order, int rank)
{
    int place[VL_MOST_AXES] = {0};
    for (int m = 0; m < rank; m++)
        place[order[m]] = m;
    for (int n = 1; n < count; n++)
        for (int k = n; k > 0 && place[axis_of[some[k]]] > place[axis_of[some[k - 1]]]; k--) {
            const int other = some[k];
            some[k] = some[k - 1];
            some[k - 1] = other;
        }
}

/* "resize": x; ints: mode, coordinates, nearest, whether what is outside counts for nothing, which inputs the scales
 * and the sizes are (-1: none), then the axes, or none for all; floats: the cubic's coefficient */
static int resize(vl_frame *f, const vl_instruction *i)
{
    const vl_tensor *given = vl_in(f, i, 0);
    const vl_resizing resizing = {(int)i->ints[0], (int)i->ints[1], (int)i->ints[2], (int)i->ints[3], i->floats[0]};
    if (!given || (resizing.mode != VL_NEAREST && given->type != VL_F32))
        return VL_DECLINED;
    int axes = i->int_count - 6;
    int64_t over[VL_MOST_AXES], extents[VL_MOST_AXES];
    double factors[VL_MOST_AXES];
    if (axes > given->axes)
        return VL_DECLINED;
    for (int k = 0; k < axes; k++)
        if ((over[k] = vl_axis(i->ints[6 + k], given->axes)) < 0)
            return VL_DECLINED;
    if (axes == 0)
        for (axes = 0; axes < given->axes; axes++)
            over[axes] = axes;
    const vl_tensor *scales = i->ints[4] < 0 ? NULL : vl_in(f, i, (int)i->ints[4]);
    const vl_tensor *sizes = i->ints[5] < 0 ? NULL : vl_in(f, i, (int)i->ints[5]);
    if (!factors_of(scales, sizes, given, over, axes, factors, extents))
        return VL_DECLINED;
    int64_t shape[VL_MOST_AXES], longest = 1;
    memcpy(shape, given->shape, sizeof shape);
    if (vl_count(given->axes, shape) <= 0)
        return VL_DECLINED;
    for (int k = 0; k < axes; k++) {
        shape[over[k]] = extents[k];
        longest = extents[k] > longest ? extents[k] : longest;
    }
    if (vl_count(given->axes, shape) <= 0)
        return VL_DECLINED;
    /* axes as they lie in memory, if there are no gaps */
    const size_t item = vl_size_of(given->type);
    const int rank = given->axes;
    vl_tensor x = *given, copy = {.block = NULL};
    int8_t order[VL_MOST_AXES];
    vl_order_of(&x, order);
    int64_t step = (int64_t)item;
    int dense = 1;
    for (int k = rank - 1; k >= 0; k--) {
        dense &= x.shape[order[k]] == 1 || x.strides[order[k]] == step;
        step *= x.shape[order[k]];
    }
    if (!dense) {
        if (!vl_contiguous(f, given, &copy))
            return VL_NO_MEMORY;
        x = copy;
        for (int k = 0; k < rank; k++)
            order[k] = (int8_t)k;
    }
    /* The axes that change: those of nearest elements, which only move them, innermost first, for then the outer ones
     * move long runs. */
    int changing[VL_MOST_AXES], changes = 0;
    vl_block *mixes = vl_block_new(f, (size_t)longest * sizeof(vl_mixed));
    for (int k = 0; mixes && k < axes; k++)
        if (!mix_axis(&resizing, given->shape[over[k]], extents[k], factors[k], (vl_mixed *)mixes->data))
            changing[changes++] = k;
    if (resizing.mode == VL_NEAREST)
        sort_by_place(changing, changes, over, order, rank);
    vl_block *between[2] = {NULL, NULL};
    int64_t on_the_way[VL_MOST_AXES], most = 0; /* elements of the largest result on the way */
    memcpy(on_the_way, given->shape, sizeof on_the_way);
    for (int n = 0; n < changes - 1; n++) {
        on_the_way[over[changing[n]]] = extents[changing[n]];
        const int64_t elements = vl_count(rank, on_the_way);
        most = elements < 0 || elements > most ? elements : most;
        if (most < 0)
            break;
    }
    int room = mixes && most >= 0;
    for (int turn = 0; turn < 2 && turn < changes - 1 && room; turn++)
        room = (between[turn] = vl_block_new(f, (size_t)most * item)) != NULL;
    vl_tensor *out = room ? vl_new_in_order(f, i, 0, x.type, rank, shape, order) : NULL;
    if (out) {
        const char *from = x.data;
        if (changes == 0)
            vl_copy(f, out, &x);
        memcpy(shape, x.shape, sizeof shape);
        for (int n = 0; n < changes; n++) {
            const int k = changing[n], axis = (int)over[k];
            const int64_t count = shape[axis], size = extents[k];
            mix_axis(&resizing, count, size, factors[k], (vl_mixed *)mixes->data);
            int64_t outer = 1, inner = 1, behind = 0;
            for (int m = 0; m < rank; m++) {
                if (order[m] == axis)
                    behind = 1;
                else if (behind)
                    inner *= shape[order[m]];
                else
                    outer *= shape[order[m]];
            }
            char *to = n == changes - 1 ? out->data : between[n % 2]->data;
            along_axis(f, &resizing, (vl_mixed *)mixes->data, outer, count, size, inner, item, from, to);
            shape[axis] = size;
            from = to;
        }
    }
    vl_block_drop(f, mixes);
    vl_block_drop(f, between[0]);
    vl_block_drop(f, between[1]);
    vl_block_drop(f, copy.block);
    return out ? VL_DONE : VL_NO_MEMORY;
}

const vl_named_handler vl_resize_handlers[] = {{"resize", resize}, {NULL, NULL}};
