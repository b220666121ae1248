"""Makes odd but legal datasets from seeds and has LeRobot 0.6.1 and `sinew dataset` agree on them; see
check_odd_datasets.sh, which installs LeRobot.

A seed draws everything that programs other than LeRobot's recorder do otherwise: names, types, shapes, orders of
rows, columns and tasks, how parquet is written, which optional files and keys there are, where episodes lie in
files, rates, how cameras are declared and kept, in versions 2.0, 2.1 and 3.0. What LeRobot opens and reads as
it was made, Sinew has to open, to call whole, and to edit; LeRobot then has to read of every result what was
made. (It does not open the older versions: of those it reads what `sinew dataset convert` makes.)

Ends with 1 when a seed fails, and names what was odd about each that did.
"""

import argparse
import collections
import io
import json
import logging
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
import warnings
from fractions import Fraction
from pathlib import Path

os.environ.setdefault("HF_HUB_OFFLINE", "1")
warnings.filterwarnings("ignore")

import av
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

COMPRESSIONS = ["snappy", "none", "zstd", "gzip", "lz4", "brotli"]
DEFAULTS = {"timestamp": "float32", "frame_index": "int64", "episode_index": "int64", "index": "int64", "task_index": "int64"}
# How far a picture may come back from video, on average, in levels of 255.
LEVELS = 14.0


class Odd:
    """A dataset that was drawn: what it holds, and how it is written."""

    def __init__(self, seed, compressions):
        self.seed = seed
        self.random = random.Random(seed)
        self.numbers = np.random.default_rng(seed)
        self.oddities = []
        self.compressions = compressions
        self.draw()

    def odd(self, name, share):
        """Whether the dataset has an oddity."""
        has = self.random.random() < share
        if has:
            self.oddities.append(name)
        return has

    def one_of(self, name, choices):
        """One of some ways to do a thing, of which the first is the usual one."""
        choice = choices[0] if self.random.random() < 0.5 else self.random.choice(choices)
        if choice != choices[0]:
            self.oddities.append(f"{name}={choice}")
        return choice

    def draw(self):
        self.version = self.one_of("version", ["v3.0", "v3.0", "v3.0", "v2.1", "v2.0"])
        self.fps = self.one_of("fps", [30, 30.0, 10, 12.5, 29.97, 50, 5, 0.5, 24000 / 1001, 100])
        lengths = [self.random.randint(1, 12) for _ in range(self.random.randint(1, 5))]
        words = ["pick the cube", "Put “it” away.", "ü ß 日本 🤖", "a\tb", 'say "x"', "x" * 200, " spaces ", "back\\slash", "line\u2028break"]
        self.tasks = self.random.sample(words, self.random.randint(1, 3)) if self.odd("words", 0.4) else ["pick", "push", "wait"]
        self.draw_features()
        self.episodes = []
        index = 0
        for number, length in enumerate(lengths):
            many = self.random.random() < 0.2
            first = self.random.randrange(len(self.tasks))
            tasks = [self.random.randrange(len(self.tasks)) if many else first for _ in range(length)]
            columns = {key: self.values(key, length, number) for key in self.features if key not in self.cameras}
            columns |= {
                "timestamp": (np.arange(length) / self.fps).astype(np.float32),
                "frame_index": np.arange(length),
                "episode_index": np.full(length, number),
                "index": np.arange(index, index + length),
                "task_index": np.array(tasks),
            }
            pictures = {key: [self.picture(key, number, frame) for frame in range(length)] for key in self.cameras}
            self.episodes.append({"length": length, "first": index, "tasks": tasks, "columns": columns, "pictures": pictures})
            index += length
        if self.odd("task numbers with a gap", 0.3 if self.version != "v3.0" else 0):
            self.task_numbers = sorted(self.random.sample(range(9), len(self.tasks)))
        else:
            self.task_numbers = list(range(len(self.tasks)))
        for episode in self.episodes:
            episode["columns"]["task_index"] = np.array([self.task_numbers[task] for task in episode["tasks"]])

    def draw_features(self):
        self.features, self.cameras = {}, {}
        width = self.random.choice([1, 2, 6, 7])
        dtype = self.one_of("dtype", ["float32", "float64"])
        for key in ["action", "observation.state"]:
            names = [f"joint {at}" for at in range(width)]
            names = self.one_of("names", [names, {"motors": names}, None, ["same"] * width, "missing"])
            self.features[key] = {"dtype": dtype, "shape": [width], "names": names}
        extra = {
            "next.reward": ("float32", [1]),
            "next.done": ("bool", [1]),
            "a matrix": ("float32", [2, 3]),
            "cube.3": ("float64", [2, 1, 2]),
            "größe": ("int16", [1]),
            "level-8": ("uint8", [3]),
            "half": ("float16", [1]),
            "note": ("string", [1]),
            "counts": ("int32", [4]),
        }
        for key, (kind, shape) in extra.items():
            if self.odd(f"{key} of {kind}", 0.15):
                self.features[key] = {"dtype": kind, "shape": shape, "names": None}
        names = ["observation.images.front", "observation.image", "cam.top", "observation.images.Kamera über", "observation.images.a b", "view-1"]
        for _ in range(self.random.choice([0, 1, 1, 1, 2])):
            key = self.one_of("camera", names)
            if key in self.cameras:
                continue
            dtype = self.random.choice(["video", "image"])
            width, height = self.one_of("size", [(64, 48), (48, 64), (32, 32), (96, 64)])
            if dtype == "image" and self.odd("size odd", 0.2):
                width, height = 33, 17
            shape, names_of = self.one_of(
                "declared",
                [
                    ([height, width, 3], ["height", "width", "channels"]),
                    ([height, width, 3], ["height", "width", "channel"]),
                    ([3, height, width], ["channels", "height", "width"]),
                    ([3, height, width], ["channel", "height", "width"]),
                    ([height, width, 3], None),
                    ([3, height, width], None),
                ],
            )
            self.cameras[key] = (width, height)
            self.features[key] = {"dtype": dtype, "shape": shape, "names": names_of}
        self.nan = "next.reward" in self.features and self.odd("NaN", 0.4)

    def values(self, key, length, episode):
        feature = self.features[key]
        shape = (length, *feature["shape"]) if feature["shape"] != [1] else (length,)
        kind = feature["dtype"]
        if kind == "string":
            return np.array([f"{episode}.{frame} né 日" for frame in range(length)], dtype=object)
        if kind == "bool":
            return np.arange(length) == length - 1
        if kind.startswith("float"):
            values = self.numbers.normal(size=shape).astype(kind)
            if key == "next.reward" and self.nan:
                values[-1] = np.nan
            return values
        return self.numbers.integers(0, 100, size=shape).astype(kind)

    def picture(self, key, episode, frame):
        """A picture that tells which it is."""
        width, height = self.cameras[key]
        picture = np.zeros((height, width, 3), np.uint8)
        picture[:, :, 0] = 30 + 40 * episode
        picture[:, :, 1] = np.linspace(0, 200, width).astype(np.uint8)
        picture[:, :, 2] = 15 * (frame % 16)
        picture[: height // 2, (frame * 4) % (width - 8) :][:, :8] = [220, 220, 30]
        return picture

    # How it is written.

    def parquet_options(self):
        options = {"compression": self.one_of("compression", self.compressions)}
        options["version"] = self.one_of("parquet version", ["2.6", "1.0", "2.4"])
        options["data_page_version"] = self.one_of("page version", ["1.0", "2.0"])
        options["use_dictionary"] = self.one_of("dictionary", [True, False])
        options["store_schema"] = self.one_of("arrow schema", [True, False])
        options["write_page_index"] = self.one_of("page index", [False, True])
        options["write_statistics"] = self.one_of("column statistics", [True, False])
        options["row_group_size"] = self.one_of("row group", [1 << 20, 3])
        if not options["use_dictionary"] and self.odd("byte stream split", 0.3):
            options["use_byte_stream_split"] = [f"{key}" for key in ("timestamp",)]
        return options

    def leaf(self, kind, choice):
        """The arrow type of values that are kept otherwise."""
        if choice == "wide":
            return {"float32": pa.float64(), "float16": pa.float32(), "int16": pa.int64(), "uint8": pa.int32(), "int32": pa.int64(), "bool": pa.uint8()}.get(kind)
        return None

    def column(self, key, kind, shape, values, ways):
        if kind == "string":
            text = ways["text"]
            plain = pa.array(list(values), pa.string())
            return plain if text == "string" else plain.dictionary_encode() if text == "dictionary" else plain.cast(text)
        if key in DEFAULTS:
            return pa.array(values, ways["indices"] if key != "timestamp" else ways["time"])
        plain = {"bool": pa.bool_()}.get(kind) or pa.from_numpy_dtype(np.dtype(kind))
        leaf = self.leaf(kind, ways["leaf"]) or plain
        if kind == "bool" and leaf != plain:
            values = values.astype(np.uint8)
        if shape == [1]:
            return pa.array(values.astype(leaf.to_pandas_dtype()) if kind == "float16" else values, leaf)
        if len(shape) == 1 and ways["list"] == "fixed":
            return pa.FixedSizeListArray.from_arrays(pa.array(values.reshape(-1), leaf), shape[0])
        kind_of_list = pa.large_list if ways["list"] == "large" else pa.list_
        item = leaf
        for _ in shape:
            item = kind_of_list(pa.field(ways["item"], item))
        return pa.array(values.tolist(), item)

    def image_column(self, key, pictures, ways):
        def encoded(picture):
            out = io.BytesIO()
            Image.fromarray(picture).save(out, ways["image"], **({"quality": 95} if ways["image"] == "JPEG" else {}))
            return out.getvalue()

        rows = [{"bytes": encoded(picture), "path": f"frame-{at:06d}.png" if ways["path"] == "named" else None} for at, picture in enumerate(pictures)]
        fields = [pa.field("bytes", pa.large_binary() if ways["path"] == "large" else pa.binary()), pa.field("path", pa.string())]
        return pa.array(rows, pa.struct(fields[::-1] if ways["path"] == "turned" else fields))

    def all_features(self):
        features = {key: dict(feature) for key, feature in self.features.items()}
        for feature in features.values():
            if feature["names"] == "missing":
                del feature["names"]
        features |= {key: {"dtype": kind, "shape": [1], "names": None} for key, kind in DEFAULTS.items()}
        if self.features_first:
            features = dict(self.shuffled(features.items()))
        if self.fps_of_features:
            for feature in features.values():
                feature["fps"] = float(self.fps)
        for key in self.cameras:
            info = {"video.fps": float(self.fps), "video.height": self.cameras[key][1], "video.codec": "h264", "video.is_depth_map": False, "has_audio": False}
            if self.info_of_video != "none" and features[key]["dtype"] == "video":
                features[key][self.info_of_video] = info
        return features

    def shuffled(self, items):
        items = list(items)
        self.random.shuffle(items)
        return items

    def table(self, episodes, ways):
        columns = {}
        for key, feature in {**self.features, **{key: {"dtype": kind, "shape": [1]} for key, kind in DEFAULTS.items()}}.items():
            if feature["dtype"] == "video":
                continue
            if feature["dtype"] == "image":
                columns[key] = self.image_column(key, [picture for episode in episodes for picture in episode["pictures"][key]], ways)
            else:
                values = np.concatenate([episode["columns"][key] for episode in episodes])
                columns[key] = self.column(key, feature["dtype"], feature["shape"], values, ways)
        order = [key for key in self.column_order if key in columns]
        return pa.table({key: columns[key] for key in order})

    def statistics(self, episodes):
        def of(values, image=False):
            values = np.asarray(values, dtype=np.float64)
            axes = (0, 1, 2) if image else tuple(range(max(values.ndim - 1, 1)))
            keep = (lambda value: np.asarray(value).reshape(-1, 1, 1).tolist()) if image else (lambda value: np.atleast_1d(value).tolist())
            found = {"min": keep(values.min(axes)), "max": keep(values.max(axes)), "mean": keep(values.mean(axes)), "std": keep(values.std(axes)), "count": [len(values)]}
            if self.has_quantiles:
                # As LeRobot has them, but for the width of its bins.
                flat = np.sort(values.reshape(-1, values.shape[-1]) if values.ndim > 1 else values.reshape(-1, 1), axis=0)
                for name, share in (("q01", 0.01), ("q10", 0.1), ("q50", 0.5), ("q90", 0.9), ("q99", 0.99)):
                    at = max(int(np.ceil(share * len(flat))) - 1, 0)
                    found[name] = keep(flat.mean(0) if len(flat) < 2 else flat[at])
            return found

        found = {}
        for key, feature in {**self.features, **{key: {"dtype": kind} for key, kind in DEFAULTS.items()}}.items():
            if feature["dtype"] in ("video", "image"):
                found[key] = of(np.stack([picture for episode in episodes for picture in episode["pictures"][key]]) / 255, True)
            elif feature["dtype"] != "string":
                found[key] = of(np.concatenate([episode["columns"][key] for episode in episodes]))
        return found

    def write_video(self, path, frames, keys):
        path.parent.mkdir(parents=True, exist_ok=True)
        with av.open(str(path), "w") as out:
            options = {"crf": "8", "g": str(self.gop), "bf": str(self.b_frames), "forced-idr": "1", "preset": "ultrafast" if not self.b_frames else "fast"}
            stream = out.add_stream("libx264", rate=Fraction(self.fps).limit_denominator(10000), options=options)
            stream.height, stream.width = frames[0].shape[:2]
            stream.pix_fmt = "yuv420p"
            for at, picture in enumerate(frames):
                frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
                if at in keys:
                    frame.pict_type = av.video.frame.PictureType.I
                out.mux(stream.encode(frame))
            out.mux(stream.encode(None))

    def ways(self):
        return {
            "leaf": self.one_of("values", ["plain", "wide"]),
            "list": self.one_of("lists", ["fixed", "plain", "large"]),
            "item": self.one_of("item", ["element", "item"]),
            "text": self.one_of("text", ["string", "dictionary", "large_string", "string_view"]),
            "indices": self.one_of("indices", [pa.int64(), pa.int32(), pa.int16(), pa.uint32(), pa.uint8(), pa.float64()]),
            "time": self.one_of("time", [pa.float32(), pa.float64()]),
            "image": self.one_of("image", ["PNG", "JPEG"]),
            "path": self.one_of("path", ["named", "null", "large", "turned"]),
        }

    def write(self, root):
        self.gop = self.one_of("gop", [2, 1, 12])
        self.b_frames = self.one_of("b frames", [0, 2]) if shutil.which("ffmpeg") else 0
        self.has_quantiles = not self.odd("no quantiles", 0.4 if self.version == "v3.0" else 1)
        self.features_first = self.odd("features shuffled", 0.2)
        self.fps_of_features = self.odd("fps at features", 0.2)
        self.info_of_video = self.one_of("info of video", ["info", "video_info", "none"])
        keys = [*self.features, *DEFAULTS]
        self.column_order = self.shuffled(keys) if self.odd("columns shuffled", 0.3) else keys
        self.videos = [key for key in self.cameras if self.features[key]["dtype"] == "video"]
        (root / "meta").mkdir(parents=True)
        if self.version == "v3.0":
            self.write_30(root)
        else:
            self.write_2x(root)
        if self.odd("files of others", 0.2):
            (root / "README.md").write_text("---\nlicense: mit\n---\nhello\n")
            (root / "meta" / "modality.json").write_text("{}")
            (root / ".gitattributes").write_text("*.mp4 filter=lfs\n")
        return self

    def info(self, optional):
        frames = sum(episode["length"] for episode in self.episodes)
        info = {
            "codebase_version": self.version,
            "robot_type": "so101_follower",
            "total_episodes": len(self.episodes),
            "total_frames": frames,
            "total_tasks": len(self.tasks),
            "fps": self.fps,
            "splits": {"train": f"0:{len(self.episodes)}"},
            **optional,
            "features": self.all_features(),
        }
        for key in ("robot_type", "splits", *(key for key in optional if key not in ("data_path", "video_path") or self.version == "v3.0")):
            if self.odd(f"no {key}", 0.15) and not (key == "chunks_size" and self.chunks_size != 1000):
                del info[key]
        if self.odd("robot_type null", 0.1):
            info["robot_type"] = None
        if self.odd("keys of others", 0.2):
            info |= {"total_videos": 3, "made_by": {"tool": "x"}, "score": float("nan")}
        return dict(self.shuffled(info.items())) if self.odd("info shuffled", 0.2) else info

    def dump(self, path, value):
        compact = self.odd(f"compact {path.name}", 0.2)
        path.write_text(json.dumps(value, indent=None if compact else 4, ensure_ascii=self.odd(f"ascii {path.name}", 0.2)), encoding="utf-8")

    def write_30(self, root):
        self.chunks_size = self.one_of("chunks_size", [1000, 1, 2])
        parts = self.files("data files")
        places = {}
        options, ways = self.parquet_options(), self.ways()
        for at, part in enumerate(parts):
            chunk, file = divmod(at, self.chunks_size)
            path = root / f"data/chunk-{chunk:03d}/file-{file:03d}.parquet"
            path.parent.mkdir(parents=True, exist_ok=True)
            table = self.table([self.episodes[number] for number in part], ways)
            pq.write_table(table, path, **options)
            places |= {number: (chunk, file) for number in part}
        rows = []
        for number, episode in enumerate(self.episodes):
            row = {
                "episode_index": number,
                "tasks": list(dict.fromkeys(self.tasks[task] for task in episode["tasks"])),
                "length": episode["length"],
                "data/chunk_index": places[number][0],
                "data/file_index": places[number][1],
                "dataset_from_index": episode["first"],
                "dataset_to_index": episode["first"] + episode["length"],
            }
            rows.append(row)
        for key in self.videos:
            self.lay_out_video(root, key, rows)
        has_stats = not self.odd("no statistics of episodes", 0.2)
        for number, row in enumerate(rows):
            if has_stats:
                for key, stats in self.statistics([self.episodes[number]]).items():
                    row |= {f"stats/{key}/{name}": value for name, value in stats.items()}
            row |= {"meta/episodes/chunk_index": 0, "meta/episodes/file_index": 0}
        for column in ("tasks", "length", "meta/episodes/chunk_index", "meta/episodes/file_index"):
            if self.odd(f"episodes without {column}", 0.1):
                for row in rows:
                    del row[column]
        if self.odd("episodes with more columns", 0.1):
            for row in rows:
                row |= {"success": row["episode_index"] % 2 == 0, "mark": "é", "stats/gone/min": [1.0]}
        options = self.parquet_options()
        narrow = self.odd("episodes of int32", 0.15)
        text = self.one_of("episodes text", [pa.string(), pa.large_string()])
        for at, part in enumerate(self.files("episodes files")):
            chunk, file = divmod(at, self.chunks_size)
            path = root / f"meta/episodes/chunk-{chunk:03d}/file-{file:03d}.parquet"
            path.parent.mkdir(parents=True, exist_ok=True)
            table = pa.Table.from_pylist([rows[number] for number in part])
            for column in table.schema:
                kind = column.type
                if narrow and kind == pa.int64():
                    kind = pa.int32()
                if column.name == "tasks":
                    kind = pa.list_(text)
                table = table.set_column(table.schema.get_field_index(column.name), column.name, table[column.name].cast(kind))
            pq.write_table(table, path, **options)
        self.write_tasks(root)
        if not self.odd("no stats.json", 0.15):
            stats = self.statistics(self.episodes)
            if self.odd("stats without a feature", 0.1):
                stats.pop("action")
            if self.odd("stats of a feature that is gone", 0.1):
                stats["gone"] = {"mean": [float("nan")]}
            self.dump(root / "meta/stats.json", stats)
        optional = {
            "chunks_size": self.chunks_size,
            "data_files_size_in_mb": self.one_of("data files of", [100, 1]),
            "video_files_size_in_mb": self.one_of("video files of", [200, 1]),
            "data_path": "data/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet",
            "video_path": "videos/{video_key}/chunk-{chunk_index:03d}/file-{file_index:03d}.mp4",
        }
        self.dump(root / "meta/info.json", self.info(optional))

    def files(self, name):
        """Which episodes are in which file."""
        numbers = list(range(len(self.episodes)))
        way = self.one_of(name, ["one", "each", "cut"])
        if way == "each":
            return [[number] for number in numbers]
        if way == "cut" and len(numbers) > 1:
            at = self.random.randrange(1, len(numbers))
            return [numbers[:at], numbers[at:]]
        return [numbers]

    def lay_out_video(self, root, key, rows):
        has_gaps = self.odd("frames of nobody", 0.1)
        one_stream = self.odd("episodes between key frames", 0.1)
        for at, part in enumerate(self.files("video files")):
            chunk, file = divmod(at, self.chunks_size)
            frames, keys = [], set()
            for number in part:
                if has_gaps and self.random.random() < 0.5:
                    frames += [np.zeros_like(self.episodes[number]["pictures"][key][0])] * self.random.randint(1, 4)
                if not one_stream:
                    keys.add(len(frames))
                begins = len(frames) / self.fps
                frames += self.episodes[number]["pictures"][key]
                rows[number] |= {
                    f"videos/{key}/chunk_index": chunk,
                    f"videos/{key}/file_index": file,
                    f"videos/{key}/from_timestamp": begins,
                    f"videos/{key}/to_timestamp": len(frames) / self.fps,
                }
            if has_gaps:
                frames += [np.zeros_like(frames[0])] * 2
            self.write_video(root / f"videos/{key}/chunk-{chunk:03d}/file-{file:03d}.mp4", frames, keys)

    def write_tasks(self, root):
        pairs = list(zip(self.task_numbers, self.tasks))
        if self.odd("a task of nobody", 0.15):
            pairs.append((len(pairs), "nobody's"))
            self.more_tasks = 1
        self.unsorted = len(pairs) > 1 and self.odd("tasks unsorted", 0.15)
        if self.unsorted:
            pairs = pairs[::-1]
        column = self.one_of("column of tasks", ["task", "__index_level_0__"])
        numbers = pa.array([number for number, _ in pairs], self.one_of("task_index", [pa.int64(), pa.int32(), pa.uint8()]))
        words = pa.array([word for _, word in pairs], self.one_of("words of tasks", [pa.string(), pa.large_string()]))
        pandas = {
            "index_columns": [column],
            "column_indexes": [],
            "columns": [
                {"name": "task_index", "field_name": "task_index", "pandas_type": "int64", "numpy_type": "int64", "metadata": None},
                {"name": "task" if column == "task" else None, "field_name": column, "pandas_type": "unicode", "numpy_type": "object", "metadata": None},
            ],
            "pandas_version": "2.2.3",
        }
        columns = {"task_index": numbers, column: words}
        if self.odd("columns of tasks turned", 0.2):
            columns = {column: words, "task_index": numbers}
        options = self.parquet_options()
        options.pop("use_byte_stream_split", None)
        # Arrow's schema holds what pandas has to know.
        options["store_schema"] = True
        pq.write_table(pa.table(columns).replace_schema_metadata({"pandas": json.dumps(pandas)}), root / "meta/tasks.parquet", **options)

    def write_2x(self, root):
        self.chunks_size = self.one_of("chunks_size", [1000, 2])
        options, ways = self.parquet_options(), self.ways()
        for number, episode in enumerate(self.episodes):
            chunk = number // self.chunks_size
            path = root / f"data/chunk-{chunk:03d}/episode_{number:06d}.parquet"
            path.parent.mkdir(parents=True, exist_ok=True)
            pq.write_table(self.table([episode], ways), path, **options)
            for key in self.videos:
                self.write_video(root / f"videos/chunk-{chunk:03d}/{key}/episode_{number:06d}.mp4", episode["pictures"][key], {0})
        tasks = [{"task_index": number, "task": task} for number, task in zip(self.task_numbers, self.tasks)]
        rows = [
            {"episode_index": number, "tasks": list(dict.fromkeys(self.tasks[task] for task in episode["tasks"])), "length": episode["length"]}
            for number, episode in enumerate(self.episodes)
        ]
        stats = [{"episode_index": number, "stats": self.statistics([episode])} for number, episode in enumerate(self.episodes)]
        if self.odd("lines shuffled", 0.2):
            tasks, rows, stats = self.shuffled(tasks), self.shuffled(rows), self.shuffled(stats)
        end = self.one_of("line ends", ["\n", "\r\n", "\n\n"])

        def lines(name, values):
            ascii = self.odd(f"ascii {name}", 0.3)
            (root / "meta" / name).write_bytes("".join(json.dumps(value, ensure_ascii=ascii) + end for value in values).encode())

        lines("tasks.jsonl", tasks)
        lines("episodes.jsonl", rows)
        if self.version == "v2.1" and not self.odd("no episodes_stats.jsonl", 0.15):
            lines("episodes_stats.jsonl", stats)
        if self.version == "v2.0":
            whole = {key: {name: value for name, value in found.items() if name != "count"} for key, found in self.statistics(self.episodes).items()}
            if not self.odd("no stats.json", 0.15):
                self.dump(root / "meta/stats.json", whole)
        optional = {
            "chunks_size": self.chunks_size,
            "total_chunks": 1,
            "total_videos": len(self.videos) * len(self.episodes),
            "data_path": "data/chunk-{episode_chunk:03d}/episode_{episode_index:06d}.parquet",
            "video_path": "videos/chunk-{episode_chunk:03d}/{video_key}/episode_{episode_index:06d}.mp4" if self.videos else None,
        }
        self.dump(root / "meta/info.json", self.info(optional))


def read_by_lerobot(root, odd, numbers, renamed, with_words=True, changed_images=False):
    """What LeRobot reads otherwise than it was made: `numbers` are the episodes as they were drawn; None when
    nothing."""
    from lerobot.datasets.lerobot_dataset import LeRobotDataset

    dataset = LeRobotDataset("local/odd", root=root, video_backend="pyav")
    if dataset.meta.total_episodes != len(numbers):
        return f"{dataset.meta.total_episodes} episodes, expected {len(numbers)}"
    at = 0
    for place, number in enumerate(numbers):
        episode = odd.episodes[number]
        for frame in range(episode["length"]):
            item = dataset[at]
            where = f"row {at} (episode {number}, frame {frame})"
            if [int(item[key]) for key in ("index", "episode_index", "frame_index")] != [at, place, frame]:
                return f"{where}: is numbered {[int(item[key]) for key in ('index', 'episode_index', 'frame_index')]}"
            word = odd.tasks[episode["tasks"][frame]]
            word = renamed.get(word, word)
            if with_words and item["task"] != word:
                return f"{where}: the task is {item['task']!r}, expected {word!r}"
            for key, feature in odd.features.items():
                found = item[key]
                if key in odd.cameras:
                    found = (found.permute(1, 2, 0).numpy() * 255).astype(np.float64)
                    picture = episode["pictures"][key][frame].astype(np.float64)
                    if found.shape != picture.shape or np.abs(found - picture).mean() > LEVELS:
                        off = np.abs(found - picture).mean() if found.shape == picture.shape else "of another size"
                        return f"{where}: the picture of {key} is {found.shape}, off by {off}"
                elif feature["dtype"] == "string":
                    if found != episode["columns"][key][frame]:
                        return f"{where}: {key} is {found!r}"
                else:
                    wanted = np.asarray(episode["columns"][key][frame], dtype=np.float64)
                    found = np.asarray(found, dtype=np.float64)
                    if found.shape != wanted.shape or not np.allclose(found, wanted, rtol=1e-6, atol=0, equal_nan=True):
                        return f"{where}: {key} is {found.tolist()}, expected {wanted.tolist()}"
            at += 1
    if len(dataset) != at:
        return f"{len(dataset)} rows, expected {at}"
    return None


class Judge:
    def __init__(self, sinew, folder, compressions):
        self.sinew, self.folder, self.compressions = sinew, folder, compressions
        self.cases, self.failures, self.edits, self.not_lerobots = 0, [], 0, 0

    def run(self, *command):
        done = subprocess.run([self.sinew, "dataset", *map(str, command)], capture_output=True, text=True)
        if done.returncode == 0:
            return None
        said = "\n".join(line for line in done.stdout.splitlines() if not line.startswith(("warning", "  ")))
        return f"{said[:600]} {done.stderr.strip()[-500:]}".strip() or f"exit code {done.returncode}"

    def read(self, root, *arguments, **options):
        try:
            return read_by_lerobot(root, *arguments, **options)
        except Exception as error:
            return f"LeRobot fails: {type(error).__name__}: {str(error).splitlines()[0][:300] if str(error) else ''}"

    def case(self, seed):
        shutil.rmtree(self.folder, ignore_errors=True)
        root = self.folder / "dataset"
        odd = Odd(seed, self.compressions).write(root)
        self.cases += 1
        everything = list(range(len(odd.episodes)))
        is_new = odd.version == "v3.0"
        if is_new:
            # It looks tasks up by their place in the table; Sinew goes by their numbers.
            found = self.read(root, odd, everything, {}, with_words=not odd.unsorted)
            if found:
                self.not_lerobots += 1
                print(f"seed {seed}: not one of LeRobot's: {found}  [{', '.join(odd.oddities)}]", flush=True)
                return
        wrong = self.look(root, odd)
        for name, made, numbers, renamed, error in self.results(root, odd, everything):
            self.edits += 1
            wrong += [f"{name}: {error}"] if error else []
            if error:
                continue
            found = self.run("verify", made)
            wrong += [f"verify after {name}: {found}"] if found else []
            if made.joinpath("meta/tasks.parquet").exists():
                found = self.read(made, odd, numbers, renamed)
                wrong += [f"{name}: {found}"] if found else []
            shutil.rmtree(made)
        if wrong:
            self.failures.append(seed)
            print(f"seed {seed}: FAILED  [{', '.join(odd.oddities)}]\n    " + "\n    ".join(wrong), flush=True)

    def look(self, root, odd):
        checks = [("info", ["info", root, "--json"]), ("verify", ["verify", root, "--deep"])]
        checks += [("export", ["export", root, "--mcap", self.folder / "a.mcap"])] if odd.seed % 5 == 0 else []
        return [f"{name}: {error}" for name, command in checks if (error := self.run(*command))]

    def results(self, root, odd, everything):
        """Edits of the dataset: their names, results, the episodes as they were drawn, tasks that got other
        words, and what went wrong."""
        ways = ["stats", "rename-task", "merge", "convert", "images"]
        ways += ["delete", "split"] if len(everything) > 1 else []
        ways = odd.random.sample(ways, 3)
        made = self.folder / "made"
        if odd.version != "v3.0" and "convert" not in ways:
            ways.append("convert")
        for way in ways:
            numbers, renamed = everything, {}
            if way == "stats":
                error = self.run("stats", root, "--out", made, "--yes")
            elif way == "rename-task":
                used = odd.tasks[odd.episodes[0]["tasks"][0]]
                renamed = {used: "done it"}
                error = self.run("rename-task", root, "--out", made, "--yes", "--", used, "done it")
            elif way == "merge":
                shutil.copytree(root, self.folder / "copy")
                numbers = everything * 2
                error = self.run("merge", root, self.folder / "copy", "--out", made, "--yes")
                shutil.rmtree(self.folder / "copy")
            elif way == "images":
                error = self.run("convert", root, "--images", "--out", made, "--yes") if odd.videos else self.run("stats", root, "--out", made, "--yes")
            elif way == "delete":
                gone = odd.random.choice(everything)
                numbers = [number for number in everything if number != gone]
                error = self.run("delete", root, "--episodes", gone, "--out", made, "--yes")
            elif way == "split":
                numbers = everything[1:]
                error = self.run("split", root, "--out", self.folder / "parts", "--part", "a=0", "--part", f"b=1-{everything[-1]}", "--yes")
                if not error:
                    shutil.move(self.folder / "parts" / "b", made)
                shutil.rmtree(self.folder / "parts", ignore_errors=True)
            else:
                other, there = ("v2.1", "v3.0") if odd.version == "v3.0" else ("v3.0", None)
                error = self.run("convert", root, "--to", other, "--out", made, "--yes")
                if there and not error:
                    error = self.run("verify", made) or self.run("convert", made, "--to", there, "--yes")
            yield way, made, numbers, renamed, error
            shutil.rmtree(made, ignore_errors=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sinew", required=True, help="the binary")
    parser.add_argument("--seeds", default="0:500", help="FIRST:END, or some with commas between; 'failed' for those that once failed")
    parser.add_argument("--compressions", default=",".join(COMPRESSIONS), help="which of parquet's are drawn")
    parser.add_argument("--keep", type=Path, help="write the dataset of the first seed there, and judge nothing")
    given = parser.parse_args()
    if given.seeds == "failed":
        lines = Path(__file__).with_name("odd_datasets_seeds.txt").read_text().splitlines()
        seeds = [int(line.split()[0]) for line in lines if line.strip() and not line.startswith("#")]
    elif ":" in given.seeds:
        seeds = list(range(*map(int, given.seeds.split(":"))))
    else:
        seeds = [int(seed) for seed in given.seeds.split(",")]
    compressions = given.compressions.split(",")
    if given.keep:
        print(Odd(seeds[0], compressions).write(given.keep).oddities)
        return
    logging.disable(logging.WARNING)
    with tempfile.TemporaryDirectory() as folder:
        os.environ.setdefault("HF_DATASETS_CACHE", folder + "/cache")
        import datasets

        datasets.disable_progress_bars()
        judge = Judge(given.sinew, Path(folder) / "case", compressions)
        begun = time.monotonic()
        for seed in seeds:
            judge.case(seed)
            shutil.rmtree(datasets.config.HF_DATASETS_CACHE, ignore_errors=True)
    agreed = judge.cases - judge.not_lerobots - len(judge.failures)
    print(
        f"{judge.cases} datasets: LeRobot and Sinew agree on {agreed}, differ on {len(judge.failures)} {judge.failures}, "
        f"LeRobot itself does not read {judge.not_lerobots}; {judge.edits} edits; {time.monotonic() - begun:.0f} s"
    )
    sys.exit(1 if judge.failures else 0)


if __name__ == "__main__":
    main()
