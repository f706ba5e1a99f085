/* What a convolution is given, and where its numbers lie in the blocks that the products work on.

   In the frame of an edge only equal orders |m| of input and output couple. For every order m there is a matrix with
   rows (l, w), l >= m, and columns (k, u), k >= m, twice for m > 0: first the a_m, then the b_m of the block
   [[a_m, b_m], [-b_m, a_m]] on the components (+m, -m). A tile is the part of such a matrix that one radial network
   makes; its columns are padded to whole vectors, its rows are cut into blocks that fit into the cache. */
#pragma once
#include "trunk.h"

enum { MAX_DEGREES = 13, MAX_TILES = 1024, BLOCK_COLUMNS = 3072 / REAL_BYTES };

typedef struct {
    REAL *data;
    i64 row, channel, component; /* strides */
} Field;

typedef struct {
    i64 num_edges, num_points, num_rows, num_pairs, num_threads;
    i64 num_inputs, num_units, num_trunks, layer_norm, has_bias;
    i64 num_in, num_out;
    const i64 *degrees_in, *channels_in, *degrees_out, *channels_out;
    const i64 *edge_channels;   /* [in] how many of channels_in, the last ones, are edge features */
    const i64 *trunk_of;        /* [out][in] */
    const REAL *const *mixing;  /* [out][in] -> [order, path] */
    const REAL *const *weight;  /* [out][in] -> [unit, w, path, u] */
    const REAL *const *bias;    /* [out][in] -> [w, path, u] */
    const REAL *factor;         /* [out][in] */
    const REAL *const *hidden;  /* weight, bias, gain, shift of both hidden layers */
    const i64 *first, *second;  /* edges of each row of radial units; `second` for the first num_pairs rows */
    const i64 *index;           /* [edge] -> row of the features; NULL: the edge itself */
    const REAL *invariants;     /* [num_rows, num_inputs] */
    const REAL *const *frames;  /* [degree] -> [edge, 2l+1, 2l+1] */
    const Field *features;      /* [in] */
    const Field *edge_features; /* [in] by edge */
    const Field *messages;      /* [out]; component-major */
    /* gradients */
    const Field *message_grads;  /* [out]; component-major */
    const Field *feature_grads;  /* [in] */
    const Field *edge_feature_grads; /* [in] by edge, or NULL */
    REAL *const *frame_grads;    /* [degree] or NULL */
    REAL *invariant_grads;       /* or NULL */
    REAL *const *weight_grads;   /* as weight, or NULL */
    REAL *const *bias_grads;     /* as bias */
    REAL *const *hidden_grads;   /* as hidden */
    /* gradients of the gradients */
    const REAL *invariant_tangents;
    const REAL *const *frame_tangents;    /* as frames */
    const Field *feature_tangents, *edge_feature_tangents; /* as features */
    const Field *message_tangents;        /* as messages: results */
} Convolution;

typedef struct {
    i64 order, trunk;
    i64 rows, columns;            /* columns padded */
    i64 block_rows, stride, size; /* of a block of rows: [unit][stride] */
    i64 layer;                    /* its first block in the folded last layer */
    i64 stack;                    /* its columns: number of a column group */
    i64 out;                      /* its first row among those of the order */
} Tile;

typedef struct {
    i64 order, columns, width; /* padded; of one half */
    i64 first_in, last_in;     /* numbers of the degrees, from - to (exclusive) */
    i64 place;                 /* for one edge */
} Group;

typedef struct {
    i64 num_tiles, num_groups, num_orders, num_layer_rows, layer_size;
    Tile tiles[MAX_TILES];
    Group groups[MAX_DEGREES * MAX_DEGREES];
    i64 place[MAX_DEGREES * MAX_DEGREES][MAX_DEGREES]; /* of (out, in), order: tile */
    i64 row_of[MAX_DEGREES][MAX_DEGREES];              /* first row of (out) in its tile, by order */
    i64 column_of[MAX_DEGREES][MAX_DEGREES];           /* first column of (in) in its group, by order */
    i64 out_row[MAX_DEGREES][MAX_DEGREES];             /* first row of (out) among those of the order */
    i64 out_stride[MAX_DEGREES], out_place[MAX_DEGREES]; /* of an order, for one edge */
    i64 in_place[MAX_DEGREES], in_width[MAX_DEGREES], in_size;     /* a node's features [comp][u padded] */
    i64 out_at[MAX_DEGREES], out_width[MAX_DEGREES], out_size;     /* an edge's message [comp][w padded] */
    i64 stack_size, row_size, weight_stride;
} Layout;

static i64 sides_of(i64 order) { return order ? 2 : 1; }

static void add_tile(Layout *layout, const Convolution *conv, i64 order, i64 first_out, i64 last_out, i64 group) {
    Group *columns = layout->groups + group;
    Tile *tile = layout->tiles + layout->num_tiles;
    *tile = (Tile){.order = order, .columns = columns->columns, .layer = layout->layer_size, .stack = group};
    tile->trunk = conv->trunk_of[first_out * conv->num_in + columns->first_in];
    tile->out = layout->out_row[first_out][order];
    for (i64 o = first_out; o < last_out; o++) {
        layout->row_of[o][order] = tile->rows;
        tile->rows += conv->channels_out[o];
        for (i64 i = columns->first_in; i < columns->last_in; i++)
            layout->place[o * conv->num_in + i][order] = layout->num_tiles;
    }
    i64 together = VL / (sides_of(order) * (conv->num_pairs ? 2 : 1)); /* rows that apply_sides takes at once */
    i64 wanted = round_up(larger(1, BLOCK_COLUMNS / tile->columns), together);
    tile->block_rows = smaller(round_up(tile->rows, together), wanted);
    tile->stride = tile->block_rows * tile->columns + VL; /* rows of the layer not a power of two apart */
    tile->size = layout->num_layer_rows * tile->stride;
    layout->layer_size += (tile->rows + tile->block_rows - 1) / tile->block_rows * tile->size;
    i64 read = round_up(tile->block_rows, VL / sides_of(order)) * tile->columns;
    layout->weight_stride = larger(layout->weight_stride, read + VL);
    layout->num_tiles++;
}

static void make_layout(Layout *layout, const Convolution *conv) {
    memset(layout, 0, sizeof(Layout));
    i64 ins = conv->num_in, outs = conv->num_out, split_in = 0, split_out = 0;
    for (i64 o = 0; o < outs; o++)
        for (i64 i = 0; i < ins; i++) {
            split_in |= conv->trunk_of[o * ins + i] != conv->trunk_of[o * ins];
            split_out |= conv->trunk_of[o * ins + i] != conv->trunk_of[i];
        }
    for (i64 i = 0; i < ins; i++) {
        layout->in_place[i] = layout->in_size;
        layout->in_width[i] = round_up(conv->channels_in[i], SHORT);
        layout->in_size += (2 * conv->degrees_in[i] + 1) * layout->in_width[i];
    }
    for (i64 o = 0; o < outs; o++) {
        layout->out_at[o] = layout->out_size;
        layout->out_width[o] = round_up(conv->channels_out[o], SHORT);
        layout->out_size += (2 * conv->degrees_out[o] + 1) * layout->out_width[o];
    }
    layout->num_layer_rows = conv->num_units + conv->has_bias;
    layout->num_orders = 1 + smaller(conv->degrees_in[ins - 1], conv->degrees_out[outs - 1]);
    for (i64 order = 0; order < layout->num_orders; order++) {
        i64 first_in = 0, first_out = 0, rows = 0;
        while (conv->degrees_in[first_in] < order) first_in++;
        while (conv->degrees_out[first_out] < order) first_out++;
        for (i64 o = first_out; o < outs; o++) {
            layout->out_row[o][order] = rows;
            rows += conv->channels_out[o];
        }
        layout->out_stride[order] = round_up(rows, SHORT) + SHORT; /* short vectors end beyond their rows */
        layout->out_place[order] = layout->row_size;
        layout->row_size += sides_of(order) * layout->out_stride[order];
        for (i64 i = first_in; i < ins; i = layout->groups[layout->num_groups++].last_in) {
            Group *group = layout->groups + layout->num_groups;
            *group = (Group){.order = order, .first_in = i, .last_in = split_in ? i + 1 : ins, .place = layout->stack_size};
            for (i64 k = i; k < group->last_in; k++) {
                layout->column_of[k][order] = group->width;
                group->width += conv->channels_in[k];
            }
            group->columns = round_up(sides_of(order) * group->width, VL);
            layout->stack_size += sides_of(order) * group->columns;
            if (!split_out) add_tile(layout, conv, order, first_out, outs, layout->num_groups);
            for (i64 o = first_out; o < outs && split_out; o++)
                add_tile(layout, conv, order, o, o + 1, layout->num_groups);
        }
    }
}

/* Room of one row of radial units, `edges` of them; short vectors end up to VL numbers beyond a group. */
static i64 stack_room(const Layout *layout, i64 edges) { return edges * layout->stack_size + layout->num_groups * VL; }
static i64 group_place(const Layout *layout, i64 group, i64 edges) {
    return edges * layout->groups[group].place + group * VL;
}

/* Where the numbers of one order of a pair lie in the blocks of its tile: those of the next row (l, w). */
typedef struct {
    REAL *next;
    i64 left, block_rows, columns, jump; /* rows left in the block; from its last row to the next block */
} Cursor;

static Cursor cursor_at(const Tile *tile, i64 row, i64 column, i64 h, REAL *layer) {
    i64 block = row / tile->block_rows, inside = row - block * tile->block_rows;
    REAL *next = layer + tile->layer + block * tile->size + h * tile->stride + inside * tile->columns + column;
    return (Cursor){next, tile->block_rows - inside, tile->block_rows, tile->columns,
                    tile->size - (tile->block_rows - 1) * tile->columns};
}

INLINE void move_on(Cursor *cursor) {
    cursor->next += --cursor->left ? cursor->columns : cursor->jump;
    if (!cursor->left) cursor->left = cursor->block_rows;
}

enum { MAX_PATHS = 2 * MAX_DEGREES - 1 };

/* to[q][u] = sum over p of matrix[q][p] from[p][u], `count` paths and orders; zeros of the matrix cost nothing. */
INLINE void mix_paths(i64 count, const REAL *matrix, REAL *const *from, REAL *const *to, i64 channels) {
    for (i64 u = 0; u < channels; u += SHORT) {
        i64 some = smaller(SHORT, channels - u);
        shortvec value[MAX_PATHS];
        for (i64 p = 0; p < count; p++) value[p] = load_some(from[p] + u, some);
        for (i64 q = 0; q < count; q++) {
            shortvec sum = {0};
            for (i64 p = 0; p < count; p++)
                if (matrix[q * count + p] != 0) sum += matrix[q * count + p] * value[p];
            store_some(to[q] + u, sum, some);
        }
    }
}

/* One unit of a pair: from J-paths to orders, or back. */
static void fold_unit(const Convolution *conv, const Layout *layout, i64 o, i64 i, i64 h, REAL *layer, int back) {
    i64 pair = o * conv->num_in + i, least = smaller(conv->degrees_out[o], conv->degrees_in[i]), paths = 2 * least + 1;
    i64 channels = conv->channels_in[i], outputs = conv->channels_out[o], is_bias = h == conv->num_units;
    const REAL *parameters = (is_bias ? conv->bias : conv->weight)[pair];
    REAL *source = back ? (is_bias ? conv->bias_grads : conv->weight_grads)[pair] : (REAL *)parameters; /* read alone */
    source += (is_bias ? 0 : h) * outputs * paths * channels;
    REAL matrix[MAX_PATHS * MAX_PATHS], *by_path[MAX_PATHS], *by_order[MAX_PATHS];
    Cursor cursors[MAX_PATHS];
    for (i64 q = 0; q < paths; q++) {
        i64 order = q <= least ? q : q - least;
        const Tile *tile = layout->tiles + layout->place[pair][order];
        i64 column = layout->column_of[i][order] + (q > least ? layout->groups[tile->stack].width : 0);
        cursors[q] = cursor_at(tile, layout->row_of[o][order], column, h, layer);
        for (i64 p = 0; p < paths; p++) {
            REAL factor = conv->factor[pair] * conv->mixing[pair][q * paths + p];
            matrix[back ? p * paths + q : q * paths + p] = factor;
        }
    }
    for (i64 w = 0; w < outputs; w++, source += paths * channels) {
        for (i64 q = 0; q < paths; q++) {
            by_path[q] = source + q * channels;
            by_order[q] = cursors[q].next;
            move_on(cursors + q);
        }
        if (back) mix_paths(paths, matrix, by_order, by_path, channels);
        else mix_paths(paths, matrix, by_path, by_order, channels);
    }
}

/* Columns that belong to no channel. */
static void clear_padding_columns(const Layout *layout, const Tile *tile, REAL *layer) {
    i64 used = sides_of(tile->order) * layout->groups[tile->stack].width, columns = tile->columns;
    for (i64 place = 0; place < (tile->rows + tile->block_rows - 1) / tile->block_rows * tile->size; place += tile->stride)
        for (i64 row = 0; row < tile->block_rows && used < columns; row++)
            memset(layer + tile->layer + place + row * columns + used, 0, sizeof(REAL) * (columns - used));
}

/* Last radial layers from J-paths to orders, into the blocks of the tiles; or the gradient of that, back. */
static void fold(const Convolution *conv, const Layout *layout, REAL *layer, int back) {
    i64 rows = layout->num_layer_rows, tasks = conv->num_out * conv->num_in * rows;
#pragma omp parallel num_threads(conv->num_threads)
    {
#pragma omp for schedule(dynamic) nowait
        for (i64 n = 0; n < (back ? 0 : layout->num_tiles); n++) clear_padding_columns(layout, layout->tiles + n, layer);
#pragma omp for schedule(dynamic)
        for (i64 n = 0; n < tasks; n++)
            fold_unit(conv, layout, n / rows / conv->num_in, n / rows % conv->num_in, n % rows, layer, back);
    }
}
