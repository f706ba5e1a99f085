/* Vectors of three components, a block at a time, their components apart. */
#pragma once
#include "vector.h"

enum { AT_ONCE = 2 }; /* vectors of lanes: of one alone each step would wait for the one before */
enum { BLOCK = AT_ONCE * VL };

typedef struct {
    REAL x[BLOCK], y[BLOCK], z[BLOCK];
} Points;

typedef struct {
    REAL *data;
    i64 component, point; /* strides */
} Rows;

/* Points of a block; zeros behind the last. */
static void read_points(const Rows *from, i64 first, i64 count, Points *to) {
    const REAL *data = from->data + first * from->point;
    const i64 component = from->component, point = from->point;
    if (count < BLOCK) memset(to, 0, sizeof(Points));
    if (component == 1 && point == 3) /* as most come: strides that the compiler knows */
        for (i64 i = 0; i < count; i++) to->x[i] = data[3 * i], to->y[i] = data[3 * i + 1], to->z[i] = data[3 * i + 2];
    else
        for (i64 i = 0; i < count; i++) {
            to->x[i] = data[i * point];
            to->y[i] = data[i * point + component];
            to->z[i] = data[i * point + 2 * component];
        }
}

static void write_points(const Rows *to, i64 first, i64 count, const Points *from) {
    REAL *data = to->data + first * to->point;
    for (i64 i = 0; i < count; i++) {
        data[i * to->point] = from->x[i];
        data[i * to->point + to->component] = from->y[i];
        data[i * to->point + 2 * to->component] = from->z[i];
    }
}

/* Divide by the lengths, in double and rounded once; vectors whose square is below `zero` become zero. */
INLINE void normalise(Points *points, double zero, REAL *inverses) {
    for (int i = 0; i < BLOCK; i++) {
        double x = points->x[i], y = points->y[i], z = points->z[i];
        double square = x * x + y * y + z * z;
        double inverse = square < zero ? 0 : 1 / sqrt(square);
        points->x[i] = (REAL)(x * inverse);
        points->y[i] = (REAL)(y * inverse);
        points->z[i] = (REAL)(z * inverse);
        if (inverses) inverses[i] = (REAL)inverse;
    }
}
