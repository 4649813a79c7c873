"""Models with the operators in them, and sessions of these models."""

import os

import numpy as np
import onnxruntime as ort
from onnx import TensorProto, helper

DOMAIN = "ai.miamix"
ELEMENTS = {
    "f32": TensorProto.FLOAT,
    "f16": TensorProto.FLOAT16,
    "bf16": TensorProto.BFLOAT16,
    "u8": TensorProto.UINT8,
}
INPUTS = ("images", "partner_images", "labels", "seed", "first_sample", "training_mode")
OUTPUTS = ("mixed_images", "mixed_labels", "label_weight", "partner_index")


def value(name, element, shape):
    return helper.make_tensor_value_info(name, element, shape)


def scalars():
    return [
        value("seed", TensorProto.INT64, []),
        value("first_sample", TensorProto.INT64, []),
        value("training_mode", TensorProto.BOOL, []),
    ]


def mix_node(name="mix1", inputs=INPUTS, outputs=OUTPUTS, **attributes):
    return helper.make_node("MiAMix", inputs, outputs, name=name, domain=DOMAIN, **attributes)


def masks_node(name="masks1", **attributes):
    inputs = ["images", "seed", "first_sample"]
    return helper.make_node(
        "MiAMixMasks", inputs, ["masks"], name=name, domain=DOMAIN, **attributes
    )


def make_model(nodes, inputs, outputs, initializers=()):
    graph = helper.make_graph(nodes, "graph", inputs, outputs, list(initializers))
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid(DOMAIN, 1)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=8)


def make_session(model, n_threads=1, level=None, optimized_path=None, options=None):
    """A session of a model, or of the file of one."""
    options = options or ort.SessionOptions()
    options.register_custom_ops_library(os.environ["MIAMIX_LIBRARY"])
    options.intra_op_num_threads = n_threads
    options.log_severity_level = 4
    if level is not None:
        options.graph_optimization_level = level
    if optimized_path is not None:
        options.optimized_model_filepath = str(optimized_path)
    source = str(model) if isinstance(model, os.PathLike) else model.SerializeToString()
    return ort.InferenceSession(source, options, ["CPUExecutionProvider"])


class Operators:
    """A session in which both operators stand side by side, with the same attributes.

    Python has no bfloat16, so those images come and go as float32, which holds each of them.
    """

    def __init__(
        self, dtype="f32", label_kind="ids", n_threads=1, shape=("N", "A", "B", "D"), **attributes
    ):
        num_classes = attributes.pop("num_classes", 10 if label_kind == "ids" else None)
        mix_attributes = (
            attributes if num_classes is None else {**attributes, "num_classes": num_classes}
        )
        self.dtype = dtype
        element = ELEMENTS[dtype]
        labels = (
            value("labels", TensorProto.INT64, [shape[0]])
            if label_kind == "ids"
            else value("labels", TensorProto.FLOAT, [shape[0], "K"])
        )
        nodes = [mix_node(**mix_attributes), masks_node(**attributes)]
        outer, source, result = element, "images", "mixed_images"
        if dtype == "bf16":
            outer = TensorProto.FLOAT
            nodes = [
                helper.make_node("Cast", ["images32"], ["images"], to=element),
                helper.make_node("Cast", ["partner_images32"], ["partner_images"], to=element),
                *nodes,
                helper.make_node("Cast", ["mixed_images"], ["mixed_images32"], to=outer),
            ]
            source, result = "images32", "mixed_images32"
        inputs = [value(source, outer, shape), value(f"partner_{source}", outer, shape), labels]
        outputs = [
            value(result, outer, None),
            value("mixed_labels", TensorProto.FLOAT, None),
            value("label_weight", TensorProto.FLOAT, None),
            value("partner_index", TensorProto.INT64, None),
            value("masks", TensorProto.FLOAT, None),
        ]
        self.names = [output.name for output in outputs]
        self.inputs = [source, f"partner_{source}"]
        self.session = make_session(make_model(nodes, inputs + scalars(), outputs), n_threads)

    def run(self, images, partner_images, labels, seed=0, first_sample=0, training_mode=True):
        """(mixed_images, mixed_labels, label_weight, partner_index, masks)."""
        feeds = {
            self.inputs[0]: images,
            self.inputs[1]: partner_images,
            "labels": labels,
            "seed": np.array(seed, np.int64),
            "first_sample": np.array(first_sample, np.int64),
            "training_mode": np.array(training_mode),
        }
        return self.session.run(self.names, feeds)


def make_images(dtype, shape, salt=0):
    """Images in which every pixel is another value, as the session takes them."""
    rng = np.random.default_rng([salt, *shape])
    if dtype == "u8":
        return rng.integers(0, 256, shape, dtype=np.uint8)
    images = rng.standard_normal(shape).astype(np.float32)
    if dtype == "f16":
        return images.astype(np.float16)
    if dtype == "bf16":
        return (images.view(np.uint32) & 0xFFFF0000).view(np.float32)
    return images


def stored(images, dtype):
    """Images of a session as the reference has them: the bits of f16 and bf16."""
    if dtype == "f16":
        return images.view(np.uint16)
    if dtype == "bf16":
        return (np.ascontiguousarray(images).view(np.uint32) >> 16).astype(np.uint16)
    return images
