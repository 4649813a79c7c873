"""What a part of the report is made of."""

from __future__ import annotations

import faulthandler
import json
import os
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

#: How long one thing may take before it counts as hung; a rehearsal has less.
PATIENCE_S = float(os.environ.get("MIAMIX_GPU_PATIENCE", 30))
#: Of what a check says: the rest is in the log.
MOST_LETTERS = 2000
#: The exit status of a process that ends itself then.
HUNG = 3


@dataclass
class Table:
    columns: list[str]
    rows: list[list[str]] = field(default_factory=list)


@dataclass
class Check:
    """Something that holds or not; ``detail`` says what was seen."""

    name: str
    passed: bool
    detail: str = ""


@dataclass
class Part:
    """The findings of one part, written to a file as they come, so that a crash leaves those before it."""

    title: str
    path: Path | None = None
    prose: str = ""
    checks: list[Check] = field(default_factory=list)
    tables: list[Table] = field(default_factory=list)
    #: Things that could not be done here, with the reason.
    not_run: list[str] = field(default_factory=list)
    #: The sections that were begun, here and in processes before that did not come to their end.
    tried: list[str] = field(default_factory=list)
    finished: bool = False
    seconds: float = 0.0
    #: Whether nothing that follows in this process can succeed.
    is_broken: Callable[[], bool] = field(default=lambda: False, repr=False)
    _start: float = field(default_factory=time.monotonic, repr=False)

    def section(self, name: str, run: Callable[[], None]) -> None:
        """Runs a piece of the part, unless a process before this one has tried it. One that fails takes no other with
        it: what it raises is a check that failed; where it leaves nothing to go on with, this process ends, and the
        next one goes on with the section after it.
        """
        if name in self.tried:
            return
        self.tried.append(name)
        self.save()
        try:
            run()
        except Exception as error:
            traceback.print_exc()
            self.check(f"{name}: to its end", False, f"{type(error).__name__}: {error}")
            if self.is_broken():
                raise

    @contextmanager
    def watched(self, name: str, what: str) -> Iterator[None]:
        """Where what is within hangs, ends this process after it has said so in a check of that name: what a device
        never finishes cannot be given up otherwise.
        """

        def give_up() -> None:
            faulthandler.dump_traceback()
            self.check(name, False, f"{what}: no end after {PATIENCE_S:g} s")
            os._exit(HUNG)

        timer = threading.Timer(PATIENCE_S, give_up)
        timer.daemon = True
        timer.start()
        try:
            yield
        finally:
            timer.cancel()

    def join(self, later: Part) -> None:
        """Adds what the process after this one has found."""
        for table in later.tables:
            own = next((own for own in self.tables if own.columns == table.columns), None)
            if own is None:
                self.tables.append(table)
            else:
                own.rows += table.rows
        for check in later.checks:
            own_check = next((own for own in self.checks if own.name == check.name), None)
            if own_check is None:
                self.checks.append(check)
            else:
                own_check.passed &= check.passed
                own_check.detail = "; ".join(filter(None, (own_check.detail, check.detail)))
        self.not_run += [why for why in later.not_run if why not in self.not_run]
        self.prose, self.tried = later.prose or self.prose, later.tried
        self.finished &= later.finished
        self.seconds += later.seconds

    def check(self, name: str, passed: bool, detail: str = "") -> None:
        if len(detail) > MOST_LETTERS:
            detail = f"{detail[:MOST_LETTERS]}…"
        self.checks.append(Check(name, bool(passed), detail))
        self.save()

    def table(self, *columns: str) -> Table:
        self.tables.append(Table(list(columns)))
        return self.tables[-1]

    def save(self) -> None:
        if self.path is not None:
            self.seconds = time.monotonic() - self._start
            # In one step: whoever is stopped while it writes leaves the file as it was.
            new = self.path.with_suffix(".new")
            new.write_text(json.dumps(self.values()))
            new.replace(self.path)

    def values(self) -> dict[str, Any]:
        """What JSON can hold; :meth:`of` takes it."""
        kept = {field.name for field in fields(self)} - {"path", "is_broken", "_start"}
        values = {name: getattr(self, name) for name in kept}
        return values | {name: [asdict(item) for item in values[name]] for name in ("checks", "tables")}

    @classmethod
    def load(cls, path: Path) -> Part:
        return cls.of(json.loads(path.read_text()))

    @classmethod
    def of(cls, values: dict[str, Any]) -> Part:
        values["checks"] = [Check(**check) for check in values["checks"]]
        values["tables"] = [Table(**table) for table in values["tables"]]
        return cls(**values)
