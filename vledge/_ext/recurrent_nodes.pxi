# The native program's handlers of recurrent nodes: tensors in, the time loops, tensors out. Included by
# program.pyx: they are Cython since the loops are another module's, which one reaches by cimport, and call the frame's
# functions, which only this one links.

cdef int type_of(const vl_direction *direction) noexcept nogil:
    """The element type of a layer's tensors."""
    return VL_F64 if direction.kernels.arithmetic == VL_IN_FLOAT64 else VL_F32


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
    cdef const vl_direction *direction = <const vl_direction *>i.objects[0]
    cdef vl_tensor x_copy, h_copy, c_copy, source
    cdef vl_tensor *y = NULL
    cdef vl_tensor *h_n
    cdef vl_tensor *c_n = NULL
    cdef Sequences s
    cdef int layout = <int>i.ints[0], type = type_of(direction)
    cdef int64_t steps, sequences, b, d, count
    cdef int64_t shape[4]
    cdef int8_t order[4]
    cdef bint batch_first, done, lstm = vl_has_cell_state(direction), all_whole = True
    cdef ptrdiff_t size = direction.number_bytes
    cdef int time = 1 if layout else 0, batch = 0 if layout else 1
    if x == NULL or x.type != type or x.axes != 3 or x.shape[2] != direction.input_size:
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
    if source.strides[2] != size and direction.input_size > 1:
        x = vl_contiguous(f, x, &x_copy)
        if x == NULL:
            return VL_NO_MEMORY
        source = x[0]
    s.direction_count = i.object_count
    s.directions[0] = direction
    s.directions[1] = <const vl_direction *>i.objects[i.object_count - 1]
    if not (state_of(f, i, 5, type, layout, s.direction_count, sequences, direction.width, &h_copy, &s.h_0)
            and state_of(f, i, 6, type, layout, s.direction_count, sequences, direction.hidden_size, &c_copy, &s.c_0)):
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
        shape[3], order[3] = direction.width, 3
        y = vl_new_in_order(f, i, 0, type, 4, shape, order)
        done = y != NULL
        if done:
            s.y = y.data
            s.y_time = y.strides[1 if layout else 0] // size
            s.y_row = y.strides[0 if layout else 2] // size
    if done:
        h_n = final_state(f, i, 1, type, layout, s.direction_count, sequences, direction.width)
        done = h_n != NULL
        if done:
            s.h_n = h_n.data
    s.c_n = NULL
    if done and lstm:
        c_n = final_state(f, i, 2, type, layout, s.direction_count, sequences, direction.hidden_size)
        done = c_n != NULL
        if done:
            s.c_n = c_n.data
    s.heed = f.heed
    if done:
        done = run_sequences(&s, f.threads)
    if done and s.lengths != NULL and i.ints[1]:
        for d in range(s.direction_count):
            for b in range(sequences):
                if s.lengths[b] == 0:
                    count = d * sequences + b
                    memset(s.h_n + count * direction.width * size, 0, direction.width * size)
                    if lstm:
                        memset(s.c_n + count * direction.hidden_size * size, 0, direction.hidden_size * size)
    vl_block_drop(f, x_copy.block)
    vl_block_drop(f, h_copy.block)
    vl_block_drop(f, c_copy.block)
    return VL_DONE if done else VL_NO_MEMORY


cdef int run_cell(vl_frame *f, const vl_instruction *i) noexcept nogil:
    """x [B, I], h [B, H], c [B, H] (LSTM) -> h', c'; objects: the direction."""
    cdef const vl_direction *direction = <const vl_direction *>i.objects[0]
    cdef int type = type_of(direction), n
    cdef int count = 3 if vl_has_cell_state(direction) else 2
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
    widths[0], widths[1], widths[2] = direction.input_size, direction.width, direction.hidden_size
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
        s.directions[0] = s.directions[1] = direction
        s.steps, s.sequences = 1, rows
        s.x = data[0]
        s.x_time, s.x_row = 0, direction.input_size
        s.y = NULL
        s.y_time = s.y_row = 0
        s.lengths = NULL
        s.heed = f.heed
        s.h_0 = data[1]
        s.c_0 = data[2] if count == 3 else NULL
        s.c_n = NULL
        shape[0], shape[1] = rows, direction.width
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


cdef int run_masked(vl_frame *f, const vl_instruction *i) noexcept nogil:
    """X, W, R, B, mask [T, B, 1], initial_h, initial_c -> Y, Y_h, Y_c of one direction, each sequence's masked steps
    left out. ints: whether Y holds the state at those, else it is zero; objects: the direction. All of Y_h and Y_c
    have slots."""
    cdef const vl_tensor *x = vl_in(f, i, 0)
    cdef const vl_tensor *mask = vl_in(f, i, 4)
    cdef const vl_direction *direction = <const vl_direction *>i.objects[0]
    cdef int type = type_of(direction), answer = VL_DONE
    cdef bint lstm = vl_has_cell_state(direction), hold = i.ints[0] != 0
    cdef int64_t steps, sequences, b, t, own, plain_ints[2]
    cdef int64_t shape[4]
    cdef int32_t plain_inputs[7]
    cdef int32_t *lengths
    cdef size_t size = direction.number_bytes, in_row, out_row
    cdef vl_instruction plain
    cdef vl_tensor x_copy, h_copy, c_copy
    cdef vl_tensor *y
    cdef vl_tensor *h_n
    cdef vl_tensor *c_n = NULL
    cdef vl_block *scratch
    cdef char *packed
    cdef char *made
    cdef char *to
    cdef const char *source
    cdef Sequences s
    if (x == NULL or mask == NULL or x.type != type or x.axes != 3
            or x.shape[2] != direction.input_size or direction.input_size < 1
            or mask.type != VL_BOOL or mask.axes != 3 or mask.shape[2] != 1 or not vl_has_in(i, 5)
            or not vl_wants(i, 0) or not vl_wants(i, 1) or (lstm and not (vl_wants(i, 2) and vl_has_in(i, 6)))):
        return VL_DECLINED
    steps, sequences = x.shape[0], x.shape[1]
    if steps == 0 or sequences == 0 or mask.shape[0] != steps or mask.shape[1] != sequences:
        return VL_DECLINED
    in_row, out_row = size * direction.input_size, size * direction.width
    shape[0], shape[1], shape[2], shape[3] = steps, 1, sequences, max(direction.width, direction.input_size)
    if vl_count(4, shape) < 0 or sequences > INT32_MAX or steps > INT32_MAX:
        return VL_DECLINED
    if <uint64_t>steps * sequences * (in_row + out_row) + sequences * 4 > <uint64_t>(SIZE_MAX // 2):
        return VL_DECLINED
    scratch = vl_block_new(f, <size_t>steps * sequences * (in_row + out_row) + sequences * 4)
    if scratch == NULL:
        return VL_NO_MEMORY
    packed = <char *>scratch.data
    made = packed + <size_t>steps * sequences * in_row
    lengths = <int32_t *>(made + <size_t>steps * sequences * out_row)
    own = 0
    for b in range(sequences):
        lengths[b] = 0
        for t in range(steps):
            lengths[b] += (mask.data + t * mask.strides[0] + b * mask.strides[1])[0] != 0
        own += lengths[b]
    if own == steps * sequences:        # nothing is masked
        vl_block_drop(f, scratch)
        plain = i[0]
        for b in range(7):
            plain_inputs[b] = i.inputs[b] if b < i.input_count and b != 4 else -1
        plain_ints[0] = plain_ints[1] = 0
        plain.inputs, plain.input_count, plain.ints = plain_inputs, 7, plain_ints
        return run_node(f, &plain)
    x_copy.block = h_copy.block = c_copy.block = NULL
    s.c_0 = NULL
    if not (state_of(f, i, 5, type, 0, 1, sequences, direction.width, &h_copy, &s.h_0)
            and (not lstm or state_of(f, i, 6, type, 0, 1, sequences, direction.hidden_size, &c_copy, &s.c_0))):
        answer = VL_DECLINED
    if answer == VL_DONE and x.shape[2] > 1 and x.strides[2] != <int64_t>size:
        x = vl_contiguous(f, x, &x_copy)
        if x == NULL:
            answer = VL_NO_MEMORY
    if answer == VL_DONE:
        for b in range(sequences):
            own = 0
            for t in range(steps):
                if (mask.data + t * mask.strides[0] + b * mask.strides[1])[0]:
                    memcpy(packed + (own * sequences + b) * in_row,
                           x.data + t * x.strides[0] + b * x.strides[1], in_row)
                    own += 1
        s.direction_count = 1
        s.directions[0] = s.directions[1] = direction
        s.steps, s.sequences = steps, sequences
        s.x = packed
        s.x_time, s.x_row = sequences * direction.input_size, direction.input_size
        s.y = made
        s.y_time, s.y_row = sequences * direction.width, direction.width
        s.lengths = lengths
        s.heed = f.heed
        s.c_n = NULL
        shape[3] = direction.width
        y = vl_new(f, i, 0, type, 4, shape)
        h_n = final_state(f, i, 1, type, 0, 1, sequences, direction.width)
        if lstm:
            c_n = final_state(f, i, 2, type, 0, 1, sequences, direction.hidden_size)
        if y == NULL or h_n == NULL or (lstm and c_n == NULL):
            answer = VL_NO_MEMORY
        else:
            s.h_n = h_n.data
            if lstm:
                s.c_n = c_n.data
            if not run_sequences(&s, f.threads):
                answer = VL_NO_MEMORY
    if answer == VL_DONE:
        for b in range(sequences):
            own = 0
            source = s.h_0 + b * out_row        # the state after the steps so far
            for t in range(steps):
                to = y.data + (t * sequences + b) * out_row
                if (mask.data + t * mask.strides[0] + b * mask.strides[1])[0]:
                    source = made + (own * sequences + b) * out_row
                    own += 1
                elif not hold:
                    memset(to, 0, out_row)
                    continue
                memcpy(to, source, out_row)
    vl_block_drop(f, scratch)
    vl_block_drop(f, x_copy.block)
    vl_block_drop(f, h_copy.block)
    vl_block_drop(f, c_copy.block)
    return answer
