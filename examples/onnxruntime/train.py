"""A net trained by ONNX Runtime, on batches that are mixed inside its graph, and the same without mixing.

    python train.py --images photographs
    python train.py --images cifar10/train --test-images cifar10/test --size 32 --epochs 10

Pictures lie in a folder a class, or each is a class of its own. Without --test-images training crops come from the left
three fifths of a picture and test crops from the right third, so that no test pixel was trained on.
Needs onnxruntime-training (CPython 3.8 to 3.11), onnx 1.17 and pillow.
"""

import argparse
import tempfile
import time
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper
from PIL import Image

import miamix.onnx

PICTURES = {".png", ".jpg", ".jpeg", ".webp", ".bmp"}
BANDS = {"train": (0.0, 0.6), "test": (0.66, 1.0)}


def classes(folder):
    """Pictures by class."""

    def pictures(path):
        return sorted(p for p in path.iterdir() if p.suffix.lower() in PICTURES and p.is_file())

    folders = {p.name: pictures(p) for p in sorted(folder.iterdir()) if p.is_dir() and pictures(p)}
    return list((folders or {p.stem: [p] for p in pictures(folder)}).values())


def as_batch(pictures, labels):
    """float32 [N, 3, S, S], 0 in the middle of the range, and int64 [N]."""
    pixels = np.stack([np.asarray(picture, np.uint8) for picture in pictures])
    return (pixels.transpose(0, 3, 1, 2) / np.float32(64) - np.float32(2)), np.array(labels, np.int64)


def whole(by_class, size, n_samples=None):
    """Every picture once, or as many of each class."""
    each = None if n_samples is None else max(1, n_samples // len(by_class))
    paths = [(path, label) for label, paths in enumerate(by_class) for path in paths[:each]]
    pictures = [Image.open(path).convert("RGB").resize((size, size)) for path, _ in paths]
    return as_batch(pictures, [label for _, label in paths])


def crops(by_class, band, size, n_samples, seed):
    """Random square crops of one band of each picture in turn, of random size."""
    rng, bands = np.random.default_rng([seed, band == "test"]), []
    for label, paths in enumerate(by_class):
        for path in paths:
            picture = Image.open(path).convert("RGB")
            left, right = (int(picture.width * end) for end in BANDS[band])
            bands.append((picture.crop((left, 0, right, picture.height)), label))
    pictures = []
    for i in range(n_samples):
        picture, _ = bands[i % len(bands)]
        side = max(1, int(min(picture.size) * rng.uniform(0.3, 0.7)))
        x, y = (int(rng.integers(0, room - side + 1)) for room in picture.size)
        box = (x, y, x + side, y + side)
        pictures.append(picture.resize((size, size), Image.Resampling.BILINEAR, box=box))
    return as_batch(pictures, [bands[i % len(bands)][1] for i in range(n_samples)])


def make_net(n_classes, size, seed, widths=(16, 32, 64)):
    """Three convolutions, the mean over the picture, and a matrix: images [N, 3, S, S] to logits [N, K]."""
    rng, nodes, weights = np.random.default_rng(seed), [], []

    def add(kind, name, inputs, **attributes):
        nodes.append(helper.make_node(kind, inputs, [name], name=name, **attributes))
        return name

    def parameters(name, *shape):
        noise = rng.standard_normal(shape) * np.sqrt(2 / np.prod(shape[1:]))
        for array, part in ((noise, "weight"), (np.zeros(shape[0]), "bias")):
            weights.append(numpy_helper.from_array(array.astype(np.float32), f"{name}.{part}"))
        return [f"{name}.weight", f"{name}.bias"]

    top = "images"
    for i, (n_in, n_out) in enumerate(zip((3, *widths), widths)):
        top = add("Conv", f"conv{i}", [top, *parameters(f"conv{i}", n_out, n_in, 3, 3)], pads=[1, 1, 1, 1])
        top = add("Relu", f"relu{i}", [top])
        if i + 1 < len(widths):
            top = add("MaxPool", f"pool{i}", [top], kernel_shape=[2, 2], strides=[2, 2])
    top = add("Flatten", "features", [add("GlobalAveragePool", "mean", [top])])
    add("Gemm", "logits", [top, *parameters("classifier", n_classes, widths[-1])], transB=1)
    images = helper.make_tensor_value_info("images", TensorProto.FLOAT, ["batch", 3, size, size])
    logits = helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", n_classes])
    graph = helper.make_graph(nodes, "net", [images], [logits], weights)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def train(train_set, test_set, n_classes, args, mixing, folder):
    """Losses of the epochs, accuracy on the test pictures, and that of the model without MiAMix in it."""
    net = make_net(n_classes, args.size, args.seed)
    miamix.onnx.training_artifacts(
        net,
        folder,
        images="images",
        logits="logits",
        num_classes=n_classes,
        seed=args.seed,
        # Flips and shifts are in both runs, mixing in one.
        p_flip=0.5,
        pad_px=args.size // 8,
        p_apply=float(mixing),
    )
    module, optimizer, state = miamix.onnx.load_training(folder)
    rng, first_sample, losses = np.random.default_rng(args.seed), 0, []
    images, labels = train_set
    n_batches = max(1, len(images) // args.batch_size)
    for epoch in range(args.epochs):
        start, total = time.perf_counter(), 0.0
        # As the papers do it: the last epochs see pictures as they are.
        training_mode = np.array(epoch < args.epochs - args.plain_epochs)
        optimizer.set_learning_rate(args.learning_rate * 0.5 * (1 + np.cos(np.pi * epoch / args.epochs)))
        module.train()
        for batch in np.array_split(rng.permutation(len(images))[: n_batches * args.batch_size], n_batches):
            loss, _ = module(images[batch], labels[batch], np.array(first_sample), training_mode)
            optimizer.step()
            module.lazy_reset_grad()
            total, first_sample = total + float(loss), first_sample + len(batch)
        losses.append(total / n_batches)
        note = "" if training_mode else ", pictures as they are"
        print(f"  epoch {epoch + 1}: loss {losses[-1]:.3f}, {time.perf_counter() - start:.1f} s{note}", flush=True)

    def in_batches(predict):
        images, labels = test_set
        starts = range(0, len(images), args.batch_size)
        logits = [predict(images[i : i + args.batch_size], labels[i : i + args.batch_size]) for i in starts]
        return np.concatenate(logits)

    # The training graph, out of training: nothing is mixed.
    module.eval()
    logits = in_batches(lambda images, labels: module(images, labels, np.array(0), np.array(False))[1])
    # The net alone, as it is deployed. One optimisation is left out, convolutions in another memory layout, which add
    # up in another order: so the logits are the same bits.
    onnx.save(miamix.onnx.trained_model(net, state), folder / "net.onnx")
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
    session = onnxruntime.InferenceSession(str(folder / "net.onnx"), options, ["CPUExecutionProvider"])
    clean_logits = in_batches(lambda images, _: session.run(["logits"], {"images": images})[0])
    accuracy, clean_accuracy = (float((each.argmax(1) == test_set[1]).mean()) for each in (logits, clean_logits))
    return {
        "losses": losses,
        "accuracy": accuracy,
        "clean_accuracy": clean_accuracy,
        "same_logits": np.array_equal(logits, clean_logits),
    }


def compare(args):
    """What :func:`train` gives with mixing and without, by name; the classes and the numbers of pictures."""
    by_class = classes(args.images)
    if len(by_class) < 2:
        raise SystemExit(f"{args.images} must have pictures of two classes or more ({', '.join(sorted(PICTURES))})")
    if args.test_images is None:
        n_samples = args.samples or 1024
        train_set = crops(by_class, "train", args.size, n_samples, args.seed)
        test_set = crops(by_class, "test", args.size, n_samples // 2, args.seed)
    else:
        train_set, test_set = whole(by_class, args.size, args.samples), whole(classes(args.test_images), args.size)
    results = {}
    with tempfile.TemporaryDirectory() as temporary:
        for name, mixing in (("with MiAMix", True), ("without", False)):
            print(name)
            folder = (args.out or Path(temporary)) / ("mixed" if mixing else "plain")
            results[name] = train(train_set, test_set, len(by_class), args, mixing, folder)
    return results, len(by_class), (len(train_set[0]), len(test_set[0]))


def arguments(given=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=Path, required=True, metavar="DIR")
    parser.add_argument("--test-images", type=Path, metavar="DIR")
    parser.add_argument("--out", type=Path, metavar="DIR", help="where the models go [default: nowhere]")
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--plain-epochs", type=int, default=2, help="the last epochs, which are not mixed")
    parser.add_argument("--samples", type=int, help="training pictures [default: all, or 1024 crops]")
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--size", type=int, default=48, help="side, pixels")
    parser.add_argument("--learning-rate", type=float, default=2e-3)
    parser.add_argument("--seed", type=int, default=0)
    return parser.parse_args(given)


def main():
    args = arguments()
    results, n_classes, (n_train, n_test) = compare(args)
    print(f"onnxruntime-training {onnxruntime.__version__}: {n_classes} classes, {n_train} pictures, {args.epochs} epochs")
    print(f"accuracy on {n_test} test pictures  training graph  clean model")
    for name, result in results.items():
        same = "the same logits" if result["same_logits"] else "other logits"
        print(f"  {name:30} {result['accuracy']:14.2%}  {result['clean_accuracy']:11.2%}  {same}")
    print(f"  {'chance':30} {1 / n_classes:14.2%}")


if __name__ == "__main__":
    main()
