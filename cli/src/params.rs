//! The operator's parameters on the command line: a JSON file, and a flag for each that overrides it.

use anyhow::{Context, Result};
use clap::builder::{PossibleValuesParser, TypedValueParser};
use miamix::{
    Config, CutmixBox, Error, GaussianSigma, LabelWeight, LambdaReading, Merge, Method, MethodWeights, Pairing,
};
use std::path::{Path, PathBuf};

const HEADING: &str = "Parameters of the operator";

/// A parser of the names of one of the library's switches.
macro_rules! names {
    ($switch:ty) => {
        PossibleValuesParser::new(<$switch>::ALL.iter().map(|value| value.name()))
            .try_map(|name| <$switch>::from_name(stringify!($switch), &name))
    };
}

/// The operator's parameters.
#[derive(Clone, Debug, clap::Args)]
#[command(next_help_heading = HEADING)]
pub struct ConfigArgs {
    /// JSON file with parameters by name, as {"alpha": 0.5, "method_weights": {"cutmix": 1}}; flags override it
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Dirichlet parameter
    #[arg(long, value_name = "X")]
    alpha: Option<f32>,
    /// Fewest layers
    #[arg(long, value_name = "N")]
    k_min: Option<u32>,
    /// Most layers, up to 8
    #[arg(long, value_name = "N")]
    k_max: Option<u32>,
    /// Methods and their odds, as cutmix,fmix or mixup=2,cutmix; others are not used
    #[arg(long, value_name = "LIST", value_parser = parse_methods)]
    methods: Option<MethodWeights>,
    /// Probability that a sample is mixed at all
    #[arg(long, value_name = "P")]
    p_apply: Option<f32>,
    /// Probability that a sample is mixed with itself
    #[arg(long, value_name = "P")]
    p_self: Option<f32>,
    /// Probability that a layer's mask is rotated and sheared
    #[arg(long, value_name = "P")]
    p_aug: Option<f32>,
    /// Probability that a layer's mask is smoothed
    #[arg(long, value_name = "P")]
    p_smooth: Option<f32>,
    /// How masks are merged
    #[arg(long, value_name = "NAME", value_parser = names!(Merge))]
    merge: Option<Merge>,
    /// Whether labels follow the merged mask or the drawn ratios
    #[arg(long, value_name = "NAME", value_parser = names!(LabelWeight))]
    label_weight: Option<LabelWeight>,
    /// Whether a ratio goes to the partner or is kept
    #[arg(long, value_name = "NAME", value_parser = names!(LambdaReading))]
    lambda_reading: Option<LambdaReading>,
    /// How wide Gaussians are
    #[arg(long, value_name = "NAME", value_parser = names!(GaussianSigma))]
    gaussian_sigma: Option<GaussianSigma>,
    /// How partners are found
    #[arg(long, value_name = "NAME", value_parser = names!(Pairing))]
    pairing: Option<Pairing>,
    /// Whether the box of cutmix may reach outside the image
    #[arg(long, value_name = "NAME", value_parser = names!(CutmixBox))]
    cutmix_box: Option<CutmixBox>,
    /// Fewest and most cells a side of gridmix
    #[arg(long, value_names = ["LO", "HI"], num_args = 2)]
    grid_range: Option<Vec<u32>>,
    /// Decay of the spectrum of fmix
    #[arg(long, value_name = "X")]
    decay_power: Option<f32>,
    /// Largest rotation of a mask, radians
    #[arg(long, value_name = "X")]
    rotate_max_rad: Option<f32>,
    /// Largest shear of a mask
    #[arg(long, value_name = "X")]
    shear_max: Option<f32>,
    /// Narrowest and widest smoothing window, pixels
    #[arg(long, value_names = ["LO", "HI"], num_args = 2)]
    smooth_range_px: Option<Vec<u32>>,
    /// Second view: probability of a horizontal flip
    #[arg(long, value_name = "P")]
    p_flip: Option<f32>,
    /// Second view: largest shift, pixels
    #[arg(long, value_name = "N")]
    pad_px: Option<u32>,
    /// Smoothing of class labels
    #[arg(long, value_name = "X")]
    label_smoothing: Option<f32>,
}

impl ConfigArgs {
    /// The parameters, checked once, when the flags have overridden those of the file.
    ///
    /// # Errors
    /// [`miamix::Error`] for a file that is no configuration, and for the first parameter outside its range.
    pub fn read(&self) -> Result<Config> {
        let mut config = self.config.as_deref().map_or_else(|| Ok(Config::default()), read_file)?;
        macro_rules! set {
            ($($name:ident),+) => { $(if let Some(value) = self.$name { config.$name = value; })+ };
        }
        set!(alpha, k_min, k_max, p_apply, p_self, p_aug, p_smooth, merge, label_weight, lambda_reading);
        set!(gaussian_sigma, pairing, cutmix_box, decay_power, rotate_max_rad, shear_max, p_flip, pad_px);
        set!(label_smoothing);
        if let Some(weights) = self.methods {
            config.method_weights = weights;
        }
        // Two values each, as num_args says.
        if let Some(&[lo, hi]) = self.grid_range.as_deref() {
            config.grid_range = [lo, hi];
        }
        if let Some(&[lo, hi]) = self.smooth_range_px.as_deref() {
            config.smooth_range_px = [lo, hi];
        }
        match (config.validate(), &self.config) {
            (Ok(()), _) => Ok(config),
            (Err(error), None) => Err(error.into()),
            // The parameter may be the file's, or clash with one of the file's.
            (Err(error), Some(path)) => Err(error).context(path.display().to_string()),
        }
    }
}

/// The parameters of a file, not yet checked: a flag may put right what is wrong in it.
fn read_file(path: &Path) -> Result<Config> {
    let name = path.display().to_string();
    let text = std::fs::read_to_string(path).with_context(|| format!("{name}: cannot read"))?;
    let invalid = |at: String, message: String| Error::Json { what: "config", at, message };
    let mut reader = serde_json::Deserializer::from_str(&text);
    let config = serde_path_to_error::deserialize(&mut reader).map_err(|error| {
        let at = error.path().to_string();
        invalid(if at == "." { "text".into() } else { at }, error.inner().to_string())
    });
    let ended = |config| reader.end().map(|()| config).map_err(|error| invalid("text".into(), error.to_string()));
    config.and_then(ended).context(name)
}

/// Adds the library's defaults to the help of the parameters' flags.
pub fn with_defaults(command: clap::Command) -> clap::Command {
    let defaults = serde_json::to_value(Config::default()).expect("a configuration is JSON");
    command.mut_subcommands(|subcommand| {
        subcommand.allow_negative_numbers(true).mut_args(|arg| {
            let key = if arg.get_id() == "methods" { "method_weights" } else { arg.get_id().as_str() };
            let default = match defaults.get(key).filter(|_| arg.get_help_heading() == Some(HEADING)) {
                None => return arg,
                Some(default) => default,
            };
            let shown = match default {
                serde_json::Value::String(name) => name.clone(),
                serde_json::Value::Array(range) => format!("{} {}", range[0], range[1]),
                serde_json::Value::Object(_) => Method::ALL
                    .into_iter()
                    .zip(MethodWeights::default().to_array())
                    .filter(|&(_, weight)| weight > 0.0)
                    .map(|(method, weight)| format!("{}={weight}", method.name()))
                    .collect::<Vec<_>>()
                    .join(","),
                // As the f32 that it is.
                number => number.as_f64().map_or_else(String::new, |x| (x as f32).to_string()),
            };
            let help = arg.get_help().map(|help| format!("{help} [default: {shown}]")).unwrap_or_default();
            arg.help(help)
        })
    })
}

/// Reads `cutmix,fmix` or `mixup=2,cutmix`.
fn parse_methods(text: &str) -> Result<MethodWeights, String> {
    let mut weights = [None; 6];
    for item in text.split(',') {
        let (name, weight) = item.trim().split_once('=').unwrap_or((item.trim(), "1"));
        let method = Method::ALL
            .into_iter()
            .find(|method| method.name() == name)
            .ok_or_else(|| format!("no method {name:?}; there are {}", Method::ALL.map(Method::name).join(", ")))?;
        let weight: f32 = weight.parse().map_err(|_| format!("{name}: no number: {weight:?}"))?;
        if weights[method as usize].replace(weight).is_some() {
            return Err(format!("{name}: named twice"));
        }
    }
    Ok(weights.map(Option::unwrap_or_default).into())
}

/// Reads a seed: 64 bits, written with or without a sign.
pub fn parse_seed(text: &str) -> Result<u64, String> {
    text.parse::<u64>()
        .or_else(|_| text.parse::<i64>().map(|seed| seed as u64))
        .map_err(|_| "must be an integer from -2^63 to 2^64 - 1".into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::{Args, FromArgMatches};

    fn read(flags: &[&str]) -> Result<Config> {
        let command = ConfigArgs::augment_args(clap::Command::new("test").no_binary_name(true));
        ConfigArgs::from_arg_matches(&command.try_get_matches_from(flags)?)?.read()
    }

    #[test]
    fn each_flag_sets_its_parameter() {
        assert_eq!(read(&[]).unwrap(), Config::default());
        let flags = "--alpha 0.5 --k-min 2 --k-max 3 --methods mixup=0.5,gmix --p-apply 0.9 --p-self 0.2 --p-aug 0.3 \
                     --p-smooth 0.4 --merge sum --label-weight drawn --lambda-reading keep --gaussian-sigma area \
                     --pairing uniform --cutmix-box inside --grid-range 3 4 --decay-power 2.5 --rotate-max-rad 0.1 \
                     --shear-max 0.7 --smooth-range-px 5 9 --p-flip 0.6 --pad-px 4 --label-smoothing 0.05";
        let expected = Config {
            alpha: 0.5,
            k_min: 2,
            k_max: 3,
            method_weights: [0.5, 0.0, 0.0, 0.0, 0.0, 1.0].into(),
            p_apply: 0.9,
            p_self: 0.2,
            p_aug: 0.3,
            p_smooth: 0.4,
            merge: Merge::Sum,
            label_weight: LabelWeight::Drawn,
            lambda_reading: LambdaReading::Keep,
            gaussian_sigma: GaussianSigma::Area,
            pairing: Pairing::Uniform,
            cutmix_box: CutmixBox::Inside,
            grid_range: [3, 4],
            decay_power: 2.5,
            rotate_max_rad: 0.1,
            shear_max: 0.7,
            smooth_range_px: [5, 9],
            p_flip: 0.6,
            pad_px: 4,
            label_smoothing: 0.05,
        };
        assert_eq!(read(&flags.split_whitespace().collect::<Vec<_>>()).unwrap(), expected);
    }

    #[test]
    fn flags_override_the_file_before_anything_is_checked() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("mix.json");
        let name = path.to_str().unwrap();
        let with = |text: &str, flags: &[&str]| {
            std::fs::write(&path, text).unwrap();
            read(&[&["--config", name], flags].concat()).map_err(|error| format!("{error:#}"))
        };
        // By itself the file is wrong: its k_min is above the default k_max.
        let expected = Config { k_min: 3, k_max: 4, ..Config::default() };
        assert_eq!(with(r#"{"k_min": 3}"#, &["--k-max", "4"]), Ok(expected));
        let expected = Config { alpha: 0.1, ..Config::default() };
        assert_eq!(with(r#"{"alpha": -1}"#, &["--alpha", "0.1"]), Ok(expected));
        for (text, message) in [
            (r#"{"alpha": -1}"#, "alpha: must be finite and greater than 0, got -1"),
            (r#"{"alhpa": 1}"#, "config: alhpa: unknown field `alhpa`"),
            (r#"{"grid_range": [1, "x"]}"#, "config: grid_range[1]: invalid type: string \"x\""),
            (r#"{"alpha": 1} 2"#, "config: text: trailing characters"),
            ("", "config: text: EOF while parsing"),
        ] {
            let error = with(text, &[]).unwrap_err();
            assert!(error.starts_with(&format!("{name}: {message}")), "{error}");
            // What the library says of the same text.
            assert_eq!(error, format!("{name}: {}", Config::from_json(text).unwrap_err()));
        }
    }

    #[test]
    fn every_parameter_has_a_flag() {
        let command = ConfigArgs::augment_args(clap::Command::new("test"));
        let flags: Vec<&str> = command.get_arguments().map(|arg| arg.get_id().as_str()).collect();
        let defaults = serde_json::to_value(Config::default()).unwrap();
        for name in defaults.as_object().unwrap().keys() {
            let flag = if name == "method_weights" { "methods" } else { name };
            assert!(flags.contains(&flag), "{name}");
        }
    }

    #[test]
    fn seeds_are_64_bits_with_or_without_a_sign() {
        assert_eq!(parse_seed("18446744073709551615"), Ok(u64::MAX));
        assert_eq!(parse_seed("-1"), Ok(u64::MAX));
        assert!(parse_seed("18446744073709551616").is_err());
    }

    #[test]
    fn methods_that_do_not_exist_are_named() {
        assert_eq!(
            parse_methods("cutmix,snapmix").unwrap_err(),
            "no method \"snapmix\"; there are mixup, cutmix, fmix, gridmix, agmix, gmix"
        );
        assert_eq!(parse_methods("fmix=two").unwrap_err(), "fmix: no number: \"two\"");
        assert_eq!(parse_methods("fmix,cutmix=2,fmix=0").unwrap_err(), "fmix: named twice");
    }
}
