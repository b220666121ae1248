#!/usr/bin/env bash
# Proves `sinew daemon --ros2` with eclipse-zenoh and rosbags: keys, tokens, attachments, joints and images as rmw_zenoh has them, and
# trajectories that move the simulated robot. No ROS 2 takes part: nothing of this was run against a real one.
#
#   scripts/check_ros2.sh
#
# The virtual environment is made where ROS2_VENV says, or in the target folder, by PYTHON (python3 by default). SINEW names a program
# that is built already.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

. scripts/python_with.sh

python_with ros2 eclipse-zenoh==1.10.2 rosbags==0.11.9 xxhash==4.1.0
"$python" scripts/check_ros2.py --sinew "$SINEW"
