/* Tangents of the hidden layers and of their gradients, for a tangent of the input.

   With y = x W + b, s = 1/std(y), n = s y, u = ReLU(n gain + shift) and a = mean(n y'), where y' = x' W is the tangent
   of y: n' = s (y' - a n) and s' = -a s s. */
#pragma once
#include "trunk.h"

/* What a layer keeps of a block. */
typedef struct {
    REAL *out, *normal, *tangent, *normal_tangent; /* [BLOCK][width] */
    REAL scale[BLOCK], along[BLOCK];               /* s, a */
} Kept;

static REAL *cut_kept(Kept *kept, REAL *room, i64 width) {
    i64 size = BLOCK * width;
    kept->out = room, kept->normal = room + size, kept->tangent = room + 2 * size, kept->normal_tangent = room + 3 * size;
    return room + 4 * size;
}

static void hidden_forward_second(
    const Hidden *layer, i64 trunk, const REAL *input, const REAL *input_tangent, i64 input_stride, Kept *kept
) {
    i64 width = layer->width;
    const REAL *gain = layer->gain + trunk * width;
    hidden_forward(layer, trunk, input, input_stride, kept->out, kept->normal, kept->scale);
    hidden_linear(layer, trunk, input_tangent, input_stride, NULL, kept->tangent);
    for (int p = 0; p < BLOCK; p++) {
        REAL *tangent = kept->tangent + p * width, *normal_tangent = kept->normal_tangent + p * width;
        const REAL *value = kept->out + p * width, *normal = kept->normal + p * width;
        if (layer->layer_norm) {
            vec total = {0};
            for (i64 h = 0; h < width; h += VL) total += LOAD(normal + h) * LOAD(tangent + h);
            REAL along = kept->along[p] = sum_of(total) / layer->num_units;
            for (i64 h = 0; h < width; h += VL) {
                vec v = kept->scale[p] * (LOAD(tangent + h) - along * LOAD(normal + h));
                STORE(normal_tangent + h, v);
                STORE(tangent + h, v * LOAD(gain + h));
            }
        }
        for (i64 h = 0; h < width; h++) tangent[h] = value[h] <= 0 ? 0 : tangent[h];
    }
}

/* Gradients of the result and their tangents, both overwritten -> tangents of the gradients of the parameters; gradients
   of the input and their tangents where asked for. */
static void hidden_backward_second(
    const Hidden *layer, Hidden *grads, i64 trunk, const REAL *input, const REAL *input_tangent, i64 input_stride,
    const Kept *kept, REAL *grad, REAL *grad_tangent, REAL *input_grads, REAL *input_grad_tangents
) {
    i64 width = layer->width, units = layer->num_units;
    const REAL *gain = layer->gain + trunk * width;
    REAL *bias_grad = grads->bias + trunk * width;
    REAL *gain_grad = grads->gain + trunk * width, *shift_grad = grads->shift + trunk * width;
    for (int p = 0; p < BLOCK; p++) {
        REAL *row = grad + p * width, *tangents = grad_tangent + p * width, scale = kept->scale[p], along = kept->along[p];
        const REAL *value = kept->out + p * width, *x = kept->normal + p * width, *dx = kept->normal_tangent + p * width;
        for (i64 h = 0; h < width; h++) {
            row[h] = value[h] <= 0 ? 0 : row[h];
            tangents[h] = value[h] <= 0 ? 0 : tangents[h];
        }
        if (layer->layer_norm) {
            vec total = {0}, product = {0}, total_tangent = {0}, product_tangent = {0};
            for (i64 h = 0; h < width; h += VL) {
                vec g = LOAD(row + h), t = LOAD(tangents + h), n = LOAD(x + h), dn = LOAD(dx + h);
                STORE(gain_grad + h, LOAD(gain_grad + h) + t * n + g * dn);
                STORE(shift_grad + h, LOAD(shift_grad + h) + t);
                g *= LOAD(gain + h), t *= LOAD(gain + h);
                total += g, total_tangent += t;
                product += g * n, product_tangent += t * n + g * dn;
                STORE(row + h, g);
                STORE(tangents + h, t);
            }
            REAL mean = sum_of(total) / units, mean_tangent = sum_of(total_tangent) / units;
            REAL m = sum_of(product) / units, m_tangent = sum_of(product_tangent) / units;
            for (i64 h = 0; h < width; h += VL) {
                vec n = LOAD(x + h), g = scale * (LOAD(row + h) - mean - m * n);
                vec t = scale * (LOAD(tangents + h) - mean_tangent - m_tangent * n - m * LOAD(dx + h) - along * g);
                STORE(row + h, g);
                STORE(tangents + h, t);
            }
            for (i64 h = units; h < width; h++) row[h] = tangents[h] = 0;
        }
        for (i64 h = 0; h < width; h += VL) STORE(bias_grad + h, LOAD(bias_grad + h) + LOAD(tangents + h));
    }
    hidden_weight_grads(grads, trunk, input, input_stride, grad_tangent);
    hidden_weight_grads(grads, trunk, input_tangent, input_stride, grad);
    if (!input_grads) return;
    hidden_input_grads(layer, trunk, grad, input_grads, input_stride);
    hidden_input_grads(layer, trunk, grad_tangent, input_grad_tangents, input_stride);
}
