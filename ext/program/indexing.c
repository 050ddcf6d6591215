/* Elements by computed places: GatherElements, GatherND, ScatterElements, ScatterND, Trilu, NonZero, Compress, OneHot.
 * Indices are looked at before anything is written: one out of bounds declines. */
#include "program.h"

static int64_t index_at(const vl_tensor *t, const char *p)
{
    return t->type == VL_I64 ? *(const int64_t *)p : *(const int32_t *)p;
}

static int is_index(const vl_tensor *t) { return t && (t->type == VL_I64 || t->type == VL_I32); }

/* Steps through all places of a shape; `at` begins at zeros. Returns 0 after the last. */
static int following(int axes, const int64_t *shape, int64_t *at)
{
    for (int a = axes - 1; a >= 0; a--) {
        if (++at[a] < shape[a])
            return 1;
        at[a] = 0;
    }
    return 0;
}

static char *place(const vl_tensor *t, const int64_t *at)
{
    char *p = t->data;
    for (int a = 0; a < t->axes; a++)
        p += at[a] * t->strides[a];
    return p;
}

static void move(char *to, const char *from, size_t size)
{
    switch (size) {
    case 1: *to = *from; break;
    case 2: memcpy(to, from, 2); break;
    case 4: memcpy(to, from, 4); break;
    default: memcpy(to, from, 8); break;
    }
}

/* Whether every index is within [-size, size), 0 as well where Ctrl-C has ended the looking. One that an Expand repeats is
 * looked at once. */
static int in_bounds(const vl_frame *f, const vl_tensor *indices, int64_t size)
{
    int64_t at[VL_MOST_AXES] = {0}, shape[VL_MOST_AXES];
    vl_pace pace = vl_pace_of(f);
    if (vl_count(indices->axes, indices->shape) == 0)
        return 1;
    for (int a = 0; a < indices->axes; a++)
        shape[a] = indices->strides[a] ? indices->shape[a] : 1;
    do {
        int64_t v = index_at(indices, place(indices, at));
        if (v < -size || v >= size || !vl_goes_on(&pace, 1))
            return 0;
    } while (following(indices->axes, shape, at));
    return 1;
}

/* A row of indices along the last axis, and the row of x that they are places in: element j of the row is at
 * `x + index * x_axis + j * x_step`. A repeated index (which_step 0) names a whole row of x at once. */
typedef struct {
    const char *which;
    char *x;
    int64_t count, size, which_step, x_axis, x_step;
} vl_index_row;

static vl_index_row index_row(const vl_tensor *which, const vl_tensor *x, int axis, const int64_t *at)
{
    const int last = which->axes - 1;
    return (vl_index_row){.which = place(which, at),
                          .x = place(x, at) - at[axis] * x->strides[axis],
                          .count = which->shape[last],
                          .size = x->shape[axis],
                          .which_step = which->strides[last],
                          .x_axis = x->strides[axis],
                          .x_step = axis == last ? 0 : x->strides[last]};
}

/* Of x, what the row's j-th index names. */
static char *named(const vl_tensor *which, const vl_index_row *row, int64_t j)
{
    int64_t v = index_at(which, row->which + j * row->which_step);
    return row->x + (v < 0 ? v + row->size : v) * row->x_axis + j * row->x_step;
}

/* x, indices; ints[0]: axis */
static int gather_elements(vl_frame *f, const vl_instruction *i)
{
    const vl_tensor *x = vl_in(f, i, 0), *indices = vl_in(f, i, 1);
    int axis = x ? vl_axis(i->ints[0], x->axes) : -1;
    if (axis < 0 || !is_index(indices) || indices->axes != x->axes)
        return VL_DECLINED;
    for (int a = 0; a < x->axes; a++)
        if (a != axis && indices->shape[a] > x->shape[a])
            return VL_DECLINED;
    if (!in_bounds(f, indices, x->shape[axis]))
        return VL_DECLINED;
    vl_tensor from = *x, which = *indices, *out = vl_new(f, i, 0, from.type, which.axes, which.shape);
    if (!out)
        return VL_NO_MEMORY;
    int64_t at[VL_MOST_AXES] = {0};
    size_t size = vl_size_of(from.type);
    char *to = out->data;
    vl_pace pace = vl_pace_of(f);
    if (vl_count(which.axes, which.shape))
        do {
            const vl_index_row row = index_row(&which, &from, axis, at);
            if (!row.which_step && row.x_step == (int64_t)size)
                memcpy(to, named(&which, &row, 0), (size_t)row.count * size);
            else
                for (int64_t j = 0; j < row.count && vl_goes_on(&pace, 1); j++)
                    move(to + j * (int64_t)size, named(&which, &row, j), size);
            to += row.count * (int64_t)size;
        } while (following(which.axes - 1, which.shape, at) && vl_goes_on(&pace, 1));
    return VL_DONE;
}

/* An output that begins as x, the first input, contiguous: x itself where nobody else wants it, else a copy. */
static vl_tensor *copy_of(vl_frame *f, const vl_instruction *i, const vl_tensor *x)
{
    if (vl_may_overwrite(f, i, 0) && vl_is_contiguous(x))
        return vl_share(f, i, 0, x);
    vl_tensor from = *x, *out = vl_new(f, i, 0, from.type, from.axes, from.shape);
    if (out)
        vl_copy(f, out, &from);
    return out;
}

/* What an update does to an element: 0 replaces, 1 adds, 2 multiplies, 3 takes the greater, 4 the less; floats only but 0 */
static void update(char *to, const char *from, size_t size, int how)
{
    if (how == 0) {
        move(to, from, size);
        return;
    }
    float *t = (float *)to, v = *(const float *)from;
    switch (how) {
    case 1: *t += v; break;
    case 2: *t *= v; break;
    case 3: *t = *t > v || *t != *t ? *t : v; break;
    default: *t = *t < v || *t != *t ? *t : v; break;
    }
}

/* x, indices, updates; ints: axis, how */
static int scatter_elements(vl_frame *f, const vl_instruction *i)
{
    const vl_tensor *x = vl_in(f, i, 0), *indices = vl_in(f, i, 1), *updates = vl_in(f, i, 2);
    int axis = x ? vl_axis(i->ints[0], x->axes) : -1, how = (int)i->ints[1];
    if (axis < 0 || !is_index(indices) || !updates || indices->axes != x->axes || updates->axes != x->axes ||
        updates->type != x->type || (how && x->type != VL_F32))
        return VL_DECLINED;
    for (int a = 0; a < x->axes; a++)
        if (updates->shape[a] != indices->shape[a] || (a != axis && indices->shape[a] > x->shape[a]))
            return VL_DECLINED;
    if (!in_bounds(f, indices, x->shape[axis]))
        return VL_DECLINED;
    vl_tensor which = *indices, values = *updates, *out = copy_of(f, i, x);
    if (!out)
        return VL_NO_MEMORY;
    int64_t at[VL_MOST_AXES] = {0};
    size_t size = vl_size_of(out->type);
    vl_pace pace = vl_pace_of(f);
    if (vl_count(which.axes, which.shape))
        do {
            const vl_index_row row = index_row(&which, out, axis, at);
            const char *from = place(&values, at);
            const int64_t step = values.strides[which.axes - 1];
            if (how == 1 && !row.which_step && row.x_step == (int64_t)size && step == (int64_t)size) {
                float *to = (float *)named(&which, &row, 0);
                for (int64_t j = 0; j < row.count; j++)
                    to[j] += ((const float *)from)[j];
            } else
                for (int64_t j = 0; j < row.count && vl_goes_on(&pace, 1); j++)
                    update(named(&which, &row, j), from + j * step, size, how);
        } while (following(which.axes - 1, which.shape, at) && vl_goes_on(&pace, 1));
    return VL_DONE;
}

/* ---- the ND forms: the last axis of the indices is a place in the first axes of x -------------------- */

typedef struct {
    int depth;              /* axes that a place names */
    int64_t places;
    int64_t inner;          /* elements that one place stands for */
    const vl_tensor *indices; /* contiguous */
    const vl_tensor *x;
} vl_places;

/* The offset of place n in x, in bytes; -1 where it is out of bounds. */
static int64_t offset_of(const vl_places *places, int64_t n)
{
    int64_t offset = 0;
    size_t size = vl_size_of(places->indices->type);
    for (int a = 0; a < places->depth; a++) {
        int64_t v = index_at(places->indices, places->indices->data + (n * places->depth + a) * (int64_t)size);
        if (v < -places->x->shape[a] || v >= places->x->shape[a])
            return -1;
        offset += (v < 0 ? v + places->x->shape[a] : v) * places->x->strides[a];
    }
    return offset;
}

/* Of contiguous indices and a contiguous x; 0 where they do not go together. */
static int set_places(const vl_frame *f, vl_places *places, const vl_tensor *indices, const vl_tensor *x)
{
    if (indices->axes < 1)
        return 0;
    int64_t depth = indices->shape[indices->axes - 1];
    if (depth < 1 || depth > x->axes)
        return 0;
    *places = (vl_places){(int)depth, vl_count(indices->axes - 1, indices->shape),
                          vl_count(x->axes - (int)depth, x->shape + depth), indices, x};
    vl_pace pace = vl_pace_of(f);
    for (int64_t n = 0; n < places->places; n++)
        if (offset_of(places, n) < 0 || !vl_goes_on(&pace, 1))
            return 0;
    return 1;
}

/* x, indices (batch_dims 0) */
static int gather_nd(vl_frame *f, const vl_instruction *i)
{
    const vl_tensor *x = vl_in(f, i, 0), *indices = vl_in(f, i, 1);
    if (!x || !is_index(indices))
        return VL_DECLINED;
    vl_tensor copies[2];
    copies[0].block = copies[1].block = NULL;
    const vl_tensor *from = vl_contiguous(f, x, &copies[0]), *which = vl_contiguous(f, indices, &copies[1]);
    vl_places places;
    int status = from && which ? VL_DONE : VL_NO_MEMORY;
    if (status == VL_DONE && !set_places(f, &places, which, from))
        status = VL_DECLINED;
    int64_t shape[2 * VL_MOST_AXES];
    int axes = 0;
    if (status == VL_DONE) {
        for (int a = 0; a < which->axes - 1; a++)
            shape[axes++] = which->shape[a];
        for (int a = places.depth; a < from->axes; a++)
            shape[axes++] = from->shape[a];
        if (axes > VL_MOST_AXES || vl_count(axes, shape) < 0)
            status = VL_DECLINED;
    }
    if (status == VL_DONE) {
        vl_tensor source = *from;
        vl_tensor *out = vl_new(f, i, 0, source.type, axes, shape);
        size_t bytes = (size_t)places.inner * vl_size_of(source.type);
        places.x = &source;
        vl_pace pace = vl_pace_of(f);
        for (int64_t n = 0; out && n < places.places && vl_goes_on(&pace, places.inner); n++)
            memcpy(out->data + n * (int64_t)bytes, source.data + offset_of(&places, n), bytes);
        status = out ? VL_DONE : VL_NO_MEMORY;
    }
    vl_block_drop(f, copies[0].block);
    vl_block_drop(f, copies[1].block);
    return status;
}

/* x, indices, updates; ints[0]: how */
static int scatter_nd(vl_frame *f, const vl_instruction *i)
{
    const vl_tensor *x = vl_in(f, i, 0), *indices = vl_in(f, i, 1), *updates = vl_in(f, i, 2);
    int how = (int)i->ints[0];
    if (!x || !is_index(indices) || !updates || updates->type != x->type || (how && x->type != VL_F32))
        return VL_DECLINED;
    vl_tensor copies[2], whole = *x;
    copies[0].block = copies[1].block = NULL;
    vl_set_contiguous(&whole); /* as the output will lie */
    const vl_tensor *which = vl_contiguous(f, indices, &copies[0]), *values = vl_contiguous(f, updates, &copies[1]);
    vl_places places;
    int status = which && values ? VL_DONE : VL_NO_MEMORY;
    if (status == VL_DONE && (!set_places(f, &places, which, &whole) ||
                              vl_count(values->axes, values->shape) != places.places * places.inner))
        status = VL_DECLINED;
    if (status == VL_DONE) {
        vl_tensor *out = copy_of(f, i, x);
        size_t size = vl_size_of(whole.type);
        vl_pace pace = vl_pace_of(f);
        for (int64_t n = 0; out && n < places.places && vl_goes_on(&pace, places.inner); n++) {
            char *to = out->data + offset_of(&places, n);
            const char *from = values->data + n * places.inner * (int64_t)size;
            if (how == 0)
                memcpy(to, from, (size_t)places.inner * size);
            else
                for (int64_t k = 0; k < places.inner; k++)
                    update(to + k * (int64_t)size, from + k * (int64_t)size, size, how);
        }
        status = out ? VL_DONE : VL_NO_MEMORY;
    }
    vl_block_drop(f, copies[0].block);
    vl_block_drop(f, copies[1].block);
    return status;
}

/* ---- others ------------------------------------------------------------------------------------------ */

/* x, k; ints[0]: whether the upper triangle stays */
static int trilu(vl_frame *f, const vl_instruction *i)
{
    const vl_tensor *x = vl_in(f, i, 0);
    int64_t k = 0;
    if (!x || x->axes < 2 || (vl_has_in(i, 1) && vl_integers(vl_in(f, i, 1), &k, 1) != 1) || k > INT64_C(1) << 40 ||
        k < -(INT64_C(1) << 40))
        return VL_DECLINED;
    vl_tensor *out = copy_of(f, i, x);
    if (!out)
        return VL_NO_MEMORY;
    int64_t rows = out->shape[out->axes - 2], columns = out->shape[out->axes - 1];
    int64_t matrices = rows && columns ? vl_count(out->axes, out->shape) / (rows * columns) : 0;
    size_t size = vl_size_of(out->type);
    char *to = out->data;
    vl_pace pace = vl_pace_of(f);
    for (int64_t m = 0; m < matrices; m++)
        for (int64_t r = 0; r < rows && vl_goes_on(&pace, columns); r++, to += columns * (int64_t)size) {
            int64_t diagonal = r + k + (i->ints[0] ? 0 : 1); /* the first column that an upper triangle keeps */
            diagonal = diagonal < 0 ? 0 : diagonal > columns ? columns : diagonal;
            if (i->ints[0])
                memset(to, 0, (size_t)diagonal * size);
            else
                memset(to + diagonal * (int64_t)size, 0, (size_t)(columns - diagonal) * size);
        }
    return VL_DONE;
}

static int is_zero(const char *p, int type)
{
    switch (type) {
    case VL_F32: return *(const float *)p == 0;
    case VL_F64: return *(const double *)p == 0;
    default: break;
    }
    for (size_t b = 0; b < vl_size_of(type); b++)
        if (p[b])
            return 0;
    return 1;
}

/* x of at least one axis -> places [axes, count] */
static int nonzero(vl_frame *f, const vl_instruction *i)
{
    const vl_tensor *x = vl_in(f, i, 0);
    if (!x || x->axes < 1 || x->type == VL_F16)
        return VL_DECLINED;
    int64_t at[VL_MOST_AXES] = {0}, shape[2] = {x->axes, 0};
    int any = vl_count(x->axes, x->shape) > 0;
    vl_pace pace = vl_pace_of(f);
    if (any)
        do
            shape[1] += !is_zero(place(x, at), x->type);
        while (following(x->axes, x->shape, at) && vl_goes_on(&pace, 1));
    if (vl_has_ended(f->heed)) /* before all were counted that would be written */
        return VL_FAILED;
    vl_tensor from = *x, *out = vl_new(f, i, 0, VL_I64, 2, shape);
    if (!out)
        return VL_NO_MEMORY;
    int64_t n = 0, *to = (int64_t *)out->data;
    if (any)
        do
            if (!is_zero(place(&from, at), from.type)) {
                for (int a = 0; a < from.axes; a++)
                    to[a * shape[1] + n] = at[a];
                n++;
            }
        while (following(from.axes, from.shape, at) && vl_goes_on(&pace, 1));
    return VL_DONE;
}

/* x, condition of one axis; ints: whether there is an axis, which; without one x is a list of all its elements. */
static int compress(vl_frame *f, const vl_instruction *i)
{
    const vl_tensor *x = vl_in(f, i, 0), *condition = vl_in(f, i, 1);
    if (!x || !condition || condition->type != VL_BOOL || condition->axes != 1)
        return VL_DECLINED;
    const int axis = i->ints[0] ? vl_axis(i->ints[1], x->axes) : -1;
    const int64_t n = axis >= 0 ? x->shape[axis] : vl_count(x->axes, x->shape), given = condition->shape[0];
    if ((i->ints[0] && axis < 0) || given > n)
        return VL_DECLINED;
    const vl_tensor which = *condition, whole = *x;
    int64_t taken = 0;
    vl_pace pace = vl_pace_of(f);
    for (int64_t k = 0; k < given && vl_goes_on(&pace, 1); k++)
        taken += which.data[k * which.strides[0]] != 0;
    if (vl_has_ended(f->heed))
        return VL_FAILED;
    vl_tensor copy;
    const vl_tensor *laid = vl_contiguous(f, x, &copy);
    if (!laid)
        return VL_NO_MEMORY;
    int64_t shape[VL_MOST_AXES];
    memcpy(shape, whole.shape, sizeof shape);
    shape[axis < 0 ? 0 : axis] = taken;
    const char *from = laid->data;
    vl_tensor *out = vl_new(f, i, 0, whole.type, axis < 0 ? 1 : whole.axes, shape);
    const int64_t outer = axis < 0 ? 1 : vl_count(axis, whole.shape),
                  inner = axis < 0 ? 1 : vl_count(whole.axes - axis - 1, whole.shape + axis + 1);
    const size_t size = vl_size_of(whole.type), row = (size_t)inner * size;
    char *to = out ? out->data : NULL;
    for (int64_t o = 0; out && o < outer; o++, from += (size_t)n * row)
        for (int64_t k = 0; k < given; k++) {
            if (!vl_goes_on(&pace, 1 + (which.data[k * which.strides[0]] ? inner : 0)))
                break;
            if (!which.data[k * which.strides[0]])
                continue;
            if (inner == 1)
                move(to, from + (size_t)k * size, size);
            else
                memcpy(to, from + (size_t)k * row, row);
            to += row;
        }
    vl_block_drop(f, copy.block);
    return out ? VL_DONE : VL_NO_MEMORY;
}

/* The index that an element of the tensor is; a fraction is cut off, and what is no number is nowhere. */
static int64_t cut_index_at(const vl_tensor *t, const char *p)
{
    if (is_index(t))
        return index_at(t, p);
    const double x = t->type == VL_F32 ? *(const float *)p : *(const double *)p;
    return x > -1e15 && x < 1e15 ? (int64_t)x : INT64_MIN;
}

/* indices, depth, values [off, on]; ints[0]: axis. Indices outside of [-depth, depth) are nowhere hot. */
static int one_hot(vl_frame *f, const vl_instruction *i)
{
    const vl_tensor *t = vl_in(f, i, 0), *values = vl_in(f, i, 2);
    int64_t depth, shape[VL_MOST_AXES];
    if (!t || (!is_index(t) && t->type != VL_F32 && t->type != VL_F64) || !vl_in(f, i, 1) ||
        vl_integers(vl_in(f, i, 1), &depth, 1) != 1 || depth < 0 || !values || values->axes != 1 ||
        values->shape[0] != 2 || t->axes >= VL_MOST_AXES)
        return VL_DECLINED;
    const int axis = vl_axis(i->ints[0], t->axes + 1), type = values->type;
    if (axis < 0)
        return VL_DECLINED;
    memcpy(shape, t->shape, (size_t)axis * sizeof *shape);
    shape[axis] = depth;
    memcpy(shape + axis + 1, t->shape + axis, (size_t)(t->axes - axis) * sizeof *shape);
    const int64_t elements = vl_count(t->axes + 1, shape);
    if (elements < 0)
        return VL_DECLINED;
    const size_t size = vl_size_of(type);
    const vl_tensor which = *t;
    const char *off = values->data, *on = values->data + values->strides[0];
    vl_tensor *out = vl_new(f, i, 0, type, which.axes + 1, shape);
    if (!out)
        return VL_NO_MEMORY;
    vl_pace pace = vl_pace_of(f);
    for (int64_t k = 0; k < elements && vl_goes_on(&pace, 1); k++)
        move(out->data + (size_t)k * size, off, size);
    int64_t at[VL_MOST_AXES] = {0};
    if (elements)
        do {
            int64_t hot = cut_index_at(&which, place(&which, at));
            if (hot < -depth || hot >= depth)
                continue;
            hot += hot < 0 ? depth : 0;
            char *to = out->data + hot * out->strides[axis];
            for (int a = 0; a < which.axes; a++)
                to += at[a] * out->strides[a < axis ? a : a + 1];
            move(to, on, size);
        } while (following(which.axes, which.shape, at) && vl_goes_on(&pace, 1));
    return VL_DONE;
}

const vl_named_handler vl_indexing_handlers[] = {
    {"gather_elements", gather_elements},
    {"scatter_elements", scatter_elements},
    {"gather_nd", gather_nd},
    {"scatter_nd", scatter_nd},
    {"trilu", trilu},
    {"nonzero", nonzero},
    {"compress", compress},
    {"one_hot", one_hot},
    {NULL, NULL},
};
