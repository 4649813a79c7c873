"""Arrays in CUDA memory, on the stand-in driver of tests/cuda: its device memory is main memory, its kernels run on the
CPU, and nothing on a stream happens before the test lets it. Every result is the CPU engine's, bit for bit."""

import contextlib
import ctypes as C
import json
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from batches import make_images, same

import miamix
import miamix.torch

IDS = np.array([3, 0, -1, 9, 3])


def find_stand_in():
    try:
        driver = C.CDLL("libcuda.so.1")
        driver.stand_in_stream.restype, driver.stand_in_run.restype = C.c_void_p, C.c_char_p
        driver.stand_in_counts.restype = C.POINTER(C.c_uint64)
    except (OSError, AttributeError):
        if os.environ.get("MIAMIX_REQUIRE_CUDA"):
            raise
        pytest.skip("no stand-in driver; cargo xtask test --only Python has one", allow_module_level=True)
    return driver


DRIVER = find_stand_in()
#: Streams of device 0, and one of device 1.
STREAM, OTHER, ELSEWHERE = (DRIVER.stand_in_stream(i) for i in (0, 1, 2))


def launched():
    """Kernels that have run."""
    return DRIVER.stand_in_counts()[3]


def run(stream=STREAM):
    """Does what is on a stream."""
    error = DRIVER.stand_in_run(C.c_void_p(stream))
    assert error is None, error


@pytest.fixture
def default_stream():
    """Device 0 has a current context on this thread, whose default stream is None."""
    context = C.c_void_p()
    DRIVER.cuStreamGetCtx(C.c_void_p(STREAM), C.byref(context))
    DRIVER.cuCtxPushCurrent_v2(context)
    yield None
    DRIVER.cuCtxPopCurrent_v2(C.byref(context))


class OnCuda:
    """An array with the CUDA array interface, in the memory of a NumPy array."""

    def __init__(self, array, stream=STREAM, read_only=False, **changed):
        self.array, self.stream, self.read_only, self.changed = array, stream, read_only, changed

    @property
    def __cuda_array_interface__(self):
        array = self.array
        return {
            "shape": array.shape,
            "typestr": array.dtype.str,
            "data": (array.ctypes.data, self.read_only),
            "strides": None if array.flags.c_contiguous else array.strides,
            "version": 3,
            "stream": self.stream,
            **self.changed,
        }


def aligned(shape, dtype):
    """Memory as device allocators give it, at a multiple of 512 bytes."""
    n_bytes = int(np.prod(shape)) * np.dtype(dtype).itemsize
    memory = np.full(n_bytes + 512, 77, np.uint8)
    start = -memory.ctypes.data % 512
    return memory[start : start + n_bytes].view(dtype).reshape(shape)


#: Frameworks use memory again in the order of a stream; this one never does.
KEPT = []


class Namespace:
    """The few functions of a framework's array API that make arrays."""

    float32, int64, uint8 = np.float32, np.int64, np.uint8

    @staticmethod
    def empty_like(array):
        return OnCudaOfFramework(np.empty_like(array.array), array.stream)

    @staticmethod
    def empty(shape, dtype, device):
        assert device == "a device"
        KEPT.append(OnCudaOfFramework(aligned(shape, dtype)))
        return KEPT[-1]


class OnCudaOfFramework(OnCuda):
    device = "a device"

    def __array_namespace__(self):
        return Namespace


class OnCudaByDlpack:
    """An array that speaks DLPack alone: NumPy's own capsule, with the device changed."""

    def __init__(self, array, device=0):
        self.array, self.device, self.shape, self.streams = array, device, array.shape, []

    def __dlpack_device__(self):
        return 2, self.device

    def __dlpack__(self, *, stream):
        self.streams.append(stream)
        capsule = self.array.__dlpack__()
        pointer = C.pythonapi.PyCapsule_GetPointer
        pointer.restype, pointer.argtypes = C.c_void_p, [C.py_object, C.c_char_p]
        # DLTensor: the address, then the device.
        (C.c_int32 * 2).from_address(pointer(capsule, b"dltensor") + 8)[:] = [2, self.device]
        return capsule


def new(array):
    """Room that nothing looks like what belongs there."""
    return np.full_like(array, 77)


@pytest.mark.parametrize("dtype", ["f32", "f16", "u8"])
@pytest.mark.parametrize("nhwc", [False, True])
def test_the_array_interface_is_read_and_written_in_place(dtype, nhwc):
    images, partner = make_images(dtype), make_images(dtype, salt=1)
    if nhwc:
        images, partner = (
            np.ascontiguousarray(a.transpose(0, 2, 3, 1)).transpose(0, 3, 1, 2) for a in (images, partner)
        )
    mix = miamix.MiAMix(num_classes=10, label_smoothing=0.1)
    expected = mix(images, IDS, partner=partner, seed=1)
    out, rows = new(images), np.full((5, 10), 77, np.float32)
    given = [OnCuda(array) for array in (images, IDS, partner, out, rows)]
    mixed, targets = mix(given[0], given[1], partner=given[2], seed=1, out=(given[3], given[4]))
    assert mixed is given[3] and targets is given[4]
    assert (out == 77).all() and (rows == 77).all(), "the work waits for its turn on the stream"
    run()
    assert same(out, expected[0]) and same(rows, expected[1])
    plan = mix.draw(images.shape, seed=1)
    out[:] = 77
    plan.apply(given[0], given[1], partner=given[2], out=(given[3], given[4]))
    run()
    assert same(out, expected[0])


def test_results_are_made_by_the_arrays_own_framework():
    images, mix = make_images(), miamix.MiAMix(num_classes=10)
    expected = mix(images, IDS, seed=1)
    mixed, targets = mix(OnCudaOfFramework(images), OnCudaOfFramework(IDS), seed=1)
    run()
    assert same(mixed.array, expected[0]) and same(targets.array, expected[1])
    mix.enabled = False
    passed = OnCudaOfFramework(images)
    mixed, targets = mix(passed, OnCudaOfFramework(IDS), seed=1)
    run()
    assert mixed is passed and same(targets.array, mix(images, IDS)[1])


def test_dlpack_arrays_are_made_ready_on_the_stream_of_the_call(default_stream):
    images, mix = make_images(), miamix.MiAMix(num_classes=10)
    expected = mix(images, IDS, seed=1)
    out, rows = new(images), np.empty((5, 10), np.float32)
    given = [OnCudaByDlpack(array) for array in (images, IDS, out, rows)]
    mix(given[0], given[1], seed=1, out=(given[2], given[3]))
    run(default_stream)
    assert same(out, expected[0]) and same(rows, expected[1])
    # 1 is the protocol's default stream.
    assert {stream for array in given for stream in array.streams} == {1}
    labels = OnCudaByDlpack(IDS)
    mix(OnCuda(images), labels, seed=1, out=(OnCuda(out), OnCuda(rows)))
    run()
    assert labels.streams == [STREAM] and same(out, expected[0])


def test_masks_and_maps():
    images = make_images()
    plan = miamix.MiAMix(p_apply=1.0).draw(images.shape, seed=2)
    masks, maps = new(np.empty(plan.shape, np.float32)), np.arange(np.prod(plan.shape)).reshape(plan.shape)
    assert plan.masks(OnCuda(masks)).array is masks
    mixed = OnCuda(new(maps))
    plan.apply_masks(OnCuda(maps), out=mixed)
    run()
    assert same(masks, plan.masks()) and same(mixed.array, plan.apply_masks(maps))


def test_a_class_id_that_is_too_large_is_told_by_the_next_check():
    images, mix = make_images(), miamix.MiAMix(num_classes=10)
    given, ids, out, rows = OnCuda(images), IDS + 1, new(images), np.empty((5, 10), np.float32)
    mix(given, OnCuda(ids), seed=1, out=(OnCuda(out), OnCuda(rows)))
    miamix.check_labels(given)
    run()
    miamix.check_labels(images)
    with pytest.raises(miamix.MiamixValueError, match=r"^labels\[3\]: must be below num_classes, got a larger"):
        miamix.check_labels(given)
    miamix.check_labels(given)


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"out": None}, None, r"out: must come with out=: .* without __array_namespace__ .*, got OnCuda"),
        ({"out": OnCuda(make_images(), read_only=True)}, ValueError, "out: must be writable, got a read-only array"),
        (
            {"out": make_images()},
            ValueError,
            r"mixed_images: must be in the memory of images \(CUDA device 0\), got CPU",
        ),
        (
            {"partner": OnCuda(make_images(), OTHER)},
            ValueError,
            r"partner: must be on the stream of images \(0x.*\), got",
        ),
        ({"partner": OnCudaByDlpack(make_images(), 1)}, ValueError, "partner_images: must be in the memory of images"),
        ({"partner": OnCuda(make_images(), mask=1)}, None, "partner: must have no mask"),
        ({"images": OnCuda(make_images(), strides=(1, 2, 3, 4))}, ValueError, "images: must have strides that are"),
        ({"images": OnCuda(make_images(), typestr=">f4")}, ValueError, "images: must be in the machine's byte order"),
        (
            {"images": OnCuda(make_images(), ELSEWHERE), "out": OnCuda(make_images(), ELSEWHERE)},
            ValueError,
            "stream: must be of CUDA device 0, where the tensors are, got a stream of device 1",
        ),
    ],
)
def test_what_does_not_fit_is_refused(changes, error, message):
    arguments = {"images": OnCuda(make_images()), "out": OnCuda(make_images()), **changes}
    with pytest.raises(miamix.MiamixError, match=message) as raised:
        miamix.MiAMix()(arguments.pop("images"), **arguments)
    assert error is None or isinstance(raised.value, error)


# Plans in device memory


@contextlib.contextmanager
def capture(stream=STREAM):
    """What is put on the stream within is a graph."""
    DRIVER.stand_in_begin_capture(C.c_void_p(stream))
    yield
    DRIVER.stand_in_end_capture(C.c_void_p(stream))


def replay(stream=STREAM):
    DRIVER.stand_in_replay(C.c_void_p(stream))
    run(stream)


def memory_of(mix, images, kind):
    """Arguments of plan_on_device: memory that is made, the caller's, and the library's own."""
    sizes = mix.cuda_sizes(images.shape)
    return {
        "made": {},
        "given": {
            "buffer": OnCuda(aligned((sizes.plan // 4, 2), np.int16)),
            # The stride of an axis of one element says nothing.
            "workspace": OnCuda(aligned((1, sizes.workspace), np.uint8), strides=(12345, 1)),
        },
        "pool": {"buffer": OnCuda(aligned((sizes.plan,), np.uint8)), "workspace": "pool"},
    }[kind]


#: Small images, which one launch mixes, and large ones.
SHAPES = [(5, 3, 13, 17), (3, 1, 66, 70)]


@pytest.mark.parametrize("memory", ["made", "given", "pool"])
@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
@pytest.mark.parametrize("shape", SHAPES)
def test_a_captured_graph_follows_the_plan_that_was_uploaded_last(shape, layout, memory):
    n, _, height, width = shape
    images, ids = make_images(shape=shape), IDS[:n]
    if layout == "NHWC":
        images = np.ascontiguousarray(images.transpose(0, 2, 3, 1))
    mix = miamix.MiAMix(num_classes=10, seed=4, layout=layout, k_max=3, p_flip=0.5, pad_px=2, label_smoothing=0.1)
    given = OnCudaOfFramework(images)
    plan = mix.plan_on_device(given, **memory_of(mix, images, memory))
    assert plan.shape == (n, height, width)
    assert repr(plan) == f"<miamix.DevicePlan of {n} samples, {height} x {width} px>"
    maps = np.arange(n * height * width).reshape(n, height, width)
    out, rows, mixed_maps, masks = new(images), np.empty((n, 10), np.float32), new(maps), np.empty(maps.shape, "f4")

    def call():
        mixed = plan.apply(given, OnCuda(ids), out=(OnCuda(out), OnCuda(rows)))
        return *mixed, plan.apply_masks(OnCuda(maps), out=OnCuda(mixed_maps)), plan.masks(OnCuda(masks))

    with pytest.raises(miamix.MiamixValueError, match="plan: must have been uploaded"):
        call()
    first = plan.redraw()
    assert mix.next_sample == n
    with capture():
        with pytest.raises(miamix.MiamixError, match="stream: is capturing, which takes only a plan that was uploaded"):
            first.apply(given, OnCuda(ids), out=(OnCuda(out), OnCuda(rows)))
        results = call()
        for draw in (plan.redraw, lambda: plan.upload(first)):
            with pytest.raises(miamix.MiamixError, match="stream: is capturing; upload a plan before"):
                draw()
    assert mix.next_sample == n, "what failed has drawn nothing"
    assert [array.array is memory for array, memory in zip(results, (out, rows, mixed_maps, masks))] == [True] * 4
    run()
    by_hand = mix.draw(shape if layout == "NCHW" else images.shape, seed=99)
    plans = [
        lambda: plan.redraw(),
        lambda: plan.redraw(seed=7, first_sample=2),
        lambda: (plan.upload(by_hand), by_hand)[1],
        lambda: plan.redraw(),
    ]
    drawn = []
    for upload in plans:
        drawn.append(upload())
        replay()
        expected, expected_rows = drawn[-1].apply(images, ids)
        assert same(out, expected) and same(rows, expected_rows)
        assert same(mixed_maps, drawn[-1].apply_masks(maps)) and same(masks, drawn[-1].masks())
    # The running counter names the plans, as in a loop of calls.
    expected = [mix.draw(images.shape, seed=seed, first_sample=i) for seed, i in [(4, n), (7, 2), (99, 0), (4, 2 * n)]]
    assert [got.to_json() for got in drawn] == [want.to_json() for want in expected]
    assert mix.next_sample == 3 * n


def test_a_graph_stops_mixing_with_its_operator():
    images, mix = make_images(), miamix.MiAMix(num_classes=10, p_flip=1.0)
    out, rows = new(images), np.empty((5, 10), np.float32)
    given = OnCudaOfFramework(images)
    plan = mix.plan_on_device(given)
    plan.redraw()
    with capture():
        plan.apply(given, OnCuda(IDS), out=(OnCuda(out), OnCuda(rows)))
    mix.enabled = False
    assert plan.redraw().n_layers == [0] * 5
    replay()
    assert same(out, images) and same(rows, mix(images, IDS)[1]) and mix.next_sample == 15


def test_masks_of_a_device_plan_are_made_beside_it():
    mix = miamix.MiAMix()
    plan = mix.plan_on_device(OnCudaOfFramework(make_images()))
    host = plan.redraw(seed=3)
    masks = plan.masks()
    run()
    assert same(masks.array, host.masks())


def test_memory_of_the_array_interface_moves_to_its_new_stream():
    images, mix = make_images(), miamix.MiAMix()
    buffer = OnCuda(aligned((mix.cuda_sizes(images.shape).plan,), np.uint8))
    plan = mix.plan_on_device(OnCuda(images), buffer=buffer, workspace="pool")
    buffer.stream = OTHER
    host = plan.redraw()
    out = new(images)
    with pytest.raises(miamix.MiamixValueError, match=r"plan: must be on the stream of images \(0x.*\), got 0x"):
        plan.apply(OnCuda(images), out=OnCuda(out))
    plan.apply(OnCuda(images, OTHER), out=OnCuda(out, OTHER))
    run(OTHER)
    assert same(out, host.apply(images)[0])


def test_memory_by_dlpack_alone_is_on_the_default_stream(default_stream):
    images, mix = make_images(), miamix.MiAMix()
    sizes = mix.cuda_sizes(images.shape)
    memory = [OnCudaByDlpack(aligned((n_bytes,), np.uint8)) for n_bytes in (sizes.plan, sizes.workspace)]
    given, out = OnCudaByDlpack(images), new(images)
    plan = mix.plan_on_device(given, buffer=memory[0], workspace=memory[1])
    host = plan.redraw()
    plan.apply(given, out=OnCudaByDlpack(out))
    run(default_stream)
    assert same(out, host.apply(images)[0])
    # Each is asked for its memory once: in a capture it may do nothing.
    assert [array.streams for array in memory] == [[1], [1]]


IMAGES = make_images()
SIZES = miamix.MiAMix().cuda_sizes(IMAGES.shape)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"images": IMAGES}, "images: must be in CUDA memory, got CPU memory"),
        ({"images": OnCuda(IMAGES[0, 0])}, "shape: must be that of images or"),
        ({"buffer": None}, "images: must come with buffer=: beside an array in CUDA memory without"),
        ({"workspace": None}, "images: must come with workspace=: beside an array in CUDA memory without"),
        ({"workspace": "own"}, "workspace: must be an array or \"pool\", got 'own'"),
        ({"buffer": OnCuda(aligned((8,), "u1"))}, f"buffer: must have at least {SIZES.plan} bytes, got 8"),
        ({"workspace": OnCuda(aligned((8,), "u1"))}, f"workspace: must have at least {SIZES.workspace} bytes, got 8"),
        ({"buffer": OnCuda(aligned((SIZES.plan + 8,), "u1")[8:])}, "buffer: must be the address of device memory, a"),
        ({"workspace": OnCuda(aligned((SIZES.workspace + 8,), "u1")[8:])}, "workspace: must be the address of device"),
        ({"buffer": OnCuda(aligned((SIZES.plan,), "u1"), read_only=True)}, "buffer: must be writable, got a read-only"),
        ({"buffer": OnCuda(aligned((SIZES.plan, 2), "u1")[:, :1])}, "buffer: must be compact, got strides"),
        ({"buffer": OnCuda(aligned((SIZES.plan,), "u1"), OTHER)}, "buffer: must be on the stream of images"),
        ({"buffer": aligned((SIZES.plan,), "u1")}, "buffer: must be in the memory of images .*, got CPU"),
        ({"workspace": OnCudaByDlpack(aligned((8,), "u1"), 1)}, "workspace: must be in .*, got CUDA device 1"),
    ],
)
def test_memory_that_does_not_serve_is_refused(changes, message):
    room = {"buffer": OnCuda(aligned((SIZES.plan,), "u1")), "workspace": OnCuda(aligned((SIZES.workspace,), "u1"))}
    arguments = {"images": OnCuda(IMAGES), **room, **changes}
    with pytest.raises(miamix.MiamixError, match=message):
        miamix.MiAMix().plan_on_device(arguments.pop("images"), **arguments)


def test_plans_that_do_not_fit_are_refused():
    mix = miamix.MiAMix(k_max=2)
    plan = mix.plan_on_device(OnCudaOfFramework(IMAGES))
    with pytest.raises(miamix.MiamixValueError, match=r"plan: expected shape \[5, 13, 17\] .*, got \[5, 13, 18\]"):
        plan.upload(mix.draw((5, 13, 18), seed=0))
    with pytest.raises(miamix.MiamixError, match="plan: sample 0 has 4 layers, and the device buffer room for 2"):
        plan.upload(miamix.MiAMix(k_min=4, k_max=4).draw((5, 13, 17), seed=0))
    with pytest.raises(miamix.MiamixValueError, match="plan: must be a miamix.Plan, got DevicePlan"):
        plan.upload(plan)
    plan.redraw()
    with pytest.raises(miamix.MiamixError, match="plan: must not be one in device memory"):
        plan.apply(IMAGES)
    run()


# torch


class TensorOnCuda(torch.Tensor):
    """A tensor in main memory that says that it is on a CUDA device; and so does what is made of it, also below
    autograd, where operators are called."""

    __torch_function__ = torch._C._disabled_torch_function_impl

    @staticmethod
    def __new__(cls, inner):
        options = {"dtype": inner.dtype, "layout": inner.layout, "device": inner.device}
        return torch.Tensor._make_wrapper_subclass(cls, inner.size(), inner.stride(), **options)

    def __init__(self, inner):
        self.inner = inner
        KEPT.append(inner)

    @property
    def device(self):
        return torch.device("cuda", 0)

    @property
    def is_cuda(self):
        return True

    def data_ptr(self):
        return self.inner.data_ptr()

    @classmethod
    def __torch_dispatch__(cls, func, types, args=(), kwargs=None):
        name = func.__name__.split(".")[0]
        CALLED.add(name)
        if func.namespace == "miamix":
            return OPERATORS[name]._init_fn(*args, **(kwargs or {}))
        if name == "new_empty":
            dtype = (kwargs or {}).get("dtype") or args[0].dtype
            return on_cuda(aligned(args[1], str(dtype).removeprefix("torch.")))
        if name not in ("detach", "empty_like"):
            run()  # as torch's own work on the stream comes after what is there
        args, kwargs = torch.utils._pytree.tree_map_only(cls, lambda tensor: tensor.inner, (args, kwargs or {}))
        return torch.utils._pytree.tree_map_only(torch.Tensor, cls, func(*args, **kwargs))


#: Names of the operators that tensors "on the device" have met in a test.
CALLED = set()
OPERATORS = {
    "mix": miamix.torch.mix,
    "mix_backward": miamix.torch._mix_backward,
    "mix_planned": miamix.torch._mix_planned,
    "mix_planned_backward": miamix.torch._mix_planned_backward,
}


def on_cuda(array):
    return TensorOnCuda(torch.as_tensor(array))


def bits(tensor):
    """Its memory, of the device or not."""
    plain = tensor.inner if isinstance(tensor, TensorOnCuda) else tensor.detach()
    return plain.view(torch.int16) if plain.dtype == torch.bfloat16 else plain


@pytest.fixture
def current_stream(monkeypatch):
    class Stream:
        cuda_stream = STREAM

    monkeypatch.setattr(torch.cuda, "current_stream", lambda device=None: Stream)
    before = launched()
    CALLED.clear()
    yield
    run()
    assert launched() > before, "the CPU engine has done it all"


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16, torch.uint8])
@pytest.mark.parametrize("order", [torch.contiguous_format, torch.channels_last])
def test_tensors_are_mixed_on_torchs_current_stream(current_stream, dtype, order):
    images = torch.from_numpy(make_images() * 50 + 100).to(dtype).contiguous(memory_format=order)
    ids = torch.from_numpy(IDS)
    mix = miamix.MiAMix(num_classes=10)
    expected, expected_targets = mix(images, ids, seed=1)
    mixed, targets = mix(on_cuda(images), on_cuda(ids), seed=1)
    assert mixed.device.type == "cuda" and mixed.stride() == expected.stride()
    run()
    assert bits(mixed).equal(bits(expected)) and bits(targets).equal(expected_targets)
    maps = torch.arange(5 * 13 * 17).reshape(5, 13, 17)
    plan = mix.draw(images.shape, seed=1)
    mixed = plan.apply_masks(on_cuda(maps))
    run()
    assert bits(mixed).equal(plan.apply_masks(maps))


def test_pairs_stay_on_the_device(current_stream):
    images, ids = torch.from_numpy(make_images()), torch.from_numpy(IDS)
    mix = miamix.MiAMix(targets="pairs")
    expected, (_, partners, weight) = mix(images, ids, seed=1)
    given = on_cuda(ids)
    mixed, (first, second, got) = mix(on_cuda(images), given, seed=1)
    assert bits(mixed).equal(expected) and first is given
    assert bits(second).equal(partners) and bits(got).equal(weight)


@pytest.mark.parametrize("two_views", [False, True])
def test_the_operator_and_its_gradient(current_stream, two_views):
    images, ids = torch.from_numpy(make_images()), torch.from_numpy(IDS)
    partner = images.flip(0) if two_views else None
    grad = torch.from_numpy(make_images(salt=3))
    seed, first_sample = torch.tensor(7), torch.tensor(3)
    settings = json.dumps({"num_classes": 10, "layout": "NCHW"})
    given = (None if partner is None else on_cuda(partner)), on_cuda(ids), seed, first_sample, True, settings
    results = torch.ops.miamix.mix(on_cuda(images), *given)
    run()
    expected = torch.ops.miamix.mix(images, partner, ids, seed, first_sample, True, settings)
    assert all(bits(got).equal(bits(want)) for got, want in zip(results, expected))
    gradients = torch.ops.miamix.mix_backward(on_cuda(grad), seed, first_sample, True, two_views, settings)
    run()
    expected = torch.ops.miamix.mix_backward(grad, seed, first_sample, True, two_views, settings)
    assert all(bits(got).equal(bits(want)) for got, want in zip(gradients, expected))


@pytest.mark.parametrize("planned", [False, True])
@pytest.mark.parametrize("pairing", ["permutation", "uniform"])
def test_the_gradient_of_soft_labels(current_stream, pairing, planned):
    """Of the module's call, and under a plan in device memory: torch's own operations on the device's results."""
    images, grad = torch.from_numpy(make_images()), torch.from_numpy(make_images(shape=(5, 1, 1, 4))).reshape(5, 4)
    rows = torch.rand(5, 4, generator=torch.Generator().manual_seed(0))
    module, twin = (miamix.torch.MiAMix(seed=5, pairing=pairing, p_self=0.0) for _ in range(2))
    given = on_cuda(rows.clone()).requires_grad_()
    plan = None
    if planned:
        plan = module.plan_on_device(on_cuda(images))
        plan.redraw()
    _, targets = module(on_cuda(images), given, plan=plan)
    expected_rows = rows.clone().requires_grad_()
    _, expected = twin(images, expected_rows)
    (got,) = torch.autograd.grad(targets, given, on_cuda(grad))
    (want,) = torch.autograd.grad(expected, expected_rows, grad)
    assert bits(targets).equal(expected.detach()) and got.device.type == "cuda"
    # Two images that have one partner: its row gets more than two shares, in an order of torch's own on each device.
    index = miamix.MiAMix(pairing=pairing, p_self=0.0).draw(images.shape, seed=5, first_sample=0).partner_index
    assert (len(set(index.tolist())) < 5) == (pairing == "uniform")
    # A sum of at most 6 products, each step off by 2^-24 of what it adds up at most.
    assert torch.allclose(bits(got), want, rtol=0, atol=2 * 6 * 2**-24 * float(grad.abs().sum()))
    assert {"index_put"} <= CALLED and not {"index_add"} & CALLED, "whose order changes from run to run on CUDA"


def test_the_module_keeps_its_counter_on_the_cpu(current_stream):
    module = miamix.torch.MiAMix(num_classes=10, seed=5)
    net = torch.nn.Sequential(module, torch.nn.BatchNorm2d(3, affine=False))
    # As `net.cuda()` does.
    net._apply(lambda tensor: on_cuda(tensor.clone()))
    assert net[1].running_mean.device.type == "cuda", "what the rest of a net has was moved"
    assert module.seed.device.type == module.next_sample.device.type == "cpu"
    images, ids = torch.from_numpy(make_images()), torch.from_numpy(IDS)
    mixed, targets = module(on_cuda(images), on_cuda(ids))
    run()
    expected, expected_targets = miamix.torch.MiAMix(num_classes=10, seed=5)(images, ids)
    assert bits(mixed).equal(expected) and bits(targets).equal(expected_targets)
    assert int(module.next_sample) == 5


# torch: plans in device memory


@pytest.mark.parametrize("shape", SHAPES)
def test_a_captured_call_on_tensors_follows_the_plan_that_was_uploaded_last(current_stream, shape):
    n = shape[0]
    images, ids = torch.from_numpy(make_images(shape=shape)), torch.from_numpy(IDS[:n])
    mix = miamix.MiAMix(num_classes=10, label_smoothing=0.1)
    plan = mix.plan_on_device(on_cuda(images))
    assert plan.buffer.device.type == plan.workspace.device.type == "cuda"
    plan.redraw()
    with capture():
        mixed, targets = plan.apply(on_cuda(images), on_cuda(ids))
        masks = plan.masks()
    for _ in range(2):
        host = plan.redraw()
        replay()
        expected, expected_targets = host.apply(images, ids)
        assert bits(mixed).equal(expected) and bits(targets).equal(expected_targets)
        assert same(bits(masks).numpy(), host.masks())
    assert mix.next_sample == 3 * n


@pytest.mark.parametrize("two_views", [False, True])
@pytest.mark.parametrize("shape", SHAPES)
def test_a_captured_step_of_the_module(current_stream, shape, two_views):
    """Forward and backward, to images and to soft labels, under one plan after the other."""
    n = shape[0]
    views = [torch.from_numpy(make_images(shape=shape, salt=salt)) for salt in range(1 + two_views)]
    rows = torch.rand(n, 4, generator=torch.Generator().manual_seed(0))
    grads = torch.from_numpy(make_images(shape=shape, salt=3)), torch.rand(n, 4)
    options = {"seed": 5, "rank": 1, "world_size": 2, "k_max": 3, "pairing": "uniform"}
    module = miamix.torch.MiAMix(**options)
    given = [on_cuda(view).requires_grad_() for view in views]
    plan = module.plan_on_device(given[0].detach(), gradients=True)
    assert int(module.next_sample) == 0
    plan.redraw()
    with capture():
        mixed, targets = module(given[0], on_cuda(rows), *given[1:], plan=plan)
        images_grads = torch.autograd.grad(mixed, given, on_cuda(grads[0]), retain_graph=True)
    assert int(module.next_sample) == 2 * n, "a captured call counts nothing: redraw does"
    twin = miamix.torch.MiAMix(**options)
    twin.next_sample += 2 * n
    for step in range(2):
        host = plan.redraw()
        replay()
        first_sample = (2 * step + 3) * n  # that of rank 1
        by_hand = miamix.MiAMix(k_max=3, pairing="uniform").draw(shape, seed=5, first_sample=first_sample)
        assert host.to_json() == by_hand.to_json()
        expected_views = [view.clone().requires_grad_() for view in views]
        expected, expected_targets = twin(expected_views[0], rows, *expected_views[1:])
        assert bits(mixed).equal(expected) and bits(targets).equal(expected_targets)
        expected_grads = torch.autograd.grad(expected, expected_views, grads[0])
        assert all(bits(got).equal(want) for got, want in zip(images_grads, expected_grads))
    assert torch.equal(module.next_sample, twin.next_sample)
    # What is left of the captured call knows that its plan is gone.
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        torch.autograd.grad(mixed, given, on_cuda(grads[0]))


def test_a_captured_module_stops_mixing_in_evaluation(current_stream):
    images, ids = torch.from_numpy(make_images()), torch.from_numpy(IDS)
    module = miamix.torch.MiAMix(num_classes=10, p_flip=1.0)
    plan = module.plan_on_device(on_cuda(images))
    plan.redraw()
    with capture():
        mixed, targets = module(on_cuda(images), on_cuda(ids), plan=plan)
    expected_targets = torch.nn.functional.one_hot(ids.clamp(min=0), 10) * (ids >= 0)[:, None]
    for training, enabled, counted in [(True, False, 10), (False, True, 10), (False, False, 10)]:
        module.train(training).enabled = enabled
        plan.redraw()
        replay()
        assert bits(mixed).equal(images) and bits(targets).equal(expected_targets.float())
        assert int(module.next_sample) == counted
    module.train().enabled = True
    host = plan.redraw(seed=3, first_sample=8)
    replay()
    assert bits(mixed).equal(host.apply(images)[0]) and int(module.next_sample) == 10


def test_targets_of_a_captured_module(current_stream):
    images, ids = torch.from_numpy(make_images()), torch.from_numpy(IDS)
    module = miamix.torch.MiAMix(targets="pairs")
    plan = module.plan_on_device(on_cuda(images))
    host = plan.redraw()
    given = on_cuda(ids)
    mixed, (first, second, weight) = module(on_cuda(images), given, plan=plan)
    host.mix = miamix.MiAMix(targets="pairs")
    expected, (_, partners, expected_weight) = host.apply(images, ids)
    run()
    assert first is given and bits(mixed).equal(expected)
    assert bits(second).equal(partners) and bits(weight).equal(expected_weight)
    mixed, none = module(on_cuda(images), plan=plan)
    run()
    assert none is None and bits(mixed).equal(expected)


def test_what_a_module_cannot_follow_is_refused(current_stream):
    images = on_cuda(torch.from_numpy(make_images()))
    module = miamix.torch.MiAMix(num_classes=10)
    plan = module.plan_on_device(images)
    with pytest.raises(miamix.MiamixValueError, match="plan: must have been uploaded"):
        module(images, plan=plan)
    plan.redraw()
    with pytest.raises(miamix.MiamixValueError, match="plan: must come without seed and first_sample, got both"):
        module(images, plan=plan, seed=torch.tensor(1))
    other = miamix.MiAMix().plan_on_device(images)
    with pytest.raises(miamix.MiamixValueError, match="plan: must be one of plan_on_device of a module, got"):
        module(images, plan=other)
    small = module.plan_on_device(images)
    small.redraw()
    given = on_cuda(images.inner.clone()).requires_grad_()
    mixed, _ = module(given, plan=small)
    with pytest.raises(miamix.MiamixValueError, match="workspace: must have at least"):
        mixed.sum().backward()
    run()


README = (Path(__file__).parents[1] / "README.md").read_text(encoding="utf-8")


def test_the_readmes_graph_runs(current_stream, monkeypatch):
    """With torch's captures and replays in the stand-in's terms."""

    class Graph:
        replay = staticmethod(replay)

    monkeypatch.setattr(torch.cuda, "CUDAGraph", Graph)
    monkeypatch.setattr(torch.cuda, "graph", lambda graph: capture())
    snippet = README.split("## CUDA\n")[1].split("```py\n")[1].split("```")[0]
    n_steps, batches = 3, [torch.from_numpy(make_images(salt=salt)) for salt in range(3)]
    seen = []

    def train(mixed, targets):
        seen.append((mixed, targets))

    images, labels = on_cuda(torch.zeros(5, 3, 13, 17)), on_cuda(torch.from_numpy(IDS))
    module = miamix.torch.MiAMix(num_classes=10)
    loader = [(batch, torch.from_numpy(IDS)) for batch in batches]
    names = {"torch": torch, "module": module, "images": images, "labels": labels, "loader": loader, "train": train}
    exec(compile(snippet, "README.md", "exec"), names)
    assert len(seen) == 1, "captured once"
    mixed, targets = seen[0]
    last = 5 * n_steps
    expected, expected_targets = miamix.MiAMix(num_classes=10)(*loader[-1], first_sample=last)
    assert bits(mixed).equal(expected) and bits(targets).equal(expected_targets)
    assert int(module.next_sample) == 5 * (n_steps + 1)
