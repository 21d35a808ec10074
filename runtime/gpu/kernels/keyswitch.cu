// Key switching: base conversion, products of digits with keys, and the sums of linear transforms.
#ifndef HOST
#include "device.h"
#include "words.h"
#endif

// Targets that one thread of a conversion writes.
#define TARGETS 8

struct Conversion {
    u64 from, to;
    // Per source: what its residue is multiplied with for the fixed-point quotient, and by how many bits that is shifted.
    u64 reciprocals;
    // Per target and source: the source's cofactor modulo the target; then the modulus, negated. In Montgomery form.
    u64 constants;
    u64 primes;
    u32 log_n;
    u32 sources;
    u32 targets;
    u32 zero;
    u16 prime[MOST_LIMBS];
};

// From residues modulo a few primes to residues of the representative nearest to zero modulo others (Halevi, Polyakov, Shoup 2019).
// Sources are already times their inverse cofactor: the last stage of their transform saw to that. One thread has one coefficient.
KERNEL(convert, Conversion) {
    const u32 n = 1u << args.log_n;
    const u32 *reciprocals = (const u32 *)args.reciprocals, *constants = (const u32 *)args.constants;
    PHASE for (u32 i = BLOCK_X * THREADS + thread; i < n; i = n) {
        u32 y[MOST_TERMS];
        u64 overflow = 1ull << 59;
        UNROLL
        for (u32 s = 0; s < MOST_TERMS; ++s) {
            y[s] = 0;
            if (s < args.sources) {
                y[s] = limb(args.from, s, args.log_n)[i];
                overflow += ((u64)y[s] * reciprocals[2 * s]) << reciprocals[2 * s + 1];
            }
        }
        const u32 wraps = (u32)(overflow >> 60);
        const u32 first = BLOCK_Y * TARGETS, last = least(first + TARGETS, args.targets);
        for (u32 t = first; t < last; ++t) {
            const u32 *c = constants + t * (args.sources + 1);
            u64 sum = (u64)wraps * c[args.sources];
            UNROLL
            for (u32 s = 0; s < MOST_TERMS; ++s)
                if (s < args.sources) sum += (u64)y[s] * c[s];
            limb_mut(args.to, t, args.log_n)[i] = mont_sum(sum, ((const Prime *)args.primes)[args.prime[t]]);
        }
    }
}

struct KeyProduct {
    // A digit modulo the primes it was extended to, the polynomial they are digits of, and the key's digits, in Montgomery form.
    u64 rest[MOST_TERMS];
    u64 whole;
    u64 b[MOST_TERMS], a[MOST_TERMS];
    // What is added to either half, 0 for nothing, and where the halves go.
    u64 carry[2], out[2];
    u64 primes;
    u32 log_n;
    u32 digits;
    // X → X^element follows.
    u32 element;
    // Whether the result is added to what is there.
    u32 more;
    // Multiplies what is carried, in Montgomery form.
    u32 factor[MOST_LIMBS];
    u16 prime[MOST_LIMBS];
    // Per limb of the result: the limb of each digit, NONE where the digit is the whole; of the whole; of the key; of what is carried,
    // NONE where nothing is.
    u8 rest_limb[MOST_TERMS][MOST_LIMBS];
    u8 whole_limb[MOST_LIMBS], key_limb[MOST_LIMBS], carry_limb[MOST_LIMBS];
};

// Σ digit·key + carry, and its automorphism: modulo one prime of QP for each of the grid's second dimension.
KERNEL(key_product, KeyProduct) {
    const u32 y = BLOCK_Y, n = 1u << args.log_n;
    const Prime m = ((const Prime *)args.primes)[args.prime[y]];
    PHASE for (u32 i = BLOCK_X * THREADS + thread; i < n; i = n) {
        const u32 at = args.element == 1 ? i : source(i, args.element, args.log_n);
        u64 with_b = 0, with_a = 0;
        for (u32 d = 0; d < args.digits; ++d) {
            const bool own = args.rest_limb[d][y] == NONE;
            const u32 *from = own ? limb(args.whole, args.whole_limb[y], args.log_n) : limb(args.rest[d], args.rest_limb[d][y], args.log_n);
            const u32 digit = from[at];
            with_b += (u64)digit * limb(args.b[d], args.key_limb[y], args.log_n)[at];
            with_a += (u64)digit * limb(args.a[d], args.key_limb[y], args.log_n)[at];
        }
        u32 half[2] = {mont_sum(with_b, m), mont_sum(with_a, m)};
        for (int k = 0; k < 2; ++k) {
            if (args.carry[k] && args.carry_limb[y] != NONE) {
                const u32 carried = limb(args.carry[k], args.carry_limb[y], args.log_n)[at];
                half[k] = add(half[k], mont((u64)carried * args.factor[y], m), m.p);
            }
            u32 *out = limb_mut(args.out[k], y, args.log_n) + i;
            *out = args.more ? add(*out, half[k], m.p) : half[k];
        }
    }
}

// Rotated ciphertexts and giant steps of one sum of diagonals, at most.
#define BABIES 32
#define GIANTS 8

// Adds a rotated ciphertext's word, by its halves, times the diagonals of all giant steps that have one for it.
template <typename Sum>
INLINE void add_diagonals(u64 (&sum)[GIANTS][2], const u64 (&diagonal)[GIANTS], const Sum &args, u32 y, u32 i, u32 a0, u32 a1) {
    UNROLL
    for (u32 g = 0; g < GIANTS; ++g) {
        if (!diagonal[g]) continue;
        const u32 d = limb(diagonal[g], args.start + y, args.log_n - args.run)[i >> args.run];
        sum[g][0] += (u64)a0 * d;
        sum[g][1] += (u64)a1 * d;
    }
}

struct DiagonalSum {
    // Per rotated ciphertext and giant step a diagonal, in Montgomery form, every word for a run of 2^run; 0 for none.
    u64 diagonal[BABIES][GIANTS];
    // The rotated ciphertexts: half h of number r is at (2r + h)·limbs.
    u64 rotated;
    // Where the halves of every giant step go.
    u64 out[GIANTS][2];
    u64 primes;
    u32 log_n;
    u32 babies;
    u32 giants;
    u32 limbs;
    // Which limb of the results is the grid's first, and which of the diagonals.
    u32 first;
    u32 start;
    u32 run;
    // Whether the sums go on.
    u32 more;
    u16 prime[MOST_LIMBS];
    // Numbers of the rotated ciphertexts.
    u16 baby[BABIES];
};

// Σ diagonal·rotated ciphertext for several giant steps, modulo one prime of QP for each of the grid's second dimension. Rotated ciphertexts
// are read once for all giant steps, diagonals once for both halves.
KERNEL(diagonal_sum, DiagonalSum) {
    const u32 n = 1u << args.log_n, y = BLOCK_Y;
    const Prime m = ((const Prime *)args.primes)[args.prime[y]];
    PHASE for (u32 i = BLOCK_X * THREADS + thread; i < n; i = n) {
        u64 sum[GIANTS][2];
        u32 total[GIANTS][2];
        UNROLL
        for (u32 g = 0; g < GIANTS; ++g)
            for (u32 h = 0; h < 2; ++h) {
                const bool more = args.more && g < args.giants;
                total[g][h] = more ? limb(args.out[g][h], args.first + y, args.log_n)[i] : 0;
                sum[g][h] = 0;
            }
        for (u32 b = 0; b < args.babies; ++b) {
            const u32 *a = limb(args.rotated, 2 * args.baby[b] * args.limbs + y, args.log_n);
            const u32 a0 = a[i], a1 = a[i + ((u64)args.limbs << args.log_n)];
            add_diagonals(sum, args.diagonal[b], args, y, i, a0, a1);
            if (b % MOST_TERMS < MOST_TERMS - 1 && b + 1 < args.babies) continue;
            UNROLL
            for (u32 g = 0; g < GIANTS; ++g)
                for (u32 h = 0; h < 2; ++h) {
                    total[g][h] = add(total[g][h], mont_sum(sum[g][h], m), m.p);
                    sum[g][h] = 0;
                }
        }
        UNROLL
        for (u32 g = 0; g < GIANTS; ++g)
            for (u32 h = 0; h < 2; ++h)
                if (g < args.giants) limb_mut(args.out[g][h], args.first + y, args.log_n)[i] = total[g][h];
    }
}

// Rotations and digits of a sum that makes its rotated ciphertexts itself, at most.
#define ROTATIONS 8
#define DIGITS 4

struct RotatedSum {
    // The second half's digits, as in a key product, the half itself, and the first half.
    u64 rest[DIGITS], whole, c0;
    // Per rotation and digit the key, in Montgomery form; none for the ciphertext itself.
    u64 b[ROTATIONS][DIGITS], a[ROTATIONS][DIGITS];
    // As in a sum of diagonals.
    u64 diagonal[ROTATIONS][GIANTS];
    u64 out[GIANTS][2];
    u64 primes;
    u32 log_n;
    u32 digits;
    u32 babies;
    u32 giants;
    u32 first;
    u32 start;
    u32 run;
    u32 more;
    // X → X^element of each rotation.
    u32 element[ROTATIONS];
    // The special primes' product, in Montgomery form.
    u32 factor[MOST_LIMBS];
    u16 prime[MOST_LIMBS];
    u8 rest_limb[DIGITS][MOST_LIMBS], key_limb[ROTATIONS][MOST_LIMBS];
    // NONE modulo a special prime, where P times anything vanishes.
    u8 whole_limb[MOST_LIMBS], c0_limb[MOST_LIMBS];
};

// A key product and the sum of diagonals in one: Σ diagonal·rotation for several giant steps, where rotations live in registers only.
// Digits are read once for each rotation, from a cache: an automorphism takes aligned runs of words to aligned runs.
KERNEL(rotated_sum, RotatedSum) {
    const u32 n = 1u << args.log_n, y = BLOCK_Y;
    const Prime m = ((const Prime *)args.primes)[args.prime[y]];
    PHASE for (u32 i = BLOCK_X * THREADS + thread; i < n; i = n) {
        u64 sum[GIANTS][2];
        UNROLL
        for (u32 g = 0; g < GIANTS; ++g) sum[g][0] = sum[g][1] = 0;
        for (u32 r = 0; r < args.babies; ++r) {
            const u32 at = args.element[r] == 1 ? i : source(i, args.element[r], args.log_n);
            const bool own = args.c0_limb[y] != NONE;
            u32 a0 = own ? mont((u64)limb(args.c0, args.c0_limb[y], args.log_n)[at] * args.factor[y], m) : 0;
            u32 a1 = 0;
            if (args.b[r][0]) {
                u64 with_b = 0, with_a = 0;
                for (u32 d = 0; d < args.digits; ++d) {
                    const u8 rest = args.rest_limb[d][y];
                    const u32 digit = rest == NONE ? limb(args.whole, args.whole_limb[y], args.log_n)[at]
                                                   : limb(args.rest[d], rest, args.log_n)[at];
                    with_b += (u64)digit * limb(args.b[r][d], args.key_limb[r][y], args.log_n)[at];
                    with_a += (u64)digit * limb(args.a[r][d], args.key_limb[r][y], args.log_n)[at];
                }
                a0 = add(a0, mont_sum(with_b, m), m.p);
                a1 = mont_sum(with_a, m);
            } else if (own) {
                a1 = mont((u64)limb(args.whole, args.whole_limb[y], args.log_n)[at] * args.factor[y], m);
            }
            add_diagonals(sum, args.diagonal[r], args, y, i, a0, a1);
        }
        UNROLL
        for (u32 g = 0; g < GIANTS; ++g)
            for (u32 h = 0; h < 2; ++h)
                if (g < args.giants) {
                    u32 *out = limb_mut(args.out[g][h], args.first + y, args.log_n) + i;
                    const u32 value = mont_sum(sum[g][h], m);
                    *out = args.more ? add(*out, value, m.p) : value;
                }
    }
}
