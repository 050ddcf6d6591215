from libc.stdint cimport int8_t, int32_t, int64_t

from vledge._ext.isa cimport vl_kernels
from vledge._ext.pool cimport vl_heed, vl_limits

cdef extern from "program/program.h" nogil:
    enum: VL_MOST_AXES
    enum: VL_F32, VL_F64, VL_F16, VL_I64, VL_I32, VL_I16, VL_I8, VL_U64, VL_U32, VL_U16, VL_U8, VL_BOOL
    enum: VL_ABSENT, VL_TENSOR, VL_OBJECT
    enum: VL_DONE, VL_DECLINED, VL_NO_MEMORY, VL_FAILED, VL_TOO_LONG

    ctypedef struct vl_block:
        vl_block *next
        void *object
        size_t bytes
        int32_t uses, kind
        char *data

    ctypedef struct vl_tensor:
        char *data
        vl_block *block
        int64_t *shape
        int64_t *strides
        int8_t type, axes, state

    ctypedef struct vl_range:
        int32_t first, last

    ctypedef struct vl_frame
    ctypedef struct vl_instruction
    ctypedef int vl_handler(vl_frame *f, const vl_instruction *i) noexcept nogil

    ctypedef struct vl_instruction:
        vl_handler *run
        int32_t number
        int32_t input_count, output_count, drop_count, int_count, float_count, object_count
        const int32_t *inputs
        const int32_t *outputs
        const int32_t *drops
        const int64_t *ints
        const float *floats
        void *const *objects

    ctypedef struct vl_frame:
        vl_tensor *slots
        const vl_instruction *instructions
        const vl_kernels *kernels
        const vl_kernels *doubles
        const vl_limits *limits
        int threads
        void (*parallel)(int threads, void (*task)(void *, int, int) noexcept nogil, void *context,
                         vl_heed *heed) noexcept nogil
        int (*python)(vl_frame *f, const vl_instruction *i) noexcept
        vl_heed *heed
        void *program
        int64_t *nanoseconds
        int32_t *declined
        void (*observe)(vl_frame *f, const vl_instruction *i, int64_t begin, int64_t end, int declined) noexcept
        vl_block *garbage
        size_t held, live, peak, elsewhere, most
        int64_t trips, most_trips

    vl_block *vl_block_new(vl_frame *f, size_t bytes)
    void vl_block_use(vl_block *b)
    void vl_block_drop(vl_frame *f, vl_block *b)
    size_t vl_block_drop_elsewhere(vl_block *b)
    void vl_block_hand_out(vl_frame *f, vl_block *b)
    vl_block *vl_block_of_object(vl_frame *f, void *object)
    void vl_frame_trim(vl_frame *f, size_t keep)
    void vl_drop(vl_frame *f, int32_t slot)
    const vl_tensor *vl_in(const vl_frame *f, const vl_instruction *i, int n)
    int vl_has_in(const vl_instruction *i, int n)
    int vl_wants(const vl_instruction *i, int n)
    int64_t vl_count(int axes, const int64_t *shape)
    size_t vl_size_of(int type)
    int vl_is_contiguous(const vl_tensor *t)
    void vl_set_contiguous(vl_tensor *t)
    vl_tensor *vl_new(vl_frame *f, const vl_instruction *i, int n, int type, int axes, const int64_t *shape)
    vl_tensor *vl_new_in_order(vl_frame *f, const vl_instruction *i, int n, int type, int axes,
                               const int64_t *shape, const int8_t *order)
    vl_tensor *vl_share(vl_frame *f, const vl_instruction *i, int n, const vl_tensor *t)
    void vl_copy(const vl_frame *f, const vl_tensor *to, const vl_tensor *from_)
    const vl_tensor *vl_contiguous(vl_frame *f, const vl_tensor *t, vl_tensor *copy)
    int vl_run(vl_frame *f, vl_range range)
    int64_t vl_nanoseconds()
    vl_handler *vl_handler_named(const char *name)
