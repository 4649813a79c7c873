"""The draw of both peers that are MiAMix: whole batches at once, in NumPy, with the default parameters."""

from dataclasses import dataclass, field

import numpy as np

MIXUP, CUTMIX, FMIX, GRIDMIX, AGMIX = range(5)
METHODS = ("mixup", "cutmix", "fmix", "gridmix", "agmix")
WEIGHTS = np.array([2, 1, 1, 1, 1]) / 6
ALPHA, K_MAX, P_SELF, P_AUG, P_SMOOTH = 1.0, 2, 0.1, 0.25, 0.5
ROTATE_MAX_RAD, SHEAR_MAX, GRID_RANGE, WINDOWS, DECAY_POWER = np.pi / 4, 0.3, (2, 8), (3, 5, 7), 3.0
MAX_CELLS = GRID_RANGE[1] ** 2


@dataclass
class Layers:
    """The layers of a batch, a row each: first the first layer of every sample, then the second ones."""

    sample: np.ndarray
    method: np.ndarray
    given: np.ndarray
    """The share that goes to the partner."""
    box: np.ndarray
    """x0, y0, x1, y1: cutmix."""
    n: np.ndarray
    """Cells a side: gridmix."""
    cells: np.ndarray
    """Whether cell row·n + col is given, [.., MAX_CELLS]: gridmix."""
    centre: np.ndarray
    """x, y: agmix."""
    sigma: np.ndarray
    q: np.ndarray
    angle: np.ndarray
    is_warped: np.ndarray
    warp: np.ndarray
    """Angle and shear."""
    window: np.ndarray
    """Of the smoothing; 1 leaves the mask as it is."""
    spectrum: dict[int, np.ndarray] = field(default_factory=dict)
    """Fmix: noise [H, W/2 + 1] that is not to be drawn, by row."""


def amplitude(height: int, width: int) -> np.ndarray:
    """The decay of FMix's spectrum as `irfft2` takes it: float32 [H, W/2 + 1]."""
    frequency = np.hypot(np.fft.fftfreq(height)[:, None], np.fft.rfftfreq(width))
    decay = np.maximum(frequency, 1 / max(height, width)) ** -DECAY_POWER
    decay[0, 0] = 0
    return decay.astype(np.float32)


def draw_noise(rng: np.random.Generator, decay: np.ndarray, count: int) -> np.ndarray:
    """Spectra of FMix fields: complex64 [count, H, W/2 + 1]."""
    noise = rng.standard_normal((count, *decay.shape, 2), np.float32).view(np.complex64)[..., 0]
    noise *= decay
    return noise


def draw_partners(rng: np.random.Generator, samples: int) -> np.ndarray:
    own = np.arange(samples)
    return np.where(rng.random(samples) < P_SELF, own, rng.permutation(samples))


def draw(rng: np.random.Generator, samples: int, height: int, width: int) -> Layers:
    """One or two layers a sample."""
    k = rng.integers(1, K_MAX + 1, samples)
    gammas = rng.standard_gamma(ALPHA, (K_MAX, samples))
    has_layer = np.arange(K_MAX)[:, None] < k
    shares = gammas / ((gammas * has_layer).sum(0) + rng.standard_gamma(k * ALPHA))
    order, sample = np.nonzero(has_layer)
    given, rows = shares[order, sample], len(sample)

    half_w, half_h = (np.floor(side * np.sqrt(given)).astype(np.int64) // 2 for side in (width, height))
    cx, cy = rng.integers(0, width, rows), rng.integers(0, height, rows)
    n = rng.integers(GRID_RANGE[0], GRID_RANGE[1] + 1, rows)
    n_given = np.floor(given * n**2 + rng.random(rows)).astype(np.int64)
    keys = np.where(np.arange(MAX_CELLS) < (n**2)[:, None], rng.random((rows, MAX_CELLS)), np.inf)
    rank = keys.argsort(1).argsort(1)
    is_hard = np.isin(method := rng.choice(len(METHODS), rows, p=WEIGHTS), (CUTMIX, FMIX, GRIDMIX))
    return Layers(
        sample=sample,
        method=method,
        given=given,
        box=np.stack([cx - half_w, cy - half_h, cx + half_w, cy + half_h], 1),
        n=n,
        cells=rank < n_given[:, None],
        centre=np.stack([cx, cy], 1) + 0.5,
        sigma=np.sqrt(given * height * width),
        q=rng.uniform(-1, 1, rows).clip(-0.999, 0.999),
        angle=rng.uniform(0, np.pi, rows),
        is_warped=is_hard & (rng.random(rows) < P_AUG),
        warp=rng.uniform(-1, 1, (rows, 2)) * (ROTATE_MAX_RAD, SHEAR_MAX),
        window=np.where(is_hard & (rng.random(rows) < P_SMOOTH), rng.choice(WINDOWS, rows), 1),
    )


def inverse_warp(angle: np.ndarray, shear: np.ndarray, height: int, width: int) -> np.ndarray:
    """S·A⁻¹·S⁻¹, which takes p − c to u − c: A = R(angle)·[[1, shear], [0, 1]], S = diag(W, H); x, y: [.., 2, 2]."""
    cos, sin = np.cos(angle), np.sin(angle)
    rows = [[cos - shear * -sin, sin - shear * cos], [-sin, cos]]
    matrix = np.moveaxis(np.array(rows), (0, 1), (-2, -1))
    side = np.array([width, height])
    return matrix * (side[:, None] / side)
