/* Messages of all edges and their gradients: radial units, rotation into the frame of the edge, products, and back. */
#pragma once
#include "rows.h"

/* What one thread works with. */
typedef struct {
    const Convolution *conv;
    const Layout *layout;
    const Hidden *first, *second;
    const REAL *layer;    /* folded */
    const REAL *features; /* [point][in_size] */
    REAL *stacks, *stack_grads, *rows, *weights; /* stacks: rotated features; rows: messages or their gradients */
    REAL *units, *unit_grads;                    /* [block][trunk][unit][BLOCK], [block][trunk][BLOCK][width] */
    i64 *active, *num_active;                    /* [block][trunk][unit], [block][trunk] */
    REAL *scratch;
    REAL *layer_grads, *feature_grads; /* private sums */
    Hidden first_grads, second_grads;
    i64 at_once; /* blocks */
} Worker;

typedef struct {
    i64 start, count, edges; /* rows of radial units; edges of each */
} Part;

/* Part number n of all rows: blocks of pairs, then blocks of single edges. */
static Part part_of(const Convolution *conv, i64 n) {
    i64 pair_blocks = (conv->num_pairs + BLOCK - 1) / BLOCK;
    if (n < pair_blocks) return (Part){n * BLOCK, smaller(BLOCK, conv->num_pairs - n * BLOCK), 2};
    i64 start = conv->num_pairs + (n - pair_blocks) * BLOCK;
    return (Part){start, smaller(BLOCK, conv->num_rows - start), 1};
}

static i64 num_parts(const Convolution *conv) {
    return (conv->num_pairs + BLOCK - 1) / BLOCK + (conv->num_rows - conv->num_pairs + BLOCK - 1) / BLOCK;
}

static i64 edge_of(const Convolution *conv, i64 row, i64 side) { return side ? conv->second[row] : conv->first[row]; }

static void read_inputs(const Convolution *conv, Part part, REAL *inputs) {
    i64 count = conv->num_inputs;
    memset(inputs, 0, sizeof(REAL) * BLOCK * count);
    memcpy(inputs, conv->invariants + part.start * count, sizeof(REAL) * part.count * count);
}

/* Radial units of a block, those that are not zero for all its rows. */
static void make_units(Worker *worker, Part part, i64 block) {
    const Convolution *conv = worker->conv;
    i64 width = worker->second->width, units = conv->num_units, rows = worker->layout->num_layer_rows;
    REAL *inputs = worker->scratch, *middle = inputs + BLOCK * conv->num_inputs, *value = middle + BLOCK * width;
    read_inputs(conv, part, inputs);
    for (i64 t = 0; t < conv->num_trunks; t++) {
        i64 place = block * conv->num_trunks + t, count = 0;
        REAL *out = worker->units + place * rows * BLOCK;
        i64 *active = worker->active + place * rows;
        hidden_forward(worker->first, t, inputs, conv->num_inputs, middle, NULL, NULL);
        hidden_forward(worker->second, t, middle, width, value, NULL, NULL);
        for (i64 h = 0; h < units; h++) {
            REAL any = 0;
            for (i64 p = 0; p < BLOCK; p++) {
                REAL unit = p < part.count ? value[p * width + h] : 0;
                out[count * BLOCK + p] = unit;
                any = unit != 0 ? 1 : any;
            }
            if (any != 0) active[count++] = h;
        }
        if (conv->has_bias) { /* a unit that is always one */
            for (i64 p = 0; p < BLOCK; p++) out[count * BLOCK + p] = p < part.count;
            active[count++] = units;
        }
        worker->num_active[place] = count;
    }
}

/* Gradients of the radial units of a block to everything that makes them. */
static void unmake_units(Worker *worker, Part part, i64 block) {
    const Convolution *conv = worker->conv;
    i64 width = worker->second->width, inputs_size = BLOCK * conv->num_inputs, size = BLOCK * width;
    REAL *inputs = worker->scratch, *input_grads = inputs + inputs_size, *sum = input_grads + inputs_size;
    REAL *middle = sum + inputs_size, *value = middle + size, *normal = value + size, *last_normal = normal + size;
    REAL *middle_grads = last_normal + size, *grads = middle_grads + size, scale[BLOCK], last_scale[BLOCK];
    read_inputs(conv, part, inputs);
    memset(sum, 0, sizeof(REAL) * inputs_size);
    for (i64 t = 0; t < conv->num_trunks; t++) {
        i64 place = block * conv->num_trunks + t;
        spread_unit_grads(worker->active + place * worker->layout->num_layer_rows,
                          worker->num_active[place] - conv->has_bias, worker->unit_grads + place * size, width, grads);
        hidden_forward(worker->first, t, inputs, conv->num_inputs, middle, normal, scale);
        hidden_forward(worker->second, t, middle, width, value, last_normal, last_scale);
        hidden_backward(worker->second, &worker->second_grads, t, middle, width, value, last_normal, last_scale, grads, middle_grads);
        for (i64 p = 0; p < BLOCK; p++) /* padding of the middle units has no gradient */
            for (i64 h = conv->num_units; h < width; h++) middle_grads[p * width + h] = 0;
        hidden_backward(
            worker->first, &worker->first_grads, t, inputs, conv->num_inputs, middle, normal, scale, middle_grads,
            conv->invariant_grads ? input_grads : NULL
        );
        for (i64 n = 0; n < inputs_size && conv->invariant_grads; n++) sum[n] += input_grads[n];
    }
    if (conv->invariant_grads)
        memcpy(conv->invariant_grads + part.start * conv->num_inputs, sum, sizeof(REAL) * part.count * conv->num_inputs);
}

/* The source features of an edge, [comp][channel] by degree: those of its point, then its own. */
static const REAL *source_of(const Worker *worker, i64 edge, REAL *room) {
    const Convolution *conv = worker->conv;
    const Layout *layout = worker->layout;
    const REAL *point = worker->features + (conv->index ? conv->index[edge] : edge) * layout->in_size;
    if (!conv->edge_features) return point;
    memcpy(room, point, sizeof(REAL) * layout->in_size);
    for (i64 i = 0; i < conv->num_in; i++) {
        const Field *field = conv->edge_features + i;
        REAL *to = room + layout->in_place[i] + conv->channels_in[i] - conv->edge_channels[i];
        for (i64 c = 0; c < 2 * conv->degrees_in[i] + 1 && conv->edge_channels[i]; c++)
            for (i64 u = 0; u < conv->edge_channels[i]; u++)
                to[c * layout->in_width[i] + u] =
                    field->data[edge * field->row + u * field->channel + c * field->component];
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

/* Source features in the frame of each edge, components ±m of each order beside each other. */
static void make_stacks(Worker *worker, Part part, REAL *stacks) {
    const Convolution *conv = worker->conv;
    const Layout *layout = worker->layout;
    REAL *turned = worker->scratch;
    for (i64 p = 0; p < part.count; p++)
        for (i64 side = 0; side < part.edges; side++) {
            if (!side) ask_for_row(worker, part, p + AHEAD, 0);
            i64 edge = edge_of(conv, part.start + p, side);
            const REAL *source = source_of(worker, edge, turned + layout->in_size);
            for (i64 i = 0; i < conv->num_in; i++)
                turn(conv->degrees_in[i], conv->frames[conv->degrees_in[i]], edge, 0, source + layout->in_place[i],
                     turned + layout->in_place[i], layout->in_width[i]);
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

/* The transpose of make_stacks: gradients of features and, where asked for, of frames. */
static void unmake_stacks(Worker *worker, Part part, const REAL *grads) {
    const Convolution *conv = worker->conv;
    const Layout *layout = worker->layout;
    REAL *turned = worker->scratch, *back = turned + layout->in_size, *room = back + layout->in_size;
    for (i64 p = 0; p < part.count; p++)
        for (i64 side = 0; side < part.edges; side++) {
            i64 edge = edge_of(conv, part.start + p, side);
            i64 point = conv->index ? conv->index[edge] : edge;
            memset(turned, 0, sizeof(REAL) * layout->in_size);
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
            const REAL *source = conv->frame_grads ? source_of(worker, edge, room) : NULL;
            for (i64 i = 0; i < conv->num_in; i++) {
                i64 degree = conv->degrees_in[i], size = 2 * degree + 1, place = layout->in_place[i];
                REAL *sum = worker->feature_grads + point * layout->in_size + place;
                turn(degree, conv->frames[degree], edge, 1, turned + place, back, layout->in_width[i]);
                for (i64 n = 0; n < size * layout->in_width[i]; n += SHORT) SSTORE(sum + n, SLOAD(sum + n) + SLOAD(back + n));
                if (conv->edge_feature_grads && conv->edge_channels[i])
                    write_field(conv->edge_feature_grads + i, edge, degree, conv->edge_channels[i], layout->in_width[i],
                                back + conv->channels_in[i] - conv->edge_channels[i]);
                if (source && degree)
                    add_outer(size, turned + place, source + place, layout->in_width[i],
                              conv->frame_grads[degree] + edge * size * size);
            }
        }
}

/* From rows (l, w) by order, sides +m and -m, to messages out of the frame. */
static void write_messages(Worker *worker, Part part, const REAL *rows) {
    const Convolution *conv = worker->conv;
    const Layout *layout = worker->layout;
    REAL *turned = worker->scratch, *out = turned + layout->out_size;
    for (i64 p = 0; p < part.count; p++)
        for (i64 side = 0; side < part.edges; side++)
            for (i64 o = 0; o < conv->num_out; o++) {
                i64 edge = edge_of(conv, part.start + p, side), degree = conv->degrees_out[o], width = layout->out_width[o];
                memset(turned, 0, sizeof(REAL) * (2 * degree + 1) * width);
                for (i64 order = 0; order <= degree && order < layout->num_orders; order++) {
                    const REAL *plus = rows + (p * layout->row_size + layout->out_place[order]) * part.edges +
                                       side * sides_of(order) * layout->out_stride[order] + layout->out_row[o][order];
                    copy_short(turned + (degree + order) * width, plus, conv->channels_out[o], 1);
                    if (order)
                        copy_short(turned + (degree - order) * width, plus + layout->out_stride[order], conv->channels_out[o], 1);
                }
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
                read_field(conv->message_grads + o, conv->num_edges, edge, degree, channels, width, grad);
                turn(degree, conv->frames[degree], edge, 0, grad, turned, width);
                for (i64 order = 0; order <= degree && order < layout->num_orders; order++) {
                    REAL *plus = rows + (p * layout->row_size + layout->out_place[order]) * part.edges +
                                 side * sides_of(order) * layout->out_stride[order] + layout->out_row[o][order];
                    for (i64 w = 0; w < channels; w++) plus[w] = turned[(degree + order) * width + w];
                    for (i64 w = 0; w < channels && order; w++)
                        plus[layout->out_stride[order] + w] = turned[(degree - order) * width + w];
                }
                if (conv->frame_grads && degree) {
                    read_field(conv->messages + o, conv->num_edges, edge, degree, channels, width, turned);
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
                add_layer_grads(units, active, num_active, worker->weights, stride, flat, worker->layer_grads + place, tile->stride);
                add_unit_grads(active, num_active - conv->has_bias, worker->layer + place, tile->stride, worker->weights,
                               stride, flat, worker->unit_grads + unit_place * BLOCK * width);
            }
        }
    }
}

/* Everything for the parts first ... last-1, a few blocks at a time. */
static void work(Worker *worker, i64 first, i64 last, int backward) {
    const Convolution *conv = worker->conv;
    const Layout *layout = worker->layout;
    i64 width = worker->second->width;
    while (first < last) {
        Part parts[64] = {{0}};
        i64 count = 0;
        while (count < worker->at_once && first < last) { /* of one kind */
            Part next = part_of(conv, first);
            if (count && next.edges != parts[0].edges) break;
            parts[count++] = next;
            first++;
        }
        i64 edges = parts[0].edges, stack = BLOCK * stack_room(layout, edges), row = BLOCK * layout->row_size * edges;
        memset(worker->stacks, 0, sizeof(REAL) * count * stack);
        memset(worker->rows, 0, sizeof(REAL) * count * row);
        if (backward) {
            memset(worker->stack_grads, 0, sizeof(REAL) * count * stack);
            memset(worker->unit_grads, 0, sizeof(REAL) * count * conv->num_trunks * BLOCK * width);
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
