"""Programs that watch a daemon over its WebSockets, as pages do. Needs the package websockets (17.4 was tried)."""

import contextlib
import json
import threading

from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect


class Socket:
    """One of a daemon's sockets, read by a thread of its own until it is closed."""

    def __init__(self, daemon, path, **first):
        headers = {"Authorization": f"Bearer {daemon.token}"}
        self.socket = connect(f"ws://127.0.0.1:{daemon.port}/api/v1/{path}", additional_headers=headers, max_size=None, compression=None)
        self.socket.send(json.dumps(first))
        welcome = json.loads(self.socket.recv(10))
        assert welcome["type"] == "welcome", welcome
        self.messages = 0
        self.thread = threading.Thread(target=self.read, daemon=True)
        self.thread.start()

    def read(self):
        with contextlib.suppress(ConnectionClosed):
            for message in self.socket:
                self.messages += 1
                self.take(message)

    def take(self, message):
        """What it does with a message. The last one may say why the daemon ends the socket."""

    def close(self):
        self.socket.close()
        self.thread.join()


class Cameras(Socket):
    """All cameras, each image acknowledged as a page does that has drawn it."""

    def take(self, message):
        if isinstance(message, str):
            return
        length = int.from_bytes(message[:4], "little")
        head = json.loads(message[4 : 4 + length])
        with contextlib.suppress(ConnectionClosed):
            self.socket.send(json.dumps({"ack": head["number"]}))


class Viewer:
    """What one page opens to look: states at 30 Hz, and all cameras."""

    def __init__(self, daemon):
        self.sockets = [Socket(daemon, "state/stream", rate_hz=30), Cameras(daemon, "cameras/stream", rate_hz=30)]

    def messages(self):
        return [socket.messages for socket in self.sockets]

    def close(self):
        for socket in self.sockets:
            socket.close()


class Operator(Socket):
    """Has the lease and sends the same goals 30 times a second until it is closed."""

    def __init__(self, daemon, goals):
        self.lease, self.answered, self.ended, self.goals = None, threading.Event(), threading.Event(), goals
        super().__init__(daemon, "command")
        self.socket.send(json.dumps({"type": "take"}))
        assert self.answered.wait(5) and self.lease, "the lease was not given"
        self.sender = threading.Thread(target=self.send, daemon=True)
        self.sender.start()

    def take(self, message):
        said = json.loads(message)
        if said["type"] in ("lease", "refused"):
            self.lease = said.get("lease")
            self.answered.set()

    def send(self):
        number = 0
        with contextlib.suppress(ConnectionClosed):
            while not self.ended.wait(1 / 30):
                number += 1
                self.socket.send(json.dumps({"type": "goals", "goals": self.goals, "number": number}))

    def close(self):
        self.ended.set()
        self.sender.join()
        super().close()
