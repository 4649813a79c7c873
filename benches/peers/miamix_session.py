"""The operator in ONNX Runtime: what a graph's host adds to it."""

import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnxruntime as ort

from batch import Batch, Refused

ELEMENTS = {"float32": "f32", "uint8": "u8"}


def session_call(batch: Batch, threads: int, library: Path, program: Path) -> Callable[[], object]:
    """A session with the operator alone, called with another seed each time; it allocates its outputs."""
    if batch.dtype not in ELEMENTS:
        raise Refused(f"NumPy has no {batch.dtype} to hand to ONNX Runtime")
    with tempfile.TemporaryDirectory() as folder:
        model = Path(folder) / "mix.onnx"
        options = ["--dtype", ELEMENTS[batch.dtype], "--layout", batch.layout.lower()]
        command = [program, "model", "--num-classes", str(batch.num_classes), *options, "--out", model]
        subprocess.run(list(map(str, command)), check=True, stdout=subprocess.DEVNULL)
        options = ort.SessionOptions()
        options.intra_op_num_threads = threads
        # Threads that wait actively would take the turn of the next contender.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        options.register_custom_ops_library(str(library))
        session = ort.InferenceSession(str(model), options, providers=["CPUExecutionProvider"])
    rng = np.random.default_rng(1)
    inputs = {
        "images": batch.pixels(rng),
        "partner_images": batch.pixels(rng),
        "labels": batch.labels(rng),
        "first_sample": np.array(0, np.int64),
        "training_mode": np.array(True),
    }
    outputs = ["mixed_images", "mixed_labels", "label_weight"]
    return lambda: session.run(outputs, inputs | {"seed": np.array(rng.integers(1 << 62), np.int64)})
