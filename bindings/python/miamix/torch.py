"""MiAMix for torch: a module, an operator with gradients, and what a DataLoader needs.

module ──> miamix::mix ──> the C library          DataLoader ──> Collate ──> miamix.MiAMix
"""

import ctypes as C
import functools
import json
import weakref
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Literal, Protocol

import numpy as np
import torch
from torch.utils.data import (
    BatchSampler,
    DataLoader,
    Dataset,
    RandomSampler,
    SequentialSampler,
    default_collate,
    get_worker_info,
)

from . import _arrays as arrays
from . import _library as lib
from . import _mix
from ._parameters import integer

__all__ = ["Collate", "DevicePlan", "MiAMix", "NumberedBatches", "NumberedDataset", "data_loader", "mix"]


# The operator


@functools.lru_cache(maxsize=64)
def _operator(settings: str, training: bool) -> _mix.MiAMix:
    """The operator of these settings; in evaluation one that mixes nothing and smooths no label."""
    parameters = json.loads(settings)
    if not training:
        parameters = {name: parameters[name] for name in ("num_classes", "layout")} | {"p_apply": 0.0}
    return _mix.MiAMix(**parameters)


def _describe(tensor: torch.Tensor, name: str, nhwc: bool = False) -> lib.Tensor:
    return arrays.describe(tensor.detach(), name, nhwc)


def _scalar(tensor: torch.Tensor, name: str) -> int:
    """The 64 bits of a seed or of a sample's index."""
    if tensor.numel() != 1 or tensor.is_floating_point():
        got = f"{list(tensor.shape)} of {tensor.dtype}"
        raise lib.invalid(name, "must be one integer", got, lib.Status.SHAPE)
    return int(tensor.item()) & (2**64 - 1)


@torch.library.custom_op(
    "miamix::mix",
    mutates_args=(),
    schema="(Tensor images, Tensor? partner_images, Tensor labels, Tensor seed, Tensor first_sample, bool training, "
    "str settings) -> (Tensor, Tensor, Tensor, Tensor)",
)
def mix(
    images: torch.Tensor,
    partner_images: torch.Tensor | None,
    labels: torch.Tensor,
    seed: torch.Tensor,
    first_sample: torch.Tensor,
    training: bool,
    settings: str,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """The operator ``miamix::mix``: ``ai.miamix.MiAMix`` of ONNX for torch, with gradients to both images and to labels
    that are rows.

    Parameters
    ----------
    images : [N, C, H, W] of float32, float16, bfloat16 or uint8, on the CPU or a CUDA device
    partner_images : as images, optional
    labels : [N] integers or [N, K] float32
    seed, first_sample : one integer each, on the CPU (for one on a CUDA device the host waits)
    training : False passes images through and makes labels one-hot, without smoothing
    settings : JSON with ``num_classes``, ``layout`` and the parameters of :class:`miamix.Parameters`

    Returns
    -------
    mixed_images, mixed_labels [N, K] float32, label_weight [N] float32, partner_index [N] int64
    """
    operator = _operator(settings, training)
    position = _scalar(seed, "seed"), _scalar(first_sample, "first_sample")
    return _mixed(lib.mix, operator, position, images, partner_images, labels)


def _mixed(
    call: Any,
    operator: _mix.MiAMix,
    plan: tuple[int, ...],
    images: torch.Tensor,
    partner_images: torch.Tensor | None,
    labels: torch.Tensor,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """The results of ``miamix_mix`` or ``miamix_apply``; ``plan``: what comes between the operator and the images."""
    nhwc = operator.layout == "NHWC"
    labels = arrays.widen_ids(labels)
    results = _results(images, labels, operator.num_classes)
    tensors = [
        _describe(images, "images", nhwc),
        None if partner_images is None else _describe(partner_images, "partner_images", nhwc),
        _describe(labels, "labels"),
        _describe(results[0], "mixed_images", nhwc),
        _describe(results[1], "mixed_labels"),
        _describe(results[2], "label_weight"),
        _describe(results[3], "partner_index"),
    ]
    if nhwc and partner_images is not None:
        arrays.check_shape(partner_images, "partner_images", images.shape)
    source, partner, ids, *outputs = [None if tensor is None else C.byref(tensor) for tensor in tensors]
    place = arrays.place_of(images)
    with place.current():
        call(operator._op.address, *plan, source, partner, ids, operator.num_classes or 0, *outputs, place.stream)
    return results


def _results(
    images: torch.Tensor, labels: torch.Tensor, num_classes: int | None
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """Room for the results."""
    n = images.shape[0]
    if labels.dim() == 2:
        k = labels.shape[1]
    elif num_classes is None:
        raise lib.invalid("num_classes", "must be given where labels are class ids", "none")
    else:
        k = num_classes
    return (
        torch.empty_like(images, requires_grad=False),
        images.new_empty((n, k), dtype=torch.float32),
        images.new_empty(n, dtype=torch.float32),
        images.new_empty(n, dtype=torch.int64),
    )


@mix.register_fake
def _(images, partner_images, labels, seed, first_sample, training, settings):  # type: ignore[no-untyped-def]
    return _results(images, labels, json.loads(settings)["num_classes"])


@torch.library.custom_op(
    "miamix::mix_backward",
    mutates_args=(),
    schema="(Tensor grad_mixed, Tensor seed, Tensor first_sample, bool training, bool two_views, str settings) "
    "-> (Tensor, Tensor)",
)
def _mix_backward(
    grad_mixed: torch.Tensor,
    seed: torch.Tensor,
    first_sample: torch.Tensor,
    training: bool,
    two_views: bool,
    settings: str,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Gradients of the images and of the partner images; of one view the sum of both, and an empty tensor."""
    operator = _operator(settings, training)
    plan = operator.draw(
        grad_mixed.shape, seed=_scalar(seed, "seed"), first_sample=_scalar(first_sample, "first_sample")
    )
    return _unmixed(operator, plan, grad_mixed, two_views)


def _unmixed(
    operator: _mix.MiAMix, plan: _mix.Plan | _mix.DevicePlan, grad_mixed: torch.Tensor, two_views: bool
) -> tuple[torch.Tensor, torch.Tensor]:
    nhwc = operator.layout == "NHWC"
    grad_images, grad_partner = _gradients(grad_mixed, two_views)
    source = _describe(grad_mixed, "grad_mixed", nhwc)
    images = _describe(grad_images, "grad_images", nhwc)
    partner = C.byref(_describe(grad_partner, "grad_partner_images", nhwc)) if two_views else None
    place = arrays.place_of(grad_mixed)
    arguments = C.byref(source), C.byref(images), partner, place.stream
    with place.current():
        lib.backward(operator._op.address, plan._handle.address, *arguments)
    return grad_images, grad_partner


def _gradients(grad_mixed: torch.Tensor, two_views: bool) -> tuple[torch.Tensor, torch.Tensor]:
    return torch.empty_like(grad_mixed), torch.empty_like(grad_mixed) if two_views else grad_mixed.new_empty(0)


@_mix_backward.register_fake
def _(grad_mixed, seed, first_sample, training, two_views, settings):  # type: ignore[no-untyped-def]
    return _gradients(grad_mixed, two_views)


def _setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Any, ...]) -> None:
    _, partner_images, _, seed, first_sample, ctx.training, ctx.settings = inputs
    _, _, label_weight, partner_index = output
    ctx.save_for_backward(seed, first_sample, label_weight, partner_index)
    ctx.two_views = partner_images is not None


def _backward(ctx: Any, grad_mixed: torch.Tensor, grad_labels: torch.Tensor, *_: Any) -> tuple[Any, ...]:
    seed, first_sample, label_weight, partner_index = ctx.saved_tensors
    images = partner = labels = None
    if ctx.needs_input_grad[0] or ctx.needs_input_grad[1]:
        images, partner = _mix_backward(grad_mixed, seed, first_sample, ctx.training, ctx.two_views, ctx.settings)
    if ctx.needs_input_grad[2]:
        labels = _labels_backward(grad_labels, label_weight, partner_index)
    return images, partner if ctx.two_views else None, labels, None, None, None, None


def _labels_backward(
    grad_labels: torch.Tensor, label_weight: torch.Tensor, partner_index: torch.Tensor
) -> torch.Tensor:
    # Row i went into mixed row i by its weight, and into each row whose partner it is by what that one leaves.
    weight = label_weight.detach()[:, None]
    shares = (1 - weight) * grad_labels
    labels = weight * grad_labels
    if labels.is_cuda:
        # index_add's order changes from run to run there; this one sorts the rows first.
        return labels.index_put((partner_index,), shares, accumulate=True)
    return labels.index_add(0, partner_index, shares)


mix.register_autograd(_backward, setup_context=_setup_context)


# The same under a plan in device memory


class DevicePlan(_mix.DevicePlan):
    """A :class:`miamix.DevicePlan` for the plans of a module's run: :meth:`MiAMix.plan_on_device` makes it."""

    def __init__(self, module: "MiAMix", mix: _mix.MiAMix, images: torch.Tensor, memory: dict[str, Any]) -> None:
        super().__init__(mix, images, **memory)
        self._module = module
        #: What the operator knows it by.
        self.number: int = self._handle.address or 0
        _PLANS[self.number] = self

    def redraw(self, *, seed: int | None = None, first_sample: int | None = None) -> _mix.Plan:
        """Draw a plan, and upload it on the current stream.

        In evaluation, and where the module is not ``enabled``, the plan leaves images as they are and gives each sample
        its own label alone; label smoothing is that of the captured call.

        Parameters
        ----------
        seed, first_sample : int, optional
            As for a call of the module: with neither its running counter is taken, and goes on in training.

        Returns
        -------
        miamix.Plan
            What was uploaded.
        """
        module = self._module
        n, counted = self.shape[0], seed is None and first_sample is None
        if counted:
            first_sample = int(module.next_sample) + module.rank * n
        bits = int(module.seed) if seed is None else seed
        mixing = module.training and module.enabled
        drawing = self.mix if mixing else _operator(module.settings, False)
        plan = drawing.draw(self.shape, seed=bits, first_sample=first_sample)
        self.upload(plan)
        if counted and module.training:
            module.next_sample += module.world_size * n
        return plan


#: By their numbers: an operator of torch takes no object.
_PLANS: weakref.WeakValueDictionary[int, DevicePlan] = weakref.WeakValueDictionary()


@torch.library.custom_op(
    "miamix::mix_planned",
    mutates_args=(),
    schema="(Tensor images, Tensor? partner_images, Tensor labels, Tensor plan, int number, str settings) "
    "-> (Tensor, Tensor, Tensor, Tensor)",
)
def _mix_planned(
    images: torch.Tensor,
    partner_images: torch.Tensor | None,
    labels: torch.Tensor,
    plan: torch.Tensor,
    number: int,
    settings: str,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """``miamix::mix`` under what is in ``plan``, the memory of the plan of that number."""
    held = _PLANS[number]  # to the end of the call
    operator = _operator(settings, True)
    if operator.layout == "NHWC":
        operator._check_shapes(held, images, partner_images, images)
    return _mixed(lib.apply, operator, (held.number,), images, partner_images, labels)


@_mix_planned.register_fake
def _(images, partner_images, labels, plan, number, settings):  # type: ignore[no-untyped-def]
    return _results(images, labels, json.loads(settings)["num_classes"])


@torch.library.custom_op(
    "miamix::mix_planned_backward",
    mutates_args=(),
    schema="(Tensor grad_mixed, Tensor plan, int number, bool two_views, str settings) -> (Tensor, Tensor)",
)
def _mix_planned_backward(
    grad_mixed: torch.Tensor, plan: torch.Tensor, number: int, two_views: bool, settings: str
) -> tuple[torch.Tensor, torch.Tensor]:
    return _unmixed(_operator(settings, True), _PLANS[number], grad_mixed, two_views)


@_mix_planned_backward.register_fake
def _(grad_mixed, plan, number, two_views, settings):  # type: ignore[no-untyped-def]
    return _gradients(grad_mixed, two_views)


def _setup_planned_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Any, ...]) -> None:
    _, partner_images, _, plan, ctx.number, ctx.settings = inputs
    _, _, label_weight, partner_index = output
    # What is uploaded before the gradient is an error of autograd's: the memory is not what it was.
    ctx.save_for_backward(plan, label_weight, partner_index)
    ctx.two_views = partner_images is not None
    # The graph of autograd may outlive whoever made the plan.
    ctx.held = _PLANS[ctx.number]


def _planned_backward(ctx: Any, grad_mixed: torch.Tensor, grad_labels: torch.Tensor, *_: Any) -> tuple[Any, ...]:
    plan, label_weight, partner_index = ctx.saved_tensors
    images = partner = labels = None
    if ctx.needs_input_grad[0] or ctx.needs_input_grad[1]:
        images, partner = _mix_planned_backward(grad_mixed, plan, ctx.number, ctx.two_views, ctx.settings)
    if ctx.needs_input_grad[2]:
        labels = _labels_backward(grad_labels, label_weight, partner_index)
    return images, partner if ctx.two_views else None, labels, None, None, None


_mix_planned.register_autograd(_planned_backward, setup_context=_setup_planned_context)


class MiAMix(torch.nn.Module):
    """MiAMix as a module: ``mixed, targets = module(images, labels)``.

    In evaluation, and where not ``enabled``, images pass through and labels become one-hot, as with the ONNX operator.
    Gradients flow to the images, to the partner's, and to labels that are rows. Works under
    ``torch.compile(fullgraph=True)``, and with :mod:`miamix.onnx` under ``torch.onnx.export``.

    Parameters
    ----------
    num_classes, targets, layout, enabled, n_threads, **parameters
        As of :class:`miamix.MiAMix`; ``enabled`` may be changed at any time here, too.
    seed : int
        Equal seeds draw equal plans.
    rank, world_size : int
        Of data-parallel training: the ranks' batches of one step, which are of one size, follow each other in the
        run, so that the ranks differ by their ``first_sample``.

    Attributes
    ----------
    seed, next_sample : one int64
        The bits of the seed, and the running counter. ``state_dict`` keeps both as the module's extra state. They are
        no buffers: they stay on the CPU, where plans are drawn, and data-parallel training must not make one rank's
        those of all, nor broadcast them between CUDA devices.
    """

    seed: torch.Tensor
    next_sample: torch.Tensor

    def __init__(
        self,
        num_classes: int | None = None,
        *,
        seed: int = 0,
        targets: Literal["soft", "pairs"] = "soft",
        layout: Literal["NCHW", "NHWC"] = "NCHW",
        enabled: bool = True,
        rank: int = 0,
        world_size: int = 1,
        n_threads: int = 0,
        **parameters: Any,
    ) -> None:
        super().__init__()
        # Checks everything now, and makes what the operator will look up.
        checked = _mix.MiAMix(num_classes, seed=seed, targets=targets, layout=layout, n_threads=n_threads, **parameters)
        self.targets = targets
        self.enabled = enabled
        self.num_classes = checked.num_classes
        self.world_size = integer("world_size", world_size, 1, 2**31 - 1)
        self.rank = integer("rank", rank, 0, self.world_size - 1)
        of_operator = {"layout": layout, "n_threads": checked.n_threads, **checked.parameters}
        self.settings = json.dumps({"num_classes": checked.num_classes, **of_operator})
        self._settings_without_classes = json.dumps({"num_classes": None, **of_operator})
        bits = checked.seed if checked.seed < 2**63 else checked.seed - 2**64
        self.seed = torch.tensor(bits, dtype=torch.int64, device="cpu")
        self.next_sample = torch.tensor(0, dtype=torch.int64, device="cpu")

    def get_extra_state(self) -> dict[str, int]:
        """What ``state_dict`` keeps: the seed and the running counter."""
        return {"seed": int(self.seed), "next_sample": int(self.next_sample)}

    def set_extra_state(self, state: dict[str, int]) -> None:
        """What ``load_state_dict`` calls."""
        self.seed.fill_(state["seed"])
        self.next_sample.fill_(state["next_sample"])

    def extra_repr(self) -> str:
        return f"num_classes={self.num_classes}, targets={self.targets!r}"

    def plan_on_device(
        self, images: torch.Tensor, *, buffer: Any = None, workspace: Any = None, gradients: bool = False
    ) -> DevicePlan:
        """Make room for a plan in CUDA memory, which a captured graph follows::

            plan = module.plan_on_device(images)
            plan.redraw()  # before the capture, which also loads the kernels
            with torch.cuda.graph(graph):
                mixed, targets = module(images, labels, plan=plan)
                ...  # the rest of the step
            for new_images, new_labels in loader:
                images.copy_(new_images), labels.copy_(new_labels)
                plan.redraw()  # the next plan of the run
                graph.replay()

        Parameters
        ----------
        images : as of a call, on a CUDA device
            A batch of the shape and on the device that the plan is for. Its elements are not looked at.
        buffer, workspace : compact tensor, optional
            As of :meth:`miamix.MiAMix.plan_on_device`; made by torch without.
        gradients : bool
            Make the workspace large enough for gradients of the images, too, which takes N·H·W floats more.

        Returns
        -------
        DevicePlan
            Keep it, images, labels and results as long as the graph.
        """
        memory = {"buffer": buffer, "workspace": workspace, "gradients": gradients}
        return DevicePlan(self, _operator(self.settings, True), images, memory)

    def forward(
        self,
        images: torch.Tensor,
        labels: torch.Tensor | None = None,
        partner: torch.Tensor | None = None,
        seed: torch.Tensor | None = None,
        first_sample: torch.Tensor | None = None,
        plan: DevicePlan | None = None,
    ) -> tuple[torch.Tensor, Any]:
        """Mix a batch.

        Parameters
        ----------
        images : [N, C, H, W] of float32, float16, bfloat16 or uint8, on the CPU or a CUDA device; [N, H, W, C] with
            layout NHWC
        labels : [N] integers or [N, K] float32, optional
            With ``targets="pairs"`` anything of N rows.
        partner : as images, optional
            The same batch under a second, independent augmentation.
        seed, first_sample : one int64, optional
            Together or alone they name the plan (without a seed: the module's; without a first sample: 0). With
            neither the running counter is taken, which goes on in training.
        plan : DevicePlan, optional
            In the place of seed and first sample: the plan that was uploaded last is followed, whether the module is
            in training and ``enabled`` or not. Such a call can be captured into a CUDA graph.

        Returns
        -------
        mixed : as images
        targets : [N, K] float32; (labels, labels of the partners, weight [N]) for pairs; None without labels

        Raises
        ------
        MiamixError
            The counter stays where it is.
        """
        for name, value in (("seed", seed), ("first_sample", first_sample)):
            if isinstance(value, (int, np.integer)):
                raise TypeError(f"{name}: must be a tensor of one int64, got {value!r}")
        n = images.shape[0]
        if plan is not None and not (seed is None and first_sample is None):
            raise lib.invalid("plan", "must come without seed and first_sample", "both")
        counted = plan is None and seed is None and first_sample is None
        if plan is None and first_sample is None:
            first_sample = self.next_sample + self.rank * n if counted else torch.zeros_like(self.next_sample)
        pairs = self.targets == "pairs"
        if pairs and labels is not None:
            arrays.check_rows(labels, n)
        if labels is None or pairs:
            rows, settings = images.new_zeros((n, 0), dtype=torch.float32), self._settings_without_classes
        else:
            rows, settings = labels, self.settings
        if plan is not None:
            if not isinstance(plan, DevicePlan):
                raise lib.invalid("plan", "must be one of plan_on_device of a module", type(plan).__name__)
            results = _mix_planned(images, partner, rows, plan.buffer, plan.number, settings)
        else:
            training = self.training and self.enabled
            bits = self.seed if seed is None else seed
            results = mix(images, partner, rows, bits, first_sample, training, settings)
        mixed, mixed_labels, weight, index = results
        if counted and self.training:
            self.next_sample += self.world_size * n
        if labels is None:
            return mixed, None
        return mixed, (labels, labels[index], weight) if pairs else mixed_labels


# Data loading


class _Numbered(list[Any]):
    """A list with the global index of its first sample, and how the mixer of the main process stood."""

    def __init__(self, items: Iterable[Any] = (), first_sample: int = 0, **mixer: Any) -> None:
        super().__init__(items)
        self.first_sample = first_sample
        #: ``seed`` and ``enabled``, or nothing.
        self.mixer = mixer


class NumberedBatches(torch.utils.data.Sampler[list[int]]):
    """A batch sampler that numbers the samples of a run, so that any number of workers gives the same batches.

    Parameters
    ----------
    batches : iterable of lists of indices
        A ``BatchSampler``, for instance.
    rank, world_size : int
        Of data-parallel training: the ranks' batches of one step follow each other in the run.
    mix : miamix.MiAMix, optional
        That of :class:`Collate`: each batch takes its ``seed`` and ``enabled`` along, so that a change in the main
        process reaches workers that are already there. Without it they have those that they began with.

    Attributes
    ----------
    next_sample : int
        The number of the next sample of the run; a checkpoint at the end of an epoch keeps it. In the middle of an
        epoch it counts the batches that workers have been given ahead, too.
    """

    def __init__(
        self,
        batches: Iterable[list[int]],
        *,
        rank: int = 0,
        world_size: int = 1,
        mix: _mix.MiAMix | None = None,
    ) -> None:
        self.batches = batches
        self.mix = mix
        self.world_size = integer("world_size", world_size, 1, 2**31 - 1)
        self.rank = integer("rank", rank, 0, self.world_size - 1)
        self.next_sample = 0

    def __iter__(self) -> Iterator[list[int]]:
        for indices in self.batches:
            n = len(indices)
            first_sample = self.next_sample + self.rank * n
            self.next_sample += self.world_size * n
            mixer = {} if self.mix is None else {"seed": self.mix.seed, "enabled": self.mix.enabled}
            yield _Numbered(indices, first_sample, **mixer)

    def __len__(self) -> int:
        return len(self.batches)  # type: ignore[arg-type]

    def set_epoch(self, epoch: int) -> None:
        """Tell the sampler of the indices, where it wants to know (``DistributedSampler``)."""
        sampler = getattr(self.batches, "sampler", self.batches)
        if hasattr(sampler, "set_epoch"):
            sampler.set_epoch(epoch)


class _Map(Protocol):
    def __getitem__(self, index: int) -> Any: ...

    def __len__(self) -> int: ...


class NumberedDataset(Dataset[Any]):
    """A dataset that hands on the number of a batch from :class:`NumberedBatches` to :class:`Collate`."""

    def __init__(self, dataset: _Map) -> None:
        self.dataset = dataset

    def __getitem__(self, index: int) -> Any:
        return self.dataset[index]

    def __getitems__(self, indices: list[int]) -> list[Any]:
        fetch = getattr(self.dataset, "__getitems__", None)
        items = fetch(list(indices)) if fetch is not None else [self.dataset[index] for index in indices]
        return _Numbered(items, indices.first_sample, **indices.mixer) if isinstance(indices, _Numbered) else items

    def __len__(self) -> int:
        return len(self.dataset)


class Collate:
    """A ``collate_fn`` that mixes: ``(mixed, targets)`` of samples ``(image, label)``, or ``((view, view), label)``.

    Batches come from a :class:`NumberedDataset` under a :class:`NumberedBatches`; :func:`data_loader` sets up both.

    Parameters
    ----------
    mix : miamix.MiAMix
        In a worker it takes one thread where its ``n_threads`` is 0, as the workers share the cores.
    collate : callable
        Makes tensors of a list of samples.
    """

    def __init__(self, mix: _mix.MiAMix, collate: Callable[[list[Any]], Any] = default_collate) -> None:
        self.mix = mix
        self.collate = collate

    def __call__(self, batch: list[Any]) -> tuple[Any, Any]:
        if not isinstance(batch, _Numbered):
            rule = "must come from NumberedDataset under NumberedBatches (miamix.torch.data_loader)"
            raise lib.invalid("batch", rule, type(batch).__name__)
        images, labels = self.collate(list(batch))
        partner = None
        if isinstance(images, (list, tuple)):
            images, partner = images
        if get_worker_info() is not None and self.mix.n_threads == 0:
            self.mix = self.mix._with_threads(1)
        for name, value in batch.mixer.items():
            setattr(self.mix, name, value)
        return self.mix(images, labels, partner=partner, first_sample=batch.first_sample)


def data_loader(
    dataset: _Map,
    mix: _mix.MiAMix,
    *,
    batch_size: int = 1,
    shuffle: bool = False,
    sampler: Any = None,
    drop_last: bool = False,
    batch_sampler: Iterable[list[int]] | None = None,
    rank: int = 0,
    world_size: int = 1,
    collate: Callable[[list[Any]], Any] = default_collate,
    **options: Any,
) -> DataLoader[Any]:
    """A ``DataLoader`` whose workers mix; their number and kind change nothing.

    ``mix.enabled`` and ``mix.seed`` may be changed between epochs, with ``persistent_workers`` too. The counter is
    ``loader.batch_sampler.next_sample``.

    Arguments are those of ``DataLoader``, and those of :class:`NumberedBatches` and :class:`Collate`.

    Raises
    ------
    MiamixValueError
        For a sampler beside ``shuffle``, and a batch sampler beside what makes batches.
    """
    if not isinstance(mix, _mix.MiAMix):
        raise TypeError(f"mix: must be a miamix.MiAMix, got {type(mix).__module__}.{type(mix).__name__}")
    if sampler is not None and shuffle:
        raise lib.invalid("shuffle", "must be False beside a sampler", shuffle)
    if batch_sampler is not None:
        for name, value, is_given in (
            ("batch_size", batch_size, batch_size != 1),
            ("shuffle", shuffle, shuffle),
            ("sampler", sampler, sampler is not None),
            ("drop_last", drop_last, drop_last),
        ):
            if is_given:
                raise lib.invalid(name, "must not come beside a batch_sampler", value)
    else:
        if sampler is None:
            given = {"generator": options["generator"]} if "generator" in options else {}
            sampler = RandomSampler(dataset, **given) if shuffle else SequentialSampler(dataset)
        batch_sampler = BatchSampler(sampler, batch_size, drop_last)
    numbered = NumberedBatches(batch_sampler, rank=rank, world_size=world_size, mix=mix)
    return DataLoader(NumberedDataset(dataset), batch_sampler=numbered, collate_fn=Collate(mix, collate), **options)
