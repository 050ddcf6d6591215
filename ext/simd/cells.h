/* The kernels of kernels.h for one vector type: loops over panels outside and row tiles inside, so
 * that a panel's weights stay in the nearest cache while all rows pass by.
 *
 * A function NAME_tile(rows, ...) computes one tile: accumulators from the projected input, the k
 * loop, then the cell's equations in registers; only the new state and the output are written.
 */

/* The heights of row tiles by how many vectors wide a panel is; see tile.h for the register count. */
#ifndef VL_TALLEST
#define VL_TALLEST(vectors) ((vectors) == 4 ? 3 : (vectors) == 3 ? 4 : 6)
#endif

/* A cell's equations: part of each tile that ends in them, unless one copy has to serve all. */
#ifndef VL_FINISH
#define VL_FINISH VL_INLINE
#endif

VL_INLINE void vl_state_rows(const real **x, int rows, const vl_step *s, ptrdiff_t row)
{
#pragma GCC unroll 8
    for (int r = 0; r < rows; r++)
        x[r] = (const real *)s->h + (row + r) * s->ld_h;
}

VL_INLINE void vl_emit(const vl_step *s, ptrdiff_t row, ptrdiff_t panel, vec h)
{
    vl_store((real *)s->h_next + row * s->ld_h_next + panel * L, h);
    if (s->out) {
        ptrdiff_t valid = s->hidden_size - panel * L;
        vl_store_first((real *)s->out + s->out_rows[row] + panel * L, h, valid < L ? valid : L);
    }
}

/* ---- the loop that every gated cell shares ------------------------------------------------- */

typedef void vl_finish(const vl_step *, ptrdiff_t row, ptrdiff_t panel, const real *pre,
                       const vec *acc);

/* What the k loop starts from: the projected input, except a gate whose recurrent part is needed by
 * itself (GRU's n), which starts from its own bias. */
VL_INLINE void vl_start(int gates, int own_candidate, const vl_step *s, ptrdiff_t panel,
                        const real *pre, vec *acc)
{
    const real *bias = s->bias_candidate;
#pragma GCC unroll 4
    for (int g = 0; g < gates; g++) {
        if (own_candidate && g == gates - 1)
            acc[g] = bias ? vl_load(bias + panel * L) : VL_SPLAT(0);
        else
            acc[g] = vl_load(pre + g * L);
    }
}

/* gates: accumulators; width: gates in a row of `pre`, which can hold one more (reset_before) */
VL_INLINE void vl_step_tile(int rows, int gates, int width, int own_candidate, vl_finish *finish,
                            const vl_step *s, ptrdiff_t row, ptrdiff_t panel)
{
    vec acc[VL_MOST_ROWS][VL_MOST_VECTORS];
    const real *x[VL_MOST_ROWS];
    const real *pre = (const real *)s->pre + row * s->ld_pre + panel * width * L;
    vl_state_rows(x, rows, s, row);
#pragma GCC unroll 8
    for (int r = 0; r < rows; r++)
        vl_start(gates, own_candidate, s, panel, pre + r * s->ld_pre, acc[r]);
    vl_tile(rows, gates, acc, x, (const real *)s->w + panel * s->depth * gates * L, s->depth);
#pragma GCC unroll 1 /* the accumulators go through the stack: one copy of the equations a tile */
    for (int r = 0; r < rows; r++)
        finish(s, row + r, panel, pre + r * s->ld_pre, acc[r]);
}

VL_INLINE void vl_step_pair(int gates, int width, int own_candidate, vl_finish *finish,
                            const vl_step *s, ptrdiff_t panel)
{
    vec acc[2][VL_MOST_VECTORS];
    const real *pre = (const real *)s->pre + panel * width * L;
    const real *w = (const real *)s->w + panel * s->depth * gates * L;
    vl_start(gates, own_candidate, s, panel, pre, acc[0]);
    vl_start(gates, own_candidate, s, panel + 1, pre + width * L, acc[1]);
    vl_tile_row_pair(gates, acc[0], acc[1], s->h, w, w + s->depth * gates * L, s->depth);
#pragma GCC unroll 1
    for (int i = 0; i < 2; i++)
        finish(s, 0, panel + i, pre + i * width * L, acc[i]);
}

VL_INLINE void vl_step_panels(int gates, int width, int own_candidate, vl_finish *finish,
                              const vl_step *s)
{
    ptrdiff_t pairs = s->rows == 1 ? (s->last_panel - s->first_panel) / 2 : 0;
    ptrdiff_t units = s->last_panel - s->first_panel - pairs;
    for (ptrdiff_t i = 0; i < units; i++) {
        ptrdiff_t unit = s->turned ? units - 1 - i : i;
        if (unit < pairs) {
            vl_step_pair(gates, width, own_candidate, finish, s, s->first_panel + 2 * unit);
            continue;
        }
        for (ptrdiff_t row = 0, height; row < s->rows; row += height) {
            height = vl_next_height(s->rows - row, VL_TALLEST(gates));
#define BODY(n)                   \
    if (n <= VL_TALLEST(gates))   \
    vl_step_tile(n, gates, width, own_candidate, finish, s, row, s->first_panel + pairs + unit)
            VL_FOR_HEIGHT(height, BODY)
#undef BODY
        }
    }
}

/* ---- LSTM: c' = s(f) c + s(i) tanh(g),  h = s(o) tanh(c') ---------------------------------- */

VL_FINISH void vl_lstm_finish(const vl_step *s, ptrdiff_t row, ptrdiff_t panel, const real *pre,
                              const vec *acc)
{
    (void)pre;
    real *c_at = (real *)s->c + row * s->ld_c + panel * L;
    vec g, g_below, t, t_below;
    vl_tanh_ratio(acc[2], &g, &g_below);
    /* A gate f that is nearly open is 1 - e f, not 1 / (1 + e), whose sum loses what is small of e: over
     * thousands of steps that would add up. */
    vec e = vl_exp_negated(acc[1]), f = 1 / (1 + e);
    f = vl_select(e < 1, VL_FMA(-e, f, VL_SPLAT(1)), f);
    vec c = VL_FMA(f, vl_load(c_at), g / ((1 + vl_exp_negated(acc[0])) * g_below));
    vl_store(c_at, c);
    vl_tanh_ratio(c, &t, &t_below);
    vl_emit(s, row, panel, t / ((1 + vl_exp_negated(acc[3])) * t_below));
}

static void vl_kernel_lstm(const vl_step *s) { vl_step_panels(4, 4, 0, vl_lstm_finish, s); }

/* ---- GRU, reset_after: n = tanh(x_n + s(r) (R h + b)),  h' = (1 - s(z)) n + s(z) h ---------- */

VL_INLINE vec vl_gru_blend(vec n, vec n_below, vec z, vec h)
{
    /* with e = exp(-z):  (n e + h) / (1 + e),  and while the old state counts for more, where rounding
     * would add up over the steps,  h + (n - h) e / (1 + e) */
    vec e = vl_exp_negated(z);
    vec whole = VL_FMA(n, e, h * n_below), change = VL_FMA(-h, n_below, n) * e;
    return vl_select(e < 1, h, VL_SPLAT(0)) +
           vl_select(e < 1, change, whole) / (n_below * (1 + e));
}

VL_FINISH void vl_gru_finish(const vl_step *s, ptrdiff_t row, ptrdiff_t panel, const real *pre,
                             const vec *acc)
{
    vec h = vl_load((const real *)s->h + row * s->ld_h + panel * L);
    vec n, n_below;
    vl_tanh_ratio(vl_load(pre + 2 * L) + acc[2] / (1 + vl_exp_negated(acc[0])), &n, &n_below);
    vl_emit(s, row, panel, vl_gru_blend(n, n_below, acc[1], h));
}

static void vl_kernel_gru(const vl_step *s) { vl_step_panels(3, 3, 1, vl_gru_finish, s); }

/* ---- GRU, reset_before: n = tanh(x_n + R (s(r) h)), in two products ------------------------- */

VL_FINISH void vl_gru_gates_finish(const vl_step *s, ptrdiff_t row, ptrdiff_t panel,
                                   const real *pre, const vec *acc)
{
    (void)pre;
    vec h = vl_load((const real *)s->h + row * s->ld_h + panel * L);
    vl_store((real *)s->gated + row * s->ld_h + panel * L, h / (1 + vl_exp_negated(acc[0])));
    vl_store((real *)s->c + row * s->ld_c + panel * L, acc[1]);
}

static void vl_kernel_gru_gates(const vl_step *s)
{
    vl_step_panels(2, 3, 0, vl_gru_gates_finish, s);
}

/* ---- cells with one gate: panels in groups of four ----------------------------------------- */

typedef void vl_finish_one(const vl_step *, ptrdiff_t row, ptrdiff_t panel, vec acc);

/* pre holds `width` gates a panel; the one that is wanted is the last. */
VL_INLINE void vl_single_tile(int rows, int panels, int width, const real *input, const real *w,
                              vl_finish_one *finish, const vl_step *s, ptrdiff_t row,
                              ptrdiff_t panel)
{
    vec acc[VL_MOST_ROWS][VL_MOST_VECTORS];
    const real *x[VL_MOST_ROWS];
#pragma GCC unroll 8
    for (int r = 0; r < rows; r++) {
        const real *pre = (const real *)s->pre + (row + r) * s->ld_pre;
        x[r] = input + (row + r) * s->ld_h;
#pragma GCC unroll 4
        for (int p = 0; p < panels; p++)
            acc[r][p] = vl_load(pre + ((panel + p) * width + width - 1) * L);
    }
    vl_tile(rows, panels, acc, x, w + panel * s->depth * L, s->depth);
#pragma GCC unroll 1
    for (int r = 0; r < rows; r++)
#pragma GCC unroll 1
        for (int p = 0; p < panels; p++)
            finish(s, row + r, panel + p, acc[r][p]);
}

VL_INLINE void vl_single_group(int panels, int width, const real *input, const real *w,
                               vl_finish_one *finish, const vl_step *s, ptrdiff_t panel)
{
    for (ptrdiff_t row = 0, height; row < s->rows; row += height) {
        height = vl_next_height(s->rows - row, VL_TALLEST(panels));
#define BODY(n)                  \
    if (n <= VL_TALLEST(panels)) \
    vl_single_tile(n, panels, width, input, w, finish, s, row, panel)
        VL_FOR_HEIGHT(height, BODY)
#undef BODY
    }
}

VL_INLINE void vl_single_panels(int width, const real *input, const real *w,
                                vl_finish_one *finish, const vl_step *s)
{
    ptrdiff_t last = (s->hidden_size + L - 1) / L;
    for (ptrdiff_t panel = s->first_panel; panel < s->last_panel; panel += 4) {
        switch (last - panel) {
        case 1: vl_single_group(1, width, input, w, finish, s, panel); break;
        case 2: vl_single_group(2, width, input, w, finish, s, panel); break;
        case 3: vl_single_group(3, width, input, w, finish, s, panel); break;
        default: vl_single_group(4, width, input, w, finish, s, panel); break;
        }
    }
}

VL_FINISH void vl_gru_candidate_finish(const vl_step *s, ptrdiff_t row, ptrdiff_t panel, vec acc)
{
    vec h = vl_load((const real *)s->h + row * s->ld_h + panel * L);
    vec z = vl_load((const real *)s->c + row * s->ld_c + panel * L);
    vec n, n_below;
    vl_tanh_ratio(acc, &n, &n_below);
    vl_emit(s, row, panel, vl_gru_blend(n, n_below, z, h));
}

static void vl_kernel_gru_candidate(const vl_step *s)
{
    vl_single_panels(3, s->gated, s->w_candidate, vl_gru_candidate_finish, s);
}

VL_FINISH void vl_tanh_finish(const vl_step *s, ptrdiff_t row, ptrdiff_t panel, vec acc)
{
    vl_emit(s, row, panel, vl_tanh(acc));
}

VL_FINISH void vl_relu_finish(const vl_step *s, ptrdiff_t row, ptrdiff_t panel, vec acc)
{
    vl_emit(s, row, panel, vl_relu(acc));
}

static void vl_kernel_rnn_tanh(const vl_step *s)
{
    vl_single_panels(1, s->h, s->w, vl_tanh_finish, s);
}

static void vl_kernel_rnn_relu(const vl_step *s)
{
    vl_single_panels(1, s->h, s->w, vl_relu_finish, s);
}

/* ---- the activations on arrays ------------------------------------------------------------- */

#define VL_MAP(NAME)                                                                  \
    static void vl_kernel_##NAME(ptrdiff_t n, const void *x, void *y)                 \
    {                                                                                 \
        ptrdiff_t i = 0;                                                              \
        for (; i + L <= n; i += L)                                                    \
            vl_store((real *)y + i, vl_##NAME(vl_load((const real *)x + i)));         \
        if (i < n) {                                                                  \
            vec tail = VL_SPLAT(0);                                                   \
            for (ptrdiff_t j = i; j < n; j++)                                         \
                tail[j - i] = ((const real *)x)[j];                                   \
            vl_store_first((real *)y + i, vl_##NAME(tail), n - i);                    \
        }                                                                             \
    }
VL_MAP(exp)
VL_MAP(tanh)
VL_MAP(sigmoid)
#undef VL_MAP

/* ---- the table ----------------------------------------------------------------------------- */

const vl_kernels VL_TABLE = {
    .isa = VL_ISA,
    .lanes = L,
    .max_rows = VL_TALLEST(4),
    .product = vl_kernel_product,
    .taps = vl_kernel_taps,
    .lstm = vl_kernel_lstm,
    .gru = vl_kernel_gru,
    .gru_gates = vl_kernel_gru_gates,
    .gru_candidate = vl_kernel_gru_candidate,
    .rnn_tanh = vl_kernel_rnn_tanh,
    .rnn_relu = vl_kernel_rnn_relu,
    .indrnn_tanh = vl_kernel_indrnn_tanh,
    .indrnn_relu = vl_kernel_indrnn_relu,
    .exp = vl_kernel_exp,
    .tanh = vl_kernel_tanh,
    .sigmoid = vl_kernel_sigmoid,
};
