"""Whether the peers that are MiAMix are MiAMix: held to `tests/reference` before anything is measured."""

import sys
from dataclasses import fields
from pathlib import Path

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).parents[2] / "tests" / "reference"))
import draw_ref
import miamix_ref

from batch import Batch
from peers import draw
from peers.draw import Layers
from peers.numpy_miamix import NumpyMiAMix
from peers.torch_miamix import TorchMiAMix

SIZES = ((32, 32), (33, 48))
SAMPLES = 128
MASK_TOLERANCE = 2e-4
"""Arithmetic in f32, of coordinates up to 48 and of sums of up to 7 values."""
DRAWS = 10_000


def check() -> None:
    """Compares masks of the same plans, mixed pixels, and the draws.

    Raises
    ------
    AssertionError
        Where a peer is another operator than ours.
    """
    for seed, (height, width) in enumerate(SIZES):
        batch = Batch(SAMPLES, 3, height, width, num_classes=10)
        plan = draw_ref.draw({}, (SAMPLES, height, width), seed)
        masks, sure = miamix_ref.render(plan)
        layers, rng = layers_of(plan), np.random.default_rng(seed)
        by_sample = [np.flatnonzero(layers.sample == i) for i in range(SAMPLES)]
        numpy_peer, torch_peer = NumpyMiAMix(batch, rng), TorchMiAMix(batch, rng)
        got = {
            "NumPy": np.stack([np.broadcast_to(numpy_peer.mask(layers, rows), (height, width)) for rows in by_sample]),
            "PyTorch": torch_peer.masks(layers).numpy(),
        }
        for name, peer in got.items():
            off = np.abs(peer - masks)[sure].max()
            assert off < MASK_TOLERANCE, f"{name}, {height}x{width}: a mask differs from the reference by {off}"
    for dtype, layout in (("float32", "NCHW"), ("uint8", "NHWC")):
        _check_pixels(Batch(SAMPLES, 3, *SIZES[1], dtype, layout, num_classes=10))
    _check_draw()


def layers_of(plan: dict, with_spectra: bool = True) -> Layers:
    """A plan in the reference's form, as the peers' draw gives it."""
    height, width = plan["height"], plan["width"]
    in_order = [
        (i, layer) for j in range(draw.K_MAX) for i, s in enumerate(plan["samples"]) for layer in s["layers"][j : j + 1]
    ]
    rows = [_row(i, layer) for i, layer in in_order]
    columns = {f.name: np.array([row[f.name] for row in rows]) for f in fields(Layers) if f.name != "spectrum"}
    spectrum = {
        row: _half_spectrum(layer, height, width)
        for row, (_, layer) in enumerate(in_order)
        if with_spectra and layer["method"] == "fmix"
    }
    return Layers(**columns, spectrum=spectrum)


def _row(sample: int, layer: dict) -> dict:
    cells = np.zeros(draw.MAX_CELLS, bool)
    cells[layer.get("cells", [])] = True
    warp = layer.get("warp")
    return {
        "sample": sample,
        "method": draw.METHODS.index(layer["method"]),
        "given": np.float64(np.float32(layer["given"])),
        "box": [layer.get(edge, 0) for edge in ("x0", "y0", "x1", "y1")],
        "n": layer.get("n", 1),
        "cells": cells,
        "centre": (layer.get("cx", 0.0), layer.get("cy", 0.0)),
        "sigma": layer.get("sigma_px", 1.0),
        "q": layer.get("q", 0.0),
        "angle": layer.get("angle_rad", 0.0),
        "is_warped": warp is not None,
        "warp": (warp["angle_rad"], warp["shear"]) if warp else (0.0, 0.0),
        "window": layer.get("smooth_px") or 1,
    }


def _half_spectrum(layer: dict, height: int, width: int) -> np.ndarray:
    """The spectrum of an fmix layer as `irfft2` takes it: of ±k the one with k_x ≥ 0."""
    c = miamix_ref.fmix_spectrum(int(layer["noise_key"], 16), layer["decay_power"], height, width)
    k_max = c.shape[1] // 2
    half = np.zeros((height, width // 2 + 1), complex)
    for ky in range(c.shape[0]):
        for kx in range(-k_max, k_max + 1):
            value = c[ky, kx + k_max]
            if kx >= 0:
                half[ky, kx] += value
            if kx <= 0:
                half[-ky, -kx] += value.conjugate()
    return half.astype(np.complex64)


def _check_pixels(batch: Batch) -> None:
    """Both peers against the reference, under masks and partners of a draw."""
    rng = np.random.default_rng(5)
    images, partner_images, labels = batch.pixels(rng), batch.pixels(rng), batch.labels(rng)
    partners = draw.draw_partners(rng, batch.samples)
    masks = rng.random((batch.samples, batch.height, batch.width), np.float32)
    spread = masks[..., None] if batch.layout == "NHWC" else masks[:, None]
    expected = miamix_ref.mix(spread, images, partner_images[partners], "u8" if batch.dtype == "uint8" else "f32")
    # The order of the roundings of an f32 is free: now and then it moves a byte.
    tolerance, share_off = (1, 1e-3) if batch.dtype == "uint8" else (1e-6, 1.0)
    numpy_peers = [NumpyMiAMix(batch, rng, as_written) for as_written in (False, True)]
    for peer in numpy_peers:
        for i, partner in enumerate(partners):
            peer.blend(images[i], partner_images[partner], masks[i], peer.out[i])
    torch_peer = TorchMiAMix(batch, rng)
    _, mixed_labels, weights = torch_peer.mix(*map(torch.from_numpy, (images, partner_images, labels, partners, masks)))
    for got in (*(peer.out for peer in numpy_peers), torch_peer.out.numpy()):
        off = np.abs(got.astype(np.float64) - expected)
        assert off.max() <= tolerance, f"{batch}: a mixed pixel differs from the reference by {off.max()}"
        assert (off > 0).mean() <= share_off, f"{batch}: too many mixed pixels differ from the reference"
    expected_labels = miamix_ref.mix_labels(miamix_ref.one_hot(labels, batch.num_classes), partners, weights.numpy())
    assert np.abs(mixed_labels.numpy() - expected_labels).max() < 1e-6, f"{batch}: labels differ from the reference"


def _check_draw() -> None:
    """Means of what is drawn, beside the reference's."""
    side = 32
    rng = np.random.default_rng(7)
    ours = _shares(draw.draw(rng, DRAWS, side, side), side)
    expected = _shares(layers_of(draw_ref.draw({}, (DRAWS, side, side), 7), with_spectra=False), side)
    for name, values in ours.items():
        difference = abs(values.mean() - expected[name].mean())
        # Values in [0, 1] have a standard deviation of at most ½: six standard errors of a difference of means.
        bound = 6 * 0.5 * (1 / values.size + 1 / expected[name].size) ** 0.5
        assert difference < bound, f"the draw of the peers: {name} differs from the reference's by {difference}"


def _shares(layers: Layers, side: int) -> dict[str, np.ndarray]:
    """What is drawn, as values in [0, 1]."""
    of = {name: layers.method == method for method, name in enumerate(draw.METHODS)}
    is_hard = of["cutmix"] | of["gridmix"] | of["fmix"]
    x0, y0, x1, y1 = layers.box[of["cutmix"]].T
    n, n_given = layers.n[of["gridmix"]], layers.cells[of["gridmix"]].sum(1)
    is_second = np.arange(layers.sample.size) >= DRAWS
    shares = {f"share of {name}": rows.astype(float) for name, rows in of.items()}
    shares |= {f"square of given of {name}": layers.given[rows] ** 2 for name, rows in of.items()}
    shares |= {
        "second layers": is_second,
        "given of second layers": layers.given[is_second],
        "given of first layers": layers.given[~is_second],
        "warped": layers.is_warped[is_hard],
        "angle": np.abs(layers.warp[is_hard & layers.is_warped, 0]) / draw.ROTATE_MAX_RAD,
        "shear": np.abs(layers.warp[is_hard & layers.is_warped, 1]) / draw.SHEAR_MAX,
        "box width": (x1 - x0) / side,
        "box height": (y1 - y0) / side,
        "box centre x": (x1 + x0) / 2 / side,
        "box centre y": (y1 + y0) / 2 / side,
        "cells a side": n / draw.GRID_RANGE[1],
        "cells given": n_given / n**2,
        "rounding of cells": (1 + n_given - layers.given[of["gridmix"]] * n**2) / 2,
        "agmix centre": layers.centre[of["agmix"]].ravel() / side,
        "agmix sigma": layers.sigma[of["agmix"]] / side,
        "agmix q": layers.q[of["agmix"]] ** 2,
        "agmix angle": layers.angle[of["agmix"]] / np.pi,
    }
    return shares | {f"window {w}": layers.window[is_hard] == w for w in (1, *draw.WINDOWS)}
