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
// Of 224x224 pixels 0.25 M + 0.84 M fused multiply-adds, and four passes over the field, which are most of the
// instructions: a block's path is what ARCHITECTURE.md counts. Nothing of it depends on image data.

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

// How a block makes a field: ROWS rows of a family of columns to a thread, which share its (cos, sin), LANES families
// side by side, STRIP rows at a time.
struct SmallFields {
  static const int ROWS = 4, LANES = 28, STRIP = 36;
};
struct LargeFields {
  static const int ROWS = 4, LANES = 32, STRIP = 32;
};
static_assert(SmallFields::STRIP <= STRIP_ROWS && LargeFields::STRIP <= STRIP_ROWS, "STRIP_ROWS");
static_assert(SmallFields::LANES * SmallFields::STRIP <= BLOCK * SmallFields::ROWS, "a strip in one go");
static_assert(LargeFields::LANES * LargeFields::STRIP <= BLOCK * LargeFields::ROWS, "a strip in one go");

// One kx's part of ROWS rows' P cos and Q sin; rows: their P and Q, two rows in one load.
template <int ROWS>
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

// (cos, sin) of 2*pi*kx*x/W for kx = 0, 1, ..: from a table [waves_x, reach(W)], or from the circle.
struct TurnTable {
  const float2* at;
  u32 reach;
  __device__ __forceinline__ TurnTable(const Fmix& fmix, const float2* turns, u32 x)
      : at(turns + x), reach(fmix_reach(fmix.width)) {}
  __device__ __forceinline__ float2 next() {
    const float2 direction = *at;
    at += reach;
    return direction;
  }
};
struct TurnCircle {
  const float2* circle;
  u32 turn, step, width;
  __device__ __forceinline__ TurnCircle(const Fmix& fmix, const float2*, u32 x)
      : circle(fmix.circle_x), turn(0), step(x), width(fmix.width) {}
  __device__ __forceinline__ float2 next() {
    const float2 direction = __ldg(circle + turn);
    turn = fmix_turn(turn, step, width);
    return direction;
  }
};

// The least and the greatest of some values.
struct Extremes {
  float low, high;
  __device__ __forceinline__ Extremes() : low(__uint_as_float(0x7f800000u)), high(-low) {}
  __device__ __forceinline__ void take(float value) {
    low = fminf(low, value);
    high = fmaxf(high, value);
  }
};

// The field F: [H, W], and the extremes of what the thread made. A strip of rows, whole families of them, shares P and Q
// in shared memory.
//
// turns: for a TurnTable. columns: room for STRIP_ROWS * waves_x * 2 numbers.
template <class Fields, class Turns>
__device__ __forceinline__ void fmix_field(const Fmix& fmix, const float4* spectrum, const float2* turns,
                                           float2* columns, float* field, Extremes& extremes) {
  const int ROWS = Fields::ROWS, LANES = Fields::LANES, STRIP = Fields::STRIP;
  const u32 height = fmix.height, width = fmix.width, waves_x = fmix.waves_x;
  const u32 reach_x = fmix_reach(width), reach_y = fmix_reach(height), members = height % 2 ? 2 : 4;
  const u32 team = threadIdx.x / LANES, lane = threadIdx.x - team * LANES;
  // As many families as fit, but none that needs another round of the column sums for itself.
  u32 most = STRIP / members;
  if (most * waves_x > BLOCK) most = most * waves_x / BLOCK * BLOCK / waves_x;
  for (u32 first = 0; first < reach_y; first += most) {
    const u32 n_families = min(most, reach_y - first);
    for (u32 i = threadIdx.x; i < n_families * waves_x; i += BLOCK) {
      const u32 family = i / waves_x, kx = i - family * waves_x, y = first + family;
      float4 even = make_float4(0.0f, 0.0f, 0.0f, 0.0f), odd = even;
      u32 turn = 0;
      const float4* wave = spectrum + kx;
#pragma unroll 1
      for (u32 ky = 0; ky < fmix.waves_y; ky += 2, wave += waves_x) {
        fmix_column_wave(__ldg(fmix.circle_y + turn), *wave, even);
        turn = fmix_turn(turn, y, height);
        if (ky + 1 == fmix.waves_y) break;
        wave += waves_x;
        fmix_column_wave(__ldg(fmix.circle_y + turn), *wave, odd);
        turn = fmix_turn(turn, y, height);
      }
      const float4 there = make_float4(even.x + odd.x, even.y + odd.y, even.z + odd.z, even.w + odd.w);
      // Half a side on, cos changes its sign at odd k, and sin at even k.
      const float4 turned = make_float4(even.x - odd.x, odd.y - even.y, even.z - odd.z, odd.w - even.w);
      float2* rows = columns + kx * STRIP + members * family;
      rows[0] = make_float2(there.x - there.y, there.z + there.w);
      rows[1] = make_float2(there.x + there.y, there.z - there.w);
      if (members == 4) {
        rows[2] = make_float2(turned.x - turned.y, turned.z + turned.w);
        rows[3] = make_float2(turned.x + turned.y, turned.z - turned.w);
      }
    }
    __syncthreads();  // P and Q of the strip are read by all
    if (team * ROWS < n_families * members) {
      for (u32 x = lane; x < reach_x; x += LANES) {
        float even_cos[ROWS], even_sin[ROWS], odd_cos[ROWS], odd_sin[ROWS];
#pragma unroll
        for (int row = 0; row < ROWS; ++row) even_cos[row] = even_sin[row] = odd_cos[row] = odd_sin[row] = 0.0f;
        Turns turn(fmix, turns, x);
        const float4* rows = (const float4*)(columns + team * ROWS);
#pragma unroll 1
        for (u32 kx = 0; kx < waves_x; kx += 2, rows += STRIP) {
          fmix_row_wave<ROWS>(turn.next(), rows, even_cos, even_sin);
          if (kx + 1 == waves_x) break;
          fmix_row_wave<ROWS>(turn.next(), rows + STRIP / 2, odd_cos, odd_sin);
        }
        const bool turned_x = width % 2 == 0 && 4 * x != width;
#pragma unroll
        for (int row = 0; row < ROWS; ++row) {
          const u32 in_strip = team * ROWS + row, family = first + in_strip / members;
          const u32 y = fmix_member(family, in_strip % members, height);
          if (in_strip >= n_families * members || y >= height) continue;
          float* out = field + (size_t)y * width;
          const auto put = [&](u32 at, float value) {
            // Adding 0 makes a -0 a 0: equal values have equal bits.
            extremes.take(out[at] = value + 0.0f);
          };
          const float cosine = even_cos[row] + odd_cos[row], sine = even_sin[row] + odd_sin[row];
          put(x, cosine - sine);
          if (x != 0) put(width - x, cosine + sine);
          if (!turned_x) continue;
          const float turned_cosine = even_cos[row] - odd_cos[row], turned_sine = odd_sin[row] - even_sin[row];
          put(width / 2 - x, turned_cosine - turned_sine);
          if (x != 0) put(width / 2 + x, turned_cosine + turned_sine);
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

// The same, where i is mostly in [-n, 2n).
__device__ __forceinline__ u32 near_mod(int i, u32 n) {
  const u32 near = (u32)(i < 0 ? i + (int)n : i >= (int)n ? i - (int)n : i);
  return near < n ? near : euclidean_mod(i, n);
}

// Pixels whose loads are under way at the same time, of a thread.
#define PIXELS_AHEAD 2

// The field at u, bilinear and periodic: [H, W], and the extremes of what the thread made.
__device__ __forceinline__ void fmix_resample(const Fmix& fmix, const Layer& layer, const float* field, float* out,
                                              Extremes& extremes) {
  const u32 height = fmix.height, width = fmix.width, pixels = height * width;
  const u32 rows = BLOCK / width, columns = BLOCK - rows * width;
  u32 y = threadIdx.x / width, x = threadIdx.x - y * width;
#pragma unroll 1
  for (u32 i = threadIdx.x; i < pixels; i += PIXELS_AHEAD * BLOCK) {
    float right[PIXELS_AHEAD], down[PIXELS_AHEAD];
    float a[PIXELS_AHEAD], b[PIXELS_AHEAD], c[PIXELS_AHEAD], d[PIXELS_AHEAD];
#pragma unroll
    for (u32 p = 0; p < PIXELS_AHEAD; ++p) {
      // A pixel beyond the last is one of a row below: read somewhere, and not written.
      const float2 u = unwarp(layer, height, width, x, y);
      const float tx = u.x - 0.5f, ty = u.y - 0.5f;
      const float left = floorf(tx), above = floorf(ty);
      const u32 x0 = near_mod((int)left, width), y0 = near_mod((int)above, height);
      const u32 x1 = x0 + 1 == width ? 0 : x0 + 1, upper = y0 * width, lower = y0 + 1 == height ? 0 : upper + width;
      right[p] = tx - left, down[p] = ty - above;
      a[p] = field[upper + x0], b[p] = field[upper + x1], c[p] = field[lower + x0], d[p] = field[lower + x1];
      x += columns, y += rows;
      if (x >= width) x -= width, ++y;
    }
#pragma unroll
    for (u32 p = 0; p < PIXELS_AHEAD; ++p) {
      if (i + p * BLOCK >= pixels) continue;
      const float top = fmaf(right[p], b[p] - a[p], a[p]), bottom = fmaf(right[p], d[p] - c[p], c[p]);
      extremes.take(out[i + p * BLOCK] = fmaf(down[p], bottom - top, top) + 0.0f);
    }
  }
}

// Floats in their order.
__device__ __forceinline__ u32 fmix_ordered(float value) {
  const u32 bits = __float_as_uint(value);
  return bits ^ (bits >> 31 ? 0xffffffffu : 0x80000000u);
}

// Ordered as (value, lower index first), and unique.
__device__ __forceinline__ u64 fmix_key(float value, u32 index) {
  return (u64)fmix_ordered(value) << 32 | (0xffffffffu - index);
}

// Values that a thread reads before it uses the first.
#define VALUES_AHEAD 4

// Calls use(value, index) for the values t, t + BLOCK, ... of thread t.
template <class Use>
__device__ __forceinline__ void fmix_values(const float* field, u32 pixels, Use use) {
#pragma unroll 1
  for (u32 i = threadIdx.x; i < pixels; i += VALUES_AHEAD * BLOCK) {
    float values[VALUES_AHEAD];
#pragma unroll
    for (u32 k = 0; k < VALUES_AHEAD; ++k) values[k] = i + k * BLOCK < pixels ? field[i + k * BLOCK] : 0.0f;
#pragma unroll
    for (u32 k = 0; k < VALUES_AHEAD; ++k) {
      if (i + k * BLOCK < pixels) use(values[k], i + k * BLOCK);
    }
  }
}

// The extremes of all threads, in every thread. Has a barrier within; common.lows and highs are free after another.
__device__ __forceinline__ void block_extremes(Extremes& extremes, Common& common) {
  for (int offset = 16; offset > 0; offset >>= 1) {
    extremes.low = fminf(extremes.low, __shfl_xor_sync(FULL_WARP, extremes.low, offset));
    extremes.high = fmaxf(extremes.high, __shfl_xor_sync(FULL_WARP, extremes.high, offset));
  }
  if (lane_index() == 0) common.lows[warp_index()] = extremes.low, common.highs[warp_index()] = extremes.high;
  __syncthreads();  // those of every warp
  for (int warp = 0; warp < WARPS; ++warp) {
    extremes.low = fminf(extremes.low, common.lows[warp]);
    extremes.high = fmaxf(extremes.high, common.highs[warp]);
  }
}

// Finds the bin of the n-th largest value: common.bin, its rank there and how many there are. Ends with a barrier.
__device__ __forceinline__ void fmix_find_bin(const u32* histogram, u32 n, Common& common) {
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
  __syncthreads();  // the bin is known to all, and the histogram has been read
}

// The n-th largest key of a field of `pixels` values: n keys are not below it.
//
// A histogram over [least, greatest] finds the bin of the n-th largest, and the values of that bin are ranked directly.
// Where they are too many (a large image, a flat field), histograms of their keys narrow them down, ten bits each:
// seven passes at most, and one or two where values differ.
//
// Thread t reads the values t, t + BLOCK, ... alone. extremes: of those. histogram: [BINS]; candidates: [CANDIDATES].
__device__ __forceinline__ u64 fmix_threshold(const float* field, u32 pixels, u32 n, Extremes extremes, Common& common,
                                              u32* histogram, u64* candidates) {
  if (n == 0) return ~0ull;  // no key: its index would be -1
  if (n >= pixels) return 0;
  for (u32 bin = threadIdx.x; bin < BINS; bin += BLOCK) histogram[bin] = 0;
  if (threadIdx.x == 0) common.n_candidates = 0;
  block_extremes(extremes, common);  // its barrier also completes the empty bins
  // Any monotone map of values to bins serves. A flat field has one bin.
  const float range = extremes.high - extremes.low, low = extremes.low;
  const float scale = range > 1e-30f ? (float)BINS / range : 0.0f;
  const auto bin_of = [&](float value) { return min((u32)((value - low) * scale), (u32)(BINS - 1)); };
  fmix_values(field, pixels, [&](float value, u32) { atomicAdd(histogram + bin_of(value), 1u); });
  __syncthreads();  // the histogram is whole
  fmix_find_bin(histogram, n, common);
  const u32 bin = common.bin;
  u32 rank = common.rank, n_in_bin = common.n_in_bin;
  const auto add = [&](float value, u32 i) { candidates[atomicAdd(&common.n_candidates, 1u)] = fmix_key(value, i); };
  if (n_in_bin <= CANDIDATES) {
    fmix_values(field, pixels, [&](float value, u32 i) {
      if (bin_of(value) == bin) add(value, i);
    });
  } else {
    Extremes within;
    fmix_values(field, pixels, [&](float value, u32) {
      if (bin_of(value) == bin) within.take(value);
    });
    block_extremes(within, common);
    // The keys that are left: least + [0, span].
    u64 least = (u64)fmix_ordered(within.low) << 32;
    u64 span = ((u64)fmix_ordered(within.high) << 32 | 0xffffffffu) - least;
#pragma unroll 1
    do {
      const int shift = max(64 - 10 - __clzll((i64)span), 0);
      for (u32 i = threadIdx.x; i < BINS; i += BLOCK) histogram[i] = 0;
      __syncthreads();  // empty bins
      fmix_values(field, pixels, [&](float value, u32 i) {
        const u64 above = fmix_key(value, i) - least;
        if (above <= span) atomicAdd(histogram + (u32)(above >> shift), 1u);
      });
      __syncthreads();  // the histogram is whole
      fmix_find_bin(histogram, rank, common);
      const u64 offset = (u64)common.bin << shift, width = (1ull << shift) - 1;
      least += offset;
      span = span - offset < width ? span - offset : width;
      rank = common.rank, n_in_bin = common.n_in_bin;
    } while (n_in_bin > CANDIDATES);
    fmix_values(field, pixels, [&](float value, u32 i) {
      if (fmix_key(value, i) - least <= span) add(value, i);
    });
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

// The given pixels of one layer, a bit each: given [ceil(H*W / 32)].
//
// field: [H, W]; warped: [H, W], apart from it. work: shared memory for the spectrum and a strip's columns, and then
// for the histogram and the candidates; `warped` may lie in it beyond the latter. Ends with a barrier.
template <class Fields, class Turns>
__device__ __forceinline__ void fmix_given(const Fmix& fmix, const Layer& layer, const float2* turns, float* field,
                                           float* warped, char* work, Common& common, u32* given) {
  const u32 pixels = fmix.height * fmix.width;
  float4* spectrum = (float4*)work;
  fmix_spectrum(fmix, layer.payload[0], layer.payload[1], spectrum);
  __syncthreads();  // the spectrum is read by all
  Extremes extremes;
  fmix_field<Fields, Turns>(fmix, spectrum, turns, (float2*)(spectrum + fmix.waves_y * fmix.waves_x), field, extremes);
  if (layer.warped) {
    extremes = Extremes();
    // No barrier: from here on a thread reads what it wrote itself.
    fmix_resample(fmix, layer, field, warped, extremes);
    field = warped;
  }
  u64* candidates = (u64*)work;
  const u64 threshold =
      fmix_threshold(field, pixels, layer.n, extremes, common, (u32*)(candidates + CANDIDATES), candidates);
  // A warp makes a word at a time, VALUES_AHEAD of them in a round.
#pragma unroll 1
  for (u32 first = warp_index() * 32; first < pixels; first += VALUES_AHEAD * BLOCK) {
    float values[VALUES_AHEAD];
#pragma unroll
    for (u32 k = 0; k < VALUES_AHEAD; ++k) {
      const u32 i = first + k * BLOCK + lane_index();
      values[k] = i < pixels ? field[i] : 0.0f;
    }
#pragma unroll
    for (u32 k = 0; k < VALUES_AHEAD; ++k) {
      const u32 at = first + k * BLOCK, i = at + lane_index();
      const u32 word = __ballot_sync(FULL_WARP, i < pixels && fmix_key(values[k], i) >= threshold);
      if (lane_index() == 0 && at < pixels) given[at >> 5] = word;
    }
  }
  __syncthreads();  // the bits are whole; field and work are free again
}
