#!/usr/bin/env bash
# An emulated LeKiwi: LeRobot's own client with `sinew lekiwi-host`, and `sinew rollout` with that and with LeRobot's own host.
#
#   scripts/check_lekiwi_with_lerobot.sh PYTHON [FOLDER]
#
# PYTHON is one with lerobot 0.6.1, feetech-servo-sdk and pyzmq. Nothing here needs hardware or the network.
set -euo pipefail
python=${1:?say which Python has lerobot, feetech-servo-sdk and pyzmq}
folder=${2:-$(mktemp -d)}
cd "$(dirname "$0")/.."
cargo build --release -p sinew-cli
target=$(cargo metadata --format-version 1 --no-deps | "$python" -c 'import json, sys; print(json.load(sys.stdin)["target_directory"])')
export HF_HUB_OFFLINE=1 HF_LEROBOT_CALIBRATION="$folder/calibration"
exec "$python" scripts/check_lekiwi_with_lerobot.py "$target/release/sinew" robots "$folder"
