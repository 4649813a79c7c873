"""What the examples decide by themselves; `cargo xtask test --only examples` runs others whole."""

import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import onnx
import pytest
from conftest import REPOSITORY
from PIL import Image

import miamix
import miamix.onnx


def test_the_demonstration_takes_names_and_makes_its_folder(tmp_path):
    (tmp_path / "libmiamix.so").symlink_to(miamix.library_path())
    onnx.save(miamix.onnx.make_model(10, masks=True), tmp_path / "model.onnx")
    (tmp_path / "pictures").mkdir()
    for name in ("cat", "dog"):
        noise = np.random.default_rng(len(name)).integers(0, 256, (40, 40, 3), np.uint8)
        Image.fromarray(noise).save(tmp_path / "pictures" / f"{name}.png")
    script = REPOSITORY / "examples" / "onnxruntime" / "demo.py"
    names = ["--library", "libmiamix.so", "--model", "model.onnx", "--images", "pictures", "--out", "new/out"]
    subprocess.run([sys.executable, script, *names, "--count", "4", "--size", "32"], cwd=tmp_path, check=True)
    assert {path.name for path in (tmp_path / "new" / "out").iterdir()} == {"contact-sheet.png", "labels.json"}


@pytest.mark.parametrize(
    ("max_epochs", "mixed"), [(5, [True, True, True, False, False]), (-1, [True] * 5), (None, [True] * 5)]
)
def test_the_callback_mixes_where_no_last_epoch_is_known(max_epochs, mixed, monkeypatch):
    # Of Lightning the callback's base alone is needed.
    stand_in = SimpleNamespace(Callback=object, LightningModule=object)
    monkeypatch.setitem(sys.modules, "pytorch_lightning", stand_in)
    monkeypatch.syspath_prepend(str(REPOSITORY / "examples" / "python"))
    monkeypatch.delitem(sys.modules, "lightning_callback", raising=False)
    from lightning_callback import MiAMixCallback

    mix = miamix.MiAMix(10)
    callback, got = MiAMixCallback(mix, plain_epochs=2), []
    for epoch in range(5):
        callback.on_train_epoch_start(SimpleNamespace(current_epoch=epoch, max_epochs=max_epochs), None)
        got.append(mix.enabled)
    assert got == mixed
