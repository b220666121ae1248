"""A daemon of its own and devices with its page, for scripts/check_daemon_page.py."""

import contextlib
import json
import os
import pathlib
import signal
import socket
import subprocess
import time
import urllib.error
import urllib.request
from urllib.parse import urlparse

from playwright.sync_api import Error as Navigating


class Daemon:
    """`sinew daemon` of a robot, in a folder of its own."""

    def __init__(self, room, robot, environment=None):
        self.room, self.robot, self.environment = room, robot, environment
        room.mkdir(exist_ok=True)
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port = free.getsockname()[1]
        self.state = room / "state"
        self.token = self.sinew("daemon", "token").stdout.strip().split("t=")[-1].split()[-1]
        self.start()

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

    def ask(self, path, body=None):
        """What the daemon says to its owner, beside the page."""
        headers = {"Authorization": f"Bearer {self.token}", "Content-Type": "application/json"}
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


class Tab:
    """A device with the page, and all that it complains about or asks for. Of a daemon at a port of this machine, or at an address."""

    def __init__(self, browser, place, token=None, width=1440, height=900, scheme="light", still=False):
        self.origin = place if isinstance(place, str) else f"http://127.0.0.1:{place}"
        self.context = browser.new_context(ignore_https_errors=self.origin.startswith("https:"), viewport={"width": width, "height": height}, color_scheme=scheme, has_touch=width < 900, reduced_motion="reduce" if still else "no-preference")
        self.page = self.context.new_page()
        self.page.set_default_timeout(60000)
        self.complaints, self.requests = [], []
        # Reading the picture of a WebGL canvas is slow, says the driver of a machine without graphics.
        self.page.on("console", lambda message: "GPU stall" in message.text or self.complaints.append(f"{message.type}: {message.text}"))
        self.page.on("pageerror", lambda error: self.complaints.append(f"error: {error}"))
        self.page.on("request", lambda request: self.requests.append(request.url))
        self.page.goto(f"{self.origin}/" + (f"#t={token}" if token else ""))
        if token:
            self.wait("document.querySelector('#link').textContent === 'Connected'")

    def ask(self, script, *args):
        return self.page.evaluate(script, *args)

    def wait(self, condition, seconds=60):
        """Until that is so; playwright's own way is what the page's content security policy forbids."""
        end = time.monotonic() + seconds
        while True:
            # A page that is just loaded anew has nothing to say.
            with contextlib.suppress(Navigating):
                if self.ask(condition):
                    return
            assert time.monotonic() < end, f"never was so: {condition}"
            self.page.wait_for_timeout(20)

    def open(self, view):
        self.page.get_by_role("navigation", name="Views").get_by_role("link", name=view).click()
        self.wait(f"document.querySelector('h1').textContent === '{view}'")

    def press(self, name, **more):
        self.page.get_by_role("button", name=name, **more).first.click()

    def says(self, words, seconds=60):
        self.wait(f"document.body.innerText.includes({json.dumps(words)})", seconds)

    def key(self, key):
        self.page.keyboard.press(key)

    def status(self):
        return self.page.locator("#status").inner_text()

    def shot(self, shots, name):
        if shots:
            shots.mkdir(parents=True, exist_ok=True)
            self.page.screenshot(path=str(shots / f"{name}.png"))

    def is_accessible(self, where):
        self.ask(pathlib.Path(os.environ["AXE"]).read_text())
        faults = self.ask("axe.run(document, { resultTypes: ['violations'] }).then(found => found.violations.map(v => [v.id, v.impact, v.help, v.nodes.map(n => n.html.slice(0, 160)).slice(0, 3)]))")
        assert not faults, (where, faults)

    def is_clean(self, but=()):
        complaints = [words for words in self.complaints if not any(part in words for part in but)]
        assert not complaints, complaints
        strange = {url for url in self.requests if urlparse(url).netloc != urlparse(self.origin).netloc}
        assert not strange, strange

    def close(self, but=()):
        self.is_clean(but)
        self.context.close()
