// Elements of images: to f32 and back, and their blend. Twins: src/cpu/convert.rs, src/cpu/blend.rs.
//
// An element is handled as its bits in a u32; a Quad is GROUP elements in one load or store.

#pragma once

#include "layout.cuh"

#ifndef HALF_CONVERSIONS
// Exact, and rounded to nearest even, denormal numbers included.
__device__ __forceinline__ float half_to_f32(u32 bits) {
  float value;
  asm("cvt.f32.f16 %0, %1;" : "=f"(value) : "h"((unsigned short)bits));
  return value;
}
__device__ __forceinline__ u32 half_from_f32(float value) {
  unsigned short bits;
  asm("cvt.rn.f16.f32 %0, %1;" : "=h"(bits) : "f"(value));
  return bits;
}
#endif

// Of two elements in a word: all bits of those where `first` and `second` are true.
__device__ __forceinline__ u32 halves_where(bool first, bool second) {
  return (first ? 0xffffu : 0u) | (second ? 0xffff0000u : 0u);
}

// The bits of `a` where `where` is 1, of `b` elsewhere.
__device__ __forceinline__ u32 select_bits(u32 where, u32 a, u32 b) { return (a & where) | (b & ~where); }

struct F32 {
  typedef u32 Word;
  typedef uint4 Quad;
  static __device__ __forceinline__ float to_f32(u32 bits) { return __uint_as_float(bits); }
  static __device__ __forceinline__ u32 from_f32(float value) { return __float_as_uint(value); }
  static __device__ __forceinline__ void unpack(uint4 quad, float (&values)[GROUP]) {
    values[0] = to_f32(quad.x), values[1] = to_f32(quad.y), values[2] = to_f32(quad.z), values[3] = to_f32(quad.w);
  }
  static __device__ __forceinline__ uint4 pack(const float (&values)[GROUP]) {
    return make_uint4(from_f32(values[0]), from_f32(values[1]), from_f32(values[2]), from_f32(values[3]));
  }
  static __device__ __forceinline__ uint4 select(const bool (&where)[GROUP], uint4 a, uint4 b) {
    return make_uint4(where[0] ? a.x : b.x, where[1] ? a.y : b.y, where[2] ? a.z : b.z, where[3] ? a.w : b.w);
  }
};

// Two elements in a word.
template <class Pixel>
struct Halves {
  typedef unsigned short Word;
  typedef uint2 Quad;
  static __device__ __forceinline__ void unpack(uint2 quad, float (&values)[GROUP]) {
    values[0] = Pixel::to_f32(quad.x & 0xffffu), values[1] = Pixel::to_f32(quad.x >> 16);
    values[2] = Pixel::to_f32(quad.y & 0xffffu), values[3] = Pixel::to_f32(quad.y >> 16);
  }
  static __device__ __forceinline__ uint2 pack(const float (&values)[GROUP]) {
    return make_uint2(Pixel::from_f32(values[0]) | Pixel::from_f32(values[1]) << 16,
                      Pixel::from_f32(values[2]) | Pixel::from_f32(values[3]) << 16);
  }
  static __device__ __forceinline__ uint2 select(const bool (&where)[GROUP], uint2 a, uint2 b) {
    return make_uint2(select_bits(halves_where(where[0], where[1]), a.x, b.x),
                      select_bits(halves_where(where[2], where[3]), a.y, b.y));
  }
};

struct Bf16 : Halves<Bf16> {
  static __device__ __forceinline__ float to_f32(u32 bits) { return __uint_as_float(bits << 16); }
  static __device__ __forceinline__ u32 from_f32(float value) {
    const u32 bits = __float_as_uint(value);
    const u32 rounded = bits + 0x7fffu + (bits >> 16 & 1u);
    return (value != value ? bits | 0x400000u : rounded) >> 16;
  }
};

struct F16 : Halves<F16> {
  static __device__ __forceinline__ float to_f32(u32 bits) { return half_to_f32(bits); }
  static __device__ __forceinline__ u32 from_f32(float value) { return half_from_f32(value); }
};

struct U8 {
  typedef unsigned char Word;
  typedef u32 Quad;
  // 2^23 + byte, less 2^23: cheaper than a conversion.
  template <int BYTE>
  static __device__ __forceinline__ float byte_of(u32 bits) {
    return __uint_as_float(__byte_perm(bits, 0x4b000000u, 0x7440u | BYTE)) - 8388608.0f;
  }
  static __device__ __forceinline__ float to_f32(u32 bits) { return byte_of<0>(bits); }
  // The last bits of 2^23 * 1.5 + value, rounded half to even. A blend of bytes is less than 255.5: 1 - m is off by 2^-25
  // at most.
  static __device__ __forceinline__ u32 low_byte(float value) { return __float_as_uint(value + 12582912.0f); }
  static __device__ __forceinline__ u32 from_f32(float value) { return low_byte(value) & 0xffu; }
  static __device__ __forceinline__ void unpack(u32 quad, float (&values)[GROUP]) {
    values[0] = byte_of<0>(quad), values[1] = byte_of<1>(quad), values[2] = byte_of<2>(quad), values[3] = byte_of<3>(quad);
  }
  static __device__ __forceinline__ u32 pack(const float (&values)[GROUP]) {
    const u32 low = __byte_perm(low_byte(values[0]), low_byte(values[1]), 0x40u);
    const u32 high = __byte_perm(low_byte(values[2]), low_byte(values[3]), 0x40u);
    return __byte_perm(low, high, 0x5410u);
  }
  static __device__ __forceinline__ u32 select(const bool (&where)[GROUP], u32 a, u32 b) {
    const u32 bytes = (where[0] ? 0xffu : 0u) | (where[1] ? 0xff00u : 0u) | (where[2] ? 0xff0000u : 0u) |
                      (where[3] ? 0xff000000u : 0u);
    return select_bits(bytes, a, b);
  }
};

// m*primary + (1 - m)*partner; m = 1 and m = 0 copy bits.
template <class Pixel>
__device__ __forceinline__ u32 blend(u32 primary, u32 partner, float m) {
  const u32 mixed = Pixel::from_f32(fmaf(m, Pixel::to_f32(primary), (1.0f - m) * Pixel::to_f32(partner)));
  return m == 1.0f ? primary : m == 0.0f ? partner : mixed;
}

// The same for GROUP elements.
template <class Pixel>
__device__ __forceinline__ typename Pixel::Quad blend(typename Pixel::Quad primary, typename Pixel::Quad partner,
                                                      const float (&m)[GROUP]) {
  float own[GROUP], other[GROUP], mixed[GROUP];
  bool is_one[GROUP], is_zero[GROUP];
  Pixel::unpack(primary, own);
  Pixel::unpack(partner, other);
#pragma unroll
  for (int e = 0; e < GROUP; ++e) {
    mixed[e] = fmaf(m[e], own[e], (1.0f - m[e]) * other[e]);
    is_one[e] = m[e] == 1.0f, is_zero[e] = m[e] == 0.0f;
  }
  return Pixel::select(is_one, primary, Pixel::select(is_zero, partner, Pixel::pack(mixed)));
}
