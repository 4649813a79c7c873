//! The exact k-th largest value of a field, without sorting it.

use crate::simd::{Kernel, Level, dispatch};

/// Which pixels of a field are given to the partner: those above `value`, and those equal to it up to index `last`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Threshold {
    pub value: f32,
    pub last: usize,
}

impl Threshold {
    #[inline(always)]
    pub fn gives(self, value: f32, index: usize) -> bool {
        (value > self.value) | ((value == self.value) & (index <= self.last))
    }
}

/// The threshold above which exactly `k` pixels lie, the lower index first among equals.
///
/// `field`: finite values; `candidates`: scratch, with room for all of them.
pub(super) fn threshold(field: &[f32], k: usize, candidates: &mut Vec<f32>) -> Threshold {
    if k == 0 {
        return Threshold { value: f32::INFINITY, last: 0 };
    }
    if k >= field.len() {
        return Threshold { value: f32::NEG_INFINITY, last: field.len() };
    }
    let value = kth_largest(field, k, candidates);
    // At least one of the equals is given; it is usually the only one.
    let equals = k - count_above(field, value);
    Threshold { value, last: dispatch(NthEqual { field, value, n: equals }) }
}

/// Counts above a pivot halve the interval that holds the answer, until few values are left to select from.
fn kth_largest(field: &[f32], k: usize, candidates: &mut Vec<f32>) -> f32 {
    const FEW: usize = 96;
    const SAMPLE: usize = 64;
    // Always: more than or exactly k values lie above `low`, fewer than k above `high`.
    let (mut low, mut above_low) = (f32::NEG_INFINITY, field.len());
    let (mut high, mut above_high) = (f32::INFINITY, 0);
    let mut narrow = |pivot: f32, low: &mut f32, high: &mut f32| {
        if !(*low < pivot && pivot < *high) {
            return above_low - above_high;
        }
        let above = count_above(field, pivot);
        if above >= k {
            (*low, above_low) = (pivot, above);
        } else {
            (*high, above_high) = (pivot, above);
        }
        above_low - above_high
    };
    if field.len() > 8 * FEW {
        // Quantiles of a regular sample bracket the answer; the two next to its rank are tried first.
        let mut sample = [0.0f32; SAMPLE];
        for (i, value) in sample.iter_mut().enumerate() {
            *value = field[(2 * i + 1) * field.len() / (2 * SAMPLE)];
        }
        sample.sort_unstable_by(|a, b| b.total_cmp(a));
        let rank = k * SAMPLE / field.len();
        for offset in [4usize, 12] {
            narrow(sample[rank.saturating_sub(offset)], &mut low, &mut high);
            narrow(sample[(rank + offset).min(SAMPLE - 1)], &mut low, &mut high);
        }
        for _ in 0..12 {
            if !(low.is_finite() && high.is_finite()) {
                break;
            }
            let middle = low + (high - low) * 0.5;
            if narrow(middle, &mut low, &mut high) <= FEW {
                break;
            }
        }
    }
    candidates.clear();
    dispatch(Collect { field, low, high, candidates });
    let above_high = if high == f32::INFINITY { 0 } else { count_above(field, high) };
    let (_, value, _) = candidates.select_nth_unstable_by(k - above_high - 1, |a, b| b.total_cmp(a));
    *value
}

fn count_above(field: &[f32], pivot: f32) -> usize {
    dispatch(CountAbove { field, pivot })
}

struct CountAbove<'a> {
    field: &'a [f32],
    pivot: f32,
}

impl Kernel for CountAbove<'_> {
    type Output = usize;
    #[inline(always)]
    fn run<L: Level>(self) -> usize {
        // 32-bit counts keep the lanes as wide as the values.
        self.field
            .chunks(1 << 20)
            .map(|part| part.iter().map(|&v| u32::from(v > self.pivot)).sum::<u32>() as usize)
            .sum()
    }
}

/// Values looked at together: most runs hold none of those that are sought.
const RUN: usize = 64;

/// Adds the values above `low` and up to `high`.
struct Collect<'a> {
    field: &'a [f32],
    low: f32,
    high: f32,
    candidates: &'a mut Vec<f32>,
}

impl Kernel for Collect<'_> {
    type Output = ();
    #[inline(always)]
    fn run<L: Level>(self) {
        let Collect { field, low, high, candidates } = self;
        let wanted = |value: f32| (low < value) & (value <= high);
        for run in field.chunks(RUN) {
            if run.iter().fold(false, |any, &value| any | wanted(value)) {
                candidates.extend(run.iter().copied().filter(|&value| wanted(value)));
            }
        }
    }
}

/// Index of the `n`-th value, from 1, that equals `value`; there are as many.
struct NthEqual<'a> {
    field: &'a [f32],
    value: f32,
    n: usize,
}

impl Kernel for NthEqual<'_> {
    type Output = usize;
    #[inline(always)]
    fn run<L: Level>(self) -> usize {
        let NthEqual { field, value, n } = self;
        let mut left = n;
        for (i, run) in field.chunks(RUN).enumerate() {
            let equals = run.iter().map(|&v| u32::from(v == value)).sum::<u32>() as usize;
            if equals >= left {
                let mut places = run.iter().enumerate().filter(|&(_, &v)| v == value).map(|(place, _)| i * RUN + place);
                return places.nth(left - 1).expect("counted just above");
            }
            left -= equals;
        }
        unreachable!("as many values are equal")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The definition: sort by value, then by index, and give the first k.
    fn given_by_sorting(field: &[f32], k: usize) -> Vec<bool> {
        let mut order: Vec<usize> = (0..field.len()).collect();
        order.sort_by(|&a, &b| field[b].partial_cmp(&field[a]).unwrap().then(a.cmp(&b)));
        let mut given = vec![false; field.len()];
        order[..k].iter().for_each(|&i| given[i] = true);
        given
    }

    #[test]
    fn exactly_the_k_largest_are_given_with_ties_by_index() {
        let smooth: Vec<f32> = (0..5000).map(|i| (i as f32 * 0.003).sin() + (i as f32 * 0.0007).cos()).collect();
        let steps: Vec<f32> = (0..3000).map(|i| ((i * 7919) % 13) as f32).collect();
        let flat = vec![0.0; 2000];
        let spike: Vec<f32> = (0..2000).map(|i| if i == 1234 { 1e30 } else { -1e-30 * (i % 3) as f32 }).collect();
        let tiny = vec![1.0, -1.0, 1.0, 0.0];
        let mut scratch = Vec::new();
        for field in [smooth, steps, flat, spike, tiny] {
            let n = field.len();
            for k in [0, 1, 2, n / 3, n / 2, n - 1, n] {
                let threshold = threshold(&field, k, &mut scratch);
                let given: Vec<bool> = field.iter().enumerate().map(|(i, &v)| threshold.gives(v, i)).collect();
                assert_eq!(given, given_by_sorting(&field, k), "n = {n}, k = {k}, {threshold:?}");
            }
        }
    }
}
