"""How a run of a layer is shared between threads.

Threads either take slices of the sequences, with nothing to wait for, or share the panels of every step and meet at a
barrier: for one long sequence, and where slices would be unequal or a step's weights are more than a core's cache
holds.

It has more than 400 lines: batches of compiled callers become a LayerRun here too, which nobody else is to fill in.
"""

from libc.stdint cimport INT64_MAX, PTRDIFF_MAX, SIZE_MAX, int32_t, int64_t, uint64_t, uintptr_t
from libc.stdlib cimport free, malloc
from libc.string cimport memset

from vledge._ext.isa cimport VL_GROUP
from vledge._ext.pool cimport (
    VL_MOST_THREADS,
    VL_WORK_BETWEEN_LOOKS,
    chunk_rows,
    lay_out,
    limits_in_force,
    parallel,
    scratch_trim,
    take,
    vl_barrier,
    vl_has_ended,
    vl_limits,
    vl_scratch,
    vl_shall_end,
    wait,
)
from vledge._ext.walk cimport LayerRun, walk
from vledge._ext.weights cimport vl_direction, vl_input_bytes, vl_recurrent_bytes

cdef extern from "clock.h" nogil:
    int64_t vl_nanoseconds()

cdef extern from "simd/cpu_mode.h" nogil:
    uint64_t vl_flush_subnormals()
    void vl_restore_mode(uint64_t mode)

# Tables of so many numbers stand on the stack, so that a short call allocates nothing.
cdef enum:
    FEW_NUMBERS = 256

cdef const vl_limits *limit = limits_in_force()
cdef int64_t rest_until = 0     # no step is shared before
cdef bint turn = False


cdef void end_rest() noexcept nogil:
    global rest_until
    rest_until = 0


cdef bint next_turn() noexcept nogil:
    global turn
    turn = not turn
    return turn


# ---- what every thread does --------------------------------------------------------------------

cdef void clear_padding(const LayerRun *run, ptrdiff_t first_row, ptrdiff_t last_row) noexcept nogil:
    """Zeros for sequences [first_row, last_row) past their ends, in pieces as long as they come: long ones are
    written without being read first."""
    cdef ptrdiff_t number = run.directions[0].number_bytes
    cdef ptrdiff_t row_bytes = run.direction_count * run.directions[0].width * number
    cdef ptrdiff_t length = run.steps, r, t, b, begin, live
    if run.padded_steps == 0:
        return
    if run.padded_batch_first:          # a sequence's steps are side by side
        for r in range(first_row, last_row):
            while length > 0 and run.batch_sizes[length - 1] <= r:
                length -= 1
            memset(run.y + run.y_rows[r] * number + length * row_bytes, 0, (run.padded_steps - length) * row_bytes)
        return
    for t in range(run.padded_steps):   # a step's sequences are
        live = max(<ptrdiff_t>run.batch_sizes[t] if t < run.steps else 0, first_row)
        b = 0
        while b < run.sequences:
            begin = b
            while b < run.sequences and live <= run.ranks[b] < last_row:
                b += 1
            memset(run.y + (t * run.sequences + begin) * row_bytes, 0, (b - begin) * row_bytes)
            b += 1


cdef void take_share_of_steps(LayerRun *run, int member, int members) noexcept nogil:
    """A member's share of every step."""
    cdef int d
    for d in range(run.direction_count):
        if not run.alone:
            walk(run, d, 0, run.sequences, member, members)
        elif member == 0 and not walk(run, d, 0, run.sequences, 0, 1):
            run.out_of_memory = True
        if d == 0:
            clear_padding(run, run.sequences * member // members, run.sequences * (member + 1) // members)
        wait(&run.barrier, members)


cdef void take_slices(LayerRun *run) noexcept nogil:
    """Slices of the sequences in each direction, while there are any: both directions by turns, the longest first."""
    cdef int task = take(&run.next_task), direction, number
    cdef ptrdiff_t first, last
    while task < run.slices * run.direction_count and not vl_has_ended(run.heed):
        direction = task % run.direction_count
        number = task // run.direction_count
        first, last = run.first_row[number], run.first_row[number + 1]
        if not walk(run, direction, first, last, 0, 1):
            run.out_of_memory = True
        if direction == 0:
            clear_padding(run, first, last)
        task = take(&run.next_task)
    scratch_trim(limit.keep_scratch_bytes)


cdef void run_member(void *context, int member, int members) noexcept nogil:
    cdef LayerRun *run = <LayerRun *>context
    cdef uint64_t mode = vl_flush_subnormals()
    if run.share_steps and members > 1:
        take_share_of_steps(run, member, members)
    else:
        take_slices(run)
    vl_restore_mode(mode)


# ---- slices ------------------------------------------------------------------------------------

cdef inline int64_t row_cost(bint small_step, ptrdiff_t place) noexcept nogil:
    """What the place-th row of a slice costs in every step that it takes part in."""
    if small_step:
        return limit.small_first_row_cost if place == 0 else limit.row_cost
    if place == 0:
        return limit.first_row_cost
    return limit.next_row_cost if place < 4 else limit.row_cost


cdef int cut(LayerRun *run, const ptrdiff_t *lengths, int64_t most) noexcept nogil:
    """Cuts the sequences into slices of at most that cost, from the longest sequence on; returns their number, or more
    than there may be where no cut is that cheap."""
    cdef int64_t cost = 0
    cdef ptrdiff_t first = 0, r
    cdef int slices = 1
    run.first_row[0] = 0
    for r in range(run.sequences):
        if cost + row_cost(run.small_step, r - first) * lengths[r] > most and r > first:
            if slices == VL_MOST_THREADS:
                return VL_MOST_THREADS + 1
            run.first_row[slices] = first = r
            slices += 1
            cost = 0
        cost += row_cost(run.small_step, r - first) * lengths[r]
        if cost > most:
            return VL_MOST_THREADS + 1
    run.first_row[slices] = run.sequences
    return slices


cdef int64_t whole_cost(const LayerRun *run, const ptrdiff_t *lengths) noexcept nogil:
    cdef int64_t cost = 0
    cdef ptrdiff_t r
    for r in range(run.sequences):
        cost += row_cost(run.small_step, r) * lengths[r]
    return cost


cdef int64_t slice_sequences(LayerRun *run, const ptrdiff_t *lengths, int slices) noexcept nogil:
    """Cuts the sequences into at most so many slices, of equal real work; returns the largest one's cost."""
    cdef int64_t low = 0, high = whole_cost(run, lengths), middle
    while low < high:       # the smallest largest slice, by bisection
        middle = (low + high) // 2
        if cut(run, lengths, middle) <= slices:
            high = middle
        else:
            low = middle + 1
    run.slices = cut(run, lengths, high)
    return high


cdef void list_lengths(const LayerRun *run, ptrdiff_t *lengths) noexcept nogil:
    """How many steps each sequence has."""
    cdef ptrdiff_t length = run.steps, r
    for r in range(run.sequences):
        while length > 0 and run.batch_sizes[length - 1] <= r:
            length -= 1
        lengths[r] = length


# ---- the choice --------------------------------------------------------------------------------

cdef bint worth_sharing(int64_t step_bytes, int64_t shared_cost, int64_t sliced_cost) noexcept nogil:
    """Whether the threads should share every step of several sequences: slices are the surer way, for a thread that is
    late holds up nobody."""
    if step_bytes > limit.near_step_bytes:
        return shared_cost < sliced_cost
    return shared_cost < sliced_cost // 5 * 4


cdef void cut_wide(LayerRun *run) noexcept nogil:
    """Slices of so many sequences that no step of theirs takes long."""
    cdef const vl_direction *d = run.directions[0]
    cdef ptrdiff_t depth = max(d.input_size, d.width)
    cdef int64_t row_work = <int64_t>d.vectors * d.kernels.lanes * (depth if depth > 1 else 1)
    cdef int64_t rows = limit.kernel_work // (row_work if row_work > 1 else 1)
    cdef int64_t wanted
    cdef int slices, k
    if rows < limit.fewest_slice_rows:
        rows = limit.fewest_slice_rows
    wanted = (run.sequences + rows - 1) // rows
    slices = <int>wanted if wanted < VL_MOST_THREADS else VL_MOST_THREADS
    if slices <= (1 if run.share_steps else run.slices):
        return
    run.share_steps = False
    run.slices = slices
    for k in range(slices + 1):
        run.first_row[k] = run.sequences * k // slices


cdef bint choose(LayerRun *run, int threads) noexcept nogil:
    """Decides between slices and shared steps and sets `slices`, `first_row` and `share_steps`; False when memory is
    out."""
    cdef const vl_direction *d = run.directions[0]
    # independent units meet once a chunk, not at every step, and what they share is the projection
    cdef int64_t step_bytes = vl_input_bytes(d) if d.independent else vl_recurrent_bytes(d)
    cdef int64_t call_bytes = step_bytes * run.steps
    cdef int64_t sliced_cost = 0, shared_cost = INT64_MAX
    cdef ptrdiff_t few[FEW_NUMBERS]
    cdef ptrdiff_t *lengths = few
    cdef bint many_panels
    if not d.independent:
        call_bytes += vl_input_bytes(d)
    run.small_step = step_bytes <= limit.small_step_bytes
    if threads <= 1 or run.steps == 0:
        return True
    if run.sequences > 1 and threads > run.direction_count:
        if run.sequences > FEW_NUMBERS:
            lengths = <ptrdiff_t *>malloc(run.sequences * sizeof(ptrdiff_t))
            if lengths == NULL:
                return False
        list_lengths(run, lengths)
        sliced_cost = slice_sequences(run, lengths, threads if threads % run.direction_count
                                      else threads // run.direction_count)
        if not d.independent:
            shared_cost = whole_cost(run, lengths) // threads + run.steps * limit.barrier_bytes // step_bytes
        if lengths != few:
            free(lengths)
    many_panels = d.panels > VL_GROUP if d.independent else step_bytes >= limit.shared_step_bytes
    run.share_steps = (threads > run.direction_count and many_panels and call_bytes >= limit.shared_call_bytes
                       and (run.sequences == 1 or worth_sharing(step_bytes, shared_cost, sliced_cost))
                       and vl_nanoseconds() >= rest_until)
    return True


cdef int members_for(const LayerRun *run, int threads) noexcept nogil:
    """How many threads have a use."""
    cdef const vl_direction *d = run.directions[0]
    cdef ptrdiff_t tasks = run.slices * run.direction_count
    if run.share_steps:
        tasks = (d.panels + VL_GROUP - 1) // VL_GROUP if d.independent else threads
    return <int>tasks if tasks < threads else threads


cdef char *shared_memory(const LayerRun *run, int members, void **whole) noexcept nogil:
    """Memory for a walk of any direction over all sequences, which its members share."""
    cdef ptrdiff_t rows = 0, t
    cdef uint64_t most = 0
    cdef const vl_direction *direction
    cdef vl_scratch s
    cdef int d
    for t in range(run.steps):
        rows += run.batch_sizes[t]
    rows = max(rows, 1)
    for d in range(run.direction_count):
        direction = run.directions[d]
        most = max(most, lay_out(direction, run.sequences, chunk_rows(direction, run.sequences, rows), members, NULL,
                                 &s))
    whole[0] = NULL if most > SIZE_MAX // 2 else malloc(<size_t>most + 64)
    if whole[0] == NULL:
        return NULL
    return <char *>((<uintptr_t>whole[0] + 63) & ~<uintptr_t>63)


cdef bint run_layer(LayerRun *run, int threads) noexcept nogil:
    global rest_until
    cdef void *whole = NULL
    run.slices = 1
    run.first_row[0] = 0
    run.first_row[1] = run.sequences
    run.next_task = 0
    run.out_of_memory = run.share_steps = run.alone = False
    run.end_before = PTRDIFF_MAX
    run.shared_memory = NULL
    memset(&run.barrier, 0, sizeof(vl_barrier))
    threads = min(threads, VL_MOST_THREADS)
    if not choose(run, threads):
        return False
    cut_wide(run)
    if run.share_steps:
        run.shared_memory = shared_memory(run, members_for(run, threads), &whole)
        if run.shared_memory == NULL:
            return False
    parallel(members_for(run, threads), run_member, run, run.heed)
    free(whole)
    if run.alone:
        rest_until = vl_nanoseconds() + limit.rest_nanoseconds
    return not run.out_of_memory


# ---- batches as compiled callers have them: steps and rows at equal distances, lengths in any order ---------

cdef ptrdiff_t sort_by_length(const int32_t *lengths, ptrdiff_t count, int64_t *order, int64_t *batch_sizes,
                              ptrdiff_t *following) noexcept nogil:
    """The sequences' places from the longest to the shortest, equal ones as they stand, and how many are left at each
    step; returns the longest length. `following` is memory for a number a step."""
    cdef ptrdiff_t longest = 0, empty, b, t
    for b in range(count):
        longest = max(longest, <ptrdiff_t>lengths[b])
    for t in range(longest):
        batch_sizes[t] = 0
    for b in range(count):
        if lengths[b] > 0:
            batch_sizes[lengths[b] - 1] += 1
    for t in range(longest - 2, -1, -1):    # those of a length, and all that are longer
        batch_sizes[t] += batch_sizes[t + 1]
    for t in range(longest):    # where the next one of length t + 1 stands: behind all that are longer
        following[t] = <ptrdiff_t>batch_sizes[t + 1] if t + 1 < longest else 0
    empty = <ptrdiff_t>batch_sizes[0] if longest > 0 else 0
    for b in range(count):
        if lengths[b] > 0:
            order[following[lengths[b] - 1]] = b
            following[lengths[b] - 1] += 1
        else:
            order[empty] = b
            empty += 1
    return longest


cdef void clear_output(const Sequences *s) noexcept nogil:
    """Zeros for the output past each length; the rest is written over."""
    cdef ptrdiff_t number = s.directions[0].number_bytes
    cdef ptrdiff_t row_bytes = s.direction_count * s.directions[0].width * number
    cdef ptrdiff_t t, b
    for t in range(s.steps):
        for b in range(s.sequences):
            if t >= s.lengths[b]:
                memset(s.y + (t * s.y_time + b * s.y_row) * number, 0, row_bytes)


cdef bint run_sequences(const Sequences *s, int threads) noexcept nogil:
    cdef ptrdiff_t steps = s.steps, count = s.sequences, t, r, b
    # x_time, y_time [steps]; x_rows, y_rows, ranks [sequences]; batch sizes [steps]; order [sequences]
    cdef size_t offset_count = 2 * steps + 3 * count
    cdef size_t bytes = offset_count * sizeof(ptrdiff_t) + <size_t>(steps + count) * sizeof(int64_t) + 16
    cdef int64_t few[FEW_NUMBERS]
    cdef void *memory = <void *>few
    cdef ptrdiff_t *x_time
    cdef ptrdiff_t *y_time
    cdef ptrdiff_t *x_rows
    cdef ptrdiff_t *y_rows
    cdef int64_t *sizes
    cdef int64_t *order = NULL
    cdef bint done
    cdef LayerRun run       # a short call does not zero what it does not read
    run.turned = next_turn()
    run.direction_count = s.direction_count
    run.directions[0], run.directions[1] = s.directions[0], s.directions[1]
    run.steps, run.sequences = steps, count
    run.x, run.y = s.x, s.y
    run.heed = s.heed
    run.places = NULL
    run.padded_steps = 0
    run.h_0, run.c_0 = s.h_0, s.c_0
    run.h_n, run.c_n = s.h_n, s.c_n
    if count == 0:
        return True
    if steps > PTRDIFF_MAX // 128 or count > PTRDIFF_MAX // 128:    # rows of no features take no memory
        return False
    if bytes > sizeof(few):
        memory = malloc(bytes)
        if memory == NULL:
            return False
    x_time = <ptrdiff_t *>memory
    y_time = x_time + steps
    x_rows = y_time + steps
    y_rows = x_rows + count
    sizes = <int64_t *>((<uintptr_t>(x_time + offset_count) + 7) & ~<uintptr_t>7)
    run.x_time, run.y_time, run.x_rows, run.y_rows = x_time, y_time, x_rows, y_rows
    run.ranks = y_rows + count
    run.batch_sizes = sizes
    if s.lengths != NULL:
        run.places = order = sizes + steps
        run.steps = sort_by_length(s.lengths, count, order, sizes, x_time)
        if s.y != NULL:
            clear_output(s)
    else:
        for t in range(steps):
            sizes[t] = count
    for t in range(run.steps):
        x_time[t] = t * s.x_time
        y_time[t] = t * s.y_time
        if t % VL_WORK_BETWEEN_LOOKS == VL_WORK_BETWEEN_LOOKS - 1 and vl_shall_end(run.heed):
            break
    for r in range(count):
        b = r if order == NULL else <ptrdiff_t>order[r]
        x_rows[r] = b * s.x_row
        y_rows[r] = b * s.y_row
        run.ranks[b] = r
    done = vl_has_ended(run.heed) or run_layer(&run, threads)
    if memory != <void *>few:
        free(memory)
    return done
