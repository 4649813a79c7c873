"""MiAMix as a callback of Lightning: the model is trained on mixed batches and knows nothing of it.

    python lightning_callback.py --images photographs

Needs torch, pytorch-lightning and pillow; the data and the net are those of train.py.
"""

import argparse
import logging
import warnings
from pathlib import Path

import pytorch_lightning as lightning
import torch
from torch.nn.functional import cross_entropy
from train import Crops, classes, make_net

import miamix


class MiAMixCallback(lightning.Callback):
    """Mixes each training batch ``[images, labels]``, or ``[(view, view), labels]``, in place: labels become soft.

    Ranks differ by their samples, the counter is in the checkpoints, and the last ``plain_epochs`` of ``max_epochs``
    are not mixed.
    """

    def __init__(self, mix, plain_epochs=0):
        self.mix = mix
        self.plain_epochs = plain_epochs

    def on_train_epoch_start(self, trainer, module):
        # -1 where only steps or a time end the training: which epoch will be the last is not known.
        last = trainer.max_epochs if trainer.max_epochs is not None else -1
        self.mix.enabled = last < 0 or trainer.current_epoch < last - self.plain_epochs

    def on_train_batch_start(self, trainer, module, batch, batch_index):
        images, labels = batch
        views = images if isinstance(images, (list, tuple)) else (images, None)
        n = len(labels)
        first_sample = self.mix.next_sample + trainer.global_rank * n
        batch[:] = self.mix(views[0], labels, partner=views[1], first_sample=first_sample)
        self.mix.next_sample += trainer.world_size * n

    def state_dict(self):
        return self.mix.state_dict()

    def load_state_dict(self, state):
        self.mix.load_state_dict(state)


class Classifier(lightning.LightningModule):
    def __init__(self, n_classes):
        super().__init__()
        self.net = make_net(n_classes)

    def training_step(self, batch, batch_index):
        images, targets = batch
        return cross_entropy(self.net(images), targets)

    def test_step(self, batch, batch_index):
        images, labels = batch
        self.log("accuracy", (self.net(images).argmax(1) == labels).float().mean())

    def configure_optimizers(self):
        return torch.optim.AdamW(self.parameters(), 2e-3)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=Path, required=True, metavar="DIR")
    parser.add_argument("--epochs", type=int, default=12)
    parser.add_argument("--plain-epochs", type=int, default=2, help="the last epochs, which are not mixed")
    parser.add_argument("--samples", type=int, default=1024, help="crops of an epoch")
    args = parser.parse_args()
    # Lightning's hints on loggers, workers and pools.
    warnings.filterwarnings("ignore", module="pytorch_lightning|torch")
    logging.getLogger("pytorch_lightning").setLevel(logging.ERROR)
    by_class = classes(args.images)
    mix = miamix.MiAMix(len(by_class), label_smoothing=0.05)
    trainer = lightning.Trainer(
        max_epochs=args.epochs,
        callbacks=[MiAMixCallback(mix, args.plain_epochs)],
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    train, test = (Crops(by_class, band, 48, args.samples, seed=0) for band in ("train", "test"))
    module = Classifier(len(by_class))
    trainer.fit(module, torch.utils.data.DataLoader(train, 32, shuffle=True, drop_last=True))
    [result] = trainer.test(module, torch.utils.data.DataLoader(test, 32), verbose=False)
    n_mixed = args.epochs * (args.samples // 32 * 32)
    assert mix.state_dict() == {"seed": 0, "next_sample": n_mixed}
    print(f"{mix.next_sample} samples; accuracy on test crops {result['accuracy']:.1%}, chance {1 / len(by_class):.1%}")


if __name__ == "__main__":
    main()
