"""The operator as a part of a graph, of a session and of a process."""

import hashlib
import json
import subprocess
import sys
import threading
from pathlib import Path

import graphs
import numpy as np
import onnx
import onnxruntime as ort
import pytest
from graphs import OUTPUTS, Operators, make_images, make_model, make_session, mix_node, value
from onnx import TensorProto, helper, numpy_helper
from test_operator import VARIED, assert_equal, bits, labels_of, scalar_feeds

LEVELS = ["ORT_DISABLE_ALL", "ORT_ENABLE_BASIC", "ORT_ENABLE_EXTENDED", "ORT_ENABLE_ALL"]


# What optimisers leave alone


@pytest.mark.parametrize("level", LEVELS)
def test_nodes_are_neither_folded_nor_merged(level, tmp_path):
    # Everything is constant, and the first two nodes are equal.
    images, labels = make_images("f32", (4, 3, 8, 8)), labels_of("ids", 4)
    constants = {"images": images, "partner_images": images, "labels": labels, **scalar_feeds(3)}
    initializers = [
        numpy_helper.from_array(np.asarray(array), name) for name, array in constants.items()
    ]
    nodes, outputs = [], []
    for name, attributes in (("a", {}), ("b", {}), ("c", {"seed_offset": 1})):
        names = [f"{name}_{output}" for output in OUTPUTS]
        nodes.append(mix_node(name, outputs=names, num_classes=10, **attributes))
        outputs.append(value(names[0], TensorProto.FLOAT, None))
    path = tmp_path / "optimized.onnx"
    level = getattr(ort.GraphOptimizationLevel, level)
    session = make_session(
        make_model(nodes, [], outputs, initializers), level=level, optimized_path=path
    )
    a, b, c = session.run(None, {})
    assert_equal(a, b, "the same seed")
    assert bits(a) != bits(c)
    assert_equal(c, Operators().run(images, images, labels, seed=4)[0], "seed_offset")
    assert [node.op_type for node in onnx.load(path).graph.node].count("MiAMix") == 3


def small_net():
    """MiAMix, a convolution that optimisers rewrite, and the mixed labels."""
    kernel = np.random.default_rng(0).standard_normal((4, 3, 3, 3)).astype(np.float32)
    nodes = [
        mix_node(num_classes=10, **VARIED),
        helper.make_node("Conv", ["mixed_images", "kernel"], ["features"], pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["features"], ["positive"]),
    ]
    inputs = [
        *(value(name, TensorProto.FLOAT, ["N", 3, "H", "W"]) for name in graphs.INPUTS[:2]),
        value("labels", TensorProto.INT64, ["N"]),
        *graphs.scalars(),
    ]
    outputs = [
        value("mixed_images", TensorProto.FLOAT, None),
        value("mixed_labels", TensorProto.FLOAT, None),
        value("positive", TensorProto.FLOAT, None),
    ]
    return make_model(nodes, inputs, outputs, [numpy_helper.from_array(kernel, "kernel")])


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("kind", ["ONNX", "ORT"])
def test_saved_models_keep_the_node(kind, level, tmp_path):
    """What a session has optimised and saved gives the same bits, in either format."""
    path = tmp_path / f"saved.{kind.lower()}"
    options = ort.SessionOptions()
    options.add_session_config_entry("session.save_model_format", kind)
    level = getattr(ort.GraphOptimizationLevel, level)
    first = make_session(small_net(), level=level, optimized_path=path, options=options)
    assert b"MiAMix" in path.read_bytes()
    if kind == "ONNX":
        assert [node.op_type for node in onnx.load(path).graph.node].count("MiAMix") == 1
    again = make_session(path, level=level)
    images, labels = make_images("f32", (5, 3, 9, 8)), labels_of("ids", 5)
    for n in (5, 0, 3):  # one session, batches of several sizes
        feeds = {
            "images": images[:n],
            "partner_images": images[::-1][:n].copy(),
            "labels": labels[:n],
            **scalar_feeds(n),
        }
        expected = first.run(None, feeds)
        assert [output.shape[0] for output in expected] == [n] * 3
        for name, got, want in zip(("images", "labels", "net"), again.run(None, feeds), expected):
            assert_equal(got, want, name)


# Runs at the same time


def test_sixteen_thousand_concurrent_runs():
    """Eight threads, 2,000 runs each of one session, every result that of its sequential run."""
    n_threads, n_runs = 8, 2000
    small, large = (4, 3, 8, 8), (8, 3, 40, 40)  # the latter is shared out to the session's threads
    batches = [
        (make_images("f32", shape), make_images("f32", shape, salt=1), labels_of("ids", shape[0]))
        for shape in (small, large)
    ]

    def digest(operators, number):
        batch = batches[number % 31 == 0]  # of no thread more than of another
        outputs = operators.run(*batch, seed=number, first_sample=7 * number)
        return hashlib.blake2b(b"".join(map(bits, outputs)), digest_size=16).digest()

    alone = Operators(n_threads=1, **VARIED)
    expected = [digest(alone, number) for number in range(n_threads * n_runs)]
    assert len(set(expected)) == len(expected)
    operators = Operators(n_threads=2, **VARIED)
    got = [None] * len(expected)
    start = threading.Barrier(n_threads)

    def run_some(thread):
        start.wait()
        # Neighbouring numbers are of different threads, so that they are drawn at the same time.
        for number in range(thread, len(expected), n_threads):
            got[number] = digest(operators, number)

    threads = [threading.Thread(target=run_some, args=(thread,)) for thread in range(n_threads)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert got == expected


@pytest.mark.skipif(sys.platform != "linux", reason="threads are counted in /proc")
@pytest.mark.parametrize("n_threads", [1, 3])
def test_the_session_does_the_work(n_threads):
    """The operator's work is done by the caller and by the threads that the session has; none come with it."""
    script = Path(__file__).with_name("threads.py")
    command = [sys.executable, str(script), str(n_threads)]
    found = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    assert (found["added"], found["more"]) == (n_threads - 1, 0)
    # Each has its part. An even one would be a third, and a busy machine is not even; who has none uses no time.
    total_s = found["caller_s"] + sum(found["added_s"])
    assert all(part_s > 0.01 * total_s for part_s in [found["caller_s"], *found["added_s"]]), found
