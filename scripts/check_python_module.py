"""The wheel's Python module, installed: policies and datasets as numpy, bad input, threads and forks.

    python scripts/check_python_module.py CHECKOUT

Run it with a Python that has the wheel and numpy. CHECKOUT has golden checkpoints that LeRobot made; the demonstration dataset is
recorded by the program of the wheel. scripts/check_packages.sh runs it; scripts/check_python_in_lerobot.py goes further, with LeRobot.
"""

import json
import multiprocessing
import struct
import subprocess
import sys
import sysconfig
import tempfile
import threading
from pathlib import Path

import numpy as np
import sinew

GOLDEN = Path(sys.argv[1]) / "crates/policy/tests/golden"


def tensors(path):
    """A safetensors file's tensors and metadata, without a library for it."""
    data = path.read_bytes()
    size = struct.unpack("<Q", data[:8])[0]
    head = json.loads(data[8 : 8 + size])
    kinds = {"F32": np.float32, "U8": np.uint8}
    metadata = head.pop("__metadata__", {})
    found = {}
    for name, spec in head.items():
        begin, end = (8 + size + offset for offset in spec["data_offsets"])
        found[name] = np.frombuffer(data[begin:end], kinds[spec["dtype"]]).reshape(spec["shape"])
    return found, metadata


def raises(kind, words, call):
    try:
        call()
    except kind as error:
        assert words in str(error), f"expected {words!r} in: {error}"
    else:
        raise AssertionError(f"expected {kind.__name__}: {words}")


def policies():
    for case in ("act/two_cameras_vae", "diffusion/two_encoders", "smolvla/prefix", "pi05/odd_sizes"):
        folder = GOLDEN / case
        if not folder.exists():
            continue
        inputs, metadata = tensors(folder / "inputs.safetensors")
        expected = tensors(folder / "expected.safetensors")[0]["action"]
        if "noise_steps" in inputs:
            continue
        policy = sinew.Policy.from_pretrained(str(folder))
        observation = {**inputs, "task": metadata.get("task", "")}
        actions = policy.infer(observation)
        assert actions.dtype == np.float32 and actions.shape == expected.shape, (actions.dtype, actions.shape)
        worst = np.abs(actions - expected).max() / np.ptp(expected)
        assert worst < 1e-4, (case, worst)
        print(f"{case}: {worst:.1e} of LeRobot's range")


def one_policy():
    folder = GOLDEN / "act/two_cameras_vae"
    inputs, _ = tensors(folder / "inputs.safetensors")
    policy = sinew.Policy.from_pretrained(str(folder))
    chunk = policy.infer(inputs)
    assert policy.info["family"] == "act" and policy.info["chunk_size"] == len(chunk)
    # Any layout in memory, float images, float64 vectors: the same values are the same inputs.
    front, state = "observation.images.front", "observation.state"
    same = dict(inputs)
    same[front] = np.asfortranarray(inputs[front])
    assert not same[front].flags.c_contiguous
    same[state] = np.repeat(inputs[state].astype(np.float64), 2)[::2]
    assert np.array_equal(policy.infer(same), chunk)
    same[front] = (inputs[front].astype(np.float32) / 255).transpose(2, 0, 1)
    assert np.array_equal(policy.infer(same), chunk)
    same[front] = inputs[front][::-1][::-1]
    assert np.array_equal(policy.infer(same), chunk)

    # One action a step.
    for row in chunk[:3]:
        assert np.array_equal(policy.select_action(inputs), row)
    twin = policy.copy()
    assert np.array_equal(twin.select_action(inputs), chunk[0]), "a copy has a queue of its own"
    assert np.array_equal(policy.select_action(inputs), chunk[3])
    policy.reset()
    assert np.array_equal(policy.select_action(inputs), chunk[0])
    assert np.array_equal(twin.select_action(inputs), chunk[1])

    # Bad input.
    raises(ValueError, "observation.state", lambda: policy.infer({front: inputs[front]}))
    raises(ValueError, "5 values", lambda: policy.infer({**inputs, state: np.zeros(5, np.float32)}))
    raises(ValueError, "NaN", lambda: policy.infer({**inputs, state: np.full(6, np.nan, np.float32)}))
    raises(ValueError, "expected 0..1", lambda: policy.infer({**inputs, front: inputs[front].astype(np.float32).transpose(2, 0, 1)}))
    raises(TypeError, "int64", lambda: policy.infer({**inputs, state: np.zeros(6, np.int64)}))
    raises(TypeError, "object", lambda: policy.infer({**inputs, state: np.array([None] * 6)}))
    raises(TypeError, "uint8 [H, W, 3]", lambda: policy.infer({**inputs, front: inputs[front][..., 0]}))
    raises(TypeError, "a sentence", lambda: policy.infer({**inputs, "task": 7}))
    raises(ValueError, "", lambda: sinew.Policy.from_pretrained(""))
    raises(sinew.SinewError, "nothing_there", lambda: sinew.Policy.from_pretrained("./nothing_there"))
    raises(ValueError, "abacus", lambda: sinew.Policy.from_pretrained(str(folder), device="abacus"))
    raises(sinew.SinewError, "", lambda: sinew.Policy.from_pretrained(str(folder), rename={"front": "observation.images.nope"}))

    # Threads share a policy, and the interpreter runs on meanwhile.
    answers = [None] * 4
    threads = [threading.Thread(target=lambda at=at: answers.__setitem__(at, policy.infer(inputs))) for at in range(4)]
    [thread.start() for thread in threads]
    [thread.join() for thread in threads]
    assert all(np.array_equal(answer, chunk) for answer in answers)

    # A forked process has none of the threads; it is told, and does not hang.
    context = multiprocessing.get_context("fork")
    queue = context.Queue()

    def in_child():
        try:
            policy.infer(inputs)
            queue.put("no error")
        except Exception as error:  # noqa: BLE001
            queue.put(f"{type(error).__name__}: {error}")

    child = context.Process(target=in_child)
    child.start()
    said = queue.get(timeout=30)
    child.join(timeout=30)
    assert said.startswith("SinewError") and "forked" in said, said
    print("one policy: layouts, queue, bad input, threads, fork")


def datasets(folder):
    program = Path(sysconfig.get_path("scripts"), "sinew")
    words = "record --robot so101 --sim --teleop scripted --task pick-place --episodes 2 --seed 20"
    subprocess.run([program, *words.split(), "--out", "demos"], cwd=folder, check=True, stdin=subprocess.DEVNULL, capture_output=True)
    dataset = sinew.Dataset(str(folder / "demos"))
    assert len(dataset) == dataset.num_episodes == 2 and dataset.fps == 30.0, dataset
    assert set(dataset.cameras) == {"observation.images.front", "observation.images.wrist"}
    rows = dataset.rows(1)
    count = len(rows["action"])
    assert rows["action"].shape == rows["observation.state"].shape == (count, 6) and rows["action"].dtype == np.float32
    assert np.array_equal(rows["frame_index"], np.arange(count)) and (rows["episode_index"] == 1).all()
    assert np.allclose(rows["timestamp"], np.arange(count) / 30, atol=1e-4)
    assert sum(len(dataset.rows(episode)["action"]) for episode in range(2)) == dataset.num_frames
    # Views, which nobody writes to, and which keep their memory.
    raises(ValueError, "read-only", lambda: rows["action"].__setitem__((0, 0), 1.0))
    action, copy = rows["action"], rows["action"].copy()
    del rows
    images = list(dataset.frames(1, "front", 3, 8))
    assert len(images) == 5 and all(image.shape == (240, 320, 3) or image.ndim == 3 for image in images) and images[0].dtype == np.uint8
    kept = images[2].copy()
    again = next(iter(dataset.frames(1, "observation.images.front", 5)))
    assert np.array_equal(again, kept)
    assert images[0].base is not None and not images[0].flags.writeable
    del dataset
    assert np.array_equal(action, copy) and np.array_equal(images[2], kept)

    dataset = sinew.Dataset(str(folder / "demos"))
    raises(IndexError, "no episode 2", lambda: dataset.rows(2))
    raises(KeyError, "no camera top", lambda: dataset.frames(0, "top"))
    raises(IndexError, "expected within", lambda: dataset.frames(0, "front", 0, 10**9))
    raises(sinew.SinewError, "", lambda: sinew.Dataset(str(folder)))
    print(f"a dataset: {count} rows and 5 images")


if __name__ == "__main__":
    policies()
    one_policy()
    with tempfile.TemporaryDirectory() as folder:
        datasets(Path(folder))
