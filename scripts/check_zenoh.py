"""LeRobot's remote inference v1 against ends in Python that were written anew from LeRobot's rules; started by check_zenoh.sh.

    check_zenoh.py --sinew PROGRAM [--answers N]
"""

import argparse
import io
import json
import os
import pathlib
import queue
import re
import shutil
import socket
import subprocess
import tempfile
import threading
import time
import uuid

import msgpack
import numpy as np
import zenoh
from PIL import Image

MARKER = "__lerobot_type__"
DTYPES = {"bool", "uint8", "int8", "uint16", "int16", "uint32", "int32", "uint64", "int64", "float16", "float32", "float64"}
ENVELOPE = {"version", "message_type", "instance_id", "session_id", "generation", "request_id", "body"}
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,127}\Z")
MOST_BYTES = 32 << 20
# What an action repeats of its observation.
REPEATED = ["artifact_identity", "observation_id", "capture_time", "task", "task_version"]


class Refused(Exception):
    """An error as the other side tells it."""

    def __init__(self, code, words):
        super().__init__(f"{code}: {words}")
        self.code = code


class Rgb:
    def __init__(self, array, encoding="raw"):
        self.array, self.encoding = array, encoding


def record(value):
    """A value as the wire has it."""
    if isinstance(value, Rgb):
        data = value.array.tobytes()
        if value.encoding == "jpeg":
            stream = io.BytesIO()
            Image.fromarray(value.array).save(stream, format="JPEG", quality=90)
            data = stream.getvalue()
        shape = list(value.array.shape)
        return {MARKER: "rgb", "encoding": value.encoding, "shape": shape, "dtype": "uint8", "channel_order": "RGB", "data": data}
    if isinstance(value, np.ndarray):
        data = value.astype(value.dtype.newbyteorder("<")).tobytes()
        return {MARKER: "tensor", "dtype": value.dtype.name, "shape": list(value.shape), "endianness": "little", "data": data}
    if isinstance(value, dict):
        return {key: record(inner) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [record(inner) for inner in value]
    return value


def pack(kind, instance="", session="", generation=0, request="", body=None):
    message = {
        "version": 1,
        "message_type": kind,
        "instance_id": instance,
        "session_id": session,
        "generation": generation,
        "request_id": request,
        "body": record(body or {}),
    }
    packed = msgpack.packb(message, use_bin_type=True)
    assert len(packed) <= MOST_BYTES
    return packed


def value_of(value, depth=0):
    """What the wire's value is, with every rule of v1 looked at."""
    assert depth <= 16, "too deep"
    if isinstance(value, dict):
        assert all(isinstance(key, str) and len(key.encode()) <= 16384 for key in value) and len(value) <= 4096
        if MARKER not in value:
            return {key: value_of(inner, depth + 1) for key, inner in value.items()}
        shape = value["shape"]
        assert len(shape) <= 8 and all(type(side) is int and 0 < side <= 16384 for side in shape), shape
        assert isinstance(value["data"], bytes)
        if value[MARKER] == "tensor":
            assert value["dtype"] in DTYPES and value["endianness"] in ("little", "big"), value
            dtype = np.dtype(value["dtype"]).newbyteorder("<" if value["endianness"] == "little" else ">")
            array = np.frombuffer(value["data"], dtype).reshape(shape).astype(dtype.newbyteorder("="))
            assert array.dtype.kind != "f" or np.isfinite(array).all()
            return array
        assert value[MARKER] == "rgb" and value["dtype"] == "uint8" and value["channel_order"] == "RGB", value
        assert len(shape) == 3 and shape[2] == 3
        if value["encoding"] == "raw":
            return np.frombuffer(value["data"], np.uint8).reshape(shape)
        assert value["encoding"] == "jpeg"
        with Image.open(io.BytesIO(value["data"])) as image:
            assert image.format == "JPEG" and image.mode == "RGB" and image.size == (shape[1], shape[0])
            return np.array(image)
    if isinstance(value, list):
        assert len(value) <= 4096
        return [value_of(inner, depth + 1) for inner in value]
    assert value is None or isinstance(value, (str, bytes, bool, int, float)), type(value)
    assert not isinstance(value, float) or np.isfinite(value)
    return value


def once(pairs):
    keys = [key for key, _ in pairs]
    assert len(set(keys)) == len(keys), "a key twice"
    return dict(pairs)


def unpack(payload):
    assert len(payload) <= MOST_BYTES
    message = msgpack.unpackb(payload, raw=False, strict_map_key=True, object_pairs_hook=once)
    assert set(message) == ENVELOPE, set(message)
    assert message["version"] == 1 and type(message["version"]) is int
    assert type(message["generation"]) is int and 0 <= message["generation"] < 2**63
    for key in ("instance_id", "session_id", "request_id"):
        assert message[key] == "" or NAME.fullmatch(message[key]), (key, message[key])
    if message["message_type"] in ("observation", "action", "control", "ack", "language_request", "language_result"):
        assert message["instance_id"] and message["session_id"] and message["request_id"]
    message["body"] = value_of(message["body"])
    return message


def open_zenoh(connect=(), listen=(), config=None):
    config = zenoh.Config.from_file(str(config)) if config else zenoh.Config()
    for key, value in {
        "mode": "peer",
        "connect/endpoints": list(connect),
        "listen/endpoints": list(listen),
        "scouting/multicast/enabled": False,
        "scouting/gossip/enabled": False,
        "transport/shared_memory/enabled": False,
        "connect/timeout_ms": 10000,
    }.items():
        config.insert_json5(key, json.dumps(value))
    return zenoh.open(config)


def wait_until(what, condition, seconds=10):
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until, f"waiting for {what}"
        time.sleep(0.005)


def is_heard(session, key):
    with session.declare_publisher(key) as publisher:
        status = publisher.matching_status
        return getattr(status, "matching", status)


def root(deployment):
    return f"lerobot/inference/v1/deployments/{deployment}"


class Client:
    """v1's client as LeRobot's behaves: one session, one observation at a time, nothing repeated."""

    def __init__(self, locator, deployment="sinew", config=None):
        self.net = open_zenoh(connect=[locator], config=config)
        self.deployment, self.session, self.generation, self.sequence = deployment, "", 0, 0
        answers = self.query(f"{root(deployment)}/describe", pack("describe", request=uuid.uuid4().hex))
        assert len(answers) == 1, len(answers)
        answer = unpack(answers[0])
        self.descriptor, self.instance = answer["body"], answer["instance_id"]
        assert answer["message_type"] == "descriptor" and self.descriptor["instance_id"] == self.instance
        assert self.descriptor["deployment"] == deployment and self.descriptor["ready"] is True
        self.caps = self.descriptor["capabilities"]

    def query(self, key, payload, seconds=10):
        with self.net.declare_querier(key) as querier:
            wait_until(key, lambda: getattr(querier.matching_status, "matching", querier.matching_status), seconds)
        replies = self.net.get(
            key,
            payload=payload,
            timeout=seconds,
            target=zenoh.QueryTarget.ALL,
            consolidation=zenoh.ConsolidationMode.NONE,
            congestion_control=zenoh.CongestionControl.DROP,
        )
        return [reply.ok.payload.to_bytes() for reply in replies if reply.ok is not None]

    def exchange(self, key, kind, body, generation=0, session=""):
        request = uuid.uuid4().hex
        answers = self.query(key, pack(kind, self.instance, session, generation, request, body))
        assert len(answers) == 1, len(answers)
        answer = unpack(answers[0])
        assert (answer["instance_id"], answer["request_id"], answer["generation"]) == (self.instance, request, generation), answer
        if answer["message_type"] == "error":
            raise Refused(answer["body"]["code"], answer["body"]["message"])
        return answer

    def open(self, **other):
        body = {
            "expected_artifact": self.descriptor["artifact_identity"],
            "features": self.caps["features"],
            "action_feature": self.caps["action_feature"],
            "semantics": self.descriptor["semantics"],
            "action_interval": self.caps["action_interval"],
            "mode": "chunk",
            "encoding": "raw",
            **other,
        }
        accepted = self.exchange(f"{root(self.deployment)}/instances/{self.instance}/open", "open", body)
        assert accepted["message_type"] == "accepted" and accepted["session_id"], accepted
        said = accepted["body"]
        assert said["artifact_identity"] == self.descriptor["artifact_identity"] and said["capabilities"] == self.caps
        assert said["mode"] == body["mode"] and said.get("chunk_settings") == body.get("chunk_settings", said["chunk_settings"])
        self.session = accepted["session_id"]
        self.key = f"{root(self.deployment)}/instances/{self.instance}/sessions/{self.session}"
        self.acts = queue.Queue()
        self.kept = [
            self.net.declare_subscriber(f"{self.key}/act", lambda sample: self.acts.put(sample.payload.to_bytes())),
            self.net.declare_subscriber(f"{self.key}/language/result", lambda sample: None),
            self.net.liveliness().declare_token(f"{self.key}/alive"),
        ]
        self.control("reset", 0)
        for suffix in ("obs", "language/request"):
            wait_until(suffix, lambda suffix=suffix: is_heard(self.net, f"{self.key}/{suffix}"))
        return self

    def control(self, operation, generation):
        answer = self.exchange(f"{self.key}/control", "control", {"operation": operation}, generation, self.session)
        assert answer["message_type"] == "ack" and answer["session_id"] == self.session
        assert answer["body"]["operation"] == operation and answer["body"]["applied_generation"] == generation
        self.generation = generation

    def infer(self, features, task="Put the cube into the bin.", **other):
        self.sequence += 1
        request = uuid.uuid4().hex
        body = {
            "sequence": self.sequence,
            "artifact_identity": self.descriptor["artifact_identity"],
            "observation_id": uuid.uuid4().hex,
            "capture_time": time.monotonic(),
            "task": task,
            "task_version": 0,
            "features": features,
            "delay": 0,
            "model_continuation": None,
            "canonical_continuation": None,
            "cursor": 3,
            **other,
        }
        payload = pack("observation", self.instance, self.session, self.generation, request, body)
        self.net.put(f"{self.key}/obs", payload, congestion_control=zenoh.CongestionControl.DROP)
        answer = unpack(self.acts.get(timeout=20))
        ids = (answer["instance_id"], answer["session_id"], answer["request_id"], answer["generation"])
        assert ids == (self.instance, self.session, request, self.generation), ids
        if answer["message_type"] == "error":
            raise Refused(answer["body"]["code"], answer["body"]["message"])
        said = answer["body"]
        keys = REPEATED + [key for key in ("observation_cursor",) if key in other] + (["cursor"] if "observation_cursor" in other else [])
        assert answer["message_type"] == "action" and all(said[key] == body[key] for key in keys), said
        actions, steps = said["canonical_actions"], self.caps["execution_steps"]
        assert actions.shape == (steps, *self.caps["action_feature"]["shape"]) and actions.dtype == np.float32
        assert said["execution_steps"] == steps and said["model_actions"] is None
        return actions, said["server_durations"]

    def close(self):
        if self.session:
            self.control("close", self.generation)
        self.net.close()


def expect(code, ask):
    try:
        ask()
    except Refused as refused:
        assert refused.code == code, refused
        return
    raise AssertionError(f"expected {code}")


def observation(seed, encoding="raw"):
    draw = np.random.default_rng(seed)
    image = lambda: Rgb(np.asarray(Image.fromarray(draw.integers(0, 256, (12, 16, 3), dtype=np.uint8)).resize((128, 96))), encoding)  # noqa: E731
    return {
        "observation.state": draw.uniform(-30, 30, 6).astype(np.float32),
        "observation.images.front": image(),
        "observation.images.wrist": image(),
    }


def serve(sinew, *args):
    command = [sinew, "serve", "--listen", "127.0.0.1:0", "--json", *args]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    return process, json.loads(process.stdout.readline())


def check_client(sinew, answers):
    """The client in Python against our server."""
    process, ready = serve(sinew, "--zenoh", "tcp/127.0.0.1:0", "--deployment", "cube-1")
    client = Client(ready["zenoh"], "cube-1")
    caps = client.caps
    assert caps["modes"] == ["chunk"] and abs(caps["action_interval"] - 1 / 30) < 1e-9, caps
    assert [feature["kind"] for feature in caps["features"]].count("rgb") == 2, caps["features"]
    assert caps["action_feature"]["names"][0] == "shoulder_pan.pos" and len(caps["action_feature"]["names"]) == 6
    for other, code in [
        ({"semantics": "radians"}, "incompatible"),
        ({"mode": "rtc_guided"}, "unsupported"),
        ({"action_interval": 0.1}, "incompatible"),
        ({"features": caps["features"][::-1]}, "incompatible"),
        ({"expected_artifact": "another"}, "incompatible"),
        ({"encoding": "png"}, "unsupported"),
        ({"required_capabilities": ["chunk_blending_v1"]}, "unsupported"),
    ]:
        expect(code, lambda other=other: client.open(**other))
    client.open()
    first, _ = client.infer(observation(0))
    times = []
    for seed in range(answers):
        begun = time.perf_counter()
        _, durations = client.infer(observation(seed))
        times.append((time.perf_counter() - begun - durations["worker"]) * 1e3)
    again, _ = client.infer(observation(0))
    assert (first == again).all(), "the same observation, the same answer"
    jpeg, _ = client.infer(observation(0, "jpeg"))
    assert np.abs(jpeg - first).max() < 20, np.abs(jpeg - first).max()
    expect("busy", lambda: Client(ready["zenoh"], "cube-1").open())
    client.control("invalidate", 4)
    client.infer(observation(1))
    client.close()
    settings = {"chunk_merge": "aligned", "blend_steps": 0, "blend_weight": 0.25, "blend_components": []}
    client = Client(ready["zenoh"], "cube-1").open(chunk_settings=settings, required_capabilities=["chunk_alignment_v1"])
    client.infer(observation(2), observation_cursor=3, cursor=5)
    expect("incompatible", lambda: client.infer({**observation(2), "observation.state": np.zeros(7, np.float32)}))
    expect("stale", lambda: client.infer(observation(2)))
    client.close()
    process.terminate()
    counts = json.loads(process.stdout.readline())
    assert process.wait(20) == 0
    times.sort()
    print(f"a client in Python against sinew serve --zenoh: {counts['answers']} answers; the way there and back took", end=" ")
    print(f"{times[len(times) // 2]:.2f} ms (median; two 128x96 images)")


class Server:
    """v1's server as LeRobot's behaves: one session, generations, sequence numbers, ten seconds of grace."""

    def __init__(self, answer, modes=("chunk",), execution=10, prediction=30, listen=None, config=None, semantics="so101-degrees-gripper-percent-v1"):
        self.answer, self.execution, self.prediction = answer, execution, prediction
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        self.locator = (listen or "tcp/127.0.0.1:{}").format(port)
        self.port, self.instance, self.session = port, uuid.uuid4().hex, None
        self.heard, self.controls, self.events = [], [], queue.Queue()
        joints = ["shoulder_pan", "shoulder_lift", "elbow_flex", "wrist_flex", "wrist_roll", "gripper"]
        numbers = {"shape": [6], "dtype": "float32", "kind": "tensor", "names": [f"{joint}.pos" for joint in joints], "semantics": semantics}
        image = {"shape": [96, 128, 3], "dtype": "uint8", "kind": "rgb", "names": [], "semantics": "rgb-hwc"}
        self.features = [
            {"name": "observation.state", **numbers},
            {"name": "observation.images.front", **image},
            {"name": "observation.images.wrist", **image},
        ]
        self.capabilities = {
            "modes": list(modes),
            "prediction_steps": prediction,
            "execution_steps": execution,
            "action_interval": 1 / 30,
            "features": self.features,
            "action_feature": {"name": "action", **numbers},
            "language": False,
            "training_max_delay": 6,
            "rtc_horizon": 10,
            "current_observation_only": True,
            "retains_session_state": True,
            "action_representation": "canonical",
        }
        self.described = {
            "deployment": "pick",
            "instance_id": self.instance,
            "artifact_identity": "team/policy@0123",
            "software": {"version": "0"},
            "semantics": semantics,
            "capabilities": self.capabilities,
            "execution_contracts": ["chunk_alignment_v1"],
            "blendable_components": [],
            "ready": True,
            "available": True,
            "failure": None,
            "session": {"owner": None},
            "session_status": "idle",
            "limits": {"action_deadline_s": 5.0, "language_deadline_s": 60.0},
        }
        self.net = open_zenoh(listen=[self.locator], config=config)
        key = f"{root('pick')}/instances/{self.instance}"
        hear = lambda key, kind: self.net.declare_queryable(key, lambda query: self.events.put((kind, query)), complete=True)  # noqa: E731
        self.kept = [hear(f"{key}/open", "open"), self.net.liveliness().declare_token(f"{key}/alive"), hear(f"{root('pick')}/describe", "describe")]
        self.thread = threading.Thread(target=self.run, daemon=True)
        self.thread.start()

    def run(self):
        while True:
            kind, what = self.events.get()
            if kind == "end":
                return
            try:
                getattr(self, kind)(what)
            except Exception as error:  # noqa: BLE001
                self.failure = error
                raise

    failure = None

    def reply(self, query, payload):
        query.reply(str(query.key_expr), payload)
        query.drop()

    def describe(self, query):
        asked = unpack(query.payload.to_bytes())
        assert asked["message_type"] == "describe"
        self.reply(query, pack("descriptor", self.instance, request=asked["request_id"], body=self.described))

    def open(self, query):
        asked = unpack(query.payload.to_bytes())
        body = asked["body"]
        refuse = lambda code: self.reply(  # noqa: E731
            query, pack("error", asked["instance_id"], "", 0, asked["request_id"], {"code": code, "message": "no"})
        )
        if self.session:
            return refuse("busy")
        caps = self.capabilities
        same = body["features"] == caps["features"] and body["action_feature"] == caps["action_feature"]
        same = same and body["semantics"] == self.described["semantics"] and abs(body["action_interval"] * 30 - 1) < 1e-6
        same = same and body["expected_artifact"] == self.described["artifact_identity"] and body.get("required_capabilities", []) == []
        if asked["message_type"] != "open" or not same or body["encoding"] not in ("raw", "jpeg"):
            return refuse("incompatible")
        if body["mode"] not in caps["modes"]:
            return refuse("unsupported")
        self.session, self.mode, self.generation, self.sequence = uuid.uuid4().hex, body["mode"], 0, -1
        self.key = f"{root('pick')}/instances/{self.instance}/sessions/{self.session}"
        put = lambda kind: lambda sample: self.events.put((kind, sample.payload.to_bytes()))  # noqa: E731
        self.of_session = [
            self.net.declare_queryable(f"{self.key}/control", lambda query: self.events.put(("control", query)), complete=True),
            self.net.declare_subscriber(f"{self.key}/obs", put("observe")),
            self.net.declare_subscriber(f"{self.key}/language/request", lambda sample: None),
            self.net.liveliness().declare_subscriber(f"{self.key}/alive", lambda sample: self.presence.append(sample.kind), history=True),
        ]
        self.presence = []
        accepted = {**self.described, "mode": self.mode, "chunk_settings": {}}
        return self.reply(query, pack("accepted", self.instance, self.session, 0, asked["request_id"], accepted))

    def control(self, query):
        asked = unpack(query.payload.to_bytes())
        operation, generation = asked["body"]["operation"], asked["generation"]
        self.controls.append((operation, generation))
        ids = (asked["instance_id"], asked["session_id"], generation, asked["request_id"])
        if asked["session_id"] != self.session or (operation != "close" and generation < self.generation):
            return self.reply(query, pack("error", *ids, {"code": "stale", "message": "no such session"}))
        if operation == "reset" and generation == 0:
            for suffix in ("act", "language/result"):
                wait_until(suffix, lambda suffix=suffix: is_heard(self.net, f"{self.key}/{suffix}"))
        self.generation = generation
        self.reply(query, pack("ack", *ids, {"operation": operation, "applied_generation": generation}))
        if operation == "close":
            self.session = None
            for held in self.of_session:
                held.undeclare()
        return None

    def observe(self, payload):
        asked = unpack(payload)
        body, ids = asked["body"], (asked["instance_id"], asked["session_id"], asked["generation"], asked["request_id"])
        assert ids[:3] == (self.instance, self.session, self.generation) and asked["message_type"] == "observation", ids
        assert body["sequence"] > self.sequence and type(body["sequence"]) is int
        self.sequence = body["sequence"]
        assert body["artifact_identity"] == self.described["artifact_identity"] and body["observation_id"]
        assert isinstance(body["task"], str) and type(body["task_version"]) is int and np.isfinite(body["capture_time"])
        assert type(body["delay"]) is int and 0 <= body["delay"] <= self.prediction
        assert set(body["features"]) == {feature["name"] for feature in self.features}
        for feature in self.features:
            value = body["features"][feature["name"]]
            assert list(value.shape) == feature["shape"] and value.dtype.name == feature["dtype"], feature
        model, canonical = body["model_continuation"], body["canonical_continuation"]
        for rest in (model, canonical):
            assert rest is None or (rest.ndim == 2 and rest.shape[1] == 6 and len(rest) <= self.prediction and rest.dtype == np.float32)
        assert (model is None) == (canonical is None) and (model is None or len(model) == len(canonical))
        self.heard.append(body)
        begun = time.monotonic()
        rows = self.execution if self.mode == "chunk" else self.prediction
        actions = self.answer(body, rows)
        said = {key: body[key] for key in REPEATED}
        said |= {
            "canonical_actions": actions,
            "model_actions": None if self.mode == "chunk" else (actions / 100).astype(np.float32),
            "execution_steps": rows,
            "server_durations": {"queue": 0.0, "worker": time.monotonic() - begun},
        }
        self.net.put(f"{self.key}/act", pack("action", *ids, said), congestion_control=zenoh.CongestionControl.DROP)

    def end(self):
        self.events.put(("end", None))
        self.thread.join(10)
        self.net.close()
        if self.failure:
            raise self.failure


def wave(body, rows):
    """A slow wave of each joint around where it is."""
    state = body["features"]["observation.state"].astype(np.float64)
    return np.stack([state + 5 * np.sin(0.05 * i) for i in range(rows)]).astype(np.float32)


def rollout(sinew, address, *args, folder):
    command = [sinew, "rollout", "--policy", address, "--seconds", "4", "--no-record", "--no-rerun", "--json", *args]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, cwd=folder)
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


def check_server(sinew, folder):
    """Our rollout against the server in Python."""
    server = Server(wave)
    address = f"zenoh://127.0.0.1:{server.port}/pick"
    unsaid = subprocess.run([sinew, "policy", "check", address, "--robot", "so101"], capture_output=True, text=True, timeout=60)
    assert unsaid.returncode == 1 and "--policy-semantics" in unsaid.stdout, unsaid.stdout + unsaid.stderr
    said = ["--policy-semantics", server.described["semantics"]]
    episode, totals = rollout(sinew, address, *said, folder=folder)
    link = totals["link"]
    assert episode["ticks"] == 120 and link["answers"] >= 10, (episode["ticks"], link)
    assert (link["refused"], link["reconnects"], link["errors"], link["late"]) == (0, 0, 0, 0), link
    assert server.heard[-1]["features"]["observation.images.front"].std() > 5, "a picture, no black"
    assert server.heard[-1]["task"], "an instruction"
    operations = [operation for operation, _ in server.controls]
    assert operations[0] == "reset" and operations[1] == "reset" and operations[-1] == "close", server.controls
    assert server.session is None and zenoh.SampleKind.PUT in server.presence
    server.end()
    print(f"sinew rollout against a server in Python: {link['answers']} answers, all in all {link['total_ms']['p50']:.1f} ms (median)")

    for mode, words in [("rtc_guided", "guided"), ("rtc_trained", "trained")]:
        server = Server(wave, modes=("chunk", mode))
        args = ["--inference", "rtc", "--rtc-mode", words, "--policy-semantics", server.described["semantics"]]
        _, totals = rollout(sinew, f"zenoh://127.0.0.1:{server.port}/pick", *args, folder=folder)
        link = totals["link"]
        rests = [len(body["canonical_continuation"]) for body in server.heard if body["canonical_continuation"] is not None]
        assert server.mode == mode and link["answers"] >= 4 and link["refused"] == 0, link
        assert len(rests) >= 3 and all(0 < rest <= 30 for rest in rests), rests
        server.end()
        print(f"sinew rollout --inference rtc --rtc-mode {words}: {link['answers']} answers, {len(rests)} of them with {rests[0]} rows to follow")

    if not shutil.which("openssl"):
        print("zenoh+tls:// was not tried: no openssl here")
        return
    check_tls(sinew, folder)


def check_tls(sinew, folder):
    """Certificates on both sides: who has none is not let in."""

    def run(*args):
        subprocess.run(["openssl", *args], check=True, capture_output=True, cwd=folder)

    run("req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-keyout", "ca.key", "-out", "ca.pem", "-subj", "/CN=ca")
    for name in ("policy-server", "robot-client"):
        run("req", "-newkey", "rsa:2048", "-nodes", "-keyout", f"{name}.key", "-out", f"{name}.csr", "-subj", f"/CN={name}")
        (folder / f"{name}.ext").write_text("subjectAltName=DNS:localhost\n")
        sign = ["-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial", "-days", "2", "-extfile", f"{name}.ext"]
        run("x509", "-req", "-in", f"{name}.csr", "-out", f"{name}.pem", *sign)
    path = lambda name: json.dumps(str(folder / name))  # noqa: E731
    tls = f"root_ca_certificate: {path('ca.pem')}, enable_mtls: true"
    server_config, client_config, bare_config = folder / "server.json5", folder / "client.json5", folder / "bare.json5"
    server_config.write_text(
        f"{{ transport: {{ link: {{ tls: {{ {tls}, listen_private_key: {path('policy-server.key')}, listen_certificate: {path('policy-server.pem')} }} }} }} }}"
    )
    client_config.write_text(
        f"{{ transport: {{ link: {{ tls: {{ {tls}, connect_private_key: {path('robot-client.key')}, connect_certificate: {path('robot-client.pem')} }} }} }} }}"
    )
    bare_config.write_text(f"{{ transport: {{ link: {{ tls: {{ root_ca_certificate: {path('ca.pem')} }} }} }} }}")

    server = Server(wave, listen="tls/localhost:{}", config=server_config)
    address = f"zenoh+tls://localhost:{server.port}/pick"
    said = ["--policy-semantics", server.described["semantics"]]
    _, totals = rollout(sinew, address, *said, "--policy-zenoh-config", str(client_config), folder=folder)
    assert totals["link"]["answers"] >= 10 and totals["link"]["refused"] == 0, totals["link"]
    bare = [sinew, "policy", "check", address, "--policy-zenoh-config", str(bare_config)]
    refused = subprocess.run(bare, capture_output=True, text=True, timeout=60)
    assert refused.returncode == 1 and "connecting to zenoh+tls" in refused.stderr, refused.stderr
    server.end()

    process, ready = serve(sinew, "--zenoh", "tls/localhost:0", "--zenoh-config", str(server_config))
    client = Client(ready["zenoh"], config=client_config).open()
    client.infer(observation(0))
    client.close()
    process.terminate()
    assert process.wait(20) == 0
    open_to_all = subprocess.run([sinew, "serve", "--zenoh", "tcp/0.0.0.0:0"], capture_output=True, text=True, timeout=60)
    assert open_to_all.returncode == 2 and "--zenoh-insecure" in open_to_all.stderr, open_to_all.stderr
    print("zenoh+tls:// with certificates on both sides, from both ends: who has none is refused")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sinew", type=pathlib.Path, required=True)
    parser.add_argument("--answers", type=int, default=100)
    args = parser.parse_args()
    sinew = args.sinew.resolve()
    check_client(sinew, args.answers)
    with tempfile.TemporaryDirectory() as folder:
        check_server(sinew, pathlib.Path(folder))
    print("all is well, as far as ends written anew can tell")


if __name__ == "__main__":
    os.environ.pop("ZENOH_CONFIG", None)
    main()
