"""What a part of the report is made of."""

from __future__ import annotations

import json
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any


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
    finished: bool = False
    seconds: float = 0.0
    _start: float = field(default_factory=time.monotonic, repr=False)

    def check(self, name: str, passed: bool, detail: str = "") -> None:
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
        values = asdict(self)
        values.pop("path"), values.pop("_start")
        return values

    @classmethod
    def load(cls, path: Path) -> Part:
        return cls.of(json.loads(path.read_text()))

    @classmethod
    def of(cls, values: dict[str, Any]) -> Part:
        values["checks"] = [Check(**check) for check in values["checks"]]
        values["tables"] = [Table(**table) for table in values["tables"]]
        return cls(**values)
