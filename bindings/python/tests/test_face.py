"""How it is called: buffers, the counter, errors, and what must agree with the C header."""

import copy
import ctypes
import ctypes.util
import gc
import os
import pickle
import re
import subprocess
import sys
import tracemalloc

import miamix
import numpy as np
import pytest
from batches import make_images, same
from conftest import REPOSITORY
from miamix import _arrays, _library, _parameters

IDS = np.array([3, 0, -1, 9, 3])


# Buffers


def address(array):
    return array.__array_interface__["data"][0]


@pytest.mark.parametrize("dtype", ["f32", "f16", "bf16", "u8"])
@pytest.mark.parametrize(
    "view",
    [lambda a: a, lambda a: a.transpose(0, 2, 3, 1), lambda a: a[1:, :, ::2, ::-1]],
    ids=["compact", "transposed", "slice"],
)
def test_the_library_reads_and_writes_the_callers_memory(dtype, view, monkeypatch):
    seen = []
    lib_mix = _library.mix

    def spy(op, seed, first, *tensors):
        seen.extend(
            ctypes.cast(t, ctypes.POINTER(_library.Tensor))[0].data for t in tensors if t and not isinstance(t, int)
        )
        return lib_mix(op, seed, first, *tensors)

    monkeypatch.setattr(_library, "mix", spy)
    images, partner = view(make_images(dtype)), view(make_images(dtype, salt=1))
    out = np.empty_like(images), np.empty((len(images), 10), np.float32)
    ids = IDS[: len(images)]
    mixed, targets = miamix.MiAMix(num_classes=10)(images, ids, partner=partner, out=out)
    assert mixed is out[0] and targets is out[1]
    assert seen == [address(a) for a in (images, partner, ids, *out)]


def test_nothing_of_a_batch_is_allocated_where_buffers_are_given():
    images = make_images(shape=(8, 3, 64, 64))
    out = np.empty_like(images), np.empty((8, 10), np.float32)
    mix = miamix.MiAMix(num_classes=10)
    mix(images, np.arange(8), out=out)
    tracemalloc.start()  # NumPy's memory is counted
    mix(images, np.arange(8), out=out)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < images.nbytes / 20


def test_memory_is_flat_over_10_000_calls():
    images, ids = make_images(shape=(8, 3, 32, 32)), np.arange(8)
    mix = miamix.MiAMix(num_classes=10)

    def calls(count):
        for _ in range(count):
            mix(images, ids)
        gc.collect()
        with open("/proc/self/statm") as statm:
            return int(statm.read().split()[1]) * os.sysconf("SC_PAGESIZE")

    before = calls(1000)
    # A leak of 105 bytes a call would grow by more.
    assert calls(10_000) - before < 1 << 20


def test_out_may_be_the_images_alone():
    images, mix = make_images(), miamix.MiAMix(num_classes=10)
    out = np.empty_like(images)
    mixed, targets = mix(images, IDS, out=out, seed=1)
    assert mixed is out and all(map(same, (mixed, targets), mix(images, IDS, seed=1)))


class Speaker:
    """An array of a framework of its own."""

    def __init__(self, array, versioned):
        self.array, self.versioned, self.shape = array, versioned, array.shape

    def __dlpack_device__(self):
        return self.array.__dlpack_device__()

    def __dlpack__(self, **options):
        if not self.versioned and options:
            raise TypeError("max_version")
        return self.array.__dlpack__(**options)


@pytest.mark.parametrize("versioned", [False, True])
def test_dlpack_is_read_and_written_in_place(versioned):
    # Before 2.1 NumPy has no versioned capsules itself.
    versioned = versioned and np.lib.NumpyVersion(np.__version__) >= "2.1.0"
    images, out = make_images(), np.empty_like(make_images())
    rows = np.empty((5, 10), np.float32)
    mix = miamix.MiAMix(num_classes=10)
    expected, expected_targets = mix(images, IDS, seed=1)
    speaker = Speaker(images, versioned)
    mixed, targets = mix(speaker, Speaker(IDS, versioned), seed=1)
    assert isinstance(mixed, np.ndarray) and same(mixed, expected) and same(targets, expected_targets)
    mix(speaker, IDS, partner=speaker, seed=1, out=(Speaker(out, versioned), Speaker(rows, versioned)))
    assert same(out, expected) and same(rows, expected_targets)
    references = sys.getrefcount(images)
    for _ in range(100):
        mix(speaker, seed=1)
    assert sys.getrefcount(images) == references


@pytest.mark.parametrize("dtype", [np.int8, np.int16, np.uint8, np.uint16, np.uint32, np.int32])
def test_class_ids_of_any_width_come_through_dlpack(dtype):
    mix, ids = miamix.MiAMix(10), np.array([3, 0, 1, 9, 3])
    expected = mix(IMAGES, ids, seed=1)
    wide = np.repeat(ids.astype(dtype), 2)
    for given in (ids.astype(dtype), wide[::2]):
        assert all(map(same, mix(IMAGES, Speaker(given, False), seed=1), expected))
    empty = Speaker(ids[:0].astype(dtype), False)
    assert mix(IMAGES[:0], empty)[1].shape == (0, 10)


class OfLanes(Speaker):
    """NumPy's own capsule, of elements of four numbers each."""

    def __dlpack__(self, **options):
        capsule = self.array.__dlpack__()
        tensor = _arrays._Unversioned.from_address(_arrays._capsule_pointer(capsule, b"dltensor")).tensor
        tensor.lanes = 4
        return capsule


class WithoutDevice:
    """Half of the protocol."""

    def __dlpack__(self, **options):
        return make_images().__dlpack__()


class WithoutCapsule(Speaker):
    """Another half."""

    def __dlpack__(self, **options):
        return None


class OnCuda:
    """An array with the CUDA array interface."""

    shape = (2, 3, 4, 4)
    __cuda_array_interface__ = {"shape": shape, "typestr": "<f4", "data": (4096, False), "version": 3}


class OnCudaAndDlpack(OnCuda):
    """One that also says which device it is on."""

    def __dlpack_device__(self):
        return 2, 1

    def __dlpack__(self, **options):
        raise AssertionError("the CUDA array interface tells of its stream, too")


@pytest.mark.parametrize(("array", "place"), [(OnCuda, "in CUDA memory"), (OnCudaAndDlpack, "on CUDA device 1")])
def test_without_a_driver_cuda_is_the_error_of_the_core(array, place):
    with pytest.raises(miamix.MiamixError) as error:
        miamix.MiAMix()(array(), out=array())
    assert str(error.value).startswith(f"images: is {place}, and CUDA is not available: ")
    assert error.value.status is miamix.Status.CUDA_UNAVAILABLE and not isinstance(error.value, ValueError)


# The counter


def test_the_counter_goes_on_by_the_batch():
    images, mix = make_images(), miamix.MiAMix(num_classes=10, seed=5)
    batches = [mix(images[:n], IDS[:n]) for n in (5, 3, 5)]
    assert mix.next_sample == 13
    for first, n, (mixed, targets) in zip((0, 5, 8), (5, 3, 5), batches):
        assert all(map(same, (mixed, targets), mix(images[:n], IDS[:n], seed=5, first_sample=first)))
        assert same(mixed, mix(images[:n], first_sample=first)[0])
    assert mix.next_sample == 13
    assert same(mix(images, seed=5)[0], batches[0][0])
    assert mix.draw(images.shape).to_json() == mix.draw(images.shape, first_sample=13).to_json()
    with pytest.raises(miamix.MiamixError):
        mix(images, IDS + 1)
    assert mix.next_sample == 13


def test_a_checkpoint_goes_on():
    images, mix = make_images(), miamix.MiAMix(seed=-3)
    mix(images)
    state = pickle.loads(pickle.dumps(mix.state_dict()))
    expected, _ = mix(images)
    other = miamix.MiAMix()
    other.load_state_dict(state)
    assert same(other(images)[0], expected) and other.state_dict() == mix.state_dict()
    with pytest.raises(miamix.MiamixValueError, match="next_sample: must be an integer"):
        other.load_state_dict({"seed": 1, "next_sample": -1})
    assert other.state_dict() == mix.state_dict()


@pytest.mark.parametrize(("a", "b"), [(-1, 2**64 - 1), (-(2**63), 2**63)])
def test_a_negative_seed_is_its_bits(a, b):
    mix = miamix.MiAMix()
    assert mix.draw((4, 8, 8), seed=a).to_json() == mix.draw((4, 8, 8), seed=b).to_json()


@pytest.mark.parametrize("how", [copy.deepcopy, lambda x: pickle.loads(pickle.dumps(x))], ids=["copy", "pickle"])
def test_operators_and_plans_travel(how):
    images, mix = make_images(), miamix.MiAMix(10, seed=4, alpha=0.3, method_weights={"fmix": 1}, enabled=True)
    mix(images)
    other = how(mix)
    assert repr(other) == repr(mix) and other.parameters == mix.parameters
    assert all(map(same, other(images, IDS), mix(images, IDS)))
    plan = mix.draw(images.shape)
    assert how(plan).to_json() == plan.to_json()
    assert all(map(same, how(plan).apply(images, IDS), plan.apply(images, IDS)))


# Switched off


def test_switched_off_images_pass_and_labels_are_one_hot():
    images, mix = make_images(), miamix.MiAMix(num_classes=10, label_smoothing=0.3, p_flip=1.0, pad_px=4)
    mix.enabled = False
    mixed, targets = mix(images, IDS)
    assert mixed is images and mix.next_sample == 5
    assert same(targets, np.where(IDS[:, None] < 0, 0, np.eye(10)[IDS]).astype(np.float32))
    out = np.empty_like(images), np.full((5, 10), np.nan, np.float32)
    mixed, targets = mix(images, IDS, out=out)
    assert mixed is out[0] and same(mixed, images) and targets is out[1] and targets[2].sum() == 0
    rows = np.random.default_rng(0).random((5, 10), np.float32)
    assert same(mix(images, rows)[1], rows)
    assert mix(images) == (images, None)
    speaker = Speaker(images, False)
    del speaker.shape
    mixed, again = mix(speaker, IDS)
    assert mixed is speaker and same(again, targets)
    broadcast = np.broadcast_to(images[:1, :1], images.shape)
    assert mix(broadcast) == (broadcast, None) and mix(READ_ONLY, partner=broadcast) == (READ_ONLY, None)
    with pytest.raises(miamix.MiamixValueError, match=r"labels\[3\]: must be below num_classes = 10, got 10"):
        mix(images, IDS + 1)
    pairs = miamix.MiAMix(targets="pairs", enabled=False)
    mixed, (labels_a, labels_b, weight) = pairs(images, IDS)
    assert mixed is images and same(labels_a, labels_b) and np.all(weight == 1)


@pytest.mark.parametrize("labels", [None, IDS])
@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
def test_switched_off_the_rules_are_the_same(layout, labels):
    big = np.broadcast_to(np.float32(0), (5, 1, 32769, 1) if layout == "NCHW" else (5, 32769, 1, 1))
    for images, partner in [
        (np.zeros(()), None),
        (np.zeros((5, 3, 4), np.float32), None),
        (np.zeros((5, 3, 4, 4), np.float64), None),
        (np.zeros((5, 3, 0, 4), np.float32), None),
        (big, None),
        ([1.0], None),
        (IMAGES, IMAGES[:4]),
        (IMAGES, IMAGES[:, :2]),
        (IMAGES, IMAGES.astype(np.float16)),
    ]:
        mix = miamix.MiAMix(10, layout=layout)
        messages = []
        for mix.enabled in (True, False):
            with pytest.raises(miamix.MiamixError) as error:
                mix(images, labels, partner=partner)
            messages.append(str(error.value))
            assert mix.next_sample == 0
        # The core has another name for it.
        expected, got = (message.replace("partner_images:", "partner:") for message in messages)
        assert got == expected


def test_switched_off_it_takes_as_many_threads():
    mix = miamix.MiAMix(n_threads=3, enabled=False)
    assert mix._still().n_threads == 3 and mix._still() is mix._still()


# Errors

IMAGES = make_images()
READ_ONLY = make_images()
READ_ONLY.flags.writeable = False
NHWC = miamix.MiAMix(layout="NHWC")
PIXELS = np.zeros((4, 8, 9, 3), np.uint8)


@pytest.mark.parametrize(
    ("call", "status", "message"),
    [
        (lambda: miamix.MiAMix(alpha=-1), 1, "alpha: must be finite and greater than 0, got -1"),
        (lambda: miamix.MiAMix(alpha="1"), 1, "alpha: must be a number, got '1'"),
        (lambda: miamix.MiAMix(alpha=10**400), 1, "alpha: must be finite and greater than 0, got inf"),
        (lambda: miamix.MiAMix(alpha=-(10**400)), 1, "alpha: must be finite and greater than 0, got -inf"),
        (lambda: miamix.MiAMix(alpha=1e300), 1, "alpha: must be finite and greater than 0, got inf"),
        (lambda: miamix.MiAMix(k_max=9), 1, "k_max: must be at most 8, got 9"),
        (lambda: miamix.MiAMix(k_max=-1), 1, "k_max: must be an integer in 0..=4294967295, got -1"),
        (lambda: miamix.MiAMix(k_max=2.0), 1, "k_max: must be an integer in 0..=4294967295, got 2.0"),
        (lambda: miamix.MiAMix(merge="max"), 1, "merge: must be one of product sum, got 'max'"),
        (lambda: miamix.MiAMix(grid_range=3), 1, "grid_range: must be two integers, the ends of a range, got 3"),
        (
            lambda: miamix.MiAMix(grid_range=(4, 3)),
            1,
            "grid_range: must be [lo, hi] with 1 <= lo <= hi <= 16, got [4, 3]",
        ),
        (
            lambda: miamix.MiAMix(method_weights={"puzzle": 1}),
            1,
            "method_weights: must name methods among mixup cutmix fmix gridmix agmix gmix, got 'puzzle'",
        ),
        (
            lambda: miamix.MiAMix(method_weights=[1]),
            1,
            "method_weights: must be a dict by method or 6 numbers, got [1]",
        ),
        (
            lambda: miamix.MiAMix(method_weights={"fmix": -1}),
            1,
            "method_weights.fmix: must be finite and at least 0, got -1",
        ),
        (lambda: miamix.MiAMix(n_threads=300), 1, "n_threads: must be at most 256, got 300"),
        (lambda: miamix.MiAMix(seed=2**64), 1, f"seed: must be an integer in {-(2**63)}..={2**64 - 1}, got {2**64}"),
        (lambda: miamix.MiAMix(targets="both"), 1, "targets: must be one of soft pairs, got 'both'"),
        (lambda: miamix.MiAMix(layout="CHWN"), 1, "layout: must be one of NCHW NHWC, got 'CHWN'"),
        (lambda: miamix.MiAMix(num_classes=-2), 1, "num_classes: must be an integer in 0..=2147483647, got -2"),
        (lambda: miamix.MiAMix()(IMAGES, IDS), 1, "num_classes: must be given where labels are class ids, got none"),
        (lambda: miamix.MiAMix(9)(IMAGES, IDS), 1, "labels[3]: must be below num_classes = 9, got 9"),
        (lambda: miamix.MiAMix(10)(IMAGES, IDS[:4]), 2, "labels: expected shape [5], got [4]"),
        (
            lambda: miamix.MiAMix(9)(IMAGES, np.zeros((5, 4), np.float32)),
            1,
            "num_classes: must be 0 or 4, the columns of labels, got 9",
        ),
        (
            lambda: miamix.MiAMix(10)(IMAGES, IDS.astype(float)),
            3,
            "labels: must be of int64, int32 or float32, got float64",
        ),
        (lambda: miamix.MiAMix(targets="pairs")(IMAGES, IDS[:4]), 2, "labels: expected shape [5, ...], got [4]"),
        (
            lambda: miamix.MiAMix()(IMAGES[0]),
            2,
            "images: expected shape [N, C, H, W] or [N, T, C, H, W], got [3, 13, 17]",
        ),
        (lambda: miamix.MiAMix()(np.zeros(())), 2, "images: must have a batch axis, got no axes"),
        # Interleaved images, in the order of their own axes.
        (
            lambda: NHWC(np.zeros((4, 2, 8, 9, 3), np.uint8)),
            2,
            "images: expected shape [N, H, W, C], got [4, 2, 8, 9, 3]",
        ),
        (lambda: NHWC.draw((4, 2, 8, 9, 3)), 2, "shape: must be that of images or (N, H, W), got (4, 2, 8, 9, 3)"),
        (
            lambda: NHWC(PIXELS, partner=np.zeros((4, 3, 8, 9), np.uint8)),
            2,
            "partner: expected shape [4, 8, 9, 3], got [4, 3, 8, 9]",
        ),
        (
            lambda: NHWC(PIXELS, out=np.zeros((4, 3, 8, 9), np.uint8)),
            2,
            "out: expected shape [4, 8, 9, 3], got [4, 3, 8, 9]",
        ),
        (
            lambda: NHWC.draw((4, 9, 9), seed=1).apply(PIXELS),
            2,
            "images: expected shape [4, 9, 9, C], as the plan, got [4, 8, 9, 3]",
        ),
        (lambda: miamix.MiAMix()(OfLanes(IMAGES, False)), 3, "images: must have one number in an element, got 4 lanes"),
        (
            lambda: miamix.MiAMix()(WithoutDevice()),
            3,
            "images: must have __dlpack_device__ beside __dlpack__, got WithoutDevice",
        ),
        (
            lambda: miamix.MiAMix()(WithoutCapsule(IMAGES, False)),
            3,
            "images: must give a capsule of DLPack, got NoneType from WithoutCapsule",
        ),
        (
            lambda: miamix.MiAMix()(IMAGES.astype(float)),
            3,
            "images: must be of float32, float16, bfloat16 or uint8, got float64",
        ),
        (lambda: miamix.MiAMix()(IMAGES.astype(">f4")), 3, "images: must be in the machine's byte order, got >f4"),
        (lambda: miamix.MiAMix()(IMAGES.astype(object)), 3, "images: must be of numbers, got object"),
        (
            lambda: miamix.MiAMix()([1.0]),
            3,
            "images: must be a NumPy array, a torch tensor or an array with __dlpack__ or __cuda_array_interface__, got list",
        ),
        (
            lambda: miamix.MiAMix()(IMAGES, partner=IMAGES[:, :2]),
            2,
            "partner_images: expected shape [5, 3, 13, 17], got [5, 2, 13, 17]",
        ),
        (
            lambda: miamix.MiAMix()(IMAGES, partner=IMAGES.astype(np.float16)),
            3,
            "partner_images: must be float32 as images are, got float16",
        ),
        (
            lambda: miamix.MiAMix()(IMAGES, out=IMAGES),
            1,
            "mixed_images: must not overlap images, got 13260 bytes in common",
        ),
        (lambda: miamix.MiAMix()(IMAGES, out=READ_ONLY), 1, "out: must be writable, got a read-only array"),
        (
            lambda: miamix.MiAMix()(IMAGES, out=np.empty((5, 3, 13, 16), np.float32)),
            2,
            "mixed_images: expected shape [5, 3, 13, 17], got [5, 3, 13, 16]",
        ),
        (
            lambda: miamix.MiAMix()(IMAGES, out=(1, 2, 3)),
            1,
            "out: must be an array, or a pair where there are soft targets, got 3 arrays",
        ),
        (
            lambda: miamix.MiAMix()(IMAGES, first_sample=-1),
            1,
            "first_sample: must be an integer in 0..=18446744073709551615, got -1",
        ),
        (lambda: miamix.MiAMix().draw((4, 0, 8)), 1, "height: must be in 1..=32768, got 0"),
        (lambda: miamix.MiAMix().draw((4, 8)), 2, "shape: must be that of images or (N, H, W), got (4, 8)"),
        (
            lambda: miamix.MiAMix().draw((4, 9, 9), seed=1).apply(IMAGES),
            2,
            "images: expected shape [4, C, 9, 9], as the plan, got [5, 3, 13, 17]",
        ),
        (
            lambda: miamix.MiAMix().draw((5, 13, 17), seed=1).apply_masks(IMAGES[:, 0]),
            3,
            "maps: must be of uint8, int8, uint16, int16, uint32, int32, uint64, int64 or bool, got float32",
        ),
        (
            lambda: miamix.MiAMix().draw((5, 13, 17), seed=1).masks(out=IMAGES[:, 0]),
            3,
            "masks: must be compact, the last axis the closest, got strides [663, 17, 1]",
        ),
        (lambda: miamix.Plan.from_json("{"), 4, "plan: ?: EOF while parsing an object at line 1 column 1"),
    ],
)
def test_errors_carry_status_and_message(call, status, message):
    with pytest.raises(miamix.MiamixError) as error:
        call()
    assert isinstance(error.value, ValueError) == (status in (1, 2, 3, 4))
    assert error.value.status == status
    assert str(error.value) == message
    again = pickle.loads(pickle.dumps(error.value))
    assert (type(again), str(again), again.status) == (type(error.value), str(error.value), status)


def test_a_plan_is_read_from_bytes_too():
    plan = miamix.MiAMix().draw((3, 8, 8), seed=1)
    assert miamix.Plan.from_json(plan.to_json().encode()).to_json() == plan.to_json()
    with pytest.raises(TypeError, match=r"text: must be str or bytes, got dict"):
        miamix.Plan.from_json({})


def test_another_library_is_an_import_error():
    other = ctypes.util.find_library("c") or "libc.so.6"
    run = subprocess.run(
        [sys.executable, "-c", "import miamix"],
        env={**os.environ, "MIAMIX_LIBRARY": other},
        capture_output=True,
        text=True,
    )
    assert f"ImportError: {other} is not the library of miamix: " in run.stderr and run.returncode == 1


def test_an_unknown_parameter_is_a_type_error():
    with pytest.raises(TypeError, match="no parameter 'alfa'; it has alpha, k_min"):
        miamix.MiAMix(alfa=1)


def test_an_error_is_made_again_from_its_text():
    # So torch's DataLoader brings errors out of its workers.
    assert miamix.MiamixValueError("alpha: must be").status is None


def test_nothing_is_written_on_error():
    out = np.full_like(IMAGES, 7), np.full((5, 9), 7, np.float32)
    with pytest.raises(miamix.MiamixValueError):
        miamix.MiAMix(9)(IMAGES, IDS, out=out)
    assert np.all(out[0] == 7) and np.all(out[1] == 7)


def test_memory_off_the_grid_of_its_elements_is_an_error():
    images = np.frombuffer(bytearray(IMAGES.nbytes + 1), np.float32, IMAGES.size, offset=1).reshape(IMAGES.shape)
    with pytest.raises(miamix.MiamixValueError, match="images: must be aligned to 4 bytes"):
        miamix.MiAMix()(images)
    record = np.zeros(IMAGES.shape, [("tag", "u1"), ("pixel", "<f4")])["pixel"]
    with pytest.raises(miamix.MiamixValueError, match="images: must have strides that are multiples of 4 bytes"):
        miamix.MiAMix()(record)


# Copies of what the core says


def test_statuses_are_those_of_the_header(header):
    numbers = {name: int(number) for name, number in re.findall(r"MIAMIX_STATUS_(\w+) = (\d+),", header)}
    assert numbers == {status.name: int(status) for status in miamix.Status}
    assert f"#define MIAMIX_ABI_VERSION {_library.ABI_VERSION}\n" in header


@pytest.mark.parametrize(("switch", "names"), [*_parameters.SWITCHES.items(), ("method", _parameters.METHODS)])
def test_names_of_switches_are_those_of_the_header(switch, names, header):
    numbers = re.findall(rf"MIAMIX_{switch.upper()}_([A-Z]+) = (\d+),", header)
    assert [name.lower() for name, _ in numbers] == list(names)
    assert [int(number) for _, number in numbers] == list(range(len(names)))


def test_the_parameters_are_the_fields_of_the_header(header):
    fields = re.search(r"typedef struct miamix_config \{(.*?)\} miamix_config;", header, re.DOTALL).group(1)
    declared = re.findall(r"^    (\w+) (\w+)(?:\[(\d)\])?;$", fields, re.MULTILINE)
    kinds = {"float": ctypes.c_float, "uint32_t": ctypes.c_uint32, "uint64_t": ctypes.c_uint64}
    expected = [(name, kinds[kind] * int(count) if count else kinds[kind]) for kind, name, count in declared]
    assert expected == list(_library.Config._fields_)
    assert (*_parameters.NAMES, "n_threads") == tuple(name for name, _ in expected[1:])


@pytest.mark.parametrize(("struct", "size"), [("Config", 128), ("Tensor", 48), ("Shape", 24)])
def test_structs_have_the_size_of_the_header(struct, size):
    assert ctypes.sizeof(getattr(_library, struct)) == size


def test_every_parameter_comes_back():
    changed = {
        "alpha": 0.3,
        "k_min": 2,
        "k_max": 5,
        "method_weights": dict(zip(_parameters.METHODS, (0.5, 1.0, 2.0, 3.0, 4.0, 0.25))),
        "p_apply": 0.9,
        "p_self": 0.2,
        "p_aug": 0.35,
        "p_smooth": 0.45,
        "merge": "sum",
        "label_weight": "drawn",
        "lambda_reading": "keep",
        "gaussian_sigma": "area",
        "pairing": "uniform",
        "cutmix_box": "inside",
        "grid_range": (3, 9),
        "decay_power": 2.5,
        "rotate_max_rad": 0.5,
        "shear_max": 0.2,
        "smooth_range_px": (5, 9),
        "p_flip": 0.5,
        "pad_px": 4,
        "label_smoothing": 0.1,
    }
    mix = miamix.MiAMix(**changed)
    assert tuple(changed) == _parameters.NAMES and mix.parameters == changed
    assert (
        miamix.MiAMix(method_weights=list(changed["method_weights"].values())).parameters["method_weights"]
        == (changed["method_weights"])
    )
    assert all(value != miamix.MiAMix().parameters[name] for name, value in changed.items())


def test_the_version_is_the_workspaces():
    cargo = (REPOSITORY / "Cargo.toml").read_text(encoding="utf-8")
    assert f'version = "{miamix.__version__}"' in cargo


def test_importing_brings_nothing_but_numpy():
    code = (
        "import sys, numpy; before = set(sys.modules); import miamix; "
        "print(*sorted({m.split('.')[0] for m in set(sys.modules) - before}))"
    )
    run = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert set(run.stdout.split()) - sys.stdlib_module_names == {"miamix"}


def test_axes_are_kept_for_a_bounded_number_of_shapes():
    mix = miamix.MiAMix()
    for n in range(1, _arrays._MOST_AXES_KEPT + 50):
        mix(np.zeros((1, 1, 1, n), np.uint8))
    assert len(_arrays._AXES) <= _arrays._MOST_AXES_KEPT
