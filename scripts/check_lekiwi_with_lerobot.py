"""LeRobot's LeKiwiClient against our host, and our client against LeRobot's LeKiwiHost; see check_lekiwi_with_lerobot.sh."""

import json
import multiprocessing
import os
import signal
import socket
import subprocess
import sys
import time

import numpy as np

programs, folder = sys.argv[1:]


def check(what, is_so):
    print("ok  " if is_so else "FAIL", what, flush=True)
    if not is_so:
        sys.exit(1)


def free_ports():
    with socket.socket() as a, socket.socket() as b:
        a.bind(("127.0.0.1", 0))
        b.bind(("127.0.0.1", 0))
        return a.getsockname()[1], b.getsockname()[1]


def client_of(command, observation):
    from lerobot.cameras.opencv import OpenCVCameraConfig
    from lerobot.robots.lekiwi import LeKiwiClient, LeKiwiClientConfig

    cameras = {"front": OpenCVCameraConfig(index_or_path=0, width=64, height=48, fps=30)}
    return LeKiwiClient(LeKiwiClientConfig(
        remote_ip="127.0.0.1", port_zmq_cmd=command, port_zmq_observations=observation, cameras=cameras, connect_timeout_s=3,
    ))


def lerobots_client():
    command, observation = free_ports()
    # First, as importing takes a while.
    client = client_of(command, observation)
    host = subprocess.Popen([f"{programs}/lekiwi_network", "host", str(command), str(observation), "9"], stdout=subprocess.PIPE, text=True)
    host.stdout.readline()
    client.connect()
    seen = client.get_observation()
    names = list(client._state_order)
    check(f"LeRobot's client has its features, and none of ours: {sorted(seen)}", set(seen) == {*names, "observation.state", "front"})
    check(f"a picture of {seen['front'].shape}", seen["front"].shape == (48, 64, 3) and seen["front"].max() > 100)
    action = {name: seen[name] for name in names} | {"arm_shoulder_pan.pos": 10.0, "x.vel": 0.1, "y.vel": 0.0, "theta.vel": 30.0}
    for _ in range(60):
        client.send_action(action)
        seen = client.get_observation()
        time.sleep(1 / 30)
    near = {name: (seen[name], action[name]) for name in names}
    check(f"the robot does as LeRobot's client says: {near}", all(abs(a - b) < 0.1 for a, b in near.values()))
    silent = time.monotonic()
    while seen["x.vel"] > 0.05 and time.monotonic() - silent < 5:
        seen = client.get_observation()
    after = time.monotonic() - silent
    # A moment to come to rest, and for what is under way.
    while (seen["x.vel"] or seen["theta.vel"]) and time.monotonic() - silent < 3:
        seen = client.get_observation()
    check(f"the base stands {after * 1e3:.0f} ms after the last command, and the arm is at {seen['arm_shoulder_pan.pos']:.2f} degrees, {seen['x.vel']} m/s, {seen['theta.vel']} degrees/s",
          0.4 < after < 0.8 and seen["x.vel"] == 0 and seen["theta.vel"] == 0 and abs(seen["arm_shoulder_pan.pos"] - 10) < 0.1)
    heard = time.monotonic()
    while seen["x.vel"] < 0.01 and time.monotonic() - heard < 3:
        client.send_action(action)
        seen = client.get_observation()
        time.sleep(1 / 30)
    check("it goes on when it is heard again", seen["x.vel"] >= 0.01)
    client.disconnect()
    out, _ = host.communicate()
    print("    ", out.splitlines()[-1])


def lerobots_client_without_a_token():
    command, observation = free_ports()
    token = "a token of this check"
    client = client_of(command, observation)
    host = subprocess.Popen([f"{programs}/lekiwi_network", "host", str(command), str(observation), "5", token], stdout=subprocess.PIPE, text=True)
    host.stdout.readline()
    try:
        client.connect()
        found = "it connected"
    except Exception as error:
        found = f"{type(error).__name__}: {error}"
    check(f"a host with a token doesn't serve it: {found}", "DeviceNotConnectedError" in found)
    out, _ = host.communicate()
    print("    ", out.splitlines()[-1])


class Camera:
    """What LeRobot's host asks of a camera."""

    is_connected = True

    def __init__(self):
        self.shown = 0

    def connect(self):
        pass

    def disconnect(self):
        pass

    def read_latest(self):
        self.shown += 1
        return np.full((48, 64, 3), self.shown % 200, np.uint8)


def serve(port, command, observation):
    """LeRobot's own host, whose camera is not there."""
    from lerobot.robots.lekiwi import LeKiwiConfig, lekiwi_host
    from lerobot.robots.lekiwi.config_lekiwi import LeKiwiHostConfig
    from lerobot.robots.lekiwi.lekiwi import LeKiwi

    class Robot(LeKiwi):
        def __init__(self, config):
            super().__init__(config)
            self.cameras = {"front": Camera()}

    lekiwi_host.LeKiwi = Robot
    config = lekiwi_host.LeKiwiServerConfig(
        # A bus error ends it, and the emulated motors are late where the machine is busy.
        robot=LeKiwiConfig(id="check", port=port, cameras={}, num_read_retries=20),
        host=LeKiwiHostConfig(port_zmq_cmd=command, port_zmq_observations=observation, connection_time_s=120),
    )
    lekiwi_host.main(config)


def calibrate():
    arm = ["shoulder_pan", "shoulder_lift", "elbow_flex", "wrist_flex", "wrist_roll", "gripper"]
    names = [f"arm_{name}" for name in arm] + [f"base_{wheel}_wheel" for wheel in ("left", "back", "right")]
    of = {name: {"id": i, "drive_mode": 0, "homing_offset": 0, "range_min": 0, "range_max": 4095} for i, name in enumerate(names, 1)}
    path = f"{folder}/calibration/robots/lekiwi"
    os.makedirs(path, exist_ok=True)
    with open(f"{path}/check.json", "w") as file:
        json.dump(of, file)


def lerobots_host():
    calibrate()
    port = f"{folder}/lekiwi"
    emulated = subprocess.Popen([f"{programs}/emulate", "lekiwi", port], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    print("    ", emulated.stdout.readline().strip())

    def ask(line):
        print(line, file=emulated.stdin, flush=True)
        return emulated.stdout.readline().strip()

    command, observation = free_ports()
    context = multiprocessing.get_context("spawn")
    start = lambda: context.Process(target=serve, args=(port, command, observation), daemon=True)
    host = start()
    host.start()
    client = subprocess.Popen([f"{programs}/lekiwi_network", "client", str(command), str(observation), "70"], stdout=subprocess.PIPE, text=True)
    lines = []

    def until(text):
        for line in client.stdout:
            lines.append(line.rstrip())
            print("    ", lines[-1], flush=True)
            if text in line:
                return
        sys.exit(f"FAIL expected {text!r}")

    until("it is driven")
    # Nine seconds into swings of four: both are at their furthest.
    time.sleep(9)
    wheel, pan = ask("value base_left_wheel goal_velocity"), ask("position arm_shoulder_pan")
    check(f"the emulated motors: the left wheel is told {wheel} steps/s, the arm's foot is at {pan}", int(wheel) < -700 and float(pan) > 2048 + 80)
    os.kill(host.pid, signal.SIGKILL)
    host.join()
    until("the drive ended")
    host = start()
    host.start()
    until("it is driven")
    until("stopped")
    until("LeKiwiCounts")
    check("our client drove the robot of LeRobot's host, and again after that was away", client.wait() == 0)
    time.sleep(1)
    wheels = [ask(f"value base_{name}_wheel goal_velocity") for name in ("left", "back", "right")]
    check(f"the wheels stand afterwards: {wheels}", wheels == ["0", "0", "0"])
    deviation = float(next(line for line in lines if "rad from" in line).split("at most ")[1].split()[0])
    speed = float(next(line for line in lines if "rad from" in line).split("up to ")[1].split()[0])
    check(f"the arm followed within {deviation} rad, the base went {speed} m/s of 0.1", deviation < 0.15 and 0.07 < speed < 0.13)
    host.terminate()
    emulated.stdin.close()
    emulated.wait()


if __name__ == "__main__":
    lerobots_client()
    lerobots_client_without_a_token()
    lerobots_host()
    print("fine")
