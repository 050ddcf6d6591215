#ifdef __linux__
#define _GNU_SOURCE /* for syscall */
#endif
#include "parking.h"

#include <sched.h>
#include <time.h>

#include "clock.h"

#if defined(__x86_64__)
#define vl_pause() __builtin_ia32_pause()
#elif defined(__aarch64__) || (defined(__arm__) && __ARM_ARCH >= 7)
#define vl_pause() __asm__ volatile("yield")
#else
#define vl_pause() ((void)0)
#endif

/* Looks before the clock is read and the core is offered to others: some microseconds, a barrier's worth. */
enum { QUICK_LOOKS = 256, LOOKS = 32 };
enum { ASLEEP = 1 };

/* ---- sleeping, as the system has it ---- */

#ifdef __linux__
#include <linux/futex.h>
#include <sys/syscall.h>
#include <unistd.h>

#ifndef SYS_futex /* 32-bit systems of 64-bit times have only the new call */
#define SYS_futex SYS_futex_time64
#endif

/* Two longs, as the call takes them on 32 bits too, whatever time_t is. */
typedef struct {
#if defined(SYS_futex_time64) && SYS_futex == SYS_futex_time64
    int64_t seconds, nanoseconds;
#else
    long seconds, nanoseconds;
#endif
} span;

static void sleep_on(vl_word *word, vl_word seen, int64_t nap)
{
    span most;
    most.seconds = 0;
    most.nanoseconds = (__typeof__(most.nanoseconds))nap;
    syscall(SYS_futex, word, FUTEX_WAIT_PRIVATE, seen, nap ? &most : 0, 0, 0);
}

static void wake(vl_word *word) { syscall(SYS_futex, word, FUTEX_WAKE_PRIVATE, 1, 0, 0, 0); }

#else
#include <pthread.h>

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t raised = PTHREAD_COND_INITIALIZER;

static void sleep_on(vl_word *word, vl_word seen, int64_t nap)
{
    struct timespec until;
    clock_gettime(CLOCK_REALTIME, &until); /* the condition's clock */
    until.tv_nsec += nap ? nap : 500000000;
    until.tv_sec += until.tv_nsec / 1000000000;
    until.tv_nsec %= 1000000000;
    pthread_mutex_lock(&lock);
    if (__atomic_load_n(word, __ATOMIC_SEQ_CST) == seen)
        pthread_cond_timedwait(&raised, &lock, &until);
    pthread_mutex_unlock(&lock);
}

static void wake(vl_word *word)
{
    (void)word;
    pthread_mutex_lock(&lock);
    pthread_cond_broadcast(&raised);
    pthread_mutex_unlock(&lock);
}
#endif

/* ---- words ---- */

static int says(const vl_word *word, uint32_t count)
{
    return (int32_t)(__atomic_load_n(word, __ATOMIC_ACQUIRE) - 2 * count) >= 0;
}

void vl_raise(vl_word *word, uint32_t count)
{
    if (__atomic_exchange_n(word, 2 * count, __ATOMIC_ACQ_REL) & ASLEEP)
        wake(word);
}

static int looks(const vl_word *word, uint32_t count, int times)
{
    for (int i = 0; i < times; i++) {
        if (says(word, count))
            return 1;
        vl_pause();
    }
    return 0;
}

int64_t vl_await(vl_word *word, uint32_t count, int64_t spin, int64_t nap)
{
    if (looks(word, count, QUICK_LOOKS))
        return 0;
    const int64_t start = vl_nanoseconds();
    int64_t now;
    do {
        sched_yield();
        if (looks(word, count, LOOKS))
            return vl_nanoseconds() - start;
        now = vl_nanoseconds();
    } while (now < start + spin);
    for (int naps = 0;; naps++) {
        vl_word seen = __atomic_load_n(word, __ATOMIC_ACQUIRE);
        if ((int32_t)(seen - 2 * count) >= 0)
            return vl_nanoseconds() - start;
        if (nap && naps)
            return -1;
        if (seen & ASLEEP ||
            __atomic_compare_exchange_n(word, &seen, seen | ASLEEP, 0, __ATOMIC_ACQ_REL, __ATOMIC_ACQUIRE))
            sleep_on(word, seen | ASLEEP, nap);
    }
}
