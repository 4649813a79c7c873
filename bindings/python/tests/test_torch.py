"""torch: tensors, the operator and its gradients, the module, DataLoader workers, data-parallel ranks."""

import copy
import json
import multiprocessing
import os
import pickle
import subprocess
import sys

import numpy as np
import pytest
import torch
import torch.distributed as dist
from batches import expected_labels, expected_mix, make_images, same
from miamix_ref import backward as reference_backward

import miamix
import miamix.torch

IDS = torch.tensor([3, 0, -1, 9, 3])
DTYPES = {"f32": torch.float32, "f16": torch.float16, "bf16": torch.bfloat16, "u8": torch.uint8}


def tensor(images):
    """A NumPy batch as a tensor of the same bits."""
    if images.dtype.itemsize == 2 and images.dtype != np.float16:
        return torch.from_numpy(images.view(np.int16)).view(torch.bfloat16)
    return torch.from_numpy(images)


def array(images):
    """The opposite; bfloat16 as its bits."""
    return images.view(torch.int16).numpy() if images.dtype == torch.bfloat16 else images.numpy()


def scalar(value):
    return torch.tensor(value, dtype=torch.int64)


def settings(num_classes=10, layout="NCHW", **parameters):
    return json.dumps({"num_classes": num_classes, "layout": layout, **parameters})


def run(images, partner=None, labels=IDS, seed=7, first_sample=3, training=True, text=None):
    operator = torch.ops.miamix.mix
    return operator(images, partner, labels, scalar(seed), scalar(first_sample), training, text or settings())


# Tensors in the plain face


@pytest.mark.parametrize("dtype", list(DTYPES))
@pytest.mark.parametrize("order", [torch.contiguous_format, torch.channels_last])
def test_tensors_give_tensors_of_the_same_bits(dtype, order):
    images = make_images(dtype)
    given = tensor(images).contiguous(memory_format=order)
    mix = miamix.MiAMix(num_classes=10)
    mixed, targets = mix(given, IDS, seed=1)
    expected, expected_targets = mix(images, IDS.numpy(), seed=1)
    assert mixed.dtype == DTYPES[dtype] and mixed.is_contiguous(memory_format=order)
    assert array(mixed.contiguous()).tobytes() == expected.tobytes() and same(targets.numpy(), expected_targets)
    out = torch.empty_like(given), torch.empty(5, 10)
    assert mix(given, IDS, seed=1, out=out)[0] is out[0]
    assert torch.equal(out[0], mixed) and torch.equal(out[1], targets)
    maps = torch.arange(5 * 13 * 17).reshape(5, 13, 17)
    plan = mix.draw(given.shape, seed=1)
    assert same(plan.apply_masks(maps).numpy(), plan.apply_masks(maps.numpy()))
    if dtype != "bf16":
        numpy_mixed, _ = mix(given.numpy(), seed=1)
        assert same(numpy_mixed, mixed.numpy())


def test_the_tensors_memory_is_read_and_written():
    from miamix import _arrays

    images = tensor(make_images())
    for view in (images, images[1:], images.permute(0, 2, 3, 1), images[:, :, ::2]):
        described = _arrays.describe(view, "images")
        assert described.data == view.data_ptr() and described.keep[0] is view


def test_a_gradient_that_needs_what_out_held_before_is_an_error():
    images, mix = tensor(make_images()), miamix.MiAMix(10)
    maps = torch.ones(5, 13, 17, dtype=torch.uint8)
    out, rows, masks = torch.empty_like(images), torch.empty(5, 10), torch.empty(5, 13, 17)
    plan, mixed_maps = mix.draw(images.shape, seed=1), torch.empty_like(maps)
    weight = torch.ones(1, requires_grad=True)
    writers = [
        (out, lambda: mix(images, out=out)),
        (out, lambda: plan.apply(images, IDS, out=(out, rows))),
        (rows, lambda: mix(images, IDS, out=(out, rows))),
        (masks, lambda: plan.masks(out=masks)),
        (mixed_maps, lambda: plan.apply_masks(maps, out=mixed_maps)),
    ]
    for written, write in writers:
        write()
        loss = (weight * written).sum()
        loss.backward(retain_graph=True)
        write()
        with pytest.raises(RuntimeError, match="modified by an inplace operation"):
            loss.backward()
    with torch.inference_mode():
        out = torch.empty_like(images)
        assert torch.equal(mix(images, seed=1, out=out)[0], plan.apply(images)[0])


def test_pairs_are_tensors():
    images = tensor(make_images())
    mix = miamix.MiAMix(targets="pairs")
    _, (labels_a, labels_b, weight) = mix(images, IDS, seed=1)
    plan = mix.draw(images.shape, seed=1)
    assert labels_a is IDS and torch.equal(labels_b, IDS[torch.from_numpy(plan.partner_index)])
    assert same(weight.numpy(), plan.label_weight())


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: miamix.MiAMix()(torch.zeros(2, 3, 4, 4, dtype=torch.float64)), "got float64"),
        (lambda: miamix.MiAMix()(torch.zeros(2, 3, 4, 4, device="meta")), "must be in CPU or CUDA memory, got device meta"),
        (lambda: miamix.MiAMix()(torch.eye(4).to_sparse()), "must be a strided tensor of numbers"),
        (lambda: miamix.MiAMix()(torch.zeros(2, 3, 4, 4, requires_grad=True)), "must not require a gradient"),
        (lambda: run(torch.zeros(2, 3, 4, 4), labels=IDS), r"labels: expected shape \[2\], got \[5\]"),
        (lambda: run(torch.zeros(5, 3, 4, 4), text=settings(9)), "must be below num_classes = 9, got 9"),
        (lambda: run(torch.zeros(5, 3, 4, 4), text=settings(None)), "num_classes: must be given"),
        (lambda: miamix.torch.MiAMix(10, alpha=-1), "alpha: must be finite and greater than 0, got -1"),
        (lambda: miamix.torch.MiAMix(10, rank=2, world_size=2), r"rank: must be an integer in 0\.\.=1, got 2"),
        (
            lambda: torch.ops.miamix.mix(
                torch.zeros(5, 3, 4, 4), None, IDS, torch.zeros(2), scalar(0), True, settings()
            ),
            "seed: must be one integer",
        ),
        (lambda: miamix.torch.Collate(miamix.MiAMix())([1]), "batch: must come from NumberedDataset"),
        (
            lambda: miamix.torch.MiAMix(targets="pairs")(torch.zeros(4, 3, 4, 4), IDS),
            r"labels: expected shape \[4, \.\.\.\], got \[5\]",
        ),
        (
            lambda: miamix.torch.MiAMix(layout="NHWC")(torch.zeros(4, 8, 9, 3), partner=torch.zeros(4, 9, 8, 3)),
            r"partner_images: expected shape \[4, 8, 9, 3\], got \[4, 9, 8, 3\]",
        ),
        (
            lambda: miamix.torch.data_loader(Pictures(), miamix.MiAMix(), sampler=range(37), shuffle=True),
            "shuffle: must be False beside a sampler, got True",
        ),
        *(
            (
                lambda given=given: miamix.torch.data_loader(
                    Pictures(), miamix.MiAMix(), batch_sampler=[[0, 1]], **given
                ),
                f"{next(iter(given))}: must not come beside a batch_sampler, got {next(iter(given.values()))}",
            )
            for given in ({"batch_size": 8}, {"shuffle": True}, {"sampler": "any"}, {"drop_last": True})
        ),
    ],
)
def test_errors(call, message):
    with pytest.raises(miamix.MiamixError, match=message):
        call()


def test_a_loader_is_given_the_operator_of_arrays():
    with pytest.raises(TypeError, match=r"^mix: must be a miamix\.MiAMix, got miamix\.torch\.MiAMix$"):
        miamix.torch.data_loader(Pictures(), miamix.torch.MiAMix())


# The operator


@pytest.mark.parametrize("dtype", list(DTYPES))
@pytest.mark.parametrize("two_views", [False, True])
def test_the_operator_is_the_plain_face(dtype, two_views):
    images = make_images(dtype)
    partner = make_images(dtype, salt=1) if two_views else None
    mix = miamix.MiAMix(num_classes=10)
    plan = mix.draw(images.shape, seed=7, first_sample=3)
    mixed, targets, weight, index = run(tensor(images), None if partner is None else tensor(partner))
    assert array(mixed).tobytes() == expected_mix(plan, images, partner).tobytes()
    assert same(targets.numpy(), expected_labels(plan, IDS.numpy(), 10))
    assert same(weight.numpy(), plan.label_weight()) and same(index.numpy(), plan.partner_index)


def test_evaluation_passes_images_through():
    images = tensor(make_images())
    mixed, targets, weight, index = run(images, training=False, text=settings(label_smoothing=0.3, p_flip=1.0))
    assert torch.equal(mixed, images) and mixed.data_ptr() != images.data_ptr()
    assert torch.equal(targets, torch.where(IDS[:, None] < 0, 0, torch.eye(10)[IDS]))
    assert torch.all(weight == 1) and torch.equal(index, torch.arange(5))


@pytest.mark.parametrize("two_views", [False, True])
@pytest.mark.parametrize("order", [torch.contiguous_format, torch.channels_last])
def test_opcheck(two_views, order):
    def images(salt):
        return tensor(make_images(salt=salt)).contiguous(memory_format=order).requires_grad_()

    arguments = (images(0), images(1) if two_views else None, IDS, scalar(7), scalar(3), True, settings())
    torch.library.opcheck(torch.ops.miamix.mix.default, arguments)
    grad = images(2).detach()
    torch.library.opcheck(
        torch.ops.miamix.mix_backward.default, (grad, scalar(7), scalar(3), True, two_views, settings())
    )


@pytest.mark.parametrize("two_views", [False, True])
@pytest.mark.parametrize("dtype", ["f32", "f16", "bf16"])
def test_gradients_are_those_of_the_reference(dtype, two_views):
    text = settings(p_flip=0.5, pad_px=3, p_self=0.3, k_max=3)
    images = [tensor(make_images(dtype, salt=salt)).requires_grad_() for salt in range(1 + two_views)]
    mixed = run(images[0], images[1] if two_views else None, text=text)[0]
    grad = make_images(dtype, salt=9)
    mixed.backward(tensor(grad))
    parameters = {"p_flip": 0.5, "pad_px": 3, "p_self": 0.3, "k_max": 3}
    plan = miamix.MiAMix(**parameters).draw(grad.shape, seed=7, first_sample=3)
    expected = reference_backward(json.loads(plan.to_json()), plan.masks(), grad.astype(np.float32))
    if two_views:
        for image, gradient in zip(images, expected):
            assert np.array_equal(image.grad.float().numpy(), gradient.astype(grad.dtype).astype(np.float32))
    else:
        # The core adds a pixel's shares one by one, the reference the sums of both roles: of at most 6 shares of
        # numbers below 8, whose sums stay below 64, each of the 6 additions errs by half a last place, 2**-19.
        bound = {"f32": 6 * 2.0**-19, "f16": 2.0**-5, "bf16": 2.0**-2}[dtype]
        difference = images[0].grad.float().numpy() - (expected[0] + expected[1])
        assert np.abs(difference).max() <= bound


@pytest.mark.parametrize("pairing", ["permutation", "uniform"])
@pytest.mark.parametrize("training", [True, False])
def test_soft_labels_have_gradients(pairing, training):
    generator = torch.Generator().manual_seed(0)
    rows, grad = (torch.rand(5, 10, generator=generator) for _ in range(2))
    rows.requires_grad_()
    text = settings(None, pairing=pairing)
    images = tensor(make_images("u8"))
    _, targets, weight, index = run(images, labels=rows, training=training, text=text)
    targets.backward(grad)
    expected = np.zeros((5, 10))
    for i, (own, partner) in enumerate(zip(weight.detach().double().tolist(), index.tolist(), strict=True)):
        expected[i] += own * grad[i].double().numpy()
        expected[partner] += (1 - own) * grad[i].double().numpy()
    # At most 1 + 5 addends below 1 of one rounding each, 2**-24 below 1, and 5 sums below 8 of 2**-22 each.
    assert np.abs(rows.grad.double().numpy() - expected).max() <= 6 * 2.0**-24 * 2 + 5 * 2.0**-22
    assert training or torch.equal(rows.grad, grad)
    given = images.float().requires_grad_(), None, rows, scalar(7), scalar(3), training, text
    torch.library.opcheck(torch.ops.miamix.mix.default, given)


def test_gradients_are_central_differences():
    # Mixing is linear in the images, so a central difference has no error but rounding.
    generator = torch.Generator().manual_seed(0)
    images = torch.rand(5, 1, 6, 7, generator=generator)
    partner = torch.rand(5, 1, 6, 7, generator=generator)
    factor = torch.rand(5, 1, 6, 7, generator=generator, dtype=torch.float64)
    text = settings(p_flip=0.5, pad_px=2, pairing="uniform")

    def loss(images, partner):
        return (run(images, partner, text=text)[0].double() * factor).sum()

    given = images.clone().requires_grad_(), partner.clone().requires_grad_()
    loss(*given).backward()
    # A step of 1 takes images to [-1, 2]. A mixed pixel errs by the rounding of (1 - m) p, at most 2**-24 of 2, and of
    # the sum, the same; at most 5 pixels read one, weighted by at most 1; two calls, over a step of 2. The gradient's
    # own products and sums, of at most 5 below 5, err by 10 half last places of 2**-22.
    bound = 2 * 5 * 2 * 2.0**-23 / 2 + 10 * 2.0**-22
    # Summing 210 doubles of at most 2 has an error far below these.
    for role in (0, 1):
        for index in range(images.numel()):
            step = torch.zeros_like(images)
            step.view(-1)[index] = 1
            ends = [loss(images + sign * step * (role == 0), partner + sign * step * (role == 1)) for sign in (1, -1)]
            central = (ends[0] - ends[1]).item() / 2
            assert abs(given[role].grad.view(-1)[index].item() - central) <= bound, (role, index)


@pytest.mark.parametrize("backend", ["eager", "aot_eager", "inductor"])
def test_compiles_as_one_graph(backend, tmp_path, monkeypatch):
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path))
    torch._dynamo.reset()
    module = miamix.torch.MiAMix(10, label_smoothing=0.1)
    other = copy.deepcopy(module)
    compiled = torch.compile(module, backend=backend, fullgraph=True)
    for step in range(3):
        images = tensor(make_images(salt=step)).requires_grad_()
        again = images.detach().clone().requires_grad_()
        mixed, targets = compiled(images, IDS)
        expected, expected_targets = other(again, IDS)
        assert torch.equal(mixed, expected) and torch.equal(targets, expected_targets)
        mixed.square().sum().backward()
        expected.square().sum().backward()
        assert torch.equal(images.grad, again.grad)
    assert module.next_sample == other.next_sample == 15


# The module


def test_the_module_mixes_in_training_and_passes_in_evaluation():
    images = tensor(make_images())
    module = miamix.torch.MiAMix(10, seed=-4, label_smoothing=0.1, alpha=0.5)
    mix = miamix.MiAMix(10, seed=-4, label_smoothing=0.1, alpha=0.5)
    for _ in range(2):
        assert all(map(torch.equal, module(images, IDS), mix(images, IDS)))
    assert module.next_sample == mix.next_sample == 10
    explicit = module(images, IDS, first_sample=scalar(5))
    assert all(map(torch.equal, explicit, mix(images, IDS, first_sample=5)))
    assert all(map(torch.equal, module(images, IDS, seed=scalar(8)), mix(images, IDS, seed=8)))
    assert module(images)[1] is None and module.next_sample == 15
    module.eval()
    mixed, targets = module(images, IDS)
    assert torch.equal(mixed, images) and targets[0].tolist() == np.eye(10)[3].tolist()
    assert module.next_sample == 15


@pytest.mark.parametrize("targets", ["soft", "pairs"])
def test_the_modules_counter_stays_on_an_error(targets):
    images, module = tensor(make_images()), miamix.torch.MiAMix(10, targets=targets)
    for given in (images[:, :, 0], IDS), (images, IDS[:4]):
        with pytest.raises(miamix.MiamixError):
            module(*given)
    assert module.next_sample == 0
    module(images, IDS)
    assert module.next_sample == 5


@pytest.mark.parametrize("name", ["seed", "first_sample"])
@pytest.mark.parametrize("value", [42, np.int64(42)])
def test_the_modules_numbers_are_tensors(name, value):
    with pytest.raises(TypeError, match=rf"^{name}: must be a tensor of one int64, got .*42"):
        miamix.torch.MiAMix(10)(tensor(make_images()), IDS, **{name: value})


@pytest.mark.parametrize("dtype", [torch.int8, torch.int16, torch.uint8, torch.uint16, torch.uint32, torch.int32])
def test_class_ids_of_any_width(dtype):
    images, ids = tensor(make_images()), torch.tensor([3, 0, 1, 9, 3])
    expected = miamix.MiAMix(10)(images, ids, seed=1)
    assert all(map(torch.equal, miamix.MiAMix(10)(images, ids.to(dtype), seed=1), expected))
    assert all(map(torch.equal, run(images, labels=ids.to(dtype)), run(images, labels=ids)))


def test_the_module_may_be_switched_off():
    images, module = tensor(make_images()), miamix.torch.MiAMix(10, label_smoothing=0.1, enabled=False)
    plain = miamix.MiAMix(10, label_smoothing=0.1, enabled=False)
    for enabled in (False, True, False):
        module.enabled = plain.enabled = enabled
        mixed, targets = module(images, IDS)
        expected, expected_targets = plain(images, IDS)
        assert torch.equal(mixed, expected) and torch.equal(targets, expected_targets)
        assert torch.equal(mixed, images) == (not enabled)
    assert module.next_sample == plain.next_sample == 15


def test_the_module_takes_numpys_integers():
    images = tensor(make_images())
    numbers = {"seed": np.int64(3), "rank": np.int64(1), "world_size": np.int64(2), "n_threads": np.int64(1)}
    module = miamix.torch.MiAMix(np.int64(10), k_max=np.int64(3), **numbers)
    plain = miamix.MiAMix(np.int64(10), k_max=np.int64(3), seed=np.int64(3))
    assert all(map(torch.equal, module(images, IDS), plain(images, IDS, first_sample=5)))
    assert {type(value) for value in plain.state_dict().values()} == {int}


def test_the_modules_pairs_and_layout():
    images = tensor(make_images())
    pairs, layout = miamix.torch.MiAMix(targets="pairs"), miamix.torch.MiAMix(10, layout="NHWC")
    mixed, (labels_a, labels_b, weight) = pairs(images, IDS)
    plan = miamix.MiAMix().draw(images.shape, seed=0)
    assert labels_a is IDS and torch.equal(labels_b, IDS[torch.from_numpy(plan.partner_index)])
    assert same(weight.numpy(), plan.label_weight())
    nhwc = images.permute(0, 2, 3, 1).contiguous().requires_grad_()
    mixed_nhwc, _ = layout(nhwc, IDS)
    assert torch.equal(mixed_nhwc.permute(0, 3, 1, 2), mixed)
    planar = images.clone().requires_grad_()
    miamix.torch.MiAMix(10)(planar, IDS)[0].square().sum().backward()
    mixed_nhwc.square().sum().backward()
    assert torch.equal(nhwc.grad.permute(0, 3, 1, 2), planar.grad)


def test_a_checkpoint_of_the_module_goes_on(tmp_path):
    images, module = tensor(make_images()), miamix.torch.MiAMix(10, seed=2**64 - 9)
    module(images, IDS)
    torch.save(module.state_dict(), tmp_path / "module.pt")
    expected = module(images, IDS)
    other = miamix.torch.MiAMix(10)
    other.load_state_dict(torch.load(tmp_path / "module.pt", weights_only=True))
    assert all(map(torch.equal, other(images, IDS), expected))


# DataLoader


class Pictures(torch.utils.data.Dataset):
    """Samples that tell their index."""

    def __init__(self, n=37, views=1):
        self.n, self.views = n, views

    def __len__(self):
        return self.n

    def __getitem__(self, index):
        views = [torch.rand(3, 48, 48, generator=torch.Generator().manual_seed(index + 1000 * v)) for v in range(2)]
        return (views[0] if self.views == 1 else tuple(views)), index % 10


def loader(n_workers, views=1, context=None, shuffle=True, **options):
    mix = miamix.MiAMix(10, seed=3)
    return miamix.torch.data_loader(
        Pictures(views=views),
        mix,
        batch_size=8,
        shuffle=shuffle,
        generator=torch.Generator().manual_seed(1),
        num_workers=n_workers,
        multiprocessing_context=context,
        timeout=120 if n_workers else 0,
        **options,
    )


@pytest.mark.parametrize(
    ("n_workers", "context", "views", "n_epochs"),
    [(4, "fork", 1, 2), (4, "fork", 2, 2), (2, "forkserver", 1, 1), (2, "spawn", 1, 1)],
)
def test_workers_give_the_epochs_of_no_workers(n_workers, context, views, n_epochs):
    # The parent has used the library, threads and all, before it forks.
    miamix.MiAMix(n_threads=2)(torch.rand(16, 3, 64, 64))
    plain, worked = loader(0, views), loader(n_workers, views, context)
    for _ in range(n_epochs):
        expected, got = list(plain), list(worked)
        assert [len(images) for images, _ in got] == [8, 8, 8, 8, 5]
        assert all(torch.equal(a, b) for pair in zip(expected, got) for a, b in zip(*pair))
    assert plain.batch_sampler.next_sample == worked.batch_sampler.next_sample == 37 * n_epochs
    first = next(iter(loader(0, views)))
    second_epoch = list(plain)
    assert not torch.equal(first[0], second_epoch[0][0])


def test_changes_reach_workers_that_stay():
    # As a training script does: the last epoch is not mixed, and a checkpoint brings another seed.
    changes = [{}, {"enabled": False}, {"enabled": True}, {"seed": 8}]
    # In one order: a loader that keeps its workers draws other numbers from its generator between epochs.
    plain, worked = loader(0, shuffle=False), loader(2, shuffle=False, context="fork", persistent_workers=True)
    epochs = []
    for change in changes:
        for either in (plain, worked):
            for name, value in change.items():
                setattr(either.collate_fn.mix, name, value)
        epochs.append(list(plain))
        assert all(torch.equal(a, b) for pair in zip(epochs[-1], worked, strict=True) for a, b in zip(*pair))
    assert all(((targets == 0) | (targets == 1)).all() for _, targets in epochs[1])
    assert not all(((targets == 0) | (targets == 1)).all() for _, targets in epochs[2])


class Threads(miamix.torch.Collate):
    """Tells how many threads mixed."""

    def __call__(self, batch):
        super().__call__(batch)
        return self.mix.n_threads


@pytest.mark.parametrize(("n_workers", "n_threads", "taken"), [(0, 0, 0), (1, 0, 1), (1, 2, 2)])
def test_a_worker_takes_one_thread_unless_told(n_workers, n_threads, taken):
    numbered = miamix.torch.NumberedBatches([[0, 1], [2, 3]])
    mix = miamix.MiAMix(10, n_threads=n_threads)
    pictures = miamix.torch.NumberedDataset(Pictures())
    options = {"batch_sampler": numbered, "collate_fn": Threads(mix), "num_workers": n_workers}
    assert list(torch.utils.data.DataLoader(pictures, **options)) == [taken, taken]
    assert mix.n_threads == n_threads


def test_the_first_batch_is_mixed_under_its_number():
    options = {"batch_size": 8, "sampler": range(37)}
    numbered = miamix.torch.data_loader(Pictures(), miamix.MiAMix(10, seed=3), **options)
    mix = miamix.MiAMix(10, seed=3)
    plain = torch.utils.data.DataLoader(Pictures(), **options)
    for got, (images, labels) in zip(numbered, plain, strict=True):
        assert all(map(torch.equal, got, mix(images, labels)))


def test_an_error_of_a_worker_arrives():
    mix = miamix.MiAMix(3)
    worked = miamix.torch.data_loader(Pictures(), mix, batch_size=8, num_workers=1, timeout=120)
    with pytest.raises(miamix.MiamixValueError, match=r"labels\[3\]: must be below num_classes = 3, got 3"):
        list(worked)


@pytest.mark.parametrize("world_size", [2, 3])
def test_ranks_of_loaders_follow_each_other(world_size):
    samples = []
    for rank in range(world_size):
        batches = miamix.torch.NumberedBatches([[0, 1], [2, 3], [4]], rank=rank, world_size=world_size)
        for batch in batches:
            # A worker gets it through a pipe.
            assert pickle.loads(pickle.dumps(batch)).first_sample == batch.first_sample
            samples += range(batch.first_sample, batch.first_sample + len(batch))
        assert batches.next_sample == 5 * world_size and len(batches) == 3
    assert sorted(samples) == list(range(5 * world_size))


# Data-parallel training


AHEAD = 1000


class Net(torch.nn.Module):
    """A model with the mixer, and with a buffer, in it."""

    def __init__(self, mixer):
        super().__init__()
        self.mixer, self.flatten = mixer, torch.nn.Flatten()
        self.norm, self.linear = torch.nn.BatchNorm1d(3 * 13 * 17), torch.nn.Linear(3 * 13 * 17, 10)

    def forward(self, images, labels):
        mixed, targets = self.mixer(images, labels)
        return self.linear(self.norm(self.flatten(mixed))), mixed, targets


def rank_main(rank, world_size, path, queue):
    dist.init_process_group("gloo", init_method=f"file://{path}", rank=rank, world_size=world_size)
    module = miamix.torch.MiAMix(10, seed=3, rank=rank, world_size=world_size)
    # The mixer is in the model, whose buffers go from rank 0 to all before each step: rank 1's counter must not.
    net = torch.nn.parallel.DistributedDataParallel(Net(module))
    assert not list(module.buffers())
    module.next_sample += rank * AHEAD
    mixed = []
    for step in range(2):
        images = torch.from_numpy(make_images(salt=2 * step + rank))
        logits, batch, targets = net(images, IDS)
        torch.nn.functional.cross_entropy(logits, targets).backward()
        gathered = [torch.empty_like(batch) for _ in range(world_size)]
        dist.all_gather(gathered, batch)
        mixed.append(torch.stack(gathered).numpy())
    queue.put((rank, mixed, int(module.next_sample)))
    dist.destroy_process_group()


def test_two_ranks_draw_what_one_run_would(tmp_path):
    context = multiprocessing.get_context("spawn")
    queue = context.Queue()
    ranks = [context.Process(target=rank_main, args=(rank, 2, tmp_path / "store", queue)) for rank in range(2)]
    for rank in ranks:
        rank.start()
    results = [queue.get(timeout=120) for _ in ranks]
    for rank in ranks:
        rank.join(120)
    mix = miamix.MiAMix(10, seed=3)
    for of_rank, mixed, next_sample in results:
        assert next_sample == 20 + AHEAD * of_rank
        for step in range(2):
            for rank in range(2):
                first = 10 * step + (5 + AHEAD) * rank
                expected, _ = mix(make_images(salt=2 * step + rank), first_sample=first)
                assert same(mixed[step][rank], expected)


def test_torch_is_not_imported_for_numpy():
    code = "import sys, miamix, numpy; miamix.MiAMix()(numpy.zeros((2, 3, 4, 4), 'f4')); print('torch' in sys.modules)"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    run = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True, env=environment)
    assert run.stdout.strip() == "False"
