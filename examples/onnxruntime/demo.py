"""MiAMix inside ONNX Runtime, on photographs.

    python demo.py --library libmiamix.so --model model.onnx --images photographs --out out

The model holds the operator; `miamix model --num-classes 1000 --masks --out model.onnx` writes it.
`cargo xtask demo` gets all of these ready and runs this file.
"""

import argparse
import json
import statistics
import time
from pathlib import Path

import numpy as np
import onnxruntime as ort
from PIL import Image, ImageDraw, ImageFont

PICTURES = {".png", ".jpg", ".jpeg", ".webp", ".bmp"}


def classes(folder):
    """Pictures by class name: a folder for each class, or else each picture a class."""
    def pictures(path):
        return sorted(p for p in path.iterdir() if p.suffix.lower() in PICTURES and p.is_file())
    folders = {p.name: pictures(p) for p in sorted(folder.iterdir()) if p.is_dir() and pictures(p)}
    return folders or {p.stem: [p] for p in pictures(folder)}


def view(photo, size, rng):
    """A random square of a photograph, mirrored half of the time; float32 [3, size, size] in [0, 1]."""
    side = int(min(photo.size) * rng.uniform(0.6, 1.0)) or 1
    x, y = (int(rng.integers(0, room - side + 1)) for room in photo.size)
    square = photo.resize((size, size), Image.Resampling.BICUBIC, box=(x, y, x + side, y + side))
    if rng.random() < 0.5:
        square = square.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    return np.asarray(square, np.float32).transpose(2, 0, 1) / 255


def contact_sheet(rows, thumb_px=132, gap_px=6, caption_px=20):
    """Rows of (pictures, caption), in two columns."""
    height, n_pictures = thumb_px + caption_px + gap_px, len(rows[0][0])
    width = n_pictures * (thumb_px + gap_px) + 3 * gap_px
    n_lines = -(-len(rows) // 2)
    sheet = Image.new("RGB", (min(len(rows), 2) * width, n_lines * height + gap_px + caption_px), "gainsboro")
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(13)
    for i, (pictures, caption) in enumerate(rows):
        left, top = 2 * gap_px + i // n_lines * width, caption_px + gap_px + i % n_lines * height
        for j, picture in enumerate(pictures):
            picture = Image.fromarray(np.rint(picture * 255).astype(np.uint8))
            sheet.paste(picture.resize((thumb_px, thumb_px)), (left + j * (thumb_px + gap_px), top))
        draw.text((left, top + thumb_px + 2), caption, fill="black", font=font)
    for column in range(min(len(rows), 2)):
        for j, title in enumerate(("primary", "partner", "mask", "mixed")):
            left = 2 * gap_px + column * width + j * (thumb_px + gap_px)
            draw.text((left, gap_px), title, fill="dimgray", font=font)
    return sheet


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("library", "model", "images", "out"):
        parser.add_argument(f"--{name}", type=Path, required=True)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--count", type=int, default=12)
    parser.add_argument("--size", type=int, default=224)
    args = parser.parse_args()

    # A batch: the classes in turn, and two views of each photograph.
    by_class = classes(args.images)
    if not by_class:
        raise SystemExit(f"{args.images} has no pictures ({', '.join(sorted(PICTURES))})")
    names, rng = list(by_class), np.random.default_rng(args.seed)
    labels = np.arange(args.count, dtype=np.int64) % len(names)
    images = np.empty((args.count, 3, args.size, args.size), np.float32)
    partner_images = np.empty_like(images)
    for i, label in enumerate(labels):
        paths = by_class[names[label]]
        photo = Image.open(paths[i // len(names) % len(paths)]).convert("RGB")
        images[i], partner_images[i] = view(photo, args.size, rng), view(photo, args.size, rng)

    # The operator comes with the library, and is then a node like any other.
    options = ort.SessionOptions()
    # A name alone would be looked for where the system has its libraries.
    options.register_custom_ops_library(str(args.library.resolve()))
    session = ort.InferenceSession(str(args.model), options, providers=["CPUExecutionProvider"])
    inputs = {
        "images": images,
        "partner_images": partner_images,
        "labels": labels,
        "seed": np.array(args.seed, np.int64),
        "first_sample": np.array(0, np.int64),
        "training_mode": np.array(True),
    }
    outputs = ("mixed_images", "mixed_labels", "label_weight", "partner_index", "masks")
    times = []
    for _ in range(11):
        start = time.perf_counter()
        mixed, mixed_labels, weights, partners, masks = session.run(outputs, inputs)
        times.append(time.perf_counter() - start)

    print(f"onnxruntime {ort.__version__}, {args.count} pictures of 3x{args.size}x{args.size} float32, seed {args.seed}")
    print(f"one run of the model, masks included: {1e3 * statistics.median(times[1:]):.2f} ms, the median of 10\n")
    print(f"{'sample':>6}  {'partner':>7}  {'label_weight':>12}  {'mean of mask':>12}  mixed label")
    rows, report = [], []
    for i, (weight, partner) in enumerate(zip(weights, partners)):
        own_first = dict.fromkeys((labels[i], *np.flatnonzero(mixed_labels[i])))
        shares = {names[k]: float(mixed_labels[i, k]) for k in own_first}
        label = " + ".join(f"{share:.3f} {name}" for name, share in shares.items())
        mean = masks[i].mean(dtype=np.float64)
        print(f"{i:6}  {partner:7}  {weight:12.7f}  {mean:12.7f}  {label}")
        # What the operator promises.
        assert abs(weight - mean) <= 1e-6, "the label follows the mask"
        assert abs(mixed_labels[i].sum(dtype=np.float64) - 1) <= 1e-6, "a mixed label adds up to 1"
        by_hand = masks[i] * images[i] + (1 - masks[i]) * partner_images[partner]
        assert np.abs(mixed[i] - by_hand).max() <= 1e-6, "the pixels follow the mask"
        mask = np.repeat(masks[i][:, :, None], 3, 2)
        pictures = [p.transpose(1, 2, 0) for p in (images[i], partner_images[partner], mixed[i])]
        rows.append(([*pictures[:2], mask, pictures[2]], f"label_weight {weight:.3f}:  {label}"))
        report.append({"sample": i, "class": names[labels[i]], "partner_index": int(partner),
                       "label_weight": float(weight), "mixed_label": shares})

    args.out.mkdir(parents=True, exist_ok=True)
    contact_sheet(rows).save(args.out / "contact-sheet.png")
    (args.out / "labels.json").write_text(json.dumps({"seed": args.seed, "classes": names, "samples": report}, indent=1))


if __name__ == "__main__":
    main()
