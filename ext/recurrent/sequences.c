/* A layer over a batch as compiled callers have it: steps and rows at equal distances, lengths in any order. */
#include <stdlib.h>
#include <string.h>

#include "layer_run.h"

/* The sequences' places from the longest to the shortest, equal ones as they stand, and how many are left at each step;
 * returns the longest length. `following` is memory for a number a step. */
static ptrdiff_t sort_by_length(const int32_t *lengths, ptrdiff_t count, int64_t *order, int64_t *batch_sizes,
                                ptrdiff_t *following)
{
    ptrdiff_t longest = 0;
    for (ptrdiff_t b = 0; b < count; b++)
        longest = lengths[b] > longest ? lengths[b] : longest;
    for (ptrdiff_t t = 0; t < longest; t++)
        batch_sizes[t] = 0;
    for (ptrdiff_t b = 0; b < count; b++)
        if (lengths[b] > 0)
            batch_sizes[lengths[b] - 1]++;
    for (ptrdiff_t t = longest - 2; t >= 0; t--) /* those of a length, and all that are longer */
        batch_sizes[t] += batch_sizes[t + 1];
    for (ptrdiff_t t = 0; t < longest; t++) /* where the next one of length t + 1 stands: behind all that are longer */
        following[t] = t + 1 < longest ? (ptrdiff_t)batch_sizes[t + 1] : 0;
    ptrdiff_t empty = longest > 0 ? (ptrdiff_t)batch_sizes[0] : 0;
    for (ptrdiff_t b = 0; b < count; b++)
        order[lengths[b] > 0 ? following[lengths[b] - 1]++ : empty++] = b;
    return longest;
}

/* Zeros for the output past each length; the rest is written over. */
static void clear_output(const vl_sequences *s)
{
    const ptrdiff_t number = s->directions[0]->number_bytes, width = s->direction_count * s->directions[0]->width;
    for (ptrdiff_t t = 0; t < s->steps; t++)
        for (ptrdiff_t b = 0; b < s->sequences; b++)
            if (t >= s->lengths[b])
                memset(s->y + (t * s->y_time + b * s->y_row) * number, 0, (size_t)(width * number));
}

int vl_run_sequences(const vl_sequences *s, int threads)
{
    const ptrdiff_t steps = s->steps, count = s->sequences;
    vl_layer_run run; /* a short call does not zero what it does not read */
    run.turned = vl_next_turn();
    run.direction_count = s->direction_count;
    run.directions[0] = s->directions[0];
    run.directions[1] = s->directions[1];
    run.steps = steps;
    run.sequences = count;
    run.x = s->x;
    run.y = s->y;
    run.heed = s->heed;
    run.places = NULL;
    run.padded_steps = 0;
    run.h_0 = s->h_0;
    run.c_0 = s->c_0;
    run.h_n = s->h_n;
    run.c_n = s->c_n;
    if (count == 0)
        return 1;
    /* x_time, y_time [steps]; x_rows, y_rows, ranks [sequences]; batch sizes [steps]; order [sequences] */
    const size_t offset_count = (size_t)(2 * steps + 3 * count);
    const size_t bytes = offset_count * sizeof(ptrdiff_t) + (size_t)(steps + count) * sizeof(int64_t) + 16;
    int64_t few[VL_FEW_NUMBERS];
    ptrdiff_t *offsets = bytes <= sizeof few ? (ptrdiff_t *)few : malloc(bytes);
    if (!offsets)
        return 0;
    ptrdiff_t *x_time = offsets, *y_time = x_time + steps, *x_rows = y_time + steps, *y_rows = x_rows + count;
    int64_t *sizes = (int64_t *)(((uintptr_t)(offsets + offset_count) + 7) & ~(uintptr_t)7), *order = NULL;
    run.x_time = x_time;
    run.y_time = y_time;
    run.x_rows = x_rows;
    run.y_rows = y_rows;
    run.ranks = y_rows + count;
    run.batch_sizes = sizes;
    if (s->lengths) {
        run.places = order = sizes + steps;
        run.steps = sort_by_length(s->lengths, count, order, sizes, x_time);
        if (s->y)
            clear_output(s);
    } else
        for (ptrdiff_t t = 0; t < steps; t++)
            sizes[t] = count;
    for (ptrdiff_t t = 0; t < run.steps; t++) {
        x_time[t] = t * s->x_time;
        y_time[t] = t * s->y_time;
    }
    for (ptrdiff_t r = 0; r < count; r++) {
        const ptrdiff_t b = order ? (ptrdiff_t)order[r] : r;
        x_rows[r] = b * s->x_row;
        y_rows[r] = b * s->y_row;
        run.ranks[b] = r;
    }
    const int done = vl_run_layer(&run, threads);
    if (offsets != (ptrdiff_t *)few)
        free(offsets);
    return done;
}
