"""The control loop's lateness with and without an upload at full speed beside it.

    python scripts/check_upload_beside_loop.py --sinew SINEW --fake-hub FAKE_HUB [--rival PYTHON] [--rounds 7] [--seconds 20] [--ordinary]

The demonstration policy works the simulated arm with 7 turns an action (210 Hz) and --realtime, as a robot's loop is to run: in each
round once alone, once while `sinew hub upload` sends a folder of random bytes to a fake Hub on loopback, again and again, and once while
`nice curl` sends the same files to the same store. With --rival also while huggingface_hub of that Python uploads the folder. Whatever
else disturbs the machine for a while meets all of them. The fake Hub, which is another machine in life, runs only when nobody else
wants to (SCHED_IDLE), on the last processor alone, where Sinew's transfers go while a loop is at work, and writes nothing to the disk.
With --ordinary the loop has no real-time priority: what it then waits for is mostly the kernel, which on servers lets nobody interrupt
it; what curl does to the loop says how much that is. Prints p99.9 of each run and the ratios of the medians; exit code 1 when an upload
is above 1.2 of the loop alone. Run it on a quiet machine, as root or with the right to real-time priority.
"""

import argparse
import hashlib
import itertools
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import urllib.request
from pathlib import Path

MOST = 1.2

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("--sinew", type=Path, required=True)
parser.add_argument("--fake-hub", type=Path, required=True)
parser.add_argument("--rival", type=Path, help="a Python with huggingface_hub")
parser.add_argument("--rounds", type=int, default=7)
parser.add_argument("--seconds", type=int, default=20, help="of each run; two runs a round")
parser.add_argument("--megabytes", type=int, default=2000)
parser.add_argument("--line", type=int, default=1000, help="megabits a second that the line to the Hub carries")
parser.add_argument("--limit", type=float, help="megabytes a second, as of `sinew hub upload --limit`")
parser.add_argument("--ordinary", action="store_true", help="a loop without --realtime")
options = parser.parse_args()


def stolen():
    """Seconds of processor time that the machine below took, where this one is virtual."""
    return int(Path("/proc/stat").read_text().split("\n")[0].split()[8]) / os.sysconf("SC_CLK_TCK")


def loop(what):
    """Milliseconds by which ticks were late: the median, p99.9 and the worst."""
    words = ["rollout", "--seconds", str(options.seconds), "--fps-multiplier", "7", "--no-record", "--no-rerun", "--json"]
    words += [] if options.ordinary else ["--realtime"]
    before = stolen()
    done = subprocess.run([options.sinew, *words], capture_output=True, text=True, check=True, stdin=subprocess.DEVNULL)
    late = json.loads(done.stdout.splitlines()[-1])["cadence"]["lateness"]
    late = {name: round(late[f"{name}_ns"] * 1e-6, 3) for name in ("p50", "p99", "p999", "max")}
    print(json.dumps({"what": what, "ms_late": late, "stolen_s": round(stolen() - before, 2)}), flush=True)
    return late["p999"]


class Beside:
    """Something that sends while the block lasts."""

    def __init__(self, folder, env):
        self.folder, self.env = folder, env
        self.ended, self.failed = threading.Event(), None
        self.thread = threading.Thread(target=self.run)

    def renew(self, paths):
        """The Hub has the last ones, and would not be sent them again."""
        for path in paths:
            with path.open("r+b") as file:
                file.write(os.urandom(16))

    def __enter__(self):
        self.thread.start()

    def __exit__(self, *_):
        self.ended.set()
        self.end()
        self.thread.join()
        if self.failed:
            sys.exit(self.failed)


class Uploads(Beside):
    """One upload after the other, each to a repository of its own."""

    numbers = itertools.count()
    process = None

    def command(self, repo):
        limit = ["--limit", str(options.limit)] if options.limit else []
        return [options.sinew, "hub", "upload", self.folder / "files", repo, "--type", "policy", "--json", *limit]

    def run(self):
        while not self.ended.is_set():
            shutil.rmtree(self.folder / "files/.cache", ignore_errors=True)
            self.renew(self.folder.glob("files/*.bin"))
            command = self.command(f"ada/up{next(self.numbers)}")
            self.process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, env=self.env)
            said = self.process.communicate()[1]
            if self.process.returncode and not self.ended.is_set():
                self.failed = said
                return

    def end(self):
        if self.process:
            self.process.kill()


class RivalUploads(Uploads):
    """The same by huggingface_hub."""

    WORDS = """
import sys, huggingface_hub
huggingface_hub.create_repo(sys.argv[1])
huggingface_hub.upload_folder(repo_id=sys.argv[1], folder_path=sys.argv[2])
"""

    def command(self, repo):
        return [options.rival, "-c", self.WORDS, repo, self.folder / "files"]


class CurlUploads(Beside):
    """The same files to the fake Hub's store by curl, which hashes nothing and knows nothing of a Hub."""

    process = None

    def post(self, path, body):
        headers = {"Authorization": "Bearer hf_write", "Content-Type": "application/json"}
        request = urllib.request.Request(self.env["HF_ENDPOINT"] + path, json.dumps(body).encode(), headers)
        with urllib.request.urlopen(request) as answer:
            return json.load(answer)

    def run(self):
        repo = f"curl{next(Uploads.numbers)}"
        self.post("/api/repos/create", {"name": repo, "organization": "ada", "type": "model"})
        for path in itertools.cycle(sorted(self.folder.glob("files/*.bin"))):
            self.renew([path])
            with path.open("rb") as file:
                oid = hashlib.file_digest(file, "sha256").hexdigest()
            ask = {"operation": "upload", "transfers": ["basic"], "hash_algo": "sha256", "objects": [{"oid": oid, "size": path.stat().st_size}]}
            store = self.post(f"/ada/{repo}.git/info/lfs/objects/batch", ask)["objects"][0]["actions"]["upload"]
            command = ["nice", "-n", "10", "curl", "-sSf", "-o", os.devnull, "-H", "Expect:", "-T", path, store["href"]]
            self.process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
            said = self.process.communicate()[1]
            if self.ended.is_set():
                return
            if self.process.returncode:
                self.failed = said
                return

    def end(self):
        if self.process:
            self.process.kill()


def main():
    folder = Path(tempfile.mkdtemp(prefix="sinew-beside-"))
    hub = None
    try:
        (folder / "files").mkdir()
        for number in range(options.megabytes // 100):
            (folder / f"files/{number}.bin").write_bytes(os.urandom(100_000_000))
        os.sync()
        last = str(max(os.sched_getaffinity(0)))
        command = ["taskset", "-c", last, "chrt", "--idle", "0", options.fake_hub, "--token", "hf_write:ada:write", "--discard", "--rate", str(options.line * 125_000)]
        hub = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        endpoint = hub.stdout.readline().split()[-1]
        # The fake Hub's own store stands for S3, whoever sends.
        env = {**os.environ, "HF_ENDPOINT": endpoint, "HF_TOKEN": "hf_write", "HF_HOME": str(folder / "hf"), "HF_HUB_DISABLE_XET": "1"}
        kinds = {"beside sinew": Uploads, "beside curl": CurlUploads}
        if options.rival:
            kinds["beside huggingface_hub"] = RivalUploads
        runs = {what: [] for what in ("alone", *kinds)}
        for _ in range(options.rounds):
            runs["alone"].append(loop("alone"))
            for what, kind in kinds.items():
                with kind(folder, env):
                    runs[what].append(loop(what))
        medians = {what: statistics.median(late) for what, late in runs.items()}
        of_alone = {what: round(late / medians["alone"], 3) for what, late in medians.items()}
        print(json.dumps({"what": "median of p99.9", "ms": medians, "of_alone": of_alone, "most": MOST}))
        return of_alone["beside sinew"] > MOST
    finally:
        if hub:
            hub.kill()
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    sys.exit(main())
