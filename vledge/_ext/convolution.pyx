# cython: wraparound=True, boundscheck=True
"""Convolutions with weights that are known beforehand, over one to three spatial axes, transposed or not.

Weights are packed once, for the selected instruction set. :c:func:`vl_convolving_run` does the rest; the native
program calls it with the same structure, by its address. It has more than 400 lines, for a form and the layout that
it reads are chosen together.
"""

import math
import operator

from libc.stdint cimport int32_t

cimport numpy as cnp
import numpy as np

from vledge._ext.phases import phases_of, runs_of, winograd_matrices, winograd_weight
from vledge.machine import threads as thread_settings
from vledge._ext.arrays cimport float_number, readable
from vledge._ext.isa cimport (
    VL_AS_IT_IS,
    VL_BOUND,
    VL_IN_FLOAT32,
    VL_LEAKY,
    VL_TERMS,
    arithmetic_of,
    kernels_for,
    narrow_kernels,
    vl_epilogue,
    vl_kernels,
)
from vledge._ext.pool cimport check_ended, heed, limits_in_force, parallel, vl_heed, vl_limits

from vledge._ext.layout import aligned_copy, aligned_empty, to_vectors, unpack
from vledge._ext.weights import pack

cnp.import_array()

cdef extern from "program/convolve.h" nogil:
    enum:
        VL_BY_WINDOWS
        VL_BY_DOTS
        VL_BY_WINOGRAD
        VL_BY_TAPS
    ctypedef struct vl_run_of_taps:
        int32_t place[3]
        int32_t channel, length
    ctypedef struct vl_phase:
        int32_t out_first[3]
        int32_t low[3]
        int32_t high[3]
        int32_t run_count, part_count, depth
        const vl_run_of_taps *runs
        const ptrdiff_t *parts
        const void *const *w
    ctypedef struct vl_convolution:
        const vl_kernels *kernels
        int32_t form, itemsize, group_vectors
        ptrdiff_t in_channels, out_channels, groups, channels
        const int32_t *source
        int32_t in_step[3]
        int32_t out_step[3]
        int32_t dilation[3]
        int32_t phase_count
        const vl_phase *phases
        const void *const *bias
        int32_t kernel[3]
        int32_t leaves_out
        int32_t first[3]
        const vl_convolution *fewer
        const vl_convolution *next
    ctypedef struct vl_convolving:
        const vl_convolution *convolution
        const vl_limits *limits
        const void *x
        ptrdiff_t samples
        ptrdiff_t in_size[3]
        ptrdiff_t out_size[3]
        ptrdiff_t x_sample, x_channel
        ptrdiff_t x_strides[3]
        ptrdiff_t before[3]
        int transposed
        ptrdiff_t pool[2]
        double divisor
        void *out
        const vl_epilogue *epilogue
        char *scratch
        vl_heed *heed
        int members
        size_t scratch_bytes
    ctypedef struct vl_taps_met:
        int32_t first[3]
        int32_t count[3]
    int vl_leave_out(vl_convolving *c, vl_taps_met *met)
    int vl_convolving_plan(vl_convolving *c, int threads)
    void vl_convolving_run(void *convolving, int member, int members) noexcept

cdef extern from *:
    int VL_RELEASE "__ATOMIC_RELEASE"
    void publish "__atomic_store_n"(const vl_convolution **where, const vl_convolution *what, int order) nogil

cdef int MOST_AXES = 3


def vectors_of_group(columns, lanes):
    """Vectors of a panel: all of them if they are few, else as fits the registers and leaves the last one wide."""
    cdef const vl_kernels *kernels = kernels_for(VL_IN_FLOAT32)
    vectors = -(-columns // lanes)
    if kernels.max_rows > 3:     # 32 registers
        return vectors if vectors <= 4 else min((4, 3), key=lambda width: (-(-vectors // width), -vectors % width))
    # 16: tiles of 6 x 2, 4 x 3 and 3 x 4 are alike, one of a single vector is twice as slow
    return min(vectors, min((2, 3, 4), key=lambda width: vectors % width == 1))


cdef tuple few(object values, int count, str name):
    """So many integers, one a spatial axis."""
    if len(values) != count:
        raise ValueError(f"{name} has {len(values)} numbers, the kernel {count} spatial axes")
    return tuple([operator.index(value) for value in values])


cdef class Convolution:
    """A kernel's weights, ready to slide.

    Parameters
    ----------
    weight : ndarray ``[M, C / groups, *kernel]``, float32 or float64, of one to three spatial axes; transposed:
        ``[C, M / groups, *kernel]``
    bias : ndarray ``[M]`` of the same dtype, or None
    strides, dilations : sequences of int, one for each spatial axis
    groups : int, which divides C and M
    transposed : bool
    winograd : bool
        Whether 3x3 kernels of stride 1 may be multiplied by Winograd's F(2x2, 3x3): about twice as quick, not the
        same bits, 1.8 times the weights' memory.
    leaves_out : bool
        Whether taps that only meet padding, where a call's input is so small, may be left out if that saves a third
        of the work or more; not for a transposed one. What is left is laid out at the first such call and kept.

    Sources: torch.nn.Conv2d, torch.nn.ConvTranspose2d, the ONNX operators Conv and ConvTranspose.
    """

    cdef vl_convolution convolution
    cdef readonly object dtype
    cdef readonly tuple kernel, strides, dilations
    cdef readonly bint transposed
    cdef readonly Py_ssize_t in_channels, out_channels, groups
    cdef dict fewer         # the same with some of the taps: ``{(first, count): Convolution}``
    cdef list taps          # of each phase: [(place, index in the kernel), ...]
    cdef list packed        # of each phase: arrays by group
    cdef list kept          # what `convolution` points into
    cdef object bias_parts
    cdef object given_bias

    def __init__(self, weight, bias, strides, dilations, groups=1, transposed=False, winograd=False,
                 leaves_out=False):
        if self.kept is not None:
            raise TypeError("a Convolution is made once: others hold what it has laid out")
        number = float_number(weight, "weight")
        weight = readable(weight, "weight", number, -1, False)
        if bias is not None:
            bias = readable(bias, "bias", number, 1, False)
        rank = weight.ndim - 2
        if not 1 <= rank <= MOST_AXES:
            raise ValueError(f"the kernel has {rank} spatial axes, expected 1 to {MOST_AXES}")
        strides, dilations = few(strides, rank, "strides"), few(dilations, rank, "dilations")
        if min(*strides, *dilations) < 1:
            raise ValueError(f"strides {strides} and dilations {dilations} must be positive")
        self.dtype, self.transposed, self.groups = weight.dtype, transposed, groups
        self.kernel, self.strides, self.dilations = weight.shape[2:], strides, dilations
        reach = [k * d + s for k, d, s in zip(self.kernel, self.dilations, self.strides)]
        if max(reach) >= 1 << 31:
            raise ValueError(f"kernel {self.kernel}, strides {self.strides}, dilations {self.dilations} too large")
        first, second = weight.shape[:2]
        self.in_channels, self.out_channels = (first, second * groups) if transposed else (second * groups, first)
        if groups < 1 or self.in_channels % groups or self.out_channels % groups:
            raise ValueError(f"groups is {groups}, there are {self.in_channels} and {self.out_channels} channels")
        if self.in_channels == 0 or self.out_channels == 0 or 0 in self.kernel:
            raise ValueError(f"weight has the shape {weight.shape}, expected no axis of size 0")
        if bias is not None and bias.shape != (self.out_channels,):
            raise ValueError(f"bias has shape {bias.shape}, expected ({self.out_channels},)")
        self.kept, self.fewer = [], {}
        cdef vl_convolution *v = &self.convolution
        v.kernels = kernels_for(arithmetic_of(number))
        v.itemsize = weight.itemsize
        v.in_channels, v.out_channels, v.groups = self.in_channels, self.out_channels, groups
        v.channels = v.in_channels
        inside, outside = self.in_channels // groups, self.out_channels // groups
        v.form = self.form_for(inside, outside, v.kernels.lanes, winograd)
        cdef const vl_kernels *narrow = narrow_kernels(arithmetic_of(number))
        if narrow != NULL and self.is_narrow(inside, outside, narrow.lanes):
            v.kernels, v.form = narrow, VL_BY_WINDOWS
        lanes = v.kernels.lanes
        v.group_vectors = vectors_of_group(outside, lanes)
        ones = (1,) * (MOST_AXES - rank)
        for axis, stride in enumerate((*ones, *self.strides)):
            v.in_step[axis] = 1 if transposed else stride
            v.out_step[axis] = stride if transposed else 1
        for axis, dilation in enumerate((*ones, *self.dilations)):
            v.dilation[axis] = dilation
        for axis, size in enumerate((*ones, *self.kernel)):
            v.kernel[axis] = size
        v.leaves_out = leaves_out and not transposed
        if v.form == VL_BY_TAPS and (inside > 1 or outside > 1):
            v.channels = inside * self.out_channels
            outputs = np.arange(self.out_channels)
            source = (outputs // outside * inside + np.arange(inside)[:, None]).astype(np.int32)
            v.source = <const int32_t *><size_t>self.hold(source)
        self.pack_bias(bias, outside, lanes)
        phases = phases_of(self.kernel, self.strides, self.dilations, transposed)
        self.taps = [taps for _, taps in phases]
        self.packed = [self.pack_phase(weight, [i for _, i in taps], inside, outside, lanes) for taps in self.taps]
        self.describe_phases(phases, inside)

    def __reduce__(self):
        weight = self.weight()
        return Convolution, (weight, self.given_bias, self.strides, self.dilations, self.groups, self.transposed)

    def form_for(self, inside, outside, lanes, winograd):
        taps = math.prod(self.kernel)
        if winograd and self.groups == 1 and not self.transposed and self.dtype == np.float32 and \
                self.kernel[-2:] == (3, 3) and taps == 9 and max(self.strides) == 1 and \
                max(self.dilations) <= limits_in_force().winograd_dilation and \
                inside >= limits_in_force().winograd_in_channels and outside >= limits_in_force().winograd_out_channels:
            return VL_BY_WINOGRAD
        # Cycles for a pixel, about. Windows leave lanes of their last vector idle in each group; dots wait for a load
        # for each product, and for sums across lanes; taps for a load, and where channels are copied, for that.
        windows = self.groups * (-(-outside // lanes) * inside * taps / 2 + 8)
        run = inside * (self.kernel[-1] if self.groups == 1 and self.dilations[-1] == 1 else 1)
        dots = self.out_channels * (inside * taps // run * -(-run // lanes) * 0.6 + 4) + 8
        by_taps = -(-self.out_channels // lanes) * inside * taps
        if inside > 1 or outside > 1:
            by_taps += 1.5 * inside * self.out_channels
        if self.groups > 1 and by_taps < min(windows, dots):
            return VL_BY_TAPS
        steps = self.strides if self.transposed and max(self.dilations) == 1 else (1,) * len(self.kernel)
        longest = inside * math.prod([-(-size // step) for size, step in zip(self.kernel, steps)])  # of a phase
        fit = longest <= VL_TERMS * lanes and outside <= 4 * lanes
        return VL_BY_DOTS if fit and dots < 0.8 * windows else VL_BY_WINDOWS

    def is_narrow(self, inside, outside, lanes):
        """Whether windows of half the lanes are quicker: idle lanes of wide vectors cost as much as others on CPUs
        that make a wide product in two halves, and dots of more than a few columns wait for sums across lanes."""
        few = 1 if self.convolution.form == VL_BY_WINDOWS else 5
        return (self.convolution.form in (VL_BY_WINDOWS, VL_BY_DOTS) and few <= outside <= lanes
                and self.form_for(inside, outside, lanes, False) == VL_BY_WINDOWS)

    def hold(self, array):
        """The address of an array that lives as long as this object."""
        self.kept.append(array)
        return array.ctypes.data

    def pointers(self, arrays):
        return self.hold(np.array([self.hold(a) for a in arrays], np.uintp))

    def pack_bias(self, bias, outside, lanes):
        self.given_bias = None if bias is None else bias.copy()
        if bias is None:
            return
        parts = 1 if self.convolution.form == VL_BY_TAPS else self.groups
        vectors = [aligned_copy(to_vectors(part, 1, lanes)) for part in bias.reshape(parts, -1)]
        self.convolution.bias = <const void *const *><size_t>self.pointers(vectors)

    def pack_phase(self, weight, indices, inside, outside, lanes):
        """By group; taps: ``[tap, channel of a group, M]``."""
        if not indices:     # a stride larger than the kernel: nothing to read, but a pointer to it for each group
            return [np.zeros(0, weight.dtype)] * (1 if self.convolution.form == VL_BY_TAPS else self.groups)
        chosen = weight[(slice(None), slice(None), *np.array(indices).T)]     # [., ., taps]
        if self.transposed:   # [C, M / groups, taps] -> [M, C / groups, taps]
            chosen = chosen.reshape(self.groups, inside, outside, -1).swapaxes(1, 2)
            chosen = chosen.reshape(self.out_channels, inside, -1)
        if self.convolution.form == VL_BY_TAPS:
            return [aligned_copy(chosen.transpose(2, 1, 0))]
        if self.convolution.form == VL_BY_WINOGRAD:
            matrices = winograd_matrices(chosen.reshape(*chosen.shape[:2], 3, 3)).astype(np.float32)
            parts = [pack(matrix, 1, lanes, self.convolution.group_vectors) for matrix in matrices]
            whole = aligned_empty((16, parts[0].size), np.float32)
            np.stack(parts, out=whole)
            return [whole]
        rows = chosen.transpose(0, 2, 1).reshape(self.groups, outside, -1)
        if self.convolution.form == VL_BY_DOTS:
            return [aligned_copy(part) for part in rows]
        return [pack(np.ascontiguousarray(part), 1, lanes, self.convolution.group_vectors) for part in rows]

    def describe_phases(self, phases, inside):
        cdef vl_phase *p
        cdef cnp.ndarray described = np.zeros(len(phases) * sizeof(vl_phase), np.uint8)
        cdef vl_convolution *v = &self.convolution
        cdef int axis
        cdef Py_ssize_t n
        v.phases = <vl_phase *><size_t>self.hold(described)
        v.phase_count = len(phases)
        ones = (0,) * (MOST_AXES - len(self.kernel))
        for n in range(len(phases)):
            first, taps = phases[n]
            places = [(*ones, *place) for place, _ in taps]
            p = <vl_phase *>v.phases + n
            if v.form == VL_BY_TAPS:
                runs = [(*place, c * self.out_channels if v.source else 0, 1)
                        for place in places for c in range(inside)]
                parts = [0]
            else:
                runs, parts = runs_of(places, inside, self.groups == 1, VL_TERMS, v.form == VL_BY_WINDOWS)
            for axis in range(MOST_AXES):
                p.out_first[axis] = (*ones, *first)[axis]
                p.low[axis] = min((place[axis] for place in places), default=0)
                p.high[axis] = max((place[axis] for place in places), default=0)
            p.run_count, p.part_count, p.depth = len(runs), len(parts) - 1, len(taps) * inside
            p.runs = <vl_run_of_taps *><size_t>self.hold(np.array(runs, np.int32).reshape(-1, 5))
            p.parts = <const ptrdiff_t *><size_t>self.hold(np.array(parts, np.intp))
            p.w = <const void *const *><size_t>self.pointers(self.packed[n])

    @property
    def form(self):
        """How it is computed: ``windows``, ``dots``, ``winograd`` or ``taps``."""
        names = {VL_BY_WINDOWS: "windows", VL_BY_DOTS: "dots", VL_BY_WINOGRAD: "winograd", VL_BY_TAPS: "taps"}
        return names[self.convolution.form]

    @property
    def nbytes(self):
        """Bytes that the packed weights take, padding included."""
        own = sum(part.nbytes for phase in self.packed for part in phase)
        return own + sum(one.nbytes for one in list(self.fewer.values()))

    @property
    def address(self):
        """Of the ``vl_convolution``, which this object owns."""
        return <size_t>&self.convolution

    def weight(self):
        """The weights bit for bit as given; Winograd's are not kept that way: ValueError."""
        if self.kept is None:
            raise TypeError("this Convolution has no weights")
        if self.convolution.form == VL_BY_WINOGRAD:
            raise ValueError("weights that are packed for Winograd's products cannot be given back")
        return self.unpacked()

    def unpacked(self):
        """The weights; those of Winograd's products within their own rounding."""
        inside, outside = self.in_channels // self.groups, self.out_channels // self.groups
        lanes, width = self.convolution.kernels.lanes, self.convolution.group_vectors
        if self.convolution.form == VL_BY_WINOGRAD:
            tiles = [unpack(part, 1, outside, inside, lanes, width) for part in self.packed[0][0]]
            return winograd_weight(np.stack(tiles)).astype(np.float32).reshape(outside, inside, *self.kernel)
        weight = np.empty((self.out_channels, inside, *self.kernel), self.dtype)
        for taps, packed in zip(self.taps, self.packed):
            if not taps:
                continue
            if self.convolution.form == VL_BY_TAPS:
                chosen = packed[0].transpose(2, 1, 0)
            else:
                rows = packed
                if self.convolution.form == VL_BY_WINDOWS:
                    rows = [unpack(part, 1, outside, len(taps) * inside, lanes, width) for part in packed]
                chosen = np.concatenate(rows).reshape(self.out_channels, -1, inside).transpose(0, 2, 1)
            weight[(slice(None), slice(None), *np.array([i for _, i in taps]).T)] = chosen
        if self.transposed:
            weight = weight.reshape(self.groups, outside, inside, *self.kernel).swapaxes(1, 2)
            weight = weight.reshape(self.in_channels, outside, *self.kernel)
        return weight

    def bias(self):
        """``[M]`` or None."""
        return self.given_bias

    cdef int make_fewer(self, const vl_taps_met *met) except -1:
        """Lay out the taps that meet something, for this call and all later ones: other threads find them, too."""
        cdef Convolution one
        cdef int axis, missing = MOST_AXES - len(self.kernel)
        first = tuple(met.first[axis] for axis in range(MOST_AXES))
        count = tuple(met.count[axis] for axis in range(MOST_AXES))
        met_here = tuple(slice(f, f + n) for f, n in zip(first[missing:], count[missing:]))
        weight = np.ascontiguousarray(self.unpacked()[(slice(None), slice(None), *met_here)])
        one = Convolution(weight, self.given_bias, self.strides, self.dilations, self.groups)
        if self.fewer.setdefault((first, count), one) is one:     # no other thread was first
            for axis in range(MOST_AXES):
                one.convolution.first[axis] = met.first[axis]
            one.convolution.next = self.convolution.fewer
            publish(&self.convolution.fewer, &one.convolution, VL_RELEASE)
        return 0

    def __call__(self, x, sizes, before, low=None, high=None, slope=None, threads=None):
        """``x [N, C, *spatial] -> [N, M, *sizes]``, a view of a new array with channels last.

        before : pads before each axis or, transposed, what is cut off there; what comes after follows from sizes
        low, high : bounds of the results, either may be None
        slope : float or ndarray ``[M]``, by which negative results are multiplied; not together with bounds
        """
        cdef vl_convolving c
        cdef vl_heed call
        cdef vl_epilogue epilogue
        cdef vl_taps_met met
        cdef int rank = len(self.kernel), axis
        cdef int missing = MOST_AXES - rank
        cdef ptrdiff_t itemsize = self.convolution.itemsize
        if self.kept is None:
            raise TypeError("this Convolution has no weights")
        cdef cnp.ndarray x_array = readable(
            x, "x", cnp.NPY_FLOAT64 if itemsize == 8 else cnp.NPY_FLOAT32, 2 + rank, False)
        x = x_array
        if x.shape[1] != self.in_channels:
            raise ValueError(f"x has the shape {x.shape}, expected {self.in_channels} channels")
        sizes, before = few(sizes, rank, "sizes"), few(before, rank, "before")
        if min(sizes) < 0 or max(map(abs, before)) >= 1 << 31:
            raise ValueError(f"sizes {sizes} must not be negative, and before {before} within 32 bits")
        if any(stride % itemsize for stride in x.strides):
            x = x_array = x.copy()
        result = np.empty((x.shape[0], *sizes, self.out_channels), self.dtype)
        c.convolution = &self.convolution
        c.limits = limits_in_force()
        c.x = cnp.PyArray_DATA(x_array)
        c.out = cnp.PyArray_DATA(result)
        c.samples = cnp.PyArray_DIM(x_array, 0)
        c.x_sample = cnp.PyArray_STRIDE(x_array, 0) // itemsize
        c.x_channel = cnp.PyArray_STRIDE(x_array, 1) // itemsize
        c.transposed = self.transposed
        c.pool[0], c.pool[1], c.divisor = 1, 1, 0
        for axis in range(MOST_AXES):
            c.in_size[axis], c.out_size[axis], c.before[axis], c.x_strides[axis] = 1, 1, 0, 0
            if axis >= missing:
                c.in_size[axis] = cnp.PyArray_DIM(x_array, 2 + axis - missing)
                c.x_strides[axis] = cnp.PyArray_STRIDE(x_array, 2 + axis - missing) // itemsize
                c.out_size[axis] = sizes[axis - missing]
                c.before[axis] = before[axis - missing]
        epilogue.kind, epilogue.slopes, epilogue.channel = VL_AS_IT_IS, NULL, 0
        if low is not None or high is not None:
            epilogue.kind = VL_BOUND
            epilogue.low = -math.inf if low is None else low
            epilogue.high = math.inf if high is None else high
        elif slope is not None:
            epilogue.kind = VL_LEAKY
            if isinstance(slope, np.ndarray):
                slope = readable(slope, "slope", cnp.NPY_FLOAT64 if itemsize == 8 else cnp.NPY_FLOAT32, 1)
                if slope.shape != (self.out_channels,):
                    raise ValueError(f"slope has shape {slope.shape}, expected ({self.out_channels},)")
                epilogue.slopes = <const void *><size_t>slope.ctypes.data
            else:
                epilogue.slope = slope
        c.epilogue = &epilogue
        cdef cnp.ndarray out = result
        if cnp.PyArray_SIZE(out) == 0:
            return np.moveaxis(result, -1, 1)
        if not vl_leave_out(&c, &met):
            self.make_fewer(&met)
            vl_leave_out(&c, &met)
        if vl_convolving_plan(&c, thread_settings.get_num_threads() if threads is None else threads) < 0:
            raise MemoryError
        scratch = aligned_empty((c.members * <ptrdiff_t>c.scratch_bytes,), np.uint8)
        c.scratch = <char *><size_t>scratch.ctypes.data
        heed(&call)
        c.heed = &call
        with nogil:
            if c.members == 1:
                vl_convolving_run(&c, 0, 1)
            else:
                parallel(c.members, vl_convolving_run, &c, &call)
        check_ended(&call)
        return np.moveaxis(result, -1, 1)
