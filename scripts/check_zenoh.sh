#!/usr/bin/env bash
# Proves LeRobot's remote inference over zenoh, protocol v1, with eclipse-zenoh for Python: a client written anew against `sinew serve --zenoh`,
# and `sinew rollout` against a server written anew, also behind TLS with certificates on both sides. LeRobot itself has no release with it yet.
#
#   scripts/check_zenoh.sh [options of the .py beside this file]
#
# The virtual environment is made where ZENOH_VENV says, or in the target folder, by PYTHON (python3 by default). SINEW names a
# program that is built already. With openssl in the path, zenoh+tls:// is tried, too.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

target=${CARGO_TARGET_DIR:-target}
if [ -z "${SINEW:-}" ]; then
    cargo build --release
    SINEW=$target/release/sinew
fi
venv=${ZENOH_VENV:-$target/zenoh-venv}
if [ ! -x "$venv/bin/python" ]; then
    "${PYTHON:-python3}" -m venv "$venv"
    # LeRobot's own pin.
    "$venv/bin/pip" install --quiet "eclipse-zenoh==${ZENOH_VERSION:-1.9.0}" msgpack==1.2.4 numpy pillow
fi
"$venv/bin/python" scripts/check_zenoh.py --sinew "$SINEW" "$@"
