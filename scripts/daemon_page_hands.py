"""Teleoperation by hand from the daemon's page, over HTTPS that the browser trusts, for scripts/check_daemon_page.py: a headset, a phone
in AR, a phone's tilt. How far the tool goes is computed from the joints that the daemon reports."""

import base64
import contextlib
import json
import math
import os
import pathlib
import subprocess
import time
import urllib.request

from daemon_page import Tab
from daemon_process import Daemon

HERE = pathlib.Path(__file__).parent
# How far the tool may end from where the hand has sent it, and how far it may go by itself, metres.
OFF_M, STILL_M = 0.008, 0.004
# A pose from which the tool can go each way. The shoulder comes last, or the tool would go through the table.
MIDDLE = [0.0, -0.8, 0.6, 1.2, 0.0, 0.5]
ORDER = [[2, 3, 4, 5, 0], [1]]


def product(a, b):
    (w, x, y, z), (p, q, r, s) = a, b
    return (w * p - x * q - y * r - z * s, w * q + x * p + y * s - z * r, w * r - x * s + y * p + z * q, w * s + x * r - y * q + z * p)


def turned(q, v):
    return product(product(q, (0, *v)), (q[0], -q[1], -q[2], -q[3]))[1:]


class Tool:
    """The tool of a robot whose joints all turn, by its description."""

    def __init__(self, daemon):
        self.daemon = daemon
        description = daemon.ask("robot/description")
        parts = {part["name"]: part for part in description["part"]}
        self.tool = description["tool"][0]
        self.chain, name = [], self.tool["part"]
        while name:
            self.chain.insert(0, (list(parts).index(name), parts[name]))
            name = parts[name].get("parent")

    def at(self, state=None):
        position = (state or self.daemon.ask("state"))["position"]
        place, turn = (0, 0, 0), (1, 0, 0, 0)
        frames = [(part.get("parent_from_part"), part.get("axis", [0, 0, 1]), position[index]) for index, part in self.chain]
        for pose, axis, angle in [*frames, (self.tool["part_from_tool"], [0, 0, 1], 0)]:
            if pose:
                place = tuple(a + b for a, b in zip(place, turned(turn, pose["translation_m"])))
                turn = product(turn, pose["rotation_wxyz"])
            length = math.hypot(*axis)
            turn = product(turn, (math.cos(angle / 2), *(math.sin(angle / 2) * value / length for value in axis)))
        return place

    def rest(self, tab):
        last = self.at()
        while True:
            tab.page.wait_for_timeout(150)
            now = self.at()
            if math.dist(now, last) < 5e-4:
                return now
            last = now


@contextlib.contextmanager
def trusting(playwright, daemon, room):
    """A browser that trusts the daemon's authority, as a phone does on which it was installed. Nothing is ignored."""
    home = room / "home"
    store = home / ".pki/nssdb"
    store.mkdir(parents=True)
    authority = room / "sinew-ca.crt"
    authority.write_bytes(urllib.request.urlopen(f"http://127.0.0.1:{daemon.port}/sinew-ca.crt").read())
    certutil = os.environ.get("CERTUTIL", "certutil")
    text = authority.read_bytes()
    if not text.startswith(b"-----"):
        authority.write_text("-----BEGIN CERTIFICATE-----\n" + base64.encodebytes(text).decode() + "-----END CERTIFICATE-----\n")
    for words in (["-N", "--empty-password"], ["-A", "-n", "sinew", "-t", "C,,", "-i", str(authority), "-a"]):
        subprocess.run([certutil, "-d", f"sql:{store}", *words], check=True)
    browser = playwright.chromium.launch(executable_path=os.environ.get("CHROMIUM") or None, args=["--no-sandbox", "--enable-unsafe-swiftshader"], env={**os.environ, "HOME": str(home)})
    try:
        yield browser
    finally:
        browser.close()


def lead(tab, daemon, is_covered=False):
    """Has control, also where this machine was too busy for the dead-man's 300 ms."""
    while True:
        if tab.page.get_by_role("button", name="Take control").is_visible():
            if is_covered:
                tab.ask("[...document.querySelectorAll('.driver button')].find(button => button.textContent === 'Take control').click()")
            else:
                tab.press("Take control")
        with contextlib.suppress(AssertionError):
            daemon.until(lambda state: state["mode"] == "teleop" and state["armed"] and state["operator"], 5)
            return


def opened(browser, daemon, device, **size):
    """A page with control and its arm in the middle, on the way of the tool."""
    scripts = {
        None: ["Object.defineProperty(navigator, 'xr', { value: undefined })"],
        "headset": ["globalThis.EMULATED = 'headset'", pathlib.Path(os.environ["IWER"]).read_text(), (HERE / "emulated_xr.js").read_text()],
        "phone": ["globalThis.EMULATED = 'phone'", pathlib.Path(os.environ["IWER"]).read_text(), (HERE / "emulated_xr.js").read_text()],
    }[device]
    # Immersive sessions draw no page. Here the page is there all the same, and its pictures keep this machine busy.
    scripts.append("globalThis.Worker = class extends Worker { constructor(file) { super(file); if (file.startsWith('camera')) this.terminate(); } }")
    tab = Tab(browser, f"https://127.0.0.1:{daemon.port}", daemon.token, trusted=True, scripts=scripts, **size)
    # A machine that opens a page is busy for longer than the dead-man.
    tab.page.wait_for_timeout(1500)
    lead(tab, daemon)
    for joints in ORDER:
        end = time.monotonic() + 30
        while any(abs(daemon.ask("state")["position"][index] - MIDDLE[index]) > 0.1 for index in joints):
            assert time.monotonic() < end, daemon.ask("state")
            lead(tab, daemon)
            tab.ask("all => all.forEach(([index, goal]) => { const slider = document.querySelectorAll('.slider input')[index]; slider.value = goal; slider.dispatchEvent(new Event('input')); })", [[index, MIDDLE[index]] for index in joints])
            tab.page.wait_for_timeout(100)
    tab.press("Tool")
    return tab


def check_goes(tab, tool, name, way, expected, again=None):
    """The hand goes by `way` (right, up, back), and the tool by `expected` (ahead, left, up)."""
    again = again or (lambda: (squeeze(tab, name, 0), squeeze(tab, name, 1)))
    for _ in range(8):
        before = tool.rest(tab)
        tab.ask("([name, way, ms]) => xr.glide(name, way, ms)", [name, way, 700])
        tab.page.wait_for_timeout(700)
        moved = [b - a for a, b in zip(before, tool.at())]
        off = math.dist(moved, expected)
        if off < OFF_M or not any(words in tab.ask("document.querySelector('.xr > p').textContent") for words in ("hold again", "no control", "could lead")):
            break
        # This machine was so busy that a picture came late, or control was lost: the hold is over, as it should be. Back, and once more.
        tab.ask("([name, way]) => xr.glide(name, way, 0)", [name, [-value for value in way]])
        lead(tab, tool.daemon, True)
        tab.page.wait_for_timeout(500)
        again()
    print(f"  {name} by {way}: the tool went {[round(value * 1000) for value in moved]} mm, {off * 1000:.1f} mm off")
    assert off < OFF_M, (name, way, moved, expected)


def check_still(tab, tool, what, name, way=(0, 0.06, 0)):
    before = tool.at()
    tab.ask("([name, way, ms]) => xr.glide(name, way, ms)", [name, list(way), 300])
    tab.page.wait_for_timeout(500)
    moved = math.dist(before, tool.at())
    assert moved < STILL_M, f"{what}: the tool went {moved * 1000:.1f} mm"


def squeeze(tab, hand, value):
    tab.ask("([hand, value]) => xr.press(hand, 'squeeze', value)", [hand, value])
    tab.page.wait_for_timeout(120)


def check_headset(browser, daemon, shots):
    tab, tool = opened(browser, daemon, "headset", width=390, height=844), Tool(daemon)
    # Closed from the beginning: nothing.
    squeeze(tab, "right", 1)
    tab.press("Drive in AR")
    tab.wait("Boolean(xr.device.activeSession)")
    tab.page.wait_for_timeout(300)
    tool.rest(tab)
    check_still(tab, tool, "a hand that was closed from the beginning", "right")
    squeeze(tab, "right", 0)
    check_still(tab, tool, "an open hand", "right")
    squeeze(tab, "right", 1)
    check_goes(tab, tool, "right", [0, 0.05, 0], [0, 0, 0.05])
    check_goes(tab, tool, "right", [-0.04, 0, 0], [0, 0.04, 0])
    check_goes(tab, tool, "right", [0, 0, 0.04], [-0.04, 0, 0])
    squeeze(tab, "right", 0)
    check_still(tab, tool, "let go", "right")
    # Who looks to the left has ahead there, and a hand may be turned as it likes.
    tab.ask("xr.point('viewer', 90, -30); xr.point('right', 40, 60)")
    tab.page.wait_for_timeout(100)
    squeeze(tab, "right", 1)
    check_goes(tab, tool, "right", [-0.03, 0, 0], [0.03, 0, 0])
    check_goes(tab, tool, "right", [0.03, -0.04, 0], [-0.03, 0, -0.04])
    # The other hand takes over when this one lets go, and not before.
    squeeze(tab, "left", 1)
    check_still(tab, tool, "the other hand", "left")
    for lost in ("null", "emulated"):
        tab.ask("lost => { xr.lost = lost; }", lost)
        tab.page.wait_for_timeout(150)
        check_still(tab, tool, f"lost ({lost})", "right")
        tab.ask("xr.lost = ''")
        check_still(tab, tool, f"found again ({lost})", "right", (0, -0.06, 0))
        squeeze(tab, "right", 0)
        squeeze(tab, "left", 0)
        squeeze(tab, "right", 1)
        check_goes(tab, tool, "right", [0.02, 0, 0], [-0.02, 0, 0])
    # A jump of the tracker, a picture that comes late, a controller that is switched off, a session that the system hides.
    def jump():
        tab.ask("xr.device.controllers.right.position.y += 1")
        tab.page.wait_for_timeout(100)

    def off():
        tab.ask("xr.device.controllers.right.connected = false")
        tab.page.wait_for_timeout(100)
        tab.ask("xr.device.controllers.right.connected = true")

    def late():
        tab.ask("xr.late_ms = 600")
        tab.page.wait_for_timeout(700)

    def hidden():
        tab.ask("xr.device.updateVisibilityState('visible-blurred')")
        tab.page.wait_for_timeout(150)
        tab.ask("xr.device.updateVisibilityState('visible')")

    for happens in (jump, off, late, hidden):
        happens()
        check_still(tab, tool, happens.__name__, "right")
        squeeze(tab, "right", 0)
        squeeze(tab, "right", 1)
        check_goes(tab, tool, "right", [0, 0.02, 0], [0, 0, 0.02])
        squeeze(tab, "right", 0)
        squeeze(tab, "right", 1)
        check_goes(tab, tool, "right", [0, -0.02, 0], [0, 0, -0.02])
        tab.page.locator("#alarm").get_by_role("button", name="Close").first.click(force=True) if tab.page.locator("#alarm .trouble").count() else None
    # The trigger closes, A opens.
    jaw = daemon.ask("state")["position"][5]
    tab.ask("xr.press('right', 'trigger', 1)")
    daemon.until(lambda state: state["position"][5] < jaw - 0.1)
    tab.ask("xr.press('right', 'trigger', 0); xr.press('right', 'a-button', 1)")
    daemon.until(lambda state: state["position"][5] > jaw)
    tab.ask("xr.press('right', 'a-button', 0)")
    # The session ends by itself.
    tab.ask("xr.device.activeSession.end()")
    check_still(tab, tool, "a session that ended", "right")
    tab.wait("!document.querySelector('.xr')")
    assert daemon.ask("state")["operator"], "control was lost with the session"
    # B stops.
    squeeze(tab, "right", 0)
    tab.press("Drive in AR")
    tab.wait("Boolean(xr.device.activeSession)")
    tab.page.wait_for_timeout(200)
    squeeze(tab, "right", 1)
    check_goes(tab, tool, "right", [0, 0.02, 0], [0, 0, 0.02])
    tab.ask("xr.press('right', 'b-button', 1)")
    daemon.until(lambda state: state["mode"] == "idle")
    tab.wait("!xr.device.activeSession")
    tab.shot(shots, "hand-headset-after")
    # A hidden page gives control back, and ends the session.
    tab.ask("xr.press('right', 'b-button', 0); xr.press('right', 'squeeze', 0)")
    tab.press("End and give back") if tab.page.get_by_role("button", name="End and give back").is_visible() else None
    tab.press("Drive in AR")
    tab.wait("Boolean(xr.device.activeSession)")
    daemon.until(lambda state: state["mode"] == "teleop" and state["armed"])
    tab.page.wait_for_timeout(300)
    squeeze(tab, "right", 1)
    check_goes(tab, tool, "right", [0, 0.02, 0], [0, 0, 0.02])
    tab.ask("Object.defineProperty(document, 'hidden', { value: true, configurable: true }); document.dispatchEvent(new Event('visibilitychange'))")
    daemon.until(lambda state: state["operator"] is None)
    check_still(tab, tool, "a hidden page", "right")
    tab.wait("!xr.device.activeSession")
    tab.ask("delete document.hidden; document.dispatchEvent(new Event('visibilitychange'))")
    daemon.ask("stop", {"stop": "now"})
    daemon.until(lambda state: state["mode"] == "idle")
    tab.close(but=["409"])


@contextlib.contextmanager
def pressed(tab, locator):
    box = locator.bounding_box()
    tab.page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    tab.page.mouse.down()
    tab.page.wait_for_timeout(150)
    try:
        yield
    finally:
        tab.page.mouse.up()
        tab.page.wait_for_timeout(100)


def check_phone(browser, daemon, shots):
    """A phone in AR: the button on its screen is held, and the phone is moved."""
    tab, tool = opened(browser, daemon, "phone", width=390, height=844), Tool(daemon)
    tab.is_accessible("tool on a phone")
    tab.page.locator(".by-tool").scroll_into_view_if_needed()
    tab.shot(shots, "hand-phone-page")
    # Held as one looks through it: upright, a little down.
    tab.ask("xr.point('viewer', 0, -30)")
    tab.press("Drive in AR")
    tab.wait("Boolean(xr.device.activeSession)")
    move = tab.page.get_by_role("button", name="Hold to move")
    # The emulator's own element is in no landmark.
    tab.ask("document.querySelector('[data-webxr_runtime]').setAttribute('role', 'region'); document.querySelector('[data-webxr_runtime]').setAttribute('aria-label', 'Emulator')")
    tab.is_accessible("the phone's overlay")
    check_still(tab, tool, "a phone whose button nobody holds", "viewer")
    again = lambda: (tab.page.mouse.up(), tab.page.wait_for_timeout(150), tab.page.mouse.down(), tab.page.wait_for_timeout(150))  # noqa: E731
    with pressed(tab, move):
        check_goes(tab, tool, "viewer", [0, 0.05, 0], [0, 0, 0.05], again)
        tab.shot(shots, "hand-phone-drives")
        check_goes(tab, tool, "viewer", [0.04, 0, 0], [0, -0.04, 0], again)
        tab.ask("xr.lost = 'null'")
        tab.page.wait_for_timeout(150)
        tab.shot(shots, "hand-phone-lost")
        check_still(tab, tool, "a phone that lost where it is", "viewer")
        tab.ask("xr.lost = ''")
        check_still(tab, tool, "a phone that has found where it is", "viewer")
    check_still(tab, tool, "let go", "viewer")
    with pressed(tab, move):
        check_goes(tab, tool, "viewer", [-0.02, -0.03, 0], [0, 0.02, -0.03], again)
    jaw = daemon.ask("state")["position"][5]
    with pressed(tab, tab.page.get_by_role("button", name="Open", exact=True)):
        daemon.until(lambda state: state["position"][5] > jaw + 0.1)
    with pressed(tab, move):
        # Who takes the session's stop has it at once.
        tab.ask("document.querySelector('.xr .big-stop').dispatchEvent(new PointerEvent('pointerdown', { bubbles: true, cancelable: true }))")
        daemon.until(lambda state: state["mode"] == "idle")
    tab.wait("!xr.device.activeSession && !document.querySelector('.xr')")
    tab.close(but=["409"])


def check_tilt(browser, daemon, shots):
    """A phone without AR: sticks move the tool, and it turns as the phone is tilted."""
    tab, tool = opened(browser, daemon, None, width=390, height=844), Tool(daemon)
    tilts = tab.context.new_cdp_session(tab.page)

    def tilt(alpha, beta, gamma):
        tilts.send("DeviceOrientation.setDeviceOrientationOverride", {"alpha": alpha, "beta": beta, "gamma": gamma})
        tab.page.wait_for_timeout(60)

    tilt(30, 20, 0)
    tab.says("This browser has no AR.")
    tab.press("Use the phone's tilt")
    turn = tab.page.get_by_role("button", name="Hold to turn by tilting")
    turn.wait_for()
    turn.scroll_into_view_if_needed()
    tab.shot(shots, "hand-tilt")
    before = tool.rest(tab)
    box = tab.page.locator(".by-tool .stick").first.bounding_box()
    middle = (box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    tab.page.mouse.move(*middle)
    tab.page.mouse.down()
    tab.page.mouse.move(middle[0] - box["width"] / 3, middle[1])
    end = 5
    while tool.at()[1] < before[1] + 0.02 and end > 0:
        tab.page.wait_for_timeout(50)
        end -= 0.05
    tab.page.mouse.up()
    moved = [b - a for a, b in zip(before, tool.rest(tab))]
    print(f"  stick to the left: the tool went {[round(value * 1000) for value in moved]} mm")
    assert moved[1] > 0.02 and abs(moved[0]) < 0.01 and abs(moved[2]) < 0.01, moved
    roll = daemon.ask("state")["position"][4]
    for gamma in range(0, 45, 5):
        tilt(30, 20, gamma)
    assert abs(daemon.ask("state")["position"][4] - roll) < 0.02, "it turns though nobody holds the button"
    tilt(30, 20, 0)
    before = tool.rest(tab)
    with pressed(tab, turn):
        for gamma in range(0, 45, 5):
            tilt(30, 20, gamma)
        tab.page.wait_for_timeout(1500)
    state = daemon.ask("state")
    print(f"  tilted by 40° to the right: wrist_roll went {math.degrees(state['position'][4] - roll):.0f}°, the tool {math.dist(before, tool.at()) * 1000:.0f} mm")
    # The phone turns about an axis 20° above ahead, and the wrist's points some 47° down: it can follow by cos(67°) of the 40°.
    assert 10 < abs(math.degrees(state["position"][4] - roll)) < 20, (roll, state["position"])
    assert math.dist(before, tool.at()) < 0.02
    rest = daemon.ask("state")["position"][4]
    tilt(30, 20, 0)
    tab.page.wait_for_timeout(400)
    assert abs(daemon.ask("state")["position"][4] - rest) < 0.03, "it turns on after it was let go"
    tab.key("Escape")
    daemon.until(lambda state: state["mode"] == "idle")
    # What Chromium says of the angles that it is given.
    tab.close(but=["A reload is required"])


def check_plain(browser, port, token):
    """A page that is no secure context says what to open instead."""
    tab = Tab(browser, port, token, width=390, height=844, scripts=["Object.defineProperty(globalThis, 'isSecureContext', { value: false })"])
    tab.press("Tool")
    tab.says("AR, VR and tilt need HTTPS.")
    tab.says(f"https://127.0.0.1:{port}")
    tab.close()


def check_hands(playwright, room, shots):
    daemon = Daemon(room / "hands", ["--robot", "so101", "--task", "pick-place", "--https"])
    try:
        with trusting(playwright, daemon, room / "hands") as browser:
            check_plain(browser, daemon.port, daemon.token)
            for check in (check_headset, check_phone, check_tilt):
                check(browser, daemon, shots)
                print(f"  {check.__name__} is good", flush=True)
        said = json.dumps(daemon.ask("log?after=0"))
        assert "panicked" not in said and "failed" not in said, said
    finally:
        daemon.close()
