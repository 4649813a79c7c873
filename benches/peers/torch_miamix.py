"""MiAMix in batched PyTorch: layers of one method are rendered together, and memory is used again."""

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from batch import Batch
from peers import draw
from peers.draw import AGMIX, CUTMIX, FMIX, GRIDMIX, MIXUP, Layers

DTYPES = {name: getattr(torch, name) for name in ("float32", "float16", "bfloat16", "uint8")}
SAMPLE_BY_SAMPLE = 1 << 15
"""Elements of an image from which on blending one at a time is faster: the partners need no copy."""


class TorchMiAMix:
    """MiAMix for one kind of batch."""

    def __init__(self, batch: Batch, rng: np.random.Generator):
        self.batch, self.rng = batch, rng
        self.height, self.width = batch.height, batch.width
        self.x, self.y = (torch.arange(side) + 0.5 for side in (self.width, self.height))
        self.decay = draw.amplitude(self.height, self.width)
        self._masks = torch.empty(batch.samples, self.height, self.width)
        self._rows = torch.arange(batch.samples)
        self.out = torch.empty(batch.shape, dtype=DTYPES[batch.dtype])
        self._render = {
            MIXUP: self._mixup, CUTMIX: self._cutmix, FMIX: self._fmix, GRIDMIX: self._gridmix, AGMIX: self._agmix
        }  # fmt: skip

    def __call__(self, images: Tensor, partner_images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Mixed images, labels [N, K] and label weights [N]."""
        layers = draw.draw(self.rng, self.batch.samples, self.height, self.width)
        partners = torch.from_numpy(draw.draw_partners(self.rng, self.batch.samples))
        return self.mix(images, partner_images, labels, partners, self.masks(layers))

    def masks(self, layers: Layers) -> Tensor:
        """The product of each sample's layers: [N, H, W], 1 keeps the primary pixel."""
        second = []
        for method, render in self._render.items():
            rows = np.flatnonzero(layers.method == method)
            if not rows.size:
                continue
            masks, samples = render(layers, rows), torch.from_numpy(layers.sample[rows])
            # The first N rows are first layers, and every sample has one.
            n_first = int((rows < self.batch.samples).sum())
            self._masks.index_copy_(0, samples[:n_first], masks[:n_first])
            second.append((samples[n_first:], masks[n_first:]))
        for samples, masks in second:
            self._masks.index_copy_(0, samples, self._masks.index_select(0, samples).mul_(masks))
        return self._masks

    def mix(
        self, images: Tensor, partner_images: Tensor, labels: Tensor, partners: Tensor, masks: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Blends into `self.out`: m·primary + (1 − m)·partner."""
        weights = masks.mean((1, 2))
        masks = masks.unsqueeze(self.batch.channel_axis)
        if images.dtype == torch.bfloat16 or images.dtype == torch.float16:
            masks = masks.to(images.dtype)
        if self.batch.elements >= SAMPLE_BY_SAMPLE * self.batch.samples:
            for i, partner in enumerate(partners.tolist()):
                self.blend(images[i], partner_images[partner], masks[i], self.out[i])
        else:
            self.blend(images, partner_images.index_select(0, partners), masks, self.out)
        mixed_labels = torch.zeros(len(labels), self.batch.num_classes)
        mixed_labels.index_put_((self._rows, labels), weights)
        mixed_labels.index_put_((self._rows, labels[partners]), 1 - weights, accumulate=True)
        return self.out, mixed_labels, weights

    @staticmethod
    def blend(primary: Tensor, partner: Tensor, mask: Tensor, out: Tensor) -> None:
        if primary.dtype == torch.uint8:
            out.copy_(torch.lerp(partner.float(), primary.float(), mask).round_())
        else:
            torch.lerp(partner, primary, mask, out=out)

    # Masks of layers of one method: [rows, H, W], or what broadcasts to it.

    def _mixup(self, layers: Layers, rows: np.ndarray) -> Tensor:
        return _floats(1 - layers.given[rows]).expand(-1, self.height, self.width)

    def _cutmix(self, layers: Layers, rows: np.ndarray) -> Tensor:
        def given(rows: np.ndarray, x: Tensor, y: Tensor) -> Tensor:
            x0, y0, x1, y1 = (_floats(edge) for edge in layers.box[rows].T)
            return ((x0 <= x) & (x < x1)) & ((y0 <= y) & (y < y1))

        return self._smooth(layers, rows, self._evaluate(layers, rows, given))

    def _gridmix(self, layers: Layers, rows: np.ndarray) -> Tensor:
        def given(rows: np.ndarray, x: Tensor, y: Tensor) -> Tensor:
            n = torch.from_numpy(layers.n[rows]).view(-1, 1, 1)
            # Multiplied first: pixel centres are exact then.
            row = torch.floor(y * n / self.height).long().remainder_(n)
            col = torch.floor(x * n / self.width).long().remainder_(n)
            cells = torch.from_numpy(layers.cells[rows])
            index = row * n + col
            return cells.gather(1, index.flatten(1)).view(index.shape)

        return self._smooth(layers, rows, self._evaluate(layers, rows, given))

    def _fmix(self, layers: Layers, rows: np.ndarray) -> Tensor:
        if layers.spectrum:
            spectra = np.stack([layers.spectrum[row] for row in rows])
        else:
            spectra = draw.draw_noise(self.rng, self.decay, rows.size)
        fields = torch.fft.irfft2(torch.from_numpy(spectra), (self.height, self.width), norm="forward")
        warped = np.flatnonzero(layers.is_warped[rows])
        if warped.size:
            at = torch.from_numpy(warped)
            fields[at] = self._sample_periodic(fields[at], *self._warp(layers, rows[warped]))
        given = torch.empty(fields.shape, dtype=torch.bool)
        size = self.height * self.width
        for i, share in enumerate(layers.given[rows]):
            count = int(np.floor(share * size + 0.5))
            if count == 0:
                given[i] = False
            else:
                torch.ge(fields[i], fields[i].view(-1).kthvalue(size - count + 1).values, out=given[i])
        return self._smooth(layers, rows, given)

    def _agmix(self, layers: Layers, rows: np.ndarray) -> Tensor:
        axis, sigma, q = layers.angle[rows] + np.pi / 4, layers.sigma[rows], layers.q[rows]
        cx, cy = (_floats(centre) for centre in layers.centre[rows].T)
        dx, dy = self.x - cx, self.y.view(-1, 1) - cy
        squares = []
        for cos, sin, variance in ((np.cos(axis), np.sin(axis), 1 + q), (-np.sin(axis), np.cos(axis), 1 - q)):
            scale = 1 / np.maximum(sigma * np.sqrt(2 * variance), 1e-12)
            squares.append((_floats(cos * scale) * dx + _floats(sin * scale) * dy).square_())
        return squares[0].add_(squares[1]).neg_().exp_().neg_().add_(1)

    # Augmentation

    def _evaluate(self, layers: Layers, rows: np.ndarray, given) -> Tensor:
        """A function of the place, at the pixels or where the warp takes them: bool [rows, H, W]."""
        is_warped = layers.is_warped[rows]
        out = torch.empty(rows.size, self.height, self.width, dtype=torch.bool)
        plain, warped = rows[~is_warped], rows[is_warped]
        if plain.size:
            out[torch.from_numpy(~is_warped)] = given(plain, self.x, self.y.view(-1, 1))
        if warped.size:
            out[torch.from_numpy(is_warped)] = given(warped, *self._warp(layers, warped))
        return out

    def _warp(self, layers: Layers, rows: np.ndarray) -> tuple[Tensor, Tensor]:
        """Where the mask is read: x and y, [rows, H, W]."""
        matrix = draw.inverse_warp(*layers.warp[rows].T, self.height, self.width)
        centre = np.array([self.width, self.height]) / 2
        offset = centre - matrix @ centre
        y = self.y.view(-1, 1)
        return tuple(
            _floats(matrix[:, i, 0]) * self.x + (_floats(matrix[:, i, 1]) * y + _floats(offset[:, i])) for i in (0, 1)
        )

    def _sample_periodic(self, fields: Tensor, x: Tensor, y: Tensor) -> Tensor:
        """Bilinear, wrapped at the borders."""
        padded = F.pad(fields.unsqueeze(1), (0, 1, 0, 1), mode="circular")
        # From pixel centres at 0 … side − 1 (and once more at side) to −1 … 1.
        grid = torch.stack(
            [u.sub_(0.5).remainder_(side).mul_(2 / side).sub_(1) for u, side in ((x, self.width), (y, self.height))], -1
        )
        return F.grid_sample(padded, grid, mode="bilinear", align_corners=True).squeeze(1)

    def _smooth(self, layers: Layers, rows: np.ndarray, given: Tensor) -> Tensor:
        """1 − given as floats, with the box averages of the smoothed layers."""
        masks = given.logical_not_().float()
        for window in draw.WINDOWS:
            smoothed = np.flatnonzero(layers.window[rows] == window)
            if smoothed.size:
                at = torch.from_numpy(smoothed)
                padded = F.pad(masks[at].unsqueeze(1), (window // 2,) * 4, mode="replicate")
                down = F.avg_pool2d(padded, (window, 1), stride=1)
                masks.index_copy_(0, at, F.avg_pool2d(down, (1, window), stride=1).squeeze(1))
        return masks


def _floats(values: np.ndarray) -> Tensor:
    """A number a row: [rows, 1, 1]."""
    return torch.from_numpy(np.ascontiguousarray(values, np.float32)).view(-1, 1, 1)
