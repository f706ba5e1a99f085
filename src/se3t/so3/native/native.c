/* Compiled part of se3t.so3; REAL is float or double. */
#include "harmonics.h"

/* Y_J of points, or with `backward` gradients of the points. */
EXPORT void harmonics(const Harmonics *task, int backward) {
    const i64 rows = (task->max_degree + 1) * (task->max_degree + 1), room = 2 * rows * BLOCK;
#pragma omp parallel num_threads(task->num_threads)
    {
        i64 thread = 0;
#ifdef _OPENMP
        thread = omp_get_thread_num();
#endif
#pragma omp for schedule(static)
        for (i64 first = 0; first < task->num_points; first += BLOCK) {
            i64 count = smaller(BLOCK, task->num_points - first);
            if (backward) slopes_of(task, first, count, task->scratch + thread * room);
            else rows_of(task, first, count);
        }
    }
}

/* Points taken at a time. */
EXPORT int block_size(void) { return BLOCK; }
