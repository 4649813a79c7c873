"""The operator in ONNX Runtime beside MiAMix in NumPy and SciPy: on one thread, and on all cores.

    python numpy_peer.py --library libmiamix.so --program miamix

The peer is what a skilled user writes from the paper: a loop over samples, whole-array operations
inside, default parameters.  It blends as the equation reads, into new arrays, and once more in place,
without a copy that can be saved.  Each round times all of them on the same batch, one after the other.  `cargo xtask bench` runs this file.
"""

import argparse
import os
import platform
import statistics
import subprocess
import tempfile
import time
from pathlib import Path

for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[variable] = "1"

import numpy as np
import onnxruntime as ort
import scipy
from scipy import fft, ndimage

METHODS, WEIGHTS = ("mixup", "cutmix", "fmix", "gridmix", "agmix"), np.array([2, 1, 1, 1, 1]) / 6
P_SELF, P_AUG, P_SMOOTH, DECAY_POWER = 0.1, 0.25, 0.5, 3.0

#            N, H, W, K, dtype, channels last, the model
WORKLOADS = {
    "A": (128, 32, 32, 10, np.float32, False, ("--preset", "cifar10")),
    "B": (128, 64, 64, 200, np.float32, False, ("--preset", "tiny-imagenet")),
    "C": (64, 224, 224, 1000, np.float32, False, ("--preset", "imagenet")),
    "D": (64, 224, 224, 1000, np.uint8, True, ("--preset", "imagenet", "--dtype", "u8", "--layout", "nhwc")),
}


class Peer:
    """MiAMix for one image size."""

    def __init__(self, height, width, rng):
        self.height, self.width, self.rng = height, width, rng
        self.y, self.x = np.arange(height, dtype=np.float32)[:, None], np.arange(width, dtype=np.float32)
        frequency = np.hypot(fft.fftfreq(height)[:, None], fft.rfftfreq(width))
        self.amplitude = np.maximum(frequency, 1 / max(height, width)).astype(np.float32) ** -DECAY_POWER
        self.amplitude[0, 0] = 0

    def mask(self):
        """Product of one or two layers; 1 keeps the primary pixel."""
        n_layers = self.rng.integers(1, 3)
        mask = np.float32(1)
        for given in self.rng.dirichlet([1.0] * n_layers + [float(n_layers)])[:-1]:
            mask = mask * getattr(self, METHODS[self.rng.choice(5, p=WEIGHTS)])(given)
        return mask

    def mixup(self, given):
        return np.float32(1 - given)

    def cutmix(self, given):
        half_h, half_w = int(self.height * given**0.5) // 2, int(self.width * given**0.5) // 2
        cy, cx = self.rng.integers(self.height), self.rng.integers(self.width)
        mask = np.ones((self.height, self.width), np.float32)
        mask[max(cy - half_h, 0) : cy + half_h, max(cx - half_w, 0) : cx + half_w] = 0
        return self.smooth(self.warp(mask, order=0, mode="constant"))

    def gridmix(self, given):
        n = self.rng.integers(2, 9)
        cells = np.ones(n * n, np.float32)
        cells[self.rng.choice(n * n, int(given * n * n + self.rng.random()), replace=False)] = 0
        rows, cols = ((2 * np.arange(side) + 1) * n // (2 * side) for side in (self.height, self.width))
        mask = cells.reshape(n, n)[rows[:, None], cols]
        return self.smooth(self.warp(mask, order=0, mode="grid-wrap"))

    def fmix(self, given):
        noise = self.rng.standard_normal((2, *self.amplitude.shape), np.float32)
        field = fft.irfft2((noise[0] + 1j * noise[1]) * self.amplitude, (self.height, self.width))
        field = self.warp(field, order=1, mode="grid-wrap").ravel()
        mask, n_given = np.ones(field.size, np.float32), round(given * field.size)
        if n_given:
            mask[np.argpartition(field, -n_given)[-n_given:]] = 0
        return self.smooth(mask.reshape(self.height, self.width))

    def agmix(self, given):
        dy, dx = self.y - self.rng.integers(self.height), self.x - self.rng.integers(self.width)
        q, angle = np.clip(self.rng.uniform(-1, 1), -0.999, 0.999), self.rng.uniform(0, np.pi) + np.pi / 4
        along = np.float32(np.cos(angle)) * dx + np.float32(np.sin(angle)) * dy
        across = np.float32(np.cos(angle)) * dy - np.float32(np.sin(angle)) * dx
        scale = -0.5 / max(given * self.height * self.width, 1e-9)
        return 1 - np.exp(np.float32(scale / (1 + q)) * along**2 + np.float32(scale / (1 - q)) * across**2)

    def warp(self, plane, order, mode):
        """Rotation and shear on the unit square about the centre, now and then."""
        if self.rng.random() >= P_AUG:
            return plane
        angle, shear = self.rng.uniform(-np.pi / 4, np.pi / 4), self.rng.uniform(-0.3, 0.3)
        cos, sin, ratio = np.cos(angle), np.sin(angle), self.width / self.height
        inverse = np.array([[cos, -sin / ratio], [(sin - shear * cos) * ratio, cos + shear * sin]])
        centre = (np.array(plane.shape) - 1) / 2
        offset = centre - inverse @ centre
        return ndimage.affine_transform(plane, inverse, offset, order=order, mode=mode, cval=1.0, prefilter=False)

    def smooth(self, mask):
        if self.rng.random() >= P_SMOOTH:
            return mask
        return ndimage.uniform_filter(mask, int(self.rng.choice([3, 5, 7])), mode="nearest")

    def mix(self, images, partner_images, labels, n_classes, channels_last, out=None):
        """Mixes a batch into `out`, or into a new array as Eq. 7 reads; the mixed labels and the label weights."""
        as_written, n_samples = out is None, len(images)
        out = np.empty_like(images) if as_written else out
        partners = self.rng.permutation(n_samples)
        partners = np.where(self.rng.random(n_samples) < P_SELF, np.arange(n_samples), partners)
        weights = np.empty(n_samples, np.float32)
        for i, partner in enumerate(partners):
            mask = self.mask()
            weights[i] = mask.mean()
            if channels_last and mask.ndim:
                mask = mask[..., None]
            primary, other = images[i], partner_images[partner]
            if as_written:
                mixed = mask * primary + (1 - mask) * other
                out[i] = mixed if out.dtype == np.float32 else np.rint(mixed)
            elif out.dtype == np.float32:
                np.subtract(primary, other, out=out[i])
                out[i] *= mask
                out[i] += other
            else:
                mixed = np.subtract(primary, other, dtype=np.float32)
                mixed *= mask
                mixed += other
                out[i] = np.rint(mixed, out=mixed)
        mixed_labels = np.zeros((n_samples, n_classes), np.float32)
        rows = np.arange(n_samples)
        mixed_labels[rows, labels] += weights
        mixed_labels[rows, labels[partners]] += 1 - weights
        return mixed_labels, weights


def measure(name, args, folder):
    """A row of the table."""
    n, height, width, n_classes, dtype, channels_last, model_arguments = WORKLOADS[name]
    rng = np.random.default_rng(1)
    shape = (n, height, width, 3) if channels_last else (n, 3, height, width)
    images, partner_images = (
        (rng.random(shape, np.float32) * (255 if dtype == np.uint8 else 1)).astype(dtype) for _ in range(2)
    )
    labels = rng.integers(0, n_classes, n)
    peer, out = Peer(height, width, rng), np.empty(shape, dtype)

    model = str(Path(folder) / f"{name}.onnx")
    subprocess.run([args.program, "model", *model_arguments, "--out", model], check=True, stdout=subprocess.DEVNULL)
    # One thread, and a session as it comes: NumPy and SciPy have one for all of this anyway.
    sessions = []
    for n_threads in (1, 0):
        options = ort.SessionOptions()
        options.intra_op_num_threads = n_threads
        options.register_custom_ops_library(args.library)
        sessions.append(ort.InferenceSession(model, options, providers=["CPUExecutionProvider"]))

    peer_ms, operator_ms, weights = ([], []), [[] for _ in sessions], ([], [])
    for seed in range(args.rounds + 2):
        for times, target in zip(peer_ms, (None, out)):
            start = time.perf_counter()
            _, peer_weights = peer.mix(images, partner_images, labels, n_classes, channels_last, target)
            times.append(1e3 * (time.perf_counter() - start))
        inputs = {
            "images": images,
            "partner_images": partner_images,
            "labels": labels,
            "seed": np.array(seed, np.int64),
            "first_sample": np.array(0, np.int64),
            "training_mode": np.array(True),
        }
        for session, times in zip(sessions, operator_ms):
            start = time.perf_counter()
            _, _, label_weight = session.run(["mixed_images", "mixed_labels", "label_weight"], inputs)
            times.append(1e3 * (time.perf_counter() - start))
        weights[0].extend(peer_weights)
        weights[1].extend(label_weight)
    # The same distribution: weights spread by less than 0.35, and 6 standard errors of a difference of means.
    bound = 6 * 0.35 * (2 / len(weights[0])) ** 0.5
    means = [statistics.fmean(map(float, w)) for w in weights]
    assert abs(means[0] - means[1]) < bound, f"{name}: mean label weights {means}, which differ by more than {bound}"
    # The first two rounds fill caches.
    as_written, in_place, one_thread, all_cores = (statistics.median(times[2:]) for times in (*peer_ms, *operator_ms))
    size = "x".join(map(str, shape))
    ratios = (f"{peer / all_cores:.1f} ({peer / one_thread:.1f})" for peer in (as_written, in_place))
    return (
        f"| {name} {size} {np.dtype(dtype).name} {'NHWC' if channels_last else 'NCHW'} "
        f"| {as_written:.1f} | {in_place:.1f} | {all_cores:.2f} | {one_thread:.2f} | {' | '.join(ratios)} |"
    )


def cpu_name():
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.split(":")[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or "unknown CPU"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--library", required=True, help="path of libmiamix")
    parser.add_argument("--program", required=True, help="path of the miamix program")
    parser.add_argument("--rounds", type=int, default=15)
    args = parser.parse_args()
    print(f"{cpu_name()}, {platform.system()} {platform.machine()}  ")
    print(
        f"Python {platform.python_version()}, NumPy {np.__version__}, SciPy {scipy.__version__}, "
        f"ONNX Runtime {ort.__version__}  "
    )
    print(f"ms a batch, medians of {args.rounds} rounds that take turns; labels are mixed too\n")
    print("| workload | NumPy as Eq. 7 reads | NumPy in place | the operator | on 1 thread ", end="")
    print("| times as fast as the one (1 thread) | as the other |")
    print("|---|--:|--:|--:|--:|--:|--:|")
    with tempfile.TemporaryDirectory() as folder:
        for name in WORKLOADS:
            print(measure(name, args, folder), flush=True)


if __name__ == "__main__":
    main()
