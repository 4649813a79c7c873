"""Packs pictures for the trainer, in the binary format of CIFAR-10.

    python pack_pictures.py --images PICTURES --out DATA

PICTURES with folders train and test: a folder of each is a class with its pictures, which are scaled to 32 x 32.
Otherwise a folder is a class, or without folders each picture is a class of its own, and square crops are cut at random:
for training from the left three fifths of a picture, for testing from the right third, so that no test pixel was
trained on. Needs NumPy and pillow.
"""

import argparse
from pathlib import Path

import numpy as np
from PIL import Image

PICTURES = {".png", ".jpg", ".jpeg", ".webp", ".bmp"}
BANDS = {"train": (0.0, 0.6), "test": (0.66, 1.0)}
FILES = {"train": "data_batch_1.bin", "test": "test_batch.bin"}
SIDE = 32


def pictures(folder):
    return sorted(p for p in folder.iterdir() if p.suffix.lower() in PICTURES and p.is_file())


def classes(folder):
    """Pictures by class name."""
    folders = {p.name: pictures(p) for p in sorted(folder.iterdir()) if p.is_dir() and pictures(p)}
    return folders or {p.stem: [p] for p in pictures(folder)}


def record(label, picture, box=None):
    """A byte for the class, then the pixels, channel by channel."""
    pixels = np.asarray(picture.resize((SIDE, SIDE), Image.Resampling.BILINEAR, box=box), np.uint8)
    return bytes([label]) + pixels.transpose(2, 0, 1).tobytes()


def whole(by_class):
    """A record a picture."""
    for label, paths in enumerate(by_class.values()):
        for path in paths:
            yield record(label, Image.open(path).convert("RGB"))


def crops(by_class, band, n_crops, rng):
    """Records of random crops, as many of each class."""
    cut = []
    for label, paths in enumerate(by_class.values()):
        for path in paths:
            picture = Image.open(path).convert("RGB")
            left, right = (int(picture.width * end) for end in BANDS[band])
            cut.append((label, picture.crop((left, 0, right, picture.height))))
    for i in range(n_crops):
        label, picture = cut[i % len(cut)]
        side = max(1, int(min(picture.size) * rng.uniform(0.3, 0.7)))
        x, y = (int(rng.integers(0, room - side + 1)) for room in picture.size)
        yield record(label, picture, (x, y, x + side, y + side))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=Path, required=True, metavar="PICTURES")
    parser.add_argument("--out", type=Path, required=True, metavar="DATA")
    parser.add_argument("--crops", type=int, default=2048, help="crops to train on; a quarter as many to test")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    rng = np.random.default_rng(args.seed)
    sets = {name: args.images / name for name in FILES}
    if all(folder.is_dir() for folder in sets.values()):
        by_class = {name: classes(folder) for name, folder in sets.items()}
        if by_class["train"].keys() != by_class["test"].keys():
            raise SystemExit(f"{args.images}: train and test must have the same classes")
        records = {name: list(whole(by_class[name])) for name in FILES}
        names = list(by_class["train"])
    else:
        by_class = classes(args.images)
        names = list(by_class)
        n_crops = {"train": args.crops, "test": args.crops // 4}
        records = {name: list(crops(by_class, name, n_crops[name], rng)) for name in FILES}
    if not 2 <= len(names) <= 256:
        raise SystemExit(f"{args.images}: must have pictures of 2 to 256 classes, got {len(names)}")
    args.out.mkdir(parents=True, exist_ok=True)
    for name, file in FILES.items():
        # In random order, so that the first records are a sample of all classes.
        shuffled = [records[name][i] for i in rng.permutation(len(records[name]))]
        (args.out / file).write_bytes(b"".join(shuffled))
    (args.out / "batches.meta.txt").write_text("".join(f"{name}\n" for name in names))
    print(f"{args.out}: {len(names)} classes, {len(records['train'])} images to train on, {len(records['test'])} to test")


if __name__ == "__main__":
    main()
