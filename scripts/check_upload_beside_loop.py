"""The control loop's lateness with and without an upload at full speed beside it.

    python scripts/check_upload_beside_loop.py --sinew SINEW --fake-hub FAKE_HUB [--rounds 7] [--seconds 20] [--megabytes 2000]

The demonstration policy works the simulated arm with 7 turns an action (210 Hz): in each round once alone, and once while `sinew hub
upload` sends a folder of random bytes to a fake Hub on loopback, again and again. Whatever else disturbs the machine for a while
meets both. The fake Hub, which is another machine in life, runs only when nobody else wants to (SCHED_IDLE), and writes nothing to
the disk. Prints p99.9 of each run and the ratio of the medians; exit code 1 when it is above 1.2. Run it on a quiet machine.
"""

import argparse
import itertools
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

MOST = 1.2

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("--sinew", type=Path, required=True)
parser.add_argument("--fake-hub", type=Path, required=True)
parser.add_argument("--rounds", type=int, default=7)
parser.add_argument("--seconds", type=int, default=20, help="of each run; two runs a round")
parser.add_argument("--megabytes", type=int, default=2000)
parser.add_argument("--line", type=int, default=1000, help="megabits a second that the line to the Hub carries")
parser.add_argument("--limit", type=float, help="megabytes a second, as of `sinew hub upload --limit`")
parser.add_argument("--more", nargs="*", default=[], help="more options of rollout, such as --realtime")
options = parser.parse_args()


def stolen():
    """Seconds of processor time that the machine below took, where this one is virtual."""
    return int(Path("/proc/stat").read_text().split("\n")[0].split()[8]) / os.sysconf("SC_CLK_TCK")


def loop(what):
    """Milliseconds by which ticks were late: the median, p99.9 and the worst."""
    words = ["rollout", "--seconds", str(options.seconds), "--fps-multiplier", "7", "--no-record", "--no-rerun", "--json", *options.more]
    before = stolen()
    done = subprocess.run([options.sinew, *words], capture_output=True, text=True, check=True, stdin=subprocess.DEVNULL)
    late = json.loads(done.stdout.splitlines()[-1])["cadence"]["lateness"]
    late = {name: round(late[f"{name}_ns"] * 1e-6, 3) for name in ("p50", "p99", "p999", "max")}
    print(json.dumps({"what": what, "ms_late": late, "stolen_s": round(stolen() - before, 2)}), flush=True)
    return late["p999"]


class Uploads:
    """One upload after the other while the block lasts, each to a repository of its own."""

    numbers = itertools.count()

    def __init__(self, folder, env):
        self.folder, self.env = folder, env
        self.ended, self.process, self.failed = threading.Event(), None, None
        self.thread = threading.Thread(target=self.run)

    def run(self):
        while not self.ended.is_set():
            shutil.rmtree(self.folder / "files/.cache", ignore_errors=True)
            # The Hub has the last ones, and would not be sent them again.
            for path in (self.folder / "files").iterdir():
                with path.open("r+b") as file:
                    file.write(os.urandom(16))
            limit = ["--limit", str(options.limit)] if options.limit else []
            command = [options.sinew, "hub", "upload", self.folder / "files", f"ada/up{next(self.numbers)}", "--type", "policy", "--json", *limit]
            self.process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, env=self.env)
            said = self.process.communicate()[1]
            if self.process.returncode and not self.ended.is_set():
                self.failed = said
                return

    def __enter__(self):
        self.thread.start()

    def __exit__(self, *_):
        self.ended.set()
        self.process.kill()
        self.thread.join()
        if self.failed:
            sys.exit(self.failed)


def main():
    folder = Path(tempfile.mkdtemp(prefix="sinew-beside-"))
    hub = None
    try:
        (folder / "files").mkdir()
        for number in range(options.megabytes // 100):
            (folder / f"files/{number}.bin").write_bytes(os.urandom(100_000_000))
        os.sync()
        command = ["chrt", "--idle", "0", options.fake_hub, "--token", "hf_write:ada:write", "--discard", "--rate", str(options.line * 125_000)]
        hub = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        endpoint = hub.stdout.readline().split()[-1]
        env = {**os.environ, "HF_ENDPOINT": endpoint, "HF_TOKEN": "hf_write", "HF_HOME": str(folder / "hf")}
        alone, beside = [], []
        for _ in range(options.rounds):
            alone.append(loop("alone"))
            with Uploads(folder, env):
                beside.append(loop("beside uploads"))
        alone, beside = statistics.median(alone), statistics.median(beside)
        ratio = beside / alone
        print(json.dumps({"what": "median of p99.9", "alone_ms": alone, "beside_ms": beside, "ratio": round(ratio, 3), "most": MOST}))
        return ratio > MOST
    finally:
        if hub:
            hub.kill()
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    sys.exit(main())
