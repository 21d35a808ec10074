// Number-theoretic transforms of limbs: negacyclic, coefficients to values in bit-reversed order and back (Longa, Naehrig 2016).
//
// N = 2^a · 2^b with b = 8: the first a stages work on columns (entries 2^b apart), the others on rows (2^b neighbours). A block has a
// tile of one or the other in shared memory; a thread does up to four stages on sixteen entries in registers. Between stages
// residues are below 4p (forward) or 2p (inverse), Harvey's way.
//
// Columns share their few roots. Those of rows are as many words as the limb has, twice with their quotients, and cards multiply much faster
// than they read: a row's root of stage t is made from one of the row and one that all rows share (Kim, Jung, Park, Ahn 2020).
#ifndef HOST
#include "device.h"
#include "words.h"
#endif

// Words of a tile, and with the padding that keeps strides of sixteen from meeting in one bank.
#define TILE 4096
#define PADDED (TILE + TILE / 16)
#define ROW_BITS 8
// Polynomials of one launch.
#define MOST_POLYS 16

struct Transform {
    // Polynomials of the grid's third dimension: where from and where to, limb by limb. Of an expansion, where coefficients are: of a
    // polynomial in X^(2^gap), two's complement, 64 bits and below 2^62.
    u64 from[MOST_POLYS], to[MOST_POLYS];
    // Of columns, per prime: 2^a pairs (root, floor(root·2^32 / p)).
    u64 roots;
    // Of rows, per prime and in Montgomery form: eight for every row, one a stage; then 2^t of stage t from entry 2^t on.
    u64 rows;
    u64 primes;
    // Of a division: the polynomials divided.
    u64 dividend[MOST_POLYS];
    u32 log_n;
    u32 element;
    u32 gap;
    u32 zero;
    // Multiplies what comes out, in Montgomery form: of an inverse transform per limb; of a division the dividend. Of an expansion R² and
    // below R³ modulo each prime, R = 2^32.
    u32 factor[MOST_LIMBS];
    // Of a division: the divisor's inverse, in Montgomery form.
    u32 inverse[MOST_LIMBS];
    u16 prime[MOST_LIMBS];
    // Per limb of the result, the limb it comes from.
    u8 from_limb[MOST_LIMBS];
    // Of a division: the dividend's limb, NONE where it vanishes.
    u8 dividend_limb[MOST_LIMBS];
};

INLINE u32 padded(u32 i) { return i + (i >> 4); }

// a·root in [0, 2p) for any a.
INLINE u32 times_root(u32 a, u64 root, u32 p) { return a * (u32)root - high(a, (u32)(root >> 32)) * p; }

// S stages of a column on 2^S entries. Stage t takes the roots from `first << t` on.
template <int S> INLINE void forward_stages(u32 *x, const u64 *roots, u32 first, u32 p) {
    UNROLL
    for (int t = 0; t < S; ++t) {
        const u64 *at = roots + ((u64)first << t);
        UNROLL
        for (int i = 0; i < 1 << (S - 1); ++i) {
            const int gap = 1 << (S - 1 - t);
            const int low = (i / gap) * 2 * gap + i % gap;
            u32 u = once(x[low], 2 * p);
            u32 v = times_root(x[low + gap], at[i / gap], p);
            x[low] = u + v;
            x[low + gap] = u + 2 * p - v;
        }
    }
}

// The same backwards.
template <int S> INLINE void inverse_stages(u32 *x, const u64 *roots, u32 first, u32 p) {
    UNROLL
    for (int t = S - 1; t >= 0; --t) {
        const u64 *at = roots + ((u64)first << t);
        UNROLL
        for (int i = 0; i < 1 << (S - 1); ++i) {
            const int gap = 1 << (S - 1 - t);
            const int low = (i / gap) * 2 * gap + i % gap;
            u32 u = x[low], v = x[low + gap];
            x[low] = once(u + v, 2 * p);
            x[low + gap] = times_root(u + 2 * p - v, at[i / gap], p);
        }
    }
}

// S stages of a row on 2^S entries, forwards or backwards. A root of stage t is the row's of that stage times one of `within` from
// `first << t` on.
template <int S, bool INVERSE> INLINE void row_butterflies(u32 *x, const u32 *row, const u32 *within, u32 first, const Prime &m) {
    UNROLL
    for (int done = 0; done < S; ++done) {
        const int t = INVERSE ? S - 1 - done : done, gap = 1 << (S - 1 - t);
        UNROLL
        for (int q = 0; q < 1 << t; ++q) {
            const u32 root = mont((u64)row[t] * within[(first << t) + q], m);
            UNROLL
            for (int low = 2 * q * gap; low < (2 * q + 1) * gap; ++low) {
                const u32 u = x[low], v = x[low + gap];
                if (INVERSE) {
                    x[low] = once(u + v, 2 * m.p);
                    x[low + gap] = mont((u64)(u + 2 * m.p - v) * root, m);
                } else {
                    const u32 a = once(u, 2 * m.p), b = mont((u64)v * root, m);
                    x[low] = a + b;
                    x[low + gap] = a + 2 * m.p - b;
                }
            }
        }
    }
}

// A tile: `lines` transforms of 2^bits entries each; entry k of line l is at (k << across) + l·along of the tile.
struct Tile {
    u32 bits, lines_log, across, along;
};

// Stages `done` to `done` + S of every column of the tile. Neighbouring threads have neighbouring columns.
template <int S, bool INVERSE>
INLINE void column_pass(u32 *tile, const Tile &shape, u32 done, const u64 *roots, const Prime &m, u32 thread, u32 threads) {
    u32 x[1 << S];
    const u32 rest = shape.bits - done - S;
    const u32 items = 1u << (shape.lines_log + shape.bits - S);
    for (u32 item = thread; item < items; item += threads) {
        const u32 line = item & ((1u << shape.lines_log) - 1), inner = item >> shape.lines_log;
        const u32 top = inner >> rest, bottom = inner & ((1u << rest) - 1);
        const u32 base = (top << (shape.bits - done)) + bottom;
        UNROLL
        for (int j = 0; j < 1 << S; ++j) x[j] = tile[padded(((base + ((u32)j << rest)) << shape.across) + line * shape.along)];
        if (INVERSE)
            inverse_stages<S>(x, roots, (1u << done) + top, m.p);
        else
            forward_stages<S>(x, roots, (1u << done) + top, m.p);
        UNROLL
        for (int j = 0; j < 1 << S; ++j) tile[padded(((base + ((u32)j << rest)) << shape.across) + line * shape.along)] = x[j];
    }
}

template <bool INVERSE>
INLINE void column_stages(u32 count, u32 *tile, const Tile &shape, u32 done, const u64 *roots, const Prime &m, u32 thread, u32 threads) {
    switch (count) {
    case 1: return column_pass<1, INVERSE>(tile, shape, done, roots, m, thread, threads);
    case 2: return column_pass<2, INVERSE>(tile, shape, done, roots, m, thread, threads);
    case 3: return column_pass<3, INVERSE>(tile, shape, done, roots, m, thread, threads);
    case 4: return column_pass<4, INVERSE>(tile, shape, done, roots, m, thread, threads);
    }
}

// Stages `DONE` to `DONE` + 4 of every row of the tile, the first of which is row `own` of the limb. Neighbouring threads have neighbours of
// a row.
template <int DONE, bool INVERSE>
INLINE void row_stages(u32 *tile, const Tile &shape, const u32 *roots, u32 own, u32 all, const Prime &m, u32 thread, u32 threads) {
    u32 x[16];
    const u32 rest = ROW_BITS - DONE - 4;
    const u32 items = 1u << (shape.lines_log + ROW_BITS - 4);
    const u32 *within = roots + all * ROW_BITS;
    for (u32 item = thread; item < items; item += threads) {
        const u32 inner = item & ((1u << (ROW_BITS - 4)) - 1), line = item >> (ROW_BITS - 4);
        const u32 top = inner >> rest, bottom = inner & ((1u << rest) - 1);
        const u32 base = line * shape.along + (top << (ROW_BITS - DONE)) + bottom;
        const u32 *row = roots + (own + line) * ROW_BITS + DONE;
        UNROLL
        for (int j = 0; j < 16; ++j) x[j] = tile[padded(base + ((u32)j << rest))];
        row_butterflies<4, INVERSE>(x, row, within, (1u << DONE) + top, m);
        UNROLL
        for (int j = 0; j < 16; ++j) tile[padded(base + ((u32)j << rest))] = x[j];
    }
}

// Columns of a limb: 2^(log_n - 8) entries, 2^8 apart. A block has neighbouring columns.
INLINE Tile columns(u32 log_n) {
    const u32 bits = log_n - ROW_BITS;
    const u32 lines = least(ROW_BITS, 12 - bits);
    return Tile{bits, lines, lines, 1};
}

// Rows of a limb: 2^8 neighbours.
INLINE Tile rows(u32 log_n) { return Tile{ROW_BITS, least(log_n, 12) - ROW_BITS, 0, 1u << ROW_BITS}; }

INLINE u32 words(const Tile &shape) { return 1u << (shape.bits + shape.lines_log); }

// Where word i of the block's tile of columns lies in the limb.
INLINE u32 column_word(const Tile &shape, u32 block, u32 i) {
    const u32 lines = (1u << shape.lines_log) - 1;
    return ((i >> shape.lines_log) << ROW_BITS) + (block << shape.lines_log) + (i & lines);
}

// Roots of a prime: of columns, and of rows.
INLINE const u64 *column_roots(const Transform &args, u32 y) {
    return (const u64 *)args.roots + ((u64)args.prime[y] << (args.log_n - ROW_BITS));
}
INLINE const u32 *row_roots(const Transform &args, u32 y) {
    return (const u32 *)args.rows + (u64)args.prime[y] * ((ROW_BITS << (args.log_n - ROW_BITS)) + (1u << ROW_BITS));
}

// Word `at` of a polynomial: of a limb, or of an integer polynomial modulo the limb's prime, in Montgomery form.
template <bool EXPAND> INLINE u32 load_column_word(const Transform &args, const Prime &m, u32 y, u32 z, u32 at) {
    if (!EXPAND) return limb(args.from[z], args.from_limb[y], args.log_n)[at];
    const u32 k = at >> args.gap;
    if (k << args.gap != at) return 0;
    const u64 word = ((const u64 *)args.from[z])[k];
    const bool negative = word >> 63;
    const u64 size = negative ? 0 - word : word;
    // size·R = low·R² / R + high·R³ / R
    const u32 low = mont((u64)(u32)size * args.factor[y], m), top = mont((size >> 32) * args.inverse[y], m);
    const u32 value = add(low, top, m.p);
    return negative ? sub(0, value, m.p) : value;
}

#define FORWARD_COLUMNS(name, expand)                                                                                      \
    KERNEL(name, Transform) {                                                                                              \
        SHARED(tile, PADDED);                                                                                              \
        const Prime m = ((const Prime *)args.primes)[args.prime[BLOCK_Y]];                                                 \
        const u64 *roots = column_roots(args, BLOCK_Y);                                                                    \
        u32 *to = limb_mut(args.to[BLOCK_Z], BLOCK_Y, args.log_n);                                                         \
        const Tile shape = columns(args.log_n);                                                                            \
        const u32 half = (shape.bits + 1) / 2;                                                                             \
        PHASE for (u32 i = thread; i < words(shape); i += THREADS)                                                         \
            tile[padded(i)] = load_column_word<expand>(args, m, BLOCK_Y, BLOCK_Z, column_word(shape, BLOCK_X, i));         \
        PHASE column_stages<false>(half, tile, shape, 0, roots, m, thread, THREADS);                                       \
        PHASE column_stages<false>(shape.bits - half, tile, shape, half, roots, m, thread, THREADS);                       \
        PHASE for (u32 i = thread; i < words(shape); i += THREADS) to[column_word(shape, BLOCK_X, i)] = tile[padded(i)];   \
    }

FORWARD_COLUMNS(ntt_forward_columns, false)
// Integers to residues, and the first stages: modulo one prime for each of the grid's second dimension.
FORWARD_COLUMNS(ntt_expand_columns, true)

// The rows, and what comes out reduced, or divided: (dividend·factor - it)·inverse, under the automorphism.
template <bool DIVIDE>
INLINE void store_row_word(const Transform &args, const Prime &m, u32 y, u32 z, u32 at, u32 value) {
    u32 *to = limb_mut(args.to[z], y, args.log_n);
    value = once(once(value, 2 * m.p), m.p);
    if (!DIVIDE) {
        to[at] = value;
        return;
    }
    u32 x = 0;
    if (args.dividend_limb[y] != NONE)
        x = mont((u64)limb(args.dividend[z], args.dividend_limb[y], args.log_n)[at] * args.factor[y], m);
    value = mont((u64)sub(x, value, m.p) * args.inverse[y], m);
    // `element` is the inverse automorphism's: where the entry goes is where that one fetches from
    to[args.element == 1 ? at : source(at, args.element, args.log_n)] = value;
}

#define FORWARD_ROWS(name, divide)                                                                                         \
    KERNEL(name, Transform) {                                                                                              \
        SHARED(tile, PADDED);                                                                                              \
        const Prime m = ((const Prime *)args.primes)[args.prime[BLOCK_Y]];                                                 \
        const u32 *roots = row_roots(args, BLOCK_Y);                                                                       \
        const u32 *from = limb(args.from[BLOCK_Z], args.from_limb[BLOCK_Y], args.log_n);                                   \
        const Tile shape = rows(args.log_n);                                                                               \
        const u32 start = BLOCK_X * words(shape), own = start >> ROW_BITS, all = 1u << (args.log_n - ROW_BITS);            \
        PHASE for (u32 i = thread; i < words(shape); i += THREADS) tile[padded(i)] = from[start + i];                      \
        PHASE row_stages<0, false>(tile, shape, roots, own, all, m, thread, THREADS);                                      \
        PHASE row_stages<4, false>(tile, shape, roots, own, all, m, thread, THREADS);                                      \
        PHASE for (u32 i = thread; i < words(shape); i += THREADS)                                                         \
            store_row_word<divide>(args, m, BLOCK_Y, BLOCK_Z, start + i, tile[padded(i)]);                                 \
    }

FORWARD_ROWS(ntt_forward_rows, false)
FORWARD_ROWS(ntt_forward_rows_divide, true)

KERNEL(ntt_inverse_rows, Transform) {
    SHARED(tile, PADDED);
    const Prime m = ((const Prime *)args.primes)[args.prime[BLOCK_Y]];
    const u32 *roots = row_roots(args, BLOCK_Y);
    const u32 *from = limb(args.from[BLOCK_Z], args.from_limb[BLOCK_Y], args.log_n);
    u32 *to = limb_mut(args.to[BLOCK_Z], BLOCK_Y, args.log_n);
    const Tile shape = rows(args.log_n);
    const u32 start = BLOCK_X * words(shape), own = start >> ROW_BITS, all = 1u << (args.log_n - ROW_BITS);
    PHASE for (u32 i = thread; i < words(shape); i += THREADS) tile[padded(i)] = from[start + i];
    PHASE row_stages<4, true>(tile, shape, roots, own, all, m, thread, THREADS);
    PHASE row_stages<0, true>(tile, shape, roots, own, all, m, thread, THREADS);
    PHASE for (u32 i = thread; i < words(shape); i += THREADS) to[start + i] = tile[padded(i)];
}

// The columns, in place after the rows, times a factor: there is no division by N.
KERNEL(ntt_inverse_columns, Transform) {
    SHARED(tile, PADDED);
    const Prime m = ((const Prime *)args.primes)[args.prime[BLOCK_Y]];
    const u64 *roots = column_roots(args, BLOCK_Y);
    u32 *to = limb_mut(args.to[BLOCK_Z], BLOCK_Y, args.log_n);
    const Tile shape = columns(args.log_n);
    const u32 half = (shape.bits + 1) / 2;
    PHASE for (u32 i = thread; i < words(shape); i += THREADS) tile[padded(i)] = to[column_word(shape, BLOCK_X, i)];
    PHASE column_stages<true>(shape.bits - half, tile, shape, half, roots, m, thread, THREADS);
    PHASE column_stages<true>(half, tile, shape, 0, roots, m, thread, THREADS);
    PHASE for (u32 i = thread; i < words(shape); i += THREADS)
        to[column_word(shape, BLOCK_X, i)] = mont((u64)tile[padded(i)] * args.factor[BLOCK_Y], m);
}
