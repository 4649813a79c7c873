//! Running the program.

use assert_cmd::Command;
use std::path::Path;

/// The program, to be run in `dir`.
pub fn miamix(dir: &Path, args: &[&str]) -> Command {
    let mut command = assert_cmd::cargo_bin_cmd!("miamix");
    command.current_dir(dir).args(args);
    command
}

/// Standard output of a run that succeeds.
pub fn output(dir: &Path, args: &[&str]) -> String {
    let output = miamix(dir, args).assert().success().get_output().stdout.clone();
    String::from_utf8(output).unwrap()
}

/// Runs what is to fail: its exit status, and what it says.
pub fn failure(dir: &Path, args: &[&str]) -> (i32, String) {
    let output = miamix(dir, args).assert().failure().get_output().clone();
    (output.status.code().unwrap(), String::from_utf8(output.stderr).unwrap())
}
