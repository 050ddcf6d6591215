/* The order in which torch.sort(descending=True) leaves lengths, equal ones included.

   torch sorts with the C++ library's std::sort: quicksort on the median of three, down to pieces of
   16, heapsort where that degenerates, one insertion sort at the end. That is not stable, so which
   of two equal lengths comes first depends on these very steps; they are followed here. Up to 16
   lengths the result is stable. No recursion on both halves: the depth is at most 2 log2(n). */

#ifndef VLEDGE_INTROSORT_H
#define VLEDGE_INTROSORT_H

#include <stddef.h>
#include <stdint.h>

typedef struct {
    int64_t length;
    int64_t index;
} vl_entry;

enum { VL_SORT_PIECE = 16 };

static inline int vl_before(const vl_entry *a, const vl_entry *b) { return a->length > b->length; }

static inline void vl_swap(vl_entry *a, vl_entry *b)
{
    vl_entry held = *a;
    *a = *b;
    *b = held;
}

/* Walk the hole down to a leaf by the later child, then the value up to its place. */
static void vl_sift(vl_entry *heap, ptrdiff_t hole, ptrdiff_t size, vl_entry value)
{
    const ptrdiff_t top = hole;
    for (;;) {
        ptrdiff_t child = 2 * hole + 2;
        if (child > size)
            break;
        if (child == size || vl_before(&heap[child], &heap[child - 1]))
            --child;
        heap[hole] = heap[child];
        hole = child;
    }
    while (hole > top && vl_before(&heap[(hole - 1) / 2], &value)) {
        heap[hole] = heap[(hole - 1) / 2];
        hole = (hole - 1) / 2;
    }
    heap[hole] = value;
}

static void vl_heapsort(vl_entry *entries, ptrdiff_t size)
{
    for (ptrdiff_t root = (size - 2) / 2; root >= 0; --root)
        vl_sift(entries, root, size, entries[root]);
    while (size > 1) {
        vl_entry last = entries[--size];
        entries[size] = entries[0];
        vl_sift(entries, 0, size, last);
    }
}

static void vl_median_to_front(vl_entry *front, vl_entry *a, vl_entry *b, vl_entry *c)
{
    vl_entry *median;
    if (vl_before(a, b))
        median = vl_before(b, c) ? b : vl_before(a, c) ? c : a;
    else
        median = vl_before(a, c) ? a : vl_before(b, c) ? c : b;
    vl_swap(front, median);
}

static void vl_quicksort(vl_entry *first, vl_entry *last, int depth)
{
    while (last - first > VL_SORT_PIECE) {
        if (depth-- == 0) {
            vl_heapsort(first, last - first);
            return;
        }
        vl_median_to_front(first, first + 1, first + (last - first) / 2, last - 1);
        vl_entry *low = first + 1, *high = last;
        for (;;) {
            while (vl_before(low, first))
                ++low;
            --high;
            while (vl_before(first, high))
                --high;
            if (low >= high)
                break;
            vl_swap(low++, high);
        }
        vl_quicksort(low, last, depth);
        last = low;
    }
}

static void vl_sort_descending(vl_entry *entries, ptrdiff_t count)
{
    int depth = 0;
    for (ptrdiff_t n = count; n > 1; n >>= 1)
        depth += 2;
    vl_quicksort(entries, entries + count, depth);
    for (ptrdiff_t i = 1; i < count; ++i) {
        vl_entry moving = entries[i];
        ptrdiff_t j = i;
        for (; j > 0 && vl_before(&moving, &entries[j - 1]); --j)
            entries[j] = entries[j - 1];
        entries[j] = moving;
    }
}

#endif
