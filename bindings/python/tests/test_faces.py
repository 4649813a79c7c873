"""The bits of the Rust core: `tests/vectors/faces.json`, whose batches `tests/faces.rs` describes."""

import functools
import json

import ml_dtypes
import numpy as np
import pytest
import torch
from conftest import REPOSITORY

import miamix
import miamix.torch

CASES = json.loads((REPOSITORY / "tests" / "vectors" / "faces.json").read_text(encoding="utf-8"))
DTYPES = {"f32": np.float32, "f16": np.float16, "bf16": ml_dtypes.bfloat16, "u8": np.uint8}


def fnv1a(data):
    hashed = functools.reduce(lambda h, byte: (h ^ byte) * 0x100000001B3 % 2**64, data, 0xCBF29CE484222325)
    return f"{hashed:016x}"


def hash_of(array):
    """Of little-endian elements in the order of the axes."""
    return fnv1a(np.ascontiguousarray(array).astype(array.dtype.newbyteorder("<"), copy=False).tobytes())


def view_of(case, salt):
    n, c, y, x = np.indices(case["shape"])
    v = (31 * n + 7 * c + 13 * y + 3 * x + salt) % 251
    return (v if case["dtype"] == "u8" else v / 256).astype(DTYPES[case["dtype"]])


def to_torch(images):
    if images.dtype == ml_dtypes.bfloat16:
        return torch.from_numpy(images.view(np.int16)).view(torch.bfloat16)
    return torch.from_numpy(images)


def to_numpy(images):
    return images.view(torch.int16).numpy() if images.dtype == torch.bfloat16 else images.numpy()


@pytest.mark.parametrize("face", ["numpy", "torch", "module", "nhwc", "torch_nhwc"])
@pytest.mark.parametrize("case", CASES, ids=[case["name"] for case in CASES])
def test_the_bits_are_those_of_rust(case, face):
    n = case["shape"][0]
    views = [view_of(case, salt) for salt in ((0, 100) if case["two_views"] else (0,))]
    ids = 7 * np.arange(n) % 11 - 1
    layout = "NHWC" if "nhwc" in face else "NCHW"
    if layout == "NHWC":
        views = [np.ascontiguousarray(view.transpose(0, 2, 3, 1)) for view in views]
    in_torch = face in ("torch", "module", "torch_nhwc")
    if in_torch:
        views, ids = [to_torch(view) for view in views], torch.from_numpy(ids)
    config, seed, first_sample = case["config"], int(case["seed"]), int(case["first_sample"])
    images, partner = views[0], views[1] if case["two_views"] else None
    mix = miamix.MiAMix(case["num_classes"], layout=layout, **config)
    plan = mix.draw(images.shape, seed=seed, first_sample=first_sample)
    weight, index = plan.label_weight(), plan.partner_index
    if face == "module":
        given = {"num_classes": case["num_classes"], "layout": layout, **config}
        bits = seed if seed < 2**63 else seed - 2**64
        numbers = torch.tensor(bits), torch.tensor(first_sample)
        mixed, targets, weight, index = miamix.torch.mix(images, partner, ids, *numbers, True, json.dumps(given))
        weight, index = weight.numpy(), index.numpy()
    else:
        mixed, targets = mix(images, ids, partner=partner, seed=seed, first_sample=first_sample)
    if in_torch:
        mixed, targets = to_numpy(mixed), targets.numpy()
    if layout == "NHWC":
        mixed = mixed.transpose(0, 3, 1, 2)
    got = {"images": mixed, "labels": targets, "label_weight": weight, "partner_index": index, "masks": plan.masks()}
    assert [array.dtype for array in list(got.values())[1:]] == [np.float32, np.float32, np.int64, np.float32]
    assert {name: hash_of(array) for name, array in got.items()} == {name: case[name] for name in got}
    assert fnv1a(plan.to_json().encode()) == case["plan"]
