#!/usr/bin/env bash
# Trains the demonstration policy from nothing: Sinew records demonstrations in its simulator, LeRobot
# 0.6.1 trains ACT on them on this machine's CPU, and the result becomes policies/act_so101_pick_place.
#
#   scripts/demo_policy/train.sh WORK [LEROBOT_TRAIN_OPTION...]
#
# WORK is a folder for what is made on the way (1.5 GB); a step whose result is there already is left
# out, so an interrupted run goes on, the training itself from its last checkpoint. It takes about 4
# minutes for the demonstrations and an hour for the training on two cores; `sinew` ($SINEW, default
# target/release/sinew), CPython 3.12 or newer ($PYTHON, default python3.12), the network for LeRobot
# and 6 GB for its environment ($LEROBOT_VENV, default WORK/venv).
set -euo pipefail

here=$(cd "$(dirname "$0")" && pwd)
work=${1:?usage: scripts/demo_policy/train.sh WORK [LEROBOT_TRAIN_OPTION...]}
shift
sinew=${SINEW:-$here/../../target/release/sinew}
venv=${LEROBOT_VENV:-$work/venv}
policy=$here/../../policies/act_so101_pick_place

# The whole configuration, with act.json: the model.
task=pick-place
episodes=600
first_seed=1000000 # episode i is recorded with first_seed + i
seed=0             # of the weights and the order of the samples
steps=7000
batch_size=16

mkdir -p "$work"
if ! "$venv/bin/python" -c 'from importlib.metadata import version; assert version("lerobot") == "0.6.1"' 2>/dev/null; then
    "${PYTHON:-python3.12}" -m venv "$venv"
    "$venv/bin/python" -m pip install --quiet 'lerobot[training]==0.6.1'
fi
# Nothing below needs the network. Threads that wait shall sleep: the data is loaded beside them.
export HF_HUB_OFFLINE=1 OMP_WAIT_POLICY=PASSIVE

if [ ! -e "$work/recorded" ]; then
    rm -rf "$work/data"
    "$sinew" record --robot so101 --sim --teleop scripted --task "$task" --episodes "$episodes" --seed "$first_seed" --out "$work/data"
    touch "$work/recorded"
fi

"$venv/bin/python" "$here/init_policy.py" --dataset "$work/data" --config "$here/act.json" --seed "$seed" --out "$work/init"

last=$work/train/checkpoints/last/pretrained_model
if [ -e "$last/train_config.json" ]; then
    "$venv/bin/lerobot-train" --config_path="$last/train_config.json" --resume=true "$@" 2>&1 | tee -a "$work/train.log"
else
    rm -rf "$work/train"
    # Without LeRobot's preset there is one learning rate for all of the network, and it may decay.
    "$venv/bin/lerobot-train" \
        --policy.path="$work/init" --policy.device=cpu --policy.push_to_hub=false \
        --dataset.repo_id=local/demonstrations --dataset.root="$work/data" \
        --output_dir="$work/train" --job_name=act_so101_pick_place \
        --seed="$seed" --steps="$steps" --batch_size="$batch_size" --num_workers=1 \
        --use_policy_training_preset=false \
        --optimizer.type=adamw --optimizer.lr=5e-4 --optimizer.weight_decay=1e-4 --optimizer.grad_clip_norm=10 \
        --scheduler.type=cosine_annealing_with_warmup --scheduler.num_warmup_steps=200 \
        --env_eval_freq=0 --log_freq=50 --save_freq=500 --wandb.enable=false "$@" 2>&1 | tee "$work/train.log"
fi

hardware="$(nproc) cores of $(sed -n 's/^model name[^:]*: //p' /proc/cpuinfo | head -n 1)"
"$venv/bin/python" "$here/export.py" --checkpoint "$last" --dataset "$work/data" --log "$work/train.log" \
    --sinew "$sinew" --task "$task" --hardware "$hardware" --out "$policy"
"$venv/bin/python" "$here/compare_with_lerobot.py" --policy "$policy" --dataset "$work/data" --sinew "$sinew"
