"""onnx: schemas, models, the operator in front of a model."""

import os
import re
import subprocess
import sys

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from batches import make_images, same
from conftest import REPOSITORY
from onnx import TensorProto, helper, numpy_helper

import miamix
import miamix.onnx

IDS = np.array([3, 0, -1, 9, 3])


def session(model):
    options = ort.SessionOptions()
    miamix.onnx.register(options)
    options.log_severity_level = 4
    return ort.InferenceSession(model.SerializeToString(), options, ["CPUExecutionProvider"])


def scalars(prefix="", seed=7, first_sample=3, training=True):
    values = {"seed": np.int64(seed), "first_sample": np.int64(first_sample), "training_mode": np.bool_(training)}
    return {prefix + name: np.array(value) for name, value in values.items()}


def page(section):
    text = (REPOSITORY / "docs" / "op.md").read_text(encoding="utf-8")
    return text.split(f"\n## {section}\n")[1].split("\n## ")[0]


def table(text, title):
    rows = text.split(f"### {title}\n")[1].split("\n###")[0]
    return [
        [cell.strip().strip("`") for cell in row.split(" | ")] for row in re.findall(r"^\| `?(.*) \|$", rows, re.M)[1:]
    ]


# Schemas


@pytest.mark.parametrize("operator", ["MiAMix", "MiAMixMasks"])
def test_schemas_are_those_of_the_page(operator):
    miamix.onnx.register_schemas()
    schema, text = onnx.defs.get_schema(operator, domain="ai.miamix"), page(operator)
    assert schema.since_version == 1
    for ports, title in ((schema.inputs, "Inputs"), (schema.outputs, "Outputs")):
        assert [(port.name, port.type_str) for port in ports] == [tuple(row[:2]) for row in table(text, title)]
    for constraint, row in zip(schema.type_constraints, table(text, "Type constraints"), strict=True):
        allowed = set(re.findall(r"tensor\(\w+\)", row[1]))
        assert (constraint.type_param_str, set(constraint.allowed_type_strs)) == (row[0], allowed)
    attributes = table(text, "Attributes")
    assert sorted(schema.attributes) == sorted(row[0] for row in attributes)
    for name, kind, default, *_ in attributes:
        attribute = schema.attributes[name]
        assert attribute.type.name.lower() == kind.split(":")[0] and not attribute.required
        if default == "none":
            assert not attribute.default_value.name
            continue
        value = helper.get_attribute_value(attribute.default_value)
        value = value.decode() if isinstance(value, bytes) else value
        numbers = [float(number) for number in re.findall(r"-?[\d.]+", default)]
        if kind.startswith("string"):
            assert value == default.strip("`")
        else:
            assert np.array_equal(np.float32(np.atleast_1d(value)), np.float32(numbers)), name


@pytest.mark.parametrize(
    ("options", "images", "classes"),
    [
        ({"channels": 3}, ["batch", 3, "height", "width"], 10),
        ({"preset": "cifar10", "labels": "soft"}, ["batch", 3, 32, 32], 10),
        ({"layout": "NHWC", "channels": 1, "dtype": "bfloat16"}, ["batch", "height", "width", 1], 10),
        ({"labels": "soft", "num_classes": None}, ["batch", "channels", "height", "width"], "classes"),
    ],
)
def test_shapes_are_inferred(options, images, classes):
    model = miamix.onnx.make_model(**{"num_classes": 10, "masks": True, **options})
    declared = {value.name: value.type.SerializeToString() for value in model.graph.output}
    for value in model.graph.output:
        value.type.Clear()
    miamix.onnx.register_schemas()
    inferred = onnx.shape_inference.infer_shapes(model, check_type=True, strict_mode=True)
    assert {value.name: value.type.SerializeToString() for value in inferred.graph.output} == declared
    shapes = [
        [axis.dim_param or axis.dim_value for axis in value.type.tensor_type.shape.dim]
        for value in inferred.graph.output
    ]
    height, width = (images[1], images[2]) if options.get("layout") == "NHWC" else images[2:]
    assert shapes == [images, ["batch", classes], ["batch"], ["batch"], ["batch", height, width]]


def test_axes_are_known_from_any_input_that_tells():
    model = miamix.onnx.make_model(10, channels=3)
    images, partner, labels = (value.type.tensor_type.shape for value in model.graph.input[:3])
    images.dim[0].Clear()
    images.dim[2].Clear()
    partner.dim[2].dim_value = 8
    labels.dim[0].dim_value = 4
    for value in model.graph.output:
        value.type.tensor_type.ClearField("shape")
    miamix.onnx.register_schemas()
    [mixed, *_] = onnx.shape_inference.infer_shapes(model, strict_mode=True).graph.output
    assert [axis.dim_param or axis.dim_value for axis in mixed.type.tensor_type.shape.dim] == [4, 3, 8, "width"]
    del images.dim[3]
    with pytest.raises(onnx.shape_inference.InferenceError, match=r"input 0: must have 4 axes, got 3"):
        onnx.shape_inference.infer_shapes(model, strict_mode=True)


def test_a_process_that_knows_the_schemas_ends():
    program = "import miamix.onnx; miamix.onnx.register_schemas(); miamix.onnx.register_schemas()"
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60)


# Models


@pytest.mark.skipif("MIAMIX_PROGRAM" not in os.environ, reason="MIAMIX_PROGRAM names no program")
@pytest.mark.parametrize(
    ("flags", "options"),
    [
        (["--num-classes", "10"], {"num_classes": 10}),
        (
            ["--num-classes", "7", "--dtype", "bf16", "--layout", "NHWC", "--masks", "--seed", "5", "--k-max", "4"],
            {"num_classes": 7, "dtype": "bfloat16", "layout": "NHWC", "masks": True, "seed": 5, "k_max": 4},
        ),
        (["--preset", "cifar10"], {"preset": "cifar10"}),
        (["--preset", "cifar100", "--soft-labels"], {"preset": "cifar100", "labels": "soft"}),
        (["--preset", "tiny-imagenet", "--dtype", "u8"], {"preset": "tiny-imagenet", "dtype": "uint8"}),
        (
            ["--preset", "imagenet", "--num-classes", "21", "--size", "96x128"],
            {"preset": "imagenet", "num_classes": 21, "height": 96, "width": 128},
        ),
    ],
)
def test_models_are_those_of_the_program(flags, options, tmp_path):
    path = tmp_path / "model.onnx"
    subprocess.run([os.environ["MIAMIX_PROGRAM"], "model", *flags, "--out", str(path)], check=True, capture_output=True)
    expected, got = onnx.load(path), miamix.onnx.make_model(**options)

    def essence(model):
        graph = model.graph
        values = [[(v.name, str(v.type)) for v in values] for values in (graph.input, graph.output)]
        nodes = [
            (n.op_type, n.domain, list(n.input), list(n.output), {a.name: str(a) for a in n.attribute})
            for n in graph.node
        ]
        constants = [(t.name, numpy_helper.to_array(t).tolist()) for t in graph.initializer]
        opsets = {opset.domain: opset.version for opset in model.opset_import}
        return values, nodes, constants, opsets, model.ir_version

    assert essence(got) == essence(expected)


@pytest.mark.parametrize("labels", ["ids", "soft"])
@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
def test_models_run_and_give_the_same_bits(labels, layout):
    given = np.random.default_rng(0).random((5, 10), np.float32) if labels == "soft" else IDS
    images, partner = make_images("u8"), make_images("u8", salt=1)
    if layout == "NHWC":
        images, partner = (np.ascontiguousarray(a.transpose(0, 2, 3, 1)) for a in (images, partner))
    parameters = {"k_max": 3, "label_smoothing": 0.1, "p_flip": 0.5}
    model = miamix.onnx.make_model(
        10, dtype="uint8", labels=labels, layout=layout, channels=3, height=13, masks=True, **parameters
    )
    miamix.onnx.register_schemas()
    onnx.checker.check_model(model, full_check=True)
    feeds = {"images": images, "partner_images": partner, "labels": given, **scalars()}
    mixed, targets, weight, index, masks = session(model).run(None, feeds)
    mix = miamix.MiAMix(10, layout=layout, **parameters)
    plan = mix.draw(images.shape, seed=7, first_sample=3)
    assert all(map(same, plan.apply(images, given, partner=partner), (mixed, targets)))
    assert same(weight, plan.label_weight()) and same(index, plan.partner_index) and same(masks, plan.masks())


def small_net():
    """Sums of channels, and a distance from labels."""
    value = helper.make_tensor_value_info
    nodes = [
        helper.make_node("ReduceMean", ["pixels"], ["logits"], axes=[2, 3], keepdims=0),
        helper.make_node("Sub", ["logits", "target"], ["distance"]),
    ]
    inputs = [
        value("pixels", TensorProto.FLOAT, ["n", 3, 13, 17]),
        value("target", TensorProto.FLOAT, ["n", 3]),
    ]
    outputs = [value("logits", TensorProto.FLOAT, ["n", 3]), value("distance", TensorProto.FLOAT, ["n", 3])]
    opsets = [helper.make_opsetid("", 17)]
    return helper.make_model(helper.make_graph(nodes, "net", inputs, outputs), opset_imports=opsets, ir_version=8)


def test_the_operator_in_front_of_a_model_with_labels():
    net = small_net()
    before = net.SerializeToString()
    model = miamix.onnx.insert(net, images="pixels", labels="target", alpha=0.5)
    assert net.SerializeToString() == before
    miamix.onnx.register_schemas()
    onnx.checker.check_model(model, full_check=True)
    images, rows = make_images(), np.random.default_rng(0).random((5, 3), np.float32)
    got = session(model).run(None, {"pixels": images, "target": rows, **scalars("miamix_")})
    mixed, targets = miamix.MiAMix(alpha=0.5)(images, rows, seed=7, first_sample=3)
    assert all(map(same, got, session(net).run(None, {"pixels": mixed, "target": targets})))
    still = session(model).run(None, {"pixels": images, "target": rows, **scalars("miamix_", training=False)})
    assert all(map(same, still, session(net).run(None, {"pixels": images, "target": rows})))


def test_the_operator_in_front_of_a_model_without_labels():
    model = miamix.onnx.insert(small_net(), images="pixels", num_classes=10, seed=2**64 - 1, seed_offset=3)
    assert [value.name for value in model.graph.input] == [
        "pixels",
        "target",
        "miamix_labels",
        "miamix_first_sample",
        "miamix_training_mode",
    ]
    assert [value.name for value in model.graph.output] == ["logits", "distance", "miamix_mixed_labels"]
    images, rows = make_images(), np.zeros((5, 3), np.float32)
    feeds = {"pixels": images, "target": rows, "miamix_labels": IDS, **scalars("miamix_")}
    feeds.pop("miamix_seed")
    logits, _, targets = session(model).run(None, feeds)
    mixed, expected = miamix.MiAMix(10)(images, IDS, seed=2, first_sample=3)
    assert same(logits, session(small_net()).run(["logits"], {"pixels": mixed, "target": rows})[0])
    assert same(targets, expected)


def test_inner_graphs_read_mixed_images_too():
    value = helper.make_tensor_value_info
    branches = [
        helper.make_graph([helper.make_node("Neg", ["x"], [f"y{i}"])], f"branch{i}", [], [value(f"y{i}", 1, None)])
        for i in range(2)
    ]
    node = helper.make_node("If", ["which"], ["y"], then_branch=branches[0], else_branch=branches[1])
    inputs = [value("which", TensorProto.BOOL, []), value("x", TensorProto.FLOAT, [5, 3, 13, 17])]
    graph = helper.make_graph([node], "net", inputs, [value("y", TensorProto.FLOAT, [5, 3, 13, 17])])
    net = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    model = miamix.onnx.insert(net, images="x")
    images = make_images()
    feeds = {"which": np.array(True), "x": images, "miamix_labels": IDS, **scalars("miamix_")}
    [y] = session(model).run(None, feeds)
    assert same(y, -miamix.MiAMix()(images, seed=7, first_sample=3)[0])


# Training


@pytest.mark.parametrize("opset", [13, 17, 21])
def test_soft_cross_entropy_is_that_of_the_definition(opset):
    net = small_net()
    net.opset_import[0].version = opset
    if opset >= 18:  # ReduceMean has its axes as an input since
        del net.graph.node[0].attribute[0]
        net.graph.initializer.append(numpy_helper.from_array(np.array([2, 3]), "axes"))
        net.graph.node[0].input.append("axes")
    before = net.SerializeToString()
    model = miamix.onnx.soft_cross_entropy(net, logits="logits", targets="target", loss="entropy")
    assert net.SerializeToString() == before
    onnx.checker.check_model(model, full_check=True)
    assert [value.name for value in model.graph.output] == ["entropy", "logits", "distance"]
    images, rows = 30 * make_images(), np.random.default_rng(0).random((5, 3), np.float32)
    rows[1] = 0  # an ignored label
    loss, logits, _ = session(model).run(None, {"pixels": images, "target": rows})
    wide = logits.astype(np.float64)
    log_softmax = wide - np.log(np.exp(wide).sum(1, keepdims=True))
    expected = -(rows * log_softmax).sum() / 5
    # Some tens of roundings of numbers of a few units each.
    assert loss.shape == () and abs(loss - expected) < 50 * 2**-24 * np.abs(rows * log_softmax).sum()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"logits": "logit"}, "logits: must be a tensor of the model, got 'logit'"),
        ({"targets": "targets"}, "targets: must be a tensor of the model, got 'targets'"),
        ({"loss": "distance"}, "loss: must make names that the model has not (distance), got 'distance'"),
    ],
)
def test_errors_of_soft_cross_entropy(changes, message):
    with pytest.raises(miamix.MiamixValueError) as error:
        miamix.onnx.soft_cross_entropy(small_net(), **{"logits": "logits", "targets": "target", **changes})
    assert str(error.value) == message


def test_operators_of_old_versions_are_an_error():
    net = small_net()
    net.opset_import[0].version = 12
    with pytest.raises(miamix.MiamixValueError, match="model: must use version 13 of ONNX's operators or later, got 12"):
        miamix.onnx.soft_cross_entropy(net, logits="logits", targets="target")


def test_training_needs_a_package():
    with pytest.raises(ImportError, match="training needs onnxruntime-training, which PyPI has for CPython 3.8 to 3.11"):
        miamix.onnx.load_training("nowhere")


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: miamix.onnx.make_model(10, dtype="float64"), "dtype: must be one of float32 float16 bfloat16 uint8"),
        (lambda: miamix.onnx.make_model(preset="mnist"), "preset: must be one of cifar10 cifar100 tiny-imagenet imagenet"),
        (lambda: miamix.onnx.make_model(10, labels="pairs"), "labels: must be one of ids soft, got 'pairs'"),
        (lambda: miamix.onnx.make_model(10, channels=-3), "channels: must be an integer in 1..=4294967295, got -3"),
        (lambda: miamix.onnx.make_model(10, channels="x"), "channels: must be an integer in 1..=4294967295, got 'x'"),
        (lambda: miamix.onnx.make_model(10, height=0), "height: must be an integer in 1..=32768, got 0"),
        (lambda: miamix.onnx.make_model(preset="cifar10", width=0), "width: must be an integer in 1..=32768, got 0"),
        (lambda: miamix.onnx.make_model(10, height=100000), "height: must be an integer in 1..=32768, got 100000"),
        # The core's limit.
        (lambda: miamix.MiAMix().draw((1, 32769, 1)), f"height: must be in 1..={miamix.onnx.MAX_SIDE_PX}, got 32769"),
        (lambda: miamix.onnx.make_model(10, alpha=-1), "alpha: must be finite and greater than 0, got -1"),
        (lambda: miamix.onnx.make_model(10, layout="CHW"), "layout: must be one of NCHW NHWC, got 'CHW'"),
        (lambda: miamix.onnx.make_model(-1), "num_classes: must be an integer in 0..=2147483647, got -1"),
        (
            lambda: miamix.onnx.insert(small_net(), images="logits"),
            "images: must be an input of the model (pixels, target), got 'logits'",
        ),
        (
            lambda: miamix.onnx.insert(miamix.onnx.make_model(10), images="images", labels="labels"),
            "labels: must be of float, got int64",
        ),
        (
            lambda: miamix.onnx.insert(miamix.onnx.make_model(10), images="images", prefix=""),
            "prefix: must make names that the model has not (first_sample), got ''",
        ),
    ],
)
def test_errors(call, message):
    with pytest.raises(miamix.MiamixValueError) as error:
        call()
    assert str(error.value).startswith(message)
