/* If, Loop and Scan: their bodies are ranges of the same program, whose slots each iteration fills anew.
 *
 * Nothing that a body computes has effects, so a handler may decline at any time: the operator then runs
 * again, from its inputs, in Python.
 */
#include "program.h"

/* A body, each of whose outputs is made by an instruction of its own and stands in a slot of its own. */
typedef struct {
    vl_range range;
    int count;              /* of outputs */
    const int64_t *outputs; /* slots */
} vl_body;

static void empty_outputs(vl_frame *f, const vl_body *body)
{
    for (int k = 0; k < body->count; k++)
        vl_drop(f, (int32_t)body->outputs[k]);
}

/* Another use of the value in a slot, in the slot `to`, whatever stood there. */
static void pass(vl_frame *f, int64_t to, int64_t from)
{
    vl_tensor t = f->slots[from];
    vl_block_use(t.block);
    vl_drop(f, (int32_t)to);
    f->slots[to] = t;
}

static int truth(const vl_tensor *t)
{
    if (!t || t->type != VL_BOOL || vl_count(t->axes, t->shape) != 1)
        return -1;
    return *t->data != 0;
}

/* condition, ...; ints: for then and for else: first, last, slots of the outputs */
static int if_(vl_frame *f, const vl_instruction *i)
{
    int taken = truth(vl_in(f, i, 0)), count = i->output_count;
    if (taken < 0)
        return VL_DECLINED;
    const int64_t *n = i->ints + (taken ? 0 : 2 + count);
    vl_body body = {{(int32_t)n[0], (int32_t)n[1]}, count, n + 2};
    int status = vl_run(f, body.range);
    if (status != VL_DONE)
        return status;
    for (int k = 0; k < count; k++)
        if (vl_wants(i, k))
            pass(f, i->outputs[k], body.outputs[k]);
    empty_outputs(f, &body);
    return VL_DONE;
}

/* ---- outputs that grow by an element each iteration ------------------------------------------------ */

typedef struct {
    vl_block *block;
    vl_tensor element;      /* its type, shape and contiguous strides, from the first one on */
    size_t bytes;           /* of an element */
    int64_t count, room;
} vl_column;

static int append(vl_frame *f, vl_column *column, const vl_tensor *t, int64_t expected)
{
    if (t->state != VL_TENSOR || t->axes == VL_MOST_AXES)
        return VL_DECLINED;
    if (column->count == 0) {
        column->element = *t;
        vl_set_contiguous(&column->element);
        column->bytes = (size_t)vl_count(t->axes, t->shape) * vl_size_of(t->type);
    } else {
        if (t->type != column->element.type || t->axes != column->element.axes)
            return VL_DECLINED;
        for (int a = 0; a < t->axes; a++)
            if (t->shape[a] != column->element.shape[a])
                return VL_DECLINED;
    }
    if (column->count == column->room) {
        int64_t room = column->room ? 2 * column->room : expected < 1024 ? expected : 1024;
        size_t bytes;
        if (__builtin_mul_overflow((size_t)room, column->bytes, &bytes))
            return VL_NO_MEMORY;
        vl_block *larger = vl_block_new(f, bytes);
        if (!larger)
            return VL_NO_MEMORY;
        if (column->block)
            memcpy(larger->data, column->block->data, (size_t)column->count * column->bytes);
        vl_block_drop(f, column->block);
        column->block = larger;
        column->room = room;
    }
    vl_tensor to = column->element;
    to.data = column->block->data + (size_t)column->count * column->bytes;
    vl_copy(f, &to, t);
    column->count++;
    return VL_DONE;
}

/* The column as the n-th output, its elements along a new axis there, perhaps from the last to the first. */
static void put_column(vl_frame *f, const vl_instruction *i, int n, vl_column *column, int axis, int backwards)
{
    vl_tensor *out = vl_out(f, i, n);
    out->block = column->block;
    column->block = NULL;
    out->data = out->block->data;
    out->type = column->element.type;
    out->axes = (int8_t)(column->element.axes + 1);
    for (int a = 0, own = 0; a < out->axes; a++) {
        if (a == axis) {
            out->shape[a] = column->count;
            out->strides[a] = backwards ? -(int64_t)column->bytes : (int64_t)column->bytes;
            out->data += backwards ? (column->count - 1) * (int64_t)column->bytes : 0;
            continue;
        }
        out->shape[a] = column->element.shape[own];
        out->strides[a] = column->element.strides[own++];
    }
}

enum { VL_MOST_COLUMNS = 16 };

/* trip count, condition, states ...; ints: number of states, of columns; slots of the body's iteration, condition and
 * states; first, last; slots of its outputs (condition, states, columns) */
static int loop(vl_frame *f, const vl_instruction *i)
{
    int states = (int)i->ints[0], columns = (int)i->ints[1];
    const int64_t *slots = i->ints + 2, *range = slots + 2 + states;
    vl_body body = {{(int32_t)range[0], (int32_t)range[1]}, 1 + states + columns, range + 2};
    int64_t trips = INT64_MAX;
    int heeded = vl_has_in(i, 1) || !vl_has_in(i, 0), going = 1;
    if (columns > VL_MOST_COLUMNS)
        return VL_DECLINED;
    if (vl_has_in(i, 0)) {
        const vl_tensor *count = vl_in(f, i, 0);
        if (!count || count->type != VL_I64 || vl_count(count->axes, count->shape) != 1)
            return VL_DECLINED;
        trips = *(int64_t *)count->data;
    }
    if (vl_has_in(i, 1)) {
        going = truth(vl_in(f, i, 1));
        if (going < 0)
            return VL_DECLINED;
    }
    if (columns && (trips <= 0 || !going))
        return VL_DECLINED; /* empty columns: their shapes are the declaration's */
    vl_column made[VL_MOST_COLUMNS];
    memset(made, 0, sizeof made);
    int status = VL_DONE;
    for (int k = 0; k < states; k++) {
        if (!vl_has_in(i, 2 + k))
            return VL_DECLINED;
        pass(f, slots[2 + k], i->inputs[2 + k]);
    }
    int64_t trip = 0;
    for (; trip < trips && !(heeded && !going); trip++) {
        if (f->trips >= f->most_trips) {
            status = VL_TOO_LONG;
            break;
        }
        f->trips++;
        int32_t inputs[2] = {(int32_t)slots[0], (int32_t)slots[1]};
        vl_drop(f, inputs[0]);
        vl_drop(f, inputs[1]);
        vl_instruction scalars = {.outputs = inputs, .output_count = 2};
        vl_tensor *number = vl_new(f, &scalars, 0, VL_I64, 0, NULL);
        vl_tensor *condition = vl_new(f, &scalars, 1, VL_BOOL, 0, NULL);
        if (!number || !condition) {
            status = VL_NO_MEMORY;
            break;
        }
        memcpy(number->data, &trip, 8);
        *condition->data = (char)going;
        status = vl_run(f, body.range);
        if (status != VL_DONE)
            break;
        const vl_tensor *end = &f->slots[body.outputs[0]];
        going = truth(end->state == VL_TENSOR ? end : NULL);
        if (going < 0)
            status = VL_DECLINED;
        for (int k = 0; k < columns && status == VL_DONE; k++)
            status = append(f, &made[k], &f->slots[body.outputs[1 + states + k]], trips - trip);
        if (status != VL_DONE)
            break;
        for (int k = 0; k < states; k++)
            pass(f, slots[2 + k], body.outputs[1 + k]);
        empty_outputs(f, &body);
    }
    vl_drop(f, (int32_t)slots[0]);
    vl_drop(f, (int32_t)slots[1]);
    if (status != VL_DONE)
        empty_outputs(f, &body);
    for (int k = 0; k < states; k++) {
        if (status == VL_DONE && vl_wants(i, k))
            pass(f, i->outputs[k], slots[2 + k]);
        vl_drop(f, (int32_t)slots[2 + k]);
    }
    for (int k = 0; k < columns; k++) {
        if (status == VL_DONE && vl_wants(i, states + k))
            put_column(f, i, states + k, &made[k], 0, 0);
        vl_block_drop(f, made[k].block);
    }
    return status;
}

/* states ..., sequences ...; ints: number of states, of sequences, of columns; for each sequence its axis and whether
 * backwards; for each column likewise; slots of the body's states and elements; first, last; slots of its
 * outputs */
static int scan(vl_frame *f, const vl_instruction *i)
{
    int states = (int)i->ints[0], sequences = (int)i->ints[1], columns = (int)i->ints[2];
    const int64_t *in = i->ints + 3, *out = in + 2 * sequences, *slots = out + 2 * columns;
    const int64_t *range = slots + states + sequences;
    vl_body body = {{(int32_t)range[0], (int32_t)range[1]}, states + columns, range + 2};
    int64_t steps = -1;
    if (columns > VL_MOST_COLUMNS || sequences > VL_MOST_COLUMNS)
        return VL_DECLINED;
    vl_tensor sequence[VL_MOST_COLUMNS];
    int axis[VL_MOST_COLUMNS];
    for (int s = 0; s < sequences; s++) {
        const vl_tensor *x = vl_in(f, i, states + s);
        axis[s] = x ? vl_axis(in[2 * s], x->axes) : -1;
        if (axis[s] < 0 || (steps >= 0 && x->shape[axis[s]] != steps))
            return VL_DECLINED;
        sequence[s] = *x;
        steps = x->shape[axis[s]];
    }
    if (steps <= 0)
        return VL_DECLINED;
    vl_column made[VL_MOST_COLUMNS];
    memset(made, 0, sizeof made);
    int status = VL_DONE;
    for (int k = 0; k < states; k++) {
        if (!vl_has_in(i, k))
            return VL_DECLINED;
        pass(f, slots[k], i->inputs[k]);
    }
    for (int64_t step = 0; step < steps && status == VL_DONE; step++) {
        for (int s = 0; s < sequences; s++) {
            vl_tensor part = sequence[s];
            vl_block_use(part.block);
            part.data += (in[2 * s + 1] ? steps - 1 - step : step) * part.strides[axis[s]];
            part.axes--;
            for (int a = axis[s]; a < part.axes; a++) {
                part.shape[a] = part.shape[a + 1];
                part.strides[a] = part.strides[a + 1];
            }
            vl_drop(f, (int32_t)slots[states + s]);
            f->slots[slots[states + s]] = part;
        }
        status = vl_run(f, body.range);
        if (status != VL_DONE)
            break;
        for (int k = 0; k < columns && status == VL_DONE; k++)
            status = append(f, &made[k], &f->slots[body.outputs[states + k]], steps);
        if (status != VL_DONE)
            break;
        for (int k = 0; k < states; k++)
            pass(f, slots[k], body.outputs[k]);
        empty_outputs(f, &body);
    }
    if (status != VL_DONE)
        empty_outputs(f, &body);
    for (int s = 0; s < sequences; s++)
        vl_drop(f, (int32_t)slots[states + s]);
    for (int k = 0; k < columns && status == VL_DONE; k++)
        if (vl_wants(i, states + k) && vl_axis(out[2 * k], made[k].element.axes + 1) < 0)
            status = VL_DECLINED;
    for (int k = 0; k < states; k++) {
        if (status == VL_DONE && vl_wants(i, k))
            pass(f, i->outputs[k], slots[k]);
        vl_drop(f, (int32_t)slots[k]);
    }
    for (int k = 0; k < columns; k++) {
        if (status == VL_DONE && vl_wants(i, states + k))
            put_column(f, i, states + k, &made[k], vl_axis(out[2 * k], made[k].element.axes + 1), (int)out[2 * k + 1]);
        vl_block_drop(f, made[k].block);
    }
    return status;
}

const vl_named_handler vl_control_handlers[] = {{"if", if_}, {"loop", loop}, {"scan", scan}, {NULL, NULL}};
