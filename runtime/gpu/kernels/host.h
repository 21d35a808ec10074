// What a kernel is on a processor: see `device.h`. Blocks run one after the other, and so do the threads of a phase: forwards in every
// other block, backwards in the rest, so that what depends on their order shows.
#pragma once

#include <algorithm>
#include <cstdint>
#include <cstring>

typedef uint8_t u8;
typedef uint16_t u16;
typedef uint32_t u32;
typedef unsigned long long u64;

#define INLINE static inline
#define UNROLL
#define BLOCK_X block.x
#define BLOCK_Y block.y
#define BLOCK_Z block.z
#define THREADS block.threads
#define SHARED(name, words) static thread_local u32 name[words]
#define KERNEL(name, Args)                                                                                                 \
    static void name##_block(const Args &args, const Block &block);                                                        \
    extern "C" bool name(const void *bytes, u64 size, const u32 *grid, u32 threads) {                                      \
        if (size != sizeof(Args)) return false;                                                                            \
        Args args;                                                                                                         \
        std::memcpy(&args, bytes, sizeof(Args));                                                                           \
        for (u32 z = 0; z < grid[2]; ++z)                                                                                  \
            for (u32 y = 0; y < grid[1]; ++y)                                                                              \
                for (u32 x = 0; x < grid[0]; ++x) name##_block(args, Block{x, y, z, threads});                             \
        return true;                                                                                                       \
    }                                                                                                                      \
    static void name##_block(const Args &args, const Block &block)
#define PHASE                                                                                                              \
    for (u32 turn = 0, thread = block.first(); turn < block.threads; ++turn, thread = block.backwards() ? thread - 1 : thread + 1)

struct Block {
    u32 x, y, z, threads;

    bool backwards() const { return (x + y + z) % 2 == 1; }
    u32 first() const { return backwards() ? threads - 1 : 0; }
};

INLINE u32 high(u32 a, u32 b) { return (u32)(((u64)a * b) >> 32); }
INLINE u32 reversed(u32 a) {
    a = (a >> 1 & 0x55555555) | (a & 0x55555555) << 1;
    a = (a >> 2 & 0x33333333) | (a & 0x33333333) << 2;
    a = (a >> 4 & 0x0f0f0f0f) | (a & 0x0f0f0f0f) << 4;
    return __builtin_bswap32(a);
}
INLINE u32 least(u32 a, u32 b) { return std::min(a, b); }
