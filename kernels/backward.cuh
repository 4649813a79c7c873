// The gradient of mixing, gathered: a pixel of an image walks over the samples that read it, in the order of their
// indices, so that nothing is added by two threads. Twin: src/cpu/backward.rs.
//
// Bytes moved by a pixel of C channels: 4 of each mask that has a part in it, and where its share is not 0, C read;
// C written, twice where there are two views.

#pragma once

#include "sinks.cuh"

// Channels that are summed together, so that a mask is read once for all of them.
#define CHANNELS 4

// Adds what sample i passes on to a pixel (x, y) of the image that it was read from under `view`:
//
//   sums[c] += share * grad[i, first + c](f(x) - dx, y - dy),  share = mask or 1 - mask;  a share of 0 passes on nothing
template <class Pixel>
__device__ __forceinline__ void add_gradient(const Launch& launch, const View& view, u32 i, bool is_partner, u32 first,
                                             u32 y, u32 x, float (&sums)[CHANNELS]) {
  typedef typename Pixel::Word Word;
  const int to_x = (int)(view.flip ? launch.width - 1 - x : x) - view.dx, to_y = (int)y - view.dy;
  if (to_x < 0 || to_x >= (int)launch.width || to_y < 0 || to_y >= (int)launch.height) return;
  const float mask = __ldg((const float*)launch.masks + ((u64)i * launch.height + (u32)to_y) * launch.width + (u32)to_x);
  const float share = is_partner ? 1.0f - mask : mask;
  if (share == 0.0f) return;
  const Word* const grad = (const Word*)launch.primary.data + offset_of(launch.primary, i, first, (u32)to_y, (u32)to_x);
#pragma unroll
  for (u32 c = 0; c < CHANNELS; ++c) {
    if (first + c < launch.channels) sums[c] += share * Pixel::to_f32(__ldg(grad + c * launch.primary.strides[1]));
  }
}

// Writes the sums, and clears them.
template <class Pixel>
__device__ __forceinline__ void put_gradient(const Launch& launch, const Tensor& tensor, u32 n, u32 first, u32 y, u32 x,
                                             float (&sums)[CHANNELS]) {
  typedef typename Pixel::Word Word;
  Word* const to = (Word*)tensor.data + offset_of(tensor, n, first, y, x);
#pragma unroll
  for (u32 c = 0; c < CHANNELS; ++c) {
    if (first + c < launch.channels) to[c * tensor.strides[1]] = (Word)Pixel::from_f32(sums[c]);
    sums[c] = 0.0f;
  }
}

// All channels of a pixel of sample n.
template <class Pixel>
__device__ __forceinline__ void gradient_of_pixel(const Launch& launch, u32 n, u32 y, u32 x) {
  const Sample* const samples = (const Sample*)(launch.plan + launch.samples_at);
  const u32* const readers = (const u32*)(launch.plan + launch.readers_at) + samples[n].readers;
#pragma unroll 1
  for (u32 first = 0; first < launch.channels; first += CHANNELS) {
    float sums[CHANNELS] = {0.0f, 0.0f, 0.0f, 0.0f};
    add_gradient<Pixel>(launch, samples[n].primary, n, false, first, y, x, sums);
    if (launch.partner.data) put_gradient<Pixel>(launch, launch.out, n, first, y, x, sums);
#pragma unroll 1
    for (u32 r = 0; r < samples[n].n_readers; ++r) {
      const u32 i = readers[r];
      add_gradient<Pixel>(launch, samples[i].partner, i, true, first, y, x, sums);
    }
    put_gradient<Pixel>(launch, launch.partner.data ? launch.partner : launch.out, n, first, y, x, sums);
  }
}
