/* Hidden layers of the radial networks, Linear - LayerNorm - ReLU twice, for BLOCK rows; and their gradients. */
#pragma once
#include "product.h"

#define EPSILON ((REAL)1e-5)

/* One hidden layer of all trunks, units padded to `width`; gradients have the same shape. */
typedef struct {
    i64 num_inputs, num_units, width, num_trunks, layer_norm;
    REAL *weight, *bias, *gain, *shift; /* [trunk][input][width], [trunk][width] */
} Hidden;

static i64 hidden_size(i64 num_inputs, i64 num_units, i64 num_trunks) {
    return num_trunks * (num_inputs + 3) * round_up(num_units, VL);
}

static Hidden hidden_in(REAL *room, i64 num_inputs, i64 num_units, i64 num_trunks, i64 layer_norm) {
    i64 width = round_up(num_units, VL), plane = num_trunks * width;
    memset(room, 0, sizeof(REAL) * (num_inputs + 3) * plane);
    REAL *bias = room + num_inputs * plane;
    return (Hidden){num_inputs, num_units, width, num_trunks, layer_norm, room, bias, bias + plane, bias + 2 * plane};
}

/* The mean over the units, which LayerNorm subtracts, is subtracted from the parameters, where it costs nothing. */
static void hidden_load(Hidden *layer, const REAL *weight, const REAL *bias, const REAL *gain, const REAL *shift) {
    i64 units = layer->num_units;
    for (i64 t = 0; t < layer->num_trunks; t++)
        for (i64 i = 0; i <= layer->num_inputs; i++) {
            const REAL *from = i < layer->num_inputs ? weight + (t * layer->num_inputs + i) * units : bias + t * units;
            REAL *to = i < layer->num_inputs ? layer->weight + (t * layer->num_inputs + i) * layer->width
                                             : layer->bias + t * layer->width;
            double mean = 0;
            for (i64 h = 0; h < units && layer->layer_norm; h++) mean += from[h];
            mean /= units;
            for (i64 h = 0; h < units; h++) to[h] = from[h] - (REAL)mean;
        }
    for (i64 t = 0; t < layer->num_trunks && layer->layer_norm; t++) {
        memcpy(layer->gain + t * layer->width, gain + t * units, sizeof(REAL) * units);
        memcpy(layer->shift + t * layer->width, shift + t * units, sizeof(REAL) * units);
    }
}

/* The gradient of hidden_load. */
static void hidden_store(const Hidden *grads, REAL *weight, REAL *bias, REAL *gain, REAL *shift) {
    i64 units = grads->num_units;
    for (i64 t = 0; t < grads->num_trunks; t++)
        for (i64 i = 0; i <= grads->num_inputs; i++) {
            REAL *to = i < grads->num_inputs ? weight + (t * grads->num_inputs + i) * units : bias + t * units;
            const REAL *from = i < grads->num_inputs ? grads->weight + (t * grads->num_inputs + i) * grads->width
                                                     : grads->bias + t * grads->width;
            double mean = 0;
            for (i64 h = 0; h < units && grads->layer_norm; h++) mean += from[h];
            mean /= units;
            for (i64 h = 0; h < units; h++) to[h] = from[h] - (REAL)mean;
        }
    for (i64 t = 0; t < grads->num_trunks && grads->layer_norm; t++) {
        memcpy(gain + t * units, grads->gain + t * grads->width, sizeof(REAL) * units);
        memcpy(shift + t * units, grads->shift + t * grads->width, sizeof(REAL) * units);
    }
}

/* input [BLOCK][input_stride] times the weight -> out [BLOCK][width], plus the bias where there is one. */
static void hidden_linear(
    const Hidden *layer, i64 trunk, const REAL *input, i64 input_stride, const REAL *bias, REAL *out
) {
    i64 width = layer->width, inputs = layer->num_inputs;
    const REAL *weight = layer->weight + trunk * inputs * width;
    for (int start = 0; start < BLOCK; start += ROWS)
        for (i64 h = 0; h < width; h += VL) {
            vec sum[ROWS];
#pragma GCC unroll 8
            for (int p = 0; p < ROWS; p++) sum[p] = bias ? LOAD(bias + h) : (vec){0};
            for (i64 i = 0; i < inputs; i++) {
                vec right = LOAD(weight + i * width + h);
                const REAL *value = input + start * input_stride + i;
#pragma GCC unroll 8
                for (int p = 0; p < ROWS; p++) sum[p] += value[p * input_stride] * right;
            }
#pragma GCC unroll 8
            for (int p = 0; p < ROWS; p++) STORE(out + (start + p) * width + h, sum[p]);
        }
}

/* input -> out [BLOCK][width] after ReLU; normal (before gain) and scale (1/std) where asked for. */
static void hidden_forward(
    const Hidden *layer, i64 trunk, const REAL *input, i64 input_stride, REAL *out, REAL *normal, REAL *scale
) {
    i64 width = layer->width;
    const REAL *gain = layer->gain + trunk * width, *shift = layer->shift + trunk * width;
    hidden_linear(layer, trunk, input, input_stride, layer->bias + trunk * width, out);
    for (int p = 0; p < BLOCK; p++) {
        REAL *value = out + p * width;
        if (layer->layer_norm) {
            vec total = {0}, square = {0};
            for (i64 h = 0; h < width; h += VL) {
                vec v = LOAD(value + h);
                total += v;
                square += v * v;
            }
            REAL mean = sum_of(total) / layer->num_units;
            REAL factor = 1 / (REAL)sqrt(sum_of(square) / layer->num_units - mean * mean + EPSILON);
            if (scale) scale[p] = factor;
            for (i64 h = 0; h < width; h += VL) {
                vec v = (LOAD(value + h) - mean) * factor;
                if (normal) STORE(normal + p * width + h, v);
                STORE(value + h, v * LOAD(gain + h) + LOAD(shift + h));
            }
        }
        for (i64 h = 0; h < width; h++) value[h] = value[h] < 0 ? 0 : value[h]; /* NaN stays */
    }
}

/* weight_grads[i] += sum over p of input[p][i] grad[p], one vector of units, `count` inputs i. */
INLINE void add_weight_grads(
    const int count, const REAL *input, i64 input_stride, const REAL *grad, i64 width, REAL *weight_grads
) {
    vec sum[ROWS];
#pragma GCC unroll 8
    for (int i = 0; i < count; i++) sum[i] = LOAD(weight_grads + i * width);
    for (int p = 0; p < BLOCK; p++) {
        vec row = LOAD(grad + p * width);
#pragma GCC unroll 8
        for (int i = 0; i < count; i++) sum[i] += input[p * input_stride + i] * row;
    }
#pragma GCC unroll 8
    for (int i = 0; i < count; i++) STORE(weight_grads + i * width, sum[i]);
}

/* Gradients of the weight from those of the linear map, grad [BLOCK][width]. */
static void hidden_weight_grads(Hidden *grads, i64 trunk, const REAL *input, i64 input_stride, const REAL *grad) {
    i64 width = grads->width, inputs = grads->num_inputs;
    REAL *weight_grad = grads->weight + trunk * inputs * width;
    for (i64 h = 0; h < width; h += VL) {
        i64 i = 0;
        for (; i + ROWS <= inputs; i += ROWS) add_weight_grads(ROWS, input + i, input_stride, grad + h, width, weight_grad + i * width + h);
        for (; i < inputs; i++) add_weight_grads(1, input + i, input_stride, grad + h, width, weight_grad + i * width + h);
    }
}

/* Gradients of the input [BLOCK][input_stride] from those of the linear map. */
static void hidden_input_grads(const Hidden *layer, i64 trunk, const REAL *grad, REAL *input_grads, i64 input_stride) {
    i64 width = layer->width, inputs = layer->num_inputs;
    const REAL *weight = layer->weight + trunk * inputs * width;
    for (int p = 0; p < BLOCK; p++)
        for (i64 i = 0; i < inputs; i += VL) {
            vec part[VL];
            for (int j = 0; j < VL; j++) {
                part[j] = (vec){0};
                const REAL *row = weight + smaller(i + j, inputs - 1) * width;
                for (i64 h = 0; h < width; h += VL) part[j] += LOAD(grad + p * width + h) * LOAD(row + h);
            }
            REAL sums[VL];
            STORE(sums, sums_of(part));
            memcpy(input_grads + p * input_stride + i, sums, sizeof(REAL) * smaller(VL, inputs - i));
        }
}

/* grad [BLOCK][width] of the result, overwritten -> gradients of the parameters, and of the input where asked for. */
static void hidden_backward(
    const Hidden *layer, Hidden *grads, i64 trunk, const REAL *input, i64 input_stride, const REAL *out,
    const REAL *normal, const REAL *scale, REAL *grad, REAL *input_grads
) {
    i64 width = layer->width, units = layer->num_units;
    const REAL *gain = layer->gain + trunk * width;
    REAL *bias_grad = grads->bias + trunk * width;
    REAL *gain_grad = grads->gain + trunk * width, *shift_grad = grads->shift + trunk * width;
    for (int p = 0; p < BLOCK; p++) {
        REAL *row = grad + p * width;
        const REAL *value = out + p * width, *x = normal + p * width;
        for (i64 h = 0; h < width; h++) row[h] = value[h] <= 0 ? 0 : row[h];
        if (layer->layer_norm) {
            vec total = {0}, product = {0};
            for (i64 h = 0; h < width; h += VL) {
                vec g = LOAD(row + h), n = LOAD(x + h);
                STORE(gain_grad + h, LOAD(gain_grad + h) + g * n);
                STORE(shift_grad + h, LOAD(shift_grad + h) + g);
                g *= LOAD(gain + h);
                total += g;
                product += g * n;
                STORE(row + h, g);
            }
            REAL mean = sum_of(total) / units, along = sum_of(product) / units;
            for (i64 h = 0; h < width; h += VL) STORE(row + h, scale[p] * (LOAD(row + h) - mean - along * LOAD(x + h)));
            for (i64 h = units; h < width; h++) row[h] = 0;
        }
        for (i64 h = 0; h < width; h += VL) STORE(bias_grad + h, LOAD(bias_grad + h) + LOAD(row + h));
    }
    hidden_weight_grads(grads, trunk, input, input_stride, grad);
    if (input_grads) hidden_input_grads(layer, trunk, grad, input_grads, input_stride);
}
