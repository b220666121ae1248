"""`sinew lekiwi-host` with LeRobot's LeKiwiClient, and `sinew rollout` with it and with LeRobot's LeKiwiHost; see
check_lekiwi_with_lerobot.sh."""

import atexit
import json
import multiprocessing
import os
import re
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

sinew, robots, folder = sys.argv[1:]
TOKEN = "a token of this check"
ARM = ["shoulder_pan", "shoulder_lift", "elbow_flex", "wrist_flex", "wrist_roll", "gripper"]
NAMES = [f"arm_{name}.pos" for name in ARM] + ["x.vel", "y.vel", "theta.vel"]
WHEELS = [f"base_{name}_wheel" for name in ("left", "back", "right")]
WIDTH, HEIGHT = 128, 96


PROCESSES = []


@atexit.register
def end_all():
    for process in reversed(PROCESSES):
        if process.poll() is None:
            process.send_signal(signal.SIGINT)
        if not process.stdout.closed:
            print("     left over:", process.args[1:4], *(text.strip()[-600:] for text in process.communicate() if text))


def start(command, **how):
    PROCESSES.append(subprocess.Popen(command, text=True, **how))
    return PROCESSES[-1]


def check(what, is_so):
    print("ok  " if is_so else "FAIL", what, flush=True)
    if not is_so:
        sys.exit(1)


def free_ports():
    with socket.socket() as a, socket.socket() as b:
        a.bind(("127.0.0.1", 0))
        b.bind(("127.0.0.1", 0))
        return a.getsockname()[1], b.getsockname()[1]


def robot_with_a_small_camera():
    """LeKiwi with the picture of the simulated world in the place of its own."""
    text = Path(robots, "lekiwi/robot.toml").read_text()
    text = text[: text.index("# LeRobot's, with what a turn")]
    path = Path(folder, "lekiwi_small")
    path.mkdir(exist_ok=True)
    # A busy machine is late: what is known may be older than on a robot.
    patience = "[feedback]\nmax_age_ms = 1000\nfault_age_ms = 3000\n\n"
    camera = f'[[camera]]\nname = "front"\nwidth = {WIDTH}\nheight = {HEIGHT}\nfps = 30\nmax_age_ms = 3000\n'
    (path / "robot.toml").write_text(text + patience + camera)
    return str(path)


class Emulated:
    """`sinew emulate`, and what its motors say."""

    def __init__(self, robot, *more):
        self.port = f"{folder}/{robot}"
        command = [sinew, "emulate", robot, "--link", self.port, *more]
        self.process = start(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        print("    ", self.process.stdout.readline().strip())

    def ask(self, line):
        print(line, file=self.process.stdin, flush=True)
        return self.process.stdout.readline().strip()

    def wheels(self):
        return [int(self.ask(f"value {name} goal_velocity")) for name in WHEELS]

    def end(self):
        self.process.send_signal(signal.SIGINT)
        self.process.wait()


class Host:
    """`sinew lekiwi-host`."""

    def __init__(self, robot, kiwi, eyes, *more, token=None):
        self.command, self.observation = free_ports()
        command = [
            sinew, "lekiwi-host", "--robot", robot, "--port", kiwi.port, "--id", "check", "--camera", f"front=sim:{eyes}",
            "--command-port", str(self.command), "--observation-port", str(self.observation), "--json", *more,
        ]
        env = os.environ | ({"SINEW_TOKEN": token} if token else {})
        self.log = Path(folder, "host.log")
        self.process = start(command, env=env, stdout=subprocess.PIPE, stderr=self.log.open("w"))

    def until(self, text):
        for _ in range(200):
            for line in self.log.read_text().splitlines():
                if text in line:
                    return line
            time.sleep(0.1)
        sys.exit(f"FAIL expected {text!r} of the host, found {self.log.read_text()}")

    def end(self):
        self.process.send_signal(signal.SIGINT)
        out, _ = self.process.communicate(timeout=20)
        report = json.loads(out)
        print("     the host:", self.process.returncode, report["ticks"], "ticks,", report["clients"])
        return self.process.returncode, report


def client_of(host):
    from lerobot.cameras.opencv import OpenCVCameraConfig
    from lerobot.robots.lekiwi import LeKiwiClient, LeKiwiClientConfig

    cameras = {"front": OpenCVCameraConfig(index_or_path=0, width=WIDTH, height=HEIGHT, fps=30)}
    return LeKiwiClient(LeKiwiClientConfig(
        remote_ip="127.0.0.1", port_zmq_cmd=host.command, port_zmq_observations=host.observation, cameras=cameras, connect_timeout_s=5,
    ))


def lerobots_client(robot, kiwi, eyes):
    host = Host(robot, kiwi, eyes, "--bind", "127.0.0.1", "--lerobot-clients")
    client = client_of(host)
    print("    ", host.until("warning:"))
    client.connect()
    seen = client.get_observation()
    check(f"LeRobot's client has its features, and none of ours: {sorted(seen)}", set(seen) == {*NAMES, "observation.state", "front"})
    check(f"a picture of {seen['front'].shape}", seen["front"].shape == (HEIGHT, WIDTH, 3) and seen["front"].max() > 100)
    pan = seen["arm_shoulder_pan.pos"] + 20
    action = {name: seen[name] for name in NAMES} | {"arm_shoulder_pan.pos": pan, "x.vel": 0.1, "y.vel": 0.0, "theta.vel": 30.0}
    for _ in range(90):
        client.send_action(action)
        seen = client.get_observation()
        time.sleep(1 / 30)
    near = {name: (round(seen[name], 2), action[name]) for name in ("arm_shoulder_pan.pos", "x.vel", "theta.vel")}
    check(f"the robot does as LeRobot's client says: {near}, wheels {kiwi.wheels()}",
          abs(seen["arm_shoulder_pan.pos"] - pan) < 2 and abs(seen["x.vel"] - 0.1) < 0.02 and abs(seen["theta.vel"] - 30) < 6)
    silent = time.monotonic()
    while any(kiwi.wheels()) and time.monotonic() - silent < 5:
        time.sleep(0.002)
    after = time.monotonic() - silent
    # A moment to come to rest, and for what is under way: ZeroMQ keeps observations that nobody fetched.
    while (abs(seen["x.vel"]) > 1e-3 or abs(seen["theta.vel"]) > 0.1) and time.monotonic() - silent < 4:
        seen = client.get_observation()
    check(f"the base is told to stand {after * 1e3:.0f} ms after the last command; the arm is at {seen['arm_shoulder_pan.pos']:.2f} degrees, "
          f"it drives {seen['x.vel']} m/s, {seen['theta.vel']} degrees/s",
          0.4 < after < 0.9 and abs(seen["x.vel"]) < 1e-3 and abs(seen["theta.vel"]) < 0.1 and abs(seen["arm_shoulder_pan.pos"] - pan) < 2)
    heard = time.monotonic()
    while seen["x.vel"] < 0.05 and time.monotonic() - heard < 3:
        client.send_action(action)
        seen = client.get_observation()
        time.sleep(1 / 30)
    check("it goes on when it is heard again", seen["x.vel"] >= 0.05)
    client.disconnect()
    time.sleep(1)
    check(f"the client has gone, and the base stands: {kiwi.wheels()}", host.process.poll() is None and not any(kiwi.wheels()))
    client = client_of(host)
    client.connect()
    client.send_action(action)
    time.sleep(0.3)
    check(f"another client drives: {kiwi.wheels()}", any(kiwi.wheels()))
    client.disconnect()
    code, report = host.end()
    check(f"Ctrl-C ends it in order, in the middle of a drive: {report['outcome']}", code == 130)
    check(f"the wheels stand: {kiwi.wheels()}, the arm has its torque", not any(kiwi.wheels()) and kiwi.ask("value arm_shoulder_pan torque_enable") == "1")
    check("commands were counted", report["clients"]["commands"] > 90 and report["clients"]["refused_commands"] == 0)


def lerobots_client_without_a_token(robot, kiwi, eyes):
    host = Host(robot, kiwi, eyes, token=TOKEN)
    client = client_of(host)
    # It needs a moment to meet the motors; whoever comes later is refused as well.
    time.sleep(3)
    try:
        client.connect()
        found = "it connected"
    except Exception as error:
        found = f"{type(error).__name__}: {error}"
    check(f"a host with a token doesn't serve it: {found}", "DeviceNotConnectedError" in found)
    _, report = host.end()
    check("it was refused", report["clients"]["refused_clients"] > 0 and report["clients"]["commands"] == 0)


def policy(state):
    """An ACT that wants the arm where it is, but its foot turned by 20 degrees, and the base at 0.1 m/s."""
    import torch
    from lerobot.configs.types import FeatureType, PolicyFeature
    from lerobot.policies.act.configuration_act import ACTConfig
    from lerobot.policies.act.modeling_act import ACTPolicy
    from lerobot.policies.factory import make_pre_post_processors

    torch.manual_seed(0)
    image = "observation.images.front"
    config = ACTConfig(
        input_features={
            "observation.state": PolicyFeature(FeatureType.STATE, (9,)), image: PolicyFeature(FeatureType.VISUAL, (3, HEIGHT, WIDTH)),
        },
        output_features={"action": PolicyFeature(FeatureType.ACTION, (9,))},
        device="cpu", chunk_size=30, n_action_steps=30, pretrained_backbone_weights=None, use_vae=False,
        dim_model=64, n_heads=2, dim_feedforward=64, n_encoder_layers=1,
    )
    wanted = state + np.array([20, 0, 0, 0, 0, 0, 0.1, 0, 0])
    stats = {
        "observation.state": {"mean": torch.tensor(state), "std": torch.ones(9)},
        "action": {"mean": torch.tensor(wanted), "std": torch.full((9,), 1e-4)},
        image: {"mean": torch.full((3, 1, 1), 0.5), "std": torch.full((3, 1, 1), 0.5)},
    }
    stats = {key: {name: value.float() for name, value in of.items()} for key, of in stats.items()}
    path = f"{folder}/policy"
    ACTPolicy(config).save_pretrained(path)
    for processor in make_pre_post_processors(config, dataset_stats=stats):
        processor.save_pretrained(path)
    return path


def watch(host_ports, token=None):
    """The state that our client is told, by name."""
    command, observation = host_ports
    out = subprocess.run(
        [sinew, "robots", "monitor", "--robot", "lekiwi", "--port", f"zmq://127.0.0.1:{command}:{observation}", "--seconds", "1", "--json"],
        env=os.environ | ({"SINEW_TOKEN": token} if token else {}), stdout=subprocess.PIPE, text=True, check=True,
    ).stdout
    return {value["feature"]: value["value"] for value in json.loads(out)["state"]}


def rollout(robot, host_ports, path, seconds, token=None):
    command, observation = host_ports
    return start(
        [
            sinew, "rollout", "--robot", robot, "--port", f"zmq://127.0.0.1:{command}:{observation}", "--camera", "front=zmq",
            "--policy", path, "--seconds", str(seconds), "--no-record", "--no-rerun", "--json",
        ],
        env=os.environ | ({"SINEW_TOKEN": token} if token else {}), stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )


def drives(kiwi, run, pan, what):
    """Waits until the emulated robot does as the policy says."""
    begin = time.monotonic()
    seen = None
    while time.monotonic() - begin < 30:
        if run.poll() is not None:
            sys.exit(f"FAIL {what}: it ended with {run.returncode}: {run.stderr.read()}")
        wheels, at = kiwi.wheels(), float(re.findall(r"-?[\d.]+", kiwi.ask("position arm_shoulder_pan"))[-1])
        seen = wheels, at
        # 0.1 m/s forward: the left and right wheels turn by 1129 steps a second.
        if abs(wheels[0] + 1129) < 60 and abs(wheels[2] - 1129) < 60 and abs(wheels[1]) < 30 and abs(at - pan) < 30:
            break
        time.sleep(0.05)
    else:
        check(f"{what}: {seen}, expected the foot at {pan}", False)
    check(f"{what}: wheels {seen[0]}, the arm's foot at {seen[1]} of {pan:.0f}", True)


def our_client(robot, kiwi, eyes):
    """Our client and our host; leaves a policy."""
    host = Host(robot, kiwi, eyes, token=TOKEN)
    time.sleep(3)
    ports = (host.command, host.observation)
    state = watch(ports, TOKEN)
    check(f"what `sinew robots monitor` shows: {state}", list(state) == NAMES)
    path = policy(np.array([state[name] for name in NAMES]))
    pan = float(re.findall(r"-?[\d.]+", kiwi.ask("position arm_shoulder_pan"))[-1]) + 20 / 360 * 4096
    run = rollout(robot, ports, path, 10, TOKEN)
    drives(kiwi, run, pan, "`sinew rollout` drives the robot of `sinew lekiwi-host`")
    out, err = run.communicate(timeout=60)
    totals = json.loads(out.splitlines()[-1])
    check(f"it ends in order: {run.returncode}, {totals['motors']} {err.strip()}", run.returncode == 0 and totals["motors"][0]["lost"] < 30)
    time.sleep(1)
    check(f"the base stands: {kiwi.wheels()}", not any(kiwi.wheels()))
    run = rollout(robot, ports, path, 10)
    _, err = run.communicate(timeout=60)
    check(f"without the token: {err.strip()}", run.returncode == 1 and "SINEW_TOKEN" in err and TOKEN not in err)
    code, report = host.end()
    check("no one of our observations was in the way", code == 130 and report["clients"]["refused_clients"] > 0)
    return path, pan


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
        return np.full((HEIGHT, WIDTH, 3), self.shown % 200, np.uint8)


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


def lerobots_host(robot, kiwi, path, pan):
    ports = free_ports()
    context = multiprocessing.get_context("spawn")

    def start_host():
        host = context.Process(target=serve, args=(kiwi.port, *ports), daemon=True)
        host.start()
        for _ in range(100):
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", ports[1])) == 0:
                    return host
            time.sleep(0.2)
        sys.exit("FAIL LeRobot's host did not start")

    host = start_host()
    run = rollout(robot, ports, path, 60)
    drives(kiwi, run, pan, "`sinew rollout` drives the robot of LeRobot's host")
    os.kill(host.pid, signal.SIGKILL)
    host.join()
    gone = time.monotonic()
    _, err = run.communicate(timeout=30)
    check(f"when that is killed, the run ends after {time.monotonic() - gone:.1f} s: {err.strip()}", run.returncode == 1 and "lekiwi" in err.lower())
    host = start_host()
    run = rollout(robot, ports, path, 8)
    drives(kiwi, run, pan, "and again when it is back")
    out, err = run.communicate(timeout=60)
    check(f"it ends in order: {json.loads(out.splitlines()[-1])['motors']} {err.strip()}", run.returncode == 0)
    time.sleep(1)
    check(f"the wheels stand afterwards: {kiwi.wheels()}", not any(kiwi.wheels()))
    host.terminate()


def main():
    # First, as importing takes a while, and both processors.
    import lerobot.policies.factory  # noqa: F401
    import lerobot.robots.lekiwi  # noqa: F401

    robot = robot_with_a_small_camera()
    eyes = f"{folder}/eyes"
    world = Emulated("so101", "--world", "pick-place", "--cameras", eyes)
    kiwi = Emulated("lekiwi", "--id", "check")
    lerobots_client(robot, kiwi, eyes)
    lerobots_client_without_a_token(robot, kiwi, eyes)
    path, pan = our_client(robot, kiwi, eyes)
    lerobots_host(robot, kiwi, path, pan)
    kiwi.end()
    world.end()
    print("fine")


if __name__ == "__main__":
    main()
