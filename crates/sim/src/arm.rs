//! A robot description as a tree of rigid bodies.

use nalgebra::{Unit, UnitQuaternion, Vector3};
use rapier3d::math::Matrix;
use rapier3d::prelude::*;
use sinew_core::{CommandMode, Link, Part, PartKind, RobotDescription, Shape, Simulation};

use crate::convert;
use crate::error::SimError;
use crate::servo::Servo;
use crate::world::groups;

/// The handles of an arm in a world, and its servos: all of the arm that is state.
#[derive(Clone)]
pub(crate) struct Arm {
    /// `base` first, then one a part.
    pub links: Vec<RigidBodyHandle>,
    /// One a part, as are the servos.
    joints: Vec<(MultibodyJointHandle, JointAxis)>,
    pub servos: Vec<Servo>,
}

/// A part's place and speed.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct PartState {
    pub value: f64,
    pub velocity: f64,
}

/// The simulation section of a robot that can be simulated.
pub(crate) fn simulation(robot: &RobotDescription) -> Result<&Simulation, SimError> {
    let invalid = |what: String| SimError::Description { robot: robot.name.clone(), what };
    let simulation = robot.simulation.as_ref().ok_or_else(|| invalid("its description has no [simulation] section".into()))?;
    if robot.base.is_some() {
        return Err(invalid("it has a base, expected a robot that stands on the table".into()));
    }
    for part in &robot.parts {
        if let Some(mode) = part.command.filter(|mode| *mode != CommandMode::Position) {
            let mode = format!("{mode:?}").to_lowercase();
            return Err(invalid(format!("part {} is commanded by {mode}, expected position", part.name)));
        }
    }
    let (found, expected) = (simulation.links.len(), robot.parts.len() + 1);
    if found != expected {
        return Err(invalid(format!("simulation.link has {found} entries, expected {expected}: the base and one a part")));
    }
    Ok(simulation)
}

/// The parts with each parent before its children, and the parent's place in `links`.
fn parents_first(robot: &RobotDescription) -> Vec<(usize, usize)> {
    let mut order: Vec<(usize, usize)> = Vec::with_capacity(robot.parts.len());
    for _ in &robot.parts {
        for (i, part) in robot.parts.iter().enumerate() {
            let parent = part.parent.as_deref().map(|name| robot.part_index(name));
            let is_there = |index: usize| order.iter().any(|(placed, _)| *placed == index);
            match parent {
                _ if is_there(i) => {}
                None => order.push((i, 0)),
                Some(Some(parent)) if is_there(parent) => order.push((i, parent + 1)),
                Some(_) => {}
            }
        }
    }
    order
}

impl Arm {
    /// Adds the arm to the sets with its parts at `values` and torque off.
    pub fn build(
        robot: &RobotDescription,
        values: &[f64],
        substep_s: f64,
        bodies: &mut RigidBodySet,
        colliders: &mut ColliderSet,
        multibodies: &mut MultibodyJointSet,
    ) -> Result<Self, SimError> {
        let invalid = |what: String| SimError::Description { robot: robot.name.clone(), what };
        if values.len() != robot.parts.len() {
            return Err(SimError::Width { doing: "placing the arm", expected: robot.parts.len(), found: values.len() });
        }
        let simulation = simulation(robot)?;
        let base_from_parts = robot.base_from_parts(values);
        let base = bodies.insert(RigidBodyBuilder::fixed());
        insert_colliders(&simulation.links[0], base, bodies, colliders);
        let order = parents_first(robot);
        if order.len() != robot.parts.len() {
            return Err(invalid("not every part is carried by the base".into()));
        }
        let mut links = vec![base; robot.parts.len() + 1];
        let mut joints = Vec::with_capacity(order.len());
        for &(i, parent) in &order {
            let (part, link) = (&robot.parts[i], &simulation.links[i + 1]);
            let body = bodies.insert(
                RigidBodyBuilder::dynamic()
                    .pose(convert::pose(&base_from_parts[i]))
                    .additional_mass_properties(mass_properties(link))
                    .can_sleep(false),
            );
            insert_colliders(link, body, bodies, colliders);
            let (joint, axis) = joint(part);
            let handle = multibodies
                .insert(links[parent], body, joint, true)
                .ok_or_else(|| invalid(format!("part {}: the engine refused it", part.name)))?;
            links[i + 1] = body;
            joints.push((i, handle, axis));
        }
        joints.sort_by_key(|(i, ..)| *i);
        let joints: Vec<_> = joints.into_iter().map(|(_, handle, axis)| (handle, axis)).collect();
        let mut servos = Vec::with_capacity(robot.parts.len());
        for (part, value) in robot.parts.iter().zip(values) {
            let motor = part.motor.as_ref().ok_or_else(|| invalid(format!("part {} has no motor", part.name)))?;
            let model = simulation.motors.iter().find(|other| other.model == motor.model);
            let model = model.ok_or_else(|| invalid(format!("part {}: no simulation.motor is called {}", part.name, motor.model)))?;
            servos.push(Servo::new(model, motor.gear, *value, substep_s));
        }
        let arm = Self { links, joints, servos };
        if let Some((multibody, _)) = arm.joints.first().and_then(|(first, _)| multibodies.get_mut(*first)) {
            multibody.set_self_contacts_enabled(false);
            // The first pass fixes the root, and with it the number of coordinates: one a part, in the order of
            // insertion.
            multibody.forward_kinematics(bodies, true);
            let displacements: Vec<f32> = order.iter().map(|(i, _)| values[*i] as f32).collect();
            multibody.apply_displacements(&displacements);
            multibody.forward_kinematics(bodies, true);
            multibody.update_rigid_bodies(bodies, true);
            for (coordinate, (i, _)) in order.iter().enumerate() {
                let model = arm.servos[*i].model();
                multibody.damping_mut()[coordinate] = model.damping_nm_s_per_rad as f32;
                multibody.armature_mut()[coordinate] = model.armature_kg_m2 as f32;
                multibody.frictions_mut()[coordinate] = model.friction_nm as f32;
            }
        }
        Ok(arm)
    }

    /// Where part `i` is; `multibodies` is the set that the arm was built in, so the part is there.
    pub fn part(&self, i: usize, multibodies: &MultibodyJointSet) -> PartState {
        let (handle, axis) = self.joints[i];
        let Some((multibody, id)) = multibodies.get(handle) else { return PartState::default() };
        let Some(link) = multibody.link(id) else { return PartState::default() };
        let value = f64::from(link.joint().coords()[axis as usize]);
        PartState { value, velocity: f64::from(multibody.joint_velocity(link)[0]) }
    }

    /// Gives every part's motor its drive for `substep`.
    pub fn drive(&mut self, substep: u64, multibodies: &mut MultibodyJointSet) {
        for i in 0..self.joints.len() {
            let value = self.part(i, multibodies).value;
            let drive = self.servos[i].drive(substep, value);
            let (handle, axis) = self.joints[i];
            let Some((multibody, id)) = multibodies.get_mut(handle) else { continue };
            let Some(link) = multibody.link_mut(id) else { continue };
            link.joint
                .data
                .set_motor(axis, drive.target as f32, 0.0, drive.stiffness as f32, drive.damping as f32)
                .set_motor_max_force(axis, drive.most as f32);
        }
    }
}

/// The engine's joint for a part, and the axis of it that moves: the engine's hinges turn about x, and its
/// sliders slide along it.
fn joint(part: &Part) -> (GenericJointBuilder, JointAxis) {
    let (locked, axis) = match part.kind {
        PartKind::Prismatic => (JointAxesMask::LOCKED_PRISMATIC_AXES, JointAxis::LinX),
        _ => (JointAxesMask::LOCKED_REVOLUTE_AXES, JointAxis::AngX),
    };
    let x = Unit::new_normalize(Vector3::from(part.axis));
    let part_from_joint = UnitQuaternion::rotation_between(&Vector3::x(), &x)
        .unwrap_or_else(|| UnitQuaternion::from_axis_angle(&Vector3::y_axis(), std::f64::consts::PI));
    let parent_from_joint = part.parent_from_part.to_isometry() * part_from_joint;
    let mut joint = GenericJointBuilder::new(locked)
        .local_frame1(convert::pose(&parent_from_joint))
        .local_frame2(convert::pose(&nalgebra::convert(part_from_joint)));
    if let Some([lower, upper]) = part.limits.position {
        joint = joint.limits(axis, [lower as f32, upper as f32]);
    }
    let joint = joint.motor_model(axis, MotorModel::ForceBased).set_motor(axis, 0.0, 0.0, 0.0, 0.0).motor_max_force(axis, 0.0);
    (joint, axis)
}

fn mass_properties(link: &Link) -> MassProperties {
    let [xx, yy, zz, xy, xz, yz] = link.inertia_kg_m2.map(|v| v as f32);
    MassProperties::with_inertia_matrix(
        convert::vector(&Vector3::from(link.centre_of_mass_m)),
        link.mass_kg as f32,
        Matrix::from_cols_array(&[xx, xy, xz, xy, yy, yz, xz, yz, zz]),
    )
}

fn insert_colliders(link: &Link, body: RigidBodyHandle, bodies: &mut RigidBodySet, colliders: &mut ColliderSet) {
    for collider in &link.colliders {
        let shape = match collider.shape {
            Shape::Box { half_extents_m: [x, y, z] } => SharedShape::cuboid(x as f32, y as f32, z as f32),
            Shape::Sphere { radius_m } => SharedShape::ball(radius_m as f32),
            Shape::Capsule { radius_m, half_length_m } => SharedShape::capsule_z(half_length_m as f32, radius_m as f32),
        };
        let builder = ColliderBuilder::new(shape)
            .position(convert::pose(&collider.pose.to_isometry()))
            .density(0.0)
            .friction(collider.friction as f32)
            .collision_groups(groups::ARM);
        colliders.insert_with_parent(builder, body, bodies);
    }
}
