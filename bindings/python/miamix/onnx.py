"""MiAMix for ONNX: the operators' schemas, models with the operator, and the way from torch.

docs/op.md is the page of the operators.
"""

from __future__ import annotations

import ctypes as C
import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from . import _library as lib
from ._parameters import METHODS, NAMES, Parameters, from_config, integer, to_config

if TYPE_CHECKING:
    from typing_extensions import Unpack

__all__ = ["DOMAIN", "insert", "make_model", "register", "register_schemas", "translation_table"]

#: Domain of the operators, and the version of its operator set.
DOMAIN, DOMAIN_VERSION = "ai.miamix", 1
#: What written models need: ONNX's own operators, and the file format that came with them.
OPSET, IR_VERSION = 17, 8

INPUTS = ("images", "partner_images", "labels", "seed", "first_sample", "training_mode")
OUTPUTS = ("mixed_images", "mixed_labels", "label_weight", "partner_index")

_ELEMENTS = {
    "float32": TensorProto.FLOAT,
    "float16": TensorProto.FLOAT16,
    "bfloat16": TensorProto.BFLOAT16,
    "uint8": TensorProto.UINT8,
}
_MASKS_INPUTS, _MASKS_OUTPUTS = ("like", "seed", "first_sample"), ("masks",)
_TYPES = {
    "labels": "L",
    "seed": "tensor(int64)",
    "first_sample": "tensor(int64)",
    "training_mode": "tensor(bool)",
    "mixed_labels": "tensor(float)",
    "label_weight": "tensor(float)",
    "partner_index": "tensor(int64)",
    "masks": "tensor(float)",
}


def register(options: Any) -> None:
    """Make the operators known to sessions with these ``onnxruntime.SessionOptions``."""
    options.register_custom_ops_library(lib.library_path())


def attributes(
    layout: str = "NCHW", seed_offset: int = 0, num_classes: int | None = None, **parameters: Any
) -> dict[str, Any]:
    """Every attribute of a node, by name, written out; checked by the core."""
    config = to_config(parameters)
    lib.Handle(lib.op_create, lib.op_free, C.byref(config))
    if layout not in ("NCHW", "NHWC"):
        raise lib.invalid("layout", "must be one of NCHW NHWC", repr(layout))
    values = from_config(config)
    values["method_weights"] = [values["method_weights"][method] for method in METHODS]
    values |= {"layout": layout, "seed_offset": integer("seed_offset", seed_offset, -(2**63), 2**63 - 1)}
    if num_classes is not None:
        values["num_classes"] = integer("num_classes", num_classes, 0, 2**31 - 1)
    return {name: list(value) if isinstance(value, tuple) else value for name, value in values.items()}


def register_schemas() -> None:
    """Tell the ``onnx`` package about the operators, for its checker, shape inference and torch's exporter."""
    for name, inputs, outputs in (("MiAMix", INPUTS, OUTPUTS), ("MiAMixMasks", _MASKS_INPUTS, _MASKS_OUTPUTS)):
        if not onnx.defs.has(name, domain=DOMAIN):
            onnx.defs.register_schema(_schema(name, inputs, outputs))


def _schema(name: str, inputs: tuple[str, ...], outputs: tuple[str, ...]) -> onnx.defs.OpSchema:
    schema = onnx.defs.OpSchema
    ports = [[schema.FormalParameter(port, _TYPES.get(port, "T")) for port in names] for names in (inputs, outputs)]
    constraints = [("T", [f"tensor({kind})" for kind in ("float", "float16", "bfloat16", "uint8")], "images")]
    if "labels" in inputs:
        constraints.append(("L", ["tensor(int64)", "tensor(float)"], "labels"))
    known = [schema.Attribute(key, _attribute(key, value)) for key, value in attributes().items()]
    known.append(schema.Attribute("num_classes", schema.AttrType.INT, "K", required=False))
    return schema(
        name,
        DOMAIN,
        DOMAIN_VERSION,
        inputs=ports[0],
        outputs=ports[1],
        type_constraints=constraints,
        attributes=known,
    )


def _attribute(name: str, value: Any) -> onnx.AttributeProto:
    return helper.make_attribute(name, value)


def _nodes(
    names: Mapping[str, str], values: dict[str, Any], masks: bool = False, prefix: str = ""
) -> list[onnx.NodeProto]:
    """The operator, and the one that renders its masks; ``names``: the graph's names of inputs and outputs."""

    def node(kind: str, inputs: tuple[str, ...], outputs: tuple[str, ...], values: dict[str, Any]) -> onnx.NodeProto:
        inputs, outputs = (tuple(names.get(port, prefix + port) for port in ports) for ports in (inputs, outputs))
        made = helper.make_node(kind, inputs, outputs, name=prefix + kind.lower(), domain=DOMAIN)
        made.attribute.extend(_attribute(name, value) for name, value in values.items())
        return made

    mix = node("MiAMix", INPUTS, OUTPUTS, values)
    if not masks:
        return [mix]
    values = {name: value for name, value in values.items() if name != "num_classes"}
    return [mix, node("MiAMixMasks", ("images", "seed", "first_sample"), _MASKS_OUTPUTS, values)]


def make_model(
    num_classes: int | None = None,
    *,
    dtype: Literal["float32", "float16", "bfloat16", "uint8"] = "float32",
    labels: Literal["ids", "soft"] = "ids",
    layout: Literal["NCHW", "NHWC"] = "NCHW",
    channels: int | None = None,
    height: int | None = None,
    width: int | None = None,
    seed: int | None = None,
    seed_offset: int = 0,
    masks: bool = False,
    **parameters: Unpack[Parameters],
) -> onnx.ModelProto:
    """A model of the operator alone, as ``miamix model`` writes it.

    Parameters
    ----------
    num_classes : int
        K; 0 or None: no labels come out of class ids.
    dtype
        Element type of images.
    labels
        ``ids``: int64 [N]; ``soft``: float [N, K].
    channels, height, width : int, optional
        Where they are fixed.
    seed : int, optional
        A constant in the file instead of an input.
    seed_offset : int
        Added to the seed.
    masks : bool
        Whether the masks come out too.
    """
    if dtype not in _ELEMENTS:
        raise lib.invalid("dtype", f"must be one of {' '.join(_ELEMENTS)}", repr(dtype))
    if labels not in ("ids", "soft"):
        raise lib.invalid("labels", "must be one of ids soft", repr(labels))
    if labels == "ids":
        num_classes = num_classes or 0
    values = attributes(layout, seed_offset, num_classes, **parameters)
    sizes = channels or "channels", height or "height", width or "width"
    shape = ["batch", *(sizes if layout == "NCHW" else (*sizes[1:], sizes[0]))]
    k = "classes" if num_classes is None else num_classes
    element, value = _ELEMENTS[dtype], helper.make_tensor_value_info
    inputs = [
        value("images", element, shape),
        value("partner_images", element, shape),
        value("labels", TensorProto.INT64, ["batch"])
        if labels == "ids"
        else value("labels", TensorProto.FLOAT, ["batch", k]),
        value("seed", TensorProto.INT64, []),
        value("first_sample", TensorProto.INT64, []),
        value("training_mode", TensorProto.BOOL, []),
    ]
    constants = []
    if seed is not None:
        inputs.pop(3)
        constants = [_seed(seed, "seed")]
    outputs = [
        value("mixed_images", element, shape),
        value("mixed_labels", TensorProto.FLOAT, ["batch", k]),
        value("label_weight", TensorProto.FLOAT, ["batch"]),
        value("partner_index", TensorProto.INT64, ["batch"]),
    ]
    if masks:
        outputs.append(value("masks", TensorProto.FLOAT, ["batch", *sizes[1:]]))
    graph = helper.make_graph(_nodes({}, values, masks), "miamix", inputs, outputs, constants)
    opsets = [helper.make_opsetid("", OPSET), helper.make_opsetid(DOMAIN, DOMAIN_VERSION)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=IR_VERSION, producer_name="miamix")


def _seed(seed: int, name: str) -> onnx.TensorProto:
    bits = integer("seed", seed, -(2**63), 2**64 - 1) & (2**64 - 1)
    return numpy_helper.from_array(np.array(bits, np.uint64).view(np.int64), name)


def insert(
    model: onnx.ModelProto,
    *,
    images: str,
    labels: str | None = None,
    num_classes: int | None = None,
    layout: Literal["NCHW", "NHWC"] = "NCHW",
    seed: int | None = None,
    seed_offset: int = 0,
    prefix: str = "miamix_",
    **parameters: Unpack[Parameters],
) -> onnx.ModelProto:
    """A copy of a model with the operator in front of it.

    What read the input ``images`` reads mixed images; the input itself stays as it was. New inputs are the seed, the
    first sample and the training mode (``miamix_seed``, ``miamix_first_sample``, ``miamix_training_mode``).

    Parameters
    ----------
    images : str
        The input that is mixed.
    labels : str, optional
        A float input [N, K], as of a loss: what read it reads mixed labels. Without it there is a new input
        ``miamix_labels``, int64 [N] class ids, and with ``num_classes`` a new output ``miamix_mixed_labels``.
    seed : int, optional
        A constant instead of an input.
    prefix : str
        Of the names of everything new.

    Raises
    ------
    MiamixValueError
        For names that are no inputs of a type that the operator takes, or new names that are taken.
    """
    mixed = onnx.ModelProto()
    mixed.CopyFrom(model)
    graph = mixed.graph
    inputs = {value.name: value for value in graph.input}
    _check_input(inputs, "images", images, set(_ELEMENTS.values()))
    taken = {name for node in graph.node for name in (*node.input, *node.output)} | set(inputs)
    taken |= {tensor.name for tensor in graph.initializer}
    new = {prefix + port for port in (*INPUTS, *OUTPUTS)}
    if taken & new:
        raise lib.invalid("prefix", f"must make names that the model has not ({min(taken & new)})", repr(prefix))
    if labels is None:
        num_classes = num_classes or 0
    else:
        _check_input(inputs, "labels", labels, {TensorProto.FLOAT})
    names = {"images": images, "partner_images": images}
    replaced = {images: f"{prefix}mixed_images"}
    if labels is not None:
        names["labels"] = labels
        replaced[labels] = f"{prefix}mixed_labels"
    for node in graph.node:
        _rename(node, replaced)
    values = attributes(layout, seed_offset, num_classes, **parameters)
    [node] = _nodes(names, values, prefix=prefix)
    graph.node.insert(0, node)
    batch = inputs[images].type.tensor_type.shape.dim[:1]
    n = (batch[0].dim_param or batch[0].dim_value or None) if batch else None
    value = helper.make_tensor_value_info
    if labels is None:
        graph.input.append(value(f"{prefix}labels", TensorProto.INT64, [n]))
        if num_classes:
            graph.output.append(value(f"{prefix}mixed_labels", TensorProto.FLOAT, [n, num_classes]))
    if seed is None:
        graph.input.append(value(f"{prefix}seed", TensorProto.INT64, []))
    else:
        graph.initializer.append(_seed(seed, f"{prefix}seed"))
    graph.input.append(value(f"{prefix}first_sample", TensorProto.INT64, []))
    graph.input.append(value(f"{prefix}training_mode", TensorProto.BOOL, []))
    if all(opset.domain != DOMAIN for opset in mixed.opset_import):
        mixed.opset_import.append(helper.make_opsetid(DOMAIN, DOMAIN_VERSION))
    return mixed


def _check_input(inputs: dict[str, onnx.ValueInfoProto], argument: str, name: str, elements: set[int]) -> None:
    if name not in inputs:
        raise lib.invalid(argument, f"must be an input of the model ({', '.join(inputs)})", repr(name))
    element = inputs[name].type.tensor_type.elem_type
    if element not in elements:
        kinds = " ".join(sorted(TensorProto.DataType.Name(kind).lower() for kind in elements))
        got = TensorProto.DataType.Name(element).lower()
        raise lib.invalid(argument, f"must be of {kinds}", got, lib.Status.DTYPE)


def _rename(node: onnx.NodeProto, replaced: Mapping[str, str]) -> None:
    """Let a node, and the graphs in it, read other tensors."""
    for i, name in enumerate(node.input):
        node.input[i] = replaced.get(name, name)
    for attribute in node.attribute:
        for graph in (attribute.g, *attribute.graphs):
            # A name that the inner graph has itself hides the outer one.
            own = {value.name for value in graph.input} | {tensor.name for tensor in graph.initializer}
            own |= {name for inner in graph.node for name in inner.output}
            visible = {name: new for name, new in replaced.items() if name not in own}
            for inner in graph.node:
                _rename(inner, visible)


def translation_table() -> dict[Any, Any]:
    """For ``torch.onnx.export(module, ..., dynamo=True, custom_translation_table=miamix.onnx.translation_table())``.

    The module must be in training, and have been given ``seed`` or ``first_sample``, so that it counts no samples.
    """
    import onnxscript
    import torch

    from . import torch as _  # noqa: F401  registers the operator

    register_schemas()
    operators, standard = onnxscript.values.Opset(DOMAIN, DOMAIN_VERSION), onnxscript.opset18

    def mix(images, partner_images, labels, seed, first_sample, training: bool, settings: str):  # type: ignore[no-untyped-def]
        values = json.loads(settings)
        parameters = {name: values[name] for name in NAMES if name in values}
        known = attributes(values["layout"], num_classes=values["num_classes"], **parameters)
        mode = standard.Constant(value=helper.make_tensor("training_mode", TensorProto.BOOL, [], [bool(training)]))
        partner = images if partner_images is None else partner_images
        return operators.MiAMix(images, partner, labels, seed, first_sample, mode, **known)

    return {torch.ops.miamix.mix.default: mix}
