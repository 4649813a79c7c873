//! Memory and threads under instruments: the core compiled with AddressSanitizer and ThreadSanitizer, its tests and the C
//! programs that call it, the CUDA engine's host code on the stand-in driver; the release library under Valgrind. Each
//! instrument first has to find a planted fault.

use crate::command;
use crate::cuda;
use crate::debian::Packages;
use crate::test::Skip;
use crate::workspace::Workspace;
use anyhow::{Context, Result, bail};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

const TARGET: &str = "x86_64-unknown-linux-gnu";
/// Whatever writes rows, reads labels, hands work to threads, or looks at what a caller gave.
const ADDRESS_TESTS: [&str; 6] = ["backward", "edges", "misuse", "mixing", "reproducible", "vectors"];
const THREAD_TESTS: [&str; 3] = ["edges", "mixing", "reproducible"];
/// What a static library leaves to its user.
const NEEDS: [&str; 6] = ["-lgcc_s", "-lutil", "-lrt", "-lpthread", "-lm", "-ldl"];
/// Where the machine has no Valgrind.
const VALGRIND: Packages<'_> = Packages {
    list: "xtask/valgrind-packages.sha256",
    folder: "valgrind",
    size: "22 MB",
    release: None,
    architectures: &[],
};

/// Reads and writes beyond what was given, memory used after it was freed, leaks; undefined behaviour in C.
pub fn address(workspace: &Workspace) -> Result<()> {
    let sanitizer = Sanitizer::new(workspace, "address", "asan")?;
    let found = "AddressSanitizer: heap-buffer-overflow";
    sanitizer.finds("a_write_beyond_the_end", found)?;
    sanitizer.test(&ADDRESS_TESTS)?;

    let library = sanitizer.library()?;
    let compile = |name| sanitizer.program(name, "address,undefined", &library);
    let run = |program: &Path| {
        let mut command = Command::new(program);
        // A limit in place of the machine's memory, all of which is reserved for the sanitizer's use.
        command.env("ASAN_OPTIONS", "allocator_may_return_null=1:max_allocation_size_mb=512");
        command.env("MIAMIX_TEST_NO_RLIMIT", "1").env("UBSAN_OPTIONS", "print_stacktrace=1");
        let suppressions = workspace.root.join("tests/sanitizers/leak.suppressions");
        command.env("LSAN_OPTIONS", format!("suppressions={}:print_suppressions=0", suppressions.display()));
        // The stand-in driver, where it has been built.
        command.env("LD_LIBRARY_PATH", workspace.target.join("cuda/stand-in"));
        // Bugs that are asked for are many.
        command.env("RUST_BACKTRACE", "0");
        command
    };
    let planted = compile("planted")?;
    finds(run(&planted).arg("overflow"), found)?;
    finds(run(&planted).arg("leak"), "LeakSanitizer: detected memory leaks")?;
    command::run(&mut run(&compile("abi")?))?;
    command::run(&mut run(&compile("wrapper")?))?;
    command::run(&mut run(&compile("statuses")?))?;
    command::run(run(&compile("forks")?).arg("100"))
}

/// Memory that two threads use at once.
pub fn thread(workspace: &Workspace) -> Result<()> {
    let mut sanitizer = Sanitizer::new(workspace, "thread", "tsan")?;
    sanitizer.link = std_locks(workspace)?;
    let found = "ThreadSanitizer: data race";
    sanitizer.finds("a_race", found)?;
    sanitizer.test(&THREAD_TESTS)?;
    // Of the CUDA engine's host code; the stand-in driver is not compiled with the sanitizer.
    let mut on_cuda = sanitizer.cargo_test(&["cuda"]);
    cuda::find_stand_in(workspace, &mut on_cuda)?;
    let ran = command::capture(on_cuda.args(["--", "--exact", "threads_mix_on_streams_of_their_own"]))?;
    print!("{ran}");
    if !ran.contains("test result: ok. 1 passed") {
        bail!("the threads on CUDA streams were not run");
    }

    let library = sanitizer.library()?;
    let compile = |name| sanitizer.program(name, "thread", &library);
    let run = |program: &Path| {
        let mut command = Command::new(program);
        sanitizer.configure(&mut command);
        command
    };
    finds(run(&compile("planted")?).arg("race"), found)?;
    command::run(&mut run(&compile("abi")?))?;
    command::run(&mut run(&compile("wrapper")?))?;
    command::run(run(&compile("forks")?).arg("30"))
}

/// The release library as it is, in C programs: nothing is definitely lost, nothing read before it was written.
pub fn valgrind(workspace: &Workspace, library: &Path) -> Result<()> {
    let folder = workspace.target.join("valgrind");
    fs::create_dir_all(&folder)?;
    // The name that it is loaded by.
    fs::copy(library, folder.join("libmiamix.so.0")).context("the release library")?;
    let tool = Valgrind::find(workspace)?;
    let valgrind = || {
        let mut command = tool.command();
        // Its processor has no AVX-512, so the library takes AVX2.
        command.args([
            "--error-exitcode=9",
            "--leak-check=full",
            "--errors-for-leak-kinds=definite",
            "--show-leak-kinds=definite",
        ]);
        command
    };
    let compile = |name: &str| -> Result<PathBuf> {
        let program = folder.join(name);
        let mut link = compiler(&sources(name)[0]);
        link.args(objects(workspace, name, &folder, &[])?).arg("-L").arg(&folder);
        link.args(["-l:libmiamix.so.0", "-lm", "-lpthread"]).arg(format!("-Wl,-rpath,{}", folder.display()));
        command::run(link.arg("-o").arg(&program))?;
        Ok(program)
    };
    let planted = compile("planted")?;
    // Of a library without its symbols it sees the functions of the header.
    finds_in("miamix_", valgrind().arg(&planted).arg("overflow"), "Invalid write of size")?;
    finds_in("miamix_", valgrind().arg(&planted).arg("leak"), "are definitely lost")?;
    command::run(valgrind().arg(compile("abi")?))?;
    command::run(valgrind().arg(compile("wrapper")?))?;
    let forks = compile("forks")?;
    command::run(valgrind().arg(&forks).arg("0"))?;
    // What threads held that a child does not have is lost in it.
    command::run(valgrind().arg("--leak-check=no").arg(&forks).arg("10"))
}

/// Valgrind: the machine's, or Debian's under `target`.
struct Valgrind {
    unpacked: Option<PathBuf>,
}

impl Valgrind {
    fn find(workspace: &Workspace) -> Result<Self> {
        let starts = |valgrind: &Valgrind| {
            let mut command = valgrind.command();
            command.arg("true").stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
            command.status().is_ok_and(|status| status.success())
        };
        let own = Valgrind { unpacked: None };
        if starts(&own) {
            return Ok(own);
        }
        let root = VALGRIND.unpacked(workspace)?;
        // Looks for the symbols of the C library beside the library, in a folder that it is told.
        let symbols = root.join("symbols/usr/lib/x86_64-linux-gnu");
        fs::create_dir_all(&symbols)?;
        for folder in fs::read_dir(root.join("usr/lib/debug/.build-id"))? {
            for file in fs::read_dir(folder?.path())? {
                let file = file?;
                fs::copy(file.path(), symbols.join(file.file_name()))?;
            }
        }
        let unpacked = Valgrind { unpacked: Some(root) };
        if !starts(&unpacked) {
            return Err(Skip("Valgrind does not start here (Debian: valgrind, libc6-dbg)".into()).into());
        }
        Ok(unpacked)
    }

    fn command(&self) -> Command {
        let mut command = match &self.unpacked {
            None => Command::new("valgrind"),
            Some(root) => {
                let mut command = Command::new(root.join("usr/bin/valgrind.bin"));
                command.env("VALGRIND_LIB", root.join("usr/libexec/valgrind"));
                command.arg(format!("--extra-debuginfo-path={}", root.join("symbols").display()));
                command
            }
        };
        command.arg("--quiet");
        command
    }
}

/// The sources of a program, in `bindings/c/tests`.
fn sources(program: &str) -> Vec<String> {
    match program {
        "wrapper" => vec!["cpp/wrapper.cpp".into(), "cpp/elsewhere.cpp".into()],
        program => vec![format!("c/{program}.c")],
    }
}

/// The C or the C++ compiler.
fn compiler(source: &str) -> Command {
    let is_cpp = source.ends_with(".cpp");
    let (variable, default) = if is_cpp { ("CXX", "g++") } else { ("CC", "cc") };
    let mut compiler = Command::new(std::env::var_os(variable).unwrap_or_else(|| default.into()));
    compiler.args([if is_cpp { "-std=c++17" } else { "-std=c11" }, "-g", "-O1"]);
    compiler
}

/// Compiles the sources of a program, with some further options; the objects, which lie in `folder`.
fn objects(workspace: &Workspace, program: &str, folder: &Path, options: &[&str]) -> Result<Vec<PathBuf>> {
    fs::create_dir_all(folder)?;
    let mut objects = Vec::new();
    for source in sources(program) {
        let object = folder.join(source.replace('/', "-")).with_extension("o");
        let mut compile = compiler(&source);
        compile.args(options).arg("-I").arg(workspace.existing("include")?);
        compile.arg(format!("-DEXPECTED_VERSION=\"{}\"", workspace.version));
        compile.arg("-c").arg(workspace.existing(&format!("bindings/c/tests/{source}"))?).arg("-o").arg(&object);
        command::run(&mut compile)?;
        objects.push(object);
    }
    Ok(objects)
}

/// A program that has to fail, and to say why, in a function of the core, which only an instrumented core shows.
fn finds(command: &mut Command, text: &str) -> Result<()> {
    finds_in("miamix::", command, text)
}

/// The same, in a function whose name begins like this.
fn finds_in(function: &str, command: &mut Command, text: &str) -> Result<()> {
    let output = command.stdin(Stdio::null()).output().with_context(|| format!("cannot start {command:?}"))?;
    let printed = [output.stdout, output.stderr].concat();
    let printed = String::from_utf8_lossy(&printed);
    let report = printed.split_once(text).map_or("", |(_, report)| report);
    if output.status.success() || !report.contains(function) {
        bail!("a planted fault is not found: nothing says {text:?} of {function} ({})\n{printed}", output.status);
    }
    println!("the planted fault is found: {text}");
    Ok(())
}

/// Linker arguments for `tests/sanitizers/std_locks.c`, which says why.
fn std_locks(workspace: &Workspace) -> Result<Vec<String>> {
    let libraries = target_libraries(workspace)?;
    let std = fs::read_dir(&libraries)?.filter_map(|entry| Some(entry.ok()?.path())).find(|path| {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        name.starts_with("libstd-") && name.ends_with(".rlib")
    });
    let std = std.with_context(|| format!("{} holds no libstd", libraries.display()))?;
    let symbols = command::capture(Command::new("readelf").args(["--symbols", "--wide"]).arg(&std))?;
    let symbol = |parts: [&str; 2]| -> Result<&str> {
        let mut names =
            symbols.lines().filter(|line| line.contains(" FUNC ")).filter_map(|line| line.split(' ').next_back());
        let name = names.find(|name| name.contains(parts[0]) && name.ends_with(parts[1]));
        let missing = || format!("the standard library of this Rust has no {}, which tests/sanitizers wraps", parts[1]);
        Ok(name.ok_or_else(|| Skip(missing()))?)
    };
    let lock = symbol(["sync5mutex5futex", "5Mutex14lock_contended"])?;
    let wait = symbol(["sync7condvar5futex", "7Condvar4wait"])?;
    let object = workspace.target.join("sanitize/std_locks.o");
    fs::create_dir_all(object.parent().context("a folder")?)?;
    let mut compile = Command::new(std::env::var_os("CC").unwrap_or_else(|| "cc".into()));
    compile.args(["-O1", "-c", &format!("-DLOCK={lock}"), &format!("-DWAIT={wait}")]);
    compile.arg(workspace.existing("tests/sanitizers/std_locks.c")?).arg("-o").arg(&object);
    command::run(&mut compile)?;
    Ok(vec![object.display().to_string(), format!("-Wl,--wrap={lock}"), format!("-Wl,--wrap={wait}")])
}

fn target_libraries(workspace: &Workspace) -> Result<PathBuf> {
    let print = command::capture(workspace.rustc().args(["--print", "target-libdir", "--target", TARGET]))?;
    Ok(print.trim().into())
}

/// A build of the core with a sanitizer.
struct Sanitizer<'a> {
    workspace: &'a Workspace,
    name: &'static str,
    /// Its runtime, which Rust ships.
    runtime: PathBuf,
    /// What else is given to the linker.
    link: Vec<String>,
}

impl<'a> Sanitizer<'a> {
    fn new(workspace: &'a Workspace, name: &'static str, runtime: &str) -> Result<Self> {
        let libraries = target_libraries(workspace)?;
        let runtime = fs::read_dir(&libraries)
            .into_iter()
            .flatten()
            .filter_map(|entry| Some(entry.ok()?.path()))
            .find(|path| path.to_string_lossy().ends_with(&format!("_rt.{runtime}.a")));
        let runtime =
            runtime.ok_or_else(|| Skip(format!("this Rust has no runtime of the {name} sanitizer for {TARGET}")))?;
        Ok(Sanitizer { workspace, name, runtime, link: Vec::new() })
    }

    /// Cargo, for the sanitizer: an option of the compiler that it calls unstable, and of a stable one with this variable.
    fn cargo(&self) -> Command {
        let mut flags = vec![format!("-Zsanitizer={}", self.name)];
        if self.name == "thread" {
            // The standard library is not instrumented, and what of it is generic is better compiled here.
            flags.extend(["-Cunsafe-allow-abi-mismatch=sanitizer".into(), "-Zshare-generics=no".into()]);
        }
        flags.extend(self.link.iter().map(|argument| format!("-Clink-arg={argument}")));
        let mut cargo = self.workspace.cargo();
        cargo.env("RUSTC_BOOTSTRAP", "1").env("CARGO_ENCODED_RUSTFLAGS", flags.join("\x1f"));
        cargo.env("CARGO_TARGET_DIR", self.workspace.target.join("sanitize"));
        // Compiling takes longer than running.
        cargo.args(["--config", "profile.test.opt-level=1", "--config", "profile.test.debug=\"line-tables-only\""]);
        cargo.args(["--config", "profile.dev.debug=\"line-tables-only\""]);
        self.configure(&mut cargo);
        cargo
    }

    fn configure(&self, command: &mut Command) {
        let suppressions = self.workspace.root.join("tests/sanitizers/thread.suppressions");
        command.env("TSAN_OPTIONS", format!("suppressions={}:die_after_fork=0", suppressions.display()));
        // Memory that cannot be had is asked for, too.
        command.env("ASAN_OPTIONS", "allocator_may_return_null=1");
    }

    fn cargo_test(&self, tests: &[&str]) -> Command {
        let mut test = self.cargo();
        test.args(["test", "--locked", "--target", TARGET, "-p", "miamix"]);
        test.args(tests.iter().flat_map(|name| ["--test", name]));
        test
    }

    /// Expects the report of a planted fault.
    fn finds(&self, fault: &str, text: &str) -> Result<()> {
        // First, so that what fails below is the test, and its compiler's words are seen.
        command::run(self.cargo_test(&["planted"]).arg("--no-run"))?;
        finds(self.cargo_test(&["planted"]).args(["--", "--ignored", "--exact", fault]), text)
    }

    fn test(&self, tests: &[&str]) -> Result<()> {
        command::run(self.cargo_test(tests).arg("--no-fail-fast"))
    }

    /// The static C library.
    fn library(&self) -> Result<PathBuf> {
        let mut build = self.cargo();
        build.args(["rustc", "--locked", "--target", TARGET, "-p", "miamix-c", "--lib", "--crate-type", "staticlib"]);
        command::run(build.args(["--no-default-features", "--features", "cuda,test-panic"]))?;
        let library = self.workspace.target.join("sanitize").join(TARGET).join("debug/libmiamix.a");
        // The next sanitizer's has the same name.
        let kept = self.workspace.target.join("sanitize").join(format!("libmiamix-{}.a", self.name));
        fs::copy(&library, &kept).context("the instrumented library")?;
        Ok(kept)
    }

    /// Compiles a program, and links it to the instrumented library and Rust's runtime of the sanitizer.
    fn program(&self, name: &str, sanitizers: &str, library: &Path) -> Result<PathBuf> {
        let folder = self.workspace.target.join("sanitize").join(self.name);
        let program = folder.join(name);
        // The check of virtual tables is not in Rust's runtime, as it needs that of C++.
        let options = [&format!("-fsanitize={sanitizers}"), "-fno-sanitize=vptr", "-fno-sanitize-recover=all"];
        let mut link = compiler(&sources(name)[0]);
        link.args(objects(self.workspace, name, &folder, &options)?).arg(library).args(&self.link);
        link.arg("-Wl,--whole-archive").arg(&self.runtime).arg("-Wl,--no-whole-archive").args(NEEDS);
        command::run(link.arg("-rdynamic").arg("-o").arg(&program))?;
        Ok(program)
    }
}
