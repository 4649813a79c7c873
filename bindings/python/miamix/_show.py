"""A figure of what a plan does."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np

from . import _arrays as arrays
from . import _library as lib
from ._mix import Plan
from ._parameters import integer

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_SIDE_INCHES = 1.1


def show(plan: Plan, images: Any, *, partner: Any = None, count: int = 8) -> Figure:
    """Draw what a plan does: a row a sample, with its primary, partner, each layer's mask, the mask and the mixed image.

    Needs matplotlib.

    Parameters
    ----------
    plan : Plan
    images : [N, 3, H, W] or [N, 1, H, W] in the layout of ``plan.mix``
        uint8, or numbers: those that are shown are stretched to their range.
    partner : as images, optional
        The second view.
    count : int
        Rows, at most; 0 or more.

    Returns
    -------
    matplotlib.figure.Figure
        Not shown: a notebook shows it, and ``savefig`` stores it.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError as cause:
        raise ImportError("miamix.show needs matplotlib") from cause
    mixed, _ = plan.apply(images, partner=partner)
    given = [_pixels(plan, batch) for batch in (images, images if partner is None else partner, mixed)]
    if given[0].ndim != 4 or given[0].shape[3] not in (1, 3):
        rule = "must have 1 or 3 channels to be shown"
        raise lib.invalid("images", rule, list(getattr(images, "shape", ())), lib.Status.SHAPE)
    n = min(integer("count", count, 0, 2**31 - 1), plan.shape[0])
    primary, other, result = _stretched([given[0][:n], given[1][plan.partner_index[:n]], given[2][:n]])
    stored = json.loads(plan.to_json())
    samples = stored["samples"][:n]
    layers = [_layer_masks(plan, stored, sample) for sample in samples]
    most = max((len(masks) for masks in layers), default=0)
    titles = ["primary", "partner", *(f"layer {j + 1}" for j in range(most)), "mask", "mixed"]
    figure = Figure(figsize=(_SIDE_INCHES * len(titles), _SIDE_INCHES * max(n, 1) + 0.3), layout="constrained")
    if n == 0:
        return figure
    axes = figure.subplots(n, len(titles), squeeze=False)
    masks, weight = plan.masks(), plan.label_weight()
    for i, sample in enumerate(samples):
        methods = [layer["method"] for layer in sample["layers"]]
        row = [primary[i], other[i]]
        row += [layers[i][j] if j < len(methods) else None for j in range(most)]
        for j, (axis, picture) in enumerate(zip(axes[i], [*row, masks[i], result[i]])):
            axis.set(xticks=[], yticks=[])
            if picture is None:
                axis.set_axis_off()
            else:
                axis.imshow(picture.squeeze(), cmap="gray", vmin=0, vmax=1, interpolation="nearest")
                if 2 <= j < 2 + most:
                    axis.set_title(methods[j - 2], fontsize=6, pad=2)
        axes[i][-2].set_title(f"label {weight[i]:.2f}", fontsize=6, pad=2)
    for axis, title in zip(axes[0], titles):
        # Above what the first row says of itself.
        axis.set_title(f"{title}\n{axis.get_title()}", fontsize=7, pad=2)
    return figure


def _pixels(plan: Plan, images: Any) -> np.ndarray[Any, Any]:
    """[N, H, W, C] float32."""
    if arrays.is_torch(images):
        pixels = images.detach().cpu()
        pixels = (pixels.float() if pixels.dtype.is_floating_point else pixels).numpy()
    else:
        pixels = np.asarray(images)
    pixels = pixels.astype(np.float32) / np.float32(255 if pixels.dtype == np.uint8 else 1)
    return np.moveaxis(pixels, 1, -1) if plan.mix.layout == "NCHW" else pixels


def _stretched(batches: list[np.ndarray[Any, Any]]) -> list[np.ndarray[Any, Any]]:
    """Into [0, 1] where they are not in it."""
    numbers = np.concatenate([batch.ravel() for batch in batches])
    low, high = (float(numbers.min()), float(numbers.max())) if numbers.size else (0.0, 1.0)
    if low >= 0 and high <= 1:
        return batches
    return [(batch - low) / (high - low or 1.0) for batch in batches]


def _layer_masks(plan: Plan, stored: dict[str, Any], sample: dict[str, Any]) -> list[np.ndarray[Any, Any]]:
    """The mask of each layer of a sample: what plans of that layer alone render."""
    alone = [{**sample, "partner_index": i, "layers": [layer]} for i, layer in enumerate(sample["layers"])]
    return list(Plan.from_json(json.dumps({**stored, "samples": alone}), plan.mix).masks())
