"""MiAMix for ONNX: the operators' schemas, models with the operator, training graphs, and the way from torch.

docs/op.md is the page of the operators.
"""

from __future__ import annotations

import atexit
import ctypes as C
import importlib
import importlib.util
import json
import sys
import types
from collections.abc import Mapping, Sequence
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from . import _library as lib
from ._parameters import METHODS, NAMES, Parameters, from_config, integer, to_config

if TYPE_CHECKING:
    from typing_extensions import Unpack

__all__ = [
    "DOMAIN",
    "insert",
    "load_training",
    "make_model",
    "register",
    "register_schemas",
    "soft_cross_entropy",
    "trained_model",
    "training_artifacts",
    "translation_table",
]

#: Domain of the operators, and the version of its operator set.
DOMAIN, DOMAIN_VERSION = "ai.miamix", 1
#: What written models need: ONNX's own operators, and the file format that came with them.
OPSET, IR_VERSION = 17, 8

INPUTS = ("images", "partner_images", "labels", "seed", "first_sample", "training_mode")
OUTPUTS = ("mixed_images", "mixed_labels", "label_weight", "partner_index")

#: As ``miamix model`` and the core have it.
MAX_SIDE_PX = 32768

_ELEMENTS = {
    "float32": TensorProto.FLOAT,
    "float16": TensorProto.FLOAT16,
    "bfloat16": TensorProto.BFLOAT16,
    "uint8": TensorProto.UINT8,
}
#: Side in pixels, and classes; as the program has them.
_PRESETS = {"cifar10": (32, 10), "cifar100": (32, 100), "tiny-imagenet": (64, 200), "imagenet": (224, 1000)}
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
            # onnx would free what infers shapes when there is no Python any more, and wait for it for ever.
            atexit.register(onnx.defs.deregister_schema, name, DOMAIN_VERSION, DOMAIN)


def _schema(name: str, inputs: tuple[str, ...], outputs: tuple[str, ...]) -> onnx.defs.OpSchema:
    schema = onnx.defs.OpSchema
    ports = [[schema.FormalParameter(port, _TYPES.get(port, "T")) for port in names] for names in (inputs, outputs)]
    constraints = [("T", [f"tensor({kind})" for kind in ("float", "float16", "bfloat16", "uint8")], "images")]
    if "labels" in inputs:
        constraints.append(("L", ["tensor(int64)", "tensor(float)"], "labels"))
    known = [schema.Attribute(key, _attribute(key, value)) for key, value in attributes().items()]
    known.append(schema.Attribute("num_classes", schema.AttrType.INT, "K", required=False))
    made = schema(
        name,
        DOMAIN,
        DOMAIN_VERSION,
        inputs=ports[0],
        outputs=ports[1],
        type_constraints=constraints,
        attributes=known,
    )
    if hasattr(made, "set_type_and_shape_inference_function"):  # onnx 1.17 has it not
        made.set_type_and_shape_inference_function(_infer_mix if name == "MiAMix" else _infer_masks)
    return made


_Axis = onnx.TensorShapeProto.Dimension


def _axes(context: Any, index: int, rank: int) -> list[onnx.TensorShapeProto.Dimension]:
    """The axes of an input, unknown ones where it tells none."""
    kind = context.get_input_type(index)
    if kind is None or not kind.tensor_type.HasField("shape"):
        return [_Axis()] * rank
    axes = list(kind.tensor_type.shape.dim)
    if len(axes) != rank:
        raise onnx.shape_inference.InferenceError(f"input {index}: must have {rank} axes, got {len(axes)}")
    return axes


def _known(*axes: onnx.TensorShapeProto.Dimension) -> onnx.TensorShapeProto.Dimension:
    """What equal axes tell together: a number, or else a name."""
    fields = ("dim_value", "dim_param")
    return next((axis for field in fields for axis in axes if axis.HasField(field)), _Axis())


def _set(context: Any, index: int, element: int, axes: Sequence[onnx.TensorShapeProto.Dimension]) -> None:
    kind = onnx.TypeProto()
    kind.tensor_type.elem_type = element
    kind.tensor_type.shape.dim.extend(axes)
    context.set_output_type(index, kind)


def _infer_mix(context: Any) -> None:
    """As bindings/c/src/ort/mix.rs tells ONNX Runtime."""
    element = context.get_input_type(0).tensor_type.elem_type
    images = [_known(*axes) for axes in zip(_axes(context, 0, 4), _axes(context, 1, 4))]
    given = context.get_attribute("num_classes")
    classes = _Axis() if given is None else _Axis(dim_value=given.i)
    if context.get_input_type(2).tensor_type.elem_type == TensorProto.INT64:
        labels = _axes(context, 2, 1)
    else:
        labels = _axes(context, 2, 2)
        classes = _known(labels[1], classes)
    batch = _known(images[0], labels[0])
    _set(context, 0, element, [batch, *images[1:]])
    _set(context, 1, TensorProto.FLOAT, [batch, classes])
    _set(context, 2, TensorProto.FLOAT, [batch])
    _set(context, 3, TensorProto.INT64, [batch])


def _infer_masks(context: Any) -> None:
    """As bindings/c/src/ort/masks.rs tells ONNX Runtime."""
    batch, *rest = _axes(context, 0, 4)
    layout = context.get_attribute("layout")
    is_nhwc = layout is not None and layout.s == b"NHWC"
    _set(context, 0, TensorProto.FLOAT, [batch, *(rest[:2] if is_nhwc else rest[1:])])


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
    preset: Literal["cifar10", "cifar100", "tiny-imagenet", "imagenet"] | None = None,
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
    preset
        A data set whose size and number of classes are taken where they are not given.
    channels, height, width : int, optional
        Where they are fixed; height and width are 1 to 32768 pixels.
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
    if preset is not None:
        if preset not in _PRESETS:
            raise lib.invalid("preset", f"must be one of {' '.join(_PRESETS)}", repr(preset))
        side, classes = _PRESETS[preset]
        channels = 3 if channels is None else channels
        height, width = side if height is None else height, side if width is None else width
        num_classes = classes if num_classes is None else num_classes
    if labels == "ids":
        num_classes = num_classes or 0
    values = attributes(layout, seed_offset, num_classes, **parameters)
    given = ("channels", channels, 2**32 - 1), ("height", height, MAX_SIDE_PX), ("width", width, MAX_SIDE_PX)
    sizes = tuple(name if size is None else integer(name, size, 1, most) for name, size, most in given)
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
    taken = _names(graph)
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


def soft_cross_entropy(
    model: onnx.ModelProto, *, logits: str, targets: str, loss: str = "loss", prefix: str = "miamix_loss_"
) -> onnx.ModelProto:
    """A copy of a model with the cross entropy of soft labels as its first output.

    ::

        loss = mean over n of -sum over k of targets[n, k] * log_softmax(logits)[n, k]

    A row of zeros, an ignored label, adds 0, and counts in the mean.

    Parameters
    ----------
    logits, targets : str
        Floats [N, K] of the graph: inputs, outputs or anything between.
    loss : str
        Name of the new output, a scalar.
    prefix : str
        Of the names of everything else that is new.

    Raises
    ------
    MiamixValueError
        For names that the model has not, or has already, and for ONNX operators before version 13.
    """
    new = onnx.ModelProto()
    new.CopyFrom(model)
    graph, names = new.graph, _names(new.graph)
    for argument, name in (("logits", logits), ("targets", targets)):
        if name not in names:
            raise lib.invalid(argument, "must be a tensor of the model", repr(name))
    version = next((opset.version for opset in new.opset_import if opset.domain in ("", "ai.onnx")), 0)
    if version < 13:
        raise lib.invalid("model", "must use version 13 of ONNX's operators or later", version)
    steps = [
        ("LogSoftmax", [logits], {"axis": 1}),
        ("Mul", [targets], {}),
        ("ReduceSum", [f"{prefix}classes"], {"keepdims": 0}),
        ("ReduceMean", [], {"keepdims": 0}),
        ("Neg", [], {}),
    ]
    nodes: list[onnx.NodeProto] = []
    for kind, inputs, values in steps:
        before = list(nodes[-1].output) if nodes else []
        name = f"{prefix}{kind.lower()}"
        nodes.append(helper.make_node(kind, before + inputs, [name], name=name, **values))
    nodes[-1].output[0] = loss
    constant = numpy_helper.from_array(np.array([1]), f"{prefix}classes")
    taken = names & {constant.name, *(name for node in nodes for name in node.output)}
    if taken:
        argument, value = ("loss", loss) if loss in taken else ("prefix", prefix)
        raise lib.invalid(argument, f"must make names that the model has not ({min(taken)})", repr(value))
    graph.node.extend(nodes)
    graph.initializer.append(constant)
    graph.output.insert(0, helper.make_tensor_value_info(loss, TensorProto.FLOAT, []))
    return new


def training_artifacts(
    model: onnx.ModelProto,
    folder: str | PathLike[str],
    *,
    images: str,
    logits: str,
    num_classes: int,
    optimizer: Literal["adamw", "sgd"] = "adamw",
    trainable: Sequence[str] | None = None,
    layout: Literal["NCHW", "NHWC"] = "NCHW",
    seed: int | None = None,
    seed_offset: int = 0,
    **parameters: Unpack[Parameters],
) -> None:
    """Write what ONNX Runtime training needs to train a model on mixed batches.

    ::

        images, labels ──> MiAMix ──> model ──> soft cross entropy

    The graph's inputs are those of the model, then ``miamix_labels`` (int64 [N]), ``miamix_seed`` unless it is
    constant, ``miamix_first_sample`` and ``miamix_training_mode``; its outputs are the loss and the logits. With a
    training mode of false it is the graph to evaluate with: nothing is mixed. :func:`load_training` reads the files.

    Parameters
    ----------
    model
        From images to logits [N, K]; its operators need gradients in ONNX Runtime, MiAMix needs none.
    folder
        Where ``training_model.onnx``, ``eval_model.onnx``, ``optimizer_model.onnx`` and ``checkpoint`` go; made where
        it is not there.
    images : str
        The input that is mixed.
    logits : str
        The output.
    num_classes : int
        K.
    trainable : sequence of str, optional
        The initializers to train; without it every one of floats. Name them where some are no weights: the running
        mean and variance of a batch normalization, or constants, would be given gradients and trained, too.
    layout, seed, seed_offset, **parameters
        As for :func:`insert`.

    Raises
    ------
    ImportError
        Without onnxruntime-training.
    MiamixValueError
        For names that the model has not.
    """
    artifacts = _training("artifacts")
    if optimizer not in ("adamw", "sgd"):
        raise lib.invalid("optimizer", "must be one of adamw sgd", repr(optimizer))
    outputs = [value.name for value in model.graph.output]
    if logits not in outputs:
        raise lib.invalid("logits", f"must be an output of the model ({', '.join(outputs)})", repr(logits))
    weights = {tensor.name: tensor for tensor in model.graph.initializer}
    if trainable is None:
        trainable = [name for name, tensor in weights.items() if tensor.data_type == TensorProto.FLOAT]
    for name in trainable:
        if name not in weights:
            raise lib.invalid("trainable", "must name initializers of the model", repr(name))
    mixed = insert(
        model,
        images=images,
        num_classes=num_classes,
        layout=layout,
        seed=seed,
        seed_offset=seed_offset,
        **parameters,
    )
    forward = soft_cross_entropy(mixed, logits=logits, targets="miamix_mixed_labels")
    # The loss comes first, as gradients start from there.
    kept = [value for value in forward.graph.output if value.name in ("loss", logits)]
    del forward.graph.output[:]
    forward.graph.output.extend(kept)
    Path(folder).mkdir(parents=True, exist_ok=True)
    kind = {"adamw": artifacts.OptimType.AdamW, "sgd": artifacts.OptimType.SGD}[optimizer]
    artifacts.generate_artifacts(
        forward,
        requires_grad=list(trainable),
        optimizer=kind,
        artifact_directory=folder,
        custom_op_library=lib.library_path(),
    )


def load_training(folder: str | PathLike[str], options: Any = None) -> tuple[Any, Any, Any]:
    """The ``Module``, ``Optimizer`` and ``CheckpointState`` of ``onnxruntime.training.api``.

    Parameters
    ----------
    folder
        Of :func:`training_artifacts`.
    options : onnxruntime.SessionOptions, optional
        Of the module; the operators are made known to them.
    """
    api = _training("api")
    if options is None:
        import onnxruntime

        options = onnxruntime.SessionOptions()
    register(options)
    folder = Path(folder)
    state = api.CheckpointState.load_checkpoint(folder / "checkpoint")
    models = [folder / f"{name}_model.onnx" for name in ("training", "eval", "optimizer")]
    module = api.Module(models[0], state, models[1], session_options=options)
    return module, api.Optimizer(models[2], module), state


def trained_model(model: onnx.ModelProto, state: Any) -> onnx.ModelProto:
    """A copy of a model with the parameters of a training state: the way out of training, without MiAMix in it.

    ``Module.export_model_for_inferencing`` knows no operators of other domains.

    Parameters
    ----------
    model
        That :func:`training_artifacts` was given.
    state : onnxruntime.training.api.CheckpointState
        Of :func:`load_training`, or loaded from a checkpoint.
    """
    trained = onnx.ModelProto()
    trained.CopyFrom(model)
    for tensor in trained.graph.initializer:
        if tensor.name in state.parameters:
            values = np.asarray(state.parameters[tensor.name].data)
            tensor.CopyFrom(numpy_helper.from_array(values.reshape(tensor.dims), tensor.name))
    return trained


def _training(module: str) -> Any:
    """A module of ``onnxruntime.training``, without torch too."""
    if importlib.util.find_spec("torch") is None:
        # It imports this module for those of its users that have torch, and nothing here needs it.
        name = "onnxruntime.training.optim"
        sys.modules.setdefault(name, types.ModuleType(name))
    try:
        return importlib.import_module(f"onnxruntime.training.{module}")
    except ImportError as error:
        raise ImportError("training needs onnxruntime-training, which PyPI has for CPython 3.8 to 3.11") from error


def _names(graph: onnx.GraphProto) -> set[str]:
    """Every tensor of a graph."""
    names = {name for node in graph.node for name in (*node.input, *node.output)}
    names |= {value.name for value in (*graph.input, *graph.output)}
    return names | {tensor.name for tensor in graph.initializer}


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
