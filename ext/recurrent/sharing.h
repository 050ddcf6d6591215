/* How a run of a layer is shared between threads: into how many slices the sequences are cut, and how many threads
 * share the steps of each; and what that will take, from which it is chosen. */
#ifndef VLEDGE_SHARING_H
#define VLEDGE_SHARING_H

#include "barrier.h"
#include "direction.h"

/* The work is (slices x directions) tasks, and a team does a task: its members have a part of the hidden units each,
 * and meet at every step. Teams wait for nobody. */
typedef struct {
    int members;                    /* threads that run */
    int team;                       /* of them, those of a team; divides members */
    int slices;                     /* of the sequences, the same in each direction */
    ptrdiff_t first_row[VL_MOST_THREADS + 1]; /* slice s is the rows first_row[s] ... first_row[s + 1] */
    double nanoseconds;             /* predicted */
} vl_sharing;

/* The sequences' lengths, falling. */
typedef struct {
    const ptrdiff_t *lengths;
    ptrdiff_t sequences;
} vl_rows;

/* The quickest way with at most so many threads; a way with more of them has to be clearly quicker than one with
 * fewer. At least `slices` slices are cut. */
void vl_choose_sharing(const vl_direction *const *directions, int direction_count, vl_rows rows, int threads,
                       int slices, vl_sharing *sharing);

#endif
