/* Norm nonlinearities of all degrees at once: every feature times s/|f|, with s = ReLU(LN(|f|)) over the channels of its
   degree, or s = ReLU(|f| + b). */
#pragma once
#include "rows.h"

typedef struct {
    i64 num_rows, num_threads, num_degrees;
    double epsilon;            /* of LayerNorm */
    double smallest;           /* squares below it count as zero */
    const i64 *degrees, *channels;
    const Field *features;
    const REAL *const *shift; /* [degree] -> [channel]: of LayerNorm, or b */
    const REAL *const *gain;  /* [degree] -> [channel], or NULL: no LayerNorm */
    const Field *out;
    /* gradients */
    const Field *out_grads, *feature_grads;
    REAL *const *shift_grads, *const *gain_grads;
} Norm;

/* What the features of one degree of a row are multiplied by, and how it came about. */
typedef struct {
    REAL *value, *grad;                     /* [comp][width] */
    REAL *norm, *inverse, *normal, *factor; /* [width]; normal: after LayerNorm, before its gain */
    REAL scale;                             /* of LayerNorm: 1/std */
} NormRow;

enum { NORM_ARRAYS = 4 };

static void norm_row(const Norm *norm, i64 d, i64 row, i64 width, NormRow *work) {
    i64 size = 2 * norm->degrees[d] + 1, channels = norm->channels[d];
    REAL *square = work->norm, *inverse = work->inverse, *normal = work->normal, smallest = (REAL)norm->smallest;
    const REAL *shift = norm->shift[d];
    read_field(norm->features + d, norm->num_rows, row, norm->degrees[d], channels, width, work->value);
    for (i64 u = 0; u < width; u++) square[u] = 0;
    for (i64 c = 0; c < size; c++)
        for (i64 u = 0; u < width; u++) square[u] += work->value[c * width + u] * work->value[c * width + u];
    for (i64 u = 0; u < width; u++) {
        REAL root = REAL_BYTES == 4 ? (REAL)sqrtf((float)square[u]) : (REAL)sqrt(square[u]);
        int is_zero = square[u] < smallest; /* NaN is not */
        inverse[u] = is_zero ? 0 : 1 / root;
        work->norm[u] = is_zero ? 0 : root;
    }
    if (!norm->gain) {
        for (i64 u = 0; u < channels; u++) {
            REAL sum = work->norm[u] + shift[u];
            work->factor[u] = sum <= 0 ? 0 : sum; /* NaN stays */
        }
        return;
    }
    REAL mean = 0, variance = 0;
    for (i64 u = 0; u < channels; u++) mean += work->norm[u];
    mean /= channels;
    for (i64 u = 0; u < channels; u++) {
        normal[u] = work->norm[u] - mean;
        variance += normal[u] * normal[u];
    }
    work->scale = 1 / (REAL)sqrt((double)(variance / channels) + norm->epsilon);
    for (i64 u = 0; u < channels; u++) {
        normal[u] *= work->scale;
        REAL sum = normal[u] * norm->gain[d][u] + shift[u];
        work->factor[u] = sum <= 0 ? 0 : sum;
    }
}

static void norm_forward(const Norm *norm, i64 d, i64 row, i64 width, NormRow *work) {
    i64 size = 2 * norm->degrees[d] + 1, channels = norm->channels[d];
    norm_row(norm, d, row, width, work);
    for (i64 u = 0; u < channels; u++) work->factor[u] *= work->inverse[u];
    for (i64 c = 0; c < size; c++)
        for (i64 u = 0; u < channels; u++) work->value[c * width + u] *= work->factor[u];
    write_field(norm->out + d, row, norm->degrees[d], channels, width, work->value);
}

static void norm_backward(const Norm *norm, i64 d, i64 row, i64 width, NormRow *work, REAL *shift_grad, REAL *gain_grad) {
    i64 size = 2 * norm->degrees[d] + 1, channels = norm->channels[d];
    REAL along[width]; /* gradient of the factor, then of the norm */
    norm_row(norm, d, row, width, work);
    read_field(norm->out_grads + d, norm->num_rows, row, norm->degrees[d], channels, width, work->grad);
    for (i64 u = 0; u < width; u++) along[u] = 0;
    for (i64 c = 0; c < size; c++)
        for (i64 u = 0; u < width; u++) along[u] += work->value[c * width + u] * work->grad[c * width + u];
    REAL mean = 0, product = 0;
    for (i64 u = 0; u < channels; u++) {
        REAL inverse = work->inverse[u], size_grad = work->factor[u] <= 0 ? 0 : along[u] * inverse;
        shift_grad[u] += size_grad;
        along[u] *= -inverse * inverse * work->factor[u];
        work->norm[u] = size_grad; /* no longer needed */
        work->factor[u] *= inverse;
    }
    if (norm->gain) {
        for (i64 u = 0; u < channels; u++) {
            gain_grad[u] += work->norm[u] * work->normal[u];
            work->norm[u] *= norm->gain[d][u];
            mean += work->norm[u];
            product += work->norm[u] * work->normal[u];
        }
        mean /= channels, product /= channels;
        for (i64 u = 0; u < channels; u++) work->norm[u] = work->scale * (work->norm[u] - mean - product * work->normal[u]);
    }
    for (i64 u = 0; u < channels; u++) along[u] = (along[u] + work->norm[u]) * work->inverse[u];
    for (i64 c = 0; c < size; c++)
        for (i64 u = 0; u < channels; u++)
            work->grad[c * width + u] = work->factor[u] * work->grad[c * width + u] + along[u] * work->value[c * width + u];
    write_field(norm->feature_grads + d, row, norm->degrees[d], channels, width, work->grad);
}

/* The products, or with `backward` the gradients. Returns 0, or 1 where memory is short. */
__attribute__((visibility("default"))) int norm(const Norm *norm, int backward) {
    i64 total = 0, largest = 0, threads = norm->num_threads;
    for (i64 d = 0; d < norm->num_degrees; d++) {
        i64 width = round_up(norm->channels[d], SHORT);
        total += width;
        largest = larger(largest, (2 * (2 * norm->degrees[d] + 1) + NORM_ARRAYS) * width);
    }
    i64 own = round_up(largest + 2 * total, 64 / REAL_BYTES); /* sums of the gradients of shift, and gain, come last */
    REAL *memory = calloc(threads * own, sizeof(REAL));
    if (!memory) return 1;
#pragma omp parallel for schedule(static, 1) num_threads(threads) if (threads > 1)
    for (i64 t = 0; t < threads; t++) {
        REAL *room = memory + t * own, *sums = room + largest;
        for (i64 d = 0; d < norm->num_degrees; d++) {
            i64 width = round_up(norm->channels[d], SHORT), size = 2 * norm->degrees[d] + 1;
            REAL *arrays = room + 2 * size * width;
            NormRow work = {room, room + size * width, arrays, arrays + width, arrays + 2 * width, arrays + 3 * width, 0};
            for (i64 row = norm->num_rows * t / threads; row < norm->num_rows * (t + 1) / threads; row++)
                if (backward) norm_backward(norm, d, row, width, &work, sums, sums + total);
                else norm_forward(norm, d, row, width, &work);
            sums += width;
        }
    }
    for (i64 d = 0, place = largest; backward && d < norm->num_degrees; d++) {
        for (i64 u = 0; u < norm->channels[d]; u++) {
            REAL shift = 0, gain = 0;
            for (i64 t = 0; t < threads; t++) {
                shift += memory[t * own + place + u];
                gain += memory[t * own + place + total + u];
            }
            norm->shift_grads[d][u] = shift;
            if (norm->gain) norm->gain_grads[d][u] = gain;
        }
        place += round_up(norm->channels[d], SHORT);
    }
    free(memory);
    return 0;
}
