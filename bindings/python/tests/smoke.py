"""The installed wheel on a bare Python: nothing but NumPy beside it."""

import importlib.metadata
import importlib.util
import json
import os
import sys
from pathlib import Path

import miamix
import numpy as np

VECTORS = Path(__file__).resolve().parents[3] / "tests" / "vectors"


def main():
    installed = Path(miamix.__file__).resolve()
    assert Path(sys.prefix).resolve() in installed.parents, installed
    assert os.path.dirname(miamix.library_path()) == str(installed.parent)
    assert importlib.metadata.version("miamix") == miamix.__version__
    assert (installed.parent / "py.typed").is_file() and (installed.parent / "LICENSE-MIT").is_file()
    assert all(importlib.util.find_spec(name) is None for name in ("torch", "onnx", "matplotlib", "ml_dtypes"))
    cases = json.loads((VECTORS / "draws.json").read_text(encoding="utf-8"))
    for case in cases:
        plan = miamix.MiAMix(**case["config"]).draw(
            case["shape"], seed=int(case["seed"]), first_sample=int(case["first_sample"])
        )
        assert json.loads(plan.to_json()) == case["plan"], case["name"]
    mix = miamix.MiAMix(num_classes=10)
    images = np.random.default_rng(0).random((9, 3, 32, 32), np.float32)
    mixed, targets = mix(images, np.arange(9), seed=1)
    plan = mix.draw(images.shape, seed=1)
    mask = plan.masks()[:, None]
    # A product and a fused product, each rounded once, of numbers below 1; float64 has neither error.
    exact = mask.astype(np.float64) * images + (1 - mask.astype(np.float64)) * images[plan.partner_index]
    assert np.abs(mixed - exact).max() <= 3 * 2.0**-25
    assert targets.shape == (9, 10) and np.allclose(targets.sum(axis=1), 1)
    print(
        f"CPython {sys.version.split()[0]}, NumPy {np.__version__}: {installed.parent.name} {miamix.__version__},",
        end=" ",
    )
    print(f"{len(cases)} plans as the reference draws them")


main()
