#!/usr/bin/env bash
# Drives the fake Hub of the tests with two versions of the official client.
#
#   scripts/check_fake_hub.sh [--xet LOCAL_CAS_SERVER] [other options of the .py beside this file]
#
# The virtual environments are made where FAKE_HUB_VENVS says, or in the target folder, by PYTHON (python3 by default). The Xet
# store is a program of the crate xet-client: cargo install xet-client --version 1.8.0 --features simulation --bin local_cas_server
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

cargo build --release -p sinew-testkit --features hub --bin fake_hub
target=${CARGO_TARGET_DIR:-target}
venvs=${FAKE_HUB_VENVS:-$target/fake-hub-venvs}
for version in 2.4.0 0.36.2; do
    venv=$venvs/$version
    if [ ! -x "$venv/bin/python" ]; then
        "${PYTHON:-python3}" -m venv "$venv"
        "$venv/bin/pip" install --quiet "huggingface_hub==$version" hf_xet==1.8.0
    fi
    "$venv/bin/python" scripts/check_fake_hub.py "$target/release/fake_hub" "$@"
done
