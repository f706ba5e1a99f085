/* Solid harmonics r^J Y_J and the gradient of sums of them; harmonics.py has the formulas. */
#pragma once
#include "points.h"

typedef struct {
    REAL scale, gain, loss; /* of a step of the recursion */
} Step;

typedef struct {
    int32_t upper, lower; /* the derivative of row upper has factor * row lower */
    double factor;
} Term;

typedef struct {
    i64 num_points, max_degree, num_threads;
    double zero; /* below this square a vector has no direction; negative: vectors are taken as they are */
    Rows points;
    const Step *steps, *lower_steps; /* up to max_degree, and up to max_degree - 1 */
    Rows rows, grads, point_grads;
    const Term *terms; /* by axis */
    const i64 *num_terms;
    REAL *scratch; /* of each thread, harmonics_room(max_degree) numbers */
} Harmonics;

/* For gradients and values of a block. */
INLINE i64 harmonics_room(i64 max_degree) { return 2 * (max_degree + 1) * (max_degree + 1) * BLOCK; }

INLINE void put(REAL *place, const vec *values, const int is_whole, i64 count) {
#pragma GCC unroll 2
    for (int v = 0; v < AT_ONCE; v++) {
        i64 left = count - v * VL;
        if (is_whole || left >= VL) STORE(place + v * VL, values[v]);
        else if (left > 0) memcpy(place + v * VL, values + v, left * sizeof(REAL));
    }
}

#define EACH _Pragma("GCC unroll 2") for (int v = 0; v < AT_ONCE; v++)

/* Rows of a block of points: m outside, J = m, m+1, ... inside, nothing but T, E and s^m cos, sin m phi in between. */
INLINE void fill_rows(const Points *points, const Step *step, i64 max_degree, REAL *rows, i64 stride, const int is_whole, i64 count) {
    vec x[AT_ONCE], y[AT_ONCE], z[AT_ONCE], square[AT_ONCE], cosine[AT_ONCE], sine[AT_ONCE], out[AT_ONCE];
    EACH {
        x[v] = LOAD(points->x + v * VL), y[v] = LOAD(points->y + v * VL), z[v] = LOAD(points->z + v * VL);
        square[v] = x[v] * x[v] + z[v] * z[v];
        sine[v] = (vec){0}, cosine[v] = sine[v] + 1;
    }
    for (i64 order = 0; order <= max_degree; order++) {
        vec before[AT_ONCE], last[AT_ONCE], correction[AT_ONCE];
        if (order) EACH {
            vec real = z[v] * cosine[v] - x[v] * sine[v];
            sine[v] = z[v] * sine[v] + x[v] * cosine[v];
            cosine[v] = real;
        }
        EACH correction[v] = (vec){0}, before[v] = correction[v], last[v] = correction[v] + 1;
        for (i64 degree = order; degree <= max_degree; degree++, step++) {
            REAL *middle = rows + (degree * degree + degree) * stride;
            if (degree == order + 1) EACH before[v] = last[v], last[v] = y[v];
            if (degree > order + 1) EACH {
                correction[v] = y[v] * correction[v] - step->loss * square[v] * before[v];
                before[v] = last[v];
                last[v] = y[v] * last[v] + step->gain * correction[v];
            }
            EACH out[v] = step->scale * last[v];
            if (order) {
                vec other[AT_ONCE];
                EACH other[v] = out[v] * sine[v], out[v] *= cosine[v];
                put(middle - order * stride, other, is_whole, count);
            }
            put(middle + order * stride, out, is_whole, count);
        }
    }
}

static void rows_of(const Harmonics *task, i64 first, i64 count) {
    Points points = {0};
    if (task->max_degree) read_points(&task->points, first, count, &points);
    if (task->max_degree && task->zero >= 0) normalise(&points, task->zero, NULL);
    REAL *rows = task->rows.data + first;
    if (count == BLOCK) fill_rows(&points, task->steps, task->max_degree, rows, task->rows.component, 1, BLOCK);
    else fill_rows(&points, task->steps, task->max_degree, rows, task->rows.component, 0, count);
}

/* Sum of grads * values over the terms of one axis. */
INLINE void add_terms(const Term *term, i64 num_terms, const REAL *grads, i64 stride, const REAL *values, REAL *sums) {
    vec sum[AT_ONCE] = {0};
    for (const Term *end = term + num_terms; term < end; term++)
        EACH sum[v] += (REAL)term->factor * LOAD(grads + term->upper * stride + v * VL) * LOAD(values + term->lower * BLOCK + v * VL);
    EACH STORE(sums + v * VL, sum[v]);
}

/* Gradients of a block, their points side by side; zeros behind the last. */
static void copy_grads(const Rows *from, i64 num_rows, i64 first, i64 count, REAL *to) {
    const REAL *data = from->data + first * from->point;
    if (count < BLOCK) memset(to, 0, num_rows * BLOCK * sizeof(REAL));
    for (i64 i = 0; i < count; i++)
        for (i64 row = 0; row < num_rows; row++) to[row * BLOCK + i] = data[row * from->component + i * from->point];
}

static void slopes_of(const Harmonics *task, i64 first, i64 count, REAL *scratch) {
    const i64 num_rows = (task->max_degree + 1) * (task->max_degree + 1);
    const REAL *grads = task->grads.data + first;
    i64 stride = task->grads.component;
    REAL *values = scratch + num_rows * BLOCK;
    REAL inverse[BLOCK]; /* of the lengths, 0 of what counts as zero */
    Points points, slope;
    read_points(&task->points, first, count, &points);
    if (task->zero >= 0) normalise(&points, task->zero, inverse);
    if (task->max_degree) fill_rows(&points, task->lower_steps, task->max_degree - 1, values, BLOCK, 1, BLOCK);
    if (count < BLOCK || task->grads.point != 1) {
        copy_grads(&task->grads, num_rows, first, count, scratch);
        grads = scratch, stride = BLOCK;
    }
    REAL *const sums[3] = {slope.x, slope.y, slope.z};
    const Term *term = task->terms;
    for (int axis = 0; axis < 3; term += task->num_terms[axis++])
        add_terms(term, task->num_terms[axis], grads, stride, values, sums[axis]);
    for (int i = 0; i < BLOCK && task->zero >= 0; i++) {
        REAL along = points.x[i] * slope.x[i] + points.y[i] * slope.y[i] + points.z[i] * slope.z[i];
        slope.x[i] = (slope.x[i] - points.x[i] * along) * inverse[i];
        slope.y[i] = (slope.y[i] - points.y[i] * along) * inverse[i];
        slope.z[i] = (slope.z[i] - points.z[i] * along) * inverse[i];
    }
    write_points(&task->point_grads, first, count, &slope);
}
