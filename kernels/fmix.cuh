// FMix: the `n` pixels where low-frequency noise is largest, by one block. Twins: src/mask/fmix.rs, select.rs.
//
//   P(kx, y) = sum over ky of  Re(c+ + c-) cos - Im(c+ + c-) sin
//   Q(kx, y) = sum over ky of  Im(c+ - c-) cos + Re(c+ - c-) sin
//   F(x, y)  = sum over kx of  P cos - Q sin
//
// Each sum is the sum of two chains of fused multiply-adds in ascending k, one over even and one over odd k. So rows y,
// H - y, H/2 - y, H/2 + y and columns x, W - x, W/2 - x, W/2 + x are families that share their chains: only signs
// differ. Where a side is odd, y, H - y or x, W - x do.
//
// Work of a block: at 224x224 0.25 M + 0.84 M fused multiply-adds; nothing of it depends on image data.

#pragma once

#include "block.cuh"
#include "math.cuh"

struct Fmix {
  const float2* circle_y;   // (cos, sin) of 2*pi*m/H
  const float2* circle_x;   // (cos, sin) of 2*pi*m/W
  const float* amplitudes;  // [waves_y, waves_x]
  u32 height, width, waves_y, waves_x;
};

// The random spectrum, (Re, Im) of c+ + c-, then of c+ - c-: [waves_y, waves_x].
__device__ __forceinline__ void fmix_spectrum(const Fmix& fmix, u32 key_low, u32 key_high, float4* spectrum) {
#pragma unroll 1
  for (u32 i = threadIdx.x; i < fmix.waves_y * fmix.waves_x; i += BLOCK) {
    const u32 ky = i / fmix.waves_x, kx = i - ky * fmix.waves_x;
    const uint4 random = philox(make_uint4(kx, ky, 0u, 0x464d6978u), key_low, key_high);
    const float2 plus = normals(random.x, random.y);
    float2 minus = normals(random.z, random.w);
    // On the axes -kx is k itself or its mirror image, and is not summed.
    if (kx == 0 || ky == 0) minus = make_float2(0.0f, 0.0f);
    const float amplitude = __ldg(fmix.amplitudes + i);
    spectrum[i] = make_float4(amplitude * (plus.x + minus.x), amplitude * (plus.y + minus.y),
                              amplitude * (plus.x - minus.x), amplitude * (plus.y - minus.y));
  }
}

// Families on an axis.
__device__ __forceinline__ u32 fmix_reach(u32 side) { return side % 2 ? side / 2 + 1 : side / 4 + 1; }

// Where member m of a family is on an axis, or `side` where that is another member's place.
__device__ __forceinline__ u32 fmix_member(u32 family, u32 member, u32 side) {
  const bool alone = 4 * family == side;  // its own turned image
  if (member == 0) return family;
  if (member == 1) return family == 0 ? side : side - family;
  if (side % 2 || alone) return side;
  if (member == 2) return side / 2 - family;
  return family == 0 ? side : side / 2 + family;
}

// The next wave's place on the circle: m + step mod n, for step < n.
__device__ __forceinline__ u32 fmix_turn(u32 m, u32 step, u32 n) {
  m += step;
  return m >= n ? m - n : m;
}

// One ky's part of Re cos, Im sin, Im cos, Re sin.
__device__ __forceinline__ void fmix_column_wave(float2 direction, float4 c, float4& sums) {
  sums.x = fmaf(c.x, direction.x, sums.x);
  sums.y = fmaf(c.y, direction.y, sums.y);
  sums.z = fmaf(c.w, direction.x, sums.z);
  sums.w = fmaf(c.z, direction.y, sums.w);
}

// Rows that a thread works on at a time: they share its (cos, sin).
constexpr int ROWS = 4;

// One kx's part of ROWS rows' P cos and Q sin; rows: their P and Q, two rows in one load, the same for the whole warp.
__device__ __forceinline__ void fmix_row_wave(float2 direction, const float4* rows, float (&cosines)[ROWS],
                                              float (&sines)[ROWS]) {
#pragma unroll
  for (int row = 0; row < ROWS; row += 2) {
    const float4 pq = rows[row / 2];
    cosines[row] = fmaf(pq.x, direction.x, cosines[row]);
    sines[row] = fmaf(pq.y, direction.y, sines[row]);
    cosines[row + 1] = fmaf(pq.z, direction.x, cosines[row + 1]);
    sines[row + 1] = fmaf(pq.w, direction.y, sines[row + 1]);
  }
}

// The field F: [H, W]. A thread takes one family of columns, ROWS rows at a time; a strip of rows, whole families of
// them, shares P and Q in shared memory.
//
// turns: (cos, sin) of 2*pi*kx*x/W, [waves_x, reach(W)], or null: then they are looked up on the circle.
// columns: room for STRIP_ROWS * waves_x * 2 numbers.
__device__ __forceinline__ void fmix_field(const Fmix& fmix, const float4* spectrum, const float2* turns,
                                           float2* columns, float* field) {
  const u32 height = fmix.height, width = fmix.width, waves_x = fmix.waves_x;
  const u32 reach_x = fmix_reach(width), reach_y = fmix_reach(height), members = height % 2 ? 2 : 4;
  const u32 lanes = min((reach_x + 31u) & ~31u, (u32)BLOCK);
  const u32 teams = min(BLOCK / lanes, (u32)(STRIP_ROWS / ROWS)), strip = teams * ROWS;
  const u32 team = threadIdx.x / lanes, lane = threadIdx.x - team * lanes;
  for (u32 first = 0; first < reach_y; first += strip / members) {
    const u32 n_families = min(strip / members, reach_y - first);
    for (u32 i = threadIdx.x; i < n_families * waves_x; i += BLOCK) {
      const u32 family = i / waves_x, kx = i - family * waves_x, y = first + family;
      float4 even = make_float4(0.0f, 0.0f, 0.0f, 0.0f), odd = even;
      u32 turn = 0;
#pragma unroll 1
      for (u32 ky = 0; ky < fmix.waves_y; ky += 2) {
        fmix_column_wave(__ldg(fmix.circle_y + turn), spectrum[ky * waves_x + kx], even);
        turn = fmix_turn(turn, y, height);
        if (ky + 1 == fmix.waves_y) break;
        fmix_column_wave(__ldg(fmix.circle_y + turn), spectrum[(ky + 1) * waves_x + kx], odd);
        turn = fmix_turn(turn, y, height);
      }
      const float4 there = make_float4(even.x + odd.x, even.y + odd.y, even.z + odd.z, even.w + odd.w);
      // Half a side on, cos changes its sign at odd k, and sin at even k.
      const float4 turned = make_float4(even.x - odd.x, odd.y - even.y, even.z - odd.z, odd.w - even.w);
      float2* rows = columns + kx * strip + members * family;
      rows[0] = make_float2(there.x - there.y, there.z + there.w);
      rows[1] = make_float2(there.x + there.y, there.z - there.w);
      if (members == 4) {
        rows[2] = make_float2(turned.x - turned.y, turned.z + turned.w);
        rows[3] = make_float2(turned.x + turned.y, turned.z - turned.w);
      }
    }
    __syncthreads();  // P and Q of the strip are read by all
    if (team < teams) {
      for (u32 x = lane; x < reach_x; x += lanes) {
        float even_cos[ROWS], even_sin[ROWS], odd_cos[ROWS], odd_sin[ROWS];
#pragma unroll
        for (int row = 0; row < ROWS; ++row) even_cos[row] = even_sin[row] = odd_cos[row] = odd_sin[row] = 0.0f;
        u32 turn = 0;
#pragma unroll 1
        for (u32 kx = 0; kx < waves_x; kx += 2) {
          const float4* rows = (const float4*)(columns + kx * strip + team * ROWS);
          fmix_row_wave(turns ? turns[kx * reach_x + x] : __ldg(fmix.circle_x + turn), rows, even_cos, even_sin);
          turn = fmix_turn(turn, x, width);
          if (kx + 1 == waves_x) break;
          rows += strip / 2;
          fmix_row_wave(turns ? turns[(kx + 1) * reach_x + x] : __ldg(fmix.circle_x + turn), rows, odd_cos, odd_sin);
          turn = fmix_turn(turn, x, width);
        }
#pragma unroll
        for (int row = 0; row < ROWS; ++row) {
          const u32 in_strip = team * ROWS + row, family = first + in_strip / members;
          const u32 y = fmix_member(family, in_strip % members, height);
          if (family >= reach_y || y >= height) continue;
          float* out = field + (size_t)y * width;
          const float cosine = even_cos[row] + odd_cos[row], sine = even_sin[row] + odd_sin[row];
          // Adding 0 makes a -0 a 0: equal values have equal bits.
          out[x] = (cosine - sine) + 0.0f;
          if (x != 0) out[width - x] = (cosine + sine) + 0.0f;
          if (width % 2 || 4 * x == width) continue;
          const float turned_cosine = even_cos[row] - odd_cos[row], turned_sine = odd_sin[row] - even_sin[row];
          out[width / 2 - x] = (turned_cosine - turned_sine) + 0.0f;
          if (x != 0) out[width / 2 + x] = (turned_cosine + turned_sine) + 0.0f;
        }
      }
    }
    __syncthreads();  // the strip has been read before the next one is written; the field is whole after the last
  }
}

// u of a pixel under an inverse warp about the image's centre. Twin: src/mask/warp.rs.
__device__ __forceinline__ float2 unwarp(const Layer& layer, u32 height, u32 width, u32 x, u32 y) {
  const float centre_x = (float)width * 0.5f, centre_y = (float)height * 0.5f;
  const float dy = (float)y + 0.5f - centre_y, dx = (float)x + 0.5f - centre_x;
  return make_float2(fmaf(layer.matrix[0], dx, fmaf(layer.matrix[1], dy, centre_x)),
                     fmaf(layer.matrix[2], dx, fmaf(layer.matrix[3], dy, centre_y)));
}

__device__ __forceinline__ u32 euclidean_mod(int i, u32 n) {
  const int rest = i % (int)n;
  return (u32)(rest < 0 ? rest + (int)n : rest);
}

// The field at u, bilinear and periodic: [H, W].
__device__ __forceinline__ void fmix_resample(const Fmix& fmix, const Layer& layer, const float* field, float* out) {
  const u32 height = fmix.height, width = fmix.width;
#pragma unroll 1
  for (u32 i = threadIdx.x; i < height * width; i += BLOCK) {
    const u32 y = i / width, x = i - y * width;
    const float2 u = unwarp(layer, height, width, x, y);
    const float tx = u.x - 0.5f, ty = u.y - 0.5f;
    const float left = floorf(tx), above = floorf(ty);
    const u32 x0 = euclidean_mod((int)left, width), y0 = euclidean_mod((int)above, height);
    const u32 x1 = x0 + 1 == width ? 0 : x0 + 1, y1 = y0 + 1 == height ? 0 : y0 + 1;
    const float right = tx - left, down = ty - above;
    const float a = field[y0 * width + x0], b = field[y0 * width + x1];
    const float c = field[y1 * width + x0], d = field[y1 * width + x1];
    const float top = fmaf(right, b - a, a), bottom = fmaf(right, d - c, c);
    out[i] = fmaf(down, bottom - top, top) + 0.0f;
  }
}

// Ordered as (value, lower index first), and unique.
__device__ __forceinline__ u64 fmix_key(float value, u32 index) {
  const u32 bits = __float_as_uint(value);
  const u32 ordered = bits ^ (bits >> 31 ? 0xffffffffu : 0x80000000u);
  return (u64)ordered << 32 | (0xffffffffu - index);
}

// The n-th largest key of a field of `pixels` values: n keys are not below it.
//
// A histogram over [least, greatest] finds the bin of the n-th largest, and the few values of that bin are ranked
// directly. Should they be many (a flat field), the key is found bit by bit.
//
// Thread t reads the values t, t + BLOCK, ... alone. histogram: [BINS]; candidates: [CANDIDATES].
__device__ __forceinline__ u64 fmix_threshold(const float* field, u32 pixels, u32 n, Common& common, u32* histogram,
                                              u64* candidates) {
  if (n == 0) return ~0ull;  // no key: its index would be -1
  if (n >= pixels) return 0;
  float low = __uint_as_float(0x7f800000u), high = -low;  // infinities
  for (u32 i = threadIdx.x; i < pixels; i += BLOCK) {
    const float value = field[i];
    low = fminf(low, value);
    high = fmaxf(high, value);
  }
  for (int offset = 16; offset > 0; offset >>= 1) {
    low = fminf(low, __shfl_xor_sync(FULL_WARP, low, offset));
    high = fmaxf(high, __shfl_xor_sync(FULL_WARP, high, offset));
  }
  if (lane_index() == 0) common.lows[warp_index()] = low, common.highs[warp_index()] = high;
  for (u32 bin = threadIdx.x; bin < BINS; bin += BLOCK) histogram[bin] = 0;
  if (threadIdx.x == 0) common.n_candidates = 0;
  __syncthreads();  // extremes of every warp, empty bins
  for (int warp = 0; warp < WARPS; ++warp) {
    low = fminf(low, common.lows[warp]);
    high = fmaxf(high, common.highs[warp]);
  }
  // Any monotone map of values to bins serves. A flat field has one bin.
  const float range = high - low;
  const float scale = range > 1e-30f ? (float)BINS / range : 0.0f;
  const auto bin_of = [&](float value) { return min((u32)((value - low) * scale), (u32)(BINS - 1)); };
  for (u32 i = threadIdx.x; i < pixels; i += BLOCK) atomicAdd(histogram + bin_of(field[i]), 1u);
  __syncthreads();  // the histogram is whole

  // A thread sums BINS / BLOCK bins, the first thread the highest; a scan tells how many values lie above them.
  const u32 top = BINS - 1 - threadIdx.x * (BINS / BLOCK);
  u32 own = 0;
  for (u32 i = 0; i < BINS / BLOCK; ++i) own += histogram[top - i];
  u32 scanned = own;
  for (u32 offset = 1; offset < 32; offset <<= 1) {
    const u32 before = __shfl_up_sync(FULL_WARP, scanned, offset);
    if (lane_index() >= offset) scanned += before;
  }
  if (lane_index() == 31) common.sums[warp_index()] = scanned;
  __syncthreads();  // each warp's sum is read by all
  u32 above = scanned - own;
  for (u32 warp = 0; warp < warp_index(); ++warp) above += (u32)common.sums[warp];
  if (above < n && n <= above + own) {  // one thread
    u32 bin = top;
    while (above + histogram[bin] < n) above += histogram[bin--];
    common.bin = bin;
    common.rank = n - above;
    common.n_in_bin = histogram[bin];
  }
  __syncthreads();  // the bin is known to all
  const u32 bin = common.bin, rank = common.rank, n_in_bin = common.n_in_bin;
  if (n_in_bin <= CANDIDATES) {
    for (u32 i = threadIdx.x; i < pixels; i += BLOCK) {
      const float value = field[i];
      if (bin_of(value) == bin) candidates[atomicAdd(&common.n_candidates, 1u)] = fmix_key(value, i);
    }
    __syncthreads();  // the candidates are all there
    for (u32 c = threadIdx.x; c < n_in_bin; c += BLOCK) {
      const u64 key = candidates[c];
      u32 greater = 0;
#pragma unroll 4
      for (u32 other = 0; other < n_in_bin; ++other) greater += candidates[other] > key;
      if (greater + 1 == rank) common.threshold = key;  // one thread: keys are unique
    }
    __syncthreads();  // the threshold is known to all
    return common.threshold;
  }
  u64 threshold = 0;
#pragma unroll 1
  for (int bit = 63; bit >= 0; --bit) {
    const u64 probe = threshold | 1ull << bit;
    u64 reached = 0;
#pragma unroll 1
    for (u32 i = threadIdx.x; i < pixels; i += BLOCK) reached += fmix_key(field[i], i) >= probe;
    reached = block_sum(reached, common);
    if (reached >= n) threshold = probe;
    __syncthreads();  // the sums have been read
  }
  return threshold;
}

// The given pixels of one layer, a bit each: given [ceil(H*W / 32)].
//
// field: [H, W]; warped: [H, W], apart from it. work: shared memory for the spectrum and a strip's columns, and then
// for the histogram and the candidates; `warped` may lie in it beyond the latter. Ends with a barrier.
__device__ __forceinline__ void fmix_given(const Fmix& fmix, const Layer& layer, const float2* turns, float* field,
                                           float* warped, char* work, Common& common, u32* given) {
  const u32 pixels = fmix.height * fmix.width;
  float4* spectrum = (float4*)work;
  fmix_spectrum(fmix, layer.payload[0], layer.payload[1], spectrum);
  __syncthreads();  // the spectrum is read by all
  fmix_field(fmix, spectrum, turns, (float2*)(spectrum + fmix.waves_y * fmix.waves_x), field);
  if (layer.warped) {
    // No barrier: from here on a thread reads what it wrote itself.
    fmix_resample(fmix, layer, field, warped);
    field = warped;
  }
  u64* candidates = (u64*)work;
  const u64 threshold = fmix_threshold(field, pixels, layer.n, common, (u32*)(candidates + CANDIDATES), candidates);
  // A warp makes a word. Its lanes stay together: the bound is a multiple of 32.
  for (u32 i = threadIdx.x; i < ((pixels + 31u) & ~31u); i += BLOCK) {
    const u32 word = __ballot_sync(FULL_WARP, i < pixels && fmix_key(field[min(i, pixels - 1)], i) >= threshold);
    if (lane_index() == 0) given[i >> 5] = word;
  }
  __syncthreads();  // the bits are whole; field and work are free again
}
