// Operations on residues one by one: a limb for each of the grid's second dimension, its words over the first.
#ifndef HOST
#include "device.h"
#include "words.h"
#endif

struct Map {
    u64 out, a, b;
    u64 primes;
    u32 log_n;
    u32 zero;
    // Constants per limb, in the form that a kernel asks for: those of the first and of the second half of its words.
    u32 low[MOST_LIMBS], high[MOST_LIMBS];
    u16 prime[MOST_LIMBS];
    // Limbs of the operands, NONE for zero where a kernel says so.
    u8 a_limb[MOST_LIMBS], b_limb[MOST_LIMBS];
};

#define EACH_WORD                                                                                                          \
    const Prime m = ((const Prime *)args.primes)[args.prime[BLOCK_Y]];                                                     \
    u32 *out = limb_mut(args.out, BLOCK_Y, args.log_n);                                                                    \
    const u32 n = 1u << args.log_n;                                                                                        \
    (void)m;                                                                                                               \
    PHASE for (u32 i = BLOCK_X * THREADS + thread; i < n; i = n)

#define OPERAND_A const u32 *a = limb(args.a, args.a_limb[BLOCK_Y], args.log_n);
#define OPERAND_B const u32 *b = limb(args.b, args.b_limb[BLOCK_Y], args.log_n);
#define CONSTANT (i < n / 2 ? args.low[BLOCK_Y] : args.high[BLOCK_Y])

// out = a + b.
KERNEL(map_add, Map) {
    OPERAND_A OPERAND_B EACH_WORD out[i] = add(a[i], b[i], m.p);
}

// out = a - b.
KERNEL(map_sub, Map) {
    OPERAND_A OPERAND_B EACH_WORD out[i] = sub(a[i], b[i], m.p);
}

// out = -a.
KERNEL(map_negate, Map) {
    OPERAND_A EACH_WORD out[i] = sub(0, a[i], m.p);
}

// out = a·b.
KERNEL(map_mul, Map) {
    OPERAND_A OPERAND_B EACH_WORD out[i] = mul(a[i], b[i], m);
}

// out += a·b.
KERNEL(map_mul_add, Map) {
    OPERAND_A OPERAND_B EACH_WORD out[i] = add(out[i], mul(a[i], b[i], m), m.p);
}

// out = a·c, c in Montgomery form; zero where there is no limb of a.
KERNEL(map_scale, Map) {
    const bool some = args.a_limb[BLOCK_Y] != NONE;
    OPERAND_A EACH_WORD out[i] = some ? mont((u64)a[i] * CONSTANT, m) : 0;
}

// out += a·c, c in Montgomery form.
KERNEL(map_scale_add, Map) {
    OPERAND_A EACH_WORD out[i] = add(out[i], mont((u64)a[i] * CONSTANT, m), m.p);
}

// out = a + c.
KERNEL(map_add_constant, Map) {
    OPERAND_A EACH_WORD out[i] = add(a[i], CONSTANT, m.p);
}

// out = a; zero where there is no limb of a.
KERNEL(map_copy, Map) {
    const bool some = args.a_limb[BLOCK_Y] != NONE;
    OPERAND_A EACH_WORD out[i] = some ? a[i] : 0;
}

struct Products {
    // The three parts of the sum, and (a0, a1, b0, b1) of every pair; all have the same primes.
    u64 out[3];
    u64 pair[MOST_TERMS][4];
    u64 primes;
    u32 log_n;
    u32 pairs;
    // Whether the sum goes on.
    u32 more;
    u32 zero;
    u16 prime[MOST_LIMBS];
};

// The products of ciphertexts before relinearisation: d0 + d1·s + d2·s², summed.
KERNEL(products, Products) {
    const Prime m = ((const Prime *)args.primes)[args.prime[BLOCK_Y]];
    const u32 n = 1u << args.log_n;
    PHASE for (u32 i = BLOCK_X * THREADS + thread; i < n; i = n) {
        u32 d[3] = {0, 0, 0};
        if (args.more)
            for (int k = 0; k < 3; ++k) d[k] = limb(args.out[k], BLOCK_Y, args.log_n)[i];
        for (u32 j = 0; j < args.pairs; ++j) {
            const u32 a0 = limb(args.pair[j][0], BLOCK_Y, args.log_n)[i], a1 = limb(args.pair[j][1], BLOCK_Y, args.log_n)[i];
            const u32 b0 = limb(args.pair[j][2], BLOCK_Y, args.log_n)[i], b1 = limb(args.pair[j][3], BLOCK_Y, args.log_n)[i];
            d[0] = add(d[0], mul(a0, b0, m), m.p);
            d[1] = add(d[1], add(mul(a0, b1, m), mul(a1, b0, m), m.p), m.p);
            d[2] = add(d[2], mul(a1, b1, m), m.p);
        }
        for (int k = 0; k < 3; ++k) limb_mut(args.out[k], BLOCK_Y, args.log_n)[i] = d[k];
    }
}

struct Combination {
    u64 out;
    u64 a[8];
    u64 primes;
    u32 log_n;
    u32 terms;
    // Whether the sum goes on.
    u32 more;
    u32 zero;
    // In Montgomery form.
    u32 factor[8][MOST_LIMBS];
    u16 prime[MOST_LIMBS];
};

// Σ a·factor over polynomials with the same primes.
KERNEL(combine, Combination) {
    const Prime m = ((const Prime *)args.primes)[args.prime[BLOCK_Y]];
    const u32 n = 1u << args.log_n;
    u32 *out = limb_mut(args.out, BLOCK_Y, args.log_n);
    PHASE for (u32 i = BLOCK_X * THREADS + thread; i < n; i = n) {
        u64 sum = 0;
        for (u32 j = 0; j < args.terms; ++j) sum += (u64)limb(args.a[j], BLOCK_Y, args.log_n)[i] * args.factor[j][BLOCK_Y];
        const u32 value = mont_sum(sum, m);
        out[i] = args.more ? add(out[i], value, m.p) : value;
    }
}
