"""A line to a daemon that keeps the time of each image and of its acknowledgement, for scripts/check_daemon_page.py."""

import contextlib
import json
import socket
import threading
import time

STREAM = b"GET /api/v1/cameras/stream "


class Frames:
    """The messages of one way of a WebSocket, out of bytes as they come."""

    def __init__(self):
        self.bytes = bytearray()
        self.is_open = False

    def feed(self, data):
        self.bytes += data
        if not self.is_open:
            end = self.bytes.find(b"\r\n\r\n")
            if end < 0:
                return
            del self.bytes[: end + 4]
            self.is_open = True
        while (message := self.take()) is not None:
            yield message

    def take(self):
        """One whole frame, as its kind and its payload."""
        if len(self.bytes) < 2:
            return None
        kind, masked, length, at = self.bytes[0] & 15, self.bytes[1] & 128, self.bytes[1] & 127, 2
        if length >= 126:
            size = 2 if length == 126 else 8
            if len(self.bytes) < at + size:
                return None
            length, at = int.from_bytes(self.bytes[at : at + size], "big"), at + size
        mask = bytes(self.bytes[at : at + 4]) if masked else bytes(4)
        at += 4 if masked else 0
        if len(self.bytes) < at + length:
            return None
        payload = bytes(self.bytes[at : at + length])
        del self.bytes[: at + length]
        return kind, bytes(byte ^ mask[index % 4] for index, byte in enumerate(payload)) if masked else payload


class Wire:
    """Listens on a port of its own and hands everything on to the daemon's. `sent` has when each image went to the browser and
    how old it was then; `drawn` has when the browser said that it is on the canvas."""

    def __init__(self, port):
        self.daemon = port
        self.images, self.skipped = [], 0
        self.server = socket.create_server(("127.0.0.1", 0))
        self.port = self.server.getsockname()[1]
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        with contextlib.suppress(OSError):
            while True:
                near, _ = self.server.accept()
                threading.Thread(target=self.carry, args=(near,), daemon=True).start()

    def carry(self, near):
        with contextlib.suppress(OSError), near, socket.create_connection(("127.0.0.1", self.daemon)) as far:
            for line in (near, far):
                line.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            first = near.recv(65536)
            is_watched, sent = first.startswith(STREAM), {}
            up, down = Frames(), Frames()

            def upwards(data):
                while data:
                    if is_watched:
                        now = time.monotonic()
                        for kind, payload in up.feed(data):
                            if kind == 1:
                                self.acknowledged(json.loads(payload).get("ack"), sent, now)
                    far.sendall(data)
                    data = near.recv(65536)

            def upwards_to_the_end():
                with contextlib.suppress(OSError):
                    upwards(first)
                with contextlib.suppress(OSError):
                    far.shutdown(socket.SHUT_WR)

            threading.Thread(target=upwards_to_the_end, daemon=True).start()
            while data := far.recv(1 << 20):
                if is_watched:
                    for kind, payload in down.feed(data):
                        if kind == 2:
                            head = json.loads(payload[4 : 4 + int.from_bytes(payload[:4], "little")])
                            sent[head["number"]] = (time.monotonic(), head["age_ms"])
                near.sendall(data)
            with contextlib.suppress(OSError):
                near.shutdown(socket.SHUT_RDWR)

    def acknowledged(self, number, sent, now):
        """The image of that number is on the canvas; those before it that were not are there no more."""
        for older in [other for other in sent if number is not None and other <= number]:
            at, age_ms = sent.pop(older)
            if older == number:
                self.images.append(((now - at) * 1000, age_ms))
            else:
                self.skipped += 1

    def close(self):
        self.server.close()
