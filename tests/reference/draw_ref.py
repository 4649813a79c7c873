"""How a plan is drawn: an independent reading of docs/draw.md.

``draw(config, shape, seed, first_sample)`` returns a plan as plain data, in the JSON schema
that ``miamix_ref`` renders.  Every decision has its own slot, so nothing here keeps a stream.

Arithmetic is binary64, as docs/draw.md asks, with the platform's ``ln``, ``exp`` and ``cos``
instead of those of the ``libm`` crate: they differ in the last of 53 bits, which shows in a
value rounded to f32 about once in 10**8 values.

Source: MiAMix (Liang et al., 2023), Algorithm 1; Philox4x32-10 (Salmon et al., 2011).
"""

import itertools
import math

import numpy as np

METHODS = ("mixup", "cutmix", "fmix", "gridmix", "agmix", "gmix")
DEFAULTS = {
    "alpha": 1.0,
    "k_min": 1,
    "k_max": 2,
    "method_weights": {"mixup": 2.0, "cutmix": 1.0, "fmix": 1.0, "gridmix": 1.0, "agmix": 1.0},
    "p_apply": 1.0,
    "p_self": 0.1,
    "p_aug": 0.25,
    "p_smooth": 0.5,
    "merge": "product",
    "label_weight": "merged",
    "lambda_reading": "complement",
    "gaussian_sigma": "paper",
    "pairing": "permutation",
    "cutmix_box": "clipped",
    "grid_range": [2, 8],
    "decay_power": 3.0,
    "rotate_max_rad": math.pi / 4,
    "shear_max": 0.3,
    "smooth_range_px": [3, 7],
    "p_flip": 0.0,
    "pad_px": 0,
    "label_smoothing": 0.0,
}
PERMUTATION, PARTNER, SELF, APPLY, LAYER_COUNT, VIEW, GAMMA, METHOD = range(1, 9)
POSITION, GRID, CELLS, COVARIANCE, NOISE, WARP, SMOOTH = range(9, 16)
MASK32, MASK64 = 2**32 - 1, 2**64 - 1
TWO_PI = 6.283185307179586


# Random bits


def philox4x32(counter, key):
    """Philox4x32-10: four 32-bit words from a counter of four and a key of two.

    Works on Python integers, and element by element on uint64 arrays.
    """
    c0, c1, c2, c3 = counter
    k0, k1 = key
    for _ in range(10):
        p0, p1 = 0xD2511F53 * c0, 0xCD9E8D57 * c2
        c0, c1, c2, c3 = (p1 >> 32) ^ c1 ^ k0, p1 & MASK32, (p0 >> 32) ^ c3 ^ k1, p0 & MASK32
        k0, k1 = (k0 + 0x9E3779B9) & MASK32, (k1 + 0xBB67AE85) & MASK32
    return c0, c1, c2, c3


class Sample:
    """The slots of one sample: ``word(purpose, layer, i)`` is word i of a slot, 64 bits."""

    def __init__(self, seed, index):
        self.key = (seed & MASK32, (seed & MASK64) >> 32)
        self.index = index & MASK64

    def word(self, purpose, layer, i):
        counter = (self.index & MASK32, self.index >> 32, purpose + 256 * layer, i // 2)
        r = philox4x32(counter, self.key)
        return r[2] + (r[3] << 32) if i % 2 else r[0] + (r[1] << 32)

    def words(self, purpose, layer, first=0):
        return (self.word(purpose, layer, i) for i in itertools.count(first))


def below(word, n):
    """An integer in 0 .. n − 1."""
    return word * n >> 64


def unit(word):
    """A real in [0, 1)."""
    return (word >> 11) * 2.0**-53


def open_unit(word):
    """A real in (0, 1)."""
    return ((word >> 12) + 0.5) * 2.0**-52


def symmetric(word, r):
    """A real in [−r, r], rounded to f32."""
    return f32((2.0 * unit(word) - 1.0) * r)


def normal(a, b):
    """A standard normal from two words."""
    return math.sqrt(-2.0 * math.log(open_unit(a))) * math.cos(TWO_PI * unit(b))


def f32(value):
    """The f32 nearest to `value`, widened."""
    return float(np.float32(value))


def number(value):
    """The shortest decimal that reads back to the f32, as the float that JSON prints so."""
    return float(str(np.float32(value)))


# Layer ratios


def large_gamma(shape, words):
    """A Gamma(shape, 1) variate, shape > 1, by Marsaglia and Tsang (2000)."""
    d = shape - 1.0 / 3.0
    c = 1.0 / math.sqrt(9.0 * d)
    while True:
        x = normal(next(words), next(words))
        t = 1.0 + c * x
        if t <= 0.0:
            continue
        v = t * t * t
        u = open_unit(next(words))
        x2 = x * x
        if u < 1.0 - 0.0331 * x2 * x2 or math.log(u) < 0.5 * x2 + d * (1.0 - v + math.log(v)):
            return v * d


def gamma_with_boost(shape, sample, layer):
    """(G, b) of which G·exp(b) is Gamma(shape, 1); b is kept apart as it may underflow."""
    words = sample.words(GAMMA, layer)
    if shape == 1.0:
        return -math.log(open_unit(next(words))), 0.0
    if shape > 1.0:
        return large_gamma(shape, words), 0.0
    boost = math.log(open_unit(next(words))) / shape
    return large_gamma(shape + 1.0, words), boost


def draw_lambdas(sample, k, alpha):
    """λ_1 .. λ_k of (λ_1, .., λ_k, rest) ~ Dir(α, .., α, k·α), each a widened f32."""
    gammas = [gamma_with_boost(alpha if j < k else k * alpha, sample, j) for j in range(k + 1)]
    largest = max(boost for _, boost in gammas)
    weights = [g * math.exp(boost - largest) for g, boost in gammas]
    total = 0.0
    for weight in weights:
        total += weight
    return [min(max(f32(weight / total), 2.0**-24), 1 - 2.0**-24) for weight in weights[:k]]


# Layers


def draw_method(sample, j, method_weights):
    weights = [f32(method_weights.get(method, 0.0)) for method in METHODS]
    sums = list(itertools.accumulate(weights))
    point = unit(sample.word(METHOD, j, 0)) * sums[-1]
    possible = [m for m in range(len(METHODS)) if weights[m] > 0.0]
    return METHODS[next((m for m in possible if point < sums[m]), possible[-1])]


def draw_cutmix(sample, j, given, height, width, config):
    edges = {}
    for axis, (name, size) in enumerate((("x", width), ("y", height))):
        half = int(size * math.sqrt(given)) // 2
        word = sample.word(POSITION, j, axis)
        if config["cutmix_box"] == "inside":
            centre = half + below(word, size - 2 * half + 1)
        else:
            centre = below(word, size)
        edges[name + "0"], edges[name + "1"] = centre - half, centre + half
    return {name: edges[name] for name in ("x0", "y0", "x1", "y1")}


def draw_gridmix(sample, j, given, config):
    low, high = config["grid_range"]
    n = low + below(sample.word(GRID, j, 0), high - low + 1)
    wanted = given * n * n
    count = math.floor(wanted)
    if unit(sample.word(GRID, j, 1)) < wanted - count:
        count += 1
    cells = set()
    for t in range(count):
        last = n * n - count + t
        cell = below(sample.word(CELLS, j, t), last + 1)
        cells.add(last if cell in cells else cell)
    return {"n": n, "cells": sorted(cells)}


def draw_gaussian(sample, j, given, height, width, config):
    area = given * height * width
    if config["gaussian_sigma"] == "area":
        area /= TWO_PI
    return {
        "cx": below(sample.word(POSITION, j, 0), width) + 0.5,
        "cy": below(sample.word(POSITION, j, 1), height) + 0.5,
        "sigma_px": number(math.sqrt(area)),
    }


def draw_covariance(sample, j):
    q = symmetric(sample.word(COVARIANCE, j, 0), 1.0)
    bound = f32(0.999)
    return {
        "q": number(min(max(q, -bound), bound)),
        "angle_rad": number(unit(sample.word(COVARIANCE, j, 1)) * 3.141592653589793),
    }


def draw_augmentation(sample, j, config):
    """`warp` and `smooth_px` of a cutmix, gridmix or fmix layer."""
    warp = smooth_px = None
    if unit(sample.word(WARP, j, 0)) < f32(config["p_aug"]):
        warp = {
            "angle_rad": number(symmetric(sample.word(WARP, j, 1), f32(config["rotate_max_rad"]))),
            "shear": number(symmetric(sample.word(WARP, j, 2), f32(config["shear_max"]))),
        }
    if unit(sample.word(SMOOTH, j, 0)) < f32(config["p_smooth"]):
        low, high = config["smooth_range_px"]
        windows = [window for window in range(low, high + 1) if window % 2]
        smooth_px = windows[below(sample.word(SMOOTH, j, 1), len(windows))]
    return {"warp": warp, "smooth_px": smooth_px}


def draw_layer(sample, j, lam, height, width, config):
    method = draw_method(sample, j, config["method_weights"])
    keeps = config["lambda_reading"] == "keep" or config["merge"] == "sum"
    given = f32(1.0 - lam) if keeps else lam
    layer = {"method": method, "lambda": number(lam), "given": number(given)}
    if method == "cutmix":
        layer |= draw_cutmix(sample, j, given, height, width, config)
    elif method == "gridmix":
        layer |= draw_gridmix(sample, j, given, config)
    elif method == "fmix":
        layer["noise_key"] = f"0x{sample.word(NOISE, j, 0):016x}"
        layer["decay_power"] = number(config["decay_power"])
    elif method in ("gmix", "agmix"):
        layer |= draw_gaussian(sample, j, given, height, width, config)
    if method == "agmix":
        layer |= draw_covariance(sample, j)
    if method in ("cutmix", "gridmix", "fmix"):
        layer |= draw_augmentation(sample, j, config)
    return layer


# Plans


def draw_permutation(seed, first_sample, n_samples):
    """π of 0 .. N − 1, by the shuffle of Fisher and Yates from the last place down."""
    batch = Sample(seed, first_sample)
    permutation = list(range(n_samples))
    for i in range(n_samples - 1, 0, -1):
        other = below(batch.word(PERMUTATION, 0, i), i + 1)
        permutation[i], permutation[other] = permutation[other], permutation[i]
    return permutation


def draw_view(sample, role, config):
    pad = config["pad_px"]
    return {
        "flip": unit(sample.word(VIEW, role, 0)) < f32(config["p_flip"]),
        "dx": below(sample.word(VIEW, role, 1), 2 * pad + 1) - pad,
        "dy": below(sample.word(VIEW, role, 2), 2 * pad + 1) - pad,
    }


def draw(config, shape, seed, first_sample=0):
    """The plan of one batch.

    config : the parameters that differ from `DEFAULTS`; a `method_weights` replaces all weights.
    shape : (N, H, W).  seed, first_sample : 64 bits.
    """
    unknown = set(config) - set(DEFAULTS)
    if unknown:
        raise ValueError(f"config: unknown names {sorted(unknown)}")
    config = {**DEFAULTS, **config}
    n_samples, height, width = shape
    permutation = draw_permutation(seed, first_sample, n_samples)
    samples = []
    for i in range(n_samples):
        sample = Sample(seed, first_sample + i)
        partner = permutation[i]
        if config["pairing"] == "uniform":
            partner = below(sample.word(PARTNER, 0, 0), n_samples)
        if unit(sample.word(SELF, 0, 0)) < f32(config["p_self"]):
            partner = i
        layers = []
        if unit(sample.word(APPLY, 0, 0)) < f32(config["p_apply"]):
            span = config["k_max"] - config["k_min"] + 1
            k = config["k_min"] + below(sample.word(LAYER_COUNT, 0, 0), span)
            lambdas = draw_lambdas(sample, k, f32(config["alpha"]))
            layers = [
                draw_layer(sample, j, lam, height, width, config) for j, lam in enumerate(lambdas)
            ]
        else:
            partner = i
        samples.append(
            {
                "partner_index": partner,
                "primary_view": draw_view(sample, 0, config),
                "partner_view": draw_view(sample, 1, config),
                "layers": layers,
            }
        )
    return {
        "version": 1,
        "height": height,
        "width": width,
        "merge": config["merge"],
        "label_weight": config["label_weight"],
        "lambda_reading": config["lambda_reading"],
        "samples": samples,
    }
