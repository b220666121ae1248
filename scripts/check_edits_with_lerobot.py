"""Edits datasets with `sinew dataset` and has LeRobot 0.6.1 judge what comes out; see
`check_dataset_with_lerobot.sh --edits`.

Twelve datasets of other rates, cameras, sizes, codecs, features, lengths and tasks are recorded by the
example record_features. Each is deleted from, split, merged, converted there and back, and broken and
repaired; of some the images change their form. LeRobot opens each result, decodes every frame at its time,
reads the number that is painted into it, compares every value with what was recorded, and recomputes the
statistics; to the merged ones it appends an episode, and it deletes from and merges the recorded ones.
"""

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import check_dataset_with_lerobot as judge

COMBINATIONS = [
    "fps=30 lengths=20,1,33 cameras=2 size=128x96",
    "fps=10 lengths=1,1,5 cameras=1 size=128x64 features=all tasks=3",
    "fps=50 lengths=40,7,12 cameras=3 size=96x128",
    "fps=60 lengths=61,30 cameras=1 size=320x240 tasks=2",
    "fps=24 lengths=20,1,9 cameras=1 size=127x95 encoder=libx264 pixels=yuv444p",
    "fps=15 lengths=12,8 cameras=2 size=128x96 encoder=av1 features=all tasks=2",
    "fps=30 lengths=15,21 cameras=1 size=128x96 encoder=hevc",
    "fps=30 lengths=10,1,6 cameras=2 size=97x65 kind=image",
    "fps=30 lengths=11,9 cameras=1 size=128x96 kind=depth",
    "fps=5 lengths=4,9,1 cameras=0 features=all tasks=4",
    "fps=25 lengths=18,7 cameras=1 size=160x120 encoder=libx264",
    "fps=100 lengths=1,90,2 cameras=1 size=96x96 features=all",
]

results = []


def run(*command):
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True)
    if done.returncode != 0:
        raise RuntimeError(f"{' '.join(map(str, command))}: {done.stderr.strip()}")
    return done.stdout


def verdict(name, root, were, **options):
    """Has LeRobot look at a dataset whose episodes `were` those of record_features."""
    judge.failures.clear()
    judge.episodes_were = were
    judge.were_video = options.pop("were_video", False)
    arguments = argparse.Namespace(append=False, edit=False, burned_in=False, made_up=True, decoded_stats=False)
    vars(arguments).update(options)
    begun = time.monotonic()
    try:
        judge.check_dataset(root, arguments)
    except Exception as error:
        judge.check(False, f"{type(error).__name__}: {error}")
    results.append((name, list(judge.failures)))
    print(f"== {name}: {'FAILED' if judge.failures else 'ok'} ({time.monotonic() - begun:.1f} s)", flush=True)


def no_episodes_table(root):
    shutil.rmtree(root / "meta" / "episodes")


def no_footer(root):
    """What LeRobot leaves when it is killed: rows without an index."""
    for path in (root / "data").rglob("*.parquet"):
        table = path.read_bytes()
        path.write_bytes(table[: len(table) - 8 - int.from_bytes(table[-8:-4], "little")])
    no_episodes_table(root)


def info_ahead(root):
    path = root / "meta" / "info.json"
    info = json.loads(path.read_text())
    info["total_episodes"] += 2
    info["total_frames"] += 17
    path.write_text(json.dumps(info, indent=4))


def no_statistics(root):
    (root / "meta" / "stats.json").unlink()


DAMAGES = [no_episodes_table, no_footer, info_ahead, no_statistics]


def check_combination(number, text, arguments, folder):
    recorded = folder / "recorded"
    run(arguments.record_features, recorded, *text.split())
    info = json.loads((recorded / "meta" / "info.json").read_text())
    all_of = list(range(info["total_episodes"]))
    dataset = [arguments.sinew, "dataset"]
    has_video = "cameras=0" not in text and "kind" not in text

    verdict(f"{number} recorded ({text})", recorded, all_of, edit=True)
    run(*dataset, "delete", recorded, "--episodes", "0", "--out", folder / "fewer", "--yes")
    verdict(f"{number} without the first episode", folder / "fewer", all_of[1:])
    run(*dataset, "split", recorded, "--out", folder / "parts", "--part", "first=0", "--part", f"rest=1-{all_of[-1]}", "--yes")
    verdict(f"{number} split: the rest", folder / "parts" / "rest", all_of[1:])
    run(*dataset, "merge", folder / "parts" / "rest", folder / "parts" / "first", "--out", folder / "merged", "--yes")
    verdict(f"{number} merged again", folder / "merged", all_of[1:] + all_of[:1], append=True)
    run(*dataset, "convert", recorded, "--to", "v2.1", "--out", folder / "older", "--yes")
    run(*dataset, "convert", folder / "older", "--to", "v3.0", "--yes")
    verdict(f"{number} by version 2.1 and back", folder / "older", all_of)
    damage = DAMAGES[number % len(DAMAGES)]
    shutil.copytree(recorded, folder / "broken")
    damage(folder / "broken")
    run(*dataset, "repair", folder / "broken", "--yes")
    verdict(f"{number} repaired ({damage.__name__})", folder / "broken", all_of, decoded_stats=True)
    if has_video and number in (0, 3):
        run(*dataset, "convert", recorded, "--codec", "av1", "--out", folder / "av1", "--yes")
        verdict(f"{number} encoded as AV1", folder / "av1", all_of)
        run(*dataset, "convert", recorded, "--images", "--out", folder / "images", "--yes")
        verdict(f"{number} as images", folder / "images", all_of, were_video=True)
    if "kind=image" in text:
        run(*dataset, "convert", recorded, "--codec", "libx264", "--pix-fmt", "yuv444p", "--out", folder / "video", "--yes")
        verdict(f"{number} as video", folder / "video", all_of)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sinew", type=Path, required=True, help="the binary")
    parser.add_argument("--record-features", type=Path, required=True, help="the example of the recorder")
    parser.add_argument("--only", type=int, nargs="*", help="numbers of combinations; without it all")
    arguments = parser.parse_args()
    for number, text in enumerate(COMBINATIONS):
        if arguments.only and number not in arguments.only:
            continue
        with tempfile.TemporaryDirectory() as folder:
            try:
                check_combination(number, text, arguments, Path(folder))
            except Exception as error:
                results.append((f"{number} ({text})", [f"{type(error).__name__}: {error}"]))
                print(f"== {number} ({text}): {error}", file=sys.stderr)
    broken = [(name, failures) for name, failures in results if failures]
    print(f"{len(results)} datasets, {len(results) - len(broken)} without fault")
    for name, failures in broken:
        print(f"FAILED: {name}: {len(failures)} checks, the first: {failures[0]}")
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
