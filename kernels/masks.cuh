// Masks of a tile of one sample: recomputed where they are used, never stored. Twins: src/mask/.
//
// A hard-edged layer (cutmix, gridmix, fmix) keeps a pixel or gives it. A smoothed one is the number of kept pixels
// in a window, over its area: hard values of the tile and its surroundings, then sums down the columns, both in
// shared memory, a byte a pixel; sums along the rows are taken where the mask is used.

#pragma once

#include "block.cuh"
#include "fmix.cuh"

struct Tile {
  u32 x0, y0, x1, y1;  // pixels, the end excluded
};

// A smoothed layer's column sums: rows of the tile, columns of the tile and `radius` more where the image has them.
struct Surroundings {
  u32 x0, y0, x1, y1, pitch;
  __device__ __forceinline__ Surroundings(const Launch& launch, const Tile& tile, u32 radius)
      : x0(tile.x0 - min(tile.x0, radius)),
        y0(tile.y0 - min(tile.y0, radius)),
        x1(min(tile.x1 + radius, launch.width)),
        y1(min(tile.y1 + radius, launch.height)),
        pitch(x1 - x0) {}
};

// Bytes between the column sums of two layers.
__device__ __forceinline__ u32 plane_bytes(const Launch& launch) {
  return min(launch.tile_w + 2 * MAX_RADIUS, launch.width) * launch.tile_h;
}

// Whether a hard-edged layer keeps a pixel.
__device__ __forceinline__ bool keeps(const Launch& launch, const Layer& layer, const u32* given, u32 x, u32 y) {
  const u32 height = launch.height, width = launch.width;
  if (layer.kind == FMIX) {
    const u32 i = y * width + x;
    return !(given[i >> 5] >> (i & 31u) & 1u);
  }
  const float2 u = layer.warped ? unwarp(layer, height, width, x, y) : make_float2(0.0f, 0.0f);
  if (layer.kind == CUTMIX) {
    const int x0 = (int)layer.payload[0], y0 = (int)layer.payload[1];
    const int x1 = (int)layer.payload[2], y1 = (int)layer.payload[3];
    // A pixel centre x + 1/2 lies in [x0, x1) exactly where the integer x does.
    if (!layer.warped) return !(x0 <= (int)x && (int)x < x1 && y0 <= (int)y && (int)y < y1);
    return !((float)x0 <= u.x && u.x < (float)x1 && (float)y0 <= u.y && u.y < (float)y1);
  }
  const u32 n = layer.n;
  u32 row, column;
  if (layer.warped) {
    row = euclidean_mod((int)floorf(u.y * (float)n / (float)height), n);
    column = euclidean_mod((int)floorf(u.x * (float)n / (float)width), n);
  } else {
    row = (2 * y + 1) * n / (2 * height);
    column = (2 * x + 1) * n / (2 * width);
  }
  const u32 cell = row * n + column;
  return !(layer.payload[cell >> 5] >> (cell & 31u) & 1u);
}

// Fills the column sums of every smoothed layer of the sample.
//
// given: the bits of fmix layers, `given_words` words a layer. hard: the tile and its surroundings, a byte a pixel.
__device__ __forceinline__ void smoothed_planes(const Launch& launch, const Common& common, u32 n_layers,
                                                const Tile& tile, const u32* given, u32 given_words,
                                                unsigned char* hard, unsigned char* planes) {
  for (u32 j = 0; j < n_layers; ++j) {
    const Layer& layer = common.layers[j];
    if (layer.window <= 1) continue;  // the same for the whole block
    const u32 radius = layer.window / 2;
    const Surroundings around(launch, tile, radius);
    for (u32 i = threadIdx.x; i < around.pitch * (around.y1 - around.y0); i += BLOCK) {
      const u32 row = i / around.pitch, column = i - row * around.pitch;
      hard[i] = keeps(launch, layer, given + j * given_words, around.x0 + column, around.y0 + row);
    }
    __syncthreads();  // a column's values are read by one thread, written by many
    unsigned char* plane = planes + j * plane_bytes(launch);
    for (u32 i = threadIdx.x; i < around.pitch * (tile.y1 - tile.y0); i += BLOCK) {
      const u32 row = i / around.pitch, column = i - row * around.pitch;
      const int y = (int)(tile.y0 + row);
      u32 sum = 0;
#pragma unroll 1
      for (int dy = -(int)radius; dy <= (int)radius; ++dy) {
        const int from = min(max(y + dy, 0), (int)launch.height - 1);  // borders replicated
        sum += hard[((u32)from - around.y0) * around.pitch + column];
      }
      plane[i] = (unsigned char)sum;
    }
    __syncthreads();  // a row's sums are read by others; `hard` is free for the next layer
  }
}

// M of one layer at GROUP pixels from (x, y).
__device__ __forceinline__ void layer_values(const Launch& launch, const Layer& layer, const Tile& tile,
                                             const u32* given, const unsigned char* plane, u32 x, u32 y,
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
    // Rolled, and the results packed: code that all threads of a warp run four times, not four copies of it.
    u32 kept = 0;
#pragma unroll 1
    for (u32 i = 0; i < GROUP; ++i) kept |= (u32)keeps(launch, layer, given, min(x + i, launch.width - 1), y) << i;
#pragma unroll
    for (int i = 0; i < GROUP; ++i) values[i] = (float)(kept >> i & 1u);
  } else {
    const int radius = (int)(layer.window / 2);
    const Surroundings around(launch, tile, (u32)radius);
    const unsigned char* row = plane + (y - tile.y0) * around.pitch;
    const float area = (float)(layer.window * layer.window);
    u32 counts = 0;  // a byte each
#pragma unroll 1
    for (u32 i = 0; i < GROUP; ++i) {
      u32 count = 0;
#pragma unroll 1
      for (int dx = -radius; dx <= radius; ++dx) {
        const int from = min(max((int)min(x + i, launch.width - 1) + dx, 0), (int)launch.width - 1);
        count += row[(u32)from - around.x0];
      }
      counts |= count << 8 * i;
    }
#pragma unroll
    for (int i = 0; i < GROUP; ++i) values[i] = (float)(counts >> 8 * i & 0xffu) / area;
  }
}

// The merged mask at GROUP pixels from (x, y), 1 keeps the primary; beyond the image's edge anything in [0, 1].
__device__ __forceinline__ void mask_values(const Launch& launch, const Common& common, u32 n_layers, u32 merge,
                                            const Tile& tile, const u32* given, u32 given_words,
                                            const unsigned char* planes, u32 x, u32 y, float (&mask)[GROUP]) {
#pragma unroll
  for (int i = 0; i < GROUP; ++i) mask[i] = 1.0f;
#pragma unroll 1
  for (u32 j = 0; j < n_layers; ++j) {
    float values[GROUP];
    layer_values(launch, common.layers[j], tile, given + j * given_words, planes + j * plane_bytes(launch), x, y,
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
