#include "step.h"

#include <string.h>

void vl_run_step(const vl_direction *d, const vl_step *step, vl_barrier *barrier, int members)
{
    d->run->step(step);
    if (d->run->candidate) {
        vl_wait(barrier, members);
        d->run->candidate(step);
    }
}

void vl_run_step_from_input(const vl_direction *d, vl_product *projection, vl_step *step, vl_barrier *barrier,
                            int members)
{
    const ptrdiff_t first = step->first_panel, last = step->last_panel;
    const ptrdiff_t groups = (last - first + VL_GROUP - 1) / VL_GROUP;
    if (d->run->candidate || d->run->small) { /* all of a row's gates come before its first candidate; and rows are
                                                 brought into their small form once */
        d->run->product(projection);
        vl_run_step(d, step, barrier, members);
        return;
    }
    for (ptrdiff_t i = 0; i < groups; i++) {
        step->first_panel = first + VL_GROUP * (step->turned ? groups - 1 - i : i);
        step->last_panel = step->first_panel + VL_GROUP < last ? step->first_panel + VL_GROUP : last;
        projection->first = step->first_panel * d->gates;
        projection->last = step->last_panel * d->gates < d->vectors ? step->last_panel * d->gates : d->vectors;
        d->run->product(projection);
        d->run->step(step);
    }
    step->first_panel = first;
    step->last_panel = last;
}

void vl_set_state_projection(const vl_direction *d, const void *gated, const ptrdiff_t *gated_rows, char *room,
                             vl_product *p)
{
    const ptrdiff_t vectors = (d->width + d->kernels->lanes - 1) / d->kernels->lanes;
    *p = (vl_product){.depth = d->hidden_size,
                      .last = vectors,
                      .vectors = vectors,
                      .columns = vectors * d->kernels->lanes,
                      .group = VL_GROUP,
                      .x = gated,
                      .x_rows = gated_rows,
                      .w = d->w_hr,
                      .ld_out = d->ld_h,
                      .small = d->run->small,
                      .room = room};
}

void vl_project_state(const vl_direction *d, vl_product *p, ptrdiff_t rows, int turned, void *h_next, char *out,
                      const ptrdiff_t *out_rows)
{
    const ptrdiff_t number = d->number_bytes;
    p->rows = rows;
    p->turned = turned;
    p->out = h_next;
    d->run->product(p);
    if (out)
        for (ptrdiff_t r = 0; r < rows; r++)
            memcpy(out + out_rows[r] * number, (const char *)h_next + r * d->ld_h * number,
                   (size_t)(d->width * number));
}
