"""A small net, trained on crops of photographs with MiAMix and without it.

    python train.py --images photographs

A folder of DIR is a class with its pictures; without folders each picture is a class of its own. Training crops come
from the left three fifths of a picture, test crops from the right third, so that no test pixel was trained on.
Needs torch and pillow.
"""

import argparse
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch.nn.functional import cross_entropy

import miamix
import miamix.torch

PICTURES = {".png", ".jpg", ".jpeg", ".webp", ".bmp"}
BANDS = {"train": (0.0, 0.6), "test": (0.66, 1.0)}


def classes(folder):
    """Pictures by class name."""

    def pictures(path):
        return sorted(p for p in path.iterdir() if p.suffix.lower() in PICTURES and p.is_file())

    folders = {p.name: pictures(p) for p in sorted(folder.iterdir()) if p.is_dir() and pictures(p)}
    return folders or {p.stem: [p] for p in pictures(folder)}


class Crops(torch.utils.data.Dataset):
    """Random square crops of one band of each picture, of random size, mirrored half of the time.

    Sample i is a function of (seed, epoch, i) alone, so that workers change nothing. In training it is a pair of
    independent views: with the second one, a sample that is mixed with itself is mixed with another look at it.
    """

    def __init__(self, by_class, band, size, n_samples, seed):
        self.pictures = []
        for label, paths in enumerate(by_class.values()):
            for path in paths:
                picture = Image.open(path).convert("RGB")
                left, right = (int(picture.width * end) for end in BANDS[band])
                picture = picture.crop((left, 0, right, picture.height))
                # Crops are small: no more pixels than they need.
                scale = min(1, 4 * size / min(picture.size))
                shape = [max(1, round(side * scale)) for side in picture.size]
                self.pictures.append((picture.resize(shape, Image.Resampling.BILINEAR), label))
        self.views, self.size, self.n_samples, self.seed = 2 if band == "train" else 1, size, n_samples, seed
        self.epoch = 0

    def __len__(self):
        return self.n_samples

    def __getitem__(self, index):
        rng = np.random.default_rng([self.seed, self.epoch, index])
        picture, label = self.pictures[index % len(self.pictures)]
        views = [self.view(picture, rng) for _ in range(self.views)]
        return (tuple(views) if self.views > 1 else views[0]), label

    def view(self, picture, rng):
        side = max(1, int(min(picture.size) * rng.uniform(0.3, 0.7)))
        x, y = (int(rng.integers(0, room - side + 1)) for room in picture.size)
        crop = picture.resize((self.size, self.size), Image.Resampling.BILINEAR, box=(x, y, x + side, y + side))
        pixels = torch.from_numpy(np.asarray(crop, np.float32).transpose(2, 0, 1) / 255)
        return pixels.flip(2) if rng.random() < 0.5 else pixels


def make_net(n_classes):
    def block(n_in, n_out):
        convolution = torch.nn.Conv2d(n_in, n_out, 3, padding=1, bias=False)
        return torch.nn.Sequential(convolution, torch.nn.BatchNorm2d(n_out), torch.nn.ReLU(), torch.nn.MaxPool2d(2))

    pool = torch.nn.AdaptiveAvgPool2d(1)
    return torch.nn.Sequential(
        block(3, 16), block(16, 32), block(32, 64), pool, torch.nn.Flatten(), torch.nn.Linear(64, n_classes)
    )


def accuracy(net, test, args):
    net.eval()
    n_right = 0
    with torch.no_grad():
        for images, labels in torch.utils.data.DataLoader(test, args.batch_size):
            n_right += (net(images).argmax(1) == labels).sum().item()
    net.train()
    return n_right / len(test)


def train(by_class, args, mixing):
    """The accuracy on test crops after training."""
    torch.manual_seed(args.seed)
    crops = Crops(by_class, "train", args.size, args.samples, args.seed)
    test = Crops(by_class, "test", args.size, args.samples // 2, args.seed)
    net = make_net(len(by_class))
    optimizer = torch.optim.AdamW(net.parameters(), 2e-3, weight_decay=0.01)
    # Without mixing labels are smoothed all the same: one thing differs.
    mix = miamix.MiAMix(len(by_class), seed=args.seed, label_smoothing=0.05, **({} if mixing else {"p_apply": 0.0}))
    loader = miamix.torch.data_loader(
        crops, mix, batch_size=args.batch_size, shuffle=True, num_workers=args.workers, drop_last=True
    )
    for epoch in range(args.epochs):
        crops.epoch = epoch
        # As the papers do it: the last epochs see images as they are. Workers begin anew with each epoch.
        mix.enabled = epoch < args.epochs - args.plain_epochs
        total = 0.0
        for images, targets in loader:
            loss = cross_entropy(net(images), targets)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            total += loss.item()
        note = "" if mixing and mix.enabled else ", not mixed"
        print(f"  epoch {epoch + 1}: loss {total / len(loader):.3f}{note}", flush=True)
    return accuracy(net, test, args)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=Path, required=True, metavar="DIR")
    parser.add_argument("--epochs", type=int, default=12)
    parser.add_argument("--plain-epochs", type=int, default=2, help="the last epochs, which are not mixed")
    parser.add_argument("--samples", type=int, default=1024, help="crops of an epoch")
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--size", type=int, default=48, help="side of a crop, pixels")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    by_class = classes(args.images)
    if len(by_class) < 2:
        raise SystemExit(f"{args.images} must have pictures of two classes or more ({', '.join(sorted(PICTURES))})")
    results = {}
    for name, mixing in (("with MiAMix", True), ("without", False)):
        print(name)
        results[name] = train(by_class, args, mixing)
    print(f"{len(by_class)} classes; accuracy on {args.samples // 2} test crops:")
    for name, result in {**results, "chance": 1 / len(by_class)}.items():
        print(f"  {name:12} {result:6.1%}")


if __name__ == "__main__":
    main()
