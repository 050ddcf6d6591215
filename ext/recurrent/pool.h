/* A pool of worker threads for one call at a time.
 *
 * Lazy: no thread exists before the first call that wants one. Quiet: a waiting thread spins for
 * some microseconds and then sleeps in the kernel. Fork-safe: a child starts with an empty pool.
 * A second call while the pool is busy runs on its caller alone.
 */
#ifndef VLEDGE_POOL_H
#define VLEDGE_POOL_H

#include "barrier.h"
#include "heed.h"

/* member in [0, members); 0 is the calling thread */
typedef void vl_task(void *context, int member, int members);

/* Runs the task once on each of up to `threads` threads, the caller among them, and returns when
 * all are done. `members` may come out smaller, down to 1. While it waits for the others the caller asks the
 * `heed` of the call, where there is one, whether to end: the tasks themselves look for the answer. */
void vl_parallel(int threads, vl_task *task, void *context, vl_heed *heed);

/* How many of the threads that such a call wants would have to be woken or made for it. */
int vl_sleepers(int threads);

/* Takes the next number of a shared counter: 0, 1, 2, ... */
int vl_take(int *counter);

#endif
