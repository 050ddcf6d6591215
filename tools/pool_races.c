/* The pool of threads by itself, for the thread sanitizer: calls of many sizes from several callers at a time, with
 * barriers, a shared counter, scratch memory, and ends in the middle. Wrong sums end it with status 1.
 * usage: pool_races ROUNDS */
#include "recurrent/pool.h"
#include "recurrent/scratch.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { CALLERS = 3, CELLS = 64, STEPS = 5 };

typedef struct {
    vl_line lines[VL_MOST_THREADS];
    int counter;
    long cells[CELLS];
    vl_heed *heed;
} work;

/* Each step adds what the step before has left in the next cell: right only if all members have met in between. */
static void shared_steps(void *context, int member, int members)
{
    work *w = context;
    const vl_team team = {w->lines, member, members};
    long taken[CELLS];
    for (int step = 0; step < STEPS; step++) {
        for (int k = member; k < CELLS; k += members)
            taken[k] = w->cells[(k + 1) % CELLS];
        vl_meet(&team);
        for (int k = member; k < CELLS; k += members)
            w->cells[k] += taken[k];
        vl_meet(&team);
    }
}

static void tasks(void *context, int member, int members)
{
    work *w = context;
    (void)member, (void)members;
    for (int k; !vl_shall_end(w->heed) && (k = vl_take(&w->counter)) < CELLS;) {
        char *memory = vl_scratch_memory((size_t)(1000 + 997 * k));
        memset(memory, k, 1000);
        w->cells[k] += memory[999];
    }
    vl_scratch_trim(4096);
}

static int look(vl_heed *h)
{
    (void)h;
    return 1;
}

static int failures;
static long rounds;

static void *caller(void *argument)
{
    unsigned seed = (unsigned)(size_t)argument;
    for (long round = 0; round < rounds; round++) {
        int threads = 1 + rand_r(&seed) % 6;
        work w = {.counter = 0};
        long expected[CELLS];
        for (int k = 0; k < CELLS; k++)
            w.cells[k] = expected[k] = k + 1;
        for (int step = 0; step < STEPS; step++) {
            long first = expected[0], before[CELLS];
            memcpy(before, expected, sizeof before);
            for (int k = 0; k < CELLS; k++)
                expected[k] += k + 1 < CELLS ? before[k + 1] : first;
        }
        vl_parallel(threads, shared_steps, &w, NULL);
        int wrong = memcmp(w.cells, expected, sizeof expected) != 0;
        memset(w.cells, 0, sizeof w.cells);
        vl_heed heed;
        vl_heed_begin(&heed, look);
        w.heed = &heed;
        if (round % 3 == 0)
            heed.looked -= 2 * (int64_t)VL_LOOK_NANOSECONDS; /* it ends at the caller's first question */
        vl_parallel(threads, tasks, &w, &heed);
        for (int k = 0; k < CELLS && !heed.ended; k++)
            wrong |= w.cells[k] != k;
        __atomic_add_fetch(&failures, wrong, __ATOMIC_RELAXED);
    }
    return NULL;
}

int main(int count, char **arguments)
{
    rounds = count > 1 ? atol(arguments[1]) : 1000;
    pthread_t threads[CALLERS];
    for (size_t k = 0; k < CALLERS; k++)
        pthread_create(&threads[k], NULL, caller, (void *)(k + 1));
    for (size_t k = 0; k < CALLERS; k++)
        pthread_join(threads[k], NULL);
    printf("pool: %d callers, %ld rounds each, %d wrong\n", CALLERS, rounds, failures);
    return failures != 0;
}
