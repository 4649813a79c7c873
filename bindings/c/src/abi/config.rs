//! Parameters
//!
//! Table 1 of the paper, and a switch for each thing that it leaves open.

use super::boundary::{Result, borrow, boundary, check_pointer};
use miamix_core::{
    Config, CutmixBox, Error, GaussianSigma, LabelWeight, LambdaReading, Merge, Method, Pairing, Status,
};
use std::fmt::Display;

/// Mixing methods: the index of each in miamix_config.method_weights.
#[repr(C)]
pub enum miamix_method {
    /// A constant mask.
    Mixup = 0,
    /// A box.
    Cutmix = 1,
    /// The level set of low-frequency noise.
    Fmix = 2,
    /// Cells of a grid.
    Gridmix = 3,
    /// An adaptive Gaussian, rotated and stretched.
    Agmix = 4,
    /// A round Gaussian.
    Gmix = 5,
}

/// How the masks of a sample's layers become one.
#[repr(C)]
pub enum miamix_merge {
    /// The product of the masks.
    Product = 0,
    /// The sum of the masks, clipped to [0, 1].
    Sum = 1,
}

/// Which weight the primary's label gets.
#[repr(C)]
pub enum miamix_label_weight {
    /// The mean of the merged mask.
    Merged = 0,
    /// What follows from the drawn ratios alone: their sum under MIAMIX_MERGE_SUM, 1 minus it under
    /// MIAMIX_MERGE_PRODUCT; refused with MIAMIX_MERGE_PRODUCT and MIAMIX_LAMBDA_READING_KEEP.
    Drawn = 1,
}

/// What the ratio lambda of a layer is the share of.
#[repr(C)]
pub enum miamix_lambda_reading {
    /// Lambda goes to the partner.
    Complement = 0,
    /// The primary keeps lambda.
    Keep = 1,
}

/// How wide the Gaussian of a share g is.
#[repr(C)]
pub enum miamix_gaussian_sigma {
    /// sigma^2 = g H W, as published.
    Paper = 0,
    /// sigma^2 = g H W / (2 pi), under which the whole area of a round Gaussian is g H W.
    Area = 1,
}

/// How partners are found.
#[repr(C)]
pub enum miamix_pairing {
    /// By a permutation of the batch.
    Permutation = 0,
    /// Each uniformly over the batch.
    Uniform = 1,
}

/// Where cutmix puts its box.
#[repr(C)]
pub enum miamix_cutmix_box {
    /// Centre anywhere, the box cut at the border, as published.
    Clipped = 0,
    /// The whole box inside the image.
    Inside = 1,
}

const _: () = {
    assert!(miamix_method::Mixup as u32 == Method::MixUp as u32);
    assert!(miamix_method::Cutmix as u32 == Method::CutMix as u32);
    assert!(miamix_method::Fmix as u32 == Method::FMix as u32);
    assert!(miamix_method::Gridmix as u32 == Method::GridMix as u32);
    assert!(miamix_method::Agmix as u32 == Method::AgMix as u32);
    assert!(miamix_method::Gmix as u32 == Method::GMix as u32);
    assert!(miamix_merge::Product as u32 == Merge::Product as u32);
    assert!(miamix_merge::Sum as u32 == Merge::Sum as u32);
    assert!(miamix_label_weight::Merged as u32 == LabelWeight::Merged as u32);
    assert!(miamix_label_weight::Drawn as u32 == LabelWeight::Drawn as u32);
    assert!(miamix_lambda_reading::Complement as u32 == LambdaReading::Complement as u32);
    assert!(miamix_lambda_reading::Keep as u32 == LambdaReading::Keep as u32);
    assert!(miamix_gaussian_sigma::Paper as u32 == GaussianSigma::Paper as u32);
    assert!(miamix_gaussian_sigma::Area as u32 == GaussianSigma::Area as u32);
    assert!(miamix_pairing::Permutation as u32 == Pairing::Permutation as u32);
    assert!(miamix_pairing::Uniform as u32 == Pairing::Uniform as u32);
    assert!(miamix_cutmix_box::Clipped as u32 == CutmixBox::Clipped as u32);
    assert!(miamix_cutmix_box::Inside as u32 == CutmixBox::Inside as u32);
};

/// The parameters of an operator. Fill it with miamix_config_init(), then change what should differ.
///
/// Probabilities are in [0, 1]. The struct grows at its end, in steps of 8 bytes; a new field at 0 means what
/// libraries without it do.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct miamix_config {
    /// sizeof(miamix_config); miamix_config_init() writes it.
    pub struct_size: u64,
    /// Dirichlet parameter, greater than 0. Default 1.
    pub alpha: f32,
    /// Fewest layers, 1 to k_max. Default 1.
    pub k_min: u32,
    /// Most layers, k_min to 8; the number is uniform in between. Default 2.
    pub k_max: u32,
    /// Relative odds of a layer's method, indexed by miamix_method; at least 0, not all 0.
    /// Default 2, 1, 1, 1, 1, 0.
    pub method_weights: [f32; 6],
    /// Probability that a sample is mixed at all. Default 1.
    pub p_apply: f32,
    /// Probability that a sample is mixed with itself (its other view). Default 0.1.
    pub p_self: f32,
    /// Probability, per layer, that its mask is rotated and sheared. Default 0.25.
    pub p_aug: f32,
    /// Probability, per layer, that its mask is smoothed. Default 0.5.
    pub p_smooth: f32,
    /// A miamix_merge. Default MIAMIX_MERGE_PRODUCT.
    pub merge: u32,
    /// A miamix_label_weight. Default MIAMIX_LABEL_WEIGHT_MERGED.
    pub label_weight: u32,
    /// A miamix_lambda_reading. Default MIAMIX_LAMBDA_READING_COMPLEMENT.
    pub lambda_reading: u32,
    /// A miamix_gaussian_sigma. Default MIAMIX_GAUSSIAN_SIGMA_PAPER.
    pub gaussian_sigma: u32,
    /// A miamix_pairing. Default MIAMIX_PAIRING_PERMUTATION.
    pub pairing: u32,
    /// A miamix_cutmix_box. Default MIAMIX_CUTMIX_BOX_CLIPPED.
    pub cutmix_box: u32,
    /// Gridmix: fewest and most cells a side, 1 to 16. Default 2, 8.
    pub grid_range: [u32; 2],
    /// Fmix: power of the spectrum's decay, at least 2. Default 3.
    pub decay_power: f32,
    /// Rotation of a mask, uniform in plus or minus this, radians. Default pi / 4.
    pub rotate_max_rad: f32,
    /// Horizontal shear of a mask, uniform in plus or minus this, at most 1000. Default 0.3.
    pub shear_max: f32,
    /// Smoothing window, uniform over the odd numbers in this range, pixels, 1 to 15. Default 3, 7.
    pub smooth_range_px: [u32; 2],
    /// Built-in views: probability of a horizontal flip. Default 0.
    pub p_flip: f32,
    /// Built-in views: shift uniform in plus or minus this after zero padding, pixels. Default 0.
    pub pad_px: u32,
    /// Label smoothing of class ids, 0 to 1. Default 0.
    pub label_smoothing: f32,
    /// Threads of the operator, at most 256; 0: one for each core, or the calling thread alone in a child of
    /// fork(). It changes no result. Default 0.
    pub n_threads: u32,
}

/// Size of the first version of the struct, which is the least that a caller can have.
const CONFIG_SIZE_V1: usize = 128;
/// A larger struct_size is no size but memory that was never written.
const CONFIG_SIZE_MAX: usize = 4096;

const _: () = assert!(size_of::<miamix_config>() == CONFIG_SIZE_V1 && align_of::<miamix_config>() == 8);

/// Fills a configuration with the defaults.
///
/// @param[out] config      The caller's; written whole, struct_size included.
/// @param[in]  struct_size sizeof(miamix_config).
/// @return MIAMIX_STATUS_OK, or MIAMIX_STATUS_INVALID_ARGUMENT; config is written only on success.
///
/// Threads: no other thread may use config meanwhile.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn miamix_config_init(config: *mut miamix_config, struct_size: usize) -> Status {
    boundary(|| {
        check_pointer(config, "config")?;
        check_size(struct_size as u64)?;
        let defaults = miamix_config { struct_size: struct_size as u64, ..Config::default().into() };
        let n_known = struct_size.min(size_of::<miamix_config>());
        // SAFETY: the caller's struct has `struct_size` bytes, of which a newer header's are beyond ours.
        unsafe {
            config.cast::<u8>().write_bytes(0, struct_size);
            config.cast::<u8>().copy_from_nonoverlapping((&raw const defaults).cast(), n_known);
        }
        Ok(())
    })
}

/// Reads the caller's struct, of this version or another; NULL gives the defaults.
///
/// # Safety
/// `config` is NULL, misaligned, or points to as many bytes as its first field says.
pub(super) unsafe fn read(config: *const miamix_config) -> Result<(Config, usize)> {
    let mut known: miamix_config = Config::default().into();
    if !config.is_null() {
        check_pointer(config, "config")?;
        // SAFETY: every version begins with the size.
        let struct_size = check_size(*unsafe { borrow(config.cast::<u64>(), "config") }?)?;
        let n_known = struct_size.min(size_of::<miamix_config>());
        // SAFETY: both have `n_known` bytes, and any bits are numbers. Fields beyond an older struct stay defaults.
        unsafe { (&raw mut known).cast::<u8>().copy_from_nonoverlapping(config.cast(), n_known) };
        // SAFETY: the caller's struct has `struct_size` bytes.
        let newer = unsafe { std::slice::from_raw_parts(config.cast::<u8>().add(n_known), struct_size - n_known) };
        if let Some(at) = newer.iter().position(|&byte| byte != 0) {
            return Err(Error::Unsupported(format!(
                "config: must be 0 beyond the {} bytes that this library knows, got a parameter at byte {}",
                size_of::<miamix_config>(),
                n_known + at,
            ))
            .into());
        }
    }
    Ok((Config::try_from(&known)?, known.n_threads as usize))
}

fn check_size(struct_size: u64) -> Result<usize> {
    let size = usize::try_from(struct_size).unwrap_or(usize::MAX);
    if !(CONFIG_SIZE_V1..=CONFIG_SIZE_MAX).contains(&size) {
        let rule = format!("must be sizeof(miamix_config), which is in {CONFIG_SIZE_V1}..={CONFIG_SIZE_MAX}");
        return Err(Error::invalid("struct_size", rule, struct_size).into());
    }
    Ok(size)
}

impl From<Config> for miamix_config {
    fn from(config: Config) -> Self {
        // Every field is named, so that none is forgotten.
        let Config {
            alpha,
            k_min,
            k_max,
            method_weights,
            p_apply,
            p_self,
            p_aug,
            p_smooth,
            merge,
            label_weight,
            lambda_reading,
            gaussian_sigma,
            pairing,
            cutmix_box,
            grid_range,
            decay_power,
            rotate_max_rad,
            shear_max,
            smooth_range_px,
            p_flip,
            pad_px,
            label_smoothing,
        } = config;
        miamix_config {
            struct_size: size_of::<miamix_config>() as u64,
            alpha,
            k_min,
            k_max,
            method_weights: method_weights.to_array(),
            p_apply,
            p_self,
            p_aug,
            p_smooth,
            merge: merge as u32,
            label_weight: label_weight as u32,
            lambda_reading: lambda_reading as u32,
            gaussian_sigma: gaussian_sigma as u32,
            pairing: pairing as u32,
            cutmix_box: cutmix_box as u32,
            grid_range,
            decay_power,
            rotate_max_rad,
            shear_max,
            smooth_range_px,
            p_flip,
            pad_px,
            label_smoothing,
            n_threads: 0,
        }
    }
}

impl TryFrom<&miamix_config> for Config {
    type Error = Error;

    fn try_from(config: &miamix_config) -> Result<Self, Error> {
        Ok(Config {
            alpha: config.alpha,
            k_min: config.k_min,
            k_max: config.k_max,
            method_weights: config.method_weights.into(),
            p_apply: config.p_apply,
            p_self: config.p_self,
            p_aug: config.p_aug,
            p_smooth: config.p_smooth,
            merge: switch("merge", config.merge, Merge::ALL)?,
            label_weight: switch("label_weight", config.label_weight, LabelWeight::ALL)?,
            lambda_reading: switch("lambda_reading", config.lambda_reading, LambdaReading::ALL)?,
            gaussian_sigma: switch("gaussian_sigma", config.gaussian_sigma, GaussianSigma::ALL)?,
            pairing: switch("pairing", config.pairing, Pairing::ALL)?,
            cutmix_box: switch("cutmix_box", config.cutmix_box, CutmixBox::ALL)?,
            grid_range: config.grid_range,
            decay_power: config.decay_power,
            rotate_max_rad: config.rotate_max_rad,
            shear_max: config.shear_max,
            smooth_range_px: config.smooth_range_px,
            p_flip: config.p_flip,
            pad_px: config.pad_px,
            label_smoothing: config.label_smoothing,
        })
    }
}

fn switch<T: Copy + Display>(name: &str, number: u32, all: &[T]) -> Result<T, Error> {
    all.get(number as usize).copied().ok_or_else(|| {
        let numbers: Vec<_> = all.iter().enumerate().map(|(i, value)| format!("{i} ({value})")).collect();
        Error::invalid(name, format!("must be {}", numbers.join(" or ")), number)
    })
}
