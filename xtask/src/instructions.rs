//! Instructions that each part of the CPU engine takes: docs/bench/instructions.md, and whether one takes more.
//!
//! A count is the same on every run and every machine, as long as the compiler is the same: Valgrind shows programs
//! a processor of its own.

use crate::command::{self, Spinner};
use crate::cuda;
use crate::test::Skip;
use crate::workspace::Workspace;
use anyhow::{Context, Result, bail};
use clap::Args;
use std::env::consts::EXE_SUFFIX;
use std::fs;
use std::process::Command;

#[derive(Args)]
pub struct Options {
    /// Writes the counts down as those to come up to.
    #[arg(long)]
    bless: bool,
    /// Prints what the CUDA kernels take instead, by a driver that runs and counts their PTX.
    #[arg(long, conflicts_with = "bless")]
    cuda: bool,
}

const PAGE: &str = "docs/bench/instructions.md";
const BLESS: &str = "cargo xtask instructions --bless";
/// The function of `benches/instructions` in which instructions are counted.
const COUNTED: &str = "miamix_instructions::counted";
/// A part may take so much more, or less, than is written down.
const TOLERANCE: f64 = 0.05;

/// What one part takes at one SIMD level and size.
#[derive(Clone, Debug, PartialEq)]
struct Count {
    work: String,
    /// The work is done once for each of these.
    unit: String,
    /// SIMD level and size.
    column: String,
    instructions: f64,
}

/// Counts, and what counted them.
#[derive(Debug, PartialEq)]
struct Counts {
    tools: String,
    counts: Vec<Count>,
}

pub fn run(workspace: &Workspace, options: &Options) -> Result<bool> {
    if options.cuda {
        return cuda::count(workspace).map(|()| true);
    }
    let counts = count(workspace)?;
    let page = page(&counts);
    print!("{page}");
    if options.bless {
        fs::write(workspace.root.join(PAGE), page).with_context(|| format!("cannot write {PAGE}"))?;
        println!("\n{PAGE} is written");
        return Ok(true);
    }
    println!();
    Ok(compare(&written(workspace)?, &counts))
}

/// The step of `cargo xtask test`.
pub fn none_takes_more(workspace: &Workspace) -> Result<()> {
    if !compare(&written(workspace)?, &count(workspace)?) {
        bail!("the CPU engine takes other numbers of instructions than {PAGE} says; if they are meant: {BLESS}");
    }
    Ok(())
}

/// What is written down.
fn written(workspace: &Workspace) -> Result<Counts> {
    let text = fs::read_to_string(workspace.existing(PAGE)?).with_context(|| format!("cannot read {PAGE}"))?;
    parse(&text).with_context(|| format!("{PAGE} is not as {BLESS} writes it"))
}

/// Counts anew.
fn count(workspace: &Workspace) -> Result<Counts> {
    // Valgrind shows no more than the processor has.
    #[cfg(target_arch = "x86_64")]
    let avx2 = is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma");
    #[cfg(not(target_arch = "x86_64"))]
    let avx2 = false;
    if !avx2 {
        return Err(Skip("instructions are counted on x86-64 with AVX2 and FMA".into()).into());
    }
    let Ok(valgrind) = command::capture(Command::new("valgrind").arg("--version")) else {
        return Err(Skip("instructions are counted by valgrind, which is not there (Debian: valgrind)".into()).into());
    };
    let rustc = command::capture(workspace.rustc().arg("--version"))?;
    let mut build = workspace.cargo();
    build.args(["build", "--release", "--locked", "-p", "miamix-instructions"]);
    command::run_quietly("Building what is counted", &mut build, &workspace.log("instructions-build"))?;

    let folder = workspace.target.join("instructions");
    if folder.exists() {
        fs::remove_dir_all(&folder)?;
    }
    fs::create_dir_all(&folder)?;
    let dumps = folder.join("dump");
    let spinner = Spinner::start("Counting instructions");
    let lines = command::capture(
        Command::new("valgrind")
            .args(["--tool=callgrind", "--quiet"])
            .args([format!("--toggle-collect={COUNTED}"), format!("--dump-after={COUNTED}")])
            .arg(format!("--callgrind-out-file={}", dumps.display()))
            .arg(format!("--log-file={}", folder.join("log").display()))
            .arg(workspace.target.join("release").join(format!("miamix-instructions{EXE_SUFFIX}"))),
    )?;
    spinner.finish();
    // A dump for each call, numbered from 1.
    let counts = lines.lines().enumerate().map(|(i, line)| {
        let path = dumps.with_extension((i + 1).to_string());
        let dump = fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
        of_call(line, &dump).with_context(|| format!("{} does not fit {line:?}", path.display()))
    });
    Ok(Counts { tools: format!("{}, {}", rustc.trim(), valgrind.trim()), counts: counts.collect::<Result<_>>()? })
}

/// The count of one call: a line of the program, and the dump after it.
fn of_call(line: &str, dump: &str) -> Option<Count> {
    let [work, level, side, n, unit] = line.split('\t').collect::<Vec<_>>().try_into().ok()?;
    let total: f64 = dump.lines().find_map(|line| line.strip_prefix("totals: "))?.trim().parse().ok()?;
    let n: f64 = n.parse().ok()?;
    Some(Count {
        work: work.into(),
        unit: unit.into(),
        column: format!("{level} {side}²"),
        // A count of nothing would pass for ever.
        instructions: Some(total / n).filter(|&count| count > 0.0)?,
    })
}

/// Says what differs; whether nothing takes more, and the parts are the same.
fn compare(written: &Counts, counted: &Counts) -> bool {
    if written.tools != counted.tools {
        println!(
            "{PAGE} was counted with {}, this with {}: a difference may be that of the compilers",
            written.tools, counted.tools
        );
    }
    let (mut fine, mut fallen) = (true, false);
    let find = |counts: &Counts, of: &Count| {
        counts.counts.iter().find(|count| (&count.work, &count.column) == (&of.work, &of.column)).cloned()
    };
    for count in &counted.counts {
        let name = format!("{}, {}", count.work, count.column);
        let Some(before) = find(written, count) else {
            println!("{name}: is not in {PAGE}");
            fine = false;
            continue;
        };
        let growth = count.instructions / before.instructions - 1.0;
        if growth.abs() > TOLERANCE {
            let [before, now] = [before.instructions, count.instructions].map(digits);
            println!("{name}: {before} instructions for each {} were {:+.1} %: {now}", count.unit, 100.0 * growth);
            fine = false;
            fallen |= growth < 0.0;
        }
    }
    for count in &written.counts {
        if find(counted, count).is_none() {
            println!("{}, {}: is in {PAGE}, but was not counted", count.work, count.column);
            fine = false;
        }
    }
    if fallen {
        println!("{PAGE} says too much: {BLESS}");
    }
    fine
}

/// Four significant digits.
fn digits(value: f64) -> String {
    let whole = value.log10().floor() as i32;
    format!("{value:.*}", (3 - whole).clamp(0, 6) as usize)
}

fn page(Counts { tools, counts }: &Counts) -> String {
    let mut columns: Vec<&str> = Vec::new();
    let mut works: Vec<(&str, &str)> = Vec::new();
    for Count { work, unit, column, .. } in counts {
        if !columns.contains(&column.as_str()) {
            columns.push(column);
        }
        if !works.contains(&(work.as_str(), unit.as_str())) {
            works.push((work, unit));
        }
    }
    columns.sort_by_key(|column| column.split(' ').next().map(str::to_owned));
    let mut page = format!(
        "# Instructions on the CPU\n\n\
         What each part of the engine takes on one thread, counted by Valgrind, which knows no AVX-512.\n\
         `cargo xtask test` counts again, and fails where one takes 5 % more or less; `{BLESS}` writes this page.\n\n\
         draw: of the plan; mask: one layer of the method, rendered and weighed; blend: under a constant mask; batch:\n\
         masks, images and labels of the default configuration.\n\n\
         {tools}\n\n\
         | | for each | {} |\n|---|---|{}\n",
        columns.join(" | "),
        "--:|".repeat(columns.len())
    );
    for (work, unit) in works {
        page += &format!("| {work} | {unit} |");
        for column in &columns {
            let count = counts.iter().find(|count| count.work == work && count.column == *column);
            page += &count.map_or(" |".into(), |count| format!(" {} |", digits(count.instructions)));
        }
        page.push('\n');
    }
    page
}

/// What [`page`] wrote.
fn parse(page: &str) -> Option<Counts> {
    let tools = page.lines().find(|line| line.starts_with("rustc "))?.to_owned();
    let mut rows = page.lines().filter_map(|line| {
        let cells = line.strip_prefix('|')?.strip_suffix('|')?;
        Some(cells.split('|').map(|cell| cell.trim().to_owned()).collect::<Vec<_>>())
    });
    let columns = rows.next()?;
    let mut counts = Vec::new();
    for row in rows.skip(1) {
        for (column, cell) in columns.iter().zip(&row).skip(2).filter(|(_, cell)| !cell.is_empty()) {
            let instructions = cell.parse().ok()?;
            counts.push(Count { work: row[0].clone(), unit: row[1].clone(), column: column.clone(), instructions });
        }
    }
    Some(Counts { tools, counts }).filter(|counts| !counts.counts.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counts(list: &[(&str, &str, f64)]) -> Counts {
        let count = |&(work, column, instructions): &(&str, &str, f64)| Count {
            work: work.into(),
            unit: "pixel".into(),
            column: column.into(),
            instructions,
        };
        Counts { tools: "rustc 1.92.0, valgrind-3.19.0".into(), counts: list.iter().map(count).collect() }
    }

    #[test]
    fn the_page_is_read_back() {
        let all = counts(&[
            ("gmix mask", "avx2 32²", 12.5),
            ("gmix mask", "portable 32²", 1235.0),
            ("fmix mask", "avx2 32²", 0.06942),
        ]);
        assert_eq!(parse(&page(&all)).unwrap(), all);
        assert!(parse("# Nothing\n").is_none());
    }

    #[test]
    fn a_call_is_counted_for_each_of_its_units() {
        let count = of_call("gmix mask\tavx2\t32\t8\tpixel", "version: 1\nevents: Ir\ntotals: 100\n").unwrap();
        assert_eq!(count, counts(&[("gmix mask", "avx2 32²", 12.5)]).counts[0]);
        assert!(of_call("gmix mask\tavx2\t32\t8\tpixel", "totals: 0\n").is_none());
        assert!(of_call("gmix mask\tavx2\t32\t8\tpixel", "events: Ir\n").is_none());
    }

    #[test]
    fn more_than_5_percent_more_or_less_is_not_what_is_written() {
        let before = counts(&[("a", "avx2 32²", 100.0), ("b", "avx2 32²", 1.0)]);
        let after = |a: f64| counts(&[("a", "avx2 32²", a), ("b", "avx2 32²", 1.0)]);
        for (a, fine) in [(100.0, true), (104.9, true), (105.1, false), (95.1, true), (94.9, false)] {
            assert_eq!(compare(&before, &after(a)), fine, "{a}");
        }
        // Parts that came or went are written down too.
        assert!(!compare(&before, &counts(&[("a", "avx2 32²", 100.0)])));
        assert!(!compare(&counts(&[("a", "avx2 32²", 100.0)]), &before));
    }
}
