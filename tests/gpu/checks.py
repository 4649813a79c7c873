"""What must hold on a device: the bytes of the CPU engine, in graphs and on many streams, and errors that say so."""

from __future__ import annotations

import ctypes as C
import itertools
import os
import threading
import time
import traceback
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from miamix import _library as lib
from miamix._parameters import METHODS

import calls
from calls import Array, Batch, DevicePlan, OnCpu, OnDevice, Operator, Shape, Tensors
from driver import CudaError, Driver, Stream
from part import Part, Table

#: All methods, warps, smoothing.
BUSY = {
    "method_weights": dict.fromkeys(METHODS, 1.0),
    "k_min": 1,
    "k_max": 3,
    "p_apply": 0.9,
    "p_aug": 0.5,
    "p_smooth": 0.5,
    "smooth_range_px": (3, 15),
    "grid_range": (2, 16),
    "label_smoothing": 0.1,
}
VIEWS = {"p_flip": 0.5, "pad_px": 2}
#: Whole groups of four pixels and not, small and large, one channel and several.
SIZES = [Shape(4, 3, 12, 16), Shape(3, 1, 9, 13), Shape(2, 4, 66, 68), Shape(2, 2, 71, 61)]
REAL_SIZES = [Shape(128, 3, 32, 32), Shape(64, 3, 64, 64), Shape(32, 3, 224, 224), Shape(9, 3, 225, 225)]
#: One pixel to the largest of either kernel, primes, lines.
ODD_SIZES = [(1, 1), (1, 7), (7, 1), (2, 2), (5, 3), (31, 33), (33, 65), (64, 64), (1, 4096), (4096, 1)]
ODD_SIZES += [(65, 67), (1, 4097), (4500, 1), (70, 300)]
LARGE_SIZES = [(512, 512), (480, 853), (1080, 1920), (4099, 257), (3, 32768)]


class Comparison:
    """Results of a device beside those of the CPU, saved as they come: a crash leaves those before it.

    A context manager, at whose end the check ``name`` says whether all were equal.
    """

    #: Calls that fail one after the other, after which no more of their section are tried.
    MOST_ERRORS = 5

    def __init__(self, part: Part, driver: Driver, name: str) -> None:
        self.part, self.stream, self.name = part, Stream(driver), name
        self._table = part.table("what", "calls", "bytes compared", "")
        self._rows: dict[str, list[str]] = {}
        self._n_results, self._n_bytes, self._n_wrong = Counter[str](), Counter[str](), Counter[str]()
        self._faults: list[str] = []
        self._n_errors = 0

    def __enter__(self) -> Comparison:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        said = self._faults[:5]
        if kind is not None and not any(str(error) in fault for fault in said):
            said.append(f"{kind.__name__}: {error}")
        self.part.check(self.name, not said, "; ".join(said))

    def add(self, group: str, what: str, results: Callable[[], tuple[dict[str, Array], dict[str, Array]]]) -> None:
        """``results``: makes those of the device and those of the CPU."""
        print(what, flush=True)  # the last line of the log where the process goes down with it
        found = []
        try:
            with self.part.watched(self.name, what):
                got, expected = results()
            self._n_bytes[group] += sum(array.memory.nbytes for array in expected.values())
            found = calls.differences(got, expected)
            self._n_errors = 0
        except Exception as error:
            found = [f"{type(error).__name__}: {error}"]
            self._n_errors += 1
            if self._n_errors == self.MOST_ERRORS or self.part.is_broken():
                self._n_errors = 0
                raise
            traceback.print_exc()
        finally:
            self._n_results[group] += 1
            self._n_wrong[group] += bool(found)
            self._faults += [f"{what}: {fault}" for fault in found]
            self._show(group)

    def mix(self, group: str, op: Operator, batch: Batch, what: str, seed: int) -> None:
        def results() -> tuple[dict[str, Array], dict[str, Array]]:
            plan = op.draw(batch.shape, seed)
            expected = calls.mix(op, plan, batch, OnCpu())
            return calls.mix(op, plan, batch, OnDevice(self.stream)), expected

        self.add(group, what, results)

    def both(self, group: str, what: str, call: Callable[[OnCpu | OnDevice], dict[str, Array]]) -> None:
        """The same call on either."""
        self.add(group, what, lambda: (call(OnDevice(self.stream)), call(OnCpu())))

    def _show(self, group: str) -> None:
        if group not in self._rows:
            self._rows[group] = []
            self._table.rows.append(self._rows[group])
        wrong = self._n_wrong[group]
        verdict = f"{wrong} differ or fail" if wrong else "equal"
        self._rows[group][:] = [group, str(self._n_results[group]), f"{self._n_bytes[group]:,}", verdict]
        self.part.save()


def equality(part: Part, driver: Driver, quick: bool) -> None:
    """Every element type, layout, method, label kind, view and size against the CPU engine."""
    sizes = SIZES if quick else SIZES + REAL_SIZES
    with Comparison(part, driver, "every byte is the CPU engine's") as compare:
        for i, (dtype, layout) in enumerate(itertools.product(calls.DTYPES, calls.LAYOUTS)):
            part.section(
                f"{dtype}, {layout}", lambda: _mixing(compare, dtype, layout, sizes, 2 * len(sizes) * i, quick)
            )
        for method in METHODS:
            part.section(f"masks of {method}", lambda: _masks(compare, method, sizes[:3] if quick else sizes))
        for merge, k in itertools.product(("product", "sum"), (2, 8)):
            part.section(f"odd sizes, {merge}, k {k}", lambda: _odd_sizes(compare, merge, k, quick))
        part.section("label maps", lambda: _maps(compare, sizes))
        part.section("gradients", lambda: _gradients(compare, sizes))
        part.section("uploaded plans", lambda: _uploads(compare, driver, sizes))


def _mixing(compare: Comparison, dtype: str, layout: str, sizes: list[Shape], first_seed: int, quick: bool) -> None:
    group = f"{dtype}, {layout}"
    for seed, (has_views, shape) in enumerate(itertools.product((False, True), sizes), first_seed):
        if quick and seed % 3:
            continue
        op = Operator(**BUSY, **(VIEWS if has_views else {}))
        # In steps of their own, so that each meets every shape.
        labels, views = calls.LABELS[seed // 5 % len(calls.LABELS)], 1 + seed // 3 % 2
        batch = Batch.random(shape, dtype, layout, labels, views, seed)
        compare.mix(group, op, batch, f"{group}: {shape}, labels {labels}, views {has_views}", seed)


def _masks(compare: Comparison, method: str, sizes: list[Shape]) -> None:
    for shape, augmented in itertools.product(sizes, (0.0, 1.0)):
        changes = {"method_weights": {method: 1.0}, "p_aug": augmented, "p_smooth": augmented, "p_apply": 1.0}
        op = Operator(**{**BUSY, **changes})
        plan = op.draw(shape, 3)
        what = f"masks of {method}: {shape}, augmented {augmented}"
        compare.both(f"masks of {method}", what, lambda where: calls.masks(op, plan, shape, where))


def _odd_sizes(compare: Comparison, merge: str, k: int, quick: bool) -> None:
    op = Operator(**{**BUSY, "merge": merge, "k_min": k if k == 8 else 1, "k_max": k})
    for seed, (height, width) in enumerate(ODD_SIZES[:: 3 if quick else 1] + ([] if quick else LARGE_SIZES)):
        shape = Shape(2 if height * width > 4000 else 6, 1, height, width)
        batch = Batch.random(shape, "float32", "NCHW", "int64", 2, seed)
        group = f"odd sizes, {merge}, k {k}"
        compare.mix(group, op, batch, f"{group}: {shape}", seed)


def _maps(compare: Comparison, sizes: list[Shape]) -> None:
    op = Operator(**BUSY, **VIEWS)
    for (seed, shape), bits in itertools.product(enumerate(sizes), (8, 16, 32, 64)):
        plan = op.draw(shape, seed)
        what = f"label maps: {shape}, {bits} bits"
        compare.both("label maps", what, lambda where: calls.maps(op, plan, shape, bits, where))


def _gradients(compare: Comparison, sizes: list[Shape]) -> None:
    op, dtypes = Operator(**BUSY, **VIEWS), ("float32", "float16", "bfloat16")
    for (seed, shape), dtype, views in itertools.product(enumerate(sizes), dtypes, (1, 2)):
        plan = op.draw(shape, seed)
        batch = Batch.random(shape, dtype, calls.LAYOUTS[seed % 3], "none", views, seed)
        what = f"gradients: {shape}, {dtype}, {views} views"
        compare.both("gradients", what, lambda where: calls.backward(op, plan, batch, where))


def _uploads(compare: Comparison, driver: Driver, sizes: list[Shape]) -> None:
    op = Operator(**BUSY, **VIEWS)
    for seed, shape in enumerate(sizes):
        batch = Batch.random(shape, "float32", "NCHW", "rows", 2, seed)

        def uploaded() -> tuple[dict[str, Array], dict[str, Array]]:
            plan, device_plan = op.draw(shape, seed), DevicePlan(driver, op, shape, pooled=bool(seed % 2))
            calls.plan_upload(plan.address, device_plan.address, compare.stream.handle)
            got = calls.mix(op, device_plan, batch, OnDevice(compare.stream))
            return got, calls.mix(op, plan, batch, OnCpu())

        compare.add("uploaded plans", f"uploaded plans: {shape}", uploaded)


def graphs(part: Part, driver: Driver, quick: bool) -> None:
    """A graph captured once, replayed under plan after plan."""
    shapes = SIZES[:1] + SIZES[2:3] if quick else [Shape(128, 3, 32, 32), Shape(8, 3, 224, 224)]
    with Comparison(part, driver, "each replay follows the plan that was uploaded before it") as compare:
        table = part.table("shape", "kernels", "other nodes", "replays")
        for shape, pooled in itertools.product(shapes, (False, True)):
            memory = "workspace of the pool" if pooled else "workspace of the caller"
            what = f"{shape}, {memory}"
            part.section(what, lambda: _replays(compare, table, driver, shape, pooled, what, 3 if quick else 20))
        part.section("a plan that is not uploaded", lambda: _not_uploaded(compare, shapes[0]))


def _replays(
    compare: Comparison, table: Table, driver: Driver, shape: Shape, pooled: bool, what: str, replays: int
) -> None:
    part, stream, op = compare.part, compare.stream, Operator(**BUSY)
    batch = Batch.random(shape, "float32", "NCHW", "int64", 1, 5)
    plan, device_plan = op.draw(shape, 0), DevicePlan(driver, op, shape, pooled=pooled)
    where = OnDevice(stream)
    inputs = Tensors(where.place(batch.inputs()), where.device)
    outputs = batch.outputs()
    placed = Tensors(where.place(outputs), where.device)
    calls.plan_upload(plan.address, device_plan.address, stream.handle)
    stream.synchronize()
    with stream.capture() as captured:
        calls.apply(op, device_plan, inputs, batch.n_classes, placed, stream.handle)
    graph = captured[0]
    table.rows.append([what, str(graph.n_kernels), str(graph.n_others), str(replays)])
    if not pooled:
        most = 2
        part.check(f"at most {most} launches for {shape}", graph.n_kernels <= most, str(graph.n_kernels))
    for seed in range(replays):

        def replayed() -> tuple[dict[str, Array], dict[str, Array]]:
            op.redraw(plan, shape, seed)
            calls.plan_upload(plan.address, device_plan.address, stream.handle)
            graph.launch(stream)
            where.read_back(outputs)
            return outputs, calls.mix(op, plan, batch, OnCpu())

        compare.add("replays", f"replays: {what}, plan {seed}", replayed)


def _not_uploaded(compare: Comparison, shape: Shape) -> None:
    stream, op = compare.stream, Operator(**BUSY)
    batch = Batch.random(shape, "float32", "NCHW", "int64", 1, 5)
    where = OnDevice(stream)
    inputs = Tensors(where.place(batch.inputs()), where.device)
    placed = Tensors(where.place(batch.outputs()), where.device)
    plan, message = op.draw(shape, 1), ""
    # The kernels are loaded: it is the plan that is refused.
    calls.apply(op, plan, inputs, batch.n_classes, placed, stream.handle)
    stream.synchronize()
    try:
        with stream.capture():
            calls.apply(op, plan, inputs, batch.n_classes, placed, stream.handle)
    except lib.MiamixError as error:
        message = str(error)
    name = "a plan that is not uploaded is refused while capturing"
    compare.part.check(name, "takes only a plan that was uploaded" in message, message)


def streams(part: Part, driver: Driver, quick: bool) -> None:
    """Many streams and threads at once, each batch after its own plan, which is freed at once."""
    n_streams, n_batches = (3, 3) if quick else (16, 40)
    name = f"{n_streams} threads with a stream each, {n_batches} batches each without waiting"
    with Comparison(part, driver, name) as compare:
        part.section("streams", lambda: _streams(compare, driver, n_streams, n_batches, quick))


def _streams(compare: Comparison, driver: Driver, n_streams: int, n_batches: int, quick: bool) -> None:
    shapes = SIZES if quick else [Shape(32, 3, 32, 32), Shape(6, 3, 224, 224), Shape(5, 2, 71, 61)]
    op = Operator(**BUSY)
    all_streams = [Stream(driver) for _ in range(n_streams)]
    start = threading.Barrier(n_streams, timeout=30)

    def work(index: int) -> list[tuple[dict[str, Array], dict[str, Array]]]:
        try:
            driver.enter()
            stream, shape = all_streams[index], shapes[index % len(shapes)]
            where = OnDevice(stream)
            dtype = ("float32", "uint8", "bfloat16")[index // len(shapes) % 3]
            batch = Batch.random(shape, dtype, "NCHW", "int64", 2, index)
            inputs = Tensors(where.place(batch.inputs()), where.device)
            results = [batch.outputs() for _ in range(n_batches)]
            rooms = [OnDevice(stream) for _ in results]
            placed = [Tensors(room.place(outputs), room.device) for room, outputs in zip(rooms, results)]
            start.wait()
        except Exception:
            start.abort()  # nobody waits for this one
            raise
        for seed, tensors in enumerate(placed):
            plan = op.draw(shape, seed, index << 20)
            calls.apply(op, plan, inputs, batch.n_classes, tensors, stream.handle)
            del plan
        for room, outputs in zip(rooms, results):
            room.read_back(outputs)
        expected = [calls.mix(op, op.draw(shape, seed, index << 20), batch, OnCpu()) for seed in range(n_batches)]
        return list(zip(results, expected))

    with compare.part.watched(compare.name, "all threads"), ThreadPoolExecutor(n_streams) as pool:
        futures = [pool.submit(work, index) for index in range(n_streams)]
    for index, future in enumerate(futures):
        what = f"stream {index}, {shapes[index % len(shapes)]}"
        # Of a thread that failed, what it raised, once.
        for seed in range(1 if future.exception() else n_batches):
            compare.add("streams", f"{what}, batch {seed}", lambda: future.result()[seed])


#: Writes to address 0. The stand-in driver runs a mistake of its own of that name.
FAULT = """.version 7.0
.target sm_70
.address_size 64
.visible .entry past_the_end(.param .u64 address)
{
  .reg .b64 %at;
  ld.param.u64 %at, [address];
  st.global.u32 [%at], 0;
  ret;
}
"""


def faults(part: Part, driver: Driver, quick: bool) -> None:
    """What cannot be checked before, and a context that is broken."""
    stream, op, shape = Stream(driver), Operator(), Shape(4, 1, 8, 8)
    batch = Batch.random(shape, "float32", "NCHW", "int64", 1, 0)
    assert batch.labels is not None
    batch.labels.memory.view("int64")[:] = [0, 1, 99, 2]
    mixed = calls.mix(op, op.draw(shape, 0), batch, OnDevice(stream))
    message = _message(lambda: calls.check_labels(stream.handle))
    part.check("a class id that is too large is told of", "labels" in message and "99" not in message, message)
    part.check("and not again", _message(lambda: calls.check_labels(stream.handle)) == "")
    batch.labels.memory.view("int64")[2] = -1
    ignored = calls.mix(op, op.draw(shape, 0), batch, OnCpu())
    found = calls.differences(mixed, ignored)
    part.check("its label is mixed as one that is ignored", not found, "; ".join(found))

    kernel = driver.load(FAULT, "past_the_end")
    address = C.c_uint64(0)
    parameters = (C.c_void_p * 1)(C.addressof(address))
    sizes = (C.c_uint(number) for number in (1, 1, 1, 64, 1, 1, 256))
    driver.call("cuLaunchKernel", kernel, *sizes, stream.handle, parameters, None)
    try:
        stream.synchronize()
        part.check("a kernel that writes nowhere breaks the context", False)
    except CudaError as error:
        part.check("a kernel that writes nowhere breaks the context", True, str(error))
    for attempt in ("at once", "and again"):
        outputs = batch.outputs()
        inputs = Tensors(OnCpu().place(batch.inputs()), calls.CUDA)  # addresses that nothing gets to
        placed = Tensors(OnCpu().place(outputs), calls.CUDA)
        plan = op.draw(shape, 1)
        arguments = op, plan, inputs, batch.n_classes, placed, stream.handle
        error = _error(lambda: calls.apply(*arguments))
        is_cuda = error is not None and error.status == lib.Status.CUDA
        part.check(f"then each call says so, {attempt}", is_cuda, str(error))
    expected = calls.mix(op, op.draw(shape, 1), batch, OnCpu())
    part.check("the CPU engine goes on", (expected["label_weight"].memory.view("float32") >= 0).all())


def _error(call: Any) -> lib.MiamixError | None:
    try:
        call()
    except lib.MiamixError as error:
        return error
    return None


def _message(call: Any) -> str:
    return str(_error(call) or "")


def load(part: Part, driver: Driver, quick: bool) -> None:
    """The first call on a context, which has the driver compile the PTX."""
    stream, op, shape = Stream(driver), Operator(), Shape(2, 1, 8, 8)
    plan, device_plan = op.draw(shape, 0), DevicePlan(driver, op, shape)
    times = []
    for _ in range(2):
        start = time.perf_counter()
        calls.plan_upload(plan.address, device_plan.address, stream.handle)
        times.append((time.perf_counter() - start) * 1e3)
    stream.synchronize()
    cache = os.environ.get("MIAMIX_CUDA_CACHE", "")
    part.table("compile cache", "first call, ms", "second, ms").rows.append([cache, *(f"{t:.2f}" for t in times)])
    part.check("the kernels load", True)
