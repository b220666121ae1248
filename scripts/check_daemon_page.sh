#!/bin/sh
# Opens the page of `sinew daemon` in a real Chromium, on the simulated robot: pairs, drives by sliders, sticks and a gamepad,
# stops, records, runs and measures a policy, replays, verifies, reads the log, calibrates an emulated arm, publishes to a fake
# Hub, loses the daemon and finds it again, and does so over HTTPS; and moves the tool by an emulated headset and
# phone, over HTTPS that the browser trusts by the daemon's authority. Takes pictures as a phone, a tablet and a desktop, and measures
# how long an image takes from the wire to the canvas.
#
#   scripts/check_daemon_page.sh [--shots DIR]
#
# $SINEW and $FAKE_HUB name binaries that are used instead of fresh builds. Chromium is $CHROMIUM, else the installed one (Debian:
# apt-get install chromium), else what `playwright install chromium` fetches. Python 3 drives it through the package playwright, in a
# virtual environment ($PAGE_VENV) that is made if it is not there yet, and else in one that is removed at the end. Rules of
# accessibility are those of axe-core ($AXE names its axe.min.js), and the headset is iwer's ($IWER names its iwer.min.js); npm fetches
# both. The authority is given to the browser by certutil ($CERTUTIL, else the installed one; Debian: apt-get install libnss3-tools).
set -eu

AXE_VERSION=4.14.1
IWER_VERSION=2.5.0
here=$(cd "$(dirname "$0")" && pwd)
if [ -z "${SINEW:-}" ]; then
    cargo build --release --locked --bin sinew --manifest-path "$here/../Cargo.toml"
    SINEW=${CARGO_TARGET_DIR:-$here/../target}/release/sinew
fi
if [ -z "${FAKE_HUB:-}" ]; then
    cargo build --release --locked -p sinew-testkit --features hub --bin fake_hub --manifest-path "$here/../Cargo.toml"
    FAKE_HUB=${CARGO_TARGET_DIR:-$here/../target}/release/fake_hub
fi
room=$(mktemp -d)
trap 'rm -rf "$room"' EXIT
venv=${PAGE_VENV:-$room/venv}
if ! "$venv/bin/python" -c 'import playwright' 2>/dev/null; then
    "${PYTHON:-python3}" -m venv "$venv"
    "$venv/bin/python" -m pip install --quiet playwright
fi
if [ -z "${AXE:-}" ]; then
    (cd "$room" && npm pack --silent "axe-core@$AXE_VERSION" >/dev/null && tar xf "axe-core-$AXE_VERSION.tgz")
    AXE=$room/package/axe.min.js
fi
if [ -z "${IWER:-}" ]; then
    (cd "$room" && npm pack --silent "iwer@$IWER_VERSION" >/dev/null && mkdir iwer && tar xf "iwer-$IWER_VERSION.tgz" -C iwer)
    IWER=$room/iwer/package/build/iwer.min.js
fi
chromium=${CHROMIUM:-$(command -v chromium || command -v chromium-browser || command -v google-chrome || true)}
if [ -z "$chromium" ]; then
    "$venv/bin/python" -m playwright install chromium
fi
SINEW=$SINEW FAKE_HUB=$FAKE_HUB DEMO_POLICY=$here/../policies/act_so101_pick_place CHROMIUM=$chromium AXE=$AXE IWER=$IWER "$venv/bin/python" "$here/check_daemon_page.py" "$room" "$@"
