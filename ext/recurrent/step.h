/* One time step of one layer: which panels a member computes, and the kernels that compute them. */
#ifndef VLEDGE_STEP_H
#define VLEDGE_STEP_H

#include "barrier.h"
#include "direction.h"

/* What members of a team share a step by: a panel, or the whole group that one-gate products pack together. */
static inline ptrdiff_t vl_panels_together(const vl_direction *direction)
{
    return direction->gates == 1 || direction->run->candidate ? VL_GROUP : 1;
}

static inline ptrdiff_t vl_panel_shares(const vl_direction *direction)
{
    const ptrdiff_t together = vl_panels_together(direction);
    return (direction->panels + together - 1) / together;
}

/* The panels that a member of a team computes: the first member, who tells by its waiting whether the others have cores,
 * has as many as any. */
static inline void vl_panel_share(const vl_direction *direction, int member, int members, ptrdiff_t *first,
                                  ptrdiff_t *last)
{
    const ptrdiff_t together = vl_panels_together(direction), shares = vl_panel_shares(direction);
    const ptrdiff_t end = together * (shares - shares * member / members);
    *first = together * (shares - shares * (member + 1) / members);
    *last = end < direction->panels ? end : direction->panels;
}

/* The step of one member's panels; a team of one waits for nobody. */
void vl_run_step(const vl_direction *direction, const vl_step *step, const vl_team *team);

/* The input's projection and the step, a few panels at a time: so both matrices are read as one, forth and back by
 * turns, which begins with what the last step has left in the cache. */
void vl_run_step_from_input(const vl_direction *direction, vl_product *projection, vl_step *step, const vl_team *team);

/* The arguments of out = W_hr gated, an LSTM's projection, which stay from step to step. */
void vl_set_state_projection(const vl_direction *direction, const void *gated, const ptrdiff_t *gated_rows, char *room,
                             vl_product *projection);

/* The next state of `rows` rows by it, and the output's copy of that where `out` is not NULL. */
void vl_project_state(const vl_direction *direction, vl_product *projection, ptrdiff_t rows, int turned, void *h_next,
                      char *out, const ptrdiff_t *out_rows);

#endif
