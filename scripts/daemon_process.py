"""`sinew daemon` in a folder of its own, for scripts that ask it as programs do. $SINEW names the program."""

import contextlib
import json
import os
import signal
import socket
import subprocess
import time
import urllib.error
import urllib.request


class Daemon:
    """A daemon of this robot, which is options of the command line."""

    def __init__(self, room, robot, environment=None):
        self.room, self.robot, self.environment = room, robot, environment
        room.mkdir(exist_ok=True)
        self.port = self.free_port()
        self.state = room / "state"
        self.token = self.sinew("daemon", "token").stdout.strip().split("t=")[-1].split()[-1]
        self.start()

    @staticmethod
    def free_port():
        with socket.create_server(("127.0.0.1", 0)) as free:
            return free.getsockname()[1]

    def sinew(self, *args):
        return subprocess.run([os.environ["SINEW"], *args, "--state", str(self.state)], check=True, capture_output=True, text=True, cwd=self.room, env=self.environment)

    def start(self):
        log = open(self.room / "daemon.log", "ab")
        command = ["daemon", *self.robot, "--state", self.state, "--listen", f"127.0.0.1:{self.port}"]
        self.process = subprocess.Popen([os.environ["SINEW"], *map(str, command)], cwd=self.room, env=self.environment, stdout=log, stderr=log)
        end = time.monotonic() + 60
        while True:
            with contextlib.suppress(OSError):
                urllib.request.urlopen(f"http://127.0.0.1:{self.port}/healthz").read()
                return
            assert self.process.poll() is None and time.monotonic() < end, (self.room / "daemon.log").read_text()
            time.sleep(0.05)

    def ask(self, path, body=None, headers=None):
        """What the daemon says to its owner, beside the page."""
        headers = {"Authorization": f"Bearer {self.token}", "Content-Type": "application/json", **(headers or {})}
        data = None if body is None else json.dumps(body).encode()
        try:
            return json.load(urllib.request.urlopen(urllib.request.Request(f"http://127.0.0.1:{self.port}/api/v1/{path}", data, headers)))
        except urllib.error.HTTPError as refused:
            raise AssertionError(f"{path} {body}: {refused.code} {refused.read().decode()}") from None

    def until(self, so, seconds=60):
        end = time.monotonic() + seconds
        while not so(state := self.ask("state")):
            assert time.monotonic() < end, state
            time.sleep(0.03)
        return state

    def kill(self):
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()

    def close(self):
        self.process.terminate()
        self.process.wait(30)
