/* One run of one layer over sequences of different lengths: what the doors fill in and the threads share.
 *
 * Sequences are sorted by falling length, so that the live ones at step t are rows 0 … batch_sizes[t]. Element
 * (t, row) of the input stands at x_time[t] + x_rows[row] and of the output likewise, which fits packed rows and
 * padded arrays in either axis order: nothing is copied to be computed.
 */
#ifndef VLEDGE_LAYER_RUN_H
#define VLEDGE_LAYER_RUN_H

#include <stdint.h>

#include "direction.h"
#include "heed.h"
#include "pool.h"

typedef struct {
    const vl_direction *directions[2];
    int direction_count;
    ptrdiff_t steps, sequences;
    const int64_t *batch_sizes;
    const char *x;
    const ptrdiff_t *x_time;
    const ptrdiff_t *x_rows;
    const int64_t *places;      /* of the sorted sequences in the states' rows, NULL: the same order */
    char *y;                    /* NULL: only the final states are wanted */
    const ptrdiff_t *y_time;
    const ptrdiff_t *y_rows;
    ptrdiff_t padded_steps;     /* of the output, zeroed from each sequence's end on; 0: nothing to zero */
    int padded_batch_first;
    ptrdiff_t *ranks;           /* by length, of the batch's sequences in their own order */
    const char *h_0;            /* [directions, sequences, width] rows, NULL = zeros */
    const char *c_0;
    char *h_n;
    char *c_n;
    int turned;                 /* weights are read from the last to the first */
    vl_heed *heed;              /* NULL: nobody ends it */
    /* what threads share: schedule.c sets it */
    int slices;                 /* of the sequences; slice s is rows first_row[s] … first_row[s + 1] */
    ptrdiff_t first_row[VL_MOST_THREADS + 1];
    int next_task;
    int out_of_memory;
    ptrdiff_t end_before; /* the step, counted through the directions, that members who share steps do not begin */
    int small_step; /* its recurrent weights fit in the nearest cache */
    int share_steps; /* one task for all threads instead of one thread a task */
    int alone; /* ... until the others turned out to have no core */
    char *shared_memory;
    vl_barrier barrier;
} vl_layer_run;

/* Every other run begins with the weights that the last one read last: the cache may hold them. */
int vl_next_turn(void);

/* walk.c: runs direction `number` over sequences [first_row, last_row), or less where the call ends, as one of the members
 * who share its steps; 0 when memory is out. */
int vl_walk(vl_layer_run *run, int number, ptrdiff_t first_row, ptrdiff_t last_row, int member, int members);

/* schedule.c: shares the run between threads; 0 when memory is out. */
int vl_run_layer(vl_layer_run *run, int threads);

/* The next call may share steps again, however lately that was no use. */
void vl_end_rest(void);

/* Tables of so many numbers stand on the stack, so that a short call allocates nothing. */
enum { VL_FEW_NUMBERS = 256 };

/* A layer over sequences whose elements [t, b] stand `x_time` and `x_row` numbers apart, and those of its output
 * likewise; everything is checked. The states are [directions, sequences, width]. */
typedef struct {
    const vl_direction *directions[2];
    int direction_count;
    ptrdiff_t steps, sequences;
    const char *x;
    ptrdiff_t x_time, x_row;
    char *y; /* NULL: only the final states are wanted; zeros past each length */
    ptrdiff_t y_time, y_row;
    const int32_t *lengths; /* in [0, steps], or NULL: all have every step */
    const char *h_0; /* NULL: zeros */
    const char *c_0;
    char *h_n;
    char *c_n;
    vl_heed *heed; /* NULL: nobody ends it */
} vl_sequences;

/* sequences.c; 0 when memory is out */
int vl_run_sequences(const vl_sequences *s, int threads);

#endif
