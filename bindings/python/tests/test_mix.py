"""What is mixed: against the vectors and the definition, ONNX Runtime, and the Rust program."""

import json
import os
import struct
import subprocess
import sys
import threading
import zlib
from pathlib import Path

import graphs
import miamix
import ml_dtypes
import numpy as np
import pytest
from batches import expected_labels, expected_mix, make_images, same
from conftest import REPOSITORY
from miamix_ref import apply_view, mix_labels

VECTORS = REPOSITORY / "tests" / "vectors"


def cases(stage):
    return json.loads((VECTORS / f"{stage}.json").read_text(encoding="utf-8"))


IDS = np.array([3, 0, -1, 9, 3])


# Against the vectors that every face meets


@pytest.mark.parametrize("case", cases("draws"), ids=lambda case: case["name"])
def test_draws_are_those_of_the_reference_to_the_bit(case):
    mix = miamix.MiAMix(**case["config"])
    plan = mix.draw(case["shape"], seed=int(case["seed"]), first_sample=int(case["first_sample"]))
    expected = miamix.Plan.from_json(json.dumps(case["plan"]))
    assert plan.to_json() == expected.to_json()
    # The core writes the numbers that the reference wrote.
    assert json.loads(plan.to_json()) == case["plan"]
    assert plan.n_layers == [len(sample["layers"]) for sample in case["plan"]["samples"]]
    assert plan.partner_index.tolist() == [sample["partner_index"] for sample in case["plan"]["samples"]]
    height, width = case["plan"]["height"], case["plan"]["width"]
    assert plan.shape == (len(case["plan"]["samples"]), height, width)


def test_masks_and_their_weights_meet_the_reference():
    arrays = np.load(VECTORS / "masks.npz")
    for case in cases("masks"):
        expected, sure = arrays[f"{case['name']}/mask"], arrays[f"{case['name']}/sure"]
        plan = miamix.Plan.from_json(json.dumps(case["plan"]))
        masks = plan.masks()
        assert masks.dtype == np.float32 and masks.shape == expected.shape
        # The bound of the definition.
        assert np.all((np.abs(masks - expected) <= 2e-5) | (sure == 0)), case["name"]
        # As far as the mask may be off: its bound, and all of a pixel that is not sure.
        unsure = (sure == 0).reshape(len(sure), -1).mean(axis=1)
        bound = 0 if case["plan"]["label_weight"] == "drawn" else 2e-5 + unsure
        assert np.all(np.abs(plan.label_weight() - np.float32(case["label_weight"])) <= bound), case["name"]


def test_views_are_read_as_the_reference_reads_them():
    mix = miamix.MiAMix(p_flip=0.5, pad_px=3, method_weights={"cutmix": 1}, p_aug=0, p_smooth=0)
    images, partner = make_images("u8", (16, 2, 9, 14)), make_images("u8", (16, 2, 9, 14), salt=1)
    plan = mix.draw(images.shape, seed=5)
    mixed, _ = plan.apply(images, partner=partner)
    masks = plan.masks()
    assert set(np.unique(masks)) == {0, 1}
    for i, sample in enumerate(json.loads(plan.to_json())["samples"]):
        primary = apply_view(sample["primary_view"], images[i])
        other = apply_view(sample["partner_view"], partner[sample["partner_index"]])
        assert np.array_equal(mixed[i], np.where(masks[i] == 1, primary, other))


# Against the definition, bit for bit given the mask


@pytest.mark.parametrize("dtype", ["f32", "f16", "bf16", "u8"])
@pytest.mark.parametrize("two_views", [False, True])
def test_pixels_and_labels_are_those_of_the_definition(dtype, two_views):
    mix = miamix.MiAMix(num_classes=10, label_smoothing=0.1, k_max=3)
    images = make_images(dtype)
    partner = make_images(dtype, salt=1) if two_views else None
    mixed, targets = mix(images, IDS, partner=partner, seed=7, first_sample=3)
    plan = mix.draw(images.shape, seed=7, first_sample=3)
    assert same(mixed, expected_mix(plan, images, partner))
    assert same(targets, expected_labels(plan, IDS, 10, 0.1))
    assert all(map(same, plan.apply(images, IDS, partner=partner), (mixed, targets)))


@pytest.mark.parametrize(
    "layout",
    [
        lambda a: np.ascontiguousarray(a.transpose(0, 2, 3, 1)).transpose(0, 3, 1, 2),
        lambda a: np.repeat(a, 2, axis=3)[..., ::2],
        lambda a: a[:, ::-1, ::-1, ::-1].copy()[:, ::-1, ::-1, ::-1],
        lambda a: np.broadcast_to(a[:1, :1], a.shape),
    ],
    ids=["channels_last", "gaps", "backwards", "broadcast"],
)
@pytest.mark.parametrize("dtype", ["f32", "bf16", "u8"])
def test_strides_change_nothing(layout, dtype):
    mix = miamix.MiAMix()
    images = layout(make_images(dtype))
    mixed, targets = mix(images, seed=1)
    assert targets is None
    assert same(mixed, mix(np.array(images, order="C"), seed=1)[0])
    assert same(mixed, expected_mix(mix.draw(images.shape, seed=1), images))


def test_channels_last_comes_out_as_channels_last():
    images = make_images().transpose(0, 2, 3, 1).copy().transpose(0, 3, 1, 2)
    mixed, _ = miamix.MiAMix()(images)
    assert mixed.strides == images.strides


def test_layout_nhwc_is_nchw_transposed():
    images = make_images("u8")
    planar = miamix.MiAMix(num_classes=10)
    interleaved = miamix.MiAMix(num_classes=10, layout="NHWC")
    nhwc = np.ascontiguousarray(images.transpose(0, 2, 3, 1))
    mixed, targets = interleaved(nhwc, IDS, seed=2)
    expected, expected_targets = planar(images, IDS, seed=2)
    assert same(mixed.transpose(0, 3, 1, 2), expected) and same(targets, expected_targets)
    plan = interleaved.draw(nhwc.shape, seed=2)
    assert plan.to_json() == planar.draw(images.shape, seed=2).to_json()
    assert plan.to_json() == planar.draw((5, 13, 17), seed=2).to_json()
    assert same(plan.apply(nhwc)[0], mixed)


def test_five_axes_are_more_channels():
    clips = make_images(shape=(4, 2, 3, 8, 9))
    assert miamix.MiAMix().draw(clips.shape, seed=1).shape == (4, 8, 9)
    mixed, _ = miamix.MiAMix()(clips, seed=1)
    assert mixed.shape == clips.shape
    assert same(mixed.reshape(4, 6, 8, 9), miamix.MiAMix()(clips.reshape(4, 6, 8, 9), seed=1)[0])


@pytest.mark.parametrize("n", [0, 1, 2, 7])
def test_any_number_of_samples(n):
    images, ids = make_images(shape=(n, 3, 8, 8)), np.arange(n)
    mix = miamix.MiAMix(num_classes=10)
    mixed, targets = mix(images, ids)
    assert mixed.shape == images.shape and targets.shape == (n, 10)
    if n:
        plan = mix.draw(images.shape, seed=0)
        assert same(mixed, expected_mix(plan, images)) and same(targets, expected_labels(plan, ids, 10))


@pytest.mark.parametrize("n_threads", [1, 2, 5])
def test_threads_change_nothing(n_threads):
    # Above the 2**15 elements under which a batch is done by the calling thread.
    images = make_images(shape=(9, 3, 40, 40))
    mixed, _ = miamix.MiAMix(n_threads=n_threads)(images, seed=3)
    assert same(mixed, expected_mix(miamix.MiAMix().draw(images.shape, seed=3), images))


@pytest.mark.parametrize("dtype", [np.int32, np.int64, np.int8, np.int16, np.uint8, np.uint16, np.uint32])
def test_class_ids_of_any_width(dtype):
    mix, images = miamix.MiAMix(num_classes=10), make_images()
    ids = np.array([3, 0, 1, 9, 3])
    _, targets = mix(images, ids.astype(dtype), seed=1)
    assert same(targets, expected_labels(mix.draw(images.shape, seed=1), ids, 10))


def test_rows_of_labels():
    mix, images = miamix.MiAMix(), make_images()
    rows = np.random.default_rng(0).random((5, 6), np.float32)
    _, targets = mix(images, rows, seed=1)
    plan = mix.draw(images.shape, seed=1)
    index, weight = plan.partner_index, plan.label_weight()
    assert same(targets, mix_labels(rows, index, weight))


@pytest.mark.parametrize("labels", [IDS, np.arange(10.0).reshape(5, 2), np.array(list("abcde"))])
def test_pairs_are_labels_partners_and_weight(labels):
    mix, images = miamix.MiAMix(targets="pairs"), make_images()
    mixed, (labels_a, labels_b, weight) = mix(images, labels, seed=1)
    plan = mix.draw(images.shape, seed=1)
    assert labels_a is labels and same(weight, plan.label_weight())
    assert np.array_equal(labels_b, labels[plan.partner_index])
    assert same(mixed, expected_mix(plan, images))


@pytest.mark.parametrize("dtype", [bool, np.uint8, np.int16, np.int32, np.uint64, np.int64])
@pytest.mark.parametrize("two_views", [False, True])
def test_maps_take_the_primary_from_one_half_on(dtype, two_views):
    mix = miamix.MiAMix(p_self=0)
    plan = mix.draw((6, 3, 13, 17), seed=4)
    maps = np.random.default_rng(0).integers(0, 200, (6, 13, 17)).astype(dtype)
    partner = np.random.default_rng(1).integers(0, 200, (6, 13, 17)).astype(dtype) if two_views else None
    mixed = plan.apply_masks(maps, partner=partner)
    others = (maps if partner is None else partner)[plan.partner_index]
    assert same(mixed, np.where(plan.masks() >= 0.5, maps, others))
    out = np.empty_like(maps)
    assert plan.apply_masks(maps, partner=partner, out=out) is out and same(out, mixed)


# Against ONNX Runtime, and the Rust program


@pytest.mark.parametrize("dtype", ["f32", "f16", "bf16", "u8"])
def test_onnx_runtime_gives_the_same_bits(dtype):
    parameters = {"k_max": 3, "p_flip": 0.5, "pad_px": 2, "label_smoothing": 0.1}
    images, partner = make_images(dtype, (7, 3, 19, 23)), make_images(dtype, (7, 3, 19, 23), salt=1)
    ids = np.array([3, 0, -1, 9, 3, 5, 5])
    # Sessions take bfloat16 as float32, which holds each of them.
    given = [a.astype(np.float32) if dtype == "bf16" else a for a in (images, partner)]
    session = graphs.Operators(dtype, "ids", num_classes=10, **parameters)
    mixed, targets, weight, index, masks = session.run(*given, ids, seed=-5, first_sample=11)
    mix = miamix.MiAMix(num_classes=10, **parameters)
    plan = mix.draw(images.shape, seed=-5, first_sample=11)
    got, got_targets = mix(images, ids, partner=partner, seed=-5, first_sample=11)
    assert same(got, mixed.astype(ml_dtypes.bfloat16) if dtype == "bf16" else mixed) and same(got_targets, targets)
    assert same(plan.label_weight(), weight) and same(plan.partner_index, index) and same(plan.masks(), masks)


def write_png(path, pixels):
    """[H, W, 3] uint8."""

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    height, width, _ = pixels.shape
    rows = b"".join(b"\0" + row.tobytes() for row in pixels)
    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    data = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    path.write_bytes(data)


@pytest.mark.skipif("MIAMIX_PROGRAM" not in os.environ, reason="MIAMIX_PROGRAM names no program")
def test_the_rust_program_draws_the_same_plan(tmp_path):
    for i, pixels in enumerate(make_images("u8", (6, 32, 32, 3))):
        write_png(tmp_path / f"{i}.png", pixels)
    out = tmp_path / "out"
    arguments = [os.environ["MIAMIX_PROGRAM"], "mix", tmp_path, "--out", out, "--size", "32", "--seed", "9"]
    subprocess.run([*map(str, arguments), "--k-max", "4", "--alpha", "0.3"], check=True, capture_output=True)
    written = json.loads((out / "plan.json").read_text(encoding="utf-8"))
    plan = miamix.MiAMix(k_max=4, alpha=0.3).draw((6, 3, 32, 32), seed=9)
    assert json.loads(plan.to_json()) == written


# The interpreter goes on


def test_the_gil_is_released():
    images = make_images(shape=(48, 3, 320, 320))
    mix, out, span = miamix.MiAMix(n_threads=1), np.empty_like(images), []

    def work():
        for _ in range(4):
            start = os.times().elapsed
            mix(images, seed=1, out=out)
            span.append((start, os.times().elapsed))

    thread = threading.Thread(target=work)
    ticks = []
    thread.start()
    while thread.is_alive():
        ticks.append(os.times().elapsed)
        threading.Event().wait(0.001)
    thread.join()
    # With the GIL held no tick could fall into the middle of a call, which is all inside the library.
    middles = [(a + (b - a) / 4, b - (b - a) / 4) for a, b in span]
    assert any(a < tick < b for tick in ticks for a, b in middles), (span, ticks[:9])


def test_one_operator_serves_several_threads():
    images = make_images(shape=(6, 3, 40, 40))
    mix, got = miamix.MiAMix(num_classes=10), {}

    def work(seed):
        got[seed] = [mix(images, IDS[[0, 1, 2, 3, 4, 0]], seed=seed) for _ in range(20)]

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for seed in range(6):
        expected = mix(images, IDS[[0, 1, 2, 3, 4, 0]], seed=seed)
        assert all(same(a, b) for result in got[seed] for a, b in zip(result, expected))


FORK = """
import os, select, sys
import numpy as np
import miamix
images = np.random.default_rng(0).random((9, 3, 64, 64), np.float32)
mix = miamix.MiAMix(n_threads=2)
expected, _ = mix(images, seed=1)
read, write = os.pipe()
child = os.fork()
if child == 0:
    got, _ = mix(images, seed=1)
    os.write(write, b"1" if got.tobytes() == expected.tobytes() else b"0")
    os._exit(0)
ready, _, _ = select.select([read], [], [], 60)
if not ready:
    os.kill(child, 9)
os.waitpid(child, 0)
sys.exit(0 if ready and os.read(read, 1) == b"1" else 1)
"""


def test_a_forked_child_goes_on_mixing():
    assert subprocess.run([sys.executable, "-c", FORK], timeout=120).returncode == 0


def test_sizes_on_a_device_need_no_device():
    mix, larger = miamix.MiAMix(), miamix.MiAMix(k_max=8, layout="NHWC")
    sizes = mix.cuda_sizes((5, 3, 13, 17))
    assert sizes == mix.cuda_sizes((5, 13, 17)) and sizes._fields == ("plan", "workspace", "backward_workspace")
    # Masks of float32 more, in whole parts of 256 bytes.
    assert sizes.backward_workspace - sizes.workspace == -(-5 * 13 * 17 * 4 // 256) * 256
    assert larger.cuda_sizes((5, 13, 17, 3)).plan > sizes.plan
    with pytest.raises(miamix.MiamixValueError, match="height: must be in 1..=32768"):
        mix.cuda_sizes((5, 3, 0, 17))
    with pytest.raises(miamix.MiamixValueError, match="images: must be in CUDA memory, got CPU memory"):
        mix.plan_on_device(make_images())


README = (Path(__file__).parents[1] / "README.md").read_text(encoding="utf-8")
SNIPPETS = [part.split("```")[0] for part in README.split("```python\n")[1:]]


def test_the_readme_runs():
    shared = {
        "images": make_images(),
        "partner": make_images(salt=1),
        "labels": IDS,
        "maps": np.zeros((5, 13, 17), int),
    }
    for snippet in SNIPPETS:
        exec(compile(snippet, "README.md", "exec"), shared)
    assert shared["mixed"].shape == shared["images"].shape and shared["targets"].shape == (5, 10)
