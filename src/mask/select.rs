//! The k largest values of a field, exactly, without sorting it.

use crate::error::Result;
use crate::memory::resize;
use crate::simd::{Kernel, Level, dispatch};

/// Which pixels of a field are given to the partner: those above `value`, and those equal to it before index `ties_end`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Threshold {
    pub value: f32,
    pub ties_end: usize,
}

impl Threshold {
    #[inline(always)]
    pub fn gives(self, value: f32, index: usize) -> bool {
        (value > self.value) | ((value == self.value) & (index < self.ties_end))
    }
}

/// A field that fits the first-level cache is looked at as often as it takes.
const SMALL: usize = 8192;
/// Values looked at first in a larger one.
const SAMPLE: usize = 1024;
/// Ranks on either side of the sought one, in the sample. The rank of a quantile of `SAMPLE` independent values
/// has a standard deviation of at most √SAMPLE/2 = 16; those of a smooth field on a regular grid scatter less.
const MARGIN: usize = 16;

/// The threshold above which exactly `k` pixels lie, the lower index first among equals.
///
/// `field`: finite values, no −0.
pub(super) fn threshold(field: &[f32], k: usize, scratch: &mut Vec<f32>) -> Result<Threshold> {
    if k == 0 {
        return Ok(Threshold { value: f32::INFINITY, ties_end: 0 });
    }
    if k >= field.len() {
        return Ok(Threshold { value: f32::NEG_INFINITY, ties_end: 0 });
    }
    let split = if field.len() <= SMALL {
        split(field, k)
    } else {
        if scratch.len() < field.len() {
            resize(scratch, field.len(), 0.0)?;
        }
        split_large(field, k, scratch)
    };
    let ties_end =
        if split.ties == 0 { 0 } else { dispatch(NthEqual { field, value: split.value, n: split.ties }) + 1 };
    Ok(Threshold { value: split.value, ties_end })
}

/// k values: all that are above `value`, and `ties` of those that equal it.
#[derive(Clone, Copy)]
struct Split {
    value: f32,
    ties: usize,
}

/// Splits off the `k` largest, 0 < k < len: halves an interval until no value is left between its ends.
fn split(values: &[f32], k: usize) -> Split {
    // Halving the difference is quickest for values of one magnitude, halving the bit patterns always ends.
    const BY_VALUE: u32 = 24;
    let (least, most) = dispatch(Bounds(values));
    // Always: more than k values lie above `low`, fewer than k above `high`.
    let (mut low, mut high, mut above_high) = (least.next_down(), most, 0);
    for round in 0.. {
        let middle = if round < BY_VALUE {
            low * 0.5 + high * 0.5
        } else {
            from_order((order(low) + order(high)).div_euclid(2))
        };
        if !(low < middle && middle < high) {
            if round < BY_VALUE {
                continue;
            }
            break;
        }
        let [above] = count_above(values, [middle]);
        match above.cmp(&k) {
            std::cmp::Ordering::Equal => return Split { value: middle, ties: 0 },
            std::cmp::Ordering::Greater => low = middle,
            std::cmp::Ordering::Less => (high, above_high) = (middle, above),
        }
    }
    // `low` and `high` are neighbours: what lies above the one and not above the other is `high`.
    Split { value: high, ties: k - above_high }
}

/// The same for a field beyond the first-level cache, in three passes over it: a regular sample brackets the answer.
///
/// `scratch`: as long as the field.
fn split_large(field: &[f32], k: usize, scratch: &mut [f32]) -> Split {
    let sample = &mut scratch[..SAMPLE];
    for (i, value) in sample.iter_mut().enumerate() {
        *value = field[(2 * i + 1) * field.len() / (2 * SAMPLE)];
    }
    let rank = k * SAMPLE / field.len();
    let quantile = |rank: usize| split(sample, rank.clamp(1, SAMPLE - 1)).value;
    let (low, high) = (quantile(rank + MARGIN), quantile(rank.saturating_sub(MARGIN)));
    let [above_low, above_high] = count_above(field, [low, high]);
    // Whichever side of the two the answer is on: more than k above the lower end, fewer than k above the upper.
    let (low, high, above_high) = if above_high >= k {
        (high, f32::INFINITY, 0)
    } else if above_low >= k {
        (low, high, above_high)
    } else {
        (f32::NEG_INFINITY, low, above_low)
    };
    let n = dispatch(Collect { field, low, high, found: scratch });
    let candidates = &scratch[..n];
    if n == k - above_high { Split { value: low, ties: 0 } } else { split(candidates, k - above_high) }
}

/// Numbers in the order of the finite values they stand for; neighbours differ by one.
fn order(value: f32) -> i64 {
    let magnitude = i64::from(value.to_bits() & 0x7fff_ffff);
    if value.is_sign_negative() { -magnitude } else { magnitude }
}

fn from_order(order: i64) -> f32 {
    let magnitude = f32::from_bits(order.unsigned_abs() as u32);
    if order < 0 { -magnitude } else { magnitude }
}

/// The least and the greatest value.
struct Bounds<'a>(&'a [f32]);

impl Kernel for Bounds<'_> {
    type Output = (f32, f32);
    #[inline(always)]
    fn run<L: Level>(self) -> (f32, f32) {
        const LANES: usize = 64;
        let (mut least, mut most) = ([f32::INFINITY; LANES], [f32::NEG_INFINITY; LANES]);
        let (blocks, rest) = self.0.as_chunks::<LANES>();
        let mut meet = |i: usize, value: f32| {
            least[i] = if value < least[i] { value } else { least[i] };
            most[i] = if value > most[i] { value } else { most[i] };
        };
        for block in blocks {
            (0..LANES).for_each(|i| meet(i, block[i]));
        }
        rest.iter().enumerate().for_each(|(i, &value)| meet(i, value));
        (least.into_iter().fold(f32::INFINITY, f32::min), most.into_iter().fold(f32::NEG_INFINITY, f32::max))
    }
}

/// Number of values above each pivot.
fn count_above<const PIVOTS: usize>(values: &[f32], pivots: [f32; PIVOTS]) -> [usize; PIVOTS] {
    dispatch(CountAbove { values, pivots })
}

struct CountAbove<'a, const PIVOTS: usize> {
    values: &'a [f32],
    pivots: [f32; PIVOTS],
}

impl<const PIVOTS: usize> Kernel for CountAbove<'_, PIVOTS> {
    type Output = [usize; PIVOTS];
    #[inline(always)]
    fn run<L: Level>(self) -> [usize; PIVOTS] {
        let mut counts = [0; PIVOTS];
        // 32-bit counts keep the lanes as wide as the values.
        for part in self.values.chunks(1 << 20) {
            let mut above = [0u32; PIVOTS];
            for &value in part {
                (0..PIVOTS).for_each(|i| above[i] += u32::from(value > self.pivots[i]));
            }
            (0..PIVOTS).for_each(|i| counts[i] += above[i] as usize);
        }
        counts
    }
}

/// Finds the values above `low` and up to `high`; their number. `found`: room for all of the field.
struct Collect<'a> {
    field: &'a [f32],
    low: f32,
    high: f32,
    found: &'a mut [f32],
}

impl Kernel for Collect<'_> {
    type Output = usize;
    #[inline(always)]
    fn run<L: Level>(self) -> usize {
        // Values looked at together: most runs hold none of those that are sought.
        const RUN: usize = 16;
        let Collect { field, low, high, found } = self;
        let wanted = |value: f32| (low < value) & (value <= high);
        assert!(found.len() >= field.len());
        let mut n = 0;
        for run in field.chunks(RUN) {
            if run.iter().fold(false, |any, &value| any | wanted(value)) {
                for &value in run {
                    // Written in any case, and kept if wanted: no branch to guess.
                    // SAFETY: n is at most the number of values before this one, and `found` is as long as the field.
                    unsafe { *found.get_unchecked_mut(n) = value };
                    n += usize::from(wanted(value));
                }
            }
        }
        n
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
        const RUN: usize = 64;
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
        let long: Vec<f32> = (0..20_000).map(|i| (i as f32 * 0.0031).sin() + (i as f32 * 0.0007).cos()).collect();
        // A sample sees only even places: its quantiles are far off.
        let hidden: Vec<f32> = (0..20_480).map(|i| if i % 20 == 10 { 0.5 } else { (i % 997) as f32 - 400.0 }).collect();
        let long_flat = vec![-3.0; 10_000];
        let mut scratch = Vec::new();
        for field in [smooth, steps, flat, spike, tiny, long, hidden, long_flat] {
            let n = field.len();
            for k in [0, 1, 2, n / 3, n / 2, n - 1, n] {
                let threshold = threshold(&field, k, &mut scratch).unwrap();
                let given: Vec<bool> = field.iter().enumerate().map(|(i, &v)| threshold.gives(v, i)).collect();
                assert_eq!(given, given_by_sorting(&field, k), "n = {n}, k = {k}, {threshold:?}");
            }
        }
    }
}
