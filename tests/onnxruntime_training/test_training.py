"""Training graphs with the operator in front, in ONNX Runtime training."""

import math
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import TensorProto, helper, numpy_helper

import miamix
import miamix.onnx

sys.path.insert(0, str(Path(__file__).parents[2] / "examples" / "onnxruntime"))
import train  # noqa: E402

N, K, SHAPE = 6, 5, (3, 9, 7)
PARAMETERS = {"k_max": 3, "p_flip": 0.5, "pad_px": 2, "label_smoothing": 0.1}


def linear_net(seed=0):
    """Images to logits by one matrix."""
    rng = np.random.default_rng(seed)
    nodes = [
        helper.make_node("Flatten", ["images"], ["features"]),
        helper.make_node("Gemm", ["features", "weight", "bias"], ["logits"]),
    ]
    shapes = {"weight": (math.prod(SHAPE), K), "bias": (K,)}
    weights = [
        numpy_helper.from_array(rng.standard_normal(shape).astype(np.float32), name)
        for name, shape in shapes.items()
    ]
    value = helper.make_tensor_value_info
    inputs = [value("images", TensorProto.FLOAT, ["batch", *SHAPE])]
    outputs = [value("logits", TensorProto.FLOAT, ["batch", K])]
    graph = helper.make_graph(nodes, "net", inputs, outputs, weights)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def weights_of(model):
    return {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}


def batch():
    rng = np.random.default_rng(1)
    images = rng.standard_normal((N, *SHAPE)).astype(np.float32)
    return images, np.array([4, 0, -1, 3, 3, 1])


def loss_and_gradients(weights, images, targets):
    """In float64, by hand."""
    features = images.reshape(len(images), -1).astype(np.float64)
    logits = features @ weights["weight"].astype(np.float64) + weights["bias"]
    exponentials = np.exp(logits - logits.max(1, keepdims=True))
    softmax = exponentials / exponentials.sum(1, keepdims=True)
    targets = targets.astype(np.float64)
    # A row of targets adds up to 1, or to 0 where the label is ignored and its partner's too.
    slope = (targets.sum(1, keepdims=True) * softmax - targets) / len(images)
    loss = -(targets * np.log(softmax)).sum() / len(images)
    return loss, {"weight": features.T @ slope, "bias": slope.sum(0)}


def error_of_logits(weights, images):
    """Sums of 189 products and a bias in float32, in any order: 190 roundings of the sum of their sizes."""
    features = np.abs(images.reshape(len(images), -1).astype(np.float64))
    sizes = features @ np.abs(weights["weight"]) + np.abs(weights["bias"])
    return 190 * 2.0**-24 * sizes.max()


def test_a_step_follows_the_gradient_of_the_mixed_batch(tmp_path):
    net, rate = linear_net(), 0.5
    miamix.onnx.training_artifacts(
        net,
        tmp_path,
        images="images",
        logits="logits",
        num_classes=K,
        optimizer="sgd",
        seed_offset=5,
        **PARAMETERS,
    )
    module, optimizer, state = miamix.onnx.load_training(tmp_path)
    optimizer.set_learning_rate(rate)
    assert module.input_names() == [
        "images",
        "miamix_labels",
        "miamix_seed",
        "miamix_first_sample",
        "miamix_training_mode",
    ]
    assert module.output_names() == ["loss", "logits"]
    images, labels = batch()
    mix = miamix.MiAMix(K, **PARAMETERS)
    for step in range(3):
        weights = weights_of(miamix.onnx.trained_model(net, state))
        mixed, targets = mix(images, labels, seed=12, first_sample=100 + step)
        loss, gradients = loss_and_gradients(weights, mixed, targets)
        got, _ = module(images, labels, np.array(7), np.array(100 + step), np.array(True))
        optimizer.step()
        module.lazy_reset_grad()
        logit_error = error_of_logits(weights, mixed)
        # Moving every logit by e moves a logarithm of a softmax by 2 e at most.
        assert abs(float(got) - loss) <= 2 * logit_error
        after = weights_of(miamix.onnx.trained_model(net, state))
        for name, gradient in gradients.items():
            # ... and a softmax by e / 2; the mean over the batch of what that does to a feature's slope.
            bound = rate * max(1.0, np.abs(mixed).max()) * logit_error
            assert np.abs(after[name] - (weights[name] - rate * gradient)).max() <= bound, name
            assert np.abs(rate * gradient).max() > 10 * bound, "the step is seen"


def test_out_of_training_nothing_is_mixed(tmp_path):
    net = linear_net()
    miamix.onnx.training_artifacts(
        net, tmp_path, images="images", logits="logits", num_classes=K, seed=3, **PARAMETERS
    )
    module, optimizer, state = miamix.onnx.load_training(tmp_path)
    images, labels = batch()
    rows = np.where(labels[:, None] == np.arange(K), 1.0, 0.0)
    expected, _ = loss_and_gradients(weights_of(net), images, rows)
    bound = 2 * error_of_logits(weights_of(net), images)
    [logits] = ort.InferenceSession(net.SerializeToString()).run(None, {"images": images})
    for mode in (module.train(), module.eval()):
        loss, got = mode(images, labels, np.array(0), np.array(False))
        assert abs(float(loss) - expected) <= bound
        assert np.array_equal(got, logits)
    mixed_loss, mixed_logits = module(images, labels, np.array(0), np.array(True))
    assert abs(float(mixed_loss) - expected) > 10 * bound
    assert not np.array_equal(mixed_logits, logits)


def test_what_is_frozen_stays(tmp_path):
    net = linear_net()
    arguments = {"images": "images", "logits": "logits", "num_classes": K, "trainable": ["bias"]}
    miamix.onnx.training_artifacts(net, tmp_path, **arguments)
    module, optimizer, state = miamix.onnx.load_training(tmp_path)
    images, labels = batch()
    module(images, labels, np.array(0), np.array(0), np.array(True))
    optimizer.step()
    before, after = weights_of(net), weights_of(miamix.onnx.trained_model(net, state))
    assert np.array_equal(before["weight"], after["weight"])
    assert not np.array_equal(before["bias"], after["bias"])


def test_the_graph_is_clean_afterwards(tmp_path):
    net = linear_net()
    before = net.SerializeToString()
    miamix.onnx.training_artifacts(net, tmp_path, images="images", logits="logits", num_classes=K)
    assert net.SerializeToString() == before
    operators = [node.op_type for node in onnx.load(tmp_path / "training_model.onnx").graph.node]
    assert operators.count("MiAMix") == 1
    _, _, state = miamix.onnx.load_training(tmp_path)
    trained = miamix.onnx.trained_model(net, state)
    onnx.checker.check_model(trained, full_check=True)
    assert trained.SerializeToString() == before
    assert {opset.domain for opset in trained.opset_import} == {""}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"optimizer": "adam"}, "optimizer: must be one of adamw sgd, got 'adam'"),
        ({"logits": "features"}, "logits: must be an output of the model (logits), got 'features'"),
        (
            {"trainable": ["bias", "scale"]},
            "trainable: must name initializers of the model, got 'scale'",
        ),
        ({"images": "pictures"}, "images: must be an input of the model (images), got 'pictures'"),
        ({"alpha": 0}, "alpha: must be finite and greater than 0, got 0"),
    ],
)
def test_errors(changes, message, tmp_path):
    arguments = {"images": "images", "logits": "logits", "num_classes": K, **changes}
    with pytest.raises(miamix.MiamixValueError) as error:
        miamix.onnx.training_artifacts(linear_net(), tmp_path / "new", **arguments)
    assert str(error.value) == message
    assert not (tmp_path / "new").exists()


def test_errors_of_the_operator_reach_the_trainer(tmp_path):
    net = linear_net()
    miamix.onnx.training_artifacts(net, tmp_path, images="images", logits="logits", num_classes=K)
    module, _, _ = miamix.onnx.load_training(tmp_path)
    images, labels = batch()
    expected = r"MiAMix 'miamix_miamix': labels\[0\]: must be below num_classes = 5, got 9"
    with pytest.raises(Exception, match=expected):
        module(images, labels + 5, np.array(0), np.array(0), np.array(True))


def test_the_snippet_of_the_page_runs(tmp_path, monkeypatch):
    page = Path(__file__).parents[2] / "bindings" / "python" / "README.md"
    snippets = [
        part.split("```")[0] for part in page.read_text(encoding="utf-8").split("```py\n")[1:]
    ]
    [snippet] = [snippet for snippet in snippets if "training_artifacts" in snippet]
    net = train.make_net(10, 16, seed=0)
    images = np.random.default_rng(0).standard_normal((64, 3, 16, 16)).astype(np.float32)
    batches = [(images, np.arange(64) % 10)] * 2
    given = {"np": np, "onnx": onnx, "miamix": miamix, "net": net, "batches": batches}
    monkeypatch.chdir(tmp_path)
    exec(compile(snippet, "README.md", "exec"), given)
    options = ort.SessionOptions()  # with the order of sums that training has
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
    [logits] = ort.InferenceSession("net.onnx", options).run(None, {"images": images})
    assert np.array_equal(logits, given["logits"])


def test_photographs():
    """The example: the loss falls, the net has learned, and what is deployed gives the same bits."""
    options = ["--epochs", "5", "--plain-epochs", "1", "--samples", "256", "--batch-size", "32"]
    args = train.arguments(["--images", os.environ["MIAMIX_PHOTOS"], "--size", "32", *options])
    results, n_classes, (_, n_test) = train.compare(args)
    assert list(results) == ["with MiAMix", "without"]
    chance = 1 / n_classes
    for name, result in results.items():
        assert result["losses"][-1] < result["losses"][0], name
        # By chance: binomial; 5 σ happens once in 3 million runs.
        luck = 5 * math.sqrt(chance * (1 - chance) / n_test)
        assert result["accuracy"] > chance + luck, name
        assert result["same_logits"] and result["clean_accuracy"] == result["accuracy"], name
    assert results["with MiAMix"]["losses"] != results["without"]["losses"]


def test_the_script_prints_what_it_found():
    script = Path(train.__file__)
    options = ["--epochs", "1", "--plain-epochs", "0", "--samples", "32", "--size", "16"]
    command = [sys.executable, script, "--images", os.environ["MIAMIX_PHOTOS"], *options]
    printed = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    lines = [line.split("  ")[1] for line in printed.splitlines() if line.startswith("  ")]
    assert {"with MiAMix", "without", "chance"} <= set(lines)
