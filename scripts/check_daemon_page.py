"""What scripts/check_daemon_page.sh does, with playwright: see there."""

import argparse
import json
import os
import pathlib
import statistics
import time

from daemon_page import Tab
from daemon_page_hands import check_hands
from daemon_page_setup import check_calibration, check_publishing
from daemon_process import Daemon
from daemon_wire import Wire
from emulated import Bench
from page_over_https import check_https
from playwright.sync_api import sync_playwright

VIEWS = ["Drive", "Record", "Policies", "Datasets", "Set-up", "Log"]
SIZES = [("phone", 390, 844), ("tablet", 820, 1180), ("desktop", 1440, 900)]
CANVAS_P95_MS = 60


def joint(daemon, index):
    return daemon.ask("state")["position"][index]


def check_door(browser, daemon, shots):
    """A device without a token is let in by six digits, and out again."""
    tab = Tab(browser, daemon.port, width=390, height=844)
    tab.says("Pair this device")
    assert not tab.page.locator("#stop").is_visible()
    tab.is_accessible("door")
    tab.shot(shots, "door-phone")
    code = daemon.ask("pairing", {"role": "look"})["code"]
    tab.page.get_by_label("Six digits").fill("12")
    tab.press("Pair")
    tab.says("The code has six digits.")
    tab.page.get_by_label("Six digits").fill(f"{(int(code) + 1) % 10**6:06}")
    tab.press("Pair")
    tab.wait("!document.querySelector('.banner').hidden && !document.querySelector('.banner').textContent.includes('six digits.')")
    tab.page.get_by_label("Six digits").fill(code)
    tab.page.get_by_label("Name of this device").fill("tablet <b>")
    tab.key("Enter")
    tab.wait("document.querySelector('#link').textContent === 'Connected'")
    # Who looks may stop, and nothing else.
    tab.says("This device may look and stop.")
    daemon.ask("work", {"kind": "rollout", "seconds": 60})
    daemon.until(lambda state: state["mode"] == "rollout")
    assert tab.page.get_by_role("button", name="Keep").count() == 0
    tab.page.locator(".big-stop").click()
    daemon.until(lambda state: state["mode"] == "idle")
    tab.page.reload()
    tab.wait("document.querySelector('#link').textContent === 'Connected'")
    owner = Tab(browser, daemon.port, daemon.token)
    owner.open("Set-up")
    owner.says("tablet <b>")
    owner.press("Revoke tablet <b>")
    owner.says("No other device is paired.")
    tab.page.reload()
    tab.says("Pair this device")
    tab.close(but=["401", "403"])
    owner.close()


def check_token(browser, daemon):
    """The token in the address is kept, and leaves the address."""
    tab = Tab(browser, daemon.port, daemon.token)
    assert daemon.token not in tab.page.url, tab.page.url
    tab.page.reload()
    tab.wait("document.querySelector('#link').textContent === 'Connected'")
    headers = tab.page.goto(tab.page.url).headers
    assert "default-src 'self'" in headers["content-security-policy"], headers
    tab.close()
    wrong = Tab(browser, daemon.port)
    wrong.page.goto(f"{wrong.origin}/#t=wrong")
    wrong.says("Pair this device")
    wrong.close(but=["401"])


PIXELS = """selector => { const source = document.querySelector(selector), canvas = document.createElement("canvas"), context = canvas.getContext("2d");
  [canvas.width, canvas.height] = [64, 48]; context.drawImage(source, 0, 0, 64, 48); return [...context.getImageData(0, 0, 64, 48).data]; }"""
# What WebGL has drawn is gone at the next picture of the screen, unless it is read in the same turn.
ARM_PIXELS = f"""new Promise(done => {{ const canvas = document.querySelector(".arm canvas"); canvas.dispatchEvent(new KeyboardEvent("keydown", {{ key: "ArrowLeft" }}));
  canvas.dispatchEvent(new KeyboardEvent("keydown", {{ key: "ArrowRight" }})); done(({PIXELS})(".arm canvas")); }})"""


def apart(one, other):
    return sum(abs(a - b) for a, b in zip(one, other)) / len(one)


def has_control(tab):
    return not tab.page.get_by_role("button", name="Take control").is_visible()


def control(tab, daemon):
    """Has control, also where this machine was too busy for the dead-man's 300 ms."""
    if not has_control(tab):
        tab.press("Take control")
    daemon.until(lambda state: state["operator"])


def check_drive(browser, daemon, shots):
    tab = Tab(browser, daemon.port, daemon.token)
    page = tab.page
    tab.wait("[...document.querySelectorAll('.camera .veil')].every(veil => !veil.textContent)")
    for camera in (1, 2):
        pixels = tab.ask(PIXELS, f".camera:nth-child({camera}) canvas")
        assert len(set(pixels)) > 20, "the camera's image is of one colour"
    tab.wait("document.querySelector('.arm canvas') && !document.querySelector('.arm .veil')")
    still = tab.ask(ARM_PIXELS)
    assert any(still), "the arm is not drawn"
    # Opened now: a machine that opens a page is busy for longer than the dead-man.
    other = Tab(browser, daemon.port, daemon.token)
    other.page.wait_for_timeout(1000)
    # By keyboard alone: control is taken, a slider moved.
    page.get_by_role("button", name="Take control").focus()
    tab.key("Enter")
    daemon.until(lambda state: state["mode"] == "teleop" and state["operator"])
    tab.says("You have control.")
    before = joint(daemon, 0)
    page.get_by_role("slider", name="shoulder_pan").focus()
    for _ in range(20):
        tab.key("ArrowRight")
    daemon.until(lambda state: state["position"][0] > before + 0.2)
    assert "°" in page.get_by_role("slider", name="shoulder_pan").get_attribute("aria-valuetext")
    assert apart(still, tab.ask(ARM_PIXELS)) > 0.2, "the arm in 3D did not move"
    tab.shot(shots, "drive-sliders")
    # Nobody else gets control meanwhile.
    def is_refused():
        control(tab, daemon)
        other.press("Take control")
        other.wait("!document.querySelector('.driver button.main').ariaDisabled")
        if has_control(other):
            other.press("End and give back")
            daemon.until(lambda state: state["operator"] is None)
        return "owner has the lease" in other.page.locator("#alarm").inner_text()

    assert any(is_refused() for _ in range(5)), "two pages have control"
    other.open("Log")
    control(tab, daemon)
    page.get_by_role("slider", name="shoulder_pan").focus()
    tab.key("ArrowRight")
    tab.says("ms to the robot and back")
    # A page that is busy for a moment keeps control.
    hang = "ms => { const end = performance.now() + ms; while (performance.now() < end); }"
    tab.ask(hang, 800)
    assert daemon.ask("state")["operator"], "control was lost as the page was busy"
    # Sticks: held they move, let go they stop.
    tab.press("Sticks")
    box = page.locator(".stick").first.bounding_box()
    middle = (box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    before = joint(daemon, 0)
    page.mouse.move(*middle)
    page.mouse.down()
    page.mouse.move(middle[0] - box["width"] / 3, middle[1])
    daemon.until(lambda state: state["position"][0] < before - 0.15)
    tab.shot(shots, "drive-sticks")
    page.mouse.up()
    page.wait_for_timeout(1500)
    rest = joint(daemon, 0)
    page.wait_for_timeout(700)
    assert abs(joint(daemon, 0) - rest) < 0.02, "a stick that was let go still moves the arm"
    # The same by the keys on a stick.
    page.locator(".stick").first.focus()
    page.keyboard.down("ArrowRight")
    daemon.until(lambda state: state["position"][0] > rest + 0.1)
    page.keyboard.up("ArrowRight")
    other.key("Escape")
    daemon.until(lambda state: state["mode"] == "idle")
    other.close(but=["409"])
    # A hidden page gives control back. Chromium without a screen hides none, so the page is told.
    tab.ask("Object.defineProperty(document, 'hidden', { value: true, configurable: true }); document.dispatchEvent(new Event('visibilitychange'))")
    daemon.until(lambda state: state["operator"] is None)
    tab.ask("delete document.hidden; document.dispatchEvent(new Event('visibilitychange'))")
    tab.close()


PAD = """globalThis.pad = { connected: true, mapping: "standard", axes: [0, 0, 0, 0], buttons: Array.from({ length: 17 }, () => ({ pressed: false, value: 0 })) };
  navigator.getGamepads = () => [globalThis.pad];"""


def check_gamepad(browser, daemon):
    """A gamepad moves the arm while a shoulder button is held, and not else."""
    tab = Tab(browser, daemon.port, daemon.token)
    tab.ask(PAD)
    tab.press("Take control")
    daemon.until(lambda state: state["mode"] == "teleop")
    before = joint(daemon, 0)
    tab.ask("pad.axes[0] = 1")
    tab.page.wait_for_timeout(600)
    assert abs(joint(daemon, 0) - before) < 0.02, "the arm moved though no shoulder button was held"
    tab.ask("pad.buttons[4].pressed = true")
    daemon.until(lambda state: state["position"][0] > before + 0.1)
    tab.ask("pad.axes[0] = 0")
    tab.press("End and give back")
    daemon.until(lambda state: state["mode"] == "idle" and state["operator"] is None)
    # A page that hangs loses control.
    tab.press("Take control")
    daemon.until(lambda state: state["operator"])
    tab.ask("setTimeout(() => { const end = performance.now() + 4000; while (performance.now() < end); }, 100)")
    begin = time.monotonic()
    daemon.until(lambda state: state["operator"] is None, 3)
    assert time.monotonic() - begin > 1, "control was lost at once"
    tab.says("Control was lost")
    tab.key("Escape")
    daemon.until(lambda state: state["mode"] == "idle")
    tab.close()


def check_stop(browser, daemon):
    """Space and Escape stop on every view, whatever has the focus."""
    tab = Tab(browser, daemon.port, daemon.token)
    for view in VIEWS:
        for key, focus in ((" ", "#nav a"), ("Escape", "#nav a"), (" ", "main button:not([hidden])")):
            tab.open(view)
            daemon.ask("work", {"kind": "rollout", "seconds": 60})
            daemon.until(lambda state: state["mode"] == "rollout")
            seen = [found for found in tab.page.locator(focus).all() if found.is_visible()]
            if seen:
                seen[0].focus()
            tab.key(key)
            daemon.until(lambda state: state["mode"] == "idle")
    tab.open("Record")
    daemon.ask("work", {"kind": "rollout", "seconds": 60})
    daemon.until(lambda state: state["mode"] == "rollout")
    tab.open("Log")
    tab.page.get_by_role("searchbox").focus()
    tab.page.keyboard.type("a b")
    assert tab.page.get_by_role("searchbox").input_value() == "a b" and daemon.ask("state")["mode"] == "rollout"
    tab.key("Escape")
    daemon.until(lambda state: state["mode"] == "idle")
    # The emergency stays until it is cleared.
    tab.press("Emergency")
    daemon.until(lambda state: state["stop"] == "emergency")
    tab.open("Drive")
    tab.press("Take control")
    tab.wait("document.querySelector('#alarm').textContent !== ''")
    tab.press("Clear the emergency")
    daemon.until(lambda state: state["stop"] != "emergency")
    tab.close(but=["409"])


def check_record(browser, daemon, shots):
    tab = Tab(browser, daemon.port, daemon.token, width=820, height=1180, scheme="dark")
    page = tab.page
    tab.open("Record")
    for label, words in (("Dataset", "cubes"), ("Episodes", "2"), ("Seconds each", "20"), ("Seconds between", "20")):
        page.get_by_label(label, exact=True).fill(words)
    page.get_by_label("Led by").select_option("scripted")
    tab.shot(shots, "record-form")
    tab.press("Start recording")
    daemon.until(lambda state: state["work"] and state["work"]["phase"] == "running" and state["work"]["tick"] > 30)
    clock = "document.querySelector('.clock').textContent.split(':').reduce((sum, part) => sum * 60 + Number(part), 0)"
    tab.wait(f"{clock} > 0")
    first = tab.ask(clock)
    tab.wait(f"{clock} < {first} && {clock} > 0")
    tab.shot(shots, "record-running")
    assert "episode 1 of 2" in page.locator(".work .phase").inner_text()
    page.locator("#main").focus()
    tab.key("k")
    daemon.until(lambda state: state["work"]["phase"] == "resetting")
    tab.says("Set up the next one")
    tab.shot(shots, "record-resetting")
    tab.key("k")
    daemon.until(lambda state: state["work"]["phase"] == "running" and state["work"]["kept"] == 1 and state["work"]["tick"] > 30)
    tab.wait("document.querySelectorAll('.episodes li').length === 1")
    page.locator(".thumb").first.scroll_into_view_if_needed()
    tab.wait("(() => { const canvas = document.querySelector('.thumb'); return canvas.width !== 160 || canvas.height !== 120; })()")
    tab.press("Drop and redo")
    daemon.until(lambda state: state["work"]["phase"] == "resetting" or state["work"]["tick"] < 30)
    if daemon.ask("state")["work"]["phase"] == "resetting":
        tab.key("k")
    daemon.until(lambda state: state["work"]["phase"] == "running" and state["work"]["tick"] > 30)
    tab.press("Keep")
    daemon.until(lambda state: state["mode"] == "idle")
    tab.wait("document.querySelectorAll('.episodes li').length === 2")
    [cubes] = [item for item in daemon.ask("datasets") if item["name"] == "cubes"]
    assert cubes["episodes"] == 2, cubes
    tab.shot(shots, "record-done")
    tab.close()


def check_record_by_page(browser, daemon):
    """An episode that the page itself leads."""
    tab = Tab(browser, daemon.port, daemon.token, width=390, height=844)
    tab.open("Record")
    for label, words in (("Dataset", "mine"), ("Episodes", "1"), ("Seconds each", "30"), ("Seconds between", "0")):
        tab.page.get_by_label(label, exact=True).fill(words)
    tab.page.get_by_label("Led by").select_option("remote")
    tab.press("Start recording")
    daemon.until(lambda state: state["mode"] == "record" and state["operator"] and state["work"]["phase"] == "running")
    before = joint(daemon, 0)
    slider = tab.page.get_by_role("slider", name="shoulder_pan")
    slider.focus()
    for _ in range(15):
        tab.key("ArrowLeft")
    daemon.until(lambda state: state["position"][0] < before - 0.1)
    tab.press("Keep")
    daemon.until(lambda state: state["mode"] == "idle")
    assert [item["episodes"] for item in daemon.ask("datasets") if item["name"] == "mine"] == [1]
    tab.close()


def check_policies(browser, daemon, shots):
    tab = Tab(browser, daemon.port, daemon.token, scheme="dark")
    tab.open("Policies")
    tab.press("Check the demonstration policy")
    tab.says("It fits this robot.", 60)
    tab.shot(shots, "policies-checked")
    tab.press("Run the policy")
    daemon.until(lambda state: state["mode"] == "rollout" and state["work"]["phase"] == "running")
    tab.says("The policy acts")
    tab.shot(shots, "policies-running")
    tab.page.get_by_role("button", name="End", exact=True).click()
    daemon.until(lambda state: state["mode"] == "idle")
    tab.says("The policy's run was stopped before its end")
    tab.page.get_by_label("Episodes").fill("1")
    tab.press("Measure success")
    daemon.until(lambda state: state["mode"] == "eval")
    daemon.until(lambda state: state["mode"] == "idle", 120)
    tab.says("of 1 succeeded")
    tab.page.get_by_label("From the Hub").fill("nobody/nothing at all")
    tab.press("Fetch")
    tab.wait("document.querySelector('#alarm').textContent !== ''")
    tab.close(but=["400"])


def check_datasets(browser, daemon, shots):
    tab = Tab(browser, daemon.port, daemon.token)
    tab.open("Datasets")
    tab.press("cubes")
    tab.wait("document.querySelectorAll('.episodes li').length === 2")
    tab.press("Verify")
    tab.wait("document.querySelector('.tasks .good')", 60)
    tab.press("Replay episode 0")
    daemon.until(lambda state: state["mode"] == "replay")
    daemon.until(lambda state: state["mode"] == "idle", 60)
    tab.says("The replay ended.")
    tab.shot(shots, "datasets-replayed")
    tab.close()


def check_setup_and_log(browser, daemon, shots):
    tab = Tab(browser, daemon.port, daemon.token)
    tab.open("Set-up")
    tab.press("Check the machine")
    tab.wait("document.querySelectorAll('.checks li').length > 5", 60)
    tab.press("Show six digits")
    tab.wait("/^[0-9]{3} [0-9]{3}$/.test(document.querySelector('.digits').textContent)")
    tab.shot(shots, "setup-doctor")
    tab.open("Log")
    tab.wait("document.querySelectorAll('.log > div').length > 1")
    tab.page.get_by_role("searchbox").fill("no line has this")
    assert tab.ask("[...document.querySelectorAll('.log > div')].every(line => line.hidden)")
    tab.page.get_by_role("searchbox").fill("")
    assert tab.ask("[...document.querySelectorAll('.log > div')].every(line => !line.hidden)")
    tab.close()


def check_sizes(browser, daemon, shots):
    """Every view, on every device, in both schemes: nothing is cut off, and axe has nothing to say."""
    for name, width, height in SIZES:
        for scheme in ("light", "dark"):
            tab = Tab(browser, daemon.port, daemon.token, width, height, scheme, still=scheme == "dark")
            for view in VIEWS:
                tab.open(view)
                tab.page.wait_for_timeout(900)
                assert tab.ask("document.documentElement.scrollWidth <= innerWidth && document.querySelector('main').scrollWidth <= document.querySelector('main').clientWidth"), f"{view} scrolls sideways on a {name}"
                tab.ask("[document.documentElement, document.querySelector('main')].forEach(part => part.scrollTo(0, 1e6))")
                stop = tab.page.locator(".big-stop").bounding_box()
                assert stop["height"] >= 56 and stop["width"] >= 200 and stop["y"] >= 0 and stop["y"] + stop["height"] <= height, (view, name, stop)
                tab.ask("[document.documentElement, document.querySelector('main')].forEach(part => part.scrollTo(0, 0))")
                tab.is_accessible(f"{view} on a {name}, {scheme}")
                tab.shot(shots, f"{name}-{scheme}-{view.lower()}")
            tab.close()


def check_lost_line(browser, daemon, shots):
    """The daemon dies under the page, and comes back."""
    tab = Tab(browser, daemon.port, daemon.token)
    tab.press("Take control")
    daemon.until(lambda state: state["mode"] == "teleop")
    daemon.kill()
    tab.wait("document.querySelector('#link').textContent === 'Not connected'", 5)
    tab.says("Control was lost")
    tab.shot(shots, "lost")
    tab.key("Escape")
    tab.says("The stop did not reach the robot.")
    daemon.start()
    begin = time.monotonic()
    tab.wait("document.querySelector('#link').textContent === 'Connected'", 15)
    back_s = time.monotonic() - begin
    tab.close(but=["ERR_CONNECTION", "WebSocket connection", "ERR_EMPTY_RESPONSE", "Failed to load resource"])
    print(f"back {back_s:.1f} s after the daemon")


def check_emulated(browser, room, shots):
    """An arm whose motors are real to the daemon: its wires are a pseudo-terminal."""
    with Bench(os.environ["SINEW"]) as bench:
        motors = bench.emulator("so101", "follower")
        daemon = Daemon(room / "emulated", ["--robot", "so101", "--port", motors.link, "--id", "emulated"], bench.environment)
        try:
            tab = Tab(browser, daemon.port, daemon.token)
            tab.says("This robot has no cameras.")
            assert not any(motors.torque()), "torque is on though nobody moves the robot"
            tab.press("Take control")
            daemon.until(lambda state: state["mode"] == "teleop" and state["armed"])
            before = motors.positions()[0]
            tab.page.get_by_role("slider", name="shoulder_pan").focus()
            for _ in range(20):
                tab.key("ArrowRight")
            end = time.monotonic() + 10
            while abs(motors.positions()[0] - before) < 0.1:
                assert time.monotonic() < end, (before, motors.positions())
                time.sleep(0.05)
            # Motors tell them now and then, one after the other.
            daemon.until(lambda state: all(value is not None for value in state["temperature_c"]))
            tab.shot(shots, "emulated-drive")
            tab.key(" ")
            daemon.until(lambda state: state["mode"] == "idle")
            tab.open("Set-up")
            tab.says("Calibrate the robot")
            tab.close()
        finally:
            daemon.close()


def measure_canvas(browser, daemon, seconds):
    """From the wire to the canvas: a relay has the time at which the last byte of an image goes to the browser, and the time at
    which the browser's word comes that it is drawn."""
    wire = Wire(daemon.port)
    tab = Tab(browser, wire.port, daemon.token)
    daemon.ask("work", {"kind": "rollout", "seconds": seconds + 30})
    tab.wait("[...document.querySelectorAll('.camera .veil')].every(veil => !veil.textContent)")
    tab.page.wait_for_timeout(2000)
    wire.images.clear()
    wire.skipped = 0
    tab.page.wait_for_timeout(seconds * 1000)
    images, skipped = list(wire.images), wire.skipped
    tab.key("Escape")
    tab.close()
    wire.close()
    assert len(images) > seconds * 10, f"only {len(images)} images in {seconds} s"

    def spread(values):
        cuts = statistics.quantiles(values, n=100)
        return cuts[49], cuts[94], cuts[98]

    (p50, p95, p99), age = spread([drawn for drawn, _ in images]), spread([age for _, age in images])
    print(f"wire to canvas and back: p50 {p50:.1f} ms, p95 {p95:.1f}, p99 {p99:.1f}; {len(images) / seconds:.0f} images a second of 2 cameras, {skipped} skipped; age when sent: p50 {age[0]:.1f} ms, p95 {age[1]:.1f}, p99 {age[2]:.1f}")
    assert p95 < CANVAS_P95_MS, f"p95 is {p95:.1f} ms, expected below {CANVAS_P95_MS}"


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("room", type=pathlib.Path)
    parser.add_argument("--shots", type=pathlib.Path, help="a folder for pictures of the pages")
    parser.add_argument("--seconds", type=int, default=15, help="how long images are timed")
    parser.add_argument("--only", action="append", help="a check by its name; once for each")
    args = parser.parse_args()
    daemon = Daemon(args.room / "simulated", ["--robot", "so101", "--task", "pick-place"])
    checks = {
        "door": lambda browser: check_door(browser, daemon, args.shots),
        "token": lambda browser: check_token(browser, daemon),
        "drive": lambda browser: check_drive(browser, daemon, args.shots),
        "gamepad": lambda browser: check_gamepad(browser, daemon),
        "stop": lambda browser: check_stop(browser, daemon),
        "record": lambda browser: check_record(browser, daemon, args.shots),
        "record_by_page": lambda browser: check_record_by_page(browser, daemon),
        "policies": lambda browser: check_policies(browser, daemon, args.shots),
        "datasets": lambda browser: check_datasets(browser, daemon, args.shots),
        "setup_and_log": lambda browser: check_setup_and_log(browser, daemon, args.shots),
        "sizes": lambda browser: check_sizes(browser, daemon, args.shots),
        "canvas": lambda browser: measure_canvas(browser, daemon, args.seconds),
        "emulated": lambda browser: check_emulated(browser, args.room, args.shots),
        "calibration": lambda browser: check_calibration(browser, args.room, args.shots),
        "publishing": lambda browser: check_publishing(browser, args.room, args.shots),
        "https": lambda browser: check_https(browser, args.room, args.shots),
        "hands": lambda browser: check_hands(playwright, args.room, args.shots),
        "lost_line": lambda browser: check_lost_line(browser, daemon, args.shots),
    }
    try:
        with sync_playwright() as playwright:
            browser = playwright.chromium.launch(executable_path=os.environ.get("CHROMIUM") or None, args=["--no-sandbox", "--enable-unsafe-swiftshader"])
            for name, check in checks.items():
                if not args.only or name in args.only:
                    begin = time.monotonic()
                    check(browser)
                    print(f"{name}: {time.monotonic() - begin:.1f} s", flush=True)
            browser.close()
    finally:
        daemon.close()
    print("the page does what it should")


if __name__ == "__main__":
    main()
