//! The gradient follows from the rendered masks exactly, whatever the views, layouts and threads.

use half::{bf16, f16};
use miamix::{BatchShape, Config, Dtype, Element, Images, ImagesMut, MiaMix, Plan, View};
use ndarray::{Array3, Array4};

const SHAPE: (usize, usize, usize, usize) = (11, 3, 61, 47);

fn op() -> MiaMix {
    let config = Config { k_max: 3, p_self: 0.3, p_apply: 0.9, p_flip: 0.5, pad_px: 4, ..Config::default() };
    MiaMix::new(config).unwrap()
}

fn plan(op: &MiaMix) -> Plan {
    op.draw(BatchShape::new(SHAPE.0, SHAPE.2, SHAPE.3), 5, 0).unwrap()
}

fn grad() -> Array4<f32> {
    Array4::from_shape_fn(SHAPE, |(n, c, y, x)| ((n * 31 + c * 7 + y * 13 + x * 3) % 251) as f32 / 8.0 - 15.3)
}

/// Where pixel (x, y) was read, if inside the image.
fn source(view: View, x: usize, y: usize) -> Option<(usize, usize)> {
    let (shifted, y) = (x.checked_add_signed(view.dx as isize)?, y.checked_add_signed(view.dy as isize)?);
    let (height, width) = (SHAPE.2, SHAPE.3);
    (shifted < width && y < height).then(|| (if view.flip { width - 1 - shifted } else { shifted }, y))
}

/// By walking over the mixed pixels, where the library walks over what they were read from.
fn expected(op: &MiaMix, plan: &Plan, grad: &Array4<f32>) -> [Array4<f32>; 3] {
    let mut masks = Array3::zeros((SHAPE.0, SHAPE.2, SHAPE.3));
    op.masks(plan, Some(masks.view_mut()), None).unwrap();
    let [mut images, mut partner] = [Array4::<f32>::zeros(SHAPE), Array4::zeros(SHAPE)];
    for ((i, c, y, x), g) in grad.indexed_iter() {
        if let Some((x0, y0)) = source(plan.sample(i).primary_view, x, y) {
            images[[i, c, y0, x0]] += masks[[i, y, x]] * g;
        }
    }
    let mut both = images.clone();
    for ((i, c, y, x), g) in grad.indexed_iter() {
        let sample = plan.sample(i);
        if let Some((x0, y0)) = source(sample.partner_view, x, y) {
            let term = (1.0 - masks[[i, y, x]]) * g;
            partner[[sample.partner_index, c, y0, x0]] += term;
            both[[sample.partner_index, c, y0, x0]] += term;
        }
    }
    [images, partner, both]
}

fn check<T: Element + num_traits::Zero + PartialEq + std::fmt::Debug>(to: fn(f32) -> T, from: fn(T) -> f32) {
    let op = op();
    let plan = plan(&op);
    let grad = grad().mapv(to);
    let [images, partner, both] = expected(&op, &plan, &grad.mapv(from)).map(|sums| sums.mapv(to));
    for n_threads in [1, 3] {
        let op = op.clone().with_threads(n_threads).unwrap();
        let [mut got, mut got_partner, mut got_both] = std::array::from_fn(|_| Array4::from_elem(SHAPE, to(7.0)));
        let out = Some(got_partner.view_mut().into());
        op.backward(&plan, grad.view().into(), got.view_mut().into(), out).unwrap();
        op.backward(&plan, grad.view().into(), got_both.view_mut().into(), None).unwrap();
        assert!(got == images && got_partner == partner && got_both == both);
        // Channels last, in and out.
        let nhwc = grad.view().permuted_axes([0, 2, 3, 1]).as_standard_layout().into_owned();
        let mut got = Array4::from_elem((SHAPE.0, SHAPE.2, SHAPE.3, SHAPE.1), to(7.0));
        let out = got.view_mut().permuted_axes([0, 3, 1, 2]).into();
        op.backward(&plan, nhwc.view().permuted_axes([0, 3, 1, 2]).into(), out, None).unwrap();
        assert_eq!(got.permuted_axes([0, 3, 1, 2]), both);
    }
}

#[test]
fn gradients_follow_from_the_masks() {
    check::<f32>(|v| v, |v| v);
    check::<f16>(f16::from_f32, f16::to_f32_const);
    check::<bf16>(bf16::from_f32, bf16::to_f32_const);
}

#[test]
fn a_share_of_0_passes_on_nothing() {
    let plan = r#"{"version": 1, "height": 1, "width": 2, "merge": "product", "label_weight": "merged",
        "lambda_reading": "complement", "samples": [
        {"partner_index": 1, "primary_view": {"flip": false, "dx": 0, "dy": 0},
         "partner_view": {"flip": false, "dx": 0, "dy": 0}, "layers": [{"method": "cutmix", "lambda": 0.5,
         "given": 0.5, "x0": 1, "y0": 0, "x1": 2, "y1": 1, "warp": null, "smooth_px": null}]},
        {"partner_index": 1, "primary_view": {"flip": false, "dx": 0, "dy": 0},
         "partner_view": {"flip": false, "dx": 0, "dy": 0}, "layers": []}]}"#;
    let op = MiaMix::new(Config::default()).unwrap();
    let grad = Array4::from_shape_vec((2, 1, 1, 2), vec![f32::INFINITY, f32::NEG_INFINITY, 1.0, 2.0]).unwrap();
    let [mut images, mut partner] = [Array4::<f32>::zeros((2, 1, 1, 2)), Array4::zeros((2, 1, 1, 2))];
    let plan = Plan::from_json(plan).unwrap();
    op.backward(&plan, grad.view().into(), images.view_mut().into(), Some(partner.view_mut().into())).unwrap();
    assert_eq!(images.into_raw_vec_and_offset().0, [f32::INFINITY, 0.0, 1.0, 2.0]);
    assert_eq!(partner.into_raw_vec_and_offset().0, [0.0, 0.0, 0.0, f32::NEG_INFINITY]);
}

#[test]
fn what_is_wrong_is_said() {
    let op = op();
    let plan = plan(&op);
    let error = |grad: &mut Array4<f32>, images: &mut Array4<f32>, partner: Option<&mut Array4<f32>>| {
        let partner = partner.map(|partner| partner.view_mut().into());
        op.backward(&plan, grad.view().into(), images.view_mut().into(), partner).unwrap_err().to_string()
    };
    let new = || Array4::from_elem(SHAPE, 7.0);
    let mut other = Array4::zeros((11, 3, 61, 46));
    assert_eq!(
        error(&mut other.clone(), &mut new(), None),
        "grad_mixed: expected shape [11, C, 61, 47], as the plan, got [11, 3, 61, 46]"
    );
    assert_eq!(error(&mut new(), &mut other, None), "grad_images: expected shape [11, 3, 61, 47], got [11, 3, 61, 46]");
    assert_eq!(
        error(&mut new(), &mut new(), Some(&mut other)),
        "grad_partner_images: expected shape [11, 3, 61, 47], got [11, 3, 61, 46]"
    );
    let (u8s, mut out) = (Array4::<u8>::zeros(SHAPE), Array4::<u8>::zeros(SHAPE));
    assert_eq!(
        op.backward(&plan, u8s.view().into(), out.view_mut().into(), None).unwrap_err().to_string(),
        "grad_mixed: must be float32, float16 or bfloat16, got uint8"
    );
    let mut memory = new();
    let (data, shape, strides) = (memory.as_mut_ptr().cast(), [11, 3, 61, 47], [3 * 61 * 47, 61 * 47, 47, 1]);
    // SAFETY: the array's own memory; the call must refuse before it reads or writes.
    let (grad, images) = unsafe {
        (
            Images::from_raw("grad_mixed", data, Dtype::F32, shape, strides).unwrap(),
            ImagesMut::from_raw("grad_images", data, Dtype::F32, shape, strides).unwrap(),
        )
    };
    assert_eq!(
        op.backward(&plan, grad, images, None).unwrap_err().to_string(),
        format!("grad_images: must not overlap grad_mixed, got {} bytes in common", 11 * 3 * 61 * 47 * 4)
    );
    assert!(memory.iter().all(|&v| v == 7.0));
}
