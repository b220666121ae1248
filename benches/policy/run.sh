#!/bin/sh
# Times Sinew and LeRobot on checkpoints of the published sizes with random weights, in turn.
#
#   benches/policy/run.sh PYTHON [compare.py's options] [CASE...]
#
# PYTHON is one that has LeRobot 0.6.1 with its extras; nothing is installed or downloaded. The
# checkpoints (4.5 GB) are made once, in $SINEW_BENCH_POLICIES or target/bench-policies. $SINEW is the
# program to time; without it, it is built. pi0_fast_bf16 (6 GB, and 9 of memory), which is timed by the
# token, is run where it is named.
set -eu
root=$(cd "$(dirname "$0")/../.." && pwd)
[ $# -ge 1 ] || { sed -n '4,10s/^# \{0,1\}//p' "$0" >&2; exit 2; }
python=$1
shift
policies=${SINEW_BENCH_POLICIES:-$root/target/bench-policies}
mkdir -p "$policies"
policies=$(cd "$policies" && pwd)
if [ -z "${SINEW:-}" ]; then
    (cd "$root" && cargo build --release --locked -p sinew-cli)
    SINEW=$root/target/release/sinew
fi
cases=
named=
for argument in "$@"; do
    case $argument in
    act_* | diffusion_* | smolvla_*) cases="$cases $argument" named=1 ;;
    pi0_fast_*)
        "$python" "$root/benches/policy/memory.py" --policies "$policies" --make-only "$argument"
        named=1
        ;;
    esac
done
[ -n "$named" ] || cases="act_one_camera act_two_cameras diffusion_two_cameras smolvla_one_camera smolvla_two_cameras"
for case in $cases; do
    [ -e "$policies/$case/expected.safetensors" ] ||
        (cd "$root/crates/policy/tests/golden" && "$python" -m make_golden --published "$policies" "$case")
done
exec "$python" "$root/benches/policy/compare.py" --python "$python" --sinew "$SINEW" --policies "$policies" "$@"
