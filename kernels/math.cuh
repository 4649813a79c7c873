// The f32 functions that masks need. Twin: src/math.rs.
//
// Exactness: the same operations in the same order as on the CPU, fused where written and nowhere else
// (-fmad=false), nothing flushed, no approximation: the bits are equal.

#pragma once

#include "layout.cuh"

// ln(u) for a normal u in (0, 1].
__device__ __forceinline__ float natural_log(float u) {
  const u32 root_half = 0x3f3504f3u;
  const u32 bits = __float_as_uint(u) + (0x3f800000u - root_half);
  const float e = (float)((int)(bits >> 23) - 127);
  const float x = __uint_as_float((bits & 0x007fffffu) + root_half) - 1.0f;  // the mantissa, in [sqrt 1/2, sqrt 2), less 1
  const float z = x * x;
  float y = 7.0376836e-2f;
  y = fmaf(y, x, -1.151461e-1f);
  y = fmaf(y, x, 1.1676999e-1f);
  y = fmaf(y, x, -1.2420141e-1f);
  y = fmaf(y, x, 1.4249323e-1f);
  y = fmaf(y, x, -1.6668058e-1f);
  y = fmaf(y, x, 2.0000715e-1f);
  y = fmaf(y, x, -2.4999994e-1f);
  y = fmaf(y, x, 3.333333e-1f);
  y = y * x * z;
  y = fmaf(e, -2.1219444e-4f, y);
  y = fmaf(z, -0.5f, y);
  return fmaf(e, 0.6933594f, x + y);
}

// (cos, sin) of 2*pi*turn / 2^32.
__device__ __forceinline__ float2 cos_sin(u32 turn) {
  const u32 quarter = (turn + 0x20000000u) >> 30;  // the nearest; what is left is exact
  const float a = (float)(int)(turn - (quarter << 30)) * 1.4629181e-9f;
  const float z = a * a;
  float s = fmaf(-1.9515296e-4f, z, 8.332161e-3f);
  s = fmaf(s, z, -1.6666655e-1f);
  s = fmaf(s * z, a, a);
  float c = fmaf(2.4433157e-5f, z, -1.3887316e-3f);
  c = fmaf(c, z, 4.1666646e-2f);
  c = fmaf(c * z, z, fmaf(z, -0.5f, 1.0f));
  const bool odd = quarter & 1u;
  const float cosine = odd ? s : c, sine = odd ? c : s;
  return make_float2(quarter == 1u || quarter == 2u ? -cosine : cosine, quarter >= 2u ? -sine : sine);
}

// 2^-z for z >= 0, infinity included.
__device__ __forceinline__ float exp2_neg(float z) {
  const float round = 12582912.0f;  // 1.5 * 2^23: adding it leaves the integer in the low bits
  z = z < 32.0f ? z : 32.0f;
  const float shifted = z + round;
  const float f = (shifted - round) - z;  // exact, in [-1/2, 1/2]
  float y = 1.5353362e-4f;
  y = fmaf(y, f, 1.3398874e-3f);
  y = fmaf(y, f, 9.618437e-3f);
  y = fmaf(y, f, 5.5503325e-2f);
  y = fmaf(y, f, 2.4022648e-1f);
  y = fmaf(y, f, 6.931472e-1f);
  y = fmaf(y, f, 1.0f);
  return y * __uint_as_float((127u << 23) - (__float_as_uint(shifted) << 23));
}

// Two independent standard normals from 64 random bits (Box and Muller).
__device__ __forceinline__ float2 normals(u32 a, u32 b) {
  const float u = (float)((a >> 8) + 1u) * 5.9604644775390625e-8f;  // (0, 1], exact
  const float radius = sqrtf(-2.0f * natural_log(u));
  const float2 direction = cos_sin(b);
  return make_float2(radius * direction.x, radius * direction.y);
}

// Philox4x32-10 (Salmon et al., 2011): 128 random bits from a counter and a key.
__device__ __forceinline__ uint4 philox(uint4 counter, u32 key_low, u32 key_high) {
#pragma unroll
  for (int round = 0; round < 10; ++round) {
    const u32 a_high = __umulhi(0xD2511F53u, counter.x), a_low = 0xD2511F53u * counter.x;
    const u32 b_high = __umulhi(0xCD9E8D57u, counter.z), b_low = 0xCD9E8D57u * counter.z;
    counter = make_uint4(b_high ^ counter.y ^ key_low, b_low, a_high ^ counter.w ^ key_high, a_low);
    key_low += 0x9E3779B9u;
    key_high += 0xBB67AE85u;
  }
  return counter;
}

// sum / (2^24 * pixels), rounded once. Twin: mean_weight in src/mask/merge.rs.
//
// sum <= 2^24 * pixels, pixels <= 2^30: shifted to the top, the sum gives a quotient of 33 bits or more, and a
// remainder that is not 0 makes its last bit odd, far below the 24 bits that are kept.
__device__ __forceinline__ float mean_weight(u64 sum, u32 pixels) {
  if (sum == 0) return 0.0f;
  const int shift = __clzll((i64)sum);
  const u64 numerator = sum << shift;
  const u64 quotient = numerator / pixels;
  const u64 sticky = quotient | (u64)(numerator != quotient * pixels);
  // Twice, as 2^-(shift + 24) alone could lie below the normal numbers; both products are exact.
  const float half_scale = __uint_as_float((u32)(127 - shift) << 23);
  return __ull2float_rn(sticky) * half_scale * 5.9604644775390625e-8f;
}
