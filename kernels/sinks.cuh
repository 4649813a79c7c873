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

// Where a group's pixels are read under a view: out(x, y) = src(f(x + dx), y + dy), 0 outside.
struct Sources {
  i64 row;            // of channel 0
  i64 step;           // from pixel to pixel
  int first, width;   // x of the first pixel, before mirroring; of the image
  bool flip, inside;  // whether the row is inside
  __device__ __forceinline__ Sources(const Launch& launch, const Tensor& tensor, const View& view, u32 n, u32 y, u32 x) {
    const int from_y = (int)y + view.dy;
    inside = 0 <= from_y && from_y < (int)launch.height;
    row = offset_of(tensor, n, 0, inside ? (u32)from_y : 0, 0);
    step = tensor.strides[3];
    first = (int)x + view.dx;
    width = (int)launch.width;
    flip = view.flip;
  }
  // Pixel i of the group, `channel` elements further.
  template <class Word>
  __device__ __forceinline__ Word at(const Tensor& tensor, int i, i64 channel) const {
    const int x = first + i;
    if (!inside || x < 0 || x >= width) return 0;
    return __ldg((const Word*)tensor.data + row + (flip ? width - 1 - x : x) * step + channel);
  }
};

// Blends the images' elements of a group of pixels.
template <class Pixel>
__device__ __forceinline__ void mix_group(const Launch& launch, const Sample& sample, u32 n, u32 y, u32 x, u32 n_pixels,
                                          const float (&mask)[GROUP]) {
  typedef typename Pixel::Word Word;
  typedef typename Pixel::Quad Quad;
  bool reads_primary = false, reads_partner = false;
#pragma unroll
  for (u32 i = 0; i < GROUP; ++i) {
    reads_primary |= i < n_pixels && mask[i] != 0.0f;
    reads_partner |= i < n_pixels && mask[i] != 1.0f;
  }
  Word* const out = (Word*)launch.out.data;
  if (launch.access != ACCESS_STRIDED && is_identity(sample.primary) && is_identity(sample.partner)) {
    // Whole units of GROUP elements: a channel of the group's pixels, or neighbours of interleaved ones, which cross
    // pixels. The loads of AT_ONCE units are under way before the first is used.
    const u32 AT_ONCE = 3;
    const bool interleaved = launch.access == ACCESS_INTERLEAVED;
    const Word* primary = (const Word*)launch.primary.data + offset_of(launch.primary, n, 0, y, x);
    const Word* partner = (const Word*)launch.partner.data + offset_of(launch.partner, sample.partner_index, 0, y, x);
    Word* const to = out + offset_of(launch.out, n, 0, y, x);
    const i64 primary_step = interleaved ? GROUP : launch.primary.strides[1];
    const i64 partner_step = interleaved ? GROUP : launch.partner.strides[1];
    const i64 out_step = interleaved ? GROUP : launch.out.strides[1];
#pragma unroll 1
    for (u32 first = 0; first < launch.channels; first += AT_ONCE) {
      Quad a[AT_ONCE], b[AT_ONCE];
#pragma unroll
      for (u32 i = 0; i < AT_ONCE; ++i) {
        a[i] = b[i] = Quad();
        if (first + i < launch.channels && reads_primary) a[i] = __ldg((const Quad*)(primary + (first + i) * primary_step));
        if (first + i < launch.channels && reads_partner) b[i] = __ldg((const Quad*)(partner + (first + i) * partner_step));
      }
#pragma unroll
      for (u32 i = 0; i < AT_ONCE; ++i) {
        if (first + i >= launch.channels) continue;
        u32 own[GROUP], other[GROUP], mixed[GROUP];
        unpack(a[i], own);
        unpack(b[i], other);
#pragma unroll
        for (u32 e = 0; e < GROUP; ++e) {
          const u32 pixel = interleaved ? ((first + i) * GROUP + e) / launch.channels : e;
          const float m = pixel == 0 ? mask[0] : pixel == 1 ? mask[1] : pixel == 2 ? mask[2] : mask[3];
          mixed[e] = blend<Pixel>(own[e], other[e], m);
        }
        Quad quad;
        pack(mixed, quad);
        *(Quad*)(to + (first + i) * out_step) = quad;
      }
    }
    return;
  }
  const Sources primary(launch, launch.primary, sample.primary, n, y, x);
  const Sources partner(launch, launch.partner, sample.partner, sample.partner_index, y, x);
  const i64 to = offset_of(launch.out, n, 0, y, x);
#pragma unroll 1
  for (u32 c = 0; c < launch.channels; ++c) {
    u32 own[GROUP], other[GROUP];
#pragma unroll
    for (u32 i = 0; i < GROUP; ++i) {
      own[i] = other[i] = 0;
      if (i < n_pixels && mask[i] != 0.0f) own[i] = primary.at<Word>(launch.primary, i, c * launch.primary.strides[1]);
      if (i < n_pixels && mask[i] != 1.0f) other[i] = partner.at<Word>(launch.partner, i, c * launch.partner.strides[1]);
    }
#pragma unroll
    for (u32 i = 0; i < GROUP; ++i) {
      if (i >= n_pixels) continue;
      const u32 mixed = blend<Pixel>(own[i], other[i], mask[i]);
      out[to + c * launch.out.strides[1] + i * launch.out.strides[3]] = (Word)mixed;
    }
  }
}

// Chooses the labels of a map: the primary's where mask >= 1/2.
template <class Word>
__device__ __forceinline__ void choose_group(const Launch& launch, const Sample& sample, u32 n, u32 y, u32 x,
                                             u32 n_pixels, const float (&mask)[GROUP]) {
  const Sources primary(launch, launch.primary, sample.primary, n, y, x);
  const Sources partner(launch, launch.partner, sample.partner, sample.partner_index, y, x);
  Word* const out = (Word*)launch.out.data + offset_of(launch.out, n, 0, y, x);
#pragma unroll
  for (u32 i = 0; i < GROUP; ++i) {
    if (i >= n_pixels) continue;
    out[i * launch.out.strides[3]] =
        mask[i] >= 0.5f ? primary.at<Word>(launch.primary, i, 0) : partner.at<Word>(launch.partner, i, 0);
  }
}

// Writes the masks themselves, where they are asked for.
__device__ __forceinline__ void write_group(const Launch& launch, u32 n, u32 y, u32 x, u32 n_pixels,
                                            const float (&mask)[GROUP]) {
  if (launch.out.data == 0) return;
  float* const out = (float*)launch.out.data + offset_of(launch.out, n, 0, y, x);
#pragma unroll
  for (u32 i = 0; i < GROUP; ++i) {
    if (i < n_pixels) out[i] = mask[i];
  }
}

// One kernel serves every element type: which one is the same for a whole grid, and the masks need no second copy of
// their code.
__device__ __forceinline__ void use_group(const Launch& launch, const Sample& sample, u32 n, u32 y, u32 x, u32 n_pixels,
                                          const float (&mask)[GROUP]) {
  switch (launch.sink) {
    case SINK_F32: return mix_group<F32>(launch, sample, n, y, x, n_pixels, mask);
    case SINK_F16: return mix_group<F16>(launch, sample, n, y, x, n_pixels, mask);
    case SINK_BF16: return mix_group<Bf16>(launch, sample, n, y, x, n_pixels, mask);
    case SINK_U8: return mix_group<U8>(launch, sample, n, y, x, n_pixels, mask);
    case SINK_MASKS: return write_group(launch, n, y, x, n_pixels, mask);
    case SINK_MAP8: return choose_group<unsigned char>(launch, sample, n, y, x, n_pixels, mask);
    case SINK_MAP16: return choose_group<unsigned short>(launch, sample, n, y, x, n_pixels, mask);
    case SINK_MAP32: return choose_group<u32>(launch, sample, n, y, x, n_pixels, mask);
    default: return choose_group<u64>(launch, sample, n, y, x, n_pixels, mask);
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
