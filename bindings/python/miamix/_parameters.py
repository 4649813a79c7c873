"""Parameters of the operator: Python values to ``miamix_config`` and back. Defaults and ranges are the core's."""

from __future__ import annotations

import ctypes as C
import math
import operator
from collections.abc import Mapping, Sequence
from typing import Any, Literal, TypedDict

import numpy as np

from . import _library as lib

#: Mixing methods, in the order of their weights.
METHODS = ("mixup", "cutmix", "fmix", "gridmix", "agmix", "gmix")

#: Switches and the names of their values, in the order of their numbers in C.
SWITCHES = {
    "merge": ("product", "sum"),
    "label_weight": ("merged", "drawn"),
    "lambda_reading": ("complement", "keep"),
    "gaussian_sigma": ("paper", "area"),
    "pairing": ("permutation", "uniform"),
    "cutmix_box": ("clipped", "inside"),
}


class Parameters(TypedDict, total=False):
    """Parameters of MiAMix (Table 1 of the paper), and a switch for each thing that it leaves open.

    Real numbers are float32 in every face of the library. Probabilities are in [0, 1].
    """

    alpha: float
    """Dirichlet parameter, greater than 0. Default 1."""
    k_min: int
    """Fewest layers, 1 to ``k_max``. Default 1."""
    k_max: int
    """Most layers, ``k_min`` to 8; the number is uniform in between. Default 2."""
    method_weights: Mapping[str, float] | Sequence[float]
    """Relative odds of a layer's method: a dict by name, in which those left out are 0, or six numbers in the order
    mixup, cutmix, fmix, gridmix, agmix, gmix. Default 2, 1, 1, 1, 1, 0."""
    p_apply: float
    """Probability that a sample is mixed at all. Default 1."""
    p_self: float
    """Probability that a sample is mixed with itself (its other view). Default 0.1."""
    p_aug: float
    """Probability, per layer, that its mask is rotated and sheared. Default 0.25."""
    p_smooth: float
    """Probability, per layer, that its mask is smoothed. Default 0.5."""
    merge: Literal["product", "sum"]
    """How the masks of a sample's layers become one (Eq. 10, Eq. 11). Default ``product``."""
    label_weight: Literal["merged", "drawn"]
    """``merged``: the mean of the merged mask (Eq. 12); ``drawn``: from the drawn ratios alone, their sum under ``sum``, 1
    minus it under ``product`` (refused with ``keep``). Default ``merged``."""
    lambda_reading: Literal["complement", "keep"]
    """``complement``: a layer gives the share lambda to the partner; ``keep``: it keeps it. Default ``complement``."""
    gaussian_sigma: Literal["paper", "area"]
    """Width of the Gaussian of a share g: sigma² = g H W (Eq. 4), or g H W / 2π. Default ``paper``."""
    pairing: Literal["permutation", "uniform"]
    """Partners by a permutation of the batch, or each uniformly over it. Default ``permutation``."""
    cutmix_box: Literal["clipped", "inside"]
    """Where cutmix puts its box. Default ``clipped``."""
    grid_range: Sequence[int]
    """Gridmix: fewest and most cells a side, 1 to 16. Default 2, 8."""
    decay_power: float
    """Fmix: power of the spectrum's decay, at least 2. Default 3."""
    rotate_max_rad: float
    """Rotation of a mask, uniform in plus or minus this, radians. Default π/4."""
    shear_max: float
    """Horizontal shear of a mask, uniform in plus or minus this, at most 1000. Default 0.3."""
    smooth_range_px: Sequence[int]
    """Smoothing window, uniform over the odd numbers in this range, pixels, 1 to 15. Default 3, 7."""
    p_flip: float
    """Built-in views: probability of a horizontal flip. Default 0."""
    pad_px: int
    """Built-in views: shift uniform in plus or minus this after zero padding, pixels. Default 0."""
    label_smoothing: float
    """Label smoothing of class ids, 0 to 1. Default 0."""


NAMES = tuple(Parameters.__annotations__)


def to_config(parameters: Mapping[str, Any], n_threads: int = 0) -> lib.Config:
    """The defaults of the core, with what is given in their place. Ranges are checked when an operator is made."""
    config = lib.Config()
    lib.config_init(C.byref(config), C.sizeof(config))
    for name, value in parameters.items():
        if name not in NAMES:
            raise TypeError(f"MiAMix has no parameter {name!r}; it has {', '.join(NAMES)}")
        setattr(config, name, _to_c(name, value, getattr(config, name)))
    config.n_threads = _count("n_threads", n_threads)
    return config


def from_config(config: lib.Config) -> dict[str, Any]:
    """Every parameter, as Python has it."""
    values: dict[str, Any] = {}
    for name in NAMES:
        value = getattr(config, name)
        if name == "method_weights":
            values[name] = dict(zip(METHODS, map(_shortest, value)))
        elif name in SWITCHES:
            values[name] = SWITCHES[name][value]
        elif isinstance(value, float):
            values[name] = _shortest(value)
        else:
            values[name] = value if isinstance(value, int) else tuple(value)
    return values


def _to_c(name: str, value: Any, default: Any) -> Any:
    """A value of the type that the field has."""
    if name in SWITCHES:
        names = SWITCHES[name]
        if value not in names:
            raise lib.invalid(name, f"must be one of {' '.join(names)}", repr(value))
        return names.index(value)
    if name == "method_weights":
        return (C.c_float * 6)(*_weights(value))
    if isinstance(default, float):
        return _real(name, value)
    if isinstance(default, int):
        return _count(name, value)
    try:
        low, high = value
    except (TypeError, ValueError):
        raise lib.invalid(name, "must be two integers, the ends of a range", repr(value)) from None
    return (C.c_uint32 * 2)(_count(name, low), _count(name, high))


def _weights(value: Any) -> list[float]:
    if isinstance(value, Mapping):
        for method in value:
            if method not in METHODS:
                raise lib.invalid("method_weights", f"must name methods among {' '.join(METHODS)}", repr(method))
        return [_real(f"method_weights.{method}", value.get(method, 0.0)) for method in METHODS]
    try:
        weights = [_real("method_weights", weight) for weight in value]
    except TypeError:
        weights = []
    if len(weights) != len(METHODS):
        raise lib.invalid("method_weights", f"must be a dict by method or {len(METHODS)} numbers", repr(value))
    return weights


def _real(name: str, value: Any) -> float:
    if isinstance(value, str):
        raise lib.invalid(name, "must be a number", repr(value))
    try:
        return float(value)
    except OverflowError:
        # The core says that it must be finite.
        return math.inf if value > 0 else -math.inf
    except (TypeError, ValueError):
        raise lib.invalid(name, "must be a number", repr(value)) from None


def _count(name: str, value: Any) -> int:
    return integer(name, value, 0, 2**32 - 1)


def integer(name: str, value: Any, low: int, high: int) -> int:
    """An integer that C can hold: ctypes would cut it without a word."""
    try:
        number = operator.index(value)
    except TypeError:
        number = None
    if number is None or not low <= number <= high:
        raise lib.invalid(name, f"must be an integer in {low}..={high}", repr(value))
    return number


def _shortest(value: float) -> float:
    """The shortest decimal that is this float32."""
    return float(str(np.float32(value)))
