// What a card can do at best, to hold kernels against: its rate of multiplications. Copying is measured with `map_copy`.
#ifndef HOST
#include "device.h"
#include "words.h"
#endif

// Chains of a thread that do not wait for each other.
#define CHAINS 8

struct Chain {
    // One word for every thread of the grid.
    u64 out;
    u64 primes;
    u32 rounds;
    u32 zero;
};

// Thread i squares i, i + 1, … over and over modulo the first prime, each time divided by 2^32, and writes the sum.
KERNEL(multiply_chain, Chain) {
    const Prime m = ((const Prime *)args.primes)[0];
    PHASE {
        const u32 i = BLOCK_X * THREADS + thread;
        u32 x[CHAINS];
        UNROLL
        for (u32 k = 0; k < CHAINS; ++k) x[k] = i + k;
        for (u32 round = 0; round < args.rounds; ++round) {
            UNROLL
            for (u32 k = 0; k < CHAINS; ++k) x[k] = mont((u64)x[k] * x[k], m);
        }
        u32 sum = 0;
        UNROLL
        for (u32 k = 0; k < CHAINS; ++k) sum = add(sum, x[k], m.p);
        ((u32 *)args.out)[i] = sum;
    }
}
