// CUDA C++ on the CPU, for tests: what kernels/ uses of it, one fiber a CUDA thread.
//
// What it does not have does not compile, which is the point. Barriers, shuffles and ballots are true meetings: a
// thread goes on when all that take part have arrived. Between them, threads run in an order that the test chooses, so
// that a missing barrier shows as a result that depends on it. Shared memory is filled with garbage before every block.

#pragma once

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>

#define __global__
#define __device__
#define __forceinline__ inline
#define __launch_bounds__(...)
#define DYNAMIC_SHARED(name) uint4* const name = (uint4*)on_cpu::dynamic_shared()

struct Index { unsigned x, y, z; };
struct alignas(8) float2 { float x, y; };
struct alignas(16) float4 { float x, y, z, w; };
struct alignas(8) uint2 { unsigned x, y; };
struct alignas(16) uint4 { unsigned x, y, z, w; };
inline float2 make_float2(float x, float y) { return {x, y}; }
inline float4 make_float4(float x, float y, float z, float w) { return {x, y, z, w}; }
inline uint2 make_uint2(unsigned x, unsigned y) { return {x, y}; }
inline uint4 make_uint4(unsigned x, unsigned y, unsigned z, unsigned w) { return {x, y, z, w}; }

namespace on_cpu {
extern Index thread_index, block_index, block_size, grid_size;
void* dynamic_shared();
void meet_block();
// Every lane of `mask` brings a value; what each lane brought, garbage for those that are not in it.
const uint64_t* meet_warp(unsigned mask, uint64_t value, const char* what);
unsigned lane();

template <class To, class From> inline To bits_to(From from) {
  static_assert(sizeof(To) <= 8 && sizeof(From) <= 8, "a register");
  uint64_t bits = 0;
  memcpy(&bits, &from, sizeof from);
  To to;
  memcpy(&to, &bits, sizeof to);
  return to;
}
}  // namespace on_cpu

#define threadIdx on_cpu::thread_index
#define blockIdx on_cpu::block_index

inline void __syncthreads() { on_cpu::meet_block(); }
inline void __threadfence() {}
template <class T> inline T __shfl_xor_sync(unsigned mask, T value, int lanes) {
  const uint64_t* all = on_cpu::meet_warp(mask, on_cpu::bits_to<uint64_t>(value), "__shfl_xor_sync");
  return on_cpu::bits_to<T>(all[on_cpu::lane() ^ (unsigned)lanes]);
}
template <class T> inline T __shfl_up_sync(unsigned mask, T value, unsigned lanes) {
  const uint64_t* all = on_cpu::meet_warp(mask, on_cpu::bits_to<uint64_t>(value), "__shfl_up_sync");
  return on_cpu::bits_to<T>(all[on_cpu::lane() < lanes ? on_cpu::lane() : on_cpu::lane() - lanes]);
}
inline unsigned __ballot_sync(unsigned mask, int predicate) {
  const uint64_t* all = on_cpu::meet_warp(mask, predicate != 0, "__ballot_sync");
  unsigned ballot = 0;
  for (unsigned i = 0; i < 32; ++i) ballot |= (mask >> i & 1u) && all[i] == 1 ? 1u << i : 0u;
  return ballot;
}

template <class T> inline T __ldg(const T* from) { return *from; }
// One fiber runs at a time, so a plain read and write is atomic.
template <class T> inline T atomicAdd(T* at, T value) { T old = *at; *at = old + value; return old; }
template <class T> inline T atomicMax(T* at, T value) { T old = *at; if (value > old) *at = value; return old; }

inline float __uint_as_float(unsigned bits) { return on_cpu::bits_to<float>(bits); }
inline unsigned __float_as_uint(float value) { return on_cpu::bits_to<unsigned>(value); }
inline unsigned __float2uint_rn(float value) { return (unsigned)nearbyintf(value); }
inline float __ull2float_rn(unsigned long long value) { return (float)value; }
// What the device has instructions for; no number gives the device's one.
#define HALF_CONVERSIONS
inline float half_to_f32(unsigned bits) {
  const float scale = __uint_as_float((254u - 15u) << 23);  // moves the exponent, which is exact
  const unsigned sign = (bits & 0x8000u) << 16, magnitude = bits & 0x7fffu;
  const unsigned finite = __float_as_uint(__uint_as_float(magnitude << 13) * scale);
  return __uint_as_float(sign | (magnitude >= 0x7c00u ? magnitude << 13 | 0x7f800000u : finite));
}
inline unsigned half_from_f32(float value) {
  const unsigned bits = __float_as_uint(value), sign = bits >> 16 & 0x8000u, magnitude = bits & 0x7fffffffu;
  if (magnitude > 0x7f800000u) return 0x7fffu;
  if (magnitude >= 0x477ff000u) return sign | 0x7c00u;  // from 65520 on, rounding gives infinity
  // Below 2^-14 the last place is 2^-24: adding 1/2, whose last place is that, rounds there.
  if (magnitude < (127u - 14u) << 23) return sign | (__float_as_uint(__uint_as_float(magnitude) + 0.5f) - 0x3f000000u);
  const unsigned moved = magnitude - ((127u - 15u) << 23);
  return sign | (moved + 0xfffu + (moved >> 13 & 1u)) >> 13;
}
inline unsigned __byte_perm(unsigned a, unsigned b, unsigned selector) {
  const uint64_t bytes = (uint64_t)b << 32 | a;
  unsigned result = 0;
  for (unsigned i = 0; i < 4; ++i) result |= (unsigned)(bytes >> 8 * (selector >> 4 * i & 7u) & 0xffu) << 8 * i;
  return result;
}
inline unsigned __funnelshift_r(unsigned low, unsigned high, unsigned by) {
  return (unsigned)(((uint64_t)high << 32 | low) >> (by & 31u));
}
inline int __popc(unsigned bits) { return __builtin_popcount(bits); }
inline unsigned __umulhi(unsigned a, unsigned b) { return (unsigned)((uint64_t)a * b >> 32); }
inline int __clzll(long long value) { return value ? __builtin_clzll((unsigned long long)value) : 64; }
inline unsigned min(unsigned a, unsigned b) { return a < b ? a : b; }
inline int min(int a, int b) { return a < b ? a : b; }
inline int max(int a, int b) { return a > b ? a : b; }

namespace on_cpu {
// A kernel takes one parameter, whose size is `bytes`.
struct Kernel {
  const char* name;
  void (*run)(const void* parameter);
  size_t bytes;
};
extern const Kernel source_kernels[], ptx_kernels[];
extern const size_t n_source_kernels, n_ptx_kernels;

// What the blocks of instructions of `ptx_kernels` cost, and how often a lane came to one: with COUNT_INSTRUCTIONS only.
extern const unsigned block_costs[];
extern const size_t n_blocks;
void count(unsigned block);
// What the warps of all launches since the last call executed, and the longest warp.
struct Executed {
  uint64_t all_warps, longest_warp;
};
Executed executed();

// 0: lanes and warps ascending, in turns; 1: descending, each warp as far as it gets; 2: by `seed`, warps drifting
// apart. Null, or what went wrong, valid until the next call.
const char* launch(const Kernel& kernel, unsigned blocks, unsigned threads, unsigned shared_bytes,
                   const void* parameter, int order, uint64_t seed);
}  // namespace on_cpu
