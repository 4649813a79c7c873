"""What the tests need is there."""

import os

import pytest


def pytest_configure():
    if not os.path.isdir(os.environ.get("MIAMIX_PHOTOS", "")):
        pytest.exit("MIAMIX_PHOTOS must be a folder of pictures: `cargo xtask test` sets it", 1)
