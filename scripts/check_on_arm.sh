#!/bin/sh
# Runs the policies' unit tests and golden files on emulated 64-bit ARM, where NEON computes.
#
#   scripts/check_on_arm.sh
#
# Needs Rust's target aarch64-unknown-linux-gnu and, by Debian's names, gcc-aarch64-linux-gnu,
# g++-aarch64-linux-gnu and qemu-user-static; installs nothing. It proves answers, not speed.
set -eu
cd "$(dirname "$0")/.."
target=aarch64-unknown-linux-gnu
export CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_LINKER=aarch64-linux-gnu-gcc
export CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_RUNNER="qemu-aarch64-static -L /usr/aarch64-linux-gnu"
export CC_aarch64_unknown_linux_gnu=aarch64-linux-gnu-gcc CXX_aarch64_unknown_linux_gnu=aarch64-linux-gnu-g++
# One test starts itself anew for each of x86's instruction sets.
exec cargo test -p sinew-policy --release --locked --lib --test golden --target $target -- --skip every_instruction_set
