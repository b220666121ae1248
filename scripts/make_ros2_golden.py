"""Messages of ROS 2 as rosbags 0.11.9 writes them, with the hashes of their types: crates/remote/tests/golden/ros2.json.

    python scripts/make_ros2_golden.py > crates/remote/tests/golden/ros2.json

The Python has rosbags 0.11.9 and xxhash 4.1.0. What the messages hold stands in crates/remote/tests/ros2.rs, too.
"""

import json

import numpy as np
import xxhash
from rosbags.typesys import Stores, get_typestore

store = get_typestore(Stores.ROS2_JAZZY)
types = store.types
Time, Duration = types["builtin_interfaces/msg/Time"], types["builtin_interfaces/msg/Duration"]
Header = types["std_msgs/msg/Header"]
JointState = types["sensor_msgs/msg/JointState"]
CompressedImage = types["sensor_msgs/msg/CompressedImage"]
Trajectory, Point = types["trajectory_msgs/msg/JointTrajectory"], types["trajectory_msgs/msg/JointTrajectoryPoint"]


def f64(*values):
    return np.array(values, np.float64)


def point(positions, velocities, stamp):
    return Point(f64(*positions), f64(*velocities), f64(), f64(), Duration(*stamp))


MESSAGES = {
    "joints": JointState(Header(Time(5, 7), ""), ["a", "bcd"], f64(1, 2), f64(), f64()),
    "joints_all": JointState(
        Header(Time(1_790_000_000, 999_999_999), "base_link"),
        ["shoulder_pan", "shoulder_lift", "gripper"],
        f64(-1.5, 0.25, 1e-9),
        f64(0.5, -0.5, 0),
        f64(float("inf"), -0.0, 3),
    ),
    "joints_none": JointState(Header(Time(-1, 0), "é"), [], f64(), f64(), f64()),
    "image": CompressedImage(Header(Time(5, 7), "wrist"), "jpeg", np.arange(5, dtype=np.uint8)),
    "image_none": CompressedImage(Header(Time(0, 0), ""), "", np.zeros(0, np.uint8)),
    "trajectory": Trajectory(
        Header(Time(0, 0), "x"), ["a"], [point([1], [], (0, 500_000_000)), point([2], [0.125], (1, 0)), point([], [], (-2, 3))]
    ),
    "trajectory_none": Trajectory(Header(Time(0, 0), ""), ["ab", "c"], []),
}
TOKEN = "@ros2_lv/0/1f/0/1/MP/%/%/arm/%joint_states/sensor_msgs::msg::dds_::JointState_/x/2::,5:,:,:,,"

print(
    json.dumps(
        {
            "messages": {name: bytes(store.serialize_cdr(of, of.__msgtype__)).hex() for name, of in MESSAGES.items()},
            "hashes": {kind: store.hash_rihs01(kind) for kind in sorted({of.__msgtype__ for of in MESSAGES.values()})},
            # As rmw_zenoh lays the two halves of XXH3-128 down: the low one first, each little-endian.
            "gid": {"token": TOKEN, "bytes": xxhash.xxh3_128_digest(TOKEN.encode())[::-1].hex()},
        },
        indent=1,
    )
)
