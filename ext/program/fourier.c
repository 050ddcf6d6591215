/* DFT and STFT: transforms of any length that has no large prime factor, as many at a time as a vector has lanes. */
#include "program.h"

#include <math.h>

enum {
    VL_LARGEST_FACTOR = 1009, /* a factor p costs p operations an element, and no more than NumPy up to there */
    VL_MOST_FACTORS = 32,
    VL_LONGEST_TRANSFORM = 1 << 22,
    VL_ELEMENTS_OF_A_ROOT = 16 /* what a cosine and a sine take, in elements that are moved */
};

/* Transforms t = 0, 1, ...; all offsets and steps are in elements. */
typedef struct {
    const vl_kernels *kernels;
    const vl_frame *frame;
    int type, sign;
    int is_complex; /* the input */
    int halved; /* real, of even length: pairs of numbers as complex ones, half of the bins */
    int hermitian; /* bins of a real result; the rest are their conjugates */
    int real_out;
    int32_t factors[VL_MOST_FACTORS + 1];
    int passes;
    int64_t n, taken, bins, transforms; /* taken: elements that are read, at most n; those behind are zeros */
    int64_t inner, in_outer, in_inner, in_step, out_outer, out_inner, out_step;
    const char *x, *window, *roots;
    char *out, *scratch;
    size_t array; /* bytes of each of a member's four arrays in scratch */
} vl_transforms;

/* 4s first, then what is left from the smallest; 0 where one is too large. */
static int factorise(vl_transforms *job, int64_t n)
{
    job->passes = 0;
    while (n % 4 == 0) {
        job->factors[job->passes++] = 4;
        n /= 4;
    }
    for (int64_t p = 2; n > 1; p++) {
        if (p > VL_LARGEST_FACTOR)
            return 0;
        for (; n % p == 0; n /= p)
            job->factors[job->passes++] = (int32_t)p;
    }
    job->factors[job->passes] = 0;
    return 1;
}

/* Where a piece that begins at k ends, of n elements: k itself where Ctrl-C has ended the run. */
static int64_t end_of_piece(int64_t k, int64_t n, vl_pace *pace)
{
    const int64_t end = n - k < VL_PIECE ? n : k + VL_PIECE;
    return vl_goes_on(pace, end - k) ? end : k;
}

/* The places of a transform's elements, and lanes of elements [k][lane], of one type. */
#define VL_FILL_AND_WRITE(kind)                                                                                        \
    static void fill_##kind(const vl_transforms *job, int64_t first, int count, kind *re, kind *im, vl_pace *pace)     \
    {                                                                                                                  \
        const int lanes = job->kernels->lanes;                                                                         \
        const kind *window = (const kind *)job->window;                                                                \
        if (count < lanes || job->taken < job->n || !job->is_complex) {                                                \
            vl_zero(job->frame, (char *)re, (int64_t)job->array);                                                      \
            vl_zero(job->frame, (char *)im, (int64_t)job->array);                                                      \
        }                                                                                                              \
        for (int lane = 0; lane < count; lane++) {                                                                     \
            const int64_t t = first + lane;                                                                            \
            const kind *x = (const kind *)job->x + t / job->inner * job->in_outer + t % job->inner * job->in_inner;    \
            for (int64_t k = 0, end; k < job->taken && (end = end_of_piece(k, job->taken, pace)) > k;)                 \
                for (; k < end; k++, x += job->in_step) {                                                              \
                    const kind factor = window ? window[k] : 1;                                                        \
                    if (job->halved)                                                                                   \
                        (k & 1 ? im : re)[(k >> 1) * lanes + lane] = x[0] * factor;                                    \
                    else {                                                                                             \
                        re[k * lanes + lane] = x[0] * factor;                                                          \
                        if (job->is_complex)                                                                           \
                            im[k * lanes + lane] = x[1] * factor;                                                      \
                    }                                                                                                  \
                }                                                                                                      \
            if (job->hermitian) {                                                                                      \
                im[lane] = 0;                                                                                          \
                for (int64_t k = 1, end; k < job->taken && (end = end_of_piece(k, job->taken, pace)) > k;)             \
                    for (; k < end; k++) {                                                                             \
                        if (2 * k == job->n)                                                                           \
                            im[k * lanes + lane] = 0;                                                                  \
                        re[(job->n - k) * lanes + lane] = re[k * lanes + lane];                                        \
                        im[(job->n - k) * lanes + lane] = -im[k * lanes + lane];                                       \
                    }                                                                                                  \
            }                                                                                                          \
        }                                                                                                              \
    }                                                                                                                  \
    static void write_##kind(const vl_transforms *job, int64_t first, int count, const kind *re, const kind *im,       \
                             vl_pace *pace)                                                                            \
    {                                                                                                                  \
        const int lanes = job->kernels->lanes;                                                                         \
        const kind scale = job->sign > 0 ? (kind)(1 / (double)job->n) : 1;                                             \
        for (int lane = 0; lane < count; lane++) {                                                                     \
            const int64_t t = first + lane;                                                                            \
            kind *out = (kind *)job->out + t / job->inner * job->out_outer + t % job->inner * job->out_inner;          \
            for (int64_t k = 0, end; k < job->bins && (end = end_of_piece(k, job->bins, pace)) > k;)                   \
                for (; k < end; k++, out += job->out_step) {                                                           \
                    const int64_t mirrored = job->halved && 2 * k > job->n, at = mirrored ? job->n - k : k;            \
                    out[0] = re[at * lanes + lane] * scale;                                                            \
                    if (!job->real_out)                                                                                \
                        out[1] = (mirrored ? -im[at * lanes + lane] : im[at * lanes + lane]) * scale;                  \
                }                                                                                                      \
        }                                                                                                              \
    }

/* The n-th roots of unity in double: an eighth of a turn is computed, where that divides n, and the rest mirrored. */
static void roots_of_unity(int64_t n, int sign, double *roots, vl_pace *pace)
{
    const int64_t parts = n % 8 == 0 ? 8 : n % 4 == 0 ? 4 : 2;
    for (int64_t k = 0; k <= n / parts && vl_goes_on(pace, VL_ELEMENTS_OF_A_ROOT); k++) {
        const double angle = 6.283185307179586476925 * (double)k / (double)n;
        roots[2 * k] = cos(angle);
        roots[2 * k + 1] = sin(angle);
    }
    if (parts == 8)
        for (int64_t k = 0; k <= n / 8 && vl_goes_on(pace, 1); k++) {
            roots[2 * (n / 4 - k)] = roots[2 * k + 1];
            roots[2 * (n / 4 - k) + 1] = roots[2 * k];
        }
    if (parts >= 4)
        for (int64_t k = 0; k <= n / 4 && vl_goes_on(pace, 1); k++) {
            roots[2 * (n / 2 - k)] = -roots[2 * k];
            roots[2 * (n / 2 - k) + 1] = roots[2 * k + 1];
        }
    for (int64_t k = 1; k <= (n - 1) / 2 && vl_goes_on(pace, 1); k++) {
        roots[2 * (n - k)] = roots[2 * k];
        roots[2 * (n - k) + 1] = -sign * roots[2 * k + 1];
    }
    for (int64_t k = 0; k <= n / 2 && vl_goes_on(pace, 1); k++)
        roots[2 * k + 1] *= sign;
}

VL_FILL_AND_WRITE(float)
VL_FILL_AND_WRITE(double)

static void member_transforms(void *context, int member, int members)
{
    const vl_transforms *job = context;
    const int lanes = job->kernels->lanes, odd = job->passes & 1;
    const int64_t blocks = (job->transforms + lanes - 1) / lanes;
    vl_pace pace = vl_pace_of(job->frame);
    char *arrays[4];
    for (int k = 0; k < 4; k++)
        arrays[k] = job->scratch + (size_t)(4 * member + k) * job->array;
    vl_fourier f = {.n = job->halved ? job->n / 2 : job->n,
                    .sign = job->sign,
                    .of_reals = job->halved,
                    .factors = job->factors,
                    .roots = job->roots,
                    .root_step = job->halved ? 2 : 1,
                    .re = arrays[0],
                    .im = arrays[1],
                    .other_re = arrays[2],
                    .other_im = arrays[3]};
    for (int64_t b = blocks * member / members; b < blocks * (member + 1) / members; b++) {
        if (vl_shall_end(job->frame->heed))
            return;
        const int64_t first = b * lanes, left = job->transforms - first;
        const int count = left < lanes ? (int)left : lanes;
        if (job->type == VL_F32)
            fill_float(job, first, count, (float *)arrays[0], (float *)arrays[1], &pace);
        else
            fill_double(job, first, count, (double *)arrays[0], (double *)arrays[1], &pace);
        f.first = 0;
        do {
            if (!vl_goes_on(&pace, f.n * lanes))
                return;
            f.last = f.first + 1;
            job->kernels->fourier(&f);
            f.first = f.last;
        } while (f.first < job->passes);
        if (job->type == VL_F32)
            write_float(job, first, count, (float *)arrays[2 * odd], (float *)arrays[2 * odd + 1], &pace);
        else
            write_double(job, first, count, (double *)arrays[2 * odd], (double *)arrays[2 * odd + 1], &pace);
    }
}

/* The n-th roots are known, or are made. The output's memory is there. */
static int transform_all(vl_frame *f, vl_transforms *job, const void *roots)
{
    const size_t size = vl_size_of(job->type), root_bytes = roots ? 0 : (16 * (size_t)job->n + 63) & ~(size_t)63;
    const int64_t work = job->transforms * job->n * (job->passes + 1);
    const int members = work >= f->limits->chain_thread_work && job->transforms > job->kernels->lanes ? f->threads : 1;
    job->array = ((size_t)(job->n + 1) * size * (size_t)job->kernels->lanes + 63) & ~(size_t)63;
    vl_block *block = vl_block_new(f, root_bytes + 4 * (size_t)members * job->array);
    if (!block)
        return VL_NO_MEMORY;
    if (!roots) {
        roots = block->data;
        double *made = (double *)block->data;
        vl_pace pace = vl_pace_of(f);
        roots_of_unity(job->n, job->sign, made, &pace);
        for (int64_t k = 0; job->type == VL_F32 && k < 2 * job->n && vl_goes_on(&pace, 1);
             k++) { /* in place: a float ends where it began */
            const float single = (float)made[k];
            memcpy(block->data + (size_t)k * sizeof single, &single, sizeof single);
        }
    }
    job->roots = roots;
    job->frame = f;
    job->scratch = block->data + root_bytes;
    if (members > 1)
        f->parallel(members, member_transforms, job, f->heed);
    else
        member_transforms(job, 0, 1);
    vl_block_drop(f, block);
    return VL_DONE;
}

/* An integer that comes as a scalar or as a list of one; 0 where it does not. */
static int number_of(const vl_tensor *t, int64_t *number) { return t && vl_integers(t, number, 1) == 1; }

static int is_transformable(const vl_tensor *t)
{
    return t && (t->type == VL_F32 || t->type == VL_F64) && vl_count(t->axes, t->shape) > 0 &&
           (uintptr_t)t->data % vl_size_of(t->type) == 0;
}

/* Whether a real transform of this length is done as a complex one of half of it, and its factors; 0 if one is large. */
static int prepare(vl_transforms *job, int64_t n, int of_reals)
{
    job->n = n;
    job->halved = of_reals && n % 2 == 0;
    return n >= 1 && n <= VL_LONGEST_TRANSFORM && factorise(job, job->halved ? n / 2 : n);
}

/* "dft": x [..., 1 or 2], length or none, axis or none; ints: the axis where no input says it, whether it is inverse,
 * whether onesided, the length whose roots objects hold, 0 for none. */
static int dft(vl_frame *f, const vl_instruction *i)
{
    const vl_tensor *t = vl_in(f, i, 0);
    const int inverse = (int)i->ints[1], onesided = (int)i->ints[2];
    int64_t axis = i->ints[0];
    if (!is_transformable(t) || t->axes < 2 || (vl_has_in(i, 2) && !number_of(vl_in(f, i, 2), &axis)))
        return VL_DECLINED;
    const int last = t->axes - 1, along = vl_axis(axis, t->axes), type = t->type;
    const int64_t parts = t->shape[last];
    if (along < 0 || along == last || parts < 1 || parts > 2 || (onesided && !inverse && parts == 2))
        return VL_DECLINED;
    vl_transforms job = {.kernels = vl_kernels_for(f, type), .type = type, .sign = inverse ? 1 : -1};
    const int64_t count = t->shape[along];
    int64_t n = onesided && inverse ? 2 * (count - 1) : count;
    if ((vl_has_in(i, 1) && !number_of(vl_in(f, i, 1), &n)) || !prepare(&job, n, parts == 1 && !inverse))
        return VL_DECLINED;
    job.is_complex = parts == 2;
    job.hermitian = job.real_out = onesided && inverse;
    const int64_t used = job.hermitian ? n / 2 + 1 : n;
    job.taken = count < used ? count : used;
    job.bins = onesided && !inverse ? n / 2 + 1 : n;
    int64_t shape[VL_MOST_AXES], outer = 1;
    job.inner = 1;
    memcpy(shape, t->shape, sizeof shape);
    shape[along] = job.bins;
    shape[last] = job.real_out ? 1 : 2;
    for (int a = 0; a < last; a++)
        if (a != along)
            *(a < along ? &outer : &job.inner) *= t->shape[a];
    job.transforms = outer * job.inner;
    job.in_inner = parts;
    job.in_step = job.inner * parts;
    job.in_outer = count * job.in_step;
    job.out_inner = shape[last];
    job.out_step = job.inner * shape[last];
    job.out_outer = job.bins * job.out_step;
    if (vl_count(t->axes, shape) < 0)
        return VL_DECLINED;
    vl_tensor copy;
    const vl_tensor *from = vl_contiguous(f, t, &copy);
    if (!from)
        return VL_NO_MEMORY;
    job.x = from->data;
    vl_tensor *out = vl_new(f, i, 0, type, last + 1, shape);
    int answer = VL_NO_MEMORY;
    if (out) {
        job.out = out->data;
        answer = transform_all(f, &job, i->ints[3] == n ? i->objects[0] : NULL);
    }
    vl_block_drop(f, copy.block);
    return answer;
}

/* "stft": signal [B, N, 1 or 2] or [B, N], step, window or none, length or none; ints: whether onesided, the length whose
 * roots objects hold, 0 for none. */
static int stft(vl_frame *f, const vl_instruction *i)
{
    const vl_tensor *t = vl_in(f, i, 0), *window = vl_in(f, i, 2);
    const int onesided = (int)i->ints[0];
    int64_t step, n = 0;
    if (!is_transformable(t) || t->axes < 2 || t->axes > 3 || !number_of(vl_in(f, i, 1), &step))
        return VL_DECLINED;
    const int64_t parts = t->axes == 3 ? t->shape[2] : 1, samples = t->shape[1];
    n = window && window->axes == 1 ? window->shape[0] : samples;
    if ((vl_has_in(i, 3) && !number_of(vl_in(f, i, 3), &n)) || parts < 1 || parts > 2 || (onesided && parts == 2))
        return VL_DECLINED;
    if (vl_has_in(i, 2) &&
        (!window || window->type != t->type || window->axes != 1 || window->shape[0] != n || !vl_is_contiguous(window)))
        return VL_DECLINED;
    vl_transforms job = {.kernels = vl_kernels_for(f, t->type), .type = t->type, .sign = -1, .is_complex = parts == 2};
    if (step < 1 || n > samples || !prepare(&job, n, parts == 1))
        return VL_DECLINED;
    job.taken = n;
    job.bins = onesided ? n / 2 + 1 : n;
    job.inner = (samples - n) / step + 1;
    job.transforms = t->shape[0] * job.inner;
    job.in_step = parts;
    job.in_inner = step * parts;
    job.in_outer = samples * parts;
    job.out_step = 2;
    job.out_inner = 2 * job.bins;
    job.out_outer = job.inner * job.out_inner;
    const int64_t shape[4] = {t->shape[0], job.inner, job.bins, 2};
    if (vl_count(4, shape) < 0)
        return VL_DECLINED;
    job.window = window ? window->data : NULL;
    vl_tensor copy;
    const vl_tensor *from = vl_contiguous(f, t, &copy);
    if (!from)
        return VL_NO_MEMORY;
    job.x = from->data;
    vl_tensor *out = vl_new(f, i, 0, job.type, 4, shape);
    int answer = VL_NO_MEMORY;
    if (out) {
        job.out = out->data;
        answer = transform_all(f, &job, i->ints[1] == n ? i->objects[0] : NULL);
    }
    vl_block_drop(f, copy.block);
    return answer;
}

const vl_named_handler vl_fourier_handlers[] = {{"dft", dft}, {"stft", stft}, {NULL, NULL}};
