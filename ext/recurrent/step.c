#include "step.h"

#include <string.h>

void vl_run_step(const vl_direction *direction, const vl_step *step, const vl_team *team)
{
    direction->run->step(step);
    if (direction->run->candidate) {
        vl_meet(team);
        direction->run->candidate(step);
    }
}

void vl_run_step_from_input(const vl_direction *direction, vl_product *projection, vl_step *step, const vl_team *team)
{
    const ptrdiff_t first = step->first_panel, last = step->last_panel;
    const ptrdiff_t groups = (last - first + VL_GROUP - 1) / VL_GROUP;
    if (direction->run->candidate) { /* all of a row's gates come before its first candidate */
        direction->run->product(projection);
        vl_run_step(direction, step, team);
        return;
    }
    for (ptrdiff_t i = 0; i < groups; i++) {
        step->first_panel = first + VL_GROUP * (step->turned ? groups - 1 - i : i);
        step->last_panel = step->first_panel + VL_GROUP < last ? step->first_panel + VL_GROUP : last;
        projection->first = step->first_panel * direction->gates;
        projection->last = step->last_panel * direction->gates < direction->vectors
                               ? step->last_panel * direction->gates
                               : direction->vectors;
        direction->run->product(projection);
        direction->run->step(step);
        projection->in_room = step->in_room = 1; /* rows are brought into their small form once */
    }
    projection->in_room = step->in_room = 0;
    step->first_panel = first;
    step->last_panel = last;
}

void vl_set_state_projection(const vl_direction *direction, const void *gated, const ptrdiff_t *gated_rows, char *room,
                             vl_product *projection)
{
    const ptrdiff_t vectors = (direction->width + direction->kernels->lanes - 1) / direction->kernels->lanes;
    *projection = (vl_product){.depth = direction->hidden_size,
                               .last = vectors,
                               .vectors = vectors,
                               .columns = vectors * direction->kernels->lanes,
                               .group = VL_GROUP,
                               .x = gated,
                               .x_rows = gated_rows,
                               .w = direction->w_hr,
                               .ld_out = direction->ld_h,
                               .small = direction->run->small,
                               .room = room};
}

void vl_project_state(const vl_direction *direction, vl_product *projection, ptrdiff_t rows, int turned, void *h_next,
                      char *out, const ptrdiff_t *out_rows)
{
    const ptrdiff_t number = direction->number_bytes;
    projection->rows = rows;
    projection->turned = turned;
    projection->out = h_next;
    direction->run->product(projection);
    if (out)
        for (ptrdiff_t r = 0; r < rows; r++)
            memcpy(out + out_rows[r] * number, (const char *)h_next + r * direction->ld_h * number,
                   (size_t)(direction->width * number));
}
