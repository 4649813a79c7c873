"""What calls take on a device, beside the time that moving their bytes takes: by CUDA events, medians of many."""

from __future__ import annotations

import ctypes as C
import statistics
import time
from collections.abc import Callable
from typing import Any

import numpy as np
from miamix import _library as lib

import calls
from calls import Batch, DevicePlan, OnCpu, OnDevice, Operator, Shape, Tensors
from driver import Buffer, Driver, Event, Stream
from part import Part, Table

#: What the largest times may be over the floor, by element type.
TARGETS = {"float32": 1.3, "float16": 1.6, "bfloat16": 1.6, "uint8": 1.6}
REPLAY_TARGET_US = 20.0
HOST_TARGET_US = 20.0
N_PLANS = 8


class Clock:
    """Times work on a stream."""

    def __init__(self, driver: Driver, stream: Stream) -> None:
        self.is_stand_in = driver.is_stand_in
        self.stream = stream
        self._events = Event(driver), Event(driver)
        self._other = Buffer(driver, 1 << 10 if driver.is_stand_in else 1 << 30)

    def ms(self, work: Callable[[], None]) -> float:
        """From before work to after it, as the device sees it: it is busy until all of it is on the stream, and its
        second-level cache holds something else.
        """
        before, after = self._events
        self.stream.synchronize()
        self.stream.fill(self._other, 0)
        before.record(self.stream)
        work()
        after.record(self.stream)
        self.stream.synchronize()
        return after.ms_since(before)

    def text(self, number: float, form: str = ".3f") -> str:
        """A time, or what follows from one: nothing where there is none."""
        return "–" if self.is_stand_in else f"{number:{form}}"

    def check(self, part: Part, name: str, passed: bool, detail: str) -> None:
        """A target: nothing to be shown where there is no time."""
        if self.is_stand_in:
            part.not_run.append(f"{name}: the stand-in driver tells no time")
        else:
            part.check(name, passed, detail)


def bandwidth(part: Part, driver: Driver, clock: Clock, quick: bool) -> float:
    """Bytes read and written per ms by the driver's own copy."""
    n_bytes = 1 << 16 if quick else 1 << 30
    buffers = [Buffer(driver, n_bytes) for _ in range(2)]
    stream = clock.stream
    stream.fill(buffers[0], 0x5D)
    times = [clock.ms(lambda: stream.copy(buffers[1], buffers[0], n_bytes)) for _ in range(3 if quick else 30)]
    median = statistics.median(times)
    per_ms = 2 * n_bytes / median
    table = part.table("copy on the device", "ms", "GB/s, read and written")
    table.rows.append([f"{n_bytes / 2**20:.0f} MiB", clock.text(median), clock.text(per_ms / 1e6, ".0f")])
    return per_ms


def moved_bytes(op: Operator, plan: Any, batch: Batch) -> tuple[int, int]:
    """What mixing must read and write: each image where its mask wants it; and as if it were wanted everywhere."""
    masks = calls.masks(op, plan, batch.shape, OnCpu())["masks"].memory.view(np.float32)
    pixel = batch.shape.channels * batch.images.dtype[1] // 8
    wanted = int(np.count_nonzero(masks > 0)) + int(np.count_nonzero(masks < 1))
    return (wanted + masks.size) * pixel, 3 * masks.size * pixel


class Prepared:
    """A batch in device memory, with room for what it gives."""

    def __init__(self, stream: Stream, shape: Shape, dtype: str, seed: int, layout: str = "NCHW") -> None:
        self.batch = Batch.random(shape, dtype, layout, "int64", 2, seed)
        self._where = OnDevice(stream)
        self.inputs = Tensors(self._where.place(self.batch.inputs()), calls.CUDA)
        self.outputs = Tensors(self._where.place(self.batch.outputs()), calls.CUDA)

    def apply(self, op: Operator, plan: Any, stream: Stream) -> None:
        calls.apply(op, plan, self.inputs, self.batch.n_classes, self.outputs, stream.handle)


def large(part: Part, table: Table, driver: Driver, clock: Clock, dtype: str, quick: bool, per_ms: float) -> None:
    """Batches that are far larger than the second-level cache, in turns, each time under another plan."""
    shape = Shape(2, 3, 68, 72) if quick else Shape(256, 3, 224, 224)
    stream, op, target = clock.stream, Operator(), TARGETS[dtype]
    one = shape.n * shape.channels * shape.height * shape.width * calls.DTYPES[dtype][1] // 8
    n_sets = 2 if quick else max(2, -(-4 * driver.l2_bytes // (3 * one)) + 1)
    sets = [Prepared(stream, shape, dtype, seed) for seed in range(n_sets)]
    plans = [op.draw(shape, seed) for seed in range(2 if quick else N_PLANS)]
    device_plans = [DevicePlan(driver, op, shape) for _ in plans]
    floors = []
    for plan, device_plan in zip(plans, device_plans):
        calls.plan_upload(plan.address, device_plan.address, stream.handle)
        floors.append([n_bytes / per_ms for n_bytes in moved_bytes(op, plan, sets[0].batch)])
    turns = [(sets[i % n_sets], i % len(plans)) for i in range(n_sets * len(plans))]
    captured = []
    for prepared, i in turns:
        with stream.capture() as graph:
            prepared.apply(op, device_plans[i], stream)
        captured.append(graph[0])
    times, replays = [], []
    for _ in range(1 if quick else max(2, 60 // len(turns))):
        for (prepared, i), graph in zip(turns, captured):
            times.append((clock.ms(lambda: prepared.apply(op, device_plans[i], stream)), *floors[i]))
            replays.append((clock.ms(lambda: graph.launch(stream)), *floors[i]))
    times, replays = times[len(turns) // 4 :], replays[len(turns) // 4 :]
    median = [statistics.median(column) for column in zip(*times)]
    over, replayed_over = (statistics.median(ms / floor for ms, floor, _ in all_) for all_ in (times, replays))
    over_whole = statistics.median(ms / whole for ms, _, whole in times)
    replayed = statistics.median(ms for ms, _, _ in replays)
    numbers = [median[0], replayed, median[1]]
    ratios = [over, replayed_over, over_whole]
    cells = [clock.text(number) for number in numbers] + [clock.text(ratio, ".2f") for ratio in ratios]
    table.rows.append([str(shape), dtype, *cells, f"{target}"])
    clock.check(part, f"{shape} {dtype} within {target} of the floor", over <= target, f"{over:.2f}")
    part.save()


#: What one kind of layer costs; each alone, neither warped nor smoothed where it is not said.
KINDS: dict[str, dict[str, Any]] = {
    "mixup": {},
    "cutmix": {},
    "cutmix, smoothed": {"p_smooth": 1.0},
    "gridmix": {},
    "gridmix, warped, smoothed": {"p_aug": 1.0, "p_smooth": 1.0},
    "agmix": {},
    "fmix": {},
    "fmix, warped": {"p_aug": 1.0},
    "fmix, warped, smoothed": {"p_aug": 1.0, "p_smooth": 1.0},
}


def kinds(part: Part, driver: Driver, clock: Clock, quick: bool, per_ms: float) -> None:
    """Each kind of layer by itself, which explains what a mixture of them takes."""
    stream = clock.stream
    shapes = [Shape(256, 3, 224, 224), Shape(32, 3, 512, 512), Shape(8, 3, 1024, 1024)]
    if quick:
        shapes = [Shape(2, 3, 68, 72)]
    table = part.table("shape", "what", "type", "ms", "floor, ms", "over it")

    def row(op: Operator, prepared: Prepared, what: str, work: Callable[[Any], None]) -> None:
        batch = prepared.batch
        plan, device_plan = op.draw(batch.shape, 0), DevicePlan(driver, op, batch.shape)
        calls.plan_upload(plan.address, device_plan.address, stream.handle)
        times = [clock.ms(lambda: work(device_plan)) for _ in range(2 if quick else 12)]
        ms, floor = statistics.median(times[1:]), moved_bytes(op, plan, batch)[0] / per_ms
        dtype = {bits: name for name, bits in calls.DTYPES.items()}[batch.images.dtype]
        cells = [clock.text(ms), clock.text(floor), clock.text(ms / floor, ".2f")]
        table.rows.append([str(batch.shape), what, dtype, *cells])
        part.save()

    def alone(shape: Shape) -> None:
        prepared = Prepared(stream, shape, "float32", 0)
        for what, changes in KINDS.items():
            if shape is not shapes[0] and not what.startswith("fmix"):
                continue
            method = what.split(",")[0]
            op = Operator(method_weights={method: 1.0}, k_max=1, **{"p_aug": 0.0, "p_smooth": 0.0, **changes})
            row(op, prepared, what, lambda plan: prepared.apply(op, plan, stream))

    def masks_alone(shape: Shape) -> None:
        op, prepared = Operator(), Prepared(stream, shape, "float32", 0)
        where = OnDevice(stream)
        room = {"masks": calls.empty(calls.FLOAT32, shape.n, shape.height, shape.width)}
        placed = Tensors(where.place(room), calls.CUDA)

        def masks(plan: Any) -> None:
            lib.masks(op.handle.address, plan.address, placed["masks"], None, stream.handle)

        row(op, prepared, "all kinds, masks alone (floor: of mixing)", masks)

    def interleaved(shape: Shape, dtype: str) -> None:
        op, prepared = Operator(), Prepared(stream, shape, dtype, 0, "NHWC")
        row(op, prepared, "all kinds, NHWC", lambda plan: prepared.apply(op, plan, stream))

    part.section("each kind of layer", lambda: alone(shapes[0]))
    part.section("masks alone", lambda: masks_alone(shapes[0]))
    for dtype in ("float32", "bfloat16", "uint8"):
        part.section(f"NHWC, {dtype}", lambda: interleaved(shapes[0], dtype))
    for shape in shapes[1:]:
        part.section(f"fmix, {shape}", lambda: alone(shape))


def small(part: Part, driver: Driver, clock: Clock, quick: bool) -> None:
    """A batch that is bound by launches, replayed."""
    shape = Shape(4, 3, 32, 32) if quick else Shape(128, 3, 32, 32)
    stream, op = clock.stream, Operator()
    plan, device_plan = op.draw(shape, 0), DevicePlan(driver, op, shape)
    prepared = Prepared(stream, shape, "float32", 0)
    calls.plan_upload(plan.address, device_plan.address, stream.handle)
    with stream.capture() as captured:
        prepared.apply(op, device_plan, stream)
    graph, n = captured[0], 2 if quick else 100

    def replay(times: int) -> None:
        for _ in range(times):
            graph.launch(stream)

    alone, in_a_row, with_upload = [], [], []
    for seed in range(3 if quick else 300):
        op.redraw(plan, shape, seed)
        calls.plan_upload(plan.address, device_plan.address, stream.handle)
        alone.append(1e3 * clock.ms(lambda: replay(1)))
        if seed % 10 == 0:
            in_a_row.append(1e3 * clock.ms(lambda: replay(n)) / n)

        def upload_and_replay() -> None:
            calls.plan_upload(plan.address, device_plan.address, stream.handle)
            graph.launch(stream)

        with_upload.append(1e3 * clock.ms(upload_and_replay))
    table = part.table("shape", "kernels", "one replay, µs", f"{n} in a row, µs each", "upload and replay, µs")
    cells = [clock.text(statistics.median(times), ".1f") for times in (alone, in_a_row, with_upload)]
    table.rows.append([f"{shape} float32", str(graph.n_kernels), *cells])
    median = statistics.median(alone)
    name = f"{shape} float32 replayed under {REPLAY_TARGET_US:.0f} µs of event time"
    clock.check(part, name, median < REPLAY_TARGET_US, f"{median:.1f} µs")


def host(part: Part, driver: Driver, clock: Clock, quick: bool) -> None:
    """What the calls take on the CPU, through ctypes: a call that does nothing is beside them."""
    stream, op = clock.stream, Operator()
    columns = ["nothing", "draw", "upload", "apply, uploaded", "upload + apply", "apply, not uploaded"]
    table = part.table("on the CPU, median µs", *columns)
    n = 4 if quick else 256
    for shape in (Shape(n, 3, 32, 32), Shape(n, 3, 68, 72) if quick else Shape(n, 3, 224, 224)):
        plan, device_plan = op.draw(shape, 0), DevicePlan(driver, op, shape)
        prepared = Prepared(stream, shape, "uint8", 0)
        handle, told = stream.handle, lib.Shape()
        works: dict[str, Callable[[int], None]] = {
            "nothing": lambda _: lib.plan_shape(plan.address, C.byref(told)),
            "draw": lambda seed: op.redraw(plan, shape, seed),
            "upload": lambda _: calls.plan_upload(plan.address, device_plan.address, handle),
            "apply, uploaded": lambda _: prepared.apply(op, device_plan, stream),
            "apply, not uploaded": lambda _: prepared.apply(op, plan, stream),
        }
        times: dict[str, list[float]] = {column: [] for column in columns}
        for seed in range(3 if quick else 200):
            for what, work in works.items():
                stream.synchronize()
                start = time.perf_counter()
                work(seed)
                times[what].append((time.perf_counter() - start) * 1e6)
            times["upload + apply"].append(times["upload"][-1] + times["apply, uploaded"][-1])
        median = {column: statistics.median(times[column]) for column in columns}
        table.rows.append([str(shape), *(clock.text(median[column], ".1f") for column in columns)])
        # Both ways: a plan that the caller uploads, and one that the call places in the stream's pool, uploads and frees,
        # which is what torch tensors and ONNX Runtime go through.
        for way, column in {"upload, then apply": "upload + apply", "one call": "apply, not uploaded"}.items():
            name = f"{shape}, {way}: under {HOST_TARGET_US:.0f} µs of CPU time"
            clock.check(part, name, median[column] < HOST_TARGET_US, f"{median[column]:.1f} µs, with what ctypes takes")


def timings(part: Part, driver: Driver, quick: bool) -> None:
    """All of them."""
    clock = Clock(driver, Stream(driver))
    # What all else stands beside: each process measures it for itself.
    per_ms = bandwidth(part, driver, clock, quick)
    part.save()
    part.section("one replay", lambda: small(part, driver, clock, quick))
    part.section("on the CPU", lambda: host(part, driver, clock, quick))
    table = part.table(
        "shape", "type", "ms", "replayed, ms", "floor, ms", "over it", "replayed", "over 3 whole images", "allowed"
    )
    for dtype in TARGETS:
        part.section(dtype, lambda: large(part, table, driver, clock, dtype, quick, per_ms))
    kinds(part, driver, clock, quick, per_ms)


def profiled(part: Part, driver: Driver, quick: bool) -> None:
    """A few calls for a profiler to look at."""
    stream, op = Stream(driver), Operator()
    large = Shape(2, 3, 68, 72) if quick else Shape(256, 3, 224, 224)
    for shape, dtype in ((large, "float32"), (large, "uint8"), (Shape(128, 3, 32, 32), "float32")):
        prepared = Prepared(stream, shape, dtype, 0)
        prepared.apply(op, op.draw(prepared.batch.shape, 0), stream)
        stream.synchronize()
