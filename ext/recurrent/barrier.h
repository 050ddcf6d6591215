/* Where the members of a team meet, step by step.
 *
 * A dissemination barrier: in round k each member tells the one 2^k further on that it is there, and waits to be told
 * by the one 2^k before it; after log2(members) rounds everyone knows of everyone. Nobody writes a word that more than
 * one thread waits for, and each member's words are in a line of the cache of their own.
 */
#ifndef VLEDGE_BARRIER_H
#define VLEDGE_BARRIER_H

#include <stddef.h>

#include "parking.h"

enum { VL_MOST_THREADS = 64, VL_MOST_ROUNDS = 6, VL_LINE_BYTES = 64 };

/* A member's. What is not the barrier's is its first member's, for all to read behind the barrier. */
typedef struct {
    vl_word told[VL_MOST_ROUNDS];
    uint32_t meetings, unused;      /* so far */
    ptrdiff_t end_before;           /* the step that nobody begins, where the call ends, ... */
    ptrdiff_t alone_from;           /* ... or only the first member, where the others have no cores */
    char rest[VL_LINE_BYTES - VL_MOST_ROUNDS * sizeof(vl_word) - 2 * sizeof(uint32_t) - 2 * sizeof(ptrdiff_t)];
} vl_line;

/* As one member sees it. */
typedef struct {
    vl_line *lines;                 /* of all members, zeroed, the first one's first; NULL: nobody waits for others */
    int member, members;
} vl_team;

/* Returns when all members have called it as often: the nanoseconds that this thread has waited beyond the first looks.
 * What the others have written before is seen behind it. */
int64_t vl_meet(const vl_team *team);

#endif
