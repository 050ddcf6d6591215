/* Slots: how handlers make, share and copy tensors; and the loop over the instructions. */
#include "program.h"

#include <stdlib.h>
#include <time.h>

vl_tensor *vl_out(vl_frame *f, const vl_instruction *i, int n)
{
    vl_tensor *t = &f->slots[i->outputs[n]];
    t->state = VL_TENSOR;
    t->block = NULL;
    return t;
}

static vl_tensor *filled(vl_frame *f, vl_tensor *t, int type, int axes, const int64_t *shape)
{
    t->type = (int8_t)type;
    t->axes = (int8_t)axes;
    int64_t n = vl_count(axes, shape);
    for (int a = 0; a < axes; a++)
        t->shape[a] = shape[a];
    t->block = vl_block_new(f, (size_t)n * vl_size_of(type));
    if (!t->block) {
        t->state = VL_ABSENT;
        return NULL;
    }
    t->data = t->block->data;
    return t;
}

vl_tensor *vl_new(vl_frame *f, const vl_instruction *i, int n, int type, int axes, const int64_t *shape)
{
    vl_tensor *t = filled(f, vl_out(f, i, n), type, axes, shape);
    if (t)
        vl_set_contiguous(t);
    return t;
}

vl_tensor *vl_new_in_order(vl_frame *f, const vl_instruction *i, int n, int type, int axes, const int64_t *shape,
                           const int8_t *order)
{
    vl_tensor *t = filled(f, vl_out(f, i, n), type, axes, shape);
    if (!t)
        return NULL;
    uint64_t step = vl_size_of(type); /* unsigned as in vl_set_contiguous */
    for (int a = axes - 1; a >= 0; a--) {
        t->strides[order[a]] = (int64_t)step;
        step *= shape[order[a]] > 0 ? (uint64_t)shape[order[a]] : 1;
    }
    return t;
}

void vl_order_of(const vl_tensor *t, int8_t *order)
{
    for (int a = 0; a < t->axes; a++) { /* axes that are not walked stay where they are */
        int at = a;
        while (at > 0 && t->shape[order[at - 1]] != 1 && t->shape[a] != 1 &&
               llabs(t->strides[order[at - 1]]) < llabs(t->strides[a])) {
            order[at] = order[at - 1];
            at--;
        }
        order[at] = (int8_t)a;
    }
}

vl_tensor *vl_share(vl_frame *f, const vl_instruction *i, int n, const vl_tensor *t)
{
    vl_tensor *out = vl_out(f, i, n);
    *out = *t;
    vl_block_use(t->block);
    return out;
}

int vl_may_overwrite(const vl_frame *f, const vl_instruction *i, int n)
{
    const vl_tensor *t = &f->slots[i->inputs[n]];
    if (!t->block || t->block->object || t->block->kind < 0 || t->block->uses != 1)
        return 0;
    for (int k = 0; k < i->input_count; k++) /* one value may be several inputs: all are read to the end */
        if (k != n && i->inputs[k] == i->inputs[n])
            return 0;
    for (int k = 0; k < i->drop_count; k++)
        if (i->drops[k] == i->inputs[n])
            return 1;
    return 0;
}

const vl_tensor *vl_contiguous(vl_frame *f, const vl_tensor *t, vl_tensor *copy)
{
    copy->block = NULL;
    if (vl_is_contiguous(t))
        return t;
    *copy = *t;
    if (!filled(f, copy, t->type, t->axes, t->shape))
        return NULL;
    vl_set_contiguous(copy);
    vl_copy(f, copy, t);
    if (vl_has_ended(f->heed)) {
        vl_block_drop(f, copy->block);
        copy->block = NULL;
        return NULL;
    }
    return copy;
}

int vl_integers(const vl_tensor *t, int64_t *values, int most)
{
    if (!t || t->axes > 1 || (t->type != VL_I64 && t->type != VL_I32))
        return -1;
    int64_t n = t->axes ? t->shape[0] : 1, step = t->axes ? t->strides[0] : 0;
    if (n > most)
        return -1;
    for (int64_t k = 0; k < n; k++)
        values[k] = t->type == VL_I64 ? *(const int64_t *)(t->data + k * step) : *(const int32_t *)(t->data + k * step);
    return (int)n;
}

/* ---- copies of any strides ------------------------------------------------------------------------- */

typedef struct {
    const vl_kernels *kernels;
    int axes;
    int64_t shape[VL_MOST_AXES], to[VL_MOST_AXES], from[VL_MOST_AXES];
} vl_walk;

/* Axes of size 1 gone, the target's longest strides outermost, neighbours that are one run joined. */
static void plan_walk(vl_walk *walk, const vl_tensor *to, const vl_tensor *from)
{
    int order[VL_MOST_AXES], n = 0;
    for (int a = 0; a < to->axes; a++) {
        if (to->shape[a] == 1)
            continue;
        int at = n++;
        while (at > 0 && llabs(to->strides[order[at - 1]]) < llabs(to->strides[a])) {
            order[at] = order[at - 1];
            at--;
        }
        order[at] = a;
    }
    walk->axes = 0;
    for (int k = 0; k < n; k++) {
        int a = order[k], last = walk->axes - 1;
        if (last >= 0 && walk->to[last] == to->strides[a] * to->shape[a] &&
            walk->from[last] == from->strides[a] * to->shape[a]) {
            walk->shape[last] *= to->shape[a];
            walk->to[last] = to->strides[a];
            walk->from[last] = from->strides[a];
            continue;
        }
        walk->shape[walk->axes] = to->shape[a];
        walk->to[walk->axes] = to->strides[a];
        walk->from[walk->axes++] = from->strides[a];
    }
}

/* `rows` runs of as many bytes: of short ones, calls of memcpy would take longer than the copying. */
static void copy_rows(char *to, const char *from, int64_t rows, int64_t bytes, int64_t step_to, int64_t step_from)
{
    enum { PIECE = 16, SHORT = 512 };
    if (bytes % PIECE || bytes > SHORT) {
        for (int64_t r = 0; r < rows; r++)
            memcpy(to + r * step_to, from + r * step_from, (size_t)bytes);
        return;
    }
    for (int64_t r = 0; r < rows; r++, to += step_to, from += step_from)
        for (int64_t k = 0; k < bytes; k += PIECE)
            memcpy(to + k, from + k, PIECE);
}

static void copy_run(char *to, const char *from, int64_t n, int64_t step_to, int64_t step_from, size_t size)
{
    if (step_to == (int64_t)size && step_from == (int64_t)size) {
        memcpy(to, from, (size_t)n * size);
        return;
    }
#define VL_RUN(kind)                                                                                                   \
    for (int64_t k = 0; k < n; k++)                                                                                    \
    *(kind *)(to + k * step_to) = *(const kind *)(from + k * step_from)
    switch (size) {
    case 1: VL_RUN(uint8_t); break;
    case 2: VL_RUN(uint16_t); break;
    case 4: VL_RUN(uint32_t); break;
    default: VL_RUN(uint64_t); break;
    }
#undef VL_RUN
}

/* Blocks of this many rows and columns, so that both sides stay in the nearest cache. */
enum { VL_TILE_SIDE = 32 };

static void copy_axes(const vl_walk *walk, int axis, char *to, const char *from, size_t size)
{
    int left = walk->axes - axis;
    if (left == 0) {
        memcpy(to, from, size);
        return;
    }
    if (left == 1) {
        copy_run(to, from, walk->shape[axis], walk->to[axis], walk->from[axis], size);
        return;
    }
    if (left == 2 && walk->to[axis + 1] == (int64_t)size && walk->from[axis + 1] == (int64_t)size) {
        copy_rows(to, from, walk->shape[axis], walk->shape[axis + 1] * (int64_t)size, walk->to[axis], walk->from[axis]);
        return;
    }
    if (left == 2 && walk->to[axis + 1] == (int64_t)size && walk->from[axis] == (int64_t)size) { /* a transposition */
        if (size == 4 && walk->to[axis] % 4 == 0 && walk->from[axis + 1] % 4 == 0) {
            walk->kernels->transpose(walk->shape[axis + 1], walk->shape[axis], from, walk->from[axis + 1] / 4, to,
                                     walk->to[axis] / 4);
            return;
        }
        for (int64_t r = 0; r < walk->shape[axis]; r += VL_TILE_SIDE)
            for (int64_t c = 0; c < walk->shape[axis + 1]; c += VL_TILE_SIDE) {
                int64_t rows = walk->shape[axis] - r < VL_TILE_SIDE ? walk->shape[axis] - r : VL_TILE_SIDE;
                int64_t columns = walk->shape[axis + 1] - c < VL_TILE_SIDE ? walk->shape[axis + 1] - c : VL_TILE_SIDE;
                for (int64_t k = 0; k < rows; k++)
                    copy_run(to + (r + k) * walk->to[axis] + c * (int64_t)size,
                             from + (r + k) * (int64_t)size + c * walk->from[axis + 1], columns, (int64_t)size,
                             walk->from[axis + 1], size);
            }
        return;
    }
    for (int64_t k = 0; k < walk->shape[axis]; k++)
        copy_axes(walk, axis + 1, to + k * walk->to[axis], from + k * walk->from[axis], size);
}

/* Bytes that are copied between two looks at signals: a millisecond, or a few where pages are new. */
enum { VL_COPIED_AT_ONCE = 1 << 22 };

/* Rows of a part that is transposed: of a cache line that is read, every element is then used. */
enum { VL_ROWS_AT_ONCE = 16 };

/* The walk in halves, until none is longer than that; 0 where Ctrl-C has ended it. Each part lies together in the target,
 * as far as can be: its pages may be new, and large ones are cleared as a whole when the first byte is written. */
static int copy_in_parts(const vl_frame *f, vl_walk walk, char *to, const char *from, int64_t bytes, size_t size)
{
    if (bytes <= VL_COPIED_AT_ONCE) {
        copy_axes(&walk, 0, to, from, size);
        return !vl_shall_end(f->heed);
    }
    int a = 0;
    while (a < walk.axes - 1 && walk.shape[a] <= (a < walk.axes - 2 ? 1 : VL_ROWS_AT_ONCE))
        a++;
    const int64_t whole = walk.shape[a], half = whole / 2, of_one = bytes / whole;
    walk.shape[a] = half;
    if (!copy_in_parts(f, walk, to, from, half * of_one, size))
        return 0;
    walk.shape[a] = whole - half;
    return copy_in_parts(f, walk, to + half * walk.to[a], from + half * walk.from[a], (whole - half) * of_one, size);
}

void vl_zero(const vl_frame *f, char *data, int64_t bytes)
{
    for (; bytes > VL_COPIED_AT_ONCE; data += VL_COPIED_AT_ONCE, bytes -= VL_COPIED_AT_ONCE) {
        memset(data, 0, VL_COPIED_AT_ONCE);
        if (vl_shall_end(f->heed))
            return;
    }
    memset(data, 0, (size_t)bytes);
}

void vl_copy(const vl_frame *f, const vl_tensor *to, const vl_tensor *from)
{
    const int64_t bytes = vl_count(to->axes, to->shape) * (int64_t)vl_size_of(to->type);
    if (bytes == 0)
        return;
    if (bytes <= VL_COPIED_AT_ONCE && vl_is_contiguous(to) && vl_is_contiguous(from)) {
        memcpy(to->data, from->data, (size_t)bytes);
        return;
    }
    vl_walk walk = {.kernels = f->kernels};
    plan_walk(&walk, to, from);
    if (bytes <= VL_COPIED_AT_ONCE) /* the loop over instructions looks */
        copy_axes(&walk, 0, to->data, from->data, vl_size_of(to->type));
    else
        copy_in_parts(f, walk, to->data, from->data, bytes, vl_size_of(to->type));
}

/* ---- the loop ---------------------------------------------------------------------------------------- */

typedef struct {
    void (*task)(void *context, int member, int members);
    void *context;
    vl_heed *heed;
    int count, next;
} vl_pieces;

static void run_some(void *context, int member, int members)
{
    vl_pieces *pieces = context;
    (void)member, (void)members;
    for (int k;
         !vl_shall_end(pieces->heed) && (k = __atomic_fetch_add(&pieces->next, 1, __ATOMIC_RELAXED)) < pieces->count;)
        pieces->task(pieces->context, k, pieces->count);
}

int vl_piece_count(const vl_frame *f, int members, int64_t work)
{
    int64_t each = work / members / f->limits->piece_work + 1;
    return members * (int)(each < 4096 ? each : 4096);
}

void vl_run_pieces(vl_frame *f, int members, int pieces, void (*task)(void *context, int member, int members),
                   void *context)
{
    vl_pieces p = {task, context, f->heed, pieces, 0};
    if (pieces > members)
        task = run_some, context = &p;
    if (members > 1)
        f->parallel(members, task, context, f->heed);
    else
        task(context, 0, 1);
}

int vl_run(vl_frame *f, vl_range range)
{
    for (int32_t n = range.first; n < range.last; n++) {
        const vl_instruction *i = &f->instructions[n];
        if (vl_shall_end(f->heed))
            return VL_FAILED;
        int64_t begin = f->nanoseconds || f->observe ? vl_nanoseconds() : 0;
        int status = i->run ? i->run(f, i) : VL_DECLINED;
        if (vl_has_ended(f->heed))
            return VL_FAILED;
        if (status == VL_NO_MEMORY) { /* the operator finds room, or says which node had none */
            for (int k = 0; k < i->output_count; k++)
                if (i->outputs[k] >= 0)
                    vl_drop(f, i->outputs[k]);
            status = VL_DECLINED;
        }
        int declined = status == VL_DECLINED;
        if (declined) {
            if (f->declined)
                f->declined[n] = (int32_t)((uint32_t)f->declined[n] + 1);
            status = f->python(f, i);
        }
        if (f->nanoseconds)
            f->nanoseconds[n] = (int64_t)((uint64_t)f->nanoseconds[n] + (uint64_t)(vl_nanoseconds() - begin));
        if (status != VL_DONE)
            return status;
        if (f->observe)
            f->observe(f, i, begin, vl_nanoseconds(), declined);
        for (int k = 0; k < i->drop_count; k++)
            vl_drop(f, i->drops[k]);
    }
    return VL_DONE;
}
