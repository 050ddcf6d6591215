/* The native program: a graph as a flat list of instructions, run by one C loop without the GIL.
 *
 * A value stands in a slot of a frame as a tensor: an address, a shape and strides, all known only when it
 * runs, so one program serves every size. An instruction is a handler, the slots that it reads and writes,
 * and its parameters. A handler that meets what it does not run (a type, a layout, sizes that are wrong)
 * declines before it has written anything, and the node's Python operator runs in its place: it is the
 * reference, and the only one that words errors.
 *
 * Memory comes in blocks that the frame keeps from run to run, so a run in a steady state allocates nothing.
 * A frame belongs to one run at a time; several threads run a program on a frame each.
 */
#ifndef VLEDGE_PROGRAM_H
#define VLEDGE_PROGRAM_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "clock.h"
#include "heed.h"
#include "named_limits.h"
#include "simd/kernels.h"
#include "simd/micro.h"

enum { VL_MOST_AXES = 8 };

typedef enum { VL_F32, VL_F64, VL_F16, VL_I64, VL_I32, VL_I16, VL_I8, VL_U64, VL_U32, VL_U16, VL_U8, VL_BOOL } vl_type;

static inline size_t vl_size_of(int type)
{
    static const uint8_t sizes[] = {4, 8, 2, 8, 4, 2, 1, 8, 4, 2, 1, 1};
    return sizes[type];
}

/* A chain's arrays: what the k-th has, as the instruction says it, and the type of such tensors; of numbers it is the
 * chain's own, float32 or float64. */
static inline int vl_chain_type(int element, int number)
{
    static const int8_t types[] = {[VL_CHAIN_MASKS] = VL_BOOL, [VL_CHAIN_U8] = VL_U8, [VL_CHAIN_I8] = VL_I8};
    return element == VL_CHAIN_NUMBERS ? number : types[element];
}
static inline int vl_chain_element_of(int64_t elements, int k)
{
    return (int)(elements >> VL_CHAIN_ELEMENT_BITS * k & ((1 << VL_CHAIN_ELEMENT_BITS) - 1));
}

/* Memory that tensors share. `object` is a Python object that owns it, or NULL where it is the frame's own. */
typedef struct vl_block {
    struct vl_block *next;      /* in the frame's lists of free blocks and of objects to let go */
    void *object;
    size_t bytes;
    int32_t uses;               /* tensors, and arrays that Python holds; changed atomically */
    int32_t kind;               /* which list of free blocks */
    char *data;                 /* 64-byte aligned */
    uint64_t given_back;        /* of a free one: when, by the frame's count */
} vl_block;

typedef enum { VL_ABSENT, VL_TENSOR, VL_OBJECT } vl_state; /* VL_OBJECT: a value that only Python reads */

typedef struct {
    char *data;                 /* of element [0, 0, ...] */
    vl_block *block;            /* NULL: a constant's or an input's memory, which outlives the run */
    int64_t shape[VL_MOST_AXES];
    int64_t strides[VL_MOST_AXES]; /* in bytes; may be 0 or negative; of axes of size 1 they mean nothing */
    int8_t type, axes, state;
} vl_tensor;

typedef struct vl_frame vl_frame;
typedef struct vl_instruction vl_instruction;

/* What a handler answers. In all of them f is the frame and i the instruction. */
enum {
    VL_DONE,
    VL_DECLINED,                /* nothing was written: the Python operator shall run */
    VL_NO_MEMORY,
    VL_FAILED,                  /* a Python exception is set aside */
    VL_TOO_LONG                 /* the loops of the run have made all the trips that they may */
};
typedef int vl_handler(vl_frame *f, const vl_instruction *i);

struct vl_instruction {
    vl_handler *run;            /* NULL: a node that only Python runs */
    int32_t number;             /* in the program: which Python function stands in, which nodes it is */
    int32_t input_count, output_count, drop_count, int_count, float_count, object_count;
    const int32_t *inputs;      /* slots; -1 where the node leaves one out */
    const int32_t *outputs;
    const int32_t *drops;       /* slots that nobody reads after this instruction */
    const int64_t *ints;        /* the handler's parameters: what they mean stands above each handler */
    const float *floats;
    void *const *objects;       /* addresses of structures that the program keeps alive */
};

/* Instructions [first, last) of the program: the whole of it, or the body of an If, Loop or Scan. */
typedef struct {
    int32_t first, last;
} vl_range;

enum { VL_BLOCK_KINDS = 160 };

struct vl_frame {
    vl_tensor *slots;
    const vl_instruction *instructions;
    const vl_kernels *kernels;  /* for float */
    const vl_kernels *doubles;  /* for double: what vl_kernels_for names */
    const vl_limits *limits;
    int threads;                /* that this run may use, the caller among them */
    void (*parallel)(int threads, void (*task)(void *context, int member, int members), void *context, vl_heed *heed);
    int (*python)(vl_frame *f, const vl_instruction *i); /* takes the GIL */
    void *program;              /* the Python object */
    int64_t *nanoseconds;       /* by instruction, where somebody profiles; else NULL */
    int32_t *declined;          /* likewise: how often Python ran in its place */
    /* Told of each instruction when it has run, before its inputs are dropped; else NULL. */
    void (*observe)(vl_frame *f, const vl_instruction *i, int64_t begin, int64_t end, int declined);
    vl_heed *heed;              /* of this run, where it may be ended; asked between instructions and in long ones */
    vl_block *free[VL_BLOCK_KINDS];
    uint64_t given_back;        /* how many blocks have been, since the frame was made */
    vl_block *garbage;          /* blocks of Python objects that nobody uses any more */
    size_t held, live, peak;    /* bytes: of all own blocks, of those in use, the most in use in this run */
    size_t elsewhere;           /* bytes of the run's values that Python holds */
    size_t most;                /* that may be in use, here and elsewhere; a block beyond them is not made */
    int64_t trips, most_trips;  /* of the run's loops together: made so far, and that may be made */
};

/* ---- memory ------------------------------------------------------------------------------------- */

/* How many bytes more the run's values may take. */
static inline size_t vl_room(const vl_frame *f)
{
    size_t used = f->live + f->elsewhere;
    return used > f->most ? 0 : f->most - used;
}

/* A block of at least so many bytes with one use, or NULL when memory is out. */
vl_block *vl_block_new(vl_frame *f, size_t bytes);
/* One use less; the last one gives the block back to the frame. NULL is nothing. */
void vl_block_drop(vl_frame *f, vl_block *b);
/* The same for who is not running the frame: the last use frees the memory. Returns the bytes that the frame still
 * counts of it. */
size_t vl_block_drop_elsewhere(vl_block *b);
/* Leaves a block to whoever holds it: the frame no longer counts or reuses it. */
void vl_block_hand_out(vl_frame *f, vl_block *b);
/* A block around a Python object, which is referenced by it (the caller has made the reference). */
vl_block *vl_block_of_object(vl_frame *f, void *object);
/* Frees all that is free beyond so many bytes. */
void vl_frame_trim(vl_frame *f, size_t keep);

static inline void vl_block_use(vl_block *b)
{
    if (b)
        __atomic_add_fetch(&b->uses, 1, __ATOMIC_RELAXED);
}

/* Empties a slot. */
static inline void vl_drop(vl_frame *f, int32_t slot)
{
    vl_tensor *t = &f->slots[slot];
    if (t->block)
        vl_block_drop(f, t->block);
    t->block = NULL;
    t->state = VL_ABSENT;
}

/* The kernels for tensors of float32 or of float64: exp, chain, reduce, softmax, norm, product, thin and transpose are
 * made for both. NULL for another type. */
static inline const vl_kernels *vl_kernels_for(const vl_frame *f, int type)
{
    return type == VL_F32 ? f->kernels : type == VL_F64 ? f->doubles : NULL;
}

/* ---- what handlers read and write ------------------------------------------------------------------ */

/* The n-th input if it is a tensor, else NULL: left out, absent, or only Python's. */
static inline const vl_tensor *vl_in(const vl_frame *f, const vl_instruction *i, int n)
{
    if (n >= i->input_count || i->inputs[n] < 0)
        return NULL;
    const vl_tensor *t = &f->slots[i->inputs[n]];
    return t->state == VL_TENSOR ? t : NULL;
}

/* Whether the node names its n-th input, whatever its value. */
static inline int vl_has_in(const vl_instruction *i, int n) { return n < i->input_count && i->inputs[n] >= 0; }

static inline int vl_wants(const vl_instruction *i, int n) { return n < i->output_count && i->outputs[n] >= 0; }

/* How many elements; -1 where that does not fit (then decline). */
static inline int64_t vl_count(int axes, const int64_t *shape)
{
    int64_t n = 1, empty = 0;
    for (int a = 0; a < axes; a++) {
        empty |= shape[a] == 0; /* of an array that is empty the strides must fit as well */
        if (shape[a] < 0 || __builtin_mul_overflow(n, shape[a] ? shape[a] : 1, &n))
            return -1;
    }
    return empty ? 0 : n <= (int64_t)1 << 40 ? n : -1;
}

/* Steps are unsigned: those of an array that is empty may not fit, and address nothing. */
static inline void vl_set_contiguous(vl_tensor *t)
{
    uint64_t step = vl_size_of(t->type);
    for (int a = t->axes - 1; a >= 0; a--) {
        t->strides[a] = (int64_t)step;
        step *= t->shape[a] > 0 ? (uint64_t)t->shape[a] : 1;
    }
}

static inline int vl_is_contiguous(const vl_tensor *t)
{
    uint64_t step = vl_size_of(t->type);
    for (int a = t->axes - 1; a >= 0; a--) {
        if (t->shape[a] != 1 && t->strides[a] != (int64_t)step)
            return t->shape[a] == 0;
        step *= (uint64_t)t->shape[a];
    }
    return 1;
}

/* Where the n-th output goes: an empty slot. A handler fills it in by one of the functions below, which
 * set everything but the contents. n must be wanted. Take inputs' fields before: slots do not move. */
vl_tensor *vl_out(vl_frame *f, const vl_instruction *i, int n);

/* A new C-contiguous tensor of the n-th output, uninitialised; NULL when memory is out (answer VL_NO_MEMORY).
 * vl_count(axes, shape) must have been found to be >= 0. */
vl_tensor *vl_new(vl_frame *f, const vl_instruction *i, int n, int type, int axes, const int64_t *shape);

/* The same with the axes in memory in the order given, outermost first. */
vl_tensor *vl_new_in_order(vl_frame *f, const vl_instruction *i, int n, int type, int axes, const int64_t *shape,
                           const int8_t *order);

/* The axes of t from the outermost in memory to the innermost, for vl_new_in_order. */
void vl_order_of(const vl_tensor *t, int8_t *order);

/* Makes the n-th output share the memory of t, as it is; the caller may change shape, strides and data then. */
vl_tensor *vl_share(vl_frame *f, const vl_instruction *i, int n, const vl_tensor *t);

/* Whether the n-th input's memory may be written over: nobody else has it, it is no other input as well, and nobody
 * reads it after this instruction. An output may then vl_share it. */
int vl_may_overwrite(const vl_frame *f, const vl_instruction *i, int n);

/* Copies the elements of one tensor into another of the same type and shape, of any strides. Ctrl-C ends it: then the
 * run is over, and nobody reads what was copied. */
void vl_copy(const vl_frame *f, const vl_tensor *to, const vl_tensor *from);

/* Sets bytes to 0, in the same way. */
void vl_zero(const vl_frame *f, char *data, int64_t bytes);

/* t if it is C-contiguous, else a C-contiguous copy of it described in *copy, whose block the caller drops
 * (copy->block is NULL where t serves); NULL when memory is out, or Ctrl-C has ended the copying. */
const vl_tensor *vl_contiguous(vl_frame *f, const vl_tensor *t, vl_tensor *copy);

/* The integers of a tensor of int64 or int32 of at most one axis, at most `most`; returns how many, -1 if it is
 * no such tensor. */
int vl_integers(const vl_tensor *t, int64_t *values, int most);

/* The same of a tensor of one axis: what stands for a list is no scalar. */
static inline int vl_list(const vl_tensor *t, int64_t *values, int most)
{
    return t && t->axes == 1 ? vl_integers(t, values, most) : -1;
}

/* axis in [0, axes), or -1 */
static inline int vl_axis(int64_t axis, int axes)
{
    if (axis < 0)
        axis += axes;
    return axis >= 0 && axis < axes ? (int)axis : -1;
}

/* ---- running ---------------------------------------------------------------------------------------- */

int vl_run(vl_frame *f, vl_range range);

/* Elements that are moved, or treated one by one, between two looks at signals: some milliseconds, with new memory. */
enum { VL_PIECE = 1 << 19 };

/* For loops of many turns, which ask before each whether to go on, and say how many elements it treats: a countdown, and a
 * look at signals when it ends. After a 0 the run is over: the handler may leave anything behind but memory that it
 * keeps. */
typedef struct {
    vl_heed *heed;
    int64_t left;
} vl_pace;

static inline vl_pace vl_pace_of(const vl_frame *f) { return (vl_pace){f->heed, VL_PIECE}; }

static inline int vl_goes_on(vl_pace *pace, int64_t elements)
{
    pace->left -= elements;
    if (pace->left >= 0)
        return 1;
    const int ends = vl_shall_end(pace->heed);
    pace->left = ends ? -1 : VL_PIECE; /* a loop around the one that has heard it shall hear it, too */
    return !ends;
}

/* A task in more pieces than `members` threads run, so that Ctrl-C ends it between two: as many as make none longer than
 * some milliseconds. `work` is in elements, or in what takes as long. A piece may come out empty. */
int vl_piece_count(const vl_frame *f, int members, int64_t work);
void vl_run_pieces(vl_frame *f, int members, int pieces, void (*task)(void *context, int member, int members),
                   void *context);

typedef struct {
    const char *name;
    vl_handler *run;
} vl_named_handler;

/* A handler by name, or NULL: families.c lists the tables. */
vl_handler *vl_handler_named(const char *name);

#endif
