"""The reference against arithmetic done by hand, plain formulas and exact fractions."""

import math
from fractions import Fraction

import draw_ref
import make_vectors
import miamix_ref as ref
import numpy as np
import pytest
from make_vectors import box, cells, layer, plan, warp

F32_MAX = 2.0**128 - 2.0**104


def fraction_to_f32(value):
    """The f32 nearest to a Fraction, ties to even, in integers alone."""
    if value == 0:
        return 0.0
    sign, value = (-1.0, -value) if value < 0 else (1.0, value)
    exponent = value.numerator.bit_length() - value.denominator.bit_length()
    exponent -= value < Fraction(2) ** exponent  # now 2^exponent ≤ value < 2^(exponent + 1)
    step = Fraction(2) ** max(exponent - 23, -149)
    steps, rest = divmod(value, step)
    steps += rest * 2 > step or (rest * 2 == step and steps % 2 == 1)
    rounded = steps * step
    return sign * (math.inf if rounded > F32_MAX else float(rounded))


def mask_of(one_layer, height, width):
    return ref.layer_mask(one_layer, height, width)[0]


# Random bits and plans


def test_philox_known_answers():
    # Random123, kat_vectors, philox4x32 10.
    ones = draw_ref.MASK32
    pi = (0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344), (0xA4093822, 0x299F31D0)
    known = [
        ((0, 0, 0, 0), (0, 0), "6627e8d5 e169c58d bc57ac4c 9b00dbd8"),
        ((ones,) * 4, (ones,) * 2, "408f276d 41c83b0e a20bc7c6 6d5451fd"),
        (*pi, "d16cfe09 94fdcceb 5001e420 24126ea1"),
    ]
    for counter, key, answer in known:
        assert " ".join(f"{r:08x}" for r in draw_ref.philox4x32(counter, key)) == answer


def test_words_of_a_slot_are_the_halves_of_its_blocks():
    sample = draw_ref.Sample(seed=0, index=0)
    block = draw_ref.philox4x32((0, 0, 7 + 256 * 2, 1), (0, 0))
    assert sample.word(7, 2, 2) == block[0] + 2**32 * block[1]
    assert sample.word(7, 2, 3) == block[2] + 2**32 * block[3]


def test_a_negative_seed_is_its_bits():
    assert draw_ref.draw({}, (3, 8, 8), -1) == draw_ref.draw({}, (3, 8, 8), 2**64 - 1)


def test_conversions_at_the_ends_of_the_range():
    top = 2**64 - 1
    assert (draw_ref.below(0, 7), draw_ref.below(top, 7)) == (0, 6)
    assert (draw_ref.unit(0), draw_ref.unit(top)) == (0.0, 1 - 2.0**-53)
    assert (draw_ref.open_unit(0), draw_ref.open_unit(top)) == (2.0**-53, 1 - 2.0**-53)
    assert (draw_ref.symmetric(0, 0.25), draw_ref.symmetric(top, 0.25)) == (-0.25, 0.25)


def test_a_sample_does_not_depend_on_its_batch():
    config = {"k_max": 8, "p_aug": 0.5, "p_flip": 0.5, "pad_px": 3}
    batch = draw_ref.draw(config, (6, 20, 30), seed=9, first_sample=2**64 - 3)
    for i in range(6):
        alone = draw_ref.draw(config, (1, 20, 30), seed=9, first_sample=(2**64 - 3 + i) % 2**64)
        for name in ("layers", "primary_view", "partner_view"):
            assert alone["samples"][0][name] == batch["samples"][i][name]


def test_a_permutation_pairs_every_sample_once():
    samples = draw_ref.draw({"p_self": 0.0}, (33, 4, 4), seed=1)["samples"]
    assert sorted(sample["partner_index"] for sample in samples) == list(range(33))


def test_no_layers_where_the_sample_is_not_mixed():
    result = draw_ref.draw({"p_apply": 0.0, "p_self": 0.0}, (5, 4, 4), seed=1)
    assert [sample["partner_index"] for sample in result["samples"]] == [0, 1, 2, 3, 4]
    assert all(sample["layers"] == [] for sample in result["samples"])


@pytest.mark.parametrize("alpha", [0.05, 0.5, 1.0, 4.0])
@pytest.mark.parametrize("k", [1, 3])
def test_lambdas_have_the_mean_and_variance_of_dirichlet(alpha, k):
    # λ_j ~ Beta(α, (2k − 1)α): mean m = 1/(2k), variance m(1 − m)/(2kα + 1).
    n = 4000
    lambdas = [draw_ref.draw_lambdas(draw_ref.Sample(5, i), k, alpha)[k - 1] for i in range(n)]
    mean = 1 / (2 * k)
    variance = mean * (1 - mean) / (2 * k * alpha + 1)
    # 5σ of the mean; λ in [0, 1] bounds the variance of (λ − m)² by its mean.
    assert abs(np.mean(lambdas) - mean) < 5 * math.sqrt(variance / n)
    assert abs(np.var(lambdas) - variance) < 5 * math.sqrt(variance / n)


def test_lambdas_survive_an_alpha_whose_gammas_all_underflow():
    # Nearly all of the mass falls on one of λ_1, λ_2, rest; the clamp keeps λ off 0 and 1.
    drawn = [draw_ref.draw_lambdas(draw_ref.Sample(5, i), 2, 1e-30) for i in range(60)]
    assert {value for pair in drawn for value in pair} == {2.0**-24, 1 - 2.0**-24}


def test_gridmix_gives_the_exact_share_on_average():
    # g·n² = 0.3·9 = 2.7: 2 cells in 30 %, 3 in 70 % of the draws; σ = sqrt(.21/4000) = 0.0072.
    config = {**draw_ref.DEFAULTS, "grid_range": [3, 3]}
    drawn = [draw_ref.draw_gridmix(draw_ref.Sample(6, i), 0, 0.3, config) for i in range(4000)]
    counts = [len(layer["cells"]) for layer in drawn]
    assert set(counts) == {2, 3}
    assert abs(np.mean(counts) - 2.7) < 5 * 0.0073
    # Each cell is in 30 % of the draws; σ = sqrt(.21/4000) again, nine cells.
    share = np.bincount([cell for layer in drawn for cell in layer["cells"]], minlength=9) / 4000
    assert np.abs(share - 0.3).max() < 5 * 0.0073


def test_the_odds_of_methods_follow_their_weights():
    weights = {"mixup": 1.0, "gridmix": 2.0, "gmix": 1.0}
    drawn = [draw_ref.draw_method(draw_ref.Sample(7, i), 0, weights) for i in range(4000)]
    # σ ≤ sqrt(.25/4000) = 0.0079.
    for method, share in (("mixup", 0.25), ("gridmix", 0.5), ("gmix", 0.25)):
        assert abs(drawn.count(method) / 4000 - share) < 5 * 0.0079
    assert set(drawn) == set(weights)


# Masks


def test_cutmix_is_half_open_and_unclipped():
    # x 1, 2 and y 2, 3 of a 4×4 image.
    expected = [[1, 1, 1, 1], [1, 1, 1, 1], [1, 0, 0, 1], [1, 0, 0, 1]]
    assert mask_of(box(1, 2, 3, 9), 4, 4).tolist() == expected
    assert mask_of(box(2, 2, 2, 9), 4, 4).tolist() == np.ones((4, 4)).tolist()


def test_smoothing_counts_a_window_with_borders_replicated():
    # The box is x, y in 0, 1.  By hand, kept pixels of nine:
    #   (0, 0): rows 0 0 1, columns 0 0 1: all in the box                   -> 0
    #   (1, 0): rows 0 0 1, columns 0 1 2: column 2 is kept, three times    -> 3
    #   (2, 0): rows 0 0 1, columns 1 2 3: columns 2 and 3                  -> 6
    #   (1, 1): rows 0 1 2, columns 0 1 2: 9 − the four of the box          -> 5
    #   (2, 2): rows 1 2 3, columns 1 2 3: 9 − pixel (1, 1)                 -> 8
    #   (2, 1): rows 0 1 2, columns 1 2 3: 9 − pixels (1, 0) and (1, 1)     -> 7
    ninths = [[0, 3, 6, 9], [3, 5, 7, 9], [6, 7, 8, 9], [9, 9, 9, 9]]
    got = mask_of(box(0, 0, 2, 2, smooth_px=3), 4, 4)
    assert got.tolist() == [[n / 9 for n in row] for row in ninths]


def test_a_window_larger_than_the_image_replicates_its_borders():
    # One row of two pixels, kept and given; w = 5 reads columns -2 .. 2 -> 1 1 1 0 0.
    got = mask_of(box(1, 0, 2, 1, smooth_px=5), 1, 2)
    assert got.tolist() == [[15 / 25, 10 / 25]]


def test_smoothing_spreads_doubt():
    # 16×16, shear 1: u_x = x + ½ − (y − 7½) is whole, so a pixel of each row lies on an edge.
    sharp = box(2, 3, 9, 12, warp=warp(0.0, 1.0))
    _, sure = ref.layer_mask(sharp, 16, 16)
    assert 0 < np.sum(~sure) < 40
    _, smooth_sure = ref.layer_mask(sharp | {"smooth_px": 3}, 16, 16)
    for y in range(16):
        for x in range(16):
            rows, columns = slice(max(y - 1, 0), y + 2), slice(max(x - 1, 0), x + 2)
            assert smooth_sure[y, x] == sure[rows, columns].all()


def test_a_quarter_turn_turns_the_mask():
    # R(π/2) takes right to down: clockwise on the screen, as numpy's rot90(−1).
    for one in (box(1, 2, 5, 4), cells(3, [1, 3, 8])):
        plain = mask_of(one, 12, 12)
        for turns in (1, 2, 3, -1):
            got, sure = ref.layer_mask(one | {"warp": warp(turns * math.pi / 2, 0.0)}, 12, 12)
            assert sure.all()
            assert got.tolist() == np.rot90(plain, -turns).tolist()


def test_the_warp_turns_the_unit_square():
    # The right half of a wide image becomes its lower half, not a tall strip.
    got = mask_of(box(4, 0, 8, 4, warp=warp(math.pi / 2, 0.0)), 4, 8)
    assert got.tolist() == [[1] * 8] * 2 + [[0] * 8] * 2


def test_shear_moves_rows_sideways():
    # 4×4, shear 2: row y moves by 2·(y + ½ − 2) = −3, −1, 1, 3 pixels.  Column 1 is given.
    got = mask_of(box(1, -9, 2, 9, warp=warp(0.0, 2.0)), 4, 4)
    assert got.tolist() == [[1, 1, 1, 1], [0, 1, 1, 1], [1, 1, 0, 1], [1, 1, 1, 1]]


def test_shear_comes_before_rotation():
    # A = R·shear: a quarter turn of the mask sheared as above.
    sheared = mask_of(box(1, -9, 2, 9, warp=warp(0.0, 2.0)), 4, 4)
    both = mask_of(box(1, -9, 2, 9, warp=warp(math.pi / 2, 2.0)), 4, 4)
    assert both.tolist() == np.rot90(sheared, -1).tolist()


def test_gridmix_indexes_cells_row_by_row():
    # 2×3 cells of a 3×3 grid would be transposed by an index col·n + row.
    got = mask_of(cells(3, [1, 3]), 3, 6)
    assert got.tolist() == [[1, 1, 0, 0, 1, 1], [0, 0, 1, 1, 1, 1], [1, 1, 1, 1, 1, 1]]


def test_gridmix_cuts_at_pixel_centres():
    # W = 5, n = 2: ⌊(2x + 1)·2/10⌋ = ⌊.2 .6 1 1.4 1.8⌋: the middle pixel is in column 1.
    assert mask_of(cells(2, [0, 2]), 1, 5).tolist() == [[0, 0, 1, 1, 1]]


def test_the_grid_continues_periodically():
    # 4×4, n = 2, cell 0; shear 2 moves row y by 2y − 3, so u_x = x + ½ − (2y − 3):
    #   row 0: u_x = 3.5 4.5 5.5 6.5, column ⌊u_x/2⌋ mod 2 = 1 0 0 1   (it wraps at 4)
    #   row 1: u_x = 1.5 2.5 3.5 4.5,                        0 1 1 0
    #   rows 2, 3 lie in grid row 1: kept.
    got, sure = ref.layer_mask(cells(2, [0], warp=warp(0.0, 2.0)), 4, 4)
    assert sure.all()
    assert got.tolist() == [[1, 0, 0, 1], [0, 1, 1, 0], [1, 1, 1, 1], [1, 1, 1, 1]]


def test_warped_and_unwarped_grids_agree():
    for n in range(1, 17):
        one = cells(n, range(0, n * n, 3))
        warped, sure = ref.layer_mask(one | {"warp": warp(0.0, 0.0)}, 13, 20)
        assert (warped == mask_of(one, 13, 20))[sure].all()


def test_gmix_at_known_distances():
    one = layer("gmix", 0.5, cx=2.5, cy=0.5, sigma_px=2.0)
    got = mask_of(one, 3, 5)
    assert got[0, 2] == 0.0
    assert got[0, 4] == pytest.approx(1 - math.exp(-0.5), abs=1e-15)  # d = 2 = σ
    assert got[2, 0] == pytest.approx(1 - math.exp(-1.0), abs=1e-15)  # d² = 8 = 2σ²
    assert mask_of(one | {"sigma_px": 0.0}, 3, 5).tolist() == np.ones((3, 5)).tolist()


@pytest.mark.parametrize("q", [0.0, 0.5, -0.9, 0.999])
@pytest.mark.parametrize("theta", [0.0, 0.4, 2.5])
def test_agmix_is_the_matrix_formula(q, theta):
    one = layer("agmix", 0.5, cx=3.5, cy=8.5, sigma_px=4.0, q=q, angle_rad=theta)
    q, theta = draw_ref.f32(q), draw_ref.f32(theta)
    r = np.array([[math.cos(theta), -math.sin(theta)], [math.sin(theta), math.cos(theta)]])
    inverse = np.linalg.inv(r @ np.array([[1.0, q], [q, 1.0]]) @ r.T)
    got = mask_of(one, 10, 12)
    for y in range(10):
        for x in range(12):
            d = np.array([x + 0.5 - 3.5, y + 0.5 - 8.5])
            # The inverse has a condition number of 2000 at most: 2000·2⁻⁵³ ≪ 1e-11.
            assert got[y, x] == pytest.approx(1 - math.exp(-0.5 * d @ inverse @ d / 16), abs=1e-11)


@pytest.mark.parametrize(("height", "width"), [(7, 13), (32, 20), (33, 90), (1, 17), (2, 9)])
def test_the_fmix_field_is_an_inverse_fft(height, width):
    spectrum = ref.fmix_spectrum(0x1234ABCD5678EF90, 3.0, height, width)
    full = np.zeros((height, width), complex)
    kx_max = spectrum.shape[1] // 2
    for ky in range(spectrum.shape[0]):
        for kx in range(-kx_max, kx_max + 1):
            full[ky, kx % width] += spectrum[ky, kx + kx_max]
    field = ref.fmix_field(0x1234ABCD5678EF90, 3.0, height, width)
    assert np.abs(np.fft.ifft2(full).real * height * width - field).max() < 1e-12 * height * width


def test_the_fmix_spectrum_by_hand():
    # One coefficient with k_x < 0 takes r2 and r3: 20×30, k = (−3, 2), decay 3.
    r = draw_ref.philox4x32((3, 2, 0, 0x464D6978), (0x5678EF90, 0x1234ABCD))
    size = math.sqrt(-2 * math.log((r[2] // 256 + 1) / 2**24))
    angle = 2 * math.pi * r[3] / 2**32
    frequency = math.hypot(-3 / 30, 2 / 20) * 30  # in units of 1/30: 3·sqrt(2)
    got = ref.fmix_spectrum(0x1234ABCD5678EF90, 3.0, 20, 30)[2, -3 + 14]
    expected = complex(math.cos(angle), math.sin(angle)) * size / frequency**3
    assert got == pytest.approx(expected, abs=1e-14)
    assert not ref.fmix_spectrum(1, 3.0, 20, 30)[0, :15].any()  # k_y = 0: only k_x > 0


@pytest.mark.parametrize("augmentation", [None, warp(0.4, 0.2)])
@pytest.mark.parametrize("given", [0.0, 2.0**-24, 0.1, 0.5, 0.77, 1.0])
def test_the_share_of_fmix_is_exact(given, augmentation):
    one = layer("fmix", given, noise_key="0xfeed", decay_power=3.0, warp=augmentation)
    for height, width in ((7, 13), (32, 33), (1, 17)):
        count = np.sum(mask_of(one, height, width) == 0.0)
        assert count == math.floor(draw_ref.f32(given) * height * width + 0.5)


def test_fmix_without_waves_gives_the_first_pixels():
    # H·W = 4: g·4 = 0.5, 1.5 and 2 round, halves away from zero, to 1, 2 and 2.
    for given, count in ((0.125, 1), (0.375, 2), (0.5, 2), (1.0, 4)):
        one = layer("fmix", given, noise_key="0x7", decay_power=3.0)
        mask, sure = ref.layer_mask(one, 2, 2)
        assert mask.ravel().tolist() == [0.0] * count + [1.0] * (4 - count)
        assert sure.all()


def test_the_field_is_sampled_between_pixel_centres_and_wraps():
    field = np.array([[1.0, 2.0, 4.0], [10.0, 20.0, 40.0]])
    at = [
        ((0.5, 0.5), 1.0),
        ((1.0, 0.5), 1.5),  # halfway between columns 0 and 1
        ((1.5, 1.0), 11.0),  # halfway between rows 0 and 1
        ((3.25, 1.5), 17.5),  # ¾ of the way from column 2 on to column 0: 40 − ¾·30
        ((-2.5, 0.5), 1.0),  # one width to the left
    ]
    for (ux, uy), expected in at:
        assert ref.sample_periodic(field, np.array(ux), np.array(uy)) == expected


# Merge and label weights


def test_product_and_sum_of_layers():
    # M_1 = 1 − ¼ = ¾, M_2 = 1 − ½ = ½ on all, a box of 0 on the left.
    samples = [[layer("mixup", 0.25), layer("mixup", 0.5), box(0, 0, 1, 1)]]
    product, _ = ref.render(plan(1, 2, samples, "product"))
    total, _ = ref.render(plan(1, 2, samples, "sum"))
    assert product.tolist() == [[[0.0, 0.375]]]
    assert total.tolist() == [[[1.0, 1.0]]]  # 1.25 and 2.25, clipped once at the end
    quarters = [[layer("mixup", 0.75), layer("mixup", 0.875)]]
    assert ref.render(plan(1, 1, quarters, "sum"))[0].tolist() == [[[0.375]]]


@pytest.mark.parametrize("merge", ["product", "sum"])
@pytest.mark.parametrize("weight", ["merged", "drawn"])
def test_a_sample_without_layers_is_its_primary(merge, weight):
    case = plan(2, 3, [[]], merge, weight)
    masks, _ = ref.render(case)
    assert masks.tolist() == np.ones((1, 2, 3)).tolist()
    assert ref.label_weights(case, masks).tolist() == [1.0]


def test_merged_label_weight_by_hand():
    step = 2.0**-24
    # Halves of a step go to the even integer: 0.5 -> 0, 1.5 -> 2, 2.5 -> 2; (0 + 2 + 2)/3 steps.
    mask = np.array([[0.5 * step, 1.5 * step, 2.5 * step]], np.float32)
    assert ref.merged_label_weight(mask) == np.float32(4 / 3 * step)
    # (2²⁴ + 1)/2²⁵ lies between 2²⁴/2²⁵ and (2²⁴ + 2)/2²⁵, even is below; + 3 goes up to + 4.
    assert ref.merged_label_weight(np.array([[1.0, step]], np.float32)) == 0.5
    assert ref.merged_label_weight(np.array([[1.0, 3 * step]], np.float32)) == 0.5 + 2 * step
    assert ref.merged_label_weight(np.ones((7, 13), np.float32)) == 1.0


def test_drawn_label_weight_by_hand():
    quarter_and_half = [layer("mixup", 0.25), layer("mixup", 0.5)]
    too_much = [layer("mixup", 0.75), layer("mixup", 0.5)]
    for merge, expected in (("product", [0.25, 0.0]), ("sum", [0.75, 1.0])):
        case = plan(1, 1, [quarter_and_half, too_much], merge, "drawn")
        assert ref.label_weights(case, None).tolist() == expected
    with pytest.raises(ValueError, match="label_weight"):
        ref.label_weights(plan(1, 1, [too_much], "product", "drawn", "keep"), None)


def test_round_f32_against_integers():
    rng = np.random.default_rng(1)
    for _ in range(2000):
        top = int(rng.integers(1, 2**50)) << int(rng.integers(0, 20))
        value = Fraction(top, int(rng.integers(1, 2**50)))
        assert ref.round_f32(value) == fraction_to_f32(value)
    # A hair off the middle of two f32, too little for float64 to see.
    for middle in (Fraction(2**24 + 1, 2**24), Fraction(2**24 + 3, 2**24)):
        for hair in (-Fraction(1, 2**90), Fraction(0), Fraction(1, 2**90)):
            assert ref.round_f32(middle + hair) == fraction_to_f32(middle + hair)


# Pixels


def f32_bits(bits):
    return np.asarray(bits, np.uint32).view(np.float32)


def check_fma(a, b, c):
    got = ref.fma_f32(a, b, c)
    for x, y, z, result in zip(a.tolist(), b.tolist(), c.tolist(), got.tolist()):
        assert result == fraction_to_f32(Fraction(x) * Fraction(y) + Fraction(z)), (x, y, z)


def test_fma_is_exact_on_random_bits():
    rng = np.random.default_rng(2)
    a, b, c = (f32_bits(rng.integers(0, 2**32, 20000, dtype=np.uint64)) for _ in range(3))
    finite = np.isfinite(a) & np.isfinite(b) & np.isfinite(c)
    with np.errstate(over="ignore"):
        check_fma(a[finite], b[finite], c[finite])


def test_fma_is_exact_where_terms_meet():
    # c is near −a·b or near half a unit of the product's last place, where rounding twice fails.
    rng = np.random.default_rng(3)
    a, b = (rng.random(20000, np.float32) for _ in range(2))
    near = -(a * b) * (1 + rng.integers(-2, 3, a.size) * np.float32(2.0**-23)).astype(np.float32)
    tiny = a * b * np.float32(2.0**-24) * rng.integers(-3, 4, a.size).astype(np.float32)
    tinier = np.float32(2.0) ** rng.integers(-60, -20, a.size).astype(np.float32)
    for c in (near, tiny, tinier.astype(np.float32)):
        check_fma(a, b, c.astype(np.float32))


def test_fma_where_rounding_to_float64_first_fails():
    # a·b = 1 + 2⁻¹¹ + 2⁻²⁴ is in the middle of two f32; c = ±2⁻¹⁰⁰ decides, float64 drops it.
    a = b = np.float32(1 + 2.0**-12)
    for c, expected in ((2.0**-100, 1 + 2.0**-11 + 2.0**-23), (-(2.0**-100), 1 + 2.0**-11)):
        assert ref.fma_f32(a, b, np.float32(c)) == np.float32(expected)
        assert np.float32(np.float64(a) * np.float64(b) + c) == np.float32(1 + 2.0**-11)


def test_fma_rounds_denormals_and_overflow_once():
    least = np.float32(2.0**-149)
    half, huge = np.float32(0.5), np.float32(F32_MAX)
    assert ref.fma_f32(half, least, np.float32(0)) == 0.0  # a tie, to even
    assert ref.fma_f32(half, least, least) == 2 * least  # 1.5 goes to 2
    with np.errstate(over="ignore"):
        assert ref.fma_f32(huge, np.float32(1), np.float32(2.0**103)) == np.inf
    assert ref.fma_f32(huge, np.float32(1), np.float32(2.0**102)) == huge


def test_mix_copies_bits_where_the_mask_is_one_or_zero():
    primary = f32_bits([0x7FC12345, 0x80000000, 0x00000001, 0x3F800000])
    partner = f32_bits([0x7F800000, 0x3F800000, 0x7FC00000, 0xFF800000])
    got = ref.mix(np.array([1, 1, 1, 1]), primary, partner)
    assert got.view(np.uint32).tolist() == primary.view(np.uint32).tolist()
    got = ref.mix(np.array([0, 0, 0, 0]), primary, partner)
    assert got.view(np.uint32).tolist() == partner.view(np.uint32).tolist()


def test_mix_rounds_the_sum_once():
    # m·p = (½ + 2⁻¹³)(2 + 2⁻¹¹) = 1 + 2⁻¹¹ + 2⁻²⁴, the middle of two f32: the hair q decides.
    m, p = np.float32(0.5 + 2.0**-13), np.full(3, 2 + 2.0**-11, np.float32)
    got = ref.mix(m, p, np.array([2.0**-100, 0.0, -(2.0**-100)], np.float32))
    assert got.tolist() == [1 + 2.0**-11 + 2.0**-23, 1 + 2.0**-11, 1 + 2.0**-11]


def test_mix_rounds_the_partner_first():
    # m = 2⁻²⁴, q = 1 + 2⁻²³: (1 − m)·q = 1 + 2⁻²⁴ − 2⁻⁴⁷ rounds to 1, and m·p = 2⁻⁴⁶ is lost.
    # The exact blend, 1 + 2⁻²⁴ + 2⁻⁴⁷, would round to 1 + 2⁻²³.
    p, q = np.array([2.0**-22], np.float32), np.array([1 + 2.0**-23], np.float32)
    assert ref.mix(np.float32(2.0**-24), p, q).tolist() == [1.0]


def test_u8_rounds_half_to_even():
    # ½·(0 + 1) = 0.5 -> 0; ½·(1 + 2) = 1.5 -> 2; ½·(2 + 3) = 2.5 -> 2; ½·(254 + 255) -> 254.
    primary, partner = np.array([[0, 1, 2, 254]], np.uint8), np.array([[1, 2, 3, 255]], np.uint8)
    assert ref.mix(np.float32(0.5), primary, partner, "u8").tolist() == [[0, 2, 2, 254]]
    assert ref.mix(np.float32(0.25), partner, primary, "u8").tolist() == [[0, 1, 2, 254]]
    assert ref.narrow(np.array([-0.5, -3.0, 255.5, 300.0], np.float32), "u8").tolist() == [
        0, 0, 255, 255,
    ]  # fmt: skip


def test_f16_and_bf16_round_half_to_even():
    half = np.float32(0.5)
    for dtype, one in (("f16", 0x3C00), ("bf16", 0x3F80)):
        # The mean of neighbours n and n + 1 is a tie: it goes to the even bits.
        primary = np.array([one, one + 1, one + 2, 0, 1], np.uint16)
        got = ref.mix(half, primary, primary + np.uint16(1), dtype)
        assert got.tolist() == [one, one + 2, one + 2, 0, 2]
    # f16: 65519.9.. rounds down to the largest, 65520 up to infinity.
    edges = np.array([65519.996, 65520.0], np.float32)
    with np.errstate(over="ignore"):
        assert ref.narrow(edges, "f16").tolist() == [0x7BFF, 0x7C00]
    # bf16: 0x3F80_8000 is a tie and goes down to even, one more goes up.
    ties = f32_bits([0x3F808000, 0x3F808001, 0x3F818000])
    assert ref.narrow(ties, "bf16").tolist() == [0x3F80, 0x3F81, 0x3F82]


def test_maps_take_the_primary_from_one_half_on():
    mask = np.array([[0.5, np.nextafter(np.float32(0.5), np.float32(0)), 1.0, 0.0]], np.float32)
    assert ref.mix_map(mask, np.array([[1, 2, 3, 4]]), np.array([[5, 6, 7, 8]])).tolist() == [
        [1, 6, 3, 8]
    ]


def test_views_shift_and_flip():
    source = np.array([[[1, 2, 3, 4]]], np.float32)

    def view(flip, dx, dy=0):
        return ref.apply_view({"flip": flip, "dx": dx, "dy": dy}, source)[0, 0].tolist()

    assert view(False, 1) == [2, 3, 4, 0]  # out(x) = src(x + 1)
    assert view(False, -2) == [0, 0, 1, 2]
    assert view(True, 0) == [4, 3, 2, 1]
    assert view(True, 1) == [3, 2, 1, 0]  # out(x) = src(3 − (x + 1))
    assert view(False, 0, 1) == [0, 0, 0, 0]


def test_apply_reads_each_image_through_its_view():
    # Sample 0 takes a box from image 1 flipped, sample 1 has no layers and is shifted.
    case = plan(1, 3, [[box(0, 0, 1, 1)], []])
    case["samples"][0]["partner_view"] = {"flip": True, "dx": 0, "dy": 0}
    case["samples"][1]["primary_view"] = {"flip": False, "dx": -1, "dy": 0}
    images = np.array([[[[1, 2, 3]]], [[[4, 5, 6]]]], np.float32)
    mixed, weights = ref.apply(case, images, images * 10)
    assert mixed.tolist() == [[[[60, 2, 3]]], [[[0, 4, 5]]]]
    assert weights.tolist() == [float(np.float32(2 / 3)), 1.0]


# Labels


def test_the_gradient_is_the_adjoint_of_mixing():
    # Masks of quarters and small integers: every product and sum is exact, in whatever order.
    rng = np.random.default_rng(0)
    shape = (5, 2, 4, 6)
    masks = rng.integers(0, 5, (5, 4, 6)).astype(np.float32) / 4
    views = [
        {"flip": bool(rng.integers(2)), "dx": int(rng.integers(-3, 4)), "dy": int(rng.integers(-3, 4))}
        for _ in range(10)
    ]
    partners = [2, 0, 2, 3, 2]
    samples = [
        {"partner_index": partners[i], "primary_view": views[i], "partner_view": views[5 + i]}
        for i in range(5)
    ]
    images, partner, gradient = (
        rng.integers(-9, 10, shape).astype(np.float32) for _ in range(3)
    )
    mixed = np.stack(
        [
            masks[i] * ref.apply_view(sample["primary_view"], images[i])
            + (1 - masks[i])
            * ref.apply_view(sample["partner_view"], partner[sample["partner_index"]])
            for i, sample in enumerate(samples)
        ]
    )
    of_images, of_partner = ref.backward({"samples": samples}, masks, gradient)
    assert (gradient * mixed).sum() == (of_images * images).sum() + (of_partner * partner).sum()
    assert not of_partner[1].any() and not of_partner[4].any()


def test_one_hot_smoothing_in_f32():
    # ε = 0.1, K = 4, in f32: 1 − ε, then ε/K, then their sum.
    epsilon = np.float32(0.1)
    low = epsilon / np.float32(4)
    high = (np.float32(1) - epsilon) + low
    rows = ref.one_hot([2, -1, 0], 4, 0.1)
    assert rows.dtype == np.float32
    assert rows.tolist() == [[low, low, high, low], [0, 0, 0, 0], [high, low, low, low]]


def test_labels_mix_by_their_weight():
    rows = ref.one_hot([0, 1, 2], 3)
    got = ref.mix_labels(rows, [1, 2, 2], [0.75, 0.0, 0.5])
    assert got.tolist() == [[0.75, 0.25, 0], [0, 0, 1], [0, 0, 1]]


# Vectors


def test_the_committed_vectors_are_what_the_reference_gives():
    fresh = make_vectors.make_files()
    committed = {name: (make_vectors.VECTORS / name).read_bytes() for name in fresh}
    assert list(make_vectors.differences(committed, fresh)) == []
    assert make_vectors.MAX_BYTES > sum(map(len, committed.values()))


def test_the_check_notices_a_change():
    fresh = make_vectors.make_files()
    stale = dict(fresh)
    stale["masks.npz"] = stale["views.npz"]
    stale["draws.json"] = stale["draws.json"].replace(b'"given": ', b'"given": 1', 1)
    del stale["labels.json"]
    found = " ".join(make_vectors.differences(stale, fresh))
    assert "mixup_given/mask is missing" in found
    assert "draws.json: defaults differs" in found
    assert "labels.json is missing" in found
