"""Plays a ROS 2 system with rmw_zenoh around `sinew daemon --ros2`: see check_ros2.sh."""

import argparse
import json
import pathlib
import socket
import subprocess
import tempfile
import time
import urllib.request

import numpy as np
import xxhash
import zenoh
from rosbags.typesys import Stores, get_typestore

DOMAIN = 7
store = get_typestore(Stores.ROS2_JAZZY)
types = store.types
JOINTS, IMAGE, TRAJECTORY = "sensor_msgs/msg/JointState", "sensor_msgs/msg/CompressedImage", "trajectory_msgs/msg/JointTrajectory"


def dds(kind):
    package, _, name = kind.split("/")
    return f"{package}::msg::dds_::{name}_"


def key(topic, kind):
    return f"{DOMAIN}/{topic}/{dds(kind)}/{store.hash_rihs01(kind)}"


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as server:
        return server.getsockname()[1]


class Daemon:
    def __init__(self, sinew, folder, port):
        words = f"daemon --robot so101 --task reach --listen 127.0.0.1:0 --state {folder} --json --fleet-name arm-1"
        ros = f"--ros2 {DOMAIN} --ros2-at tcp/127.0.0.1:{port} --ros2-commands"
        self.child = subprocess.Popen([sinew, *words.split(), *ros.split()], stdout=subprocess.PIPE, text=True)
        ready = json.loads(self.child.stdout.readline())
        self.address, self.token = ready["address"], pathlib.Path(ready["token_file"]).read_text().strip()

    def ask(self, path, body=None):
        headers = {"Authorization": f"Bearer {self.token}", "Content-Type": "application/json"}
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(f"http://{self.address}/api/v1/{path}", data, headers)
        with urllib.request.urlopen(request, timeout=10) as answer:
            return json.load(answer)

    def log(self):
        return " ".join(line["text"] for line in self.ask("log?after=0"))


def until(what, seconds, is_so):
    begun = time.monotonic()
    while True:
        found = is_so()
        if found:
            return found, time.monotonic() - begun
        assert time.monotonic() - begun < seconds, what
        time.sleep(0.02)


def trajectory(names, points):
    def point(seconds, positions):
        empty = np.zeros(0)
        duration = types["builtin_interfaces/msg/Duration"](int(seconds), round(seconds % 1 * 1e9))
        return types["trajectory_msgs/msg/JointTrajectoryPoint"](np.array(positions, np.float64), empty, empty, empty, duration)

    header = types["std_msgs/msg/Header"](types["builtin_interfaces/msg/Time"](0, 0), "")
    message = types[TRAJECTORY](header, names, [point(*of) for of in points])
    return bytes(store.serialize_cdr(message, TRAJECTORY))


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--sinew", required=True)
    args = parser.parse_args()
    port = free_port()
    config = zenoh.Config()
    # In the place of rmw_zenohd.
    for name, value in {
        "mode": '"router"',
        "listen/endpoints": json.dumps([f"tcp/127.0.0.1:{port}"]),
        "scouting/multicast/enabled": "false",
    }.items():
        config.insert_json5(name, value)
    router = zenoh.open(config)
    heard = {JOINTS: [], IMAGE: []}

    def hear(kind):
        return lambda sample: heard[kind].append((time.monotonic(), sample.payload.to_bytes(), sample.attachment.to_bytes()))

    kept = [router.declare_subscriber(key("arm_1/joint_states", JOINTS), hear(JOINTS))]
    with tempfile.TemporaryDirectory() as folder:
        daemon = Daemon(args.sinew, folder, port)
        try:
            check(router, daemon, heard, hear, kept)
        finally:
            daemon.child.terminate()
            daemon.child.wait(20)
    router.close()
    print("all is as rmw_zenoh and rosbags have it")


def check(router, daemon, heard, hear, kept):
    until("joints come", 20, lambda: len(heard[JOINTS]) > 20)
    # The graph: a node, two publishers of images and one of joints, and a subscription.
    tokens = [str(reply.ok.key_expr) for reply in router.liveliness().get(f"@ros2_lv/{DOMAIN}/**")]
    print(*sorted(tokens), sep="\n")
    assert any(token.endswith("/0/0/NN/%/%/arm_1") for token in tokens), tokens
    assert all(token.split("/")[0] == "@ros2_lv" and token.split("/")[1] == str(DOMAIN) for token in tokens)

    def endpoint(side, topic, kind, quality):
        behind = f"/{side}/%/%/arm_1/{topic.replace('/', '%')}/{dds(kind)}/{store.hash_rihs01(kind)}/{quality}"
        found = [token for token in tokens if token.endswith(behind)]
        assert len(found) == 1, (behind, tokens)
        return found[0]

    cameras = [camera["name"] for camera in daemon.ask("robot")["cameras"]]
    joints = endpoint("MP", "/arm_1/joint_states", JOINTS, "::,10:,:,:,,")
    endpoint("MS", "/arm_1/joint_trajectory", TRAJECTORY, "::,10:,:,:,,")
    for camera in cameras:
        endpoint("MP", f"/arm_1/{camera}/image/compressed", IMAGE, "2::,5:,:,:,,")
    assert len(tokens) == 3 + len(cameras)

    # Joints: names and radians of the state, attachments in a row.
    numbers = []
    gid = xxhash.xxh3_128_digest(joints.encode())[::-1]
    for _, payload, attachment in heard[JOINTS]:
        assert len(attachment) == 33 and attachment[16] == 16 and attachment[17:] == gid, attachment
        numbers.append(int.from_bytes(attachment[:8], "little"))
        assert abs(int.from_bytes(attachment[8:16], "little") * 1e-9 - time.time()) < 60
        message = store.deserialize_cdr(payload, JOINTS)
        # A second writer of the same message gives the same bytes.
        assert bytes(store.serialize_cdr(message, JOINTS)) == payload
    assert numbers == list(range(numbers[0], numbers[0] + len(numbers))), numbers
    names = [channel["name"].removesuffix(".pos") for channel in daemon.ask("robot")["state"]]
    assert message.name == names, message.name
    assert np.allclose(message.position, daemon.ask("state")["position"], atol=0.01), message.position
    assert not len(message.effort)

    # Images, since somebody looks.
    kept.append(router.declare_subscriber(key(f"arm_1/{cameras[0]}/image/compressed", IMAGE), hear(IMAGE)))
    until("images come", 10, lambda: len(heard[IMAGE]) > 10)
    image = store.deserialize_cdr(heard[IMAGE][-1][1], IMAGE)
    assert image.format == "jpeg" and bytes(image.data[:2]) == b"\xff\xd8" and image.header.frame_id == cameras[0]
    assert abs(image.header.stamp.sec + image.header.stamp.nanosec * 1e-9 - time.time()) < 60

    # Trajectories: none moves it before somebody started what it may lead.
    send = router.declare_publisher(key("arm_1/joint_trajectory", TRAJECTORY))
    begin = dict(zip(message.name, message.position, strict=True))
    goal = {"shoulder_pan": begin["shoulder_pan"] + 0.3, "elbow_flex": begin["elbow_flex"] - 0.2}
    path = [(1, [begin["shoulder_pan"] + 0.1, begin["elbow_flex"]]), (2.5, list(goal.values()))]
    send.put(trajectory(list(goal), path))
    until("it says why not", 5, lambda: "start a work with the leader remote" in daemon.log())
    daemon.ask("work", {"kind": "teleop"})
    until("torque", 20, lambda: daemon.ask("state")["armed"])

    def position(joint):
        return daemon.ask("state")["position"][names.index(joint)]

    others = {name: position(name) for name in names if name not in goal}
    send.put(trajectory(list(goal), path))
    _, took = until("it gets there", 10, lambda: all(abs(position(name) - there) < 0.03 for name, there in goal.items()))
    assert took > 1.5, took
    assert all(abs(position(name) - there) < 0.05 for name, there in others.items()), others
    print(f"two joints were where the trajectory ends after {took:.1f} s of 2.5 s; the others stayed")
    until("the lease is given back", 15, lambda: daemon.ask("state")["operator"] is None)

    # What makes no sense moves nothing, and is said.
    for bad, why in [
        (trajectory(["nose"], [(1, [0.0])]), "there is no joint"),
        (trajectory(["elbow_flex"], [(1, [float("nan")])]), "finite"),
        (trajectory(["elbow_flex"], [(2, [0.0]), (1, [0.0])]), "expected 2"),
        (b"\x00\x01\x00\x00garbage", "reading a ROS 2 message"),
    ]:
        send.put(bad)
        until(f"{why}: it is said", 5, lambda why=why: why in daemon.log())
    assert abs(position("elbow_flex") - goal["elbow_flex"]) < 0.05
    # An empty one stops one that runs.
    send.put(trajectory(["shoulder_pan"], [(5, [begin["shoulder_pan"] - 0.5])]))
    until("it is on its way", 5, lambda: position("shoulder_pan") < goal["shoulder_pan"] - 0.1)
    send.put(trajectory([], []))
    time.sleep(1)
    stopped = position("shoulder_pan")
    time.sleep(0.5)
    assert abs(position("shoulder_pan") - stopped) < 0.01 and stopped > begin["shoulder_pan"] - 0.4, stopped
    daemon.ask("stop", {"stop": "now"})


main()
