// Elements of images: to f32 and back, and their blend. Twins: src/cpu/convert.rs, src/cpu/blend.rs.
//
// An element is handled as its bits in a u32; a Quad is GROUP elements in one load or store.

#pragma once

#include "layout.cuh"

struct F32 {
  typedef u32 Word;
  typedef uint4 Quad;
  static __device__ __forceinline__ float to_f32(u32 bits) { return __uint_as_float(bits); }
  static __device__ __forceinline__ u32 from_f32(float value) { return __float_as_uint(value); }
};

struct Bf16 {
  typedef unsigned short Word;
  typedef uint2 Quad;
  static __device__ __forceinline__ float to_f32(u32 bits) { return __uint_as_float(bits << 16); }
  static __device__ __forceinline__ u32 from_f32(float value) {
    const u32 bits = __float_as_uint(value);
    const u32 rounded = (bits + 0x7fffu + (bits >> 16 & 1u)) >> 16;
    const bool is_nan = (bits & 0x7fffffffu) > 0x7f800000u;
    return is_nan ? bits >> 16 | 0x40u : rounded;
  }
};

struct F16 {
  typedef unsigned short Word;
  typedef uint2 Quad;
  // The exponent is moved by a multiplication, which is exact.
  static __device__ __forceinline__ float to_f32(u32 bits) {
    const u32 sign = (bits & 0x8000u) << 16, magnitude = bits & 0x7fffu;
    const float scale = __uint_as_float((254u - 15u) << 23);
    const u32 finite = __float_as_uint(__uint_as_float(magnitude << 13) * scale);
    return __uint_as_float(sign | (magnitude >= 0x7c00u ? magnitude << 13 | 0x7f800000u : finite));
  }
  static __device__ __forceinline__ u32 from_f32(float value) {
    const u32 bits = __float_as_uint(value);
    const u32 sign = bits >> 16 & 0x8000u, magnitude = bits & 0x7fffffffu;
    const u32 moved = magnitude - ((127u - 15u) << 23);
    const u32 normal = (moved + 0xfffu + (moved >> 13 & 1u)) >> 13;
    // Below 2^-14 the last place is 2^-24: adding 1/2, whose last place is that, rounds there.
    const u32 denormal = __float_as_uint(__uint_as_float(magnitude) + 0.5f) - 0x3f000000u;
    const u32 small = magnitude < (127u - 14u) << 23 ? denormal : normal;
    const u32 large = magnitude > 0x7f800000u ? 0x7e00u : 0x7c00u;
    return sign | (magnitude >= 0x477ff000u ? large : small);  // from 65520 on, rounding gives infinity
  }
};

struct U8 {
  typedef unsigned char Word;
  typedef u32 Quad;
  static __device__ __forceinline__ float to_f32(u32 bits) { return (float)bits; }
  // A blend of bytes lies in [0, 256): one addition rounds it half to even.
  static __device__ __forceinline__ u32 from_f32(float value) {
    const u32 rounded = __float_as_uint(value + 12582912.0f) & 0x1ffu;
    return rounded > 255u ? 255u : rounded;
  }
};

// m*primary + (1 - m)*partner; m = 1 and m = 0 copy bits.
template <class Pixel>
__device__ __forceinline__ u32 blend(u32 primary, u32 partner, float m) {
  const u32 mixed = Pixel::from_f32(fmaf(m, Pixel::to_f32(primary), (1.0f - m) * Pixel::to_f32(partner)));
  return m == 1.0f ? primary : m == 0.0f ? partner : mixed;
}

__device__ __forceinline__ void unpack(uint4 quad, u32 (&bits)[GROUP]) {
  bits[0] = quad.x, bits[1] = quad.y, bits[2] = quad.z, bits[3] = quad.w;
}
__device__ __forceinline__ void unpack(uint2 quad, u32 (&bits)[GROUP]) {
  bits[0] = quad.x & 0xffffu, bits[1] = quad.x >> 16, bits[2] = quad.y & 0xffffu, bits[3] = quad.y >> 16;
}
__device__ __forceinline__ void unpack(u32 quad, u32 (&bits)[GROUP]) {
  bits[0] = quad & 0xffu, bits[1] = quad >> 8 & 0xffu, bits[2] = quad >> 16 & 0xffu, bits[3] = quad >> 24;
}
__device__ __forceinline__ void pack(const u32 (&bits)[GROUP], uint4& quad) {
  quad = make_uint4(bits[0], bits[1], bits[2], bits[3]);
}
__device__ __forceinline__ void pack(const u32 (&bits)[GROUP], uint2& quad) {
  quad = make_uint2(bits[0] | bits[1] << 16, bits[2] | bits[3] << 16);
}
__device__ __forceinline__ void pack(const u32 (&bits)[GROUP], u32& quad) {
  quad = bits[0] | bits[1] << 8 | bits[2] << 16 | bits[3] << 24;
}
