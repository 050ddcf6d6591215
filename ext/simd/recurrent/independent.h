/* IndRNN's recurrence: no product, so what bounds it is reading `pre` and writing `out` once each.
 *
 * A tile of rows x vectors of the state stays in registers over all steps that its rows have in
 * common; eight independent chains hide the latency of one.
 */

typedef vec vl_activation(vec);

VL_INLINE vec vl_relu(vec x) { return VL_MAX(VL_SPLAT(0), x); }

enum { VL_TALLEST_STATE = 4, VL_MOST_STATE = 8 }; /* rows, and vectors in registers, of a tile */

/* last_lanes: units of the last vector, the rest of which is padding */
VL_INLINE void vl_independent_tile(int rows, int vectors, vl_activation *act, const vl_independent *units,
                                   ptrdiff_t row, ptrdiff_t panel, ptrdiff_t first, ptrdiff_t last,
                                   ptrdiff_t last_lanes)
{
    const real *weights = (const real *)units->w + panel * L;
    const real *pre = (const real *)units->pre + row * units->ld_pre + panel * L;
    real *state = (real *)units->h + row * units->ld_h + panel * L;
    const ptrdiff_t ld_pre = units->ld_pre, ld_h = units->ld_h;
    const ptrdiff_t *pre_steps = units->pre_steps, *out_steps = units->out_steps;
    real *out[VL_TALLEST_STATE];
    vec h[VL_TALLEST_STATE][VL_MOST_VECTORS], w[VL_MOST_VECTORS];
#pragma GCC unroll 4
    for (int v = 0; v < vectors; v++)
        w[v] = vl_load(weights + v * L);
#pragma GCC unroll 4
    for (int r = 0; r < rows; r++) {
        out[r] = units->out ? (real *)units->out + units->out_rows[row + r] + panel * L : NULL;
#pragma GCC unroll 4
        for (int v = 0; v < vectors; v++)
            h[r][v] = vl_load(state + r * ld_h + v * L);
    }
    for (ptrdiff_t i = first; i < last; i++) {
        const real *x = pre + pre_steps[i];
        ptrdiff_t at = out_steps[i];
#pragma GCC unroll 4
        for (int r = 0; r < rows; r++)
#pragma GCC unroll 4
            for (int v = 0; v < vectors; v++) {
                h[r][v] = act(VL_FMA(w[v], h[r][v], vl_load(x + r * ld_pre + v * L)));
                if (out[0])
                    vl_store_first(out[r] + at + v * L, h[r][v], v < vectors - 1 ? L : last_lanes);
            }
    }
#pragma GCC unroll 4
    for (int r = 0; r < rows; r++)
#pragma GCC unroll 4
        for (int v = 0; v < vectors; v++)
            vl_store(state + r * ld_h + v * L, h[r][v]);
}

/* Rows outside: what is read and written next stands next to it. A vector that is not full goes by
 * itself: its mask would take registers that a wide tile has not got. */
VL_INLINE void vl_independent_row(int rows, vl_activation *act, const vl_independent *units, ptrdiff_t row,
                                  ptrdiff_t first, ptrdiff_t last)
{
    for (ptrdiff_t panel = units->first_panel, vectors; panel < units->last_panel; panel += vectors) {
        ptrdiff_t full = units->hidden_size / L - panel;
        vectors = units->last_panel - panel < VL_MOST_VECTORS ? units->last_panel - panel : VL_MOST_VECTORS;
        if (vectors > full)
            vectors = full ? full : 1;
#define TILE(n, lanes)                                                                                                 \
    if (rows * n <= VL_MOST_STATE)                                                                                     \
    vl_independent_tile(rows, n, act, units, row, panel, first, last, lanes)
        switch (vectors) {
        case 1: TILE(1, full ? L : units->hidden_size - panel * L); break;
        case 2: TILE(2, L); break;
        case 3: TILE(3, L); break;
        default: TILE(4, L); break;
        }
#undef TILE
    }
}

VL_INLINE void vl_independent_rows(vl_activation *act, const vl_independent *units)
{
    ptrdiff_t tallest = units->last_panel - units->first_panel <= 2 ? 4 : 2;
    ptrdiff_t first = 0, last = units->steps;
    for (ptrdiff_t row = 0, height; row < units->rows; row += height) {
        while (first < last && units->live[first] <= row)
            first++;
        while (first < last && units->live[last - 1] <= row)
            last--;
        if (first == last)
            return;
        /* the rows of a tile take part in the same steps */
        height = tallest;
        if (units->live[first] < row + height || units->live[last - 1] < row + height)
            height = 1;
        if (height == 1)
            vl_independent_row(1, act, units, row, first, last);
        else if (height == 2)
            vl_independent_row(2, act, units, row, first, last);
        else
            vl_independent_row(4, act, units, row, first, last);
    }
}

static void vl_kernel_indrnn_tanh(const vl_independent *units) { vl_independent_rows(vl_tanh, units); }
static void vl_kernel_indrnn_relu(const vl_independent *units) { vl_independent_rows(vl_relu, units); }
