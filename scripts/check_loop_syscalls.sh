#!/bin/sh
# Shows which system calls the control thread makes once it runs, by strace, and ends with 1 where one of them
# could wait for anything but the next tick, touches a file or a socket, or asks for memory.
#
#   scripts/check_loop_syscalls.sh
#
# Runs the runtime's examples: `cadence` (frames to a sink) at 30, 200 and 1000 Hz, and `engines async` (a policy
# on its thread). Needs strace 6 or newer. Allowed are sleeping until a tick is due (clock_nanosleep) and waking
# another thread (futex with FUTEX_WAKE).
set -eu
cd "$(dirname "$0")/.."
cargo build --release --locked -p sinew-runtime --example cadence --example engines
folder=$(cargo metadata --no-deps --format-version 1 | sed 's/.*"target_directory":"\([^"]*\)".*/\1/')/release/examples
log=$(mktemp)
trap 'rm -f "$log"' EXIT
failed=0
for command in "cadence 2" "engines async 5 20 100" "engines rtc 5 20 100 400"; do
    # shellcheck disable=SC2086
    strace -f --decode-pids=comm -o "$log" "$folder"/$command > /dev/null
    echo "$command:"
    # An episode runs from the 30th to the last but one sleep of a control thread.
    awk '
        $0 ~ /<control>/ {
            pid = $1
            if ($0 ~ /clock_nanosleep\(/) {
                sleeps[pid]++
                for (name in pending) if (index(name, pid SUBSEP) == 1) { split(name, part, SUBSEP); count[part[2]] += pending[name]; delete pending[name] }
            }
            if (sleeps[pid] < 30 || $0 ~ /resumed>/ || $0 ~ /(---|\+\+\+)/) next
            call = $0
            sub(/^[0-9]+<control> +/, "", call)
            name = call
            sub(/\(.*/, "", name)
            if (name == "futex") name = (call ~ /FUTEX_WAKE/) ? "futex WAKE" : "futex WAIT"
            pending[pid, name]++
        }
        END {
            for (name in count) {
                verdict = (name == "clock_nanosleep" || name == "futex WAKE") ? "" : "  NOT ALLOWED"
                if (verdict != "") bad = 1
                printf "  %-18s %d%s\n", name, count[name], verdict
            }
            exit bad
        }' "$log" || failed=1
done
exit $failed
