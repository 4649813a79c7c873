"""Kernels with a fault each, which a tool of compute-sanitizer must find before its silence says anything.

Alone, without NumPy, it prints their PTX: ``cargo xtask ptx`` assembles it.
"""

from __future__ import annotations

import ctypes as C
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from driver import Driver

#: What each tool must find. The stand-in driver has mistakes of its own of these names.
FAULTS = {"memcheck": "past_the_end", "racecheck": "without_a_barrier", "synccheck": "barrier_of_a_part"}
N_THREADS = 64

#: Of a block of 64 threads, and the address of a number for each.
_PROLOGUE = """.visible .entry {name}(.param .u64 address)
{{
  .reg .pred %skips;
  .reg .b32 %thread, %offset, %own, %other;
  .reg .b64 %at, %offset64;
  .shared .align 4 .b8 numbers[256];
  ld.param.u64 %at, [address];
  mov.u32 %thread, %tid.x;
  mul.wide.u32 %offset64, %thread, 4;
  add.u64 %at, %at, %offset64;
"""
_BODIES = {
    # The last thread writes behind the allocation.
    "past_the_end": """  st.global.u32 [%at+4], %thread;
""",
    # The numbers of the other warp, for which nothing waits.
    "without_a_barrier": """  mov.u32 %own, numbers;
  shl.b32 %offset, %thread, 2;
  add.u32 %own, %own, %offset;
  st.shared.u32 [%own], %thread;
  mov.u32 %other, numbers;
  xor.b32 %offset, %offset, 128;
  add.u32 %other, %other, %offset;
  ld.shared.u32 %own, [%other];
  st.global.u32 [%at], %own;
""",
    # Threads of one warp wait where others go past.
    "barrier_of_a_part": """  setp.ge.u32 %skips, %thread, 16;
  @%skips bra PAST;
  bar.sync 0;
PAST:
  st.global.u32 [%at], %thread;
""",
}
PTX = ".version 7.0\n.target sm_70\n.address_size 64\n"
PTX += "".join(f"{_PROLOGUE.format(name=name)}{body}  ret;\n}}\n" for name, body in _BODIES.items())


def planted(driver: Driver, tool: str) -> None:
    """Runs the kernel with the fault that a tool must find."""
    from driver import Buffer, CudaError, Stream

    stream, numbers = Stream(driver), Buffer(driver, 4 * N_THREADS)
    kernel = driver.load(PTX, FAULTS[tool])
    address = C.c_uint64(numbers.address)
    parameters = (C.c_void_p * 1)(C.addressof(address))
    sizes = (C.c_uint(number) for number in (1, 1, 1, N_THREADS, 1, 1, 4 * N_THREADS))
    driver.call("cuLaunchKernel", kernel, *sizes, stream.handle, parameters, None)
    try:
        stream.synchronize()
    except CudaError as error:
        print(error)  # where the tool, or the stand-in driver, stops the kernel


if __name__ == "__main__":
    print(PTX)
