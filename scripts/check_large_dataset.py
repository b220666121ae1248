#!/usr/bin/env python3
"""Opens a dataset of 100,000 episodes and reads one item, in versions 3.0 and 2.1, beside LeRobot 0.6.1.

    HF_HUB_OFFLINE=1 PYTHON_WITH_LEROBOT scripts/check_large_dataset.py [--programs FOLDER] [--folder FOLDER]

The example `bench_commits` records 10,000 one-second episodes; this writes them ten times over, renumbered, as LeRobot
lays them out (3.0: few large tables; 2.1: files of their own for each episode, linked, as only the first is looked
at). Prints a JSON line for each version: milliseconds to open and to read one item, and the most memory; for 3.0 the
same of LeRobot, which does not read 2.1. Ends with 1 above 2 s or 300 MB.
"""

import argparse
import json
import os
import pathlib
import resource
import shutil
import subprocess
import sys
import tempfile
import time

TIMES = 10
MOST_S, MOST_MB = 2.0, 300.0


def info_of(small, large):
    info = json.loads((small / "meta/info.json").read_text())
    episodes, frames = info["total_episodes"], info["total_frames"]
    for key in ("total_episodes", "total_frames"):
        info[key] *= TIMES
    if "total_videos" in info:
        info["total_videos"] *= TIMES
        info["total_chunks"] = -(-info["total_episodes"] // info["chunks_size"])
    info["splits"] = {"train": f"0:{info['total_episodes']}"}
    (large / "meta").mkdir(parents=True)
    (large / "meta/info.json").write_text(json.dumps(info))
    return info, episodes, frames


def times_ten_v30(small, large):
    import pyarrow as pa
    import pyarrow.compute as pc
    import pyarrow.parquet as pq

    _, episodes, frames = info_of(small, large)
    for name in ("stats.json", "tasks.parquet"):
        shutil.copy(small / "meta" / name, large / "meta")
    os.symlink((small / "videos").resolve(), large / "videos")

    def added(table, column, by):
        at = table.schema.get_field_index(column)
        return table.set_column(at, table.schema.field(at), pc.add(table[column], by))

    def put(table, column, value):
        at = table.schema.get_field_index(column)
        return table.set_column(at, table.schema.field(at), pa.array([value] * table.num_rows, table.schema.field(at).type))

    tables = [pq.read_table(path) for path in sorted(small.glob("meta/episodes/*/*.parquet"))]
    meta = pa.concat_tables(tables)
    data = pa.concat_tables([pq.read_table(path) for path in sorted(small.glob("data/*/*.parquet"))])
    for number in range(TIMES):
        table = added(meta, "episode_index", number * episodes)
        for column in ("dataset_from_index", "dataset_to_index"):
            table = added(table, column, number * frames)
        table = put(put(table, "data/chunk_index", 0), "data/file_index", number)
        table = put(put(table, "meta/episodes/chunk_index", 0), "meta/episodes/file_index", number)
        rows = added(added(data, "episode_index", number * episodes), "index", number * frames)
        for folder, table in (("meta/episodes", table), ("data", rows)):
            path = large / folder / f"chunk-000/file-{number:03d}.parquet"
            path.parent.mkdir(parents=True, exist_ok=True)
            pq.write_table(table, path)


def times_ten_v21(small, large):
    info, episodes, _ = info_of(small, large)
    shutil.copy(small / "meta/tasks.jsonl", large / "meta")
    for name in ("episodes.jsonl", "episodes_stats.jsonl"):
        lines = (small / "meta" / name).read_text().splitlines()
        with open(large / "meta" / name, "w") as out:
            for number in range(TIMES):
                for line in lines:
                    line = json.loads(line)
                    line["episode_index"] += number * episodes
                    out.write(json.dumps(line) + "\n")
    cameras = [name for name, feature in info["features"].items() if feature["dtype"] == "video"]
    for number in range(TIMES):
        for episode in range(episodes):
            for template, more in [(info["data_path"], [{}]), (info["video_path"], [{"video_key": key} for key in cameras])]:
                for words in more:
                    def path(index):
                        chunk = index // info["chunks_size"]
                        return template.format(episode_chunk=chunk, episode_index=index, **words)
                    to = large / path(episode + number * episodes)
                    to.parent.mkdir(parents=True, exist_ok=True)
                    os.link(small / path(episode), to)


def by_sinew(program, root):
    said = subprocess.run([program, root, "items=1", "order=sequential"], check=True, capture_output=True, text=True).stdout
    said = json.loads(said)
    return {"ms": round(said["open_ms"] + said["seconds"] * 1e3, 1), "peak_mb": round(said["peak_mb"], 1)}


def by_lerobot(root):
    from lerobot.datasets.lerobot_dataset import LeRobotDataset

    begun = time.monotonic()
    dataset = LeRobotDataset("bench/large", root=root, video_backend="pyav")
    dataset[0]
    peak_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return {"ms": round((time.monotonic() - begun) * 1e3, 1), "peak_mb": round(peak_mb, 1)}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--programs", type=pathlib.Path, help="where bench_commits and bench_reading are")
    parser.add_argument("--folder", type=pathlib.Path, help="where the datasets are made, and found the next time")
    parser.add_argument("--lerobot", type=pathlib.Path, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.lerobot:
        print(json.dumps(by_lerobot(given.lerobot)))
        return
    programs = given.programs or pathlib.Path(os.environ.get("CARGO_TARGET_DIR", "target")) / "release/examples"
    folder = given.folder or pathlib.Path(tempfile.mkdtemp(prefix="sinew-large-"))
    small = folder / "small"
    if not (small / "2.1/meta/info.json").exists():
        subprocess.run([programs / "bench_commits", small], check=True)
    failed = False
    for version, times_ten in (("3.0", times_ten_v30), ("2.1", times_ten_v21)):
        large = folder / f"large-{version}"
        if not large.exists():
            times_ten(small / version, large)
        line = {"version": version, "sinew": by_sinew(programs / "bench_reading", large)}
        if version == "3.0":
            said = subprocess.run([sys.executable, __file__, "--lerobot", large], check=True, capture_output=True, text=True).stdout
            line["lerobot"] = json.loads(said.splitlines()[-1])
            line["lerobot_over_sinew"] = {key: round(line["lerobot"][key] / line["sinew"][key], 2) for key in ("ms", "peak_mb")}
        print(json.dumps(line), flush=True)
        failed |= line["sinew"]["ms"] > MOST_S * 1e3 or line["sinew"]["peak_mb"] > MOST_MB
    if not given.folder:
        shutil.rmtree(folder)
    sys.exit(1 if failed else 0)


main()
