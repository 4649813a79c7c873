"""The C library: where it is, its functions, its errors. ctypes releases the GIL around every call."""

from __future__ import annotations

import ctypes as C
import enum
import os
import sys
from typing import Any

#: The interface that this package was written for.
ABI_VERSION = 1

_FILE = {"win32": "miamix.dll", "darwin": "libmiamix.dylib"}.get(sys.platform, "libmiamix.so")


def library_path() -> str:
    """Path of the shared library, which is the operator library for ONNX Runtime too.

    ``onnxruntime.SessionOptions.register_custom_ops_library`` takes it. The environment variable
    ``MIAMIX_LIBRARY`` names another file.
    """
    return os.environ.get("MIAMIX_LIBRARY") or os.path.join(os.path.dirname(os.path.abspath(__file__)), _FILE)


class Status(enum.IntEnum):
    """What a call answers, with the same numbers in every language."""

    OK = 0
    INVALID_ARGUMENT = 1
    SHAPE = 2
    DTYPE = 3
    PLAN = 4
    UNSUPPORTED = 5
    OUT_OF_MEMORY = 6
    CUDA_UNAVAILABLE = 7
    CUDA = 8
    INTERNAL = 9


class MiamixError(Exception):
    """A call failed: ``name: rule, got value``.

    Attributes
    ----------
    status : Status or None
        None where the error crossed a process and left it behind.
    """

    def __init__(self, message: str, status: Status | None = None) -> None:
        # One argument alone is enough: torch's DataLoader makes errors of workers again from their text.
        super().__init__(message)
        self.status = status


class MiamixValueError(MiamixError, ValueError):
    """A bad argument: a value, a shape, an element type, a layout or a plan."""


_BAD_ARGUMENT = (Status.INVALID_ARGUMENT, Status.SHAPE, Status.DTYPE, Status.PLAN)


def error(status: Status | None, message: str) -> MiamixError:
    """The exception of a status."""
    return (MiamixValueError if status in _BAD_ARGUMENT else MiamixError)(message, status)


def invalid(name: str, rule: str, got: object, status: Status = Status.INVALID_ARGUMENT) -> MiamixError:
    """A bad argument that the core cannot be shown."""
    return error(status, f"{name}: {rule}, got {got}")


class Config(C.Structure):
    """``miamix_config``."""

    _fields_ = [
        ("struct_size", C.c_uint64),
        ("alpha", C.c_float),
        ("k_min", C.c_uint32),
        ("k_max", C.c_uint32),
        ("method_weights", C.c_float * 6),
        ("p_apply", C.c_float),
        ("p_self", C.c_float),
        ("p_aug", C.c_float),
        ("p_smooth", C.c_float),
        ("merge", C.c_uint32),
        ("label_weight", C.c_uint32),
        ("lambda_reading", C.c_uint32),
        ("gaussian_sigma", C.c_uint32),
        ("pairing", C.c_uint32),
        ("cutmix_box", C.c_uint32),
        ("grid_range", C.c_uint32 * 2),
        ("decay_power", C.c_float),
        ("rotate_max_rad", C.c_float),
        ("shear_max", C.c_float),
        ("smooth_range_px", C.c_uint32 * 2),
        ("p_flip", C.c_float),
        ("pad_px", C.c_uint32),
        ("label_smoothing", C.c_float),
        ("n_threads", C.c_uint32),
    ]


class Shape(C.Structure):
    """``miamix_shape``."""

    _fields_ = [("samples", C.c_uint64), ("height", C.c_uint64), ("width", C.c_uint64)]


class Tensor(C.Structure):
    """``miamix_tensor``, its nested structs laid out flat; addresses are numbers, so ``keep`` holds what they point to."""

    _fields_ = [
        ("data", C.c_void_p),
        ("device_type", C.c_int32),
        ("device_id", C.c_int32),
        ("ndim", C.c_int32),
        ("code", C.c_uint8),
        ("bits", C.c_uint8),
        ("lanes", C.c_uint16),
        ("shape", C.c_void_p),
        ("strides", C.c_void_p),
        ("byte_offset", C.c_uint64),
    ]
    keep: object


def _load() -> C.CDLL:
    path = library_path()
    try:
        library = C.CDLL(path)
    except OSError as cause:
        raise ImportError(f"the library of miamix cannot be loaded: {cause}") from cause
    try:
        library.miamix_abi_version.restype = C.c_uint32
    except AttributeError as cause:
        raise ImportError(f"{path} is not the library of miamix: {cause}") from cause
    got = library.miamix_abi_version()
    if got != ABI_VERSION:
        raise ImportError(f"{path} has the interface version {got}, and this package needs {ABI_VERSION}")
    return library


_LIBRARY = _load()


def _function(name: str, restype: Any, *argtypes: Any) -> Any:
    function = getattr(_LIBRARY, name)
    function.restype, function.argtypes = restype, argtypes
    return function


_last_error_message = _function("miamix_last_error_message", C.c_char_p)


def _check(status: int, _function: Any, _arguments: Any) -> int:
    if status:
        # On the thread that called, before it calls again: the message is this call's.
        message = _last_error_message().decode("utf-8", "replace")
        known = status in Status._value2member_map_
        raise error(Status(status) if known else Status.INTERNAL, message)
    return status


def _call(name: str, *argtypes: Any) -> Any:
    function = _function(name, C.c_int32, *argtypes)
    function.errcheck = _check
    return function


# Structs are passed by reference, and None is NULL: every pointer is a plain address here.
_P, _U64, _SIZE = C.c_void_p, C.c_uint64, C.c_size_t

version = _function("miamix_version", C.c_char_p)
status_name = _function("miamix_status_name", C.c_char_p, C.c_int32)
config_init = _call("miamix_config_init", _P, _SIZE)
op_create = _call("miamix_op_create", _P, _P)
op_free = _function("miamix_op_free", None, _P)
plan_draw = _call("miamix_plan_draw", _P, _P, _U64, _U64, _P)
plan_from_json = _call("miamix_plan_from_json", C.c_char_p, _SIZE, _P)
plan_to_json = _call("miamix_plan_to_json", _P, _P, _SIZE, _P)
plan_shape = _call("miamix_plan_shape", _P, _P)
plan_partner_index = _call("miamix_plan_partner_index", _P, _P, _SIZE)
plan_n_layers = _call("miamix_plan_n_layers", _P, _SIZE, _P)
plan_free = _function("miamix_plan_free", None, _P)
apply = _call("miamix_apply", _P, _P, _P, _P, _P, _SIZE, _P, _P, _P, _P, _P)
mix = _call("miamix_mix", _P, _U64, _U64, _P, _P, _P, _SIZE, _P, _P, _P, _P, _P)
apply_maps = _call("miamix_apply_maps", _P, _P, _P, _P, _P, _P)
backward = _call("miamix_backward", _P, _P, _P, _P, _P, _P)
masks = _call("miamix_masks", _P, _P, _P, _P, _P)
cuda_sizes = _call("miamix_cuda_sizes", _P, _P, _P, _P, _P)
plan_on_device = _call("miamix_plan_on_device", _P, _P, _P, _SIZE, _P, _SIZE, _P)
plan_upload = _call("miamix_plan_upload", _P, _P, _P)
check_labels = _call("miamix_check_labels", _P)
cuda_device_of = _call("miamix_cuda_device_of", _P, _P)


class Handle:
    """An operator or a plan of the library, released with this object."""

    __slots__ = ("_free", "address")

    def __init__(self, make: Any, free: Any, *arguments: Any) -> None:
        self._free = None
        address = C.c_void_p()
        make(*arguments, C.byref(address))
        self.address = address.value
        self._free = free

    def __del__(self) -> None:
        if self._free is not None:
            self._free(self.address)
