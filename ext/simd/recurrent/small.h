/* The kernels of kernels.h for small weights: the loops of cells.h and products.h, whose sums vl_small's product makes
 * from rows that are brought into their small form at the beginning of each call. The equations are cells.h's, in
 * float. float only.
 */
#if !VL_F64

enum { VL_SMALL_PANELS = 4 }; /* of one row: their equations wait less for one another than one's */

/* So many full groups of one row, onwards (1) or backwards (-1), and numbers from one to the next. */
typedef struct {
    ptrdiff_t count, way, start, last, out;
} vl_small_groups;

static const vl_small_groups vl_small_one_group = {1, 0, 0, 0, 0};

/* The sums of rows [row, row + rows) with the weights of groups, the first of which begins with the `vector`-th vector. */
VL_INLINE void vl_small_block(const vl_small *small, const char *room, const void *w, ptrdiff_t depth, ptrdiff_t row,
                              ptrdiff_t rows, ptrdiff_t vector, int vectors, vl_small_groups groups, vl_start start,
                              real *out, ptrdiff_t ld_out)
{
    const vl_small_product p = {.rows = rows,
                                .depth = depth,
                                .vectors = vectors,
                                .block = small->block,
                                .wide = small->weight_bytes == 2,
                                .x = room + row * vl_small_row_bytes(depth),
                                .w = (const char *)w + vector * vl_small_vector_bytes(small, depth, L),
                                .start = start.rows,
                                .ld_start = start.ld,
                                .last = start.last,
                                .out = out,
                                .ld_out = ld_out,
                                .groups = groups.count,
                                .group_bytes = groups.way * vectors * vl_small_vector_bytes(small, depth, L),
                                .group_start = groups.way * groups.start,
                                .group_last = groups.way * groups.last,
                                .group_out = groups.way * groups.out};
    small->product(&p);
}

static void vl_small_rows_of(const vl_step *step, const void *x)
{
    for (ptrdiff_t row = 0; row < step->rows && !step->in_room; row++)
        vl_small_row_of(step->small, (const real *)x + row * step->ld_h, step->depth,
                        step->room + row * vl_small_row_bytes(step->depth));
}

/* Rows [row, row + rows) of one panel, or one row of several. */
VL_INLINE void vl_small_units(int gates, int width, int own_candidate, vl_finish *finish, const vl_step *step,
                              ptrdiff_t row, ptrdiff_t rows, ptrdiff_t panel, ptrdiff_t panels)
{
    vl_sums acc[VL_BLOCK_ROWS];
    const real *pre = (const real *)step->pre + row * step->ld_pre + panel * width * L;
    const vl_units units = {(int)(rows * panels), row, panel, panels == 1, panels > 1};
    for (ptrdiff_t i = 0, count; i < panels; i += count) {
        const real *own = pre + i * width * L;
        const ptrdiff_t stride = vl_stride(step, panel + i), full = step->hidden_size / L - panel;
        count = stride < L || panels == 1 ? 1 : (full < panels ? full : panels) - i;
        const vl_small_groups groups = {count, 1, width * L, step->bias_candidate ? L : 0, VL_MOST_VECTORS * L};
        vl_small_block(step->small, step->room, step->w, step->depth, row, rows, (panel + i) * gates,
                       vl_vectors(gates, stride), groups, vl_step_start(own_candidate, step, panel + i, own),
                       (real *)(acc + i), VL_MOST_VECTORS * L);
        if (stride < L)
            vl_spread(gates, stride, own_candidate ? own : NULL, step->ld_pre, rows, acc + i);
    }
    finish(step, &units, pre, panels > 1 ? width * L : step->ld_pre, acc);
}

static __attribute__((noinline)) void vl_small_panels(int gates, int width, int own_candidate, vl_finish *finish,
                                                      const vl_step *step)
{
    const ptrdiff_t panels = step->last_panel - step->first_panel, side = step->rows == 1 ? VL_SMALL_PANELS : 1;
    const ptrdiff_t units = (panels + side - 1) / side;
    vl_small_rows_of(step, step->h);
    for (ptrdiff_t i = 0; i < units; i++) {
        const ptrdiff_t panel = step->first_panel + (step->turned ? units - 1 - i : i) * side;
        const ptrdiff_t left = step->last_panel - panel;
        for (ptrdiff_t row = 0, rows; row < step->rows; row += rows) {
            rows = vl_next_height(step->rows - row, VL_BLOCK_ROWS);
            vl_small_units(gates, width, own_candidate, finish, step, row, rows, panel, left < side ? left : side);
        }
    }
}

static void vl_kernel_small_lstm(const vl_step *step)
{
    vl_small_panels(4, 4, 0, step->activations ? vl_lstm_finish_as_asked : vl_lstm_finish, step);
}

static void vl_kernel_small_gru(const vl_step *step)
{
    vl_small_panels(3, 3, 1, step->activations ? vl_gru_finish_as_asked : vl_gru_finish, step);
}

static void vl_kernel_small_gru_gates(const vl_step *step)
{
    vl_small_panels(2, 3, 0, step->activations ? vl_gru_gates_finish_as_asked : vl_gru_gates_finish, step);
}

/* As vl_single_panels. */
static __attribute__((noinline)) void vl_small_single_panels(int width, const void *input, const void *w,
                                                             vl_finish_single *finish, const vl_step *step)
{
    const ptrdiff_t last = (step->hidden_size + L - 1) / L;
    vl_sums acc[VL_BLOCK_ROWS];
    vl_small_rows_of(step, input);
    for (ptrdiff_t panel = step->first_panel; panel < step->last_panel; panel += VL_GROUP) {
        const int panels = last - panel < VL_GROUP ? (int)(last - panel) : VL_GROUP;
        for (ptrdiff_t row = 0, rows; row < step->rows; row += rows) {
            rows = vl_next_height(step->rows - row, VL_BLOCK_ROWS);
            for (ptrdiff_t r = 0; r < rows; r++) {
                const real *pre = (const real *)step->pre + (row + r) * step->ld_pre;
                for (int p = 0; p < panels; p++)
                    acc[r][p] = vl_load(pre + (panel + p) * width * L + (width - 1) * vl_stride(step, panel + p));
            }
            vl_small_block(step->small, step->room, w, step->depth, row, rows, panel, panels, vl_small_one_group,
                           (vl_start){(const real *)acc, VL_MOST_VECTORS * L, NULL}, (real *)acc, VL_MOST_VECTORS * L);
            finish(step, row, rows, panel, panels, acc);
        }
    }
}

static void vl_kernel_small_gru_candidate(const vl_step *step)
{
    vl_small_single_panels(3, step->gated, step->w_candidate,
                           step->activations ? vl_gru_candidate_finish_as_asked : vl_gru_candidate_finish, step);
}

static void vl_kernel_small_rnn_tanh(const vl_step *step)
{
    vl_small_single_panels(1, step->h, step->w, step->activations ? vl_single_finish_as_asked : vl_tanh_finish, step);
}

static void vl_kernel_small_rnn_relu(const vl_step *step)
{
    vl_small_single_panels(1, step->h, step->w, vl_relu_finish, step);
}

/* So many groups, one where there are more rows, of which that at `vector` comes first. */
VL_INLINE void vl_small_product_groups(const vl_product *p, ptrdiff_t vector, ptrdiff_t count)
{
    const int width = p->vectors - vector < p->group ? (int)(p->vectors - vector) : p->group;
    const int as_it_is = !p->relu && (vector + width) * L <= p->columns;
    const vl_small_groups groups = {count, p->turned ? -1 : 1, p->bias ? width * L : 0, 0, width * L};
    vl_sums acc[VL_BLOCK_ROWS];
    for (ptrdiff_t row = 0, rows; row < p->rows; row += rows) {
        rows = vl_next_height(p->rows - row, VL_BLOCK_ROWS);
        vl_small_block(p->small, p->room, p->w, p->depth, row, rows, vector, width, groups, vl_product_start(p, vector),
                       as_it_is ? (real *)p->out + row * p->ld_out + vector * L : (real *)acc,
                       as_it_is ? p->ld_out : VL_MOST_VECTORS * L);
        for (ptrdiff_t r = 0; r < rows && !as_it_is; r++)
            for (int v = 0; v < width; v++)
                vl_product_store(p, row + r, vector + v, acc[r][v]);
    }
}

static void vl_kernel_small_product(const vl_product *p)
{
    const ptrdiff_t groups = (p->last - p->first + p->group - 1) / p->group;
    const ptrdiff_t end = p->first + groups * p->group; /* the last group may be narrower, or have columns too many */
    const ptrdiff_t together = p->rows > 1 || p->relu ? 0 : end * L > p->columns ? groups - 1 : groups;
    for (ptrdiff_t row = 0; row < p->rows && !p->in_room; row++)
        vl_small_row_of(p->small, (const real *)p->x + p->x_rows[row], p->depth,
                        p->room + row * vl_small_row_bytes(p->depth));
    for (ptrdiff_t i = 0, count; i < groups; i += count) {
        const ptrdiff_t group = p->turned ? groups - 1 - i : i;
        count = group >= together ? 1 : p->turned ? group + 1 : together - group;
        vl_small_product_groups(p, p->first + group * p->group, count);
    }
}

/* ---- the ways ------------------------------------------------------------------------------ */

static const vl_small vl_int8_by_pairs = {.block = VL_INT8_BLOCK,
                                          .levels = VL_INT8_LEVELS,
                                          .weight_bytes = 1,
                                          .terms = VL_PAIR_TERMS,
                                          .form = VL_ROW_INT16,
                                          .way = VL_BY_PAIRS,
                                          .product = vl_pairs_product};
static const vl_small vl_int16_by_pairs = {.block = VL_INT16_BLOCK,
                                           .levels = 32767,
                                           .weight_bytes = 2,
                                           .terms = VL_PAIR_TERMS,
                                           .form = VL_ROW_INT16,
                                           .way = VL_BY_PAIRS,
                                           .product = vl_pairs_product};
static const vl_small vl_fast_by_pairs = {.block = VL_INT8_FAST_BLOCK,
                                          .levels = 127,
                                          .weight_bytes = 1,
                                          .terms = VL_PAIR_TERMS,
                                          .form = VL_ROW_INT16,
                                          .way = VL_BY_PAIRS,
                                          .product = vl_pairs_product};
#ifdef VL_SMALL_BY_BYTES
static const vl_small vl_fast_by_bytes = {.block = VL_INT8_FAST_BLOCK,
                                          .levels = 127,
                                          .offset = 127,
                                          .weight_bytes = 1,
                                          .terms = 4,
                                          .form = VL_ROW_BYTES,
                                          .way = VL_BY_BYTES,
                                          .product = VL_SMALL_BY_BYTES};
#endif
#ifdef VL_SMALL_BY_QUADS
#if defined(__x86_64__)
#define VL_QUADS_OFFSET 128 /* makes unsigned bytes of weights */
#else
#define VL_QUADS_OFFSET 0
#endif
static const vl_small vl_fast_by_quads = {.block = VL_INT8_FAST_BLOCK,
                                          .levels = 127,
                                          .weight_offset = VL_QUADS_OFFSET,
                                          .weight_bytes = 1,
                                          .terms = 4,
                                          .form = VL_ROW_BYTES,
                                          .way = VL_BY_QUADS,
                                          .product = VL_SMALL_BY_QUADS};
static const vl_small vl_int8_by_quads = {.block = VL_INT8_BLOCK,
                                          .levels = VL_INT8_LEVELS,
                                          .weight_offset = VL_QUADS_OFFSET,
                                          .weight_bytes = 1,
                                          .terms = 4,
                                          .form = VL_ROW_PLANES,
                                          .way = VL_BY_QUADS,
                                          .product = VL_SMALL_BY_PLANES};
#ifdef VL_SMALL_BY_WORDS
static const vl_small vl_int16_by_quads = {.block = VL_INT16_BLOCK,
                                           .levels = 32767,
                                           .weight_bytes = 2,
                                           .terms = VL_PAIR_TERMS,
                                           .form = VL_ROW_INT16,
                                           .way = VL_BY_QUADS,
                                           .product = VL_SMALL_BY_WORDS};
#endif
#endif

#endif
