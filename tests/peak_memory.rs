//! Mixing needs little memory beyond the caller's: a few planes for each thread.

mod allocator;

use allocator::peak_bytes;
use miamix::{Batch, BatchShape, Config, Labels, Method, MethodWeights, MiaMix, Output, Plan};
use ndarray::{Array1, Array2, Array3, Array4};

/// What a thread may hold, for images of 224×224.
const LIMIT: usize = 4 << 20;

/// The most that is held while a batch is mixed and its masks are rendered by `op`, on threads that are new.
fn peak_of(op: &MiaMix, plan: &Plan) -> usize {
    let BatchShape { samples: n, height: h, width: w } = plan.shape();
    let (images, ids) = (Array4::<f32>::ones((n, h, w, 3)), Array1::from_elem(n, 1i64));
    let (mut out, mut labels) = (Array4::<f32>::zeros(images.dim()), Array2::zeros((n, 10)));
    let mut masks = Array3::zeros((n, h, w));
    // Interleaved images under views: they are staged, and their masks repeated for each channel.
    let nchw = || images.view().permuted_axes([0, 3, 1, 2]).into();
    let work = || {
        op.apply(
            plan,
            Batch { images: nchw(), partner_images: nchw(), labels: Labels::ids(ids.view(), 10) },
            Output {
                images: out.view_mut().permuted_axes([0, 3, 1, 2]).into(),
                labels: Some(labels.view_mut()),
                label_weight: None,
                partner_index: None,
            },
        )
        .unwrap();
        op.masks(plan, Some(masks.view_mut()), None).unwrap();
    };
    // On one thread it is the calling one.
    std::thread::scope(|scope| scope.spawn(|| peak_bytes(work)).join().unwrap())
}

/// The only test of its program: other threads would be counted too.
#[test]
fn a_thread_holds_less_than_4_mib_beyond_the_callers_buffers() {
    // A pool is new once for each number of threads.
    for (threads, method_weights) in
        [([1, 2], MethodWeights::only(Method::FMix)), ([1, 3], MethodWeights::from([1.0; 6]))]
    {
        // Eight layers a sample, each with a plane of its own where the method has one, in the widest window.
        let config = Config {
            method_weights,
            k_min: 8,
            k_max: 8,
            p_aug: 1.0,
            p_smooth: 1.0,
            smooth_range_px: [15, 15],
            p_flip: 1.0,
            pad_px: 8,
            ..Config::default()
        };
        let op = MiaMix::new(config).unwrap();
        let plan = op.draw(BatchShape::new(6, 224, 224), 3, 0).unwrap();
        for n_threads in threads {
            let peak = peak_of(&op.clone().with_threads(n_threads).unwrap(), &plan);
            assert!(peak <= n_threads * LIMIT, "{peak} bytes on {n_threads} threads, {method_weights:?}");
            // There is a plane of a byte a pixel at the least: the count counts.
            assert!(peak >= 224 * 224, "{peak} bytes on {n_threads} threads, {method_weights:?}");
        }
    }
}
