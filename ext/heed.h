/* Ctrl-C in a long call: who computes asks now and then whether the call is to end.
 *
 * Python runs signal handlers on the main thread only, and only when it is asked to. So the thread that made the
 * call looks every twentieth of a second, with the GIL; where a handler raises, it keeps the exception, and all
 * threads of the call leave their loops. What they have written by then is dropped.
 */
#ifndef VLEDGE_HEED_H
#define VLEDGE_HEED_H

#include <pthread.h>
#include <stdint.h>
#include <time.h>

enum { VL_LOOK_NANOSECONDS = 50000000 };

/* Multiply-adds, or other steps as long, after which to ask again: some milliseconds, of which asking is nothing. */
#define VL_WORK_BETWEEN_LOOKS (INT64_C(1) << 22)

typedef struct vl_heed {
    int (*look)(struct vl_heed *); /* takes the GIL; 1 where a signal handler has raised, with `error` set */
    void *error;                   /* the exception: a reference, which whoever raises it takes */
    int ended;
    pthread_t caller;
    int64_t looked;                /* on the clock below */
} vl_heed;

/* Ticks are as long as the system's, a few milliseconds, and reading it takes as long as a load from memory. */
static inline int64_t vl_coarse_nanoseconds(void)
{
    struct timespec now;
#ifdef CLOCK_MONOTONIC_COARSE
    clock_gettime(CLOCK_MONOTONIC_COARSE, &now);
#else
    clock_gettime(CLOCK_MONOTONIC, &now);
#endif
    return now.tv_sec * INT64_C(1000000000) + now.tv_nsec;
}

static inline void vl_heed_begin(vl_heed *h, int (*look)(vl_heed *))
{
    h->look = look;
    h->error = 0;
    h->ended = 0;
    h->caller = pthread_self();
    h->looked = vl_coarse_nanoseconds();
}

static inline int vl_has_ended(const vl_heed *h) { return h && __atomic_load_n(&h->ended, __ATOMIC_RELAXED); }

/* Whether to leave at once; NULL never ends. Any thread of the call may ask. */
static inline int vl_shall_end(vl_heed *h)
{
    if (!h)
        return 0;
    if (vl_has_ended(h))
        return 1;
    if (!pthread_equal(pthread_self(), h->caller))
        return 0;
    int64_t now = vl_coarse_nanoseconds();
    if (now - h->looked < VL_LOOK_NANOSECONDS)
        return 0;
    int raised = h->look(h);
    h->looked = vl_coarse_nanoseconds();
    if (raised)
        __atomic_store_n(&h->ended, 1, __ATOMIC_RELAXED);
    return raised;
}

#endif
