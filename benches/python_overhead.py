"""What Python adds: the import above NumPy's own, and a call on 8 small pictures above the core's work.

    python benches/python_overhead.py

Needs miamix and NumPy. Times are medians; calls are timed in turns. docs/bench/python.md has what they were once.
"""

import ctypes as C
import statistics
import subprocess
import sys
import time

import numpy as np

import miamix
from miamix import _arrays as arrays
from miamix import _library as lib

ROUNDS_OF_IMPORT, ROUNDS, CALLS = 21, 201, 50


def import_ms():
    """NumPy in a fresh interpreter, and then miamix."""
    clock = "times.append(time.perf_counter())"
    code = f"import time; times = []; {clock}; import numpy; {clock}; import miamix; {clock}; print(*times)"
    printed = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True).stdout
    start, between, end = map(float, printed.split())
    return 1e3 * (between - start), 1e3 * (end - between)


def call_us(call):
    start = time.perf_counter()
    for _ in range(CALLS):
        call()
    return 1e6 * (time.perf_counter() - start) / CALLS


def calls():
    """The same mix by the package, and by the C function with everything made ready before."""
    images, ids = np.random.default_rng(0).random((8, 3, 32, 32), np.float32), np.arange(8)
    # One thread: this is about what comes before and after the work.
    mix = miamix.MiAMix(10, n_threads=1)
    out = np.empty_like(images), np.empty((8, 10), np.float32)
    tensors = [arrays.describe(array, "array") for array in (images, ids, *out)]
    # byref keeps what it refers to.
    source, labels, mixed, rows = (C.byref(tensor) for tensor in tensors)

    def core():
        lib.mix(mix._op.address, 0, 0, source, None, labels, 10, mixed, rows, None, None, 0)

    # A call with hardly any work: no more than this of the C function's time is ctypes'.
    pixel, still = arrays.describe(np.zeros((1, 1, 1, 1), np.uint8), "array"), miamix.MiAMix(p_apply=0, n_threads=1)
    mixed_pixel = arrays.describe(np.zeros((1, 1, 1, 1), np.uint8), "array")
    one, other = C.byref(pixel), C.byref(mixed_pixel)

    def ctypes_alone():
        lib.mix(still._op.address, 0, 0, one, None, None, 0, other, None, None, None, 0)

    return {
        "the C function": core,
        "the C function on one pixel": ctypes_alone,
        "mix(images, labels)": lambda: mix(images, ids, seed=0),
        "mix(images, labels, out=...)": lambda: mix(images, ids, seed=0, out=out),
    }


def main():
    numpy_ms, miamix_ms = map(statistics.median, zip(*(import_ms() for _ in range(ROUNDS_OF_IMPORT))))
    print(f"import numpy: {numpy_ms:.1f} ms; import miamix after it: {miamix_ms:.1f} ms")
    ways = calls()
    timed = {name: [] for name in ways}
    for _ in range(ROUNDS):
        for name, call in ways.items():
            timed[name].append(call_us(call))
    floor = statistics.median(timed["the C function"])
    on_a_pixel = statistics.median(timed["the C function on one pixel"])
    print(f"8 x 3 x 32 x 32 float32, one thread: the C function {floor:.1f} us; on one pixel {on_a_pixel:.1f} us")
    for name, times in list(timed.items())[2:]:
        median = statistics.median(times)
        print(f"{name}: {median:.1f} us, {median - floor:.1f} us more")


if __name__ == "__main__":
    main()
