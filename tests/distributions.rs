//! What is drawn follows the laws of the definition.
//!
//! Seeds are fixed, so a test passes always or never; the bounds are five standard deviations of the statistic,
//! which a right implementation exceeds for one seed in 1.7 million.

use miamix::{
    BatchShape, Config, CutmixBox, GaussianSigma, LambdaReading, Layer, Merge, Method, MethodWeights, MiaMix, Pairing,
    Plan, Shape,
};

const SIGMAS: f64 = 5.0;

fn draw(config: Config, n: usize, side: [usize; 2]) -> Plan {
    MiaMix::new(config).unwrap().draw(BatchShape::new(n, side[0], side[1]), 2023, 0).unwrap()
}

fn only(method: Method) -> Config {
    Config { method_weights: MethodWeights::only(method), k_max: 1, ..Config::default() }
}

fn layers(plan: &Plan) -> Vec<Layer> {
    plan.samples().flat_map(|sample| sample.layers.to_vec()).collect()
}

/// A count of `n` independent events of probability `p`: standard deviation √(n·p·(1 − p)).
#[track_caller]
fn assert_share(what: &str, count: usize, n: usize, p: f64) {
    let (expected, sigma) = (n as f64 * p, (n as f64 * p * (1.0 - p)).sqrt());
    assert!(
        (count as f64 - expected).abs() <= SIGMAS * sigma,
        "{what}: {count} of {n}, expected {expected:.0} ± {sigma:.0}"
    );
}

/// The mean of `n` values of standard deviation σ: σ/√n.
#[track_caller]
fn assert_mean(what: &str, values: impl IntoIterator<Item = f64>, mean: f64, deviation: f64) {
    let values: Vec<f64> = values.into_iter().collect();
    let got = values.iter().sum::<f64>() / values.len() as f64;
    let sigma = deviation / (values.len() as f64).sqrt();
    assert!((got - mean).abs() <= SIGMAS * sigma, "{what}: mean {got}, expected {mean} ± {sigma}");
}

/// Each of 16 equal bins of [least, most] holds its share.
#[track_caller]
fn assert_uniform(what: &str, values: impl IntoIterator<Item = f64>, least: f64, most: f64) {
    let values: Vec<f64> = values.into_iter().collect();
    let mut bins = [0; 16];
    for &value in &values {
        assert!((least..=most).contains(&value), "{what}: {value} outside [{least}, {most}]");
        bins[(((value - least) / (most - least) * 16.0) as usize).min(15)] += 1;
    }
    for (i, &count) in bins.iter().enumerate() {
        assert_share(&format!("{what}, bin {i}"), count, values.len(), 1.0 / 16.0);
    }
}

/// Each of `count` equally likely values comes up its share of times.
#[track_caller]
fn assert_equally_likely(what: &str, values: &[usize], count: usize) {
    for value in 0..count {
        assert_share(
            &format!("{what} = {value}"),
            values.iter().filter(|&&v| v == value).count(),
            values.len(),
            1.0 / count as f64,
        );
    }
    assert!(values.iter().all(|&v| v < count), "{what}");
}

#[test]
fn the_number_of_layers_is_uniform() {
    for (k_min, k_max) in [(1, 2), (2, 2), (1, 8), (3, 5)] {
        let plan = draw(Config { k_min, k_max, ..Config::default() }, 20_000, [8, 8]);
        let counts: Vec<usize> = plan.samples().map(|s| s.layers.len() - k_min as usize).collect();
        assert_equally_likely("k", &counts, (k_max - k_min + 1) as usize);
    }
}

#[test]
fn lambdas_follow_the_dirichlet_law() {
    // Dir(α, …, α, kα) has total T = 2kα: mean 1/2k, variance m(1 − m)/(T + 1), covariance −m²/(T + 1).
    for alpha in [0.3f32, 1.0, 4.0] {
        for k in [1u32, 2, 5] {
            let plan = draw(Config { alpha, k_min: k, k_max: k, ..Config::default() }, 40_000, [8, 8]);
            let (mean, total) = (1.0 / (2.0 * f64::from(k)), 2.0 * f64::from(k) * f64::from(alpha));
            let variance = mean * (1.0 - mean) / (total + 1.0);
            for j in 0..k as usize {
                let lambdas = || plan.samples().map(move |s| f64::from(s.layers[j].lambda));
                assert_mean("λ", lambdas(), mean, variance.sqrt());
                // (λ − m)² lies in [0, 1], so its deviation is at most √variance (Bhatia–Davis with mean = variance).
                assert_mean("variance of λ", lambdas().map(|l| (l - mean).powi(2)), variance, variance.sqrt());
            }
            if k > 1 {
                let products = plan
                    .samples()
                    .map(|s| (f64::from(s.layers[0].lambda) - mean) * (f64::from(s.layers[1].lambda) - mean));
                // |XY| ≤ (X² + Y²)/2, whose second moment is at most the variance, as above.
                assert_mean("covariance of λ", products, -mean * mean / (total + 1.0), variance.sqrt());
            }
        }
    }
    // k = 1 and α = 1 is the uniform law.
    let plan = draw(Config { k_max: 1, ..Config::default() }, 40_000, [8, 8]);
    assert_uniform("λ", layers(&plan).iter().map(|l| f64::from(l.lambda)), 0.0, 1.0);
}

#[test]
fn a_tiny_alpha_gives_almost_all_to_one_and_a_huge_one_shares_evenly() {
    let least = 1.0 / (1 << 24) as f32;
    for alpha in [1e-3f32, 1e-20, f32::MIN_POSITIVE] {
        let plan = draw(Config { alpha, k_min: 2, k_max: 2, ..Config::default() }, 20_000, [8, 8]);
        let lambdas: Vec<f32> = layers(&plan).iter().map(|l| l.lambda).collect();
        assert!(lambdas.iter().all(|l| (least..=1.0 - least).contains(l)));
        if alpha < 1e-10 {
            // The winner of (1 : 1 : 2) takes everything.
            assert!(lambdas.iter().all(|&l| l == least || l == 1.0 - least));
            assert_share("λ = 1", lambdas.iter().step_by(2).filter(|&&l| l > 0.5).count(), 20_000, 0.25);
        }
    }
    let plan = draw(Config { alpha: 1e30, k_min: 2, k_max: 2, ..Config::default() }, 100, [8, 8]);
    assert!(layers(&plan).iter().all(|l| (l.lambda - 0.25).abs() < 1e-6));
}

#[test]
fn methods_come_by_their_weights() {
    let plan = draw(Config::default(), 40_000, [8, 8]);
    let layers = layers(&plan);
    for (method, weight) in Method::ALL.into_iter().zip([2.0, 1.0, 1.0, 1.0, 1.0, 0.0]) {
        assert_share(
            method.name(),
            layers.iter().filter(|l| l.shape.method() == method).count(),
            layers.len(),
            weight / 6.0,
        );
    }
    for method in Method::ALL {
        assert!(self::layers(&draw(only(method), 200, [8, 8])).iter().all(|l| l.shape.method() == method));
    }
}

#[test]
fn the_given_share_follows_the_reading() {
    for (merge, reading, keeps) in [
        (Merge::Product, LambdaReading::Complement, false),
        (Merge::Product, LambdaReading::Keep, true),
        (Merge::Sum, LambdaReading::Complement, true),
        (Merge::Sum, LambdaReading::Keep, true),
    ] {
        let plan = draw(Config { merge, lambda_reading: reading, ..Config::default() }, 500, [8, 8]);
        assert!(layers(&plan).iter().all(|l| l.given == if keeps { 1.0 - l.lambda } else { l.lambda }));
    }
}

#[test]
fn pairing_is_a_uniform_permutation_until_p_self_overrides() {
    let config = Config { p_self: 0.0, ..Config::default() };
    let op = MiaMix::new(config.clone()).unwrap();
    let mut partners_of_three = Vec::new();
    for seed in 0..4000 {
        let plan = op.draw(BatchShape::new(7, 4, 4), seed, 0).unwrap();
        let mut partners: Vec<usize> = plan.samples().map(|s| s.partner_index).collect();
        partners_of_three.push(partners[3]);
        partners.sort_unstable();
        assert_eq!(partners, [0, 1, 2, 3, 4, 5, 6]);
    }
    assert_equally_likely("partner of sample 3", &partners_of_three, 7);

    let plan = draw(Config { pairing: Pairing::Uniform, ..config }, 20_000, [4, 4]);
    assert_uniform("partner", plan.samples().map(|s| s.partner_index as f64), 0.0, 20_000.0);

    for p_self in [0.1f32, 0.5, 1.0] {
        let plan = draw(Config { p_self, ..Config::default() }, 20_000, [4, 4]);
        let own = plan.samples().enumerate().filter(|(i, s)| s.partner_index == *i).count();
        // A permutation leaves one more of its points fixed in 20 000.
        let p = f64::from(p_self) + (1.0 - f64::from(p_self)) / 20_000.0;
        assert_share("self-mixed", own, 20_000, p.min(1.0));
    }
}

#[test]
fn p_apply_leaves_samples_alone() {
    let plan = draw(Config { p_apply: 0.3, pad_px: 2, ..Config::default() }, 20_000, [8, 8]);
    let alone: Vec<_> = plan.samples().enumerate().filter(|(_, s)| s.layers.is_empty()).collect();
    assert_share("not mixed", alone.len(), 20_000, 0.7);
    assert!(alone.iter().all(|(i, s)| s.partner_index == *i));
    // Views are drawn for them all the same: one of the 25 shifts is none.
    let still = alone.iter().filter(|(_, s)| (s.primary_view.dx, s.primary_view.dy) == (0, 0)).count();
    assert_share("no shift", still, alone.len(), 1.0 / 25.0);
}

#[test]
fn warps_and_windows_come_as_configured() {
    for method in Method::ALL {
        let config = Config { p_aug: 0.25, p_smooth: 0.5, ..only(method) };
        let plan = draw(config.clone(), 20_000, [8, 8]);
        let augments: Vec<_> = layers(&plan).iter().map(|l| l.shape.augment()).collect();
        let hard = method.is_augmented();
        assert_share(
            "warped",
            augments.iter().filter(|a| a.warp.is_some()).count(),
            20_000,
            if hard { 0.25 } else { 0.0 },
        );
        let windows: Vec<usize> = augments.iter().filter_map(|a| a.smooth_px).map(|w| (w as usize - 3) / 2).collect();
        assert_share("smoothed", windows.len(), 20_000, if hard { 0.5 } else { 0.0 });
        if hard {
            let warps = || augments.iter().filter_map(|a| a.warp);
            let (angle, shear) = (f64::from(config.rotate_max_rad), f64::from(config.shear_max));
            assert_uniform("angle", warps().map(|w| f64::from(w.angle_rad)), -angle, angle);
            assert_uniform("shear", warps().map(|w| f64::from(w.shear)), -shear, shear);
            assert_equally_likely("window", &windows, 3);
            let both = augments.iter().filter(|a| a.warp.is_some() && a.smooth_px.is_some()).count();
            assert_share("both", both, 20_000, 0.125);
        }
    }
    let plan = draw(Config { smooth_range_px: [4, 15], p_smooth: 1.0, ..only(Method::CutMix) }, 20_000, [8, 8]);
    let windows: Vec<usize> = layers(&plan).iter().map(|l| l.shape.augment().smooth_px.unwrap() as usize).collect();
    assert!(windows.iter().all(|w| w % 2 == 1));
    assert_equally_likely("window of 4..=15", &windows.iter().map(|w| (w - 5) / 2).collect::<Vec<_>>(), 6);
}

#[test]
fn boxes_have_their_size_and_lie_where_they_may() {
    let (height, width) = (24, 40);
    for placement in [CutmixBox::Clipped, CutmixBox::Inside] {
        let plan = draw(Config { cutmix_box: placement, ..only(Method::CutMix) }, 20_000, [height, width]);
        let mut centres = [Vec::new(), Vec::new()];
        for layer in layers(&plan) {
            let Shape::CutMix { x0, y0, x1, y1, .. } = layer.shape else { unreachable!() };
            let half = |side: usize| (side as f64 * f64::from(layer.given).sqrt()).floor() as i32 / 2;
            assert_eq!((x1 - x0, y1 - y0), (2 * half(width), 2 * half(height)));
            if placement == CutmixBox::Inside {
                assert!(x0 >= 0 && y0 >= 0 && x1 <= width as i32 && y1 <= height as i32);
                // Where there is room: how far along it, of the width − 2·half + 1 places.
                let room = f64::from(width as i32 - (x1 - x0) + 1);
                centres[0].push((f64::from(x0) + 0.5) / room);
            } else {
                centres[0].push(f64::from(x0 + (x1 - x0) / 2));
                centres[1].push(f64::from(y0 + (y1 - y0) / 2));
            }
        }
        if placement == CutmixBox::Clipped {
            let [x, y] = centres.map(|values| values.into_iter().map(|v| v as usize).collect::<Vec<_>>());
            assert_equally_likely("centre x", &x, width);
            assert_equally_likely("centre y", &y, height);
        } else {
            // A uniform place at its middle: mean ½, deviation at most 1/√12.
            assert_mean("place", centres[0].iter().copied(), 0.5, 0.2887);
        }
    }
}

#[test]
fn grids_give_their_share_on_average() {
    let plan = draw(Config { grid_range: [2, 8], ..only(Method::GridMix) }, 40_000, [8, 8]);
    let mut sizes = Vec::new();
    let mut excess = Vec::new();
    let mut first_cells = Vec::new();
    for layer in layers(&plan) {
        let Shape::GridMix { n, cells, .. } = layer.shape else { unreachable!() };
        let count = cells.iter().count() as f64;
        let share = f64::from(layer.given) * f64::from(n * n);
        assert!(count == share.floor() || count == share.floor() + 1.0, "{count} cells for {share}");
        sizes.push(n as usize - 2);
        excess.push(count - share);
        if n == 2 && count == 1.0 {
            first_cells.extend(cells.iter().map(|c| c as usize));
        }
    }
    assert_equally_likely("n", &sizes, 7);
    // Rounding up with probability f moves the count by 1 − f or −f: deviation √(f(1 − f)) ≤ ½.
    assert_mean("rounding", excess, 0.0, 0.5);
    assert_equally_likely("the only cell of 2×2", &first_cells, 4);
}

#[test]
fn every_set_of_cells_is_equally_likely() {
    // Two of four cells: six sets.
    let plan = draw(Config { grid_range: [2, 2], ..only(Method::GridMix) }, 60_000, [8, 8]);
    let sets = [[0, 1], [0, 2], [0, 3], [1, 2], [1, 3], [2, 3]];
    let seen: Vec<usize> = layers(&plan)
        .iter()
        .filter_map(|layer| {
            let Shape::GridMix { cells, .. } = layer.shape else { unreachable!() };
            sets.iter().position(|set| cells.iter().eq(set.iter().copied()))
        })
        .collect();
    assert!(seen.len() > 10_000);
    assert_equally_likely("pair of cells", &seen, 6);
}

#[test]
fn gaussians_have_their_centre_width_and_shape() {
    let (height, width) = (16, 32);
    for (rule, divisor) in [(GaussianSigma::Paper, 1.0), (GaussianSigma::Area, std::f64::consts::TAU)] {
        let plan = draw(Config { gaussian_sigma: rule, ..only(Method::AgMix) }, 20_000, [height, width]);
        let (mut xs, mut ys, mut qs, mut angles) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        for layer in layers(&plan) {
            let Shape::AgMix { cx, cy, sigma_px, q, angle_rad } = layer.shape else { unreachable!() };
            let expected = (f64::from(layer.given) * (height * width) as f64 / divisor).sqrt();
            // Rounded once to f32: half a unit in the last place.
            assert!((f64::from(sigma_px) - expected).abs() <= expected * 6e-8);
            assert_eq!((cx.fract(), cy.fract()), (0.5, 0.5));
            xs.push((cx - 0.5) as usize);
            ys.push((cy - 0.5) as usize);
            qs.push(f64::from(q));
            angles.push(f64::from(angle_rad));
        }
        assert_equally_likely("cx", &xs, width);
        assert_equally_likely("cy", &ys, height);
        assert_uniform("q", qs.iter().copied(), -1.0, 1.0);
        assert!(qs.iter().all(|q| q.abs() <= f64::from(0.999f32)));
        assert_uniform("θ", angles, 0.0, std::f64::consts::PI);
    }
    let plan = draw(only(Method::GMix), 2000, [height, width]);
    assert!(layers(&plan).iter().all(|l| matches!(l.shape, Shape::GMix { .. })));
}

#[test]
fn noise_keys_are_random_bits() {
    let plan = draw(only(Method::FMix), 20_000, [8, 8]);
    for bit in 0..64 {
        let ones = layers(&plan)
            .iter()
            .filter(|l| matches!(l.shape, Shape::FMix { noise_key, .. } if noise_key >> bit & 1 == 1))
            .count();
        assert_share(&format!("bit {bit}"), ones, 20_000, 0.5);
    }
}

#[test]
fn views_flip_and_shift_each_role_on_its_own() {
    let plan = draw(Config { p_flip: 0.5, pad_px: 3, ..Config::default() }, 20_000, [8, 8]);
    for view in [|s: &miamix::Sample<'_>| s.primary_view, |s: &miamix::Sample<'_>| s.partner_view] {
        assert_share("flipped", plan.samples().filter(|s| view(s).flip).count(), 20_000, 0.5);
        for shift in [|v: miamix::View| v.dx, |v: miamix::View| v.dy] {
            let shifts: Vec<usize> = plan.samples().map(|s| (shift(view(&s)) + 3) as usize).collect();
            assert_equally_likely("shift", &shifts, 7);
        }
    }
    let alike = plan.samples().filter(|s| s.primary_view == s.partner_view).count();
    assert_share("both views alike", alike, 20_000, 1.0 / 98.0);
    let still = draw(Config::default(), 100, [8, 8]);
    assert!(still.samples().all(|s| s.primary_view == miamix::View::IDENTITY && s.partner_view == s.primary_view));
}

#[test]
fn layers_warps_and_methods_are_independent() {
    // Each cell of the table (method of layer 0, method of layer 1) has the product of the odds.
    let plan = draw(Config { k_min: 2, k_max: 2, ..Config::default() }, 40_000, [8, 8]);
    let odds = [2.0, 1.0, 1.0, 1.0, 1.0, 0.0].map(|w| w / 6.0);
    for (a, p) in Method::ALL.into_iter().zip(odds) {
        for (b, q) in Method::ALL.into_iter().zip(odds) {
            let count =
                plan.samples().filter(|s| s.layers[0].shape.method() == a && s.layers[1].shape.method() == b).count();
            assert_share(&format!("{a:?} then {b:?}"), count, 40_000, p * q);
        }
    }
}
