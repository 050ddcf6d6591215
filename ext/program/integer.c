/* Products of bytes with a matrix that is known. The sums are exact; what they are multiplied by is rounded as the
 * Python operators round. */
#include "integer.h"

#include <math.h>

#include "row_blocks.h"

int vl_read_matrix(const int64_t *ints, void *const *objects, vl_integer_matrix *matrix)
{
    int count = 2;
    *matrix = (vl_integer_matrix){.way = (int)ints[0],
                                  .depth = ints[1],
                                  .columns = ints[2],
                                  .runs = ints[3],
                                  .w = objects[0],
                                  .sums = objects[1]};
    if (matrix->way == VL_BY_BYTES) {
        matrix->starts = objects[count++];
        matrix->extra_starts = objects[count++];
        matrix->extras = objects[count++];
    }
    if (ints[4] & 1)
        matrix->zeros = objects[count++];
    if (ints[4] & 2)
        matrix->scales = objects[count++];
    if (ints[4] & 4)
        matrix->bias = objects[count++];
    return count;
}

static void complete(const vl_kernels *kernels, const vl_integer_matrix *matrix, vl_byte_product *product)
{
    static const ptrdiff_t one_run[1];
    product->runs = matrix->runs;
    product->run_quads = vl_run_bytes(matrix) / 4;
    if (!product->run_starts)
        product->run_starts = one_run;
    product->columns = matrix->columns;
    product->first = 0;
    product->vectors = product->last = (matrix->columns + kernels->lanes - 1) / kernels->lanes;
    product->w = matrix->w;
    product->sums = matrix->sums;
    product->zeros = matrix->zeros;
    product->starts = matrix->starts;
    product->extra_starts = matrix->extra_starts;
    product->extras = matrix->extras;
    product->scales = matrix->scales;
    product->bias = matrix->bias;
}

void vl_multiply_here(const vl_kernels *kernels, const vl_integer_matrix *matrix, vl_byte_product *product)
{
    complete(kernels, matrix, product);
    kernels->integers[matrix->way](product);
}

typedef struct {
    void (*kernel)(const vl_byte_product *);
    const vl_byte_product *product;
    ptrdiff_t block;
    vl_heed *heed;
} vl_job;

/* One member's rows, in blocks; a few rows are shared by their columns. */
static void multiply(void *context, int member, int members)
{
    const vl_job *job = context;
    vl_byte_product own = *job->product;
    if (own.rows < members) {
        vl_share_of_vectors(own.vectors, member, members, &own.first, &own.last);
        job->kernel(&own);
        return;
    }
    ptrdiff_t row = own.rows * member / members, last = own.rows * (member + 1) / members;
    while (row < last && !vl_shall_end(job->heed)) {
        own.rows = job->block < last - row ? job->block : last - row;
        own.x_rows = job->product->x_rows + row;
        own.x_zeros = own.x_zeros ? job->product->x_zeros + row : NULL;
        own.x_sums = own.x_sums ? job->product->x_sums + row : NULL;
        own.out = (char *)job->product->out + row * own.ld_out * (ptrdiff_t)(own.requantised ? 1 : sizeof(int32_t));
        own.add = own.add ? job->product->add + row * own.ld_add : NULL;
        job->kernel(&own);
        row += own.rows;
    }
}

void vl_multiply_integers(vl_frame *f, const vl_integer_matrix *matrix, vl_byte_product *product)
{
    complete(f->kernels, matrix, product);
    if (product->rows == 0 || product->columns == 0)
        return;
    vl_job job = {f->kernels->integers[matrix->way], product, vl_rows_of_block(f->limits, vl_row_bytes(matrix)),
                  f->heed};
    int members = vl_members_for((int64_t)product->rows * product->columns * matrix->depth, f->limits->thread_byte_work,
                                 f->threads);
    if (members == 1)
        multiply(&job, 0, 1);
    else
        f->parallel(members, multiply, &job, f->heed);
}

int vl_is_number(const vl_tensor *t, int type) { return t && t->type == type && vl_count(t->axes, t->shape) == 1; }

/* ---- products ----------------------------------------------------------------------------------------- */

/* Rows of bytes as the product reads them. */
typedef struct {
    vl_block *block;
    const uint8_t *x;
    ptrdiff_t *rows;
    int32_t *zeros, *sums;
} vl_byte_rows;

/* x [..., depth] as rows: where it is, or, signed, with gaps or not in whole fours, copied as uint8. `zero` goes with
 * signed bytes up by 128. 0 when memory is out. */
static int byte_rows(vl_frame *f, const vl_tensor *x, const vl_integer_matrix *matrix, int32_t zero, vl_byte_rows *rows)
{
    const int last = x->axes - 1;
    const int64_t depth = matrix->depth, wide = vl_row_bytes(matrix), count = vl_count(last, x->shape);
    const int flip = x->type == VL_I8 ? 0x80 : 0;
    const int copied = flip || wide != depth || (depth > 1 && x->strides[last] != 1);
    const size_t own = copied ? ((size_t)(count * wide) + 63) & ~(size_t)63 : 0;
    rows->block = vl_block_new(f, own + (size_t)count * (sizeof(ptrdiff_t) + 2 * sizeof(int32_t)) + 1);
    if (!rows->block)
        return 0;
    uint8_t *bytes = (uint8_t *)rows->block->data;
    rows->rows = (ptrdiff_t *)(bytes + own);
    rows->zeros = (int32_t *)(rows->rows + count);
    rows->sums = matrix->zeros ? rows->zeros + count : NULL;
    rows->x = copied ? bytes : (const uint8_t *)x->data;
    int64_t at[VL_MOST_AXES] = {0}, offset = 0, step = x->strides[last];
    for (int64_t row = 0; row < count; row++) {
        const uint8_t *from = (const uint8_t *)x->data + offset;
        rows->rows[row] = copied ? row * wide : offset;
        rows->zeros[row] = flip ? zero + 128 : zero;
        if (copied) {
            uint8_t *to = bytes + row * wide;
            if (step == 1)
                for (int64_t k = 0; k < depth; k++)
                    to[k] = from[k] ^ (uint8_t)flip;
            else
                for (int64_t k = 0; k < depth; k++)
                    to[k] = from[k * step] ^ (uint8_t)flip;
            memset(to + depth, 0, (size_t)(wide - depth));
            from = to;
        }
        if (rows->sums) {
            int32_t sum = 0;
            for (int64_t k = 0; k < depth; k++)
                sum += from[k];
            rows->sums[row] = sum;
        }
        for (int a = last - 1; a >= 0; a--) {
            offset += x->strides[a];
            if (++at[a] < x->shape[a])
                break;
            offset -= x->shape[a] * x->strides[a];
            at[a] = 0;
        }
    }
    return 1;
}

/* a [..., K] of bytes, its zero point or none, a's scale or none: times a known matrix, int32, or float where the matrix
 * has scales. ints and objects: the matrix. */
static int matmul_integer(vl_frame *f, const vl_instruction *i)
{
    const vl_tensor *a = vl_in(f, i, 0), *zero = vl_in(f, i, 1), *scale = vl_in(f, i, 2);
    vl_integer_matrix matrix;
    vl_read_matrix(i->ints, i->objects, &matrix);
    if (!vl_is_bytes(a) || a->axes < 2 || a->shape[a->axes - 1] != matrix.depth)
        return VL_DECLINED;
    if (vl_has_in(i, 1) && (!vl_is_number(zero, a->type) || zero->axes > 1))
        return VL_DECLINED;
    if (vl_has_in(i, 2) && (!vl_is_number(scale, VL_F32) || scale->axes > 1))
        return VL_DECLINED;
    int64_t shape[VL_MOST_AXES];
    memcpy(shape, a->shape, sizeof shape);
    shape[a->axes - 1] = matrix.columns;
    if (vl_count(a->axes, shape) < 0)
        return VL_DECLINED;
    vl_tensor from = *a;
    float x_scale = scale ? *(const float *)scale->data : 1;
    vl_byte_rows rows;
    if (!byte_rows(f, &from, &matrix, zero ? vl_byte_at(zero, 0) : 0, &rows))
        return VL_NO_MEMORY;
    vl_tensor *out = vl_new(f, i, 0, matrix.scales ? VL_F32 : VL_I32, from.axes, shape);
    if (!out) {
        vl_block_drop(f, rows.block);
        return VL_NO_MEMORY;
    }
    vl_byte_product product = {.rows = vl_count(from.axes - 1, from.shape),
                               .x = rows.x,
                               .x_rows = rows.rows,
                               .x_zeros = rows.zeros,
                               .x_sums = rows.sums,
                               .x_scale = x_scale,
                               .out = out->data,
                               .ld_out = matrix.columns};
    vl_multiply_integers(f, &matrix, &product);
    vl_block_drop(f, rows.block);
    return VL_DONE;
}

/* x [..., K] of float, to bytes as torch's dynamically quantised Linear does, times a known matrix with scales. ints: the
 * steps of the bytes, the matrix; objects: the matrix's. */
static int dynamic_product(vl_frame *f, const vl_instruction *i)
{
    const vl_tensor *x = vl_in(f, i, 0);
    vl_integer_matrix matrix;
    vl_read_matrix(i->ints + 1, i->objects, &matrix);
    if (!x || x->type != VL_F32 || x->axes < 1 || x->shape[x->axes - 1] != matrix.depth)
        return VL_DECLINED;
    int64_t shape[VL_MOST_AXES];
    memcpy(shape, x->shape, sizeof shape);
    shape[x->axes - 1] = matrix.columns;
    if (vl_count(x->axes, shape) < 0)
        return VL_DECLINED;
    vl_tensor copy = {.block = NULL};
    const vl_tensor *from = vl_contiguous(f, x, &copy);
    if (!from)
        return VL_NO_MEMORY;
    const int64_t rows = vl_count(x->axes - 1, x->shape), depth = matrix.depth, wide = vl_row_bytes(&matrix);
    const size_t bytes = ((size_t)(rows * wide) + 63) & ~(size_t)63;
    vl_block *block = vl_block_new(f, bytes + (size_t)rows * (sizeof(ptrdiff_t) + 2 * sizeof(int32_t)) + 1);
    vl_tensor *out = block ? vl_new(f, i, 0, VL_F32, x->axes, shape) : NULL;
    if (out) {
        float bounds[2] = {0, 0};
        vl_quantising q = {.n = depth, .x = (const float *)from->data, .out = (uint8_t *)block->data};
        f->kernels->range(rows * depth, q.x, bounds);
        vl_torchs_scale(bounds, i->ints[0], &q);
        ptrdiff_t *places = (ptrdiff_t *)(block->data + bytes);
        int32_t *zeros = (int32_t *)(places + rows), *sums = zeros + rows;
        for (int64_t row = 0; row < rows; row++, q.x += depth, q.out += wide) {
            sums[row] = f->kernels->quantise(&q);
            memset(q.out + depth, 0, (size_t)(wide - depth));
            places[row] = row * wide;
            zeros[row] = (int32_t)q.zero;
        }
        vl_byte_product product = {.rows = rows,
                                   .x = (const uint8_t *)block->data,
                                   .x_rows = places,
                                   .x_zeros = zeros,
                                   .x_sums = sums,
                                   .x_scale = q.scale,
                                   .out = out->data,
                                   .ld_out = matrix.columns};
        vl_multiply_integers(f, &matrix, &product);
    }
    vl_block_drop(f, block);
    vl_block_drop(f, copy.block);
    return out ? VL_DONE : VL_NO_MEMORY;
}

/* ---- sums in units of another scale -------------------------------------------------------------------- */

int vl_read_requantising(vl_frame *f, const vl_tensor *x_scale, float factor, const vl_tensor *w_scale,
                         const vl_tensor *y_scale, const vl_tensor *zero, int has_bias, const vl_tensor *bias,
                         int64_t columns, vl_requantising *finish, vl_block **block)
{
    if (!vl_is_number(x_scale, VL_F32) || !vl_is_number(y_scale, VL_F32) || !vl_is_bytes(zero) ||
        vl_count(zero->axes, zero->shape) != 1 || !w_scale || w_scale->type != VL_F32 || w_scale->axes > 1)
        return VL_DECLINED;
    const int one = vl_count(w_scale->axes, w_scale->shape) == 1;
    if (!one && w_scale->shape[0] != columns)
        return VL_DECLINED;
    if (has_bias && (!bias || bias->type != VL_I32 || bias->axes != 1 || bias->shape[0] != columns))
        return VL_DECLINED;
    const float x = factor * *(const float *)x_scale->data, y = *(const float *)y_scale->data;
    const int64_t whole = (columns + f->kernels->lanes - 1) / f->kernels->lanes * f->kernels->lanes;
    for (int64_t k = 0; k < columns; k++)
        if (!isfinite(x * *(const float *)(w_scale->data + (one ? 0 : k * w_scale->strides[0])) / y))
            return VL_DECLINED;
    *block = vl_block_new(f, (size_t)whole * (sizeof(float) + sizeof(int32_t)));
    if (!*block)
        return VL_NO_MEMORY;
    float *steps = (float *)(*block)->data;
    int32_t *added = (int32_t *)(steps + whole);
    memset(steps, 0, (size_t)whole * (sizeof(float) + sizeof(int32_t)));
    for (int64_t k = 0; k < columns; k++) {
        steps[k] = x * *(const float *)(w_scale->data + (one ? 0 : k * w_scale->strides[0])) / y;
        added[k] = has_bias ? *(const int32_t *)(bias->data + k * bias->strides[0]) : 0;
    }
    const int is_signed = zero->type == VL_I8;
    *finish = (vl_requantising){steps, added, vl_byte_at(zero, 0), is_signed ? -128 : 0, is_signed ? 127 : 255};
    return VL_DONE;
}

void vl_add_zero(vl_requantising *finish, int64_t columns, const int32_t *sums, int32_t zero)
{
    for (int64_t c = 0; c < columns; c++) /* what goes beyond int32 on the way comes back */
        finish->added[c] = (int32_t)((uint32_t)finish->added[c] - (uint32_t)zero * (uint32_t)sums[c]);
}

/* a [..., K], its zero point, a's, b's and y's scales, y's zero point, int32 to add or none: times a known matrix. ints and
 * objects: the matrix; floats: a factor of a's scale. */
static int qlinear_matmul(vl_frame *f, const vl_instruction *i)
{
    const vl_tensor *a = vl_in(f, i, 0), *zero = vl_in(f, i, 1);
    vl_integer_matrix matrix;
    vl_read_matrix(i->ints, i->objects, &matrix);
    if (!vl_is_bytes(a) || a->axes < 2 || a->shape[a->axes - 1] != matrix.depth || !vl_is_number(zero, a->type) ||
        zero->axes > 1)
        return VL_DECLINED;
    for (int n = 2; n < 6; n++)
        if (!vl_in(f, i, n) || vl_in(f, i, n)->axes > 1)
            return VL_DECLINED;
    int64_t shape[VL_MOST_AXES];
    memcpy(shape, a->shape, sizeof shape);
    shape[a->axes - 1] = matrix.columns;
    if (vl_count(a->axes, shape) < 0)
        return VL_DECLINED;
    vl_requantising finish;
    vl_block *steps;
    const int type = vl_in(f, i, 5)->type;
    int answer = vl_read_requantising(f, vl_in(f, i, 2), i->floats[0], vl_in(f, i, 3), vl_in(f, i, 4), vl_in(f, i, 5),
                                      vl_has_in(i, 6), vl_in(f, i, 6), matrix.columns, &finish, &steps);
    if (answer != VL_DONE)
        return answer;
    vl_tensor from = *a;
    vl_byte_rows rows = {.block = NULL};
    const int32_t x_zero = vl_byte_at(zero, 0) + (from.type == VL_I8 ? 128 : 0);
    vl_add_zero(&finish, matrix.columns, matrix.sums, x_zero);
    int fine = byte_rows(f, &from, &matrix, vl_byte_at(zero, 0), &rows);
    vl_tensor *out = fine ? vl_new(f, i, 0, type, from.axes, shape) : NULL;
    if (out) {
        vl_byte_product product = {.rows = vl_count(from.axes - 1, from.shape),
                                   .x = rows.x,
                                   .x_rows = rows.rows,
                                   .x_sums = rows.sums,
                                   .requantised = &finish,
                                   .out = out->data,
                                   .ld_out = matrix.columns};
        vl_multiply_integers(f, &matrix, &product);
    }
    vl_block_drop(f, rows.block);
    vl_block_drop(f, steps);
    return out ? VL_DONE : VL_NO_MEMORY;
}

const vl_named_handler vl_integer_handlers[] = {
    {"matmul_integer", matmul_integer},
    {"dynamic_product", dynamic_product},
    {"qlinear_matmul", qlinear_matmul},
    {NULL, NULL},
};
