#!/bin/sh
# Has the makers' own programs and LeRobot 0.6.1 work the emulated robots, each in an environment of its own, and prints
# what passed, and how often it was tried. Ends with 1 when anything failed three times.
#
#     scripts/check_emulator_with_sdks.sh [--seconds 5] [--only feetech|ftservo|dxl38|dxl41|lerobot]
#
# PYTHON is the Python to make environments with (3.12), ENVS where they lie; LEROBOT_PYTHON may be one that has
# lerobot[feetech,dynamixel]==0.6.1 already, which is large.
set -eu
cd "$(dirname "$0")/.."
PYTHON=${PYTHON:-python3.12}
ENVS=${ENVS:-${TMPDIR:-/tmp}/sinew-sdks}

cargo build --release -q -p sinew-emulator --example emulate
EMULATE=${CARGO_TARGET_DIR:-target}/release/examples/emulate
export EMULATE

only=
seconds=5
while [ $# -gt 0 ]; do
    case $1 in
    --only) only=$2 ;;
    --seconds) seconds=$2 ;;
    *) echo "an option $1: there are --only and --seconds" >&2; exit 2 ;;
    esac
    shift 2
done

failed=0
check() {
    name=$1 package=$2 python=$3
    [ -z "$only" ] || [ "$only" = "$name" ] || return 0
    if [ -z "$python" ]; then
        python=$ENVS/$name/bin/python
        if [ ! -x "$python" ]; then
            "$PYTHON" -m venv "$ENVS/$name"
            "$python" -m pip install -q "$package"
        fi
    fi
    "$python" scripts/check_emulator_with_sdks.py "$name" --seconds "$seconds" || failed=1
}

check feetech feetech-servo-sdk==1.0.0 ""
check ftservo ftservo-python-sdk==2.0.1 ""
check dxl38 dynamixel-sdk==3.8.4 ""
check dxl41 dynamixel-sdk==4.1.0 ""
check lerobot 'lerobot[feetech,dynamixel]==0.6.1' "${LEROBOT_PYTHON:-}"
exit $failed
