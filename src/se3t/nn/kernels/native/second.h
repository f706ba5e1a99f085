/* Gradients of the gradients: with the message gradients G and a tangent of every input x, the sum over all inputs of
   (tangent of x) . (gradient of x) is the tangent of (messages . G). Its gradient by G is the tangent of the messages;
   by the inputs, the tangent of their gradients. Both are evaluated here with the values, product by product.

   The parameters have no tangents. */
#pragma once
#include "convolution.h"
#include "trunk_second.h"

/* Radial units of a block and their tangents: where a unit is zero, so is its tangent. */
static void make_units_second(Worker *worker, Part part, i64 block) {
    const Convolution *conv = worker->conv;
    i64 num_inputs = conv->num_inputs, width = worker->second->width;
    REAL *inputs = worker->scratch, *tangents = inputs + BLOCK * num_inputs;
    Kept middle, last;
    cut_kept(&last, cut_kept(&middle, tangents + BLOCK * num_inputs, width), width);
    read_inputs(conv, conv->invariants, part, inputs);
    read_inputs(conv, conv->invariant_tangents, part, tangents);
    for (i64 t = 0; t < conv->num_trunks; t++) {
        hidden_forward_second(worker->first, t, inputs, tangents, num_inputs, &middle);
        hidden_forward_second(worker->second, t, middle.out, middle.tangent, width, &last);
        keep_active(worker, part, block * conv->num_trunks + t, last.out, last.tangent);
    }
}

/* Tangents of the gradients of everything that makes the units of a block. */
static void unmake_units_second(Worker *worker, Part part, i64 block) {
    const Convolution *conv = worker->conv;
    i64 num_inputs = conv->num_inputs, width = worker->second->width, inputs_size = BLOCK * num_inputs, size = BLOCK * width;
    REAL *inputs = worker->scratch, *tangents = inputs + inputs_size, *input_grads = tangents + inputs_size;
    REAL *input_grad_tangents = input_grads + inputs_size, *sum = input_grad_tangents + inputs_size;
    Kept middle, last;
    REAL *grads = cut_kept(&last, cut_kept(&middle, sum + inputs_size, width), width), *grad_tangents = grads + size;
    REAL *middle_grads = grad_tangents + size, *middle_grad_tangents = middle_grads + size;
    read_inputs(conv, conv->invariants, part, inputs);
    read_inputs(conv, conv->invariant_tangents, part, tangents);
    clear(sum, inputs_size);
    for (i64 t = 0; t < conv->num_trunks; t++) {
        i64 place = block * conv->num_trunks + t;
        read_unit_grads(worker, place, worker->unit_grads, grads);
        read_unit_grads(worker, place, worker->tangent.unit_grads, grad_tangents);
        hidden_forward_second(worker->first, t, inputs, tangents, num_inputs, &middle);
        hidden_forward_second(worker->second, t, middle.out, middle.tangent, width, &last);
        hidden_backward_second(worker->second, &worker->second_grads, t, middle.out, middle.tangent, width, &last, grads,
                               grad_tangents, middle_grads, middle_grad_tangents);
        clear_padding(worker, middle_grads);
        clear_padding(worker, middle_grad_tangents);
        hidden_backward_second(worker->first, &worker->first_grads, t, inputs, tangents, num_inputs, &middle, middle_grads,
                               middle_grad_tangents, conv->invariant_grads ? input_grads : NULL, input_grad_tangents);
        for (i64 n = 0; n < inputs_size && conv->invariant_grads; n++) sum[n] += input_grad_tangents[n];
    }
    if (conv->invariant_grads)
        memcpy(conv->invariant_grads + part.start * num_inputs, sum, sizeof(REAL) * part.count * num_inputs);
}

/* out += matrix of the edge, or its transpose, times in; scalars have a frame that does not change: no tangent. */
static void add_turned(
    i64 degree, const REAL *const *frames, i64 edge, const int transpose, const REAL *in, REAL *out, i64 width, REAL *room
) {
    turn(degree, frames[degree], edge, transpose, in, room, width);
    add(out, room, (2 * degree + 1) * width);
}

/* Source features of the edges in their frames, and their tangents. */
static void make_stack_tangents(Worker *worker, Part part, REAL *stacks) {
    const Convolution *conv = worker->conv;
    const Layout *layout = worker->layout;
    REAL *turned = worker->scratch, *first = turned + layout->in_size, *second = first + layout->in_size;
    REAL *room = second + layout->in_size;
    for (i64 p = 0; p < part.count; p++)
        for (i64 side = 0; side < part.edges; side++) {
            i64 edge = edge_of(conv, part.start + p, side);
            for (i64 i = 0; i < conv->num_in; i++) {
                i64 degree = conv->degrees_in[i], width = layout->in_width[i], place = layout->in_place[i];
                const REAL *source = source_of(worker, worker->features, conv->edge_features, edge, i, first);
                const REAL *tangent = source_of(worker, worker->tangent.features, conv->edge_feature_tangents, edge, i, second);
                turn(degree, conv->frames[degree], edge, 0, tangent, turned + place, width);
                if (degree) add_turned(degree, conv->frame_tangents, edge, 0, source, turned + place, width, room);
            }
            stack_edge(worker, part, p, side, turned, stacks);
        }
}

/* Gradients of the messages in the frame of each edge, and their tangents, which come from the frames alone. */
static void read_second_grads(Worker *worker, Part part, REAL *rows, REAL *tangents) {
    const Convolution *conv = worker->conv;
    const Layout *layout = worker->layout;
    REAL *grad = worker->scratch, *turned = grad + layout->out_size;
    for (i64 p = 0; p < part.count; p++)
        for (i64 side = 0; side < part.edges; side++)
            for (i64 o = 0; o < conv->num_out; o++) {
                i64 edge = edge_of(conv, part.start + p, side), degree = conv->degrees_out[o], width = layout->out_width[o];
                read_field(conv->message_grads + o, edge, degree, conv->channels_out[o], width, grad);
                turn(degree, conv->frames[degree], edge, 0, grad, turned, width);
                write_row(worker, part, p, side, o, turned, rows);
                if (!degree) continue;
                turn(degree, conv->frame_tangents[degree], edge, 0, grad, turned, width);
                write_row(worker, part, p, side, o, turned, tangents);
            }
}

/* Tangents of the messages out of the frame, and what the messages contribute to the gradients of the frames. */
static void write_message_tangents(Worker *worker, Part part, REAL *rows) {
    const Convolution *conv = worker->conv;
    const Layout *layout = worker->layout;
    i64 step = layout->out_size;
    REAL *turned = worker->scratch, *out = turned + step, *value = out + step, *in_frame = value + step, *room = in_frame + step;
    for (i64 p = 0; p < part.count; p++)
        for (i64 side = 0; side < part.edges; side++)
            for (i64 o = 0; o < conv->num_out; o++) {
                i64 edge = edge_of(conv, part.start + p, side), degree = conv->degrees_out[o], width = layout->out_width[o];
                i64 channels = conv->channels_out[o], size = 2 * degree + 1;
                read_row(worker, part, p, side, o, rows, turned);
                turn(degree, conv->frames[degree], edge, 1, turned, out, width);
                if (degree) {
                    read_field(conv->messages + o, edge, degree, channels, width, value);
                    turn(degree, conv->frames[degree], edge, 0, value, in_frame, width);
                    add_turned(degree, conv->frame_tangents, edge, 1, in_frame, out, width, room);
                    read_field(conv->message_grads + o, edge, degree, channels, width, value);
                    add_outer(size, turned, value, width, conv->frame_grads[degree] + edge * size * size);
                }
                write_field(conv->message_tangents + o, edge, degree, channels, width, out);
            }
}

/* Tangents of the gradients of features and frames, from those of the columns. */
static void unmake_stack_tangents(Worker *worker, Part part, const REAL *grads, const REAL *tangents) {
    const Convolution *conv = worker->conv;
    const Layout *layout = worker->layout;
    i64 step = layout->in_size;
    REAL *turned = worker->scratch, *turned_tangent = turned + step, *back = turned_tangent + step, *room = back + step;
    REAL *first = room + step, *second = first + step;
    for (i64 p = 0; p < part.count; p++)
        for (i64 side = 0; side < part.edges; side++) {
            i64 edge = edge_of(conv, part.start + p, side);
            unstack_edge(worker, part, p, side, grads, turned);
            unstack_edge(worker, part, p, side, tangents, turned_tangent);
            for (i64 i = 0; i < conv->num_in; i++) {
                i64 degree = conv->degrees_in[i], size = 2 * degree + 1, place = layout->in_place[i];
                i64 width = layout->in_width[i];
                const REAL *source = source_of(worker, worker->features, conv->edge_features, edge, i, first);
                const REAL *tangent = source_of(worker, worker->tangent.features, conv->edge_feature_tangents, edge, i, second);
                turn(degree, conv->frames[degree], edge, 1, turned_tangent + place, back, width);
                if (degree) {
                    REAL *frame_grad = conv->frame_grads[degree] + edge * size * size;
                    add_turned(degree, conv->frame_tangents, edge, 1, turned + place, back, width, room);
                    add_outer(size, turned_tangent + place, source, width, frame_grad);
                    add_outer(size, turned + place, tangent, width, frame_grad);
                }
                give_source(worker, edge, i, back);
            }
        }
}

/* The products of a few blocks, as in multiply. */
static void multiply_tangents(Worker *worker, const Part *parts, i64 count) {
    const Convolution *conv = worker->conv;
    const Layout *layout = worker->layout;
    i64 width = worker->second->width, layer_rows = layout->num_layer_rows, stride = layout->weight_stride;
    REAL *weights = worker->weights, *tangents = worker->tangent.weights;
    for (i64 n = 0; n < layout->num_tiles; n++) {
        const Tile *tile = layout->tiles + n;
        for (i64 row = 0, block = 0; row < tile->rows; row += tile->block_rows, block++) {
            i64 rows = smaller(tile->block_rows, tile->rows - row), flat = rows * tile->columns;
            i64 layer_place = tile->layer + block * tile->size;
            const REAL *layer = worker->layer + layer_place;
            for (i64 b = 0; b < count; b++) {
                i64 edges = parts[b].edges, sides = edges * sides_of(tile->order), place = b * conv->num_trunks + tile->trunk;
                const REAL *units = worker->units + place * layer_rows * BLOCK;
                const REAL *unit_tangents = worker->tangent.units + place * layer_rows * BLOCK;
                const i64 *active = worker->active + place * layer_rows;
                i64 num_active = worker->num_active[place], num_units = num_active - conv->has_bias;
                i64 stack_step = stack_room(layout, edges), row_step = layout->row_size * edges;
                i64 stack = b * BLOCK * stack_step + group_place(layout, tile->stack, edges);
                i64 out = b * BLOCK * row_step + layout->out_place[tile->order] * edges + tile->out + row;
                i64 out_stride = layout->out_stride[tile->order];
                make_weights(units, active, num_active, layer, tile->stride, flat, weights, stride);
                make_weights(unit_tangents, active, num_units, layer, tile->stride, flat, tangents, stride);
                for (i64 p = 0; p < parts[b].count; p++, stack += stack_step, out += row_step) {
                    REAL *messages = worker->tangent.messages + out;
                    apply((int)sides, weights + p * stride, rows, tile->columns, worker->tangent.stacks + stack, messages, out_stride);
                    apply((int)sides, tangents + p * stride, rows, tile->columns, worker->stacks + stack, messages, out_stride);
                    unapply_tangents((int)sides, weights + p * stride, tangents + p * stride, rows, tile->columns,
                                     worker->stacks + stack, worker->tangent.stacks + stack, worker->stack_grads + stack,
                                     worker->tangent.stack_grads + stack, worker->rows + out, worker->tangent.rows + out,
                                     out_stride);
                }
                if (conv->weight_grads) {
                    add_layer_grads(units, active, num_active, tangents, stride, flat, worker->layer_grads + layer_place, tile->stride);
                    add_layer_grads(unit_tangents, active, num_units, weights, stride, flat, worker->layer_grads + layer_place, tile->stride);
                }
                i64 unit_place = place * BLOCK * width;
                add_unit_grads(active, num_units, layer, tile->stride, weights, stride, flat, worker->unit_grads + unit_place);
                add_unit_grads(active, num_units, layer, tile->stride, tangents, stride, flat, worker->tangent.unit_grads + unit_place);
            }
        }
    }
}

/* Everything for the parts first ... last-1, a few blocks at a time. */
static void work_second(Worker *worker, i64 first, i64 last) {
    const Convolution *conv = worker->conv;
    i64 unit_grads = conv->num_trunks * BLOCK * worker->second->width;
    Part parts[MAX_PARTS];
    for (i64 count; (count = next_parts(worker, &first, last, parts)) > 0;) {
        i64 stack = stack_size(worker->layout, parts[0].edges), row = row_size(worker->layout, parts[0].edges);
        clear(worker->stacks, count * stack), clear(worker->tangent.stacks, count * stack);
        clear(worker->stack_grads, count * stack), clear(worker->tangent.stack_grads, count * stack);
        clear(worker->rows, count * row), clear(worker->tangent.rows, count * row);
        clear(worker->tangent.messages, count * row);
        clear(worker->unit_grads, count * unit_grads), clear(worker->tangent.unit_grads, count * unit_grads);
        for (i64 b = 0; b < count; b++) {
            make_units_second(worker, parts[b], b);
            make_stacks(worker, parts[b], worker->stacks + b * stack);
            make_stack_tangents(worker, parts[b], worker->tangent.stacks + b * stack);
            read_second_grads(worker, parts[b], worker->rows + b * row, worker->tangent.rows + b * row);
        }
        multiply_tangents(worker, parts, count);
        for (i64 b = 0; b < count; b++) {
            write_message_tangents(worker, parts[b], worker->tangent.messages + b * row);
            unmake_stack_tangents(worker, parts[b], worker->stack_grads + b * stack, worker->tangent.stack_grads + b * stack);
            unmake_units_second(worker, parts[b], b);
        }
    }
}
