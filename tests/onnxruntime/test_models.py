"""Files that the program writes, loaded and run by ONNX Runtime, against the reference."""

import itertools
import json
import os
import subprocess

import draw_ref
import numpy as np
import onnxruntime as ort
import pytest
import test_operator
from graphs import OUTPUTS, make_images
from miamix_ref import one_hot

N, C, H, W = 5, 3, 17, 19
SEED, FIRST_SAMPLE, K, SMOOTHING = -7, 900, 10, 0.1
LABELS = {
    "ids": ["--num-classes", str(K)],
    "soft": ["--soft-labels"],
    "pixels alone": ["--num-classes", "0"],
}
ONNX_TYPES = {"f32": "float", "f16": "float16", "bf16": "bfloat16", "u8": "uint8"}

pytestmark = pytest.mark.skipif(
    "MIAMIX_PROGRAM" not in os.environ, reason="MIAMIX_PROGRAM is not set"
)


def write_model(folder, *arguments):
    """A file with varied parameters, written by the program."""
    config = test_operator.reference_config(test_operator.VARIED)
    (folder / "config.json").write_text(json.dumps({**config, "label_smoothing": SMOOTHING}))
    path = folder / "model.onnx"
    command = [os.environ["MIAMIX_PROGRAM"], "model", "--config", folder / "config.json"]
    subprocess.run(
        [*command, "--out", path, *arguments], check=True, timeout=60, stdout=subprocess.DEVNULL
    )
    return path


def load(path):
    options = ort.SessionOptions()
    options.register_custom_ops_library(os.environ["MIAMIX_LIBRARY"])
    options.intra_op_num_threads = 1
    return ort.InferenceSession(str(path), options, ["CPUExecutionProvider"])


def labels_and_rows(label_kind):
    """What the model takes, and its one-hot rows in training and out of it."""
    labels = test_operator.labels_of("soft" if label_kind == "soft" else "ids", N, K)
    if label_kind == "soft":
        return labels, labels, labels
    if label_kind == "ids":
        return labels, one_hot(labels, K, SMOOTHING), one_hot(labels, K)
    nothing = np.zeros((N, 0), np.float32)
    return labels, nothing, nothing


@pytest.mark.parametrize("label_kind", LABELS)
@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
@pytest.mark.parametrize("dtype", test_operator.DTYPES)
def test_written_models_run(dtype, layout, label_kind, tmp_path):
    shape = (N, C, H, W) if layout == "NCHW" else (N, H, W, C)
    images, partner_images = make_images(dtype, shape), make_images(dtype, shape, salt=1)
    labels, rows, plain_rows = labels_and_rows(label_kind)
    config = test_operator.reference_config(test_operator.VARIED)
    plan = draw_ref.draw(config, (N, H, W), SEED, FIRST_SAMPLE)
    with_masks = None
    for masks, baked_seed in itertools.product([True, False], repeat=2):
        arguments = ["--dtype", dtype, "--layout", layout.lower(), *LABELS[label_kind]]
        arguments += ["--masks"] * masks
        # Sizes that are written out are those of the batch; the other models leave them open.
        arguments += ["--seed", str(SEED), "--size", f"{H}x{W}", "--channels", "3"] * baked_seed
        session = load(write_model(tmp_path, *arguments))
        names = [*OUTPUTS, "masks"] if masks else [*OUTPUTS]
        assert [output.name for output in session.get_outputs()] == names
        inputs = {value.name: value for value in session.get_inputs()}
        assert ("seed" in inputs) == (not baked_seed)
        assert inputs["images"].type == f"tensor({ONNX_TYPES[dtype]})"
        if dtype == "bf16":  # NumPy has no such type
            continue
        feeds = {
            "images": images,
            "partner_images": partner_images,
            "labels": labels,
            "first_sample": np.array(FIRST_SAMPLE, np.int64),
            "training_mode": np.array(True),
        }
        if not baked_seed:
            feeds["seed"] = np.array(SEED, np.int64)
        outputs = session.run(None, feeds)
        if masks:
            test_operator.check_against_reference(
                outputs, plan, dtype, layout, images, partner_images, rows
            )
            with_masks = outputs
        else:
            for name, got, expected in zip(OUTPUTS, outputs, with_masks):
                test_operator.assert_equal(got, expected, name)

        outputs = session.run(None, {**feeds, "training_mode": np.array(False)})
        test_operator.assert_equal(outputs[0], images, "mixed_images")
        test_operator.assert_equal(outputs[1], plain_rows, "mixed_labels")
        assert outputs[2].tolist() == [1.0] * N
        assert outputs[3].tolist() == list(range(N))
