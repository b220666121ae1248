#!/bin/sh
# Compares Sinew's loader with LeRobot 0.6.1's on the same datasets, in the same run.
#
#     PYTHON=PYTHON_WITH_LEROBOT_0.6.1 scripts/bench_loader_with_lerobot.sh [FOLDER] [FEATURES]
#
# FOLDER is where the datasets are made (and found the next time); FEATURES are cargo's, such as `asm`, which
# needs nasm. Prints images a second of each and their ratio, for AV1 and H.264, versions 3.0 and 2.1 (which
# LeRobot 0.6.1 does not read: there its figures are those of 3.0), at random and in order. Where no libdav1d
# is installed, or SINEW_AV1=built-in is set, AV1 is decoded by what is built in.
set -eu
cd "$(dirname "$0")/.."
folder=${1:-outputs/bench-loader}
cargo build --release -p sinew-recorder --example bench_reading ${2:+--features "$2"}
program="${CARGO_TARGET_DIR:-target}/release/examples/bench_reading"
HF_HUB_OFFLINE=1 "${PYTHON:-python3}" scripts/bench_loader_with_lerobot.py --sinew "$program" --folder "$folder"
