# The native program's handlers of recurrent nodes: tensors in, the time loops, tensors out. Included by
# program.pyx: they are Cython since the loops are, and call the frame's functions, which only it links.

cdef bint state_of(vl_frame *f, const vl_instruction *i, int n, int type, int layout, int64_t directions,
                   int64_t sequences, int64_t width, vl_tensor *copy, const char **data) noexcept nogil:
    """The n-th input as [directions, sequences, width] in one run; False where it is another thing, or
    memory is out. ``copy`` holds what the caller drops."""
    cdef const vl_tensor *t
    cdef vl_tensor moved
    copy.block = NULL
    data[0] = NULL
    if not vl_has_in(i, n):
        return True
    t = vl_in(f, i, n)
    if t == NULL or t.type != type or t.axes != 3:
        return False
    moved = t[0]
    if layout:
        moved.shape[0], moved.shape[1] = t.shape[1], t.shape[0]
        moved.strides[0], moved.strides[1] = t.strides[1], t.strides[0]
    if moved.shape[0] != directions or moved.shape[1] != sequences or moved.shape[2] != width:
        return False
    t = vl_contiguous(f, &moved, copy)
    if t == NULL:
        return False
    data[0] = t.data
    return True


cdef vl_tensor *final_state(vl_frame *f, const vl_instruction *i, int n, int type, int layout, int64_t directions,
                            int64_t sequences, int64_t width) noexcept nogil:
    """The n-th output, [directions, sequences, width] in memory, in the order of axes of the layout."""
    cdef int64_t shape[3]
    cdef int8_t order[3]
    shape[0], shape[1], shape[2] = directions, sequences, width
    order[0], order[1], order[2] = 0, 1, 2
    if layout:
        shape[0], shape[1] = sequences, directions
        order[0], order[1] = 1, 0
    return vl_new_in_order(f, i, n, type, 3, shape, order)


cdef int run_node(vl_frame *f, const vl_instruction *i) noexcept nogil:
    """X, W, R, B, sequence_lens, initial_h, initial_c -> Y, Y_h, Y_c. ints: layout, whether empty sequences end
    in zeros; objects: the directions. Y_h and Y_c always have slots."""
    cdef const vl_tensor *x = vl_in(f, i, 0)
    cdef const vl_tensor *lengths = NULL
    cdef const Weights *w = <const Weights *>i.objects[0]
    cdef vl_tensor x_copy, h_copy, c_copy, source
    cdef vl_tensor *y = NULL
    cdef vl_tensor *h_n
    cdef vl_tensor *c_n = NULL
    cdef Sequences s
    cdef int layout = <int>i.ints[0], type = VL_F64 if w.itemsize == 8 else VL_F32
    cdef int64_t steps, sequences, b, d, count
    cdef int64_t shape[4]
    cdef int8_t order[4]
    cdef bint batch_first, done, lstm = w.cell == LSTM, all_whole = True
    cdef ptrdiff_t size = w.itemsize
    cdef int time = 1 if layout else 0, batch = 0 if layout else 1
    if x == NULL or x.type != type or x.axes != 3 or x.shape[2] != w.input_size:
        return VL_DECLINED
    steps, sequences = x.shape[time], x.shape[batch]
    if steps == 0 or sequences == 0 or not vl_wants(i, 1) or (lstm and not vl_wants(i, 2)):
        return VL_DECLINED      # rare, and the outputs' sizes need care; the lowering names all states
    if vl_has_in(i, 4):
        lengths = vl_in(f, i, 4)
        if (lengths == NULL or lengths.type != VL_I32 or lengths.axes != 1 or lengths.shape[0] != sequences
                or lengths.strides[0] != 4 and sequences > 1):
            return VL_DECLINED
        for b in range(sequences):
            if not 0 <= (<const int32_t *>lengths.data)[b] <= steps:
                return VL_DECLINED
            if (<const int32_t *>lengths.data)[b] != steps:
                all_whole = False
    x_copy.block = h_copy.block = c_copy.block = NULL
    source = x[0]
    if source.strides[2] != size and w.input_size > 1:
        x = vl_contiguous(f, x, &x_copy)
        if x == NULL:
            return VL_NO_MEMORY
        source = x[0]
    s.direction_count = i.object_count
    s.directions[0] = w
    s.directions[1] = <const Weights *>i.objects[i.object_count - 1]
    if not (state_of(f, i, 5, type, layout, s.direction_count, sequences, w.width, &h_copy, &s.h_0)
            and state_of(f, i, 6, type, layout, s.direction_count, sequences, w.hidden_size, &c_copy, &s.c_0)):
        vl_block_drop(f, x_copy.block)
        vl_block_drop(f, h_copy.block)
        vl_block_drop(f, c_copy.block)
        return VL_DECLINED
    batch_first = source.strides[batch] > source.strides[time] and sequences > 1 and steps > 1
    s.steps, s.sequences = steps, sequences
    s.x = source.data
    s.x_time = source.strides[time] // size
    s.x_row = source.strides[batch] // size
    s.lengths = NULL if lengths == NULL or all_whole else <const int32_t *>lengths.data
    s.y = NULL
    s.y_time = s.y_row = 0
    done = True
    if vl_wants(i, 0):
        if layout:
            shape[0], shape[1], shape[2] = sequences, steps, s.direction_count
            order[0], order[1], order[2] = 0, 1, 2
            if not batch_first:
                order[0], order[1] = 1, 0
        else:
            shape[0], shape[1], shape[2] = steps, s.direction_count, sequences
            order[0], order[1], order[2] = 0, 2, 1
            if batch_first:
                order[0], order[1] = 2, 0
                order[2] = 1
        shape[3], order[3] = w.width, 3
        y = vl_new_in_order(f, i, 0, type, 4, shape, order)
        done = y != NULL
        if done:
            s.y = y.data
            s.y_time = y.strides[1 if layout else 0] // size
            s.y_row = y.strides[0 if layout else 2] // size
    if done:
        h_n = final_state(f, i, 1, type, layout, s.direction_count, sequences, w.width)
        done = h_n != NULL
        if done:
            s.h_n = h_n.data
    s.c_n = NULL
    if done and lstm:
        c_n = final_state(f, i, 2, type, layout, s.direction_count, sequences, w.hidden_size)
        done = c_n != NULL
        if done:
            s.c_n = c_n.data
    if done:
        done = run_sequences(&s, f.threads)
    if done and s.lengths != NULL and i.ints[1]:
        for d in range(s.direction_count):
            for b in range(sequences):
                if s.lengths[b] == 0:
                    count = d * sequences + b
                    memset(s.h_n + count * w.width * size, 0, w.width * size)
                    if lstm:
                        memset(s.c_n + count * w.hidden_size * size, 0, w.hidden_size * size)
    vl_block_drop(f, x_copy.block)
    vl_block_drop(f, h_copy.block)
    vl_block_drop(f, c_copy.block)
    return VL_DONE if done else VL_NO_MEMORY


cdef int run_cell(vl_frame *f, const vl_instruction *i) noexcept nogil:
    """x [B, I], h [B, H], c [B, H] (LSTM) -> h', c'; objects: the direction."""
    cdef const Weights *w = <const Weights *>i.objects[0]
    cdef int type = VL_F64 if w.itemsize == 8 else VL_F32, n
    cdef int count = 3 if w.cell == LSTM else 2
    cdef const vl_tensor *given
    cdef vl_tensor copies[3]
    cdef const char *data[3]
    cdef int64_t widths[3]
    cdef int64_t shape[2]
    cdef int64_t rows = 0
    cdef vl_tensor *h_n
    cdef vl_tensor *c_n
    cdef Sequences s
    cdef int answer = VL_DONE
    widths[0], widths[1], widths[2] = w.input_size, w.width, w.hidden_size
    for n in range(count):
        copies[n].block = NULL
        given = vl_in(f, i, n)
        if given == NULL or given.type != type or given.axes != 2 or given.shape[1] != widths[n]:
            return VL_DECLINED
        if n == 0:
            rows = given.shape[0]
        elif given.shape[0] != rows:
            return VL_DECLINED
    if rows == 0:
        return VL_DECLINED
    for n in range(count):
        given = vl_contiguous(f, vl_in(f, i, n), &copies[n])
        if given == NULL:
            answer = VL_NO_MEMORY
            break
        data[n] = given.data
    if answer == VL_DONE:
        s.direction_count = 1
        s.directions[0] = s.directions[1] = w
        s.steps, s.sequences = 1, rows
        s.x = data[0]
        s.x_time, s.x_row = 0, w.input_size
        s.y = NULL
        s.y_time = s.y_row = 0
        s.lengths = NULL
        s.h_0 = data[1]
        s.c_0 = data[2] if count == 3 else NULL
        s.c_n = NULL
        shape[0], shape[1] = rows, w.width
        h_n = vl_new(f, i, 0, type, 2, shape)
        if h_n != NULL:
            s.h_n = h_n.data
        else:
            answer = VL_NO_MEMORY
        if answer == VL_DONE and count == 3:
            c_n = vl_new(f, i, 1, type, 2, shape)
            if c_n != NULL:
                s.c_n = c_n.data
            else:
                answer = VL_NO_MEMORY
        if answer == VL_DONE and not run_sequences(&s, f.threads):
            answer = VL_NO_MEMORY
    for n in range(count):
        vl_block_drop(f, copies[n].block)
    return answer
