#!/usr/bin/env bash
# LeRobot's own client against our host, and our client against LeRobot's own host over an emulated LeKiwi.
#
#   scripts/check_lekiwi_with_lerobot.sh PYTHON [FOLDER]
#
# PYTHON is one with lerobot 0.6.1, feetech-servo-sdk and pyzmq. Nothing here needs hardware or the network.
set -euo pipefail
python=${1:?say which Python has lerobot, feetech-servo-sdk and pyzmq}
folder=${2:-$(mktemp -d)}
cd "$(dirname "$0")/.."
cargo build --release -p sinew-drivers --example lekiwi_network
cargo build --release -p sinew-emulator --example emulate
target=$(cargo metadata --format-version 1 --no-deps | "$python" -c 'import json, sys; print(json.load(sys.stdin)["target_directory"])')
export HF_HUB_OFFLINE=1 HF_LEROBOT_CALIBRATION="$folder/calibration"
exec "$python" scripts/check_lekiwi_with_lerobot.py "$target/release/examples" "$folder"
