/* Blocks of rows of radial units: what a thread works with, and the units of a block. */
#pragma once
#include "rows.h"

enum { MAX_PARTS = 64 }; /* blocks at a time */

/* What one thread works with. */
typedef struct {
    const Convolution *conv;
    const Layout *layout;
    const Hidden *first, *second;
    const REAL *layer;    /* folded */
    const REAL *features; /* [point][in_size] */
    REAL *stacks, *stack_grads, *rows, *weights; /* stacks: rotated features; rows: messages or their gradients */
    REAL *units, *unit_grads;                    /* [block][trunk][unit][BLOCK], [block][trunk][BLOCK][width] */
    i64 *active, *num_active;                    /* [block][trunk][unit], [block][trunk] */
    struct {
        const REAL *features;
        REAL *stacks, *stack_grads, *rows, *messages, *weights, *units, *unit_grads;
    } tangent; /* of what has the same name; messages: rows of theirs */
    REAL *scratch;
    REAL *layer_grads, *feature_grads; /* private sums */
    Hidden first_grads, second_grads;
    i64 at_once; /* blocks */
} Worker;

typedef struct {
    i64 start, count, edges; /* rows of radial units; edges of each */
} Part;

/* Part number n of all rows: blocks of pairs, then blocks of single edges. */
static Part part_of(const Convolution *conv, i64 n) {
    i64 pair_blocks = (conv->num_pairs + BLOCK - 1) / BLOCK;
    if (n < pair_blocks) return (Part){n * BLOCK, smaller(BLOCK, conv->num_pairs - n * BLOCK), 2};
    i64 start = conv->num_pairs + (n - pair_blocks) * BLOCK;
    return (Part){start, smaller(BLOCK, conv->num_rows - start), 1};
}

static i64 num_parts(const Convolution *conv) {
    return (conv->num_pairs + BLOCK - 1) / BLOCK + (conv->num_rows - conv->num_pairs + BLOCK - 1) / BLOCK;
}

static i64 edge_of(const Convolution *conv, i64 row, i64 side) { return side ? conv->second[row] : conv->first[row]; }

static void read_inputs(const Convolution *conv, const REAL *invariants, Part part, REAL *inputs) {
    i64 count = conv->num_inputs;
    memset(inputs, 0, sizeof(REAL) * BLOCK * count);
    memcpy(inputs, invariants + part.start * count, sizeof(REAL) * part.count * count);
}

/* Gradients of a trunk's units of a block, [BLOCK][width]. */
static void read_unit_grads(const Worker *worker, i64 place, const REAL *compact, REAL *grads) {
    i64 width = worker->second->width;
    spread_unit_grads(worker->active + place * worker->layout->num_layer_rows,
                      worker->num_active[place] - worker->conv->has_bias, compact + place * BLOCK * width, width, grads);
}

/* Padding of the middle units has no gradient. */
static void clear_padding(const Worker *worker, REAL *middle_grads) {
    i64 width = worker->second->width;
    for (i64 p = 0; p < BLOCK; p++)
        for (i64 h = worker->conv->num_units; h < width; h++) middle_grads[p * width + h] = 0;
}

/* Those units [BLOCK][width] of a trunk, and their tangents if there are any, that are not zero for all rows. */
static void keep_active(Worker *worker, Part part, i64 place, const REAL *value, const REAL *tangent) {
    const Convolution *conv = worker->conv;
    i64 width = worker->second->width, units = conv->num_units, rows = worker->layout->num_layer_rows, count = 0;
    REAL *out = worker->units + place * rows * BLOCK, *out_tangent = worker->tangent.units + place * rows * BLOCK;
    i64 *active = worker->active + place * rows;
    for (i64 h = 0; h < units; h++) {
        REAL any = 0;
        for (i64 p = 0; p < BLOCK; p++) {
            REAL unit = p < part.count ? value[p * width + h] : 0;
            out[count * BLOCK + p] = unit;
            any = unit != 0 ? 1 : any;
        }
        for (i64 p = 0; p < BLOCK && tangent; p++) out_tangent[count * BLOCK + p] = p < part.count ? tangent[p * width + h] : 0;
        if (any != 0) active[count++] = h;
    }
    if (conv->has_bias) { /* a unit that is always one */
        for (i64 p = 0; p < BLOCK; p++) out[count * BLOCK + p] = p < part.count;
        active[count++] = units;
    }
    worker->num_active[place] = count;
}

/* Radial units of a block. */
static void make_units(Worker *worker, Part part, i64 block) {
    const Convolution *conv = worker->conv;
    i64 width = worker->second->width;
    REAL *inputs = worker->scratch, *middle = inputs + BLOCK * conv->num_inputs, *value = middle + BLOCK * width;
    read_inputs(conv, conv->invariants, part, inputs);
    for (i64 t = 0; t < conv->num_trunks; t++) {
        hidden_forward(worker->first, t, inputs, conv->num_inputs, middle, NULL, NULL);
        hidden_forward(worker->second, t, middle, width, value, NULL, NULL);
        keep_active(worker, part, block * conv->num_trunks + t, value, NULL);
    }
}

/* Gradients of the radial units of a block to everything that makes them. */
static void unmake_units(Worker *worker, Part part, i64 block) {
    const Convolution *conv = worker->conv;
    i64 width = worker->second->width, inputs_size = BLOCK * conv->num_inputs, size = BLOCK * width;
    REAL *inputs = worker->scratch, *input_grads = inputs + inputs_size, *sum = input_grads + inputs_size;
    REAL *middle = sum + inputs_size, *value = middle + size, *normal = value + size, *last_normal = normal + size;
    REAL *middle_grads = last_normal + size, *grads = middle_grads + size, scale[BLOCK], last_scale[BLOCK];
    read_inputs(conv, conv->invariants, part, inputs);
    memset(sum, 0, sizeof(REAL) * inputs_size);
    for (i64 t = 0; t < conv->num_trunks; t++) {
        read_unit_grads(worker, block * conv->num_trunks + t, worker->unit_grads, grads);
        hidden_forward(worker->first, t, inputs, conv->num_inputs, middle, normal, scale);
        hidden_forward(worker->second, t, middle, width, value, last_normal, last_scale);
        hidden_backward(worker->second, &worker->second_grads, t, middle, width, value, last_normal, last_scale, grads, middle_grads);
        clear_padding(worker, middle_grads);
        hidden_backward(
            worker->first, &worker->first_grads, t, inputs, conv->num_inputs, middle, normal, scale, middle_grads,
            conv->invariant_grads ? input_grads : NULL
        );
        for (i64 n = 0; n < inputs_size && conv->invariant_grads; n++) sum[n] += input_grads[n];
    }
    if (conv->invariant_grads)
        memcpy(conv->invariant_grads + part.start * conv->num_inputs, sum, sizeof(REAL) * part.count * conv->num_inputs);
}
