#!/usr/bin/env bash
# Looks at the mock-up of Reachy Mini's own daemon with `sinew`, drives it through core's door, kills the daemon meanwhile,
# starts it again, stops.
#
#   scripts/check_reachy_mini.sh PYTHON [FOLDER]
#
# PYTHON is one whose site-packages hold reachy-mini 1.13.0 (`pip install reachy-mini`). The package wants PyGObject and
# GStreamer even with --no-media; where they are not installed, empty modules of those names are put before it.
set -euo pipefail
python=${1:?say which Python has reachy-mini}
folder=${2:-$(mktemp -d)}
cd "$(dirname "$0")/.."
mkdir -p "$folder/home"
port=$("$python" -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
cargo build --release -p sinew-drivers --example drive_reachy_mini
cargo build --release -p sinew-cli
target=$(cargo metadata --format-version 1 --no-deps | "$python" -c 'import json, sys; print(json.load(sys.stdin)["target_directory"])')
exec "$python" scripts/check_reachy_mini.py "$target/release" robots/reachy_mini/robot.toml "$port" "$folder"
