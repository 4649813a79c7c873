"""What is made of measurements; the peers themselves are checked by `peers/check.py` before they are measured."""

from dataclasses import asdict

import numpy as np
import pytest

import report
from batch import MAX_CALLS, Batch, turn
from turns import Pace, Times, take_turns


def times(ms):
    return asdict(Times.of([ms / 1e3]))


def test_times_are_median_quartiles_and_ends():
    assert Times.of([5.0, 1.0, 4.0, 2.0, 3.0]) == Times(3.0, (2.0, 4.0), 1.0, 5.0, 5)
    assert Times.of([2.0]) == Times(2.0, (2.0, 2.0), 2.0, 2.0, 1)


def test_a_turn_does_not_count_its_first_call():
    calls = []
    assert len(turn(lambda: calls.append(0), 0.0)) == 1
    assert len(calls) == 2
    assert len(turn(lambda: None, 60.0)) == MAX_CALLS


def test_every_contender_has_a_turn_in_every_round():
    taken = []

    def contender(name):
        return lambda seconds: taken.append((name, seconds)) or [1.0, 3.0]

    measured = take_turns({name: contender(name) for name in "abc"}, Pace(turn=0.25, rounds=4, seconds=0.0))
    rounds = [taken[i : i + 3] for i in range(0, len(taken), 3)]
    assert len(rounds) == 4
    assert all(sorted(of_round) == [(name, 0.25) for name in "abc"] for of_round in rounds)
    assert len({tuple(of_round) for of_round in rounds}) > 1, "the order changes"
    assert measured["b"] == asdict(Times(2.0, (1.0, 3.0), 1.0, 3.0, 8))


@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
def test_pixels_lie_as_the_layout_says(layout):
    batch = Batch(2, 3, 5, 7, "uint8", layout, 10)
    pixels, labels = batch.pixels(np.random.default_rng(0)), batch.labels(np.random.default_rng(0))
    assert pixels.shape == batch.shape and pixels.shape[batch.channel_axis] == 3
    assert pixels.dtype == np.uint8 and labels.shape == (2,) and batch.elements == pixels.size


def results():
    """One workload on one and two threads; what is measured once of every other section."""
    batch = asdict(Batch(64, 3, 224, 224, "uint8", "NHWC", 1000))
    core = {"operator": times(8.0), "floor_plain": times(4.0), "floor_streaming": times(2.0), "memcpy": times(1.0)}
    peers = {"timm FastCollateMixup": times(16.0), "MiAMix in batched PyTorch": times(100.0)}
    one = {"batch": batch, "threads": 1, "times": core}
    refused = {"timm Mixup": "TypeError: no bytes", "torchvision MixUp": "TypeError: no bytes"}
    machine = {"cpu": "CPU X", "cores": 2, "cache": None, "simd": "avx2", "system": "linux x86_64"}
    layer = {"method": "fmix", "warped": True, "smoothed": False}
    return {
        "machine": machine | {"miamix": "0.1.0", "rustc": "rustc 1.92"},
        "versions": {"torch": "2.0"},
        "quick": False,
        "workloads": [
            {**one, "workload": "D", "threads": threads, "times": core | peers, "refused": refused}
            for threads in (1, 2)
        ],
        "layouts": [one],
        "methods": [{**one, **layer, "times": {"apply": times(64 * 0.05), "masks": times(64 * 0.01)}}],
        "plans": [{**one, "times": {"draw": times(0.0192)}}],
        "scaling": [{**one, "axis": "samples"}],
    }


def test_the_page_says_what_was_measured():
    page = report.page(results(), dict.fromkeys(("peers", "methods", "scaling"), "plot.svg"))
    assert (
        "CPU X, 2 cores, SIMD avx2, linux x86_64  \nmiamix 0.1.0, rustc 1.92  \ntorch 2.0\n"
        in page
    )
    name = "D 64x224x224x3 uint8 NHWC"
    # 64 images in 8 ms; over the faster floor; over the peers that took the batch.
    assert f"| {name} | 1 | 8.00 | 8000 | 4.00 | 2.00 | 12.5 | – |\n" in page
    # Three batches of 9.6 MB in 8 ms.
    assert (
        f"| {name} | 2 | 8.00 (8.00–8.00) | 4.00 (4.00–4.00) | 2.00 (2.00–2.00) | 1.00 (1.00–1.00) | 4.00 | 3.6 |"
        in page
    )
    assert "| timm Mixup | no (1) |\n| torchvision MixUp | no (1) |\n" in page
    assert "\n(1) TypeError: no bytes\n" in page and "(2)" not in page
    # 50 µs an image of 50176 pixels.
    assert "| fmix warped | 50.0 (0.996) |\n" in page
    assert "| 64 | 19.2 | 300 |\n" in page
    assert "A first look" not in page
    assert "A first look" in report.page(
        results() | {"quick": True}, dict.fromkeys(("peers", "methods", "scaling"), "")
    )
