/* Compiled part of se3t.so3; REAL is float or double. */
#include "frames.h"
#include "harmonics.h"

static i64 thread_number(void) {
#ifdef _OPENMP
    return omp_get_thread_num();
#else
    return 0;
#endif
}

/* Y_J of points, or with `backward` gradients of the points. */
EXPORT void harmonics(const Harmonics *task, int backward) {
    const i64 room = harmonics_room(task->max_degree);
#pragma omp parallel for schedule(static) num_threads(task->num_threads)
    for (i64 first = 0; first < task->num_points; first += BLOCK) {
        i64 count = smaller(BLOCK, task->num_points - first);
        if (backward) slopes_of(task, first, count, task->scratch + thread_number() * room);
        else rows_of(task, first, count);
    }
}

/* Frames of vectors, or with `backward` gradients of the vectors. */
EXPORT void frames(const Frames *task, int backward) {
    const i64 room = frames_room(task->max_degree);
#pragma omp parallel for schedule(static) num_threads(task->num_threads)
    for (i64 first = 0; first < task->num_vectors; first += VL)
        frames_of(task, first, smaller(VL, task->num_vectors - first), task->scratch + thread_number() * room, backward);
}

/* Numbers that a thread needs for itself. */
EXPORT int room_of_harmonics(int max_degree) { return (int)harmonics_room(max_degree); }
EXPORT int room_of_frames(int max_degree) { return (int)frames_room(max_degree); }
