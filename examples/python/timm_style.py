"""A recipe as timm's training script has it, with MiAMix in the place of timm.data.Mixup.

    python timm_style.py --images photographs

Two lines change: the one that makes mixup_fn, and the one that switches it off. Switched off, timm's Mixup goes on
smoothing labels, and this one does not; to smooth them to the end, put another miamix.MiAMix with p_apply=0 and the
same label_smoothing in its place. Options have timm's names. What is mixed is the batch in the training process;
train.py mixes in the workers. Needs torch and pillow; data and net are those of train.py.
"""

import argparse
import copy
import math
from pathlib import Path

import torch
from torch.nn.functional import cross_entropy
from train import Crops, accuracy, classes, make_net

import miamix


def learning_rate(step, n_steps, args):
    """Linear warmup, then half a cosine."""
    warmup = args.warmup_epochs * n_steps // args.epochs
    if step < warmup:
        return args.lr * (step + 1) / warmup
    return args.lr / 2 * (1 + math.cos(math.pi * (step - warmup) / (n_steps - warmup)))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=Path, required=True, metavar="DIR")
    parser.add_argument("--epochs", type=int, default=12)
    parser.add_argument("--warmup-epochs", type=int, default=1)
    parser.add_argument("--mixup-off-epoch", type=int, default=10)
    parser.add_argument("--lr", type=float, default=4e-3)
    parser.add_argument("--weight-decay", type=float, default=0.05)
    parser.add_argument("--smoothing", type=float, default=0.1)
    parser.add_argument("--clip-grad", type=float, default=1.0)
    parser.add_argument("--model-ema-decay", type=float, default=0.95)
    parser.add_argument("--samples", type=int, default=1024, help="crops of an epoch")
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--size", type=int, default=48)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    torch.manual_seed(args.seed)
    by_class = classes(args.images)
    train, test = (Crops(by_class, band, args.size, args.samples, args.seed) for band in ("train", "test"))
    loader = torch.utils.data.DataLoader(train, args.batch_size, shuffle=True)  # odd batches are fine

    # mixup_fn = timm.data.Mixup(mixup_alpha=0.8, cutmix_alpha=1.0, label_smoothing=args.smoothing, num_classes=...)
    mixup_fn = miamix.MiAMix(len(by_class), label_smoothing=args.smoothing, seed=args.seed)

    net = make_net(len(by_class))
    average = copy.deepcopy(net)
    optimizer = torch.optim.AdamW(net.parameters(), args.lr, weight_decay=args.weight_decay)
    step, n_steps = 0, args.epochs * len(loader)
    for epoch in range(args.epochs):
        train.epoch = epoch
        mixup_fn.enabled = epoch < args.mixup_off_epoch
        for (view, other_view), labels in loader:
            images, targets = mixup_fn(view, labels, partner=other_view)
            optimizer.param_groups[0]["lr"] = learning_rate(step, n_steps, args)
            with torch.autocast("cpu", torch.bfloat16):
                loss = cross_entropy(net(images), targets)
            optimizer.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(net.parameters(), args.clip_grad)
            optimizer.step()
            with torch.no_grad():
                for old, new in zip(average.state_dict().values(), net.state_dict().values(), strict=True):
                    decay = args.model_ema_decay if old.is_floating_point() else 0
                    old.copy_(decay * old + (1 - decay) * new)
            step += 1
        print(f"epoch {epoch + 1}: loss {loss.item():.3f}{'' if mixup_fn.enabled else ', not mixed'}", flush=True)
    # What a checkpoint keeps beside the net.
    assert mixup_fn.state_dict() == {"seed": args.seed, "next_sample": args.epochs * args.samples}
    print(f"accuracy on test crops {accuracy(average, test, args):.1%}, chance {1 / len(by_class):.1%}")


if __name__ == "__main__":
    main()
