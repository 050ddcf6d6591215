/* Convolution over one to three spatial axes by the kernels: which part of the input is read in place and which is
 * copied, blocks, threads. It knows neither Python nor the program's frame.
 *
 * The input is read with channels last; whatever is not so in memory, or reaches over an edge, is copied block by
 * block into scratch memory with zeros around it. The output has channels last, without gaps.
 *
 * A transposed convolution of stride s is s x s ordinary ones of stride 1, each with the taps of one phase of the
 * output: o = i s + k d, so tap k serves the outputs of phase k d mod s.
 */
#ifndef VLEDGE_CONVOLVE_H
#define VLEDGE_CONVOLVE_H

#include "heed.h"
#include "named_limits.h"
#include "simd/kernels.h"

enum { VL_SPATIAL = 3 };        /* depth, height, width; leading ones are 1 where there are fewer */

/* Elements that lie side by side in memory with channels last. */
typedef struct {
    int32_t place[VL_SPATIAL];  /* of the pixel they begin at, from the window's own place */
    int32_t channel, length;
} vl_run_of_taps;

typedef struct {
    int32_t out_first[VL_SPATIAL];              /* the output that place 0 makes */
    int32_t low[VL_SPATIAL], high[VL_SPATIAL];  /* least and greatest place of a tap */
    int32_t run_count, part_count, depth;       /* part_count, parts and depth: vl_windows */
    const vl_run_of_taps *runs;
    const ptrdiff_t *parts;
    const void *const *w;                       /* by group; VL_BY_TAPS and VL_BY_WINOGRAD: one */
} vl_phase;

typedef enum {
    VL_BY_WINDOWS,
    VL_BY_DOTS,                 /* the same for few outputs: at most four vectors of them a group */
    VL_BY_WINOGRAD,             /* one phase, one group, 3x3 */
    VL_BY_TAPS                  /* every output channel has an input channel of its own, or copies of some */
} vl_convolution_form;

typedef struct vl_convolution {
    const vl_kernels *kernels;
    int32_t form, itemsize;
    int32_t group_vectors;      /* vl_windows' group */
    ptrdiff_t in_channels, out_channels, groups;
    ptrdiff_t channels;         /* of the copied input: in_channels, or copies of them for VL_BY_TAPS */
    const int32_t *source;      /* which input channel each is; NULL: itself */
    int32_t in_step[VL_SPATIAL], out_step[VL_SPATIAL]; /* of input and output from place to place */
    int32_t dilation[VL_SPATIAL]; /* VL_BY_WINOGRAD: a tile has every so manieth row and pixel */
    int32_t phase_count;
    const vl_phase *phases;
    const void *const *bias;    /* by group, in whole vectors; or NULL */
    /* Where so few inputs are given that a part of the kernel only meets padding, another convolution has the taps
     * [first, first + kernel) of this one's on each axis. They are made when they are first wanted and added to the list
     * `fewer`, atomically. */
    int32_t kernel[VL_SPATIAL];
    int32_t leaves_out;         /* whether it may; not a transposed one */
    int32_t first[VL_SPATIAL];
    const struct vl_convolution *fewer, *next;
} vl_convolution;

/* One call. What stands above the line is the caller's. */
typedef struct {
    const vl_convolution *convolution;
    const vl_limits *limits;
    const void *x;
    ptrdiff_t samples, in_size[VL_SPATIAL], out_size[VL_SPATIAL];
    ptrdiff_t x_sample, x_channel, x_strides[VL_SPATIAL]; /* in elements */
    ptrdiff_t before[VL_SPATIAL]; /* pads of the input, or what is cut off of a transposed one's output */
    int transposed;
    /* A pool of windows side by side takes the results, while they are in the nearest cache: rows and columns of each, or
     * 1 and 1 for none; out_size is then a multiple of them, and out has the pool's results. Not for a transposed
     * one. `divisor` is vl_pool's. A chain's operands beside the sums are then the same for all rows. */
    ptrdiff_t pool[2];
    double divisor;
    void *out;
    const vl_epilogue *epilogue;
    vl_heed *heed;              /* of the call, or NULL */
    char *scratch;              /* members * scratch_bytes, 64-byte aligned: after vl_convolving_plan */
    /* ---- */
    int members;
    ptrdiff_t rows, columns;    /* of a block, in places */
    ptrdiff_t region, pixels, taps; /* the most elements, places and runs that a block has */
    ptrdiff_t unpooled;         /* elements of a block's results, where a pool takes them */
    size_t scratch_bytes;       /* of one member */
} vl_convolving;

/* Taps [first, first + count) on each axis are all that meets the input. */
typedef struct {
    int32_t first[VL_SPATIAL], count[VL_SPATIAL];
} vl_taps_met;

/* Lets a job, the sizes of which are known, run by the convolution without what only meets padding, if that is worth
 * it, which depends on sizes alone. 0 where that convolution has to be made first; `met` then says of which taps. */
int vl_leave_out(vl_convolving *job, vl_taps_met *met);
/* Fills in the rest; -1 where sizes overflow. */
int vl_convolving_plan(vl_convolving *job, int threads);
/* A member's share: a task for a pool of threads. Every output has the same bits whatever the number of members. */
void vl_convolving_run(void *convolving, int member, int members);

#endif
