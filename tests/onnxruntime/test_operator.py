"""The operators inside ONNX Runtime, against the reference."""

import math
import re
import threading
from pathlib import Path

import draw_ref
import graphs
import miamix_ref as ref
import numpy as np
import onnxruntime as ort
import pytest
from graphs import (
    OUTPUTS,
    Operators,
    make_images,
    make_model,
    make_session,
    mix_node,
    stored,
    value,
)
from onnx import TensorProto, helper, numpy_helper

DTYPES = ["f32", "f16", "bf16", "u8"]
EVERY_METHOD = [1.0, 1.0, 1.0, 1.0, 1.0, 1.0]
VARIED = {
    "k_max": 4,
    "method_weights": EVERY_METHOD,
    "p_aug": 0.5,
    "p_self": 0.2,
    "p_flip": 0.5,
    "pad_px": 3,
}


def reference_config(attributes):
    """Attributes as the reference takes a configuration."""
    graph_only = ("num_classes", "layout", "seed_offset")
    config = {name: value for name, value in attributes.items() if name not in graph_only}
    if "method_weights" in config:
        config["method_weights"] = dict(zip(draw_ref.METHODS, config["method_weights"]))
    return config


def labels_of(kind, n, n_classes=10):
    if kind == "ids":
        ids = np.arange(n, dtype=np.int64) * 7 % n_classes
        ids[1::5] = -1  # ignored
        return ids
    return np.random.default_rng(n).random((n, n_classes), np.float32)


def bits(array):
    return np.ascontiguousarray(array).tobytes()


def assert_equal(got, expected, name):
    assert got.shape == expected.shape, name
    assert got.dtype == expected.dtype, name
    assert bits(got) == bits(expected), f"{name}: {np.sum(got != expected)} differ"


def to_nchw(images, layout):
    return images if layout == "NCHW" else np.moveaxis(images, 3, 1)


def check_against_reference(outputs, plan, dtype, layout, images, partner_images, rows):
    """Everything that follows from the masks, exactly."""
    mixed, mixed_labels, label_weight, partner_index, masks = outputs
    partners = [sample["partner_index"] for sample in plan["samples"]]
    assert partner_index.tolist() == partners
    images, partner_images, mixed = (
        stored(to_nchw(pixels, layout), dtype) for pixels in (images, partner_images, mixed)
    )
    expected = np.empty_like(images)
    for i, sample in enumerate(plan["samples"]):
        primary = ref.apply_view(sample["primary_view"], images[i])
        partner = ref.apply_view(sample["partner_view"], partner_images[partners[i]])
        expected[i] = ref.mix(masks[i], primary, partner, dtype)
    assert_equal(mixed, expected, "mixed_images")
    assert_equal(label_weight, ref.label_weights(plan, masks), "label_weight")
    assert_equal(mixed_labels, ref.mix_labels(rows, partners, label_weight), "mixed_labels")


@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
@pytest.mark.parametrize("label_kind", ["ids", "soft"])
@pytest.mark.parametrize("dtype", DTYPES)
def test_pixels_and_labels_are_the_reference_blend(dtype, label_kind, layout):
    n, c, h, w = 7, 3, 31, 33
    shape = (n, c, h, w) if layout == "NCHW" else (n, h, w, c)
    operators = Operators(dtype, label_kind, layout=layout, label_smoothing=0.1, **VARIED)
    images, partner_images = make_images(dtype, shape), make_images(dtype, shape, salt=1)
    labels = labels_of(label_kind, n)
    outputs = operators.run(images, partner_images, labels, seed=-5, first_sample=1000)
    plan = draw_ref.draw(reference_config(VARIED), (n, h, w), -5, 1000)
    rows = ref.one_hot(labels, 10, 0.1) if label_kind == "ids" else labels
    check_against_reference(outputs, plan, dtype, layout, images, partner_images, rows)


@pytest.mark.parametrize("size", [(1, 1), (1, 37), (32, 32), (33, 31), (97, 64)])
@pytest.mark.parametrize(
    "attributes",
    [
        {},
        VARIED,
        {**VARIED, "merge": "sum", "label_weight": "drawn"},
        {
            **VARIED,
            "lambda_reading": "keep",
            "gaussian_sigma": "area",
            "cutmix_box": "inside",
            "alpha": 0.2,
        },
        {
            **VARIED,
            "pairing": "uniform",
            "grid_range": [5, 16],
            "smooth_range_px": [1, 15],
            "p_apply": 0.7,
        },
        {
            "method_weights": [0.0, 0.0, 1.0, 0.0, 0.0, 0.0],
            "decay_power": 2.0,
            "p_aug": 1.0,
            "p_smooth": 1.0,
        },
        {"p_aug": 1.0, "rotate_max_rad": 3.0, "shear_max": 1.5, "k_min": 3, "k_max": 8},
    ],
    ids=["defaults", "varied", "sum", "keep", "uniform", "fmix", "warped"],
)
def test_masks_are_the_reference_rendering(attributes, size):
    n, (h, w) = 6, size
    operators = Operators(**attributes)
    images = make_images("f32", (n, 1, h, w))
    outputs = operators.run(images, images, labels_of("ids", n), seed=2**40 + 3, first_sample=-2)
    plan = draw_ref.draw(reference_config(attributes), (n, h, w), 2**40 + 3, 2**64 - 2)
    masks, sure = ref.render(plan)
    assert np.abs(outputs[4] - masks)[sure].max(initial=0.0) <= 2e-5
    assert np.all((outputs[4] >= 0.0) & (outputs[4] <= 1.0))
    check_against_reference(
        outputs, plan, "f32", "NCHW", images, images, ref.one_hot(labels_of("ids", n), 10)
    )


@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
@pytest.mark.parametrize("label_kind", ["ids", "soft"])
@pytest.mark.parametrize("dtype", DTYPES)
def test_out_of_training_a_batch_passes_through(dtype, label_kind, layout):
    shape = (5, 3, 8, 4)
    operators = Operators(dtype, label_kind, layout=layout, label_smoothing=0.2, **VARIED)
    images, labels = make_images(dtype, shape), labels_of(label_kind, 5)
    outputs = operators.run(
        images, make_images(dtype, shape, salt=1), labels, seed=3, training_mode=False
    )
    assert_equal(outputs[0], images, "mixed_images")
    assert_equal(
        outputs[1], ref.one_hot(labels, 10) if label_kind == "ids" else labels, "mixed_labels"
    )
    assert outputs[2].tolist() == [1.0] * 5
    assert outputs[3].tolist() == [0, 1, 2, 3, 4]


def test_seed_offset_is_added_to_the_seed():
    images, labels = make_images("f32", (4, 2, 16, 16)), labels_of("ids", 4)
    plain = Operators(**VARIED)
    for offset, seed, total in [
        (5, 3, 8),
        (-5, 3, -2),
        (1, 2**63 - 1, -(2**63)),
        (-(2**63), 2**62, -(2**62)),
    ]:
        salted = Operators(seed_offset=offset, **VARIED).run(images, images, labels, seed)
        for name, got, expected in zip(OUTPUTS, salted, plain.run(images, images, labels, total)):
            assert_equal(got, expected, name)
    assert bits(plain.run(images, images, labels, 3)[0]) != bits(
        plain.run(images, images, labels, 8)[0]
    )


@pytest.mark.parametrize("n", [0, 1])
@pytest.mark.parametrize("training_mode", [True, False])
@pytest.mark.parametrize("label_kind", ["ids", "soft"])
@pytest.mark.parametrize("dtype", DTYPES)
def test_small_batches(dtype, label_kind, training_mode, n):
    shape = (n, 3, 9, 5)
    operators = Operators(dtype, label_kind)
    images, labels = make_images(dtype, shape), labels_of(label_kind, n)
    outputs = operators.run(images, images, labels, training_mode=training_mode)
    assert [output.shape for output in outputs] == [shape, (n, 10), (n,), (n,), (n, 9, 5)]
    assert outputs[3].tolist() == [0] * n


def test_without_classes_or_channels():
    images = make_images("f32", (3, 2, 6, 6))
    outputs = Operators(num_classes=0).run(images, images, np.array([5, -1, 99], np.int64))
    assert outputs[1].shape == (3, 0)
    none = images[:, :0]
    assert Operators().run(none, none, labels_of("ids", 3))[0].shape == (3, 0, 6, 6)


def test_threads_change_nothing():
    shape = (16, 3, 33, 31)  # more than is done inline
    images, labels = make_images("f32", shape), labels_of("ids", 16)
    expected = Operators(**VARIED).run(images, images, labels, seed=11)
    for n_threads in (2, 7):
        outputs = Operators(n_threads=n_threads, **VARIED).run(images, images, labels, seed=11)
        for name, got, want in zip((*OUTPUTS, "masks"), outputs, expected):
            assert_equal(got, want, name)


def test_concurrent_runs_of_one_session():
    shape = (8, 3, 40, 40)
    operators = Operators(n_threads=2, **VARIED)
    images, partner_images = make_images("f32", shape), make_images("f32", shape, salt=1)
    labels = labels_of("ids", 8)
    # Batches of several sizes, so that plans of runs at the same time differ in size too.
    batches = [
        (images[: 1 + i % 8], partner_images[: 1 + i % 8], labels[: 1 + i % 8], i)
        for i in range(24)
    ]
    expected = [[bits(output) for output in operators.run(*batch)] for batch in batches]
    got = [None] * len(batches)

    def run_some(thread):
        for _ in range(3):
            for i in range(thread, len(batches), 4):
                got[i] = [bits(output) for output in operators.run(*batches[i])]

    threads = [threading.Thread(target=run_some, args=(thread,)) for thread in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert got == expected


def test_sessions_do_not_meet():
    images, labels = make_images("f32", (6, 3, 16, 16)), labels_of("ids", 6)
    first, second = Operators(**VARIED), Operators("u8", merge="sum")
    before = first.run(images, images, labels, seed=1)
    second.run(*[make_images("u8", (2, 1, 8, 8))] * 2, labels_of("ids", 2))
    del second
    for name, got, expected in zip(OUTPUTS, first.run(images, images, labels, seed=1), before):
        assert_equal(got, expected, name)


# Shapes


def mixed_shapes(images, partner_images, labels, element=TensorProto.FLOAT, **attributes):
    """Shapes of the outputs as the session knows them before a run."""
    label_element = (
        TensorProto.INT64 if labels is not None and len(labels) == 1 else TensorProto.FLOAT
    )
    inputs = [
        value("images", element, images),
        value("partner_images", element, partner_images),
        value("labels", label_element, labels),
        *graphs.scalars(),
    ]
    float_outputs = [value(name, TensorProto.FLOAT, None) for name in OUTPUTS[1:3]]
    outputs = [
        value(OUTPUTS[0], element, None),
        *float_outputs,
        value(OUTPUTS[3], TensorProto.INT64, None),
    ]
    session = make_session(make_model([mix_node(**attributes)], inputs, outputs))
    return [output.shape for output in session.get_outputs()]


def test_static_shapes_are_known():
    for element in graphs.ELEMENTS.values():
        shapes = mixed_shapes([4, 3, 8, 6], [4, 3, 8, 6], [4], element, num_classes=10)
        assert shapes == [[4, 3, 8, 6], [4, 10], [4], [4]]


def test_names_of_axes_go_through():
    shapes = mixed_shapes(["N", 3, "H", "W"], ["N", 3, "H", "W"], ["N", "K"])
    assert shapes == [["N", 3, "H", "W"], ["N", "K"], ["N"], ["N"]]


def test_an_axis_is_known_from_any_input_that_tells():
    shapes = mixed_shapes([None, 3, None, 6], [None, None, 8, None], ["N"], num_classes=5)
    assert shapes == [["N", 3, 8, 6], ["N", 5], ["N"], ["N"]]
    shapes = mixed_shapes(None, ["B", 3, 8, 6], ["B", None], num_classes=5)
    assert shapes == [["B", 3, 8, 6], ["B", 5], ["B"], ["B"]]


def test_axes_that_nobody_names_have_names_of_their_own():
    images, labels, weight, index = mixed_shapes([None] * 4, [None] * 4, [None, None])
    names = {*images, labels[1]}
    assert len(names) == 5
    assert all(isinstance(name, str) for name in names)
    assert labels[0] == weight[0] == index[0] == images[0]
    assert len(mixed_shapes(None, None, None)[0]) == 4


@pytest.mark.parametrize(("layout", "expected"), [("NCHW", ["N", "B", 6]), ("NHWC", ["N", 3, "B"])])
def test_shapes_of_masks(layout, expected):
    inputs = [value("images", TensorProto.UINT8, ["N", 3, "B", 6]), *graphs.scalars()]
    outputs = [value("masks", TensorProto.FLOAT, None), value("mode", TensorProto.BOOL, None)]
    keep = helper.make_node("Identity", ["training_mode"], ["mode"])
    session = make_session(make_model([graphs.masks_node(layout=layout), keep], inputs, outputs))
    assert session.get_outputs()[0].shape == expected


@pytest.mark.parametrize(
    "declared", [["N", 3, "H", "W"], [None, 3, None, None], None, [2, 3, 8, 8]]
)
@pytest.mark.parametrize("element", ["f32", "f16"])
def test_shapes_and_types_go_on_through_a_conv(element, declared):
    onnx_type = graphs.ELEMENTS[element]
    kernel = np.random.default_rng(0).standard_normal((4, 3, 3, 3)).astype(np.float32)
    nodes = [
        mix_node(num_classes=10),
        helper.make_node("Cast", ["mixed_images"], ["mixed32"], to=TensorProto.FLOAT),
        helper.make_node(
            "Conv", ["mixed32", "kernel"], ["features"], pads=[1, 1, 1, 1], strides=[2, 2]
        ),
    ]
    inputs = [value(name, onnx_type, declared) for name in ("images", "partner_images")]
    inputs += [value("labels", TensorProto.INT64, ["N"]), *graphs.scalars()]
    outputs = [value("features", TensorProto.FLOAT, None)]
    session = make_session(
        make_model(nodes, inputs, outputs, [numpy_helper.from_array(kernel, "kernel")])
    )
    n, *rest = session.get_outputs()[0].shape
    # What a convolution makes of an unknown axis has no name; of −1 it would be a negative number.
    assert (n, rest) == ((2, [4, 4, 4]) if declared == [2, 3, 8, 8] else ("N", [4, None, None]))
    images = make_images(element, (2, 3, 8, 8))
    feeds = {
        "images": images,
        "partner_images": images,
        "labels": np.array([1, 2]),
        **scalar_feeds(),
    }
    assert session.run(None, feeds)[0].shape == (2, 4, 4, 4)


def scalar_feeds(seed=0, shape=()):
    return {
        "seed": np.full(shape, seed, np.int64),
        "first_sample": np.zeros(shape, np.int64),
        "training_mode": np.ones(shape, bool),
    }


def test_scalars_may_have_an_axis():
    images, labels = make_images("f32", (3, 1, 8, 8)), labels_of("ids", 3)
    inputs = [
        value("images", TensorProto.FLOAT, None),
        value("partner_images", TensorProto.FLOAT, None),
    ]
    inputs += [value("labels", TensorProto.INT64, None)]
    inputs += [
        value(scalar.name, scalar.type.tensor_type.elem_type, [1]) for scalar in graphs.scalars()
    ]
    outputs = [value("mixed_images", TensorProto.FLOAT, None)]
    session = make_session(make_model([mix_node(num_classes=10)], inputs, outputs))
    feeds = {"images": images, "partner_images": images, "labels": labels, **scalar_feeds(9, (1,))}
    expected = Operators().run(images, images, labels, seed=9)[0]
    assert_equal(session.run(None, feeds)[0], expected, "mixed_images")


# Errors


@pytest.mark.parametrize(
    ("attributes", "message"),
    [
        ({"alpha": -1.0}, "attribute alpha: must be finite and greater than 0, got -1"),
        ({"alpha": math.nan}, "attribute alpha: must be finite and greater than 0, got NaN"),
        ({"alpha": 1}, "attribute alpha: must be a float, got the int 1"),
        ({"alpha": "1"}, 'attribute alpha: must be a float, got the string "1"'),
        ({"k_min": 3}, "attribute k_max: must be at least k_min = 3, got 2"),
        ({"k_max": 9}, "attribute k_max: must be at most 8, got 9"),
        ({"k_max": 2.0}, "attribute k_max: must be an int, got the float 2"),
        ({"k_max": [1, 2]}, "attribute k_max: must be an int, got the ints [1, 2]"),
        ({"k_min": -1}, "attribute k_min: must be in 0..=2147483647, got -1"),
        ({"pad_px": 2**40}, f"attribute pad_px: must be in 0..=2147483647, got {2**40}"),
        (
            {"method_weights": [1.0, 2.0]},
            "attribute method_weights: must be 6 floats, of mixup, cutmix, fmix, gridmix, agmix, "
            "gmix, got [1.0, 2.0]",
        ),
        (
            {"method_weights": [1, 0, 0, 0, 0, 0]},
            "attribute method_weights: must be a list of floats, got the ints [1, 0, 0, 0, 0, 0]",
        ),
        (
            {"method_weights": [1.0, 1.0, -1.0, 0.0, 0.0, 0.0]},
            "attribute method_weights.fmix: must be finite and at least 0, got -1",
        ),
        (
            {"method_weights": [0.0] * 6},
            "attribute method_weights: must not all be 0, got [0.0, 0.0, 0.0, 0.0, 0.0, 0.0]",
        ),
        ({"p_aug": 1.5}, "attribute p_aug: must be a probability in [0, 1], got 1.5"),
        ({"merge": "max"}, 'attribute merge: must be one of product sum, got "max"'),
        ({"merge": ""}, 'attribute merge: must be one of product sum, got ""'),
        ({"merge": 1}, "attribute merge: must be a string, got the int 1"),
        ({"layout": "nchw"}, 'attribute layout: must be one of NCHW NHWC, got "nchw"'),
        ({"grid_range": [3]}, "attribute grid_range: must be 2 ints, [lo, hi], got [3]"),
        (
            {"grid_range": [4, 3]},
            "attribute grid_range: must be [lo, hi] with 1 <= lo <= hi <= 16, got [4, 3]",
        ),
        (
            {"grid_range": [2.0, 4.0]},
            "attribute grid_range: must be a list of ints, got the floats [2.0, 4.0]",
        ),
        ({"grid_range": 4}, "attribute grid_range: must be a list of ints, got the int 4"),
        ({"seed_offset": 1.0}, "attribute seed_offset: must be an int, got the float 1"),
        ({"num_classes": -3}, "attribute num_classes: must be in 0..=2147483647, got -3"),
        ({"num_classes": "10"}, 'attribute num_classes: must be an int, got the string "10"'),
        (
            {"num_classes": None},
            "attribute num_classes: must be given where labels are class ids (int64), got none",
        ),
        (
            {"label_weight": "drawn", "lambda_reading": "keep"},
            "attribute label_weight: must be merged where merge is product and lambda_reading is "
            "keep (the ratios give no weight), got drawn",
        ),
    ],
)
def test_attributes_are_checked_when_the_session_is_made(attributes, message):
    attributes = {"num_classes": 10, **attributes}
    attributes = {name: value for name, value in attributes.items() if value is not None}
    inputs = [value(name, TensorProto.FLOAT, None) for name in ("images", "partner_images")]
    inputs += [value("labels", TensorProto.INT64, None), *graphs.scalars()]
    outputs = [value("mixed_images", TensorProto.FLOAT, None)]
    with pytest.raises(Exception) as error:
        make_session(make_model([mix_node(**attributes)], inputs, outputs))
    assert str(error.value).rstrip().endswith(f"MiAMix 'mix1': {message}")


def test_masks_check_their_attributes_too():
    inputs = [value("images", TensorProto.FLOAT, None), *graphs.scalars()[:2]]
    node = graphs.masks_node(merge="max")
    with pytest.raises(
        Exception, match="MiAMixMasks 'masks1': attribute merge: must be one of product sum"
    ):
        make_session(make_model([node], inputs, [value("masks", TensorProto.FLOAT, None)]))


@pytest.mark.parametrize(
    ("shapes", "attributes", "message"),
    [
        ({"images": ["N", 3, 8]}, {}, "images: expected shape [N, C, H, W], got [N, 3, 8]"),
        (
            {"partner_images": [1, 2, 3, 4, 5]},
            {"layout": "NHWC"},
            "partner_images: expected shape [N, H, W, C], got [1, 2, 3, 4, 5]",
        ),
        ({"labels": ["N", None]}, {}, "labels: expected shape [N], got [N, ?]"),
        ({"seed": [2]}, {}, "seed: expected shape [] or [1], got [2]"),
        ({"training_mode": [1, 1]}, {}, "training_mode: expected shape [] or [1], got [1, 1]"),
    ],
)
def test_declared_shapes_are_checked_when_the_session_is_made(shapes, attributes, message):
    inputs = [
        value("images", TensorProto.FLOAT, shapes.get("images")),
        value("partner_images", TensorProto.FLOAT, shapes.get("partner_images")),
        value("labels", TensorProto.INT64, shapes.get("labels")),
        value("seed", TensorProto.INT64, shapes.get("seed", [])),
        value("first_sample", TensorProto.INT64, []),
        value("training_mode", TensorProto.BOOL, shapes.get("training_mode", [])),
    ]
    outputs = [value("mixed_images", TensorProto.FLOAT, None)]
    with pytest.raises(Exception) as error:
        make_session(make_model([mix_node(num_classes=10, **attributes)], inputs, outputs))
    assert str(error.value).rstrip().endswith(f"MiAMix 'mix1': {message}")


@pytest.mark.parametrize(("k", "expected"), [(7, "[N, 10]"), (None, None)])
def test_declared_classes_are_checked_when_the_session_is_made(k, expected):
    inputs = [value(name, TensorProto.FLOAT, None) for name in ("images", "partner_images")]
    inputs += [value("labels", TensorProto.FLOAT, ["N", k]), *graphs.scalars()]
    model = make_model(
        [mix_node(num_classes=10)], inputs, [value("mixed_images", TensorProto.FLOAT, None)]
    )
    if expected is None:
        make_session(model)
        return
    with pytest.raises(Exception) as error:
        make_session(model)
    assert (
        str(error.value)
        .rstrip()
        .endswith(f"MiAMix 'mix1': labels: expected shape {expected}, got [N, {k}]")
    )


def run_unchecked(
    images, partner_images, labels, label_element=TensorProto.INT64, scalars=(), **attributes
):
    """Runs a model that declares no shapes."""
    inputs = [value(name, TensorProto.FLOAT, None) for name in ("images", "partner_images")]
    inputs += [value("labels", label_element, None)]
    inputs += [
        value(scalar.name, scalar.type.tensor_type.elem_type, None) for scalar in graphs.scalars()
    ]
    outputs = [value("mixed_images", TensorProto.FLOAT, None)]
    session = make_session(make_model([mix_node(**attributes)], inputs, outputs))
    feeds = {"images": images, "partner_images": partner_images, "labels": labels, **scalar_feeds()}
    return session.run(None, {**feeds, **dict(scalars)})


IMAGES = np.zeros((4, 3, 8, 6), np.float32)
IDS = np.array([0, 1, 2, 3], np.int64)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"labels": np.array([0, 9, 12, 3], np.int64)},
            "labels[2]: must be below num_classes = 10, got 12",
        ),
        ({"labels": IDS[:3]}, "labels: expected shape [4], got [3]"),
        ({"labels": IDS.reshape(2, 2)}, "labels: expected shape [N], got [2, 2]"),
        ({"images": IMAGES[0]}, "images: expected shape [N, C, H, W], got [3, 8, 6]"),
        (
            {"images": IMAGES[0], "layout": "NHWC"},
            "images: expected shape [N, H, W, C], got [3, 8, 6]",
        ),
        (
            {"partner_images": IMAGES[:, :, :, :5], "layout": "NHWC"},
            "partner_images: expected shape [4, 3, 8, 6], got [4, 3, 8, 5]",
        ),
        (
            {"images": IMAGES[:, :, :0], "partner_images": IMAGES[:, :, :0]},
            "height: must be in 1..=32768, got 0",
        ),
        (
            {"labels": np.zeros((4, 7), np.float32), "label_element": TensorProto.FLOAT},
            "labels: expected shape [N, 10], got [4, 7]",
        ),
        (
            {"labels": np.zeros((3, 10), np.float32), "label_element": TensorProto.FLOAT},
            "labels: expected shape [4, K], got [3, 10]",
        ),
        (
            {"scalars": {"seed": np.array([1, 2])}},
            "seed: expected shape [] or [1], got [2]",
        ),
        (
            {"scalars": {"training_mode": np.zeros((1, 1), bool)}},
            "training_mode: expected shape [] or [1], got [1, 1]",
        ),
    ],
)
def test_inputs_are_checked_when_a_session_runs(changes, message):
    inputs = {
        "images": IMAGES,
        "partner_images": IMAGES,
        "labels": IDS,
        "num_classes": 10,
        **changes,
    }
    with pytest.raises(ort.capi.onnxruntime_pybind11_state.InvalidArgument) as error:
        run_unchecked(**inputs)
    assert str(error.value).rstrip().endswith(f"MiAMix 'mix1': {message}")


def test_memory_off_the_grid_of_its_elements_is_an_error():
    memory = bytearray(4 * 3 * 8 * 6 * 4 + 1)
    images = np.frombuffer(memory, np.float32, offset=1).reshape(4, 3, 8, 6)
    try:
        outputs = run_unchecked(images, IMAGES, IDS, num_classes=10)
    except ort.capi.onnxruntime_pybind11_state.InvalidArgument as error:
        assert "MiAMix 'mix1': images: must lie at a multiple of 4 bytes, got 0x" in str(error)
    else:
        assert outputs[0].shape == IMAGES.shape  # this host has copied it


def test_a_node_without_a_name_is_named_by_its_operator():
    inputs = [value(name, TensorProto.FLOAT, None) for name in ("images", "partner_images")]
    inputs += [value("labels", TensorProto.INT64, None), *graphs.scalars()]
    outputs = [value("mixed_images", TensorProto.FLOAT, None)]
    with pytest.raises(Exception, match=r"MiAMix( '.*')?: attribute num_classes: must be given"):
        make_session(make_model([mix_node("")], inputs, outputs))


@pytest.mark.parametrize(
    ("place", "names"),
    [
        ("inputs", ("images", "partner_images", "", "seed", "first_sample", "training_mode")),
        ("outputs", ("mixed_images", "", "label_weight", "partner_index")),
        ("outputs", ("mixed_images",)),
    ],
)
def test_nothing_may_be_left_out(place, names):
    inputs = [value(name, TensorProto.FLOAT, None) for name in ("images", "partner_images")]
    inputs += [value("labels", TensorProto.INT64, None), *graphs.scalars()]
    outputs = [value("mixed_images", TensorProto.FLOAT, None)]
    feeds = {"images": IMAGES, "partner_images": IMAGES, "labels": IDS, **scalar_feeds()}
    with pytest.raises(Exception):
        make_session(make_model([mix_node(num_classes=10, **{place: names})], inputs, outputs)).run(
            None, feeds
        )


# The page


@pytest.mark.parametrize("operator", ["MiAMix", "MiAMixMasks"])
def test_the_example_of_the_page_runs(operator, capsys):
    page = (Path(__file__).parents[2] / "docs" / "op.md").read_text(encoding="utf-8")
    section = page.split(f"## {operator}\n")[1].split("\n## ")[0]
    example = re.search(r"```python\n(.*?)```", section, re.DOTALL).group(1)
    exec(compile(example, f"docs/op.md, {operator}", "exec"), {})
