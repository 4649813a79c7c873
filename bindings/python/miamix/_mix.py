"""The operator, and its plans.

parameters + seed + shape ──> plan ──> masks ──> mixed images, targets
"""

from __future__ import annotations

import copy
import ctypes as C
import functools
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np

from . import _arrays as arrays
from . import _library as lib
from ._parameters import Parameters, from_config, integer, to_config

if TYPE_CHECKING:
    from typing_extensions import Unpack

_BITS = 2**64 - 1


class CudaSizes(NamedTuple):
    """Device memory, in bytes, for any plan that an operator draws for one batch shape."""

    plan: int
    """Of a plan in device memory."""
    workspace: int
    """Of the workspace in which batches, label maps and masks are made under such a plan."""
    backward_workspace: int
    """Of one in which gradients are made, too."""


class MiAMix:
    """Multi-stage mixed-sample augmentation (Liang, Liang, Jia, 2023).

    Called as torchvision's and timm's mixers are::

        mix = miamix.MiAMix(num_classes=10)
        mixed, targets = mix(images, labels)

    Parameters
    ----------
    num_classes : int, optional
        K, needed for soft targets of class ids.
    seed : int
        -2**63 to 2**64 - 1. Equal seeds draw equal plans in every language, on every machine.
    targets : {"soft", "pairs"}
        ``soft``: rows ``[N, K]`` of float32. ``pairs``: ``(labels, labels of the partners, weight)``, for losses that
        want pairs: ``weight[i] * loss(output[i], labels_a[i]) + (1 - weight[i]) * loss(output[i], labels_b[i])``.
    layout : {"NCHW", "NHWC"}
        Order of the axes of images. Strides are free in both: torch's channels_last is ``NCHW``.
    enabled : bool
        False passes images through and makes labels one-hot, without views and smoothing (timm's Mixup goes on
        smoothing when it is switched off; ``p_apply=0`` does so here). May be changed at any time: papers switch mixing
        off for the last epochs.
    n_threads : int
        At most 256; 0: one for each core, or the calling thread alone in a forked worker. It changes no result.
    **parameters
        Those of :class:`Parameters`.

    Raises
    ------
    MiamixError
        With ``status`` and the message of the core; a ``ValueError`` too where an argument is bad.

    Notes
    -----
    Arrays are NumPy's, torch's or anything with ``__dlpack__`` or ``__cuda_array_interface__``, in CPU or CUDA memory,
    of float32, float16, bfloat16 or uint8, with any strides. None is copied, but class ids that are neither int32 nor
    int64. Results are new arrays of the same kind and order in memory; for images in CPU memory that are neither
    NumPy's nor torch's they are NumPy arrays.

    Threads: one operator serves any number of threads, each with ``first_sample`` of its own. The running counter is
    for one thread.
    """

    def __init__(
        self,
        num_classes: int | None = None,
        *,
        seed: int = 0,
        targets: Literal["soft", "pairs"] = "soft",
        layout: Literal["NCHW", "NHWC"] = "NCHW",
        enabled: bool = True,
        n_threads: int = 0,
        **parameters: Unpack[Parameters],
    ) -> None:
        if num_classes is not None:
            num_classes = integer("num_classes", num_classes, 0, 2**31 - 1)
        _check_name("targets", targets, ("soft", "pairs"))
        _check_name("layout", layout, ("NCHW", "NHWC"))
        self.num_classes = num_classes
        self.seed = _seed(seed)
        self.targets = targets
        self.layout = layout
        self.enabled = enabled
        #: Index of the next batch's first sample in a run: the running counter.
        self.next_sample = 0
        self._make(to_config(parameters, n_threads))

    def _make(self, config: lib.Config) -> None:
        self._config = config
        self._op = lib.Handle(lib.op_create, lib.op_free, C.byref(config))

    @property
    def n_threads(self) -> int:
        """As it was given."""
        return int(self._config.n_threads)

    @property
    def parameters(self) -> dict[str, Any]:
        """Every parameter of the operator, by name."""
        return from_config(self._config)

    def _with_threads(self, n_threads: int) -> MiAMix:
        """A copy that takes other threads."""
        other = copy.copy(self)
        other._config.n_threads = n_threads
        other._make(other._config)
        return other

    def __repr__(self) -> str:
        defaults = from_config(to_config({}))
        changed = {name: value for name, value in self.parameters.items() if value != defaults[name]}
        own = {"num_classes": self.num_classes, "seed": self.seed, "targets": self.targets, "layout": self.layout}
        return f"MiAMix({', '.join(f'{name}={value!r}' for name, value in {**own, **changed}.items())})"

    def __call__(
        self,
        images: Any,
        labels: Any = None,
        *,
        partner: Any = None,
        seed: int | None = None,
        first_sample: int | None = None,
        out: Any = None,
    ) -> tuple[Any, Any]:
        """Draw a plan and mix a batch under it.

        Parameters
        ----------
        images : [N, C, H, W], or [N, H, W, C] with layout NHWC
            float32, float16, bfloat16 or uint8; with layout NCHW ``[N, T, C, H, W]`` too. H and W are 1 to 32768
            pixels, N any number.
        labels : [N] integers below ``num_classes``, or [N, K] float32, optional
            A negative id is ignored and gives a row of zeros. With ``targets="pairs"`` anything of N rows.
        partner : as images, optional
            The same batch under a second, independent augmentation; ``images`` serve twice without it.
        seed, first_sample : int, optional
            Together or alone they name the plan: the seed (default: the operator's) and the global index of the
            batch's first sample (default: 0). With neither, the operator's seed and its running counter, which goes
            on by N, are taken.
        out : array, or (array, array), optional
            Where the mixed images, or images and soft targets, go; sharing memory with no input.

        Returns
        -------
        mixed : as images
        targets : [N, K] float32; (labels, labels of the partners, weight [N] float32) for pairs; None without labels

        Raises
        ------
        MiamixError
            Nothing is written and the counter stays where it is.

        In CUDA memory (not yet confirmed on hardware) all arrays of a call are on one device and stream: torch's
        current stream, that of ``__cuda_array_interface__``, else the default stream. The call returns before the
        work is done, and a label that is too large is a row of zeros, of which :func:`check_labels` tells. On a stream
        that is being captured into a graph it is an error: :meth:`plan_on_device` is for that.
        """
        bits, first = self._position(seed, first_sample)
        adopted = arrays.adopt(images, "images")
        if self.enabled:
            result = self._mix(None, bits, first, adopted, labels, partner, out)
        else:
            result = self._pass_through(images, adopted, labels, partner, out)
        if seed is None and first_sample is None:
            self.next_sample = (self.next_sample + arrays.n_samples(adopted)) & _BITS
        return result

    def draw(self, shape: Sequence[int], *, seed: int | None = None, first_sample: int | None = None) -> Plan:
        """Draw every random decision for one batch.

        Parameters
        ----------
        shape : (N, C, H, W) in the order of the layout, (N, T, C, H, W) with layout NCHW, or (N, H, W)
        seed, first_sample : int, optional
            As for a call; with neither the counter is read, and stays where it is.

        Returns
        -------
        Plan
        """
        return self._draw(self._batch_shape(shape), *self._position(seed, first_sample))

    def _draw(self, shape: lib.Shape, seed: int, first: int) -> Plan:
        handle = lib.Handle(lib.plan_draw, lib.plan_free, self._op.address, C.byref(shape), seed, first)
        return Plan(handle, self)

    def _batch_shape(self, shape: Sequence[int]) -> lib.Shape:
        shape, channels_last = tuple(shape), self.layout == "NHWC"
        if len(shape) not in ((3, 4) if channels_last else (3, 4, 5)):
            raise lib.invalid("shape", "must be that of images or (N, H, W)", shape, lib.Status.SHAPE)
        height, width = shape[1:3] if channels_last else shape[-2:]
        return lib.Shape(*(integer("shape", extent, 0, _BITS) for extent in (shape[0], height, width)))

    def cuda_sizes(self, shape: Sequence[int]) -> CudaSizes:
        """Tell how much device memory plans and calls take, for any plan that this operator draws for a batch shape.

        Parameters
        ----------
        shape : as of :meth:`draw`

        Returns
        -------
        CudaSizes
            In bytes.

        Raises
        ------
        MiamixError
            For a shape out of range, and where the library has no CUDA engine. No driver is needed.
        """
        wanted, sizes = self._batch_shape(shape), [C.c_size_t() for _ in CudaSizes._fields]
        lib.cuda_sizes(self._op.address, C.byref(wanted), *map(C.byref, sizes))
        return CudaSizes(*(size.value for size in sizes))

    def plan_on_device(self, images: Any, *, buffer: Any = None, workspace: Any = None) -> DevicePlan:
        """Make room for a plan in CUDA memory, which a captured graph follows.

        Parameters
        ----------
        images : as of :meth:`draw`, in CUDA memory
            A batch of the shape and on the device that the plan is for. Its elements are not looked at.
        buffer : compact array of any elements, optional
            Memory for the plan on the same device, at a multiple of 16 bytes, of ``cuda_sizes(images.shape).plan``
            bytes or more; the plan keeps it. Without it the framework of ``images`` (torch, or one with
            ``__array_namespace__``) makes it.
        workspace : compact array of any elements, or "pool", optional
            Memory that calls under this plan work in, at a multiple of 256 bytes, of ``.workspace`` bytes or more, for
            one stream at a time; it is made as ``buffer`` is. "pool": each call takes its memory from a pool of the
            library's, so that calls on several streams may go on at once; a graph then has nodes that allocate.

        Returns
        -------
        DevicePlan
            Empty: :meth:`DevicePlan.redraw` or :meth:`DevicePlan.upload` comes before anything else.

        Raises
        ------
        MiamixError
            For images or memory elsewhere, and for memory that is too small, read-only or not compact.
        """
        return DevicePlan(self, images, buffer, workspace)

    def state_dict(self) -> dict[str, int]:
        """What a checkpoint keeps: the seed and the running counter."""
        return {"seed": self.seed, "next_sample": self.next_sample}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Go on where :meth:`state_dict` was taken."""
        seed, next_sample = _seed(state["seed"]), integer("next_sample", state["next_sample"], 0, _BITS)
        self.seed, self.next_sample = seed, next_sample

    def __getstate__(self) -> dict[str, Any]:
        state = {name: value for name, value in vars(self).items() if name not in ("_op", "_config")}
        return {**state, "_config": bytes(self._config)}

    def __setstate__(self, state: dict[str, Any]) -> None:
        config = lib.Config.from_buffer_copy(state.pop("_config"))
        vars(self).update(state)
        self._make(config)

    def _position(self, seed: int | None, first_sample: int | None) -> tuple[int, int]:
        if seed is None and first_sample is None:
            return _to_bits(self.seed), self.next_sample
        first = 0 if first_sample is None else integer("first_sample", first_sample, 0, _BITS)
        return _to_bits(self.seed if seed is None else seed), first

    def _mix(
        self, plan: _AnyPlan | None, seed: int, first: int, images: Any, labels: Any, partner: Any, out: Any
    ) -> tuple[Any, Any]:
        """Mix under a plan, or under one that is drawn on the way."""
        channels_last = self.layout == "NHWC"
        place = arrays.place_of(images)
        source = arrays.describe(images, "images", channels_last)
        second = None
        if partner is not None:
            partner = arrays.adopt(partner, "partner", place)
            second = arrays.describe(partner, "partner", channels_last)
        mixed, rows = self._room(images, labels, out)
        room = arrays.adopt(mixed, "out", place)
        target = arrays.describe(room, "out", channels_last, written=True)
        if channels_last:
            self._check_shapes(plan, images, partner, room)
        n = arrays.n_samples(images)
        ids = label_rows = weight = index = None
        k = 0
        if labels is not None and self.targets == "pairs":
            labels = arrays.adopt(labels, "labels", place)
            if isinstance(labels, arrays.Borrowed):
                rule = "must be a NumPy array or a torch tensor where targets are pairs"
                raise lib.invalid("labels", rule, "another array", lib.Status.UNSUPPORTED)
            arrays.check_rows(labels, n)
            weights = arrays.empty(labels, (n,), "float32", "labels")
            # On a CUDA device only the device knows, when its turn comes.
            partners = np.empty(n, np.int64) if place.device is None else arrays.empty(labels, (n,), "int64", "labels")
            weight = arrays.describe(weights, "label_weight", written=True)
            index = arrays.describe(partners, "partner_index", written=True)
        elif labels is not None:
            ids, k, rows = self._soft(labels, rows, place)
            label_rows = arrays.describe(arrays.adopt(rows, "out", place), "out", written=True)
        arguments = (
            C.byref(source),
            None if second is None else C.byref(second),
            None if ids is None else C.byref(ids),
            k,
            C.byref(target),
            None if label_rows is None else C.byref(label_rows),
            None if weight is None else C.byref(weight),
            None if index is None else C.byref(index),
            place.stream,
        )
        with place.current():
            if plan is None:
                lib.mix(self._op.address, seed, first, *arguments)
            else:
                lib.apply(self._op.address, plan._handle.address, *arguments)
        if out is not None:
            arrays.written(mixed, rows)
        if weight is not None:
            return mixed, (labels, arrays.take(labels, partners), weights)
        return mixed, rows

    def _check_shapes(self, plan: _AnyPlan | None, images: Any, partner: Any, out: Any) -> None:
        """What the core would say in its own order of the axes."""
        shape = tuple(images.shape)
        if plan is not None:
            n, height, width = plan.shape
            rule = f"[{n}, {height}, {width}, C], as the plan"
            arrays.check_shape(images, "images", (n, height, width, shape[-1]), rule)
        if partner is not None:
            arrays.check_shape(partner, "partner", shape)
        arrays.check_shape(out, "out", shape)

    def _check(self, images: Any, partner: Any) -> None:
        """Have the core check images, of which it is given no sample: shapes are told here."""
        place, channels_last = arrays.place_of(images), self.layout == "NHWC"
        arrays.describe(images, "images", channels_last)
        arrays.n_samples(images)
        if len(images.shape) not in (4, 5):
            rule = "expected shape [N, C, H, W] or [N, T, C, H, W]"
            raise lib.invalid("images", rule, list(images.shape), lib.Status.SHAPE)
        none = arrays.describe(arrays.none_of(images), "images", channels_last)
        second = None
        if partner is not None:
            partner = arrays.adopt(partner, "partner", place)
            arrays.check_shape(partner, "partner", images.shape)
            second = arrays.describe(arrays.none_of(partner), "partner", channels_last)
        views = C.byref(none), None if second is None else C.byref(second)
        with place.current():
            lib.mix(self._op.address, 0, 0, *views, None, 0, C.byref(none), None, None, None, place.stream)

    def _room(self, images: Any, labels: Any, out: Any) -> tuple[Any, Any]:
        """Where images and rows go; None for rows that are not given."""
        if out is None:
            return arrays.empty_like(images, "out"), None
        if not isinstance(out, (tuple, list)):
            return out, None
        if len(out) != 2 or labels is None or self.targets == "pairs":
            raise lib.invalid("out", "must be an array, or a pair where there are soft targets", f"{len(out)} arrays")
        return out[0], out[1]

    def _soft(self, labels: Any, rows: Any, place: arrays.Place) -> tuple[lib.Tensor, int, Any]:
        """Labels as the library reads them, K, and room for the rows."""
        labels = arrays.widen_ids(arrays.adopt(labels, "labels", place))
        soft = len(labels.shape) == 2
        if not soft and self.num_classes is None:
            raise lib.invalid("num_classes", "must be given where labels are class ids", "none")
        k = self.num_classes or 0
        described = arrays.describe(labels, "labels")
        if rows is None:
            n = arrays.n_samples(labels, "labels")
            rows = arrays.empty(labels, (n, int(labels.shape[1]) if soft else k), "float32", "out")
        return described, k, rows

    def _still(self) -> MiAMix:
        """An operator that mixes nothing, shifts and flips nothing, and smooths no label."""
        return _still(self.num_classes, self.targets, self.layout, self.n_threads)

    def _pass_through(self, images: Any, adopted: Any, labels: Any, partner: Any, out: Any) -> tuple[Any, Any]:
        """Images as they are, and labels of which nothing is mixed: the same rules and errors as in mixing."""
        still = self._still()
        if out is not None:
            return still._mix(None, 0, 0, adopted, labels, partner, out)
        still._check(adopted, partner)
        if labels is None:
            return images, None
        # Labels alone: beside images of one pixel.
        pixels = arrays.empty(adopted, (arrays.n_samples(adopted), 1, 1, 1), "uint8", "out")
        return images, still._mix(None, 0, 0, arrays.adopt(pixels, "images"), labels, None, None)[1]


@functools.lru_cache(maxsize=64)
def _still(num_classes: int | None, targets: Any, layout: Any, n_threads: int) -> MiAMix:
    return MiAMix(num_classes, p_apply=0.0, targets=targets, layout=layout, n_threads=n_threads)


class _AnyPlan:
    """What a plan does wherever it is."""

    def __init__(self, handle: lib.Handle, mix: MiAMix) -> None:
        self._handle = handle
        #: The operator whose number of classes, targets, layout, label smoothing and threads :meth:`apply` uses.
        self.mix = mix

    @property
    def shape(self) -> tuple[int, int, int]:
        """(N, H, W)."""
        shape = lib.Shape()
        lib.plan_shape(self._handle.address, C.byref(shape))
        return shape.samples, shape.height, shape.width

    def apply(self, images: Any, labels: Any = None, *, partner: Any = None, out: Any = None) -> tuple[Any, Any]:
        """Mix a batch under this plan: arguments, result and errors of calling :class:`MiAMix`."""
        adopted = arrays.adopt(images, "images")
        self._check_place(arrays.place_of(adopted))
        return self.mix._mix(self, 0, 0, adopted, labels, partner, out)

    def apply_masks(self, segmentation: Any, *, partner: Any = None, out: Any = None) -> Any:
        """Mix label maps (segmentation) under this plan: the primary's label where the mask is at least 1/2.

        Parameters
        ----------
        segmentation : [N, H, W] integers of 8 to 64 bits, or bool
        partner : as segmentation, optional
            The maps of the second view.
        out : as segmentation, optional
            Where the mixed maps go; sharing memory with no input.

        Returns
        -------
        as segmentation
        """
        segmentation = arrays.adopt(segmentation, "segmentation")
        place = arrays.place_of(segmentation)
        self._check_place(place)
        maps = arrays.describe(segmentation, "segmentation")
        second = None if partner is None else arrays.describe(arrays.adopt(partner, "partner", place), "partner")
        mixed = arrays.empty_like(segmentation, "out") if out is None else out
        room = arrays.describe(arrays.adopt(mixed, "out", place), "out", written=True)
        arguments = C.byref(maps), None if second is None else C.byref(second), C.byref(room), place.stream
        with place.current():
            lib.apply_maps(self.mix._op.address, self._handle.address, *arguments)
        arrays.written(mixed)
        return mixed

    def _render(self, masks: Any) -> Any:
        """The masks, into an array for them."""
        adopted = arrays.adopt(masks, "out")
        place = arrays.place_of(adopted)
        self._check_place(place)
        room = arrays.describe(adopted, "out", written=True)
        with place.current():
            lib.masks(self.mix._op.address, self._handle.address, C.byref(room), None, place.stream)
        arrays.written(masks)
        return masks

    def _check_place(self, place: arrays.Place) -> None:
        """That a call can follow the plan there."""

    def __repr__(self) -> str:
        n, height, width = self.shape
        return f"<miamix.{type(self).__name__} of {n} samples, {height} x {width} px>"


class Plan(_AnyPlan):
    """Every random decision of a batch, as plain data: drawn, stored, read, and applied any number of times.

    :meth:`MiAMix.draw` makes one. Threads: a plan may be shared by any number of threads.
    """

    @classmethod
    def from_json(cls, text: str | bytes, mix: MiAMix | None = None) -> Plan:
        """Read a plan that was stored, or written by hand.

        Parameters
        ----------
        text : str, or its bytes in UTF-8
        mix : MiAMix, optional
            The operator for :meth:`apply`; one with the defaults without it.

        Raises
        ------
        MiamixValueError
            With the sample and the layer that are malformed.
        """
        if not isinstance(text, (str, bytes)):
            raise TypeError(f"text: must be str or bytes, got {type(text).__name__}")
        data = text.encode() if isinstance(text, str) else text
        handle = lib.Handle(lib.plan_from_json, lib.plan_free, data, len(data))
        return cls(handle, MiAMix() if mix is None else mix)

    def to_json(self) -> str:
        """Write the plan; every language reads it."""
        length = C.c_size_t()
        lib.plan_to_json(self._handle.address, None, 0, C.byref(length))
        buffer = C.create_string_buffer(length.value + 1)
        lib.plan_to_json(self._handle.address, buffer, len(buffer), C.byref(length))
        return buffer.value.decode()

    @property
    def partner_index(self) -> np.ndarray[Any, Any]:
        """[N] int64: the sample that each one is mixed with; its own index where it is mixed with itself or not at all."""
        index = np.empty(self.shape[0], np.int64)
        lib.plan_partner_index(self._handle.address, index.ctypes.data, index.size)
        return index

    @property
    def n_layers(self) -> list[int]:
        """Layers of each sample's mask, 0 to 8; 0 where a sample is not mixed."""
        counts, count = [], C.c_uint32()
        for sample in range(self.shape[0]):
            lib.plan_n_layers(self._handle.address, sample, C.byref(count))
            counts.append(count.value)
        return counts

    def masks(self, out: Any = None) -> Any:
        """Render the masks: [N, H, W] float32, 1 keeps the primary pixel (Algorithm 1, stage 3).

        ``out``: where they go, compact.
        """
        return self._render(np.empty(self.shape, np.float32) if out is None else out)

    def label_weight(self) -> np.ndarray[Any, Any]:
        """Render what the primary's own labels weigh: [N] float32 (Eq. 12)."""
        weight = np.empty(self.shape[0], np.float32)
        room = arrays.describe(weight, "label_weight", written=True)
        lib.masks(self.mix._op.address, self._handle.address, None, C.byref(room), None)
        return weight

    def __reduce__(self) -> tuple[Any, ...]:
        return Plan.from_json, (self.to_json(), self.mix)


class DevicePlan(_AnyPlan):
    """A plan in CUDA memory, for batches of one shape: calls under it can be captured into a graph, which in each
    replay follows the plan that was uploaded last.

    :meth:`MiAMix.plan_on_device` makes one::

        plan = mix.plan_on_device(images)
        plan.redraw()  # before the capture, which also loads the kernels
        with torch.cuda.graph(graph):
            mixed, targets = plan.apply(images, labels)
        for batch in batches:
            images.copy_(batch)
            plan.redraw()  # and before each replay
            graph.replay()

    What is captured follows from shapes and parameters alone, and never from what was drawn. It holds addresses: keep
    the plan, images, labels and results as long as the graph.

    Threads: calls may come from several threads, but with a workspace only one at a time, as they share it in the
    order of the stream.

    Attributes
    ----------
    mix : MiAMix
        The operator, of whose settings :meth:`apply` captures the number of classes, targets, layout and label
        smoothing.
    buffer, workspace : arrays in CUDA memory
        As they were given or made; ``workspace`` is None for "pool".
    """

    def __init__(self, mix: MiAMix, images: Any, buffer: Any, workspace: Any, gradients: bool = False) -> None:
        adopted = arrays.adopt(images, "images")
        place = arrays.place_of(adopted)
        if place.device is None:
            raise lib.invalid("images", "must be in CUDA memory", "CPU memory")
        if isinstance(workspace, str) and workspace != "pool":
            raise lib.invalid("workspace", 'must be an array or "pool"', repr(workspace))
        wanted = mix._batch_shape(adopted.shape)
        sizes = mix.cuda_sizes(adopted.shape)
        if buffer is None:
            buffer = arrays.empty(adopted, (sizes.plan,), "uint8", "images", "buffer")
        self._block = arrays.Block(buffer, "buffer", place)
        if workspace is None:
            n_bytes = sizes.backward_workspace if gradients else sizes.workspace
            workspace = arrays.empty(adopted, (n_bytes,), "uint8", "images", "workspace")
        room = None if isinstance(workspace, str) else arrays.Block(workspace, "workspace", place)
        memory = self._block.address, self._block.n_bytes
        memory += (None, 0) if room is None else (room.address, room.n_bytes)
        arguments = mix._op.address, C.byref(wanted), *memory
        super().__init__(lib.Handle(lib.plan_on_device, lib.plan_free, *arguments), mix)
        self.buffer = buffer
        self.workspace = None if room is None else workspace

    def upload(self, plan: Plan) -> None:
        """Write a plan to the device, in one asynchronous copy.

        The copy is on the stream of ``buffer``: torch's current stream, that of ``__cuda_array_interface__``, else the
        default stream. What was put on it before sees the earlier plan, what is put on it later this one. ``plan`` may
        be changed or given up at once.

        Parameters
        ----------
        plan : Plan
            Of the same batch shape, with as many layers as the operator draws at most.

        Raises
        ------
        MiamixError
            Also while the stream is being captured: a graph has no plan in it.
        """
        if not isinstance(plan, Plan):
            raise lib.invalid("plan", "must be a miamix.Plan", type(plan).__name__)
        place = self._block.place()
        with place.current():
            lib.plan_upload(plan._handle.address, self._handle.address, place.stream)
        # A gradient that is still to follow the earlier plan is an error then.
        arrays.written(self.buffer)

    def redraw(self, *, seed: int | None = None, first_sample: int | None = None) -> Plan:
        """Draw a plan, and upload it.

        Where the operator is not ``enabled``, the plan leaves images as they are and gives each sample its own label
        alone; label smoothing is that of the captured call.

        Parameters
        ----------
        seed, first_sample : int, optional
            As for a call of the operator: with neither its running counter is taken, and goes on by N.

        Returns
        -------
        Plan
            What was uploaded.

        Raises
        ------
        MiamixError
            The counter stays where it is.
        """
        shape = lib.Shape(*self.shape)
        drawing = self.mix if self.mix.enabled else self.mix._still()
        plan = drawing._draw(shape, *self.mix._position(seed, first_sample))
        self.upload(plan)
        if seed is None and first_sample is None:
            self.mix.next_sample = (self.mix.next_sample + shape.samples) & _BITS
        return plan

    def masks(self, out: Any = None) -> Any:
        """Render the masks of the plan that was uploaded last: [N, H, W] float32, 1 keeps the primary pixel.

        ``out``: where they go, compact, in CUDA memory; the framework of ``buffer`` makes it.
        """
        return self._render(self._block.empty(self.shape) if out is None else out)

    def _check_place(self, place: arrays.Place) -> None:
        if place.device is not None:
            self._block.check_stream("plan", place)


def check_labels(array: Any) -> None:
    """Tell whether a class id of ``num_classes`` or more was met on a CUDA device since the last check.

    There it gives a row of zeros instead of an error. Does not wait for the device: what is not done yet is told later.

    Parameters
    ----------
    array : any array or tensor on the device; in CPU memory there is nothing to tell

    Raises
    ------
    MiamixValueError
        Once, with the place of such a label in its batch.
    """
    place = arrays.place_of(arrays.adopt(array, "array"))
    if place.device is not None:
        with place.current():
            lib.check_labels(place.stream)


def _to_bits(seed: int) -> int:
    """The 64 bits of a seed; a signed one has the same."""
    return _seed(seed) & _BITS


def _seed(seed: int) -> int:
    return integer("seed", seed, -(2**63), _BITS)


def _check_name(name: str, value: str, names: tuple[str, ...]) -> None:
    if value not in names:
        raise lib.invalid(name, f"must be one of {' '.join(names)}", repr(value))
