"""MiAMix in NumPy and SciPy: a loop over samples, whole-array operations inside."""

import numpy as np
from scipy import fft, ndimage

from batch import Batch
from peers import draw
from peers.draw import AGMIX, CUTMIX, FMIX, GRIDMIX, MIXUP, Layers


class NumpyMiAMix:
    """MiAMix for one kind of batch; `as_written`: blends as Eq. 7 reads instead of in place."""

    def __init__(self, batch: Batch, rng: np.random.Generator, as_written: bool = False):
        self.batch, self.rng, self.as_written = batch, rng, as_written
        self.height, self.width = batch.height, batch.width
        self.y = np.arange(self.height, dtype=np.float32)[:, None] + np.float32(0.5)
        self.x = np.arange(self.width, dtype=np.float32) + np.float32(0.5)
        self.decay = draw.amplitude(self.height, self.width)
        self.out = np.empty(batch.shape, batch.dtype)
        self._render = {
            MIXUP: self._mixup, CUTMIX: self._cutmix, FMIX: self._fmix, GRIDMIX: self._gridmix, AGMIX: self._agmix
        }  # fmt: skip

    def __call__(
        self, images: np.ndarray, partner_images: np.ndarray, labels: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Mixed images, labels [N, K] and label weights [N]."""
        samples = self.batch.samples
        layers = draw.draw(self.rng, samples, self.height, self.width)
        partners = draw.draw_partners(self.rng, samples)
        rows_of = [[] for _ in range(samples)]
        for row, sample in enumerate(layers.sample):
            rows_of[sample].append(row)
        weights = np.empty(samples, np.float32)
        for i, rows in enumerate(rows_of):
            mask = self.mask(layers, rows)
            weights[i] = mask.mean()
            self.blend(images[i], partner_images[partners[i]], mask, self.out[i])
        mixed_labels, own = np.zeros((samples, self.batch.num_classes), np.float32), np.arange(samples)
        mixed_labels[own, labels] += weights
        mixed_labels[own, labels[partners]] += 1 - weights
        return self.out, mixed_labels, weights

    def mask(self, layers: Layers, rows: list[int]) -> np.ndarray:
        """The product of a sample's layers: [H, W] or [], 1 keeps the primary pixel."""
        mask = np.float32(1)
        for row in rows:
            mask = mask * self._render[layers.method[row]](layers, row)
        return mask

    def blend(self, primary: np.ndarray, partner: np.ndarray, mask: np.ndarray, out: np.ndarray) -> None:
        if self.batch.layout == "NHWC" and mask.ndim:
            mask = mask[..., None]
        if self.as_written:
            mixed = mask * primary + (1 - mask) * partner
            out[...] = np.rint(mixed) if out.dtype == np.uint8 else mixed
        elif out.dtype == np.uint8:
            mixed = np.subtract(primary, partner, dtype=np.float32)
            mixed *= mask
            mixed += partner
            out[...] = np.rint(mixed, out=mixed)
        else:
            np.subtract(primary, partner, out=out)
            out *= mask
            out += partner

    def _mixup(self, layers: Layers, row: int) -> np.ndarray:
        return np.float32(1 - layers.given[row])

    def _cutmix(self, layers: Layers, row: int) -> np.ndarray:
        x0, y0, x1, y1 = layers.box[row]
        if layers.is_warped[row]:
            x, y = self._warp(layers, row)
            mask = ~((x0 <= x) & (x < x1) & (y0 <= y) & (y < y1))
            return self._smooth(layers, row, mask.astype(np.float32))
        mask = np.ones((self.height, self.width), np.float32)
        mask[max(y0, 0) : max(y1, 0), max(x0, 0) : max(x1, 0)] = 0
        return self._smooth(layers, row, mask)

    def _gridmix(self, layers: Layers, row: int) -> np.ndarray:
        n = layers.n[row]
        x, y = self._warp(layers, row) if layers.is_warped[row] else (self.x, self.y)
        kept = np.float32(1) - layers.cells[row, : n * n].reshape(n, n)
        at = (np.floor(u * n / side).astype(np.intp) % n for u, side in ((y, self.height), (x, self.width)))
        return self._smooth(layers, row, kept[tuple(at)])

    def _fmix(self, layers: Layers, row: int) -> np.ndarray:
        spectrum = layers.spectrum[row] if layers.spectrum else draw.draw_noise(self.rng, self.decay, 1)[0]
        field = fft.irfft2(spectrum, (self.height, self.width))
        if layers.is_warped[row]:
            inverse = draw.inverse_warp(*layers.warp[row], self.height, self.width)[::-1, ::-1]
            centre = (np.array(field.shape) - 1) / 2
            field = ndimage.affine_transform(
                field, inverse, centre - inverse @ centre, order=1, mode="grid-wrap", prefilter=False
            )
        mask = np.ones(field.size, np.float32)
        count = int(layers.given[row] * field.size + 0.5)
        if count:
            mask[np.argpartition(field.ravel(), -count)[-count:]] = 0
        return self._smooth(layers, row, mask.reshape(field.shape))

    def _agmix(self, layers: Layers, row: int) -> np.ndarray:
        dx, dy = self.x - np.float32(layers.centre[row, 0]), self.y - np.float32(layers.centre[row, 1])
        q, axis, sigma = layers.q[row], layers.angle[row] + np.pi / 4, max(layers.sigma[row], 1e-12)
        cos, sin = np.float32(np.cos(axis)), np.float32(np.sin(axis))
        along, across = cos * dx + sin * dy, cos * dy - sin * dx
        variances = [np.float32(-0.5 / sigma**2 / variance) for variance in (1 + q, 1 - q)]
        return 1 - np.exp(variances[0] * along**2 + variances[1] * across**2)

    def _warp(self, layers: Layers, row: int) -> tuple[np.ndarray, np.ndarray]:
        """Where the mask is read: x and y, [H, W]."""
        matrix = draw.inverse_warp(*layers.warp[row], self.height, self.width)
        centre = np.array([self.width, self.height]) / 2
        offset, matrix = (centre - matrix @ centre).astype(np.float32), matrix.astype(np.float32)
        return tuple(matrix[i, 0] * self.x + (matrix[i, 1] * self.y + offset[i]) for i in (0, 1))

    def _smooth(self, layers: Layers, row: int, mask: np.ndarray) -> np.ndarray:
        window = int(layers.window[row])
        return mask if window == 1 else ndimage.uniform_filter(mask, window, mode="nearest")
