"""What a plan means: the readable definition of MiAMix in NumPy, float64.

A plan is plain data, the JSON of a batch's random decisions (see docs/draw.md).  This file turns
it into masks, mixed pixels, label weights and mixed labels.  Masks are evaluated in float64, so
they are *near* what an engine gives (2e-5); pixels, weights and labels follow from the f32 mask
by exact integer reasoning, so they are *equal*, bit for bit.

Masks are [H, W], images [C, H, W]; x runs right over W, y down over H; 1 keeps the primary pixel.

Source: MiAMix (Liang et al., 2023), section 3 and Algorithm 1.
"""

import math
from fractions import Fraction

import numpy as np
from draw_ref import MASK32, f32, philox4x32

MASK_TOLERANCE = 2e-5  # how far an engine's mask may be where it is sure
EDGE_TOLERANCE_PX = 1e-4  # an f32 engine may place a warped edge this far away, or as far as rounding takes it
FIELD_TOLERANCE = 1e-5  # and an fmix field this far, as a share of max|F|
ROUNDING = 2.0**-24  # of one f32 operation, relative


# Stage 3: the mask of one layer


def pixel_centres(height, width):
    """p = (x + ½, y + ½): x [1, W], y [H, 1], in pixels."""
    return np.arange(width)[None, :] + 0.5, np.arange(height)[:, None] + 0.5


def warp_points(warp, height, width):
    """u = c + S·A⁻¹·S⁻¹(p − c): two arrays [H, W], in pixels.

    S = diag(W, H), A = R(angle)·[[1, shear], [0, 1]]: the mask turns by `angle` and is sheared,
    in the unit square.
    """
    angle, shear = f32(warp["angle_rad"]), f32(warp["shear"])
    px, py = pixel_centres(height, width)
    dx, dy = px / width - 0.5, py / height - 0.5
    across = math.cos(angle) * dx + math.sin(angle) * dy
    down = math.cos(angle) * dy - math.sin(angle) * dx
    return width * (0.5 + across - shear * down), height * (0.5 + down)


def edge_tolerances(warp, height, width):
    """How far rounding may take u in an f32 engine: along x and y, in pixels.

    u = c + m₁·dx + m₂·dy with rounded m₁, m₂ and after each addition; n·u/side is rounded twice
    more.  Nothing on the way is larger than R = |c| + |m₁|·|dx| + |m₂|·|dy|, so u is off by at most
    (1 + 2 + 2)·2⁻²⁴·R: less than 1e-4 px up to R = 335 px.
    """
    angle, shear = f32(warp["angle_rad"]), f32(warp["shear"])
    cos, sin = math.cos(angle), math.sin(angle)
    # In half widths and half heights, which make up for the ratio of the sides.
    reach_x = width / 2 * (1.0 + abs(cos + shear * sin) + abs(sin - shear * cos))
    reach_y = height / 2 * (1.0 + abs(sin) + abs(cos))
    return [max(EDGE_TOLERANCE_PX, 5 * ROUNDING * reach) for reach in (reach_x, reach_y)]


def is_given(layer, ux, uy, height, width):
    """True where a cutmix box or a gridmix cell gives the point u to the partner.

    The box is half-open and may reach out of the image; the n×n grid continues periodically.
    """
    if layer["method"] == "cutmix":
        return (layer["x0"] <= ux) & (ux < layer["x1"]) & (layer["y0"] <= uy) & (uy < layer["y1"])
    n = layer["n"]
    row = np.floor(uy * n / height).astype(int) % n
    col = np.floor(ux * n / width).astype(int) % n
    return np.isin(row * n + col, layer["cells"])


def cells_given(layer, height, width):
    """A gridmix at pixel centres, in integers: no border is ever a matter of rounding."""
    n = layer["n"]
    row = (2 * np.arange(height)[:, None] + 1) * n // (2 * height)
    col = (2 * np.arange(width)[None, :] + 1) * n // (2 * width)
    return np.isin(row * n + col, layer["cells"])


def gaussian_mask(layer, height, width):
    """(M, sure): M = 1 − exp(−½ dᵀΣ⁻¹d / σ²), d = p − centre.  MiAMix (Liang et al., 2023), Eq. 4 and 6.

    gmix: Σ = I.  agmix: Σ = R(θ)·[[1, q], [q, 1]]·R(θ)ᵀ, whose axes lie at θ + π/4 and have
    the variances 1 + q and 1 − q.

    Near |q| = 1 the Gaussian is a ridge of a narrow width b = σ·√(1 − |q|), across which an f32
    engine's distance e is off by up to 3·2⁻²⁴·|d|.  A pixel is sure where that moves M by less than
    half the tolerance.
    """
    sigma = f32(layer["sigma_px"])
    if sigma == 0.0:
        return np.ones((height, width)), np.ones((height, width), bool)
    px, py = pixel_centres(height, width)
    dx, dy = (px - f32(layer["cx"])) / sigma, (py - f32(layer["cy"])) / sigma
    q, axis = 0.0, 0.0
    if layer["method"] == "agmix":
        q, axis = f32(layer["q"]), f32(layer["angle_rad"]) + math.pi / 4
    along = math.cos(axis) * dx + math.sin(axis) * dy
    across = math.cos(axis) * dy - math.sin(axis) * dx
    exponent = 0.5 * (along**2 / (1.0 + q) + across**2 / (1.0 - q))
    # dM = e^(−t)·2√t·d√t, and √t is off by at most that of e / (√2·b).
    error = 3 * ROUNDING * np.hypot(dx, dy) / math.sqrt(2.0 * (1.0 - abs(q)))
    sure = 2.0 * np.sqrt(exponent) * np.exp(-exponent) * error < MASK_TOLERANCE / 2
    return 1.0 - np.exp(-exponent), sure


def fmix_spectrum(noise_key, decay_power, height, width):
    """c(k) of docs/draw.md: complex [K_y + 1, 2·K_x + 1], k_y = 0 .. K_y, k_x = −K_x .. K_x.

    Zero outside the half plane that is summed: k_y > 0, or k_y = 0 < k_x.
    """
    kx_max, ky_max = min(32, (width - 1) // 2), min(32, (height - 1) // 2)
    kx = np.arange(-kx_max, kx_max + 1)[None, :]
    ky = np.arange(ky_max + 1)[:, None]
    counter = (np.abs(kx).astype(np.uint64), ky.astype(np.uint64), 0, 0x464D6978)
    r0, r1, r2, r3 = philox4x32(counter, (noise_key & MASK32, noise_key >> 32))
    a, b = np.where(kx >= 0, r0, r2), np.where(kx >= 0, r1, r3)
    radius = np.sqrt(-2.0 * np.log(((a >> 8) + 1.0) * 2.0**-24))
    z = radius * np.exp(2j * np.pi * (b / 2.0**32))
    frequency = np.hypot(kx / width, ky / height) * max(height, width)
    c = z / np.maximum(frequency, 1.0) ** decay_power
    c[0, : kx_max + 1] = 0.0
    return c


def fmix_field(noise_key, decay_power, height, width):
    """F(x, y) = Re Σ_k c(k)·exp 2πi(k_x·x/W + k_y·y/H): [H, W]."""
    c = fmix_spectrum(noise_key, decay_power, height, width)
    ky = np.arange(c.shape[0])
    kx = np.arange(c.shape[1]) - c.shape[1] // 2
    # Phases are reduced in integers first, so that exp sees less than one turn.
    waves_x = np.exp(2j * np.pi * (np.outer(kx, np.arange(width)) % width) / width)
    waves_y = np.exp(2j * np.pi * (np.outer(np.arange(height), ky) % height) / height)
    return (waves_y @ c @ waves_x).real


def sample_periodic(field, ux, uy):
    """The field at u, bilinear, pixel centres at half-integers, wrapped at the borders."""
    height, width = field.shape
    x, y = ux - 0.5, uy - 0.5
    x0, y0 = np.floor(x).astype(int), np.floor(y).astype(int)
    fx, fy = x - x0, y - y0

    def at(row, col):
        return field[row % height, col % width]

    upper = (1.0 - fx) * at(y0, x0) + fx * at(y0, x0 + 1)
    lower = (1.0 - fx) * at(y0 + 1, x0) + fx * at(y0 + 1, x0 + 1)
    return (1.0 - fy) * upper + fy * lower


def fmix_given(layer, height, width):
    """(given, sure): the round(g·H·W) pixels of largest F, the lower index first on ties."""
    field = fmix_field(int(layer["noise_key"], 16), f32(layer["decay_power"]), height, width)
    tolerance = FIELD_TOLERANCE * np.abs(field).max()
    if layer["warp"] is not None:
        # A point that rounding takes farther than an edge may be is on another slope of the field.
        for axis, distance in enumerate(edge_tolerances(layer["warp"], height, width)[::-1]):
            slope = np.abs(np.roll(field, 1, axis) - field).max()
            tolerance += (distance - EDGE_TOLERANCE_PX) * slope
        field = sample_periodic(field, *warp_points(layer["warp"], height, width))
    values = field.ravel()
    n_pixels = values.size
    count = math.floor(Fraction(f32(layer["given"])) * n_pixels + Fraction(1, 2))
    order = np.argsort(-values, kind="stable")
    given, sure = np.zeros(n_pixels, bool), np.ones(n_pixels, bool)
    given[order[:count]] = True
    if 0 < count < n_pixels and tolerance > 0.0:
        threshold = (values[order[count - 1]] + values[order[count]]) / 2.0
        sure = np.abs(values - threshold) > tolerance
    return given.reshape(field.shape), sure.reshape(field.shape)


def binary_given(layer, height, width):
    """(given, sure) of a cutmix, gridmix or fmix layer before smoothing: bool [H, W]."""
    if layer["method"] == "fmix":
        return fmix_given(layer, height, width)
    if layer["warp"] is None:
        sure = np.ones((height, width), bool)
        if layer["method"] == "gridmix":
            return cells_given(layer, height, width), sure
        return is_given(layer, *pixel_centres(height, width), height, width), sure
    ux, uy = warp_points(layer["warp"], height, width)
    given = is_given(layer, ux, uy, height, width)
    tx, ty = edge_tolerances(layer["warp"], height, width)
    around = [is_given(layer, ux + sx, uy + sy, height, width) for sx in (-tx, tx) for sy in (-ty, ty)]
    return given, np.logical_and.reduce([other == given for other in around])


def window_counts(flags, window):
    """How many of the window×window pixels around each are set, borders replicated: int [H, W]."""
    padded = np.pad(flags.astype(np.int64), window // 2, mode="edge")
    views = np.lib.stride_tricks.sliding_window_view(padded, (window, window))
    return views.sum(axis=(2, 3))


def layer_mask(layer, height, width):
    """(mask, sure): float64 [H, W] in [0, 1], and where an f32 engine must agree within 2e-5."""
    all_sure = np.ones((height, width), bool)
    if layer["method"] == "mixup":
        return np.full((height, width), 1.0 - f32(layer["given"])), all_sure
    if layer["method"] in ("gmix", "agmix"):
        return gaussian_mask(layer, height, width)
    given, sure = binary_given(layer, height, width)
    window = layer["smooth_px"] or 1
    # The numerator is an integer and window² is odd and small, so the quotient is never so near
    # the middle of two f32 that rounding to float64 first could change its f32.
    mask = window_counts(~given, window) / window**2
    return mask, window_counts(~sure, window) == 0


# Stage 4: merge, weights, pixels, labels


def render(plan):
    """(masks, sure) of a batch: float64 and bool [N, H, W].

    MiAMix (Liang et al., 2023), Eq. 10 (product) or Eq. 11 (sum, clipped once at the end).
    """
    height, width = plan["height"], plan["width"]
    masks = np.ones((len(plan["samples"]), height, width))
    sure = np.ones(masks.shape, bool)
    for i, sample in enumerate(plan["samples"]):
        layers = [layer_mask(layer, height, width) for layer in sample["layers"]]
        for j, (mask, mask_sure) in enumerate(layers):
            if plan["merge"] == "product":
                masks[i] = masks[i] * mask
            else:
                masks[i] = mask if j == 0 else masks[i] + mask
            sure[i] &= mask_sure
        masks[i] = np.clip(masks[i], 0.0, 1.0)
    return masks, sure


def round_f32(value):
    """The f32 nearest to a Fraction, ties to even, rounded once."""
    return np.float32(round_to_odd(float(value), value - Fraction(float(value))))


def round_to_odd(nearest, error):
    """The float64 whose last bit remembers that `nearest` + `error` was inexact.

    Of the two float64 around an inexact value one is odd.  53 bits with such a last bit round
    to f32 as the value itself would.
    """
    nearest = np.asarray(nearest, np.float64)
    is_even = nearest.view(np.int64) & 1 == 0
    towards = np.where(error > 0, np.inf, -np.inf)
    move = is_even & (error != 0) & np.isfinite(nearest)
    return np.where(move, np.nextafter(nearest, towards), nearest)


def merged_label_weight(mask):
    """The mean of a mask [H, W], as f32: Σ round(mask·2²⁴) / (2²⁴·H·W), rounded once.

    MiAMix (Liang et al., 2023), Eq. 12.  An integer sum has no order.
    """
    steps = np.rint(np.asarray(mask, np.float64) * 2.0**24)
    return round_f32(Fraction(sum(int(step) for step in steps.ravel()), 2**24 * steps.size))


def drawn_label_weight(plan, sample):
    """The weight of the primary's label from the drawn ratios alone, as f32 in [0, 1]."""
    if not sample["layers"]:
        return np.float32(1.0)
    total = 0.0
    for layer in sample["layers"]:
        total += f32(layer["lambda"])
    if plan["merge"] == "product":
        if plan["lambda_reading"] == "keep":
            raise ValueError("label_weight: drawn has no meaning for product with keep")
        total = 1.0 - total
    return np.float32(min(max(total, 0.0), 1.0))


def label_weights(plan, masks):
    """The weight each primary's label gets: f32 [N]."""
    if plan["label_weight"] == "drawn":
        weights = [drawn_label_weight(plan, sample) for sample in plan["samples"]]
    else:
        weights = [merged_label_weight(mask) for mask in masks]
    return np.array(weights, np.float32)


def apply_view(view, source):
    """out(x, y) = source(f(x + dx), y + dy), f mirrors when flipped, 0 outside: [.., H, W]."""
    height, width = source.shape[-2:]
    x = np.arange(width)[None, :] + view["dx"]
    y = np.arange(height)[:, None] + view["dy"]
    if view["flip"]:
        x = width - 1 - x
    is_in_image = (0 <= x) & (x < width) & (0 <= y) & (y < height)
    read = source[..., np.clip(y, 0, height - 1), np.clip(x, 0, width - 1)]
    return np.where(is_in_image, read, np.zeros((), source.dtype))


def fma_f32(a, b, c):
    """a·b + c of f32 arrays, rounded once to f32."""
    product = np.asarray(a, np.float64) * np.asarray(b, np.float64)  # exact: 24 + 24 bits
    addend = np.asarray(c, np.float64)
    total = product + addend
    # Two-sum (Knuth): product + addend = total + error, exactly.
    virtual = total - product
    error = (product - (total - virtual)) + (addend - virtual)
    return round_to_odd(total, error).astype(np.float32)


def widen(pixels, dtype):
    """Stored pixels as f32: f32, u8, or the uint16 bits of f16 and bf16."""
    if dtype == "f16":
        return pixels.view(np.float16).astype(np.float32)
    if dtype == "bf16":
        return (pixels.astype(np.uint32) << 16).view(np.float32)
    return pixels.astype(np.float32)


def narrow(values, dtype):
    """f32 as stored pixels: nearest, ties to even; u8 saturates."""
    if dtype == "f16":
        return values.astype(np.float16).view(np.uint16)
    if dtype == "bf16":
        bits = values.view(np.uint32).astype(np.uint64)
        return ((bits + 0x7FFF + (bits >> 16 & 1)) >> 16).astype(np.uint16)
    if dtype == "u8":
        return np.clip(np.rint(values), 0, 255).astype(np.uint8)
    return values


def mix(mask, primary, partner, dtype="f32"):
    """mask·primary + (1 − mask)·partner, the bits copied where mask is 1 or 0.

    mask : f32, broadcast against the images.  primary, partner : stored pixels of `dtype`.
    MiAMix (Liang et al., 2023), Eq. 7 and Algorithm 1, line 13.
    """
    mask = np.asarray(mask, np.float32)
    # What is computed for the unread image may be NaN or overflow: it is not looked at.
    with np.errstate(all="ignore"):
        kept, given = widen(primary, dtype), (np.float32(1.0) - mask) * widen(partner, dtype)
        blend = narrow(fma_f32(mask, kept, given), dtype)
    return np.where(mask == 1.0, primary, np.where(mask == 0.0, partner, blend))


def mix_map(mask, primary, partner):
    """An integer map (segmentation), [H, W]: the primary's value where mask ≥ ½."""
    return np.where(np.asarray(mask, np.float32) >= 0.5, primary, partner)


def one_hot(ids, num_classes, label_smoothing=0.0):
    """(1 − ε)·one-hot + ε/K in f32, in that order: [N, K].  A negative id gives a row of zeros."""
    epsilon = np.float32(label_smoothing)
    ids = np.asarray(ids, np.int64).reshape(-1, 1)
    hot = (ids == np.arange(num_classes)).astype(np.float32)
    rows = (np.float32(1.0) - epsilon) * hot + epsilon / np.float32(max(num_classes, 1))
    return np.where(ids < 0, np.float32(0.0), rows)


def mix_labels(rows, partner_index, weights):
    """Rows of labels, f32 [N, K], mixed with their partners' by the blend of the pixels."""
    weights = np.asarray(weights, np.float32).reshape(-1, 1)
    return mix(weights, rows, rows[np.asarray(partner_index, np.int64)])


def apply(plan, images, partner_images, dtype="f32"):
    """(mixed images [N, C, H, W], label weights f32 [N]) of a batch."""
    masks = render(plan)[0].astype(np.float32)
    mixed = np.empty_like(images)
    for i, sample in enumerate(plan["samples"]):
        primary = apply_view(sample["primary_view"], images[i])
        partner = apply_view(sample["partner_view"], partner_images[sample["partner_index"]])
        mixed[i] = mix(masks[i], primary, partner, dtype)
    return mixed, label_weights(plan, masks)


def unapply_view(view, gradient):
    """The adjoint of apply_view: what each pixel passes on goes to where it was read, in f32 [.., H, W]."""
    height, width = gradient.shape[-2:]
    back = np.zeros_like(gradient)
    for y in range(height):
        for x in range(width):
            x0, y0 = x + view["dx"], y + view["dy"]
            if 0 <= x0 < width and 0 <= y0 < height:
                back[..., y0, width - 1 - x0 if view["flip"] else x0] = gradient[..., y, x]
    return back


def backward(plan, masks, gradient):
    """(of the images, of the partner images) from the gradient of the mixed ones, f32 [N, C, H, W].

    Each product and each sum is rounded to f32; a partner's sum goes over ascending samples.
    """
    of_images, of_partner = np.zeros_like(gradient), np.zeros_like(gradient)
    for i, sample in enumerate(plan["samples"]):
        mask = np.asarray(masks[i], np.float32)
        of_images[i] = unapply_view(sample["primary_view"], mask * gradient[i])
        of_partner[sample["partner_index"]] += unapply_view(
            sample["partner_view"], (np.float32(1.0) - mask) * gradient[i]
        )
    return of_images, of_partner
