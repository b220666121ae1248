"""Runs Reachy Mini's own daemon as a mock-up beside programs that look at it and drive it; see check_reachy_mini.sh."""

import importlib.util
import json
import os
import signal
import subprocess
import sys
import time
import urllib.request

programs, robot, port, folder = sys.argv[1:]
program, sinew = f"{programs}/examples/drive_reachy_mini", f"{programs}/sinew"
SECONDS, KILLED_AFTER = 32, 22

GI = """
import sys, types
class Nothing(types.ModuleType):
    def __getattr__(self, name):
        if name.startswith("__"):
            raise AttributeError(name)
        return Nothing(name)
    def __call__(self, *_, **__): return Nothing("nothing")
    def __or__(self, _): return self
    def __mro_entries__(self, _): return (object,)
def require_version(*_): pass
sys.modules["gi.repository"] = repository = Nothing("gi.repository")
"""


def environment():
    env = {**os.environ, "HOME": f"{folder}/home", "HF_HUB_OFFLINE": "1"}
    if importlib.util.find_spec("gi") is None:
        os.makedirs(f"{folder}/no-media/gi", exist_ok=True)
        with open(f"{folder}/no-media/gi/__init__.py", "w") as file:
            file.write(GI)
        env["PYTHONPATH"] = f"{folder}/no-media"
    return env


def status():
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/api/daemon/status", timeout=1) as answer:
            return json.load(answer)
    except OSError:
        return None


def start_daemon():
    flags = "--mockup-sim --headless --no-media --no-wake-up-on-start --no-goto-sleep-on-stop".split()
    log = open(f"{folder}/daemon.log", "a")
    daemon = subprocess.Popen(
        [sys.executable, "-m", "reachy_mini.daemon.app.main", *flags, "--fastapi-port", port],
        env=environment(), stdout=log, stderr=log,
    )
    deadline = time.monotonic() + 60
    while not ((now := status()) and now["state"] == "running"):
        if daemon.poll() is not None or time.monotonic() > deadline:
            sys.exit(f"the daemon did not start: see {folder}/daemon.log")
        time.sleep(0.1)
    return daemon, now


def pose():
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/api/state/full", timeout=2) as answer:
        full = json.load(answer)
    return {key: full[key] for key in ("control_mode", "head_pose", "body_yaw", "antennas_position")}


def refused(words, *args):
    """What moves nothing, as it doesn't fit."""
    before = pose()
    done = subprocess.run([sinew, *args, "--robot", "reachy_mini", "--port", f"127.0.0.1:{port}"], stderr=subprocess.PIPE, text=True)
    if done.returncode != 1 or words not in done.stderr or pose() != before:
        sys.exit(f"expected {words!r} and nothing moved, found {done.returncode}: {done.stderr}; {before}, then {pose()}")
    print(f"refused: {' '.join(args[:3])}:", done.stderr.splitlines()[0][:120], flush=True)


def look():
    """The state that `sinew robots monitor` shows is the daemon's."""
    command = [sinew, "robots", "monitor", "--robot", "reachy_mini", "--port", f"127.0.0.1:{port}", "--seconds", "2", "--json"]
    seen = json.loads(subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout)
    at = {value["feature"]: value["value"] for value in seen["state"]}
    theirs = pose()
    print("sinew sees:", {name: at[name] for name in ("body_yaw.pos", "head.z", "head.yaw", "right_antenna.pos")},
          f"{seen['looks']} looks, {seen['failed']} failed, at most {seen['longest_age_s'] * 1e3:.0f} ms old", flush=True)
    known = {"body_yaw.pos": theirs["body_yaw"], "right_antenna.pos": theirs["antennas_position"][0], "head.z": theirs["head_pose"]["z"]}
    for name, value in known.items():
        if abs(at[name] - value) > 1e-3:
            sys.exit(f"expected {name} at {value}, found {at[name]}")


daemon, now = start_daemon()
print("daemon", now["version"], "mock-up", now["mockup_sim_enabled"], flush=True)
try:
    look()
    refused("they don't fit", "rollout", "--policy", "policies/act_so101_pick_place")
    refused("expected the same features of both", "teleop", "--teleop", "so101_leader", "--teleop-port", "/dev/nothing")
    drive = subprocess.Popen([program, robot, f"127.0.0.1:{port}", str(SECONDS)], stdout=subprocess.PIPE, text=True)
    time.sleep(KILLED_AFTER)
    print(f"# {KILLED_AFTER} s: the daemon's own view before it is killed:", json.dumps(pose()), flush=True)
    daemon.send_signal(signal.SIGKILL)
    daemon.wait()
    time.sleep(1)
    daemon, _ = start_daemon()
    out, _ = drive.communicate(timeout=120)
    print(out, end="")
    print("# afterwards:", json.dumps(pose()))
finally:
    daemon.kill()
    daemon.wait()
lines = out.splitlines()
expected = ["it has torque", "drive 1 ended", "the daemon is back", "it has torque", "stopped", "connections: 2, malformed: 0"]
at = 0
for text in expected:
    found = next((i for i, line in enumerate(lines[at:], at) if text in line), None)
    if found is None:
        sys.exit(f"expected a line with {text!r} after line {at}")
    at = found
if drive.returncode != 0:
    sys.exit(f"it ended with {drive.returncode}")
print("fine")
