//! Memory that cannot be had is an error, wherever it is asked for; the next call is right again.

mod allocator;

use allocator::failing_after;
use miamix::{Batch, BatchShape, Config, Error, Labels, Method, MethodWeights, MiaMix, Output, Result, Status};
use ndarray::{Array1, Array2, Array3, Array4};

/// What a trainer holds.
struct Buffers {
    images: Array4<f32>,
    ids: Array1<i64>,
    maps: Array3<u16>,
}

/// What comes out, for images that lie planar, interleaved, and with gaps.
#[derive(Debug, PartialEq)]
struct Results {
    images: [Array4<f32>; 3],
    labels: Array2<f32>,
    maps: Array3<u16>,
    masks: Array3<f32>,
}

/// In memory, and as `[N, C, H, W]`.
const SHAPES: [[usize; 4]; 3] = [[2, 3, 21, 19], [2, 21, 19, 3], [2, 21, 19, 4]];
const AXES: [[usize; 4]; 3] = [[0, 1, 2, 3], [0, 3, 1, 2], [0, 3, 1, 2]];

impl Buffers {
    fn new() -> Self {
        let [n, c, h, w] = SHAPES[0];
        Buffers {
            images: Array4::from_shape_fn((n, c, h, w), |(n, c, y, x)| (n * 7919 + y * 257 + x * 13 + c) as f32),
            ids: Array1::from_iter(0..n as i64),
            maps: Array3::from_shape_fn((n, h, w), |(n, y, x)| (n * 7919 + y * 257 + x * 13) as u16),
        }
    }

    /// Draws, and does everything that is done under a plan, as far as memory reaches.
    fn work(&self, op: &MiaMix, results: &mut Results) -> Result<()> {
        let [n, c, h, w] = SHAPES[0];
        let plan = op.draw(BatchShape::new(n, h, w), 1, 0)?;
        for (out, axes) in results.images.iter_mut().zip(AXES) {
            let out = out.view_mut().permuted_axes(axes);
            op.apply(
                &plan,
                Batch {
                    images: self.images.view().into(),
                    partner_images: self.images.view().into(),
                    labels: Labels::ids(self.ids.view(), 5),
                },
                Output {
                    images: out.slice_move(ndarray::s![.., ..c, .., ..]).into(),
                    labels: Some(results.labels.view_mut()),
                    label_weight: None,
                    partner_index: None,
                },
            )?;
        }
        op.mix(self.images.view(), self.images.view(), Labels::ids(self.ids.view(), 5), 1, 0)?;
        op.apply_maps(&plan, self.maps.view(), self.maps.view(), results.maps.view_mut())?;
        op.masks(&plan, Some(results.masks.view_mut()), None)
    }
}

impl Results {
    fn zeros() -> Self {
        let [n, _, h, w] = SHAPES[0];
        Results {
            images: SHAPES.map(Array4::zeros),
            labels: Array2::zeros((n, 5)),
            maps: Array3::zeros((n, h, w)),
            masks: Array3::zeros((n, h, w)),
        }
    }
}

/// The only test of its program: other threads would fail too.
#[test]
fn memory_that_cannot_be_had_is_an_error() {
    let buffers = Buffers::new();
    for method in Method::ALL {
        let config = Config {
            method_weights: MethodWeights::only(method),
            k_min: 2,
            p_aug: 0.7,
            p_smooth: 0.7,
            pad_px: 2,
            ..Config::default()
        };
        // On the calling thread; a pool's threads are made once, and fail as a whole.
        let op = MiaMix::new(config).unwrap().with_threads(1).unwrap();
        let mut expected = Results::zeros();
        buffers.work(&op, &mut expected).unwrap();
        let mut n_failures = 0;
        for allocation in 0.. {
            let mut results = Results::zeros();
            let attempt = || {
                let (outcome, failed) = failing_after(allocation, || buffers.work(&op, &mut results));
                if !failed {
                    outcome.unwrap();
                    return false;
                }
                let error = outcome.unwrap_err();
                assert!(matches!(error, Error::OutOfMemory(_)), "{method:?}, allocation {allocation}: {error}");
                assert_eq!(error.status() as i32, Status::OutOfMemory as i32);
                // What was kept from the failure does no harm.
                buffers.work(&op, &mut results).unwrap();
                true
            };
            // A thread of its own has no memory yet that it could use again.
            let failed = std::thread::scope(|scope| scope.spawn(attempt).join().unwrap());
            assert_eq!(results, expected, "{method:?}, allocation {allocation}");
            if !failed {
                break;
            }
            n_failures += 1;
        }
        // The plan's two parts, a tile, three rows of images in memory and the mask once for each channel.
        assert!(n_failures >= 7, "{method:?}: {n_failures}");
    }
    a_plan_that_has_no_room_is_as_it_was();
}

fn a_plan_that_has_no_room_is_as_it_was() {
    let op = MiaMix::new(Config::default()).unwrap();
    let before = op.draw(BatchShape::new(3, 8, 8), 1, 0).unwrap();
    for allocation in 0..2 {
        let mut plan = before.clone();
        let (outcome, failed) = failing_after(allocation, || op.draw_into(BatchShape::new(300, 9, 9), 2, 0, &mut plan));
        assert!(failed && matches!(outcome, Err(Error::OutOfMemory(_))), "allocation {allocation}: {outcome:?}");
        assert_eq!(plan, before);
    }
}
