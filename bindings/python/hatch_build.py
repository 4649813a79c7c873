"""Puts the C library into the wheel, and says in the wheel's name which systems it runs on.

The library is the file that MIAMIX_LIBRARY names, else one that cargo builds here.
"""

import os
import re
import subprocess
import sys
import sysconfig
from pathlib import Path

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

REPOSITORY = Path(__file__).resolve().parents[2]


class BuildHook(BuildHookInterface):
    def initialize(self, version, build_data):
        if self.target_name != "wheel":
            raise SystemExit("miamix is built as a wheel: its library comes from the whole repository")
        library = os.environ.get("MIAMIX_LIBRARY") or build()
        name = {"win32": "miamix.dll", "darwin": "libmiamix.dylib"}.get(sys.platform, "libmiamix.so")
        build_data["force_include"][str(library)] = f"miamix/{name}"
        for licence in REPOSITORY.glob("LICENSE-*"):
            build_data["force_include"][str(licence)] = f"miamix/{licence.name}"
        build_data["pure_python"] = False
        # Any Python 3: the library knows nothing of Python, and ctypes calls it.
        build_data["tag"] = f"py3-none-{platform(Path(library))}"


def build() -> Path:
    command = [os.environ.get("CARGO", "cargo"), "build", "--release", "--locked", "-p", "miamix-c", "--message-format"]
    command.append("json-render-diagnostics")
    lines = subprocess.run(command, cwd=REPOSITORY, check=True, stdout=subprocess.PIPE, text=True).stdout
    # The last such file that cargo names is the shared library of the crate asked for.
    files = re.findall(r'"([^"]*[/\\](?:lib)?miamix\.(?:so|dylib|dll))"', lines)
    return Path(files[-1].replace("\\\\", "\\"))


def platform(library: Path) -> str:
    """The platform of the library; on Linux with the oldest glibc that has every symbol it asks for."""
    name = sysconfig.get_platform().replace("-", "_").replace(".", "_")
    versions = [tuple(map(int, found)) for found in re.findall(rb"GLIBC_(\d+)\.(\d+)", library.read_bytes())]
    if not name.startswith("linux_") or not versions:
        return name
    # Rust itself needs 2.17.
    major, minor = max([*versions, (2, 17)])
    return f"manylinux_{major}_{minor}_{name.removeprefix('linux_')}"
