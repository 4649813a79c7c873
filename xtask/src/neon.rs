//! The core's tests on 64-bit ARM, in an emulator: what its NEON level computes.
//!
//! Compiler, linker and emulator are Debian's.

use crate::command;
use crate::debian::Packages;
use crate::workspace::Workspace;
use anyhow::Result;

const TARGET: &str = "aarch64-unknown-linux-gnu";
const PACKAGES: Packages<'_> = Packages {
    list: "xtask/neon-packages.sha256",
    folder: "neon",
    size: "220 MB",
    release: None,
    architectures: &["arm64"],
};
/// The tests of what an instruction set may change.
const TESTS: [&str; 9] =
    ["backward", "distributions", "edges", "levels", "misuse", "mixing", "out_of_memory", "reproducible", "vectors"];
/// 200 000 cases each of a function that is the same everywhere: they take an emulator minutes.
const SKIPPED: &str = "the_portable_fma";

pub fn test(workspace: &Workspace) -> Result<()> {
    let root = PACKAGES.unpacked(workspace)?;
    let usr = root.join("usr");
    let program = |name: &str| usr.join("bin").join(name);
    let sysroot = format!("--sysroot={}", root.display());
    let emulator =
        format!("{} -L {}", program("qemu-aarch64-static").display(), usr.join("aarch64-linux-gnu").display());
    let mut test = workspace.cargo();
    test.env("RUSTC", program("rustc"))
        .env("LD_LIBRARY_PATH", usr.join("lib/x86_64-linux-gnu"))
        .env("CARGO_TARGET_DIR", workspace.target.join("neon/target"))
        .env("CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_LINKER", program("aarch64-linux-gnu-gcc-12"))
        .env("CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_RUSTFLAGS", format!("-Clink-arg={sysroot}"))
        .env("CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_RUNNER", emulator)
        .env("CC_aarch64_unknown_linux_gnu", program("aarch64-linux-gnu-gcc-12"))
        .env("AR_aarch64_unknown_linux_gnu", program("aarch64-linux-gnu-ar"))
        .env("CFLAGS_aarch64_unknown_linux_gnu", sysroot);
    test.args(["test", "--locked", "--no-fail-fast", "--target", TARGET, "-p", "miamix", "--lib"]);
    test.args(TESTS.iter().flat_map(|name| ["--test", name]));
    // Any batch takes an emulator ten times as long; compiling is done sooner with less optimisation.
    test.env("PROPTEST_CASES", "10");
    test.args(["--config", "profile.test.opt-level=1", "--config", "profile.test.debug=false"]);
    command::run(test.args(["--", "--skip", SKIPPED]))
}
