"""Writes what crates/drivers/tests/golden/zmq_*.bin hold: the bytes of a PUB socket's hand-shake, a message of LeRobot's image
server with its framing, and what LeRobot's ZMQCamera shows of it (32 by 24, RGB).

    python scripts/make_zmq_camera_golden.py        # LeRobot 0.6.1, pyzmq 27.1.0 (libzmq 4.3.5), OpenCV 4.13
"""

import json
import socket
import threading
import time
from pathlib import Path

import numpy as np
import zmq
from lerobot.cameras.zmq import ZMQCamera, ZMQCameraConfig
from lerobot.cameras.zmq.image_server import encode_image

FOLDER = Path(__file__).parent.parent / "crates/drivers/tests/golden"
# What ours says: ZMTP 3.0, NULL, READY of a SUB socket, and after the other's READY a subscription to everything.
READY = b"\x05READY\x0bSocket-Type\x00\x00\x00\x03SUB"
HELLO = b"\xff" + bytes(8) + b"\x7f\x03\x00NULL" + bytes(48) + b"\x04" + bytes([len(READY)]) + READY
SUBSCRIPTION = b"\x00\x01\x01"


def receive(raw: socket.socket, count: int) -> bytes:
    received = b""
    while len(received) < count:
        piece = raw.recv(count - len(received))
        if not piece:
            raise ConnectionError("the publisher closed the connection")
        received += piece
    return received


def main() -> None:
    y, x = np.mgrid[0:24, 0:32]
    picture = np.stack([x * 7, y * 3, 40 + x + y], axis=-1).astype(np.uint8)
    message = json.dumps({"timestamps": {"head_camera": 1700000000.25}, "images": {"head_camera": encode_image(picture)}})

    context = zmq.Context()
    publisher = context.socket(zmq.PUB)
    port = publisher.bind_to_random_port("tcp://127.0.0.1")
    stop = threading.Event()

    def publish() -> None:
        while not stop.is_set():
            publisher.send_string(message)
            time.sleep(0.02)

    thread = threading.Thread(target=publish)
    thread.start()
    with socket.create_connection(("127.0.0.1", port)) as raw:
        raw.settimeout(10)
        raw.sendall(HELLO)
        received = receive(raw, 64 + 27)
        raw.sendall(SUBSCRIPTION)
        framing = 9
        received += receive(raw, framing + len(message))
    shake = 64 + 2 + received[65]
    (FOLDER / "zmq_greeting.bin").write_bytes(received[:shake])
    (FOLDER / "zmq_message.bin").write_bytes(received[shake : shake + framing + len(message)])

    camera = ZMQCamera(ZMQCameraConfig(server_address="127.0.0.1", port=port, camera_name="head_camera", width=32, height=24))
    camera.connect()
    shown = camera.async_read(2000)
    camera.disconnect()
    stop.set()
    thread.join()
    publisher.close(0)
    context.term()
    (FOLDER / "zmq_shown.bin").write_bytes(np.ascontiguousarray(shown).tobytes())
    print(received[:shake], len(message), shown.shape, "as it was taken within", np.abs(shown.astype(int) - picture).max())


if __name__ == "__main__":
    main()
