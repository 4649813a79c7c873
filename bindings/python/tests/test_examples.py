"""What the examples decide by themselves; `cargo xtask demo` runs them whole."""

import sys
from types import SimpleNamespace

import pytest
from conftest import REPOSITORY

import miamix


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
