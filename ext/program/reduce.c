/* Reductions over axes, of float32 and float64 in any layout, of int64 and int32 in small.
 *
 * A tensor's axes are taken in the order in which they lie in memory and joined into groups, each kept or reduced; the
 * two innermost groups are a kernel call. The result's axes lie in the same order.
 */
#include "program.h"

#include <math.h>
#include <stdlib.h>

/* What "reduce" computes; the order is vledge/graph/native/families/reduction.py's. */
typedef enum {
    VL_REDUCE_SUM,
    VL_REDUCE_MEAN,
    VL_REDUCE_L1,
    VL_REDUCE_L2,
    VL_REDUCE_SUM_SQUARE,
    VL_REDUCE_LOG_SUM,
    VL_REDUCE_LOG_SUM_EXP,
    VL_REDUCE_PROD,
    VL_REDUCE_MAX,
    VL_REDUCE_MIN
} vl_reduce_kind;


typedef struct {
    const vl_kernels *kernels;
    int kind;                           /* of kernels.h */
    int groups, split;                  /* split: the kept group whose range members share, or -1 */
    int64_t size[VL_MOST_AXES + 1], stride[VL_MOST_AXES + 1], out_step[VL_MOST_AXES + 1];
    int reduced[VL_MOST_AXES + 1];
    const char *x, *shift;
    char *out;
    int64_t each;                       /* bytes of an element */
} vl_reduce_walk;

/* 0 where the innermost elements are not side by side */
static int plan(vl_reduce_walk *groups, const vl_tensor *t, int axes_reduced)
{
    int8_t order[VL_MOST_AXES];
    vl_order_of(t, order);
    groups->groups = 0;
    for (int k = 0; k < t->axes; k++) {
        int a = order[k], last = groups->groups - 1, reduced = axes_reduced >> a & 1;
        int64_t n = t->shape[a], step = t->strides[a];
        if (n == 1)
            continue;
        if (step % groups->each)
            return 0;
        step /= groups->each;
        if (last < 0 || groups->reduced[last] != reduced || groups->stride[last] != step * n) {
            last = groups->groups++;
            groups->size[last] = 1;
            groups->reduced[last] = reduced;
        }
        groups->size[last] *= n;
        groups->stride[last] = step;
    }
    if (!groups->groups) {
        groups->size[0] = groups->stride[0] = groups->reduced[0] = 1;
        groups->groups = 1;
    }
    int64_t step = 1;
    for (int g = groups->groups - 1; g >= 0; g--) {
        groups->out_step[g] = groups->reduced[g] ? 0 : step;
        step *= groups->reduced[g] ? 1 : groups->size[g];
    }
    return groups->stride[groups->groups - 1] == 1;
}

static void walk(const vl_reduce_walk *groups, int g, const int64_t *begin, const int64_t *end, const char *x,
                 char *out, const char *shift, int join)
{
    const int left = groups->groups - g;
    const int64_t each = groups->each, n = end[g] - begin[g], offset = begin[g] * groups->out_step[g] * each;
    vl_reduction s = {.kind = groups->kind, .join = join, .ld = groups->stride[g]};
    x += begin[g] * groups->stride[g] * each;
    out += offset;
    shift = shift ? shift + offset : NULL;
    if (left == 1 || (left == 2 && groups->reduced[g] != groups->reduced[g + 1])) {
        const int last = g + left - 1;
        const int64_t inner = last == g ? 0 : begin[last] * groups->out_step[last] * each;
        s.rows = left == 1 ? 1 : n;
        s.columns = end[last] - begin[last];
        s.of_rows = groups->reduced[last];
        s.x = last == g ? x : x + begin[last] * each;
        s.out = out + inner;
        s.shift = shift ? shift + inner : NULL;
        groups->kernels->reduce(&s);
        return;
    }
    for (int64_t k = 0; k < n; k++) {
        const int64_t at = k * groups->out_step[g] * each;
        walk(groups, g + 1, begin, end, x + k * groups->stride[g] * each, out + at, shift ? shift + at : NULL,
             join || (groups->reduced[g] && k > 0));
    }
}

static void member_walk(void *context, int member, int members)
{
    const vl_reduce_walk *groups = context;
    int64_t begin[VL_MOST_AXES + 1] = {0}, end[VL_MOST_AXES + 1];
    memcpy(end, groups->size, sizeof end);
    begin[groups->split] = groups->size[groups->split] * member / members;
    end[groups->split] = groups->size[groups->split] * (member + 1) / members;
    if (end[groups->split] > begin[groups->split])
        walk(groups, 0, begin, end, groups->x, groups->out, groups->shift, 0);
}

static void reduce_all(vl_frame *f, vl_reduce_walk *groups, int64_t elements)
{
    int64_t begin[VL_MOST_AXES + 1] = {0};
    groups->split = -1;
    for (int g = 0; g < groups->groups; g++)
        if (!groups->reduced[g] && groups->size[g] >= 2 * f->threads && groups->split < 0)
            groups->split = g;
    const int members = elements >= f->limits->reduce_thread_work ? f->threads : 1,
              pieces = vl_piece_count(f, members, elements);
    if (pieces > 1 && groups->split >= 0)
        vl_run_pieces(f, members, pieces, member_walk, groups);
    else
        walk(groups, 0, begin, groups->size, groups->x, groups->out, groups->shift, 0);
}

/* out = what a micro-operation makes of it, and of y where there is one; a result may lie where its only reader was. */
static void apply(const vl_kernels *kernels, int micro, char *out, int64_t n, const char *y, double number)
{
    const float single = (float)number;
    vl_chain_array arrays[] = {{out, 0, 1, 0}, {out, 0, 1, 0}, {out, 0, 1, 0}};
    int64_t program = VL_MICRO(micro, 2, 0, 1, 0);
    vl_chain c = {.rows = 1,
                  .columns = n,
                  .operands = 1,
                  .constants = 1,
                  .results = 1,
                  .micros = 1,
                  .arrays = arrays,
                  .constant = kernels->arithmetic == VL_IN_FLOAT64 ? (const void *)&number : &single,
                  .micro = &program};
    if (y) {
        arrays[1].data = (void *)y;
        c.operands = 2;
        c.constants = 0;
    }
    kernels->chain(&c);
}

/* The axes that a reduction is over, as bits; -1 where they cannot be told or are none. */
static int axes_of(const vl_frame *f, const vl_instruction *i, const vl_tensor *t, const int64_t *given, int count,
                   int noop)
{
    int64_t values[VL_MOST_AXES];
    if (vl_has_in(i, 1)) {
        count = vl_list(vl_in(f, i, 1), values, VL_MOST_AXES);
        given = values;
    }
    if (count < 0 || (count == 0 && noop))
        return -1;
    if (count == 0)
        return (1 << t->axes) - 1;
    int bits = 0;
    for (int k = 0; k < count; k++) {
        int axis = vl_axis(given[k], t->axes);
        if (axis < 0 || bits >> axis & 1)
            return -1;
        bits |= 1 << axis;
    }
    return bits;
}

/* The result's shape and the order of its axes in memory, which is the input's. */
static int shape_of(const vl_tensor *t, int reduced, int keep, int64_t *shape, int8_t *order)
{
    int8_t whole[VL_MOST_AXES];
    int number[VL_MOST_AXES], axes = 0, n = 0;
    for (int a = 0; a < t->axes; a++) {
        number[a] = axes;
        if (!(reduced >> a & 1))
            shape[axes++] = t->shape[a];
        else if (keep)
            shape[axes++] = 1;
    }
    vl_order_of(t, whole);
    for (int k = 0; k < t->axes; k++)
        if (keep || !(reduced >> whole[k] & 1))
            order[n++] = (int8_t)number[whole[k]];
    return axes;
}

/* ---- integers ----------------------------------------------------------------------------------------- */

static int64_t integer_at(const vl_tensor *t, const char *p)
{
    return t->type == VL_I64 ? *(const int64_t *)p : *(const int32_t *)p;
}

/* Few numbers, mostly: every element by its index. */
static int reduce_integers(vl_frame *f, const vl_instruction *i, int kind, int reduced, int keep)
{
    const vl_tensor from = *vl_in(f, i, 0);
    int64_t shape[VL_MOST_AXES], step[VL_MOST_AXES], n = vl_count(from.axes, from.shape), of_each = 1, outs = 1;
    int axes = 0;
    for (int a = 0; a < from.axes; a++) {
        if (!(reduced >> a & 1))
            shape[axes++] = from.shape[a];
        else if (keep)
            shape[axes++] = 1;
    }
    for (int a = from.axes - 1; a >= 0; a--) {
        step[a] = reduced >> a & 1 ? 0 : outs;
        *(reduced >> a & 1 ? &of_each : &outs) *= from.shape[a];
    }
    if (n <= 0 || (uintptr_t)from.data % vl_size_of(from.type) || kind == VL_REDUCE_L2 || kind == VL_REDUCE_LOG_SUM ||
        kind == VL_REDUCE_LOG_SUM_EXP)
        return VL_DECLINED;
    for (int a = 0; a < from.axes; a++)
        if (from.shape[a] != 1 && from.strides[a] % (int64_t)vl_size_of(from.type))
            return VL_DECLINED;
    vl_block *block = vl_block_new(f, (size_t)outs * sizeof(int64_t));
    if (!block)
        return VL_NO_MEMORY;
    vl_tensor *out = vl_new(f, i, 0, from.type, axes, shape);
    if (!out) {
        vl_block_drop(f, block);
        return VL_NO_MEMORY;
    }
    int64_t *sums = (int64_t *)block->data, index[VL_MOST_AXES] = {0};
    for (int64_t k = 0; k < outs; k++)
        sums[k] = kind == VL_REDUCE_PROD  ? 1
                  : kind == VL_REDUCE_MAX ? INT64_MIN
                  : kind == VL_REDUCE_MIN ? INT64_MAX
                                          : 0;
    vl_pace pace = vl_pace_of(f);
    for (int64_t k = 0; k < n && vl_goes_on(&pace, 1); k++) {
        const char *p = from.data;
        int64_t at = 0;
        for (int a = 0; a < from.axes; a++) {
            p += index[a] * from.strides[a];
            at += index[a] * step[a];
        }
        uint64_t x = (uint64_t)integer_at(&from, p), sum = (uint64_t)sums[at]; /* wraps around */
        switch (kind) {
        case VL_REDUCE_PROD: sum *= x; break;
        case VL_REDUCE_MAX: sum = (int64_t)x > (int64_t)sum ? x : sum; break;
        case VL_REDUCE_MIN: sum = (int64_t)x < (int64_t)sum ? x : sum; break;
        case VL_REDUCE_L1: sum += (int64_t)x < 0 ? 0 - x : x; break;
        case VL_REDUCE_SUM_SQUARE: sum += x * x; break;
        default: sum += x; break;
        }
        sums[at] = (int64_t)sum;
        for (int a = from.axes - 1; a >= 0 && ++index[a] == from.shape[a]; a--)
            index[a] = 0;
    }
    for (int64_t k = 0; k < outs; k++) {
        if (from.type == VL_I32)
            ((int32_t *)out->data)[k] = (int32_t)(kind == VL_REDUCE_MEAN ? (int32_t)sums[k] / of_each : sums[k]);
        else
            ((int64_t *)out->data)[k] = kind == VL_REDUCE_MEAN ? sums[k] / of_each : sums[k];
    }
    vl_block_drop(f, block);
    return VL_DONE;
}

/* ---- reals ------------------------------------------------------------------------------------------------ */

/* "reduce": ints: what it computes (vl_reduce_kind), whether reduced axes stay with a size of 1, whether no axes means
 * none, and the axes; those of the second input go before. */
static int reduce(vl_frame *f, const vl_instruction *i)
{
    static const uint8_t kernel_kind[] = {VL_SUM, VL_SUM,     VL_SUM_ABS, VL_SUM_SQUARES, VL_SUM_SQUARES,
                                          VL_SUM, VL_SUM_EXP, VL_PRODUCT, VL_GREATEST,    VL_LEAST};
    const vl_tensor *t = vl_in(f, i, 0);
    const int kind = (int)i->ints[0], keep = (int)i->ints[1];
    if (!t)
        return VL_DECLINED;
    const int reduced = axes_of(f, i, t, i->ints + 3, i->int_count - 3, (int)i->ints[2]);
    if (reduced < 0)
        return VL_DECLINED;
    if (t->type == VL_I64 || t->type == VL_I32)
        return reduce_integers(f, i, kind, reduced, keep);
    const int64_t n = vl_count(t->axes, t->shape);
    const vl_kernels *kernels = vl_kernels_for(f, t->type);
    const int type = t->type;
    if (!kernels || n <= 0 || (uintptr_t)t->data % vl_size_of(type))
        return VL_DECLINED;

    vl_reduce_walk groups = {.kernels = kernels, .kind = kernel_kind[kind], .each = (int64_t)vl_size_of(type)};
    vl_tensor copy = {.block = NULL}, from = *t;
    if (!plan(&groups, &from, reduced)) {
        const vl_tensor *dense = vl_contiguous(f, t, &copy);
        if (!dense)
            return VL_NO_MEMORY;
        from = *dense;
        plan(&groups, &from, reduced);
    }
    int64_t shape[VL_MOST_AXES];
    int8_t order[VL_MOST_AXES];
    const int axes = shape_of(&from, reduced, keep, shape, order);
    const int64_t outs = vl_count(axes, shape);
    vl_block *tops = NULL;
    if (kind == VL_REDUCE_LOG_SUM_EXP && !(tops = vl_block_new(f, (size_t)(outs * groups.each)))) {
        vl_block_drop(f, copy.block);
        return VL_NO_MEMORY;
    }
    vl_tensor *out = vl_new_in_order(f, i, 0, type, axes, shape, order);
    if (out) {
        groups.x = from.data;
        if (tops) {
            groups.kind = VL_GREATEST;
            groups.out = tops->data;
            reduce_all(f, &groups, n);
            for (int64_t k = 0; k < outs; k++) /* what is not finite is no shift */
                if (type == VL_F32 && !(fabsf(((float *)tops->data)[k]) <= 3.4e38f))
                    ((float *)tops->data)[k] = 0;
                else if (type == VL_F64 && !(fabs(((double *)tops->data)[k]) <= 1.7e308))
                    ((double *)tops->data)[k] = 0;
            groups.kind = VL_SUM_EXP;
            groups.shift = groups.out;
        }
        groups.out = out->data;
        reduce_all(f, &groups, n);
        if (kind == VL_REDUCE_MEAN)
            apply(kernels, VL_MICRO_divide, groups.out, outs, NULL, (double)(n / outs));
        else if (kind == VL_REDUCE_L2)
            apply(kernels, VL_MICRO_sqrt, groups.out, outs, NULL, 0);
        else if (kind == VL_REDUCE_LOG_SUM || tops)
            apply(kernels, VL_MICRO_log, groups.out, outs, NULL, 0);
        if (tops)
            apply(kernels, VL_MICRO_add, groups.out, outs, groups.shift, 0);
    }
    vl_block_drop(f, tops);
    vl_block_drop(f, copy.block);
    return out ? VL_DONE : VL_NO_MEMORY;
}

const vl_named_handler vl_reduce_handlers[] = {{"reduce", reduce}, {NULL, NULL}};
