/* The kernels of kernels.h for one vector type: loops over panels outside and blocks of rows inside, so
 * that a panel's weights stay in the nearest caches while all rows pass by.
 *
 * A block's sums begin with the projected input and take the k loop (tile.h); then a function NAME_finish
 * applies the cell's equations to them. It does so in stages, each for all units of the block before the
 * next: the stages of one unit wait for one another, and what a core can look ahead holds hardly more than
 * one unit's equations. One compiled copy of it serves all shapes of blocks, so that a row's bits do not
 * depend on them: on 32-bit Arm, GCC turns (1 + a) (1 + b) into (1 + a) + b (1 + a) in one place and
 * (1 + b) + a (1 + b) in another.
 */

#ifdef __clang__
#define VL_ONE_COPY static __attribute__((noinline))
#else
#define VL_ONE_COPY static __attribute__((noinline, noclone))
#endif

/* The units that a block computes: rows of one panel, or panels of one row. */
typedef struct {
    int count;
    ptrdiff_t row, panel;
    int row_step, panel_step;
} vl_units;

VL_INLINE ptrdiff_t vl_row(const vl_units *units, int i) { return units->row + i * units->row_step; }
VL_INLINE ptrdiff_t vl_panel(const vl_units *units, int i) { return units->panel + i * units->panel_step; }

VL_INLINE const real *vl_state(const vl_step *step, ptrdiff_t row, ptrdiff_t panel)
{
    return (const real *)step->h + row * step->ld_h + panel * L;
}

VL_INLINE void vl_emit(const vl_step *step, ptrdiff_t row, ptrdiff_t panel, vec h)
{
    vl_store((real *)step->h_next + row * step->ld_h_next + panel * L, h);
    if (step->out) {
        ptrdiff_t valid = step->hidden_size - panel * L;
        real *out = (real *)step->out + step->out_rows[row] + panel * L;
        vl_store_first(out, h, valid < L ? valid : L);
        if (panel * VL_BYTES % 64 == 0) /* once a line, into the second level: it is written a step later */
            __builtin_prefetch(out + step->out_next, 0, 2);
    }
}

/* ---- the loop that every gated cell shares ------------------------------------------------- */

/* Units that do not fill a panel have their gates side by side: so many lanes from one gate to the next, ... */
VL_INLINE ptrdiff_t vl_stride(const vl_step *step, ptrdiff_t panel)
{
    ptrdiff_t units = step->hidden_size - panel * L;
    return units < L ? units : L;
}

/* ... in so many vectors */
VL_INLINE int vl_vectors(int gates, ptrdiff_t stride) { return (gates * stride + L - 1) / L; }

/* pre: the projected input of the first unit's row and panel is at pre, of unit i at pre + i * ld_pre */
typedef void vl_finish(const vl_step *, const vl_units *, const real *pre, ptrdiff_t ld_pre, vl_sums *acc);

/* What the k loop starts from: the projected input, except a gate whose recurrent part is needed by
 * itself (GRU's n), which starts from its own bias. Where that gate shares a vector with others, all start from
 * zero and that bias, and the projected input is added when the equations are. */
VL_INLINE vl_start vl_step_start(int own_candidate, const vl_step *step, ptrdiff_t panel, const real *pre)
{
    const real *bias = step->bias_candidate;
    if (!own_candidate)
        return (vl_start){pre, step->ld_pre, NULL};
    bias = bias ? bias + panel * L : vl_zeros;
    return vl_stride(step, panel) < L ? (vl_start){bias, 0, NULL} : (vl_start){pre, step->ld_pre, bias};
}

/* Sums whose gates stand side by side, to a vector for each gate. What follows a gate's lanes goes along: it becomes
 * padding of the state, which nothing reads. pre: what all but the last gate began without, or NULL. */
static void vl_spread(int gates, ptrdiff_t stride, const real *pre, ptrdiff_t ld_pre, ptrdiff_t rows, vl_sums *acc)
{
    for (ptrdiff_t r = 0; r < rows; r++)
        for (int g = gates - 1; g >= 0; g--) { /* from the last on, into what has been read */
            acc[r][g] = vl_load((const real *)acc[r] + g * stride);
            if (pre && g < gates - 1)
                acc[r][g] += vl_load(pre + r * ld_pre + g * stride);
        }
}

/* gates: sums a unit; width: gates in a row of `pre`, which can hold one more (reset_before) */
VL_INLINE void vl_step_block(int gates, int width, int own_candidate, vl_finish *finish, const vl_step *step,
                             ptrdiff_t row, ptrdiff_t rows, ptrdiff_t panel)
{
    vl_sums acc[VL_BLOCK_ROWS];
    const real *x[VL_BLOCK_ROWS];
    const real *pre = (const real *)step->pre + row * step->ld_pre + panel * width * L;
    vl_units units = {(int)rows, row, panel, 1, 0};
    for (ptrdiff_t r = 0; r < rows; r++)
        x[r] = vl_state(step, row + r, 0);
    const real *w = (const real *)step->w + panel * step->depth * gates * L;
    const vl_start start = vl_step_start(own_candidate, step, panel, pre);
    const ptrdiff_t stride = vl_stride(step, panel);
    if (stride == L)
        vl_block(rows, gates, (real *)acc, VL_MOST_VECTORS * L, start, x, w, step->depth);
    else {
        vl_block_of(rows, vl_vectors(gates, stride), (real *)acc, VL_MOST_VECTORS * L, start, x, w, step->depth);
        vl_spread(gates, stride, own_candidate ? pre : NULL, step->ld_pre, rows, acc);
    }
    finish(step, &units, pre, step->ld_pre, acc);
}

VL_INLINE void vl_step_pair(int gates, int width, int own_candidate, vl_finish *finish, const vl_step *step,
                            ptrdiff_t panel)
{
    vl_sums acc[2];
    const real *pre = (const real *)step->pre + panel * width * L;
    const real *w = (const real *)step->w + panel * step->depth * gates * L;
    vl_units units = {2, 0, panel, 0, 1};
    vl_start start = vl_step_start(own_candidate, step, panel, pre);
    vl_start start2 = vl_step_start(own_candidate, step, panel + 1, pre + width * L);
    const ptrdiff_t stride = vl_stride(step, panel + 1);
    const ptrdiff_t weights = (step->last_panel - step->first_panel) * step->depth * gates * L;
    vl_row_pair_of(gates, vl_vectors(gates, stride), weights)(acc, &start, &start2, step->h, w,
                                                              w + step->depth * gates * L, step->depth);
    if (stride < L)
        vl_spread(gates, stride, own_candidate ? pre + width * L : NULL, 0, 1, acc + 1);
    finish(step, &units, pre, width * L, acc);
}

/* One row takes panels in pairs, so that the last, which may be narrow, is not alone. */
VL_INLINE void vl_step_panels(int gates, int width, int own_candidate, vl_finish *finish, const vl_step *step)
{
    const ptrdiff_t panels = step->last_panel - step->first_panel, pairs = step->rows == 1 ? panels / 2 : 0;
    const ptrdiff_t units = panels - pairs, single = units - pairs; /* panels by themselves: the first ones */
    for (ptrdiff_t i = 0; i < units; i++) {
        ptrdiff_t unit = step->turned ? units - 1 - i : i;
        ptrdiff_t panel = step->first_panel + (unit < single ? unit : 2 * unit - single);
        if (unit >= single) {
            vl_step_pair(gates, width, own_candidate, finish, step, panel);
            continue;
        }
        for (ptrdiff_t row = 0, rows; row < step->rows; row += rows) {
            rows = vl_block_rows(step->rows - row, gates);
            vl_step_block(gates, width, own_candidate, finish, step, row, rows, panel);
        }
    }
}

/* ---- the activations that a layer may ask for ------------------------------------------------ */

/* Among so many equations a call and a switch a vector cost little. */
static __attribute__((noinline)) vec vl_apply(const vl_nonlinearity *a, vec x)
{
    const vec zero = VL_SPLAT(0), one = VL_SPLAT(1);
    const vec alpha = VL_SPLAT((real)a->alpha), beta = VL_SPLAT((real)a->beta);
    switch ((vl_function)a->function) {
    case VL_SIGMOID: return vl_gate(x);
    case VL_TANH: return vl_tanh(x);
    case VL_RELU: return vl_relu(x);
    case VL_AFFINE: return VL_FMA(alpha, x, beta);
    case VL_LEAKY_RELU: return VL_IF_LESS(x, zero, alpha * x, x);
    case VL_THRESHOLDED_RELU: return VL_IF_LESS(x, alpha, zero, x);
    case VL_SCALED_TANH: return alpha * vl_tanh(beta * x);
    case VL_HARD_SIGMOID: return VL_MAX(zero, VL_MIN(one, VL_FMA(alpha, x, beta)));
    case VL_ELU: return VL_IF_LESS(x, zero, alpha * vl_expm1(x), beta * x);
    case VL_SOFTSIGN: return x / (one + VL_IF_LESS(x, zero, -x, x));
    case VL_SOFTPLUS: return vl_softplus(x);
    case VL_EXPONENTIAL: return vl_exp(x);
    case VL_SILU: return x * vl_gate(x);
    case VL_GELU: return vl_gelu(x);
    case VL_CLIP: return VL_MAX(alpha, VL_MIN(beta, x));
    }
    return x;
}

/* ---- LSTM: c' = s(f) c + s(i) tanh(g),  h = s(o) tanh(c') ---------------------------------- */

VL_ONE_COPY void vl_lstm_finish(const vl_step *step, const vl_units *units, const real *pre, ptrdiff_t ld_pre,
                                vl_sums *acc)
{
    (void)pre, (void)ld_pre;
#pragma GCC unroll 1
    for (int i = 0; i < units->count; i++) { /* c', and o's denominator */
        real *c_at = (real *)step->c + vl_row(units, i) * step->ld_c + vl_panel(units, i) * L;
        vec g, g_below;
        vl_tanh_ratio(acc[i][2], &g, &g_below);
        vec below = (1 + vl_exp_negated(acc[i][0])) * g_below;
        /* A gate f that is nearly open is 1 - e f, not 1 / (1 + e), whose sum loses what is small of e:
         * over thousands of steps that would add up. */
        vec e = vl_exp_negated(acc[i][1]), f = 1 / (1 + e);
        f = VL_IF_LESS(e, VL_SPLAT(1), VL_FMA(-e, f, VL_SPLAT(1)), f);
        acc[i][1] = VL_FMA(f, vl_load(c_at), g / below);
        vl_store(c_at, acc[i][1]);
        acc[i][3] = 1 + vl_exp_negated(acc[i][3]);
    }
#pragma GCC unroll 1
    for (int i = 0; i < units->count; i++) {
        vec t, t_below;
        vl_tanh_ratio(acc[i][1], &t, &t_below);
        vl_emit(step, vl_row(units, i), vl_panel(units, i), t / (acc[i][3] * t_below));
    }
}

/* With activations: c' = f(f) c + f(i) g(g),  h = f(o) h(c') */
VL_ONE_COPY void vl_lstm_finish_as_asked(const vl_step *step, const vl_units *units, const real *pre, ptrdiff_t ld_pre,
                                         vl_sums *acc)
{
    const vl_nonlinearity *f = step->activations, *g = f + 1, *h = f + 2;
    (void)pre, (void)ld_pre;
    for (int i = 0; i < units->count; i++) {
        real *c_at = (real *)step->c + vl_row(units, i) * step->ld_c + vl_panel(units, i) * L;
        vec in = vl_apply(f, acc[i][0]) * vl_apply(g, acc[i][2]);
        vec c = VL_FMA(vl_apply(f, acc[i][1]), vl_load(c_at), in);
        vl_store(c_at, c);
        vl_emit(step, vl_row(units, i), vl_panel(units, i), vl_apply(f, acc[i][3]) * vl_apply(h, c));
    }
}

static void vl_kernel_lstm(const vl_step *step)
{
    vl_step_panels(4, 4, 0, step->activations ? vl_lstm_finish_as_asked : vl_lstm_finish, step);
}

static void vl_kernel_lstm_cell(const vl_step *step)
{
    vl_sums acc[VL_BLOCK_ROWS];
    const ptrdiff_t panels = (step->hidden_size + L - 1) / L;
    for (ptrdiff_t row = 0; row < step->rows; row++)
        for (ptrdiff_t panel = 0; panel < panels; panel += VL_BLOCK_ROWS) {
            ptrdiff_t count = panels - panel < VL_BLOCK_ROWS ? panels - panel : VL_BLOCK_ROWS;
            vl_units units = {(int)count, row, panel, 0, 1};
            const real *pre = (const real *)step->pre + row * step->ld_pre + panel * 4 * L;
            for (ptrdiff_t i = 0; i < count; i++)
                for (int g = 0; g < 4; g++)
                    acc[i][g] = vl_load(pre + (4 * i + g) * L);
            vl_lstm_finish(step, &units, NULL, 0, acc);
        }
}

/* ---- GRU, reset_after: n = tanh(x_n + s(r) (R h + b)),  h' = (1 - s(z)) n + s(z) h ---------- */

/* e = exp(-z) */
VL_INLINE vec vl_gru_blend(vec n, vec n_below, vec e, vec h)
{
    /* (n e + h) / (1 + e),  and while the old state counts for more, where rounding would add up over
     * the steps,  h + (n - h) e / (1 + e) */
    vec whole = VL_FMA(n, e, h * n_below), change = VL_FMA(-h, n_below, n) * e;
    return VL_IF_LESS(e, VL_SPLAT(1), h, VL_SPLAT(0)) + VL_IF_LESS(e, VL_SPLAT(1), change, whole) / (n_below * (1 + e));
}

VL_ONE_COPY void vl_gru_finish(const vl_step *step, const vl_units *units, const real *pre, ptrdiff_t ld_pre,
                               vl_sums *acc)
{
#pragma GCC unroll 1
    for (int i = 0; i < units->count; i++) {
        vec below = 1 + vl_exp_negated(acc[i][0]);
        acc[i][1] = vl_finite_exp_negated(acc[i][1]);
        acc[i][2] = vl_load(pre + i * ld_pre + 2 * vl_stride(step, vl_panel(units, i))) + acc[i][2] / below;
    }
#pragma GCC unroll 1
    for (int i = 0; i < units->count; i++) {
        vec n, n_below, h = vl_load(vl_state(step, vl_row(units, i), vl_panel(units, i)));
        vl_tanh_ratio(acc[i][2], &n, &n_below);
        vl_emit(step, vl_row(units, i), vl_panel(units, i), vl_gru_blend(n, n_below, acc[i][1], h));
    }
}

/* (1 - z) n + z h, from the larger part on: a gate that is quite open or shut leaves h or n as it is */
VL_INLINE vec vl_gru_blend_as_asked(vec z, vec n, vec h)
{
    return VL_IF_LESS(VL_SPLAT(0.5f), z, VL_FMA(1 - z, n - h, h), VL_FMA(z, h - n, n));
}

/* With activations: n = g(x_n + f(r) (R h + b)),  h' = (1 - f(z)) n + f(z) h */
VL_ONE_COPY void vl_gru_finish_as_asked(const vl_step *step, const vl_units *units, const real *pre, ptrdiff_t ld_pre,
                                        vl_sums *acc)
{
    const vl_nonlinearity *f = step->activations, *g = f + 1;
    for (int i = 0; i < units->count; i++) {
        const real *input = pre + i * ld_pre + 2 * vl_stride(step, vl_panel(units, i));
        vec h = vl_load(vl_state(step, vl_row(units, i), vl_panel(units, i)));
        vec n = vl_apply(g, VL_FMA(vl_apply(f, acc[i][0]), acc[i][2], vl_load(input)));
        vl_emit(step, vl_row(units, i), vl_panel(units, i), vl_gru_blend_as_asked(vl_apply(f, acc[i][1]), n, h));
    }
}

static void vl_kernel_gru(const vl_step *step)
{
    vl_step_panels(3, 3, 1, step->activations ? vl_gru_finish_as_asked : vl_gru_finish, step);
}

static void vl_kernel_gru_cell(const vl_step *step)
{
    vl_sums acc[VL_BLOCK_ROWS];
    const ptrdiff_t panels = (step->hidden_size + L - 1) / L;
    for (ptrdiff_t row = 0; row < step->rows; row++)
        for (ptrdiff_t panel = 0, count; panel < panels; panel += count) {
            count = panels - panel < VL_BLOCK_ROWS ? panels - panel : VL_BLOCK_ROWS;
            if (count > 1 && vl_stride(step, panel + count - 1) < L)
                count--; /* it is by itself: vl_gru_finish finds x_n behind its units, and here it is behind its lanes */
            const ptrdiff_t at = panel * 3 * L;
            const real *pre = (const real *)step->pre + row * step->ld_pre + at;
            const real *own = (const real *)step->gated + row * step->ld_pre + at;
            vl_units units = {(int)count, row, panel, 0, 1};
            for (ptrdiff_t i = 0; i < count; i++) {
                for (int g = 0; g < 2; g++)
                    acc[i][g] = vl_load(pre + (3 * i + g) * L) + vl_load(own + (3 * i + g) * L);
                acc[i][2] = vl_load(own + (3 * i + 2) * L);
            }
            vl_gru_finish(step, &units, pre + 2 * (L - vl_stride(step, panel)), 3 * L, acc);
        }
}

/* ---- GRU, reset_before: n = tanh(x_n + R (s(r) h)), in two products ------------------------- */

VL_ONE_COPY void vl_gru_gates_finish(const vl_step *step, const vl_units *units, const real *pre, ptrdiff_t ld_pre,
                                     vl_sums *acc)
{
    (void)pre, (void)ld_pre;
#pragma GCC unroll 1
    for (int i = 0; i < units->count; i++) {
        ptrdiff_t row = vl_row(units, i), panel = vl_panel(units, i);
        vec h = vl_load(vl_state(step, row, panel));
        vl_store((real *)step->gated + row * step->ld_h + panel * L, h / (1 + vl_exp_negated(acc[i][0])));
        vl_store((real *)step->c + row * step->ld_c + panel * L, vl_finite_exp_negated(acc[i][1]));
    }
}

VL_ONE_COPY void vl_gru_gates_finish_as_asked(const vl_step *step, const vl_units *units, const real *pre,
                                              ptrdiff_t ld_pre, vl_sums *acc)
{
    (void)pre, (void)ld_pre;
    for (int i = 0; i < units->count; i++) {
        ptrdiff_t row = vl_row(units, i), panel = vl_panel(units, i);
        vec h = vl_load(vl_state(step, row, panel));
        vl_store((real *)step->gated + row * step->ld_h + panel * L, vl_apply(step->activations, acc[i][0]) * h);
        vl_store((real *)step->c + row * step->ld_c + panel * L, vl_apply(step->activations, acc[i][1]));
    }
}

static void vl_kernel_gru_gates(const vl_step *step)
{
    vl_step_panels(2, 3, 0, step->activations ? vl_gru_gates_finish_as_asked : vl_gru_gates_finish, step);
}
