"""Remote policies against openpi-client 0.1.2; started by check_remote.sh.

    check_remote.py --sinew PROGRAM [--answers N]
    check_remote.py --golden

`--golden` prints the rows of crates/remote/src/picture_golden.rs: what openpi's resize_with_pad makes of a picture.
"""

import argparse
import base64
import http.server
import io
import json
import os
import pathlib
import shutil
import ssl
import subprocess
import tempfile
import threading
import time
import urllib.request

import msgpack
import numpy as np
import websockets.sync.server
import zmq
from openpi_client import image_tools, msgpack_numpy, websocket_client_policy
from PIL import Image

SIZES = [
    ((480, 640), (224, 224)),
    ((96, 128), (224, 224)),
    ((240, 320), (100, 60)),
    ((37, 91), (48, 48)),
    ((224, 224), (224, 224)),
    ((64, 48), (96, 128)),
]


def picture(height, width):
    y, x, c = np.meshgrid(np.arange(height), np.arange(width), np.arange(3), indexing="ij")
    return ((x * x * (c + 1) + y * 31 + x * y * 7 + 17 * c) % 251).astype(np.uint8)


def print_golden():
    print("[")
    for (height, width), (to_height, to_width) in SIZES:
        image = image_tools.resize_with_pad(picture(height, width)[None], to_height, to_width)[0]
        digest = 0xCBF29CE484222325
        for byte in image.tobytes():
            digest = ((digest ^ byte) * 0x100000001B3) & 0xFFFFFFFFFFFFFFFF
        middle = (to_height // 2 * to_width + to_width // 2) * 3
        some = list(image.tobytes()[middle : middle + 6])
        print(f"    ([{height}, {width}], [{to_height}, {to_width}], 0x{digest:016x}, {some}),")
    print("]")


class Serving:
    """`sinew serve` on a free port."""

    def __init__(self, sinew, *args, env=None):
        command = [sinew, "serve", "--listen", "127.0.0.1:0", "--json", *args]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env={**os.environ, **(env or {})})
        ready = json.loads(self.process.stdout.readline())
        self.host, port = ready["address"].rsplit(":", 1)
        self.port = int(port)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.terminate()
        self.counts = json.loads(self.process.stdout.readline())
        assert self.process.wait(20) == 0


def observation(seed):
    draw = np.random.default_rng(seed)
    return {
        "observation.state": draw.uniform(-30, 30, 6).astype(np.float32),
        "observation.images.front": draw.integers(0, 256, (96, 128, 3), dtype=np.uint8),
        "observation.images.wrist": draw.integers(0, 256, (96, 128, 3), dtype=np.uint8),
        "prompt": "Put the cube into the bin.",
    }


def check_client(sinew, answers):
    """The real client against our server."""
    with Serving(sinew) as server:
        client = websocket_client_policy.WebsocketClientPolicy(server.host, server.port)
        ours = client.get_server_metadata()["sinew"]
        assert ours["action_names"][0] == "shoulder_pan.pos" and ours["control_rate_hz"] == 30, ours
        first = client.infer(observation(0))
        assert first["actions"].shape == (30, 6) and first["actions"].dtype == np.float32, first
        assert "prev_total_ms" not in first["server_timing"], first
        times = []
        for seed in range(answers):
            begun = time.perf_counter()
            answer = client.infer(observation(seed))
            times.append((time.perf_counter() - begun) * 1e3 - answer["server_timing"]["infer_ms"])
            assert np.isfinite(answer["actions"]).all() and answer["server_timing"]["prev_total_ms"] > 0
        again = client.infer(observation(0))
        assert (again["actions"] == first["actions"]).all(), "the same observation, the same answer"

        # Other forms of the same observation: channels first, slashes, maps inside each other, floats.
        same = observation(0)
        same["observation.images.front"] = np.moveaxis(same["observation.images.front"], -1, 0)
        assert (client.infer(same)["actions"] == first["actions"]).all()
        flat = observation(0)
        nested = {
            "observation": {"state": list(map(float, flat["observation.state"])), "images/front": flat["observation.images.front"]},
            "observation/images/wrist": flat["observation.images.wrist"].astype(np.float32) / 255,
            "task": flat["prompt"],
        }
        assert (client.infer(nested)["actions"] == first["actions"]).all()

        # An error is the client's RuntimeError, and the server goes on.
        for broken in ({}, {**observation(0), "observation.state": np.zeros(7, np.float32)}):
            other = websocket_client_policy.WebsocketClientPolicy(server.host, server.port)
            try:
                other.infer(broken)
                raise AssertionError("expected an error")
            except RuntimeError as error:
                assert "observation.state" in str(error) or "observation.images" in str(error), error
        assert np.isfinite(client.infer(observation(1))["actions"]).all()
        with urllib.request.urlopen(f"http://{server.host}:{server.port}/healthz") as health:
            assert health.read() == b"OK\n"
        with urllib.request.urlopen(f"http://{server.host}:{server.port}/metrics") as metrics:
            assert f"sinew_errors_total 2\n" in metrics.read().decode()
    assert server.counts["errors"] == 2, server.counts
    times.sort()
    print(f"openpi-client against sinew serve: {server.counts['answers']} answers; the way of one there and back took", end=" ")
    print(f"{times[len(times) // 2]:.2f} ms (median; two 128x96 images)")

    with Serving(sinew, "--token-env", "CHECK_TOKEN", env={"CHECK_TOKEN": "open-sesame"}) as server:
        client = websocket_client_policy.WebsocketClientPolicy(server.host, server.port, api_key="open-sesame")
        client.infer(observation(0))
        try:
            websocket_client_policy.WebsocketClientPolicy(server.host, server.port, api_key="wrong")
            raise AssertionError("expected a refusal")
        except Exception as error:  # noqa: BLE001
            assert "401" in str(error), error
    print("openpi-client with a token: the right one is served, another is refused")


def rows_of(state, rows):
    """A slow wave of each joint around where it is. To the same state the same, which is believed on a second connection."""
    state = np.asarray(state, np.float64)
    return np.stack([state + 5 * np.sin(0.05 * i) for i in range(rows)]).astype(np.float32)


class OpenpiServer:
    """What openpi's websocket_policy_server does, in few lines: its codec, its greeting, its timings, its errors."""

    def __init__(self, answer, tls=None, api_key=None):
        self.requests, self.answer, self.api_key = [], answer, api_key
        self.server = websockets.sync.server.serve(
            self.handle, "127.0.0.1", 0, compression=None, max_size=None, ssl=tls, process_request=self.admit
        )
        self.port = self.server.socket.getsockname()[1]
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def admit(self, connection, request):
        if self.api_key and request.headers.get("Authorization") != f"Api-Key {self.api_key}":
            return connection.respond(401, "no key\n")
        return None

    def handle(self, connection):
        packer = msgpack_numpy.Packer()
        connection.send(packer.pack({}))
        total = None
        for message in connection:
            begun = time.perf_counter()
            seen = msgpack_numpy.unpackb(message)
            self.requests.append(seen)
            answer = dict(self.answer(seen))
            answer["server_timing"] = {"infer_ms": (time.perf_counter() - begun) * 1e3}
            if total is not None:
                answer["server_timing"]["prev_total_ms"] = total
            connection.send(packer.pack(answer))
            total = (time.perf_counter() - begun) * 1e3

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.server.shutdown()


def rollout(sinew, address, *args, env=None, folder=None):
    command = [sinew, "rollout", "--policy", address, "--seconds", "4", "--no-record", "--no-rerun", "--json", *args]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, cwd=folder, env={**os.environ, **(env or {})})
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


def check_server(sinew, folder):
    """Our rollout against a server with openpi's codec, for each preset that the simulated arm has cameras and joints for."""
    with OpenpiServer(lambda seen: {"state": seen["observation.state"], "actions": rows_of(seen["observation.state"], 30)}) as server:
        episode, totals = rollout(sinew, f"ws://127.0.0.1:{server.port}", "--policy-keys", "lerobot", folder=folder)
        seen = server.requests[-1]
        assert seen["observation.state"].dtype == np.float32 and seen["observation.state"].shape == (6,), seen
        assert seen["observation.images.front"].shape == (96, 128, 3) and seen["observation.images.front"].dtype == np.uint8
        assert seen["observation.images.front"].std() > 5, "a picture, no black"
        assert isinstance(seen["prompt"], str) and seen["prompt"], seen
        link = totals["link"]
        assert episode["ticks"] == 120 and link["answers"] >= 4 and link["refused"] == 0, (episode["ticks"], link)
        assert link["reconnects"] == 0 and link["missed"] == 0, link
        print(f"sinew rollout against openpi's codec: {link['answers']} answers, all in all", end=" ")
        print(f"{link['total_ms']['p50']:.1f} ms (median, a Python server)")

    # A key map of the user's own, with a picture scaled on this side as openpi's client does it.
    keys = folder / "keys.toml"
    keys.write_text(
        'units = "lerobot"\nprompt = "prompt"\n'
        '[[image]]\nkey = "observation/exterior_image_1_left"\ncamera = "front"\nsize = "224x224"\n'
        '[[image]]\nkey = ["images", "wrist"]\ncamera = "wrist"\nlayout = "chw"\nrotate = 180\n'
        '[[state]]\nkey = "observation/joint_position"\nrange = [0, 5]\ndtype = "f64"\n'
        '[[state]]\nkey = "observation/gripper_position"\nrange = [5, 6]\n'
    )

    def answer(seen):
        state = np.concatenate([seen["observation/joint_position"], seen["observation/gripper_position"]])
        # One of the other forms that are legal: lists, a leading axis, another name.
        return {"action": [rows_of(state, 12).tolist()]}

    with OpenpiServer(answer, api_key="k") as server:
        args = ["--policy-keys", str(keys), "--policy-token-env", "CHECK_KEY", "--camera-size", "320x240"]
        _, totals = rollout(sinew, f"ws://127.0.0.1:{server.port}/v1/robot", *args, env={"CHECK_KEY": "Api-Key k"}, folder=folder)
        seen = server.requests[-1]
        image, wrist = seen["observation/exterior_image_1_left"], seen["images"]["wrist"]
        assert image.shape == (224, 224, 3) and not image[:28].any() and not image[196:].any() and image[28:196].any(), image.shape
        assert wrist.shape == (3, 240, 320) and wrist.dtype == np.uint8
        assert seen["observation/joint_position"].dtype == np.float64 and seen["observation/gripper_position"].shape == (1,)
        assert totals["link"]["answers"] >= 4 and totals["link"]["refused"] == 0, totals["link"]
        print("sinew rollout with a key map and openpi's Api-Key: nested keys, scaled, turned, channels first")

    check_endpoint(sinew, folder)
    check_groot(sinew, folder)
    if not shutil.which("openssl"):
        print("wss:// and https:// were not tried: no openssl here")
        return
    certificate, key = folder / "certificate.pem", folder / "key.pem"
    subject = ["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost", "-addext", "basicConstraints=critical,CA:FALSE"]
    make = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-keyout", key, "-out", certificate, *subject]
    subprocess.run(make, check=True, capture_output=True)
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(certificate, key)
    with OpenpiServer(lambda seen: {"actions": rows_of(seen["observation.state"], 30)}, tls=tls) as server:
        address = f"wss://localhost:{server.port}"
        untrusted = subprocess.run([sinew, "policy", "check", address], capture_output=True, text=True, timeout=60)
        assert untrusted.returncode == 1 and "certificate" in untrusted.stderr, untrusted.stderr
        trusted = {"SSL_CERT_FILE": str(certificate)}
        _, totals = rollout(sinew, address, "--policy-keys", "lerobot", env=trusted, folder=folder)
        assert totals["link"]["answers"] >= 4 and totals["link"]["reconnects"] == 0, totals["link"]
        print("sinew rollout over wss://: a certificate that the system trusts is taken, another is not")
    with Endpoint(tls=tls) as server:
        address = f"https://localhost:{server.port}"
        untrusted = subprocess.run([sinew, "policy", "check", address], capture_output=True, text=True, timeout=60)
        assert untrusted.returncode == 1 and "certificate" in untrusted.stderr, untrusted.stderr
        _, totals = rollout(sinew, address, "--policy-keys", str(folder / "endpoint.toml"), env=trusted, folder=folder)
        link = totals["link"]
        assert link["answers"] >= 4 and link["refused"] == 0 and link["reconnects"] == link["repeated"] <= 1, link
        print("sinew rollout over https://: likewise")


class GrootService:
    """What GR00T's PolicyServer does, in few lines: a REP socket, msgpack with numpy's files, endpoints, a token, errors as maps.
    `is_old` is the form before N1.6."""

    KEYS = {"video": ["front", "wrist"], "state": ["single_arm", "gripper"], "action": ["single_arm", "gripper"]}

    def __init__(self, is_old=False, token=None):
        self.is_old, self.token, self.seen, self.asked, self.is_over = is_old, token, [], [], False
        self.socket = zmq.Context.instance().socket(zmq.REP)
        self.port = self.socket.bind_to_random_port("tcp://127.0.0.1")
        self.thread = threading.Thread(target=self.run, daemon=True)
        self.thread.start()

    @staticmethod
    def pack(value):
        def custom(value):
            file = io.BytesIO()
            np.save(file, value, allow_pickle=False)
            return {"__ndarray_class__": True, "as_npy": file.getvalue()}

        return msgpack.packb(value, default=custom)

    @staticmethod
    def unpack(message):
        def custom(value):
            return np.load(io.BytesIO(value["as_npy"]), allow_pickle=False) if "__ndarray_class__" in value else value

        return msgpack.unpackb(message, object_hook=custom)

    def config(self):
        names = {kind: [f"{kind}.{key}" if self.is_old else key for key in keys] for kind, keys in self.KEYS.items()}
        names["language"] = ["annotation.human.task_description"]
        ticks = {kind: list(range(16)) if kind == "action" else [0] for kind in names}
        of = {kind: {"delta_indices": ticks[kind], "modality_keys": names[kind]} for kind in names}
        say = json.dumps if self.is_old else dict
        return {kind: {"__ModalityConfig_class__": True, "as_json": say(config)} for kind, config in of.items()}

    def action(self, data):
        seen = data if self.is_old else data["observation"]
        lead = () if self.is_old else (1,)
        get = (lambda kind, key: seen[f"{kind}.{key}"]) if self.is_old else (lambda kind, key: seen[kind][key])
        for camera in self.KEYS["video"]:
            image = get("video", camera)
            assert image.dtype == np.uint8 and image.shape == (*lead, 1, 96, 128, 3), image.shape
            assert len(self.seen) < 2 or image.std() > 5, "a picture, no black; the first look is black"
        parts = {key: get("state", key) for key in self.KEYS["state"]}
        for (key, part), width in zip(parts.items(), (5, 1)):
            assert part.dtype == np.float32 and part.shape == (*lead, 1, width), (key, part.shape)
        said = seen["annotation.human.task_description"] if self.is_old else seen["language"]["annotation.human.task_description"][0]
        assert isinstance(said, list) and isinstance(said[0], str) and (said[0] or len(self.seen) < 2), said
        self.seen.append(seen)
        rows = {key: rows_of(part.reshape(-1), 16) for key, part in parts.items()}
        if self.is_old:
            return {f"action.{key}": part for key, part in rows.items()}
        assert data["options"] is None
        return ({key: part[None] for key, part in rows.items()}, {})

    def run(self):
        while not self.is_over:
            if not self.socket.poll(100):
                continue
            request = self.unpack(self.socket.recv())
            try:
                if self.token and request.get("api_token") != self.token:
                    answer = {"error": "Unauthorized: Invalid API token"}
                else:
                    self.asked.append(request["endpoint"])
                    answer = {"get_modality_config": lambda _: self.config(), "get_action": self.action}[request["endpoint"]](request.get("data"))
            except Exception as error:  # noqa: BLE001
                answer = {"error": repr(error)}
            self.socket.send(self.pack(answer))

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.is_over = True
        self.thread.join()
        self.socket.close(0)


def check_groot(sinew, folder):
    """Our rollout against GR00T's service, in both forms."""
    old_keys = folder / "groot.toml"
    old_keys.write_text(
        'units = "lerobot"\nprompt = "annotation.human.task_description"\nactions = ["action.single_arm", "action.gripper"]\n'
        '[[image]]\nkey = "video.front"\ncamera = "front"\n[[image]]\nkey = "video.wrist"\ncamera = "wrist"\n'
        '[[state]]\nkey = "state.single_arm"\nrange = [0, 5]\n[[state]]\nkey = "state.gripper"\nrange = [5, 6]\n'
    )
    for is_old, keys in ((False, "groot-so100"), (True, str(old_keys))):
        with GrootService(is_old, token="open-sesame") as server:
            address, env = f"groot://127.0.0.1:{server.port}", {"CHECK_TOKEN": "open-sesame"}
            refused = subprocess.run([sinew, "policy", "check", address], capture_output=True, text=True, timeout=60)
            assert refused.returncode == 1 and "Unauthorized" in refused.stderr, refused.stderr
            command = [sinew, "policy", "check", address, "--policy-token-env", "CHECK_TOKEN"]
            said = subprocess.run(command, capture_output=True, text=True, timeout=60, env={**os.environ, **env})
            assert said.returncode == 0 and "16 rows of" in said.stdout and "single_arm" in said.stdout, said
            _, totals = rollout(sinew, address, "--policy-keys", keys, "--policy-token-env", "CHECK_TOKEN", env=env, folder=folder)
            link = totals["link"]
            assert link["answers"] >= 7 and link["refused"] == 0 and link["reconnects"] == link["repeated"] <= 1, link
            assert set(server.asked) == {"get_modality_config", "get_action"}, server.asked
            print(f"sinew rollout against GR00T's service {'before' if is_old else 'from'} N1.6: {link['answers']} answers, all in all", end=" ")
            print(f"{link['total_ms']['p50']:.1f} ms (median, a Python server)")


class EndpointHandler:
    """As the handler.py of a model's repository is written for an Inference Endpoint."""

    def __call__(self, data):
        inputs = data["inputs"]
        images = {name: np.asarray(Image.open(io.BytesIO(base64.b64decode(jpeg)))) for name, jpeg in inputs["images"].items()}
        assert images["front"].shape == (120, 160, 3)
        # The first look is black.
        self.calls = getattr(self, "calls", 0) + 1
        assert self.calls <= 2 or images["front"].std() > 5, "a picture, no black"
        assert isinstance(inputs["prompt"], str), inputs
        return {"actions": rows_of(inputs["state"], 30).tolist()}


class Endpoint:
    """An Inference Endpoint: it starts at the first request, and then answers what its handler returns, as JSON."""

    def __init__(self, starting=0, token=None, tls=None):
        endpoint, self.starting, self.refused = self, starting, 0
        handler = EndpointHandler()

        class Requests(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self):
                data = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                if token and self.headers["Authorization"] != f"Bearer {token}":
                    return self.answer(401, {"error": "Invalid token"})
                if endpoint.starting > 0:
                    endpoint.starting -= 1
                    return self.answer(503, {"error": "Service Unavailable"})
                try:
                    self.answer(200, handler(data))
                except Exception as error:  # noqa: BLE001
                    endpoint.refused += 1
                    self.answer(400, {"error": repr(error)})

            def answer(self, status, body):
                body = json.dumps(body).encode()
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_):
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Requests)
        if tls:
            self.server.socket = tls.wrap_socket(self.server.socket, server_side=True)
        self.port = self.server.server_address[1]
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.server.shutdown()


def check_endpoint(sinew, folder):
    """Our rollout against an Inference Endpoint in Python: JSON with JPEGs."""
    keys = folder / "endpoint.toml"
    keys.write_text(
        'units = "lerobot"\nprompt = "prompt"\n'
        '[[image]]\nkey = ["images", "front"]\ncamera = "front"\nsize = "160x120"\n'
        '[[state]]\nkey = "state"\n'
    )
    with Endpoint(starting=2, token="open-sesame") as server:
        args = ["--policy-keys", str(keys), "--policy-token-env", "CHECK_TOKEN"]
        _, totals = rollout(sinew, f"http://127.0.0.1:{server.port}/", *args, env={"CHECK_TOKEN": "open-sesame"}, folder=folder)
        link = totals["link"]
        assert link["answers"] >= 4 and link["refused"] == 0 and link["errors"] == 2 and server.refused == 0, link
        print(f"sinew rollout against an Inference Endpoint's handler: {link['answers']} answers, all in all", end=" ")
        print(f"{link['total_ms']['p50']:.1f} ms (median; {link['bytes_sent'] // link['requests']} bytes a request)")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sinew", type=pathlib.Path)
    parser.add_argument("--answers", type=int, default=100)
    parser.add_argument("--golden", action="store_true")
    args = parser.parse_args()
    if args.golden:
        return print_golden()
    sinew = args.sinew.resolve()
    check_client(sinew, args.answers)
    with tempfile.TemporaryDirectory() as folder:
        check_server(sinew, pathlib.Path(folder))
    print("all is well")


if __name__ == "__main__":
    main()
