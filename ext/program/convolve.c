/* Blocks of a convolution: see convolve.h. */
#include "convolve.h"

#include <string.h>

static ptrdiff_t least(ptrdiff_t a, ptrdiff_t b) { return a < b ? a : b; }
static ptrdiff_t most(ptrdiff_t a, ptrdiff_t b) { return a > b ? a : b; }
static ptrdiff_t up_to(ptrdiff_t n, ptrdiff_t unit) { return (n + unit - 1) / unit * unit; }
/* Rows or columns that make whole tiles of Winograd's. */
static ptrdiff_t tiled(const vl_convolution *v, int axis)
{
    return v->form == VL_BY_WINOGRAD ? 2 * v->dilation[axis] : 2;
}
/* The same, and whole windows of a pool's: blocks have so many, or a multiple of it. */
static ptrdiff_t unit(const vl_convolving *c, int axis)
{
    ptrdiff_t pool = c->pool[axis - 1], tile = tiled(c->convolution, axis), n = tile;
    while (n % pool)
        n += tile;
    return n;
}
static size_t aligned(size_t bytes) { return (bytes + 63) & ~(size_t)63; }

/* Places q of a phase on one axis whose outputs q * step + first exist: [*from, *to). */
static void places(const vl_convolving *c, const vl_phase *phase, int axis, ptrdiff_t *from, ptrdiff_t *to)
{
    ptrdiff_t step = c->convolution->out_step[axis];
    ptrdiff_t first = phase->out_first[axis] - (c->transposed ? c->before[axis] : 0);
    *from = first >= 0 ? -(first / step) : (-first + step - 1) / step;
    ptrdiff_t last = c->out_size[axis] - 1 - first;
    *to = last >= 0 ? last / step + 1 : -((-last + step - 1) / step) + 1;
    if (*to < *from)
        *to = *from;
}

/* How many inputs `count` places of a phase reach over. */
static ptrdiff_t extent(const vl_convolution *v, const vl_phase *phase, int axis, ptrdiff_t count)
{
    if (v->form == VL_BY_WINOGRAD && axis > 0)
        count = up_to(count, tiled(v, axis));
    return (count - 1) * v->in_step[axis] + phase->high[axis] - phase->low[axis] + 1;
}

/* Elements from pixel to pixel of the copied input. Taps read pixels, rows of them and outputs side by side, all at one
 * channel: a distance that is a multiple of 512 bytes would bring them into a few sets of the nearest cache. */
static ptrdiff_t pixel_of(const vl_convolution *v)
{
    enum { LINE = 64, CROWDED = 512 };
    return v->form == VL_BY_TAPS && v->channels * v->itemsize % CROWDED == 0 ? v->channels + LINE / v->itemsize
                                                                             : v->channels;
}

static int region_of(const vl_convolution *v, ptrdiff_t rows, ptrdiff_t columns, ptrdiff_t *elements)
{
    *elements = 0;
    for (int32_t k = 0; k < v->phase_count; k++) {
        const vl_phase *phase = &v->phases[k];
        ptrdiff_t n = pixel_of(v);
        if (__builtin_mul_overflow(n, extent(v, phase, 0, 1), &n) ||
            __builtin_mul_overflow(n, extent(v, phase, 1, rows), &n) ||
            __builtin_mul_overflow(n, extent(v, phase, 2, columns), &n) || n > PTRDIFF_MAX / 64)
            return -1;
        *elements = most(*elements, n);
    }
    return 0;
}

static ptrdiff_t count_blocks(const vl_convolving *c, const vl_phase *phase)
{
    ptrdiff_t n = 1, size[VL_SPATIAL] = {1, c->rows, c->columns};
    for (int axis = 0; axis < VL_SPATIAL; axis++) {
        ptrdiff_t from, to;
        places(c, phase, axis, &from, &to);
        n *= (to - from + size[axis] - 1) / size[axis];
    }
    return n;
}

int vl_convolving_plan(vl_convolving *c, int threads)
{
    const vl_convolution *v = c->convolution;
    const ptrdiff_t budget = (ptrdiff_t)c->limits->region_bytes / v->itemsize;
    ptrdiff_t height = 1, width = 1, depth = 0;
    c->taps = 1;
    for (int32_t k = 0; k < v->phase_count; k++) {
        ptrdiff_t from, to;
        places(c, &v->phases[k], 1, &from, &to);
        height = most(height, to - from);
        places(c, &v->phases[k], 2, &from, &to);
        width = most(width, to - from);
        c->taps = most(c->taps, v->phases[k].run_count);
        depth += v->phases[k].depth;
    }
    const int pools = c->pool[0] * c->pool[1] > 1;
    const ptrdiff_t tall = unit(c, 1), wide = unit(c, 2);
    ptrdiff_t pixels = (ptrdiff_t)c->limits->most_pixels;
    if (pools)
        pixels = most(least(pixels, budget / v->out_channels), tall * wide);
    c->taps = most(c->taps, c->pool[0] * c->pool[1]);
    c->rows = least(height, up_to((ptrdiff_t)c->limits->wanted_rows, tall));
    c->columns = width;
    if (region_of(v, c->rows, c->columns, &c->region) < 0)
        return -1;
    while (c->region > budget && c->columns > up_to((ptrdiff_t)c->limits->wanted_columns, wide)) {
        c->columns = up_to((c->columns + 1) / 2, wide);
        region_of(v, c->rows, c->columns, &c->region);
    }
    while (c->region > budget && c->rows > tall) {
        c->rows = up_to((c->rows + 1) / 2, tall);
        region_of(v, c->rows, c->columns, &c->region);
    }
    while (c->rows * c->columns > pixels && c->rows > tall)
        c->rows = up_to(c->rows / 2, tall);
    for (ptrdiff_t more = c->rows, region; more < height; c->rows = more, c->region = region) {
        more = least(2 * more, height);
        if (more * c->columns > pixels || region_of(v, more, c->columns, &region) < 0 || region > budget)
            break;
    }
    if (c->columns > pixels / c->rows)
        c->columns = most(pixels / c->rows / wide * wide, wide);

    double work = (double)c->samples * (double)(v->out_channels / v->groups) * (double)depth / v->phase_count;
    for (int axis = 0; axis < VL_SPATIAL; axis++)
        work *= (double)c->out_size[axis];
    c->members = work < (double)threads * c->limits->thread_work ? (int)(work / c->limits->thread_work) + 1 : threads;
    for (;;) {
        ptrdiff_t blocks = 0;
        for (int32_t k = 0; k < v->phase_count; k++)
            blocks += c->samples * count_blocks(c, &v->phases[k]);
        const int tallest = c->rows > tall;
        if (c->members == 1 || blocks >= c->members * (ptrdiff_t)c->limits->blocks_a_member ||
            (!tallest && c->columns <= most(32, wide))) {
            c->members = (int)most(least(c->members, blocks), 1);
            break;
        }
        if (tallest)
            c->rows = up_to((c->rows + 1) / 2, tall);
        else
            c->columns = up_to((c->columns + 1) / 2, wide);
    }
    if (region_of(v, c->rows, c->columns, &c->region) < 0)
        return -1;
    c->pixels = c->rows * c->columns;
    ptrdiff_t lanes = v->kernels->lanes, vectors = (v->out_channels + lanes - 1) / lanes, product = 0;
    if (v->form == VL_BY_WINOGRAD)
        product = VL_WINOGRAD_SCRATCH(v->channels, vectors, lanes);
    c->unpooled = pools ? c->pixels * v->out_channels : 0;
    c->scratch_bytes =
        aligned((size_t)(c->region + product) * v->itemsize) + aligned((size_t)c->unpooled * v->itemsize) +
        aligned((size_t)c->pixels * (2 * sizeof(ptrdiff_t) + 2)) + aligned((size_t)c->taps * sizeof(vl_segment));
    return c->scratch_bytes > PTRDIFF_MAX / 64 / (size_t)c->members ? -1 : 0;
}

/* ---- the copied input -------------------------------------------------------------------------------- */

/* n pixels of one row, whose first is at x. */
static void copy_pixels(const vl_convolving *c, const char *x, char *to, ptrdiff_t n)
{
    const vl_convolution *v = c->convolution;
    const ptrdiff_t item = v->itemsize, step = c->x_strides[2], channel = c->x_channel, channels = v->channels;
    const ptrdiff_t pixel = pixel_of(v);
    if (!v->source && (channel == 1 || channels == 1) && (step == channels || n == 1) && pixel == channels)
        memcpy(to, x, (size_t)(n * channels * item));
    else if (!v->source && (channel == 1 || channels == 1))
        for (ptrdiff_t i = 0; i < n; i++)
            memcpy(to + i * pixel * item, x + i * step * item, (size_t)(channels * item));
    else if (!v->source && (step == 1 || n == 1))
        v->kernels->transpose(channels, n, x, channel, to, pixel);
    else if (item == 4)
        for (ptrdiff_t i = 0; i < n; i++)
            for (ptrdiff_t k = 0; k < channels; k++)
                ((float *)to)[i * pixel + k] = ((const float *)x)[i * step + (v->source ? v->source[k] : k) * channel];
    else
        for (ptrdiff_t i = 0; i < n; i++)
            for (ptrdiff_t k = 0; k < channels; k++)
                ((double *)to)[i * pixel + k] =
                    ((const double *)x)[i * step + (v->source ? v->source[k] : k) * channel];
}

/* size[] pixels from low[] on, zeros where there are none. */
static void copy_region(const vl_convolving *c, const char *x, const ptrdiff_t *low, const ptrdiff_t *size, char *to)
{
    const ptrdiff_t item = c->convolution->itemsize, pixel = pixel_of(c->convolution) * item;
    ptrdiff_t first = least(most(-low[2], 0), size[2]); /* of a row, the pixels that exist */
    ptrdiff_t end = most(least(c->in_size[2] - low[2], size[2]), first);
    for (ptrdiff_t z = low[0]; z < low[0] + size[0]; z++)
        for (ptrdiff_t y = low[1]; y < low[1] + size[1]; y++, to += size[2] * pixel) {
            if (z < 0 || z >= c->in_size[0] || y < 0 || y >= c->in_size[1] || first == end) {
                memset(to, 0, (size_t)(size[2] * pixel));
                continue;
            }
            const char *row =
                x + (z * c->x_strides[0] + y * c->x_strides[1] + (low[2] + first) * c->x_strides[2]) * item;
            memset(to, 0, (size_t)(first * pixel));
            copy_pixels(c, row, to + first * pixel, end - first);
            memset(to + end * pixel, 0, (size_t)((size[2] - end) * pixel));
        }
}

/* ---- one block ------------------------------------------------------------------------------------------ */

typedef struct {
    const vl_phase *phase;
    ptrdiff_t sample, first[VL_SPATIAL], count[VL_SPATIAL]; /* places */
} vl_block_of_places;

static void run_winograd(const vl_convolving *c, const vl_block_of_places *b, const char *x, ptrdiff_t pitch, char *out,
                         ptrdiff_t row, ptrdiff_t *x_tiles, ptrdiff_t *out_tiles, char *product)
{
    const vl_convolution *v = c->convolution;
    uint8_t *heights = (uint8_t *)(out_tiles + c->pixels), *widths = heights + c->pixels;
    const ptrdiff_t lanes = v->kernels->lanes;
    ptrdiff_t tiles = 0;
    const ptrdiff_t tall = v->dilation[1], wide = v->dilation[2];
    for (ptrdiff_t y = 0; y < b->count[1]; y += y % tall == tall - 1 ? tall + 1 : 1)
        for (ptrdiff_t i = 0; i < b->count[2]; i += i % wide == wide - 1 ? wide + 1 : 1, tiles++) {
            x_tiles[tiles] = y * pitch + i * v->channels;
            out_tiles[tiles] = y * row + i * v->out_channels;
            heights[tiles] = y + tall < b->count[1] ? 2 : 1;
            widths[tiles] = i + wide < b->count[2] ? 2 : 1;
        }
    v->kernels->winograd(&(vl_winograd){.tiles = tiles,
                                        .channels = v->channels,
                                        .vectors = (v->out_channels + lanes - 1) / lanes,
                                        .columns = v->out_channels,
                                        .group = v->group_vectors,
                                        .x_tiles = x_tiles,
                                        .out_tiles = out_tiles,
                                        .heights = heights,
                                        .widths = widths,
                                        .x_row = tall * pitch,
                                        .x_pixel = wide * v->channels,
                                        .out_row = tall * row,
                                        .out_pixel = wide * v->out_channels,
                                        .x = x,
                                        .w = b->phase->w[0],
                                        .bias = v->bias ? v->bias[0] : NULL,
                                        .out = out,
                                        .scratch = product,
                                        .epilogue = c->epilogue});
}

/* A block's results from where they wait. The arrays are free by then. */
static void run_pool(const vl_convolving *c, const vl_block_of_places *b, const char *unpooled, ptrdiff_t *x_rows,
                     ptrdiff_t *out_rows, ptrdiff_t *taps)
{
    const vl_convolution *v = c->convolution;
    const ptrdiff_t outputs = v->out_channels, tall = c->pool[0], wide = c->pool[1];
    const ptrdiff_t height = c->out_size[1] / tall, width = c->out_size[2] / wide, row = b->count[2] * outputs;
    ptrdiff_t n = 0, pixels = 0;
    for (ptrdiff_t y = 0; y < tall; y++)
        for (ptrdiff_t i = 0; i < wide; i++)
            taps[n++] = y * row + i * outputs;
    for (ptrdiff_t y = 0; y < b->count[1]; y += tall)
        for (ptrdiff_t i = 0; i < b->count[2]; i += wide, pixels++) {
            x_rows[pixels] = y * row + i * outputs;
            out_rows[pixels] = ((b->first[1] + y) / tall * width + (b->first[2] + i) / wide) * outputs;
        }
    v->kernels->pool(&(vl_pool){.rows = pixels,
                                .taps = n,
                                .channels = outputs,
                                .x_rows = x_rows,
                                .x_taps = taps,
                                .out_rows = out_rows,
                                .divisor = c->divisor,
                                .x = unpooled,
                                .out = (char *)c->out + (b->sample * c->out_size[0] + b->first[0]) * height * width *
                                                            outputs * v->itemsize});
}

/* Whether a row of the input lies as the kernels read it. */
static int readable(const vl_convolving *c)
{
    const vl_convolution *v = c->convolution;
    return !v->source && (c->x_channel == 1 || v->channels == 1) &&
           (c->x_strides[2] == v->channels || c->in_size[2] == 1);
}

static void run_block(const vl_convolving *c, const vl_block_of_places *b, char *scratch)
{
    const vl_convolution *v = c->convolution;
    const vl_phase *phase = b->phase;
    const ptrdiff_t item = v->itemsize, channels = v->channels, outputs = v->out_channels;
    ptrdiff_t low[VL_SPATIAL], size[VL_SPATIAL], out_first[VL_SPATIAL];
    int inside = readable(c) && pixel_of(v) == channels;
    for (int axis = 0; axis < VL_SPATIAL; axis++) {
        ptrdiff_t before = c->before[axis];
        low[axis] = b->first[axis] * v->in_step[axis] + phase->low[axis] - (c->transposed ? 0 : before);
        size[axis] = extent(v, phase, axis, b->count[axis]);
        inside &= low[axis] >= 0 && low[axis] + size[axis] <= c->in_size[axis];
        out_first[axis] = b->first[axis] * v->out_step[axis] + phase->out_first[axis] - (c->transposed ? before : 0);
    }
    /* scratch: the copied input and Winograd's products, results that a pool takes, places, segments */
    const size_t place_bytes = aligned((size_t)c->pixels * (2 * sizeof(ptrdiff_t) + 2));
    const size_t segment_bytes = aligned((size_t)c->taps * sizeof(vl_segment));
    char *places_at = scratch + c->scratch_bytes - segment_bytes - place_bytes, *unpooled = places_at;
    unpooled -= aligned((size_t)c->unpooled * item);
    ptrdiff_t *x_rows = (ptrdiff_t *)places_at, *out_rows = x_rows + c->pixels;
    vl_segment *segments = (vl_segment *)(places_at + place_bytes);
    ptrdiff_t *taps = (ptrdiff_t *)segments;

    const char *x = (const char *)c->x + b->sample * c->x_sample * item;
    ptrdiff_t plane = c->x_strides[0], row = c->x_strides[1], pixel = channels;
    if (inside)
        x += (low[0] * plane + low[1] * row + low[2] * channels) * item;
    else if (phase->run_count) {
        copy_region(c, x, low, size, scratch);
        x = scratch;
        pixel = pixel_of(v);
        row = size[2] * pixel;
        plane = size[1] * row;
    }
    char *out = unpooled;
    ptrdiff_t out_row = b->count[2] * outputs;
    if (!c->unpooled) {
        out_row = c->out_size[2] * outputs;
        out =
            (char *)c->out + (((b->sample * c->out_size[0] + out_first[0]) * c->out_size[1] + out_first[1]) * out_row +
                              out_first[2] * outputs) *
                                 item;
    }
    if (v->form == VL_BY_WINOGRAD) {
        run_winograd(c, b, x, row, out, out_row, x_rows, out_rows, scratch + c->region * item);
        if (c->unpooled)
            run_pool(c, b, unpooled, x_rows, out_rows, taps);
        return;
    }
    ptrdiff_t pixels = 0;
    for (ptrdiff_t y = 0; y < b->count[1]; y++)
        for (ptrdiff_t i = 0; i < b->count[2]; i++, pixels++) {
            x_rows[pixels] = y * v->in_step[1] * row + i * v->in_step[2] * pixel;
            out_rows[pixels] = y * v->out_step[1] * out_row + i * v->out_step[2] * outputs;
        }
    for (int32_t k = 0; k < phase->run_count; k++) {
        const vl_run_of_taps *t = &phase->runs[k];
        ptrdiff_t offset = (t->place[0] - phase->low[0]) * plane + (t->place[1] - phase->low[1]) * row +
                           (t->place[2] - phase->low[2]) * pixel + t->channel;
        if (v->form == VL_BY_TAPS)
            taps[k] = offset;
        else
            segments[k] = (vl_segment){offset, t->length};
    }
    if (v->form == VL_BY_TAPS)
        v->kernels->taps(&(vl_taps){.rows = pixels,
                                    .taps = phase->run_count,
                                    .channels = outputs,
                                    .x_rows = x_rows,
                                    .x_taps = taps,
                                    .out_rows = out_rows,
                                    .x = x,
                                    .w = phase->w[0],
                                    .bias = v->bias ? v->bias[0] : NULL,
                                    .out = out,
                                    .epilogue = c->epilogue});
    else {
        const ptrdiff_t own_in = v->in_channels / v->groups, own_out = outputs / v->groups, lanes = v->kernels->lanes;
        vl_epilogue epilogue = *c->epilogue;
        for (ptrdiff_t g = 0; g < v->groups; g++) {
            (v->form == VL_BY_DOTS ? v->kernels->dots
                                   : v->kernels->windows)(&(vl_windows){.rows = pixels,
                                                                        .depth = phase->depth,
                                                                        .x_rows = x_rows,
                                                                        .out_rows = out_rows,
                                                                        .segments = segments,
                                                                        .segment_count = phase->run_count,
                                                                        .parts = phase->parts,
                                                                        .part_count = phase->part_count,
                                                                        .vectors = (own_out + lanes - 1) / lanes,
                                                                        .columns = own_out,
                                                                        .group = v->group_vectors,
                                                                        .x = x + g * own_in * item,
                                                                        .w = phase->w[g],
                                                                        .bias = v->bias ? v->bias[g] : NULL,
                                                                        .out = out + g * own_out * item,
                                                                        .epilogue = &epilogue});
            epilogue.channel += own_out;
        }
    }
    if (c->unpooled)
        run_pool(c, b, unpooled, x_rows, out_rows, taps);
}

/* A block whose input lies as it is read but for the edges: what is inside of them is read in place. Worth it where
 * there is little to do for each input. */
static void run_in_pieces(const vl_convolving *c, const vl_block_of_places *b, char *scratch)
{
    const vl_convolution *v = c->convolution;
    ptrdiff_t bounds[VL_SPATIAL][4];
    for (int axis = 1; axis < VL_SPATIAL; axis++) {
        const ptrdiff_t shift = c->transposed ? 0 : c->before[axis], step = v->in_step[axis], first = b->first[axis];
        ptrdiff_t least_q = shift - b->phase->low[axis], most_q = c->in_size[axis] - 1 - b->phase->high[axis] + shift;
        ptrdiff_t from = least_q > 0 ? (least_q + step - 1) / step : 0, to = most_q < 0 ? 0 : most_q / step + 1;
        ptrdiff_t *own = bounds[axis];
        own[0] = first;
        own[3] = first + b->count[axis];
        own[1] = least(most(from, own[0]), own[3]);
        own[2] = least(most(to, own[1]), own[3]);
    }
    for (int y = 0; y < 3; y++)
        for (int i = 0; i < 3; i++) {
            vl_block_of_places piece = *b;
            piece.first[1] = bounds[1][y];
            piece.count[1] = bounds[1][y + 1] - bounds[1][y];
            piece.first[2] = bounds[2][i];
            piece.count[2] = bounds[2][i + 1] - bounds[2][i];
            if (piece.count[1] > 0 && piece.count[2] > 0)
                run_block(c, &piece, scratch);
        }
}

void vl_convolving_run(void *convolving, int member, int members)
{
    const vl_convolving *c = convolving;
    const vl_convolution *v = c->convolution;
    char *scratch = c->scratch + (size_t)member * c->scratch_bytes;
    ptrdiff_t of_sample = 0;
    for (int32_t k = 0; k < v->phase_count; k++)
        of_sample += count_blocks(c, &v->phases[k]);
    const ptrdiff_t total = of_sample * c->samples, end = total * (member + 1) / members;
    const ptrdiff_t longest[VL_SPATIAL] = {1, c->rows, c->columns};
    for (ptrdiff_t n = total * member / members; n < end && !vl_shall_end(c->heed); n++) {
        vl_block_of_places b = {.sample = n / of_sample};
        ptrdiff_t left = n % of_sample;
        int32_t k = 0;
        for (ptrdiff_t own; left >= (own = count_blocks(c, &v->phases[k])); k++)
            left -= own;
        b.phase = &v->phases[k];
        for (int axis = VL_SPATIAL - 1; axis >= 0; axis--) {
            ptrdiff_t from, to, blocks;
            places(c, b.phase, axis, &from, &to);
            blocks = (to - from + longest[axis] - 1) / longest[axis];
            b.first[axis] = from + left % blocks * longest[axis];
            b.count[axis] = least(longest[axis], to - b.first[axis]);
            left /= blocks;
        }
        if (v->form == VL_BY_TAPS && !c->unpooled && readable(c) && pixel_of(v) == v->channels)
            run_in_pieces(c, &b, scratch);
        else
            run_block(c, &b, scratch);
    }
}
