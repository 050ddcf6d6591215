"""How a run of a layer is shared between threads, as ``ext/recurrent/sharing.c`` has chosen.

The sequences are cut into slices; a slice in a direction is a task, and a team of threads does it. A thread alone is a
team that waits for nobody and takes the next task where it has done with one. Members of a larger team share the panels
of every step and meet at a barrier: for one long sequence, and where slices would be unequal or a step's weights are
more than a core's cache holds.

It has more than 400 lines: batches of compiled callers become a LayerRun here too, which nobody else is to fill in.
"""

from libc.stdint cimport PTRDIFF_MAX, SIZE_MAX, int32_t, int64_t, uint64_t, uintptr_t
from libc.stdlib cimport free, malloc
from libc.string cimport memset

from vledge._ext.pool cimport (
    VL_LINE_BYTES,
    VL_MOST_THREADS,
    VL_WORK_BETWEEN_LOOKS,
    choose_sharing,
    chunk_rows,
    lay_out,
    limits_in_force,
    parallel,
    scratch_trim,
    take,
    vl_has_ended,
    vl_limits,
    vl_line,
    vl_rows,
    vl_scratch,
    vl_shall_end,
    vl_team,
)
from vledge._ext.walk cimport LayerRun, walk
from vledge._ext.weights cimport vl_direction

cdef extern from "clock.h" nogil:
    int64_t vl_nanoseconds()
    int64_t vl_thread_nanoseconds()

cdef extern from "simd/cpu_mode.h" nogil:
    uint64_t vl_flush_subnormals()
    void vl_restore_mode(uint64_t mode)

# Tables of so many numbers stand on the stack, so that a short call allocates nothing.
cdef enum:
    FEW_NUMBERS = 256

# A thread that was clearly slower than another in so many calls more than it was not has a slower core: slices are then
# so many for each thread, of so many rows at least, that the others take what it would be late with.
cdef enum:
    SLOW_CALLS = 3
    MANY_SLICES = 4
    MANY_SLICE_ROWS = 6

cdef const vl_limits *limit = limits_in_force()
cdef int most_members = VL_MOST_THREADS     # of a call, half as many as had no cores to themselves, ...
cdef int64_t rest_until = 0     # ... until then
cdef int64_t rest = 0           # how long that was, while it comes to it again and again
cdef bint turn = False


cdef int slow_calls = 0         # calls in which a thread was clearly slower than another, less those in which none was
cdef int tasks_of_last[VL_MOST_THREADS]
cdef int members_of_last = 0    # a call whose threads took slices


cdef void end_rest() noexcept nogil:
    global rest_until, rest, slow_calls
    rest_until = rest = slow_calls = 0


cdef list tasks_done():
    return [tasks_of_last[k] for k in range(members_of_last)]


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


cdef inline vl_team team_of(const LayerRun *run, int number, int member) noexcept nogil:
    """A team as one of its members sees it."""
    cdef vl_team team
    team.lines = NULL
    team.member, team.members = member, run.sharing.team
    if team.members > 1 and run.shared_memory != NULL:
        team.lines = <vl_line *>run.shared_memory + number * team.members
    return team


cdef inline char *memory_of(const LayerRun *run, int number) noexcept nogil:
    """What a team works in; NULL: whoever is alone has memory of its own."""
    if run.sharing.team == 1:
        return NULL
    return run.shared_memory + run.sharing.members * VL_LINE_BYTES + number * run.team_bytes


cdef inline int task_count(const LayerRun *run) noexcept nogil:
    return run.sharing.slices * run.direction_count


cdef void do_task(LayerRun *run, int task, const vl_team *team, int ordinal, char *memory) noexcept nogil:
    """Both directions by turns, the longest slices first."""
    cdef int direction = task % run.direction_count, number = task // run.direction_count
    cdef ptrdiff_t first = run.sharing.first_row[number], rows = run.sharing.first_row[number + 1] - first
    if not walk(run, direction, first, first + rows, team, ordinal, memory):
        run.out_of_memory = True
    if direction == 0:
        clear_padding(run, first + rows * team.member // team.members, first + rows * (team.member + 1) // team.members)


cdef void share_tasks(LayerRun *run, int number, int member) noexcept nogil:
    """A member's part of its team's tasks; where the others have turned out to have no core, the first one does the
    rest alone."""
    cdef vl_team team = team_of(run, number, member), alone
    cdef int teams = run.sharing.members // run.sharing.team, task = number, ordinal = 0
    alone.lines, alone.member, alone.members = NULL, 0, 1
    while task < task_count(run):
        if team.lines.alone_from == PTRDIFF_MAX:
            do_task(run, task, &team, ordinal, memory_of(run, number))
        elif member == 0:
            do_task(run, task, &alone, 0, NULL)
        task += teams
        ordinal += 1


cdef int64_t steps_of(const LayerRun *run, int task) noexcept nogil:
    """The steps of a task's rows, and those that it walks, which take about as long as another row's."""
    cdef ptrdiff_t first = run.sharing.first_row[task // run.direction_count], t
    cdef ptrdiff_t rows = run.sharing.first_row[task // run.direction_count + 1] - first
    cdef int64_t steps = 0
    for t in range(run.steps):
        if run.batch_sizes[t] <= first:
            break
        steps += min(<ptrdiff_t>run.batch_sizes[t] - first, rows) + 1
    return steps


cdef void take_tasks(LayerRun *run, int member) noexcept nogil:
    """Alone, while there are any."""
    cdef vl_team alone
    cdef int task = take(&run.next_task), done = 0
    cdef int64_t began = vl_nanoseconds(), steps = 0, until
    alone.lines, alone.member, alone.members = NULL, 0, 1
    while task < task_count(run) and not vl_has_ended(run.heed):
        until = vl_nanoseconds()
        do_task(run, task, &alone, 0, NULL)
        if member == limit.slow_member:
            until = vl_nanoseconds() + (vl_nanoseconds() - until) * (limit.slowness - 1)
            while vl_nanoseconds() < until:
                pass
        steps += steps_of(run, task)
        done += 1
        task = take(&run.next_task)
    run.tasks[member] = done
    run.paces[member] = (vl_nanoseconds() - began) * 1000 // steps if steps > 0 else 0
    scratch_trim(limit.keep_scratch_bytes)


cdef void watch_paces(const LayerRun *run, int64_t taken) noexcept nogil:
    """Whether a thread was slower than another at its tasks; of a short call that is what waking it took."""
    global slow_calls, members_of_last
    cdef int64_t slowest = 0, quickest = 0, pace
    cdef int k
    members_of_last = run.sharing.members
    for k in range(run.sharing.members):
        tasks_of_last[k] = run.tasks[k]
        pace = run.paces[k]
        if pace > 0:
            slowest = max(slowest, pace)
            quickest = pace if quickest == 0 else min(quickest, pace)
    if taken < limit.fair_trial_nanoseconds:
        return
    if slowest * 100 > quickest * (100 + limit.slow_percent):
        slow_calls = min(slow_calls + 1, 2 * SLOW_CALLS)
    elif slow_calls > 0:
        slow_calls -= 1


cdef void run_member(void *context, int member, int members) noexcept nogil:
    cdef LayerRun *run = <LayerRun *>context
    cdef uint64_t mode = vl_flush_subnormals()
    cdef int size = run.sharing.team
    if size == 1 or members < run.sharing.members:      # the pool is busy, or has fewer threads: each is alone
        take_tasks(run, member)
    else:
        share_tasks(run, member // size, member % size)
    vl_restore_mode(mode)


# ---- the choice --------------------------------------------------------------------------------

cdef void list_lengths(const LayerRun *run, ptrdiff_t *lengths) noexcept nogil:
    """How many steps each sequence has."""
    cdef ptrdiff_t length = run.steps, r
    for r in range(run.sequences):
        while length > 0 and run.batch_sizes[length - 1] <= r:
            length -= 1
        lengths[r] = length


cdef int fewest_slices(const LayerRun *run) noexcept nogil:
    """Slices of so many sequences that no step of theirs takes long: Ctrl-C is looked for in between."""
    cdef const vl_direction *d = run.directions[0]
    cdef ptrdiff_t depth = max(d.input_size, d.width)
    cdef int64_t row_work = <int64_t>d.vectors * d.kernels.lanes * (depth if depth > 1 else 1)
    cdef int64_t rows = limit.kernel_work // (row_work if row_work > 1 else 1)
    cdef int64_t wanted
    if rows < limit.fewest_slice_rows:
        rows = limit.fewest_slice_rows
    wanted = (run.sequences + rows - 1) // rows
    return <int>wanted if wanted < VL_MOST_THREADS else VL_MOST_THREADS


cdef bint choose(LayerRun *run, int threads) noexcept nogil:
    """False when memory is out."""
    cdef int fewest = fewest_slices(run), many = min(MANY_SLICES * threads, VL_MOST_THREADS)
    cdef ptrdiff_t few[FEW_NUMBERS]
    cdef ptrdiff_t *lengths = few
    cdef vl_rows rows
    if run.sequences > FEW_NUMBERS:
        lengths = <ptrdiff_t *>malloc(run.sequences * sizeof(ptrdiff_t))
        if lengths == NULL:
            return False
    list_lengths(run, lengths)
    rows.lengths, rows.sequences = lengths, run.sequences
    if threads > 1 and slow_calls >= SLOW_CALLS and run.sequences >= many * MANY_SLICE_ROWS:
        fewest = max(fewest, many)
    choose_sharing(run.directions, run.direction_count, rows, threads, fewest, &run.sharing)
    if lengths != few:
        free(lengths)
    return True


cdef char *shared_memory(LayerRun *run, void **whole) noexcept nogil:
    """Memory for the teams: each member's line, and a walk of any task for each team."""
    cdef ptrdiff_t rows, live, t
    cdef uint64_t most = 0, lines = <uint64_t>run.sharing.members * VL_LINE_BYTES
    cdef int teams = run.sharing.members // run.sharing.team, slice, d
    cdef ptrdiff_t first, count
    cdef vl_scratch s
    cdef char *memory
    whole[0] = NULL
    for slice in range(run.sharing.slices):
        first = run.sharing.first_row[slice]
        count = run.sharing.first_row[slice + 1] - first
        rows = 0
        for t in range(run.steps):
            live = min(<ptrdiff_t>run.batch_sizes[t] - first, count)
            if live <= 0:
                break
            rows += live
        for d in range(run.direction_count):
            most = max(most, lay_out(run.directions[d], count, chunk_rows(run.directions[d], count, max(rows, 1)),
                                     run.sharing.team, NULL, &s))
    if most > (SIZE_MAX // 2 - lines) // teams:
        return NULL
    whole[0] = malloc(<size_t>(lines + teams * most) + 64)
    if whole[0] == NULL:
        return NULL
    memory = <char *>((<uintptr_t>whole[0] + 63) & ~<uintptr_t>63)
    memset(memory, 0, lines)
    for d in range(run.sharing.members):
        (<vl_line *>memory)[d].end_before = (<vl_line *>memory)[d].alone_from = PTRDIFF_MAX
    run.team_bytes = most
    return memory


cdef bint run_layer(LayerRun *run, int threads) noexcept nogil:
    global most_members, rest_until, rest
    cdef void *whole = NULL
    cdef int k
    cdef bint alone = False
    cdef int64_t began
    run.next_task = 0
    run.out_of_memory = False
    run.shared_memory = NULL
    if threads > 1 and rest_until > 0 and vl_nanoseconds() < rest_until:
        threads = min(threads, most_members)
    run.sharing.members = run.sharing.team = run.sharing.slices = 1
    run.sharing.first_row[0] = 0
    run.sharing.first_row[1] = run.sequences
    if (threads > 1 or fewest_slices(run) > 1) and run.steps > 0 and not choose(run, min(threads, VL_MOST_THREADS)):
        return False
    if run.sharing.team > 1:
        run.shared_memory = shared_memory(run, &whole)
        if run.shared_memory == NULL:
            return False
    if run.sharing.team == 1 and run.sharing.members > 1:
        for k in range(run.sharing.members):
            run.tasks[k] = run.paces[k] = 0
        began = vl_nanoseconds()
        parallel(run.sharing.members, run_member, run, run.heed)
        watch_paces(run, vl_nanoseconds() - began)
    else:
        parallel(run.sharing.members, run_member, run, run.heed)
    if run.shared_memory != NULL:
        for k in range(run.sharing.members):
            alone |= (<vl_line *>run.shared_memory)[k].alone_from != PTRDIFF_MAX
        if alone:
            rest = min(max(2 * rest, limit.rest_nanoseconds), limit.longest_rest_milliseconds * 1000000)
            rest_until = vl_nanoseconds() + rest
            most_members = max(run.sharing.members // 2, 1)
        elif rest_until > 0 and vl_nanoseconds() >= rest_until:
            rest_until = rest = 0
    free(whole)
    return not run.out_of_memory


cdef bint rehearse(LayerRun *run, int threads, int64_t *nanoseconds, int most) noexcept nogil:
    """What each member would do, one after the other on this thread with nobody to wait for, and the time each takes of
    a processor:
    nanoseconds[task, member of its team]. What it computes is of no use. False when memory is out, or where there are
    more than `most` numbers."""
    cdef void *whole = NULL
    cdef vl_team team
    cdef uint64_t mode
    cdef int task, member
    cdef int64_t start
    run.out_of_memory = False
    run.shared_memory = NULL
    if not choose(run, max(1, min(threads, VL_MOST_THREADS))) or task_count(run) * run.sharing.team > most:
        return False
    if run.sharing.team > 1:
        run.shared_memory = shared_memory(run, &whole)
        if run.shared_memory == NULL:
            return False
    mode = vl_flush_subnormals()
    for task in range(task_count(run)):
        for member in range(run.sharing.team):
            team.lines, team.member, team.members = NULL, member, run.sharing.team
            start = vl_thread_nanoseconds()
            do_task(run, task, &team, 0, memory_of(run, 0))
            nanoseconds[task * run.sharing.team + member] = vl_thread_nanoseconds() - start
    vl_restore_mode(mode)
    free(whole)
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
