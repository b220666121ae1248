#!/bin/sh
# Generates a Python client from the OpenAPI document of `sinew daemon`, and uses it against a daemon with the simulated robot: every
# answer has to be what the document says.
#
#   scripts/check_daemon_client.sh
#
# $SINEW names a binary that is used instead of a fresh build. The generator is openapi-python-client, in a virtual environment
# ($CLIENT_VENV) that is made if it is not there yet, and else in one that is removed at the end.
set -eu

here=$(cd "$(dirname "$0")" && pwd)
if [ -z "${SINEW:-}" ]; then
    cargo build --release --locked --bin sinew --manifest-path "$here/../Cargo.toml"
    SINEW=${CARGO_TARGET_DIR:-$here/../target}/release/sinew
fi
room=$(mktemp -d)
trap 'rm -rf "$room"' EXIT
venv=${CLIENT_VENV:-$room/venv}
if ! "$venv/bin/python" -c 'import openapi_python_client' 2>/dev/null; then
    "${PYTHON:-python3}" -m venv "$venv"
    "$venv/bin/python" -m pip install --quiet openapi-python-client==0.29.1
fi
SINEW=$SINEW "$venv/bin/python" "$here/check_daemon_client.py" "$room"
