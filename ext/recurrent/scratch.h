/* The memory that a walk works in: how it is laid out, and a thread's own piece of it, kept from call to call. */
#ifndef VLEDGE_SCRATCH_H
#define VLEDGE_SCRATCH_H

#include <stddef.h>
#include <stdint.h>

#include "direction.h"

/* 64-byte aligned memory of the calling thread; NULL when there is none. A second call invalidates what the first one
 * gave. */
void *vl_scratch_memory(size_t bytes);

/* Gives memory above `keep` bytes back. */
void vl_scratch_trim(size_t keep);

/* A walk's buffers; its rows are sequences, a chunk's rows are those of each of its steps. */
typedef struct {
    char *h[2];                 /* [rows, ld_h] each: the step before wrote one, this step writes the other */
    char *c;                    /* [rows, ld_c]; gru_reset_before: as vl_step's */
    char *gated;                /* r * h, as h; or the LSTM's output before its projection, as c */
    ptrdiff_t *gated_rows;      /* offsets of the rows of `gated` */
    char *pre;                  /* [chunk's rows, ld_pre]: W_ih x + b */
    ptrdiff_t *input_rows;      /* offsets of the chunk's input rows */
    char *gathered;             /* those rows side by side, where BLAS projects them */
    char *input_room, *state_room; /* of each member, so many bytes apart: rows in their small form */
    ptrdiff_t input_room_bytes, state_room_bytes;
    /* of the chunk's steps, for independent units: */
    ptrdiff_t *live;            /* their rows, ... */
    ptrdiff_t *pre_steps;       /* ... where they begin in `pre` ... */
    ptrdiff_t *out_steps;       /* ... and in the output */
} vl_scratch;

/* Rows that a chunk of `total` rows in all may hold; one step's always fit. */
ptrdiff_t vl_chunk_rows(const vl_direction *direction, ptrdiff_t rows, ptrdiff_t total);

/* Bytes that a walk of so many members needs; with memory given, the pointers into it too. */
uint64_t vl_lay_out(const vl_direction *direction, ptrdiff_t rows, ptrdiff_t chunk_rows, int members, char *memory,
                    vl_scratch *scratch);

#endif
