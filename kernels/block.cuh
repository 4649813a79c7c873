// What the threads of a block do together.

#pragma once

#include "layout.cuh"

#define FULL_WARP 0xffffffffu
#define WARPS (BLOCK / 32)

// The sample that a block mixes: here, as registers are dear while masks are made.
struct Sides {
  const char *primary, *partner;  // where the images begin that it reads
  char* out;                      // where its own begins
  View primary_view, partner_view;
  u32 access;  // Launch::access, where both are read as they are, or ACCESS_STRIDED
};

// Every block's bookkeeping, at the start of its dynamic shared memory.
struct Common {
  Layer layers[MAX_LAYERS];
  Sides sides;
  u64 sums[WARPS];
  float lows[WARPS], highs[WARPS];
  u64 threshold;
  u32 bin, rank, n_in_bin, n_candidates, is_last;
};
static_assert(sizeof(Common) <= COMMON_BYTES, "COMMON_BYTES");

__device__ __forceinline__ u32 lane_index() { return threadIdx.x & 31u; }
__device__ __forceinline__ u32 warp_index() { return threadIdx.x >> 5; }

// The sum of every thread's value, in every thread. `common.sums` is free again after the next barrier.
__device__ __forceinline__ u64 block_sum(u64 value, Common& common) {
  for (int offset = 16; offset > 0; offset >>= 1) value += __shfl_xor_sync(FULL_WARP, value, offset);
  if (lane_index() == 0) common.sums[warp_index()] = value;
  __syncthreads();  // each warp's sum is read by all
  u64 sum = 0;
  for (int warp = 0; warp < WARPS; ++warp) sum += common.sums[warp];
  return sum;
}
