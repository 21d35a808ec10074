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

struct Expansion {
    // Coefficients of a polynomial in X^(2^gap), two's complement and below 2^62, and where its limbs go.
    u64 from, to;
    u64 primes;
    u32 log_n;
    u32 gap;
    // R² and R³ modulo each prime, R = 2^32.
    u32 square[MOST_LIMBS], cube[MOST_LIMBS];
    u16 prime[MOST_LIMBS];
};

// Integers to residues in Montgomery form, modulo one prime for each of the grid's second dimension.
KERNEL(expand, Expansion) {
    const u32 n = 1u << args.log_n, y = BLOCK_Y;
    const Prime m = ((const Prime *)args.primes)[args.prime[y]];
    u32 *out = limb_mut(args.to, y, args.log_n);
    PHASE for (u32 i = BLOCK_X * THREADS + thread; i < n; i = n) {
        const u32 k = i >> args.gap;
        u32 value = 0;
        if (k << args.gap == i) {
            const u64 word = ((const u64 *)args.from)[k];
            const bool negative = word >> 63;
            const u64 size = negative ? 0 - word : word;
            // size·R = low·R² / R + high·R³ / R
            const u32 low = mont((u64)(u32)size * args.square[y], m), top = mont((size >> 32) * args.cube[y], m);
            value = add(low, top, m.p);
            if (negative) value = sub(0, value, m.p);
        }
        out[i] = value;
    }
}

struct DiagonalSum {
    // Diagonals, in Montgomery form: `first + limb` of each, every word for a run of 2^run. Those with `own` begin with the grid's limb.
    u64 diagonal[MOST_LIMBS];
    // The rotated ciphertexts: half h of number r is at (2r + h)·limbs.
    u64 rotated;
    // Where the halves go, and which of its limbs is the grid's first.
    u64 out[2];
    u64 primes;
    u32 log_n;
    u32 terms;
    u32 limbs;
    u32 first;
    // Whether the sum goes on.
    u32 more;
    u32 zero;
    u16 prime[MOST_LIMBS];
    u16 baby[MOST_LIMBS];
    u8 run[MOST_LIMBS], own[MOST_LIMBS];
};

// Σ diagonal·rotated ciphertext, modulo one prime of QP for each of the grid's second dimension and one half for each of its third.
KERNEL(diagonal_sum, DiagonalSum) {
    const u32 n = 1u << args.log_n, y = BLOCK_Y, half = BLOCK_Z;
    const Prime m = ((const Prime *)args.primes)[args.prime[y]];
    u32 *out = limb_mut(args.out[half], args.first + y, args.log_n);
    PHASE for (u32 i = BLOCK_X * THREADS + thread; i < n; i = n) {
        u32 total = args.more ? out[i] : 0;
        for (u32 done = 0; done < args.terms; done += MOST_TERMS) {
            u64 sum = 0;
            const u32 end = least(done + MOST_TERMS, args.terms);
            for (u32 t = done; t < end; ++t) {
                const u32 *a = limb(args.rotated, (2 * args.baby[t] + half) * args.limbs + y, args.log_n);
                const u32 *d = limb(args.diagonal[t], args.own[t] ? y : args.first + y, args.log_n - args.run[t]);
                sum += (u64)a[i] * d[i >> args.run[t]];
            }
            total = add(total, mont_sum(sum, m), m.p);
        }
        out[i] = total;
    }
}
