"""Graphs from Python: ``miamix.DevicePlan`` on arrays with the CUDA array interface, and on tensors of torch."""

from __future__ import annotations

import importlib.util
import itertools
from typing import Any

import miamix
import numpy as np

import calls
from calls import Shape
from checks import BUSY, Comparison
from driver import Buffer, Driver, Stream
from part import Part

N_CLASSES = 7
#: Of what torch captures.
N_REPLAYS = 10


class OnDevice:
    """Device memory as other packages show it."""

    def __init__(self, stream: Stream, array: np.ndarray[Any, Any]) -> None:
        self._stream, self._like = stream, array
        self._buffer = Buffer(stream.driver, array.nbytes)
        stream.write(self._buffer, array)

    @property
    def __cuda_array_interface__(self) -> dict[str, Any]:
        return {
            "shape": self._like.shape,
            "typestr": self._like.dtype.str,
            "data": (self._buffer.address, False),
            "version": 3,
            "stream": self._stream.handle.value,
        }

    def read(self) -> np.ndarray[Any, Any]:
        """Waits for the stream."""
        n_bytes = self._like.nbytes
        return self._stream.read(self._buffer)[:n_bytes].view(self._like.dtype).reshape(self._like.shape)


def poisoned(shape: tuple[int, ...], dtype: str) -> np.ndarray[Any, Any]:
    array = np.empty(shape, dtype)
    array.view(np.uint8).fill(calls.POISON)
    return array


def python_graphs(part: Part, driver: Driver, quick: bool) -> None:
    """Batch, label maps and masks captured once through the Python package, replayed under plan after plan."""
    shapes = [Shape(4, 3, 12, 16), Shape(2, 4, 66, 68)] if quick else [Shape(128, 3, 32, 32), Shape(8, 3, 224, 224)]
    with Comparison(part, driver, "each replay from Python follows the plan that was uploaded before it") as compare:
        for shape, memory in itertools.product(shapes, ("the caller's", "pool")):
            what = f"{shape}, workspace: {memory}"
            part.section(what, lambda: _replay_package(compare, shape, memory, what, 3 if quick else 20))
    part.section("a step that torch captures", lambda: torch_graph(part))


def _replay_package(compare: Comparison, shape: Shape, memory: str, what: str, replays: int) -> None:
    """Arrays of any package."""
    stream, message = compare.stream, ""
    n, planes = shape.n, (shape.n, shape.height, shape.width)
    rng = np.random.default_rng(n)
    images = rng.standard_normal((n, shape.channels, *planes[1:]), np.float32)
    ids = rng.integers(-1, N_CLASSES, n)
    maps = rng.integers(0, 2**16, planes, np.uint16)
    given = [OnDevice(stream, array) for array in (images, ids, maps)]
    mix = miamix.MiAMix(num_classes=N_CLASSES, **BUSY)  # type: ignore[arg-type]
    room = [
        OnDevice(stream, poisoned(size, dtype))
        for size, dtype in [(images.shape, "f4"), ((n, N_CLASSES), "f4"), (planes, "u2"), (planes, "f4")]
    ]
    sizes = mix.cuda_sizes(images.shape)
    buffer = OnDevice(stream, poisoned((sizes.plan,), "u1"))
    own = "pool" if memory == "pool" else OnDevice(stream, poisoned((sizes.workspace,), "u1"))
    plan = mix.plan_on_device(given[0], buffer=buffer, workspace=own)
    plan.redraw()
    stream.synchronize()
    with stream.capture() as captured:
        plan.apply(given[0], given[1], out=(room[0], room[1]))
        plan.apply_masks(given[2], out=room[2])
        plan.masks(room[3])
        try:
            plan.redraw()
        except miamix.MiamixError as error:
            message = str(error)
    for replay in range(replays):

        def replayed() -> tuple[dict[str, calls.Array], dict[str, calls.Array]]:
            host = plan.redraw()
            captured[0].launch(stream)
            expected = [*host.apply(images, ids), host.apply_masks(maps), host.masks()]
            return _named([out.read() for out in room]), _named(expected)

        compare.add("Python", f"Python: {what}, plan {replay}", replayed)
    counted = mix.next_sample == n * (replays + 1)
    compare.part.check(f"{what}: the counter went on with each plan", counted)
    compare.part.check(f"{what}: no plan is drawn into a graph", "is capturing" in message, message)


def _named(arrays: list[np.ndarray[Any, Any]]) -> dict[str, calls.Array]:
    """As the other checks compare them, by their bytes."""
    compact = [np.ascontiguousarray(array) for array in arrays]
    return {
        name: calls.Array.compact(array, (1, 8 * array.itemsize), array.shape)
        for name, array in zip(("mixed_images", "mixed_labels", "mixed_maps", "masks"), compact)
    }


def torch_graph(part: Part) -> None:
    """A step of the module, forward and backward, captured by torch and replayed under plan after plan."""
    if importlib.util.find_spec("torch") is None:
        part.not_run.append("a step that torch captures: there is no torch")
        return
    import miamix.torch
    import torch

    if not torch.cuda.is_available():
        part.not_run.append("a step that torch captures: torch has no CUDA device")
        return
    torch.manual_seed(0)
    module, twin = (miamix.torch.MiAMix(seed=5, k_max=3, pairing="uniform") for _ in range(2))
    images, grad = torch.rand(2, 16, 3, 40, 40)
    rows, grad_rows = torch.rand(2, 16, N_CLASSES)
    leaves = [images, images.flip(3), rows]
    static = [leaf.cuda().requires_grad_() for leaf in leaves]
    static_grads = grad.cuda(), grad_rows.cuda()
    plan = module.plan_on_device(static[0].detach(), gradients=True)

    def step() -> tuple[Any, ...]:
        mixed, targets = module(static[0], static[2], static[1], plan=plan)
        gradients = torch.autograd.grad((mixed, targets), static, static_grads)
        return mixed.detach(), targets.detach(), *gradients

    torch.cuda.synchronize()
    with torch.cuda.stream(torch.cuda.Stream()):  # the warm-up that torch asks for
        plan.redraw()
        step()
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        results = step()
    twin.next_sample += len(images)
    n_equal = n_close = 0
    for _ in range(N_REPLAYS):
        plan.redraw()
        graph.replay()
        on_cpu = [leaf.clone().requires_grad_() for leaf in leaves]
        outputs = twin(on_cpu[0], on_cpu[2], on_cpu[1])
        expected = *outputs, *torch.autograd.grad(outputs, on_cpu, (grad, grad_rows))
        n_equal += all(torch.equal(got.cpu(), want) for got, want in list(zip(results, expected))[:4])
        # Torch's sum, in an order of its own, of at most 16 positive numbers, each rounding off 2^-24 of it at most.
        n_close += torch.allclose(results[4].cpu(), expected[4], rtol=2 * 16 * 2**-24, atol=0)
    name = "a step that torch captures: images, labels and gradients of images have the bytes of CPU memory"
    part.check(name, n_equal == N_REPLAYS, f"{n_equal} of {N_REPLAYS} replays")
    part.check("and the gradient of soft labels is that sum", n_close == N_REPLAYS, f"{n_close} of {N_REPLAYS} replays")
