"""torch.onnx.export of a module with MiAMix in front of a small net, run in ONNX Runtime."""

import numpy as np
import onnxruntime as ort
import pytest
import torch
from batches import make_images

import miamix.onnx
import miamix.torch


class Net(torch.nn.Module):
    """Mixes, then looks: what is exported in one graph."""

    def __init__(self, two_views, **parameters):
        super().__init__()
        self.two_views = two_views
        self.mix = miamix.torch.MiAMix(10, label_smoothing=0.1, **parameters)
        self.net = torch.nn.Sequential(
            torch.nn.Conv2d(3, 4, 3), torch.nn.ReLU(), torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten()
        )

    def forward(self, images, partner, labels, seed, first_sample):
        mixed, targets = self.mix(images, labels, partner if self.two_views else None, seed, first_sample)
        return self.net(mixed), mixed, targets


@pytest.mark.parametrize("two_views", [False, True])
def test_an_exported_module_gives_its_own_result(two_views, tmp_path):
    torch.manual_seed(0)
    module = Net(two_views, k_max=3, p_flip=0.5)
    images, partner = (torch.from_numpy(make_images(salt=salt)) for salt in range(2))
    labels = torch.tensor([3, 0, -1, 9, 3])
    arguments = images, partner, labels, torch.tensor(-7), torch.tensor(11)
    batch = {0: torch.export.Dim.DYNAMIC}
    program = torch.onnx.export(
        module,
        arguments,
        dynamo=True,
        custom_translation_table=miamix.onnx.translation_table(),
        dynamic_shapes=(batch, batch, batch, None, None),
        input_names=["images", "partner", "labels", "seed", "first_sample"],
        verbose=False,
    )
    program.save(tmp_path / "net.onnx")
    nodes = [node for node in program.model_proto.graph.node if node.domain == "ai.miamix"]
    assert [node.op_type for node in nodes] == ["MiAMix"]
    assert {opset.domain: opset.version for opset in program.model_proto.opset_import}["ai.miamix"] == 1
    options = ort.SessionOptions()
    miamix.onnx.register(options)
    session = ort.InferenceSession(tmp_path / "net.onnx", options, ["CPUExecutionProvider"])
    for n in (5, 3):
        given = [argument[:n] if argument.dim() else argument for argument in arguments]
        known = {value.name for value in session.get_inputs()}
        names = ["images", "partner", "labels", "seed", "first_sample"]
        feeds = {name: value.numpy() for name, value in zip(names, given) if name in known}
        logits, mixed, targets = session.run(None, feeds)
        expected_logits, expected_mixed, expected_targets = (value.detach().numpy() for value in module(*given))
        assert mixed.tobytes() == expected_mixed.tobytes() and targets.tobytes() == expected_targets.tobytes()
        # The net is not ours: a sum of 27 products, in whatever order, of numbers below 8 and weights below 0.2.
        assert np.abs(logits - expected_logits).max() <= 28 * 27 * 1.6 * 2.0**-24
