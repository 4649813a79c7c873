"""What is measured: each section gives plain data, which `report` and `plots` show."""

import sys
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, replace
from functools import partial
from itertools import product
from pathlib import Path

import numpy as np
import torch

from batch import Batch, Refused, turn
from core import Core
from peers.libraries import LIBRARIES
from peers.miamix_session import session_call
from peers.numpy_miamix import NumpyMiAMix
from peers.torch_miamix import DTYPES, TorchMiAMix
from turns import Pace, Times, take_turns

CORE = ("operator", "floor_plain", "floor_streaming", "memcpy")
THREADS = (1, 2)
ONE_THREAD_ONLY = "works on one thread"
METHOD_SIDES = (32, 64, 224, 225)
AUGMENTED = ("cutmix", "fmix", "gridmix")
METHODS = ("mixup", "cutmix", "fmix", "gridmix", "agmix", "gmix")


def progress(items: list, describe: Callable[[object], str], what: str) -> Iterator:
    """The items, and on standard error which one is at work."""
    for i, item in enumerate(items, 1):
        print(f"  {what} {i}/{len(items)}: {describe(item)}", file=sys.stderr, flush=True)
        yield item


def peers(batch: Batch, threads: int, library: Path, program: Path) -> dict[str, Callable[[], Callable[[], object]]]:
    """What prepares each peer on a batch."""
    rng = np.random.default_rng(1)

    def on_torch() -> Callable[[], object]:
        images, partner_images = (torch.from_numpy(batch.pixels(rng)).to(DTYPES[batch.dtype]) for _ in range(2))
        labels = torch.from_numpy(batch.labels(rng))
        return partial(TorchMiAMix(batch, rng), images, partner_images, labels)

    def on_numpy(as_written: bool) -> Callable[[], object]:
        if threads > 1:
            raise Refused(ONE_THREAD_ONLY)
        if batch.dtype not in np.sctypeDict:
            raise Refused(f"NumPy has no {batch.dtype}")
        images, partner_images = batch.pixels(rng), batch.pixels(rng)
        return partial(NumpyMiAMix(batch, rng, as_written), images, partner_images, batch.labels(rng))

    return {
        "MiAMix in ONNX Runtime": lambda: session_call(batch, threads, library, program),
        "MiAMix in batched PyTorch": on_torch,
        "MiAMix in NumPy, in place": lambda: on_numpy(False),
        "MiAMix in NumPy, as Eq. 7 reads": lambda: on_numpy(True),
        **{name: partial(prepare, batch) for name, prepare in LIBRARIES.items()},
    }


def workloads(core: Core, pace: Pace, library: Path, program: Path) -> list[dict]:
    """Operator, floors and peers on each workload."""
    results = []
    cases = [(name, batch, threads) for name, batch in core.workloads.items() for threads in THREADS]
    for name, batch, threads in progress(cases, lambda case: f"{case[0]} {case[1]}, threads: {case[2]}", "workloads"):
        core.prepare(batch, threads)
        torch.set_num_threads(threads)
        ready = {contender: partial(core.turn, contender) for contender in CORE}
        refused = {}
        for peer, prepare in peers(batch, threads, library, program).items():
            try:
                ready[peer] = partial(turn, prepare())
            except Refused as error:
                refused[peer] = str(error)
        times = take_turns(ready, pace)
        results.append(
            {"workload": name, "batch": asdict(batch), "threads": threads, "times": times, "refused": refused}
        )
    return results


def layouts(core: Core, pace: Pace) -> list[dict]:
    """Operator and floors for every element type and layout, at the size of ImageNet."""
    base = core.workloads["C"]
    cases = [
        {"batch": asdict(replace(base, dtype=dtype, layout=layout)), "threads": threads}
        for dtype in DTYPES
        for layout in ("NCHW", "NHWC")
        for threads in THREADS
    ]
    return _core_alone(core, cases, CORE, pace, "element types and layouts")


def methods(core: Core, pace: Pace) -> list[dict]:
    """One layer of one method, with and without augmentation: mixing under a plan, and rendering masks alone."""
    cases = []
    for side in METHOD_SIDES:
        batch = Batch(32 if side > 100 else 128, 3, side, side)
        for method in METHODS:
            for is_warped, is_smoothed in product((False, True), repeat=2) if method in AUGMENTED else [(False, False)]:
                config = {
                    "k_max": 1, "method_weights": {method: 1}, "p_aug": float(is_warped), "p_smooth": float(is_smoothed)
                }  # fmt: skip
                what = {"method": method, "warped": is_warped, "smoothed": is_smoothed}
                cases.append({**what, "batch": asdict(batch), "threads": 1, "config": config})
    return _core_alone(core, cases, ("apply", "masks"), pace, "methods")


def plans(core: Core, pace: Pace) -> list[dict]:
    """The draw alone."""
    cases = [{"batch": asdict(Batch(samples, 1, 224, 224, "uint8")), "threads": 1} for samples in (128, 256)]
    return _core_alone(core, cases, ("draw",), pace, "plans")


def scaling(core: Core, pace: Pace) -> list[dict]:
    """One size of a batch changes at a time."""
    base = Batch(64, 3, 64, 64, num_classes=10)
    batches = {
        "samples": [replace(base, samples=n) for n in (1, 2, 4, 8, 16, 32, 64, 128, 256, 512)],
        "channels": [replace(base, channels=c) for c in (1, 2, 3, 4, 8, 16, 32)],
        "side": [replace(base, height=s, width=s) for s in (8, 16, 32, 64, 96, 128, 224, 256, 384)],
    }
    cases = [
        {"axis": axis, "batch": asdict(batch), "threads": threads}
        for axis, of_axis in batches.items()
        for batch in of_axis
        for threads in sorted({*THREADS, core.machine["cores"]})
    ]
    return _core_alone(core, cases, ("operator", "floor_plain", "floor_streaming"), pace, "scaling")


def _core_alone(core: Core, cases: list[dict], contenders: Iterable[str], pace: Pace, what: str) -> list[dict]:
    """Cases without peers, `pace.rounds` times one after the other, so that a noisy moment does not meet one alone."""
    calls: list[dict[str, list[float]]] = [{name: [] for name in contenders} for _ in cases]
    for _ in progress(list(range(pace.rounds)), lambda _: f"{len(cases)} cases", f"{what}, round"):
        for case, of_case in zip(cases, calls):
            core.prepare(Batch(**case["batch"]), case["threads"], case.get("config"))
            for name in contenders:
                of_case[name] += core.turn(name, pace.turn)
    return [
        {**case, "times": {name: asdict(Times.of(of_one)) for name, of_one in of_case.items()}}
        for case, of_case in zip(cases, calls)
    ]
