/* IndRNN's recurrence: no product, so what bounds it is reading `pre` and writing `out` once each.
 *
 * A tile of rows x vectors of the state stays in registers over all steps that its rows have in
 * common; eight independent chains hide the latency of one.
 */

typedef vec vl_activation(vec);

VL_INLINE vec vl_relu(vec x) { return VL_MAX(VL_SPLAT(0), x); }

/* Rows of a tile: with `vectors` they make at most eight accumulators. */
#define VL_CHAINS(vectors) ((vectors) <= 2 ? 4 : 2)

/* last_lanes: units of the last vector, the rest of which is padding */
VL_INLINE void vl_independent_tile(int rows, int vectors, vl_activation *act,
                                   const vl_independent *s, ptrdiff_t row, ptrdiff_t panel,
                                   ptrdiff_t first, ptrdiff_t last, ptrdiff_t last_lanes)
{
    const real *u = (const real *)s->w + panel * L;
    const real *pre = (const real *)s->pre + row * s->ld_pre + panel * L;
    real *state = (real *)s->h + row * s->ld_h + panel * L;
    const ptrdiff_t ld_pre = s->ld_pre, ld_h = s->ld_h;
    const ptrdiff_t *pre_steps = s->pre_steps, *out_steps = s->out_steps;
    real *out[VL_CHAINS(1)];
    vec h[VL_CHAINS(1)][VL_MOST_VECTORS], us[VL_MOST_VECTORS];
#pragma GCC unroll 4
    for (int v = 0; v < vectors; v++)
        us[v] = vl_load(u + v * L);
#pragma GCC unroll 4
    for (int r = 0; r < rows; r++) {
        out[r] = s->out ? (real *)s->out + s->out_rows[row + r] + panel * L : NULL;
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
                h[r][v] = act(VL_FMA(us[v], h[r][v], vl_load(x + r * ld_pre + v * L)));
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

VL_INLINE void vl_independent_rows(int vectors, vl_activation *act, const vl_independent *s,
                                   ptrdiff_t panel)
{
    ptrdiff_t row = 0, first = 0, last = s->steps, height;
    ptrdiff_t left = s->hidden_size - (panel + vectors - 1) * L, last_lanes = left < L ? left : L;
    for (; row < s->rows; row += height) {
        while (first < last && s->live[first] <= row)
            first++;
        while (first < last && s->live[last - 1] <= row)
            last--;
        if (first == last)
            return;
        /* the rows of a tile take part in the same steps */
        height = VL_CHAINS(vectors);
        if (s->live[first] >= row + height && s->live[last - 1] >= row + height) {
            vl_independent_tile(VL_CHAINS(vectors), vectors, act, s, row, panel, first, last,
                                last_lanes);
        } else {
            height = 1;
            vl_independent_tile(1, vectors, act, s, row, panel, first, last, last_lanes);
        }
    }
}

VL_INLINE void vl_independent_panels(vl_activation *act, const vl_independent *s)
{
    for (ptrdiff_t panel = s->first_panel; panel < s->last_panel; panel += VL_MOST_VECTORS) {
        switch (s->last_panel - panel) {
        case 1: vl_independent_rows(1, act, s, panel); break;
        case 2: vl_independent_rows(2, act, s, panel); break;
        case 3: vl_independent_rows(3, act, s, panel); break;
        default: vl_independent_rows(4, act, s, panel); break;
        }
    }
}

static void vl_kernel_indrnn_tanh(const vl_independent *s) { vl_independent_panels(vl_tanh, s); }
static void vl_kernel_indrnn_relu(const vl_independent *s) { vl_independent_panels(vl_relu, s); }
