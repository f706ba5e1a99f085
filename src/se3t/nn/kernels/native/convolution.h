/* Messages of all edges and their gradients: rotation into the frame of the edge, products, and back. */
#pragma once
#include "blocks.h"

/* The source features of degree number i of an edge, [comp][channel]: those of its point, then its own; or their tangents. */
INLINE const REAL *source_of(
    const Worker *worker, const REAL *features, const Field *edge_features, i64 edge, i64 i, REAL *room
) {
    const Convolution *conv = worker->conv;
    const Layout *layout = worker->layout;
    i64 point = conv->index ? conv->index[edge] : edge, own = conv->edge_channels[i], width = layout->in_width[i];
    const REAL *source = features + point * layout->in_size + layout->in_place[i];
    if (!own) return source;
    const Field *field = edge_features + i;
    for (i64 c = 0; c < 2 * conv->degrees_in[i] + 1; c++) {
        const REAL *from = field->data + edge * field->row + c * field->component;
        copy_short(room + c * width, source + c * width, width, 1);
        for (i64 u = 0; u < own; u++) room[c * width + conv->channels_in[i] - own + u] = from[u * field->channel];
    }
    return room;
}

/* Edges are taken by their invariants, so what belongs to them lies anywhere: asked for a few rows ahead. */
enum { AHEAD = 3 };
INLINE void ask_for(const REAL *place, i64 count) {
    for (i64 n = 0; n < count; n += 64 / REAL_BYTES) __builtin_prefetch(place + n);
    __builtin_prefetch(place + count - 1);
}

static void ask_for_row(const Worker *worker, Part part, i64 p, int backward) {
    const Convolution *conv = worker->conv;
    if (p >= part.count) return;
    for (i64 side = 0; side < part.edges; side++) {
        i64 edge = edge_of(conv, part.start + p, side);
        for (i64 i = 0; i < conv->num_in && !backward; i++) {
            i64 degree = conv->degrees_in[i], size = 2 * degree + 1;
            if (degree) ask_for(conv->frames[degree] + edge * size * size, size * size);
        }
        for (i64 o = 0; o < conv->num_out && backward; o++) {
            i64 degree = conv->degrees_out[o], size = 2 * degree + 1;
            if (degree) ask_for(conv->frames[degree] + edge * size * size, size * size);
            ask_for(conv->message_grads[o].data + edge * conv->message_grads[o].row, size * conv->channels_out[o]);
        }
    }
}

/* Features in the frame of an edge to the columns of its row: components ±m of each order beside each other. */
static void stack_edge(const Worker *worker, Part part, i64 p, i64 side, const REAL *turned, REAL *stacks) {
    const Convolution *conv = worker->conv;
    const Layout *layout = worker->layout;
    for (i64 g = 0; g < layout->num_groups; g++) {
        const Group *group = layout->groups + g;
        i64 order = group->order;
        REAL *plus = stacks + p * stack_room(layout, part.edges) + group_place(layout, g, part.edges) +
                     side * sides_of(order) * group->columns;
        REAL *minus = plus + group->columns;
        for (i64 half = 0; half < sides_of(order); half++) /* ascending: each vector may end in the next one */
            for (i64 i = group->first_in; i < group->last_in; i++) {
                const REAL *value = turned + layout->in_place[i] +
                                    (conv->degrees_in[i] + (half ? -order : order)) * layout->in_width[i];
                copy_short(plus + half * group->width + layout->column_of[i][order], value, conv->channels_in[i], 1);
            }
        for (i64 half = 0; half < sides_of(order) && order; half++)
            for (i64 i = group->first_in; i < group->last_in; i++) {
                const REAL *value = turned + layout->in_place[i] +
                                    (conv->degrees_in[i] + (half ? order : -order)) * layout->in_width[i];
                copy_short(minus + half * group->width + layout->column_of[i][order], value, conv->channels_in[i],
                           half ? -1 : 1);
            }
    }
}

/* The transpose of stack_edge. */
static void unstack_edge(const Worker *worker, Part part, i64 p, i64 side, const REAL *grads, REAL *turned) {
    const Convolution *conv = worker->conv;
    const Layout *layout = worker->layout;
    if (layout->num_orders <= conv->degrees_in[conv->num_in - 1]) clear(turned, layout->in_size); /* orders without messages */
    for (i64 g = 0; g < layout->num_groups; g++) {
        const Group *group = layout->groups + g;
        i64 order = group->order;
        const REAL *plus = grads + p * stack_room(layout, part.edges) + group_place(layout, g, part.edges) +
                           side * sides_of(order) * group->columns;
        const REAL *minus = plus + group->columns;
        for (i64 i = group->first_in; i < group->last_in; i++) {
            i64 a = layout->column_of[i][order], b = a + group->width, width = layout->in_width[i];
            REAL *middle = turned + layout->in_place[i] + conv->degrees_in[i] * width;
            for (i64 u = 0; u < width; u += SHORT)
                if (order) {
                    SSTORE(middle + order * width + u, SLOAD(plus + a + u) - SLOAD(minus + b + u));
                    SSTORE(middle - order * width + u, SLOAD(plus + b + u) + SLOAD(minus + a + u));
                } else {
                    SSTORE(middle + u, SLOAD(plus + a + u));
                }
        }
    }
}

/* Source features in the frame of each edge, as columns. */
static void make_stacks(Worker *worker, Part part, REAL *stacks) {
    const Convolution *conv = worker->conv;
    const Layout *layout = worker->layout;
    REAL *turned = worker->scratch;
    for (i64 p = 0; p < part.count; p++)
        for (i64 side = 0; side < part.edges; side++) {
            if (!side) ask_for_row(worker, part, p + AHEAD, 0);
            i64 edge = edge_of(conv, part.start + p, side);
            for (i64 i = 0; i < conv->num_in; i++) {
                const REAL *source = source_of(worker, worker->features, conv->edge_features, edge, i, turned + layout->in_size);
                turn(conv->degrees_in[i], conv->frames[conv->degrees_in[i]], edge, 0, source, turned + layout->in_place[i],
                     layout->in_width[i]);
            }
            stack_edge(worker, part, p, side, turned, stacks);
        }
}

/* Sum of a[row][u] b[column][u] added to out[row][column]; width is a multiple of SHORT. */
static void add_outer(i64 size, const REAL *a, const REAL *b, i64 width, REAL *out) {
    for (i64 row = 0; row < size; row++)
        for (i64 column = 0; column < size; column++) {
            shortvec sum = {0};
            for (i64 u = 0; u < width; u += SHORT) sum += SLOAD(a + row * width + u) * SLOAD(b + column * width + u);
            for (int lane = 0; lane < SHORT; lane++) out[row * size + column] += sum[lane];
        }
}

/* Gradients of the source features of degree number i to those of the point and of the edge. */
static void give_source(Worker *worker, i64 edge, i64 i, const REAL *grad) {
    const Convolution *conv = worker->conv;
    const Layout *layout = worker->layout;
    i64 degree = conv->degrees_in[i], width = layout->in_width[i], point = conv->index ? conv->index[edge] : edge;
    REAL *sum = worker->feature_grads + point * layout->in_size + layout->in_place[i];
    add(sum, grad, (2 * degree + 1) * width);
    if (conv->edge_feature_grads && conv->edge_channels[i])
        write_field(conv->edge_feature_grads + i, edge, degree, conv->edge_channels[i], width,
                    grad + conv->channels_in[i] - conv->edge_channels[i]);
}

/* The transpose of make_stacks: gradients of features and, where asked for, of frames. */
static void unmake_stacks(Worker *worker, Part part, const REAL *grads) {
    const Convolution *conv = worker->conv;
    const Layout *layout = worker->layout;
    REAL *turned = worker->scratch, *back = turned + layout->in_size, *room = back + layout->in_size;
    for (i64 p = 0; p < part.count; p++)
        for (i64 side = 0; side < part.edges; side++) {
            i64 edge = edge_of(conv, part.start + p, side);
            unstack_edge(worker, part, p, side, grads, turned);
            for (i64 i = 0; i < conv->num_in; i++) {
                i64 degree = conv->degrees_in[i], size = 2 * degree + 1, place = layout->in_place[i];
                turn(degree, conv->frames[degree], edge, 1, turned + place, back, layout->in_width[i]);
                give_source(worker, edge, i, back);
                if (conv->frame_grads && degree)
                    add_outer(size, turned + place, source_of(worker, worker->features, conv->edge_features, edge, i, room),
                              layout->in_width[i], conv->frame_grads[degree] + edge * size * size);
            }
        }
}

/* The place of order m of an edge in its row (l, w) of messages: component +m, then -m. */
INLINE REAL *row_of(const Worker *worker, Part part, i64 p, i64 side, i64 o, i64 order, REAL *rows) {
    const Layout *layout = worker->layout;
    return rows + (p * layout->row_size + layout->out_place[order]) * part.edges +
           side * sides_of(order) * layout->out_stride[order] + layout->out_row[o][order];
}

/* Messages of degree number o in the frame of an edge from its row, or to it. */
static void read_row(const Worker *worker, Part part, i64 p, i64 side, i64 o, REAL *rows, REAL *turned) {
    const Layout *layout = worker->layout;
    i64 degree = worker->conv->degrees_out[o], channels = worker->conv->channels_out[o], width = layout->out_width[o];
    if (layout->num_orders <= degree) clear(turned, (2 * degree + 1) * width);
    for (i64 order = 0; order <= degree && order < layout->num_orders; order++) {
        const REAL *plus = row_of(worker, part, p, side, o, order, rows);
        copy_short(turned + (degree + order) * width, plus, channels, 1);
        if (order) copy_short(turned + (degree - order) * width, plus + layout->out_stride[order], channels, 1);
    }
}

static void write_row(const Worker *worker, Part part, i64 p, i64 side, i64 o, const REAL *turned, REAL *rows) {
    const Layout *layout = worker->layout;
    i64 degree = worker->conv->degrees_out[o], channels = worker->conv->channels_out[o], width = layout->out_width[o];
    for (i64 order = 0; order <= degree && order < layout->num_orders; order++) {
        REAL *plus = row_of(worker, part, p, side, o, order, rows); /* each vector may end in the row of the next degree */
        copy_short(plus, turned + (degree + order) * width, channels, 1);
        if (order) copy_short(plus + layout->out_stride[order], turned + (degree - order) * width, channels, 1);
    }
}

/* From rows to messages out of the frame. */
static void write_messages(Worker *worker, Part part, REAL *rows) {
    const Convolution *conv = worker->conv;
    const Layout *layout = worker->layout;
    REAL *turned = worker->scratch, *out = turned + layout->out_size;
    for (i64 p = 0; p < part.count; p++)
        for (i64 side = 0; side < part.edges; side++)
            for (i64 o = 0; o < conv->num_out; o++) {
                i64 edge = edge_of(conv, part.start + p, side), degree = conv->degrees_out[o], width = layout->out_width[o];
                read_row(worker, part, p, side, o, rows, turned);
                turn(degree, conv->frames[degree], edge, 1, turned, out, width);
                write_field(conv->messages + o, edge, degree, conv->channels_out[o], width, out);
            }
}

/* Gradients of the messages in the frame of each edge, as rows; and what they give to the frames. */
static void read_message_grads(Worker *worker, Part part, REAL *rows) {
    const Convolution *conv = worker->conv;
    const Layout *layout = worker->layout;
    REAL *grad = worker->scratch, *turned = grad + layout->out_size, *message = turned + layout->out_size;
    for (i64 p = 0; p < part.count; p++) {
        ask_for_row(worker, part, p + AHEAD, 1);
        for (i64 side = 0; side < part.edges; side++)
            for (i64 o = 0; o < conv->num_out; o++) {
                i64 edge = edge_of(conv, part.start + p, side), degree = conv->degrees_out[o], width = layout->out_width[o];
                i64 channels = conv->channels_out[o], size = 2 * degree + 1;
                read_field(conv->message_grads + o, edge, degree, channels, width, grad);
                turn(degree, conv->frames[degree], edge, 0, grad, turned, width);
                write_row(worker, part, p, side, o, turned, rows);
                if (conv->frame_grads && degree) {
                    read_field(conv->messages + o, edge, degree, channels, width, turned);
                    turn(degree, conv->frames[degree], edge, 0, turned, message, width);
                    add_outer(size, message, grad, width, conv->frame_grads[degree] + edge * size * size);
                }
            }
    }
}

/* All products of a few blocks; the layer's blocks outside, so that they stay in the cache. */
static void multiply(Worker *worker, const Part *parts, i64 count, int backward) {
    const Convolution *conv = worker->conv;
    const Layout *layout = worker->layout;
    i64 width = worker->second->width, layer_rows = layout->num_layer_rows, stride = layout->weight_stride;
    for (i64 n = 0; n < layout->num_tiles; n++) {
        const Tile *tile = layout->tiles + n;
        for (i64 row = 0, block = 0; row < tile->rows; row += tile->block_rows, block++) {
            i64 rows = smaller(tile->block_rows, tile->rows - row), flat = rows * tile->columns;
            i64 place = tile->layer + block * tile->size;
            for (i64 b = 0; b < count; b++) {
                i64 edges = parts[b].edges, unit_place = b * conv->num_trunks + tile->trunk;
                const REAL *units = worker->units + unit_place * layer_rows * BLOCK;
                const i64 *active = worker->active + unit_place * layer_rows;
                i64 num_active = worker->num_active[unit_place], sides = edges * sides_of(tile->order);
                i64 stack_step = stack_room(layout, edges), row_step = layout->row_size * edges;
                i64 stack = b * BLOCK * stack_step + group_place(layout, tile->stack, edges);
                REAL *out = worker->rows + b * BLOCK * row_step + layout->out_place[tile->order] * edges + tile->out + row;
                make_weights(units, active, num_active, worker->layer + place, tile->stride, flat, worker->weights, stride);
                if (!backward) {
                    for (i64 p = 0; p < parts[b].count; p++)
                        apply((int)sides, worker->weights + p * stride, rows, tile->columns,
                              worker->stacks + stack + p * stack_step, out + p * row_step, layout->out_stride[tile->order]);
                    continue;
                }
                for (i64 p = 0; p < BLOCK; p++)
                    unapply((int)sides, worker->weights + p * stride, rows, tile->columns,
                            worker->stacks + stack + p * stack_step, worker->stack_grads + stack + p * stack_step,
                            out + p * row_step, layout->out_stride[tile->order]);
                if (conv->weight_grads)
                    add_layer_grads(units, active, num_active, worker->weights, stride, flat, worker->layer_grads + place, tile->stride);
                add_unit_grads(active, num_active - conv->has_bias, worker->layer + place, tile->stride, worker->weights,
                               stride, flat, worker->unit_grads + unit_place * BLOCK * width);
            }
        }
    }
}

/* Numbers of a block of columns and of rows. */
static i64 stack_size(const Layout *layout, i64 edges) { return BLOCK * stack_room(layout, edges); }
static i64 row_size(const Layout *layout, i64 edges) { return BLOCK * layout->row_size * edges; }

/* As many of the next parts, of one kind, as are worked at once; returns how many. */
static i64 next_parts(const Worker *worker, i64 *first, i64 last, Part *parts) {
    i64 count = 0;
    while (count < worker->at_once && *first < last) {
        Part next = part_of(worker->conv, *first);
        if (count && next.edges != parts[0].edges) break;
        parts[count++] = next;
        ++*first;
    }
    return count;
}

/* Everything for the parts first ... last-1, a few blocks at a time. */
static void work(Worker *worker, i64 first, i64 last, int backward) {
    const Convolution *conv = worker->conv;
    Part parts[MAX_PARTS];
    for (i64 count; (count = next_parts(worker, &first, last, parts)) > 0;) {
        i64 stack = stack_size(worker->layout, parts[0].edges), row = row_size(worker->layout, parts[0].edges);
        clear(worker->stacks, count * stack);
        clear(worker->rows, count * row);
        if (backward) {
            clear(worker->stack_grads, count * stack);
            clear(worker->unit_grads, count * conv->num_trunks * BLOCK * worker->second->width);
        }
        for (i64 b = 0; b < count; b++) {
            make_units(worker, parts[b], b);
            make_stacks(worker, parts[b], worker->stacks + b * stack);
            if (backward) read_message_grads(worker, parts[b], worker->rows + b * row);
        }
        multiply(worker, parts, count, backward);
        for (i64 b = 0; b < count; b++) {
            if (!backward) {
                write_messages(worker, parts[b], worker->rows + b * row);
                continue;
            }
            unmake_stacks(worker, parts[b], worker->stack_grads + b * stack);
            unmake_units(worker, parts[b], b);
        }
    }
}
