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
    case 0:
        for (i64 u = 0; u < width; u += SHORT) SSTORE(out + u, SLOAD(in + u));
        break;
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

/* Strided channels, `count` of them, to whole short vectors, `width` numbers, with zeros behind them; and back. */
INLINE void read_channels(const REAL *from, i64 step, i64 count, i64 width, REAL *out) {
    for (i64 u = 0; u < width; u += SHORT) {
        i64 some = larger(0, smaller(SHORT, count - u));
        shortvec value = {0};
        if (step == 1) value = load_some(from + u, some);
        else
            for (i64 n = 0; n < some; n++) value[n] = from[(u + n) * step];
        SSTORE(out + u, value);
    }
}

INLINE void write_channels(REAL *to, i64 step, i64 count, const REAL *in) {
    for (i64 u = 0; u < count && step == 1; u += SHORT) store_some(to + u, SLOAD(in + u), smaller(SHORT, count - u));
    for (i64 u = 0; u < count && step != 1; u++) to[u * step] = in[u];
}

/* One row of a field, strided, as [comp][channel padded with zeros]. */
static void read_field(const Field *field, i64 row, i64 degree, i64 channels, i64 width, REAL *out) {
    const REAL *from = field->data + row * field->row;
    for (i64 c = 0; c < 2 * degree + 1; c++)
        read_channels(from + c * field->component, field->channel, channels, width, out + c * width);
}

static void write_field(const Field *field, i64 row, i64 degree, i64 channels, i64 width, const REAL *in) {
    REAL *to = field->data + row * field->row;
    for (i64 c = 0; c < 2 * degree + 1; c++) write_channels(to + c * field->component, field->channel, channels, in + c * width);
}
