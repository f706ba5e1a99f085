/* D^1 ... D^L of the rotations that take vectors to the polar axis, and the gradient of sums of them; frame.py and
   wigner.py have the formulas. Vectors of lanes hold as many edges. */
#pragma once
#include "points.h"

typedef struct {
    int32_t row, left, right;
    double factor;
} Triple;

typedef struct {
    i64 num_vectors, max_degree, num_threads;
    double zero; /* below this square a vector has no direction */
    const REAL *vectors;
    const Triple *const *embedding; /* of each degree: entries of E_l[row, 3 * (2l-1)], in `left` */
    const i64 *num_embedding;
    const REAL *const *middle; /* of each degree: 2l-1 entries of F_l, then four of its ends: -x, -z, +x, +z */
    REAL *const *frames;       /* of each degree from 1: [vector, 2l+1, 2l+1] */
    const REAL *const *grads;  /* the same */
    const Triple *const *generators; /* of each degree: entries [left, right] of the generator about axis `row` */
    const i64 *num_generators;
    REAL *vector_grads;
    REAL *scratch; /* of each thread, frames_room(max_degree) numbers */
} Frames;

typedef struct {
    REAL x[VL], y[VL], z[VL], inverse[VL], sign[VL], scale[VL];
} Directions;

INLINE i64 frames_room(i64 max_degree) {
    i64 size = 2 * max_degree + 1;
    return (3 * size * size + 3 * size) * VL;
}

static void directions_of(const REAL *vectors, i64 count, double zero, Directions *to) {
    if (count < VL) memset(to, 0, sizeof(Directions));
    for (i64 i = 0; i < count; i++) to->x[i] = vectors[3 * i], to->y[i] = vectors[3 * i + 1], to->z[i] = vectors[3 * i + 2];
    for (int i = 0; i < VL; i++) {
        REAL square = to->x[i] * to->x[i] + to->y[i] * to->y[i] + to->z[i] * to->z[i];
        REAL inverse = square < (REAL)zero ? 0 : 1 / (sizeof(REAL) == 4 ? sqrtf(square) : sqrt(square));
        to->x[i] *= inverse, to->y[i] *= inverse, to->z[i] *= inverse;
        to->inverse[i] = inverse;
        to->sign[i] = to->y[i] < 0 ? -1 : 1; /* -1 where a half turn about x comes first */
        to->scale[i] = 1 / (1 + to->y[i] * to->sign[i]);
    }
}

/* Rows of the rotation, [3][3][VL]. */
static void rotations_of(const Directions *from, REAL *to) {
    for (int i = 0; i < VL; i++) {
        REAL x = from->x[i], y = from->y[i], z = from->z[i], sign = from->sign[i], scale = from->scale[i];
        REAL part = x * scale, mixed = -part * z;
        to[0 * VL + i] = 1 - x * part, to[1 * VL + i] = -x * sign, to[2 * VL + i] = mixed;
        to[3 * VL + i] = x, to[4 * VL + i] = y, to[5 * VL + i] = z;
        to[6 * VL + i] = mixed * sign, to[7 * VL + i] = -z, to[8 * VL + i] = (1 - z * z * scale) * sign;
    }
}

/* D^l from R = D^1 and D^(l-1), [row][column][VL]: column n of E_l (R x D^(l-1)) F_l^T after column. */
static void raise_degree(const Frames *task, i64 degree, const REAL *rotation, const REAL *lower, REAL *product, REAL *upper) {
    const i64 size = 2 * degree + 1, below = size - 2;
    const REAL *middle = task->middle[degree], *ends = middle + below;
    for (i64 column = 0; column < size; column++) {
        for (i64 a = 0; a < 3; a++)
            for (i64 b = 0; b < below; b++) {
                const REAL *row = lower + b * below * VL;
                vec left = LOAD(row), right = LOAD(row + (below - 1) * VL), value;
                vec x = LOAD(rotation + 3 * a * VL), y = LOAD(rotation + (3 * a + 1) * VL), z = LOAD(rotation + (3 * a + 2) * VL);
                if (column == 0) value = ends[0] * x * right + ends[1] * z * left;
                else if (column < size - 1) value = y * (middle[column - 1] * LOAD(row + (column - 1) * VL));
                else value = ends[2] * x * left + ends[3] * z * right;
                STORE(product + (a * below + b) * VL, value);
            }
        const Triple *entry = task->embedding[degree], *end = entry + task->num_embedding[degree];
        for (i64 row = 0; row < size; row++) {
            vec sum = {0};
            for (; entry < end && entry->row == row; entry++) sum += (REAL)entry->factor * LOAD(product + entry->left * VL);
            STORE(upper + (row * size + column) * VL, sum);
        }
    }
}

static void write_frames(const REAL *from, i64 count, i64 entries, REAL *to) {
    for (i64 i = 0; i < count; i++, to += entries)
        for (i64 entry = 0; entry < entries; entry++) to[entry] = from[entry * VL + i];
}

static void read_grads(const REAL *from, i64 count, i64 entries, REAL *to) {
    if (count < VL) memset(to, 0, entries * VL * sizeof(REAL));
    for (i64 i = 0; i < count; i++, from += entries)
        for (i64 entry = 0; entry < entries; entry++) to[entry * VL + i] = from[entry];
}

/* Add to turn[axis] the derivative of sum(grads * frame) by a rotation that comes after: sum(grads * generator frame). */
static void add_turn(const Triple *entry, i64 count, i64 size, const REAL *grads, const REAL *frame, vec *turn) {
    for (const Triple *end = entry + count; entry < end; entry++) {
        const REAL *left = grads + entry->left * size * VL, *right = frame + entry->right * size * VL;
        vec sum = {0};
        for (i64 column = 0; column < size; column++) sum += LOAD(left + column * VL) * LOAD(right + column * VL);
        turn[entry->row] += (REAL)entry->factor * sum;
    }
}

/* A change d' of the direction turns the frame by (-u_z, sign scale (z x' - x z'), u_x), where u = R d'. */
static void write_grads(const Directions *at, const REAL *rotation, const vec *turn, i64 count, REAL *to) {
    for (i64 i = 0; i < count; i++, to += 3) {
        REAL about_axis = turn[1][i] * at->sign[i] * at->scale[i];
        for (int a = 0; a < 3; a++) {
            REAL twist = a == 0 ? at->z[i] : a == 2 ? -at->x[i] : 0;
            REAL slope = turn[2][i] * rotation[a * VL + i] - turn[0][i] * rotation[(6 + a) * VL + i] + about_axis * twist;
            to[a] = slope * at->inverse[i];
        }
    }
}

/* Frames of up to VL vectors, or with `backward` the gradient of these. */
static void frames_of(const Frames *task, i64 first, i64 count, REAL *scratch, int backward) {
    const i64 largest = 2 * task->max_degree + 1, room = largest * largest * VL;
    REAL *even = scratch, *odd = even + room, *grads = odd + room, *product = grads + room, rotation[9 * VL];
    Directions directions;
    vec turn[3] = {0};
    directions_of(task->vectors + 3 * first, count, task->zero, &directions);
    rotations_of(&directions, rotation);
    const REAL *lower = rotation;
    for (i64 degree = 1; degree <= task->max_degree; degree++) {
        const i64 size = 2 * degree + 1;
        REAL *frame = degree % 2 ? odd : even;
        if (degree == 1) frame = rotation;
        else raise_degree(task, degree, rotation, lower, product, frame);
        if (!backward) write_frames(frame, count, size * size, task->frames[degree] + first * size * size);
        else {
            read_grads(task->grads[degree] + first * size * size, count, size * size, grads);
            add_turn(task->generators[degree], task->num_generators[degree], size, grads, frame, turn);
        }
        lower = frame;
    }
    if (backward) write_grads(&directions, rotation, turn, count, task->vector_grads + 3 * first);
}
