"""Calibration and publishing on the daemon's page, for scripts/check_daemon_page.py."""

import json
import os
import subprocess
import time

from daemon_page import Tab
from daemon_process import Daemon
from emulated import ARM, Bench

SWEPT = [name for name in ARM if name != "wrist_roll"]
SIZES = [("phone", 390, 844), ("tablet", 820, 1180), ("desktop", 1440, 900)]
TOKEN = "hf_write_not_to_be_shown"


def sweep(motors, names):
    """A hand moves joints through their range, and rests at the ends."""
    for name in names:
        place = float(motors.ask("position", name))
        for goal in (600, 3000, 2000 + 20 * ARM.index(name)):
            while abs(goal - place) > 1e-9:
                place += max(-40, min(40, goal - place))
                motors.ask("move", name, place)
                time.sleep(0.01)
            time.sleep(0.3)


def by_keyboard(tab, name):
    """Presses a button as who has no mouse."""
    tab.wait(f"[...document.querySelectorAll('button')].some(one => one.checkVisibility() && one.textContent === {json.dumps(name)} && one.getAttribute('aria-disabled') !== 'true')")
    tab.page.get_by_role("button", name=name, exact=True).focus()
    tab.key("Enter")


def is_whole(tab, where):
    """Nothing is cut off at the sides, and axe has nothing to say."""
    assert tab.ask("document.documentElement.scrollWidth <= innerWidth && document.querySelector('main').scrollWidth <= document.querySelector('main').clientWidth"), f"{where} scrolls sideways"
    tab.is_accessible(where)


def pictures(browser, daemon, view, what, shots, part=None):
    """A view on every device, in both schemes, as it is now; with one part of it in sight."""
    for name, width, height in SIZES:
        for scheme in ("light", "dark"):
            tab = Tab(browser, daemon.port, daemon.token, width, height, scheme, still=True)
            tab.open(view)
            tab.page.wait_for_timeout(900)
            is_whole(tab, f"{what} on a {name}, {scheme}")
            if part:
                tab.ask(f"document.querySelector({json.dumps(part)}).scrollIntoView({{ block: 'center' }})")
            tab.shot(shots, f"{what}-{name}-{scheme}")
            # A busy machine may take longer than the page's patience for its first state.
            tab.close(but=["WebSocket connection"])


def measure(tab, daemon, motors):
    """From the torque to the middle of what turns; more than once where this machine was too busy to look often enough."""
    for _ in range(4):
        tab.says("the torque will be switched off")
        by_keyboard(tab, "Next")
        tab.says("Move every joint through all of its range")
        sweep(motors, SWEPT)
        tab.wait("document.body.innerText.includes('All were moved enough.') || document.body.innerText.includes('It did not work')")
        if daemon.ask("state")["calibration"]["step"] == "sweep":
            by_keyboard(tab, "Next")
        if daemon.until(lambda state: state["calibration"]["step"] in ("middle", "failed"))["calibration"]["step"] == "middle":
            break
        by_keyboard(tab, "Again")
    tab.says("Hold wrist_roll in the middle")


def check_calibration(browser, room, shots):
    """An arm without a calibration gets one by keyboard alone, after it was unplugged and left; then the calibration is found."""
    with Bench(os.environ["SINEW"]) as bench:
        # One that has no calibration yet.
        motors = bench.emulator("so101", "follower", uncalibrated=True)
        for name in ARM:
            motors.ask("load", name, 0)
        daemon = Daemon(room / "calibrated", ["--robot", "so101", "--port", motors.link], bench.environment)
        try:
            tab = Tab(browser, daemon.port, daemon.token)
            tab.open("Set-up")
            tab.says("calibration")
            by_keyboard(tab, "Calibrate the robot")
            tab.wait("document.querySelector('#alarm').textContent.includes('expected an id')")
            tab.press("Close")
            tab.page.get_by_label("Name of the robot's calibration").fill("page")
            pictures(browser, daemon, "Set-up", "calibration-begins", shots)
            by_keyboard(tab, "Calibrate the robot")
            tab.says("the torque will be switched off")
            assert tab.page.locator(".way [aria-current]").inner_text() == "Hold the arm"
            tab.shot(shots, "calibration-release")
            by_keyboard(tab, "Next")
            tab.says("Move every joint through all of its range")
            by_keyboard(tab, "Next")
            tab.says("Not moved enough yet")
            motors.ask("unplug")
            tab.says("Nothing was written. Again begins anew.")
            tab.shot(shots, "calibration-unplugged")
            motors.ask("replug")
            by_keyboard(tab, "Again")
            tab.says("the torque will be switched off")
            by_keyboard(tab, "Next")
            tab.says("Move every joint through all of its range")
            sweep(motors, SWEPT[:3])
            tab.says("Still to be moved: wrist_flex, gripper.")
            meter = tab.page.get_by_role("meter", name="shoulder_pan")
            assert "enough" in meter.get_attribute("aria-valuetext"), meter.get_attribute("aria-valuetext")
            pictures(browser, daemon, "Set-up", "calibration-sweep", shots)
            by_keyboard(tab, "Cancel")
            daemon.until(lambda state: state["mode"] == "idle")
            tab.says("The calibration was stopped before its end.")
            assert not (bench.folder / "calibration").exists() or not list((bench.folder / "calibration").rglob("page.json")), "a file was left"
            by_keyboard(tab, "Calibrate the robot")
            measure(tab, daemon, motors)
            tab.shot(shots, "calibration-middle")
            motors.ask("move", "wrist_roll", 1000)
            time.sleep(0.05)
            by_keyboard(tab, "Next")
            daemon.until(lambda state: state["mode"] == "idle" and state["trouble"] is None and state["position"] and state["position"][0] is not None)
            tab.says("The calibration ended.")
            tab.says("page.json")
            assert not any(motors.torque()), "torque is on though nobody moves the robot"
            pictures(browser, daemon, "Set-up", "calibration-ended", shots)
            # Once more: it is found, and the stop ends it.
            by_keyboard(tab, "Calibrate the robot")
            tab.says("There is a calibration")
            tab.shot(shots, "calibration-found")
            tab.key("Escape")
            daemon.until(lambda state: state["mode"] == "idle")
            tab.says("The calibration was stopped before its end.")
            # Who may only look sees it, and has no buttons.
            code = daemon.ask("pairing", {"role": "look"})["code"]
            looking = daemon.ask("pair", {"code": code, "name": "looks"})["token"]
            other = Tab(browser, daemon.port, looking)
            other.open("Set-up")
            assert other.page.get_by_role("button", name="Calibrate the robot").count() == 0
            by_keyboard(tab, "Calibrate the robot")
            other.says("There is a calibration")
            assert other.page.get_by_role("button", name="Next").count() == 0
            by_keyboard(tab, "Cancel")
            daemon.until(lambda state: state["mode"] == "idle")
            other.close()
            tab.close(but=["400", "409"])
        except AssertionError:
            print(daemon.ask("state")["calibration"], daemon.ask("work"))
            raise
        finally:
            daemon.close()


class Hub:
    """The fake Hub of crates/testkit, on a line that one can watch."""

    def __init__(self, program, room, rate):
        command = [program, "--token", f"{TOKEN}:ada:write", "--lfs-from", "4096", "--rate", str(rate), "--root", str(room), "--stdin"]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.endpoint = self.process.stdout.readline().strip()

    def close(self):
        self.process.stdin.close()
        self.process.wait(10)


def publish(tab, name, repo, seen_by, press):
    """Goes through the card that asks."""
    press()
    tab.says(f"Publish {name}")
    tab.page.get_by_label("Repository on the Hub").fill(repo)
    tab.page.get_by_label("Who may see it").select_option(seen_by)
    tab.press("Publish…")
    tab.says("Publish it?")


def check_publishing(browser, room, shots):
    """A dataset goes to a fake Hub, another one is cancelled on its way, and a policy is fetched and published."""
    program = os.environ["FAKE_HUB"]
    models = room / "hub" / "models" / "bob"
    models.mkdir(parents=True)
    (models / "act").symlink_to(os.environ["DEMO_POLICY"])
    hub = Hub(program, room / "hub", 800_000)
    environment = {**os.environ, "HF_ENDPOINT": hub.endpoint, "HF_TOKEN": TOKEN, "HF_HOME": str(room / "hf")}
    daemon = Daemon(room / "publishing", ["--robot", "so101", "--task", "pick-place"], environment)
    try:
        daemon.ask("work", {"kind": "record", "leader": "scripted", "dataset": "cubes", "episodes": 1, "episode_s": 3})
        daemon.until(lambda state: state["mode"] == "idle")
        tab = Tab(browser, daemon.port, daemon.token)
        tab.open("Datasets")
        tab.press("cubes")
        publish(tab, "cubes", "ada/cubes", "public", lambda: tab.press("Publish", exact=True))
        tab.says("everybody sees it")
        is_whole(tab, "the question of publishing")
        tab.shot(shots, "publish-question")
        # Back, and nothing has gone.
        tab.press("Back")
        tab.press("Close")
        assert daemon.ask("tasks") == []
        publish(tab, "cubes", "ada/cubes", "private", lambda: tab.press("Publish", exact=True))
        tab.says("only the owner sees it")
        tab.press("Publish now")
        tab.says("Published as ada/cubes")
        assert TOKEN not in tab.ask("document.documentElement.outerHTML")
        tab.shot(shots, "publish-done")
        # The demonstration policy's weights take seconds on this line.
        tab.open("Policies")
        tab.page.get_by_label("From the Hub").fill("bob/act")
        tab.press("Fetch")
        tab.wait("document.querySelector('.tasks progress') && document.querySelector('.tasks progress').value > 0")
        pictures(browser, daemon, "Policies", "fetch-progress", shots, ".tasks")
        tab.wait("document.querySelector('.tasks .good')")
        publish(tab, "bob/act", "ada/act", "private", lambda: tab.press("Publish bob/act"))
        tab.press("Publish now")
        tab.wait("document.querySelector('.tasks .busy progress') && document.querySelector('.tasks .busy progress').value > 0")
        tab.shot(shots, "publish-progress")
        tab.press("Cancel: Publish policy: bob/act as ada/act")
        tab.says("cancelled")
        tab.shot(shots, "publish-cancelled")
        publish(tab, "bob/act", "ada/act", "private", lambda: tab.press("Publish bob/act"))
        tab.press("Publish now")
        tab.says("Published as ada/act")
        # Who may operate has no button for it.
        code = daemon.ask("pairing", {"role": "operate"})["code"]
        other = Tab(browser, daemon.port, daemon.ask("pair", {"code": code, "name": "operates"})["token"])
        other.open("Datasets")
        other.press("cubes")
        assert other.page.get_by_role("button", name="Verify").is_visible() and other.page.get_by_role("button", name="Publish").count() == 0
        other.close()
        tab.close()
    finally:
        daemon.close()
        hub.close()
