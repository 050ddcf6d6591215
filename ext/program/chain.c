/* Element-wise chains with NumPy's broadcasting over tensors of any strides.
 *
 * The results' axes lie in memory in the order of the largest operand's, so that channels-last stays channels-last.
 * Axes are joined where every array allows it; the two innermost that remain are a kernel call's rows and columns.
 */
#include "program.h"

#include <stdlib.h>


typedef struct {
    const vl_kernels *kernels;
    vl_chain chain;                     /* but for rows, columns and arrays */
    int number;                         /* the type of numbers */
    int arrays, axes, split; /* axes: joined, outermost first, at least two; split: whose range members share */
    char *data[VL_CHAIN_ARRAYS];
    int element[VL_CHAIN_ARRAYS];
    int64_t shape[VL_MOST_AXES + 2];
    int64_t strides[VL_MOST_AXES + 2][VL_CHAIN_ARRAYS]; /* elements */
} vl_chain_walk;

static inline size_t size_of(const vl_chain_walk *job, int k)
{
    return vl_size_of(vl_chain_type(job->element[k], job->number));
}

static void walk(const vl_chain_walk *job, const int64_t *shape, int axis, char *const *data)
{
    if (axis == job->axes - 2) {
        vl_chain_array arrays[VL_CHAIN_ARRAYS];
        for (int k = 0; k < job->arrays; k++)
            arrays[k] = (vl_chain_array){data[k], job->strides[axis][k], job->strides[axis + 1][k], job->element[k]};
        vl_chain c = job->chain;
        c.rows = shape[axis];
        c.columns = shape[axis + 1];
        c.arrays = arrays;
        job->kernels->chain(&c);
        return;
    }
    char *at[VL_CHAIN_ARRAYS];
    for (int64_t i = 0; i < shape[axis]; i++) {
        for (int k = 0; k < job->arrays; k++)
            at[k] = data[k] + i * job->strides[axis][k] * (int64_t)size_of(job, k);
        walk(job, shape, axis + 1, at);
    }
}

static void member_walk(void *context, int member, int members)
{
    const vl_chain_walk *job = context;
    int64_t shape[VL_MOST_AXES + 2], whole = job->shape[job->split];
    int64_t begin = whole * member / members, end = whole * (member + 1) / members;
    char *data[VL_CHAIN_ARRAYS];
    memcpy(shape, job->shape, sizeof shape);
    shape[job->split] = end - begin;
    for (int k = 0; k < job->arrays; k++)
        data[k] = job->data[k] + begin * job->strides[job->split][k] * (int64_t)size_of(job, k);
    if (end > begin)
        walk(job, shape, 0, data);
}

/* The axes of a tensor by stride, longest first; those without one (size 1, or the same for all) stay where they are. */
static void order_of(const int64_t *strides, int axes, int8_t *order)
{
    for (int a = 0; a < axes; a++) {
        int at = a;
        if (strides[a])
            while (at > 0 && strides[order[at - 1]] && llabs(strides[order[at - 1]]) < llabs(strides[a])) {
                order[at] = order[at - 1];
                at--;
            }
        order[at] = (int8_t)a;
    }
}

enum { VL_CHAIN_INTS = 8 }; /* in front of the results' */
static int run_chain(vl_frame *f, const vl_instruction *i, int number, const void *constants)
{
    const int64_t *ints = i->ints;
    const int operands = (int)ints[0], results = (int)ints[2];
    const int64_t elements = ints[5];
    vl_chain_walk job = {.number = number, .kernels = vl_kernels_for(f, number)};
    const vl_tensor *in[VL_CHAIN_ARRAYS];
    vl_tensor along[VL_CHAIN_ARRAYS]; /* vectors, with the axes that they lack */
    int64_t shape[VL_MOST_AXES];
    int axes = (int)ints[7];
    if (ints[7] > VL_MOST_AXES)
        return VL_DECLINED;
    for (int k = 0; k < operands; k++) {
        const vl_tensor *tensor = in[k] = vl_in(f, i, k);
        job.element[k] = vl_chain_element_of(elements, k);
        if (!tensor || tensor->type != vl_chain_type(job.element[k], number) ||
            ((uintptr_t)tensor->data % size_of(&job, k)))
            return VL_DECLINED;
        if (tensor->axes > axes && !(ints[6] >> k & 1))
            axes = tensor->axes;
        job.data[k] = tensor->data;
    }
    for (int k = 0; k < operands; k++) {
        if (!(ints[6] >> k & 1))
            continue;
        if (axes < 2 || in[k]->axes != 1)
            return VL_DECLINED;
        along[k] = *in[k];
        along[k].axes = (int8_t)(axes - 1);
        for (int a = 1; a < axes - 1; a++)
            along[k].shape[a] = 1;
        in[k] = &along[k];
    }

    /* broadcasting: axes are counted from the last */
    int64_t strides[VL_MOST_AXES][VL_CHAIN_ARRAYS];
    for (int a = 0; a < axes; a++)
        shape[a] = 1;
    int largest = 0;
    int64_t most = -1;
    for (int k = 0; k < operands; k++) {
        const vl_tensor *tensor = in[k];
        int missing = axes - tensor->axes;
        int64_t elements = 1;
        for (int a = 0; a < missing; a++)
            strides[a][k] = 0;
        for (int a = 0; a < tensor->axes; a++) {
            int64_t size = tensor->shape[a], step = tensor->strides[a];
            strides[missing + a][k] = 0;
            if (size == 1)
                continue;
            if (shape[missing + a] == 1)
                shape[missing + a] = size;
            else if (shape[missing + a] != size)
                return VL_DECLINED;
            if (job.element[k])
                strides[missing + a][k] = step;
            else if (step % (int64_t)vl_size_of(number))
                return VL_DECLINED;
            else
                strides[missing + a][k] = step / (int64_t)vl_size_of(number);
            if (step) /* else it only looks that large */
                elements *= size;
        }
        if (elements > most) {
            most = elements;
            largest = k;
        }
    }
    const int64_t total = vl_count(axes, shape), all = ((int64_t)1 << operands) - 1;
    if (total < 0)
        return VL_DECLINED;
    for (int k = 0; k < results; k++) {
        if (!vl_wants(i, k))
            return VL_DECLINED;
        if ((ints[VL_CHAIN_INTS + k] & all) == all)
            continue;
        int seen = 0; /* axes that the result's own operands reach */
        for (int a = 0; a < axes; a++) {
            int reached = shape[a] == 1;
            for (int o = 0; o < operands; o++)
                if (ints[VL_CHAIN_INTS + k] >> o & 1) {
                    int own = a - (axes - in[o]->axes);
                    reached |= own >= 0 && in[o]->shape[own] == shape[a];
                    seen |= in[o]->axes == axes;
                }
            if (!reached)
                return VL_DECLINED;
        }
        if (axes > ints[7] && !seen)
            return VL_DECLINED;
    }

    int8_t order[VL_MOST_AXES];
    int64_t largest_strides[VL_MOST_AXES];
    for (int a = 0; a < axes; a++)
        largest_strides[a] = strides[a][largest];
    order_of(largest_strides, axes, order);
    for (int k = 0; k < results; k++) {
        const int element = vl_chain_element_of(elements, operands + k);
        const vl_tensor *tensor = vl_new_in_order(f, i, k, vl_chain_type(element, number), axes, shape, order);
        if (!tensor)
            return VL_NO_MEMORY;
        job.element[operands + k] = element;
        job.data[operands + k] = tensor->data;
        for (int a = 0; a < axes; a++)
            strides[a][operands + k] = shape[a] == 1 ? 0 : tensor->strides[a] / (int64_t)size_of(&job, operands + k);
    }
    if (total == 0)
        return VL_DONE;

    job.arrays = operands + results;
    job.axes = 0;
    for (int at = 0; at < axes; at++) {
        int a = order[at];
        if (shape[a] == 1)
            continue;
        int joined = job.axes > 0;
        for (int k = 0; joined && k < job.arrays; k++)
            joined = job.strides[job.axes - 1][k] == strides[a][k] * shape[a];
        if (!joined)
            job.shape[job.axes++] = 1;
        job.shape[job.axes - 1] *= shape[a];
        memcpy(job.strides[job.axes - 1], strides[a], sizeof strides[a]);
    }
    while (job.axes < 2) { /* in front */
        memmove(job.shape + 1, job.shape, sizeof job.shape[0] * (size_t)job.axes);
        memmove(job.strides + 1, job.strides, sizeof job.strides[0] * (size_t)job.axes);
        job.shape[0] = 1;
        memset(job.strides[0], 0, sizeof job.strides[0]);
        job.axes++;
    }
    job.chain = (vl_chain){.operands = operands,
                           .constants = (int)ints[1],
                           .results = results,
                           .scratch = (int)ints[3],
                           .micros = (int)ints[4],
                           .constant = constants,
                           .micro = ints + VL_CHAIN_INTS + results};
    const int64_t work = total * (ints[4] + 1);
    const int members = work >= f->limits->chain_thread_work ? f->threads : 1,
              pieces = vl_piece_count(f, members, work);
    if (pieces > 1) {
        job.split = 0;
        while (job.split < job.axes - 1 && job.shape[job.split] < 2 * pieces)
            job.split++;
        vl_run_pieces(f, members, pieces, member_walk, &job);
    } else
        walk(&job, job.shape, 0, job.data);
    return VL_DONE;
}

/* "chain": ints: operands, constants, results, scratch, micros; what the arrays have (operands, then results;
 * VL_CHAIN_ELEMENT_BITS each: a vl_chain_element); which operands are vectors along axis 1; how many axes the results
 * have at least; for each result the operands that it is made of (bit k); the micro-operations as in kernels.h. floats:
 * the constants. A result that would not have the shape of all operands together is declined. */
static int chain(vl_frame *f, const vl_instruction *i) { return run_chain(f, i, VL_F32, i->floats); }

/* "chain_double": the same over float64; objects: the constants. */
static int chain_double(vl_frame *f, const vl_instruction *i) { return run_chain(f, i, VL_F64, i->objects[0]); }

const vl_named_handler vl_chain_handlers[] = {{"chain", chain}, {"chain_double", chain_double}, {NULL, NULL}};
