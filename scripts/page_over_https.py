"""The page over HTTPS, for scripts/check_daemon_page.py: what a browser lets it do more, and that its sockets work there."""

import hashlib
import http.client
import json
import ssl
import urllib.request

from daemon_page import Tab
from daemon_process import Daemon

# What Chromium keeps from pages of http://10.x.
MORE = "[isSecureContext, !!globalThis.VideoDecoder, !!navigator.xr, !!crypto.subtle, !!navigator.wakeLock].every(Boolean)"


def check_certificate(daemon):
    """By OpenSSL, which trusts the authority alone; what the daemon says of itself."""
    authority = urllib.request.urlopen(f"http://127.0.0.1:{daemon.port}/sinew-ca.crt").read()
    trusting = ssl.create_default_context(cadata=authority)
    line = http.client.HTTPSConnection("127.0.0.1", daemon.port, context=trusting, timeout=10)
    line.request("GET", "/api/v1/certificate", headers={"Authorization": f"Bearer {daemon.token}"})
    der = line.sock.getpeercert(binary_form=True)
    told = json.load(line.getresponse())

    def pairs(data):
        return ":".join(f"{byte:02X}" for byte in hashlib.sha256(data).digest())

    assert told["fingerprint"] == pairs(der) and told["authority_fingerprint"] == pairs(authority), told
    try:
        http.client.HTTPSConnection("127.0.0.1", daemon.port, context=ssl.create_default_context(), timeout=10).connect()
    except ssl.SSLCertVerificationError:
        return told
    raise AssertionError("it is trusted by who does not know its authority")


def check_https(browser, room, shots):
    daemon = Daemon(room / "secure", ["--robot", "so101", "--task", "pick-place", "--https"])
    try:
        told = check_certificate(daemon)
        tab = Tab(browser, f"https://127.0.0.1:{daemon.port}", daemon.token)
        assert tab.ask(MORE), "it is no secure context"
        tab.wait("[...document.querySelectorAll('.camera .veil')].every(veil => !veil.textContent)")
        tab.press("Take control")
        daemon.until(lambda state: state["mode"] == "teleop" and state["operator"])
        tab.says("You have control.")
        before = daemon.ask("state")["position"][0]
        tab.page.get_by_role("slider", name="shoulder_pan").focus()
        for _ in range(20):
            tab.key("ArrowRight")
        daemon.until(lambda state: state["position"][0] > before + 0.2)
        tab.page.locator("#stop").click()
        daemon.until(lambda state: state["mode"] == "idle")
        tab.open("Set-up")
        tab.says(told["fingerprint"])
        tab.is_accessible("setup-https")
        tab.shot(shots, "setup-https")
        tab.close()
        # It comes back after it was killed, and the device is still let in.
        daemon.kill()
        daemon.start()
        assert check_certificate(daemon) == told
        tab = Tab(browser, f"https://127.0.0.1:{daemon.port}", daemon.token)
        tab.close()
    finally:
        daemon.close()
