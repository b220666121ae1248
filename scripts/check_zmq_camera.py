"""Has Sinew look at pictures that LeRobot's image server would send: its own encoder behind a PUB socket of pyzmq, with a number in
each picture.

    cargo build --release -p sinew-drivers --example look_through
    python scripts/check_zmq_camera.py target/release/examples/look_through        # LeRobot 0.6.1, pyzmq 27.1.0
"""

import json
import re
import subprocess
import sys
import threading
import time

import numpy as np
import zmq
from lerobot.cameras.zmq.image_server import encode_image


def numbered(number: int) -> np.ndarray:
    picture = np.zeros((240, 320, 3), np.uint8)
    picture[:, :, 0] = 200
    for bit in range(32):
        picture[:15, bit * 10 : bit * 10 + 10] = 255 if number >> (31 - bit) & 1 else 0
    return picture


def main() -> None:
    publisher = zmq.Context().socket(zmq.PUB)
    publisher.setsockopt(zmq.LINGER, 0)
    port = publisher.bind_to_random_port("tcp://127.0.0.1")
    stop = threading.Event()

    def publish() -> None:
        number = 0
        while not stop.is_set():
            images = {"head_camera": encode_image(numbered(number)), "other": encode_image(numbered(0))}
            publisher.send_string(json.dumps({"timestamps": dict.fromkeys(images, time.time()), "images": images}))
            number += 1
            time.sleep(1 / 30)

    thread = threading.Thread(target=publish)
    thread.start()
    try:
        address = f"head=zmq://127.0.0.1:{port}/head_camera,320x240@30"
        answer = subprocess.run([sys.argv[1], address, "5"], capture_output=True, text=True, timeout=60, check=False)
    finally:
        stop.set()
        thread.join()
    print(answer.stdout, answer.stderr, sep="")
    seen, counted = map(int, re.search(r"(\d+) images, (\d+) of them numbered", answer.stdout).groups())
    assert answer.returncode == 0 and seen > 80 and counted == seen, "expected about 30 numbered images a second"
    print("fine")


if __name__ == "__main__":
    main()
