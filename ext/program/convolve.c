/* Blocks of a convolution: see convolve.h. `job` is one call, `layer` its convolution, a block so many places of it.
 *
 * One file of more than 400 lines, as what plans blocks and what runs them must agree on their sizes: both ask the same
 * few functions at the top. Two extensions compile it. */
#include "convolve.h"

#include <string.h>

static ptrdiff_t least(ptrdiff_t a, ptrdiff_t b) { return a < b ? a : b; }
static ptrdiff_t most(ptrdiff_t a, ptrdiff_t b) { return a > b ? a : b; }
static ptrdiff_t up_to(ptrdiff_t n, ptrdiff_t unit) { return (n + unit - 1) / unit * unit; }
/* Rows or columns that make whole tiles of Winograd's. */
static ptrdiff_t tiled(const vl_convolution *layer, int axis)
{
    return layer->form == VL_BY_WINOGRAD ? 2 * layer->dilation[axis] : 2;
}
/* The same, and whole windows of a pool's: blocks have so many, or a multiple of it. */
static ptrdiff_t unit(const vl_convolving *job, int axis)
{
    ptrdiff_t pool = job->pool[axis - 1], tile = tiled(job->convolution, axis), n = tile;
    while (n % pool)
        n += tile;
    return n;
}
static size_t aligned(size_t bytes) { return (bytes + 63) & ~(size_t)63; }

/* Places q of a phase on one axis whose outputs q * step + first exist: [*from, *to). */
static void places(const vl_convolving *job, const vl_phase *phase, int axis, ptrdiff_t *from, ptrdiff_t *to)
{
    ptrdiff_t step = job->convolution->out_step[axis];
    ptrdiff_t first = phase->out_first[axis] - (job->transposed ? job->before[axis] : 0);
    *from = first >= 0 ? -(first / step) : (-first + step - 1) / step;
    ptrdiff_t last = job->out_size[axis] - 1 - first;
    *to = last >= 0 ? last / step + 1 : -((-last + step - 1) / step) + 1;
    if (*to < *from)
        *to = *from;
}

/* How many inputs `count` places of a phase reach over. */
static ptrdiff_t extent(const vl_convolution *layer, const vl_phase *phase, int axis, ptrdiff_t count)
{
    if (layer->form == VL_BY_WINOGRAD && axis > 0)
        count = up_to(count, tiled(layer, axis));
    return (count - 1) * layer->in_step[axis] + phase->high[axis] - phase->low[axis] + 1;
}

/* Elements from pixel to pixel of the copied input. Taps read pixels, rows of them and outputs side by side, all at one
 * channel: a distance that is a multiple of 512 bytes would bring them into a few sets of the nearest cache. */
static ptrdiff_t pixel_of(const vl_convolution *layer)
{
    enum { LINE = 64, CROWDED = 512 };
    return layer->form == VL_BY_TAPS && layer->channels * layer->itemsize % CROWDED == 0
               ? layer->channels + LINE / layer->itemsize
               : layer->channels;
}

static int region_of(const vl_convolution *layer, ptrdiff_t rows, ptrdiff_t columns, ptrdiff_t *elements)
{
    *elements = 0;
    for (int32_t k = 0; k < layer->phase_count; k++) {
        const vl_phase *phase = &layer->phases[k];
        ptrdiff_t n = pixel_of(layer);
        if (__builtin_mul_overflow(n, extent(layer, phase, 0, 1), &n) ||
            __builtin_mul_overflow(n, extent(layer, phase, 1, rows), &n) ||
            __builtin_mul_overflow(n, extent(layer, phase, 2, columns), &n) || n > PTRDIFF_MAX / 64)
            return -1;
        *elements = most(*elements, n);
    }
    return 0;
}

static ptrdiff_t count_blocks(const vl_convolving *job, const vl_phase *phase)
{
    ptrdiff_t n = 1, size[VL_SPATIAL] = {1, job->rows, job->columns};
    for (int axis = 0; axis < VL_SPATIAL; axis++) {
        ptrdiff_t from, to;
        places(job, phase, axis, &from, &to);
        n *= (to - from + size[axis] - 1) / size[axis];
    }
    return n;
}

/* ---- taps that only meet padding ---------------------------------------------------------------------- */

/* An axis with more taps keeps all: as many parts of it would be made as there are short inputs. */
enum { VL_MOST_LEFT_OUT_OF = 7 };

/* Whether some output's tap k on this axis is an input that exists. */
static int meets(const vl_convolving *job, int axis, ptrdiff_t k)
{
    const ptrdiff_t step = job->convolution->in_step[axis];
    const ptrdiff_t at = k * job->convolution->dilation[axis] - job->before[axis]; /* of output 0 */
    const ptrdiff_t output = at >= 0 ? 0 : (-at + step - 1) / step;
    return output < job->out_size[axis] && output * step + at < job->in_size[axis];
}

/* Whether what is left is little enough. Winograd makes 16 products for a whole or a broken tile of outputs; else a third
 * of the taps has to go for weights that are kept twice. */
static int worth_it(const vl_convolving *job, double left)
{
    const vl_convolution *layer = job->convolution;
    double outputs = 1, tiles = 1, taps = 1;
    for (int axis = 0; axis < VL_SPATIAL; axis++) {
        outputs *= (double)job->out_size[axis];
        tiles *= (double)(axis ? (job->out_size[axis] + 1) / 2 : job->out_size[axis]);
        taps *= layer->kernel[axis];
    }
    return layer->form == VL_BY_WINOGRAD ? left * outputs <= 16 * tiles : 3 * left <= 2 * taps;
}

int vl_leave_out(vl_convolving *job, vl_taps_met *met)
{
    const vl_convolution *layer = job->convolution;
    double left = 1;
    int all = 1;
    if (!layer->leaves_out || !job->samples)
        return 1;
    for (int axis = 0; axis < VL_SPATIAL; axis++) {
        ptrdiff_t first = 0, end = layer->kernel[axis];
        if (end <= VL_MOST_LEFT_OUT_OF) {
            while (first < end && !meets(job, axis, first))
                first++;
            while (first < end && !meets(job, axis, end - 1))
                end--;
        }
        if (first == end) /* no input or no output */
            return 1;
        met->first[axis] = (int32_t)first;
        met->count[axis] = (int32_t)(end - first);
        left *= (double)(end - first);
        all &= end - first == layer->kernel[axis];
    }
    if (all || !worth_it(job, left))
        return 1;
    const vl_convolution *fewer = __atomic_load_n(&layer->fewer, __ATOMIC_ACQUIRE);
    while (fewer && (memcmp(fewer->first, met->first, sizeof met->first) != 0 ||
                     memcmp(fewer->kernel, met->count, sizeof met->count) != 0))
        fewer = fewer->next;
    if (!fewer)
        return 0;
    for (int axis = 0; axis < VL_SPATIAL; axis++)
        job->before[axis] -= (ptrdiff_t)met->first[axis] * layer->dilation[axis];
    job->convolution = fewer;
    return 1;
}

/* ---- the plan ----------------------------------------------------------------------------------------- */

int vl_convolving_plan(vl_convolving *job, int threads)
{
    const vl_convolution *layer = job->convolution;
    const ptrdiff_t budget = (ptrdiff_t)job->limits->region_bytes / layer->itemsize;
    ptrdiff_t height = 1, width = 1, depth = 0;
    job->taps = 1;
    for (int32_t k = 0; k < layer->phase_count; k++) {
        ptrdiff_t from, to;
        places(job, &layer->phases[k], 1, &from, &to);
        height = most(height, to - from);
        places(job, &layer->phases[k], 2, &from, &to);
        width = most(width, to - from);
        job->taps = most(job->taps, layer->phases[k].run_count);
        depth += layer->phases[k].depth;
    }
    const int pools = job->pool[0] * job->pool[1] > 1;
    const ptrdiff_t tall = unit(job, 1), wide = unit(job, 2);
    ptrdiff_t pixels = (ptrdiff_t)job->limits->most_pixels;
    if (pools)
        pixels = most(least(pixels, budget / layer->out_channels), tall * wide);
    job->taps = most(job->taps, job->pool[0] * job->pool[1]);
    job->rows = least(height, up_to((ptrdiff_t)job->limits->wanted_rows, tall));
    job->columns = width;
    if (region_of(layer, job->rows, job->columns, &job->region) < 0)
        return -1;
    while (job->region > budget && job->columns > up_to((ptrdiff_t)job->limits->wanted_columns, wide)) {
        job->columns = up_to((job->columns + 1) / 2, wide);
        region_of(layer, job->rows, job->columns, &job->region);
    }
    while (job->region > budget && job->rows > tall) {
        job->rows = up_to((job->rows + 1) / 2, tall);
        region_of(layer, job->rows, job->columns, &job->region);
    }
    while (job->rows * job->columns > pixels && job->rows > tall)
        job->rows = up_to(job->rows / 2, tall);
    for (ptrdiff_t more = job->rows, region; more < height; job->rows = more, job->region = region) {
        more = least(2 * more, height);
        if (more * job->columns > pixels || region_of(layer, more, job->columns, &region) < 0 || region > budget)
            break;
    }
    if (job->columns > pixels / job->rows)
        job->columns = most(pixels / job->rows / wide * wide, wide);

    double work =
        (double)job->samples * (double)(layer->out_channels / layer->groups) * (double)depth / layer->phase_count;
    for (int axis = 0; axis < VL_SPATIAL; axis++)
        work *= (double)job->out_size[axis];
    job->members =
        work < (double)threads * job->limits->thread_work ? (int)(work / job->limits->thread_work) + 1 : threads;
    for (;;) {
        ptrdiff_t blocks = 0;
        for (int32_t k = 0; k < layer->phase_count; k++)
            blocks += job->samples * count_blocks(job, &layer->phases[k]);
        const int tallest = job->rows > tall;
        if (job->members == 1 || blocks >= job->members * (ptrdiff_t)job->limits->blocks_a_member ||
            (!tallest && job->columns <= most(32, wide))) {
            job->members = (int)most(least(job->members, blocks), 1);
            break;
        }
        if (tallest)
            job->rows = up_to((job->rows + 1) / 2, tall);
        else
            job->columns = up_to((job->columns + 1) / 2, wide);
    }
    if (region_of(layer, job->rows, job->columns, &job->region) < 0)
        return -1;
    job->pixels = job->rows * job->columns;
    ptrdiff_t lanes = layer->kernels->lanes, vectors = (layer->out_channels + lanes - 1) / lanes, product = 0;
    if (layer->form == VL_BY_WINOGRAD)
        product = VL_WINOGRAD_SCRATCH(layer->channels, vectors, lanes);
    job->unpooled = pools ? job->pixels * layer->out_channels : 0;
    job->scratch_bytes =
        aligned((size_t)(job->region + product) * layer->itemsize) + aligned((size_t)job->unpooled * layer->itemsize) +
        aligned((size_t)job->pixels * (2 * sizeof(ptrdiff_t) + 2)) + aligned((size_t)job->taps * sizeof(vl_segment));
    return job->scratch_bytes > PTRDIFF_MAX / 64 / (size_t)job->members ? -1 : 0;
}

/* ---- the copied input -------------------------------------------------------------------------------- */

/* Copies of channels: pixel i's number k is the channel source[k] at x[i * step + source[k] * channel]. */
static void pick_pixels(const vl_convolving *job, const char *x, ptrdiff_t step, ptrdiff_t channel, char *to,
                        ptrdiff_t n)
{
    const vl_convolution *layer = job->convolution;
    const ptrdiff_t channels = layer->channels, pixel = pixel_of(layer);
    const int32_t *source = layer->source;
    if (layer->itemsize == 4)
        for (ptrdiff_t i = 0; i < n; i++)
            for (ptrdiff_t k = 0; k < channels; k++)
                ((float *)to)[i * pixel + k] = ((const float *)x)[i * step + (source ? source[k] : k) * channel];
    else
        for (ptrdiff_t i = 0; i < n; i++)
            for (ptrdiff_t k = 0; k < channels; k++)
                ((double *)to)[i * pixel + k] = ((const double *)x)[i * step + (source ? source[k] : k) * channel];
}

/* n pixels of one row, whose first is at x. */
static void copy_pixels(const vl_convolving *job, const char *x, char *to, ptrdiff_t n)
{
    const vl_convolution *layer = job->convolution;
    const ptrdiff_t item = layer->itemsize, step = job->x_strides[2], channel = job->x_channel,
                    channels = layer->channels, own = layer->in_channels;
    const ptrdiff_t pixel = pixel_of(layer);
    enum { TURNED_BYTES = 8192 }; /* pixels whose channels are brought side by side before copies of them are made */
    const ptrdiff_t some = TURNED_BYTES / (own * item);
    if (!layer->source && (channel == 1 || channels == 1) && (step == channels || n == 1) && pixel == channels)
        memcpy(to, x, (size_t)(n * channels * item));
    else if (!layer->source && (channel == 1 || channels == 1))
        for (ptrdiff_t i = 0; i < n; i++)
            memcpy(to + i * pixel * item, x + i * step * item, (size_t)(channels * item));
    else if (!layer->source && (step == 1 || n == 1))
        layer->kernels->transpose(channels, n, x, channel, to, pixel);
    else if (layer->source && channel != 1 && step == 1 && some > 0) {
        char turned[TURNED_BYTES] __attribute__((aligned(64)));
        for (ptrdiff_t i = 0, count; i < n; i += count) {
            count = least(n - i, some);
            layer->kernels->transpose(own, count, x + i * item, channel, turned, own);
            pick_pixels(job, turned, own, 1, to + i * pixel * item, count);
        }
    } else
        pick_pixels(job, x, step, channel, to, n);
}

/* size[] pixels from low[] on, zeros where there are none. */
static void copy_region(const vl_convolving *job, const char *x, const ptrdiff_t *low, const ptrdiff_t *size, char *to)
{
    const ptrdiff_t item = job->convolution->itemsize, pixel = pixel_of(job->convolution) * item;
    ptrdiff_t first = least(most(-low[2], 0), size[2]); /* of a row, the pixels that exist */
    ptrdiff_t end = most(least(job->in_size[2] - low[2], size[2]), first);
    const int whole = first == 0 && end == size[2] && end == job->in_size[2] &&
                      job->x_strides[1] == job->in_size[2] * job->x_strides[2]; /* rows are one long row */
    for (ptrdiff_t z = low[0]; z < low[0] + size[0]; z++)
        for (ptrdiff_t y = low[1], rows; y < low[1] + size[1]; y += rows, to += rows * size[2] * pixel) {
            rows = 1;
            if (z < 0 || z >= job->in_size[0] || y < 0 || y >= job->in_size[1] || first == end) {
                memset(to, 0, (size_t)(size[2] * pixel));
                continue;
            }
            const char *row =
                x + (z * job->x_strides[0] + y * job->x_strides[1] + (low[2] + first) * job->x_strides[2]) * item;
            if (whole) {
                rows = least(low[1] + size[1], job->in_size[1]) - y;
                copy_pixels(job, row, to, rows * size[2]);
                continue;
            }
            memset(to, 0, (size_t)(first * pixel));
            copy_pixels(job, row, to + first * pixel, end - first);
            memset(to + end * pixel, 0, (size_t)((size[2] - end) * pixel));
        }
}

/* ---- one block ------------------------------------------------------------------------------------------ */

typedef struct {
    const vl_phase *phase;
    ptrdiff_t sample, first[VL_SPATIAL], count[VL_SPATIAL]; /* places */
} vl_block_of_places;

static void run_winograd(const vl_convolving *job, const vl_block_of_places *block, const char *x, ptrdiff_t pitch,
                         char *out, ptrdiff_t row, ptrdiff_t *x_tiles, ptrdiff_t *out_tiles, char *product)
{
    const vl_convolution *layer = job->convolution;
    uint8_t *heights = (uint8_t *)(out_tiles + job->pixels), *widths = heights + job->pixels;
    const ptrdiff_t lanes = layer->kernels->lanes;
    ptrdiff_t tiles = 0;
    const ptrdiff_t tall = layer->dilation[1], wide = layer->dilation[2];
    for (ptrdiff_t y = 0; y < block->count[1]; y += y % tall == tall - 1 ? tall + 1 : 1)
        for (ptrdiff_t i = 0; i < block->count[2]; i += i % wide == wide - 1 ? wide + 1 : 1, tiles++) {
            x_tiles[tiles] = y * pitch + i * layer->channels;
            out_tiles[tiles] = y * row + i * layer->out_channels;
            heights[tiles] = y + tall < block->count[1] ? 2 : 1;
            widths[tiles] = i + wide < block->count[2] ? 2 : 1;
        }
    layer->kernels->winograd(&(vl_winograd){.tiles = tiles,
                                            .channels = layer->channels,
                                            .vectors = (layer->out_channels + lanes - 1) / lanes,
                                            .columns = layer->out_channels,
                                            .group = layer->group_vectors,
                                            .x_tiles = x_tiles,
                                            .out_tiles = out_tiles,
                                            .heights = heights,
                                            .widths = widths,
                                            .x_row = tall * pitch,
                                            .x_pixel = wide * layer->channels,
                                            .out_row = tall * row,
                                            .out_pixel = wide * layer->out_channels,
                                            .x = x,
                                            .w = block->phase->w[0],
                                            .bias = layer->bias ? layer->bias[0] : NULL,
                                            .out = out,
                                            .scratch = product,
                                            .epilogue = job->epilogue});
}

/* A block's results from where they wait. The arrays are free by then. */
static void run_pool(const vl_convolving *job, const vl_block_of_places *block, const char *unpooled, ptrdiff_t *x_rows,
                     ptrdiff_t *out_rows, ptrdiff_t *taps)
{
    const vl_convolution *layer = job->convolution;
    const ptrdiff_t outputs = layer->out_channels, tall = job->pool[0], wide = job->pool[1];
    const ptrdiff_t height = job->out_size[1] / tall, width = job->out_size[2] / wide, row = block->count[2] * outputs;
    ptrdiff_t n = 0, pixels = 0;
    for (ptrdiff_t y = 0; y < tall; y++)
        for (ptrdiff_t i = 0; i < wide; i++)
            taps[n++] = y * row + i * outputs;
    for (ptrdiff_t y = 0; y < block->count[1]; y += tall)
        for (ptrdiff_t i = 0; i < block->count[2]; i += wide, pixels++) {
            x_rows[pixels] = y * row + i * outputs;
            out_rows[pixels] = ((block->first[1] + y) / tall * width + (block->first[2] + i) / wide) * outputs;
        }
    layer->kernels->pool(&(vl_pool){.rows = pixels,
                                    .taps = n,
                                    .channels = outputs,
                                    .x_rows = x_rows,
                                    .x_taps = taps,
                                    .out_rows = out_rows,
                                    .divisor = job->divisor,
                                    .x = unpooled,
                                    .out = (char *)job->out + (block->sample * job->out_size[0] + block->first[0]) *
                                                                  height * width * outputs * layer->itemsize});
}

/* Whether a row of the input lies as the kernels read it. */
static int readable(const vl_convolving *job)
{
    const vl_convolution *layer = job->convolution;
    return !layer->source && (job->x_channel == 1 || layer->channels == 1) &&
           (job->x_strides[2] == layer->channels || job->in_size[2] == 1);
}

static void run_block(const vl_convolving *job, const vl_block_of_places *block, char *scratch)
{
    const vl_convolution *layer = job->convolution;
    const vl_phase *phase = block->phase;
    const ptrdiff_t item = layer->itemsize, channels = layer->channels, outputs = layer->out_channels;
    ptrdiff_t low[VL_SPATIAL], size[VL_SPATIAL], out_first[VL_SPATIAL];
    int inside = readable(job) && pixel_of(layer) == channels;
    for (int axis = 0; axis < VL_SPATIAL; axis++) {
        ptrdiff_t before = job->before[axis];
        low[axis] = block->first[axis] * layer->in_step[axis] + phase->low[axis] - (job->transposed ? 0 : before);
        size[axis] = extent(layer, phase, axis, block->count[axis]);
        inside &= low[axis] >= 0 && low[axis] + size[axis] <= job->in_size[axis];
        out_first[axis] =
            block->first[axis] * layer->out_step[axis] + phase->out_first[axis] - (job->transposed ? before : 0);
    }
    /* scratch: the copied input and Winograd's products, results that a pool takes, places, segments */
    const size_t place_bytes = aligned((size_t)job->pixels * (2 * sizeof(ptrdiff_t) + 2));
    const size_t segment_bytes = aligned((size_t)job->taps * sizeof(vl_segment));
    char *places_at = scratch + job->scratch_bytes - segment_bytes - place_bytes, *unpooled = places_at;
    unpooled -= aligned((size_t)job->unpooled * item);
    ptrdiff_t *x_rows = (ptrdiff_t *)places_at, *out_rows = x_rows + job->pixels;
    vl_segment *segments = (vl_segment *)(places_at + place_bytes);
    ptrdiff_t *taps = (ptrdiff_t *)segments;

    const char *x = (const char *)job->x + block->sample * job->x_sample * item;
    ptrdiff_t plane = job->x_strides[0], row = job->x_strides[1], pixel = channels;
    if (inside)
        x += (low[0] * plane + low[1] * row + low[2] * channels) * item;
    else if (phase->run_count) {
        copy_region(job, x, low, size, scratch);
        x = scratch;
        pixel = pixel_of(layer);
        row = size[2] * pixel;
        plane = size[1] * row;
    }
    char *out = unpooled;
    ptrdiff_t out_row = block->count[2] * outputs;
    if (!job->unpooled) {
        out_row = job->out_size[2] * outputs;
        out = (char *)job->out +
              (((block->sample * job->out_size[0] + out_first[0]) * job->out_size[1] + out_first[1]) * out_row +
               out_first[2] * outputs) *
                  item;
    }
    if (layer->form == VL_BY_WINOGRAD) {
        run_winograd(job, block, x, row, out, out_row, x_rows, out_rows, scratch + job->region * item);
        if (job->unpooled)
            run_pool(job, block, unpooled, x_rows, out_rows, taps);
        return;
    }
    ptrdiff_t pixels = 0;
    for (ptrdiff_t y = 0; y < block->count[1]; y++)
        for (ptrdiff_t i = 0; i < block->count[2]; i++, pixels++) {
            x_rows[pixels] = y * layer->in_step[1] * row + i * layer->in_step[2] * pixel;
            out_rows[pixels] = y * layer->out_step[1] * out_row + i * layer->out_step[2] * outputs;
        }
    for (int32_t k = 0; k < phase->run_count; k++) {
        const vl_run_of_taps *run = &phase->runs[k];
        ptrdiff_t offset = (run->place[0] - phase->low[0]) * plane + (run->place[1] - phase->low[1]) * row +
                           (run->place[2] - phase->low[2]) * pixel + run->channel;
        if (layer->form == VL_BY_TAPS)
            taps[k] = offset;
        else
            segments[k] = (vl_segment){offset, run->length};
    }
    if (layer->form == VL_BY_TAPS)
        layer->kernels->taps(&(vl_taps){.rows = pixels,
                                        .taps = phase->run_count,
                                        .channels = outputs,
                                        .x_rows = x_rows,
                                        .x_taps = taps,
                                        .out_rows = out_rows,
                                        .x = x,
                                        .w = phase->w[0],
                                        .bias = layer->bias ? layer->bias[0] : NULL,
                                        .out = out,
                                        .epilogue = job->epilogue});
    else {
        const ptrdiff_t own_in = layer->in_channels / layer->groups, own_out = outputs / layer->groups,
                        lanes = layer->kernels->lanes;
        vl_epilogue epilogue = *job->epilogue;
        /* outputs of a group that are no whole vector wait for the other groups': all of a pixel are finished as one */
        const int together = layer->groups > 1 && own_out < lanes;
        if (together)
            epilogue.kind = VL_AS_IT_IS;
        for (ptrdiff_t g = 0; g < layer->groups; g++) {
            (layer->form == VL_BY_DOTS ? layer->kernels->dots : layer->kernels->windows)(
                &(vl_windows){.rows = pixels,
                              .depth = phase->depth,
                              .x_rows = x_rows,
                              .out_rows = out_rows,
                              .segments = segments,
                              .segment_count = phase->run_count,
                              .parts = phase->parts,
                              .part_count = phase->part_count,
                              .vectors = (own_out + lanes - 1) / lanes,
                              .columns = own_out,
                              .group = layer->group_vectors,
                              .x = x + g * own_in * item,
                              .w = phase->w[g],
                              .bias = layer->bias ? layer->bias[g] : NULL,
                              .out = out + g * own_out * item,
                              .epilogue = &epilogue});
            epilogue.channel += own_out;
        }
        if (together)
            layer->kernels->finish(job->epilogue, pixels, outputs, out, out_rows);
    }
    if (job->unpooled)
        run_pool(job, block, unpooled, x_rows, out_rows, taps);
}

/* A block whose input lies as it is read but for the edges: what is inside of them is read in place. Worth it where
 * there is little to do for each input; else the edges' few and odd places cost more than copying everything. */
enum { VL_FEW_TAPS = 9 };
static void run_in_pieces(const vl_convolving *job, const vl_block_of_places *block, char *scratch)
{
    const vl_convolution *layer = job->convolution;
    ptrdiff_t bounds[VL_SPATIAL][4];
    for (int axis = 1; axis < VL_SPATIAL; axis++) {
        const ptrdiff_t shift = job->transposed ? 0 : job->before[axis], step = layer->in_step[axis],
                        first = block->first[axis];
        ptrdiff_t least_q = shift - block->phase->low[axis],
                  most_q = job->in_size[axis] - 1 - block->phase->high[axis] + shift;
        ptrdiff_t from = least_q > 0 ? (least_q + step - 1) / step : 0, to = most_q < 0 ? 0 : most_q / step + 1;
        ptrdiff_t *own = bounds[axis];
        own[0] = first;
        own[3] = first + block->count[axis];
        own[1] = least(most(from, own[0]), own[3]);
        own[2] = least(most(to, own[1]), own[3]);
    }
    for (int y = 0; y < 3; y++)
        for (int i = 0; i < 3; i++) {
            vl_block_of_places piece = *block;
            piece.first[1] = bounds[1][y];
            piece.count[1] = bounds[1][y + 1] - bounds[1][y];
            piece.first[2] = bounds[2][i];
            piece.count[2] = bounds[2][i + 1] - bounds[2][i];
            if (piece.count[1] > 0 && piece.count[2] > 0)
                run_block(job, &piece, scratch);
        }
}

void vl_convolving_run(void *convolving, int member, int members)
{
    const vl_convolving *job = convolving;
    const vl_convolution *layer = job->convolution;
    char *scratch = job->scratch + (size_t)member * job->scratch_bytes;
    ptrdiff_t of_sample = 0;
    for (int32_t k = 0; k < layer->phase_count; k++)
        of_sample += count_blocks(job, &layer->phases[k]);
    const ptrdiff_t total = of_sample * job->samples, end = total * (member + 1) / members;
    const ptrdiff_t longest[VL_SPATIAL] = {1, job->rows, job->columns};
    for (ptrdiff_t n = total * member / members; n < end && !vl_shall_end(job->heed); n++) {
        vl_block_of_places block = {.sample = n / of_sample};
        ptrdiff_t left = n % of_sample;
        int32_t k = 0;
        for (ptrdiff_t own; left >= (own = count_blocks(job, &layer->phases[k])); k++)
            left -= own;
        block.phase = &layer->phases[k];
        for (int axis = VL_SPATIAL - 1; axis >= 0; axis--) {
            ptrdiff_t from, to, blocks;
            places(job, block.phase, axis, &from, &to);
            blocks = (to - from + longest[axis] - 1) / longest[axis];
            block.first[axis] = from + left % blocks * longest[axis];
            block.count[axis] = least(longest[axis], to - block.first[axis]);
            left /= blocks;
        }
        if (layer->form == VL_BY_TAPS && block.phase->run_count <= VL_FEW_TAPS && !job->unpooled && readable(job) &&
            pixel_of(layer) == layer->channels)
            run_in_pieces(job, &block, scratch);
        else
            run_block(job, &block, scratch);
    }
}
