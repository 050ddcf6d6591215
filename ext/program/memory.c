/* A frame's blocks of memory, in lists by size: four sizes to each power of two.
 *
 * Of the free blocks that are large enough, and at most four times so, the one that was given back last serves: the
 * nearest caches still hold it. A list for each size alone would go through as much memory as all sizes together have,
 * and each layer of another size would wait for memory that no near cache holds. It is of use to what caches hold:
 * VL_NEAR_LEAST is small beside any of them, VL_NEAR_MOST beyond the second level of all. */
#include "program.h"

#include <stdlib.h>

enum { VL_SMALLEST = 256, VL_NEAR_LEAST = 4 << 10, VL_NEAR_MOST = 8 << 20, VL_NEAR_KINDS = 8 };

static int kind_of(size_t bytes, size_t *rounded)
{
    if (bytes <= VL_SMALLEST) {
        *rounded = VL_SMALLEST;
        return 0;
    }
    int power = 8 * (int)sizeof(size_t) - 1 - __builtin_clzl(bytes - 1); /* 2^power < bytes <= 2^(power + 1) */
    size_t quarter = (size_t)1 << (power - 2);
    size_t parts = (bytes - ((size_t)1 << power) + quarter - 1) / quarter; /* 1 to 4 */
    *rounded = ((size_t)1 << power) + parts * quarter;
    return 4 * (power - 8) + (int)parts;
}

/* The list to take a block of this kind from, whose first one is the last that was given back. */
static int nearest_kind(const vl_frame *f, int kind, size_t rounded)
{
    if (rounded < VL_NEAR_LEAST || rounded > VL_NEAR_MOST)
        return kind;
    int nearest = kind;
    for (int k = kind + 1; k <= kind + VL_NEAR_KINDS; k++)
        if (f->free[k] && f->free[k]->bytes <= vl_room(f) &&
            (!f->free[nearest] || f->free[k]->given_back > f->free[nearest]->given_back))
            nearest = k;
    return nearest;
}

vl_block *vl_block_new(vl_frame *f, size_t bytes)
{
    if (bytes > (size_t)PTRDIFF_MAX / 2)
        return NULL;
    size_t rounded;
    int kind = kind_of(bytes, &rounded);
    if (rounded > vl_room(f))
        return NULL;
    const int from = nearest_kind(f, kind, rounded);
    vl_block *block = f->free[from];
    if (block) {
        f->free[from] = block->next;
        rounded = block->bytes;
    } else {
        /* the header stands in front of the data, a cache line of its own */
        char *memory = aligned_alloc(64, rounded + 64);
        if (!memory)
            return NULL;
        block = (vl_block *)memory;
        block->data = memory + 64;
        block->bytes = rounded;
        block->kind = kind;
        block->object = NULL;
        f->held += rounded;
    }
    block->uses = 1;
    block->next = NULL;
    f->live += rounded;
    if (f->live > f->peak)
        f->peak = f->live;
    return block;
}

void vl_block_drop(vl_frame *f, vl_block *block)
{
    if (!block || __atomic_sub_fetch(&block->uses, 1, __ATOMIC_ACQ_REL))
        return;
    if (block->object) { /* nobody may touch it without the GIL */
        block->next = f->garbage;
        f->garbage = block;
    } else if (block->kind < 0) /* handed out, and let go before the frame's own use ended */
        free(block);
    else {
        block->given_back = ++f->given_back;
        block->next = f->free[block->kind];
        f->free[block->kind] = block;
        f->live -= block->bytes;
    }
}

size_t vl_block_drop_elsewhere(vl_block *block)
{
    if (__atomic_sub_fetch(&block->uses, 1, __ATOMIC_ACQ_REL))
        return 0;
    size_t bytes = block->kind < 0 ? 0 : block->bytes;
    free(block);
    return bytes;
}

void vl_block_hand_out(vl_frame *f, vl_block *block)
{
    if (block->kind < 0)
        return;
    block->kind = -1;
    f->held -= block->bytes;
    f->live -= block->bytes;
}

vl_block *vl_block_of_object(vl_frame *f, void *object)
{
    (void)f;
    vl_block *block = malloc(sizeof(vl_block));
    if (!block)
        return NULL;
    *block = (vl_block){.object = object, .uses = 1, .kind = -1};
    return block;
}

void vl_frame_trim(vl_frame *f, size_t keep)
{
    for (int kind = VL_BLOCK_KINDS - 1; kind >= 0 && f->held - f->live > keep; kind--)
        while (f->free[kind] && f->held - f->live > keep) {
            vl_block *block = f->free[kind];
            f->free[kind] = block->next;
            f->held -= block->bytes;
            free(block);
        }
}
