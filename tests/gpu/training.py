"""Mixers on torch tensors, alone and in a training step: MiAMix beside timm, kornia and torchvision."""

from __future__ import annotations

import importlib
import statistics
import time
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

import miamix
from part import Part, Table

N_CLASSES = 10
SLOW_DOWN_TARGET = 1.0

Mixer = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]
Loss = Callable[[Tensor, Tensor], Tensor]


class Block(nn.Module):
    """The basic block of residual networks (He et al., 2016)."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.second = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.norms = nn.ModuleList(nn.BatchNorm2d(outputs) for _ in range(2))
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or inputs != outputs:
            self.shortcut = nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs))

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu(self.norms[0](self.first(x)))
        return F.relu(self.norms[1](self.second(y)) + self.shortcut(x))


def resnet18(width: int) -> nn.Module:
    """ResNet-18 as it is used on CIFAR: a 3×3 stem, no pooling before the blocks."""
    layers: list[nn.Module] = [nn.Conv2d(3, width, 3, 1, 1, bias=False), nn.BatchNorm2d(width), nn.ReLU()]
    channels = width
    for stage in range(4):
        for stride in (1 if stage == 0 else 2, 1):
            layers.append(Block(channels, width << stage, stride))
            channels = width << stage
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, N_CLASSES))


def soft(logits: Tensor, target: Tensor) -> Tensor:
    return F.cross_entropy(logits, target)


def of_pairs(logits: Tensor, target: Tensor) -> Tensor:
    """The loss of kornia's mixup: rows of (label, partner's label, share of the partner)."""
    own, other, share = target[..., 0].long(), target[..., 1].long(), target[..., 2]
    losses = [F.cross_entropy(logits, labels, reduction="none") for labels in (own, other)]
    return ((1 - share) * losses[0] + share * losses[1]).mean()


def of_layered_pairs(logits: Tensor, target: Tensor) -> Tensor:
    """The same of its cutmix, which has an axis of cuts before."""
    return of_pairs(logits, target[0])


def mixers(part: Part, device: torch.device) -> dict[str, tuple[Mixer, Loss]]:
    """What is here and runs, by name; the first mixes nothing."""
    images = torch.rand(4, 3, 32, 32, device=device)
    labels = torch.arange(4, device=device)
    found: dict[str, tuple[Mixer, Loss]] = {"none": (lambda images, labels: (images, labels), soft)}
    found["MiAMix"] = miamix.MiAMix(num_classes=N_CLASSES), soft

    def add(package: str, make: Callable[[Any], dict[str, tuple[Mixer, Loss]]]) -> None:
        try:
            module = importlib.import_module(package)
            name = package.partition(".")[0]
            version = importlib.import_module(name).__version__
            made = make(module)
        except Exception as error:  # whatever a package of others says when it is loaded
            part.not_run.append(f"{package}: {type(error).__name__}: {error}")
            return
        for what, (mixer, loss) in made.items():
            try:
                # As the step calls it: a peer that fails takes no other with it.
                mixed, targets = mixer(images.clone(), labels)
                logits = torch.zeros(len(mixed), N_CLASSES, device=device, requires_grad=True)
                loss(logits, targets).backward()
                if device.type == "cuda":
                    torch.cuda.synchronize()
                found[f"{name} {version} {what}"] = mixer, loss
            except Exception as error:
                part.not_run.append(f"{package} {what}: {type(error).__name__}: {error}")

    def of_timm(data: Any) -> dict[str, tuple[Mixer, Loss]]:
        options = {"label_smoothing": 0.0, "num_classes": N_CLASSES}
        return {
            "mixup": (data.Mixup(mixup_alpha=1.0, **options), soft),
            "cutmix": (data.Mixup(mixup_alpha=0.0, cutmix_alpha=1.0, **options), soft),
        }

    def of_torchvision(v2: Any) -> dict[str, tuple[Mixer, Loss]]:
        return {"mixup": (v2.MixUp(num_classes=N_CLASSES), soft), "cutmix": (v2.CutMix(num_classes=N_CLASSES), soft)}

    def of_kornia(augmentation: Any) -> dict[str, tuple[Mixer, Loss]]:
        keys = ["input", "class"]
        return {
            "mixup": (augmentation.RandomMixUpV2(p=1.0, data_keys=keys), of_pairs),
            "cutmix": (augmentation.RandomCutMixV2(p=1.0, data_keys=keys), of_layered_pairs),
        }

    add("timm.data", of_timm)
    add("torchvision.transforms.v2", of_torchvision)
    add("kornia.augmentation", of_kornia)
    return found


class Timer:
    """Times on the device, and on the clock of the host."""

    def __init__(self, device: torch.device) -> None:
        self.on_device = device.type == "cuda"

    def synchronize(self) -> None:
        if self.on_device:
            torch.cuda.synchronize()

    def ms(self, work: Callable[[], object], times: int) -> tuple[float, float]:
        """Of one run of ``times`` in a row: until the device is done, and until the host is."""
        self.synchronize()
        start = time.perf_counter()
        for _ in range(times):
            work()
        of_host = time.perf_counter() - start
        self.synchronize()
        return (time.perf_counter() - start) / times * 1e3, of_host / times * 1e3

    def is_broken(self) -> bool:
        """Whether the context has met a fault, after which every call fails."""
        try:
            self.synchronize()
        except Exception:  # of a type that torch's versions do not agree on
            return True
        return False

    def text(self, number: float, form: str = ".3f") -> str:
        return f"{number:{form}}" if self.on_device else "–"


def alone(part: Part, device: torch.device, quick: bool) -> None:
    """Each mixer on the same tensors."""
    timer = Timer(device)
    for shape in [(4, 3, 32, 32)] if quick else [(128, 3, 32, 32), (256, 3, 224, 224)]:
        images = torch.randn(shape, device=device)
        labels = torch.arange(shape[0], device=device) % N_CLASSES
        table = part.table(f"mixing {'×'.join(map(str, shape))} float32", "ms", "on the host, ms", "of MiAMix's")
        rows: dict[str, tuple[float, float]] = {}
        for name, (mixer, _) in mixers(part, device).items():
            if name == "none":
                continue
            repeats = 1 if quick else 20
            timer.ms(lambda: mixer(images, labels), repeats)
            turns = [timer.ms(lambda: mixer(images, labels), repeats) for _ in range(1 if quick else 9)]
            rows[name] = tuple(map(statistics.median, zip(*turns)))  # type: ignore[assignment]
        for name, (ms, of_host) in rows.items():
            ratio = ms / rows["MiAMix"][0]
            table.rows.append([name, timer.text(ms), timer.text(of_host), timer.text(ratio, ".2f")])
        part.save()


#: What a step computes in.
PRECISIONS = ("float32, TF32 convolutions", "bfloat16 autocast, channels last")


def steps(part: Part, device: torch.device, precision: str, quick: bool) -> None:
    """A training step of ResNet-18 with each mixer, in turns."""
    n, width = (4, 4) if quick else (128, 64)
    n_steps, n_rounds, n_batches = (1, 1, 2) if quick else (30, 7, 8)
    timer = Timer(device)
    batches = [
        (torch.randn(n, 3, 32, 32, device=device), torch.randint(0, N_CLASSES, (n,), device=device))
        for _ in range(n_batches)
    ]
    is_mixed = precision.startswith("bfloat16")
    form = torch.channels_last if is_mixed else torch.contiguous_format
    torch.manual_seed(0)
    model = resnet18(width).to(device, memory_format=form)
    optimizer = torch.optim.SGD(model.parameters(), 0.05, momentum=0.9, weight_decay=5e-4)
    all_mixers, turn = mixers(part, device), 0

    def step(mixer: Mixer, loss: Loss) -> Tensor:
        nonlocal turn
        turn += 1
        images, labels = batches[turn % n_batches]
        # Some mix in place: a copy, for all of them.
        mixed, targets = mixer(images.clone(memory_format=form), labels)
        with torch.autocast(device.type, torch.bfloat16, enabled=is_mixed):
            value = loss(model(mixed), targets)
        optimizer.zero_grad(set_to_none=True)
        value.backward()
        optimizer.step()
        return value.detach()

    # A loop that leaves the host ahead of the device hides what the host does; one that asks for the loss does not.
    for end in ("", ", .item() of the loss"):
        times: dict[str, list[float]] = {name: [] for name in all_mixers}
        of_host: dict[str, list[float]] = {name: [] for name in all_mixers}
        for round_ in range(n_rounds + 1):
            for name, (mixer, loss) in all_mixers.items():
                ms, host_ms = timer.ms(lambda: step(mixer, loss).item() if end else step(mixer, loss), n_steps)
                if round_ or quick:  # the first warms up
                    times[name].append(ms)
                    of_host[name].append(host_ms)
        what = f"ResNet-18 step, {n}×3×32×32, {precision}{end}"
        table = part.table(what, "ms", "on the host, ms", "slow-down", "between rounds")
        slow_down = tabulate(table, timer, times, of_host)
        if not end:
            target = f"ResNet-18, {precision}: slowed by less than {SLOW_DOWN_TARGET:.0f} %"
            if timer.on_device:
                part.check(target, slow_down < SLOW_DOWN_TARGET, f"{slow_down:+.2f} %")
            else:
                part.not_run.append(f"{target}: torch has no CUDA device")
        part.save()


def tabulate(table: Table, timer: Timer, times: dict[str, list[float]], of_host: dict[str, list[float]]) -> float:
    """Each mixer's rounds beside those without one; MiAMix's slow-down in per cent."""
    medians: dict[str, float] = {}
    for name, all_ms in times.items():
        slow_downs = [100 * (ms / bare - 1) for ms, bare in zip(all_ms, times["none"])]
        medians[name] = statistics.median(slow_downs)
        spread = f"{timer.text(min(slow_downs), '+.2f')} to {timer.text(max(slow_downs), '+.2f')} %"
        percent = f"{timer.text(medians[name], '+.2f')} %"
        both = [timer.text(statistics.median(all_)) for all_ in (all_ms, of_host[name])]
        table.rows.append([name, *both, percent, spread])
    return medians["MiAMix"]


def training(part: Part, quick: bool) -> None:
    """All of it; on the CPU where it is rehearsed."""
    device = torch.device("cpu" if quick else "cuda")
    part.is_broken = Timer(device).is_broken
    part.prose = f"torch {torch.__version__}, medians of rounds in turns."
    torch.backends.cudnn.benchmark = True
    part.section("the bytes of CPU memory", lambda: same_bytes(part, device))
    for precision in PRECISIONS:
        part.section(f"steps, {precision}", lambda: steps(part, device, precision, quick))
    part.section("mixing alone", lambda: alone(part, device, quick))
    part.not_run = list(dict.fromkeys(part.not_run))


def same_bytes(part: Part, device: torch.device) -> None:
    """Torch tensors on the device against those in CPU memory, on the current stream and on another."""
    for dtype in (torch.float32, torch.float16, torch.bfloat16, torch.uint8):
        images = torch.randint(0, 256, (6, 3, 33, 40)).to(dtype)
        labels = torch.arange(6)
        mix = miamix.MiAMix(num_classes=N_CLASSES, p_flip=0.5, pad_px=2)
        expected = mix(images, labels, seed=5, first_sample=0)
        stream = torch.cuda.Stream() if device.type == "cuda" else None
        with torch.cuda.stream(stream):
            got = mix(images.to(device), labels.to(device), seed=5, first_sample=0)
        if stream is not None:
            stream.synchronize()
        equal = all(torch.equal(a, b.cpu()) for a, b in zip(expected, got))
        part.check(f"torch tensors, {str(dtype).removeprefix('torch.')}: the bytes of CPU memory", equal)
