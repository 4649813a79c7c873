"""The operator, its floors and its peers on this machine: they take turns, on the same batches and threads.

    python bench.py --program miamix --library libmiamix.so --results cpu.json --out FOLDER

Writes `cpu.md` and its plots, from results that it keeps for `--redraw`.  `cargo xtask bench` runs this file.
"""

import argparse
import json
import os
import platform
import sys
import time
from importlib.metadata import version
from pathlib import Path

# NumPy's own threads have no part in this; PyTorch's number is set for each workload.
os.environ["OPENBLAS_NUM_THREADS"] = "1"

import plots
import report

PACKAGES = ("torch", "torchvision", "timm", "kornia", "numpy", "scipy", "onnxruntime")


def measure(program: Path, library: Path, quick: bool) -> dict:
    """Every section, as plain data."""
    import torch

    import sections
    from core import Core
    from peers.check import check
    from turns import Pace

    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else None
    if load is not None and load > 0.25 * (os.cpu_count() or 1):
        print(f"  warning: the machine is busy (load {load:.1f}): times will spread", file=sys.stderr)
    start = time.perf_counter()
    torch.set_grad_enabled(False)
    print("  the peers are held to the reference", file=sys.stderr, flush=True)
    check()
    beside_peers = Pace(turn=0.005, rounds=1, seconds=0.0) if quick else Pace(turn=0.04, rounds=5, seconds=8.0)
    alone = Pace(turn=0.005, rounds=1, seconds=0.0) if quick else Pace(turn=0.03, rounds=5, seconds=0.0)
    with Core(program) as core:
        results = {
            "machine": core.machine,
            "versions": {"Python": platform.python_version(), **{name: version(name) for name in PACKAGES}},
            "quick": quick,
            "workloads": sections.workloads(core, beside_peers, library, program),
            "layouts": sections.layouts(core, alone),
            "methods": sections.methods(core, alone),
            "plans": sections.plans(core, alone),
            "scaling": sections.scaling(core, alone),
        }
    return {**results, "minutes": (time.perf_counter() - start) / 60}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--program", type=Path, required=True, help="path of the miamix program")
    parser.add_argument("--library", type=Path, required=True, help="path of libmiamix")
    parser.add_argument("--results", type=Path, required=True, help="file that keeps what was measured")
    parser.add_argument("--out", type=Path, required=True, help="folder for the page and its plots")
    parser.add_argument("--quick", action="store_true", help="one short turn each: a first look")
    parser.add_argument("--redraw", action="store_true", help="measure nothing, show the results again")
    args = parser.parse_args()
    if not args.redraw:
        keep(args.results, json.dumps(measure(args.program, args.library, args.quick), indent=1))
    results = json.loads(args.results.read_text())
    args.out.mkdir(parents=True, exist_ok=True)
    pictures = plots.draw(results, args.out)
    (args.out / "cpu.md").write_text(report.page(results, pictures))


def keep(path: Path, text: str) -> None:
    """Writes a file in one step."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".partial")
    partial.write_text(text)
    partial.replace(path)


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        raise SystemExit(130) from None
