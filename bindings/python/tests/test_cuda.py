"""Arrays in CUDA memory, on the stand-in driver of tests/cuda: its device memory is main memory, its kernels run on the
CPU, and nothing on a stream happens before the test lets it. Every result is the CPU engine's, bit for bit."""

import ctypes as C
import json
import os

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
    except (OSError, AttributeError):
        if os.environ.get("MIAMIX_REQUIRE_CUDA"):
            raise
        pytest.skip("no stand-in driver; cargo xtask test --only Python has one", allow_module_level=True)
    return driver


DRIVER = find_stand_in()
#: Streams of device 0, and one of device 1.
STREAM, OTHER, ELSEWHERE = (DRIVER.stand_in_stream(i) for i in (0, 1, 2))


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
        KEPT.append(OnCudaOfFramework(np.empty(shape, dtype)))
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


# torch


class TensorOnCuda(torch.Tensor):
    """A tensor in main memory that says that it is on a CUDA device."""

    @property
    def device(self):
        return torch.device("cuda", 0)

    def cpu(self):
        return self.as_subclass(torch.Tensor).clone()

    def __getitem__(self, index):
        run()  # as torch's own work on the stream comes after what is there
        return super().__getitem__(index)


def on_cuda(array):
    return torch.as_tensor(array).as_subclass(TensorOnCuda)


def bits(tensor):
    plain = tensor.detach().as_subclass(torch.Tensor)
    return plain.view(torch.int16) if plain.dtype == torch.bfloat16 else plain


@pytest.fixture
def current_stream(monkeypatch):
    class Stream:
        cuda_stream = STREAM

    monkeypatch.setattr(torch.cuda, "current_stream", lambda device=None: Stream)


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


def test_the_module_keeps_its_counter_on_the_cpu(current_stream):
    module = miamix.torch.MiAMix(num_classes=10, seed=5)
    # As `module.cuda()` does.
    assert module._apply(lambda tensor: on_cuda(tensor.clone())) is module
    assert module.seed.device.type == module.next_sample.device.type == "cpu"
    images, ids = torch.from_numpy(make_images()), torch.from_numpy(IDS)
    mixed, targets = module(on_cuda(images), on_cuda(ids))
    run()
    expected, expected_targets = miamix.torch.MiAMix(num_classes=10, seed=5)(images, ids)
    assert bits(mixed).equal(expected) and bits(targets).equal(expected_targets)
    assert int(module.next_sample) == 5
