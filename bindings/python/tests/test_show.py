"""Figures."""

import json

import numpy as np
import pytest
from batches import make_images

import miamix


def pictures(figure):
    """The arrays of each row, and its titles."""
    columns = figure.axes[0].get_subplotspec().get_gridspec().ncols
    rows = [figure.axes[i : i + columns] for i in range(0, len(figure.axes), columns)]
    arrays = [[axis.images[0].get_array() if axis.images else None for axis in row] for row in rows]
    return arrays, [[axis.get_title() for axis in row] for row in rows]


@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
def test_each_picture_is_in_its_place(layout):
    images, partner = make_images("u8", (6, 3, 24, 24)), make_images("u8", (6, 3, 24, 24), salt=1)
    mix = miamix.MiAMix(layout=layout, k_min=1, k_max=3, p_self=0)
    given = [a if layout == "NCHW" else np.ascontiguousarray(a.transpose(0, 2, 3, 1)) for a in (images, partner)]
    plan = mix.draw(given[0].shape, seed=1)
    figure = miamix.show(plan, given[0], partner=given[1], count=5)
    mixed = plan.apply(given[0], partner=given[1])[0]
    mixed = mixed.transpose(0, 2, 3, 1) if layout == "NCHW" else mixed
    rows, titles = pictures(figure)
    assert len(rows) == 5
    for i, (row, title, sample) in enumerate(zip(rows, titles, json.loads(plan.to_json())["samples"], strict=False)):
        layers, mask = row[2:-2], plan.masks()[i]
        drawn = [layer for layer in layers if layer is not None]
        assert np.array_equal(row[0], images[i].transpose(1, 2, 0) / np.float32(255))
        assert np.array_equal(row[1], partner[sample["partner_index"]].transpose(1, 2, 0) / np.float32(255))
        assert len(drawn) == len(sample["layers"]) and all(layer is not None for layer in layers[: len(drawn)])
        assert np.allclose(np.prod(drawn, axis=0), mask, atol=4 * 2.0**-24)  # two products, each rounded
        assert np.array_equal(row[-2], mask) and np.array_equal(row[-1], mixed[i] / np.float32(255))
        for j, layer in enumerate(sample["layers"]):
            assert title[2 + j].endswith(layer["method"])
        assert title[-2].endswith(f"label {plan.label_weight()[i]:.2f}")
    assert [title.split("\n")[0] for title in titles[0]] == [
        "primary",
        "partner",
        *(f"layer {j + 1}" for j in range(len(rows[0]) - 4)),
        "mask",
        "mixed",
    ]


def test_figures_are_stored(tmp_path):
    images = make_images("bf16", (3, 1, 8, 8))
    figure = miamix.show(miamix.MiAMix().draw(images.shape, seed=1), images)
    figure.savefig(tmp_path / "figure.png")
    assert (tmp_path / "figure.png").read_bytes().startswith(b"\x89PNG")
    # Numbers beyond [0, 1] are stretched into it.
    shown = [a for row in pictures(figure)[0] for a in row if a is not None]
    assert all(a.min() >= 0 and a.max() <= 1 for a in shown)


def test_what_is_not_shown_stretches_nothing():
    images = make_images("f32", (6, 3, 8, 8)).clip(0, 1)
    plan = miamix.MiAMix(p_self=0).draw(images.shape, seed=1)
    hidden = next(i for i in range(2, 6) if i not in plan.partner_index[:2])
    images[hidden] = 1000
    [row, _], _ = pictures(miamix.show(plan, images, count=2))
    assert np.array_equal(row[0], images[0].transpose(1, 2, 0))
    assert np.array_equal(row[1], images[plan.partner_index[0]].transpose(1, 2, 0))


def test_an_empty_batch_is_an_empty_figure():
    images = make_images("u8", (0, 3, 8, 8))
    assert miamix.show(miamix.MiAMix().draw(images.shape), images).axes == []


def test_other_channels_are_an_error():
    images = make_images("u8", (2, 5, 8, 8))
    with pytest.raises(miamix.MiamixValueError, match=r"images: must have 1 or 3 channels to be shown, got \[2, 5"):
        miamix.show(miamix.MiAMix().draw(images.shape), images)
    images = make_images("u8", (2, 3, 8, 8))
    with pytest.raises(miamix.MiamixValueError, match=r"count: must be an integer in 0\.\.=2147483647, got -1"):
        miamix.show(miamix.MiAMix().draw(images.shape), images, count=-1)
