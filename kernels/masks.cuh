// Masks of a tile of one sample: recomputed where they are used, never stored. Twins: src/mask/.
//
// A hard-edged layer (cutmix, gridmix, fmix) keeps a pixel or gives it: a bit, 32 neighbours in a word. A smoothed one is
// the number of kept pixels in a window, over its area. Shared memory has its hard bits in the tile and around it, then
// the sums of as many rows as the window has, 32 columns at once: four words, one for each binary digit. Where the mask
// is used, the bits of each digit within the window are counted.

#pragma once

#include "block.cuh"
#include "fmix.cuh"

struct Tile {
  u32 x0, y0, x1, y1;  // pixels, the end excluded
};

// Words of a row of a smoothed layer: the tile's columns and the radius on both sides, and whole ones from any column on.
__device__ __forceinline__ u32 pitch_of(const Launch& launch) { return (launch.tile_w - 1) / 32 + 2; }

// Words between the sums of two layers.
__device__ __forceinline__ u32 plane_words(const Launch& launch) { return pitch_of(launch) * launch.tile_h; }

// The lowest n bits.
__device__ __forceinline__ u32 low_bits(u32 n) { return n >= 32u ? 0xffffffffu : (1u << n) - 1u; }

// An integer modulo n, for few bits of n. What the float cannot hold goes the long way.
__device__ __forceinline__ u32 small_mod(float value, float n, float inverse) {
  if (!(fabsf(value) < 4194304.0f)) return euclidean_mod((int)value, (u32)n);
  float rest = fmaf(-floorf(value * inverse), n, value);  // exact; the quotient may be off by one
  if (rest < 0.0f) rest += n;
  if (rest >= n) rest -= n;
  return (u32)rest;
}

// Which of n pixels from (x, y) on, all in the image, a hard-edged layer gives, from the lowest bit on. n <= 32; higher
// bits are anything.
__device__ __forceinline__ u32 given_bits(const Launch& launch, const Layer& layer, const u32* given, u32 x, u32 y,
                                          u32 n) {
  const u32 height = launch.height, width = launch.width;
  u32 bits = 0;
  if (layer.kind == FMIX) {
    const u32 first = y * width + x, word = first >> 5, last = (first + n - 1) >> 5;
    return __funnelshift_r(given[word], given[last], first & 31u);
  }
  if (layer.kind == CUTMIX) {
    const int x0 = (int)layer.payload[0], y0 = (int)layer.payload[1];
    const int x1 = (int)layer.payload[2], y1 = (int)layer.payload[3];
    if (!layer.warped) {
      // A pixel centre x + 1/2 lies in [x0, x1) exactly where the integer x does.
      if ((int)y < y0 || (int)y >= y1) return 0;
      const int from = min(max(x0, (int)x), (int)(x + n)), to = min(max(x1, (int)x), (int)(x + n));
      return low_bits((u32)to - x) & ~low_bits((u32)from - x);
    }
#pragma unroll 1
    for (u32 i = 0; i < n; ++i) {
      const float2 u = unwarp(layer, height, width, x + i, y);
      bits |= (u32)((float)x0 <= u.x && u.x < (float)x1 && (float)y0 <= u.y && u.y < (float)y1) << i;
    }
    return bits;
  }
  const u32 cells = layer.n;
  if (layer.warped) {
    const float n_cells = (float)cells, inverse = 1.0f / n_cells;
#pragma unroll 1
    for (u32 i = 0; i < n; ++i) {
      const float2 u = unwarp(layer, height, width, x + i, y);
      const u32 row = small_mod(floorf(u.y * n_cells / (float)height), n_cells, inverse);
      const u32 column = small_mod(floorf(u.x * n_cells / (float)width), n_cells, inverse);
      const u32 cell = row * cells + column;
      bits |= (layer.payload[cell >> 5] >> (cell & 31u) & 1u) << i;
    }
    return bits;
  }
  // The cells of the row, a bit each; then (2x + 1)n / 2W, counted up.
  const u32 cell = (2 * y + 1) * cells / (2 * height) * cells, word = cell >> 5;
  const u32 row = __funnelshift_r(layer.payload[word], layer.payload[min(word + 1, 7u)], cell & 31u);
  u32 column = (2 * x + 1) * cells / (2 * width), rest = (2 * x + 1) * cells - column * 2 * width;
#pragma unroll 1
  for (u32 i = 0; i < n; ++i) {
    bits |= (row >> column & 1u) << i;
    for (rest += 2 * cells; rest >= 2 * width; rest -= 2 * width) ++column;
  }
  return bits;
}

// Which of 32 pixels from (x, y) on are kept; beyond the image's edges what lies at the edge. x >= -MAX_RADIUS.
__device__ __forceinline__ u32 kept_word(const Launch& launch, const Layer& layer, const u32* given, int x, int y) {
  const int width = (int)launch.width;
  const u32 inside_y = (u32)min(max(y, 0), (int)launch.height - 1);
  const int first = min(max(x, 0), width - 1), n = min(x + 32, width) - first;
  const u32 before = (u32)max(-x, 0), end = before + (u32)n;
  const u32 inside = ~given_bits(launch, layer, given, (u32)first, inside_y, (u32)n) & low_bits((u32)n);
  u32 bits = inside << before;
  if (inside & 1u) bits |= low_bits(before);
  if (inside >> (n - 1) & 1u) bits |= ~low_bits(end);
  return bits;
}

// Fills the sums of every smoothed layer of the sample: planes[layer][row][word].
//
// given: the bits of fmix layers, `given_words` words a layer. hard: the tile and its surroundings, a bit a pixel.
__device__ __forceinline__ void smoothed_planes(const Launch& launch, const Common& common, u32 n_layers,
                                                const Tile& tile, const u32* given, u32 given_words, u32* hard,
                                                uint4* planes) {
  const u32 pitch = pitch_of(launch);
#pragma unroll 1
  for (u32 j = 0; j < n_layers; ++j) {
    const Layer& layer = common.layers[j];
    const u32 window = layer.window;
    if (window <= 1) continue;  // the same for the whole block
    const int radius = (int)(window / 2);
    const u32 rows = tile.y1 - tile.y0;
#pragma unroll 1
    for (u32 i = threadIdx.x; i < pitch * (rows + window - 1); i += BLOCK) {
      const u32 row = i / pitch, word = i - row * pitch;
      hard[i] = kept_word(launch, layer, given + j * given_words, (int)(tile.x0 + 32 * word) - radius,
                          (int)(tile.y0 + row) - radius);
    }
    __syncthreads();  // a row's bits are read by the threads of others
    uint4* const plane = planes + j * plane_words(launch);
#pragma unroll 1
    for (u32 i = threadIdx.x; i < pitch * rows; i += BLOCK) {
      uint4 sum = make_uint4(0u, 0u, 0u, 0u);
#pragma unroll 1
      for (u32 dy = 0; dy < window; ++dy) {
        const u32 kept = hard[i + dy * pitch];
        const u32 ones = sum.x & kept, twos = sum.y & ones, fours = sum.z & twos;
        sum.x ^= kept, sum.y ^= ones, sum.z ^= twos, sum.w ^= fours;
      }
      plane[i] = sum;
    }
    __syncthreads();  // a row's sums are read by others; `hard` is free for the next layer
  }
}

// count / area, correctly rounded, from 1 / area correctly rounded.
__device__ __forceinline__ float quotient(u32 count, float area, float inverse) {
  const float value = (float)count, near = value * inverse;
  return fmaf(fmaf(-near, area, value), inverse, near);
}

// M of one layer at GROUP pixels from (x, y).
__device__ __forceinline__ void layer_values(const Launch& launch, const Layer& layer, const Tile& tile,
                                             const u32* given, const uint4* plane, u32 x, u32 y,
                                             float (&values)[GROUP]) {
  if (layer.kind == CONSTANT) {
#pragma unroll
    for (int i = 0; i < GROUP; ++i) values[i] = layer.value;
  } else if (layer.kind == GAUSSIAN) {
    const float dy = (float)y + 0.5f - layer.cy;
    const float along = layer.matrix[1] * dy, across = layer.matrix[3] * dy;
#pragma unroll
    for (int i = 0; i < GROUP; ++i) {
      const float dx = (float)(x + i) + 0.5f - layer.cx;
      const float e = fmaf(layer.matrix[0], dx, along), f = fmaf(layer.matrix[2], dx, across);
      values[i] = 1.0f - exp2_neg(fmaf(e, e, f * f));
    }
  } else if (layer.window <= 1) {
    const u32 bits = given_bits(launch, layer, given, x, y, min(launch.width - x, (u32)GROUP));
#pragma unroll
    for (int i = 0; i < GROUP; ++i) values[i] = bits >> i & 1u ? 0.0f : 1.0f;
  } else {
    // A word begins `radius` before the tile, where the window of its first pixel does.
    const u32 from = x - tile.x0, word = (y - tile.y0) * pitch_of(launch) + (from >> 5), shift = from & 31u;
    const uint4 low = plane[word], high = plane[word + 1];
    const u32 ones = __funnelshift_r(low.x, high.x, shift), twos = __funnelshift_r(low.y, high.y, shift);
    const u32 fours = __funnelshift_r(low.z, high.z, shift), eights = __funnelshift_r(low.w, high.w, shift);
    const u32 window = low_bits(layer.window);
    const float area = (float)(layer.window * layer.window);
    u32 counts[GROUP];
#pragma unroll
    for (int i = 0; i < GROUP; ++i) {
      counts[i] = __popc(ones >> i & window) + 2 * __popc(twos >> i & window) + 4 * __popc(fours >> i & window);
    }
    if (layer.window > 7) {
#pragma unroll
      for (int i = 0; i < GROUP; ++i) counts[i] += 8 * __popc(eights >> i & window);
    }
#pragma unroll
    for (int i = 0; i < GROUP; ++i) values[i] = quotient(counts[i], area, layer.value);
  }
}

// The merged mask at GROUP pixels from (x, y), 1 keeps the primary; beyond the image's edge anything in [0, 1].
__device__ __forceinline__ void mask_values(const Launch& launch, const Common& common, u32 n_layers, u32 merge,
                                            const Tile& tile, const u32* given, u32 given_words,
                                            const uint4* planes, u32 x, u32 y, float (&mask)[GROUP]) {
#pragma unroll
  for (int i = 0; i < GROUP; ++i) mask[i] = 1.0f;
#pragma unroll 1
  for (u32 j = 0; j < n_layers; ++j) {
    // What each kind of layer makes of the place is made where it is used: before the loop it would cost registers.
    asm volatile("" : "+r"(x), "+r"(y));
    float values[GROUP];
    layer_values(launch, common.layers[j], tile, given + j * given_words, planes + j * plane_words(launch), x, y,
                 values);
#pragma unroll
    for (int i = 0; i < GROUP; ++i) {
      mask[i] = j == 0 ? values[i] : merge == MERGE_SUM ? mask[i] + values[i] : mask[i] * values[i];
    }
  }
  if (merge == MERGE_SUM) {
#pragma unroll
    for (int i = 0; i < GROUP; ++i) mask[i] = mask[i] > 1.0f ? 1.0f : mask[i];
  }
}
