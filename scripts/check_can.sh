#!/usr/bin/env bash
# Checks CAN motors (the feature `can`), which the tests of the whole leave out: lints, frames beside those of other programs,
# and an arm of emulated motors behind a serial adapter, in real time. Best on a machine that does nothing else.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

cargo clippy --release -p sinew-drivers --features can --all-targets -- -D warnings
cargo test --release -p sinew-drivers --features can --lib can::
cargo test --release -p sinew-drivers --features can --test can_bus --test can_arm -- --test-threads 1
