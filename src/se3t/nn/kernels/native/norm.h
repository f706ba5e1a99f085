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

/* One degree of a row at work. Arrays are padded to whole short vectors; what stands behind the channels says nothing. */
typedef struct {
    i64 size, channels, width;
    REAL *value, *grad;          /* [comp][width] */
    REAL *norm, *inverse;        /* [width] */
    REAL *normal;                /* after LayerNorm, before its gain */
    REAL *factor;                /* s */
    REAL *shift, *gain, *inside; /* [width]; inside: 1 for channels, 0 behind them */
    REAL scale;                  /* of LayerNorm: 1/std */
} NormWork;

enum { NORM_ARRAYS = 7 };
#define EACH_VECTOR(u) for (i64 u = 0; u < work->width; u += SHORT)

typedef __typeof__((shortvec){0} < (shortvec){0}) shortmask;
INLINE shortvec zero_where(shortmask mask, shortvec value) { return (shortvec)(~mask & (shortmask)value); }

INLINE shortvec roots_of(shortvec value) {
    REAL lanes[SHORT];
    SSTORE(lanes, value);
    for (int n = 0; n < SHORT; n++) lanes[n] = REAL_BYTES == 4 ? (REAL)sqrtf((float)lanes[n]) : (REAL)sqrt(lanes[n]);
    return SLOAD(lanes);
}

/* sums[channel] = sum over the components of a b. */
INLINE shortvec along(const NormWork *work, const REAL *a, const REAL *b, i64 u) {
    shortvec sum = {0};
    for (i64 c = 0; c < work->size; c++) sum += SLOAD(a + c * work->width + u) * SLOAD(b + c * work->width + u);
    return sum;
}

static void find_factors(const Norm *norm, i64 d, i64 row, NormWork *work) {
    read_field(norm->features + d, row, norm->degrees[d], work->channels, work->width, work->value);
    shortvec total = {0}, square = {0};
    EACH_VECTOR(u) {
        shortvec squares = along(work, work->value, work->value, u), root = roots_of(squares);
        shortmask is_zero = squares < (REAL)norm->smallest; /* NaN is not */
        root = zero_where(is_zero, root);
        SSTORE(work->norm + u, root);
        SSTORE(work->inverse + u, zero_where(is_zero, 1 / root));
        total += root * SLOAD(work->inside + u);
    }
    if (norm->gain) {
        REAL mean = short_sum_of(total) / work->channels;
        EACH_VECTOR(u) {
            shortvec normal = SLOAD(work->norm + u) - mean;
            SSTORE(work->normal + u, normal);
            square += normal * normal * SLOAD(work->inside + u);
        }
        work->scale = 1 / (REAL)sqrt((double)(short_sum_of(square) / work->channels) + norm->epsilon);
    }
    EACH_VECTOR(u) {
        shortvec sum = SLOAD(work->shift + u) + SLOAD(work->norm + u);
        if (norm->gain) {
            SSTORE(work->normal + u, SLOAD(work->normal + u) * work->scale);
            sum = SLOAD(work->shift + u) + SLOAD(work->normal + u) * SLOAD(work->gain + u);
        }
        SSTORE(work->factor + u, zero_where(sum <= 0, sum)); /* NaN stays */
    }
}

static void norm_forward(const Norm *norm, i64 d, i64 row, NormWork *work) {
    find_factors(norm, d, row, work);
    EACH_VECTOR(u) {
        shortvec factor = SLOAD(work->factor + u) * SLOAD(work->inverse + u);
        for (REAL *value = work->value + u; value < work->value + work->size * work->width; value += work->width)
            SSTORE(value, SLOAD(value) * factor);
    }
    write_field(norm->out + d, row, norm->degrees[d], work->channels, work->width, work->value);
}

static void norm_backward(const Norm *norm, i64 d, i64 row, NormWork *work, REAL *shift_grad, REAL *gain_grad) {
    find_factors(norm, d, row, work);
    read_field(norm->out_grads + d, row, norm->degrees[d], work->channels, work->width, work->grad);
    shortvec total = {0}, product = {0};
    EACH_VECTOR(u) { /* norm becomes the gradient of the normal features, inverse stays */
        shortvec inverse = SLOAD(work->inverse + u), factor = SLOAD(work->factor + u);
        shortvec grad = zero_where(factor <= 0, along(work, work->value, work->grad, u) * inverse);
        SSTORE(shift_grad + u, SLOAD(shift_grad + u) + grad);
        if (norm->gain) {
            shortvec normal = SLOAD(work->normal + u);
            SSTORE(gain_grad + u, SLOAD(gain_grad + u) + grad * normal);
            grad *= SLOAD(work->gain + u);
            total += grad * SLOAD(work->inside + u);
            product += grad * normal * SLOAD(work->inside + u);
        }
        SSTORE(work->norm + u, grad);
    }
    REAL mean = short_sum_of(total) / work->channels, slope = short_sum_of(product) / work->channels;
    EACH_VECTOR(u) {
        shortvec inverse = SLOAD(work->inverse + u), factor = SLOAD(work->factor + u), grad = SLOAD(work->norm + u);
        if (norm->gain) grad = work->scale * (grad - mean - slope * SLOAD(work->normal + u));
        grad -= along(work, work->value, work->grad, u) * inverse * inverse * factor;
        grad *= inverse;
        factor *= inverse;
        for (i64 c = 0; c < work->size; c++) {
            REAL *place = work->grad + c * work->width + u;
            SSTORE(place, factor * SLOAD(place) + grad * SLOAD(work->value + c * work->width + u));
        }
    }
    write_field(norm->feature_grads + d, row, norm->degrees[d], work->channels, work->width, work->grad);
}

static NormWork work_in(const Norm *norm, i64 d, REAL *room) {
    i64 width = round_up(norm->channels[d], SHORT), size = 2 * norm->degrees[d] + 1;
    REAL *arrays = room + 2 * size * width;
    NormWork work = {size, norm->channels[d], width, room, room + size * width, arrays, arrays + width,
                     arrays + 2 * width, arrays + 3 * width, arrays + 4 * width, arrays + 5 * width, arrays + 6 * width, 0};
    for (i64 u = 0; u < width; u++) {
        int is_inside = u < work.channels;
        work.inside[u] = (REAL)is_inside;
        work.shift[u] = is_inside ? norm->shift[d][u] : 0;
        work.gain[u] = is_inside && norm->gain ? norm->gain[d][u] : 0;
    }
    return work;
}

/* The products, or with `backward` the gradients. Returns 0, or 1 where memory is short. */
EXPORT int norm(const Norm *norm, int backward) {
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
            NormWork work = work_in(norm, d, room);
            for (i64 row = norm->num_rows * t / threads; row < norm->num_rows * (t + 1) / threads; row++)
                if (backward) norm_backward(norm, d, row, &work, sums, sums + total);
                else norm_forward(norm, d, row, &work);
            sums += work.width;
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
