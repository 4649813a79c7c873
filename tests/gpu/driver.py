"""The CUDA driver as an application uses it: memory, streams, events, graphs. ctypes over libcuda, nothing else."""

from __future__ import annotations

import ctypes as C
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

# CUdevice_attribute.
MULTIPROCESSORS, L2_BYTES, MAJOR, MINOR = 16, 38, 75, 76
#: CUgraphNodeType of a kernel.
KERNEL_NODE = 0
ILLEGAL_ADDRESS = 700


class CudaError(Exception):
    """A call of the driver failed."""

    def __init__(self, call: str, code: int) -> None:
        super().__init__(f"{call} failed with {code}")
        self.code = code


class Driver:
    """The driver, and the primary context of device 0, current on the thread that makes this."""

    def __init__(self) -> None:
        try:
            self._library = C.CDLL("libcuda.so.1")
        except OSError as cause:
            raise SystemExit(f"there is no CUDA driver here: {cause}") from None
        #: Whether this is the stand-in of tests/cuda, which runs kernels on the CPU and tells no time.
        self.is_stand_in = hasattr(self._library, "stand_in_run")
        self.call("cuInit", C.c_uint(0))
        self.device = self.out(C.c_int, "cuDeviceGet", C.c_int(0))
        self.context = self.out(C.c_void_p, "cuDevicePrimaryCtxRetain", self.device)
        self.enter()

    def call(self, name: str, *arguments: Any) -> None:
        code = getattr(self._library, name)(*arguments)
        if code:
            raise CudaError(name, code)

    def out(self, kind: Any, name: str, *arguments: Any) -> Any:
        """What a function writes to its first argument."""
        value = kind()
        self.call(name, C.byref(value), *arguments)
        return value

    def enter(self) -> None:
        """Makes the context current on this thread."""
        self.call("cuCtxSetCurrent", self.context)

    def attribute(self, number: int) -> int:
        return int(self.out(C.c_int, "cuDeviceGetAttribute", C.c_int(number), self.device).value)

    @property
    def l2_bytes(self) -> int:
        return self.attribute(L2_BYTES)

    @property
    def name(self) -> str:
        text = C.create_string_buffer(256)
        self.call("cuDeviceGetName", text, C.c_int(len(text)), self.device)
        return text.value.decode()

    def description(self) -> dict[str, str]:
        """What a report says of the machine's device."""
        version = self.out(C.c_int, "cuDriverGetVersion").value
        memory = self.out(C.c_size_t, "cuDeviceTotalMem_v2", self.device).value
        return {
            "card": self.name,
            "compute capability": f"{self.attribute(MAJOR)}.{self.attribute(MINOR)}",
            "multiprocessors, L2, memory": f"{self.attribute(MULTIPROCESSORS)}, {self.l2_bytes / 2**20:.0f} MiB, "
            f"{memory / 2**30:.0f} GiB",
            "driver": f"{_driver_version()}, CUDA {version // 1000}.{version % 1000 // 10}",
        }

    def is_broken(self) -> bool:
        """Whether the context has met a fault, after which every call fails. Waits for all that is under way."""
        return bool(self._library.cuCtxSynchronize())

    def load(self, ptx: str, name: str) -> Any:
        """A kernel of a module of our own."""
        module = self.out(C.c_void_p, "cuModuleLoadData", C.c_char_p(ptx.encode()))
        return self.out(C.c_void_p, "cuModuleGetFunction", module, C.c_char_p(name.encode()))


def _driver_version() -> str:
    if shutil.which("nvidia-smi"):
        query = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
        lines = subprocess.run(query, capture_output=True, text=True, check=False).stdout.split()
        if lines:
            return lines[0]
    return "unknown"


class Buffer:
    """Device memory."""

    def __init__(self, driver: Driver, n_bytes: int) -> None:
        self._driver, self.n_bytes = driver, n_bytes
        self.address = driver.out(C.c_uint64, "cuMemAlloc_v2", C.c_size_t(max(n_bytes, 1))).value

    def __del__(self) -> None:
        try:
            self._driver.call("cuMemFree_v2", C.c_uint64(self.address))
        except (AttributeError, CudaError):
            pass  # never allocated, or the context is broken, which its test has seen


class Event:
    """A point in a stream's work."""

    def __init__(self, driver: Driver) -> None:
        self._driver = driver
        self._handle = driver.out(C.c_void_p, "cuEventCreate", C.c_uint(0))

    def record(self, stream: Stream) -> None:
        self._driver.call("cuEventRecord", self._handle, stream.handle)

    def ms_since(self, earlier: Event) -> float:
        """Waits for both."""
        self._driver.call("cuEventSynchronize", self._handle)
        return float(self._driver.out(C.c_float, "cuEventElapsedTime", earlier._handle, self._handle).value)


class Graph:
    """What was captured on a stream."""

    def __init__(self, driver: Driver, graph: Any) -> None:
        self._driver = driver
        count, node_type, types = C.c_size_t(), C.c_int(), []
        driver.call("cuGraphGetNodes", graph, None, C.byref(count))
        nodes = (C.c_void_p * max(count.value, 1))()
        driver.call("cuGraphGetNodes", graph, nodes, C.byref(count))
        for node in nodes[: count.value]:
            driver.call("cuGraphNodeGetType", C.c_void_p(node), C.byref(node_type))
            types.append(node_type.value)
        self.n_kernels, self.n_others = types.count(KERNEL_NODE), len(types) - types.count(KERNEL_NODE)
        self._executable = driver.out(C.c_void_p, "cuGraphInstantiateWithFlags", graph, C.c_uint64(0))

    def launch(self, stream: Stream) -> None:
        self._driver.call("cuGraphLaunch", self._executable, stream.handle)


class Stream:
    """A stream that does not wait for the default one."""

    def __init__(self, driver: Driver) -> None:
        self.driver = driver
        self.handle = driver.out(C.c_void_p, "cuStreamCreate", C.c_uint(1))

    def synchronize(self) -> None:
        self.driver.call("cuStreamSynchronize", self.handle)

    def write(self, buffer: Buffer, array: np.ndarray[Any, Any]) -> None:
        """Copies to the device and waits."""
        assert array.flags.c_contiguous and array.nbytes <= buffer.n_bytes
        if array.nbytes:
            source = C.c_void_p(array.ctypes.data)
            size = C.c_size_t(array.nbytes)
            self.driver.call("cuMemcpyHtoDAsync_v2", C.c_uint64(buffer.address), source, size, self.handle)
        self.synchronize()

    def read(self, buffer: Buffer) -> np.ndarray[Any, Any]:
        """Copies from the device and waits."""
        array = np.empty(buffer.n_bytes, np.uint8)
        if array.nbytes:
            target, size = C.c_void_p(array.ctypes.data), C.c_size_t(array.nbytes)
            self.driver.call("cuMemcpyDtoHAsync_v2", target, C.c_uint64(buffer.address), size, self.handle)
        self.synchronize()
        return array

    def copy(self, to: Buffer, source: Buffer, n_bytes: int) -> None:
        """Copies on the device, without waiting."""
        addresses = C.c_uint64(to.address), C.c_uint64(source.address)
        self.driver.call("cuMemcpyDtoDAsync_v2", *addresses, C.c_size_t(n_bytes), self.handle)

    def fill(self, buffer: Buffer, byte: int) -> None:
        """Without waiting."""
        if buffer.n_bytes:
            value, size = C.c_ubyte(byte), C.c_size_t(buffer.n_bytes)
            self.driver.call("cuMemsetD8Async", C.c_uint64(buffer.address), value, size, self.handle)

    @contextmanager
    def capture(self) -> Iterator[list[Graph]]:
        """Captures what is put on the stream within; the list has the graph afterwards."""
        captured: list[Graph] = []
        self.driver.call("cuStreamBeginCapture_v2", self.handle, C.c_int(0))
        graph = C.c_void_p()
        try:
            yield captured
        finally:
            self.driver.call("cuStreamEndCapture", self.handle, C.byref(graph))
        captured.append(Graph(self.driver, graph))
