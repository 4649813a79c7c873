"""The page's plots, as SVG."""

import math
from collections.abc import Sequence
from pathlib import Path

import matplotlib

matplotlib.use("svg")
import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

import results as read

# Equal results give equal files, and text stays text.
STYLE = {
    "svg.hashsalt": "miamix",
    "svg.fonttype": "none",
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
}
OURS, FLOOR, THEIRS = "#c2410c", "#94a3b8", "#1d4ed8"
LINES = (OURS, THEIRS, "#15803d")
AXES = {
    "samples": "samples (3x64x64)",
    "channels": "channels (64 samples, 64x64)",
    "side": "side, pixels (64 samples, 3 channels)",
}


def draw(results: dict, folder: Path) -> dict[str, str]:
    """Writes the plots; their files by name."""
    files = {}
    with plt.rc_context(STYLE):
        for name, figure in (
            ("peers", _peers(results["workloads"])),
            ("methods", _methods(results["methods"])),
            ("scaling", _scaling(results["scaling"])),
        ):
            files[name] = f"cpu-{name}.svg"
            figure.savefig(folder / files[name], metadata={"Date": None, "Creator": None}, bbox_inches="tight")
            plt.close(figure)
    return files


def _peers(workloads: list[dict]) -> Figure:
    """A panel for each workload, a line for each contender, a mark on it for each number of threads."""
    names = read.contenders(workloads)
    by_workload: dict[str, list[dict]] = {}
    for result in workloads:
        by_workload.setdefault(result["workload"], []).append(result)
    figure, panels = plt.subplots(2, 3, figsize=(13, 7), sharey=True, layout="constrained")
    colours = [FLOOR, *(OURS if name == read.OPERATOR else THEIRS for name in names)]
    for panel, (name, of_workload) in zip(panels.flat, by_workload.items()):
        for result in of_workload:
            values = [read.floor_ms(result), *(read.ms(result, contender) or math.nan for contender in names)]
            faces = colours if result["threads"] == 1 else "white"
            panel.scatter(values, range(len(values)), 36, faces, edgecolors=colours, zorder=3 - result["threads"] / 10)
        panel.set(title=f"{name} {read.batch_of(of_workload[0])}", xscale="log", xlabel="ms a batch")
        panel.grid(alpha=0.3)
    panels[0, 0].set_yticks(range(len(names) + 1), ["memory floor", *(read.LABELS.get(name, name) for name in names)])
    panels[0, 0].invert_yaxis()
    figure.suptitle("Median time of a batch: 1 thread (full), 2 threads (hollow); no mark: not taken")
    return figure


def _methods(methods: list[dict]) -> Figure:
    """A group of bars for each kind of layer, a bar for each size."""
    kinds = list(dict.fromkeys(read.what(row) for row in methods))
    sides = list(dict.fromkeys(row["batch"]["height"] for row in methods))
    figure, panels = plt.subplots(1, 2, figsize=(13, 5), sharey=True, layout="constrained")
    for panel, contender, title in zip(panels, ("apply", "masks"), ("mixing, 3 channels", "the mask alone")):
        for i, side in enumerate(sides):
            rows = [row for row in methods if row["batch"]["height"] == side]
            per_pixel = [1e6 * read.ms(row, contender) / row["batch"]["samples"] / side**2 for row in rows]
            places = [place + 0.2 * (i - (len(sides) - 1) / 2) for place in range(len(kinds))]
            panel.barh(places, per_pixel, 0.18, color=plt.cm.viridis(i / len(sides)), label=f"{side}x{side}")
        panel.set(title=title, xlabel="ns a pixel, 1 thread")
        panel.grid(axis="x", alpha=0.3)
    panels[0].set_yticks(range(len(kinds)), kinds)
    panels[0].invert_yaxis()
    panels[1].legend()
    return figure


def _scaling(scaling: list[dict]) -> Figure:
    """A panel for each size that changes: the operator and the floor, a line for each number of threads."""
    figure, panels = plt.subplots(1, len(AXES), figsize=(13, 4), layout="constrained")
    for panel, (axis, label) in zip(panels, AXES.items()):
        _lines(panel, [row for row in scaling if row["axis"] == axis], "height" if axis == "side" else axis)
        panel.set(xlabel=label, ylabel="ms a batch", xscale="log", yscale="log")
        panel.grid(alpha=0.3)
    panels[0].legend()
    return figure


def _lines(panel: Axes, rows: Sequence[dict], size: str) -> None:
    for threads, colour in zip(dict.fromkeys(row["threads"] for row in rows), LINES):
        of_threads = [row for row in rows if row["threads"] == threads]
        sizes = [row["batch"][size] for row in of_threads]
        label = f"{threads} thread{'s' if threads > 1 else ''}"
        panel.plot(sizes, [read.ms(row, read.OPERATOR) for row in of_threads], "o-", ms=3, color=colour, label=label)
        panel.plot(sizes, [read.floor_ms(row) for row in of_threads], "--", color=colour, alpha=0.6)
