/* TopK: the k greatest or least of each row, sorted; of equals the one with the lower index first. NaN is greatest.
 * Unique: what is there once. */
#include "program.h"

#include <math.h>
#include <stdlib.h>

typedef struct {
    double key;                         /* of float32 exactly, of int64 up to 2^53 */
    int64_t index;
} vl_entry_of_row;

/* Whether a stands in front of b. */
static inline int before(const vl_entry_of_row *a, const vl_entry_of_row *b, int largest)
{
    int a_nan = a->key != a->key, b_nan = b->key != b->key;
    if (a_nan || b_nan) {
        if (a_nan != b_nan)
            return largest ? a_nan : b_nan;
    } else if (a->key != b->key)
        return largest ? a->key > b->key : a->key < b->key;
    return a->index < b->index;
}

/* What a walk through a large heap takes, most of it waiting for memory, in elements. */
enum { VL_ELEMENTS_OF_A_SIFT = 64, VL_ELEMENTS_OF_A_SHORT_SIFT = 8 /* from near the leaves, as most are at first */ };

/* heap[0] is the one that stands last */
static void sift(vl_entry_of_row *heap, int64_t n, int64_t at, int largest)
{
    vl_entry_of_row moved = heap[at];
    for (int64_t child; (child = 2 * at + 1) < n; at = child) {
        if (child + 1 < n && before(&heap[child], &heap[child + 1], largest))
            child++;
        if (!before(&moved, &heap[child], largest))
            break;
        heap[at] = heap[child];
    }
    heap[at] = moved;
}

static double key_of(const vl_tensor *t, const char *p)
{
    switch (t->type) {
    case VL_F32: return *(const float *)p;
    case VL_F64: return *(const double *)p;
    case VL_I64: return (double)*(const int64_t *)p;
    default: return *(const int32_t *)p;
    }
}

/* "topk": ints: axis, whether the largest are wanted, k (-1: it is the second input). Outputs: values, indices. */
static int topk(vl_frame *f, const vl_instruction *i)
{
    const vl_tensor *t = vl_in(f, i, 0);
    const int largest = (int)i->ints[1];
    int64_t k = i->ints[2];
    if (!t || (t->type != VL_F32 && t->type != VL_F64 && t->type != VL_I64 && t->type != VL_I32) ||
        (k < 0 && vl_integers(vl_in(f, i, 1), &k, 1) != 1))
        return VL_DECLINED;
    const int axis = vl_axis(i->ints[0], t->axes);
    const size_t size = vl_size_of(t->type);
    if (axis < 0 || vl_count(t->axes, t->shape) <= 0 || k < 1 || k > t->shape[axis] || (uintptr_t)t->data % size)
        return VL_DECLINED;
    for (int a = 0; a < t->axes; a++)
        if (t->shape[a] != 1 && t->strides[a] % (int64_t)size)
            return VL_DECLINED;
    const vl_tensor from = *t;
    const int64_t n = from.shape[axis], rows = vl_count(from.axes, from.shape) / n, step = from.strides[axis];
    vl_pace pace = vl_pace_of(f);
    if (from.type == VL_I64) /* keys are exact up to here */
        for (int64_t row = 0, index[VL_MOST_AXES] = {0}; row < rows * n && vl_goes_on(&pace, 1); row++) {
            const char *p = from.data;
            for (int a = 0; a < from.axes; a++)
                p += index[a] * from.strides[a];
            if (llabs(*(const int64_t *)p) > (int64_t)1 << 53)
                return VL_DECLINED;
            for (int a = from.axes - 1; a >= 0 && ++index[a] == from.shape[a]; a--)
                index[a] = 0;
        }
    vl_block *memory = vl_block_new(f, (size_t)k * sizeof(vl_entry_of_row));
    if (!memory)
        return VL_NO_MEMORY;
    int64_t shape[VL_MOST_AXES], index[VL_MOST_AXES] = {0};
    memcpy(shape, from.shape, sizeof shape);
    shape[axis] = k;
    vl_tensor *values = NULL, *places = NULL;
    int fits = 1;
    if (vl_wants(i, 0))
        fits = (values = vl_new(f, i, 0, from.type, from.axes, shape)) != NULL;
    if (fits && vl_wants(i, 1))
        fits = (places = vl_new(f, i, 1, VL_I64, from.axes, shape)) != NULL;
    vl_entry_of_row *heap = (vl_entry_of_row *)memory->data;
    for (int64_t row = 0; fits && row < rows && !vl_has_ended(f->heed); row++) {
        const char *p = from.data;
        int64_t at = 0, inner = 1, out_step = 1;
        for (int a = from.axes - 1; a >= 0; a--) {
            if (a == axis)
                out_step = inner;
            else {
                p += index[a] * from.strides[a];
                at += index[a] * inner;
            }
            inner *= shape[a];
        }
        for (int64_t j = 0; j < n && vl_goes_on(&pace, 1); j++) {
            if (j >= k && from.type == VL_F32) { /* most come too late, and are done with here */
                const float x = *(const float *)(p + j * step);
                if (largest ? x <= heap[0].key : x >= heap[0].key)
                    continue;
            }
            vl_entry_of_row own = {key_of(&from, p + j * step), j};
            if (j < k) {
                heap[j] = own;
                if (j == k - 1)
                    for (int64_t h = k / 2 - 1; h >= 0 && vl_goes_on(&pace, VL_ELEMENTS_OF_A_SHORT_SIFT); h--)
                        sift(heap, k, h, largest);
            } else if (own.key != own.key || heap[0].key != heap[0].key ||
                       (largest ? own.key > heap[0].key : own.key < heap[0].key)) {
                if (!before(&own, &heap[0], largest) || !vl_goes_on(&pace, VL_ELEMENTS_OF_A_SIFT))
                    continue;
                heap[0] = own;
                sift(heap, k, 0, largest);
            }
        }
        if (vl_has_ended(f->heed)) /* with a heap that is not full */
            break;
        for (int64_t left = k - 1; left > 0 && vl_goes_on(&pace, VL_ELEMENTS_OF_A_SIFT);
             left--) { /* the last to the end */
            vl_entry_of_row last = heap[0];
            heap[0] = heap[left];
            heap[left] = last;
            sift(heap, left, 0, largest);
        }
        for (int64_t j = 0; j < k && vl_goes_on(&pace, 1); j++) {
            if (values)
                memcpy(values->data + (size_t)(at + j * out_step) * size, p + heap[j].index * step, size);
            if (places)
                ((int64_t *)places->data)[at + j * out_step] = heap[j].index;
        }
        for (int a = from.axes - 1; a >= 0; a--)
            if (a != axis) {
                if (++index[a] < from.shape[a])
                    break;
                index[a] = 0;
            }
    }
    vl_block_drop(f, memory);
    return fits ? VL_DONE : VL_NO_MEMORY;
}

/* ---- Unique ------------------------------------------------------------------------------------------------ */

/* Rows of so many elements each, side by side: what is compared. */
typedef struct {
    const char *data;
    int64_t width;
    int type;
} vl_rows;

/* Whole numbers of any type but uint64 */
static int64_t whole_of(const vl_rows *rows, int64_t k)
{
    switch (rows->type) {
    case VL_I64: return ((const int64_t *)rows->data)[k];
    case VL_I32: return ((const int32_t *)rows->data)[k];
    case VL_I16: return ((const int16_t *)rows->data)[k];
    case VL_I8: return ((const int8_t *)rows->data)[k];
    case VL_U32: return ((const uint32_t *)rows->data)[k];
    case VL_U16: return ((const uint16_t *)rows->data)[k];
    default: return ((const uint8_t *)rows->data)[k];
    }
}

/* -1, 0 or 1 as a stands before b, with it, or behind it. NaN is greatest, and like itself. */
static inline int order_of_reals(double a, double b)
{
    return a < b ? -1 : a > b ? 1 : a == b ? 0 : (a != a) - (b != b);
}

static int order_of(const vl_rows *rows, int64_t a, int64_t b)
{
    for (int64_t k = 0; k < rows->width; k++) {
        const int64_t p = a * rows->width + k, q = b * rows->width + k;
        int order;
        if (rows->type == VL_F32)
            order = order_of_reals(((const float *)rows->data)[p], ((const float *)rows->data)[q]);
        else if (rows->type == VL_F64)
            order = order_of_reals(((const double *)rows->data)[p], ((const double *)rows->data)[q]);
        else {
            const int64_t x = whole_of(rows, p), y = whole_of(rows, q);
            order = (x > y) - (x < y);
        }
        if (order)
            return order;
    }
    return 0;
}

/* The rows' numbers sorted by what the rows hold, of equal ones the lower first: merged from runs of one on. Returns the
 * array that has them, of the two; NULL where Ctrl-C has ended it. */
static int64_t *sorted_rows(const vl_rows *rows, int64_t n, int64_t *numbers, int64_t *other, vl_pace *pace)
{
    for (int64_t k = 0; k < n && vl_goes_on(pace, 1); k++)
        numbers[k] = k;
    for (int64_t length = 1; length < n; length *= 2) {
        for (int64_t begin = 0; begin < n; begin += 2 * length) {
            const int64_t middle = n - begin < length ? n : begin + length,
                          end = n - begin < 2 * length ? n : begin + 2 * length;
            int64_t a = begin, b = middle, to = begin;
            while (a < middle && b < end) {
                if (!vl_goes_on(pace, rows->width))
                    return NULL;
                other[to++] = order_of(rows, numbers[b], numbers[a]) < 0 ? numbers[b++] : numbers[a++];
            }
            const int64_t *rest = a < middle ? numbers + a : numbers + b;
            for (; to < end && vl_goes_on(pace, 1); to++)
                other[to] = *rest++;
        }
        if (vl_has_ended(pace->heed))
            return NULL;
        int64_t *swapped = numbers;
        numbers = other;
        other = swapped;
    }
    return numbers;
}

/* From so many elements on they are sorted by their digits: from there on that is the quicker way. */
enum { VL_BY_DIGITS = 256, VL_DIGITS = 8 };

typedef struct {
    uint64_t key;
    int64_t number;
} vl_keyed;

/* A number that stands to others' as the element does to others: by order_of. */
static uint64_t order_key(const vl_rows *rows, int64_t k)
{
    const uint64_t sign = (uint64_t)1 << 63;
    if (rows->type != VL_F32 && rows->type != VL_F64)
        return (uint64_t)whole_of(rows, k) ^ sign;
    const double x = rows->type == VL_F32 ? (double)((const float *)rows->data)[k] : ((const double *)rows->data)[k];
    if (isnan(x))
        return UINT64_MAX;
    if (x == 0) /* of either sign */
        return sign;
    uint64_t bits;
    memcpy(&bits, &x, sizeof bits);
    return bits & sign ? ~bits : bits | sign;
}

/* What sorted_rows gives, of rows of one element: by one digit of the keys after the other, the lowest first, without
 * those that all share. A merge would look up two elements in far places for each that it moves. */
static int64_t *sorted_elements(const vl_rows *rows, int64_t n, int64_t *numbers, vl_keyed *keyed, vl_keyed *other,
                                vl_pace *pace)
{
    int64_t counts[VL_DIGITS][256] = {{0}};
    for (int64_t k = 0; k < n && vl_goes_on(pace, 1); k++) {
        keyed[k] = (vl_keyed){order_key(rows, k), k};
        for (int digit = 0; digit < VL_DIGITS; digit++)
            counts[digit][keyed[k].key >> 8 * digit & 255]++;
    }
    for (int digit = 0; digit < VL_DIGITS; digit++) {
        if (vl_has_ended(pace->heed))
            return NULL;
        int64_t *places = counts[digit], sum = 0;
        if (places[keyed[0].key >> 8 * digit & 255] == n)
            continue;
        for (int value = 0; value < 256; value++) {
            const int64_t count = places[value];
            places[value] = sum;
            sum += count;
        }
        for (int64_t k = 0; k < n && vl_goes_on(pace, 1); k++)
            other[places[keyed[k].key >> 8 * digit & 255]++] = keyed[k];
        vl_keyed *swapped = keyed;
        keyed = other;
        other = swapped;
    }
    for (int64_t k = 0; k < n && vl_goes_on(pace, 1); k++)
        numbers[k] = keyed[k].number;
    return vl_has_ended(pace->heed) ? NULL : numbers;
}

/* What is there once: of each group its first row, how many it has, and for each row which group it is in. */
typedef struct {
    int64_t groups;
    int64_t *first, *count, *group_of;
} vl_groups;

static void group_rows(const vl_rows *rows, int64_t n, const int64_t *order, vl_groups *g, vl_pace *pace)
{
    for (int64_t k = 0; k < n && vl_goes_on(pace, rows->width); k++) {
        if (k == 0 || order_of(rows, order[k - 1], order[k])) {
            g->first[g->groups] = order[k];
            g->count[g->groups++] = 0;
        }
        g->count[g->groups - 1]++;
        g->group_of[order[k]] = g->groups - 1;
    }
}

/* Groups in the order in which they first appear; `spare` is as long as there are groups. */
static void by_appearance(int64_t n, vl_groups *g, int64_t *spare, vl_pace *pace)
{
    int64_t seen = 0;
    for (int64_t k = 0; k < n && vl_goes_on(pace, 1); k++)
        if (g->first[g->group_of[k]] == k)
            spare[g->group_of[k]] = seen++;
    for (int64_t k = 0; k < n && vl_goes_on(pace, 1); k++)
        g->group_of[k] = spare[g->group_of[k]];
    for (int64_t group = 0; group < g->groups; group++)
        g->count[group] = 0;
    for (int64_t k = n - 1; k >= 0 && vl_goes_on(pace, 1); k--) {
        g->first[g->group_of[k]] = k;
        g->count[g->group_of[k]]++;
    }
}

/* x with an axis in front, without gaps: the input itself where it lies so. NULL when memory is out. */
static const vl_tensor *rows_along(vl_frame *f, const vl_tensor *x, int axis, vl_tensor *turned, vl_tensor *copy)
{
    *turned = *x;
    for (int a = axis; a > 0; a--) {
        turned->shape[a] = x->shape[a - 1];
        turned->strides[a] = x->strides[a - 1];
    }
    if (axis >= 0) {
        turned->shape[0] = x->shape[axis];
        turned->strides[0] = x->strides[axis];
    }
    return vl_contiguous(f, turned, copy);
}

static int has_nan(const vl_rows *rows, int64_t n, vl_pace *pace)
{
    if (rows->type != VL_F32 && rows->type != VL_F64)
        return 0;
    for (int64_t k = 0; k < n * rows->width && vl_goes_on(pace, 1); k++)
        if (rows->type == VL_F32 ? isnan(((const float *)rows->data)[k]) : isnan(((const double *)rows->data)[k]))
            return 1;
    return 0;
}

/* "unique": x; ints: whether there is an axis, which, whether the result is sorted. Outputs: what is there once, where it
 * is first, which of them each element is, how many there are of each. */
static int unique(vl_frame *f, const vl_instruction *i)
{
    const vl_tensor *x = vl_in(f, i, 0);
    if (!x || x->type == VL_F16 || x->type == VL_U64 || vl_count(x->axes, x->shape) <= 0 ||
        (uintptr_t)x->data % vl_size_of(x->type))
        return VL_DECLINED;
    const int axis = i->ints[0] ? vl_axis(i->ints[1], x->axes) : -1;
    if (i->ints[0] && axis < 0)
        return VL_DECLINED;
    const int64_t n = axis < 0 ? vl_count(x->axes, x->shape) : x->shape[axis];
    const vl_tensor whole = *x;
    const size_t size = vl_size_of(whole.type);
    vl_tensor turned, copy;
    const vl_tensor *laid = rows_along(f, x, axis, &turned, &copy);
    if (!laid)
        return VL_NO_MEMORY;
    const vl_rows rows = {laid->data, vl_count(whole.axes, whole.shape) / n, whole.type};
    vl_pace pace = vl_pace_of(f);
    if (axis >= 0 && has_nan(&rows, n, &pace)) { /* rows with it are like none */
        vl_block_drop(f, copy.block);
        return VL_DECLINED;
    }
    enum { ORDER, OTHER, FIRST, COUNT, GROUP_OF, ARRAYS };
    vl_block *memory = vl_block_new(f, (size_t)(n * ARRAYS) * sizeof(int64_t));
    int status = memory ? VL_DONE : VL_NO_MEMORY;
    vl_groups g = {0};
    if (memory) {
        int64_t *base = (int64_t *)memory->data;
        g = (vl_groups){0, base + FIRST * n, base + COUNT * n, base + GROUP_OF * n};
        /* the other arrays are not in use yet */
        const int64_t *order = rows.width == 1 && n >= VL_BY_DIGITS
                                   ? sorted_elements(&rows, n, base + ORDER * n, (vl_keyed *)(base + OTHER * n),
                                                     (vl_keyed *)(base + COUNT * n), &pace)
                                   : sorted_rows(&rows, n, base + ORDER * n, base + OTHER * n, &pace);
        if (order)
            group_rows(&rows, n, order, &g, &pace);
        if (!i->ints[2] && !vl_has_ended(f->heed))
            by_appearance(n, &g, base + OTHER * n, &pace);
        if (vl_has_ended(f->heed))
            status = VL_FAILED;
    }
    if (status == VL_DONE && vl_wants(i, 0)) {
        int64_t shape[VL_MOST_AXES];
        memcpy(shape, whole.shape, sizeof shape);
        shape[axis < 0 ? 0 : axis] = g.groups;
        vl_tensor *out = vl_new(f, i, 0, whole.type, axis < 0 ? 1 : whole.axes, shape);
        /* out[outer][group][inner], of rows [outer][inner] */
        const int64_t outer = axis < 0 ? 1 : vl_count(axis, whole.shape), inner = rows.width / outer;
        const size_t bytes = (size_t)inner * size;
        for (int64_t group = 0; out && group < g.groups && vl_goes_on(&pace, rows.width); group++)
            for (int64_t o = 0; o < outer; o++)
                memcpy(out->data + (size_t)(o * g.groups + group) * bytes,
                       rows.data + (size_t)(g.first[group] * outer + o) * bytes, bytes);
        status = out ? VL_DONE : VL_NO_MEMORY;
    }
    const struct {
        const int64_t *from;
        int64_t n;
    } lists[] = {{g.first, g.groups}, {g.group_of, n}, {g.count, g.groups}};
    for (int k = 0; k < 3 && status == VL_DONE; k++)
        if (vl_wants(i, 1 + k)) {
            vl_tensor *out = vl_new(f, i, 1 + k, VL_I64, 1, &lists[k].n);
            if (out)
                memcpy(out->data, lists[k].from, (size_t)lists[k].n * sizeof(int64_t));
            status = out ? VL_DONE : VL_NO_MEMORY;
        }
    vl_block_drop(f, memory);
    vl_block_drop(f, copy.block);
    return status;
}

const vl_named_handler vl_sort_handlers[] = {{"topk", topk}, {"unique", unique}, {NULL, NULL}};
