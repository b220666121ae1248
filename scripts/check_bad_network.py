"""The demonstration policy behind a bad network: delay, loss and a black-out between a robot and its policy server.

    sudo python3 scripts/check_bad_network.py --sinew PROGRAM [--episodes 3] [--seeds 4]

Makes two network namespaces that this program joins (two TUN devices; the kernel's netem is not needed), serves the demonstration
policy in one and runs it from the other. Three networks: a clean one, 50 ms and 3 % of loss each way, and the same with a black-out of
5 s in every run. Prints what each run was like, and ends with 1 when

- a tick starved though every answer came in time, or more ticks starved than the answers that did not come can explain: each costs its
  deadline and the time of the slowest answer after it, less what the queue had when it was asked, which is the time of a usual answer;
- the loop starved on for more than 2 s after the black-out.

Needs root (namespaces, /dev/net/tun) and Linux.
"""

import argparse
import ctypes
import fcntl
import heapq
import json
import os
import random
import selectors
import signal
import struct
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROBOT, SERVER = ("sinew-robot", "10.98.0.1"), ("sinew-server", "10.98.0.2")
CLONE_NEWNET = 0x40000000
TUNSETIFF, IFF_TUN, IFF_NO_PI = 0x400454CA, 0x0001, 0x1000
TOKEN = "SINEW_CHECK_TOKEN"
POLICY = Path(__file__).resolve().parent.parent / "policies/act_so101_pick_place"
PORT = 8000
RATE_HZ = 30
DEADLINE_TICKS = 15
BACK_S = 2.0

libc = ctypes.CDLL(None, use_errno=True)


def enter(namespace):
    if libc.setns(namespace, CLONE_NEWNET):
        raise OSError(ctypes.get_errno(), "entering a network namespace")


def tun(home, name, own, other):
    """A device in a namespace of its own; whoever reads the file gets what is sent there."""
    subprocess.run(["ip", "netns", "delete", name], stderr=subprocess.DEVNULL)
    subprocess.run(["ip", "netns", "add", name], check=True)
    with open(f"/run/netns/{name}") as there:
        enter(there.fileno())
        try:
            device = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
            fcntl.ioctl(device, TUNSETIFF, struct.pack("16sH22x", b"bad0", IFF_TUN | IFF_NO_PI))
            for words in (f"address add {own} peer {other} dev bad0", "link set bad0 mtu 1400 up", "link set lo up"):
                subprocess.run(["ip", *words.split()], check=True)
        finally:
            enter(home)
    return device


class Network:
    """Carries packets between both namespaces until it is told to stop. Times in seconds."""

    def __init__(self, devices, delay, loss, blackout, seed):
        self.devices, self.delay, self.loss, self.chance = devices, delay, loss, random.Random(seed)
        self.blackout = blackout
        self.carried = self.lost = 0

    def run(self, child):
        """Until `child` has ended."""
        waiting, order, begun = [], 0, time.monotonic()
        other = {self.devices[0]: self.devices[1], self.devices[1]: self.devices[0]}
        with selectors.DefaultSelector() as readable:
            for device in self.devices:
                readable.register(device, selectors.EVENT_READ)
            while child.poll() is None:
                now = time.monotonic()
                while waiting and waiting[0][0] <= now:
                    _, _, device, packet = heapq.heappop(waiting)
                    try:
                        os.write(device, packet)
                    except OSError:
                        self.lost += 1
                is_dark = self.blackout and self.blackout[0] <= now - begun < sum(self.blackout)
                for key, _ in readable.select(min(0.05, max(0.0, waiting[0][0] - now)) if waiting else 0.05):
                    packet = os.read(key.fd, 2000)
                    self.carried += 1
                    if is_dark or self.chance.random() < self.loss:
                        self.lost += 1
                        continue
                    order += 1
                    heapq.heappush(waiting, (time.monotonic() + self.delay, order, other[key.fd], packet))


def inside(namespace, *words, **more):
    env = {**os.environ, TOKEN: "a-token-of-this-check-alone", "HOME": more.pop("home")}
    return subprocess.Popen(["ip", "netns", "exec", namespace[0], *map(str, words)], env=env, stdin=subprocess.DEVNULL, **more)


def run(options, devices, folder, delay, loss, blackout, seed):
    with (folder / "serve.log").open("w") as log:
        serve = ["serve", POLICY, "--listen", f"{SERVER[1]}:{PORT}", "--token-env", TOKEN]
        server = inside(SERVER, options.sinew, *serve, home=folder, stdout=log, stderr=log)
    try:
        # `sinew serve` says ready after its warm-up; the address answers then.
        time.sleep(3)
        out = folder / "out.json"
        words = ["rollout", "--policy", f"ws://{SERVER[1]}:{PORT}", "--policy-token-env", TOKEN, "--no-record", "--no-rerun", "--json"]
        words += ["--episodes", options.episodes, "--seed", 1000 * seed]
        with out.open("w") as told, (folder / "err").open("w") as err:
            robot = inside(ROBOT, options.sinew, *words, home=folder, stdout=told, stderr=err)
        network = Network(devices, delay, loss, blackout, seed)
        network.run(robot)
        if robot.returncode:
            sys.exit(f"rollout ended with {robot.returncode}: {(folder / 'err').read_text()}\n{(folder / 'serve.log').read_text()}")
        lines = [json.loads(line) for line in out.read_text().splitlines()]
    finally:
        server.send_signal(signal.SIGINT)
        server.wait()
    report, episodes = lines[-1], lines[:-1]
    link = report["link"]
    starved = sum(episode["starved_ticks"] for episode in episodes)
    usual, slowest = (report["inference"]["latency"][at] * 1e-9 * RATE_HZ for at in ("p50_ns", "max_ns"))
    # After an answer that is owed too long the connection is made anew: one more deadline, the handshake of TCP and of the websocket.
    again_ticks = RATE_HZ * (1 + 6 * delay)
    explained = link["missed"] * (DEADLINE_TICKS + slowest - usual) + link["reconnects"] * again_ticks
    if blackout:
        explained += RATE_HZ * (blackout[1] + BACK_S)
    row = {
        "network": {"ms_each_way": delay * 1000, "loss": loss, "blackout_s": blackout[1] if blackout else 0, "seed": seed},
        "packets": network.carried,
        "lost": network.lost,
        "successes": f"{report['successes']} of {report['episodes']}",
        "answers": link["answers"],
        "not_in_time": link["missed"],
        "reconnects": link["reconnects"],
        "answer_ms": [round(link["total_ms"][at]) for at in ("p50", "p99", "max")],
        "starved_ticks": starved,
        "explained_ticks": round(explained),
        "ticks": report["cadence"]["ticks"],
        "missed_ticks": sum(episode["missed_ticks"] for episode in episodes),
    }
    print(json.dumps(row), flush=True)
    return starved <= explained


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sinew", type=Path, required=True)
    parser.add_argument("--episodes", type=int, default=3)
    parser.add_argument("--seeds", type=int, default=4)
    options = parser.parse_args()
    options.sinew = options.sinew.resolve()
    with open("/proc/self/ns/net") as here, tempfile.TemporaryDirectory(prefix="sinew-bad-network-") as folder:
        home = here.fileno()
        devices = (tun(home, *ROBOT, SERVER[1]), tun(home, *SERVER, ROBOT[1]))
        try:
            good = run(options, devices, Path(folder), 0.0, 0.0, None, 0)
            for seed in range(1, options.seeds + 1):
                good &= run(options, devices, Path(folder), 0.05, 0.03, None, seed)
            for seed in range(1, options.seeds + 1):
                good &= run(options, devices, Path(folder), 0.05, 0.03, (6.0, 5.0), seed)
        finally:
            for device in devices:
                os.close(device)
            for name, _ in (ROBOT, SERVER):
                subprocess.run(["ip", "netns", "delete", name], check=False)
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
