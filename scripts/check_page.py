"""What scripts/check_page.sh does, with playwright: see there."""

import argparse
import functools
import http.server
import json
import os
import pathlib
import shutil
import subprocess
import threading
import time
from urllib.parse import urlparse

from playwright.sync_api import sync_playwright

HOSTILE = '<img src=x onerror="globalThis.owned=1"></script><script>globalThis.owned=1</script>'
REASON = "<b onmouseover=globalThis.owned=1>time is up</b>"


def sinew(*args):
    subprocess.run([os.environ["SINEW"], *map(str, args)], check=True, capture_output=True)


def make_datasets(room):
    """A dataset with all that can be hostile, and the same with images in place of video."""
    plain, images = room / "plain", room / "images"
    record = ["record", "--sim", "--teleop", "scripted", "--out", plain]
    sinew(*record, "--task", "pick-place", "--episodes", 3, "--seed", 1)
    tasks = json.loads(subprocess.run([os.environ["SINEW"], "dataset", "info", plain, "--json"], check=True, capture_output=True).stdout)["tasks"]
    sinew("dataset", "rename-task", plain, tasks[0], HOSTILE, "--yes")
    path = plain / "meta/sinew_episodes.jsonl"
    notes = [json.loads(line) for line in path.read_text().splitlines()]
    notes[1] |= {"outcome": "failure", "failure": REASON}
    path.write_text("".join(json.dumps(note) + "\n" for note in notes))
    sinew("dataset", "convert", plain, "--images", "--out", images, "--yes")
    return plain, images


def make_many(room, least):
    """A dataset of that many episodes, or a few more: one with itself, again and again."""
    one = room / "many-0"
    sinew("record", "--sim", "--teleop", "scripted", "--task", "reach", "--episodes", 3, "--seed", 1, "--out", one)
    episodes = 3
    while episodes < least:
        both = room / f"many-{episodes}"
        copy = room / "copy"
        shutil.copytree(one, copy)
        sinew("dataset", "merge", one, copy, "--out", both, "--yes")
        shutil.rmtree(copy)
        shutil.rmtree(one)
        one, episodes = both, episodes * 2
    return one, episodes


def wait(page, condition):
    end = time.monotonic() + 20
    while not page.evaluate(condition):
        assert time.monotonic() < end, f"never was so: {condition}"
        page.wait_for_timeout(10)


class Tab:
    """A page in the browser, and all that it complains about or asks for."""

    def __init__(self, browser, address, width=1440, height=900, scheme="light"):
        self.page = browser.new_page(viewport={"width": width, "height": height}, color_scheme=scheme)
        self.complaints, self.requests = [], []
        self.page.on("console", lambda message: self.complaints.append(f"{message.type}: {message.text}"))
        self.page.on("pageerror", lambda error: self.complaints.append(f"error: {error}"))
        self.page.on("request", lambda request: self.requests.append(request.url))
        begin = time.monotonic()
        self.page.goto(address)
        self.wait("typeof plots === 'object' && plots.values && document.querySelectorAll('.row').length > 0")
        self.opened_s = time.monotonic() - begin

    def wait(self, condition):
        """Until that is so; playwright's own way is what the page's content security policy forbids."""
        wait(self.page, condition)

    def ask(self, script):
        return self.page.evaluate(script)

    def frame(self):
        return self.ask("Number(document.getElementById('slider').value)")

    def episode(self):
        return self.ask("current.number")

    def settle(self):
        """Until the pictures are those of the time that is shown."""
        self.wait(
            "cameras.every(c => !c.video || (!c.video.seeking && c.wanted === null && c.video.readyState >= 2)) && cameras.every(c => c.video || c.images?.canvas.width || c.view.textContent)"
        )
        self.page.wait_for_timeout(150)

    def key(self, *keys):
        for key in keys:
            self.page.keyboard.press(key)

    def shot(self, shots, name):
        if shots:
            shots.mkdir(parents=True, exist_ok=True)
            self.settle()
            self.page.screenshot(path=str(shots / f"{name}.png"))

    def is_clean(self):
        assert not self.complaints, self.complaints
        assert self.ask("globalThis.owned") is None, "text of the dataset was run"
        strange = [url for url in self.requests if urlparse(url).scheme not in ("file", "blob", "data") and not url.startswith("http://127.0.0.1:")]
        assert not strange, strange

    def close(self):
        self.is_clean()
        self.page.close()


PIXELS = """camera => { const source = cameras[camera].video ?? cameras[camera].images.canvas, canvas = document.createElement("canvas");
  [canvas.width, canvas.height] = [64, 48]; const context = canvas.getContext("2d"); context.drawImage(source, 0, 0, 64, 48);
  return [...context.getImageData(0, 0, 64, 48).data]; }"""


def apart(one, other):
    return sum(abs(a - b) for a, b in zip(one, other)) / len(one)


def check_playing(tab):
    tab.settle()
    assert tab.ask("[...document.querySelectorAll('video')].length") == 2
    tab.key("Home")
    tab.key(" ")
    tab.page.wait_for_timeout(900)
    assert tab.ask("playing") and tab.ask("document.getElementById('play').getAttribute('aria-label')") == "Pause"
    times = tab.ask("[time, ...[...document.querySelectorAll('video')].map(video => video.currentTime)]")
    assert all(0.4 < at < 1.6 and abs(at - times[0]) < 0.2 for at in times), times
    tab.key(" ")
    at = tab.frame()
    tab.page.wait_for_timeout(300)
    assert not tab.ask("playing") and tab.frame() == at
    # At the end it stops, and begins again from there.
    tab.key("End")
    last = tab.frame()
    assert last == tab.ask("current.length") - 1
    tab.key("ArrowLeft", "ArrowLeft", " ")
    tab.wait(f"!playing && Number(document.getElementById('slider').value) === {last}")
    tab.page.click("#play")
    tab.page.wait_for_timeout(300)
    assert tab.ask("playing") and tab.frame() < last
    tab.page.click("#play")


def check_frames(video, images):
    """The video shows each time the picture of its row, as the page of the same images does."""
    for frame in (0, 1, 17, 40, 41, 80):
        for tab in (video, images):
            tab.ask(f"goTo({frame} / fps)")
            tab.settle()
        for camera in (0, 1):
            shown, wanted = (tab.page.evaluate(PIXELS, camera) for tab in (video, images))
            images.ask(f"goTo({frame + 6} / fps)")
            images.settle()
            other = images.page.evaluate(PIXELS, camera)
            images.ask(f"goTo({frame} / fps)")
            images.settle()
            assert apart(shown, wanted) < 6 and (apart(shown, wanted) < apart(shown, other) or apart(wanted, other) < 1), (frame, camera, apart(shown, wanted), apart(shown, other))


def check_plots(tab):
    page, box = tab.page, tab.page.locator(".lines").first.bounding_box()
    inner = (box["x"] + 56, box["width"] - 66)
    middle = box["y"] + box["height"] / 2
    # Scrubbing: press, move, let go.
    page.mouse.move(inner[0] + inner[1] * 0.25, middle)
    page.mouse.down()
    assert abs(tab.frame() - 0.25 * (tab.ask("current.length") - 1)) <= 1
    page.mouse.move(inner[0] + inner[1] * 0.5, middle, steps=5)
    page.mouse.up()
    half = tab.frame()
    assert abs(half - 0.5 * (tab.ask("current.length") - 1)) <= 1
    tab.settle()
    assert all(abs(at - (half + 0.5) / 30) < 1e-3 for at in tab.ask("[...document.querySelectorAll('video')].map(video => video.currentTime)"))
    page.wait_for_timeout(400)
    assert f"t={half / 30:.2f}" in page.url, page.url
    # Hovering says other values, and leaves the time as it is.
    cells = "[...document.querySelectorAll('.plot td')].map(cell => cell.textContent)"
    before = tab.ask(cells)
    page.mouse.move(inner[0] + inner[1] * 0.9, middle)
    page.wait_for_timeout(100)
    row = tab.ask("Math.round(plots.hover * fps)")
    expected = tab.ask(f"said(plots.value(plots.plots[0].group.rows[0][1].observed, {row}), plots.plots[0].digits)")
    assert tab.ask(cells) != before and tab.ask(cells)[0] == expected and tab.frame() == half
    page.mouse.move(inner[0], box["y"] - 60)
    page.wait_for_timeout(100)
    assert tab.ask(cells) == before
    # Axes with units, wanted beside what was sent and observed, lateness.
    assert page.locator(".plot h3").first.inner_text() == "Position in °"
    assert [head.inner_text() for head in page.locator(".plot").first.locator("thead button").all()] == ["observed", "wanted", "sent"]
    assert page.get_by_role("heading", name="Lateness in ms").count() == 1
    # The legend hides a channel, a column, and shows them again.
    drawn = "document.querySelector('.lines canvas').toDataURL()"
    whole = tab.ask(drawn)
    for name in ("shoulder_pan", "wanted"):
        button = page.locator(".plot").first.get_by_role("button", name=name, exact=True)
        assert button.get_attribute("aria-pressed") == "true"
        button.click()
        assert button.get_attribute("aria-pressed") == "false" and tab.ask(drawn) != whole
        # The space bar presses the button that has the focus, and plays nothing.
        tab.key(" ")
        assert not tab.ask("playing") and button.get_attribute("aria-pressed") == "true"
        page.mouse.move(1, 1)
        assert tab.ask(drawn) == whole


def check_keys_and_history(tab):
    page = tab.page
    page.evaluate("document.activeElement.blur()")
    tab.key("Home")
    tab.key("ArrowRight", "ArrowRight", "ArrowLeft")
    assert tab.frame() == 1
    tab.key("Shift+ArrowRight")
    assert tab.frame() == 31
    page.wait_for_timeout(400)
    for keys, episode in ((("j",), 1), (("ArrowDown",), 2), (("j",), 2), (("k",), 1), (("ArrowUp",), 0)):
        tab.key(*keys)
        assert tab.episode() == episode, (keys, tab.episode())
    for back, episode in ((1, 1), (1, 2), (1, 1)):
        page.go_back() if back else page.go_forward()
        assert tab.episode() == episode
    page.go_back()
    # The first comes back at the time at which it was left.
    assert (tab.episode(), tab.frame()) == (0, 31) and "t=1.03" in page.url, page.url
    page.go_forward()
    assert tab.episode() == 1
    wait(page, "plots.length === current.length")
    # A reload shows the same.
    tab.key("ArrowRight", "ArrowRight", "ArrowRight")
    page.wait_for_timeout(400)
    page.reload()
    wait(page, "typeof plots === 'object' && plots.values")
    assert (tab.episode(), tab.frame()) == (1, 3)
    # Keys in a text field are text.
    page.locator("#search").focus()
    tab.key("j", "j")
    assert tab.episode() == 1 and page.locator("#search").input_value() == "jj"
    assert page.locator("#count").inner_text() == "0 of 3 episodes"
    page.locator("#search").fill("time is up")
    assert page.locator(".row").count() == 1
    page.locator("#search").fill("")
    page.locator("#outcome").select_option("success")
    assert page.locator(".row").count() == 2
    page.locator("#outcome").select_option("")
    # What is in the address but not in the dataset is no reason to fail.
    for strange in ("#episode=99&t=1", "#episode=1&t=x", "#episode=<img src=x>", "#%", "#episode=2&t=1e9"):
        page.evaluate("address => { location.hash = address; }", strange)
        page.wait_for_timeout(80)
    assert (tab.episode(), tab.frame()) == (2, tab.ask("current.length") - 1)


def check_words(tab):
    tab.ask("open(1, 0, 'push')")
    tab.settle()
    page = tab.page
    assert page.locator("#task").inner_text() == HOSTILE
    assert page.locator("#badge").inner_text() == f"✕ failure: {REASON}"
    assert page.locator(".row small").first.inner_text() == HOSTILE
    page.locator("#badge").hover()
    assert page.locator("main img, main b[onmouseover]").count() == 0


def check_accessibility(tab):
    page = tab.page
    tree = page.locator("body").aria_snapshot()
    for part in ('heading "Episode 1" [level=2]', 'listbox "Episodes"', 'slider "Time"', 'button "Play"', 'combobox "Speed"', "- navigation", "- main", 'table "Position at the cursor"'):
        assert part in tree, (part, tree)
    assert page.locator("[role=option][aria-selected=true]").get_attribute("id") == page.locator("#list").get_attribute("aria-activedescendant")
    nameless = tab.ask("[...document.querySelectorAll('button, input, select')].filter(e => !e.ariaLabel && !e.innerText.trim()).length")
    assert nameless == 0
    page.locator("#about").click()
    order = []
    for _ in range(7):
        tab.key("Tab")
        order.append(tab.ask("document.activeElement.id || document.activeElement.textContent"))
    assert order == ["search", "outcome", "list", "play", "slider", "rate", "observed"], order
    assert "frame" in page.locator("#slider").get_attribute("aria-valuetext")
    # In the list, ends are the first and the last episode.
    page.locator("#list").focus()
    tab.key("End")
    assert tab.episode() == 2
    tab.key("Home")
    assert tab.episode() == 0


def check_many(browser, room, least, shots):
    dataset, episodes = make_many(room, least)
    path = room / "a #page?.html"
    begin = time.monotonic()
    sinew("dataset", "view", dataset, "--html", path)
    written_s = time.monotonic() - begin
    tab = Tab(browser, path.as_uri())
    assert tab.opened_s < 5, tab.opened_s
    tab.settle()
    assert tab.page.locator("#count").inner_text() == f"{episodes} episodes"
    assert tab.page.locator(".row").count() < 60
    tab.page.locator("#list").focus()
    begin = time.monotonic()
    tab.key("End")
    tab.wait(f"current.number === {episodes - 1} && plots.length === current.length")
    tab.settle()
    last_s = time.monotonic() - begin
    assert tab.page.locator(f"#row-{episodes - 1}").is_visible()
    for _ in range(40):
        tab.key("k")
    tab.wait(f"current.number === {episodes - 41}")
    tab.settle()
    tab.page.locator("#search").fill("17")
    assert 0 < tab.page.locator(".row").count() < 60
    tab.page.locator("#search").fill("")
    tab.shot(shots, "many")
    size = path.stat().st_size
    tab.close()
    # A page whose files are gone says so.
    shutil.move(str(path.with_name("a #page?_files")), str(room / "moved"))
    begin = time.monotonic()
    page = browser.new_page()
    page.goto(path.as_uri())
    wait(page, "document.getElementById('trouble').textContent.includes('folder belongs beside')")
    page.close()
    print(f"{episodes} episodes: written in {written_s:.1f} s, page of {size / 1e3:.0f} kB, opened in {tab.opened_s:.2f} s, the last one in {last_s:.2f} s")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("room", type=pathlib.Path)
    parser.add_argument("--shots", type=pathlib.Path, help="a folder for pictures of the pages")
    parser.add_argument("--episodes", type=int, default=3000, help="how many the large page has at least")
    args = parser.parse_args()
    plain, images = make_datasets(args.room)
    pages = [args.room / f"{dataset.name}.html" for dataset in (plain, images)]
    for dataset, page in zip((plain, images), pages):
        sinew("dataset", "view", dataset, "--html", page)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=os.environ.get("CHROMIUM") or None, args=["--no-sandbox"])
        video, still = (Tab(browser, page.as_uri()) for page in pages)
        check_playing(video)
        check_playing_of_images(still)
        check_frames(video, still)
        still.close()
        check_plots(video)
        video.close()
        video = Tab(browser, pages[0].as_uri())
        check_keys_and_history(video)
        check_words(video)
        check_accessibility(video)
        video.close()
        for name, width, height, scheme in (("light", 1440, 900, "light"), ("dark", 1440, 900, "dark"), ("narrow", 390, 844, "light"), ("middle", 1024, 768, "dark")):
            tab = Tab(browser, pages[0].as_uri() + "#episode=1&t=1.5", width, height, scheme)
            assert tab.ask("document.documentElement.scrollWidth <= innerWidth"), f"{name} scrolls sideways"
            tab.shot(args.shots, name)
            tab.close()
        check_served(browser, args.room, pages[0].name)
        check_many(browser, args.room, args.episodes, args.shots)
        browser.close()
    print("the page does what it should")


def check_playing_of_images(tab):
    tab.settle()
    assert tab.ask("document.querySelectorAll('video').length") == 0
    tab.key("Home", " ")
    tab.page.wait_for_timeout(700)
    tab.key(" ")
    assert 8 < tab.frame() < 40, tab.frame()


def check_served(browser, room, name):
    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=str(room)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    tab = Tab(browser, f"http://127.0.0.1:{server.server_port}/{name}")
    tab.settle()
    # The browser's own wish.
    tab.complaints = [words for words in tab.complaints if "404" not in words]
    tab.close()
    server.shutdown()


if __name__ == "__main__":
    main()
