#!/usr/bin/env bash
# The head of the checks that use Python, to be sourced from the root: `python_with NAME PACKAGE...` builds sinew unless SINEW names one, and
# makes the virtual environment `python` in the target folder, or where ${NAME}_VENV says, by PYTHON (python3 by default).

python_with() {
    local name=$1
    shift
    local target=${CARGO_TARGET_DIR:-target} place=${name^^}_VENV
    if [ -z "${SINEW:-}" ]; then
        cargo build --release
        SINEW=$target/release/sinew
    fi
    local venv=${!place:-$target/$name-venv}
    python=$venv/bin/python
    if [ ! -x "$python" ]; then
        "${PYTHON:-python3}" -m venv "$venv"
        "$venv/bin/pip" install --quiet "$@"
    fi
}
