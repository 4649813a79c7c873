"""Where the library is, and the reference."""

import os
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "reference"))


def pytest_configure():
    if not os.path.isfile(os.environ.get("MIAMIX_LIBRARY", "")):
        pytest.exit("MIAMIX_LIBRARY must be the path of libmiamix: `cargo xtask test` sets it", 1)
