"""Checks a dataset folder with LeRobot 0.6.1; see check_dataset_with_lerobot.sh, which installs it.

Exits with 1 when anything is not as it should be, and says what.
"""

import argparse
import json
import logging
import shutil
import sys
import tempfile
import time
import warnings
from pathlib import Path

import numpy as np
import torch
from lerobot.datasets.compute_stats import aggregate_stats, auto_downsample_height_width, compute_episode_stats, get_feature_stats, sample_indices
from lerobot.datasets.dataset_tools import delete_episodes, merge_datasets
from lerobot.datasets.io_utils import load_nested_dataset
from lerobot.datasets.lerobot_dataset import LeRobotDataset
from lerobot.datasets.video_utils import decode_video_frames

# A frame counts as found when its time in the file is this near to the row's (LeRobot's default).
TOLERANCE_S = 1e-4
# How many frames are decoded in one call; bounds memory.
FRAMES_A_CALL = 100
# Colours may come back from H.264 this far off, on average over an episode, in levels of 255.
COLOUR_LEVELS = 3.0

failures = []
# The images were video before.
were_video = False
# For datasets that were edited: which episode of record_features each episode is.
episodes_were = None


def painted(episode):
    """The number that record_features gave the episode."""
    return episodes_were[episode] if episodes_were else episode



def check(ok, what):
    if not ok:
        failures.append(what)
        print(f"FAILED: {what}", file=sys.stderr)


class Warnings(logging.Handler):
    """Everything that LeRobot warns of while it opens a dataset."""

    def __init__(self):
        super().__init__(logging.WARNING)
        self.said = []

    def emit(self, record):
        self.said.append(record.getMessage())

    def __enter__(self):
        logging.getLogger().addHandler(self)
        self.caught = warnings.catch_warnings(record=True)
        self.list = self.caught.__enter__()
        warnings.simplefilter("always")
        return self

    def __exit__(self, *error):
        self.caught.__exit__(*error)
        logging.getLogger().removeHandler(self)
        self.said += [str(warning.message) for warning in self.list if not issubclass(warning.category, (DeprecationWarning, ResourceWarning))]


def is_depth(feature):
    return bool((feature.get("info") or {}).get("is_depth_map"))


def burned_in_bits(width, height, episode, frame):
    """Where record_features paints its number, and the bits."""
    number = (episode & 63) | (frame & 1023) << 6
    bits = np.array([(number >> bit) & 1 for bit in range(16)])
    y, x = np.mgrid[:height, :width]
    return (y < 6) & (x // 6 < 16), bits[np.minimum(x // 6, 15)]


def picture_of(width, height, episode, frame):
    """The image of record_features, [height, width, 3]."""
    y, x = np.mgrid[:height, :width]
    picture = np.stack([(x + frame * 2) % 256, y * 2 % 256, 200 - (x + y) // 2 % 200], -1)
    inside, bits = burned_in_bits(width, height, episode, frame)
    picture[inside] = (bits * 255)[inside][:, None]
    return picture.astype(np.uint8)


def depth_of(width, height, episode, frame):
    """The depth of record_features in millimetres, [height, width]."""
    y, x = np.mgrid[:height, :width]
    depth = 400 + 3 * x + 5 * y + 10 * frame
    inside, bits = burned_in_bits(width, height, episode, frame)
    depth[inside] = (1000 + 2000 * bits)[inside]
    return depth


def value_of(name, episode, frame):
    """What record_features gives a feature that is no image; None where that takes f32 sines."""
    return {
        "next.done": frame % 3 == 0,
        "pressed": [frame >> bit & 1 == 1 for bit in range(4)],
        "counter": frame * 1_000_003,
        "ticks": [frame, 65_535 - frame],
        "small": [frame, -3, 7],
        "note": f"frame {frame} of episode {episode}: é",
    }.get(name)


def usable_backends():
    try:
        from torchcodec.decoders import VideoDecoder  # noqa: F401

        return ["torchcodec", "pyav"]
    except Exception as error:
        print(f"torchcodec does not work here ({type(error).__name__}); pyav alone is checked")
        return ["pyav"]


def column(dataset, name):
    return np.asarray(dataset.hf_dataset.with_format("numpy")[name][:])


def check_rows(dataset, info):
    """Columns, their types and what must hold of every row."""
    declared = {name for name, feature in info["features"].items() if feature["dtype"] != "video"}
    check(set(dataset.hf_dataset.column_names) == declared, f"columns are {dataset.hf_dataset.column_names}, expected {sorted(declared)}")
    check(len(dataset) == info["total_frames"] == dataset.hf_dataset.num_rows, f"len is {len(dataset)}, rows {dataset.hf_dataset.num_rows}, total_frames {info['total_frames']}")
    check(np.array_equal(column(dataset, "index"), np.arange(len(dataset))), "index does not count the rows")
    episode_index, frame_index, timestamp = (column(dataset, name) for name in ("episode_index", "frame_index", "timestamp"))
    for episode in dataset.meta.episodes:
        index, start, stop = episode["episode_index"], episode["dataset_from_index"], episode["dataset_to_index"]
        check(stop - start == episode["length"] > 0, f"episode {index}: rows {start} to {stop}, length {episode['length']}")
        check((episode_index[start:stop] == index).all(), f"episode {index}: its rows say another episode")
        check(np.array_equal(frame_index[start:stop], np.arange(stop - start)), f"episode {index}: frame_index does not count from 0")
        expected = (np.arange(stop - start) / info["fps"]).astype(np.float32)
        check(np.array_equal(timestamp[start:stop], expected), f"episode {index}: timestamp is not frame_index / fps")
    check(len(dataset.meta.episodes) == info["total_episodes"], f"{len(dataset.meta.episodes)} episodes, total_episodes {info['total_episodes']}")
    for name in declared - {"timestamp"}:
        if info["features"][name]["dtype"] not in ("string", "image"):
            values = column(dataset, name)
            check(np.isfinite(values).all(), f"{name} holds a value that is not finite")


def check_items(dataset, info, every, made_up):
    """What a training loop sees: tensors by key, and the task as a sentence."""
    shown = {name: feature["shape"] for name, feature in info["features"].items()}
    tasks = set()
    for i in range(0, len(dataset), every):
        if len(failures) > 20:
            break
        try:
            item = dataset[i]
        except Exception as error:
            check(False, f"item {i}: {type(error).__name__}: {error}")
            continue
        tasks.add(item["task"])
        check(isinstance(item["task"], str), f"item {i}: task is {item['task']!r}, no string")
        check(item["task"] == dataset.meta.tasks.iloc[int(item["task_index"])].name, f"item {i}: task is not that of its task_index")
        check(int(item["index"]) == i, f"item {i}: index is {item['index']}")
        if made_up:
            check_made_up(item, info, i)
        for name, shape in shown.items():
            if info["features"][name]["dtype"] == "string":
                continue
            expected = [shape[2], shape[0], shape[1]] if name in dataset.meta.camera_keys else [] if shape == [1] else shape
            check(list(item[name].shape) == expected, f"item {i}: {name} has shape {list(item[name].shape)}, expected {expected}")
    return tasks


def check_made_up(item, info, i):
    """An item against what record_features recorded: exact but for what video loses."""
    episode, frame = painted(int(item["episode_index"])), int(item["frame_index"])
    for name, feature in info["features"].items():
        shape, expected = feature["shape"], value_of(name, episode, frame)
        if expected is not None:
            found = item[name] if isinstance(item[name], str) else item[name].tolist()
            check(found == expected, f"item {i}: {name} is {found}, expected {expected}")
        elif name == "observation.state":
            phase = np.float32(frame) * np.float32(0.05) + np.float32(episode)
            expected = np.sin(phase + np.arange(3, dtype=np.float32) * np.float32(0.7))
            check(np.allclose(item[name].numpy(), expected, atol=1e-6), f"item {i}: {name} is {item[name]}, expected {expected}")
        elif is_depth(feature):
            expected, found = depth_of(shape[1], shape[0], episode, frame), item[name].numpy()[0]
            # Half a step of the 4095 steps of the logarithm from 0.01 m to 10 m, shifted by 3.5 m.
            most = (expected + 3500) * np.log(13.5 / 3.51) / 4095 / 2 + 1
            check((np.abs(found - expected) <= most).all(), f"item {i}: {name} is off by up to {np.abs(found - expected).max()} mm")
        elif feature["dtype"] == "image":
            found = np.round(item[name].numpy().transpose(1, 2, 0) * 255).astype(np.uint8)
            off = np.abs(found.astype(int) - picture_of(shape[1], shape[0], episode, frame)).mean()
            check(off <= (COLOUR_LEVELS if were_video else 0), f"item {i}: {name} is another image, off by {off:.2f} levels on average")


def check_image_stats(episodes, info):
    """The statistics of images against LeRobot's code on what record_features painted."""
    worst = 0.0
    for name, feature in info["features"].items():
        if feature["dtype"] not in ("video", "image"):
            continue
        height, width, _ = feature["shape"]
        for episode in episodes:
            index, length = episode["episode_index"], episode["length"]
            if is_depth(feature):
                pictures = [depth_of(width, height, painted(index), frame).astype(np.uint16)[None] for frame in sample_indices(length)]
                scale = 1.0
            else:
                pictures = [picture_of(width, height, painted(index), frame).transpose(2, 0, 1) for frame in sample_indices(length)]
                scale = 255.0
            thinned = np.stack([auto_downsample_height_width(picture) for picture in pictures])
            # LeRobot sums millions of levels in f32, which costs its means and deviations three digits.
            exact = get_feature_stats(thinned.astype(np.float64), axis=(0, 2, 3), keepdims=True)
            for key, value in get_feature_stats(thinned, axis=(0, 2, 3), keepdims=True).items():
                value = exact[key] if key in ("mean", "std") else value
                value = value if key == "count" else np.squeeze(value / scale, axis=0)
                difference = differs(episode[f"stats/{name}/{key}"], value)
                worst = max(worst, difference)
                check(difference <= 1e-6, f"episode {index}: stats/{name}/{key} is {episode[f'stats/{name}/{key}']}, LeRobot says {value}")
    return worst


def burned_in_number(image):
    """What the example record_synthetic paints on top of an image: 16 squares, least bit first."""
    return sum(int(image[:, 1:5, 6 * bit + 1 : 6 * bit + 5].mean() > 0.5) << bit for bit in range(16))


def check_videos(dataset, episodes, root, backend, burned_in):
    """Decodes every frame of every episode at its row's time."""
    timestamp = column(dataset, "timestamp")
    decoded, worst_off = 0, 0.0
    for episode in episodes:
        index, start, stop = episode["episode_index"], episode["dataset_from_index"], episode["dataset_to_index"]
        for key in dataset.meta.video_keys:
            if is_depth(dataset.meta.features[key]):
                # Depth goes through items: check_made_up.
                decoded += stop - start
                continue
            path = root / dataset.meta.get_video_file_path(index, key)
            sampled = set(sample_indices(stop - start))
            sums, pixels = np.zeros(3), 0
            for first in range(start, stop, FRAMES_A_CALL):
                rows = range(first, min(first + FRAMES_A_CALL, stop))
                times = [episode[f"videos/{key}/from_timestamp"] + timestamp[row].item() for row in rows]
                try:
                    images = decode_video_frames(path, times, TOLERANCE_S, backend)
                except Exception as error:
                    check(False, f"{backend}: episode {index}, {key}, rows {first} to {rows[-1]}: {type(error).__name__}: {error}")
                    break
                check(len(images) == len(rows), f"{backend}: episode {index}, {key}: {len(images)} images for {len(rows)} rows")
                decoded += len(images)
                for row, image in zip(rows, images):
                    if burned_in:
                        expected = (painted(index) & 63) | ((row - start) & 1023) << 6
                        found = burned_in_number(image)
                        check(found == expected, f"{backend}: {key}: row {row} shows episode {found & 63} frame {found >> 6}")
                    if row - start in sampled:
                        thinned = auto_downsample_height_width(image.numpy())
                        sums += thinned.sum((1, 2), dtype=np.float64)
                        pixels += thinned[0].size
            if pixels:
                wanted = np.asarray(episode[f"stats/{key}/mean"]).reshape(-1)
                off = np.abs(sums / pixels - wanted).max() * 255
                worst_off = max(worst_off, off)
                check(off <= COLOUR_LEVELS, f"{backend}: episode {index}, {key}: colours come back {off:.1f} levels off")
    return decoded, worst_off


def differs(found, expected):
    """The greatest difference, relative where values are above 1."""
    found, expected = np.asarray(found, dtype=np.float64).reshape(-1), np.asarray(expected, dtype=np.float64).reshape(-1)
    if found.shape != expected.shape:
        return float("inf")
    return float(np.max(np.abs(found - expected) / np.maximum(1, np.abs(expected))))


def check_stats(dataset, episodes, info, root):
    """Recomputes with LeRobot's own code the statistics of every numeric column."""
    stats = json.loads((root / "meta" / "stats.json").read_text())
    features = {name: feature for name, feature in info["features"].items() if feature["dtype"] not in ("video", "image", "string")}
    # As they were recorded: what reads them widens integers.
    columns = {name: column(dataset, name).astype(feature["dtype"]) for name, feature in features.items()}
    total, worst = None, 0.0
    lengths = {episode["length"] for episode in episodes}
    for episode in episodes:
        start, stop = episode["dataset_from_index"], episode["dataset_to_index"]
        rows = {name: values[start:stop] for name, values in columns.items()}
        # The recorder has the time before it is rounded to f32.
        rows["timestamp"] = np.arange(stop - start) / info["fps"]
        one = compute_episode_stats(rows, features)
        if 1 in lengths:
            # Of a single row LeRobot keeps all dimensions, and can then not merge them.
            one = {name: stats for name, stats in one.items() if columns[name].ndim <= 2}
        total = one if total is None else aggregate_stats([total, one])
        for name, expected in one.items():
            for key, value in expected.items():
                difference = differs(episode[f"stats/{name}/{key}"], value)
                worst = max(worst, difference)
                check(difference <= 1e-6, f"episode {episode['episode_index']}: stats/{name}/{key} is {episode[f'stats/{name}/{key}']}, LeRobot says {value}")
    for name, expected in total.items():
        for key, value in expected.items():
            difference = differs(stats[name][key], value)
            worst = max(worst, difference)
            check(difference <= 1e-6, f"stats.json: {name}/{key} is {stats[name][key]}, LeRobot says {value}")
    for name in dataset.meta.camera_keys:
        channels = info["features"][name]["shape"][2]
        for key in ("min", "max", "mean", "std", "q01", "q10", "q50", "q90", "q99"):
            check(np.asarray(stats[name][key]).shape == (channels, 1, 1), f"stats.json: {name}/{key} has no shape ({channels}, 1, 1)")
    return worst


def check_windows(dataset, info, root):
    """What a chunking policy asks for: actions of the next second."""
    fps = info["fps"]
    windows = LeRobotDataset("check/windows", root=root, delta_timestamps={"action": [i / fps for i in range(fps)]})
    loader = torch.utils.data.DataLoader(windows, batch_size=8, shuffle=True)
    batch = next(iter(loader))
    check(batch["action"].shape[1:] == (fps, *info["features"]["action"]["shape"]), f"a window of actions has shape {batch['action'].shape}")


def check_append(root, info):
    """Appends an episode with LeRobot to a copy, and reads the copy whole."""
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / "dataset"
        shutil.copytree(root, copy)
        dataset = LeRobotDataset.resume("check/append", root=copy)
        rng = np.random.default_rng(0)
        for _ in range(12):
            frame = {"task": "A task that only the appended episode has"}
            for name, feature in info["features"].items():
                if name in ("timestamp", "frame_index", "episode_index", "index", "task_index"):
                    continue
                if is_depth(feature):
                    frame[name] = rng.integers(300, 3000, feature["shape"], dtype=np.uint16)
                elif feature["dtype"] in ("video", "image"):
                    frame[name] = rng.integers(0, 255, feature["shape"], dtype=np.uint8)
                elif feature["dtype"] == "string":
                    frame[name] = "appended"
                else:
                    frame[name] = rng.integers(0, 2, feature["shape"]).astype(feature["dtype"])
            dataset.add_frame(frame)
        dataset.save_episode()
        dataset.finalize()
        longer = LeRobotDataset("check/append", root=copy)
        check(len(longer) == info["total_frames"] + 12, f"after an append there are {len(longer)} frames")
        for i in (0, info["total_frames"] - 1, info["total_frames"], len(longer) - 1):
            check(int(longer[i]["index"]) == i, f"after an append, item {i} has index {longer[i]['index']}")
        check(longer[len(longer) - 1]["task"] == "A task that only the appended episode has", "the appended episode's task is lost")


def check_edit(root, info):
    """Deletes an episode with LeRobot's own tool, and merges the dataset with itself.

    What LeRobot encodes anew has B-frames, and it can't join that to a video without.
    """
    with tempfile.TemporaryDirectory() as folder:
        whole = LeRobotDataset("check/whole", root=root)
        fewer = delete_episodes(whole, [0], output_dir=Path(folder) / "fewer", repo_id="check/fewer")
        expected = info["total_frames"] - whole.meta.episodes[0]["length"]
        check(len(fewer) == expected, f"after a deletion there are {len(fewer)} frames, expected {expected}")
        check(int(fewer[len(fewer) - 1]["index"]) == expected - 1, "after a deletion the last item has another index")
        again = LeRobotDataset("check/again", root=root)
        both = merge_datasets([whole, again], output_repo_id="check/both", output_dir=Path(folder) / "both")
        check(len(both) == 2 * info["total_frames"], f"merged there are {len(both)} frames")
        check(int(both[len(both) - 1]["index"]) == len(both) - 1, "merged, the last item has another index")


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("dataset", type=Path, nargs="+")
    parser.add_argument("--append", action="store_true", help="also append an episode with LeRobot, to a copy")
    parser.add_argument("--edit", action="store_true", help="also delete an episode and merge with LeRobot's tools, in copies")
    parser.add_argument("--burned-in", action="store_true", help="the images are those of the example record_synthetic: check their numbers")
    parser.add_argument("--made-up", action="store_true", help="the dataset is one of the example record_features: check every value")
    parser.add_argument("--decoded-stats", action="store_true", help="the statistics of images are of decoded ones: do not expect those of what was painted")
    arguments = parser.parse_args()
    broken = 0
    for root in arguments.dataset:
        failures.clear()
        try:
            check_dataset(root.resolve(), arguments)
        except Exception as error:
            check(False, f"{type(error).__name__}: {error}")
        if failures:
            print(f"{root}: {len(failures)} checks FAILED", file=sys.stderr)
            broken += 1
        else:
            print(f"{root}: all checks passed")
    return 1 if broken else 0


def check_dataset(root, arguments):
    info = json.loads((root / "meta" / "info.json").read_text())
    begun = time.monotonic()
    with Warnings() as heard:
        dataset = LeRobotDataset("check/dataset", root=root)
        dataset[0]
    check(not heard.said, f"LeRobot warns: {heard.said}")
    print(f"opened in {time.monotonic() - begun:.1f} s: {dataset.num_episodes} episodes, {len(dataset)} frames, fps {dataset.fps}, cameras {dataset.meta.camera_keys}")
    check_rows(dataset, info)
    # With their statistics, which LeRobot leaves out of dataset.meta.episodes.
    episodes = load_nested_dataset(root / "meta" / "episodes")
    print(f"statistics: at most {check_stats(dataset, episodes, info, root):.1e} from LeRobot's own")
    if arguments.made_up and not arguments.decoded_stats:
        print(f"statistics of images: at most {check_image_stats(episodes, info):.1e} from LeRobot's own in f64")
    has_video = len(dataset.meta.video_keys) > 0
    for backend in usable_backends() if has_video else ["pyav"]:
        begun = time.monotonic()
        decoded, worst_off = check_videos(dataset, episodes, root, backend, arguments.burned_in or arguments.made_up)
        expected = len(dataset) * len(dataset.meta.video_keys)
        check(decoded == expected, f"{backend}: {decoded} images decoded, expected {expected}")
        print(f"{backend}: {decoded} of {expected} images decoded at their time in {time.monotonic() - begun:.1f} s; mean colours at most {worst_off:.2f} levels off")
        # pyav opens the file anew for each item, which would take minutes.
        items = LeRobotDataset("check/items", root=root, video_backend=backend)
        every = 1 if backend == "torchcodec" or not has_video else max(1, len(items) // 10)
        tasks = check_items(items, info, every, arguments.made_up)
        print(f"{backend}: items are whole; tasks: {sorted(tasks)}")
    check_windows(dataset, info, root)
    if arguments.append:
        check_append(root, info)
        print("LeRobot can append to it")
    # LeRobot's tools can't write rows with matrices, whoever recorded them.
    has_matrices = any(len(feature["shape"]) > 1 for feature in info["features"].values() if feature["dtype"] not in ("image", "video"))
    if arguments.edit and info["total_episodes"] > 1 and not has_matrices:
        check_edit(root, info)
        print("LeRobot can delete from it and merge it")


if __name__ == "__main__":
    sys.exit(main())
