"""A batch of images as a workload describes it, and how something is timed on it."""

import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np


class Refused(Exception):
    """A contender does not take such a batch; the message says why."""


@dataclass(frozen=True)
class Batch:
    """Size, element type and layout of a batch of images."""

    samples: int
    channels: int
    height: int
    width: int
    dtype: str = "float32"
    layout: str = "NCHW"
    num_classes: int = 0

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """As it lies in memory."""
        if self.layout == "NHWC":
            return self.samples, self.height, self.width, self.channels
        return self.samples, self.channels, self.height, self.width

    @property
    def channel_axis(self) -> int:
        return 1 if self.layout == "NCHW" else 3

    @property
    def elements(self) -> int:
        return self.samples * self.channels * self.height * self.width

    def __str__(self) -> str:
        return f"{'x'.join(map(str, self.shape))} {self.dtype} {self.layout}"

    def pixels(self, rng: np.random.Generator) -> np.ndarray:
        """Random images: float32 in [0, 1), or bytes."""
        if self.dtype == "uint8":
            return rng.integers(0, 256, self.shape, np.uint8)
        return rng.random(self.shape, np.float32)

    def labels(self, rng: np.random.Generator) -> np.ndarray:
        return rng.integers(0, self.num_classes, self.samples)


MAX_CALLS = 1000


def turn(call: Callable[[], object], seconds: float) -> list[float]:
    """Calls once without counting, then at least once and until `seconds` are over: seconds of each counted call."""
    call()
    calls: list[float] = []
    while not calls or (sum(calls) < seconds and len(calls) < MAX_CALLS):
        start = time.perf_counter()
        call()
        calls.append(time.perf_counter() - start)
    return calls
