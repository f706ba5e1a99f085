/* Attention over the incoming edges of each node: softmax and weighted sums by segments. */
#pragma once
#include "rows.h"

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

/* The degrees of queries and keys, or of values. A node's numbers are [comp][channel padded to whole short vectors], one
   degree after the other; those of an edge are rows of the fields of the degrees. */
typedef struct {
    i64 count;
    const i64 *degrees, *channels;
} Degrees;

static Degrees keys_of(const Attention *attention) {
    return (Degrees){attention->num_keys, attention->key_degrees, attention->key_channels};
}

static Degrees values_of(const Attention *attention) {
    return (Degrees){attention->num_values, attention->value_degrees, attention->value_channels};
}

static i64 node_size(Degrees all) {
    i64 size = 0;
    for (i64 i = 0; i < all.count; i++) size += (2 * all.degrees[i] + 1) * round_up(all.channels[i], SHORT);
    return size;
}

static void read_node(Degrees all, const Field *field, i64 node, REAL *out) {
    for (i64 i = 0; i < all.count; i++) {
        i64 width = round_up(all.channels[i], SHORT);
        read_field(field + i, node, all.degrees[i], all.channels[i], width, out);
        out += (2 * all.degrees[i] + 1) * width;
    }
}

static void write_node(Degrees all, const Field *field, i64 node, const REAL *in) {
    for (i64 i = 0; i < all.count; i++) {
        i64 width = round_up(all.channels[i], SHORT);
        write_field(field + i, node, all.degrees[i], all.channels[i], width, in);
        in += (2 * all.degrees[i] + 1) * width;
    }
}

/* A number for each head to its channels. */
INLINE void expand(i64 channels, i64 heads, const REAL *numbers, REAL *out) {
    for (i64 u = 0; u < channels && heads == 1; u += SHORT) SSTORE(out + u, (shortvec){0} + numbers[0]);
    for (i64 h = 0, each = channels / heads; h < heads && heads > 1; h++)
        for (i64 u = 0; u < each; u++) out[h * each + u] = numbers[h];
    for (i64 u = channels; u % SHORT && heads > 1; u++) out[u] = 0;
}

/* out[head] += sum over components and channels of the head of node edge; all degrees. */
static void dots(i64 heads, Degrees all, const REAL *node, const Field *field, i64 edge, REAL *out) {
    shortvec total = {0};
    for (i64 i = 0; i < all.count; i++) {
        i64 size = 2 * all.degrees[i] + 1, channels = all.channels[i], width = round_up(channels, SHORT);
        i64 step = field[i].component;
        const REAL *row = field[i].data + edge * field[i].row;
        REAL sums[width];
        for (i64 u = 0; u < channels; u += SHORT) {
            i64 some = smaller(SHORT, channels - u);
            shortvec sum = {0};
            for (i64 c = 0; c < size; c++) sum += SLOAD(node + c * width + u) * load_some(row + c * step + u, some);
            if (heads == 1) total += sum;
            else SSTORE(sums + u, sum);
        }
        for (i64 h = 0, each = channels / heads; h < heads && heads > 1; h++)
            for (i64 u = 0; u < each; u++) out[h] += sums[h * each + u];
        node += size * width;
    }
    if (heads == 1) out[0] += short_sum_of(total);
}

/* sum += numbers[head] edge; all degrees. */
static void add_scaled(i64 heads, Degrees all, const Field *field, i64 edge, const REAL *numbers, REAL *sum) {
    for (i64 i = 0; i < all.count; i++) {
        i64 size = 2 * all.degrees[i] + 1, channels = all.channels[i], width = round_up(channels, SHORT);
        i64 step = field[i].component;
        const REAL *row = field[i].data + edge * field[i].row;
        REAL factors[width];
        expand(channels, heads, numbers, factors);
        for (i64 u = 0; u < channels; u += SHORT) {
            i64 some = smaller(SHORT, channels - u);
            shortvec factor = SLOAD(factors + u);
            for (i64 c = 0; c < size; c++) {
                REAL *place = sum + c * width + u;
                SSTORE(place, SLOAD(place) + factor * load_some(row + c * step + u, some));
            }
        }
        sum += size * width;
    }
}

/* edge = numbers[head] node, plus others[head] other where there is another; all degrees. */
static void set_scaled(
    i64 heads, Degrees all, const Field *field, i64 edge, const REAL *numbers, const REAL *node, const REAL *others,
    const REAL *other
) {
    for (i64 i = 0; i < all.count; i++) {
        i64 size = 2 * all.degrees[i] + 1, channels = all.channels[i], width = round_up(channels, SHORT);
        i64 step = field[i].component;
        REAL *row = field[i].data + edge * field[i].row, factors[width], other_factors[width];
        expand(channels, heads, numbers, factors);
        if (other) expand(channels, heads, others, other_factors);
        for (i64 u = 0; u < channels; u += SHORT)
            for (i64 c = 0; c < size; c++) {
                shortvec value = SLOAD(factors + u) * SLOAD(node + c * width + u);
                if (other) value += SLOAD(other_factors + u) * SLOAD(other + c * width + u);
                store_some(row + c * step + u, value, smaller(SHORT, channels - u));
            }
        node += size * width;
        if (other) other += size * width;
    }
}

/* Edges of a node lie anywhere: what the loops are going to read, or write, is asked for a few edges ahead. */
enum { EDGES_AHEAD = 6 };
INLINE void ask_for_rows(Degrees all, const Field *field, i64 edge, const int write) {
    for (i64 i = 0; i < all.count; i++) {
        const REAL *row = field[i].data + edge * field[i].row;
        i64 span = 2 * all.degrees[i] * field[i].component + all.channels[i];
        for (i64 n = 0; n < span; n += 64 / REAL_BYTES) /* the compilers ask for a literal */
            if (write) __builtin_prefetch(row + n, 1);
            else __builtin_prefetch(row + n, 0);
    }
}

INLINE void ask_for_edge(const Attention *attention, i64 n, const Field *key, const Field *value, const int write) {
    if (n + EDGES_AHEAD >= attention->start[attention->num_nodes]) return;
    i64 edge = attention->edge[n + EDGES_AHEAD];
    ask_for_rows(keys_of(attention), key, edge, write);
    ask_for_rows(values_of(attention), value, edge, write);
}

static void attend_node(const Attention *attention, i64 node, REAL *query, REAL *sum) {
    i64 heads = attention->num_heads, first = attention->start[node], last = attention->start[node + 1];
    Degrees keys = keys_of(attention), values = values_of(attention);
    REAL largest[heads], total[heads];
    read_node(keys, attention->query, node, query);
    for (i64 h = 0; h < heads; h++) largest[h] = -INFINITY, total[h] = 0;
    for (i64 n = first; n < last; n++) {
        REAL *logits = attention->weights + attention->edge[n] * heads;
        for (i64 h = 0; h < heads; h++) logits[h] = 0;
        ask_for_edge(attention, n, attention->key, attention->value, 0);
        dots(heads, keys, query, attention->key, attention->edge[n], logits);
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
    i64 size = node_size(values);
    for (i64 n = 0; n < size; n++) sum[n] = 0;
    for (i64 h = 0; h < heads; h++) total[h] = 1 / total[h];
    for (i64 n = first; n < last; n++) {
        REAL *weights = attention->weights + attention->edge[n] * heads;
        for (i64 h = 0; h < heads; h++) weights[h] *= total[h];
        add_scaled(heads, values, attention->value, attention->edge[n], weights, sum);
    }
    write_node(values, attention->out, node, sum);
}

static void attend_node_backward(
    const Attention *attention, i64 node, REAL *query, REAL *query_grad, REAL *grad, REAL *weight_grads
) {
    i64 heads = attention->num_heads, first = attention->start[node], last = attention->start[node + 1];
    Degrees keys = keys_of(attention), values = values_of(attention);
    REAL mean[heads];
    read_node(keys, attention->query, node, query);
    read_node(values, attention->out_grads, node, grad);
    i64 size = node_size(keys);
    for (i64 n = 0; n < size; n++) query_grad[n] = 0;
    for (i64 h = 0; h < heads; h++) mean[h] = 0;
    for (i64 n = first; n < last; n++) {
        const REAL *weights = attention->weights + attention->edge[n] * heads;
        REAL *edge_grads = weight_grads + (n - first) * heads;
        for (i64 h = 0; h < heads; h++) edge_grads[h] = 0;
        ask_for_edge(attention, n, attention->key, attention->value, 0);
        dots(heads, values, grad, attention->value, attention->edge[n], edge_grads);
        for (i64 h = 0; h < heads; h++) mean[h] += weights[h] * edge_grads[h];
    }
    for (i64 n = first; n < last; n++) {
        i64 edge = attention->edge[n];
        const REAL *weights = attention->weights + edge * heads;
        REAL *edge_grads = weight_grads + (n - first) * heads;
        ask_for_edge(attention, n, attention->key_grads, attention->value_grads, 1);
        for (i64 h = 0; h < heads; h++) edge_grads[h] = weights[h] * (edge_grads[h] - mean[h]) * (REAL)attention->scale;
        add_scaled(heads, keys, attention->key, edge, edge_grads, query_grad);
        set_scaled(heads, keys, attention->key_grads, edge, edge_grads, query, NULL, NULL);
        set_scaled(heads, values, attention->value_grads, edge, weights, grad, NULL, NULL);
    }
    write_node(keys, attention->query_grads, node, query_grad);
}

/* The tangents of the sums, and those of the gradients, for given gradients of the sums: of l = s q.k, the weights w,
   a = G.v and g = s w (a - sum of w a), the gradients are sum of g k for q, g q for k, w G for v. */
static void attend_node_second(
    const Attention *attention, i64 node, REAL *query, REAL *query_tangent, REAL *query_grad, REAL *grad, REAL *out,
    REAL *by_edge
) {
    i64 heads = attention->num_heads, first = attention->start[node], last = attention->start[node + 1];
    Degrees keys = keys_of(attention), values = values_of(attention);
    const Field *key = attention->key, *value = attention->value;
    REAL scale = (REAL)attention->scale, mean_logit[heads], mean[heads], mean_tangent[heads], g[heads], g_tangent[heads];
    read_node(keys, attention->query, node, query);
    read_node(keys, attention->query_tangents, node, query_tangent);
    read_node(values, attention->out_grads, node, grad);
    memset(query_grad, 0, sizeof(REAL) * node_size(keys));
    memset(out, 0, sizeof(REAL) * node_size(values));
    memset(by_edge, 0, sizeof(REAL) * 3 * heads * (last - first));
    for (i64 h = 0; h < heads; h++) mean_logit[h] = mean[h] = mean_tangent[h] = 0;
    for (i64 n = first; n < last; n++) {
        i64 edge = attention->edge[n];
        const REAL *weights = attention->weights + edge * heads;
        REAL *logits = by_edge + (n - first) * 3 * heads, *a = logits + heads, *a_tangent = a + heads;
        dots(heads, keys, query_tangent, key, edge, logits);
        dots(heads, keys, query, attention->key_tangents, edge, logits);
        dots(heads, values, grad, value, edge, a);
        dots(heads, values, grad, attention->value_tangents, edge, a_tangent);
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
        add_scaled(heads, values, value, edge, tangents, out);
        add_scaled(heads, values, attention->value_tangents, edge, weights, out);
        add_scaled(heads, keys, key, edge, g_tangent, query_grad);
        add_scaled(heads, keys, attention->key_tangents, edge, g, query_grad);
        set_scaled(heads, keys, attention->key_grads, edge, g_tangent, query, g, query_tangent);
        set_scaled(heads, values, attention->value_grads, edge, tangents, grad, NULL, NULL);
    }
    write_node(keys, attention->query_grads, node, query_grad);
    write_node(values, attention->out_tangents, node, out);
}

/* Weighted sums; with derivative 1 the gradients, with 2 the gradients of these. Returns 0, or 1 where memory is short. */
EXPORT int attend(const Attention *attention, int derivative) {
    i64 keys = node_size(keys_of(attention)), values = node_size(values_of(attention));
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
