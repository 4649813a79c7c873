"""Tries this host on the cases that the Rust API wrote (onnx-model/examples/host_cases.rs).

    python cases.py FOLDER

prints a line of JSON: the host's version, and for each case how it went, an empty text where all was as in Rust.
"""

import json
import os
import platform
import sys
from collections import namedtuple
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
from onnx import TensorProto, helper

TYPES = {
    "float": np.float32,
    "float16": np.float16,
    "bfloat16": np.uint16,  # its bits
    "uint8": np.uint8,
    "int64": np.int64,
    "bool": np.bool_,
}
Case = namedtuple("Case", "name model runs error")
Run = namedtuple("Run", "inputs outputs")
Tensor = namedtuple("Tensor", "element array")


def names(folder):
    return sorted(path.parent.name for path in Path(folder).glob("*/case.txt"))


def read(folder, name):
    """A case; ``error`` is what the last run, or the making of a session, must end in."""
    folder, model, runs, error = Path(folder) / name, None, [], None
    for line in (folder / "case.txt").read_text(encoding="utf-8").splitlines():
        word, _, rest = line.partition(" ")
        if word == "model":
            model = folder / rest
        elif word == "run":
            runs.append(Run({}, {}))
        elif word == "error":
            error = rest
        else:
            tensor, element, extents, file = rest.split(" ")
            shape = [int(extent) for extent in extents.split(",")] if extents != "-" else []
            array = np.fromfile(folder / file, TYPES[element]).reshape(shape)
            {"input": runs[-1].inputs, "output": runs[-1].outputs}[word][tensor] = Tensor(
                element, array
            )
    return Case(name, model, runs, error)


def with_float_faces(model):
    """A model whose bfloat16 inputs and outputs are floats, which Python has: casts of such numbers are exact."""
    before, after = [], []
    for values, nodes in ((model.graph.input, before), (model.graph.output, after)):
        for value in values:
            kind = value.type.tensor_type
            if kind.elem_type != TensorProto.BFLOAT16:
                continue
            inner, value.name = value.name, f"{value.name}_float"
            kind.elem_type = TensorProto.FLOAT
            faces = [value.name], [inner]
            ends = faces if nodes is before else reversed(faces)
            to = TensorProto.BFLOAT16 if nodes is before else TensorProto.FLOAT
            nodes.append(helper.make_node("Cast", *ends, to=to))
    nodes = [*before, *model.graph.node, *after]
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    return model


def session(path, n_threads):
    options = ort.SessionOptions()
    options.register_custom_ops_library(os.environ["MIAMIX_LIBRARY"])
    options.intra_op_num_threads = n_threads
    options.log_severity_level = 4
    model = with_float_faces(onnx.load(path))
    return ort.InferenceSession(model.SerializeToString(), options, ["CPUExecutionProvider"])


def feeds(run):
    def face(tensor):
        if tensor.element == "bfloat16":
            return (tensor.array.astype(np.uint32) << 16).view(np.float32)
        return tensor.array

    suffix = {"bfloat16": "_float"}
    return {
        name + suffix.get(tensor.element, ""): face(tensor) for name, tensor in run.inputs.items()
    }


def difference(name, got, expected):
    """Why an output is not what Rust gave; an empty text where it is, byte for byte."""
    if expected.element == "bfloat16":
        bits = got.view(np.uint32)
        if np.any(bits & 0xFFFF):
            return f"{name} is no bfloat16"
        got = (bits >> 16).astype(np.uint16)
    if (got.dtype, got.shape) != (expected.array.dtype, expected.array.shape):
        return f"{name} is {got.dtype} {list(got.shape)}"
    if got.tobytes() != expected.array.tobytes():
        return f"{name} differs in {np.count_nonzero(got != expected.array)} of {got.size}"
    return ""


def attempt(case):
    """How a case went; an empty text where all was as in Rust."""
    for n_threads in (1, 2, 5):
        try:
            made = session(case.model, n_threads)
            for i, run in enumerate(case.runs):
                outputs = made.run(None, feeds(run))
                if case.error is not None:
                    continue
                for (name, expected), got in zip(run.outputs.items(), outputs):
                    wrong = difference(name, got, expected)
                    if wrong:
                        return f"run {i + 1} on {n_threads} threads: {wrong}"
        except Exception as error:
            if case.error is None or not str(error).rstrip().endswith(case.error):
                return f"{type(error).__name__}: {error}"
        else:
            if case.error is not None:
                return f"no error, and it must be: {case.error}"
    return ""


if __name__ == "__main__":
    results = {name: attempt(read(sys.argv[1], name)) for name in names(sys.argv[1])}
    host = {"onnxruntime": ort.__version__, "python": platform.python_version()}
    print(json.dumps({**host, "cases": results}))
