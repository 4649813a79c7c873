//! Mixed pixels, weights and label maps follow from the rendered masks exactly.

use half::{bf16, f16};
use miamix::{Batch, BatchShape, Config, Element, Labels, MiaMix, Output, Plan};
use ndarray::{Array2, Array3, Array4, Axis, arr2};

/// Blends in f32 with the standard library's fused multiply-add, then rounds by `half` or the definition.
fn expected<T: Copy>(mask: f32, primary: T, partner: T, to: fn(T) -> f32, from: fn(f32) -> T) -> T {
    match mask {
        1.0 => primary,
        0.0 => partner,
        m => from(m.mul_add(to(primary), (1.0 - m) * to(partner))),
    }
}

fn check<T: Element + num_traits::Zero + PartialEq + std::fmt::Debug>(
    element: fn(f32) -> T,
    to: fn(T) -> f32,
    from: fn(f32) -> T,
    (n, h, w): (usize, usize, usize),
) {
    let c = 3;
    let op = MiaMix::new(Config { k_max: 3, ..Config::default() }).unwrap();
    let place = |salt: usize| {
        move |(n, c, y, x): (usize, usize, usize, usize)| ((n * 31 + c * 7 + y * 13 + x * 3 + salt) % 251) as f32 + 0.3
    };
    let a = Array4::from_shape_fn((n, c, h, w), place(0)).mapv(element);
    let b = Array4::from_shape_fn((n, c, h, w), place(100)).mapv(element);
    let mixed = op.mix(a.view(), b.view(), Labels::NONE, 17, 0).unwrap();
    let mut masks = Array3::zeros((n, h, w));
    op.masks(&mixed.plan, Some(masks.view_mut()), None).unwrap();
    assert!(
        masks.iter().any(|&m| m == 1.0) && masks.iter().any(|&m| m == 0.0) && masks.iter().any(|&m| m > 0.0 && m < 1.0)
    );
    for ((i, ch, y, x), got) in mixed.images.indexed_iter() {
        let partner = mixed.partner_index[i] as usize;
        let expected = expected(masks[[i, y, x]], a[[i, ch, y, x]], b[[partner, ch, y, x]], to, from);
        assert_eq!(*got, expected, "pixel {:?}", (i, ch, y, x));
    }
    for (i, sample) in mixed.plan.samples().enumerate() {
        assert_eq!(mixed.partner_index[i], sample.partner_index as i64);
        // Σ round(m·2²⁴) over 2²⁴·H·W: the f32 nearest to an exact ratio, checked by cross-multiplying with its neighbours.
        let sum: i128 =
            masks.index_axis(Axis(0), i).iter().map(|&m| (f64::from(m) * 16_777_216.0).round_ties_even() as i128).sum();
        let pixels = (h * w) as i128;
        let distance = |weight: f32| (f64::from(weight) * 2f64.powi(60)) as i128 * pixels - sum * (1i128 << 36);
        let weight = mixed.label_weight[i];
        let error = distance(weight).abs();
        for neighbour in [f32::from_bits(weight.to_bits() + 1), f32::from_bits(weight.to_bits().max(1) - 1)] {
            assert!(error <= distance(neighbour).abs(), "weight {weight} of sample {i}");
        }
    }
}

#[test]
fn pixels_and_weights_follow_from_the_masks() {
    // The larger images are mixed in several tiles.
    for shape in [(29, 17, 23), (13, 97, 101)] {
        check::<f32>(|v| v, |v| v, |v| v, shape);
        check::<f16>(f16::from_f32, f16::to_f32_const, f16::from_f32_const, shape);
        check::<bf16>(bf16::from_f32, bf16::to_f32_const, bf16::from_f32_const, shape);
        check::<u8>(|v| v as u8, f32::from, |v| v.round_ties_even() as u8, shape);
    }
}

#[test]
fn an_infinity_in_the_unread_image_does_no_harm() {
    let op = MiaMix::new(Config::default()).unwrap();
    let plan = Plan::from_json(
        r#"{"version": 1, "height": 2, "width": 4, "merge": "product", "label_weight": "merged", "lambda_reading": "complement",
            "samples": [{"partner_index": 0, "primary_view": {"flip": false, "dx": 0, "dy": 0},
                         "partner_view": {"flip": false, "dx": 0, "dy": 0},
                         "layers": [{"method": "cutmix", "lambda": 0.5, "given": 0.5, "x0": 0, "y0": 0, "x1": 2, "y1": 2,
                                     "warp": null, "smooth_px": null}]}]}"#,
    )
    .unwrap();
    let (inf, nan) = (f32::INFINITY, f32::NAN);
    let a = Array4::from_shape_vec((1, 1, 2, 4), vec![inf, nan, 1.0, 2.0, nan, inf, 3.0, -0.0]).unwrap();
    let b = Array4::from_shape_vec((1, 1, 2, 4), vec![5.0, 6.0, inf, nan, -0.0, 8.0, nan, inf]).unwrap();
    let mut out = Array4::zeros((1, 1, 2, 4));
    let mut weight = [0.0];
    op.apply(
        &plan,
        Batch { images: a.view().into(), partner_images: b.view().into(), labels: Labels::NONE },
        Output { images: out.view_mut().into(), labels: None, label_weight: Some(&mut weight), partner_index: None },
    )
    .unwrap();
    let bits: Vec<u32> = out.iter().map(|v: &f32| v.to_bits()).collect();
    assert_eq!(bits, [5.0, 6.0, 1.0, 2.0, -0.0, 8.0, 3.0, -0.0].map(f32::to_bits));
    assert_eq!(weight, [0.5]);
}

#[test]
fn label_maps_take_the_larger_share() {
    let op = MiaMix::new(Config { pad_px: 2, p_flip: 0.5, ..Config::default() }).unwrap();
    let (n, h, w) = (9, 12, 10);
    let a = Array3::from_shape_fn((n, h, w), |(i, y, x)| (i * 1000 + y * 20 + x) as i64);
    let b = a.mapv(|v| -v - 1);
    let plan = op.draw(BatchShape::new(n, h, w), 4, 0).unwrap();
    let mut masks = Array3::zeros((n, h, w));
    op.masks(&plan, Some(masks.view_mut()), None).unwrap();
    let mut out = Array3::<i64>::zeros((n, h, w));
    op.apply_maps(&plan, a.view(), b.view(), out.view_mut()).unwrap();
    for ((i, y, x), got) in out.indexed_iter() {
        let sample = plan.sample(i);
        let (source, view, from) = if masks[[i, y, x]] >= 0.5 {
            (&a, sample.primary_view, i)
        } else {
            (&b, sample.partner_view, sample.partner_index)
        };
        let (sx, sy) = (x as i32 + view.dx, y as i32 + view.dy);
        let inside = (0..w as i32).contains(&sx) && (0..h as i32).contains(&sy);
        let sx = if view.flip { w as i32 - 1 - sx } else { sx };
        let expected = if inside { source[[from, sy as usize, sx as usize]] } else { 0 };
        assert_eq!(*got, expected, "map {i}, pixel ({x}, {y})");
    }
    // Every width of integer gives the same choice.
    macro_rules! narrower { ($($t:ty),+) => { $({
        let (a, b) = (a.mapv(|v| v as $t), b.mapv(|v| v as $t));
        let mut narrow = Array3::<$t>::zeros((n, h, w));
        op.apply_maps(&plan, a.view(), b.view(), narrow.view_mut()).unwrap();
        assert_eq!(narrow, out.mapv(|v| v as $t));
    })+ }; }
    narrower!(u8, i8, u16, i16, u32, i32, u64);
}

#[test]
fn labels_are_mixed_with_the_weight_of_the_pixels() {
    let op = MiaMix::new(Config::default()).unwrap();
    let images = Array4::<f32>::zeros((3, 1, 8, 8));
    let soft = arr2(&[[1.0, 0.0], [0.25, 0.75], [0.0, 1.0]]);
    let mixed = op.mix(images.view(), images.view(), Labels::soft(soft.view()), 8, 0).unwrap();
    for i in 0..3 {
        let (w, partner) = (mixed.label_weight[i], mixed.partner_index[i] as usize);
        for class in 0..2 {
            let expected = expected(w, soft[[i, class]], soft[[partner, class]], |v| v, |v| v);
            assert_eq!(mixed.labels[[i, class]], expected);
        }
    }
}

#[test]
fn small_batches_and_images_work() {
    let op = MiaMix::new(Config { k_max: 8, p_aug: 0.5, ..Config::default() }).unwrap();
    for (n, c, h, w) in
        [(0, 3, 8, 8), (1, 3, 8, 8), (1, 1, 1, 1), (5, 2, 1, 9), (5, 2, 9, 1), (2, 0, 4, 4), (3, 1, 2, 2)]
    {
        let images = Array4::<f32>::from_elem((n, c, h, w), 2.5);
        let ids = ndarray::Array1::from_elem(n, 1i64);
        let mixed = op.mix(images.view(), images.view(), Labels::ids(ids.view(), 2), 1, 0).unwrap();
        assert_eq!(mixed.images.dim(), (n, c, h, w));
        assert!(mixed.label_weight.iter().all(|w| (0.0..=1.0).contains(w)));
        // Equal images mix to themselves: m·v + (1 − m)·v, two roundings of at most half a unit of 2.5.
        assert!(mixed.images.iter().all(|v| (v - 2.5).abs() <= 2.4e-7));
        assert!(mixed.labels.outer_iter().all(|row| row[0] == 0.0 && (row[1] - 1.0).abs() <= 1.2e-7));
        if n == 1 {
            assert_eq!(mixed.partner_index[0], 0);
        }
    }
}

#[test]
fn without_classes_there_are_only_pixels() {
    let op = MiaMix::new(Config::default()).unwrap();
    let images = Array4::<u8>::from_elem((4, 3, 8, 8), 9);
    let ids = ndarray::Array1::from_vec(vec![5i64, -3, 1 << 40, 0]);
    let mixed = op.mix(images.view(), images.view(), Labels::ids(ids.view(), 0), 1, 0).unwrap();
    assert_eq!(mixed.labels.dim(), (4, 0));
    assert!(mixed.images.iter().all(|&v| v == 9));
}

#[test]
fn evaluation_passes_through() {
    let op = MiaMix::new(Config { label_smoothing: 0.1, p_flip: 1.0, pad_px: 3, ..Config::default() }).unwrap();
    let images = Array4::from_shape_fn((3, 2, 4, 5), |(i, c, y, x)| (i * 100 + c * 30 + y * 5 + x) as f32);
    let other = images.mapv(|v| -v);
    let ids = ndarray::Array1::from_vec(vec![2i64, -1, 0]);
    let (mut out, mut labels) = (Array4::<f32>::zeros(images.dim()), Array2::<f32>::zeros((3, 3)));
    let (mut weight, mut partner) = ([0.0; 3], [9i64; 3]);
    op.pass_through(
        Batch { images: images.view().into(), partner_images: other.view().into(), labels: Labels::ids(ids.view(), 3) },
        Output {
            images: out.view_mut().into(),
            labels: Some(labels.view_mut()),
            label_weight: Some(&mut weight),
            partner_index: Some(&mut partner),
        },
    )
    .unwrap();
    assert_eq!(out, images);
    assert_eq!(labels, arr2(&[[0.0, 0.0, 1.0], [0.0, 0.0, 0.0], [1.0, 0.0, 0.0]]));
    assert_eq!((weight, partner), ([1.0; 3], [0, 1, 2]));
}
