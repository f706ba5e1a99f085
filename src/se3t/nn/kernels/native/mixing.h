/* Linear maps of the features of every row, all degrees at once: out^l = W^l f^l, plus a bias for l = 0. The channels of
   f^l come in parts, one behind the other. */
#pragma once
#include "rows.h"

typedef struct {
    i64 num_rows, num_threads, num_degrees, num_parts;
    const i64 *degrees, *channels_out;
    const i64 *channels_in;    /* [part][degree], 0 where a part lacks the degree */
    const Field *parts;        /* [part][degree] */
    const REAL *const *weight; /* [degree] -> [w, u] */
    const REAL *bias;          /* [w] of degree 0, or NULL */
    const Field *out;          /* [degree], component-major */
    /* gradients */
    const Field *out_grads, *part_grads; /* the latter component-major */
    REAL *const *weight_grads;
    REAL *bias_grads;
} Mixing;

enum { MIXED_ROWS = 64 }; /* components of some rows, at a time */

/* c[r][column] (+)= sum over k of a[r, k] b[k][column], tiles of `rows` x `width` vectors; a may have any strides. */
INLINE void product_tile(
    const int rows, const int width, i64 inner, const REAL *a, i64 row_step, i64 inner_step, const REAL *b, i64 b_step,
    REAL *c, i64 c_step, int add
) {
    vec sum[8][2];
#pragma GCC unroll 8
    for (int r = 0; r < rows; r++)
#pragma GCC unroll 2
        for (int v = 0; v < width; v++) sum[r][v] = add ? LOAD(c + r * c_step + v * VL) : (vec){0};
    for (i64 k = 0; k < inner; k++) {
        vec right[2];
#pragma GCC unroll 2
        for (int v = 0; v < width; v++) right[v] = LOAD(b + k * b_step + v * VL);
#pragma GCC unroll 8
        for (int r = 0; r < rows; r++)
#pragma GCC unroll 2
            for (int v = 0; v < width; v++) sum[r][v] += a[r * row_step + k * inner_step] * right[v];
    }
#pragma GCC unroll 8
    for (int r = 0; r < rows; r++)
#pragma GCC unroll 2
        for (int v = 0; v < width; v++) STORE(c + r * c_step + v * VL, sum[r][v]);
}

INLINE void product_columns(
    const int width, i64 rows, i64 inner, const REAL *a, i64 row_step, i64 inner_step, const REAL *b, i64 b_step, REAL *c,
    i64 c_step, int add
) {
    i64 r = 0;
#define SOME_ROWS(count)                                                                                               \
    for (; r + count <= rows; r += count)                                                                              \
        product_tile(count, width, inner, a + r * row_step, row_step, inner_step, b, b_step, c + r * c_step, c_step, add);
    if (width == 1) SOME_ROWS(8)
    SOME_ROWS(4)
    SOME_ROWS(1)
#undef SOME_ROWS
}

static void product(
    i64 rows, i64 columns, i64 inner, const REAL *a, i64 row_step, i64 inner_step, const REAL *b, i64 b_step, REAL *c,
    i64 c_step, int add
) {
    i64 column = 0;
    for (; column + 2 * VL <= columns; column += 2 * VL)
        product_columns(2, rows, inner, a, row_step, inner_step, b + column, b_step, c + column, c_step, add);
    if (column < columns) product_columns(1, rows, inner, a, row_step, inner_step, b + column, b_step, c + column, c_step, add);
}

static i64 inputs_of(const Mixing *mixing, i64 d) {
    i64 inputs = 0;
    for (i64 p = 0; p < mixing->num_parts; p++) inputs += mixing->channels_in[p * mixing->num_degrees + d];
    return inputs;
}

/* Whether the components of all rows follow each other without gaps, so that products read them where they are. */
static int is_dense(const Field *field, i64 size, i64 channels) {
    return field->channel == 1 && field->row == size * channels && (size == 1 || field->component == channels);
}

/* Some rows of a part, `channels` from one component to the next: where they are, or copied to `room`. */
static const REAL *rows_of_part(const Field *field, i64 size, i64 channels, i64 first, i64 last, REAL *room) {
    if (is_dense(field, size, channels)) return field->data + first * field->row;
    REAL *to = room;
    for (i64 row = first; row < last; row++)
        for (i64 c = 0; c < size; c++, to += channels) {
            const REAL *from = field->data + row * field->row + c * field->component;
            read_channels(from, field->channel, channels, round_up(channels, SHORT), to); /* ends in the next one */
        }
    return room;
}

/* [row][comp][step] to some rows of a field, component-major. */
static void store_rows(const Field *field, i64 size, i64 channels, i64 first, i64 last, const REAL *from, i64 step) {
    for (i64 row = first; row < last; row++)
        for (i64 c = 0; c < size; c++, from += step)
            write_channels(field->data + row * field->row + c * field->component, 1, channels, from);
}

/* Room for the rows of a thread, and for the weights of a degree: [u][w padded] and [w][u padded]. */
typedef struct {
    REAL *in, *out, *by_input, *by_output, *grads;
} MixingRoom;

static void mix_rows(const Mixing *mixing, i64 d, i64 first, i64 last, const MixingRoom *room) {
    i64 size = 2 * mixing->degrees[d] + 1, outputs = mixing->channels_out[d], out_step = round_up(outputs, VL);
    i64 rows = (last - first) * size, place = 0;
    for (i64 p = 0; p < mixing->num_parts; p++) {
        i64 number = p * mixing->num_degrees + d, channels = mixing->channels_in[number];
        if (!channels) continue;
        const REAL *in = rows_of_part(mixing->parts + number, size, channels, first, last, room->in);
        product(rows, out_step, channels, in, channels, 1, room->by_input + place * out_step, out_step, room->out, out_step, place > 0);
        place += channels;
    }
    for (i64 row = 0; row < rows && size == 1 && mixing->bias; row++)
        for (i64 w = 0; w < outputs; w++) room->out[row * out_step + w] += mixing->bias[w];
    store_rows(mixing->out + d, size, outputs, first, last, room->out, out_step);
}

static void mix_rows_backward(const Mixing *mixing, i64 d, i64 first, i64 last, const MixingRoom *room, REAL *bias_grads) {
    i64 size = 2 * mixing->degrees[d] + 1, inputs = inputs_of(mixing, d), outputs = mixing->channels_out[d];
    i64 in_step = round_up(inputs, VL), out_step = round_up(outputs, VL), rows = (last - first) * size, place = 0;
    for (i64 row = first; row < last; row++) {
        REAL *grad = room->out + (row - first) * size * out_step;
        read_field(mixing->out_grads + d, row, mixing->degrees[d], outputs, out_step, grad);
        for (i64 w = 0; w < outputs && size == 1 && mixing->bias; w++) bias_grads[w] += grad[w];
    }
    for (i64 p = 0; p < mixing->num_parts; p++) {
        i64 number = p * mixing->num_degrees + d, channels = mixing->channels_in[number];
        if (!channels) continue;
        const REAL *in = rows_of_part(mixing->parts + number, size, channels, first, last, room->in);
        product(channels, out_step, rows, in, 1, channels, room->out, out_step, room->grads + place * out_step, out_step, 1);
        place += channels;
    }
    product(rows, in_step, outputs, room->out, out_step, 1, room->by_output, in_step, room->in, in_step, 0);
    place = 0;
    for (i64 p = 0; p < mixing->num_parts; p++) {
        i64 number = p * mixing->num_degrees + d, channels = mixing->channels_in[number];
        if (channels) store_rows(mixing->part_grads + number, size, channels, first, last, room->in + place, in_step);
        place += channels;
    }
}

/* One degree: all rows by all threads; with `backward` the sums of the threads, too. Returns 1 where memory is short. */
static int mix_degree(const Mixing *mixing, i64 d, int backward) {
    i64 inputs = inputs_of(mixing, d), outputs = mixing->channels_out[d], size = 2 * mixing->degrees[d] + 1;
    i64 in_step = round_up(inputs, VL), out_step = round_up(outputs, VL), at_once = larger(1, MIXED_ROWS / size);
    i64 packed = inputs * out_step + outputs * in_step, rows = at_once * size * (in_step + out_step);
    i64 own = rows + (backward ? (inputs + 1) * out_step : 0); /* gradients of weights, then of the bias */
    REAL *memory = calloc(packed + mixing->num_threads * own, sizeof(REAL));
    if (!memory) return 1;
    const REAL *weight = mixing->weight[d];
    for (i64 w = 0; w < outputs; w++)
        for (i64 u = 0; u < inputs; u++)
            memory[u * out_step + w] = memory[inputs * out_step + w * in_step + u] = weight[w * inputs + u];
    i64 blocks = (mixing->num_rows + at_once - 1) / at_once;
#pragma omp parallel for schedule(static, 1) num_threads(mixing->num_threads) if (mixing->num_threads > 1)
    for (i64 t = 0; t < mixing->num_threads; t++) {
        REAL *place = memory + packed + t * own;
        MixingRoom room = {place, place + at_once * size * in_step, memory, memory + inputs * out_step, place + rows};
        for (i64 block = blocks * t / mixing->num_threads; block < blocks * (t + 1) / mixing->num_threads; block++) {
            i64 first = block * at_once, last = smaller(first + at_once, mixing->num_rows);
            if (backward) mix_rows_backward(mixing, d, first, last, &room, room.grads + inputs * out_step);
            else mix_rows(mixing, d, first, last, &room);
        }
    }
    for (i64 u = 0; backward && u < inputs + (size == 1 && mixing->bias); u++)
        for (i64 w = 0; w < outputs; w++) {
            REAL sum = 0;
            for (i64 t = 0; t < mixing->num_threads; t++) sum += memory[packed + t * own + rows + u * out_step + w];
            if (u < inputs) mixing->weight_grads[d][w * inputs + u] = sum;
            else mixing->bias_grads[w] = sum;
        }
    free(memory);
    return 0;
}

/* The maps, or with `backward` the gradients. Returns 0, or 1 where memory is short. */
EXPORT int mix(const Mixing *mixing, int backward) {
    int status = 0;
    for (i64 d = 0; d < mixing->num_degrees; d++) status |= mix_degree(mixing, d, backward);
    return status;
}
