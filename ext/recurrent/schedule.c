/* How a run of a layer is shared between threads.
 *
 * Threads either take slices of the sequences, with nothing to wait for, or share the panels of every step and meet at
 * a barrier: for one long sequence, and where slices would be unequal or a step's weights are more than a core's cache
 * holds.
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "clock.h"
#include "layer_run.h"
#include "limits_in_force.h"
#include "scratch.h"
#include "simd/cpu_mode.h"

static int64_t rest_until; /* no step is shared before */

void vl_end_rest(void) { rest_until = 0; }

int vl_next_turn(void)
{
    static int turn;
    return turn = !turn;
}

/* ---- what every thread does ---- */

/* Zeros for sequences [first_row, last_row) past their ends, in pieces as long as they come: long ones are written
 * without being read first. */
static void clear_padding(const vl_layer_run *run, ptrdiff_t first_row, ptrdiff_t last_row)
{
    const ptrdiff_t number = run->directions[0]->number_bytes;
    const ptrdiff_t row_bytes = run->direction_count * run->directions[0]->width * number;
    if (run->padded_steps == 0)
        return;
    if (run->padded_batch_first) { /* a sequence's steps are side by side */
        ptrdiff_t length = run->steps;
        for (ptrdiff_t r = first_row; r < last_row; r++) {
            while (length > 0 && run->batch_sizes[length - 1] <= r)
                length--;
            memset(run->y + run->y_rows[r] * number + length * row_bytes, 0,
                   (size_t)((run->padded_steps - length) * row_bytes));
        }
        return;
    }
    for (ptrdiff_t t = 0; t < run->padded_steps; t++) { /* a step's sequences are */
        ptrdiff_t live = t < run->steps ? (ptrdiff_t)run->batch_sizes[t] : 0;
        if (live < first_row)
            live = first_row;
        for (ptrdiff_t b = 0; b < run->sequences; b++) {
            const ptrdiff_t begin = b;
            while (b < run->sequences && live <= run->ranks[b] && run->ranks[b] < last_row)
                b++;
            memset(run->y + (t * run->sequences + begin) * row_bytes, 0, (size_t)((b - begin) * row_bytes));
        }
    }
}

/* A member's share of every step. */
static void share_steps(vl_layer_run *run, int member, int members)
{
    for (int d = 0; d < run->direction_count; d++) {
        if (!run->alone)
            vl_walk(run, d, 0, run->sequences, member, members);
        else if (member == 0 && !vl_walk(run, d, 0, run->sequences, 0, 1))
            run->out_of_memory = 1;
        if (d == 0)
            clear_padding(run, run->sequences * member / members, run->sequences * (member + 1) / members);
        vl_wait(&run->barrier, members);
    }
}

/* Slices of the sequences in each direction, while there are any: both directions by turns, the longest first. */
static void take_slices(vl_layer_run *run)
{
    for (int task = vl_take(&run->next_task); task < run->slices * run->direction_count && !vl_has_ended(run->heed);
         task = vl_take(&run->next_task)) {
        const int direction = task % run->direction_count, slice = task / run->direction_count;
        const ptrdiff_t first = run->first_row[slice], last = run->first_row[slice + 1];
        if (!vl_walk(run, direction, first, last, 0, 1))
            run->out_of_memory = 1;
        if (direction == 0)
            clear_padding(run, first, last);
    }
    vl_scratch_trim((size_t)vl_limit.keep_scratch_bytes);
}

static void run_member(void *context, int member, int members)
{
    vl_layer_run *run = context;
    const uint64_t mode = vl_flush_subnormals();
    if (run->share_steps && members > 1)
        share_steps(run, member, members);
    else
        take_slices(run);
    vl_restore_mode(mode);
}

/* ---- slices ---- */

/* What the place-th row of a slice costs in every step that it takes part in. */
static int64_t row_cost(int small_step, ptrdiff_t place)
{
    if (small_step)
        return place == 0 ? vl_limit.small_first_row_cost : vl_limit.row_cost;
    return place == 0 ? vl_limit.first_row_cost : place < 4 ? vl_limit.next_row_cost : vl_limit.row_cost;
}

/* Cuts the sequences into slices of at most that cost, from the longest sequence on; returns their number, or more than
 * there may be where no cut is that cheap. */
static int cut(vl_layer_run *run, const ptrdiff_t *lengths, int64_t most)
{
    int64_t cost = 0;
    ptrdiff_t first = 0;
    int slices = 1;
    run->first_row[0] = 0;
    for (ptrdiff_t r = 0; r < run->sequences; r++) {
        if (cost + row_cost(run->small_step, r - first) * lengths[r] > most && r > first) {
            if (slices == VL_MOST_THREADS)
                return VL_MOST_THREADS + 1;
            run->first_row[slices++] = first = r;
            cost = 0;
        }
        cost += row_cost(run->small_step, r - first) * lengths[r];
        if (cost > most)
            return VL_MOST_THREADS + 1;
    }
    run->first_row[slices] = run->sequences;
    return slices;
}

static int64_t whole_cost(const vl_layer_run *run, const ptrdiff_t *lengths)
{
    int64_t cost = 0;
    for (ptrdiff_t r = 0; r < run->sequences; r++)
        cost += row_cost(run->small_step, r) * lengths[r];
    return cost;
}

/* Cuts the sequences into at most so many slices, of equal real work; returns the largest one's cost. */
static int64_t slice_sequences(vl_layer_run *run, const ptrdiff_t *lengths, int slices)
{
    int64_t low = 0, high = whole_cost(run, lengths);
    while (low < high) { /* the smallest largest slice, by bisection */
        const int64_t middle = (low + high) / 2;
        if (cut(run, lengths, middle) <= slices)
            high = middle;
        else
            low = middle + 1;
    }
    run->slices = cut(run, lengths, high);
    return high;
}

/* How many steps each sequence has. */
static void list_lengths(const vl_layer_run *run, ptrdiff_t *lengths)
{
    ptrdiff_t length = run->steps;
    for (ptrdiff_t r = 0; r < run->sequences; r++) {
        while (length > 0 && run->batch_sizes[length - 1] <= r)
            length--;
        lengths[r] = length;
    }
}

/* ---- the choice ---- */

/* Whether the threads should share every step of several sequences: slices are the surer way, for a thread that is late
 * holds up nobody. */
static int worth_sharing(int64_t step_bytes, int64_t shared_cost, int64_t sliced_cost)
{
    return step_bytes > vl_limit.near_step_bytes ? shared_cost < sliced_cost : shared_cost < sliced_cost / 5 * 4;
}

/* Slices of so many sequences that no step of theirs takes long. */
static void cut_wide(vl_layer_run *run)
{
    const vl_direction *d = run->directions[0];
    const ptrdiff_t depth = d->input_size > d->width ? d->input_size : d->width;
    const int64_t row_work = (int64_t)d->vectors * d->kernels->lanes * (depth > 1 ? depth : 1);
    int64_t rows = vl_limit.kernel_work / (row_work > 1 ? row_work : 1);
    if (rows < vl_limit.fewest_slice_rows)
        rows = vl_limit.fewest_slice_rows;
    const int64_t wanted = (run->sequences + rows - 1) / rows;
    const int slices = wanted < VL_MOST_THREADS ? (int)wanted : VL_MOST_THREADS;
    if (slices <= (run->share_steps ? 1 : run->slices))
        return;
    run->share_steps = 0;
    run->slices = slices;
    for (int k = 0; k <= slices; k++)
        run->first_row[k] = run->sequences * k / slices;
}

/* Decides between slices and shared steps and sets `slices`, `first_row` and `share_steps`; 0 when memory is out. */
static int choose(vl_layer_run *run, int threads)
{
    const vl_direction *d = run->directions[0];
    /* independent units meet once a chunk, not at every step, and what they share is the projection */
    const int64_t step_bytes = d->independent ? vl_input_bytes(d) : vl_recurrent_bytes(d);
    const int64_t call_bytes = step_bytes * run->steps + (d->independent ? 0 : vl_input_bytes(d));
    int64_t sliced_cost = 0, shared_cost = INT64_MAX;
    run->small_step = step_bytes <= vl_limit.small_step_bytes;
    if (threads <= 1 || run->steps == 0)
        return 1;
    if (run->sequences > 1 && threads > run->direction_count) {
        ptrdiff_t few[VL_FEW_NUMBERS], *lengths = few;
        if (run->sequences > VL_FEW_NUMBERS && !(lengths = malloc((size_t)run->sequences * sizeof(ptrdiff_t))))
            return 0;
        list_lengths(run, lengths);
        sliced_cost =
            slice_sequences(run, lengths, threads % run->direction_count ? threads : threads / run->direction_count);
        if (!d->independent)
            shared_cost = whole_cost(run, lengths) / threads + run->steps * vl_limit.barrier_bytes / step_bytes;
        if (lengths != few)
            free(lengths);
    }
    const int many_panels = d->independent ? d->panels > VL_GROUP : step_bytes >= vl_limit.shared_step_bytes;
    run->share_steps = threads > run->direction_count && many_panels && call_bytes >= vl_limit.shared_call_bytes &&
                       (run->sequences == 1 || worth_sharing(step_bytes, shared_cost, sliced_cost)) &&
                       vl_nanoseconds() >= rest_until;
    return 1;
}

/* How many threads have a use. */
static int members_for(const vl_layer_run *run, int threads)
{
    const vl_direction *d = run->directions[0];
    ptrdiff_t tasks = run->slices * run->direction_count;
    if (run->share_steps)
        tasks = d->independent ? (d->panels + VL_GROUP - 1) / VL_GROUP : threads;
    return tasks < threads ? (int)tasks : threads;
}

/* Memory for a walk of any direction over all sequences, which its members share. */
static char *shared_memory(const vl_layer_run *run, char **whole)
{
    ptrdiff_t rows = 0;
    uint64_t most = 0;
    for (ptrdiff_t t = 0; t < run->steps; t++)
        rows += (ptrdiff_t)run->batch_sizes[t];
    for (int d = 0; d < run->direction_count; d++) {
        vl_scratch s;
        const ptrdiff_t chunk_rows = vl_chunk_rows(run->directions[d], run->sequences, rows > 1 ? rows : 1);
        const uint64_t needed = vl_lay_out(run->directions[d], run->sequences, chunk_rows, NULL, &s);
        most = needed > most ? needed : most;
    }
    *whole = most > SIZE_MAX / 2 ? NULL : malloc((size_t)most + 64);
    return *whole ? (char *)(((uintptr_t)*whole + 63) & ~(uintptr_t)63) : NULL;
}

int vl_run_layer(vl_layer_run *run, int threads)
{
    char *whole = NULL;
    run->slices = 1;
    run->first_row[0] = 0;
    run->first_row[1] = run->sequences;
    run->next_task = run->out_of_memory = run->share_steps = run->alone = 0;
    run->end_before = PTRDIFF_MAX;
    run->shared_memory = NULL;
    memset(&run->barrier, 0, sizeof run->barrier);
    if (threads > VL_MOST_THREADS)
        threads = VL_MOST_THREADS;
    if (!choose(run, threads))
        return 0;
    cut_wide(run);
    if (run->share_steps && !(run->shared_memory = shared_memory(run, &whole)))
        return 0;
    vl_parallel(members_for(run, threads), run_member, run, run->heed);
    free(whole);
    if (run->alone)
        rest_until = vl_nanoseconds() + vl_limit.rest_nanoseconds;
    return !run->out_of_memory;
}
