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
    /* gradients of the gradients: tangents, and the tangent of the result */
    const Field *query_tangents, *key_tangents, *value_tangents, *out_tangents;
} Attention;

/* The loops below run over the channels of one component; `channels` is a constant where it is a common number. */
#define WITH_CONSTANT_CHANNELS(function, channels, ...)                                                                \
    switch (channels) {                                                                                                \
    case 1: function(1, __VA_ARGS__); break;                                                                           \
    case 2: function(2, __VA_ARGS__); break;                                                                           \
    case 4: function(4, __VA_ARGS__); break;                                                                           \
    case 5: function(5, __VA_ARGS__); break;                                                                           \
    case 8: function(8, __VA_ARGS__); break;                                                                           \
    case 16: function(16, __VA_ARGS__); break;                                                                         \
    default: function(channels, __VA_ARGS__);                                                                          \
    }

INLINE void dots_of(
    const i64 channels, i64 components, i64 heads, const REAL *restrict node, const REAL *restrict edge, i64 step,
    REAL *restrict out
) {
    REAL sum[channels];
    for (i64 u = 0; u < channels; u++) sum[u] = 0;
    for (i64 c = 0; c < components; c++)
        for (i64 u = 0; u < channels; u++) sum[u] += node[c * channels + u] * edge[c * step + u];
    i64 each = channels / heads;
    if (each == 1)
        for (i64 u = 0; u < channels; u++) out[u] += sum[u];
    else
        for (i64 h = 0; h < heads; h++)
            for (i64 u = 0; u < each; u++) out[h] += sum[h * each + u];
}

INLINE void expand(i64 channels, i64 heads, const REAL *factor, REAL *out) {
    i64 each = channels / heads;
    for (i64 h = 0; h < heads; h++)
        for (i64 u = 0; u < each; u++) out[h * each + u] = factor[h];
}

INLINE void add_scaled_of(
    const i64 channels, i64 components, i64 heads, const REAL *restrict edge, i64 step, const REAL *factor,
    REAL *restrict sum
) {
    REAL factors[channels];
    expand(channels, heads, factor, factors);
    for (i64 c = 0; c < components; c++)
        for (i64 u = 0; u < channels; u++) sum[c * channels + u] += factors[u] * edge[c * step + u];
}

INLINE void set_scaled_of(
    const i64 channels, i64 components, i64 heads, REAL *restrict edge, i64 step, const REAL *factor,
    const REAL *restrict node
) {
    REAL factors[channels];
    expand(channels, heads, factor, factors);
    for (i64 c = 0; c < components; c++)
        for (i64 u = 0; u < channels; u++) edge[c * step + u] = factors[u] * node[c * channels + u];
}

INLINE void set_two_scaled_of(
    const i64 channels, i64 components, i64 heads, REAL *restrict edge, i64 step, const REAL *factor,
    const REAL *restrict node, const REAL *other_factor, const REAL *restrict other
) {
    REAL factors[channels], others[channels];
    expand(channels, heads, factor, factors);
    expand(channels, heads, other_factor, others);
    for (i64 c = 0; c < components; c++)
        for (i64 u = 0; u < channels; u++)
            edge[c * step + u] = factors[u] * node[c * channels + u] + others[u] * other[c * channels + u];
}

/* out[head] += sum over components and channels of the head of a b; all degrees of a fiber. */
static void dots(
    i64 heads, i64 count, const i64 *degrees, const i64 *channels, const REAL *node, const Field *field, i64 edge,
    REAL *out
) {
    for (i64 i = 0; i < count; i++) {
        i64 components = 2 * degrees[i] + 1;
        const REAL *other = field[i].data + edge * field[i].row;
        WITH_CONSTANT_CHANNELS(dots_of, channels[i], components, heads, node, other, field[i].component, out)
        node += components * channels[i];
    }
}

/* sum[...] += factor[head] field[edge, ...], [comp][channel] one degree after the other. */
static void add_scaled(
    i64 heads, i64 count, const i64 *degrees, const i64 *channels, const Field *field, i64 edge, const REAL *factor,
    REAL *sum
) {
    for (i64 i = 0; i < count; i++) {
        i64 components = 2 * degrees[i] + 1;
        const REAL *value = field[i].data + edge * field[i].row;
        WITH_CONSTANT_CHANNELS(add_scaled_of, channels[i], components, heads, value, field[i].component, factor, sum)
        sum += components * channels[i];
    }
}

/* field[edge, ...] = factor[head] node[...]. */
static void set_scaled(
    i64 heads, i64 count, const i64 *degrees, const i64 *channels, const Field *field, i64 edge, const REAL *factor,
    const REAL *node
) {
    for (i64 i = 0; i < count; i++) {
        i64 components = 2 * degrees[i] + 1;
        REAL *value = field[i].data + edge * field[i].row;
        WITH_CONSTANT_CHANNELS(set_scaled_of, channels[i], components, heads, value, field[i].component, factor, node)
        node += components * channels[i];
    }
}

/* field[edge, ...] = factor[head] node[...] + other_factor[head] other[...]. */
static void set_two_scaled(
    i64 heads, i64 count, const i64 *degrees, const i64 *channels, const Field *field, i64 edge, const REAL *factor,
    const REAL *node, const REAL *other_factor, const REAL *other
) {
    for (i64 i = 0; i < count; i++) {
        i64 components = 2 * degrees[i] + 1;
        REAL *value = field[i].data + edge * field[i].row;
        WITH_CONSTANT_CHANNELS(set_two_scaled_of, channels[i], components, heads, value, field[i].component, factor, node,
                               other_factor, other)
        node += components * channels[i], other += components * channels[i];
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

/* Edges of a node lie anywhere: what the loops are going to read, or write, is asked for a few edges ahead. */
enum { EDGES_AHEAD = 6 };
INLINE void ask_for_field(
    i64 count, const i64 *degrees, const i64 *channels, const Field *field, i64 edge, const int write
) {
    for (i64 i = 0; i < count; i++) {
        const REAL *row = field[i].data + edge * field[i].row;
        for (i64 c = 0; c < 2 * degrees[i] + 1; c++, row += field[i].component)
            for (i64 u = 0; u < channels[i]; u += 64 / REAL_BYTES) /* the compilers ask for a literal */
                if (write) __builtin_prefetch(row + u, 1);
                else __builtin_prefetch(row + u, 0);
    }
}

INLINE void ask_for_edge(const Attention *attention, i64 edge, const Field *key, const Field *value, const int write) {
    ask_for_field(attention->num_keys, attention->key_degrees, attention->key_channels, key, edge, write);
    ask_for_field(attention->num_values, attention->value_degrees, attention->value_channels, value, edge, write);
}

static void attend_node(const Attention *attention, i64 node, REAL *query, REAL *sum) {
    i64 heads = attention->num_heads, first = attention->start[node], last = attention->start[node + 1];
    i64 total_edges = attention->start[attention->num_nodes];
    REAL largest[heads], total[heads];
    read_node(attention->num_keys, attention->key_degrees, attention->key_channels, attention->query, node, query);
    for (i64 h = 0; h < heads; h++) largest[h] = -INFINITY, total[h] = 0;
    for (i64 n = first; n < last; n++) {
        REAL *logits = attention->weights + attention->edge[n] * heads;
        for (i64 h = 0; h < heads; h++) logits[h] = 0;
        if (n + EDGES_AHEAD < total_edges)
            ask_for_edge(attention, attention->edge[n + EDGES_AHEAD], attention->key, attention->value, 0);
        dots(heads, attention->num_keys, attention->key_degrees, attention->key_channels, query, attention->key,
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
        add_scaled(heads, attention->num_values, attention->value_degrees, attention->value_channels,
                   attention->value, attention->edge[n], weights, sum);
    }
    write_node(attention->num_values, attention->value_degrees, attention->value_channels, attention->out, node, sum);
}

static void attend_node_backward(
    const Attention *attention, i64 node, REAL *query, REAL *query_grad, REAL *grad, REAL *weight_grads
) {
    i64 heads = attention->num_heads, first = attention->start[node], last = attention->start[node + 1];
    i64 total_edges = attention->start[attention->num_nodes];
    REAL mean[heads];
    read_node(attention->num_keys, attention->key_degrees, attention->key_channels, attention->query, node, query);
    read_node(attention->num_values, attention->value_degrees, attention->value_channels, attention->out_grads, node, grad);
    i64 size = node_size(attention->num_keys, attention->key_degrees, attention->key_channels);
    for (i64 n = 0; n < size; n++) query_grad[n] = 0;
    for (i64 h = 0; h < heads; h++) mean[h] = 0;
    for (i64 n = first; n < last; n++) {
        const REAL *weights = attention->weights + attention->edge[n] * heads;
        REAL *edge_grads = weight_grads + (n - first) * heads;
        for (i64 h = 0; h < heads; h++) edge_grads[h] = 0;
        if (n + EDGES_AHEAD < total_edges)
            ask_for_edge(attention, attention->edge[n + EDGES_AHEAD], attention->key, attention->value, 0);
        dots(heads, attention->num_values, attention->value_degrees, attention->value_channels, grad, attention->value,
             attention->edge[n], edge_grads);
        for (i64 h = 0; h < heads; h++) mean[h] += weights[h] * edge_grads[h];
    }
    for (i64 n = first; n < last; n++) {
        i64 edge = attention->edge[n];
        const REAL *weights = attention->weights + edge * heads;
        REAL *edge_grads = weight_grads + (n - first) * heads;
        if (n + EDGES_AHEAD < total_edges)
            ask_for_edge(attention, attention->edge[n + EDGES_AHEAD], attention->key_grads, attention->value_grads, 1);
        for (i64 h = 0; h < heads; h++) edge_grads[h] = weights[h] * (edge_grads[h] - mean[h]) * (REAL)attention->scale;
        add_scaled(heads, attention->num_keys, attention->key_degrees, attention->key_channels, attention->key, edge,
                   edge_grads, query_grad);
        set_scaled(heads, attention->num_keys, attention->key_degrees, attention->key_channels,
                   attention->key_grads, edge, edge_grads, query);
        set_scaled(heads, attention->num_values, attention->value_degrees, attention->value_channels,
                   attention->value_grads, edge, weights, grad);
    }
    write_node(attention->num_keys, attention->key_degrees, attention->key_channels, attention->query_grads, node, query_grad);
}

/* The tangents of the sums, and those of the gradients, for given gradients of the sums: of l = s q.k, the weights w,
   a = G.v and g = s w (a - sum of w a), the gradients are sum of g k for q, g q for k, w G for v. */
static void attend_node_second(
    const Attention *attention, i64 node, REAL *query, REAL *query_tangent, REAL *query_grad, REAL *grad, REAL *out,
    REAL *by_edge
) {
    i64 heads = attention->num_heads, first = attention->start[node], last = attention->start[node + 1];
    i64 keys = attention->num_keys, values = attention->num_values;
    const i64 *key_degrees = attention->key_degrees, *key_channels = attention->key_channels;
    const i64 *value_degrees = attention->value_degrees, *value_channels = attention->value_channels;
    const Field *key = attention->key, *value = attention->value;
    REAL scale = (REAL)attention->scale, mean_logit[heads], mean[heads], mean_tangent[heads], g[heads], g_tangent[heads];
    read_node(keys, key_degrees, key_channels, attention->query, node, query);
    read_node(keys, key_degrees, key_channels, attention->query_tangents, node, query_tangent);
    read_node(values, value_degrees, value_channels, attention->out_grads, node, grad);
    memset(query_grad, 0, sizeof(REAL) * node_size(keys, key_degrees, key_channels));
    memset(out, 0, sizeof(REAL) * node_size(values, value_degrees, value_channels));
    memset(by_edge, 0, sizeof(REAL) * 3 * heads * (last - first));
    for (i64 h = 0; h < heads; h++) mean_logit[h] = mean[h] = mean_tangent[h] = 0;
    for (i64 n = first; n < last; n++) {
        i64 edge = attention->edge[n];
        const REAL *weights = attention->weights + edge * heads;
        REAL *logits = by_edge + (n - first) * 3 * heads, *a = logits + heads, *a_tangent = a + heads;
        dots(heads, keys, key_degrees, key_channels, query_tangent, key, edge, logits);
        dots(heads, keys, key_degrees, key_channels, query, attention->key_tangents, edge, logits);
        dots(heads, values, value_degrees, value_channels, grad, value, edge, a);
        dots(heads, values, value_degrees, value_channels, grad, attention->value_tangents, edge, a_tangent);
        for (i64 h = 0; h < heads; h++) mean_logit[h] += weights[h] * logits[h], mean[h] += weights[h] * a[h];
    }
    for (i64 n = first; n < last; n++) {
        const REAL *weights = attention->weights + attention->edge[n] * heads;
        REAL *logits = by_edge + (n - first) * 3 * heads, *a = logits + heads, *a_tangent = a + heads;
        for (i64 h = 0; h < heads; h++) { /* logits become tangents of the weights */
            logits[h] = scale * weights[h] * (logits[h] - mean_logit[h]);
            mean_tangent[h] += logits[h] * a[h] + weights[h] * a_tangent[h];
        }
    }
    for (i64 n = first; n < last; n++) {
        i64 edge = attention->edge[n];
        const REAL *weights = attention->weights + edge * heads;
        const REAL *tangents = by_edge + (n - first) * 3 * heads, *a = tangents + heads, *a_tangent = a + heads;
        for (i64 h = 0; h < heads; h++) {
            g[h] = scale * weights[h] * (a[h] - mean[h]);
            g_tangent[h] = scale * (tangents[h] * (a[h] - mean[h]) + weights[h] * (a_tangent[h] - mean_tangent[h]));
        }
        add_scaled(heads, values, value_degrees, value_channels, value, edge, tangents, out);
        add_scaled(heads, values, value_degrees, value_channels, attention->value_tangents, edge, weights, out);
        add_scaled(heads, keys, key_degrees, key_channels, key, edge, g_tangent, query_grad);
        add_scaled(heads, keys, key_degrees, key_channels, attention->key_tangents, edge, g, query_grad);
        set_two_scaled(heads, keys, key_degrees, key_channels, attention->key_grads, edge, g_tangent, query, g, query_tangent);
        set_scaled(heads, values, value_degrees, value_channels, attention->value_grads, edge, tangents, grad);
    }
    write_node(keys, key_degrees, key_channels, attention->query_grads, node, query_grad);
    write_node(values, value_degrees, value_channels, attention->out_tangents, node, out);
}

/* Weighted sums; with derivative 1 the gradients, with 2 the gradients of these. Returns 0, or 1 where memory is short. */
__attribute__((visibility("default"))) int attend(const Attention *attention, int derivative) {
    i64 keys = node_size(attention->num_keys, attention->key_degrees, attention->key_channels);
    i64 values = node_size(attention->num_values, attention->value_degrees, attention->value_channels);
    i64 most = 0; /* edges of a node */
    for (i64 node = 0; node < attention->num_nodes; node++)
        most = larger(most, attention->start[node + 1] - attention->start[node]);
    int status = 0;
#pragma omp parallel num_threads(attention->num_threads)
    {
        REAL *room = malloc(sizeof(REAL) * (3 * keys + 2 * values + 3 * most * attention->num_heads + 1));
        if (!room) status = 1;
#pragma omp for schedule(static)
        for (i64 node = 0; node < attention->num_nodes; node++) {
            if (!room) continue;
            if (derivative > 1)
                attend_node_second(attention, node, room, room + keys, room + 2 * keys, room + 3 * keys,
                                   room + 3 * keys + values, room + 3 * keys + 2 * values);
            else if (derivative)
                attend_node_backward(attention, node, room, room + keys, room + 2 * keys, room + 2 * keys + values);
            else attend_node(attention, node, room, room + keys);
        }
        free(room);
    }
    return status;
}
