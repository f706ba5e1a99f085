/* The products that a convolution is made of, on a block of rows of radial units.

   units   [unit][BLOCK]        hidden features of BLOCK rows, those units that are not zero for all of them
   layer   [unit][flat]         last radial layer, a block of its columns; one row for each of all units
   weights [BLOCK][stride]      radial weights of these columns, flat = (row of the matrix, column)
*/
#pragma once
#include "vector.h"

#define BLOCK 32 /* rows of radial units at a time; a multiple of ROWS */
#if MANY_REGISTERS
#define ROWS 8 /* of an accumulating tile of ROWS x WIDE vectors */
#define WIDE 3
#else
#define ROWS 4
#define WIDE 2
#endif

/* weights[p][column] = sum over units h of units[h][p] layer[unit h][column], for `width` vectors of columns. */
INLINE void weights_tile(
    const int width, const REAL *units, const i64 *active, i64 num_active, const REAL *layer, i64 layer_stride,
    REAL *weights, i64 stride
) {
    for (int start = 0; start < BLOCK; start += ROWS) {
        vec sum[ROWS][WIDE];
#pragma GCC unroll 8
        for (int p = 0; p < ROWS; p++)
#pragma GCC unroll 3
            for (int v = 0; v < width; v++) sum[p][v] = (vec){0};
        for (i64 h = 0; h < num_active; h++) {
            const REAL *row = layer + active[h] * layer_stride, *unit = units + h * BLOCK + start;
            vec right[WIDE];
#pragma GCC unroll 3
            for (int v = 0; v < width; v++) right[v] = LOAD(row + v * VL);
#pragma GCC unroll 8
            for (int p = 0; p < ROWS; p++)
#pragma GCC unroll 3
                for (int v = 0; v < width; v++) sum[p][v] += unit[p] * right[v];
        }
#pragma GCC unroll 8
        for (int p = 0; p < ROWS; p++)
#pragma GCC unroll 3
            for (int v = 0; v < width; v++) STORE(weights + (start + p) * stride + v * VL, sum[p][v]);
    }
}

static void make_weights(
    const REAL *units, const i64 *active, i64 num_active, const REAL *layer, i64 layer_stride, i64 flat, REAL *weights,
    i64 stride
) {
    i64 column = 0;
    for (; column + WIDE * VL <= flat; column += WIDE * VL)
        weights_tile(WIDE, units, active, num_active, layer + column, layer_stride, weights + column, stride);
    for (; column + 2 * VL <= flat; column += 2 * VL)
        weights_tile(2, units, active, num_active, layer + column, layer_stride, weights + column, stride);
    for (; column < flat; column += VL)
        weights_tile(1, units, active, num_active, layer + column, layer_stride, weights + column, stride);
}

/* layer_grads[unit h][column] += sum over p of units[h][p] grads[p][column], `width` vectors, `count` units. */
INLINE void layer_tile(
    const int count, const int width, const REAL *units, const i64 *active, const REAL *grads, i64 stride,
    REAL *layer_grads, i64 layer_stride
) {
    vec sum[ROWS][WIDE];
#pragma GCC unroll 8
    for (int h = 0; h < count; h++)
#pragma GCC unroll 3
        for (int v = 0; v < width; v++) sum[h][v] = (vec){0};
    for (int p = 0; p < BLOCK; p++) {
        vec right[WIDE];
#pragma GCC unroll 3
        for (int v = 0; v < width; v++) right[v] = LOAD(grads + p * stride + v * VL);
#pragma GCC unroll 8
        for (int h = 0; h < count; h++)
#pragma GCC unroll 3
            for (int v = 0; v < width; v++) sum[h][v] += units[h * BLOCK + p] * right[v];
    }
#pragma GCC unroll 8
    for (int h = 0; h < count; h++)
#pragma GCC unroll 3
        for (int v = 0; v < width; v++) {
            REAL *place = layer_grads + active[h] * layer_stride + v * VL;
            STORE(place, LOAD(place) + sum[h][v]);
        }
}

INLINE void layer_columns(
    const int width, const REAL *units, const i64 *active, i64 num_active, const REAL *grads, i64 stride,
    REAL *layer_grads, i64 layer_stride
) {
    i64 h = 0;
#define UNITS(count)                                                                                                   \
    for (; h + count <= num_active; h += count)                                                                        \
        layer_tile(count, width, units + h * BLOCK, active + h, grads, stride, layer_grads, layer_stride);
    UNITS(ROWS)
#if ROWS > 4
    UNITS(4)
#endif
    UNITS(2)
    UNITS(1)
#undef UNITS
}

static void add_layer_grads(
    const REAL *units, const i64 *active, i64 num_active, const REAL *grads, i64 stride, i64 flat, REAL *layer_grads,
    i64 layer_stride
) {
    i64 column = 0;
    for (; column + WIDE * VL <= flat; column += WIDE * VL)
        layer_columns(WIDE, units, active, num_active, grads + column, stride, layer_grads + column, layer_stride);
    for (; column < flat; column += VL)
        layer_columns(1, units, active, num_active, grads + column, stride, layer_grads + column, layer_stride);
}

/* Sums of the products of every row p of `grads` with every active row of the layer, not for the unit of the bias.
   Compact, so that a vector of sums is added at once: unit_grads[group of RIGHT units][p][unit of the group]. */
enum { LEFT = 4, RIGHT = VL / 4 };

static void add_unit_grads(
    const i64 *active, i64 num_active, const REAL *layer, i64 layer_stride, const REAL *grads, i64 stride, i64 flat,
    REAL *unit_grads
) {
    for (i64 h = 0; h < num_active; h += RIGHT) {
        const REAL *row[RIGHT];
        for (int i = 0; i < RIGHT; i++) row[i] = layer + active[smaller(h + i, num_active - 1)] * layer_stride;
        for (int p = 0; p < BLOCK; p += LEFT) {
            vec part[LEFT * RIGHT];
#pragma GCC unroll 16
            for (int i = 0; i < LEFT * RIGHT; i++) part[i] = (vec){0};
            for (i64 column = 0; column < flat; column += VL) {
                vec left[LEFT], right[RIGHT];
#pragma GCC unroll 4
                for (int i = 0; i < LEFT; i++) left[i] = LOAD(grads + (p + i) * stride + column);
#pragma GCC unroll 4
                for (int i = 0; i < RIGHT; i++) right[i] = LOAD(row[i] + column);
#pragma GCC unroll 4
                for (int i = 0; i < LEFT; i++)
#pragma GCC unroll 4
                    for (int j = 0; j < RIGHT; j++) part[i * RIGHT + j] += left[i] * right[j];
            }
            REAL *place = unit_grads + h * BLOCK + p * RIGHT;
            STORE(place, LOAD(place) + sums_of(part));
        }
    }
}

/* From there to [p][unit] of all units; those that are not active have no gradient. */
static void spread_unit_grads(const i64 *active, i64 num_active, const REAL *compact, i64 width, REAL *out) {
    memset(out, 0, sizeof(REAL) * BLOCK * width);
    for (i64 h = 0; h < num_active; h++)
        for (int p = 0; p < BLOCK; p++)
            out[p * width + active[h]] = compact[h / RIGHT * RIGHT * BLOCK + p * RIGHT + h % RIGHT];
}

/* out[s][row] += sum over columns of weights[row][column] stack[s][column], for `sides` vectors s. */
INLINE void apply_sides(
    const int sides, const REAL *weights, i64 rows, i64 columns, const REAL *stack, REAL *out, i64 out_stride
) {
    const int group = VL / sides;
    for (i64 row = 0; row < rows; row += group) {
        vec part[VL];
#pragma GCC unroll 16
        for (int i = 0; i < VL; i++) part[i] = (vec){0};
        for (i64 column = 0; column < columns; column += VL) {
            vec left[4];
#pragma GCC unroll 4
            for (int s = 0; s < sides; s++) left[s] = LOAD(stack + s * columns + column);
#pragma GCC unroll 16
            for (int r = 0; r < group; r++) {
                vec right = LOAD(weights + (row + r) * columns + column);
#pragma GCC unroll 4
                for (int s = 0; s < sides; s++) part[s * group + r] += left[s] * right;
            }
        }
        vec total = sums_of(part);
        const int count = (int)smaller(group, rows - row);
        if (sides == 1 && count == group) {
            STORE(out + row, LOAD(out + row) + total);
            continue;
        }
        REAL sums[VL];
        STORE(sums, total);
        for (int s = 0; s < sides; s++) {
            REAL *place = out + s * out_stride + row;
            if (count == group)
                for (int r = 0; r < group; r++) place[r] += sums[s * group + r]; /* a constant number: one vector */
            else
                for (int r = 0; r < count; r++) place[r] += sums[s * group + r];
        }
    }
}

/* Gradients of apply_sides: stack_grads[s] += sum over rows of grad[s][row] weights[row]; weights[row] is replaced by
   its own gradient, sum over s of grad[s][row] stack[s]. */
INLINE void unapply_sides(
    const int sides, REAL *weights, i64 rows, i64 columns, const REAL *stack, REAL *stack_grads, const REAL *grad,
    i64 grad_stride
) {
    for (i64 column = 0; column < columns; column += VL) {
        vec value[4], sum[4];
#pragma GCC unroll 4
        for (int s = 0; s < sides; s++) {
            value[s] = LOAD(stack + s * columns + column);
            sum[s] = LOAD(stack_grads + s * columns + column);
        }
        for (i64 row = 0; row < rows; row++) {
            REAL *place = weights + row * columns + column;
            vec weight = LOAD(place), weight_grad = (vec){0};
#pragma GCC unroll 4
            for (int s = 0; s < sides; s++) {
                sum[s] += grad[s * grad_stride + row] * weight;
                weight_grad += grad[s * grad_stride + row] * value[s];
            }
            STORE(place, weight_grad);
        }
#pragma GCC unroll 4
        for (int s = 0; s < sides; s++) STORE(stack_grads + s * columns + column, sum[s]);
    }
}

/* The same with tangents. Of a product of values a b the gradients are G b and G a, their tangents G' b + G b' and
   G' a + G a'; weights and tangents are replaced by their gradients and the tangents of these. */
INLINE void unapply_tangents_sides(
    const int sides, REAL *weights, REAL *tangents, i64 rows, i64 columns, const REAL *stack, const REAL *stack_tangents,
    REAL *stack_grads, REAL *grad_tangents, const REAL *grad, const REAL *message_tangents, i64 grad_stride
) {
    for (i64 column = 0; column < columns; column += VL) {
        vec value[4], tangent[4], sum[4], sum_tangent[4];
#pragma GCC unroll 4
        for (int s = 0; s < sides; s++) {
            value[s] = LOAD(stack + s * columns + column), tangent[s] = LOAD(stack_tangents + s * columns + column);
            sum[s] = LOAD(stack_grads + s * columns + column), sum_tangent[s] = LOAD(grad_tangents + s * columns + column);
        }
        for (i64 row = 0; row < rows; row++) {
            REAL *place = weights + row * columns + column, *tangent_place = tangents + row * columns + column;
            vec weight = LOAD(place), weight_tangent = LOAD(tangent_place), weight_grad = (vec){0}, grad_tangent = (vec){0};
#pragma GCC unroll 4
            for (int s = 0; s < sides; s++) {
                REAL g = grad[s * grad_stride + row], t = message_tangents[s * grad_stride + row];
                sum[s] += g * weight;
                sum_tangent[s] += t * weight + g * weight_tangent;
                weight_grad += g * value[s];
                grad_tangent += t * value[s] + g * tangent[s];
            }
            STORE(place, weight_grad);
            STORE(tangent_place, grad_tangent);
        }
#pragma GCC unroll 4
        for (int s = 0; s < sides; s++) {
            STORE(stack_grads + s * columns + column, sum[s]);
            STORE(grad_tangents + s * columns + column, sum_tangent[s]);
        }
    }
}

#define WITH_SIDES(function, sides, ...)                                                                               \
    if (sides == 1) function(1, __VA_ARGS__);                                                                          \
    else if (sides == 2) function(2, __VA_ARGS__);                                                                     \
    else function(4, __VA_ARGS__);

INLINE void apply(
    int sides, const REAL *weights, i64 rows, i64 columns, const REAL *stack, REAL *out, i64 out_stride
) {
    WITH_SIDES(apply_sides, sides, weights, rows, columns, stack, out, out_stride)
}

INLINE void unapply(
    int sides, REAL *weights, i64 rows, i64 columns, const REAL *stack, REAL *stack_grads, const REAL *grad,
    i64 grad_stride
) {
    WITH_SIDES(unapply_sides, sides, weights, rows, columns, stack, stack_grads, grad, grad_stride)
}

INLINE void unapply_tangents(
    int sides, REAL *weights, REAL *tangents, i64 rows, i64 columns, const REAL *stack, const REAL *stack_tangents,
    REAL *stack_grads, REAL *grad_tangents, const REAL *grad, const REAL *message_tangents, i64 grad_stride
) {
    WITH_SIDES(unapply_tangents_sides, sides, weights, tangents, rows, columns, stack, stack_tangents, stack_grads,
               grad_tangents, grad, message_tangents, grad_stride)
}
