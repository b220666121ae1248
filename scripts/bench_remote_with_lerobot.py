"""What being remote costs, beside LeRobot 0.6.1's own client and server, on one machine in one run.

    python scripts/bench_remote_with_lerobot.py [--rounds 3] [--answers 300] [--overhead PROGRAM]

The Python has LeRobot 0.6.1 and `grpcio`. Both sides send two cameras of 640x480 and a state to a server that answers 50 rows at once,
one after the other: LeRobot's `RobotClient.send_observation` and `PolicyServer` over gRPC in a process of its own, whose policy is taken
out; Sinew's websocket as `cargo bench -p sinew-remote --bench overhead` runs it, or the program that it built. Prints the median of
each and the ratio; exit code 1 when Sinew takes more than a third.
"""

import argparse
import json
import logging
import pickle
import re
import statistics
import subprocess
import sys
import threading
import time
from concurrent import futures

import grpc
import numpy as np
import torch
from lerobot.async_inference.configs import PolicyServerConfig
from lerobot.async_inference.helpers import TimedObservation
from lerobot.async_inference.policy_server import PolicyServer
from lerobot.async_inference.robot_client import RobotClient
from lerobot.transport import services_pb2, services_pb2_grpc

MOST = 1 / 3
MOTORS = ["shoulder_pan", "shoulder_lift", "elbow_flex", "wrist_flex", "wrist_roll", "gripper"]


class AtOnce(PolicyServer):
    """LeRobot's server with an answer in the place of its policy."""

    def _predict_action_chunk(self, observation):
        self.last_processed_obs = observation
        rows = torch.full((50, len(MOTORS)), 0.5)
        return self._time_action_chunk(observation.get_timestamp(), list(rows), observation.get_timestep())


def serve():
    # Its logger says a line for each answer.
    logging.disable(logging.INFO)
    server = grpc.server(futures.ThreadPoolExecutor(max_workers=4))
    config = PolicyServerConfig(host="127.0.0.1", port=1, inference_latency=0.0)
    services_pb2_grpc.add_AsyncInferenceServicer_to_server(AtOnce(config), server)
    print(server.add_insecure_port("127.0.0.1:0"), flush=True)
    server.start()
    sys.stdin.read()
    server.stop(0)


def observation(at, images):
    images["front"][at % 480, 0, 0] ^= 0xFF
    return TimedObservation(
        timestamp=time.time(),
        timestep=at,
        observation={**{f"{motor}.pos": float(at % 7) for motor in MOTORS}, **images, "task": "put the cube into the bin"},
        must_go=True,
    )


def lerobot(answers):
    """Milliseconds of each answer."""
    server = subprocess.Popen([sys.executable, __file__, "--serve"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        channel = grpc.insecure_channel(f"127.0.0.1:{int(server.stdout.readline())}")
        client = object.__new__(RobotClient)
        client.stub, client.shutdown_event = services_pb2_grpc.AsyncInferenceStub(channel), threading.Event()
        client.stub.Ready(services_pb2.Empty())
        noise = np.random.default_rng(1)
        images = {name: noise.integers(0, 255, (480, 640, 3), np.uint8) for name in ("front", "wrist")}
        took = []
        for at in range(answers):
            asked = observation(at, images)
            begun = time.perf_counter()
            if not client.send_observation(asked):
                sys.exit("LeRobot's client could not send")
            rows = pickle.loads(client.stub.GetActions(services_pb2.Empty()).data)
            took.append((time.perf_counter() - begun) * 1000)
            assert len(rows) == 50 and rows[0].get_timestep() == at
        return took
    finally:
        server.stdin.close()
        server.wait()


def sinew(program):
    """The median in milliseconds of an answer over the websocket."""
    command = [program] if program else ["cargo", "bench", "--locked", "-p", "sinew-remote", "--bench", "overhead"]
    told = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    first = told[told.index("ws://") :]
    return float(re.search(r"^all +([0-9.]+)", first, re.MULTILINE).group(1))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--answers", type=int, default=300)
    parser.add_argument("--overhead", help="the program that `cargo bench --no-run` says")
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve:
        return serve()
    logging.disable(logging.INFO)
    theirs, ours = [], []
    for _ in range(options.rounds):
        theirs.append(statistics.median(lerobot(options.answers)))
        ours.append(sinew(options.overhead))
    row = {"lerobot_ms": [round(ms, 2) for ms in theirs], "sinew_ms": [round(ms, 2) for ms in ours]}
    row["ratio"] = round(statistics.median(ours) / statistics.median(theirs), 3)
    print(json.dumps({**row, "most": round(MOST, 3)}))
    return row["ratio"] > MOST


if __name__ == "__main__":
    sys.exit(main())
