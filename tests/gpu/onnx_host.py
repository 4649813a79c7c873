"""The operator in ONNX Runtime's CUDA execution provider, against the library's own CPU engine."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import miamix
import numpy as np
import onnxruntime
from part import Part

PROVIDER = "CUDAExecutionProvider"
SEED, FIRST_SAMPLE, N_CLASSES = 7, 1 << 40, 10


def onnx_host(part: Part, models: Path, quick: bool) -> None:
    """One model for each type of images and of labels; inputs and outputs on the device. A rehearsal has the CPU's."""
    available = onnxruntime.get_available_providers()
    part.prose = f"onnxruntime {onnxruntime.__version__}."
    provider, device = (PROVIDER, "cuda") if PROVIDER in available else ("CPUExecutionProvider", "cpu")
    if device == "cpu":
        part.not_run.append(f"{PROVIDER}: onnxruntime {onnxruntime.__version__} here has {', '.join(available)}")
        if not quick:
            return
    for path in sorted(models.glob("*.onnx")):
        part.section(path.stem, lambda: _model(part, path, provider, device, quick))


def _model(part: Part, path: Path, provider: str, device: str, quick: bool) -> None:
    rng = np.random.default_rng(0)
    dtype, layout, labels_as = path.stem.split("-")
    element = {"f32": np.float32, "f16": np.float16, "u8": np.uint8}[dtype]
    session = _session(path, provider)
    providers = session.get_providers()
    part.check(f"{path.stem}: the session has the provider", provider in providers, ", ".join(providers))
    for n, height, width in [(6, 33, 40), (2, 70, 68)] if quick else [(128, 32, 32), (7, 33, 41), (32, 224, 224)]:
        shape = (n, height, width, 3) if layout == "nhwc" else (n, 3, height, width)
        images, partner = (rng.integers(0, 256, shape).astype(element) for _ in range(2))
        labels = rng.random((n, N_CLASSES), np.float32) if labels_as == "soft" else rng.integers(-1, N_CLASSES, n)
        for training in (True, False):
            feeds = {
                "images": images,
                "partner_images": partner,
                "labels": labels,
                "seed": np.array(SEED),
                "first_sample": np.array(FIRST_SAMPLE),
                "training_mode": np.array(training),
            }
            got = _run(session, feeds, device)
            expected = _expected(layout.upper(), images, partner, labels, training)
            differ = [name for name, value in expected.items() if value.tobytes() != got[name].tobytes()]
            name = f"{path.stem}, {shape}, training_mode {training}: the bytes of the CPU engine"
            part.check(name, not differ, ", ".join(differ))


def _expected(layout: Any, images: Any, partner: Any, labels: Any, training: bool) -> dict[str, Any]:
    # As `xtask/src/gpu.rs` has the models made.
    smoothing = 0.1 if training else 0.0
    mix = miamix.MiAMix(N_CLASSES, layout=layout, label_smoothing=smoothing, p_apply=1.0 if training else 0.0)
    plan = mix.draw(images.shape, seed=SEED, first_sample=FIRST_SAMPLE)
    mixed, rows = plan.apply(images, labels, partner=partner)
    weight, index = plan.label_weight(), plan.partner_index
    return {"mixed_images": mixed, "mixed_labels": rows, "label_weight": weight, "partner_index": index}


def _session(path: Path, provider: str) -> Any:
    options = onnxruntime.SessionOptions()
    options.register_custom_ops_library(miamix.library_path())
    if provider == PROVIDER:
        # The node must not fall back to the CPU unseen.
        options.add_session_config_entry("session.disable_cpu_ep_fallback", "1")
    return onnxruntime.InferenceSession(str(path), options, [provider])


def _run(session: Any, feeds: dict[str, Any], device: str) -> dict[str, Any]:
    binding = session.io_binding()
    for name, value in feeds.items():
        on = device if value.ndim else "cpu"
        binding.bind_ortvalue_input(name, onnxruntime.OrtValue.ortvalue_from_numpy(value, on, 0))
    names = [output.name for output in session.get_outputs()]
    for name in names:
        binding.bind_output(name, device)
    session.run_with_iobinding(binding)
    return {name: value.numpy() for name, value in zip(names, binding.get_outputs())}
