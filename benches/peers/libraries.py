"""Mixup and cutmix of the libraries that people use, with α = 1 and without label smoothing.

Timm mixes in place, so that the images change from call to call; a mixture of values between 0 and 1 stays between
them, and nothing has to be restored.
"""

from collections.abc import Callable
from functools import lru_cache

import kornia.augmentation as kornia
import numpy as np
import timm.data
import torch
from torch import Tensor
from torchvision.transforms import v2

from batch import Batch, Refused
from peers.torch_miamix import DTYPES

RNG_SEED = 1


@lru_cache(maxsize=1)
def tensors(batch: Batch) -> tuple[Tensor, Tensor]:
    """Images [N, C, H, W], NHWC by their strides, and labels [N]: the same ones for every library."""
    rng = np.random.default_rng(RNG_SEED)
    images = torch.from_numpy(batch.pixels(rng)).to(DTYPES[batch.dtype])
    return images.permute(0, 3, 1, 2) if batch.layout == "NHWC" else images, torch.from_numpy(batch.labels(rng))


def _mixer(make: Callable[[Batch], Callable[[Tensor, Tensor], object]]) -> Callable[[Batch], Callable[[], object]]:
    """A contender that calls a mixer with images and labels, if it takes them."""

    def prepare(batch: Batch) -> Callable[[], object]:
        mixer = make(batch)
        images, labels = tensors(batch)
        try:
            mixer(images, labels)
        except (RuntimeError, TypeError, ValueError) as error:
            raise Refused(f"{type(error).__name__}: {str(error).splitlines()[0]}") from error
        return lambda: mixer(images, labels)

    return prepare


def _timm(**alphas: float) -> Callable[[Batch], Callable[[], object]]:
    return _mixer(lambda batch: timm.data.Mixup(**alphas, label_smoothing=0.0, num_classes=batch.num_classes))


def _timm_collate(batch: Batch) -> Callable[[], object]:
    """Mixup where timm does it for bytes: while the loader makes a batch of the images, channels first."""
    if batch.dtype != "uint8":
        raise Refused("mixes uint8 alone")
    mixer = timm.data.FastCollateMixup(mixup_alpha=1.0, label_smoothing=0.0, num_classes=batch.num_classes)
    images, labels = tensors(batch)
    samples = [(np.ascontiguousarray(image), int(label)) for image, label in zip(images.numpy(), labels)]
    return lambda: mixer(samples)


def _kornia(transform: type, **options: object) -> Callable[[Batch], Callable[[], object]]:
    return _mixer(lambda _: transform(p=1.0, data_keys=["input", "class"], **options))


LIBRARIES: dict[str, Callable[[Batch], Callable[[], object]]] = {
    "timm Mixup": _timm(mixup_alpha=1.0),
    "timm Mixup, cutmix": _timm(mixup_alpha=0.0, cutmix_alpha=1.0),
    "timm FastCollateMixup": _timm_collate,
    "torchvision MixUp": _mixer(lambda batch: v2.MixUp(num_classes=batch.num_classes)),
    "torchvision CutMix": _mixer(lambda batch: v2.CutMix(num_classes=batch.num_classes)),
    "kornia RandomMixUpV2": _kornia(kornia.RandomMixUpV2),
    "kornia RandomCutMixV2": _kornia(kornia.RandomCutMixV2),
}
