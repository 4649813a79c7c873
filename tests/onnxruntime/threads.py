"""Which threads of a process do the operator's work: threads.py N

Prints a line of JSON: how many threads a session of N added, how many more running it did, and the processor time,
seconds, of the calling thread and of each that was added.
"""

import json
import os
import sys
import threading
import time
from pathlib import Path

import graphs
import numpy as np
import onnxruntime as ort
from onnx import TensorProto

TASKS = Path("/proc/self/task")


def threads():
    return {path.name for path in TASKS.iterdir()}


def cpu_s(thread):
    return int((TASKS / thread / "schedstat").read_text().split()[0]) / 1e9


def main(n_threads):
    inputs = [
        *(graphs.value(name, TensorProto.FLOAT, None) for name in ("images", "partner_images")),
        graphs.value("labels", TensorProto.INT64, None),
        *graphs.scalars(),
    ]
    outputs = [graphs.value("mixed_images", TensorProto.FLOAT, None)]
    model = graphs.make_model([graphs.mix_node(num_classes=10)], inputs, outputs)
    images = graphs.make_images("f32", (64, 3, 64, 64))
    feeds = {
        "images": images,
        "partner_images": images,
        "labels": np.arange(64) % 10,
        "first_sample": np.array(0),
        "training_mode": np.array(True),
    }
    graphs.make_session(model, 1)  # what a process has once, whatever its sessions

    # Looks for threads while the session runs, too.
    seen, is_done = set(), threading.Event()

    def watch():
        while not is_done.wait(0.001):
            seen.update(threads())

    watcher = threading.Thread(target=watch)
    watcher.start()
    before = threads()
    options = ort.SessionOptions()
    # A thread that waits for work would look as if it had some.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    session = graphs.make_session(model, n_threads, options=options)
    added = sorted(threads() - before)
    caller = str(threading.get_native_id())
    start = {thread: cpu_s(thread) for thread in [caller, *added]}
    end_s, seed = time.monotonic() + 1.5, 0
    while time.monotonic() < end_s:
        session.run(None, {**feeds, "seed": np.array(seed)})
        seed += 1
    used = {thread: cpu_s(thread) - start[thread] for thread in start}
    is_done.set()
    watcher.join()
    more = (seen | threads()) - before - set(added)
    print(
        json.dumps(
            {
                "added": len(added),
                "more": len(more),
                "caller_s": used[caller],
                "added_s": [used[thread] for thread in added],
            }
        )
    )


if __name__ == "__main__":
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    main(int(sys.argv[1]))
