//! Stage 4: labels.

use super::Parts;
use super::blend::blend_f32;
use crate::tensor::Table;

/// Labels to read.
#[derive(Clone, Copy, Debug)]
pub(crate) enum LabelSource<'a> {
    /// Class ids; a negative one is ignored. Ids below K were checked before.
    Ids(Table<'a, i64>),
    /// The same in 32 bits.
    Ids32(Table<'a, i32>),
    /// Rows of K numbers.
    Soft(Table<'a, f32>),
}

/// Labels to mix, and where to.
pub(crate) struct LabelRows<'a> {
    pub source: LabelSource<'a>,
    /// One-hot value of the labelled class, and of the others.
    pub hot: [f32; 2],
    pub n_classes: usize,
    pub out: Parts<f32>,
    /// Of `out`, in elements: from row to row, and from class to class.
    pub strides: [isize; 2],
}

/// One row of labels, before mixing.
#[derive(Clone, Copy)]
struct OneHot {
    class: Option<usize>,
    on: f32,
    off: f32,
}

impl OneHot {
    fn at(self, class: usize) -> f32 {
        if self.class == Some(class) { self.on } else { self.off }
    }
}

impl LabelRows<'_> {
    /// out[i] = w·label[i] + (1 − w)·label[partner], as pixels are blended.
    ///
    /// # Source
    /// MiAMix (Liang et al., 2023), Sec. 3.2.4.
    pub fn mix_row(&self, i: usize, partner: usize, weight: f32) {
        match self.source {
            LabelSource::Ids(ids) => self.mix_ids(i, ids.at(i, 0), ids.at(partner, 0), weight),
            LabelSource::Ids32(ids) => self.mix_ids(i, ids.at(i, 0).into(), ids.at(partner, 0).into(), weight),
            LabelSource::Soft(rows) => {
                for class in 0..self.n_classes {
                    self.set(i, class, blend_f32(rows.at(i, class), rows.at(partner, class), weight));
                }
            }
        }
    }

    fn mix_ids(&self, i: usize, primary: i64, partner: i64, weight: f32) {
        let [primary, partner] = [primary, partner].map(|id| self.one_hot(id));
        let rest = blend_f32(primary.off, partner.off, weight);
        for class in 0..self.n_classes {
            self.set(i, class, rest);
        }
        for class in [primary.class, partner.class].into_iter().flatten() {
            self.set(i, class, blend_f32(primary.at(class), partner.at(class), weight));
        }
    }

    fn one_hot(&self, id: i64) -> OneHot {
        match usize::try_from(id) {
            Ok(class) => OneHot { class: Some(class), on: self.hot[0], off: self.hot[1] },
            Err(_) => OneHot { class: None, on: 0.0, off: 0.0 },
        }
    }

    fn set(&self, i: usize, class: usize, value: f32) {
        assert!(class < self.n_classes, "ids were checked before");
        let [row, column] = self.strides;
        let at = i as isize * row + class as isize * column;
        // SAFETY: an element of row i of the output, which only this task writes.
        unsafe { self.out.0.offset(at).write(value) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;
    use crate::vectors::Vectors;
    use ndarray::{Array1, Array2};

    #[derive(serde::Deserialize)]
    struct Case {
        name: String,
        kind: String,
        num_classes: usize,
        label_smoothing: f32,
        labels: serde_json::Value,
        partner_index: Vec<usize>,
        label_weight: Vec<f32>,
        expected: Vec<Vec<f32>>,
    }

    #[test]
    fn rows_meet_the_reference_bit_for_bit() {
        for case in Vectors::<Case>::read("labels").cases {
            let (n, k) = (case.partner_index.len(), case.num_classes);
            let ids: Array1<i64>;
            let soft: Array2<f32>;
            let source = match case.kind.as_str() {
                "ids" => {
                    ids = serde_json::from_value::<Vec<i64>>(case.labels).unwrap().into();
                    LabelSource::Ids(ids.view().into())
                }
                "dense" => {
                    let rows: Vec<Vec<f32>> = serde_json::from_value(case.labels).unwrap();
                    soft = Array2::from_shape_vec((n, k), rows.concat()).unwrap();
                    LabelSource::Soft(soft.view().into())
                }
                other => panic!("{}: kind {other}", case.name),
            };
            // Columns first: strides are used as they are given.
            let mut out = vec![f32::NAN; n * k];
            let rows = LabelRows {
                source,
                hot: Config { label_smoothing: case.label_smoothing, ..Config::default() }.one_hot(k),
                n_classes: k,
                out: Parts::of(&mut out),
                strides: [1, n as isize],
            };
            for i in 0..n {
                rows.mix_row(i, case.partner_index[i], case.label_weight[i]);
            }
            for (i, expected) in case.expected.iter().enumerate() {
                for (class, expected) in expected.iter().enumerate() {
                    let got = out[class * n + i];
                    assert_eq!(
                        got.to_bits(),
                        expected.to_bits(),
                        "{}: row {i}, class {class}: {got} {expected}",
                        case.name
                    );
                }
            }
        }
    }
}
