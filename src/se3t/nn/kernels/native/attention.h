/* Attention over the incoming edges of each node: softmax and weighted sums by segments. */
#pragma once
#include "layout.h"

typedef struct {
    i64 num_nodes, num_heads, num_threads;
    i64 num_keys, num_values; /* degrees */
    const i64 *key_degrees, *key_channels, *value_degrees, *value_channels;
    const i64 *start, *edge; /* incoming edges of node n: edge[start[n]] ... edge[start[n + 1] - 1] */
    double scale;
    const Field *query, *key, *value; /* node; edge, component-major; edge, component-major */
    const Field *out;                 /* node, component-major */
    REAL *weights;                    /* [edge, head] */
    /* gradients */
    const Field *out_grads, *query_grads, *key_grads, *value_grads;
} Attention;

/* out[head] += sum over components and channels of the head of a b; all degrees of a fiber. */
INLINE void dots(
    const Attention *attention, i64 count, const i64 *degrees, const i64 *channels, const REAL *node, const Field *field,
    i64 edge, REAL *out
) {
    for (i64 i = 0; i < count; i++) {
        i64 each = channels[i] / attention->num_heads;
        for (i64 c = 0; c < 2 * degrees[i] + 1; c++, node += channels[i]) {
            const REAL *other = field[i].data + edge * field[i].row + c * field[i].component;
            for (i64 h = 0; h < attention->num_heads; h++) {
                REAL sum = 0;
                for (i64 u = h * each; u < (h + 1) * each; u++) sum += node[u] * other[u];
                out[h] += sum;
            }
        }
    }
}

/* sum[...] += factor[head] field[edge, ...], [comp][channel] one degree after the other. */
INLINE void add_scaled(
    const Attention *attention, i64 count, const i64 *degrees, const i64 *channels, const Field *field, i64 edge,
    const REAL *factor, REAL *sum
) {
    for (i64 i = 0; i < count; i++) {
        i64 each = channels[i] / attention->num_heads;
        for (i64 c = 0; c < 2 * degrees[i] + 1; c++, sum += channels[i]) {
            const REAL *value = field[i].data + edge * field[i].row + c * field[i].component;
            for (i64 h = 0; h < attention->num_heads; h++)
                for (i64 u = h * each; u < (h + 1) * each; u++) sum[u] += factor[h] * value[u];
        }
    }
}

/* field[edge, ...] = factor[head] node[...]. */
INLINE void set_scaled(
    const Attention *attention, i64 count, const i64 *degrees, const i64 *channels, const Field *field, i64 edge,
    const REAL *factor, const REAL *node
) {
    for (i64 i = 0; i < count; i++) {
        i64 each = channels[i] / attention->num_heads;
        for (i64 c = 0; c < 2 * degrees[i] + 1; c++, node += channels[i]) {
            REAL *value = field[i].data + edge * field[i].row + c * field[i].component;
            for (i64 h = 0; h < attention->num_heads; h++)
                for (i64 u = h * each; u < (h + 1) * each; u++) value[u] = factor[h] * node[u];
        }
    }
}

static i64 node_size(i64 count, const i64 *degrees, const i64 *channels) {
    i64 size = 0;
    for (i64 i = 0; i < count; i++) size += (2 * degrees[i] + 1) * channels[i];
    return size;
}

INLINE void read_node(i64 count, const i64 *degrees, const i64 *channels, const Field *field, i64 node, REAL *out) {
    for (i64 i = 0; i < count; i++)
        for (i64 c = 0; c < 2 * degrees[i] + 1; c++)
            for (i64 u = 0; u < channels[i]; u++)
                *out++ = field[i].data[node * field[i].row + u * field[i].channel + c * field[i].component];
}

INLINE void write_node(i64 count, const i64 *degrees, const i64 *channels, const Field *field, i64 node, const REAL *in) {
    for (i64 i = 0; i < count; i++)
        for (i64 c = 0; c < 2 * degrees[i] + 1; c++)
            for (i64 u = 0; u < channels[i]; u++)
                field[i].data[node * field[i].row + u * field[i].channel + c * field[i].component] = *in++;
}

static void attend_node(const Attention *attention, i64 node, REAL *query, REAL *sum) {
    i64 heads = attention->num_heads, first = attention->start[node], last = attention->start[node + 1];
    REAL largest[heads], total[heads];
    read_node(attention->num_keys, attention->key_degrees, attention->key_channels, attention->query, node, query);
    for (i64 h = 0; h < heads; h++) largest[h] = -INFINITY, total[h] = 0;
    for (i64 n = first; n < last; n++) {
        REAL *logits = attention->weights + attention->edge[n] * heads;
        for (i64 h = 0; h < heads; h++) logits[h] = 0;
        dots(attention, attention->num_keys, attention->key_degrees, attention->key_channels, query, attention->key,
             attention->edge[n], logits);
        for (i64 h = 0; h < heads; h++) {
            logits[h] *= (REAL)attention->scale;
            largest[h] = logits[h] > largest[h] || logits[h] != logits[h] ? logits[h] : largest[h];
        }
    }
    for (i64 n = first; n < last; n++) {
        REAL *logits = attention->weights + attention->edge[n] * heads;
        for (i64 h = 0; h < heads; h++) {
            logits[h] = sizeof(REAL) == 4 ? (REAL)expf((float)(logits[h] - largest[h])) : (REAL)exp(logits[h] - largest[h]);
            total[h] += logits[h];
        }
    }
    i64 size = node_size(attention->num_values, attention->value_degrees, attention->value_channels);
    for (i64 n = 0; n < size; n++) sum[n] = 0;
    for (i64 h = 0; h < heads; h++) total[h] = 1 / total[h];
    for (i64 n = first; n < last; n++) {
        REAL *weights = attention->weights + attention->edge[n] * heads;
        for (i64 h = 0; h < heads; h++) weights[h] *= total[h];
        add_scaled(attention, attention->num_values, attention->value_degrees, attention->value_channels,
                   attention->value, attention->edge[n], weights, sum);
    }
    write_node(attention->num_values, attention->value_degrees, attention->value_channels, attention->out, node, sum);
}

static void attend_node_backward(const Attention *attention, i64 node, REAL *query, REAL *query_grad, REAL *grad) {
    i64 heads = attention->num_heads, first = attention->start[node], last = attention->start[node + 1];
    REAL mean[heads], own[heads];
    read_node(attention->num_keys, attention->key_degrees, attention->key_channels, attention->query, node, query);
    read_node(attention->num_values, attention->value_degrees, attention->value_channels, attention->out_grads, node, grad);
    i64 size = node_size(attention->num_keys, attention->key_degrees, attention->key_channels);
    for (i64 n = 0; n < size; n++) query_grad[n] = 0;
    for (i64 h = 0; h < heads; h++) mean[h] = 0;
    for (i64 n = first; n < last; n++) {
        const REAL *weights = attention->weights + attention->edge[n] * heads;
        for (i64 h = 0; h < heads; h++) own[h] = 0;
        dots(attention, attention->num_values, attention->value_degrees, attention->value_channels, grad,
             attention->value, attention->edge[n], own);
        for (i64 h = 0; h < heads; h++) mean[h] += weights[h] * own[h];
    }
    for (i64 n = first; n < last; n++) {
        i64 edge = attention->edge[n];
        const REAL *weights = attention->weights + edge * heads;
        for (i64 h = 0; h < heads; h++) own[h] = 0;
        dots(attention, attention->num_values, attention->value_degrees, attention->value_channels, grad,
             attention->value, edge, own);
        for (i64 h = 0; h < heads; h++) own[h] = weights[h] * (own[h] - mean[h]) * (REAL)attention->scale;
        add_scaled(attention, attention->num_keys, attention->key_degrees, attention->key_channels, attention->key, edge,
                   own, query_grad);
        set_scaled(attention, attention->num_keys, attention->key_degrees, attention->key_channels,
                   attention->key_grads, edge, own, query);
        set_scaled(attention, attention->num_values, attention->value_degrees, attention->value_channels,
                   attention->value_grads, edge, weights, grad);
    }
    write_node(attention->num_keys, attention->key_degrees, attention->key_channels, attention->query_grads, node, query_grad);
}

/* Weighted sums, or with `backward` the gradients. Returns 0, or 1 where memory is short. */
__attribute__((visibility("default"))) int attend(const Attention *attention, int backward) {
    i64 keys = node_size(attention->num_keys, attention->key_degrees, attention->key_channels);
    i64 values = node_size(attention->num_values, attention->value_degrees, attention->value_channels);
    int status = 0;
#pragma omp parallel num_threads(attention->num_threads)
    {
        REAL *room = malloc(sizeof(REAL) * (2 * keys + values + 1));
        if (!room) status = 1;
#pragma omp for schedule(static)
        for (i64 node = 0; node < attention->num_nodes; node++) {
            if (!room) continue;
            if (backward) attend_node_backward(attention, node, room, room + keys, room + 2 * keys);
            else attend_node(attention, node, room, room + keys);
        }
        free(room);
    }
    return status;
}
