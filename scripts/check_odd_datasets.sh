#!/bin/sh
# Has LeRobot 0.6.1 and `sinew dataset` agree on odd but legal datasets; see odd_datasets.py.
#
#   scripts/check_odd_datasets.sh [--venv DIR] [options of odd_datasets.py]
#
# Without options: the seeds that once failed (odd_datasets_seeds.txt), then 500. LeRobot is installed into the
# virtual environment DIR (or $LEROBOT_VENV) if it is not there yet, as check_dataset_with_lerobot.sh does it.
set -eu

here=$(cd "$(dirname "$0")" && pwd)
venv=${LEROBOT_VENV:-}
if [ "${1:-}" = --venv ]; then
    venv=${2:?--venv needs a folder}
    shift 2
fi
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
venv=${venv:-$scratch/venv}
if ! "$venv/bin/python" -c 'from importlib.metadata import version; assert version("lerobot") == "0.6.1"' 2>/dev/null; then
    echo "installing LeRobot 0.6.1 into $venv" >&2
    "${PYTHON:-python3.12}" -m venv "$venv"
    "$venv/bin/python" -m pip install --quiet 'lerobot[dataset]==0.6.1'
fi
root=$here/..
cargo build --release --locked --bin sinew --manifest-path "$root/Cargo.toml"
sinew=${CARGO_TARGET_DIR:-$root/target}/release/sinew

# A cache of its own: nothing that was loaded before can be taken for a dataset.
judge() {
    HF_HUB_OFFLINE=1 HF_DATASETS_OFFLINE=1 HF_HOME="$scratch/home" "$venv/bin/python" "$here/odd_datasets.py" --sinew "$sinew" "$@"
}
if [ $# -gt 0 ]; then
    judge "$@"
else
    judge --seeds failed
    judge --seeds 0:500
fi
