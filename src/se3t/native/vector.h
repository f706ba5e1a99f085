/* Vectors of REAL (float or double, chosen when compiled) by the extensions that GCC and Clang share. */
#pragma once
#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#ifdef __AVX__
#include <immintrin.h>
#endif
#ifdef _OPENMP
#include <omp.h>
#endif

#ifndef REAL
#define REAL float
#define REAL_BYTES 4
#endif
#ifdef __AVX512F__
#define VECTOR_BYTES 64
#else
#define VECTOR_BYTES 32
#endif
#define VL (VECTOR_BYTES / REAL_BYTES) /* lanes */
#define SHORT (32 / REAL_BYTES)        /* lanes of a short vector, for few channels */
#if defined(__AVX512F__) || defined(__aarch64__)
#define MANY_REGISTERS 1
#else
#define MANY_REGISTERS 0
#endif

#define EXPORT __attribute__((visibility("default")))

typedef int64_t i64;
typedef REAL vec __attribute__((vector_size(VECTOR_BYTES), aligned(REAL_BYTES), may_alias));
typedef REAL shortvec __attribute__((vector_size(32), aligned(REAL_BYTES), may_alias));

#define INLINE static inline __attribute__((always_inline))
#define LOAD(p) (*(const vec *)(p))
#define STORE(p, v) (*(vec *)(p) = (v))
#define SLOAD(p) (*(const shortvec *)(p))
#define SSTORE(p, v) (*(shortvec *)(p) = (v))

/* The first `count` lanes of a short vector; the others are zero. Reads and writes nothing behind them. */
#ifdef __AVX512VL__
#define LANES(count) ((__mmask8)((1u << (count)) - 1))
#if REAL_BYTES == 4
INLINE shortvec load_masked(const REAL *p, i64 count) { return (shortvec)_mm256_maskz_loadu_ps(LANES(count), p); }
INLINE void store_masked(REAL *p, shortvec v, i64 count) { _mm256_mask_storeu_ps(p, LANES(count), (__m256)v); }
#else
INLINE shortvec load_masked(const REAL *p, i64 count) { return (shortvec)_mm256_maskz_loadu_pd(LANES(count), p); }
INLINE void store_masked(REAL *p, shortvec v, i64 count) { _mm256_mask_storeu_pd(p, LANES(count), (__m256d)v); }
#endif
#elif defined(__AVX__)
static const int32_t lanes_on[16] = {-1, -1, -1, -1, -1, -1, -1, -1};
#define LANES(count) _mm256_loadu_si256((const __m256i *)(lanes_on + 8 - (count) * REAL_BYTES / 4))
#if REAL_BYTES == 4
INLINE shortvec load_masked(const REAL *p, i64 count) { return (shortvec)_mm256_maskload_ps(p, LANES(count)); }
INLINE void store_masked(REAL *p, shortvec v, i64 count) { _mm256_maskstore_ps(p, LANES(count), (__m256)v); }
#else
INLINE shortvec load_masked(const REAL *p, i64 count) { return (shortvec)_mm256_maskload_pd(p, LANES(count)); }
INLINE void store_masked(REAL *p, shortvec v, i64 count) { _mm256_maskstore_pd(p, LANES(count), (__m256d)v); }
#endif
#else
INLINE shortvec load_masked(const REAL *p, i64 count) {
    shortvec v = {0};
    for (i64 n = 0; n < count; n++) v[n] = p[n];
    return v;
}
INLINE void store_masked(REAL *p, shortvec v, i64 count) {
    for (i64 n = 0; n < count; n++) p[n] = v[n];
}
#endif

/* The same; whole vectors without a mask, so that what was just written can be read again at once. */
INLINE shortvec load_some(const REAL *p, i64 count) { return count == SHORT ? SLOAD(p) : load_masked(p, count); }
INLINE void store_some(REAL *p, shortvec v, i64 count) {
    if (count == SHORT) SSTORE(p, v);
    else store_masked(p, v, count);
}

INLINE i64 round_up(i64 n, i64 step) { return (n + step - 1) / step * step; }
INLINE i64 smaller(i64 a, i64 b) { return a < b ? a : b; }
INLINE i64 larger(i64 a, i64 b) { return a > b ? a : b; }

#if defined(__clang__) || __GNUC__ >= 12
#define SHUFFLE __builtin_shufflevector
#else /* the older name of GCC; lanes are numbered by integers of the same size */
#if REAL_BYTES == 4
typedef int32_t lanes_of __attribute__((vector_size(VECTOR_BYTES)));
#else
typedef int64_t lanes_of __attribute__((vector_size(VECTOR_BYTES)));
#endif
#define SHUFFLE(a, b, ...) __builtin_shuffle(a, b, (lanes_of){__VA_ARGS__})
#endif

#if VL == 16
#define EVEN(a, b) SHUFFLE(a, b, 0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30)
#define ODD(a, b) SHUFFLE(a, b, 1, 3, 5, 7, 9, 11, 13, 15, 17, 19, 21, 23, 25, 27, 29, 31)
#elif VL == 8
#define EVEN(a, b) SHUFFLE(a, b, 0, 2, 4, 6, 8, 10, 12, 14)
#define ODD(a, b) SHUFFLE(a, b, 1, 3, 5, 7, 9, 11, 13, 15)
#else
#define EVEN(a, b) SHUFFLE(a, b, 0, 2, 4, 6)
#define ODD(a, b) SHUFFLE(a, b, 1, 3, 5, 7)
#endif

/* Lane i of the result is the sum over all lanes of part[i]. */
INLINE vec sums_of(vec *part) {
#pragma GCC unroll 4
    for (int count = VL / 2; count > 0; count /= 2)
#pragma GCC unroll 8
        for (int i = 0; i < count; i++) part[i] = EVEN(part[2 * i], part[2 * i + 1]) + ODD(part[2 * i], part[2 * i + 1]);
    return part[0];
}

INLINE REAL short_sum_of(shortvec v) {
    REAL total = 0;
    for (int i = 0; i < SHORT; i++) total += v[i];
    return total;
}

INLINE REAL sum_of(vec v) {
    REAL total = 0;
    for (int i = 0; i < VL; i++) total += v[i];
    return total;
}

/* Tells a library of ours from others. */
EXPORT int real_bytes(void) { return sizeof(REAL); }
