"""The operator in ONNX Runtime's CUDA execution provider, against its CPU one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import miamix
import numpy as np
import onnxruntime
from part import Part

PROVIDER = "CUDAExecutionProvider"


def onnx_host(part: Part, models: Path, quick: bool) -> None:
    """One model a type of images and labels; inputs and outputs on the device."""
    available = onnxruntime.get_available_providers()
    part.prose = f"onnxruntime {onnxruntime.__version__}."
    provider, device = (PROVIDER, "cuda") if PROVIDER in available else ("CPUExecutionProvider", "cpu")
    if device == "cpu":
        part.not_run.append(f"{PROVIDER}: onnxruntime {onnxruntime.__version__} here has {', '.join(available)}")
        if not quick:
            return
    rng = np.random.default_rng(0)
    for path in sorted(models.glob("*.onnx")):
        sessions = [_session(path, name) for name in dict.fromkeys([provider, "CPUExecutionProvider"])]
        dtype = {"f32": np.float32, "f16": np.float16, "u8": np.uint8}[path.stem.split("-")[0]]
        is_nhwc, is_soft = "nhwc" in path.stem, "soft" in path.stem
        for n, height, width in [(6, 33, 40), (2, 70, 68)] if quick else [(128, 32, 32), (7, 33, 41), (32, 224, 224)]:
            shape = (n, height, width, 3) if is_nhwc else (n, 3, height, width)
            images, partner_images = (rng.integers(0, 256, shape).astype(dtype) for _ in range(2))
            labels = rng.random((n, 10), np.float32) if is_soft else rng.integers(-1, 10, n)
            for training in (True, False):
                feeds = {
                    "images": images,
                    "partner_images": partner_images,
                    "labels": labels,
                    "seed": np.array(7),
                    "first_sample": np.array(1 << 40),
                    "training_mode": np.array(training),
                }
                results = [_run(session, feeds, on) for session, on in zip(sessions, (device, "cpu"))]
                equal = all(a.tobytes() == b.tobytes() for a, b in zip(results[0], results[-1]))
                part.check(f"{path.stem}, {shape}, training_mode {training}: equal in both providers", equal)
        providers = ", ".join(sessions[0].get_providers())
        part.check(f"{path.stem}: the session has the provider", provider in providers, providers)


def _session(path: Path, provider: str) -> Any:
    options = onnxruntime.SessionOptions()
    options.register_custom_ops_library(miamix.library_path())
    if provider == PROVIDER:
        # The node must not fall back to the CPU unseen.
        options.add_session_config_entry("session.disable_cpu_ep_fallback", "1")
    return onnxruntime.InferenceSession(str(path), options, [provider])


def _run(session: Any, feeds: dict[str, Any], device: str) -> list[Any]:
    binding = session.io_binding()
    for name, value in feeds.items():
        on = device if value.ndim else "cpu"
        binding.bind_ortvalue_input(name, onnxruntime.OrtValue.ortvalue_from_numpy(value, on, 0))
    for output in session.get_outputs():
        binding.bind_output(output.name, device)
    session.run_with_iobinding(binding)
    return [value.numpy() for value in binding.get_outputs()]
