//! What the program says about itself.

use crate::common::{failure, output};

#[test]
fn version_and_help() {
    let dir = tempfile::tempdir().unwrap();
    assert_eq!(output(dir.path(), &["--version"]), format!("miamix {}\n", env!("CARGO_PKG_VERSION")));
    let help = output(dir.path(), &["--help"]);
    for word in ["mix", "masks", "model", "bench", "Examples:", "Exit status:"] {
        assert!(help.contains(word), "{word}: {help}");
    }
    for command in ["mix", "masks", "model", "bench"] {
        let help = output(dir.path(), &[command, "--help"]);
        assert!(help.contains("Examples:\n  miamix"), "{command}: {help}");
    }
    let (status, _) = failure(dir.path(), &["mxi"]);
    assert_eq!(status, 2);
}

/// Defaults are the library's, not a copy of them.
#[test]
fn help_shows_the_defaults_of_the_parameters() {
    let dir = tempfile::tempdir().unwrap();
    let help = output(dir.path(), &["mix", "--help"]).split_whitespace().collect::<Vec<_>>().join(" ");
    for text in [
        "Dirichlet parameter [default: 1]",
        "[default: mixup=2,cutmix=1,fmix=1,gridmix=1,agmix=1]",
        "How masks are merged [default: product] [possible values: product, sum]",
        "Narrowest and widest smoothing window, pixels [default: 3 7]",
        "Probability that a sample is mixed with itself [default: 0.1]",
    ] {
        assert!(help.contains(text), "{text}: {help}");
    }
}
