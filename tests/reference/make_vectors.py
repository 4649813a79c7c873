"""Writes the golden vectors that every engine and every language meets: tests/vectors/.

    python make_vectors.py            write them
    python make_vectors.py --check    compare what is committed with what this would write

One function per stage below makes the cases of that stage.  Random cases come from Philox with a
fixed key, and archives carry one fixed date, so that writing twice gives equal bytes.  The check
compares arrays, not bytes, as another zlib may pack them otherwise.
"""

import argparse
import io
import json
import math
import sys
import zipfile
from pathlib import Path

import numpy as np
from draw_ref import METHODS, below, draw, f32, number, open_unit, philox4x32, unit
from miamix_ref import (
    apply_view,
    label_weights,
    merged_label_weight,
    mix,
    mix_labels,
    narrow,
    one_hot,
    render,
)

VECTORS = Path(__file__).resolve().parent.parent / "vectors"
PLAIN_VIEW = {"flip": False, "dx": 0, "dy": 0}
MAX_BYTES = 1_000_000


class Stream:
    """Random numbers for making up cases, from Philox; equal everywhere, for ever."""

    def __init__(self, name):
        self.key = (int.from_bytes(name.encode()[:4], "little"), 0x4D69414D)
        self.position = 0

    def word(self):
        self.position += 1
        r = philox4x32((self.position, 0, 0, 0), self.key)
        return r[0] + (r[1] << 32)

    def below(self, n):
        return below(self.word(), n)

    def chance(self, p):
        return unit(self.word()) < p

    def uniform(self, low, high):
        return number(low + (high - low) * unit(self.word()))

    def array(self, shape, low=0.0, high=1.0):
        values = [low + (high - low) * unit(self.word()) for _ in range(math.prod(shape))]
        return np.array(values, np.float32).reshape(shape)

    def integers(self, shape, n):
        return np.array([self.below(n) for _ in range(math.prod(shape))]).reshape(shape)

    def shuffled(self, items):
        return sorted(items, key=lambda _: open_unit(self.word()))


# Masks


def layer(method, given, **rest):
    """A layer with what its method needs; `rest` overrides or completes it."""
    base = {"method": method, "lambda": number(given), "given": number(given)}
    if method in ("cutmix", "gridmix", "fmix"):
        rest = {"warp": None, "smooth_px": None} | rest
    return base | rest


def box(x0, y0, x1, y1, **rest):
    return layer("cutmix", 0.25, x0=x0, y0=y0, x1=x1, y1=y1, **rest)


def cells(n, chosen, **rest):
    return layer("gridmix", 0.5, n=n, cells=list(chosen), **rest)


def warp(angle_rad, shear):
    return {"angle_rad": number(angle_rad), "shear": number(shear)}


def random_layer(rng, method, given, height, width, augmented=False, **rest):
    """A layer as a draw might give it."""
    if augmented:
        rest = {
            "warp": warp(rng.uniform(-0.785, 0.785), rng.uniform(-0.3, 0.3)),
            "smooth_px": 3 + 2 * rng.below(3),
        } | rest
    if method == "cutmix":
        w, h = int(width * math.sqrt(given)) // 2, int(height * math.sqrt(given)) // 2
        cx, cy = rng.below(width), rng.below(height)
        rest = {"x0": cx - w, "y0": cy - h, "x1": cx + w, "y1": cy + h} | rest
    elif method == "gridmix":
        n = rest.get("n", 2 + rng.below(7))
        if rest.get("warp") and (height % 2 or width % 2):
            n |= 1  # an even grid has a border through the centre, which would be unsure
        count = math.floor(given * n * n + rng.uniform(0.0, 0.999))
        rest = {"n": n, "cells": sorted(rng.shuffled(range(n * n))[:count])} | rest
    elif method == "fmix":
        rest = {"noise_key": f"0x{rng.word():016x}", "decay_power": 3.0} | rest
    elif method in ("gmix", "agmix"):
        rest = {
            "cx": rng.below(width) + 0.5,
            "cy": rng.below(height) + 0.5,
            "sigma_px": number(math.sqrt(given * height * width)),
        } | rest
        if method == "agmix":
            rest = {"q": rng.uniform(-0.95, 0.95), "angle_rad": rng.uniform(0.0, 3.14)} | rest
    return layer(method, given, **rest)


def random_layers(rng, count, height, width):
    """`count` layers of mixed methods, half of those that can be augmented."""
    layers = []
    for _ in range(count):
        method = METHODS[rng.below(len(METHODS))]
        augmented = method in ("cutmix", "gridmix", "fmix") and rng.chance(0.5)
        given = rng.uniform(0.02, 0.5)
        layers.append(random_layer(rng, method, given, height, width, augmented))
    return layers


def plan(height, width, samples, merge="product", label_weight="merged", reading="complement"):
    """A plan of the given lists of layers; partners run backwards through the batch."""
    return {
        "version": 1,
        "height": height,
        "width": width,
        "merge": merge,
        "label_weight": label_weight,
        "lambda_reading": reading,
        "samples": [
            {
                "partner_index": len(samples) - 1 - i,
                "primary_view": PLAIN_VIEW,
                "partner_view": PLAIN_VIEW,
                "layers": layers,
            }
            for i, layers in enumerate(samples)
        ],
    }


def mask_plans():
    """(name, plan) of every mask case."""
    rng = Stream("mask")
    maskable = ("cutmix", "gridmix", "fmix")
    givens = [0.0, 2.0**-24, 1e-3, 0.1, 0.5, 0.9, 1.0]

    for method in METHODS:
        samples = [[random_layer(rng, method, given, 20, 45)] for given in givens]
        yield f"{method}_given", plan(20, 45, samples)

    sizes = [(1, 1), (1, 17), (19, 1), (2, 2), (2, 9), (7, 13), (31, 31), (32, 32), (33, 33)]
    for height, width in [*sizes, (20, 45), (64, 64)]:
        plain = [
            [random_layer(rng, method, rng.uniform(0.2, 0.6), height, width)] for method in METHODS
        ]
        yield f"size_{height}x{width}_plain", plan(height, width, plain)
        augmented = [
            [random_layer(rng, method, rng.uniform(0.2, 0.6), height, width, augmented=True)]
            for method in maskable
        ]
        yield f"size_{height}x{width}_augmented", plan(height, width, augmented)

    fmix = random_layer(rng, "fmix", 0.37, 224, 224)
    yield "fmix_224_plain", plan(224, 224, [[fmix]])
    fmix = random_layer(rng, "fmix", 0.61, 225, 225, warp=warp(0.5, -0.2))
    yield "fmix_225_warped", plan(225, 225, [[fmix]])
    for decay in (2.0, 3.0, 4.5):
        samples = [[random_layer(rng, "fmix", 0.45, 40, 33, decay_power=decay)] for _ in range(2)]
        yield f"fmix_decay_{str(decay).replace('.', '_')}", plan(40, 33, samples)

    for method in maskable:
        warped = [
            [random_layer(rng, method, 0.4, 20, 45, warp=warp(angle, shear))]
            for angle, shear in [(0.3, 0.0), (0.0, 0.25), (-0.7, -0.3), (0.785, 0.3)]
        ]
        yield f"{method}_warp", plan(20, 45, warped)
        windows = (1, 3, 5, 7, 15)
        smooth = [[random_layer(rng, method, 0.4, 21, 30, smooth_px=w)] for w in windows]
        yield f"{method}_smooth", plan(21, 30, smooth)
        both = [
            [random_layer(rng, method, 0.4, 24, 18, augmented=True, smooth_px=w)] for w in windows
        ]
        yield f"{method}_warp_smooth", plan(24, 18, both)
        large = [
            [random_layer(rng, method, 0.4, 32, 28, warp=warp(angle, shear))]
            for angle, shear in [(100.0, 0.1), (-3.1, 0.0), (0.4, 3.0), (2.2, -2.5), (math.pi, 0)]
        ]
        yield f"{method}_warp_large", plan(32, 28, large)
        quarter = [
            [random_layer(rng, method, 0.4, 16, 16, warp=warp(turns * math.pi / 2, 0.0))]
            for turns in (0, 1, 2, 3, -1)
        ]
        yield f"{method}_warp_quarter_turns", plan(16, 16, quarter)
        small = [
            [random_layer(rng, method, 0.4, 5, 9, smooth_px=15)],
            [random_layer(rng, method, 0.4, 5, 9, augmented=True, smooth_px=15)],
        ]
        yield f"{method}_window_larger_than_image", plan(5, 9, small)

    sides = [(-3, 2, 4, 7), (8, 2, 15, 7), (4, -2, 8, 3), (4, 7, 8, 14), (-2, -2, 3, 3)]
    corners = [(9, 8, 14, 12), (-5, 3, 20, 6), (4, -5, 7, 30)]
    samples = [[box(*edges)] for edges in sides + corners]
    yield "cutmix_clipped", plan(10, 12, samples)
    samples = [[box(*edges, smooth_px=3)] for edges in sides + corners]
    yield "cutmix_clipped_smooth", plan(10, 12, samples)
    samples = [[box(*edges, warp=warp(0.4, 0.1))] for edges in sides + corners]
    yield "cutmix_clipped_warp", plan(10, 12, samples)
    empty = [(5, 2, 5, 8), (2, 5, 8, 5), (3, 3, 3, 3), (12, 0, 20, 10), (-9, -9, 0, 0)]
    samples = [[box(*edges)] for edges in empty]
    yield "cutmix_empty", plan(10, 12, samples)
    samples = [[box(*edges, smooth_px=5)] for edges in empty]
    yield "cutmix_empty_smooth", plan(10, 12, samples)
    samples = [[box(*edges, warp=warp(-0.5, 0.2))] for edges in empty[:3]]
    yield "cutmix_empty_warp", plan(10, 12, samples)
    samples = [
        [box(0, 0, 12, 10)],
        [box(-40, -40, 50, 50)],
        [box(0, 0, 12, 10, smooth_px=7)],
        [box(-40, -40, 50, 50, smooth_px=7, warp=warp(0.6, 0.3))],
    ]
    yield "cutmix_covers_all", plan(10, 12, samples)

    samples = [
        [cells(1, [])],
        [cells(1, [0])],
        [cells(16, range(0, 256, 3))],
        [cells(16, range(256))],
        [cells(16, [])],
        [cells(7, range(0, 49, 2))],
    ]
    yield "gridmix_extremes", plan(11, 13, samples)
    samples = [
        [cells(2, [0], warp=warp(0.0, 1.0))],
        [cells(2, [0], warp=warp(0.0, -1.0))],
        [cells(16, range(0, 256, 3), warp=warp(0.3, 0.1))],
        [cells(1, [0], warp=warp(0.5, 0.1))],
        [cells(3, [4], warp=warp(0.7, 2.0))],
    ]
    yield "gridmix_wraps", plan(11, 13, samples)

    def gaussian(sigma_px, **rest):
        return [layer("gmix", 0.25, cx=6.5, cy=3.5, sigma_px=number(sigma_px), **rest)]

    samples = [gaussian(s) for s in (0.0, 1e-30, 1e-3, 0.2, 1.0, 1e4)]
    yield "gmix_sigmas", plan(9, 14, samples)
    samples = [
        [layer("gmix", 0.25, cx=cx, cy=cy, sigma_px=4.0)]
        for cx, cy in ((0.5, 0.5), (13.5, 8.5), (-3.25, 20.0), (7.0, 4.5))
    ]
    yield "gmix_centres", plan(9, 14, samples)
    samples = [
        [layer("agmix", 0.25, cx=6.5, cy=3.5, sigma_px=number(s), q=number(q), angle_rad=number(a))]
        for s, q, a in (
            (0.0, 0.5, 1.0),
            (1e-30, 0.5, 1.0),
            (1e-3, -0.5, 1.0),
            (5.0, 0.0, 2.0),
            (5.0, 0.999, 0.0),
            (5.0, -0.999, 0.7),
            (20.0, 0.999, 3.1415925),
            (3.0, 0.9, -50.0),
        )
    ]
    yield "agmix_extremes", plan(20, 23, samples)
    samples = [
        [random_layer(rng, "agmix", 0.3, 100, 20, q=q)] for q in (number(0.999), number(-0.999))
    ]
    yield "agmix_thin", plan(100, 20, samples)

    for merge in ("product", "sum"):
        for count in range(2, 9):
            height, width = 12 + count, 27 - count
            samples = [random_layers(rng, count, height, width) for _ in range(2)]
            yield f"{merge}_{count}_layers", plan(height, width, samples, merge)
        yield f"{merge}_no_layers", plan(3, 5, [[], [layer("mixup", 0.5)], []], merge)
    mixups = [[layer("mixup", g) for g in gs] for gs in ([0.1], [0.1, 0.2, 0.3], [0.75, 0.75])]
    yield "product_drawn", plan(4, 6, [*mixups, []], "product", "drawn")
    yield "sum_drawn", plan(4, 6, [*mixups, []], "sum", "drawn")
    yield "sum_drawn_keep", plan(4, 6, [*mixups, []], "sum", "drawn", "keep")
    yield "product_keep", plan(9, 8, [random_layers(rng, 3, 9, 8)], reading="keep")
    samples = [random_layers(rng, count, 15, 14) for count in (1, 2, 3)]
    yield "product_drawn_mixed", plan(15, 14, samples, "product", "drawn")
    yield "sum_drawn_mixed", plan(15, 14, samples, "sum", "drawn")
    full = [[layer("mixup", 1.0)], [layer("mixup", 0.0)], [box(0, 0, 4, 6), layer("mixup", 0.0)]]
    yield "sum_of_zero_and_one", plan(6, 4, full, "sum")

    # Where an f32 engine's coordinates are large: wide and high images, great shears, a ridge.
    for height, width in ((3, 16384), (8192, 5)):
        samples = [
            [random_layer(rng, method, 0.3, height, width, warp=warp(0.7, -0.3), smooth_px=None)]
            for method in ("cutmix", "gridmix", "fmix")
        ]
        yield f"warp_{height}x{width}", plan(height, width, samples)
    samples = [
        [random_layer(rng, method, 0.3, 100, 120, warp=warp(angle, shear), smooth_px=None)]
        for method in ("cutmix", "gridmix", "fmix")
        for angle, shear in ((0.3, 100.0), (-0.5, -1000.0))
    ]
    yield "warp_shears", plan(100, 120, samples)
    samples = [
        [random_layer(rng, "agmix", 0.2, 60, 80, q=number(q))] for q in (1 - 2.0**-24, 2.0**-24 - 1, 1 - 2.0**-16)
    ]
    yield "agmix_ridge", plan(60, 80, samples)


def make_masks():
    cases, arrays = [], {}
    for name, case in mask_plans():
        masks, sure = render(case)
        # A case that leaves much open would test little.
        assert (~sure).mean() < 0.05, f"{name}: {(~sure).mean():.3f} of the pixels are unsure"
        weights = [number(weight) for weight in label_weights(case, masks)]
        cases.append({"name": name, "label_weight": weights, "plan": case})
        arrays[f"{name}/mask"] = masks.astype(np.float32)
        arrays[f"{name}/sure"] = sure.astype(np.uint8)
    return cases, arrays


# Pixels


EDGE_MASKS = [0.0, 1.0, 2.0**-149, 2.0**-126, 2.0**-25, 2.0**-24, 1 - 2.0**-24, 1 - 2.0**-23, 0.5]


def random_mask(rng, height, width):
    """Uniform values, with runs of exact 0 and 1 between them."""
    mask = rng.array((height, width))
    kind = rng.integers((height, width), 4)
    return np.where(kind == 0, np.float32(0), np.where(kind == 1, np.float32(1), mask))


def grid_of(values, n_channels=1):
    """Every value against every other: (primary, partner) of [C, n, n]."""
    values = np.asarray(values)
    shape = (n_channels, values.size, values.size)
    return np.broadcast_to(values[:, None], shape), np.broadcast_to(values[None, :], shape)


def f32_pixel_cases(rng):
    """(name, mask, primary, partner) in f32."""
    for channels, height, width in [(1, 1, 1), (3, 1, 17), (3, 19, 1), (4, 7, 13), (3, 20, 33)]:
        images = [rng.array((channels, height, width), -2.0, 3.0) for _ in range(2)]
        mask = random_mask(rng, height, width)
        yield f"random_{channels}x{height}x{width}", mask, *images
    images = [rng.array((2, 8, 70)) for _ in range(2)]
    for value in (0.0, 1.0, 0.5, number(0.1)):
        name = f"constant_{str(value).replace('.', '_')}"
        yield name, np.full((8, 70), value, np.float32), *images
    edges = np.resize(np.array(EDGE_MASKS, np.float32), (4, 35))
    yield "edge_masks", edges, rng.array((3, 4, 35), -1.0, 1.0), rng.array((3, 4, 35), -1.0, 1.0)

    # Where the mask is 0 or 1 the unread image may hold anything, and the read one keeps its bits.
    odd = np.array([0x7FC00000, 0x7F800000, 0xFF800000, 0x80000000, 0x00000001, 0x7FC12345])
    odd = np.resize(odd.astype(np.uint32).view(np.float32), (2, 6, 11))
    mask = (rng.integers((6, 11), 2)).astype(np.float32)
    finite = rng.array((2, 6, 11))
    yield "unread_not_finite", mask, np.where(mask == 1, finite, odd), np.where(mask, odd, finite)
    yield "read_bits_copied", mask, np.where(mask == 1, odd, finite), np.where(mask, finite, odd)

    specials = [0.0, -0.0, 2.0**-149, -(2.0**-149), 2.0**-126, -3 * 2.0**-140, 1.0, -1.0]
    specials += [f32(3.4028235e38), -f32(3.4028235e38), 1.7e38, 1e-20, -7.0 * 2.0**-145]
    primary, partner = grid_of(np.array(specials, np.float32))
    for name, value in (
        ("half", 0.5),
        ("near_zero", 2.0**-24),
        ("denormal", 5 * 2.0**-149),
        ("near_one", 1 - 2.0**-24),
        ("third", 1 / 3),
    ):
        mask = np.full(primary.shape[1:], value, np.float32)
        yield f"specials_mask_{name}", mask, primary, partner
    mask = np.full((3, 3), 0.25, np.float32)
    yield "infinities", mask, *grid_of(np.array([np.inf, 1.0, -2.0], np.float32))
    # Here the two halves nearly cancel, and a rounded product would show.
    mask = rng.array((9, 16), 0.05, 0.95)
    primary = rng.array((2, 9, 16), 1.0, 2.0)
    partner = -(mask * primary) / (np.float32(1) - mask)
    yield "cancelling", mask, primary, partner
    # mask·primary is the middle of two f32, 1 + 2⁻¹¹ + 2⁻²⁴ or 1 + 2⁻¹⁰ + 3·2⁻²⁴; the partner's
    # hair decides, and a sum in float64 would have lost it.
    mask = np.full((2, 3), 0.5 + 2.0**-13, np.float32)
    primary = np.broadcast_to([[2 + 2.0**-11], [2 + 3 * 2.0**-11]], (1, 2, 3)).astype(np.float32)
    partner = np.broadcast_to([2.0**-100, 0.0, -(2.0**-100)], (1, 2, 3)).astype(np.float32)
    yield "near_ties", mask, primary, partner


def half_pixel_cases(rng, dtype):
    """(name, mask, primary, partner) in the uint16 bits of f16 or bf16."""
    one, infinity = (0x3C00, 0x7C00) if dtype == "f16" else (0x3F80, 0x7F80)
    for channels, height, width in [(3, 7, 13), (1, 3, 33)]:
        images = [narrow(rng.array((channels, height, width), -2, 3), dtype) for _ in range(2)]
        mask = random_mask(rng, height, width)
        yield f"random_{channels}x{height}x{width}", mask, *images
    # Neighbours of 1 at ½: every second mean is a tie, which goes to the even one.
    values = np.arange(one - 4, one + 9).astype(np.uint16)
    yield "ties", np.full((13, 13), 0.5, np.float32), *grid_of(values)
    # Denormals, the largest finite numbers, and signs.
    values = np.array([0, 1, 2, 3, 0x8000, 0x8001, 0x8003, infinity - 1, infinity - 2])
    values = np.append(values, [one, infinity + 0x8000 - 1, 0x0400, 0x03FF]).astype(np.uint16)
    for name, value in (("half", 0.5), ("third", 1 / 3), ("near_one", 1 - 2.0**-24)):
        mask = np.full((values.size, values.size), value, np.float32)
        yield f"specials_mask_{name}", mask, *grid_of(values)
    odd = np.resize(np.array([infinity, infinity + 0x8000, infinity + 0x55, 0x8000, 1]), (1, 5, 12))
    finite = narrow(rng.array((1, 5, 12)), dtype)
    mask = rng.integers((5, 12), 2).astype(np.float32)
    read = np.where(mask == 1, finite, odd).astype(np.uint16)
    unread = np.where(mask == 1, odd, finite).astype(np.uint16)
    yield "unread_not_finite", mask, read, unread
    yield "read_bits_copied", mask, unread, read


def u8_pixel_cases(rng):
    """(name, mask, primary, partner) in u8."""
    for channels, height, width in [(3, 7, 13), (1, 1, 1), (3, 9, 67)]:
        images = [rng.integers((channels, height, width), 256).astype(np.uint8) for _ in range(2)]
        mask = random_mask(rng, height, width)
        yield f"random_{channels}x{height}x{width}", mask, *images
    values = np.array([0, 1, 2, 3, 4, 127, 128, 251, 252, 253, 254, 255], np.uint8)
    for name, value in (("half", 0.5), ("quarter", 0.25), ("three_eighths", 0.375), ("tenth", 0.1)):
        mask = np.full((values.size, values.size), value, np.float32)
        yield f"ties_mask_{name}", mask, *grid_of(values)
    edges = np.resize(np.array(EDGE_MASKS, np.float32), (4, 35))
    images = [rng.integers((2, 4, 35), 256).astype(np.uint8) for _ in range(2)]
    yield "edge_masks", edges, *images


def make_mix():
    rng = Stream("pixels")
    groups = [("f32", f32_pixel_cases(rng))]
    groups += [(dtype, half_pixel_cases(rng, dtype)) for dtype in ("f16", "bf16")]
    groups += [("u8", u8_pixel_cases(rng))]
    cases, arrays = [], {}
    for dtype, group in groups:
        for name, mask, primary, partner in group:
            name = f"{dtype}_{name}"
            cases.append({"name": name, "dtype": dtype})
            arrays[f"{name}/mask"] = mask
            arrays[f"{name}/primary"] = primary
            arrays[f"{name}/partner"] = partner
            arrays[f"{name}/out"] = mix(mask, primary, partner, dtype)
    return cases, arrays


# Label weights and labels


def make_weights():
    rng = Stream("weights")
    ulp = 2.0**-24
    masks = {
        "all_one": np.ones((7, 13)),
        "all_zero": np.zeros((7, 13)),
        "one_pixel": [[number(0.3)]],
        # 2⁻²⁵ is half a step: 0.5 -> 0, 1.5 -> 2, 2.5 -> 2, 3.5 -> 4.
        "half_steps": [[ulp / 2, 3 * ulp / 2, 5 * ulp / 2, 7 * ulp / 2]],
        "half_step_and_more": [[ulp / 2 * (1 + 2.0**-23), ulp / 2 * (1 - 2.0**-24)]],
        "below_half_a_step": np.full((5, 5), 2.0**-26),
        "denormals": np.full((3, 3), 2.0**-149),
        "one_step_in_many": [[ulp, *[0.0] * 96]],
        # Two pixels: an odd sum of 25 bits lies in the middle of two f32.
        "tie_down": [[1.0, ulp]],
        "tie_up": [[1.0, 3 * ulp]],
        "near_one_tie": [[1.0, 1.0 - ulp]],
        "near_one_of_three": [[1.0, 1.0, 1.0 - ulp]],
        "thirds": [[1.0, 0.0, 0.0]],
        "three_sevenths": [[1.0, 1.0, 1.0, 0.0, 0.0, 0.0, 0.0]],
        "quarters_with_ties": 0.25 + np.arange(64).reshape(8, 8) * 2.0**-25,
        "binary_33x33": rng.integers((33, 33), 2),
        "random_1x17": rng.array((1, 17)),
        "random_19x1": rng.array((19, 1)),
        "random_31x31": rng.array((31, 31)),
        "random_small_7x13": rng.array((7, 13), 0.0, 1e-6),
        "random_near_one_20x45": 1.0 - rng.array((20, 45), 0.0, 1e-5),
        "random_64x64": random_mask(rng, 64, 64),
    }
    arrays = {}
    cases = []
    for name, mask in masks.items():
        arrays[f"{name}/mask"] = np.asarray(mask, np.float32)
        weight = number(merged_label_weight(arrays[f"{name}/mask"]))
        cases.append({"name": name, "label_weight": weight})
    return cases, arrays


def make_labels():
    rng = Stream("labels")
    inputs = [
        ("ids_plain", 3, 0.0, [0, 1, 2, 2], [1, 2, 3, 0], [0.25, 0.5, 0.9, 0.1]),
        ("ids_smoothed", 10, 0.1, [9, 0, 3], [2, 0, 1], [0.3, 0.7, 1 / 3]),
        ("ids_ignored", 4, 0.1, [-1, 2, -100, 3], [1, 0, 2, 2], [0.25, 0.6, 0.5, 0.1]),
        ("ids_self", 5, 0.05, [4, 1], [0, 1], [0.123, 0.5]),
        ("ids_equal", 5, 0.05, [3, 3], [1, 0], [0.37, 0.61]),
        ("ids_weights_0_and_1", 3, 0.2, [0, 1, 2], [2, 2, 0], [0.0, 1.0, 2.0**-24]),
        ("ids_one_class", 1, 0.1, [0, 0], [1, 0], [0.5, 0.2]),
        ("ids_1000_classes", 1000, 0.1, [999, 17], [1, 0], [0.8, 0.35]),
        ("ids_smoothing_one", 4, 1.0, [0, 3], [1, 0], [0.4, 0.6]),
        ("ids_int64_lowest", 2, 0.0, [-(2**63), 1], [1, 0], [0.5, 0.5]),
    ]
    cases = []
    for name, n_classes, smoothing, ids, partners, weights in inputs:
        rows = one_hot(ids, n_classes, smoothing)
        cases.append((name, n_classes, smoothing, "ids", ids, rows, partners, weights))
    dense = [
        ("dense_plain", [[1, 0, 0], [0, 0.5, 0.5], [0.2, 0.3, 0.5]], [2, 0, 1], [0.3, 0.9, 0.5]),
        ("dense_ignores_smoothing", [[1, 0], [0, 1]], [1, 0], [0.25, 0.1]),
        ("dense_random", rng.array((5, 7)), [3, 1, 0, 4, 2], rng.array((5,))),
        ("dense_signed_zeros", [[0.0, -0.0], [-0.0, -0.0]], [1, 0], [0.5, 0.0]),
    ]
    for name, rows, partners, weights in dense:
        rows = np.asarray(rows, np.float32)
        smoothing = 0.1 if name == "dense_ignores_smoothing" else 0.0
        labels = [[number(v) for v in row] for row in rows]
        cases.append((name, rows.shape[1], smoothing, "dense", labels, rows, partners, weights))
    return [
        {
            "name": name,
            "num_classes": n_classes,
            "label_smoothing": number(smoothing),
            "kind": kind,
            "labels": labels,
            "partner_index": partners,
            "label_weight": [number(weight) for weight in weights],
            "expected": [[number(v) for v in row] for row in mix_labels(rows, partners, weights)],
        }
        for name, n_classes, smoothing, kind, labels, rows, partners, weights in cases
    ]


# Views and draws


def make_views():
    cases, arrays = [], {}
    shapes = [(1, 1, 1), (2, 1, 7), (2, 5, 1), (3, 4, 6)]
    moves = [(0, 0), (1, 0), (0, 1), (-1, 0), (0, -1), (2, -3), (-5, 4), (100, -100)]
    for channels, height, width in shapes:
        # 1, 2, 3 ..: no pixel equals another, none is the padding's 0.
        source = np.arange(1, channels * height * width + 1, dtype=np.float32)
        source = source.reshape(channels, height, width)
        for flip in (False, True):
            for dx, dy in moves:
                name = f"view_{channels}x{height}x{width}_{len(cases)}"
                view = {"flip": flip, "dx": dx, "dy": dy}
                cases.append({"name": name, "view": view})
                arrays[f"{name}/source"] = source
                arrays[f"{name}/out"] = apply_view(view, source)
    return cases, arrays


def draw_inputs():
    """(name, config, shape, seed, first_sample) of every draw case."""
    square, wide = (5, 32, 32), (4, 20, 45)
    last = 2**64 - 1
    yield "defaults", {}, (8, 32, 32), 0, 0
    yield "defaults_seed_1", {}, (7, 33, 31), 1, 0
    yield "defaults_seed_max", {}, (5, 64, 48), last, 0
    yield "defaults_seed_high_word", {}, (3, 32, 32), 0x9E3779B900000000, 5
    yield "empty_batch", {}, (0, 32, 32), 3, 0
    yield "batch_of_one", {}, (1, 32, 32), 3, 0
    yield "batch_of_two", {}, (2, 224, 224), 4, 1000
    yield "batch_of_33", {"method_weights": {"mixup": 1.0}}, (33, 8, 8), 5, 0
    yield "one_pixel", {"k_max": 6}, (9, 1, 1), 6, 0
    yield "one_row", {"k_max": 4}, (4, 1, 17), 7, 0
    yield "one_column", {"k_max": 4}, (4, 19, 1), 8, 0
    yield "large_image", {"k_max": 4}, (3, 1080, 1921), 9, 0
    yield "first_sample_shifted", {}, square, 10, 3
    yield "first_sample_2_pow_32", {}, square, 10, 2**32 - 2
    yield "first_sample_wraps", {}, square, 11, 2**64 - 2
    yield "first_sample_and_seed_max", {}, square, last, last
    for alpha in (1e-30, 1e-3, 0.2, 0.5, 1.5, 8.0, 1e6):
        name = f"alpha_{alpha:g}".replace(".", "_").replace("-", "m").replace("+", "")
        yield name, {"alpha": alpha, "k_max": 3}, square, 12, 0
    # With one layer, 1 and k·alpha choose between the three ways to a Gamma.
    yield "alpha_half_rest_one", {"alpha": 0.5, "k_min": 2}, square, 13, 0
    for k in range(1, 9):
        yield f"k_{k}", {"k_min": k, "k_max": k}, (3, 28, 28), 14 + k, 0
    yield "k_1_to_8", {"k_max": 8}, (12, 16, 16), 23, 0
    for method in METHODS:
        config = {"method_weights": {method: 0.3}, "k_max": 3, "p_aug": 0.5}
        yield f"only_{method}", config, wide, 24, 0
    config = {"method_weights": {"mixup": 0.1, "gmix": 0.7, "gridmix": 2.5}, "k_max": 4}
    yield "weights_with_gaps", config, wide, 25, 0
    yield "p_apply_half", {"p_apply": 0.5, "p_flip": 0.5, "pad_px": 2}, (9, 16, 16), 26, 0
    yield "p_apply_zero", {"p_apply": 0.0}, square, 27, 0
    yield "p_self_zero", {"p_self": 0.0}, (9, 16, 16), 28, 0
    yield "p_self_half", {"p_self": 0.5}, (9, 16, 16), 28, 0
    yield "p_self_one", {"p_self": 1.0}, square, 28, 0
    yield "pairing_uniform", {"pairing": "uniform"}, (11, 16, 16), 29, 0
    yield "pairing_uniform_of_one", {"pairing": "uniform"}, (1, 16, 16), 29, 2**40
    maskable = {"cutmix": 1.0, "fmix": 1.0, "gridmix": 1.0}
    always = {"p_aug": 1.0, "p_smooth": 1.0, "method_weights": maskable}
    yield "augmented_always", always, square, 30, 0
    yield "augmented_never", {"p_aug": 0.0, "p_smooth": 0.0, "k_max": 4}, square, 31, 0
    yield "rotate_max", always | {"rotate_max_rad": 3.0}, square, 32, 0
    yield "shear_max", always | {"shear_max": 1.5}, square, 33, 0
    yield "rotate_and_shear_zero", always | {"rotate_max_rad": 0.0, "shear_max": 0.0}, square, 33, 0
    yield "smooth_range_wide", always | {"smooth_range_px": [1, 15]}, (9, 16, 16), 34, 0
    yield "smooth_range_even_ends", always | {"smooth_range_px": [4, 10]}, square, 34, 0
    yield "smooth_range_single", always | {"smooth_range_px": [5, 5]}, square, 34, 0
    yield "merge_sum", {"merge": "sum", "k_max": 4}, wide, 35, 0
    yield "merge_sum_keep", {"merge": "sum", "lambda_reading": "keep"}, wide, 35, 0
    yield "reading_keep", {"lambda_reading": "keep", "k_max": 4}, wide, 35, 0
    yield "weight_drawn", {"label_weight": "drawn"}, wide, 35, 0
    yield "weight_drawn_sum", {"label_weight": "drawn", "merge": "sum"}, wide, 35, 0
    gaussian = {"method_weights": {"gmix": 1.0, "agmix": 1.0}}
    yield "sigma_area", gaussian | {"gaussian_sigma": "area"}, wide, 36, 0
    yield "sigma_paper", gaussian, wide, 36, 0
    cutmix = {"method_weights": {"cutmix": 1.0}, "k_max": 3}
    yield "box_inside", cutmix | {"cutmix_box": "inside"}, wide, 37, 0
    yield "box_inside_one_pixel", cutmix | {"cutmix_box": "inside"}, (3, 1, 1), 37, 0
    yield "box_clipped", cutmix, wide, 37, 0
    gridmix = {"method_weights": {"gridmix": 1.0}, "k_max": 3}
    yield "grid_range_wide", gridmix | {"grid_range": [1, 16]}, wide, 38, 0
    yield "grid_range_single", gridmix | {"grid_range": [4, 4]}, wide, 38, 0
    yield "decay_power", {"method_weights": {"fmix": 1.0}, "decay_power": 2.2}, wide, 39, 0
    yield "views", {"p_flip": 0.5, "pad_px": 4}, (9, 32, 32), 40, 0
    yield "views_flip_always", {"p_flip": 1.0}, square, 40, 0
    yield "views_pad_only", {"pad_px": 1}, square, 40, 0
    yield "label_smoothing_draws_nothing", {"label_smoothing": 0.1}, (8, 32, 32), 0, 0
    everything = {
        "alpha": 0.7,
        "k_min": 2,
        "k_max": 5,
        "method_weights": {method: 0.1 + m for m, method in enumerate(METHODS)},
        "p_apply": 0.9,
        "p_self": 0.2,
        "p_aug": 0.6,
        "p_smooth": 0.6,
        "merge": "sum",
        "label_weight": "drawn",
        "lambda_reading": "keep",
        "gaussian_sigma": "area",
        "pairing": "uniform",
        "cutmix_box": "inside",
        "grid_range": [3, 9],
        "decay_power": 2.5,
        "rotate_max_rad": 0.9,
        "shear_max": 0.45,
        "smooth_range_px": [1, 9],
        "p_flip": 0.5,
        "pad_px": 3,
        "label_smoothing": 0.05,
    }
    yield "everything", everything, (9, 37, 26), 0x0123456789ABCDEF, 2**63 + 7


def make_draws():
    return [
        {
            "name": name,
            "config": config,
            "shape": list(shape),
            "seed": str(seed),
            "first_sample": str(first_sample),
            "plan": draw(config, shape, seed, first_sample),
        }
        for name, config, shape, seed, first_sample in draw_inputs()
    ]


# Files


def json_bytes(cases):
    """One case a line, so that a difference names its case."""
    lines = [json.dumps(case, separators=(", ", ": "), allow_nan=False) for case in cases]
    return ("[\n" + ",\n".join(lines) + "\n]\n").encode()


def npz_bytes(arrays):
    """An archive as np.savez_compressed writes it, but without a clock."""
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w", compresslevel=9) as out:
        for name, array in arrays.items():
            entry = io.BytesIO()
            np.lib.format.write_array(entry, np.ascontiguousarray(array), version=(1, 0))
            info = zipfile.ZipInfo(f"{name}.npy", (1980, 1, 1, 0, 0, 0))
            out.writestr(info, entry.getvalue(), zipfile.ZIP_DEFLATED)
    return archive.getvalue()


def make_files():
    """File name -> bytes, of every vector file."""
    files = {"labels.json": json_bytes(make_labels()), "draws.json": json_bytes(make_draws())}
    stages = {"masks": make_masks, "mix": make_mix, "weights": make_weights, "views": make_views}
    for stage, make in stages.items():
        cases, arrays = make()
        names = [case["name"] for case in cases]
        assert len(set(names)) == len(names), f"{stage}: two cases share a name"
        files[f"{stage}.json"], files[f"{stage}.npz"] = json_bytes(cases), npz_bytes(arrays)
    assert sum(map(len, files.values())) < MAX_BYTES, "the vectors have grown too large"
    return files


def read_arrays(data):
    with np.load(io.BytesIO(data)) as archive:
        return {name: archive[name] for name in archive.files}


def same_bits(a, b):
    return a.dtype == b.dtype and a.shape == b.shape and a.tobytes() == b.tobytes()


def near(a, b, sure):
    """Masks come from float64 exp and cos, which differ between platforms in their last bits."""
    return a.shape == b.shape and np.abs(a - b)[sure.astype(bool)].max(initial=0.0) <= 1e-6


def array_differences(name, committed, fresh):
    old, new = read_arrays(committed), read_arrays(fresh)
    for key in sorted(set(old) ^ set(new)):
        yield f"{name}: {key} is {'missing' if key in new else 'no longer made'}"
    for key in sorted(set(old) & set(new)):
        if name == "masks.npz" and key.endswith("/mask"):
            is_same = near(old[key], new[key], new[key.replace("/mask", "/sure")])
        else:
            is_same = same_bits(old[key], new[key])
        if not is_same:
            yield f"{name}: {key} differs"


def case_differences(name, committed, fresh, masks):
    old = {case["name"]: case for case in json.loads(committed)}
    new = {case["name"]: case for case in json.loads(fresh)}
    if list(old) != list(new):
        yield f"{name}: the names of the cases differ"
        return
    for key, case in new.items():
        if name == "masks.json" and case["plan"]["label_weight"] == "merged":
            # Each unsure pixel may move the mean by one pixel.
            bound = 1e-6 + 1.0 - masks[f"{key}/sure"].mean(axis=(1, 2))
            moved = np.abs(np.subtract(old[key].pop("label_weight"), case.pop("label_weight")))
            if (moved > bound).any():
                yield f"{name}: {key}: label_weight differs"
        if old[key] != case:
            yield f"{name}: {key} differs"


def differences(committed, fresh):
    """What is stale, in words."""
    masks = read_arrays(fresh["masks.npz"])
    for name in fresh:
        if name not in committed:
            yield f"{name} is missing"
        elif name.endswith(".npz"):
            yield from array_differences(name, committed[name], fresh[name])
        else:
            yield from case_differences(name, committed[name], fresh[name], masks)


def main():
    parser = argparse.ArgumentParser(description="Write or check the golden vectors.")
    parser.add_argument("--check", action="store_true", help="compare, write nothing")
    check = parser.parse_args().check
    fresh = make_files()
    if not check:
        VECTORS.mkdir(exist_ok=True)
        for name, data in fresh.items():
            (VECTORS / name).write_bytes(data)
            print(f"{name}: {len(data)} bytes")
        return 0
    committed = {name: (VECTORS / name).read_bytes() for name in fresh if (VECTORS / name).exists()}
    stale = list(differences(committed, fresh))
    for line in stale:
        print(line, file=sys.stderr)
    if stale:
        print("tests/vectors is stale: run python make_vectors.py", file=sys.stderr)
        return 1
    print("tests/vectors is up to date")
    return 0


if __name__ == "__main__":
    sys.exit(main())
