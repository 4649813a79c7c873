//! The parameters of the operator: Table 1 of the paper, and a switch for each thing it leaves open.

use crate::error::{Error, Result};
use crate::float_mode::DefaultFloatMode;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::hint::black_box;

/// Most layers a sample can have.
pub const MAX_LAYERS: usize = 8;
/// Largest grid of GridMix, in cells a side.
pub const MAX_GRID: u32 = 16;
/// Widest smoothing window, in pixels. Its area, 225, fits a byte.
pub const MAX_SMOOTH_PX: u32 = 15;
/// Largest height and width, in pixels. Pixel coordinates and their halves stay exact in f32.
pub const MAX_SIDE_PX: usize = 32_768;
/// Largest shear of a warp, in either direction.
pub const MAX_SHEAR: f32 = 1000.0;

/// How a layer's mask is made (MiAMix, Sec. 3.2.2).
///
/// The order is that of `method_weights` everywhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Method {
    /// A constant mask.
    MixUp,
    /// A box.
    CutMix,
    /// The level set of low-frequency noise.
    FMix,
    /// Cells of a grid.
    GridMix,
    /// An adaptive Gaussian, rotated and stretched (Eq. 5 and 6).
    AgMix,
    /// A round Gaussian (Eq. 4).
    GMix,
}

impl Method {
    /// Every method, in the order of `method_weights`.
    pub const ALL: [Method; 6] =
        [Method::MixUp, Method::CutMix, Method::FMix, Method::GridMix, Method::AgMix, Method::GMix];

    /// The name in plans, attributes and messages.
    pub fn name(self) -> &'static str {
        match self {
            Method::MixUp => "mixup",
            Method::CutMix => "cutmix",
            Method::FMix => "fmix",
            Method::GridMix => "gridmix",
            Method::AgMix => "agmix",
            Method::GMix => "gmix",
        }
    }

    /// Whether masks of this method are warped and smoothed: those with hard edges are.
    pub fn is_augmented(self) -> bool {
        match self {
            Method::CutMix | Method::FMix | Method::GridMix => true,
            Method::MixUp | Method::AgMix | Method::GMix => false,
        }
    }
}

/// Declares a switch: an enum whose variants have the names that users write.
macro_rules! switch {
    ($(#[$doc:meta])* $name:ident { $($(#[$variant_doc:meta])* $variant:ident = $text:literal),+ $(,)? } default $default:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
        #[repr(u32)]
        pub enum $name { $($(#[$variant_doc])* #[serde(rename = $text)] $variant),+ }

        impl $name {
            /// Every variant, in the order of its number.
            pub const ALL: &'static [$name] = &[$($name::$variant),+];

            /// The name in plans, attributes and messages.
            pub fn name(self) -> &'static str { match self { $($name::$variant => $text),+ } }

            /// The variant of that name.
            ///
            /// # Errors
            /// [`Error::InvalidArgument`] that names `argument` and lists the names.
            pub fn from_name(argument: &str, name: &str) -> Result<Self> {
                Self::ALL.iter().copied().find(|v| v.name() == name).ok_or_else(|| {
                    Error::invalid(argument, concat!("must be one of" $(, " ", $text)+), format_args!("{name:?}"))
                })
            }
        }

        impl Default for $name { fn default() -> Self { $name::$default } }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result { f.write_str(self.name()) }
        }
    };
}

switch! {
    /// How the masks of a sample's layers become one.
    Merge {
        /// The product of the masks (Eq. 10).
        Product = "product",
        /// The sum of the masks, clipped to [0, 1] (Eq. 11).
        Sum = "sum",
    } default Product
}

switch! {
    /// Which weight the primary's label gets.
    LabelWeight {
        /// The mean of the merged mask (Eq. 12).
        Merged = "merged",
        /// What follows from the drawn ratios alone ("orig" in Table 7): Σλ under `sum`, 1 − Σλ under `product`.
        /// Refused with `product` and `keep`.
        Drawn = "drawn",
    } default Merged
}

switch! {
    /// What the ratio λ of a layer is the share of.
    LambdaReading {
        /// λ goes to the partner, so that the primary keeps about 1 − Σλ, as Sec. 3.2.4 says.
        Complement = "complement",
        /// The primary keeps λ.
        Keep = "keep",
    } default Complement
}

switch! {
    /// How wide the Gaussian of a share g is.
    GaussianSigma {
        /// σ² = g·H·W (Eq. 4).
        Paper = "paper",
        /// σ² = g·H·W / 2π, under which the whole area of a round Gaussian is g·H·W.
        Area = "area",
    } default Paper
}

switch! {
    /// How partners are found.
    Pairing {
        /// By a permutation of the batch.
        Permutation = "permutation",
        /// Each uniformly over the batch.
        Uniform = "uniform",
    } default Permutation
}

switch! {
    /// Where CutMix puts its box.
    CutmixBox {
        /// Centre anywhere, the box cut at the border, as published.
        Clipped = "clipped",
        /// The whole box inside the image.
        Inside = "inside",
    } default Clipped
}

/// Relative odds of the methods, in the order of [`Method::ALL`]; at least 0, not all 0.
///
/// As JSON an object such as `{"cutmix": 1}`: a method that is not named has weight 0.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(missing_docs)]
pub struct MethodWeights {
    #[serde(default)]
    pub mixup: f32,
    #[serde(default)]
    pub cutmix: f32,
    #[serde(default)]
    pub fmix: f32,
    #[serde(default)]
    pub gridmix: f32,
    #[serde(default)]
    pub agmix: f32,
    #[serde(default)]
    pub gmix: f32,
}

impl MethodWeights {
    /// All odds on one method.
    pub fn only(method: Method) -> Self {
        let mut weights = [0.0; 6];
        weights[method as usize] = 1.0;
        weights.into()
    }

    /// The weights in the order of [`Method::ALL`].
    pub fn to_array(self) -> [f32; 6] {
        let MethodWeights { mixup, cutmix, fmix, gridmix, agmix, gmix } = self;
        [mixup, cutmix, fmix, gridmix, agmix, gmix]
    }
}

impl From<[f32; 6]> for MethodWeights {
    /// From the order of [`Method::ALL`].
    fn from([mixup, cutmix, fmix, gridmix, agmix, gmix]: [f32; 6]) -> Self {
        MethodWeights { mixup, cutmix, fmix, gridmix, agmix, gmix }
    }
}

impl Default for MethodWeights {
    fn default() -> Self {
        [2.0, 1.0, 1.0, 1.0, 1.0, 0.0].into()
    }
}

/// The parameters of the operator.
///
/// [`Config::default`] is the paper's choice.
/// Every real parameter is an f32, as ONNX attributes are.
/// As JSON an object with the names below; names that are left out have their default.
///
/// ```
/// let config = miamix::Config { alpha: 0.5, k_max: 4, ..Default::default() };
/// assert!(config.validate().is_ok());
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Dirichlet parameter α, greater than 0.
    pub alpha: f32,
    /// Fewest layers, 1 to `k_max`.
    pub k_min: u32,
    /// Most layers, `k_min` to 8. The number is uniform in between.
    pub k_max: u32,
    /// Relative odds of a layer's method.
    pub method_weights: MethodWeights,
    /// Probability that a sample is mixed at all.
    pub p_apply: f32,
    /// Probability that a sample is mixed with itself (its other view).
    pub p_self: f32,
    /// Probability, per layer, that its mask is rotated and sheared.
    pub p_aug: f32,
    /// Probability, per layer, that its mask is smoothed.
    pub p_smooth: f32,
    /// How the masks of a sample's layers become one.
    pub merge: Merge,
    /// Which weight the primary's label gets.
    pub label_weight: LabelWeight,
    /// What a layer's λ is the share of.
    pub lambda_reading: LambdaReading,
    /// Width of the Gaussians.
    pub gaussian_sigma: GaussianSigma,
    /// How partners are found.
    pub pairing: Pairing,
    /// Where CutMix puts its box.
    pub cutmix_box: CutmixBox,
    /// GridMix: fewest and most cells a side, 1 to 16.
    pub grid_range: [u32; 2],
    /// FMix: power of the spectrum's decay, at least 2.
    pub decay_power: f32,
    /// Rotation of a warp, uniform in ± this, radians.
    pub rotate_max_rad: f32,
    /// Horizontal shear of a warp, uniform in ± this, at most 1000.
    pub shear_max: f32,
    /// Smoothing window, uniform over the odd numbers in this range, pixels, 1 to 15.
    pub smooth_range_px: [u32; 2],
    /// Built-in views: probability of a horizontal flip.
    pub p_flip: f32,
    /// Built-in views: shift uniform in ± this after zero padding, pixels.
    pub pad_px: u32,
    /// Label smoothing ε of integer labels, 0 to 1.
    pub label_smoothing: f32,
}

impl Default for Config {
    fn default() -> Self {
        Config {
            alpha: 1.0,
            k_min: 1,
            k_max: 2,
            method_weights: MethodWeights::default(),
            p_apply: 1.0,
            p_self: 0.10,
            p_aug: 0.25,
            p_smooth: 0.5,
            merge: Merge::default(),
            label_weight: LabelWeight::default(),
            lambda_reading: LambdaReading::default(),
            gaussian_sigma: GaussianSigma::default(),
            pairing: Pairing::default(),
            cutmix_box: CutmixBox::default(),
            grid_range: [2, 8],
            decay_power: 3.0,
            rotate_max_rad: std::f32::consts::FRAC_PI_4,
            shear_max: 0.3,
            smooth_range_px: [3, 7],
            p_flip: 0.0,
            pad_px: 0,
            label_smoothing: 0.0,
        }
    }
}

impl Config {
    /// Reads a configuration from JSON.
    ///
    /// # Errors
    /// [`Error::Json`] for text that is no configuration, and those of [`Config::validate`].
    pub fn from_json(json: &str) -> Result<Self> {
        let config: Config = crate::json::parse("config", json)?;
        config.validate()?;
        Ok(config)
    }

    /// The configuration as JSON, every parameter named.
    pub fn to_json(&self) -> String {
        serde_json::to_string(self).expect("a struct of numbers and names serialises")
    }

    /// (1 − ε)·one-hot + ε/K, in f32 and in this order: the labelled class, the others.
    pub(crate) fn one_hot(&self, n_classes: usize) -> [f32; 2] {
        let _mode = DefaultFloatMode::enter();
        // What is never in memory would be free to be computed before the mode is entered, or after it is left.
        let smoothing = black_box(self.label_smoothing);
        if smoothing == 0.0 {
            return [1.0, 0.0];
        }
        let share = smoothing / n_classes as f32;
        black_box([(1.0 - smoothing) + share, share])
    }

    /// Checks every parameter.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] for the first one outside its range.
    pub fn validate(&self) -> Result<()> {
        let _mode = DefaultFloatMode::enter(); // a tiny number is not 0
        let probability =
            |name: &str, p: f32| check((0.0..=1.0).contains(&p), name, "must be a probability in [0, 1]", p);
        check(self.alpha.is_finite() && self.alpha > 0.0, "alpha", "must be finite and greater than 0", self.alpha)?;
        check(self.k_min >= 1, "k_min", "must be at least 1", self.k_min)?;
        check(self.k_max >= self.k_min, "k_max", format!("must be at least k_min = {}", self.k_min), self.k_max)?;
        check(self.k_max <= MAX_LAYERS as u32, "k_max", "must be at most 8", self.k_max)?;
        let weights = self.method_weights.to_array();
        for (method, weight) in Method::ALL.into_iter().zip(weights) {
            let name = format!("method_weights.{}", method.name());
            check(weight.is_finite() && weight >= 0.0, name, "must be finite and at least 0", weight)?;
        }
        check(weights.iter().any(|&w| w > 0.0), "method_weights", "must not all be 0", format!("{weights:?}"))?;
        probability("p_apply", self.p_apply)?;
        probability("p_self", self.p_self)?;
        probability("p_aug", self.p_aug)?;
        probability("p_smooth", self.p_smooth)?;
        check_drawn(self.merge, self.label_weight, self.lambda_reading)?;
        let [lo, hi] = self.grid_range;
        check(
            1 <= lo && lo <= hi && hi <= MAX_GRID,
            "grid_range",
            "must be [lo, hi] with 1 <= lo <= hi <= 16",
            format!("[{lo}, {hi}]"),
        )?;
        check(
            self.decay_power.is_finite() && self.decay_power >= 2.0,
            "decay_power",
            "must be finite and at least 2",
            self.decay_power,
        )?;
        check(
            self.rotate_max_rad.is_finite() && self.rotate_max_rad >= 0.0,
            "rotate_max_rad",
            "must be finite and at least 0",
            self.rotate_max_rad,
        )?;
        check((0.0..=MAX_SHEAR).contains(&self.shear_max), "shear_max", "must be in [0, 1000]", self.shear_max)?;
        let [lo, hi] = self.smooth_range_px;
        check(
            1 <= lo && lo <= hi && hi <= MAX_SMOOTH_PX && (lo | 1) <= hi,
            "smooth_range_px",
            "must be [lo, hi] with 1 <= lo <= hi <= 15 and an odd number in it",
            format!("[{lo}, {hi}]"),
        )?;
        probability("p_flip", self.p_flip)?;
        check(self.pad_px as usize <= MAX_SIDE_PX, "pad_px", "must be at most 32768", self.pad_px)?;
        check((0.0..=1.0).contains(&self.label_smoothing), "label_smoothing", "must be in [0, 1]", self.label_smoothing)
    }
}

fn check(ok: bool, name: impl Into<String>, rule: impl Into<String>, got: impl fmt::Display) -> Result<()> {
    if ok { Ok(()) } else { Err(Error::invalid(name, rule, got)) }
}

/// `drawn` needs ratios that give a weight: under `product` with `keep` they do not.
pub(crate) fn check_drawn(merge: Merge, weight: LabelWeight, reading: LambdaReading) -> Result<()> {
    let undefined = weight == LabelWeight::Drawn && merge == Merge::Product && reading == LambdaReading::Keep;
    check(
        !undefined,
        "label_weight",
        "must be merged where merge is product and lambda_reading is keep (the ratios give no weight)",
        weight,
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_is_valid_and_survives_json() {
        let config = Config::default();
        config.validate().unwrap();
        assert_eq!(Config::from_json(&config.to_json()).unwrap(), config);
        assert_eq!(Config::from_json("{}").unwrap(), config);
    }

    #[test]
    fn each_bad_parameter_is_named_with_rule_and_value() {
        let nan = f32::NAN;
        let base = Config::default;
        let cases: Vec<(Config, &str)> = vec![
            (Config { alpha: -1.0, ..base() }, "alpha: must be finite and greater than 0, got -1"),
            (Config { alpha: nan, ..base() }, "alpha: must be finite and greater than 0, got NaN"),
            (Config { alpha: f32::INFINITY, ..base() }, "alpha: must be finite and greater than 0, got inf"),
            (Config { k_min: 0, ..base() }, "k_min: must be at least 1, got 0"),
            (Config { k_min: 3, ..base() }, "k_max: must be at least k_min = 3, got 2"),
            (Config { k_max: 9, ..base() }, "k_max: must be at most 8, got 9"),
            (
                Config { method_weights: [0.0, -2.0, 0.0, 0.0, 0.0, 0.0].into(), ..base() },
                "method_weights.cutmix: must be finite and at least 0, got -2",
            ),
            (
                Config { method_weights: [0.0; 6].into(), ..base() },
                "method_weights: must not all be 0, got [0.0, 0.0, 0.0, 0.0, 0.0, 0.0]",
            ),
            (Config { p_apply: 1.5, ..base() }, "p_apply: must be a probability in [0, 1], got 1.5"),
            (Config { p_self: -0.5, ..base() }, "p_self: must be a probability in [0, 1], got -0.5"),
            (Config { p_aug: nan, ..base() }, "p_aug: must be a probability in [0, 1], got NaN"),
            (Config { p_smooth: 2.0, ..base() }, "p_smooth: must be a probability in [0, 1], got 2"),
            (
                Config { grid_range: [4, 3], ..base() },
                "grid_range: must be [lo, hi] with 1 <= lo <= hi <= 16, got [4, 3]",
            ),
            (
                Config { grid_range: [2, 17], ..base() },
                "grid_range: must be [lo, hi] with 1 <= lo <= hi <= 16, got [2, 17]",
            ),
            (Config { decay_power: 1.9, ..base() }, "decay_power: must be finite and at least 2, got 1.9"),
            (Config { rotate_max_rad: nan, ..base() }, "rotate_max_rad: must be finite and at least 0, got NaN"),
            (Config { shear_max: -0.1, ..base() }, "shear_max: must be in [0, 1000], got -0.1"),
            (
                Config { smooth_range_px: [4, 4], ..base() },
                "smooth_range_px: must be [lo, hi] with 1 <= lo <= hi <= 15 and an odd number in it, got [4, 4]",
            ),
            (Config { p_flip: 1.01, ..base() }, "p_flip: must be a probability in [0, 1], got 1.01"),
            (Config { pad_px: 40_000, ..base() }, "pad_px: must be at most 32768, got 40000"),
            (Config { label_smoothing: 1.1, ..base() }, "label_smoothing: must be in [0, 1], got 1.1"),
            (
                Config { label_weight: LabelWeight::Drawn, lambda_reading: LambdaReading::Keep, ..base() },
                "label_weight: must be merged where merge is product and lambda_reading is keep \
                 (the ratios give no weight), got drawn",
            ),
        ];
        for (config, message) in cases {
            assert_eq!(config.validate().unwrap_err().to_string(), message);
        }
    }

    #[test]
    fn unknown_names_in_json_are_errors() {
        let error = Config::from_json(r#"{"alhpa": 1}"#).unwrap_err().to_string();
        assert!(error.starts_with("config: alhpa: unknown field `alhpa`"), "{error}");
        let error = Config::from_json(r#"{"merge": "max"}"#).unwrap_err().to_string();
        assert!(error.starts_with("config: merge: unknown variant `max`"), "{error}");
    }
}
