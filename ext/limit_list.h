/* Every threshold by which compiled code chooses a path or a size: LIMIT(name, value, unit), and how it was found.
 *
 * `vledge._ext.recurrent.limits()` shows and changes them: tests force the paths that small sizes would not take,
 * benchmarks look for better values. No result depends on any. What a kernel's code is compiled with (sizes of tiles,
 * terms of a part) stands beside the kernel instead. Included by whoever has defined LIMIT.
 *
 * "Second level" is a core's second-level cache, 256 KB to 2 MB on the machines that these were found on (a Xeon with
 * AVX-512, an EPYC; both virtual).
 */

/* ---- a layer's walk through its steps ---- */
/* Projected input that a chunk of steps holds: small enough to stay in the second level beside the weights,
 * large enough that W_ih is seldom read anew ... */
LIMIT(chunk_bytes, 256 * 1024, "bytes")
/* ... and where W_ih is large, half as many as it has, up to this: up to a tenth less time from 1 MB of W_ih on,
 * where it comes from beyond the second level (python -m benchmarks). */
LIMIT(most_chunk_bytes, 2 * 1024 * 1024, "bytes")
/* Small W_ih of fewer bytes than this is no reason for a larger chunk: small W_hh stays in the second level for the
 * most part if the chunk leaves it room. 1 to 4 % less time of 512 and 640 units; from 3 MB on the larger chunk takes
 * 4 to 20 % less. */
LIMIT(large_small_bytes, 2 * 1024 * 1024, "bytes")
/* Scratch memory that a thread keeps between calls: twice a chunk at its largest. */
LIMIT(keep_scratch_bytes, 4 * 1024 * 1024, "bytes")
/* An output as large as this comes as untouched zeros from the system, and its padding is left so. Smaller ones
 * come from memory that was in use: threads zero the padding of their own sequences, one thread leaves it to
 * calloc. glibc's largest threshold for mmap. */
LIMIT(mapped_bytes, 32 * 1024 * 1024, "bytes")
/* Steps or sequences beyond which a call takes the long way, which checks that sizes have products. */
LIMIT(most_usual, 1 << 24, "steps or sequences")

/* ---- sharing a layer between threads ---- */
/* What a run takes, by which it is chosen how many threads share it and how (sharing.c): found on an EPYC with AVX-512,
 * and by `vledge calibrate` on the machine at hand. A weight's multiply-add in a full tile of float32; what a row's
 * units take besides, by their gates; a row alone and the second one, whose cost is the reading of weights (the table
 * "by rows" of python -m benchmarks.kernels), where a member's part of them is in its second level and where not; and
 * what is once a row, once a step and once a walk. */
LIMIT(weight_picoseconds, 18, "picoseconds")
LIMIT(equation_picoseconds, 400, "picoseconds")
LIMIT(first_row_cost, 8, "quarters of a row of a full tile")
LIMIT(far_row_cost, 10, "quarters of a row of a full tile")
LIMIT(near_step_bytes, VL_NEAR_BYTES, "bytes")
LIMIT(row_nanoseconds, 6, "nanoseconds")
LIMIT(step_nanoseconds, 40, "nanoseconds")
LIMIT(walk_nanoseconds, 500, "nanoseconds")
/* A round of a meeting at a step, of which there are log2(members); calling each thread that is awake for a call, and
 * the first one that is asleep, and each. */
LIMIT(meeting_nanoseconds, 100, "nanoseconds")
LIMIT(call_nanoseconds, 200, "nanoseconds")
LIMIT(wake_nanoseconds, 20 * 1000, "nanoseconds")
LIMIT(next_wake_nanoseconds, 3 * 1000, "nanoseconds")
/* What members of a team lose by waiting for the last; and what more threads must save to be taken. */
LIMIT(late_percent, 5, "percent")
LIMIT(worth_percent, 5, "percent")
/* Members of a team whatever it takes, for tests and measurements; 0: as many as pay. */
LIMIT(team_members, 0, "members")
/* No call has more threads than cores, however many are asked for; 0: those that this process may run on. */
LIMIT(cores, 0, "cores")
/* Multiply-adds of one kernel call, between which Ctrl-C is looked for: some hundredths of a second. Rows of a step
 * beyond them are cut into slices, as threads' are; but no slice is so small that weights are read for too few rows. */
LIMIT(kernel_work, 1 << 28, "multiply-adds")
LIMIT(fewest_slice_rows, 96, "rows")
/* Of the time, what a team's first member may wait for the others before it goes on alone, for their cores are busy
 * with something else, and the time after which that is told; and how long no team is made after that, at first: twice
 * as long each time it comes to that again, up to the longest. */
LIMIT(most_waiting, 35, "percent")
LIMIT(fair_trial_nanoseconds, 200 * 1000, "nanoseconds")
LIMIT(rest_nanoseconds, 100 * 1000 * 1000, "nanoseconds")
LIMIT(longest_rest_milliseconds, 10 * 1000, "milliseconds")

/* A thread that takes so much longer than another for as many steps is clearly slower: a core of another kind, or one
 * that somebody else has for some of the time. Slices are then cut finer, which costs some hundredths. */
LIMIT(slow_percent, 50, "percent")
/* For tests: a thread that takes so many times as long for its tasks; -1: none. */
LIMIT(slow_member, -1, "member")
LIMIT(slowness, 4, "times")

/* ---- the pool of threads ---- */
/* How long a thread looks for work before it sleeps, the core on offer to others. Between calls: what waking one costs,
 * so that never more than twice the best choice is spent. Within a call longer: for the last member, which has as much to do, and at a barrier,
 * where a member that sleeps is late at the next one and the others then fall asleep in turn; on a virtual
 * machine waking takes longer than a step. */
LIMIT(spin_nanoseconds, 50 * 1000, "nanoseconds")
LIMIT(member_spin_nanoseconds, 300 * 1000, "nanoseconds")

/* ---- products with a matrix ---- */
/* Rows of x that pass by all weights before the next ones: they stay in the second level; but never fewer rows
 * than share the reading of the weights well. */
LIMIT(block_bytes, 128 * 1024, "bytes")
LIMIT(least_block_rows, 48, "rows")
/* Work that is worth waking a thread for, in floats and in bytes. */
LIMIT(thread_work, 1 << 20, "multiply-adds")
LIMIT(thread_byte_work, 1 << 21, "multiply-adds")
/* Rows up to which packing a matrix costs more than it saves, where its columns lie side by side, and where its
 * rows do. */
LIMIT(thin_rows, 4, "rows")
LIMIT(thin_dot_rows, 2, "rows")
/* Projected input of a quantised layer's chunk, which its steps find in the second level, and how many rows share
 * the reading of W at least. */
LIMIT(byte_chunk_bytes, 128 * 1024, "bytes")
LIMIT(least_byte_chunk_rows, 24, "rows")

/* ---- convolutions ---- */
/* A block's copied input, which stays in the second level beside the weights, and its outputs. */
LIMIT(region_bytes, 128 * 1024, "bytes")
LIMIT(most_pixels, 2048, "pixels")
/* A block's sides if it can have them: each block copies its neighbours' edges anew. */
LIMIT(wanted_rows, 8, "rows")
LIMIT(wanted_columns, 32, "columns")
/* Winograd's transforms cost as much as they save with fewer channels than these (python -m benchmarks.convolutions),
 * and a block has at least twice as many rows and columns as the dilation. */
LIMIT(winograd_in_channels, 16, "channels")
LIMIT(winograd_out_channels, 16, "channels")
LIMIT(winograd_dilation, 4, "pixels")
/* Blocks that each thread should get, to balance their load. */
LIMIT(blocks_a_member, 3, "blocks")

/* ---- other operators: work from which threads pay ---- */
LIMIT(pool_thread_work, 1 << 17, "elements read")
LIMIT(reduce_thread_work, 1 << 17, "elements")
LIMIT(chain_thread_work, 1 << 18, "elements times micro-operations")
LIMIT(norm_thread_work, 1 << 16, "elements")

/* Work of a piece of an operator, between which Ctrl-C is looked for: some milliseconds. */
LIMIT(piece_work, 1 << 24, "elements, or what takes as long")

/* ---- runs of a graph ---- */
/* An output from this size on is the program's own memory, handed over: a copy of less costs less than memory
 * that is new at each run. */
LIMIT(hand_over_bytes, 256 * 1024, "bytes")
/* Frames that wait for the next run; more come and go with the threads that run at a time. */
LIMIT(most_idle_frames, 4, "frames")
/* What an idle frame keeps, beside as much as its last run used. */
LIMIT(keep_frame_bytes, 1024 * 1024, "bytes")
/* Steps of a stream that are shorter run on the caller's thread and keep the GIL, so that they take no lock and
 * wait for no other thread (Python lets a thread keep it for 5 ms); after so many longer ones in a row they go on
 * with all threads and let it go. */
LIMIT(short_step_nanoseconds, 100 * 1000, "nanoseconds")
LIMIT(most_long_steps, 3, "steps")
