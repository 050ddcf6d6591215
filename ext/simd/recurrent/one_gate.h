/* Cells with one gate, panels in groups of four: both RNNs, and the second product of the GRU with reset_before. What a
 * block's sums begin and end with is as in cells.h. */

typedef void vl_finish_single(const vl_step *, ptrdiff_t row, ptrdiff_t rows, ptrdiff_t panel, int panels,
                              const vl_sums *acc);

/* pre holds `width` gates a panel, side by side where the units do not fill it; the one that is wanted is the last. */
VL_INLINE void vl_single_group(int panels, int width, const real *input, const real *w, vl_finish_single *finish,
                               const vl_step *step, ptrdiff_t panel)
{
    vl_sums acc[VL_BLOCK_ROWS];
    const real *x[VL_BLOCK_ROWS];
    for (ptrdiff_t row = 0, rows; row < step->rows; row += rows) {
        rows = vl_block_rows(step->rows - row, panels);
        for (ptrdiff_t r = 0; r < rows; r++) {
            const real *pre = (const real *)step->pre + (row + r) * step->ld_pre;
            x[r] = input + (row + r) * step->ld_h;
#pragma GCC unroll 4
            for (int p = 0; p < panels; p++)
                acc[r][p] = vl_load(pre + (panel + p) * width * L + (width - 1) * vl_stride(step, panel + p));
        }
        vl_block(rows, panels, (real *)acc, VL_MOST_VECTORS * L,
                 (vl_start){(const real *)acc, VL_MOST_VECTORS * L, NULL}, x, w + panel * step->depth * L, step->depth);
        finish(step, row, rows, panel, panels, acc);
    }
}

VL_INLINE void vl_single_panels(int width, const real *input, const real *w, vl_finish_single *finish,
                                const vl_step *step)
{
    ptrdiff_t last = (step->hidden_size + L - 1) / L;
    for (ptrdiff_t panel = step->first_panel; panel < step->last_panel; panel += 4) {
        switch (last - panel) {
        case 1: vl_single_group(1, width, input, w, finish, step, panel); break;
        case 2: vl_single_group(2, width, input, w, finish, step, panel); break;
        case 3: vl_single_group(3, width, input, w, finish, step, panel); break;
        default: vl_single_group(4, width, input, w, finish, step, panel); break;
        }
    }
}

VL_ONE_COPY void vl_gru_candidate_finish(const vl_step *step, ptrdiff_t row, ptrdiff_t rows, ptrdiff_t panel,
                                         int panels, const vl_sums *acc)
{
    for (ptrdiff_t r = row; r < row + rows; r++, acc++)
        for (int p = 0; p < panels; p++) {
            vec n, n_below, e = vl_load((const real *)step->c + r * step->ld_c + (panel + p) * L);
            vl_tanh_ratio(acc[0][p], &n, &n_below);
            vl_emit(step, r, panel + p, vl_gru_blend(n, n_below, e, vl_load(vl_state(step, r, panel + p))));
        }
}

VL_ONE_COPY void vl_gru_candidate_finish_as_asked(const vl_step *step, ptrdiff_t row, ptrdiff_t rows, ptrdiff_t panel,
                                                  int panels, const vl_sums *acc)
{
    for (ptrdiff_t r = row; r < row + rows; r++, acc++)
        for (int p = 0; p < panels; p++) {
            vec n = vl_apply(step->activations + 1, acc[0][p]);
            vec z = vl_load((const real *)step->c + r * step->ld_c + (panel + p) * L);
            vl_emit(step, r, panel + p, vl_gru_blend_as_asked(z, n, vl_load(vl_state(step, r, panel + p))));
        }
}

static void vl_kernel_gru_candidate(const vl_step *step)
{
    vl_single_panels(3, step->gated, step->w_candidate,
                     step->activations ? vl_gru_candidate_finish_as_asked : vl_gru_candidate_finish, step);
}

VL_ONE_COPY void vl_tanh_finish(const vl_step *step, ptrdiff_t row, ptrdiff_t rows, ptrdiff_t panel, int panels,
                                const vl_sums *acc)
{
    for (ptrdiff_t r = 0; r < rows; r++)
        for (int p = 0; p < panels; p++)
            vl_emit(step, row + r, panel + p, vl_tanh(acc[r][p]));
}

VL_ONE_COPY void vl_relu_finish(const vl_step *step, ptrdiff_t row, ptrdiff_t rows, ptrdiff_t panel, int panels,
                                const vl_sums *acc)
{
    for (ptrdiff_t r = 0; r < rows; r++)
        for (int p = 0; p < panels; p++)
            vl_emit(step, row + r, panel + p, vl_relu(acc[r][p]));
}

VL_ONE_COPY void vl_single_finish_as_asked(const vl_step *step, ptrdiff_t row, ptrdiff_t rows, ptrdiff_t panel,
                                           int panels, const vl_sums *acc)
{
    for (ptrdiff_t r = 0; r < rows; r++)
        for (int p = 0; p < panels; p++)
            vl_emit(step, row + r, panel + p, vl_apply(step->activations, acc[r][p]));
}

static void vl_kernel_rnn_tanh(const vl_step *step)
{
    vl_single_panels(1, step->h, step->w, step->activations ? vl_single_finish_as_asked : vl_tanh_finish, step);
}

static void vl_kernel_rnn_relu(const vl_step *step) { vl_single_panels(1, step->h, step->w, vl_relu_finish, step); }
