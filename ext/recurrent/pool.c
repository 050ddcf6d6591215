#ifdef __linux__
#define _GNU_SOURCE /* for CPU sets */
#endif
#include "pool.h"

#include <pthread.h>
#include <sched.h>

#include "limits_in_force.h"

/* A worker's: where it waits to be called. Only those whom a call wants are woken. */
typedef struct {
    vl_word word;
    uint32_t calls, calls_before;   /* that it got, which the caller counts, and before its thread was made */
    pthread_t handle;
} __attribute__((aligned(VL_LINE_BYTES))) bell;

static bell bells[VL_MOST_THREADS];
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static int workers;              /* threads that exist beside the callers */
static int busy;                 /* a call holds the pool */
static int roomed_cpu = -1, roomed_workers; /* whom make_room made room for, and by moving how many */
static int current_members;
static vl_task *current_task;
static void *current_context;
static uint32_t calls;           /* that the pool has run */
static int pending __attribute__((aligned(VL_LINE_BYTES)));      /* members that have not finished the current one */
static vl_word finished __attribute__((aligned(VL_LINE_BYTES))); /* calls */

static void reset_in_child(void)
{
    pthread_mutex_init(&lock, NULL);
    workers = busy = pending = roomed_workers = 0;
    finished = 2 * calls; /* a sleeper's bit is the parent's */
    for (int i = 0; i < VL_MOST_THREADS; i++)
        bells[i].word = 2 * bells[i].calls;
}

static void *worker(void *argument)
{
    const int member = (int)(size_t)argument;
    bell *own = &bells[member];
    for (uint32_t call = own->calls_before;;) {
        vl_await(&own->word, ++call, vl_limit.spin_nanoseconds, 0);
        current_task(current_context, member, current_members);
        if (__atomic_sub_fetch(&pending, 1, __ATOMIC_ACQ_REL) == 0)
            vl_raise(&finished, calls);
    }
    return NULL;
}

/* With the lock held: keeps the workers off the caller's CPU, where each can have another. A scheduler that wakes them
 * there, beside an idle one, leaves them behind the caller for most of a short call. */
static void make_room(void)
{
#ifdef __linux__
    int cpu = sched_getcpu();
    cpu_set_t allowed;
    if (cpu < 0 || (cpu == roomed_cpu && workers == roomed_workers))
        return;
    if (sched_getaffinity(0, sizeof allowed, &allowed) || CPU_COUNT(&allowed) < 2)
        return;
    if (CPU_COUNT(&allowed) > workers)
        CPU_CLR(cpu, &allowed);
    for (int member = 1; member <= workers; member++)
        pthread_setaffinity_np(bells[member].handle, sizeof allowed, &allowed);
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
        pthread_attr_t detached;
        size_t member = (size_t)workers + 1;
        bells[member].calls_before = bells[member].calls;
        pthread_attr_init(&detached);
        pthread_attr_setdetachstate(&detached, PTHREAD_CREATE_DETACHED);
        int failed = pthread_create(&bells[member].handle, &detached, worker, (void *)member);
        pthread_attr_destroy(&detached);
        if (failed)
            break;
        __atomic_store_n(&workers, workers + 1, __ATOMIC_RELAXED);
    }
    return workers + 1 < threads ? workers + 1 : threads;
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
    pthread_mutex_unlock(&lock);
    current_task = task;
    current_context = context;
    current_members = threads;
    calls++;
    __atomic_store_n(&pending, threads - 1, __ATOMIC_RELAXED);
    for (int member = 1; member < threads; member++)
        vl_raise(&bells[member].word, ++bells[member].calls);

    task(context, 0, threads);

    while (vl_await(&finished, calls, vl_limit.member_spin_nanoseconds, heed ? VL_LOOK_NANOSECONDS : 0) < 0)
        vl_shall_end(heed);
    __atomic_store_n(&busy, 0, __ATOMIC_RELEASE);
}

int vl_sleepers(int threads)
{
    int awake = 0;
    for (int member = 1; member < threads && member <= __atomic_load_n(&workers, __ATOMIC_RELAXED); member++)
        awake += !vl_sleeps_on(&bells[member].word);
    return threads - 1 - awake;
}

int vl_take(int *counter) { return __atomic_fetch_add(counter, 1, __ATOMIC_RELAXED); }
