"""Devices with the daemon's page, for scripts/check_daemon_page.py."""

import contextlib
import json
import os
import pathlib
import time
from urllib.parse import urlparse

from playwright.sync_api import Error as Navigating


class Tab:
    """A device with the page, and all that it complains about or asks for. Of a daemon at a port of this machine, or at an address."""

    def __init__(self, browser, place, token=None, width=1440, height=900, scheme="light", still=False, trusted=False, scripts=()):
        self.origin = place if isinstance(place, str) else f"http://127.0.0.1:{place}"
        self.context = browser.new_context(ignore_https_errors=self.origin.startswith("https:") and not trusted, viewport={"width": width, "height": height}, color_scheme=scheme, has_touch=width < 900, reduced_motion="reduce" if still else "no-preference")
        for script in scripts:
            self.context.add_init_script(script)
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
