"""Makes so101_poses.txt: where MuJoCo says that the SO-101's bodies are, and how they move.

    pip install mujoco==4.0.0
    python make_so101_poses.py so101_nexus/assets/SO101_menagerie > so101_poses.txt

The model is the one that scripts/make_so101.py names. Heights are above the table: the model's base
reaches 2.4 mm below its own origin. Rows, all in SI:

    state    6 joint positions, then 6 joint velocities; what follows is at this state
    body     name, position, quaternion w x y z
    tool     position, quaternion
    mass     total mass, then its centre
    energy   kinetic, without the motors' armature
"""

import sys

import mujoco
import numpy as np

BASE_LIFT_M = 0.0024

spec = mujoco.MjSpec.from_file(f"{sys.argv[1]}/so101.xml")
# MuJoCo's default counts the volume between a hollow mesh's walls as well.
spec.mesh("wrist_roll_follower_so101_camera_mount").inertia = mujoco.mjtMeshInertia.mjMESH_INERTIA_EXACT
model = spec.compile()
model.dof_armature[:] = 0
data = mujoco.MjData(model)
random = np.random.default_rng(101)
lift = np.array([0, 0, BASE_LIFT_M])


def row(name, *values):
    print(name, *(f"{v:.9g}" for v in np.concatenate([np.atleast_1d(v) for v in values])))


for i in range(8):
    low, high = model.jnt_range.T
    data.qpos[:] = 0 if i == 0 else low + (high - low) * random.random(6)
    data.qvel[:] = random.normal(size=6)
    mujoco.mj_forward(model, data)
    mujoco.mj_energyVel(model, data)
    row("state", data.qpos, data.qvel)
    for body in ("shoulder", "upper_arm", "lower_arm", "wrist", "gripper", "moving_jaw_so101_v1"):
        row(f"body {body.removesuffix('_so101_v1')}", data.body(body).xpos + lift, data.body(body).xquat)
    quaternion = np.zeros(4)
    mujoco.mju_mat2Quat(quaternion, data.site("gripperframe").xmat)
    row("tool", data.site("gripperframe").xpos + lift, quaternion)
    row("mass", model.body_subtreemass[1], data.subtree_com[1] + lift)
    row("energy", data.energy[1])
