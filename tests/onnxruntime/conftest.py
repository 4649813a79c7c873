"""Where the library, the program, the cases and the reference are."""

import os
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "reference"))


def pytest_configure():
    if not os.path.isfile(os.environ.get("MIAMIX_LIBRARY", "")):
        pytest.exit("MIAMIX_LIBRARY must be the path of libmiamix: `cargo xtask test` sets it", 1)
    if not os.path.isdir(os.environ.get("MIAMIX_CASES", "")):
        pytest.exit("MIAMIX_CASES must be the folder of cases: `cargo xtask test` sets it", 1)
    program = os.environ.get("MIAMIX_PROGRAM")
    if program is None and os.environ.get("CI"):
        pytest.exit("MIAMIX_PROGRAM is not set, and where CI is set every test must run", 1)
    if program is not None and not os.path.isfile(program):
        pytest.exit("MIAMIX_PROGRAM must be the path of miamix: `cargo xtask test` sets it", 1)


def pytest_terminal_summary(terminalreporter):
    if "MIAMIX_PROGRAM" not in os.environ:
        note = "NOT RUN: the tests of models that the program writes. MIAMIX_PROGRAM must be its path"
        terminalreporter.write_line(note, yellow=True)
