"""Downloads and uploads of `sinew hub` beside those of huggingface_hub: one machine, one fake Hub on loopback, one run.

    python scripts/bench_hub_with_python.py --sinew SINEW --fake-hub FAKE_HUB [--megabytes 2000] [--files 2000] [--rounds 3]
    python scripts/bench_hub_with_python.py --sinew SINEW --fake-hub FAKE_HUB --memory     a file of 10 GB, down and up

Its Python is the one with huggingface_hub (HF_HUB_DISABLE_XET is set, as the fake Hub has no Xet here). Each round does both,
in turns; what is printed are medians of wall-clock seconds, the ratio Sinew / Python, and the most memory of each process.
"""

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("--sinew", type=Path, required=True)
parser.add_argument("--fake-hub", type=Path, required=True)
parser.add_argument("--megabytes", type=int, default=2000)
parser.add_argument("--files", type=int, default=2000)
parser.add_argument("--rounds", type=int, default=3)
parser.add_argument("--memory", action="store_true")
options = parser.parse_args()

folder = Path(tempfile.mkdtemp(prefix="sinew-bench-hub-"))
DOWN = "import sys; from huggingface_hub import snapshot_download as d; d(sys.argv[1], repo_type='dataset')"
UP = "import sys; from huggingface_hub import HfApi; a = HfApi(); a.create_repo(sys.argv[2], exist_ok=True); \
a.upload_folder(folder_path=sys.argv[1], repo_id=sys.argv[2])"
INFO = "import sys; from huggingface_hub import HfApi; print(HfApi().dataset_info(sys.argv[1]).sha)"


def write(path, megabytes):
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as file:
        for _ in range(megabytes):
            file.write(os.urandom(1 << 20))


class Hub:
    def __init__(self, *words):
        command = [str(options.fake_hub), "--token", "hf_writer:ada:write", "--state", str(folder / "state"), *words]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        self.endpoint = self.process.stdout.readline().split()[-1]

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.kill()
        self.process.wait()
        shutil.rmtree(folder / "state", ignore_errors=True)


def run(hub, command, home):
    """Seconds and megabytes of a command; its home is new."""
    shutil.rmtree(folder / home, ignore_errors=True)
    environment = {
        **os.environ, "HF_ENDPOINT": hub.endpoint, "HF_TOKEN": "hf_writer", "HF_HOME": str(folder / home), "HF_HUB_DISABLE_XET": "1",
        "HF_HUB_DISABLE_PROGRESS_BARS": "1", "HF_HUB_DISABLE_TELEMETRY": "1",
    }
    os.sync()
    begin = time.monotonic()
    process = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    out, err = process.communicate()
    seconds = time.monotonic() - begin
    if process.returncode:
        raise SystemExit(f"{command[0]}: {err.decode()[-2000:]}")
    return seconds, out


def timed(hub, command, home):
    """The same under /usr/bin/time, for its memory."""
    log = folder / "time"
    seconds, _ = run(hub, ["/usr/bin/time", "-f", "%M", "-o", str(log), *map(str, command)], home)
    return seconds, int(log.read_text().split()[-1]) / 1024


def compare(what, ours, theirs):
    seconds = {name: statistics.median(values) for name, values in [("sinew", [s for s, _ in ours]), ("python", [s for s, _ in theirs])]}
    memory = {name: max(values) for name, values in [("sinew", [m for _, m in ours]), ("python", [m for _, m in theirs])]}
    print(json.dumps({
        "what": what, "sinew_s": round(seconds["sinew"], 3), "python_s": round(seconds["python"], 3),
        "ratio": round(seconds["sinew"] / seconds["python"], 3), "sinew_mb": round(memory["sinew"]), "python_mb": round(memory["python"]),
    }), flush=True)


def main():
    sinew, python = str(options.sinew), sys.executable
    if options.memory:
        size = 10 * 10**9
        with Hub("--zeros", f"dataset:ada/huge:huge.bin:{size}") as hub:
            print("download of 10 GB:", timed(hub, [sinew, "hub", "download", "ada/huge", "--type", "dataset"], "ours"))
        sparse = folder / "sparse"
        sparse.mkdir()
        with (sparse / "huge.bin").open("wb") as file:
            file.truncate(size)
        with Hub() as hub:
            print("upload of 10 GB:", timed(hub, [sinew, "hub", "upload", str(sparse), "ada/up", "--type", "policy"], "ours"))
        return
    root = folder / "root/datasets/ada"
    write(root / "one/data.bin", options.megabytes)
    for number in range(options.files):
        path = root / f"many/data/{number // 500:03}/{number:05}.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(os.urandom(4000))
    with Hub("--root", str(folder / "root")) as hub:
        infos = [[run(hub, command, "info")[0] for command in ([sinew, "hub", "info", "ada/many", "--type", "dataset"], [python, "-c", INFO, "ada/many"])]
                 for _ in range(7)]
        ours, theirs = ([times[which] * 1e3 for times in infos] for which in (0, 1))
        print(json.dumps({"what": "info, cold, ms", "sinew": statistics.median(ours), "python": statistics.median(theirs)}), flush=True)
        for name in ["one", "many"]:
            ours, theirs = [], []
            for _ in range(options.rounds):
                ours.append(timed(hub, [sinew, "hub", "download", f"ada/{name}", "--type", "dataset"], "ours"))
                theirs.append(timed(hub, [python, "-c", DOWN, f"ada/{name}"], "theirs"))
            compare(f"download {name}", ours, theirs)
            for home in ["ours", "theirs"]:
                shutil.rmtree(folder / home, ignore_errors=True)
    for name in ["one", "many"]:
        ours, theirs = [], []
        for _ in range(options.rounds):
            with Hub() as hub:
                copy = folder / "copy"
                shutil.rmtree(copy, ignore_errors=True)
                shutil.copytree(root / name, copy)
                ours.append(timed(hub, [sinew, "hub", "upload", str(copy), f"ada/{name}", "--type", "policy"], "ours"))
            with Hub() as hub:
                shutil.rmtree(copy, ignore_errors=True)
                shutil.copytree(root / name, copy)
                theirs.append(timed(hub, [python, "-c", UP, str(copy), f"ada/{name}"], "theirs"))
        compare(f"upload {name}", ours, theirs)


try:
    main()
finally:
    shutil.rmtree(folder, ignore_errors=True)
