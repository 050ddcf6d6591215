/* TopK: the k greatest or least of each row, sorted; of equals the one with the lower index first. NaN is greatest. */
#include "program.h"

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
    if (from.type == VL_I64) /* keys are exact up to here */
        for (int64_t row = 0, index[VL_MOST_AXES] = {0}; row < rows * n; row++) {
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
    for (int64_t row = 0; fits && row < rows; row++) {
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
        for (int64_t j = 0; j < n; j++) {
            if (j >= k && from.type == VL_F32) { /* most come too late, and are done with here */
                const float x = *(const float *)(p + j * step);
                if (largest ? x <= heap[0].key : x >= heap[0].key)
                    continue;
            }
            vl_entry_of_row own = {key_of(&from, p + j * step), j};
            if (j < k) {
                heap[j] = own;
                if (j == k - 1)
                    for (int64_t h = k / 2 - 1; h >= 0; h--)
                        sift(heap, k, h, largest);
            } else if (own.key != own.key || heap[0].key != heap[0].key ||
                       (largest ? own.key > heap[0].key : own.key < heap[0].key)) {
                if (!before(&own, &heap[0], largest))
                    continue;
                heap[0] = own;
                sift(heap, k, 0, largest);
            }
        }
        for (int64_t left = k - 1; left > 0; left--) { /* the last to the end */
            vl_entry_of_row last = heap[0];
            heap[0] = heap[left];
            heap[left] = last;
            sift(heap, left, 0, largest);
        }
        for (int64_t j = 0; j < k; j++) {
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

const vl_named_handler vl_sort_handlers[] = {{"topk", topk}, {NULL, NULL}};
