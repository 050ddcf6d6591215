/* MatMul, Einsum and Gemm of float32 and float64, by the tiles of a layer's projection. A right-hand matrix that is known is packed when the
 * program is made; another one is packed at each run, but for a few rows, where that would cost more than the product.
 *
 * One file of more than 400 lines, as all four handlers are ways to the same two products. */
#include "program.h"

#include "row_blocks.h"

static int members_for(const vl_frame *f, int64_t work)
{
    return vl_members_for(work, f->limits->thread_work, f->threads);
}

/* A product of this type whose rows, depth, columns, x, x_rows, w, bias and out are given. */
static void run_product(vl_frame *f, int type, vl_product *product)
{
    const vl_kernels *kernels = vl_kernels_for(f, type);
    const ptrdiff_t each = (ptrdiff_t)vl_size_of(type);
    if (product->rows == 0 || product->columns == 0)
        return;
    product->first = 0;
    product->vectors = product->last = (product->columns + kernels->lanes - 1) / kernels->lanes;
    product->group = VL_GROUP;
    product->turned = 0;
    vl_row_blocks blocks = {.kernel = kernels->product,
                            .product = product,
                            .number_bytes = each,
                            .block = vl_rows_of_block(f->limits, each * product->depth),
                            .heed = f->heed};
    int members = members_for(f, (int64_t)product->rows * product->columns * product->depth);
    if (members == 1)
        vl_multiply_rows(&blocks, 0, 1);
    else
        f->parallel(members, vl_multiply_rows, &blocks, f->heed);
}

typedef struct {
    const vl_kernels *kernels;
    const vl_thin *product;
} vl_thin_job;

/* One member's columns. */
static void multiply_thin(void *context, int member, int members)
{
    const vl_thin_job *job = context;
    vl_thin product = *job->product;
    product.first = job->product->last * member / members;
    product.last = job->product->last * (member + 1) / members;
    if (product.first < product.last)
        job->kernels->thin(&product);
}

/* Whether a matrix is multiplied as it is: it serves so few rows, and lies one way or the other. */
static int is_thin(const vl_frame *f, int64_t rows, const vl_tensor *b)
{
    const int64_t each = (int64_t)vl_size_of(b->type);
    return (rows <= f->limits->thin_rows && b->strides[1] == each) ||
           (rows <= f->limits->thin_dot_rows && b->strides[0] == each);
}

/* Bytes of the panels of a matrix [depth, columns], up to whole lines of the cache. */
static size_t panel_bytes(const vl_frame *f, int type, int64_t depth, int64_t columns)
{
    int64_t lanes = vl_kernels_for(f, type)->lanes, vectors = (columns + lanes - 1) / lanes;
    return ((size_t)(vectors * lanes * depth) * vl_size_of(type) + 63) & ~(size_t)63;
}

/* w[group][k][vector in group][lane] of b [depth, columns], which lies as its strides say. */
static void pack(const vl_frame *f, char *to, const vl_tensor *b)
{
    const int64_t each = (int64_t)vl_size_of(b->type), lanes = vl_kernels_for(f, b->type)->lanes;
    int64_t depth = b->shape[0], columns = b->shape[1], wide = VL_GROUP * lanes;
    for (int64_t first = 0; first < columns; first += wide) {
        int64_t own = columns - first < wide ? columns - first : wide;
        int64_t width = (own + lanes - 1) / lanes * lanes;
        vl_tensor part = *b, panel = *b;
        part.data += first * b->strides[1];
        part.shape[1] = panel.shape[1] = own;
        panel.data = to;
        panel.strides[1] = each;
        panel.strides[0] = width * each;
        if (own < width)
            memset(to, 0, (size_t)(width * depth * each));
        vl_copy(f, &panel, &part);
        to += width * depth * each;
    }
}

/* Offsets in elements of the rows of x, whose first `axes` axes are rows. */
static void row_offsets(ptrdiff_t *offsets, const vl_tensor *x, int axes)
{
    const ptrdiff_t each = (ptrdiff_t)vl_size_of(x->type);
    int64_t at[VL_MOST_AXES] = {0}, rows = vl_count(axes, x->shape);
    ptrdiff_t offset = 0;
    for (int64_t r = 0; r < rows; r++) {
        offsets[r] = offset;
        for (int a = axes - 1; a >= 0; a--) {
            offset += x->strides[a] / each;
            if (++at[a] < x->shape[a])
                break;
            offset -= x->shape[a] * (x->strides[a] / each);
            at[a] = 0;
        }
    }
}

/* Whether it is of float32 or float64, as the other is where there is one. */
static int is_real(const vl_tensor *t, const vl_tensor *other)
{
    return t && (t->type == VL_F32 || t->type == VL_F64) && (!other || other->type == t->type);
}

/* Whether rows can be read where they are: elements side by side. */
static int rows_readable(const vl_tensor *t)
{
    int last = t->axes - 1;
    return t->shape[last] <= 1 || t->strides[last] == (int64_t)vl_size_of(t->type);
}

/* x [..., K] times a packed matrix [K, N]; ints: K, N, whether relu, its type; objects: panels, bias or none */
static int matmul_known(vl_frame *f, const vl_instruction *i)
{
    const vl_tensor *x = vl_in(f, i, 0);
    int64_t depth = i->ints[0], columns = i->ints[1], shape[VL_MOST_AXES];
    if (!is_real(x, NULL) || x->type != i->ints[3] || x->axes < 1 || x->shape[x->axes - 1] != depth)
        return VL_DECLINED;
    int axes = x->axes;
    memcpy(shape, x->shape, sizeof shape);
    shape[axes - 1] = columns;
    if (vl_count(axes, shape) < 0)
        return VL_DECLINED;
    vl_tensor copy = {.block = NULL};
    if (!rows_readable(x)) {
        x = vl_contiguous(f, x, &copy);
        if (!x)
            return VL_NO_MEMORY;
    }
    vl_tensor from = *x;
    int64_t rows = vl_count(axes - 1, from.shape);
    ptrdiff_t few[64];
    vl_block *offsets = rows > 64 ? vl_block_new(f, (size_t)rows * sizeof(ptrdiff_t)) : NULL;
    vl_tensor *out = vl_new(f, i, 0, from.type, axes, shape);
    if (!out || (rows > 64 && !offsets)) {
        vl_block_drop(f, offsets);
        vl_block_drop(f, copy.block);
        return VL_NO_MEMORY;
    }
    ptrdiff_t *x_rows = offsets ? (ptrdiff_t *)offsets->data : few;
    row_offsets(x_rows, &from, axes - 1);
    vl_product product = {.rows = rows,
                          .depth = depth,
                          .columns = columns,
                          .relu = (int)i->ints[2],
                          .x = from.data,
                          .x_rows = x_rows,
                          .w = i->objects[0],
                          .bias = i->object_count > 1 ? i->objects[1] : NULL,
                          .out = out->data,
                          .ld_out = columns};
    run_product(f, from.type, &product);
    vl_block_drop(f, offsets);
    vl_block_drop(f, copy.block);
    return VL_DONE;
}

/* out [rows, columns] of a [rows, depth] and b [depth, columns], in scratch memory: panels (none: b as it is), then
 * offsets */
static void product_of(vl_frame *f, const vl_tensor *a, const vl_tensor *b, char *out, char *panels, ptrdiff_t *x_rows,
                       int packed)
{
    const ptrdiff_t each = (ptrdiff_t)vl_size_of(a->type);
    row_offsets(x_rows, a, 1);
    if (!panels) {
        vl_thin product = {.rows = a->shape[0],
                           .depth = a->shape[1],
                           .last = b->shape[1],
                           .x = a->data,
                           .x_rows = x_rows,
                           .w = b->data,
                           .w_row = b->strides[0] / each,
                           .w_column = b->strides[1] / each,
                           .out = out,
                           .ld_out = b->shape[1]};
        vl_thin_job job = {vl_kernels_for(f, a->type), &product};
        int members = members_for(f, (int64_t)product.rows * product.depth * product.last);
        if (members == 1)
            multiply_thin(&job, 0, 1);
        else
            f->parallel(members, multiply_thin, &job, f->heed);
        return;
    }
    if (!packed)
        pack(f, panels, b);
    vl_product product = {.rows = a->shape[0],
                          .depth = a->shape[1],
                          .columns = b->shape[1],
                          .x = a->data,
                          .x_rows = x_rows,
                          .w = panels,
                          .out = out,
                          .ld_out = b->shape[1]};
    run_product(f, a->type, &product);
}

/* The n-th output, of this shape, C-contiguous: the products of the matrices that the last two axes of a and of b are,
 * as many as the batch axes say, from one to the next by the steps in bytes. a's rows are readable. */
static int multiply_each(vl_frame *f, const vl_instruction *i, const vl_tensor *a, const vl_tensor *b, int batch,
                         const int64_t *sizes, const int64_t *a_step, const int64_t *b_step, int axes,
                         const int64_t *shape)
{
    vl_tensor one = *a, other = *b;
    one.axes = other.axes = 2;
    memmove(one.shape, a->shape + a->axes - 2, 16);
    memmove(one.strides, a->strides + a->axes - 2, 16);
    memmove(other.shape, b->shape + b->axes - 2, 16);
    memmove(other.strides, b->strides + b->axes - 2, 16);
    int64_t rows = one.shape[0], depth = one.shape[1], columns = other.shape[1];
    int64_t served = rows; /* by one matrix: what it is packed for */
    for (int k = batch - 1; k >= 0 && b_step[k] == 0 && served <= f->limits->thin_rows; k--)
        served *= sizes[k];
    int thin = is_thin(f, served, &other);
    size_t bytes = thin ? 0 : panel_bytes(f, a->type, depth, columns);
    vl_block *scratch = vl_block_new(f, bytes + (size_t)rows * sizeof(ptrdiff_t));
    vl_tensor *out = vl_new(f, i, 0, one.type, axes, shape);
    if (!scratch || !out) {
        vl_block_drop(f, scratch);
        return VL_NO_MEMORY;
    }
    int64_t at[VL_MOST_AXES] = {0}, products = vl_count(batch, sizes);
    const char *packed = NULL;
    vl_pace pace = vl_pace_of(f);
    for (int64_t n = 0; n < products && vl_goes_on(&pace, rows * columns); n++) {
        product_of(f, &one, &other, out->data + n * rows * columns * (int64_t)vl_size_of(one.type),
                   thin ? NULL : scratch->data, (ptrdiff_t *)(scratch->data + bytes), packed == other.data);
        packed = other.data;
        for (int k = batch - 1; k >= 0; k--) {
            one.data += a_step[k];
            other.data += b_step[k];
            if (++at[k] < sizes[k])
                break;
            one.data -= sizes[k] * a_step[k];
            other.data -= sizes[k] * b_step[k];
            at[k] = 0;
        }
    }
    vl_block_drop(f, scratch);
    return VL_DONE;
}

/* NumPy's matmul of two tensors that are known only now */
static int matmul(vl_frame *f, const vl_instruction *i)
{
    const vl_tensor *left = vl_in(f, i, 0), *right = vl_in(f, i, 1);
    if (!is_real(left, right) || !right || left->axes < 1 || right->axes < 1)
        return VL_DECLINED;
    vl_tensor a = *left, b = *right;
    const int64_t each = (int64_t)vl_size_of(a.type);
    int row = a.axes == 1, column = b.axes == 1; /* a vector is a row, or a column, whose axis goes again */
    if (row) {
        a.shape[1] = a.shape[0], a.strides[1] = a.strides[0];
        a.shape[0] = 1, a.strides[0] = each, a.axes = 2;
    }
    if (column)
        b.shape[1] = 1, b.strides[1] = each, b.axes = 2;
    int64_t rows = a.shape[a.axes - 2], depth = a.shape[a.axes - 1], columns = b.shape[b.axes - 1];
    if (b.shape[b.axes - 2] != depth)
        return VL_DECLINED;
    int batch = (a.axes > b.axes ? a.axes : b.axes) - 2;
    int64_t shape[VL_MOST_AXES], a_step[VL_MOST_AXES], b_step[VL_MOST_AXES];
    for (int k = 0; k < batch; k++) {
        int own_a = k - (batch - (a.axes - 2)), own_b = k - (batch - (b.axes - 2));
        int64_t size_a = own_a >= 0 ? a.shape[own_a] : 1, size_b = own_b >= 0 ? b.shape[own_b] : 1;
        if (size_a != size_b && size_a != 1 && size_b != 1)
            return VL_DECLINED;
        shape[k] = size_a == 1 ? size_b : size_a;
        a_step[k] = size_a == 1 ? 0 : a.strides[own_a];
        b_step[k] = size_b == 1 ? 0 : b.strides[own_b];
    }
    int64_t products = vl_count(batch, shape);
    int axes = batch;
    if (!row)
        shape[axes++] = rows;
    if (!column)
        shape[axes++] = columns;
    if (products < 0 || vl_count(axes, shape) < 0)
        return VL_DECLINED;
    vl_tensor copy = {.block = NULL};
    int last = a.axes - 1;
    if (a.shape[last] > 1 && a.strides[last] != each) {
        if (!vl_contiguous(f, &a, &copy))
            return VL_NO_MEMORY;
        for (int k = 0; k < batch; k++) {
            int own = k - (batch - (a.axes - 2));
            a_step[k] = own >= 0 && a.shape[own] != 1 ? copy.strides[own] : 0;
        }
        a = copy;
    }
    int answer = multiply_each(f, i, &a, &b, batch, shape, a_step, b_step, axes, shape);
    vl_block_drop(f, copy.block);
    return answer;
}

/* Axes [first, first + count) of a tensor as one: 0 where their strides do not allow it. */
static int join_axes(vl_tensor *tensor, int first, int count)
{
    int64_t size = 1, step = (int64_t)vl_size_of(tensor->type);
    for (int a = first + count - 1; a >= first; a--) {
        if (tensor->shape[a] == 1)
            continue;
        if (size == 1)
            step = tensor->strides[a];
        else if (tensor->strides[a] != step * size)
            return 0;
        size *= tensor->shape[a];
    }
    size_t behind = (size_t)(tensor->axes - first - count) * sizeof *tensor->shape;
    memmove(tensor->shape + first + 1, tensor->shape + first + count, behind); /* of no axes one of size 1 is made */
    memmove(tensor->strides + first + 1, tensor->strides + first + count, behind);
    tensor->axes = (int8_t)(tensor->axes + 1 - count);
    tensor->shape[first] = size;
    tensor->strides[first] = step;
    return 1;
}

/* A tensor whose axes are batches, then two groups, as [batches..., first group, second group], a copy where strides do
 * not allow it; with `readable` the last axis lies side by side. 0 when memory is out. */
static int as_matrices(vl_frame *f, vl_tensor *tensor, int batches, int first, int second, int readable,
                       vl_tensor *copy)
{
    vl_tensor joined = *tensor;
    int fits = join_axes(&joined, batches + first, second) && join_axes(&joined, batches, first);
    if (!fits || (readable && !rows_readable(&joined))) {
        const vl_tensor *whole = vl_contiguous(f, tensor, copy);
        if (!whole)
            return 0;
        joined = *whole;
        join_axes(&joined, batches + first, second);
        join_axes(&joined, batches, first);
    }
    *tensor = joined;
    return 1;
}

/* A tensor with its axes in the order given */
static vl_tensor permuted(const vl_tensor *tensor, int axes, const int64_t *order)
{
    vl_tensor to = *tensor;
    for (int a = 0; a < axes; a++) {
        to.shape[a] = tensor->shape[order[a]];
        to.strides[a] = tensor->strides[order[a]];
    }
    return to;
}

/* Einsum of two tensors as one product for each index of their common letters that stay; ints: how many letters are
 * batches, rows, summed, columns; a's axes in the order batches, rows, summed; b's as batches, summed, columns; and
 * where among batches, rows, columns each axis of the output stands */
static int einsum(vl_frame *f, const vl_instruction *i)
{
    const vl_tensor *left = vl_in(f, i, 0), *right = vl_in(f, i, 1);
    int batches = (int)i->ints[0], rows = (int)i->ints[1], summed = (int)i->ints[2], columns = (int)i->ints[3];
    int a_axes = batches + rows + summed, b_axes = batches + summed + columns, axes = batches + rows + columns;
    /* one more axis each is room for a group without letters */
    if (!is_real(left, right) || !right || left->axes != a_axes || right->axes != b_axes || axes > VL_MOST_AXES ||
        a_axes > VL_MOST_AXES - 2 || b_axes > VL_MOST_AXES - 2)
        return VL_DECLINED;
    const int64_t *a_order = i->ints + 4, *b_order = a_order + a_axes, *out_order = b_order + b_axes;
    vl_tensor a = permuted(left, a_axes, a_order), b = permuted(right, b_axes, b_order);
    int64_t shape[VL_MOST_AXES];
    for (int k = 0; k < batches; k++)
        if ((shape[k] = a.shape[k]) != b.shape[k])
            return VL_DECLINED;
    for (int k = 0; k < summed; k++)
        if (a.shape[batches + rows + k] != b.shape[batches + k])
            return VL_DECLINED;
    memcpy(shape + batches, a.shape + batches, (size_t)rows * 8);
    memcpy(shape + batches + rows, b.shape + batches + summed, (size_t)columns * 8);
    if (vl_count(axes, shape) < 0)
        return VL_DECLINED;
    vl_tensor copy_a = {.block = NULL}, copy_b = {.block = NULL};
    int answer = VL_NO_MEMORY;
    if (as_matrices(f, &a, batches, rows, summed, 1, &copy_a) &&
        as_matrices(f, &b, batches, summed, columns, 0, &copy_b))
        answer = multiply_each(f, i, &a, &b, batches, shape, a.strides, b.strides, axes, shape);
    vl_block_drop(f, copy_a.block);
    vl_block_drop(f, copy_b.block);
    if (answer == VL_DONE) {
        vl_tensor *out = &f->slots[i->outputs[0]];
        *out = permuted(out, axes, out_order);
    }
    return answer;
}

/* a, b, c; ints: whether a, and whether b, is transposed; K, N, whether relu and the type where b is known (objects as
 * above, with c as the bias where that is known too), else 0; floats: alpha, beta */
static int gemm(vl_frame *f, const vl_instruction *i)
{
    const vl_tensor *left = vl_in(f, i, 0), *right = vl_in(f, i, 1), *third = vl_in(f, i, 2);
    int known = i->object_count > 0, with_c = vl_has_in(i, 2) && i->object_count < 2;
    if (!is_real(left, third) || left->axes != 2 || (known && left->type != i->ints[5]) ||
        (!known && (!is_real(right, left) || right->axes != 2)) || (with_c && !third))
        return VL_DECLINED;
    vl_tensor a = *left, b, c = {.data = NULL};
    if (i->ints[0]) {
        int64_t n = a.shape[0], step = a.strides[0];
        a.shape[0] = a.shape[1], a.strides[0] = a.strides[1];
        a.shape[1] = n, a.strides[1] = step;
    }
    int64_t depth = i->ints[2], columns = i->ints[3];
    if (!known) {
        b = *right;
        if (i->ints[1]) {
            int64_t n = b.shape[0], step = b.strides[0];
            b.shape[0] = b.shape[1], b.strides[0] = b.strides[1];
            b.shape[1] = n, b.strides[1] = step;
        }
        depth = b.shape[0];
        columns = b.shape[1];
    }
    int64_t shape[2] = {a.shape[0], columns};
    if (a.shape[1] != depth || vl_count(2, shape) < 0)
        return VL_DECLINED;
    int64_t c_row = 0, c_column = 0;
    if (with_c) {
        c = *third;
        if (c.axes > 2)
            return VL_DECLINED;
        int64_t wide = c.axes ? c.shape[c.axes - 1] : 1, tall = c.axes > 1 ? c.shape[0] : 1;
        if ((wide != 1 && wide != columns) || (tall != 1 && tall != shape[0]))
            return VL_DECLINED;
        c_column = wide == 1 ? 0 : c.strides[c.axes - 1];
        c_row = tall == 1 ? 0 : c.strides[0];
    }
    vl_tensor copy = {.block = NULL};
    if (!rows_readable(&a)) {
        if (!vl_contiguous(f, &a, &copy))
            return VL_NO_MEMORY;
        a = copy;
    }
    int thin = !known && is_thin(f, shape[0], &b);
    size_t bytes = known || thin ? 0 : panel_bytes(f, a.type, depth, columns);
    vl_block *scratch = vl_block_new(f, bytes + (size_t)shape[0] * sizeof(ptrdiff_t));
    vl_tensor *out = vl_new(f, i, 0, a.type, 2, shape);
    if (!scratch || !out) {
        vl_block_drop(f, scratch);
        vl_block_drop(f, copy.block);
        return VL_NO_MEMORY;
    }
    ptrdiff_t *x_rows = (ptrdiff_t *)(scratch->data + bytes);
    if (known) {
        row_offsets(x_rows, &a, 1);
        vl_product product = {.rows = shape[0],
                              .depth = depth,
                              .columns = columns,
                              .relu = (int)i->ints[4] && !with_c,
                              .x = a.data,
                              .x_rows = x_rows,
                              .w = i->objects[0],
                              .bias = i->object_count > 1 ? i->objects[1] : NULL,
                              .out = out->data,
                              .ld_out = columns};
        run_product(f, a.type, &product);
    } else
        product_of(f, &a, &b, out->data, thin ? NULL : scratch->data, x_rows, 0);
    if (!known && i->floats[0] != 1) {
        const float alpha = i->floats[0];
#define VL_SCALE(kind)                                                                                                 \
    for (int64_t n = 0; n < shape[0] * columns; n++)                                                                   \
    ((kind *)out->data)[n] *= alpha
        if (a.type == VL_F32)
            VL_SCALE(float);
        else
            VL_SCALE(double);
#undef VL_SCALE
    }
    if (with_c) {
        const float beta = i->floats[1];
#define VL_ADD_C(kind)                                                                                                 \
    for (int64_t r = 0, at = 0; r < shape[0]; r++)                                                                     \
        for (int64_t k = 0; k < columns; k++, at++)                                                                    \
    ((kind *)out->data)[at] += beta * *(kind *)(c.data + r * c_row + k * c_column)
        if (a.type == VL_F32)
            VL_ADD_C(float);
        else
            VL_ADD_C(double);
    }
    vl_block_drop(f, scratch);
    vl_block_drop(f, copy.block);
    return VL_DONE;
}

const vl_named_handler vl_matrix_handlers[] = {
    {"matmul_known", matmul_known}, {"matmul", matmul}, {"einsum", einsum}, {"gemm", gemm}, {NULL, NULL},
};
