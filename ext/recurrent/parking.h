/* Waiting for another thread: a word of memory that counts up, on which one thread may wait and another counts.
 *
 * Who waits looks at it, at first without leaving its core, then letting others have the core between two looks, for
 * whom it waits may need it; when its time is up it sleeps in the kernel. Who counts wakes it only if it sleeps, which
 * a bit of the word says: among threads that have a core each, no call of the system is made.
 */
#ifndef VLEDGE_PARKING_H
#define VLEDGE_PARKING_H

#include <stdint.h>

/* The count times two, and 1 where somebody sleeps on it. Counts may wrap around. */
typedef uint32_t vl_word;

/* The word says `count`: it said one less. */
void vl_raise(vl_word *word, uint32_t count);

/* Until the word says `count` or more; it sleeps after `spin` nanoseconds, and for no more than `nap`, if that is not 0.
 * Returns the nanoseconds that it has waited, 0 where the first looks were enough; -1 where the nap is over before the
 * word says so. */
int64_t vl_await(vl_word *word, uint32_t count, int64_t spin, int64_t nap);

/* Whether somebody sleeps on it. */
static inline int vl_sleeps_on(const vl_word *word) { return __atomic_load_n(word, __ATOMIC_RELAXED) & 1; }

#endif
