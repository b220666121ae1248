//! A robot description as a chain of rigid bodies.

use nalgebra::{Unit, UnitQuaternion, Vector3};
use rapier3d::math::Matrix;
use rapier3d::prelude::*;
use sinew_core::{Link, RobotDescription, Shape, Simulation};

use crate::convert;
use crate::error::SimError;
use crate::servo::Servo;
use crate::world::groups;

/// The handles of an arm in a world, and its servos: all of the arm that is state.
#[derive(Clone)]
pub(crate) struct Arm {
    /// `base` first, then one a joint.
    pub links: Vec<RigidBodyHandle>,
    pub joints: Vec<MultibodyJointHandle>,
    pub servos: Vec<Servo>,
}

/// A joint's place and speed.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct JointState {
    pub position_rad: f64,
    pub velocity_rad_per_s: f64,
}

pub(crate) fn simulation(robot: &RobotDescription) -> Result<&Simulation, SimError> {
    let invalid = |what: String| SimError::Description { robot: robot.name.clone(), what };
    let simulation = robot.simulation.as_ref().ok_or_else(|| invalid("its description has no simulation section".into()))?;
    let (found, expected) = (simulation.links.len(), robot.joints.len() + 1);
    if found != expected {
        return Err(invalid(format!("simulation.link has {found} entries, expected {expected}: the base and one a joint")));
    }
    Ok(simulation)
}

impl Arm {
    /// Adds the arm to the sets with its joints at `positions_rad` and torque off.
    pub fn build(
        robot: &RobotDescription,
        positions_rad: &[f64],
        substep_s: f64,
        bodies: &mut RigidBodySet,
        colliders: &mut ColliderSet,
        multibodies: &mut MultibodyJointSet,
    ) -> Result<Self, SimError> {
        let invalid = |what: String| SimError::Description { robot: robot.name.clone(), what };
        if positions_rad.len() != robot.joints.len() {
            return Err(SimError::Width { doing: "placing the arm", expected: robot.joints.len(), found: positions_rad.len() });
        }
        let simulation = simulation(robot)?;
        let base_from_links = robot.base_from_links(positions_rad);
        let base = bodies.insert(RigidBodyBuilder::fixed());
        insert_colliders(&simulation.links[0], base, bodies, colliders);
        let mut links = vec![base];
        let mut joints = Vec::new();
        let mut servos = Vec::new();
        for (i, (joint, link)) in robot.joints.iter().zip(&simulation.links[1..]).enumerate() {
            let model = simulation
                .motors
                .iter()
                .find(|motor| motor.model == joint.motor.model)
                .ok_or_else(|| invalid(format!("joint {}: no simulation.motor is called {}", joint.name, joint.motor.model)))?;
            let body = bodies.insert(
                RigidBodyBuilder::dynamic()
                    .pose(convert::pose(&base_from_links[i]))
                    .additional_mass_properties(mass_properties(link))
                    .can_sleep(false),
            );
            insert_colliders(link, body, bodies, colliders);
            // The engine's hinge turns about x.
            let axis = Unit::new_normalize(Vector3::from(joint.axis));
            let joint_from_hinge = UnitQuaternion::rotation_between(&Vector3::x(), &axis)
                .unwrap_or_else(|| UnitQuaternion::from_axis_angle(&Vector3::y_axis(), std::f64::consts::PI));
            let parent_from_hinge = joint.parent_from_joint.to_isometry() * joint_from_hinge;
            let [lower, upper] = joint.limits.position_rad;
            let hinge = GenericJointBuilder::new(JointAxesMask::LOCKED_REVOLUTE_AXES)
                .local_frame1(convert::pose(&parent_from_hinge))
                .local_frame2(convert::pose(&nalgebra::convert(joint_from_hinge)))
                .limits(JointAxis::AngX, [lower as f32, upper as f32])
                .motor_model(JointAxis::AngX, MotorModel::ForceBased)
                .set_motor(JointAxis::AngX, 0.0, 0.0, 0.0, 0.0)
                .motor_max_force(JointAxis::AngX, 0.0);
            let handle = multibodies
                .insert(links[i], body, hinge, true)
                .ok_or_else(|| invalid(format!("joint {}: the engine refused it", joint.name)))?;
            links.push(body);
            joints.push(handle);
            servos.push(Servo::new(model.clone(), positions_rad[i], substep_s));
        }
        let arm = Self { links, joints, servos };
        if let Some((multibody, _)) = arm.joints.first().and_then(|first| multibodies.get_mut(*first)) {
            multibody.set_self_contacts_enabled(false);
            // The first pass fixes the root, and with it the number of coordinates.
            multibody.forward_kinematics(bodies, true);
            let displacements: Vec<f32> = positions_rad.iter().map(|v| *v as f32).collect();
            multibody.apply_displacements(&displacements);
            multibody.forward_kinematics(bodies, true);
            multibody.update_rigid_bodies(bodies, true);
            for (i, servo) in arm.servos.iter().enumerate() {
                multibody.damping_mut()[i] = servo.model().damping_nm_s_per_rad as f32;
                multibody.armature_mut()[i] = servo.model().armature_kg_m2 as f32;
                multibody.frictions_mut()[i] = servo.model().friction_nm as f32;
            }
        }
        Ok(arm)
    }

    /// Where joint `i` is; `multibodies` is the set that the arm was built in, so the joint is there.
    pub fn joint(&self, i: usize, multibodies: &MultibodyJointSet) -> JointState {
        let Some((multibody, id)) = multibodies.get(self.joints[i]) else { return JointState::default() };
        let Some(link) = multibody.link(id) else { return JointState::default() };
        JointState { position_rad: f64::from(link.joint().coords()[3]), velocity_rad_per_s: f64::from(multibody.joint_velocity(link)[0]) }
    }

    /// Gives every joint's motor its drive for `substep`.
    pub fn drive(&mut self, substep: u64, multibodies: &mut MultibodyJointSet) {
        for i in 0..self.joints.len() {
            let position_rad = self.joint(i, multibodies).position_rad;
            let drive = self.servos[i].drive(substep, position_rad);
            let Some((multibody, id)) = multibodies.get_mut(self.joints[i]) else { continue };
            let Some(link) = multibody.link_mut(id) else { continue };
            link.joint
                .data
                .set_motor(
                    JointAxis::AngX,
                    drive.target_rad as f32,
                    0.0,
                    drive.stiffness_nm_per_rad as f32,
                    drive.damping_nm_s_per_rad as f32,
                )
                .set_motor_max_force(JointAxis::AngX, drive.max_torque_nm as f32);
        }
    }
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
