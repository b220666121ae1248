#!/usr/bin/env bash
# Proves remote policies with openpi's own client and codec: the real openpi-client against `sinew serve`, and `sinew rollout`
# against a Python server that packs by openpi-client's msgpack_numpy and listens by the package websockets, also behind TLS.
#
#   scripts/check_remote.sh [options of the .py beside this file]
#
# The virtual environment is made where REMOTE_VENV says, or in the target folder, by PYTHON (python3 by default). SINEW names a
# program that is built already. With openssl in the path, wss:// is tried, too.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

. scripts/python_with.sh

# openpi-client needs typing_extensions and does not say so.
python_with remote openpi-client==0.1.2 typing_extensions websockets==17.4 msgpack==1.2.4 pyzmq==27.1.0
"$python" scripts/check_remote.py --sinew "$SINEW" "$@"
