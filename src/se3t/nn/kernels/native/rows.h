/* Rows of features: read, written, and turned into the frame of an edge. */
#pragma once
#include "layout.h"

static void clear(REAL *numbers, i64 count) { memset(numbers, 0, sizeof(REAL) * count); }

/* Turn [2l+1][width] by the matrix of an edge, or by its transpose. */
INLINE void turn_by(const int size, const REAL *frame, const int transpose, const REAL *in, REAL *out, i64 width) {
    for (i64 u = 0; u < width; u += SHORT) {
        shortvec value[2 * MAX_DEGREES];
        for (int b = 0; b < size; b++) value[b] = SLOAD(in + b * width + u);
        for (int a = 0; a < size; a++) {
            shortvec sum = {0};
            for (int b = 0; b < size; b++) sum += frame[transpose ? b * size + a : a * size + b] * value[b];
            SSTORE(out + a * width + u, sum);
        }
    }
}

INLINE void turn(i64 degree, const REAL *frames, i64 edge, const int transpose, const REAL *in, REAL *out, i64 width) {
    const int size = (int)(2 * degree + 1);
    const REAL *frame = frames + edge * size * size;
    switch (degree) {
    case 0: memcpy(out, in, sizeof(REAL) * width); break;
    case 1: turn_by(3, frame, transpose, in, out, width); break;
    case 2: turn_by(5, frame, transpose, in, out, width); break;
    case 3: turn_by(7, frame, transpose, in, out, width); break;
    default: turn_by(size, frame, transpose, in, out, width);
    }
}

/* count is a multiple of SHORT. */
INLINE void add(REAL *sum, const REAL *values, i64 count) {
    for (i64 n = 0; n < count; n += SHORT) SSTORE(sum + n, SLOAD(sum + n) + SLOAD(values + n));
}

INLINE void copy_short(REAL *to, const REAL *from, i64 count, REAL sign) {
    for (i64 u = 0; u < count; u += SHORT) SSTORE(to + u, sign * SLOAD(from + u));
}

INLINE void copy(REAL *to, const REAL *from, i64 count) {
    switch (count) { /* constants become a few instructions */
#define COPIED(n)                                                                                                      \
    case n: memcpy(to, from, n * sizeof(REAL)); break;
        COPIED(1) COPIED(2) COPIED(4) COPIED(5) COPIED(8) COPIED(16) COPIED(32)
#undef COPIED
    default: memcpy(to, from, count * sizeof(REAL));
    }
}

/* One row of a field, strided, as [comp][channel padded with zeros]. */
static void read_field(const Field *field, i64 num_rows, i64 row, i64 degree, i64 channels, i64 width, REAL *out) {
    /* vectors read beyond a component, never beyond the last number of all: a field may be a part of something */
    const REAL *end = field->data + (num_rows - 1) * field->row + 2 * degree * field->component + channels;
    for (i64 c = 0; c < 2 * degree + 1; c++) {
        const REAL *from = field->data + row * field->row + c * field->component;
        REAL *to = out + c * width;
        if (field->channel == 1 && from + width <= end && field->component == channels) {
            for (i64 u = 0; u < width; u += SHORT) SSTORE(to + u, SLOAD(from + u));
        } else {
            for (i64 u = 0; u < channels; u++) to[u] = from[u * field->channel];
        }
        for (i64 u = channels; u < width; u++) to[u] = 0;
    }
}

static void write_field(const Field *field, i64 row, i64 degree, i64 channels, i64 width, const REAL *in) {
    for (i64 c = 0; c < 2 * degree + 1; c++) {
        REAL *to = field->data + row * field->row + c * field->component;
        if (field->channel == 1) copy(to, in + c * width, channels);
        else
            for (i64 u = 0; u < channels; u++) to[u * field->channel] = in[c * width + u];
    }
}
