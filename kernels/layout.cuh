// What host and device share. Generated from src/cuda/layout.rs: MIAMIX_BLESS=1 cargo test -p miamix the_kernels_know

#pragma once

typedef unsigned int u32;
typedef int i32;
typedef unsigned long long u64;
typedef long long i64;
typedef float f32;

// First word of a plan; changes with anything in this file.
#define PLAN_VERSION 1298743555
// Threads of every block.
#define BLOCK 256
// Neighbouring pixels of a row that a thread takes together.
#define GROUP 4
// Most layers of a sample.
#define MAX_LAYERS 8
// Largest radius of a smoothing window, pixels.
#define MAX_RADIUS 7
// Images of no more pixels are mixed by one block each, their masks in shared memory.
#define SMALL_PX 4096
// Rows of an fmix field that a block computes at a time, at most.
#define STRIP_ROWS 36
// Bins of the histogram that finds fmix's threshold.
#define BINS 1024
// Values of one bin that are ranked directly.
#define CANDIDATES 512
// Bytes of shared memory that every block has for its own bookkeeping.
#define COMMON_BYTES 1024
// `Layer::kind`: M = value.
#define CONSTANT 0
// `Layer::kind`.
#define CUTMIX 1
// `Layer::kind`.
#define FMIX 2
// `Layer::kind`.
#define GRIDMIX 3
// `Layer::kind`: gmix and agmix.
#define GAUSSIAN 4
// `Header::merge`: clip(Σ M), else Π M.
#define MERGE_SUM 1
// `Header::label_weight`: `Sample::drawn_weight`, else the mean of the mask.
#define WEIGHT_DRAWN 1
// `Launch::access`: any strides, element by element.
#define ACCESS_STRIDED 0
// `Launch::access`: rows of one channel, whole groups aligned, an image within 2³² elements.
#define ACCESS_PLANAR 1
// `Launch::access`: rows of pixels with their channels side by side, whole groups aligned, within 2³² elements.
#define ACCESS_INTERLEAVED 2
// `Launch::sink`: images are mixed.
#define SINK_F32 0
// `Launch::sink`: images are mixed.
#define SINK_F16 1
// `Launch::sink`: images are mixed.
#define SINK_BF16 2
// `Launch::sink`: images are mixed.
#define SINK_U8 3
// `Launch::sink`: masks are written.
#define SINK_MASKS 4
// `Launch::sink`: maps of elements of 8 bits are mixed.
#define SINK_MAP8 5
// `Launch::sink`: maps of elements of 16 bits are mixed.
#define SINK_MAP16 6
// `Launch::sink`: maps of elements of 32 bits are mixed.
#define SINK_MAP32 7
// `Launch::sink`: maps of elements of 64 bits are mixed.
#define SINK_MAP64 8
// `Launch::label_kind`.
#define LABELS_NONE 0
// `Launch::label_kind`: class ids.
#define LABELS_I64 1
// `Launch::label_kind`: class ids.
#define LABELS_I32 2
// `Launch::label_kind`: rows of K numbers.
#define LABELS_F32 3
// `Launch::phase`: fields of fmix, and the samples that need none.
#define PHASE_FIELDS 0
// `Launch::phase`: the samples that have fmix layers.
#define PHASE_REST 1

// Begins a plan.
struct Header {
  // PLAN_VERSION.
  u32 version;
  // MERGE_SUM or 0.
  u32 merge;
  // WEIGHT_DRAWN or 0.
  u32 label_weight;
  // Entries of the list of fmix layers.
  u32 n_fmix;
};
static_assert(sizeof(Header) == 16, "Header");
#ifndef __CUDACC_RTC__
static_assert(__builtin_offsetof(Header, version) == 0, "Header.version");
static_assert(__builtin_offsetof(Header, merge) == 4, "Header.merge");
static_assert(__builtin_offsetof(Header, label_weight) == 8, "Header.label_weight");
static_assert(__builtin_offsetof(Header, n_fmix) == 12, "Header.n_fmix");
#endif

// How a source image is read: out(x, y) = src(f(x + dx), y + dy), f mirrors when flipped, 0 outside.
struct View {
  u32 flip;
  i32 dx;
  i32 dy;
};
static_assert(sizeof(View) == 12, "View");
#ifndef __CUDACC_RTC__
static_assert(__builtin_offsetof(View, flip) == 0, "View.flip");
static_assert(__builtin_offsetof(View, dx) == 4, "View.dx");
static_assert(__builtin_offsetof(View, dy) == 8, "View.dy");
#endif

// One sample.
struct Sample {
  u32 partner_index;
  u32 n_layers;
  // Of them of kind FMIX.
  u32 n_fmix;
  // What the label weighs under WEIGHT_DRAWN.
  f32 drawn_weight;
  View primary;
  View partner;
  // First of the samples that have this one as their partner, in the list of those of all.
  u32 readers;
  // Their number.
  u32 n_readers;
};
static_assert(sizeof(Sample) == 48, "Sample");
#ifndef __CUDACC_RTC__
static_assert(__builtin_offsetof(Sample, partner_index) == 0, "Sample.partner_index");
static_assert(__builtin_offsetof(Sample, n_layers) == 4, "Sample.n_layers");
static_assert(__builtin_offsetof(Sample, n_fmix) == 8, "Sample.n_fmix");
static_assert(__builtin_offsetof(Sample, drawn_weight) == 12, "Sample.drawn_weight");
static_assert(__builtin_offsetof(Sample, primary) == 16, "Sample.primary");
static_assert(__builtin_offsetof(Sample, partner) == 28, "Sample.partner");
static_assert(__builtin_offsetof(Sample, readers) == 40, "Sample.readers");
static_assert(__builtin_offsetof(Sample, n_readers) == 44, "Sample.n_readers");
#endif

// One layer of a sample's mask.
struct Layer {
  u32 kind;
  // Side of the smoothing window, pixels; 1 is none.
  u32 window;
  // Whether `matrix` is an inverse warp to be applied.
  u32 warped;
  // GRIDMIX: cells a side. FMIX: pixels given to the partner.
  u32 n;
  // CONSTANT: M. Smoothed: 1 / window².
  f32 value;
  // GAUSSIAN: the centre.
  f32 cx;
  // GAUSSIAN: the centre.
  f32 cy;
  // FMIX: which table of amplitudes.
  u32 amplitudes;
  // The inverse warp about the image's centre, or the Gaussian's scaled axes, row by row.
  f32 matrix[4];
  // CUTMIX: x0, y0, x1, y1. GRIDMIX: given cells, a bit each. FMIX: the noise key, low half first.
  u32 payload[8];
};
static_assert(sizeof(Layer) == 80, "Layer");
#ifndef __CUDACC_RTC__
static_assert(__builtin_offsetof(Layer, kind) == 0, "Layer.kind");
static_assert(__builtin_offsetof(Layer, window) == 4, "Layer.window");
static_assert(__builtin_offsetof(Layer, warped) == 8, "Layer.warped");
static_assert(__builtin_offsetof(Layer, n) == 12, "Layer.n");
static_assert(__builtin_offsetof(Layer, value) == 16, "Layer.value");
static_assert(__builtin_offsetof(Layer, cx) == 20, "Layer.cx");
static_assert(__builtin_offsetof(Layer, cy) == 24, "Layer.cy");
static_assert(__builtin_offsetof(Layer, amplitudes) == 28, "Layer.amplitudes");
static_assert(__builtin_offsetof(Layer, matrix) == 32, "Layer.matrix");
static_assert(__builtin_offsetof(Layer, payload) == 48, "Layer.payload");
#endif

// Images [N, C, H, W].
struct Tensor {
  // Address of element [0, 0, 0, 0].
  u64 data;
  // In elements.
  i64 strides[4];
};
static_assert(sizeof(Tensor) == 40, "Tensor");
#ifndef __CUDACC_RTC__
static_assert(__builtin_offsetof(Tensor, data) == 0, "Tensor.data");
static_assert(__builtin_offsetof(Tensor, strides) == 8, "Tensor.strides");
#endif

// What a kernel is told: buffers, sizes, and nothing that differs from one plan to the next.
struct Launch {
  // Header, then at the offsets below: [N] Sample, [N, k_max] Layer, [N·k_max] sample·8 + layer of the
  // fmix layers, [N] samples by their partner, each partner's in ascending order, and the tables of fmix:
  // (cos, sin) of 2πm/H and of 2πm/W, amplitudes [n, waves_y, waves_x].
  u64 plan;
  u64 samples_at;
  u64 layers_at;
  u64 fmix_at;
  u64 readers_at;
  u64 circle_y_at;
  u64 circle_x_at;
  u64 amplitudes_at;
  // Images or maps; for a gradient, that of the mixed images.
  Tensor primary;
  // Images or maps; for a gradient, where that of the partner images goes, or null: then to `out`, too.
  Tensor partner;
  // Images, masks [N, H, W] f32, or maps; for a gradient, where that of the images goes.
  Tensor out;
  // [N, H, W] f32, which a gradient reads.
  u64 masks;
  u64 labels;
  i64 label_strides[2];
  // [N, K] f32, or null.
  u64 mixed_labels;
  i64 mixed_label_strides[2];
  // [N] f32, or null.
  u64 label_weight;
  // [N] i64, or null.
  u64 partner_index;
  // One u32, or null: 1 + the first sample of a batch whose class id is too large.
  u64 bad_label;
  // One bit a pixel, 1 where it is given: [N, k_max, ⌈H·W / 32⌉] u32, of fmix layers; large images only.
  u64 given;
  // Room for `n_slots` fields: each [waves_x, at most W/2 + 1] (cos, sin), then [H, W] twice.
  u64 slots;
  u64 slot_bytes;
  // [N] u64: Σ round(mask·2²⁴), 0 at the start.
  u64 sums;
  // [N] u32: tiles done, 0 at the start.
  u64 done;
  u32 n_samples;
  u32 channels;
  u32 height;
  u32 width;
  u32 k_max;
  u32 waves_y;
  u32 waves_x;
  u32 tile_w;
  u32 tile_h;
  // Tiles side by side.
  u32 tiles_x;
  // Tiles of a sample.
  u32 tiles;
  u32 sink;
  u32 access;
  // Of images, masks or maps.
  u32 element_bytes;
  u32 label_kind;
  u32 n_classes;
  // One-hot value of the labelled class.
  f32 hot_on;
  // One-hot value of the other classes.
  f32 hot_off;
  u32 phase;
  u32 n_slots;
};
static_assert(sizeof(Launch) == 384, "Launch");
#ifndef __CUDACC_RTC__
static_assert(__builtin_offsetof(Launch, plan) == 0, "Launch.plan");
static_assert(__builtin_offsetof(Launch, samples_at) == 8, "Launch.samples_at");
static_assert(__builtin_offsetof(Launch, layers_at) == 16, "Launch.layers_at");
static_assert(__builtin_offsetof(Launch, fmix_at) == 24, "Launch.fmix_at");
static_assert(__builtin_offsetof(Launch, readers_at) == 32, "Launch.readers_at");
static_assert(__builtin_offsetof(Launch, circle_y_at) == 40, "Launch.circle_y_at");
static_assert(__builtin_offsetof(Launch, circle_x_at) == 48, "Launch.circle_x_at");
static_assert(__builtin_offsetof(Launch, amplitudes_at) == 56, "Launch.amplitudes_at");
static_assert(__builtin_offsetof(Launch, primary) == 64, "Launch.primary");
static_assert(__builtin_offsetof(Launch, partner) == 104, "Launch.partner");
static_assert(__builtin_offsetof(Launch, out) == 144, "Launch.out");
static_assert(__builtin_offsetof(Launch, masks) == 184, "Launch.masks");
static_assert(__builtin_offsetof(Launch, labels) == 192, "Launch.labels");
static_assert(__builtin_offsetof(Launch, label_strides) == 200, "Launch.label_strides");
static_assert(__builtin_offsetof(Launch, mixed_labels) == 216, "Launch.mixed_labels");
static_assert(__builtin_offsetof(Launch, mixed_label_strides) == 224, "Launch.mixed_label_strides");
static_assert(__builtin_offsetof(Launch, label_weight) == 240, "Launch.label_weight");
static_assert(__builtin_offsetof(Launch, partner_index) == 248, "Launch.partner_index");
static_assert(__builtin_offsetof(Launch, bad_label) == 256, "Launch.bad_label");
static_assert(__builtin_offsetof(Launch, given) == 264, "Launch.given");
static_assert(__builtin_offsetof(Launch, slots) == 272, "Launch.slots");
static_assert(__builtin_offsetof(Launch, slot_bytes) == 280, "Launch.slot_bytes");
static_assert(__builtin_offsetof(Launch, sums) == 288, "Launch.sums");
static_assert(__builtin_offsetof(Launch, done) == 296, "Launch.done");
static_assert(__builtin_offsetof(Launch, n_samples) == 304, "Launch.n_samples");
static_assert(__builtin_offsetof(Launch, channels) == 308, "Launch.channels");
static_assert(__builtin_offsetof(Launch, height) == 312, "Launch.height");
static_assert(__builtin_offsetof(Launch, width) == 316, "Launch.width");
static_assert(__builtin_offsetof(Launch, k_max) == 320, "Launch.k_max");
static_assert(__builtin_offsetof(Launch, waves_y) == 324, "Launch.waves_y");
static_assert(__builtin_offsetof(Launch, waves_x) == 328, "Launch.waves_x");
static_assert(__builtin_offsetof(Launch, tile_w) == 332, "Launch.tile_w");
static_assert(__builtin_offsetof(Launch, tile_h) == 336, "Launch.tile_h");
static_assert(__builtin_offsetof(Launch, tiles_x) == 340, "Launch.tiles_x");
static_assert(__builtin_offsetof(Launch, tiles) == 344, "Launch.tiles");
static_assert(__builtin_offsetof(Launch, sink) == 348, "Launch.sink");
static_assert(__builtin_offsetof(Launch, access) == 352, "Launch.access");
static_assert(__builtin_offsetof(Launch, element_bytes) == 356, "Launch.element_bytes");
static_assert(__builtin_offsetof(Launch, label_kind) == 360, "Launch.label_kind");
static_assert(__builtin_offsetof(Launch, n_classes) == 364, "Launch.n_classes");
static_assert(__builtin_offsetof(Launch, hot_on) == 368, "Launch.hot_on");
static_assert(__builtin_offsetof(Launch, hot_off) == 372, "Launch.hot_off");
static_assert(__builtin_offsetof(Launch, phase) == 376, "Launch.phase");
static_assert(__builtin_offsetof(Launch, n_slots) == 380, "Launch.n_slots");
#endif
