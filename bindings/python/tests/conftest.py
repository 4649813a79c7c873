"""Where the reference, the models of the other tests, the header and the program are."""

import os
import sys
from pathlib import Path

import miamix
import pytest

REPOSITORY = Path(__file__).resolve().parents[3]
sys.path += [str(REPOSITORY / "tests" / "reference"), str(REPOSITORY / "tests" / "onnxruntime")]
# The models of tests/onnxruntime register the library that this package has.
os.environ["MIAMIX_LIBRARY"] = miamix.library_path()


def pytest_configure():
    program = os.environ.get("MIAMIX_PROGRAM")
    if program is None and os.environ.get("CI"):
        pytest.exit("MIAMIX_PROGRAM is not set, and where CI is set every test must run", 1)
    if program is not None and not os.path.isfile(program):
        pytest.exit("MIAMIX_PROGRAM must be the path of miamix: `cargo xtask test` sets it", 1)


def pytest_terminal_summary(terminalreporter):
    if "MIAMIX_PROGRAM" not in os.environ:
        note = "NOT RUN: the comparison with the Rust program. MIAMIX_PROGRAM must be its path"
        terminalreporter.write_line(note, yellow=True)


@pytest.fixture
def header():
    return (REPOSITORY / "include" / "miamix.h").read_text(encoding="utf-8")
