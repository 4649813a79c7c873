//! What host and device share: the device's form of a plan, and what a launch is told.
//!
//! Written once, here; `kernels/layout.cuh` is generated from it and a test compares them.
//! All of it is plain data of 4 and 8 byte numbers, in the order of a GPU's memory, little-endian.

/// How C++ declares the types.
#[cfg(test)]
mod cpp {
    pub(super) trait Declare {
        /// `type name` or `type name[n]`.
        fn declare(name: &str) -> String;
    }

    macro_rules! declare {
        ($($t:ident),+) => { $(impl $crate::cuda::layout::cpp::Declare for $t {
            fn declare(name: &str) -> String {
                format!("{} {name}", stringify!($t))
            }
        })+ };
    }
    pub(super) use declare;
    declare!(u32, i32, f32, u64, i64);

    impl<T: Declare, const N: usize> Declare for [T; N] {
        fn declare(name: &str) -> String {
            T::declare(&format!("{name}[{N}]"))
        }
    }
}

/// Declares structs for both sides.
macro_rules! shared {
    ($($(#[doc = $doc:literal])* struct $name:ident { $($(#[doc = $field_doc:literal])* $field:ident: $type:ty,)+ })+) => {
        $(
            $(#[doc = $doc])*
            #[derive(Clone, Copy, Debug, Default)]
            #[repr(C)]
            pub(crate) struct $name { $($(#[doc = $field_doc])* pub $field: $type,)+ }

            #[cfg(test)]
            cpp::declare!($name);
        )+

        #[cfg(test)]
        fn structs() -> String {
            let mut text = String::new();
            $(
                text.push('\n');
                $(text += &format!("//{}\n", $doc);)*
                text += &format!("struct {} {{\n", stringify!($name));
                $(
                    $(text += &format!("  //{}\n", $field_doc);)*
                    text += &format!("  {};\n", <$type as cpp::Declare>::declare(stringify!($field)));
                )+
                text += "};\n";
                text += &format!("static_assert(sizeof({0}) == {1}, \"{0}\");\n", stringify!($name), size_of::<$name>());
                // NVRTC has no offsetof; the compiler of the CPU tests does.
                text += "#ifndef __CUDACC_RTC__\n";
                $(text += &format!("static_assert(__builtin_offsetof({0}, {1}) == {2}, \"{0}.{1}\");\n",
                    stringify!($name), stringify!($field), std::mem::offset_of!($name, $field));)+
                text += "#endif\n";
            )+
            text
        }
    };
}

/// Declares numbers for both sides.
macro_rules! constants {
    ($($(#[doc = $doc:literal])* $name:ident = $value:expr;)+) => {
        $($(#[doc = $doc])* #[allow(dead_code)] pub(crate) const $name: u32 = $value;)+

        #[cfg(test)]
        fn constants() -> String {
            let mut text = String::new();
            $(
                $(text += &format!("//{}\n", $doc);)*
                text += &format!("#define {} {}\n", stringify!($name), $name);
            )+
            text
        }
    };
}

constants! {
    /// First word of a plan; changes with anything in this file.
    PLAN_VERSION = 0x4d69_4103;
    /// Threads of every block.
    BLOCK = 256;
    /// Neighbouring pixels of a row that a thread takes together.
    GROUP = 4;
    /// Most layers of a sample.
    MAX_LAYERS = crate::config::MAX_LAYERS as u32;
    /// Largest radius of a smoothing window, pixels.
    MAX_RADIUS = crate::config::MAX_SMOOTH_PX / 2;
    /// Images of no more pixels are mixed by one block each, their masks in shared memory.
    SMALL_PX = 4096;
    /// Rows of an fmix field that a block computes at a time, at most.
    STRIP_ROWS = 36;
    /// Bins of the histogram that finds fmix's threshold.
    BINS = 1024;
    /// Values of one bin that are ranked directly.
    CANDIDATES = 512;
    /// Bytes of shared memory that every block has for its own bookkeeping.
    COMMON_BYTES = 1024;
    /// `Layer::kind`: M = value.
    CONSTANT = 0;
    /// `Layer::kind`.
    CUTMIX = 1;
    /// `Layer::kind`.
    FMIX = 2;
    /// `Layer::kind`.
    GRIDMIX = 3;
    /// `Layer::kind`: gmix and agmix.
    GAUSSIAN = 4;
    /// `Header::merge`: clip(Σ M), else Π M.
    MERGE_SUM = 1;
    /// `Header::label_weight`: `Sample::drawn_weight`, else the mean of the mask.
    WEIGHT_DRAWN = 1;
    /// `Launch::access`: any strides, element by element.
    ACCESS_STRIDED = 0;
    /// `Launch::access`: rows of one channel, whole groups aligned, an image within 2³² elements.
    ACCESS_PLANAR = 1;
    /// `Launch::access`: rows of pixels with their channels side by side, whole groups aligned, within 2³² elements.
    ACCESS_INTERLEAVED = 2;
    /// `Launch::sink`: images are mixed.
    SINK_F32 = 0;
    /// `Launch::sink`: images are mixed.
    SINK_F16 = 1;
    /// `Launch::sink`: images are mixed.
    SINK_BF16 = 2;
    /// `Launch::sink`: images are mixed.
    SINK_U8 = 3;
    /// `Launch::sink`: masks are written.
    SINK_MASKS = 4;
    /// `Launch::sink`: maps of elements of 8 bits are mixed.
    SINK_MAP8 = 5;
    /// `Launch::sink`: maps of elements of 16 bits are mixed.
    SINK_MAP16 = 6;
    /// `Launch::sink`: maps of elements of 32 bits are mixed.
    SINK_MAP32 = 7;
    /// `Launch::sink`: maps of elements of 64 bits are mixed.
    SINK_MAP64 = 8;
    /// `Launch::label_kind`.
    LABELS_NONE = 0;
    /// `Launch::label_kind`: class ids.
    LABELS_I64 = 1;
    /// `Launch::label_kind`: class ids.
    LABELS_I32 = 2;
    /// `Launch::label_kind`: rows of K numbers.
    LABELS_F32 = 3;
    /// `Launch::phase`: fields of fmix, and the samples that need none.
    PHASE_FIELDS = 0;
    /// `Launch::phase`: the samples that have fmix layers.
    PHASE_REST = 1;
}

shared! {
    /// Begins a plan.
    struct Header {
        /// PLAN_VERSION.
        version: u32,
        /// MERGE_SUM or 0.
        merge: u32,
        /// WEIGHT_DRAWN or 0.
        label_weight: u32,
        /// Entries of the list of fmix layers.
        n_fmix: u32,
    }
    /// How a source image is read: out(x, y) = src(f(x + dx), y + dy), f mirrors when flipped, 0 outside.
    struct View {
        flip: u32,
        dx: i32,
        dy: i32,
    }
    /// One sample.
    struct Sample {
        partner_index: u32,
        n_layers: u32,
        /// Of them of kind FMIX.
        n_fmix: u32,
        /// What the label weighs under WEIGHT_DRAWN.
        drawn_weight: f32,
        primary: View,
        partner: View,
        /// First of the samples that have this one as their partner, in the list of those of all.
        readers: u32,
        /// Their number.
        n_readers: u32,
    }
    /// One layer of a sample's mask.
    struct Layer {
        kind: u32,
        /// Side of the smoothing window, pixels; 1 is none.
        window: u32,
        /// Whether `matrix` is an inverse warp to be applied.
        warped: u32,
        /// GRIDMIX: cells a side. FMIX: pixels given to the partner.
        n: u32,
        /// CONSTANT: M. Smoothed: 1 / window².
        value: f32,
        /// GAUSSIAN: the centre.
        cx: f32,
        /// GAUSSIAN: the centre.
        cy: f32,
        /// FMIX: which table of amplitudes.
        amplitudes: u32,
        /// The inverse warp about the image's centre, or the Gaussian's scaled axes, row by row.
        matrix: [f32; 4],
        /// CUTMIX: x0, y0, x1, y1. GRIDMIX: given cells, a bit each. FMIX: the noise key, low half first.
        payload: [u32; 8],
    }
    /// Images [N, C, H, W].
    struct Tensor {
        /// Address of element [0, 0, 0, 0].
        data: u64,
        /// In elements.
        strides: [i64; 4],
    }
    /// What a kernel is told: buffers, sizes, and nothing that differs from one plan to the next.
    struct Launch {
        /// Header, then at the offsets below: [N] Sample, [N, k_max] Layer, [N·k_max] sample·8 + layer of the
        /// fmix layers, [N] samples by their partner, each partner's in ascending order, and the tables of fmix:
        /// (cos, sin) of 2πm/H and of 2πm/W, amplitudes [n, waves_y, waves_x].
        plan: u64,
        samples_at: u64,
        layers_at: u64,
        fmix_at: u64,
        readers_at: u64,
        circle_y_at: u64,
        circle_x_at: u64,
        amplitudes_at: u64,
        /// Images or maps; for a gradient, that of the mixed images.
        primary: Tensor,
        /// Images or maps; for a gradient, where that of the partner images goes, or null: then to `out`, too.
        partner: Tensor,
        /// Images, masks [N, H, W] f32, or maps; for a gradient, where that of the images goes.
        out: Tensor,
        /// [N, H, W] f32, which a gradient reads.
        masks: u64,
        labels: u64,
        label_strides: [i64; 2],
        /// [N, K] f32, or null.
        mixed_labels: u64,
        mixed_label_strides: [i64; 2],
        /// [N] f32, or null.
        label_weight: u64,
        /// [N] i64, or null.
        partner_index: u64,
        /// One u32, or null: 1 + the first sample of a batch whose class id is too large.
        bad_label: u64,
        /// One bit a pixel, 1 where it is given: [N, k_max, ⌈H·W / 32⌉] u32, of fmix layers; large images only.
        given: u64,
        /// Room for `n_slots` fields: each [waves_x, at most W/2 + 1] (cos, sin), then [H, W] twice.
        slots: u64,
        slot_bytes: u64,
        /// [N] u64: Σ round(mask·2²⁴), 0 at the start.
        sums: u64,
        /// [N] u32: tiles done, 0 at the start.
        done: u64,
        n_samples: u32,
        channels: u32,
        height: u32,
        width: u32,
        k_max: u32,
        waves_y: u32,
        waves_x: u32,
        tile_w: u32,
        tile_h: u32,
        /// Tiles side by side.
        tiles_x: u32,
        /// Tiles of a sample.
        tiles: u32,
        sink: u32,
        access: u32,
        /// Of images, masks or maps.
        element_bytes: u32,
        label_kind: u32,
        n_classes: u32,
        /// One-hot value of the labelled class.
        hot_on: f32,
        /// One-hot value of the other classes.
        hot_off: f32,
        phase: u32,
        n_slots: u32,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_know_the_same_layout() {
        let opening = "// What host and device share. Generated from src/cuda/layout.rs: \
                       MIAMIX_BLESS=1 cargo test -p miamix the_kernels_know\n\n#pragma once\n\n\
                       typedef unsigned int u32;\ntypedef int i32;\ntypedef unsigned long long u64;\n\
                       typedef long long i64;\ntypedef float f32;\n\n";
        let new = format!("{opening}{}{}", constants(), structs());
        let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("kernels/layout.cuh");
        if std::env::var_os("MIAMIX_BLESS").is_some() {
            std::fs::write(&path, &new).unwrap();
        }
        let old = std::fs::read_to_string(&path).unwrap_or_default();
        assert!(old == new, "kernels/layout.cuh is stale: run MIAMIX_BLESS=1 cargo test -p miamix the_kernels_know");
    }
}
