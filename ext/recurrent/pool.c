#ifdef __linux__
#define _GNU_SOURCE /* for CPU sets */
#endif
#include "pool.h"

#include <pthread.h>
#include <sched.h>

#include "clock.h"
#include "limits_in_force.h"

#if defined(__x86_64__)
#define vl_pause() __builtin_ia32_pause()
#elif defined(__aarch64__) || (defined(__arm__) && __ARM_ARCH >= 7)
#define vl_pause() __asm__ volatile("yield")
#else
#define vl_pause() ((void)0)
#endif

/* Spins until *value is no longer (equal = 1) or at last (equal = 0) `than`; false when time is up. */
static int spin_while(const int *value, int equal, int than, int64_t nanoseconds)
{
    int64_t end = vl_nanoseconds() + nanoseconds;
    do {
        for (int i = 0; i < 32; i++) {
            if ((__atomic_load_n(value, __ATOMIC_ACQUIRE) == than) != equal)
                return 1;
            vl_pause();
        }
    } while (vl_nanoseconds() < end);
    return 0;
}

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t work = PTHREAD_COND_INITIALIZER, finished = PTHREAD_COND_INITIALIZER,
                      met = PTHREAD_COND_INITIALIZER;
static int workers;              /* threads that exist beside the callers */
static int busy;                 /* a call holds the pool */
static int caller_sleeps;        /* until its members have finished */
static int round_number;         /* counts calls; workers wait for it to change */
static pthread_t handles[VL_MOST_THREADS];
static int roomed_cpu = -1, roomed_workers; /* whom make_room made room for, and by moving how many */
static int round_at_start[VL_MOST_THREADS]; /* the last call before each worker was made */
static int pending;              /* members that have not finished the current call */
static int current_members;
static vl_task *current_task;
static void *current_context;

static void reset_in_child(void)
{
    pthread_mutex_init(&lock, NULL);
    pthread_cond_init(&work, NULL);
    pthread_cond_init(&finished, NULL);
    pthread_cond_init(&met, NULL);
    workers = busy = caller_sleeps = pending = roomed_workers = 0;
}

static void *worker(void *argument)
{
    int member = (int)(size_t)argument;
    pthread_mutex_lock(&lock);
    int seen = round_at_start[member];
    pthread_mutex_unlock(&lock);
    for (;;) {
        spin_while(&round_number, 1, seen, vl_limit.spin_nanoseconds);
        pthread_mutex_lock(&lock);
        while (round_number == seen)
            pthread_cond_wait(&work, &lock);
        seen = round_number;
        vl_task *task = member < current_members ? current_task : NULL;
        void *context = current_context;
        int members = current_members;
        pthread_mutex_unlock(&lock);
        if (task) {
            task(context, member, members);
            if (__atomic_sub_fetch(&pending, 1, __ATOMIC_SEQ_CST) == 0 &&
                __atomic_load_n(&caller_sleeps, __ATOMIC_SEQ_CST)) {
                pthread_mutex_lock(&lock);
                pthread_cond_signal(&finished);
                pthread_mutex_unlock(&lock);
            }
        }
    }
    return NULL;
}

/* With the lock held: keeps the workers off the caller's CPU. A scheduler that wakes them there, beside
 * an idle one, leaves them behind the caller for most of a short call. */
static void make_room(void)
{
#ifdef __linux__
    int cpu = sched_getcpu();
    cpu_set_t allowed;
    if (cpu < 0 || (cpu == roomed_cpu && workers == roomed_workers))
        return;
    if (sched_getaffinity(0, sizeof allowed, &allowed) || CPU_COUNT(&allowed) < 2)
        return;
    CPU_CLR(cpu, &allowed);
    for (int member = 1; member <= workers; member++)
        pthread_setaffinity_np(handles[member], sizeof allowed, &allowed);
    roomed_cpu = cpu;
    roomed_workers = workers;
#endif
}

/* With the lock held. Returns how many members can run. */
static int grow(int threads)
{
    static int prepared;
    if (!prepared) {
        pthread_atfork(NULL, NULL, reset_in_child);
        prepared = 1;
    }
    while (workers < threads - 1) {
        pthread_t thread;
        pthread_attr_t detached;
        size_t member = (size_t)workers + 1;
        round_at_start[member] = round_number;
        pthread_attr_init(&detached);
        pthread_attr_setdetachstate(&detached, PTHREAD_CREATE_DETACHED);
        int failed = pthread_create(&thread, &detached, worker, (void *)member);
        pthread_attr_destroy(&detached);
        if (failed)
            break;
        handles[member] = thread;
        workers++;
    }
    return workers + 1 < threads ? workers + 1 : threads;
}

/* Sleeps until the members have finished, and looks up in between. */
static void await_members(vl_heed *heed)
{
    pthread_mutex_lock(&lock);
    __atomic_store_n(&caller_sleeps, 1, __ATOMIC_SEQ_CST);
    while (__atomic_load_n(&pending, __ATOMIC_SEQ_CST)) {
        if (!heed || vl_has_ended(heed)) {
            pthread_cond_wait(&finished, &lock);
            continue;
        }
        struct timespec until;
        clock_gettime(CLOCK_REALTIME, &until); /* the condition's clock */
        until.tv_nsec += VL_LOOK_NANOSECONDS;
        if (until.tv_nsec >= 1000000000) {
            until.tv_nsec -= 1000000000;
            until.tv_sec++;
        }
        pthread_cond_timedwait(&finished, &lock, &until);
        pthread_mutex_unlock(&lock); /* who takes the GIL holds no lock */
        vl_shall_end(heed);
        pthread_mutex_lock(&lock);
    }
    __atomic_store_n(&caller_sleeps, 0, __ATOMIC_RELAXED);
    pthread_mutex_unlock(&lock);
}

void vl_parallel(int threads, vl_task *task, void *context, vl_heed *heed)
{
    if (threads > VL_MOST_THREADS)
        threads = VL_MOST_THREADS;
    if (threads <= 1) {
        task(context, 0, 1);
        return;
    }
    pthread_mutex_lock(&lock);
    if (__atomic_load_n(&busy, __ATOMIC_ACQUIRE) || (threads = grow(threads)) == 1) {
        pthread_mutex_unlock(&lock);
        task(context, 0, 1);
        return;
    }
    busy = 1;
    make_room();
    current_task = task;
    current_context = context;
    current_members = threads;
    __atomic_store_n(&pending, threads - 1, __ATOMIC_RELAXED);
    __atomic_store_n(&round_number, round_number + 1, __ATOMIC_RELEASE);
    pthread_mutex_unlock(&lock); /* first: who wakes wants it, and would sleep again */
    pthread_cond_broadcast(&work);

    task(context, 0, threads);

    if (!spin_while(&pending, 0, 0, vl_limit.member_spin_nanoseconds))
        await_members(heed);
    __atomic_store_n(&busy, 0, __ATOMIC_RELEASE);
}

int vl_wait(vl_barrier *barrier, int members)
{
    if (members == 1)
        return 0;
    int round = __atomic_load_n(&barrier->round, __ATOMIC_ACQUIRE);
    if (__atomic_add_fetch(&barrier->arrived, 1, __ATOMIC_ACQ_REL) == members) {
        __atomic_store_n(&barrier->arrived, 0, __ATOMIC_RELAXED);
        __atomic_store_n(&barrier->round, round + 1, __ATOMIC_SEQ_CST);
        if (__atomic_load_n(&barrier->sleepers, __ATOMIC_SEQ_CST)) {
            pthread_mutex_lock(&lock);
            pthread_cond_broadcast(&met);
            pthread_mutex_unlock(&lock);
        }
        return 0;
    }
    if (spin_while(&barrier->round, 1, round, vl_limit.member_spin_nanoseconds))
        return 0;
    pthread_mutex_lock(&lock);
    __atomic_add_fetch(&barrier->sleepers, 1, __ATOMIC_SEQ_CST);
    while (__atomic_load_n(&barrier->round, __ATOMIC_SEQ_CST) == round)
        pthread_cond_wait(&met, &lock);
    __atomic_sub_fetch(&barrier->sleepers, 1, __ATOMIC_SEQ_CST);
    pthread_mutex_unlock(&lock);
    return 1;
}

int vl_take(int *counter) { return __atomic_fetch_add(counter, 1, __ATOMIC_RELAXED); }
