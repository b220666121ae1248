#!/bin/sh
# Times Sinew's recorder and LeRobot 0.6.1 on the same pictures in the same run: CPU seconds a recorded
# second of two cameras of 640x480 at 30 images a second, the time of saving, PSNR and size.
#
#   scripts/bench_against_lerobot.sh VENV [--frames N]
#
# VENV is a virtual environment with LeRobot 0.6.1 (check_dataset_with_lerobot.sh makes one).
set -eu

here=$(cd "$(dirname "$0")" && pwd)
venv=${1:?which virtual environment has LeRobot 0.6.1?}
shift
target=${CARGO_TARGET_DIR:-$here/../target}
cargo build --release --quiet --manifest-path "$here/../Cargo.toml" --example bench_recording
HF_HUB_OFFLINE=1 SVT_LOG=1 exec "$venv/bin/python" "$here/bench_against_lerobot.py" "$target/release/examples/bench_recording" "$@"
