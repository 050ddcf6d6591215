#include "sharing.h"

#include "limits_in_force.h"
#include "pool.h"
#include "step.h"

/* ---- what things take, in nanoseconds ---- */

/* A step of one member of a team, by the rows that it has. A row alone is bound by reading the weights; with a second
 * one that costs little more (the table "by rows" of python -m benchmarks.kernels). */
typedef struct {
    double first, second, next;
    double walk;                    /* once, whatever the steps: its beginning, and the first reading of W_ih */
} row_costs;

/* Until the last member has begun. */
static double calling(int members)
{
    const int sleepers = vl_sleepers(members);
    return (double)(vl_limit.call_nanoseconds * (members - 1) + vl_limit.next_wake_nanoseconds * sleepers +
                    (sleepers ? vl_limit.wake_nanoseconds : 0));
}

static int rounds_of(int members)
{
    int rounds = 0;
    while (1 << rounds < members)
        rounds++;
    return rounds;
}

static row_costs costs_of(const vl_direction *d, int members)
{
    const ptrdiff_t shares = vl_panel_shares(d);
    const double part = (double)((shares + members - 1) / members) / (double)shares; /* of the largest share */
    const double weight = vl_limit.weight_picoseconds * 1e-3 * (d->number_bytes > 4 ? 2 : 1);
    const double columns = (double)d->vectors * d->kernels->lanes;
    const double recurrent = d->independent ? 0 : columns * d->width * weight;
    const double input = columns * d->input_size * weight * (d->gemm ? 1 : part);
    const double equations = columns * vl_limit.equation_picoseconds * 1e-3 * part;
    /* one member alone computes it */
    const double projection = d->w_hr ? (double)d->hidden_size * d->width * weight : 0;
    const double bytes = d->independent ? 0 : (double)vl_recurrent_bytes(d) * part;
    const double quarters = bytes > vl_limit.near_step_bytes ? vl_limit.far_row_cost : vl_limit.first_row_cost;
    const int meetings = d->independent ? 0 : 1 + (d->run->candidate != NULL) + (d->w_hr != NULL);
    row_costs costs;
    costs.next = recurrent * part + projection + input + equations + vl_limit.row_nanoseconds;
    costs.first = recurrent * part * quarters / 4 + 2 * projection + input + equations + vl_limit.step_nanoseconds +
                  meetings * rounds_of(members) * (double)vl_limit.meeting_nanoseconds;
    costs.second = costs.next - recurrent * part * (quarters - 5) / 4;
    if (costs.second < 0)
        costs.second = 0;
    costs.walk = vl_limit.walk_nanoseconds + input * quarters / 4;
    /* a member that is late holds up its team, at every step */
    if (members > 1) {
        costs.first *= 1 + vl_limit.late_percent * 1e-2;
        costs.second *= 1 + vl_limit.late_percent * 1e-2;
        costs.next *= 1 + vl_limit.late_percent * 1e-2;
    }
    return costs;
}

static double row_cost(const row_costs *costs, ptrdiff_t place)
{
    return place == 0 ? costs->first : place == 1 ? costs->second : costs->next;
}

/* ---- slices ---- */

/* Cuts the rows into slices that take at most so long, from the longest sequence on; returns their number, or more
 * than `most` where that is not enough. */
static int cut(const row_costs *costs, vl_rows rows, double longest, int most, ptrdiff_t *first_row)
{
    int slices = 1;
    ptrdiff_t first = 0;
    double taken = costs->walk;
    first_row[0] = 0;
    for (ptrdiff_t r = 0; r < rows.sequences; r++) {
        double more = row_cost(costs, r - first) * (double)rows.lengths[r];
        if (taken + more > longest && r > first) {
            if (slices == most)
                return most + 1;
            first_row[slices++] = first = r;
            more = row_cost(costs, 0) * (double)rows.lengths[r];
            taken = costs->walk;
        }
        taken += more;
        if (taken > longest)
            return most + 1;
    }
    first_row[slices] = rows.sequences;
    return slices;
}

static double whole(const row_costs *costs, vl_rows rows)
{
    double taken = costs->walk;
    for (ptrdiff_t r = 0; r < rows.sequences; r++)
        taken += row_cost(costs, r) * (double)rows.lengths[r];
    return taken;
}

/* The rows in at most so many slices of which the longest takes as little as may be, to a hundredth or so; what that
 * one takes. */
static double cut_evenly(const row_costs *costs, vl_rows rows, double all, int most, int *slices, ptrdiff_t *first_row)
{
    double low = all / most, high = all;
    ptrdiff_t tried[VL_MOST_THREADS + 1];
    *slices = 1;
    first_row[0] = 0;
    first_row[1] = rows.sequences;
    if (most == 1)
        return all;
    while (high > low * 1.01) {
        const double middle = (low + high) / 2;
        const int count = cut(costs, rows, middle, most, tried);
        if (count <= most) {
            high = middle;
            *slices = count;
            for (int s = 0; s <= count; s++)
                first_row[s] = tried[s];
        } else
            low = middle;
    }
    return high;
}

/* ---- the choice ---- */

typedef struct {
    const row_costs *costs;         /* of a member of such a team */
    double all;                     /* what one team takes for all rows of a direction */
    int directions;
    int fewest_slices;
} team_costs;

/* What so many teams take. */
static double priced(const team_costs *team, vl_rows rows, int teams, vl_sharing *sharing)
{
    /* each direction has its own teams if they come out even, else all teams take from both */
    int slices = teams % team->directions == 0 ? teams / team->directions : teams;
    if (slices < team->fewest_slices)
        slices = team->fewest_slices;
    if (slices > rows.sequences)
        slices = (int)rows.sequences;
    const double longest = cut_evenly(team->costs, rows, team->all, slices, &sharing->slices, sharing->first_row);
    const int tasks = sharing->slices * team->directions;
    return longest * ((tasks + teams - 1) / teams);
}

void vl_choose_sharing(const vl_direction *const *directions, int direction_count, vl_rows rows, int threads,
                       int slices, vl_sharing *best)
{
    const vl_direction *d = directions[0];
    const ptrdiff_t shares = vl_panel_shares(d);
    row_costs costs = costs_of(d, 1);
    vl_sharing tried;
    team_costs alone = {&costs, whole(&costs, rows), direction_count, slices};
    best->members = best->team = 1;
    if (vl_limit.team_members > 0 && threads > 1) {
        const int most = (int)(vl_limit.team_members < shares ? vl_limit.team_members : shares);
        best->team = most < threads ? most : threads;
        best->members = threads / best->team * best->team;
        best->nanoseconds = priced(&alone, rows, threads / best->team, best);
        return;
    }
    best->nanoseconds = priced(&alone, rows, 1, best);
    if (threads == 1 || best->nanoseconds < 2 * calling(2))
        return;
    const double worth = 1 - vl_limit.worth_percent * 1e-2;
    for (int size = 1; size <= threads; size++) {
        if (size > 1 && (size > shares || (shares + size - 1) / size == (shares + size - 2) / (size - 1)))
            continue; /* the largest share is no smaller than with one fewer */
        costs = costs_of(d, size);
        const team_costs team = {&costs, whole(&costs, rows), direction_count, slices};
        const double longest = costs.first * (double)rows.lengths[0] + costs.walk;
        for (int teams = size == 1 ? 2 : 1; teams * size <= threads && teams <= rows.sequences * direction_count;
             teams++) {
            double least = team.all * direction_count / teams;
            if (least < longest)
                least = longest;
            const double wanted = best->nanoseconds * (teams * size > best->members ? worth : 1);
            const double call = calling(teams * size);
            if (least + call >= wanted)
                continue;
            tried.nanoseconds = priced(&team, rows, teams, &tried) + call;
            if (tried.nanoseconds < wanted) {
                *best = tried;
                best->team = size;
                best->members = teams * size;
            }
        }
    }
}
