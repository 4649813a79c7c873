//! C and C++ programs meet the library as a user's do: compiled against `include/miamix.h`, linked to the built library.

use std::collections::BTreeSet;
use std::env;
use std::ffi::OsStr;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::{LazyLock, Mutex};

const WARNINGS: [&str; 6] = ["-Wall", "-Wextra", "-Wpedantic", "-Wconversion", "-Wshadow", "-Werror"];

/// Those that C++ written for C++ meets as well.
const CPP_WARNINGS: [&str; 2] = ["-Wsign-conversion", "-Wold-style-cast"];

/// What a static library leaves to its user.
const STATIC_NEEDS: [&str; 7] = ["-lgcc_s", "-lutil", "-lrt", "-lpthread", "-lm", "-ldl", "-lc"];

/// A folder with `libmiamix.so`, the name it is loaded by, and `libmiamix.a`.
static LIBRARY: LazyLock<PathBuf> = LazyLock::new(|| library("lib", &[]));

/// The same of a library in which calls panic when they are told to.
static PANICKING: LazyLock<PathBuf> = LazyLock::new(|| library("lib-test-panic", &["test-panic"]));

/// Builds the library with the features of this build and `further` ones: Cargo builds no cdylib for integration
/// tests, so it is asked to.
fn library(name: &str, further: &[&str]) -> PathBuf {
    /// Builds with other features leave their files under the same names.
    static ONE_AFTER_THE_OTHER: Mutex<()> = Mutex::new(());
    let _guard = ONE_AFTER_THE_OTHER.lock();
    let profile = if cfg!(debug_assertions) { "test" } else { "release" };
    let mut cargo = Command::new(env!("CARGO"));
    cargo.args(["build", "--package", "miamix-c", "--profile", profile, "--message-format=json"]);
    let features = [("ort", cfg!(feature = "ort")), ("cuda", cfg!(feature = "cuda"))];
    let features = features.iter().filter(|(_, on)| *on).map(|(name, _)| name).chain(further);
    cargo.arg("--no-default-features").args(features.flat_map(|name| ["--features", name]));
    let built = run(cargo.current_dir(env!("CARGO_MANIFEST_DIR")));
    let files: Vec<PathBuf> = String::from_utf8(built.stdout)
        .unwrap()
        .lines()
        .filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok())
        .filter(|message| message["reason"] == "compiler-artifact" && message["target"]["name"] == "miamix")
        .filter(|message| message["target"]["kind"].as_array().unwrap().contains(&"cdylib".into()))
        .flat_map(|message| serde_json::from_value::<Vec<PathBuf>>(message["filenames"].clone()).unwrap())
        .collect();
    assert!(!files.is_empty(), "cargo built no library");
    let folder = work(name);
    for file in files {
        let name = file.file_name().unwrap().to_owned();
        fs::copy(&file, folder.join(&name)).unwrap();
        if name == "libmiamix.so" {
            let soname = format!("libmiamix.so.{}", env!("CARGO_PKG_VERSION_MAJOR"));
            fs::copy(&file, folder.join(soname)).unwrap();
        }
    }
    folder
}

/// A folder for what tests make.
fn work(name: &str) -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    fs::create_dir_all(&folder).unwrap();
    folder
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// Runs a command that must succeed.
fn run(command: &mut Command) -> Output {
    let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert!(
        output.status.success(),
        "{command:?}: {}\n{}{}",
        output.status,
        text(&output.stdout),
        text(&output.stderr)
    );
    output
}

/// The compiler that a variable names, which may have arguments, or else the system's.
fn compiler(variable: &str, default: &str) -> Command {
    let value = env::var(variable).unwrap_or_default();
    let mut words = value.split_whitespace();
    let mut command = Command::new(words.next().unwrap_or(default));
    command.args(words);
    command
}

/// Says that a part of the tests cannot run here; where CI=true is set, that is a failure.
fn not_run(note: &str) {
    assert!(env::var_os("CI").is_none_or(|value| value != "true"), "CI=true, but {note}");
    // Not by `eprintln!`, which the test harness keeps to itself.
    std::io::stderr().write_all(format!("\nNOT RUN: {note}\n\n").as_bytes()).unwrap();
}

/// A compiler for `standard`, if there is one: without a C++ compiler C++ is left out, and the test says so.
fn compiler_for(standard: &str) -> Option<Command> {
    let is_cpp = standard.starts_with("c++");
    let (variable, default) = if is_cpp { ("CXX", "c++") } else { ("CC", "cc") };
    if is_cpp && compiler(variable, default).arg("--version").output().is_err() {
        not_run(&format!("{standard}: there is no C++ compiler; CXX may name one"));
        return None;
    }
    let mut command = compiler(variable, default);
    command.args(WARNINGS).arg(format!("-std={standard}")).arg("-I").arg(root().join("include"));
    // C sources are compiled as both.
    command.args(["-x", if is_cpp { "c++" } else { "c" }]);
    Some(command)
}

/// What the test programs are compiled with beside the warnings.
const DEFINE_VERSION: &str = concat!("-DEXPECTED_VERSION=\"", env!("CARGO_PKG_VERSION"), "\"");

/// Compiles a source and throws the result away.
fn compile(command: &mut Command, source: &Path) {
    let name = source.file_name().and_then(OsStr::to_str).unwrap();
    run(command.arg("-c").arg(source).arg("-o").arg(work("programs").join(format!("{name}.o"))));
}

/// Compiles sources, links them to the library in a folder one way or the other, and runs the program; what it prints.
fn run_program(sources: &[PathBuf], standard: &str, library: &Path, link_static: bool) -> Option<String> {
    let name = sources[0].file_stem().and_then(OsStr::to_str).unwrap();
    let program = work("programs").join(format!("{name}-{standard}-{}", if link_static { "static" } else { "shared" }));
    let mut command = compiler_for(standard)?;
    command.arg(DEFINE_VERSION).args(sources).args(["-x", "none", "-o"]).arg(&program);
    if link_static {
        command.arg(library.join("libmiamix.a")).args(STATIC_NEEDS);
    } else {
        command.arg("-L").arg(library).args(["-lmiamix", "-lm", "-ldl", "-lpthread"]);
        command.arg(format!("-Wl,-rpath,{}", library.display()));
    }
    run(&mut command);
    Some(String::from_utf8(run(&mut Command::new(program)).stdout).unwrap())
}

/// The C++ face against the C one: two translation units.
fn wrapper() -> [PathBuf; 2] {
    ["wrapper.cpp", "elsewhere.cpp"].map(|name| Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/cpp").join(name))
}

#[test]
fn the_headers_are_clean_in_every_standard() {
    let source = work("programs").join("header.c");
    fs::write(&source, "#include \"miamix.h\"\nint header_is_not_empty(void);\n").unwrap();
    for standard in ["c99", "c11", "c17", "c2x", "c++11", "c++14", "c++17", "c++20"] {
        if let Some(mut command) = compiler_for(standard) {
            compile(&mut command, &source);
        }
    }
    // Alone, and with its templates in use.
    let source = work("programs").join("header.cpp");
    fs::write(&source, "#include \"miamix.hpp\"\nint header_is_not_empty();\n").unwrap();
    for standard in ["c++17", "c++20", "c++2b"] {
        for source in [&source, &wrapper()[0]] {
            if let Some(mut command) = compiler_for(standard) {
                compile(command.args(CPP_WARNINGS).arg(DEFINE_VERSION), source);
            }
        }
    }
}

#[test]
fn programs_of_every_kind_meet_the_library() {
    for (standard, link_static) in
        [("c99", false), ("c11", false), ("c17", false), ("c++17", false), ("c17", true), ("c++17", true)]
    {
        run_program(&[program("abi.c")], standard, &LIBRARY, link_static);
    }
    for (standard, link_static) in [("c++17", false), ("c++20", false), ("c++17", true)] {
        run_program(&wrapper(), standard, &LIBRARY, link_static);
    }
}

/// A source of `tests/c`.
fn program(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/c").join(name)
}

/// Those of CUDA where `libcuda.so.1` is the stand-in driver; `cargo xtask test --only CUDA` makes it be found.
#[cfg(target_os = "linux")]
#[test]
fn every_status_is_reached_those_of_cuda_on_the_stand_in_driver() {
    let source = fs::read_to_string(program("statuses.c")).unwrap();
    let header = fs::read_to_string(root().join("include/miamix.h")).unwrap();
    let code = without_comments(&header);
    let answering =
        code.split("miamix_status miamix_").skip(1).filter_map(|rest| rest.split_once('(')).map(|(name, _)| name);
    let functions: Vec<&str> =
        answering.filter(|name| name.chars().all(|c| c == '_' || c.is_ascii_alphanumeric())).collect();
    assert!(functions.len() > 10, "{functions:?}");
    for name in functions {
        assert!(source.contains(&format!("miamix_{name}(")), "statuses.c lacks miamix_{name}()");
    }
    let printed = run_program(&[program("statuses.c")], "c11", &PANICKING, false).unwrap();
    if printed == "reached 0 1 2 3 4 5 6 9\n" {
        assert!(env::var_os("MIAMIX_REQUIRE_CUDA").is_none(), "the stand-in driver is not found");
        // Not `not_run`: where it must not be left out it is required, as above.
        std::io::stderr()
            .write_all(b"\nNOT RUN: the statuses of CUDA; cargo xtask test --only CUDA reaches them\n\n")
            .unwrap();
        return;
    }
    assert_eq!(printed, "reached 0 1 2 3 4 5 6 7 8 9\n");
}

#[cfg(unix)]
#[test]
fn a_child_forked_at_any_moment_mixes() {
    let printed = run_program(&[program("forks.c")], "c11", &LIBRARY, false).unwrap();
    assert_eq!(printed, "made in a child: 1 thread\n1000 forks, 0 failed\n");
}

#[test]
fn the_examples_run() {
    for (source, standard) in [("examples/c/mix_batch.c", "c99"), ("examples/cpp/mix_batch.cpp", "c++17")] {
        let Some(printed) = run_program(&[root().join(source)], standard, &LIBRARY, false) else { continue };
        let sums: Vec<f32> =
            printed.lines().map(|row| row.split_whitespace().map(|n| n.parse::<f32>().unwrap()).sum()).collect();
        // Two numbers of two digits each: they miss 1 by 0.01 at most.
        assert!(sums.len() == 8 && sums.iter().all(|sum| (sum - 1.0).abs() < 0.0101), "{source}: {printed}");
    }
}

#[test]
fn the_snippets_of_the_readme_compile() {
    // What a snippet takes for granted. A function comes twice, as a definition alone would lack a prototype in C.
    let tensors = "extern miamix_tensor images, partner_images, labels;\n\
                   extern miamix_tensor mixed_images, mixed_labels, label_weight;\n";
    let buffers = "extern std::vector<float> images, mixed_images, mixed_labels;\n\
                   extern std::vector<std::int64_t> class_ids;\n";
    let function = "extern uint64_t seed, first_sample;\nvoid snippet(void);\nvoid snippet(void) {\n";
    let c = format!("#include <stdio.h>\n#include \"miamix.h\"\n{tensors}{function}");
    let cpp = format!("#include \"miamix.hpp\"\n{buffers}{function}");
    let readme = fs::read_to_string(root().join("README.md")).unwrap();
    for (language, before, standards) in [("c", c, ["c99", "c++17"]), ("cpp", cpp, ["c++17", "c++20"])] {
        let fence = format!("```{language}\n");
        let snippets: Vec<&str> =
            readme.split(&fence).skip(1).map(|rest| rest.split_once("```").expect("a fence ends").0).collect();
        assert!(!snippets.is_empty(), "README.md shows no {language}");
        for (i, snippet) in snippets.iter().enumerate() {
            let source = work("programs").join(format!("readme-{i}.{language}"));
            fs::write(&source, format!("{before}{snippet}}}\n")).unwrap();
            for standard in standards {
                if let Some(mut command) = compiler_for(standard) {
                    compile(&mut command, &source);
                }
            }
        }
    }
}

/// The library that `MIAMIX_LIBRARY` names, a release build for instance, or the one of these tests.
fn shared_library() -> PathBuf {
    env::var_os("MIAMIX_LIBRARY").map_or_else(|| LIBRARY.join("libmiamix.so"), PathBuf::from)
}

#[cfg(target_os = "linux")]
#[test]
fn the_library_needs_the_c_library_and_the_unwinder_alone() {
    let Ok(output) = Command::new("readelf").args(["-d", "--wide"]).arg(shared_library()).output() else {
        not_run("there is no readelf to list what the library needs with");
        return;
    };
    let text = String::from_utf8(output.stdout).unwrap();
    let names = |kind: &str| -> BTreeSet<String> {
        let lines = text.lines().filter(|line| line.contains(kind));
        lines.filter_map(|line| Some(line.split_once('[')?.1.split_once(']')?.0.to_owned())).collect()
    };
    let needed = names("(NEEDED)");
    assert!(needed.contains("libc.so.6"), "{needed:?}");
    let known = ["libc.so.6", "libm.so.6", "libgcc_s.so.1"];
    // The loader, which has the thread-local storage, is there before any library is.
    let others: Vec<_> =
        needed.iter().filter(|name| !known.contains(&name.as_str()) && !name.starts_with("ld-linux")).collect();
    assert!(others.is_empty(), "{others:?}");
    assert_eq!(names("(SONAME)"), BTreeSet::from([format!("libmiamix.so.{}", env!("CARGO_PKG_VERSION_MAJOR"))]));
    assert!(text.contains("NODELETE"), "{text}");
}

#[test]
fn the_library_exports_its_interface_alone() {
    let library = shared_library();
    let Ok(output) = Command::new("nm").args(["-D", "--defined-only"]).arg(&library).output() else {
        not_run("there is no nm to list the exports of the library with");
        return;
    };
    assert!(output.status.success(), "nm: {}", String::from_utf8_lossy(&output.stderr));
    let symbols = String::from_utf8(output.stdout).unwrap();
    let exported: BTreeSet<&str> = symbols.lines().filter_map(|line| line.split_whitespace().last()).collect();
    let header = fs::read_to_string(root().join("include/miamix.h")).unwrap();
    let code = without_comments(&header);
    let mut expected = functions(&code);
    assert!(expected.contains("miamix_apply"), "{expected:?}");
    if cfg!(feature = "ort") {
        expected.insert("RegisterCustomOps");
    }
    assert_eq!(exported, expected);
}

fn without_comments(source: &str) -> String {
    let mut pieces = source.split("/*");
    let first = pieces.next().unwrap_or_default().to_owned();
    pieces.fold(first, |code, piece| code + piece.split_once("*/").expect("a comment ends").1)
}

/// The names of the library that an opening parenthesis follows.
fn functions(code: &str) -> BTreeSet<&str> {
    let names = code.split('(').map(|before| {
        let start = before.rfind(|c: char| !c.is_ascii_alphanumeric() && c != '_').map_or(0, |at| at + 1);
        &before[start..]
    });
    names.filter(|name| name.starts_with("miamix_")).collect()
}
