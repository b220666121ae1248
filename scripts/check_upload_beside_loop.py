"""The control loop's lateness with and without an upload at full speed beside it.

    python scripts/check_upload_beside_loop.py --sinew SINEW --fake-hub FAKE_HUB [--seconds 140] [--megabytes 2000]

The demonstration policy works the simulated arm with 7 turns an action (210 Hz), once alone, and once while `sinew hub upload`
sends a folder of random bytes to a fake Hub on loopback, again and again. The fake Hub, which is another machine in life, runs only
when nobody else wants to (SCHED_IDLE), and writes nothing to the disk. Prints p99.9 of both and the ratio; exit code 1 when the ratio is above 1.2. Run it on a
quiet machine.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

MOST = 1.2

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("--sinew", type=Path, required=True)
parser.add_argument("--fake-hub", type=Path, required=True)
parser.add_argument("--seconds", type=int, default=140)
parser.add_argument("--megabytes", type=int, default=2000)
parser.add_argument("--line", type=int, default=1000, help="megabits a second that the line to the Hub carries")
parser.add_argument("--limit", type=float, help="megabytes a second, as of `sinew hub upload --limit`")
parser.add_argument("--more", nargs="*", default=[], help="more options of rollout, such as --realtime")
options = parser.parse_args()


def loop():
    """Milliseconds by which ticks were late: the median, p99.9 and the worst."""
    words = ["rollout", "--seconds", str(options.seconds), "--fps-multiplier", "7", "--no-record", "--no-rerun", "--json", *options.more]
    done = subprocess.run([options.sinew, *words], capture_output=True, text=True, check=True, stdin=subprocess.DEVNULL)
    late = json.loads(done.stdout.splitlines()[-1])["cadence"]["lateness"]
    return {name: late[f"{name}_ns"] * 1e-6 for name in ("p50", "p99", "p999", "max")}


def uploads(folder, env, ended, sent):
    """One upload after the other."""
    while not ended.is_set():
        # The Hub has the last ones, and would not be sent them again.
        for path in (folder / "files").iterdir():
            with path.open("r+b") as file:
                file.write(os.urandom(16))
        done = subprocess.run(
            [options.sinew, "hub", "upload", folder / "files", f"ada/up{len(sent)}", "--type", "policy", "--json",
             *(["--limit", str(options.limit)] if options.limit else [])],
            capture_output=True, text=True, env=env,
        )
        if done.returncode:
            print(done.stderr, file=sys.stderr, flush=True)
            return
        sent.append(json.loads(done.stdout)["bytes_sent"])
        shutil.rmtree(folder / "files/.cache", ignore_errors=True)


def main():
    folder = Path(tempfile.mkdtemp(prefix="sinew-beside-"))
    hub = None
    try:
        (folder / "files").mkdir()
        for number in range(options.megabytes // 100):
            (folder / f"files/{number}.bin").write_bytes(os.urandom(100_000_000))
        os.sync()
        alone = loop()
        print(json.dumps({"what": "alone, ms late", **alone}), flush=True)
        command = ["chrt", "--idle", "0", options.fake_hub, "--token", "hf_write:ada:write", "--discard", "--rate", str(options.line * 125_000)]
        hub = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        endpoint = hub.stdout.readline().split()[-1]
        env = {**os.environ, "HF_ENDPOINT": endpoint, "HF_TOKEN": "hf_write", "HF_HOME": str(folder / "hf")}
        ended, sent = threading.Event(), []
        sender = threading.Thread(target=uploads, args=(folder, env, ended, sent))
        sender.start()
        beside = loop()
        ended.set()
        sender.join()
        ratio = beside["p999"] / alone["p999"]
        print(json.dumps({"what": "beside uploads, ms late", **beside, "gigabytes_sent": sum(sent) * 1e-9}))
        print(json.dumps({"what": "p99.9, ratio", "ratio": round(ratio, 3), "most": MOST}))
        return ratio > MOST
    finally:
        if hub:
            hub.kill()
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    sys.exit(main())
