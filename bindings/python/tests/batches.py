"""Batches in which every pixel is another value, and what the reference makes of them."""

import ml_dtypes
import numpy as np
from miamix_ref import mix as mix_pixels
from miamix_ref import mix_labels, one_hot

DTYPES = {"f32": np.float32, "f16": np.float16, "bf16": ml_dtypes.bfloat16, "u8": np.uint8}


def make_images(dtype="f32", shape=(5, 3, 13, 17), salt=0):
    rng = np.random.default_rng([salt, *shape])
    if dtype == "u8":
        return rng.integers(0, 256, shape, dtype=np.uint8)
    return rng.standard_normal(shape).astype(DTYPES[dtype])


def stored(images):
    """Images as the reference has them: the bits of f16 and bf16."""
    return images.view(np.uint16) if images.dtype.itemsize == 2 else images


def name_of(images):
    return next(name for name, dtype in DTYPES.items() if images.dtype == dtype)


def expected_mix(plan, images, partner=None):
    """What the definition gives, bit for bit, given the plan's masks; plans without built-in views."""
    partner = images if partner is None else partner
    masks, index, dtype = plan.masks(), plan.partner_index, name_of(images)
    given = np.ascontiguousarray(images), np.ascontiguousarray(partner)
    rows = [mix_pixels(masks[i], stored(given[0])[i], stored(given[1])[index[i]], dtype) for i in range(len(images))]
    return np.stack(rows).view(images.dtype) if images.dtype.itemsize == 2 else np.stack(rows)


def expected_labels(plan, ids, num_classes, label_smoothing=0.0):
    """[N, K]."""
    rows = one_hot(ids, num_classes, label_smoothing)
    return mix_labels(rows, plan.partner_index, plan.label_weight())


def same(a, b):
    """Whether two arrays have the same type, shape and bits."""
    a, b = np.ascontiguousarray(a), np.ascontiguousarray(b)
    return a.dtype == b.dtype and a.shape == b.shape and a.tobytes() == b.tobytes()
