#!/usr/bin/env python3
"""Kills recorders, and cuts the power of file systems, then looks whether a committed episode was lost.

    scripts/check_crashes.py kills [--count 200] [--seed 1]
    scripts/check_crashes.py power [--count 40] [--file-systems ext4,xfs,btrfs,vfat,exfat] [--seed 1]

Run it where `cargo build --release --locked --examples --bins` left its programs, or give --programs FOLDER.

kills: `sinew record` in the simulator with --resume, under strace, which holds up every sync for 0 to 400 ms; SIGKILL
at a random moment. Needs strace.

power: a recorder writes to a file system in an image that is mounted by a loop device. The image lies on an XFS, which
clones it in an instant while the recorder goes on: the clone is what a power cut at that moment leaves, without what
was not synced. Needs root, loop devices, xfs_io and the mkfs of each file system; one that the kernel does not have is
named and left out.

After each, three things must hold: before Sinew has touched anything, meta/info.json is whole and names no fewer
episodes than a reader saw at the moment (what LeRobot finds; after a power cut it may be one fewer); after
`sinew dataset discard` no episode is missing; `sinew dataset verify --deep` calls the dataset whole. A line of JSON
sums up each row; ends with 1 when one was lost.
"""

import argparse
import collections
import json
import os
import pathlib
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time

DELAYS_MS = [0, 5, 30, 150, 400]
IMAGE_MB = 400


def episodes(root):
    """What a reader sees; None where there is no dataset yet."""
    try:
        return json.loads((root / "meta/info.json").read_text())["total_episodes"]
    except FileNotFoundError:
        return None


def sinew(programs, *arguments):
    return subprocess.run([programs / "sinew", "dataset", *arguments], capture_output=True, text=True)


def judge(programs, root, seen, unsettled=0):
    """What is wrong with the dataset of which a reader has seen so many episodes; None when nothing is. Of the last
    `unsettled` ones it may be that only the log of their commit is on the disk."""
    if seen is None and not (root / "meta/info.json").exists():
        return None
    try:
        found = episodes(root)
    except ValueError as error:
        return f"info.json is damaged before anything was recovered: {error}"
    if found is None or found < (seen or 0) - unsettled:
        return f"info.json names {found} episodes, {seen} were seen"
    recovered = sinew(programs, "discard", "--yes", str(root))
    if recovered.returncode != 0:
        return f"discarding the unfinished episode ended with {recovered.returncode}: {recovered.stderr.strip()}"
    found = episodes(root)
    if found < (seen or 0):
        return f"{found} episodes are left of {seen}"
    verified = sinew(programs, "verify", "--deep", str(root))
    if verified.returncode != 0:
        return f"not whole: {(verified.stdout + verified.stderr).strip()}"
    return None


def kills(given, programs, scratch):
    lost = 0
    rows = collections.defaultdict(lambda: {"kills": 0, "lost": 0, "pending": 0, "episodes": 0})
    root, order = scratch / "dataset", random.Random(given.seed)
    for number in range(given.count):
        if number % 20 == 0:
            shutil.rmtree(root, ignore_errors=True)
        delay = DELAYS_MS[number % len(DELAYS_MS)]
        command = ["strace", "-f", "-qq", "-o", "/dev/null", "-e", "trace=fsync,fdatasync"]
        if delay:
            command += ["-e", f"inject=fsync,fdatasync:delay_enter={delay * 1000}"]
        command += [programs / "sinew", "record", "--sim", "--task", "reach", "--teleop", "scripted", "--episodes", "1000"]
        command += ["--seed", str(number * 1000), "--out", str(root)]
        if episodes(root) is not None:
            command += ["--resume", "--unfinished", order.choice(["recover", "discard"])]
        before = episodes(root) or 0
        recorder = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
        # Anywhere from the start to some commits later.
        time.sleep(order.uniform(0.05, 0.8 + 12 * delay / 1000))
        children = pathlib.Path(f"/proc/{recorder.pid}/task/{recorder.pid}/children").read_text().split()
        seen = episodes(root)
        for child in children:
            os.kill(int(child), signal.SIGKILL)
        _, said = recorder.communicate()
        row = rows[f"syncs take {delay} ms longer"]
        wrong = None
        if not children:
            wrong = f"the recorder ended by itself: {said.strip()}"
        row["pending"] += (root / ".sinew/commit").exists()
        if wrong is None:
            copy = scratch / "copy"
            shutil.rmtree(copy, ignore_errors=True)
            if root.exists():
                shutil.copytree(root, copy)
                wrong = judge(programs, copy, seen)
        row["kills"] += 1
        row["episodes"] += max((seen or 0) - before, 0)
        if wrong:
            row["lost"] += 1
            lost += 1
            kept = scratch / f"kill-{number}"
            shutil.copytree(root, kept, dirs_exist_ok=True)
            print(f"kill {number}, syncs {delay} ms: {wrong}", file=sys.stderr)
            shutil.rmtree(root, ignore_errors=True)
    for name, row in rows.items():
        print(json.dumps({"row": name, **row}))
    return lost


def run(*command):
    return subprocess.run([str(part) for part in command], check=True, capture_output=True, text=True).stdout.strip()


def mounted(image, at, options=()):
    at.mkdir(exist_ok=True)
    run("mount", "-o", ",".join(("loop", *options)), image, at)
    return at


def power(given, programs, scratch):
    lost, order = 0, random.Random(given.seed)
    pool_image = scratch / "pool"
    with open(pool_image, "wb") as file:
        file.truncate(6 << 30)
    run("mkfs.xfs", "-q", "-m", "reflink=1", pool_image)
    pool = mounted(pool_image, scratch / "pool-mounted")
    try:
        for name in given.file_systems.split(","):
            row = {"row": name, "cuts": 0, "lost": 0, "pending": 0, "episodes": 0}
            image = pool / f"{name}.img"
            with open(image, "wb") as file:
                file.truncate(IMAGE_MB << 20)
            try:
                run(f"mkfs.{name}", *(["-q"] if name in ("ext4", "xfs", "btrfs") else []), image)
                at = mounted(image, scratch / "live")
            except (subprocess.CalledProcessError, FileNotFoundError) as error:
                said = (getattr(error, "stderr", "") or str(error)).strip().splitlines()
                print(json.dumps({"row": name, "left_out": said[-1] if said else str(error)}))
                image.unlink()
                continue
            clone, restored = pool / "clone.img", scratch / "restored"
            try:
                while row["cuts"] < given.count:
                    root = at / "dataset"
                    shutil.rmtree(root, ignore_errors=True)
                    arguments = [programs / "record_synthetic", root, "30", "20"]
                    recorder = subprocess.Popen(arguments, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
                    while recorder.poll() is None and row["cuts"] < given.count:
                        time.sleep(order.uniform(0.005, 0.25))
                        # What was seen before the cut was committed before it.
                        seen = episodes(root)
                        run("cp", "--reflink=always", image, clone)
                        recorder.send_signal(signal.SIGSTOP)
                        # Both file systems would have one identity.
                        mounted(clone, restored, ("nouuid",) if name == "xfs" else ())
                        wrong = None
                        try:
                            row["pending"] += (restored / "dataset/.sinew/commit").exists()
                            wrong = judge(programs, restored / "dataset", seen, unsettled=1)
                        finally:
                            run("umount", restored)
                            recorder.send_signal(signal.SIGCONT)
                        row["cuts"] += 1
                        row["episodes"] += seen or 0
                        if wrong:
                            row["lost"] += 1
                            lost += 1
                            print(f"{name}, cut {row['cuts']}: {wrong}", file=sys.stderr)
                    recorder.kill()
                    _, said = recorder.communicate()
                    if recorder.returncode not in (0, -signal.SIGKILL):
                        raise SystemExit(f"{name}: the recorder ended by itself: {said.strip()}")
            finally:
                run("umount", at)
                image.unlink()
            print(json.dumps(row), flush=True)
    finally:
        run("umount", pool)
    return lost


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("kind", choices=["kills", "power"])
    parser.add_argument("--count", type=int, help="kills, or cuts for each file system")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--file-systems", default="ext4,xfs,btrfs,vfat,exfat")
    parser.add_argument("--programs", type=pathlib.Path, help="where sinew and record_synthetic are")
    given = parser.parse_args()
    programs = given.programs
    if programs is None:
        release = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", "target")) / "release"
        programs = pathlib.Path(tempfile.mkdtemp(prefix="sinew-programs-"))
        shutil.copy(release / "sinew", programs)
        shutil.copy(release / "examples/record_synthetic", programs)
    given.count = given.count or (200 if given.kind == "kills" else 40)
    scratch = pathlib.Path(tempfile.mkdtemp(prefix="sinew-crashes-"))
    lost = (kills if given.kind == "kills" else power)(given, programs.resolve(), scratch)
    if lost:
        sys.exit(f"{lost} were lost; what is left of them is in {scratch}")
    shutil.rmtree(scratch)


main()
