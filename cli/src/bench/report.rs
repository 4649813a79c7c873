//! Measurements as a table and as JSON.

use super::machine::Machine;
use super::workload::{BatchKind, Workload};
use anyhow::Result;
use serde_json::{Value, json};
use std::fmt::Write;
use std::time::Duration;

/// Times of one kind of round.
#[derive(Clone, Copy, Debug)]
pub struct Timing {
    pub rounds: usize,
    pub min_ms: f64,
    pub median_ms: f64,
    pub p10_ms: f64,
    pub p90_ms: f64,
}

impl Timing {
    /// From at least one round.
    pub fn of(mut times: Vec<Duration>) -> Self {
        times.sort_unstable();
        let at = |share: f64| times[((times.len() - 1) as f64 * share).round() as usize].as_secs_f64() * 1e3;
        Timing { rounds: times.len(), min_ms: at(0.0), median_ms: at(0.5), p10_ms: at(0.1), p90_ms: at(0.9) }
    }

    fn json(&self, kind: &BatchKind, bytes: usize) -> Value {
        json!({
            "min_ms": self.min_ms,
            "median_ms": self.median_ms,
            "p10_ms": self.p10_ms,
            "p90_ms": self.p90_ms,
            "images_per_s": kind.samples as f64 / self.median_ms * 1e3,
            "gb_per_s": self.gb_per_s(bytes),
        })
    }

    fn gb_per_s(&self, bytes: usize) -> f64 {
        bytes as f64 / self.median_ms / 1e6
    }
}

/// One workload with one number of threads.
#[derive(Debug)]
pub struct Measured {
    pub workload: Workload,
    pub kind: BatchKind,
    pub n_threads: usize,
    pub operator: Timing,
    pub plain: Timing,
    pub streaming: Timing,
    pub copy: Timing,
}

impl Measured {
    /// The faster of the two blends, and how it stores.
    fn floor(&self) -> (&Timing, &'static str) {
        if self.plain.median_ms <= self.streaming.median_ms {
            (&self.plain, "plain")
        } else {
            (&self.streaming, "streaming")
        }
    }

    fn ratio(&self) -> f64 {
        self.operator.median_ms / self.floor().0.median_ms
    }

    fn what(&self) -> String {
        let shape = self.kind.shape().map(|n| n.to_string()).join("x");
        format!("{} {shape} {} {}", self.workload.name(), self.kind.dtype.name(), self.kind.layout.name())
    }
}

/// Everything, for programs.
pub fn json(machine: &Machine, results: &[Measured]) -> Result<String> {
    let results: Vec<Value> = results
        .iter()
        .map(|measured| {
            let kind = &measured.kind;
            let (floor, stores) = measured.floor();
            let mut floor = floor.json(kind, 3 * kind.bytes());
            floor["stores"] = json!(stores);
            json!({
                "workload": measured.workload.name(),
                "shape": kind.shape(),
                "dtype": kind.dtype.name(),
                "layout": kind.layout.name(),
                "num_classes": kind.num_classes,
                "threads": measured.n_threads,
                "rounds": measured.operator.rounds,
                "operator": measured.operator.json(kind, 3 * kind.bytes()),
                "floor": floor,
                "memcpy": measured.copy.json(kind, 2 * kind.bytes()),
                "ratio_to_floor": measured.ratio(),
            })
        })
        .collect();
    Ok(serde_json::to_string_pretty(&json!({ "machine": machine, "results": results }))?)
}

/// Everything, for people.
pub fn table(machine: &Machine, results: &[Measured]) -> String {
    let cache = machine.cache.as_deref().map(|cache| format!(", last-level cache {cache}")).unwrap_or_default();
    let mut text = format!(
        "{}, {} cores{cache}, SIMD {}, {}\nmiamix {}, {}\n\
         ms a batch: median (10 % to 90 % of the rounds); GB/s: two reads and one write, memcpy one and one\n\n\
         {:<34}{:>7}  {:>22}  {:>10}  {:>6}  {:>22}  {:>22}  {:>8}\n",
        machine.cpu,
        machine.cores,
        machine.simd,
        machine.system,
        machine.miamix,
        machine.rustc,
        "workload",
        "threads",
        "operator",
        "images/s",
        "GB/s",
        "floor",
        "memcpy",
        "op/floor",
    );
    let times = |t: &Timing| format!("{} ({} to {})", ms(t.median_ms), ms(t.p10_ms), ms(t.p90_ms));
    for measured in results {
        let Measured { kind, n_threads, operator, copy, .. } = measured;
        let (floor, stores) = measured.floor();
        writeln!(
            text,
            "{:<34}{n_threads:>7}  {:>22}  {:>10.0}  {:>6.1}  {:>22}  {:>22}  {:>8.2}  {stores} stores",
            measured.what(),
            times(operator),
            kind.samples as f64 / operator.median_ms * 1e3,
            operator.gb_per_s(3 * kind.bytes()),
            times(floor),
            times(copy),
            measured.ratio(),
        )
        .expect("writing to a string");
    }
    text
}

/// Three digits that count.
fn ms(ms: f64) -> String {
    let decimals = if ms >= 100.0 {
        0
    } else if ms >= 10.0 {
        1
    } else if ms >= 1.0 {
        2
    } else {
        3
    };
    format!("{ms:.decimals$}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn medians_and_spread_are_those_of_the_sorted_times() {
        let times = (1..=11).rev().map(Duration::from_millis).collect();
        let Timing { rounds, min_ms, median_ms, p10_ms, p90_ms } = Timing::of(times);
        assert_eq!(rounds, 11);
        assert_eq!([min_ms, p10_ms, median_ms, p90_ms].map(f64::round), [1.0, 2.0, 6.0, 10.0]);
    }
}
