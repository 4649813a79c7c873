"""The C library on batches in CPU memory and in device memory: the same arguments, the same outputs by name."""

from __future__ import annotations

import ctypes as C
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from miamix import _library as lib
from miamix._parameters import to_config

from driver import Buffer, Driver, Stream

CPU, CUDA = 1, 2
#: DLPack's (code, bits).
FLOAT32, INT64, INT32 = (2, 32), (0, 64), (0, 32)
DTYPES = {"float32": FLOAT32, "float16": (2, 16), "bfloat16": (4, 16), "uint8": (1, 8)}
#: Numbers after which those of a batch repeat, as drawing takes longer than all else; a prime, so that no two images or
#: rows are the same. Only what is timed is larger.
MOST_DRAWN = 5_000_011
#: What memory holds before a call writes it.
POISON = 0xCB

_P, _U64, _SIZE = C.c_void_p, C.c_uint64, C.c_size_t


def _call(name: str, *argtypes: Any) -> Any:
    """A function of the library that the package has no use for."""
    return getattr(lib, name.removeprefix("miamix_"), None) or lib._call(name, *argtypes)


_cuda_sizes = _call("miamix_cuda_sizes", _P, _P, _P, _P, _P)
_plan_on_device = _call("miamix_plan_on_device", _P, _P, _P, _SIZE, _P, _SIZE, _P)
plan_upload = _call("miamix_plan_upload", _P, _P, _P)
_plan_redraw = _call("miamix_plan_redraw", _P, _P, _U64, _U64, _P)
check_labels = _call("miamix_check_labels", _P)


class Operator:
    """An operator of the library."""

    def __init__(self, **parameters: Any) -> None:
        self.config = to_config(parameters)
        self.handle = lib.Handle(lib.op_create, lib.op_free, C.byref(self.config))

    def draw(self, shape: Shape, seed: int, first_sample: int = 0) -> lib.Handle:
        wanted = lib.Shape(shape.n, shape.height, shape.width)
        return lib.Handle(lib.plan_draw, lib.plan_free, self.handle.address, C.byref(wanted), seed, first_sample)

    def redraw(self, plan: lib.Handle, shape: Shape, seed: int) -> None:
        wanted = lib.Shape(shape.n, shape.height, shape.width)
        _plan_redraw(self.handle.address, C.byref(wanted), seed, 0, plan.address)


@dataclass(frozen=True)
class Shape:
    n: int
    channels: int
    height: int
    width: int

    def __str__(self) -> str:
        return f"{self.n}×{self.channels}×{self.height}×{self.width}"


class DevicePlan:
    """A plan in device memory, with a workspace of its own or that of the library's pool."""

    def __init__(self, driver: Driver, op: Operator, shape: Shape, pooled: bool = False) -> None:
        wanted = lib.Shape(shape.n, shape.height, shape.width)
        plan_bytes, workspace_bytes = _SIZE(), _SIZE()
        sizes = C.byref(plan_bytes), C.byref(workspace_bytes), None
        _cuda_sizes(op.handle.address, C.byref(wanted), *sizes)
        self._memory = Buffer(driver, plan_bytes.value)
        size = 0 if pooled else workspace_bytes.value
        self._workspace = Buffer(driver, size) if size else None
        self.handle = lib.Handle(
            _plan_on_device,
            lib.plan_free,
            op.handle.address,
            C.byref(wanted),
            self._memory.address,
            plan_bytes.value,
            self._workspace.address if self._workspace else None,
            size,
        )
        self.address = self.handle.address


@dataclass
class Array:
    """A tensor's memory as bytes, and how it lies there; strides in elements."""

    memory: np.ndarray[Any, Any]
    dtype: tuple[int, int]
    shape: tuple[int, ...]
    strides: tuple[int, ...]

    @classmethod
    def compact(cls, memory: np.ndarray[Any, Any], dtype: tuple[int, int], shape: tuple[int, ...]) -> Array:
        strides = tuple(int(np.prod(shape[axis + 1 :], dtype=np.int64)) for axis in range(len(shape)))
        return cls(memory.view(np.uint8).reshape(-1), dtype, shape, strides)

    def empty_like(self) -> Array:
        return Array(np.full_like(self.memory, POISON), self.dtype, self.shape, self.strides)


def empty(dtype: tuple[int, int], *shape: int) -> Array:
    n_bytes = int(np.prod(shape, dtype=np.int64)) * dtype[1] // 8
    return Array.compact(np.full(n_bytes, POISON, np.uint8), dtype, shape)


LAYOUTS = ("NCHW", "NHWC", "padded")


def pixels(shape: Shape, dtype: str, layout: str, rng: np.random.Generator) -> Array:
    """Random images; padded: rows and images that are not whole groups of pixels apart."""
    n, c, h, w = shape.n, shape.channels, shape.height, shape.width
    strides = {
        "NCHW": (c * h * w, h * w, w, 1),
        "NHWC": (c * h * w, 1, c * w, c),
        "padded": (c * h * (w + 1) + 3, h * (w + 1), w + 1, 1),
    }[layout]
    count = n * strides[0]
    if dtype == "uint8":
        elements = rng.integers(0, 256, count, np.uint8)
    elif dtype == "bfloat16":
        elements = (_floats(rng, count).view(np.uint32) >> 16).astype(np.uint16)
    else:
        elements = _floats(rng, count).astype(dtype)
    return Array(elements.view(np.uint8), DTYPES[dtype], (n, c, h, w), strides)


def _floats(rng: np.random.Generator, count: int) -> np.ndarray[Any, Any]:
    """Numbers as images have them, and some that are denormal in each of the types."""
    floats = rng.standard_normal(min(count, MOST_DRAWN), np.float32)
    floats[::17] *= np.float32(1e-39)
    floats[5::19] *= np.float32(1e-6)
    return np.resize(floats, count)


LABELS = ("none", "int64", "int32", "rows")


@dataclass
class Batch:
    """What goes into a call."""

    shape: Shape
    images: Array
    partner_images: Array | None
    labels: Array | None
    n_classes: int

    @classmethod
    def random(cls, shape: Shape, dtype: str, layout: str, labels: str, views: int, seed: int) -> Batch:
        rng = np.random.default_rng(seed)
        k = 7
        made = None
        if labels == "rows":
            made = Array.compact(rng.random((shape.n, k), np.float32), FLOAT32, (shape.n, k))
        elif labels != "none":
            ids = rng.integers(-1, k, shape.n).astype(labels)
            made = Array.compact(ids, INT64 if labels == "int64" else INT32, (shape.n,))
        images = pixels(shape, dtype, layout, rng)
        partner = pixels(shape, dtype, layout, rng) if views == 2 else None
        return cls(shape, images, partner, made, 0 if made is None else k)

    def inputs(self) -> dict[str, Array]:
        all_inputs = {"images": self.images, "partner_images": self.partner_images, "labels": self.labels}
        return {name: array for name, array in all_inputs.items() if array is not None}

    def outputs(self) -> dict[str, Array]:
        """Poisoned room for what a call gives."""
        n = self.shape.n
        made = {"mixed_images": self.images.empty_like()}
        if self.labels is not None:
            made["mixed_labels"] = empty(FLOAT32, n, self.n_classes)
        return made | {"label_weight": empty(FLOAT32, n), "partner_index": empty(INT64, n)}


class OnCpu:
    """Arrays where they are; what a call gives is in them."""

    device, stream = CPU, None

    def place(self, arrays: dict[str, Array]) -> dict[str, tuple[int, Array]]:
        return {name: (array.memory.ctypes.data, array) for name, array in arrays.items()}


@dataclass
class OnDevice:
    """Copies of arrays in device memory."""

    on: Stream
    _held: list[Buffer] = field(default_factory=list)
    device = CUDA

    @property
    def stream(self) -> Any:
        return self.on.handle

    def place(self, arrays: dict[str, Array]) -> dict[str, tuple[int, Array]]:
        placed = {}
        for name, array in arrays.items():
            buffer = Buffer(self.on.driver, array.memory.nbytes)
            self.on.write(buffer, array.memory)
            self._held.append(buffer)
            placed[name] = (buffer.address, array)
        return placed

    def read_back(self, arrays: dict[str, Array]) -> None:
        """The last arrays that were placed, as they are now."""
        for buffer, array in zip(self._held[-len(arrays) :], arrays.values()):
            array.memory[:] = self.on.read(buffer)[: array.memory.nbytes]


class Tensors:
    """Placed arrays as the C library takes them: ``tensors["images"]``; None for what is not there."""

    def __init__(self, placed: dict[str, tuple[int, Array]], device: int) -> None:
        self._keep: dict[str, Any] = {}
        for name, (address, array) in placed.items():
            rank = len(array.shape)
            axes = (C.c_int64 * max(2 * rank, 1))(*array.shape, *array.strides)
            start = C.addressof(axes)
            code, bits = array.dtype
            tensor = lib.Tensor(address, device, 0, rank, code, bits, 1, start, start + 8 * rank, 0)
            tensor.keep = axes
            self._keep[name] = tensor

    def __getitem__(self, name: str) -> Any:
        return C.byref(self._keep[name]) if name in self._keep else None


def apply(op: Operator, plan: Any, inputs: Tensors, n_classes: int, outputs: Tensors, stream: Any) -> None:
    """``miamix_apply``; without waiting on a device."""
    lib.apply(
        op.handle.address,
        plan.address,
        inputs["images"],
        inputs["partner_images"],
        inputs["labels"],
        n_classes,
        outputs["mixed_images"],
        outputs["mixed_labels"],
        outputs["label_weight"],
        outputs["partner_index"],
        stream,
    )


def mix(op: Operator, plan: Any, batch: Batch, where: OnCpu | OnDevice) -> dict[str, Array]:
    """All that mixing a batch gives."""
    inputs = Tensors(where.place(batch.inputs()), where.device)
    outputs = batch.outputs()
    placed = Tensors(where.place(outputs), where.device)
    apply(op, plan, inputs, batch.n_classes, placed, where.stream)
    return _finished(outputs, where)


def masks(op: Operator, plan: Any, shape: Shape, where: OnCpu | OnDevice) -> dict[str, Array]:
    """``miamix_masks``."""
    outputs = {"masks": empty(FLOAT32, shape.n, shape.height, shape.width), "label_weight": empty(FLOAT32, shape.n)}
    placed = Tensors(where.place(outputs), where.device)
    lib.masks(op.handle.address, plan.address, placed["masks"], placed["label_weight"], where.stream)
    return _finished(outputs, where)


def maps(op: Operator, plan: Any, shape: Shape, bits: int, where: OnCpu | OnDevice) -> dict[str, Array]:
    """``miamix_apply_maps`` of two views."""
    rng = np.random.default_rng(bits)
    size = shape.n, shape.height, shape.width
    views = {}
    for name in ("maps", "partner_maps"):
        elements = rng.integers(0, 2**bits, size, dtype=f"uint{bits}")
        views[name] = Array.compact(elements, (1, bits), size)
    inputs = Tensors(where.place(views), where.device)
    outputs = {"mixed_maps": views["maps"].empty_like()}
    placed = Tensors(where.place(outputs), where.device)
    handles = op.handle.address, plan.address
    lib.apply_maps(*handles, inputs["maps"], inputs["partner_maps"], placed["mixed_maps"], where.stream)
    return _finished(outputs, where)


def backward(op: Operator, plan: Any, batch: Batch, where: OnCpu | OnDevice) -> dict[str, Array]:
    """``miamix_backward`` of one view or two."""
    inputs = Tensors(where.place({"grad_mixed": batch.images}), where.device)
    outputs = {"grad_images": batch.images.empty_like()}
    if batch.partner_images is not None:
        outputs["grad_partner_images"] = batch.images.empty_like()
    placed = Tensors(where.place(outputs), where.device)
    gradients = placed["grad_images"], placed["grad_partner_images"]
    lib.backward(op.handle.address, plan.address, inputs["grad_mixed"], *gradients, where.stream)
    return _finished(outputs, where)


def _finished(outputs: dict[str, Array], where: OnCpu | OnDevice) -> dict[str, Array]:
    if isinstance(where, OnDevice):
        where.read_back(outputs)
    return outputs


def differences(got: dict[str, Array], expected: dict[str, Array]) -> list[str]:
    """Where two results differ, byte by byte, memory between rows included."""
    assert got.keys() == expected.keys()
    found = []
    for name, array in got.items():
        word = array.dtype[1] // 8
        # Elements, and what lies between rows; in hexadecimal, where one ulp is told from garbage.
        words = [memory.reshape(-1, word)[:, ::-1] for memory in (array.memory, expected[name].memory)]
        unequal = np.flatnonzero((words[0] != words[1]).any(1))
        if unequal.size:
            first = [", ".join(f"0x{element.tobytes().hex()}" for element in some[unequal[:3]]) for some in words]
            at = ", ".join(map(str, unequal[:3]))
            found.append(f"{name}: {unequal.size} of {len(words[0])} elements, at {at}: {first[0]}, not {first[1]}")
    return found
