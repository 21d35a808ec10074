// Residues of primes below 2^30, and where they lie: in [0, p) but between the two halves of a transform.
#pragma once

// Limbs of a polynomial, and other lists, at most.
#define MOST_LIMBS 64
// Digits, sources of a base conversion, products of a sum before it is reduced, at most.
#define MOST_TERMS 16
// No limb.
#define NONE 255

// A prime with its constants: p^-1 mod 2^32, and Barrett's factor and shift. `Modulus` of sotto-ckks.
struct Prime {
    u32 p, p_inv, mu, shift;
};

// x in [0, 2p) to [0, p).
INLINE u32 once(u32 x, u32 p) { return least(x, x - p); }

INLINE u32 add(u32 a, u32 b, u32 p) { return once(a + b, p); }

INLINE u32 sub(u32 a, u32 b, u32 p) {
    u32 d = a - b;
    return least(d, d + p);
}

// t·2^-32 mod p for t < 2^32·p.
INLINE u32 mont(u64 t, const Prime &m) {
    u32 k = (u32)t * m.p_inv;
    return once((u32)(t >> 32) + m.p - high(k, m.p), m.p);
}

// t·2^-32 mod p for a sum of up to MOST_TERMS products of a word below 2^30 and a residue.
INLINE u32 mont_sum(u64 t, const Prime &m) {
    u32 k = (u32)t * m.p_inv;
    u32 top = once((u32)(t >> 32), 2 * m.p);
    u32 r = top + m.p - high(k, m.p);
    return once(once(r, 2 * m.p), m.p);
}

// a·b mod p by Barrett.
INLINE u32 mul(u32 a, u32 b, const Prime &m) {
    u64 t = (u64)a * b;
    u32 q = (u32)(((u64)(u32)(t >> m.shift) * m.mu) >> (m.shift + 4));
    u32 r = (u32)t - q * m.p;
    return once(once(r, 2 * m.p), m.p);
}

// Where entry i of a transformed limb comes from under X → X^element: entry i is the value at ψ^(2·rev(i)+1).
INLINE u32 source(u32 i, u32 element, u32 log_n) {
    u32 e = (2 * (reversed(i) >> (32 - log_n)) + 1) * element;
    return reversed((e >> 1) << (32 - log_n)) & ((1u << log_n) - 1);
}

INLINE const u32 *limb(u64 poly, u32 at, u32 log_n) { return (const u32 *)poly + ((u64)at << log_n); }
INLINE u32 *limb_mut(u64 poly, u32 at, u32 log_n) { return (u32 *)poly + ((u64)at << log_n); }
