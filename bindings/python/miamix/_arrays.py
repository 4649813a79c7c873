"""Arrays of the caller as ``miamix_tensor``, without a copy: NumPy, torch, and whatever speaks DLPack or has
``__cuda_array_interface__``.

array ──> adopt ──> describe ──> the C library, in the place (device and stream) of the images
"""

from __future__ import annotations

import contextlib
import copy
import ctypes as C
import sys
from typing import Any, NamedTuple

import numpy as np

from . import _library as lib

CPU, CUDA, CUDA_HOST = 1, 2, 3
_NATIVE = "=|" + ("<" if sys.byteorder == "little" else ">")

# DLPack's numbers of element types: (code, bits).
_NUMPY_CODES: dict[Any, tuple[int, int]] = {
    np.dtype(name): (code, np.dtype(name).itemsize * 8)
    for code, names in [
        (0, ("int8", "int16", "int32", "int64")),
        (1, ("uint8", "uint16", "uint32", "uint64")),
        (2, ("float16", "float32", "float64")),
        (5, ("complex64", "complex128")),
        (6, ("bool",)),
    ]
    for name in names
}
_BFLOAT16 = (4, 16)
_TORCH_CODES: dict[Any, tuple[int, int]] = {}

# Extents and strides of arrays seen before: (memory, address of extents, address of strides).
_AXES: dict[Any, tuple[Any, int, int]] = {}
_MOST_AXES_KEPT = 1024


class Place(NamedTuple):
    """Where a call works."""

    #: The CUDA device; None for CPU memory.
    device: int | None
    #: The stream that the work is put on, as the driver has it; 0 is the device's default stream.
    stream: int

    def current(self) -> contextlib.AbstractContextManager[Any]:
        """The context in which the C library is called: the default stream is that of the current device."""
        torch = sys.modules.get("torch")
        if self.device is None or self.stream != 0 or torch is None or not torch.cuda.is_initialized():
            return contextlib.nullcontext()
        return torch.cuda.device(self.device)  # type: ignore[no-any-return]


_CPU = Place(None, 0)


class Borrowed:
    """An array of another framework, as it describes itself; a DLPack capsule frees it with this object."""

    def __init__(self, array: Any, name: str, place: Place | None) -> None:
        self.source = array
        self.capsule = None
        self.read_only = False
        self.strides: tuple[int, ...] | None = None
        #: The stream that the array is ready on, where it says so.
        self.stream: int | None = None
        device: Any = array.__dlpack_device__() if hasattr(array, "__dlpack_device__") else None
        interface = getattr(array, "__cuda_array_interface__", None)
        if interface is not None:
            self._read_interface(interface, name, device)
            return
        if device is None:
            rule = "must have __dlpack_device__ beside __dlpack__"
            raise lib.invalid(name, rule, type(array).__name__, lib.Status.DTYPE)
        self.device = int(device[0]), int(device[1])
        if self.device[0] in (CPU, CUDA_HOST):
            self._read(array, name, {})
        elif self.device[0] == CUDA:
            # The protocol's number of the default stream is 1. The array is made ready on ours.
            self._read(array, name, {"stream": (place.stream if place else 0) or 1})
        else:
            # The core says that it does not take this device, and reads nothing else.
            self.data, self.dtype = 0, (2, 32)
            self.shape = tuple(getattr(array, "shape", None) or (0,))

    def _read_interface(self, interface: dict[str, Any], name: str, device: Any) -> None:
        """The CUDA array interface, versions 2 and 3."""
        if interface.get("mask") is not None:
            raise lib.invalid(name, "must have no mask", "one in its __cuda_array_interface__", lib.Status.UNSUPPORTED)
        self.data, self.read_only = interface["data"]
        self.shape = tuple(interface["shape"])
        dtype = np.dtype(interface["typestr"])
        self.dtype = _NUMPY_CODES.get(dtype) or _numpy_code(dtype, name)
        strides = interface.get("strides")
        if strides is not None:
            if any(stride % dtype.itemsize for stride in strides):
                rule = f"must have strides that are multiples of {dtype.itemsize} bytes"
                raise lib.invalid(name, rule, f"strides {strides}", lib.Status.DTYPE)
            self.strides = tuple(stride // dtype.itemsize for stride in strides)
        self.stream = _stream_in(interface)
        self.device = CUDA, int(device[1]) if device is not None else _device_of(self.data, name)

    def _read(self, array: Any, name: str, options: dict[str, Any]) -> None:
        try:
            try:
                capsule = array.__dlpack__(max_version=(1, 0), **options)
            except TypeError:
                capsule = array.__dlpack__(**options)  # written before version 1 of the protocol
        except (BufferError, RuntimeError) as cause:
            raise lib.invalid(name, f"must be readable through DLPack ({cause})", type(array).__name__) from cause
        if _capsule_is_valid(capsule, b"dltensor_versioned"):
            managed = _Versioned.from_address(_capsule_pointer(capsule, b"dltensor_versioned"))
            self.read_only = bool(managed.flags & 1)
            tensor = managed.tensor
        elif not _capsule_is_valid(capsule, b"dltensor"):
            got = f"{type(capsule).__name__} from {type(array).__name__}"
            raise lib.invalid(name, "must give a capsule of DLPack", got, lib.Status.DTYPE)
        else:
            tensor = _Unversioned.from_address(_capsule_pointer(capsule, b"dltensor")).tensor
        self.capsule = capsule
        self.data = (tensor.data or 0) + tensor.byte_offset
        self.dtype = tensor.code, tensor.bits
        if tensor.lanes != 1:
            raise lib.invalid(name, "must have one number in an element", f"{tensor.lanes} lanes", lib.Status.DTYPE)
        axes = C.c_int64 * tensor.ndim
        self.shape = tuple(axes.from_address(tensor.shape)) if tensor.ndim else ()
        self.strides = tuple(axes.from_address(tensor.strides)) if tensor.ndim and tensor.strides else None

    def namespace(self, name: str, instead: str) -> Any:
        """The functions of its framework, to make arrays on its device; the argument ``instead`` has them made."""
        if not hasattr(self.source, "__array_namespace__"):
            rule = f"must come with {instead}=: "
            rule += "beside an array in CUDA memory without __array_namespace__ nothing can be made"
            raise lib.invalid(name, rule, type(self.source).__name__, lib.Status.UNSUPPORTED)
        return self.source.__array_namespace__()


def _stream_in(interface: dict[str, Any]) -> int | None:
    """The stream that a ``__cuda_array_interface__`` names, as the driver has it."""
    stream = interface.get("stream")
    # 1 is the default stream, which is 0 for the driver, too.
    return 0 if stream == 1 else stream


def _device_of(address: int, name: str) -> int:
    """The CUDA device of an address; 0 for none."""
    device = C.c_int32()
    if address:
        try:
            lib.cuda_device_of(address, C.byref(device))
        except lib.MiamixError as cause:
            raise lib.error(cause.status, f"{name}: is in CUDA memory, and {cause}") from cause
    return device.value


class _Numbers:
    """Numbers in CPU memory of another framework, as NumPy reads them."""

    def __init__(self, array: Borrowed) -> None:
        dtype = _numpy_dtype(array.dtype, "labels")
        strides = array.strides or _compact(array.shape)
        self.source = array
        self.__array_interface__ = {
            "version": 3,
            "shape": array.shape,
            "typestr": dtype.str,
            "strides": tuple(stride * dtype.itemsize for stride in strides),
            "data": (array.data, True),
        }


class _Versioned(C.Structure):
    _fields_ = [
        ("major", C.c_uint32),
        ("minor", C.c_uint32),
        ("context", C.c_void_p),
        ("deleter", C.c_void_p),
        ("flags", C.c_uint64),
        ("tensor", lib.Tensor),
    ]


class _Unversioned(C.Structure):
    _fields_ = [("tensor", lib.Tensor), ("context", C.c_void_p), ("deleter", C.c_void_p)]


_capsule_pointer = C.pythonapi.PyCapsule_GetPointer
_capsule_pointer.restype, _capsule_pointer.argtypes = C.c_void_p, [C.py_object, C.c_char_p]
_capsule_is_valid = C.pythonapi.PyCapsule_IsValid
_capsule_is_valid.restype, _capsule_is_valid.argtypes = C.c_int, [C.py_object, C.c_char_p]


def is_torch(array: Any) -> bool:
    """Whether it is a tensor of torch, which nobody imports for this."""
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(array, getattr(torch, "Tensor", ()))


def adopt(array: Any, name: str, place: Place | None = None) -> Any:
    """An array that :func:`describe` takes.

    ``place``: of the call; the first array of a call has none, and makes it (:func:`place_of`).
    """
    if isinstance(array, np.ndarray) or is_torch(array):
        adopted = array
    elif hasattr(array, "__dlpack__") or hasattr(array, "__cuda_array_interface__"):
        adopted = Borrowed(array, name, place)
    else:
        rule = "must be a NumPy array, a torch tensor or an array with __dlpack__ or __cuda_array_interface__"
        raise lib.invalid(name, rule, type(array).__name__, lib.Status.DTYPE)
    if place is not None and place.device is not None:
        _check_stream(_stream_of(adopted), name, place)
    return adopted


def _check_stream(stream: int | None, name: str, place: Place) -> None:
    if stream is not None and stream != place.stream:
        rule = f"must be on the stream of images ({place.stream:#x})"
        raise lib.invalid(name, rule, f"{stream:#x}")


def place_of(adopted: Any) -> Place:
    """Where a call on this array works: on torch's current stream, on that of the array's
    ``__cuda_array_interface__``, else on the default stream; or in CPU memory."""
    if is_torch(adopted):
        if adopted.device.type == "cuda":
            return Place(adopted.device.index or 0, _stream_of(adopted) or 0)
    elif isinstance(adopted, Borrowed) and adopted.device[0] == CUDA:
        return Place(adopted.device[1], adopted.stream or 0)
    return _CPU


def _stream_of(adopted: Any) -> int | None:
    """The stream that an array in CUDA memory is ready on, where it is known."""
    if is_torch(adopted):
        if adopted.device.type != "cuda":
            return None
        return int(sys.modules["torch"].cuda.current_stream(adopted.device).cuda_stream)
    return adopted.stream if isinstance(adopted, Borrowed) and adopted.device[0] == CUDA else None


def describe(array: Any, name: str, channels_last: bool = False, written: bool = False) -> lib.Tensor:
    """The array as the C library takes it.

    ``channels_last``: the last axis is C of images, and is told where the library has it, before H and W.
    """
    device = (CPU, 0)
    if isinstance(array, np.ndarray):
        dtype = _NUMPY_CODES.get(array.dtype) or _numpy_code(array.dtype, name)
        if written and not array.flags.writeable:
            raise lib.invalid(name, "must be writable", "a read-only array")
        data, step = array.__array_interface__["data"][0], array.itemsize
        shape, strides = array.shape, array.strides
    elif isinstance(array, Borrowed):
        if written and array.read_only:
            raise lib.invalid(name, "must be writable", "a read-only array")
        data, step, dtype, device = array.data, 1, array.dtype, array.device
        shape, strides = array.shape, array.strides or _compact(array.shape)
    else:
        data, dtype, device = _torch_place(array, name)
        shape, strides, step = tuple(array.shape), array.stride(), 1
    axes = _axes(shape, strides, step, channels_last, name)
    tensor = lib.Tensor(data, device[0], device[1], len(shape), dtype[0], dtype[1], 1, axes[1], axes[2], 0)
    tensor.keep = array, axes
    return tensor


def _axes(
    shape: tuple[int, ...], strides: tuple[int, ...], step: int, channels_last: bool, name: str
) -> tuple[Any, int, int]:
    key = shape, strides, step, channels_last
    known = _AXES.get(key)
    if known is not None:
        return known
    order = list(range(len(shape)))
    if channels_last:
        # Here, as the core would name the axes in its own order.
        if len(shape) != 4:
            raise lib.invalid(name, "expected shape [N, H, W, C]", list(shape), lib.Status.SHAPE)
        order = [0, 3, 1, 2]
    if any(stride % step for stride in strides):
        rule = f"must have strides that are multiples of {step} bytes"
        raise lib.invalid(name, rule, f"strides {strides}", lib.Status.DTYPE)
    numbers = [shape[axis] for axis in order] + [strides[axis] // step for axis in order]
    memory = (C.c_int64 * max(len(numbers), 1))(*numbers)
    address = C.addressof(memory)
    made = memory, address, address + 8 * len(shape)
    if len(_AXES) >= _MOST_AXES_KEPT:
        _AXES.clear()
    _AXES[key] = made
    return made


def _compact(shape: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(int(np.prod(shape[axis + 1 :], dtype=np.int64)) for axis in range(len(shape)))


def _numpy_code(dtype: Any, name: str) -> tuple[int, int]:
    # ml_dtypes' type, which NumPy knows under this name.
    if dtype.name == "bfloat16":
        _NUMPY_CODES[dtype] = _BFLOAT16
        return _BFLOAT16
    if dtype.byteorder not in _NATIVE:
        raise lib.invalid(name, "must be in the machine's byte order", dtype.str, lib.Status.DTYPE)
    raise lib.invalid(name, "must be of numbers", dtype.name, lib.Status.DTYPE)


def _torch_place(array: Any, name: str) -> tuple[int, tuple[int, int], tuple[int, int]]:
    """Address, element type and device."""
    torch = sys.modules["torch"]
    if not _TORCH_CODES:
        codes: dict[Any, tuple[int, int]] = {}
        for kind, names in [
            (0, ("int8", "int16", "int32", "int64")),
            (1, ("uint8", "uint16", "uint32", "uint64")),
            (2, ("float16", "float32", "float64")),
            (5, ("complex64", "complex128")),
            (6, ("bool",)),
        ]:
            codes |= {getattr(torch, n): (kind, getattr(torch, n).itemsize * 8) for n in names}
        # At once: another thread that sees the table sees all of it.
        _TORCH_CODES.update({**codes, torch.bfloat16: _BFLOAT16})
    dtype = _TORCH_CODES.get(array.dtype)
    if dtype is None or array.layout != torch.strided or array.is_neg():
        got = f"{array.dtype}, {array.layout}" + (", lazily negated" if array.is_neg() else "")
        raise lib.invalid(name, "must be a strided tensor of numbers", got, lib.Status.DTYPE)
    if array.requires_grad and torch.is_grad_enabled():
        rule = "must not require a gradient (miamix.torch has the operator that gives one)"
        raise lib.invalid(name, rule, "a tensor that does", lib.Status.UNSUPPORTED)
    if array.device.type == "cpu":
        return array.data_ptr(), dtype, (CPU, 0)
    if array.device.type == "cuda":
        return array.data_ptr(), dtype, (CUDA, array.device.index or 0)
    raise lib.invalid(name, "must be in CPU or CUDA memory", f"device {array.device}", lib.Status.UNSUPPORTED)


class Block:
    """Compact device memory of the caller's, of whatever elements."""

    def __init__(self, array: Any, name: str, place: Place) -> None:
        self.array, self._name = array, name
        self._adopted = adopt(array, name, place)
        described = describe(self._adopted, name, written=True)
        device = place_of(self._adopted).device
        if device != place.device:
            got = "CPU memory" if device is None else f"CUDA device {device}"
            raise lib.invalid(name, f"must be in the memory of images (CUDA device {place.device})", got)
        shape = tuple(self._adopted.shape)
        n_elements = int(np.prod(shape, dtype=np.int64))
        strides = self._adopted.stride() if is_torch(array) else self._adopted.strides
        # The stride of an axis of one element says nothing.
        gaps = (extent > 1 and got != want for extent, got, want in zip(shape, strides or (), _compact(shape)))
        if n_elements and strides is not None and any(gaps):
            raise lib.invalid(name, "must be compact", f"strides {tuple(strides)}", lib.Status.DTYPE)
        self.address, self.n_bytes = described.data, n_elements * described.bits // 8

    def place(self) -> Place:
        """Where work on it is put now: its stream, as far as it names one, may be another than before."""
        return place_of(self._adopted)._replace(stream=self._stream() or 0)

    def empty(self, shape: tuple[int, ...]) -> Any:
        """Room for float32 numbers, beside it."""
        return empty(self._adopted, shape, "float32", self._name)

    def check_stream(self, name: str, place: Place) -> None:
        """That a call works on the stream that the memory is ready on."""
        _check_stream(self._stream(), name, place)

    def _stream(self) -> int | None:
        interface = None if is_torch(self.array) else getattr(self.array, "__cuda_array_interface__", None)
        return _stream_of(self._adopted) if interface is None else _stream_in(interface)


def n_samples(images: Any, name: str = "images") -> int:
    """N, the extent of the first axis."""
    if len(images.shape) == 0:
        raise lib.invalid(name, "must have a batch axis", "no axes", lib.Status.SHAPE)
    return int(images.shape[0])


def check_shape(array: Any, name: str, shape: Any, rule: str | None = None) -> None:
    """A shape in the caller's order of axes; ``rule``: how the message has it."""
    if tuple(array.shape) != tuple(shape):
        raise lib.invalid(name, f"expected shape {rule or list(shape)}", list(array.shape), lib.Status.SHAPE)


def check_rows(labels: Any, n: int) -> None:
    """Labels of which whole rows are taken: one for each image."""
    if len(labels.shape) == 0 or labels.shape[0] != n:
        raise lib.invalid("labels", f"expected shape [{n}, ...]", list(labels.shape), lib.Status.SHAPE)


def none_of(images: Any) -> Any:
    """Images of the same kind in the same place, without a sample."""
    if not isinstance(images, Borrowed):
        return images[:0]
    none = copy.copy(images)
    none.strides = images.strides or _compact(images.shape)
    none.shape = (0, *images.shape[1:])
    return none


def empty_like(array: Any, name: str) -> Any:
    """Room for as many elements, in the same order in memory."""
    if is_torch(array):
        return sys.modules["torch"].empty_like(array, requires_grad=False)
    if isinstance(array, np.ndarray):
        return np.empty_like(array, subok=False)
    if array.device[0] == CUDA:
        return array.namespace(name, "out").empty_like(array.source)
    return np.empty(array.shape, _numpy_dtype(array.dtype, name))


def empty(like: Any, shape: tuple[int, ...], dtype: str, name: str, instead: str = "out") -> Any:
    """Compact room in the framework of ``like`` and on its device: a tensor beside tensors, else an array.

    ``name``, ``instead``: the argument that ``like`` is, and that by which a caller can give the room.
    """
    if is_torch(like):
        return like.new_empty(shape, dtype=getattr(sys.modules["torch"], dtype))
    if isinstance(like, Borrowed) and like.device[0] == CUDA:
        namespace = like.namespace(name, instead)
        return namespace.empty(shape, dtype=getattr(namespace, dtype), device=like.source.device)
    return np.empty(shape, dtype)


def _numpy_dtype(code: tuple[int, int], name: str) -> Any:
    if code == _BFLOAT16:
        try:
            import ml_dtypes
        except ImportError:
            rule = "must come with out=, or ml_dtypes be installed: NumPy alone has no bfloat16"
            raise lib.invalid(name, rule, "bfloat16 without either", lib.Status.UNSUPPORTED) from None
        return np.dtype(ml_dtypes.bfloat16)
    # A type without a place here is one that the core refuses.
    return next((dtype for dtype, known in _NUMPY_CODES.items() if known == code), np.dtype(np.uint8))


def written(*arrays: Any) -> None:
    """Tell torch of its tensors that were written, so that a gradient that needs what was there before is an error."""
    for array in arrays:
        # Tensors of inference mode count no versions.
        if is_torch(array) and not array.is_inference():
            sys.modules["torch"].autograd.graph.increment_version(array)


def widen_ids(labels: Any) -> Any:
    """Class ids of fewer bits than the library reads, as int64."""
    if isinstance(labels, np.ndarray):
        small = np.can_cast(labels.dtype, np.int64) and labels.dtype.kind in "iu" and labels.dtype != np.int32
        return labels.astype(np.int64, copy=False) if small else labels
    if is_torch(labels):
        torch = sys.modules["torch"]
        small = (torch.uint8, torch.int8, torch.int16, torch.uint16, torch.uint32)
        return labels.to(torch.int64) if labels.dtype in small else labels
    if isinstance(labels, Borrowed) and labels.device[0] in (CPU, CUDA_HOST):
        code, bits = labels.dtype
        if (code == 0 and bits < 32) or (code == 1 and bits < 64):
            return np.array(_Numbers(labels), dtype=np.int64)
    return labels


def take(array: Any, index: Any) -> Any:
    """Rows ``index`` of an array."""
    if is_torch(array):
        return array[sys.modules["torch"].as_tensor(index)]  # on its own device, nothing is waited for
    return np.asarray(array)[np.asarray(index)]
