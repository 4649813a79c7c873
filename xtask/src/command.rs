//! Other programs: run with their output shown, or quietly, with a log that is shown when they fail.

use anyhow::{Context, Result, bail};
use indicatif::{ProgressBar, ProgressStyle};
use std::fs::{self, File};
use std::io::{ErrorKind, IsTerminal};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

static INTERRUPTED: AtomicBool = AtomicBool::new(false);
/// Lines of a failed program's log that are shown.
const LOG_LINES: usize = 30;

/// From here on Ctrl-C ends the running program and becomes an error, so that what was begun is cleared away.
pub fn handle_interrupts() -> Result<()> {
    ctrlc::set_handler(|| INTERRUPTED.store(true, Ordering::SeqCst)).context("cannot catch Ctrl-C")
}

pub fn interrupted() -> bool {
    INTERRUPTED.load(Ordering::SeqCst)
}

/// Runs a program with its output shown.
pub fn run(command: &mut Command) -> Result<()> {
    let status = wait(spawn(command.stdin(Stdio::null()))?, None)?;
    check(command, status)
}

/// Runs a program under a spinner; its output goes to `log`, whose end is shown on failure.
pub fn run_quietly(what: &str, command: &mut Command, log: &Path) -> Result<()> {
    let spinner = Spinner::start(what);
    fs::create_dir_all(log.parent().context("a log lies in a folder")?)?;
    let output = File::create(log).with_context(|| format!("cannot write {}", log.display()))?;
    command.stdin(Stdio::null()).stdout(output.try_clone()?).stderr(output);
    let status = wait(spawn(command)?, None)?;
    if !status.success() {
        drop(spinner);
        let text = String::from_utf8_lossy(&fs::read(log)?).into_owned();
        let lines: Vec<&str> = text.lines().collect();
        for line in &lines[lines.len().saturating_sub(LOG_LINES)..] {
            eprintln!("    {line}");
        }
        bail!("{what}: failed ({status}); the whole output is in {}", log.display());
    }
    spinner.finish();
    Ok(())
}

/// Runs a program and gives what it prints.
pub fn capture(command: &mut Command) -> Result<String> {
    let output = command.stdin(Stdio::null()).stderr(Stdio::inherit()).output();
    let output = output.with_context(|| format!("cannot start {}", name(command)))?;
    check(command, output.status)?;
    String::from_utf8(output.stdout).with_context(|| format!("{} printed no text", name(command)))
}

/// Runs a program without output; its status, or none if it took longer than `limit`.
pub fn status_within(command: &mut Command, limit: Duration) -> Result<Option<ExitStatus>> {
    let child = spawn(command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()))?;
    match wait(child, Some(limit)) {
        Ok(status) => Ok(Some(status)),
        Err(error) if error.is::<TimedOut>() => Ok(None),
        Err(error) => Err(error),
    }
}

#[derive(Debug)]
struct TimedOut;

impl std::fmt::Display for TimedOut {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("timed out")
    }
}

impl std::error::Error for TimedOut {}

fn spawn(command: &mut Command) -> Result<Child> {
    command.spawn().map_err(|error| match error.kind() {
        ErrorKind::NotFound => anyhow::anyhow!("{}: no such program", name(command)),
        _ => anyhow::Error::new(error).context(format!("cannot start {}", name(command))),
    })
}

/// Waits for the end, an interruption or the limit; the latter two kill.
fn wait(mut child: Child, limit: Option<Duration>) -> Result<ExitStatus> {
    let start = Instant::now();
    loop {
        if let Some(status) = child.try_wait()? {
            if interrupted() {
                bail!("interrupted");
            }
            return Ok(status);
        }
        let late = limit.is_some_and(|limit| start.elapsed() > limit);
        if late || interrupted() {
            child.kill()?;
            child.wait()?;
            if late {
                return Err(TimedOut.into());
            }
            bail!("interrupted");
        }
        std::thread::sleep(Duration::from_millis(10));
    }
}

fn check(command: &Command, status: ExitStatus) -> Result<()> {
    if !status.success() {
        bail!("{} failed ({status})", name(command));
    }
    Ok(())
}

/// The program and its first arguments, for messages.
fn name(command: &Command) -> String {
    let program = Path::new(command.get_program()).file_name().unwrap_or(command.get_program());
    let mut words = vec![program.to_string_lossy().into_owned()];
    words.extend(command.get_args().take(4).map(|word| word.to_string_lossy().into_owned()));
    words.join(" ")
}

/// One line that says what is being done: turning on a terminal, plain elsewhere.
pub struct Spinner {
    bar: ProgressBar,
    what: String,
    start: Instant,
}

impl Spinner {
    pub fn start(what: &str) -> Self {
        let bar = ProgressBar::new_spinner().with_message(what.to_owned());
        if std::io::stderr().is_terminal() {
            bar.set_style(ProgressStyle::with_template("  {spinner} {msg} ({elapsed})").expect("a constant"));
            bar.enable_steady_tick(Duration::from_millis(100));
        } else {
            eprintln!("  {what} ...");
        }
        Spinner { bar, what: what.to_owned(), start: Instant::now() }
    }

    /// Says that it is done.
    pub fn finish(self) {
        self.bar.finish_and_clear();
        eprintln!("  {} {} ({})", console::style("✓").green().for_stderr(), self.what, seconds(self.start.elapsed()));
    }
}

impl Drop for Spinner {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}

pub fn seconds(time: Duration) -> String {
    let seconds = time.as_secs_f64();
    if seconds < 100.0 {
        format!("{seconds:.1} s")
    } else {
        format!("{} min {:02} s", time.as_secs() / 60, time.as_secs() % 60)
    }
}

/// A line above what follows.
pub fn heading(text: &str) {
    eprintln!("\n{}", console::style(format!("── {text}")).bold().for_stderr());
}
