#include "scratch.h"

#include <pthread.h>
#include <stdlib.h>

#include "limits_in_force.h"

static __thread void *own;
static __thread size_t own_bytes;
static pthread_key_t key;
static pthread_once_t once = PTHREAD_ONCE_INIT;

static void make_key(void) { pthread_key_create(&key, free); }

void *vl_scratch_memory(size_t bytes)
{
    if (bytes <= own_bytes)
        return own;
    pthread_once(&once, make_key);
    free(own);
    own = NULL;
    own_bytes = 0;
    if (posix_memalign(&own, 64, bytes))
        own = NULL;
    else
        own_bytes = bytes;
    pthread_setspecific(key, own); /* freed when the thread ends */
    return own;
}

void vl_scratch_trim(size_t keep)
{
    if (own_bytes > keep) {
        free(own);
        own = NULL;
        own_bytes = 0;
        pthread_setspecific(key, NULL);
    }
}

ptrdiff_t vl_chunk_rows(const vl_direction *direction, ptrdiff_t rows, ptrdiff_t total)
{
    const int64_t row_bytes = (int64_t)direction->vectors * direction->kernels->lanes * direction->number_bytes;
    int64_t most = vl_input_bytes(direction) / 2;
    if (direction->run->small && vl_input_bytes(direction) < vl_limit.large_small_bytes)
        most = 0;
    if (most > vl_limit.most_chunk_bytes)
        most = vl_limit.most_chunk_bytes;
    if (most < vl_limit.chunk_bytes)
        most = vl_limit.chunk_bytes;
    ptrdiff_t chunk = (ptrdiff_t)(most / row_bytes);
    if (chunk < rows)
        chunk = rows;
    return chunk < total ? chunk : total;
}

/* 64 bits wide on every machine: on a 32-bit one a large batch of a wide layer would wrap around. */
static uint64_t bytes_of(ptrdiff_t count, ptrdiff_t columns, size_t item)
{
    return ((uint64_t)count * (uint64_t)columns * item + 63) & ~(uint64_t)63;
}

/* The next so many bytes; nothing but their number where there is no memory yet. */
static void *take(char *memory, uint64_t *used, uint64_t bytes)
{
    void *taken = memory ? memory + *used : NULL;
    *used += bytes;
    return taken;
}

/* For each of so many members, `rows` of so many numbers in their small form. */
static char *take_room(const vl_direction *direction, ptrdiff_t rows, ptrdiff_t depth, int members, char *memory,
                       uint64_t *used, ptrdiff_t *member_bytes)
{
    const uint64_t bytes = direction->run->small ? bytes_of(rows, vl_small_row_bytes(depth), 1) : 0;
    *member_bytes = (ptrdiff_t)bytes; /* of no use where there is no memory of that size */
    return take(memory, used, bytes * (uint64_t)members);
}

uint64_t vl_lay_out(const vl_direction *direction, ptrdiff_t rows, ptrdiff_t chunk_rows, int members, char *memory,
                    vl_scratch *scratch)
{
    const size_t number = (size_t)direction->number_bytes, offset = sizeof(ptrdiff_t);
    const uint64_t state = bytes_of(rows, direction->ld_h, number);
    const uint64_t hidden =
        bytes_of(rows, direction->ld_c > direction->ld_h ? direction->ld_c : direction->ld_h, number);
    const uint64_t inputs = bytes_of(chunk_rows, 1, offset);
    const uint64_t steps = direction->independent ? inputs : 0; /* no chunk has more steps than rows */
    const int reset_before = direction->cell == VL_GRU_RESET_BEFORE, projected = direction->w_hr != NULL;
    uint64_t used = 0;
    scratch->h[0] = take(memory, &used, state);
    scratch->h[1] = take(memory, &used, state);
    scratch->c = take(memory, &used, vl_has_cell_state(direction) || reset_before ? hidden : 0);
    scratch->gated = take(memory, &used, projected || reset_before ? hidden : 0);
    scratch->gated_rows = take(memory, &used, projected ? bytes_of(rows, 1, offset) : 0);
    scratch->pre = take(memory, &used, bytes_of(chunk_rows, direction->ld_pre, number));
    scratch->input_rows = take(memory, &used, inputs);
    scratch->live = take(memory, &used, steps);
    scratch->pre_steps = take(memory, &used, steps);
    scratch->out_steps = take(memory, &used, steps);
    scratch->gathered = take(memory, &used, direction->gemm ? bytes_of(chunk_rows, direction->input_size, number) : 0);
    scratch->input_room =
        take_room(direction, chunk_rows, direction->input_size, members, memory, &used, &scratch->input_room_bytes);
    scratch->state_room = take_room(
        direction, rows, direction->width > direction->hidden_size ? direction->width : direction->hidden_size, members,
        memory, &used, &scratch->state_room_bytes);
    return used;
}
