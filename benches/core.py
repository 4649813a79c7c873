"""The operator and its floors: `miamix bench --serve`, in a process of its own."""

import json
import subprocess
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path

from batch import Batch


class Core:
    """The program, which takes a turn when it is asked to."""

    def __init__(self, program: Path):
        command = [str(program), "bench", "--serve"]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        hello = self._read()
        self.machine: dict = hello["machine"]
        self.workloads = {w["name"]: Batch(**w["batch"]) for w in hello["workloads"]}

    def prepare(self, batch: Batch, threads: int, config: dict | None = None) -> None:
        """Makes a batch in place of the last one; `config`: what differs from the default parameters."""
        self._ask({"prepare": {"batch": asdict(batch), "threads": threads, "config": config or {}}})

    def turn(self, contender: str, seconds: float) -> list[float]:
        """As `batch.turn`."""
        return self._ask({"turn": {"contender": contender, "seconds": seconds}})["seconds"]

    def close(self) -> None:
        with suppress(BrokenPipeError):
            self._process.stdin.close()
        self._process.wait()

    def __enter__(self) -> "Core":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _ask(self, request: dict) -> dict:
        # A program that has ended has said why; reading from it tells that it has.
        with suppress(BrokenPipeError):
            print(json.dumps(request), file=self._process.stdin, flush=True)
        return self._read()

    def _read(self) -> dict:
        line = self._process.stdout.readline()
        if not line:
            raise SystemExit(f"miamix bench --serve ended ({self._process.wait()})")
        return json.loads(line)
