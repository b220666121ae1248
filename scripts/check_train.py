"""Trains a policy with `sinew train` and LeRobot itself, on this machine and over ssh to it, and looks at what came of it.

    python scripts/check_train.py local [--steps 10]
    python scripts/check_train.py ssh [--steps 20]

`local` records a small dataset in the simulator, trains ACT on it in this Python, and has `sinew policy check` look at the
checkpoint; the words must be those that LeRobot understood, which it writes into train_config.json.
`ssh` does so over a server of its own on loopback (own key, own port, a temporary folder): while it trains the connection is
cut, then sinew is killed; begun again it must find the same run, and bring the checkpoint.

Needs LeRobot 0.6.1 (`pip install 'lerobot[training]==0.6.1'`) and a release build of sinew; `ssh` also OpenSSH with sshd.
"""

import argparse
import getpass
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
# A small network, as it is the way that is checked.
SMALL = [
    "--policy.pretrained_backbone_weights=null", "--policy.device=cpu", "--num_workers=0", "--dataset.video_backend=pyav",
    "--policy.chunk_size=10", "--policy.n_action_steps=10", "--policy.dim_model=64", "--policy.n_heads=4",
    "--policy.dim_feedforward=128", "--wandb.enable=false",
]


class Bench:
    def __init__(self, options, folder):
        target = Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target"))
        self.sinew = options.sinew or target / "release/sinew"
        self.python, self.steps, self.folder = options.python, options.steps, folder
        self.env = {**os.environ, "HF_HUB_OFFLINE": "1", "HF_HOME": str(folder / "hf")}

    def run(self, *words):
        done = subprocess.run([self.sinew, *map(str, words)], capture_output=True, text=True, env=self.env, cwd=self.folder)
        if done.returncode:
            raise SystemExit(f"{words}: exit code {done.returncode}\n{done.stdout[-2000:]}\n{done.stderr[-4000:]}")
        return done.stdout

    def record(self):
        self.run("record", "--sim", "--robot", "so101", "--teleop", "scripted", "--task", "reach", "--episodes", 2, "--out", "ds")

    def words(self, on):
        return [
            "train", "ds", "--policy", "act", "--on", on, "--python", str(self.python), "--steps", str(self.steps), "--batch-size", "2",
            "--out", "run", "--json", "--", *SMALL,
        ]

    def begin(self, on):
        process = subprocess.Popen(
            [self.sinew, *self.words(on)], stdout=subprocess.PIPE, stderr=open(self.folder / "stderr", "a"), text=True, env=self.env,
            cwd=self.folder,
        )
        return process, (json.loads(line) for line in process.stdout)

    def said(self):
        return (self.folder / "stderr").read_text()


def look(bench, events):
    """What came of a run; raises where it is not as it must be."""
    done = [event for event in events if event.get("event") == "done"]
    assert len(done) == 1, bench.said()[-3000:]
    done = done[0]
    assert done["is_usable"], done
    losses = [event["loss"] for event in events if event.get("event") == "progress"]
    steps = [event["step"] for event in events if event.get("event") == "progress"]
    assert steps[-1:] == [bench.steps] and all(loss > 0 for loss in losses), (steps, losses)
    checked = json.loads(bench.run("policy", "check", done["checkpoint"], "--json"))
    assert checked["ok"], checked
    understood = json.loads((Path(done["checkpoint"]) / "train_config.json").read_text())
    state = json.loads((bench.folder / "run/train.json").read_text())
    for word in state["words"]:
        key, value = word.removeprefix("--").split("=", 1)
        at = understood
        for part in key.split("."):
            at = at[part]
        assert str(at).lower() == value.lower() or (at is None and value == "null"), (word, at)
    return {
        "steps": bench.steps, "first_loss": losses[0], "last_loss": losses[-1], "words_understood": len(state["words"]),
        "parameters": checked["info"]["parameters"], "checkpoint": Path(done["checkpoint"]).name,
    }


def local(bench):
    begin = time.monotonic()
    process, events = bench.begin("local")
    events = list(events)
    assert process.wait() == 0, bench.said()[-3000:]
    return look(bench, events) | {"wall_s": round(time.monotonic() - begin, 1)}


class Sshd:
    """A server on loopback that lets in who has its key, and `ssh` and `scp` that know it as `check`."""

    def __init__(self, folder):
        self.folder = folder
        for name in ("host", "user"):
            subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", folder / name], check=True)
        shutil.copy(folder / "user.pub", folder / "authorized")
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        (folder / "sshd_config").write_text(
            f"Port {port}\nListenAddress 127.0.0.1\nHostKey {folder}/host\nAuthorizedKeysFile {folder}/authorized\nPidFile none\n"
            "StrictModes no\nUsePAM no\nPasswordAuthentication no\nPermitRootLogin yes\nSubsystem sftp internal-sftp\n"
        )
        (folder / "ssh_config").write_text(
            f"Host check\n  HostName 127.0.0.1\n  Port {port}\n  User {getpass.getuser()}\n  IdentityFile {folder}/user\n"
            f"  IdentitiesOnly yes\n  StrictHostKeyChecking no\n  UserKnownHostsFile {folder}/known\n  LogLevel ERROR\n"
        )
        bin = folder / "bin"
        bin.mkdir()
        for name in ("ssh", "scp"):
            (bin / name).write_text(f'#!/bin/sh\nexec {shutil.which(name)} -F {folder}/ssh_config "$@"\n')
            (bin / name).chmod(0o755)
        if os.geteuid() == 0:
            Path("/run/sshd").mkdir(exist_ok=True)
        sshd = shutil.which("sshd") or "/usr/sbin/sshd"
        self.process = subprocess.Popen([sshd, "-D", "-e", "-f", folder / "sshd_config"], stderr=open(folder / "log", "w"))
        for _ in range(100):
            if socket.socket().connect_ex(("127.0.0.1", port)) == 0:
                return
            time.sleep(0.1)
        raise SystemExit((folder / "log").read_text())

    def cut(self):
        """Ends all connections that there are; how many."""
        of = lambda pid: subprocess.run(["pgrep", "-P", str(pid)], capture_output=True, text=True).stdout.split()  # noqa: E731
        sessions = of(self.process.pid)
        for pid in sessions:
            # The half with the user's rights holds the line, where there are two.
            for each in [*of(pid), pid]:
                name = Path(f"/proc/{each}/comm")
                if name.exists() and name.read_text().startswith("sshd"):
                    os.kill(int(each), signal.SIGKILL)
        return len(sessions)

    def close(self):
        self.process.terminate()
        self.process.wait()


def ssh(bench):
    (bench.folder / "sshd").mkdir()
    server = Sshd(bench.folder / "sshd")
    remote = None
    try:
        bench.env["PATH"] = f"{bench.folder}/sshd/bin:{bench.env['PATH']}"
        process, events = bench.begin("ssh:check")
        heard = []
        for event in events:
            heard.append(event)
            if event.get("event") == "started":
                remote = Path.home() / json.loads((bench.folder / "run/train.json").read_text())["folder"]
                # By then there is the one connection that follows the log.
                time.sleep(3)
                pid, cut = event["pid"], server.cut()
            # After the cut it was heard again.
            if event.get("event") == "progress" and event["step"] < bench.steps:
                break
        assert cut >= 1 and "the log broke off" in bench.said(), (cut, bench.said())
        assert heard[-1].get("event") == "progress", (heard, bench.said()[-3000:])
        process.kill()
        process.wait()
        process, events = bench.begin("ssh:check")
        events = list(events)
        assert process.wait() == 0, bench.said()[-3000:]
        started = [event for event in events if event.get("event") == "started"]
        assert all(event["pid"] == pid for event in started), (pid, started)
        log = (bench.folder / "run/train.log").read_text()
        assert log.count("Creating dataset") == 1 and log == (remote / "train.log").read_text()
        return look(bench, events) | {"connections_cut": cut, "process": "the same"}
    finally:
        server.close()
        if remote:
            shutil.rmtree(remote, ignore_errors=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["local", "ssh"])
    parser.add_argument("--sinew", type=Path)
    parser.add_argument("--python", default=sys.executable)
    parser.add_argument("--steps", type=int)
    options = parser.parse_args()
    options.steps = options.steps or {"local": 10, "ssh": 20}[options.what]
    with tempfile.TemporaryDirectory(prefix="sinew-train-") as folder:
        bench = Bench(options, Path(folder))
        bench.record()
        print(json.dumps({"what": options.what} | {"local": local, "ssh": ssh}[options.what](bench)))


if __name__ == "__main__":
    main()
