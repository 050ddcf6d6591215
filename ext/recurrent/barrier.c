#include "barrier.h"

#include "limits_in_force.h"

_Static_assert(sizeof(vl_line) == VL_LINE_BYTES, "a line of the cache");
_Static_assert(1 << VL_MOST_ROUNDS >= VL_MOST_THREADS, "rounds for all threads");

int64_t vl_meet(const vl_team *team)
{
    if (team->members == 1 || !team->lines)
        return 0;
    vl_line *own = &team->lines[team->member];
    const uint32_t meeting = ++own->meetings;
    int64_t waited = 0;
    for (int round = 0, distance = 1; distance < team->members; round++, distance *= 2) {
        const int other = team->member + distance;
        vl_raise(&team->lines[other < team->members ? other : other - team->members].told[round], meeting);
        waited += vl_await(&own->told[round], meeting, vl_limit.member_spin_nanoseconds, 0);
    }
    return waited;
}
