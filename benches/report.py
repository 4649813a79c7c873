"""The page: what was measured, in Markdown."""

from collections.abc import Sequence

import results as read
from batch import Batch


def page(results: dict, pictures: dict[str, str]) -> str:
    """The whole page; `pictures`: the files of the plots by their name."""
    parts = [
        "# Speed on the CPU",
        "Written by `cargo xtask bench`; run it for your machine's numbers.",
        _setting(results),
        "## What to expect",
        _expectations(results["workloads"]),
        f"![Operator, floor and peers on each workload]({pictures['peers']})",
        "## Beside the memory floor",
        "The floor is a plain blend of the same batch, of the same element type and by the same threads, under masks "
        "that lie ready in memory; the faster of plain and streaming stores counts. "
        "GB/s: two batches read and one written.",
        _floors(results["workloads"]),
        "## Beside what else there is",
        _peer_notes(),
        *_peer_tables(results["workloads"]),
        "## Element types and layouts",
        _layouts(results["layouts"]),
        "## Methods",
        "One layer of one method for each sample, float32, 3 channels, one thread: µs an image (ns a pixel). "
        "The first table is mixing under a plan, mask and blend and labels; the second is rendering the mask into "
        "memory and weighing it.",
        f"![Time of each method by size]({pictures['methods']})",
        _methods(results["methods"], "apply"),
        _methods(results["methods"], "masks"),
        "## The plan",
        _plans(results["plans"]),
        "## How it grows",
        "Around 64x3x64x64 float32, one size at a time; dashed: the floor.",
        f"![Time by samples, channels and side]({pictures['scaling']})",
        _scaling(results["scaling"]),
    ]
    return "\n\n".join(parts) + "\n"


def _setting(results: dict) -> str:
    machine, versions = results["machine"], results["versions"]
    cache = f", last-level cache {machine['cache']}" if machine["cache"] else ""
    lines = [
        f"{machine['cpu']}, {machine['cores']} cores{cache}, SIMD {machine['simd']}, {machine['system']}",
        f"miamix {machine['miamix']}, {machine['rustc']}",
        ", ".join(f"{name} {number}" for name, number in versions.items()),
    ]
    how = (
        "All contenders of a workload take turns, in rounds of changing order, on batches of the same size and with "
        "the same number of threads. A turn begins with a call that does not count. Times are ms a batch unless said "
        "otherwise: the median of all counted calls, and their quartiles. The operator draws a new plan and mixes "
        "images and labels into buffers that are used again."
    )
    if results["quick"]:
        how += " **A first look: one short turn each, so that these numbers say little.**"
    return "  \n".join(lines) + "\n\n" + how


def _expectations(workloads: list[dict]) -> str:
    rows = []
    for result in workloads:
        operator, batch = read.ms(result, read.OPERATOR), read.batch_of(result)
        ratios = [read.first_ms(result, names) for names in (read.MIXUP_OF_TIMM, (read.IN_PYTORCH,), (read.IN_NUMPY,))]
        rows.append([
            _name(result), str(result["threads"]), _number(operator), f"{1e3 * batch.samples / operator:.0f}",
            f"{operator / read.floor_ms(result):.2f}", *(_number(r / operator) if r else "–" for r in ratios),
        ])  # fmt: skip
    heads = ["workload", "threads", "ms", "images/s", "time over the floor"]
    heads += [f"speed over {name}" for name in ("timm's mixup", "MiAMix in batched PyTorch", "MiAMix in NumPy")]
    note = (
        "\n\nSpeed over another: its time divided by ours. Timm's mixup has one λ a batch and no masks; of bytes it is "
        "FastCollateMixup. NumPy works on one thread."
    )
    return _table(heads, rows, left=1) + note


def _floors(workloads: list[dict]) -> str:
    heads = ["workload", "threads", *(read.LABELS[name] for name in _CORE), "operator / floor", "GB/s"]
    rows = [
        [
            _name(result), str(result["threads"]), *(_times(result, name) for name in _CORE),
            f"{read.ms(result, read.OPERATOR) / read.floor_ms(result):.2f}",
            f"{3 * _bytes(read.batch_of(result)) / read.ms(result, read.OPERATOR) / 1e6:.1f}",
        ]
        for result in workloads
    ]  # fmt: skip
    return _table(heads, rows, left=1)


_CORE = (read.OPERATOR, read.PLAIN, read.STREAMING, read.MEMCPY)


def _peer_notes() -> str:
    return "\n".join([
        "* MiAMix in batched PyTorch and in NumPy (`benches/peers`) are the same operator, written as a skilled user "
        "would; before anything is measured their masks, pixels and draws are compared with `tests/reference`. "
        "PyTorch blends bfloat16 under masks rounded to bfloat16.",
        "* MiAMix in ONNX Runtime is this library in a session that allocates its outputs.",
        "* timm and torchvision mix a whole batch under one λ, timm in place; kornia draws a λ a sample. "
        "All mix by one layer: a box, or no mask at all.",
        "* Timm's FastCollateMixup takes single images and makes the batch of them.",
    ])  # fmt: skip


def _peer_tables(workloads: list[dict]) -> list[str]:
    """A table for each number of threads; what a contender does not take is said below."""
    notes: dict[str, int] = {}
    tables = []
    for threads in dict.fromkeys(result["threads"] for result in workloads):
        of_threads = [result for result in workloads if result["threads"] == threads]

        def cell(result: dict, contender: str) -> str:
            if contender in result["refused"]:
                number = notes.setdefault(result["refused"][contender], len(notes) + 1)
                return f"no ({number})"
            return _times(result, contender)

        rows = [
            [read.LABELS.get(name, name), *(cell(result, name) for result in of_threads)]
            for name in read.contenders(of_threads)
        ]
        tables.append(_table([_threads(threads), *(result["workload"] for result in of_threads)], rows, left=1))
    return [*tables, "  \n".join(f"({number}) {note}" for note, number in notes.items())]


def _layouts(layouts: list[dict]) -> str:
    threads = list(dict.fromkeys(result["threads"] for result in layouts))
    by_batch: dict[Batch, list[dict]] = {}
    for result in layouts:
        by_batch.setdefault(read.batch_of(result), []).append(result)
    heads = ["batch"] + [f"{what}, {_threads(n)}" for n in threads for what in ("operator", "floor", "ratio")]
    rows = []
    for batch, of_batch in by_batch.items():
        cells = []
        for result in of_batch:
            operator, floor = read.ms(result, read.OPERATOR), read.floor_ms(result)
            cells += [_times(result, read.OPERATOR), _number(floor), f"{operator / floor:.2f}"]
        rows.append([str(batch), *cells])
    return _table(heads, rows, left=1)


def _methods(methods: list[dict], contender: str) -> str:
    sides = list(dict.fromkeys(row["batch"]["height"] for row in methods))
    cells: dict[str, list[str]] = {}
    for row in methods:
        batch = read.batch_of(row)
        us = 1e3 * read.ms(row, contender) / batch.samples
        cells.setdefault(read.what(row), []).append(f"{_number(us)} ({_number(1e3 * us / batch.height / batch.width)})")
    first = {"apply": "mixing", "masks": "the mask alone"}[contender]
    return _table([first, *(f"{side}x{side}" for side in sides)], [[name, *of] for name, of in cells.items()], left=1)


def _plans(plans: list[dict]) -> str:
    rows = []
    for row in plans:
        us, samples = 1e3 * read.ms(row, "draw"), row["batch"]["samples"]
        rows.append([str(samples), _number(us), _number(1e3 * us / samples)])
    return _table(["samples", "µs a plan", "ns a sample"], rows, left=0)


def _scaling(scaling: list[dict]) -> str:
    rows: dict[tuple, list[str]] = {}
    for row in scaling:
        batch, operator = read.batch_of(row), read.ms(row, read.OPERATOR)
        cells = [_times(row, read.OPERATOR), _number(1e6 * operator / batch.elements)]
        rows.setdefault((row["axis"], str(batch)), []).extend([*cells, f"{operator / read.floor_ms(row):.2f}"])
    threads = dict.fromkeys(row["threads"] for row in scaling)
    heads = ["what changes", "batch"]
    heads += [f"{what}, {_threads(n)}" for n in threads for what in ("ms", "ns an element", "time over the floor")]
    return _table(heads, [[*key, *cells] for key, cells in rows.items()], left=2)


def _table(heads: Sequence[str], rows: Sequence[Sequence[str]], left: int) -> str:
    """The first `left` columns are text, the others numbers."""
    rule = ["---"] * left + ["--:"] * (len(heads) - left)
    return "\n".join("| " + " | ".join(row) + " |" for row in (heads, *rows)).replace(
        "\n", "\n|" + "|".join(rule) + "|\n", 1
    )


def _name(result: dict) -> str:
    return f"{result['workload']} {read.batch_of(result)}"


def _threads(number: int) -> str:
    return f"{number} thread{'s' if number > 1 else ''}"


def _bytes(batch: Batch) -> int:
    return batch.elements * {"float32": 4, "float16": 2, "bfloat16": 2, "uint8": 1}[batch.dtype]


def _times(result: dict, contender: str) -> str:
    """Median and quartiles, ms."""
    times = result["times"][contender]
    low, high = (_number(1e3 * quartile) for quartile in times["quartiles"])
    return f"{_number(1e3 * times['median'])} ({low}–{high})"


def _number(value: float) -> str:
    """Three digits that count."""
    decimals = next((d for d, least in ((0, 99.95), (1, 9.995), (2, 0.9995)) if value >= least), 3)
    return f"{value:.{decimals}f}"
