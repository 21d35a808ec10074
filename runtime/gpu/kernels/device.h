// What a kernel is on a GPU. `host.h` says the same for a processor: kernels are one text for both.
//
// A kernel's body is a row of phases. Within one, threads know nothing of each other; between two, all of a block's threads have
// finished the first. Nothing lives from one phase to the next but shared memory.
#pragma once

typedef unsigned char u8;
typedef unsigned short u16;
typedef unsigned int u32;
typedef unsigned long long u64;

#define INLINE __device__ __forceinline__
#define UNROLL _Pragma("unroll")
#define BLOCK_X blockIdx.x
#define BLOCK_Y blockIdx.y
#define BLOCK_Z blockIdx.z
#define THREADS blockDim.x
#define SHARED(name, words) __shared__ u32 name[words]
#define KERNEL(name, Args) extern "C" __global__ void __launch_bounds__(256) name(const Args args)
#define PHASE                                                                                                              \
    __syncthreads();                                                                                                       \
    for (u32 thread = threadIdx.x, left = 1; left; left = 0)

INLINE u32 high(u32 a, u32 b) { return __umulhi(a, b); }
INLINE u32 reversed(u32 a) { return __brev(a); }
INLINE u32 least(u32 a, u32 b) { return min(a, b); }
