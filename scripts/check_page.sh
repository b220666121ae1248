#!/bin/sh
# Opens the pages of `sinew dataset view --html` in a real Chromium: plays, scrubs, hovers, hides lines, uses keyboard and
# history, and looks for anything that is loaded from elsewhere, said on the console, or run though it is only text.
#
#   scripts/check_page.sh [--shots DIR] [--episodes N]
#
# It records its datasets itself; $SINEW names a binary that is used instead of a fresh build. Chromium is $CHROMIUM, else
# the installed one (Debian: apt-get install chromium), else what `playwright install chromium` fetches. Python 3 drives it
# through the package playwright, in a virtual environment ($PAGE_VENV) that is made if it is not there yet, and else in
# one that is removed at the end.
set -eu

here=$(cd "$(dirname "$0")" && pwd)
if [ -z "${SINEW:-}" ]; then
    cargo build --release --locked --bin sinew --manifest-path "$here/../Cargo.toml"
    SINEW=${CARGO_TARGET_DIR:-$here/../target}/release/sinew
fi
room=$(mktemp -d)
trap 'rm -rf "$room"' EXIT
venv=${PAGE_VENV:-$room/venv}
if ! "$venv/bin/python" -c 'import playwright' 2>/dev/null; then
    "${PYTHON:-python3}" -m venv "$venv"
    "$venv/bin/python" -m pip install --quiet playwright
fi
chromium=${CHROMIUM:-$(command -v chromium || command -v chromium-browser || command -v google-chrome || true)}
if [ -z "$chromium" ]; then
    "$venv/bin/python" -m playwright install chromium
fi
SINEW=$SINEW CHROMIUM=$chromium "$venv/bin/python" "$here/check_page.py" "$room" "$@"
