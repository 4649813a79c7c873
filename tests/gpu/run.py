"""Everything of MiAMix that needs a GPU, in one call, and the report of it.

    python3 run.py --out DIR

``cargo xtask gpu pack`` makes the folder that this runs in: it needs Python 3.10 with NumPy and a CUDA driver, and
takes torch, timm, kornia, torchvision, onnxruntime and compute-sanitizer where they are. Each part is a process of its
own, so that a crash or a broken context ends nothing else, and another one goes on with the sections after it. The
report is written again after each, and keeps what other parts have shown before it on the same day, by the same files
and on the same card; what the part under way has found lies in a folder beside it. The exit status is 1 where a check
failed, 2 where a part did not come to its end.
"""

from __future__ import annotations

import argparse
import contextlib
import ctypes
import datetime
import faulthandler
import hashlib
import importlib.util
import json
import math
import os
import platform
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))
CARRIED = HERE / "carried"  # wheels that were missing, unpacked
sys.path.append(str(CARRIED))

from part import Part  # noqa: E402

#: Parts in their order, what matters most first: the title, the seconds that are kept for it, and those that it may take
#: where there is time.
PARTS = {
    "equality": ("The bytes of the CPU engine", 60, 150),
    "graphs": ("Graphs", 20, 40),
    "streams": ("Streams", 20, 40),
    "python": ("Graphs from Python", 30, 60),
    "timings": ("Times", 90, 150),
    "load": ("Loading", 20, 60),
    "memcheck": ("compute-sanitizer memcheck", 50, 90),
    "racecheck": ("compute-sanitizer racecheck", 50, 90),
    "training": ("Training", 110, 200),
    "onnx": ("ONNX Runtime", 30, 60),
    "synccheck": ("compute-sanitizer synccheck", 35, 60),
    "profile": ("Nsight Compute", 0, 60),
    # At the end, as it leaves a broken context behind.
    "faults": ("Errors", 15, 30),
}
SANITIZERS = ("memcheck", "racecheck", "synccheck")
NO_TIME = "no time was left: --only runs it alone, into the same page"
#: What a rehearsal cannot show: what needs hardware, and peers, which are no part of the tests' environment.
NOT_REHEARSED = ("tells no time", "has no CUDA device", "CUDAExecutionProvider: onnxruntime")
NOT_REHEARSED += tuple(f"No module named '{peer}'" for peer in ("timm", "torchvision", "kornia"))
#: Has ``prctl``, and the signal that a process gets when its parent ends.
LIBC, PR_SET_PDEATHSIG = ctypes.CDLL(None), 1
#: compute-sanitizer's exit status where it found something.
FOUND = 9
#: Letters of a log that are kept, from its beginning and from its end.
KEPT_OF_A_LOG = 400_000
NEEDED = {"training": "torch", "onnx": "onnxruntime"}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=HERE / "report", help="folder for the report")
    parser.add_argument("--seconds", type=float, default=570, help="for all parts together [default: 570]")
    parser.add_argument("--only", nargs="+", choices=PARTS, default=list(PARTS), help="these parts alone")
    rehearsal = "a rehearsal on the stand-in driver of tests/cuda, which tells no time"
    parser.add_argument("--without-hardware", action="store_true", help=rehearsal)
    parser.add_argument("--part", help=argparse.SUPPRESS)
    parser.add_argument("--quick", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--tried", type=json.loads, default=[], help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.part:
        run_part(options.part, options.out, options.quick, options.tried)
        return 0
    return run_all(options)


def run_part(name: str, path: Path, quick: bool, tried: list[str]) -> None:
    """One part, in this process; its findings go to a file."""
    faulthandler.enable()
    part = Part(PARTS[name][0] if name in PARTS else name, path, tried=tried)
    if name == "training":
        from training import training

        training(part, quick)
    elif name == "onnx":
        from onnx_host import onnx_host

        onnx_host(part, HERE / "models", quick)
    else:
        import checks
        from driver import Driver
        from planted import planted
        from python_graphs import python_graphs
        from timings import profiled, timings

        driver = Driver()
        part.is_broken = driver.is_broken
        if name.startswith("planted-"):
            planted(driver, name.removeprefix("planted-"))
        elif name == "describe":
            part.prose = json.dumps(driver.description() | {"stand-in": driver.is_stand_in})
        elif name == "sanitized":
            for check in (checks.equality, checks.graphs, checks.streams):
                check(part, driver, True)
        else:
            own = {"timings": timings, "python": python_graphs, "profile": profiled}
            {**vars(checks), **own}[name](part, driver, quick)
    part.finished = True
    part.save()


class Runner:
    """Runs parts as processes; what they print is kept in ``logs``."""

    def __init__(self, folder: Path, quick: bool) -> None:
        self.folder, self.quick = folder, quick
        self.end = math.inf
        self.logs: Path | None = None
        #: The signal that ends it all.
        self.ended_by: signal.Signals | None = None
        self._child: subprocess.Popen[bytes] | None = None
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, self._end)

    def _end(self, number: int, _: object) -> None:
        """What has been found so far is still written."""
        self.ended_by = signal.Signals(number)
        self._kill()

    def _kill(self) -> None:
        if self._child is not None and self._child.returncode is None:
            os.killpg(self._child.pid, signal.SIGKILL)

    def keep(self, name: str, said: str) -> None:
        """Puts a log to those that are kept."""
        if self.logs is not None and said:
            half = KEPT_OF_A_LOG // 2
            if len(said) > 2 * half:
                said = f"{said[:half]}\n…\n{said[-half:]}"
            with self.logs.open("a") as logs:
                logs.write(f"\n──── {name}\n{said}\n")

    def _left(self) -> float:
        return 0 if self.ended_by is not None else self.end - time.monotonic()

    def allow(self, seconds: float) -> None:
        """All runs from here on end within that time."""
        self.end = time.monotonic() + seconds

    def run(
        self, name: str, before: tuple[str, ...] = (), most: float = math.inf, **variables: str
    ) -> tuple[Part, int, str]:
        """What a part found, its exit status and what it printed. Where its process does not come to its end, which it
        says, others go on with the sections that follow. A part for which there is no time is not run.
        """
        part, status, said = self._run(name, [], before, most, variables)
        n_tried = 0
        while not part.finished and len(part.tried) > n_tried and self._left() > 1:
            n_tried = len(part.tried)
            later, later_status, later_said = self._run(name, part.tried, before, most, variables)
            part.join(later)
            status, said = status or later_status, said + later_said
        return part, status, said

    def _run(
        self, name: str, tried: list[str], before: tuple[str, ...], most: float, variables: dict[str, str]
    ) -> tuple[Part, int, str]:
        path, log = self.folder / f"{name}.json", self.folder / f"{name}.log"
        command = [*before, sys.executable, str(HERE / "run.py"), "--part", name, "--out", str(path)]
        command += ["--tried", json.dumps(tried)]
        if self.quick:
            command.append("--quick")
        title = PARTS[name][0] if name in PARTS else name
        limit = min(most, self._left())
        if limit < 1:
            return Part(title, not_run=[NO_TIME], tried=tried), -1, ""
        status = -1
        environment = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1", "MIAMIX_LIBRARY": "", **variables}
        if before:
            environment["MIAMIX_GPU_PATIENCE"] = "600"  # a tool may take its time over the first kernel
        with log.open("w") as output:
            # A session of its own: a tool that runs the program goes with it when it is stopped.
            self._child = subprocess.Popen(
                command,
                env=environment,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                preexec_fn=lambda: LIBC.prctl(PR_SET_PDEATHSIG, signal.SIGKILL),  # also where this process is killed
            )
            try:
                status = self._child.wait(limit)
            except subprocess.TimeoutExpired:
                self._kill()
                # Not even that ends a process at once whose device hangs.
                with contextlib.suppress(subprocess.TimeoutExpired):
                    self._child.wait(5)
                output.write(f"\nstopped after {limit:.0f} s")
        said = log.read_text(errors="replace")
        if self.ended_by is not None:
            said += f"\nended by {self.ended_by.name}"
        self.keep(" ".join([*before[:1], name, *variables.values()]), said)
        part = Part.load(path) if path.exists() else Part(title, tried=tried)
        for written in (path, log):
            written.unlink(missing_ok=True)
        # A tool that found something lets the part end, and says so by its own status.
        if not (part.finished and status in (0, FOUND if before else 0)):
            part.finished = False
            part.check("the part runs to its end", False, f"exit status {status}: …{said[-600:]}")
        return part, status, said


def run_all(options: argparse.Namespace) -> int:
    rehearsed, end = options.without_hardware, time.monotonic() + options.seconds
    install_carried()
    with tempfile.TemporaryDirectory() as folder:
        runner = Runner(Path(folder), rehearsed)
        runner.allow(60)
        described, *_ = runner.run("describe")
        if not described.finished:
            print(described.checks[-1].detail, file=sys.stderr)
            return 1
        about = json.loads(described.prose)
        if about.pop("stand-in") != rehearsed:
            # So that no report of the stand-in is taken for one of hardware.
            which = "real" if rehearsed else "the stand-in"
            print(f"the driver is {which}: see --without-hardware", file=sys.stderr)
            return 1
    options.out.mkdir(parents=True, exist_ok=True)
    today = datetime.datetime.now(datetime.timezone.utc).date().isoformat()
    card = re.sub(r"[^a-z0-9]+", "-", about["card"].lower()).strip("-")
    about |= packed()
    page = options.out / f"{today}-{card}-{about['commit'][:12]}.md"
    whole = Findings(page.with_suffix(".json"), about)
    runner.logs = page.with_suffix(".log")
    if not whole.parts:
        runner.logs.unlink(missing_ok=True)
    # In the report, so that what the part under way has found outlives this process.
    runner.folder = page.with_name(f"{page.stem}-running")
    shutil.rmtree(runner.folder, ignore_errors=True)
    runner.folder.mkdir()
    parts: list[Part] = []
    order = [name for name in PARTS if name in options.only]
    for i, name in enumerate(order):
        title, _, most = PARTS[name]
        print(f"── {title}", flush=True)
        kept = sum(PARTS[later][1] for later in order[i + 1 :])
        runner.allow(min(most, end - time.monotonic() - kept))
        part = one(runner, name)
        parts.append(part)
        for check in part.checks:
            if not check.passed:
                print(f"   FAILED {check.name}: {check.detail}", flush=True)
        print(f"   {summary(part)} ({part.seconds:.1f} s)", flush=True)
        whole.add(name, part)
        page.write_text(report(about, today, whole.parts, rehearsed))
        if runner.ended_by is not None:
            break
    shutil.rmtree(runner.folder, ignore_errors=True)
    print(page)
    if runner.ended_by is not None:
        return 128 + runner.ended_by
    unfinished = [part for part in parts if not part.finished]
    failed = [check for part in parts for check in part.checks if not check.passed]
    unexpected = [why for part in parts for why in part.not_run if not any(text in why for text in NOT_REHEARSED)]
    if unfinished:
        return 2
    if rehearsed and unexpected:
        print("\n".join(["not run, and not for want of hardware:", *unexpected]), file=sys.stderr)
        return 1
    return 1 if failed else 0


def packed() -> dict[str, str]:
    """What is run: the commit, and, as there may be changes, the bytes of all that takes part."""
    digest = hashlib.sha256()
    for path in sorted(path for pattern in ("*.py", "miamix/*", "models/*") for path in HERE.glob(pattern)):
        if path.is_file():
            digest.update(f"{path.relative_to(HERE)} {hashlib.sha256(path.read_bytes()).hexdigest()}\n".encode())
    commit = json.loads((HERE / "about.json").read_text())["commit"]
    return {"commit": commit, "files": digest.hexdigest()[:16]}


class Findings:
    """What each part has shown, by name, in a file beside the page: of the same files on the same card."""

    def __init__(self, path: Path, about: dict[str, str]) -> None:
        self._path, self._about = path, about
        self.parts: dict[str, Part] = {}
        if path.exists():
            earlier: dict[str, Any] = json.loads(path.read_text())
            if earlier["about"] == about:
                self.parts = {name: Part.of(values) for name, values in earlier["parts"].items()}

    def add(self, name: str, part: Part) -> None:
        """In the place of what the part has shown before, unless there was no time for it."""
        if name not in self.parts or NO_TIME not in part.not_run:
            self.parts[name] = part
        values = {name: part.values() for name, part in self.parts.items()}
        new = self._path.with_suffix(".new")
        new.write_text(json.dumps({"about": self._about, "parts": values}, indent=1) + "\n")
        new.replace(self._path)


def one(runner: Runner, name: str) -> Part:
    """A part, however it is run."""
    title = PARTS[name][0]
    missing = NEEDED.get(name)
    if missing and importlib.util.find_spec(missing) is None:
        return Part(title, not_run=[f"there is no {missing}"], finished=True)
    if name in SANITIZERS:
        tool = find_tool("compute-sanitizer")
        if tool is None:
            why = "compute-sanitizer is neither on the PATH nor where CUDA is installed by default"
            return Part(title, not_run=[why], finished=True)
        return sanitized(runner, name, tool)
    if name == "profile":
        return profile(runner, title)
    if name == "load":
        return load(runner, title)
    return runner.run(name)[0]


def find_tool(name: str) -> str | None:
    """A program of the CUDA toolkit."""
    places = ("/usr/local/cuda*/bin", f"/usr/local/cuda*/{name}", "/opt/nvidia/*/*", "/opt/nvidia/*")
    found = (path for place in places for path in sorted(Path("/").glob(f"{place.lstrip('/')}/{name}"), reverse=True))
    return shutil.which(name) or next((str(path) for path in found if os.access(path, os.X_OK)), None)


def profile(runner: Runner, title: str) -> Part:
    """What Nsight Compute sees of the kernels: text among the logs, which decides nothing."""
    tool = find_tool("ncu")
    if tool is None:
        return Part(title, not_run=["there is no ncu"], finished=True)
    # Clocks are left as they are.
    options = ("--clock-control", "none", "--set", "detailed", "--kernel-name", "regex:miamix", "--page", "details")
    options += ("--target-processes", "all")
    part, status, _ = runner.run("profile", (tool, *options))
    seen = Part(title, prose=f"{' '.join(options)}: in the log.", finished=True, seconds=part.seconds)
    if status != 0:
        seen.not_run.append(f"ncu ended with {status}: see the log")
    return seen


def sanitized(runner: Runner, name: str, tool: str) -> Part:
    """The short form of the first parts under a tool of compute-sanitizer, which must find a planted fault before."""
    # What calls of the driver answer is checked by the parts themselves.
    options = ("--tool", name, "--report-api-errors", "no", "--target-processes", "all", "--show-backtrace", "no")
    options += ("--error-exitcode", str(FOUND))

    def look_at(what: str, most: float = math.inf) -> tuple[Part, int, str, list[int]]:
        part, status, log = runner.run(what, (tool, *options), most)
        # "ERROR SUMMARY: 0 errors", "RACECHECK SUMMARY: 1 hazard displayed (1 error, 0 warnings)"
        found = re.findall(r"^=+ (\w+ SUMMARY: ([0-9]+) (?:error|hazard).*)$", log, re.MULTILINE)
        words, counts = "; ".join(line for line, _ in found) or "no summary", [int(count) for _, count in found]
        if any(counts):
            # What the first of them is, the kernel, the place in it and the thread.
            lines = re.findall(r"^=+ +(?!COMPUTE-SANITIZER|\w+ SUMMARY:)(\S.*)$", log, re.MULTILINE)
            words = " / ".join([words, *lines[:6]])
        return part, status, words if counts else f"{words}: …{log[-300:]}", counts

    planted, status, words, counts = look_at(f"planted-{name}", 25)
    if NO_TIME in planted.not_run:
        return Part(PARTS[name][0], not_run=[NO_TIME])
    finds, seconds = any(counts), planted.seconds
    told = f"{words}; exit status {status}"
    part, status, words, counts = look_at("sanitized")
    part.title, part.tables, part.seconds = PARTS[name][0], [], part.seconds + seconds
    part.check("a planted fault is found", finds, told)
    if NO_TIME not in part.not_run:
        is_clean = status == 0 and bool(counts) and not any(counts)
        part.check("nothing is reported", is_clean, f"{words}; exit status {status}")
    return part


def load(runner: Runner, title: str) -> Part:
    """The same part without the driver's cache of compiled kernels, with an empty one, and with what that left."""
    whole = Part(title, finished=True)
    table = whole.table("compile cache", "first call, ms", "second, ms")
    with tempfile.TemporaryDirectory() as cache:
        for state in ("none", "empty", "filled"):
            variables = {"MIAMIX_CUDA_CACHE": state, "CUDA_CACHE_PATH": cache}
            part, *_ = runner.run("load", CUDA_CACHE_DISABLE="1" if state == "none" else "0", **variables)
            whole.checks += part.checks
            whole.finished &= part.finished
            whole.seconds += part.seconds
            whole.not_run += [why for why in part.not_run if why not in whole.not_run]
            table.rows += [row for found in part.tables for row in found.rows]
    return whole


def install_carried() -> None:
    """Unpacks carried wheels of packages that are missing here."""
    for wheel in sorted((HERE / "wheels").glob("*.whl")):
        if importlib.util.find_spec(wheel.name.split("-")[0]) is None:
            command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-index", "--no-deps"]
            subprocess.run([*command, "--target", str(CARRIED), str(wheel)], check=False)
            importlib.invalidate_caches()


def summary(part: Part) -> str:
    if part.not_run and not part.checks and not any(table.rows for table in part.tables):
        return "not run"
    passed = sum(check.passed for check in part.checks)
    words = [f"{passed} passed", f"{len(part.checks) - passed} failed"]
    return ", ".join(words + ([f"{len(part.not_run)} not run"] if part.not_run else []))


def report(about: dict[str, str], today: str, found: dict[str, Part], rehearsed: bool) -> str:
    """The whole page: all parts, also those that nobody has run."""
    parts = [found.get(name, Part(title, not_run=["--only left it out"])) for name, (title, *_) in PARTS.items()]
    facts = {
        "date": today,
        **about,
        "machine": f"{platform.system()} {platform.release()}, {os.cpu_count()} CPU cores",
        "Python": platform.python_version(),
    }
    lines = [f"# {about['card']}, {today}", ""]
    if rehearsed:
        lines += ["A rehearsal on the stand-in driver: no hardware has confirmed anything here.", ""]
    lines += ["<!-- Written by `cargo xtask gpu`. -->", "", "| | |", "|---|---|"]
    lines += [f"| {name} | {value} |" for name, value in facts.items()]
    lines += ["", "| part | |", "|---|---|"]
    lines += [f"| {part.title} | {summary(part)} |" for part in parts]
    for part in parts:
        lines += ["", f"## {part.title}"]
        if part.prose:
            lines += ["", part.prose]
        for table in part.tables:
            lines += ["", row(table.columns), row(["---"] * len(table.columns)), *map(row, table.rows)]
        if part.checks:
            lines += ["", "| check | | |", "|---|---|---|"]
            lines += [row([c.name, "passed" if c.passed else "**failed**", c.detail]) for c in part.checks]
        if part.not_run:
            lines += ["", "Not run:", "", *(f"* {why}" for why in part.not_run)]
    return "\n".join(lines) + "\n"


def row(cells: list[str]) -> str:
    return "| " + " | ".join(" ".join(cell.split()).replace("|", "\\|") for cell in cells) + " |"


if __name__ == "__main__":
    sys.exit(main())
