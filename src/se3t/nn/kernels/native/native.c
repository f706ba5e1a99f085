/* Compiled part of the kernel `native` of se3t: convolutions in the frame of the edge, attention over
   segments, and what acts on the features of each node alone.
   __init__.py says what is computed; REAL is float or double. */
#include "attention.h"
#include "mixing.h"
#include "norm.h"
#include "second.h"
#include <pthread.h>
#ifdef __linux__
#include <sys/mman.h>
#endif

enum { WORKING_SET = 1 << 20, KEPT = 64 << 20, PAGE = 2 << 20 }; /* bytes: of a thread at a time, kept, a large page */

static _Thread_local char *kept;
static _Thread_local i64 kept_size;
static pthread_key_t kept_key; /* frees what a thread has kept when it ends */
static pthread_once_t kept_once = PTHREAD_ONCE_INIT;

static void make_kept_key(void) { pthread_key_create(&kept_key, free); }

static void keep(char *memory, i64 size) {
    free(kept);
    kept = memory;
    kept_size = memory ? size : 0;
    pthread_once(&kept_once, make_kept_key);
    pthread_setspecific(kept_key, kept);
}

static char *take(i64 size) {
    if (kept_size < size) {
        keep(NULL, 0); /* before more is asked for */
        i64 page = size < PAGE ? 64 : PAGE;
        size = round_up(size, page);
        keep(aligned_alloc(page, size), size);
#ifdef MADV_HUGEPAGE
        if (page == PAGE && kept) madvise(kept, size, MADV_HUGEPAGE);
#endif
    }
    return kept;
}

static void give(void) {
    if (kept_size > KEPT) keep(NULL, 0);
}

/* Cuts pieces from memory; counts them where there is none yet. */
typedef struct {
    char *base;
    i64 used;
} Room;

static void *cut(Room *room, i64 count, i64 bytes) {
    char *place = room->base ? room->base + room->used : NULL;
    room->used += round_up(count * bytes + VECTOR_BYTES, 64); /* vectors may end beyond the last number */
    return place;
}

static Hidden cut_hidden(Room *room, const Convolution *conv, i64 inputs) {
    REAL *place = cut(room, hidden_size(inputs, conv->num_units, conv->num_trunks), sizeof(REAL));
    if (place) return hidden_in(place, inputs, conv->num_units, conv->num_trunks, conv->layer_norm);
    return (Hidden){.width = round_up(conv->num_units, VL)};
}

typedef struct {
    Hidden first, second;
    REAL *layer, *features, *feature_tangents;
    Worker *workers;
} Job;

static void cut_worker(Room *room, const Convolution *conv, const Layout *layout, Worker *worker, int derivative, i64 number) {
    i64 edges = conv->num_pairs ? 2 : 1, width = round_up(conv->num_units, VL);
    i64 stack = stack_size(layout, edges), row = row_size(layout, edges);
    i64 units = conv->num_trunks * layout->num_layer_rows, unit_grads = conv->num_trunks * BLOCK * width;
    i64 bytes = sizeof(REAL) * ((derivative ? 2 : 1) * stack + row + units * BLOCK) * (derivative > 1 ? 2 : 1);
    i64 parts = (num_parts(conv) + conv->num_threads - 1) / conv->num_threads;
    worker->at_once = larger(1, smaller(smaller(parts, MAX_PARTS), WORKING_SET / bytes));
    i64 count = worker->at_once;
    worker->stacks = cut(room, count * stack, sizeof(REAL));
    worker->rows = cut(room, count * row, sizeof(REAL));
    worker->weights = cut(room, BLOCK * layout->weight_stride, sizeof(REAL));
    worker->units = cut(room, count * units * BLOCK, sizeof(REAL));
    worker->active = cut(room, count * units, sizeof(i64));
    worker->num_active = cut(room, count * conv->num_trunks, sizeof(i64));
    i64 hidden = BLOCK * (5 * conv->num_inputs + 12 * width), edge = 6 * (layout->in_size + layout->out_size);
    worker->scratch = cut(room, larger(hidden, edge), sizeof(REAL));
    if (!derivative) return;
    worker->stack_grads = cut(room, count * stack, sizeof(REAL));
    worker->unit_grads = cut(room, count * unit_grads, sizeof(REAL));
    if (conv->weight_grads) worker->layer_grads = cut(room, layout->layer_size, sizeof(REAL));
    worker->first_grads = cut_hidden(room, conv, conv->num_inputs);
    worker->second_grads = cut_hidden(room, conv, conv->num_units);
    if (conv->index || number == 0) worker->feature_grads = cut(room, conv->num_points * layout->in_size, sizeof(REAL));
    if (derivative == 1) return;
    worker->tangent.stacks = cut(room, count * stack, sizeof(REAL));
    worker->tangent.stack_grads = cut(room, count * stack, sizeof(REAL));
    worker->tangent.rows = cut(room, count * row, sizeof(REAL));
    worker->tangent.messages = cut(room, count * row, sizeof(REAL));
    worker->tangent.weights = cut(room, BLOCK * layout->weight_stride, sizeof(REAL));
    worker->tangent.units = cut(room, count * units * BLOCK, sizeof(REAL));
    worker->tangent.unit_grads = cut(room, count * unit_grads, sizeof(REAL));
}

static void cut_job(Room *room, const Convolution *conv, const Layout *layout, Job *job, int derivative) {
    job->first = cut_hidden(room, conv, conv->num_inputs);
    job->second = cut_hidden(room, conv, conv->num_units);
    job->layer = cut(room, layout->layer_size, sizeof(REAL));
    job->features = cut(room, conv->num_points * layout->in_size, sizeof(REAL));
    if (derivative > 1) job->feature_tangents = cut(room, conv->num_points * layout->in_size, sizeof(REAL));
    for (i64 t = 0; t < conv->num_threads; t++) cut_worker(room, conv, layout, job->workers + t, derivative, t);
}

/* Features of a point, [comp][channel] by degree. */
static void read_point(const Convolution *conv, const Layout *layout, const Field *features, i64 point, REAL *all) {
    for (i64 i = 0; i < conv->num_in; i++)
        read_field(features + i, point, conv->degrees_in[i], conv->channels_in[i] - conv->edge_channels[i],
                   layout->in_width[i], all + point * layout->in_size + layout->in_place[i]);
}

static void prepare(const Convolution *conv, const Layout *layout, Job *job, int derivative) {
    hidden_load(&job->first, conv->hidden[0], conv->hidden[1], conv->hidden[2], conv->hidden[3]);
    hidden_load(&job->second, conv->hidden[4], conv->hidden[5], conv->hidden[6], conv->hidden[7]);
#pragma omp parallel for num_threads(conv->num_threads)
    for (i64 point = 0; point < conv->num_points; point++) {
        read_point(conv, layout, conv->features, point, job->features);
        if (derivative > 1) read_point(conv, layout, conv->feature_tangents, point, job->feature_tangents);
    }
    fold(conv, layout, job->layer, 0);
    for (i64 t = 0; t < conv->num_threads; t++) {
        Worker *worker = job->workers + t;
        worker->conv = conv, worker->layout = layout;
        worker->first = &job->first, worker->second = &job->second;
        worker->layer = job->layer, worker->features = job->features;
        worker->tangent.features = job->feature_tangents;
        if (derivative && !conv->index) worker->feature_grads = job->workers[0].feature_grads; /* each edge its own row */
    }
}

/* Before any thread adds to them: without an index all threads share the sums of the features. */
static void clear_sums(const Convolution *conv, const Layout *layout, Worker *workers) {
    i64 row = sizeof(REAL) * layout->in_size, shared_rows = conv->index ? 0 : conv->num_points;
#pragma omp parallel num_threads(conv->num_threads)
    {
#pragma omp for schedule(static, 1) nowait
        for (i64 t = 0; t < conv->num_threads; t++) {
            if (conv->weight_grads) clear(workers[t].layer_grads, layout->layer_size);
            if (conv->index) memset(workers[t].feature_grads, 0, conv->num_points * row);
        }
#pragma omp for
        for (i64 point = 0; point < shared_rows; point++)
            memset(workers[0].feature_grads + point * layout->in_size, 0, row);
    }
}

static void add_hidden(Hidden *sum, const Hidden *other) {
    i64 size = hidden_size(sum->num_inputs, sum->num_units, sum->num_trunks);
    for (i64 n = 0; n < size; n++) sum->weight[n] += other->weight[n];
}

/* Sums of all workers, and from there to the gradients asked for. */
static void collect(const Convolution *conv, const Layout *layout, Job *job) {
    Worker *workers = job->workers;
#pragma omp parallel num_threads(conv->num_threads)
    {
#pragma omp for
        for (i64 n = 0; n < (conv->weight_grads ? layout->layer_size / VL : 0); n++)
            for (i64 t = 1; t < conv->num_threads; t++) {
                REAL *place = workers[0].layer_grads + n * VL;
                STORE(place, LOAD(place) + LOAD(workers[t].layer_grads + n * VL));
            }
#pragma omp for
        for (i64 point = 0; point < conv->num_points; point++) {
            REAL *sum = workers[0].feature_grads + point * layout->in_size;
            for (i64 t = 1; t < conv->num_threads && conv->index; t++)
                for (i64 n = 0; n < layout->in_size; n += SHORT)
                    SSTORE(sum + n, SLOAD(sum + n) + SLOAD(workers[t].feature_grads + point * layout->in_size + n));
            for (i64 i = 0; i < conv->num_in; i++)
                write_field(conv->feature_grads + i, point, conv->degrees_in[i],
                            conv->channels_in[i] - conv->edge_channels[i], layout->in_width[i], sum + layout->in_place[i]);
        }
    }
    if (conv->weight_grads) fold(conv, layout, workers[0].layer_grads, 1);
    for (i64 t = 1; t < conv->num_threads; t++) {
        add_hidden(&workers[0].first_grads, &workers[t].first_grads);
        add_hidden(&workers[0].second_grads, &workers[t].second_grads);
    }
    REAL *const *grads = conv->hidden_grads;
    hidden_store(&workers[0].first_grads, grads[0], grads[1], grads[2], grads[3]);
    hidden_store(&workers[0].second_grads, grads[4], grads[5], grads[6], grads[7]);
}

/* Whether the tables of a layout have room for these degrees. */
static int fits(i64 count, const i64 *degrees) { return 0 < count && count <= MAX_DEGREES && degrees[count - 1] < MAX_DEGREES; }

static int in_range(const Convolution *conv) {
    i64 wrong = 0;
    for (i64 edge = 0; edge < conv->num_edges && conv->index; edge++)
        wrong |= conv->index[edge] < 0 || conv->index[edge] >= conv->num_points;
    return !wrong;
}

/* Messages; with derivative 1 their gradients, with 2 the gradients of these. Returns 0; 1 where memory is short, 2 for degrees it is not made for,
   3 for an edge from a point that is not there. */
EXPORT int convolve(const Convolution *conv, int derivative) {
    if (!fits(conv->num_in, conv->degrees_in) || !fits(conv->num_out, conv->degrees_out)) return 2;
    if (!in_range(conv)) return 3;
    Layout *layout = malloc(sizeof(Layout));
    Worker *workers = calloc(conv->num_threads, sizeof(Worker));
    int status = !layout || !workers;
    if (!status) {
        make_layout(layout, conv);
        Job job = {.workers = workers};
        Room room = {0};
        cut_job(&room, conv, layout, &job, derivative);
        room = (Room){.base = take(room.used)};
        status = !room.base;
        if (!status) {
            cut_job(&room, conv, layout, &job, derivative);
            prepare(conv, layout, &job, derivative);
            if (derivative) clear_sums(conv, layout, workers);
            i64 parts = num_parts(conv);
#pragma omp parallel for schedule(static, 1) num_threads(conv->num_threads)
            for (i64 t = 0; t < conv->num_threads; t++) {
                i64 first = parts * t / conv->num_threads, last = parts * (t + 1) / conv->num_threads;
                if (derivative > 1) work_second(workers + t, first, last);
                else work(workers + t, first, last, derivative);
            }
            if (derivative) collect(conv, layout, &job);
        }
        give();
    }
    free(workers);
    free(layout);
    return status;
}

/* Whether one of `count` numbers, `step` apart, is zero. */
EXPORT int has_zero(const REAL *values, i64 count, i64 step) {
    int found = 0;
    for (i64 n = 0; n < count; n++) found |= values[n * step] == 0;
    return found;
}
