//! `miamix bench --serve`: a program that asks for one turn after the other, so that others can have theirs in between.
//!
//! Each line of standard input is a [`Request`], each line of standard output its answer. The first line, unasked,
//! names the machine and the workloads; the end of the input is the end.

use super::machine::Machine;
use super::stage::{Contender, Stage, stage};
use super::workload::{BatchKind, Workload};
use crate::work;
use anyhow::{Context, Result, anyhow};
use clap::ValueEnum;
use miamix::Config;
use serde::Deserialize;
use serde_json::{Value, json};
use std::io::{BufRead, Write};
use std::time::Duration;

/// Calls of one turn at most, however short they are.
const MAX_CALLS: usize = 1000;

#[derive(Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
enum Request {
    /// Makes a batch in place of the last one.
    Prepare { batch: BatchKind, threads: usize, config: Value },
    /// Calls a contender once without counting, then at least once and until `seconds` are over.
    Turn { contender: Contender, seconds: f64 },
}

/// Answers requests until the input ends.
pub fn serve() -> Result<()> {
    let workloads = Workload::value_variants().iter();
    let workloads: Vec<Value> = workloads.map(|w| json!({"name": w.name(), "batch": w.batch()})).collect();
    answer(&json!({"machine": Machine::this(), "workloads": workloads}))?;
    let mut current: Option<Box<dyn Stage>> = None;
    for line in std::io::stdin().lock().lines() {
        work::check_interrupt()?;
        match serde_json::from_str(&line?).map_err(|error| anyhow!("request: {error}"))? {
            Request::Prepare { batch, threads, config } => {
                // The old one goes first: there may not be room for both.
                drop(current.take());
                current = Some(stage(batch, Config::from_json(&config.to_string())?, threads)?);
                answer(&json!({}))?;
            }
            Request::Turn { contender, seconds } => {
                let stage = current.as_mut().context("request: a turn needs a batch")?;
                answer(&json!({"seconds": turn(stage.as_mut(), contender, seconds)?}))?;
            }
        }
    }
    Ok(())
}

fn answer(value: &Value) -> Result<()> {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{value}")?;
    Ok(out.flush()?)
}

/// The seconds of each counted call.
fn turn(stage: &mut dyn Stage, contender: Contender, seconds: f64) -> Result<Vec<f64>> {
    stage.time(contender)?;
    let mut calls = Vec::new();
    let mut total = Duration::ZERO;
    while calls.is_empty() || total.as_secs_f64() < seconds && calls.len() < MAX_CALLS {
        let call = stage.time(contender)?;
        total += call;
        calls.push(call.as_secs_f64());
    }
    Ok(calls)
}
