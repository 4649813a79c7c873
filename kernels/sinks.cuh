// What is done with the mask of a group of pixels. Twins: src/cpu/blend.rs, rows.rs, labels.rs.
//
// Bytes moved by a pixel of C channels: C written, and C read of each image that its group needs: where the mask is
// 1 on all pixels of a group only the primary is read, where it is 0 only the partner.

#pragma once

#include "block.cuh"
#include "math.cuh"
#include "pixels.cuh"

__device__ __forceinline__ i64 offset_of(const Tensor& tensor, u32 n, u32 c, u32 y, u32 x) {
  return n * tensor.strides[0] + c * tensor.strides[1] + y * tensor.strides[2] + x * tensor.strides[3];
}

__device__ __forceinline__ bool is_identity(const View& view) { return !view.flip && view.dx == 0 && view.dy == 0; }

// Fills in what is the same for a whole sample.
__device__ __forceinline__ void find_sides(const Launch& launch, const Sample& sample, u32 n, Sides& sides) {
  const i64 bytes = launch.element_bytes;
  sides.primary = (const char*)launch.primary.data + n * launch.primary.strides[0] * bytes;
  sides.partner = (const char*)launch.partner.data + sample.partner_index * launch.partner.strides[0] * bytes;
  sides.out = (char*)launch.out.data + n * launch.out.strides[0] * bytes;
  sides.primary_view = sample.primary, sides.partner_view = sample.partner;
  sides.access = is_identity(sample.primary) && is_identity(sample.partner) ? launch.access : ACCESS_STRIDED;
}

// Where a group's pixels are read under a view: out(x, y) = src(f(x + dx), y + dy), 0 outside.
template <class Word>
struct Sources {
  const Word* row;    // of channel 0
  i64 step;           // from pixel to pixel
  int first, width;   // x of the first pixel, before mirroring; of the image
  bool flip, inside;  // whether the row is inside
  __device__ __forceinline__ Sources(const Launch& launch, const Tensor& tensor, const char* image, const View& view,
                                     u32 y, u32 x) {
    const int from_y = (int)y + view.dy;
    inside = 0 <= from_y && from_y < (int)launch.height;
    row = (const Word*)image + (inside ? (u32)from_y : 0) * tensor.strides[2];
    step = tensor.strides[3];
    first = (int)x + view.dx;
    width = (int)launch.width;
    flip = view.flip;
  }
  // Pixel i of the group, `channel` elements further.
  __device__ __forceinline__ Word at(int i, i64 channel) const {
    const int x = first + i;
    if (!inside || x < 0 || x >= width) return 0;
    return __ldg(row + (flip ? width - 1 - x : x) * step + channel);
  }
};

// Element (y, x) of an image's first channel, where all of it lies within 2^32 elements.
__device__ __forceinline__ u32 place_in(const Tensor& tensor, u32 y, u32 x) {
  return y * (u32)tensor.strides[2] + x * (u32)tensor.strides[3];
}

// Units of GROUP elements that are under way at the same time.
#define AT_ONCE 3

// The next N units of a group: a channel of its pixels, or neighbours where channels lie side by side.
template <class Pixel, int N>
__device__ __forceinline__ void copy_units(const char* image, u32& from, u32 step, char* out, u32& to, u32 out_step) {
  typedef typename Pixel::Word Word;
  typedef typename Pixel::Quad Quad;
  Quad units[N];
#pragma unroll
  for (int i = 0; i < N; ++i, from += step) units[i] = __ldg((const Quad*)((const Word*)image + from));
#pragma unroll
  for (int i = 0; i < N; ++i, to += out_step) *(Quad*)((Word*)out + to) = units[i];
}

// The place of the next element among interleaved channels.
struct Element {
  u32 pixel, left;  // of the group, and its elements that are left
};

// The same for a mixed group. INTERLEAVED: units cross pixels.
template <class Pixel, int N, bool INTERLEAVED>
__device__ __forceinline__ void blend_units(const Sides& sides, u32& primary, u32 primary_step, u32& partner,
                                            u32 partner_step, u32& to, u32 out_step, u32 channels, Element& next,
                                            const float (&mask)[GROUP]) {
  typedef typename Pixel::Word Word;
  typedef typename Pixel::Quad Quad;
  Quad own[N], other[N];
#pragma unroll
  for (int i = 0; i < N; ++i, primary += primary_step, partner += partner_step) {
    own[i] = __ldg((const Quad*)((const Word*)sides.primary + primary));
    other[i] = __ldg((const Quad*)((const Word*)sides.partner + partner));
  }
#pragma unroll
  for (int i = 0; i < N; ++i, to += out_step) {
    float m[GROUP];
#pragma unroll
    for (int e = 0; e < GROUP; ++e) {
      m[e] = mask[e];
      if (!INTERLEAVED) continue;
      m[e] = next.pixel == 0 ? mask[0] : next.pixel == 1 ? mask[1] : next.pixel == 2 ? mask[2] : mask[3];
      if (--next.left == 0) next.left = channels, ++next.pixel;
    }
    *(Quad*)((Word*)sides.out + to) = blend<Pixel>(own[i], other[i], m);
  }
}

// Mixes a group in whole units. CHANNELS: their number where it is known, or 0.
template <class Pixel, bool INTERLEAVED, u32 CHANNELS>
__device__ __forceinline__ void mix_units(const Launch& launch, const Sides& sides, u32 y, u32 x,
                                          const float (&mask)[GROUP]) {
  u32 primary = place_in(launch.primary, y, x), partner = place_in(launch.partner, y, x);
  u32 to = place_in(launch.out, y, x);
  const u32 primary_step = INTERLEAVED ? GROUP : (u32)launch.primary.strides[1];
  const u32 partner_step = INTERLEAVED ? GROUP : (u32)launch.partner.strides[1];
  const u32 out_step = INTERLEAVED ? GROUP : (u32)launch.out.strides[1];
  const u32 channels = CHANNELS ? CHANNELS : launch.channels;
  const u32 m0 = __float_as_uint(mask[0]), m1 = __float_as_uint(mask[1]);
  const u32 m2 = __float_as_uint(mask[2]), m3 = __float_as_uint(mask[3]);
  const u32 any = m0 | m1 | m2 | m3, all = m0 & m1 & m2 & m3;
  u32 left = channels;
  if (any == all && (any == 0u || any == 0x3f800000u)) {
    // 0 or 1 on the whole group: one image.
    const char* const image = any ? sides.primary : sides.partner;
    u32 from = any ? primary : partner;
    const u32 step = any ? primary_step : partner_step;
#pragma unroll 1
    for (; left >= AT_ONCE; left -= AT_ONCE) copy_units<Pixel, AT_ONCE>(image, from, step, sides.out, to, out_step);
#pragma unroll 1
    for (; left > 0; --left) copy_units<Pixel, 1>(image, from, step, sides.out, to, out_step);
    return;
  }
  Element next = {0, channels};
#pragma unroll 1
  for (; left >= AT_ONCE; left -= AT_ONCE) {
    blend_units<Pixel, AT_ONCE, INTERLEAVED>(sides, primary, primary_step, partner, partner_step, to, out_step,
                                             channels, next, mask);
  }
#pragma unroll 1
  for (; left > 0; --left) {
    blend_units<Pixel, 1, INTERLEAVED>(sides, primary, primary_step, partner, partner_step, to, out_step, channels,
                                       next, mask);
  }
}

// Blends the images' elements of a group of pixels.
template <class Pixel>
__device__ __forceinline__ void mix_group(const Launch& launch, const Sides& sides, u32 y, u32 x, u32 n_pixels,
                                          const float (&mask)[GROUP]) {
  typedef typename Pixel::Word Word;
  if (sides.access != ACCESS_STRIDED) {
    if (sides.access == ACCESS_PLANAR) return mix_units<Pixel, false, 0>(launch, sides, y, x, mask);
    if (launch.channels == 3) return mix_units<Pixel, true, 3>(launch, sides, y, x, mask);
    return mix_units<Pixel, true, 0>(launch, sides, y, x, mask);
  }
  const Sources<Word> primary(launch, launch.primary, sides.primary, sides.primary_view, y, x);
  const Sources<Word> partner(launch, launch.partner, sides.partner, sides.partner_view, y, x);
  Word* const to = (Word*)sides.out + offset_of(launch.out, 0, 0, y, x);
#pragma unroll 1
  for (u32 c = 0; c < launch.channels; ++c) {
    u32 own[GROUP], other[GROUP];
#pragma unroll
    for (u32 i = 0; i < GROUP; ++i) {
      own[i] = other[i] = 0;
      if (i < n_pixels && mask[i] != 0.0f) own[i] = primary.at(i, c * launch.primary.strides[1]);
      if (i < n_pixels && mask[i] != 1.0f) other[i] = partner.at(i, c * launch.partner.strides[1]);
    }
#pragma unroll
    for (u32 i = 0; i < GROUP; ++i) {
      if (i >= n_pixels) continue;
      const u32 mixed = blend<Pixel>(own[i], other[i], mask[i]);
      to[c * launch.out.strides[1] + i * launch.out.strides[3]] = (Word)mixed;
    }
  }
}

// Chooses the labels of a map: the primary's where mask >= 1/2.
template <class Word>
__device__ __forceinline__ void choose_group(const Launch& launch, const Sides& sides, u32 y, u32 x, u32 n_pixels,
                                             const float (&mask)[GROUP]) {
  const Sources<Word> primary(launch, launch.primary, sides.primary, sides.primary_view, y, x);
  const Sources<Word> partner(launch, launch.partner, sides.partner, sides.partner_view, y, x);
  Word* const out = (Word*)sides.out + offset_of(launch.out, 0, 0, y, x);
#pragma unroll
  for (u32 i = 0; i < GROUP; ++i) {
    if (i < n_pixels) out[i * launch.out.strides[3]] = mask[i] >= 0.5f ? primary.at(i, 0) : partner.at(i, 0);
  }
}

// Writes the masks themselves, where they are asked for.
__device__ __forceinline__ void write_group(const Launch& launch, const Sides& sides, u32 y, u32 x, u32 n_pixels,
                                            const float (&mask)[GROUP]) {
  if (launch.out.data == 0) return;
  float* const out = (float*)sides.out + offset_of(launch.out, 0, 0, y, x);
#pragma unroll
  for (u32 i = 0; i < GROUP; ++i) {
    if (i < n_pixels) out[i] = mask[i];
  }
}

// One kernel serves every element type: which one is the same for a whole grid, and the masks need no second copy of
// their code.
__device__ __forceinline__ void use_group(const Launch& launch, const Sides& sides, u32 y, u32 x, u32 n_pixels,
                                          const float (&mask)[GROUP]) {
  switch (launch.sink) {
    case SINK_F32: return mix_group<F32>(launch, sides, y, x, n_pixels, mask);
    case SINK_F16: return mix_group<F16>(launch, sides, y, x, n_pixels, mask);
    case SINK_BF16: return mix_group<Bf16>(launch, sides, y, x, n_pixels, mask);
    case SINK_U8: return mix_group<U8>(launch, sides, y, x, n_pixels, mask);
    case SINK_MASKS: return write_group(launch, sides, y, x, n_pixels, mask);
    case SINK_MAP8: return choose_group<unsigned char>(launch, sides, y, x, n_pixels, mask);
    case SINK_MAP16: return choose_group<unsigned short>(launch, sides, y, x, n_pixels, mask);
    case SINK_MAP32: return choose_group<u32>(launch, sides, y, x, n_pixels, mask);
    default: return choose_group<u64>(launch, sides, y, x, n_pixels, mask);
  }
}

// Row n of the labels, at one class.
__device__ __forceinline__ float label_at(const Launch& launch, u32 n, u32 c) {
  const i64 row = n * launch.label_strides[0];
  if (launch.label_kind == LABELS_F32) return __ldg((const float*)launch.labels + row + c * launch.label_strides[1]);
  const i64 id = launch.label_kind == LABELS_I64 ? __ldg((const i64*)launch.labels + row)
                                                 : (i64)__ldg((const i32*)launch.labels + row);
  // A negative id is ignored; one that is too large is reported by `report_label`.
  if (id < 0 || id >= (i64)launch.n_classes) return 0.0f;
  return id == (i64)c ? launch.hot_on : launch.hot_off;
}

__device__ __forceinline__ void report_label(const Launch& launch, u32 n) {
  if (launch.bad_label == 0 || (launch.label_kind != LABELS_I64 && launch.label_kind != LABELS_I32)) return;
  const i64 row = n * launch.label_strides[0];
  const i64 id = launch.label_kind == LABELS_I64 ? __ldg((const i64*)launch.labels + row)
                                                 : (i64)__ldg((const i32*)launch.labels + row);
  if (id >= (i64)launch.n_classes) atomicMax((u32*)launch.bad_label, n + 1);
}

// Writes all of a sample but its pixels, from the sum of its mask's weights.
__device__ __forceinline__ void finish_sample(const Launch& launch, const Sample& sample, u32 n, u64 sum) {
  const Header& header = *(const Header*)launch.plan;
  const float weight = header.label_weight == WEIGHT_DRAWN ? sample.drawn_weight
                                                           : mean_weight(sum, launch.height * launch.width);
  if (threadIdx.x == 0) {
    if (launch.label_weight) ((float*)launch.label_weight)[n] = weight;
    if (launch.partner_index) ((i64*)launch.partner_index)[n] = sample.partner_index;
    report_label(launch, n);
  }
  if (launch.label_kind == LABELS_NONE) return;
  float* out = (float*)launch.mixed_labels + n * launch.mixed_label_strides[0];
  for (u32 c = threadIdx.x; c < launch.n_classes; c += BLOCK) {
    const u32 primary = __float_as_uint(label_at(launch, n, c));
    const u32 partner = __float_as_uint(label_at(launch, sample.partner_index, c));
    out[c * launch.mixed_label_strides[1]] = __uint_as_float(blend<F32>(primary, partner, weight));
  }
}
