// MiAMix on CUDA: masks, pixels and label weights, bit for bit what the CPU engine gives.
//
// Small images (H*W <= SMALL_PX): one block a sample, one launch. The block makes the fields and the masks of its
// sample in shared memory, mixes all channels, and writes the labels.
//
// Larger images: two launches of one kernel, a block a tile.
//   PHASE_FIELDS  the first n_slots blocks make the bits of every fmix layer, one layer at a time each; meanwhile the
//                 other blocks mix the samples that have no fmix layer.
//   PHASE_REST    the samples that have one, reading a bit a pixel.
// The last block of a sample to finish writes its label weight and labels. Which one that is changes nothing: the
// weight is a sum of integers.
//
// A gradient is a third kernel, a thread a pixel, after the masks of the whole batch were written by those above.
//
// A thread takes GROUP neighbouring pixels of a row, in all channels, so that a mask is evaluated once and read
// never. Cost: the bytes in sinks.cuh, and for an fmix layer of a large image 20 bytes a pixel of its field, which
// stay in the second-level cache.
//
// Grids depend on shapes and k_max alone, never on what was drawn: a captured graph replays with another plan.

#include "backward.cuh"
#include "masks.cuh"
#include "sinks.cuh"

#ifndef DYNAMIC_SHARED
#define DYNAMIC_SHARED(name) extern __shared__ uint4 name[]
#endif

__device__ __forceinline__ const Sample& sample_of(const Launch& launch, u32 n) {
  return ((const Sample*)(launch.plan + launch.samples_at))[n];
}

// Copies a sample's layers to shared memory. Ends with a barrier.
__device__ __forceinline__ void load_layers(const Launch& launch, u32 n, u32 first, u32 n_layers, Common& common) {
  const u32 words = sizeof(Layer) / sizeof(u32);
  const u32* from = (const u32*)((const Layer*)(launch.plan + launch.layers_at) + (size_t)n * launch.k_max + first);
  for (u32 i = threadIdx.x; i < n_layers * words; i += BLOCK) ((u32*)common.layers)[i] = from[i];
  __syncthreads();  // layers are read by all
}

__device__ __forceinline__ Fmix fmix_of(const Launch& launch, const Layer& layer) {
  Fmix fmix;
  fmix.circle_y = (const float2*)(launch.plan + launch.circle_y_at);
  fmix.circle_x = (const float2*)(launch.plan + launch.circle_x_at);
  fmix.amplitudes = (const float*)(launch.plan + launch.amplitudes_at) + layer.amplitudes * launch.waves_y * launch.waves_x;
  fmix.height = launch.height, fmix.width = launch.width;
  fmix.waves_y = launch.waves_y, fmix.waves_x = launch.waves_x;
  return fmix;
}

__device__ __forceinline__ u32 given_words(const Launch& launch) { return (launch.height * launch.width + 31u) / 32u; }

// Mixes a tile; the sum of its mask's weights, in every thread.
__device__ __forceinline__ u64 mix_tile(const Launch& launch, const Sample& sample, u32 n, const Tile& tile,
                                        const u32* given, Common& common, char* shared) {
  const u32 words = given_words(launch), merge = ((const Header*)launch.plan)->merge;
  const u32 n_layers = sample.n_layers;
  // The hard bits of one layer lie behind the sums of all.
  uint4* const planes = (uint4*)shared;
  smoothed_planes(launch, common, n_layers, tile, given, words, (u32*)(planes + launch.k_max * plane_words(launch)),
                  planes);
  const u32 across = (tile.x1 - tile.x0 + GROUP - 1) / GROUP;
  // From group to group of a thread, rows and what is left of one.
  const u32 rows = BLOCK / across, groups = BLOCK - rows * across;
  u32 row = threadIdx.x / across, group = threadIdx.x - row * across;
  u32 sum = 0;  // a thread has a few groups: far from 2^32 / 2^24 pixels
#pragma unroll 1
  for (; row < tile.y1 - tile.y0; row += rows, group += groups) {
    if (group >= across) {
      group -= across;
      if (++row == tile.y1 - tile.y0) break;
    }
    const u32 x = tile.x0 + group * GROUP, y = tile.y0 + row, n_pixels = min(tile.x1 - x, (u32)GROUP);
    float mask[GROUP];
    mask_values(launch, common, n_layers, merge, tile, given, words, planes, x, y, mask);
#pragma unroll
    for (u32 p = 0; p < GROUP; ++p) {
      if (p < n_pixels) sum += __float2uint_rn(mask[p] * 16777216.0f);
    }
    use_group(launch, common.sides, y, x, n_pixels, mask);
  }
  return block_sum(sum, common);
}

// A block a sample: gridDim.x = N. Shared memory: Common, the bits of every layer, then what fmix and mix_tile need,
// one after the other.
extern "C" __global__ void __launch_bounds__(BLOCK, 3) miamix_small(const Launch launch) {
  DYNAMIC_SHARED(shared);
  Common& common = *(Common*)shared;
  const u32 n = blockIdx.x, words = given_words(launch), pixels = launch.height * launch.width;
  const Sample& sample = sample_of(launch, n);
  u32* given = (u32*)((char*)shared + COMMON_BYTES);
  char* work = (char*)given + ((launch.k_max * words * 4 + 15u) & ~15u);
  if (threadIdx.x == 0) find_sides(launch, sample, n, common.sides);
  load_layers(launch, n, 0, sample.n_layers, common);  // its barrier also completes the sides
  for (u32 j = 0; j < sample.n_layers; ++j) {
    const Layer& layer = common.layers[j];
    if (layer.kind != FMIX) continue;  // the same for the whole block
    // The field first, then what is dead once the field is made, beyond what its threshold needs.
    float* field = (float*)work;
    char* rest = work + ((pixels * 4 + 15u) & ~15u);
    float* warped = (float*)(rest + BINS * 4 + CANDIDATES * 8);
    fmix_given<SmallFields, TurnCircle>(fmix_of(launch, layer), layer, 0, field, warped, rest, common,
                                        given + j * words);
  }
  const Tile tile = {0, 0, launch.width, launch.height};
  const u64 sum = mix_tile(launch, sample, n, tile, given, common, work);
  finish_sample(launch, sample, n, sum);
}

// One block of PHASE_FIELDS that makes bits: layers `slot`, `slot + n_slots`, ... of the plan's list.
__device__ __forceinline__ void make_bits(const Launch& launch, u32 slot, Common& common, char* work) {
  const u32 words = given_words(launch), reach = fmix_reach(launch.width), n_turns = launch.waves_x * reach;
  const u64 pixels = (u64)launch.height * launch.width;
  const u32 n_fmix = ((const Header*)launch.plan)->n_fmix;
  float2* turns = (float2*)(launch.slots + slot * launch.slot_bytes);
  float* field = (float*)(turns + n_turns);
  const float2* circle_x = (const float2*)(launch.plan + launch.circle_x_at);
  if (slot >= n_fmix) return;
  for (u32 i = threadIdx.x; i < n_turns; i += BLOCK) {
    const u32 kx = i / reach, x = i - kx * reach;
    turns[i] = __ldg(circle_x + (u32)((u64)kx * x % launch.width));
  }
  for (u32 entry = slot; entry < n_fmix; entry += launch.n_slots) {
    const u32 at = ((const u32*)(launch.plan + launch.fmix_at))[entry], n = at / MAX_LAYERS, j = at % MAX_LAYERS;
    load_layers(launch, n, j, 1, common);  // its barrier also completes the turns
    const Layer& layer = common.layers[0];
    u32* given = (u32*)launch.given + ((u64)n * launch.k_max + j) * words;
    fmix_given<LargeFields, TurnTable>(fmix_of(launch, layer), layer, turns, field, field + pixels, work, common,
                                       given);
  }
}

// A block a tile: gridDim.x = N * tiles, and in PHASE_FIELDS n_slots more, which come first as they take longest.
extern "C" __global__ void __launch_bounds__(BLOCK, 3) miamix_large(const Launch launch) {
  DYNAMIC_SHARED(shared);
  Common& common = *(Common*)shared;
  char* work = (char*)shared + COMMON_BYTES;
  u32 block = blockIdx.x;
  if (launch.phase == PHASE_FIELDS) {
    if (block < launch.n_slots) return make_bits(launch, block, common, work);
    block -= launch.n_slots;
  }
  const u32 n = block / launch.tiles, index = block - n * launch.tiles;
  const Sample& sample = sample_of(launch, n);
  if ((sample.n_fmix != 0) != (launch.phase == PHASE_REST)) return;
  if (threadIdx.x == 0) find_sides(launch, sample, n, common.sides);
  load_layers(launch, n, 0, sample.n_layers, common);  // its barrier also completes the sides
  const u32 tile_y = index / launch.tiles_x, tile_x = index - tile_y * launch.tiles_x;
  Tile tile;
  tile.x0 = tile_x * launch.tile_w, tile.y0 = tile_y * launch.tile_h;
  tile.x1 = min(tile.x0 + launch.tile_w, launch.width), tile.y1 = min(tile.y0 + launch.tile_h, launch.height);
  const u32* given = (const u32*)launch.given + (u64)n * launch.k_max * given_words(launch);
  const u64 sum = mix_tile(launch, sample, n, tile, given, common, work);
  u64* total = (u64*)launch.sums + n;
  if (threadIdx.x == 0) {
    atomicAdd(total, sum);
    __threadfence();  // the sum is seen before the count
    common.is_last = atomicAdd((u32*)launch.done + n, 1u) + 1 == launch.tiles;
  }
  __syncthreads();  // whether this is the sample's last tile is known to all
  if (!common.is_last) return;
  __threadfence();  // the count is seen before the sums of the other tiles
  finish_sample(launch, sample, n, atomicAdd(total, 0ull));
}

// A thread a pixel: gridDim.x = N * tiles, where `tiles` blocks have a thread for each pixel of an image.
extern "C" __global__ void __launch_bounds__(BLOCK) miamix_backward(const Launch launch) {
  const u32 n = blockIdx.x / launch.tiles, pixel = (blockIdx.x - n * launch.tiles) * BLOCK + threadIdx.x;
  if (pixel >= launch.height * launch.width) return;
  const u32 y = pixel / launch.width, x = pixel - y * launch.width;
  switch (launch.sink) {
    case SINK_F32: return gradient_of_pixel<F32>(launch, n, y, x);
    case SINK_F16: return gradient_of_pixel<F16>(launch, n, y, x);
    default: return gradient_of_pixel<Bf16>(launch, n, y, x);
  }
}
