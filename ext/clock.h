/* The monotonic clock, and the time that the calling thread has run. */
#ifndef VLEDGE_CLOCK_H
#define VLEDGE_CLOCK_H

#include <stdint.h>
#include <time.h>

static inline int64_t vl_nanoseconds(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec * INT64_C(1000000000) + now.tv_nsec;
}

static inline int64_t vl_thread_nanoseconds(void)
{
    struct timespec now;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
    return now.tv_sec * INT64_C(1000000000) + now.tv_nsec;
}

#endif
