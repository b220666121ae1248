#!/usr/bin/env bash
# Proves what daemons do on a network, between namespaces of this machine: that they are found by mDNS, with zeroconf for Python as somebody
# else's implementation, and that those with --https let nobody else send a token in the clear. Needs curl, and
# root on Linux.
#
#   scripts/check_lan.sh [options of the .py beside this file]
#
# The virtual environment is made where LAN_VENV says, or in the target folder, by PYTHON (python3 by default). SINEW names a
# program that is built already.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

target=${CARGO_TARGET_DIR:-target}
if [ -z "${SINEW:-}" ]; then
    cargo build --release
    SINEW=$target/release/sinew
fi
venv=${LAN_VENV:-$target/lan-venv}
if [ ! -x "$venv/bin/python" ]; then
    "${PYTHON:-python3}" -m venv "$venv"
    "$venv/bin/pip" install --quiet zeroconf==0.154.0
fi
"$venv/bin/python" scripts/check_lan.py --sinew "$SINEW" "$@"
