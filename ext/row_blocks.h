/* How a product with a packed matrix is cut into blocks of rows and shared between threads. */
#ifndef VLEDGE_ROW_BLOCKS_H
#define VLEDGE_ROW_BLOCKS_H

#include "heed.h"
#include "named_limits.h"
#include "simd/kernels.h"

/* Threads that so much work keeps busy. */
static inline int vl_members_for(int64_t work, int64_t thread_work, int threads)
{
    const int64_t most = work / thread_work + 1;
    return threads < most ? threads : (int)most;
}

/* Rows that pass by all weights before the next. */
static inline ptrdiff_t vl_rows_of_block(const vl_limits *limits, ptrdiff_t row_bytes)
{
    const int64_t rows = limits->block_bytes / (row_bytes > 0 ? row_bytes : 1);
    return (ptrdiff_t)(rows < limits->least_block_rows ? limits->least_block_rows : rows);
}

/* A member's vectors, in whole groups, where there are fewer rows than members. */
static inline void vl_share_of_vectors(ptrdiff_t vectors, int member, int members, ptrdiff_t *first, ptrdiff_t *last)
{
    const ptrdiff_t groups = (vectors + VL_GROUP - 1) / VL_GROUP, end = VL_GROUP * (groups * (member + 1) / members);
    *first = VL_GROUP * (groups * member / members);
    *last = end < vectors ? end : vectors;
}

typedef struct {
    void (*kernel)(const vl_product *);
    const vl_product *product;          /* the whole one */
    ptrdiff_t number_bytes;             /* of a number of the result */
    ptrdiff_t block;                    /* rows */
    ptrdiff_t room_bytes;               /* of small weights: of each member's part of the room, else 0 */
    vl_heed *heed;                      /* of the call, or NULL */
} vl_row_blocks;

/* One member's rows, in blocks; of few rows its columns. */
static inline void vl_multiply_rows(void *context, int member, int members)
{
    const vl_row_blocks *b = (const vl_row_blocks *)context;
    vl_product p = *b->product;
    if (b->room_bytes)
        p.room += member * b->room_bytes;
    if (p.rows < members) {
        vl_share_of_vectors(p.vectors, member, members, &p.first, &p.last);
        b->kernel(&p);
        return;
    }
    ptrdiff_t row = p.rows * member / members;
    const ptrdiff_t last = p.rows * (member + 1) / members;
    while (row < last && !vl_shall_end(b->heed)) {
        p.rows = b->block < last - row ? b->block : last - row;
        p.x_rows = b->product->x_rows + row;
        p.out = (char *)b->product->out + row * p.ld_out * b->number_bytes;
        b->kernel(&p);
        row += p.rows;
    }
}

#endif
