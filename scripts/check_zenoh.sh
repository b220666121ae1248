#!/usr/bin/env bash
# Proves LeRobot's remote inference over zenoh, protocol v1, with eclipse-zenoh for Python: a client written anew against `sinew serve --zenoh`,
# and `sinew rollout` against a server written anew, also behind TLS with certificates on both sides. LeRobot itself has no release with it yet.
#
#   scripts/check_zenoh.sh [options of the .py beside this file]
#
# The virtual environment is made where ZENOH_VENV says, or in the target folder, by PYTHON (python3 by default). SINEW names a
# program that is built already. With openssl in the path, zenoh+tls:// is tried, too.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

. scripts/python_with.sh

# The version of zenoh is LeRobot's own pin.
python_with zenoh "eclipse-zenoh==${ZENOH_VERSION:-1.9.0}" msgpack==1.2.4 numpy pillow
"$python" scripts/check_zenoh.py --sinew "$SINEW" "$@"
