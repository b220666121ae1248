#!/bin/sh
# Proves with LeRobot 0.6.1 itself that a dataset folder is a LeRobotDataset v3.0.
#
#   scripts/check_dataset_with_lerobot.sh [--venv DIR] DATASET [options of the .py beside this file]
#   scripts/check_dataset_with_lerobot.sh [--venv DIR] --edits [options of check_edits_with_lerobot.py]
#
# With --edits it records datasets itself, edits them, and proves that of what comes out.
#
# LeRobot is installed into the virtual environment DIR (or $LEROBOT_VENV) if it is not there yet, and
# stays there for the next time; without either, into one that is removed at the end. That takes
# CPython 3.12 or newer ($PYTHON, default python3.12), the network and 6 GB.
# The check itself has no network.
set -eu

here=$(cd "$(dirname "$0")" && pwd)
venv=${LEROBOT_VENV:-}
if [ "${1:-}" = --venv ]; then
    venv=${2:?--venv needs a folder}
    shift 2
fi
judge=check_dataset_with_lerobot.py
if [ "${1:-}" = --edits ]; then
    judge=check_edits_with_lerobot.py
    shift
    root=$here/..
    release=${CARGO_TARGET_DIR:-$root/target}/release
    cargo build --release --locked --bin sinew --example record_features --manifest-path "$root/Cargo.toml"
    set -- --sinew "$release/sinew" --record-features "$release/examples/record_features" "$@"
elif [ $# -eq 0 ]; then
    sed -n '2,7s/^# \{0,1\}//p' "$0" >&2
    exit 2
fi

if [ -z "$venv" ]; then
    venv=$(mktemp -d)
    trap 'rm -rf "$venv"' EXIT
fi
if ! "$venv/bin/python" -c 'from importlib.metadata import version; assert version("lerobot") == "0.6.1"' 2>/dev/null; then
    echo "installing LeRobot 0.6.1 into $venv" >&2
    "${PYTHON:-python3.12}" -m venv "$venv"
    "$venv/bin/python" -m pip install --quiet 'lerobot[dataset]==0.6.1'
fi

# A cache of its own: nothing that was loaded before can be taken for the dataset.
cache=$(mktemp -d)
status=0
SVT_LOG=1 HF_HUB_OFFLINE=1 HF_HOME="$cache" HF_DATASETS_OFFLINE=1 "$venv/bin/python" "$here/$judge" "$@" || status=$?
rm -rf "$cache"
exit $status
