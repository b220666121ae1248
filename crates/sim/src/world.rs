//! The simulated world: one arm, what stands on its table, and time.

use std::sync::Arc;

use nalgebra::{Isometry3, Vector3};
use rapier3d::prelude::*;
use sinew_core::{Fnv1a, RobotDescription};

use crate::arm::{Arm, PartState};
use crate::convert;
use crate::error::SimError;
use crate::robots::RobotModel;
use crate::scene::{Look, PropPhysics, PropShape, Scene, rest_pose};
use crate::seen::Seen;
use crate::simulator::{Simulator, Snapshot};
use crate::view::View;

/// Physics substeps a second; a control tick of 1/30 s is eight of them.
pub const SUBSTEPS_PER_SECOND: u32 = 240;
const SUBSTEP_S: f64 = 1.0 / SUBSTEPS_PER_SECOND as f64;

/// Who touches whom: the arm does not touch itself, props touch everything.
pub(crate) mod groups {
    use rapier3d::prelude::{Group, InteractionGroups, InteractionTestMode};

    const ARM_BIT: Group = Group::GROUP_1;
    const PROP_BIT: Group = Group::GROUP_2;
    pub const ARM: InteractionGroups = InteractionGroups::new(ARM_BIT, PROP_BIT, InteractionTestMode::And);
    pub const PROP: InteractionGroups = InteractionGroups::new(PROP_BIT, ARM_BIT.union(PROP_BIT), InteractionTestMode::And);
}

/// Everything that changes as time passes.
#[derive(Clone)]
struct State {
    substep: u64,
    arm: Arm,
    /// One a prop; `None` for what is only drawn.
    props: Vec<Option<RigidBodyHandle>>,
    bodies: RigidBodySet,
    colliders: ColliderSet,
    islands: IslandManager,
    broad_phase: DefaultBroadPhase,
    narrow_phase: NarrowPhase,
    impulse_joints: ImpulseJointSet,
    multibodies: MultibodyJointSet,
    soft_bodies: SoftBodySet,
    ccd: CCDSolver,
}

/// The embedded [`Simulator`], on rapier.
pub struct World {
    robot: Arc<RobotDescription>,
    /// The part of each channel of action.
    commanded: Vec<usize>,
    scene: Arc<Scene>,
    state: State,
    parameters: IntegrationParameters,
    pipeline: PhysicsPipeline,
    view: Arc<View>,
}

impl World {
    /// A world with the arm at rest, torque off and nothing on the table. Its cameras' sizes are
    /// the description's.
    ///
    /// # Errors
    /// When the description has no usable simulation section, a base, or a part that is commanded by
    /// anything but its position.
    pub fn new(model: &RobotModel) -> Result<Self, SimError> {
        let robot = Arc::new(model.description.clone());
        let scene = Arc::new(Scene { pose: rest_pose(&robot), props: Vec::new(), look: Look::default() });
        let state = State::new(&robot, &scene)?;
        let view = Arc::new(View::new(model.clone())?);
        let commanded = (0..robot.parts.len()).filter(|i| robot.parts[*i].command.is_some()).collect();
        // Contacts here are between things of centimetres.
        let parameters = IntegrationParameters {
            dt: SUBSTEP_S as f32,
            length_unit: 0.1,
            contact_recycling: false,
            // The engine's own contacts are so soft that the gripper's force presses its jaws
            // through what they hold.
            contact_softness: SpringCoefficients::new(120.0, 5.0),
            static_contact_softness: SpringCoefficients::new(120.0, 5.0),
            ..IntegrationParameters::default()
        };
        Ok(Self { robot, commanded, scene, state, parameters, pipeline: PhysicsPipeline::new(), view })
    }

    /// Substeps since the reset.
    pub fn substep(&self) -> u64 {
        self.state.substep
    }

    /// One physics substep.
    ///
    /// # Errors
    /// When a body left the finite numbers.
    pub fn step(&mut self) -> Result<(), SimError> {
        let state = &mut self.state;
        state.arm.drive(state.substep, &mut state.multibodies);
        self.pipeline.step(
            Vector::new(0.0, 0.0, -9.81),
            &self.parameters,
            &mut state.islands,
            &mut state.broad_phase,
            &mut state.narrow_phase,
            &mut state.bodies,
            &mut state.colliders,
            &mut state.impulse_joints,
            &mut state.multibodies,
            &mut state.soft_bodies,
            &mut state.ccd,
            &(),
            &(),
        );
        state.substep += 1;
        self.check_finite()
    }

    fn check_finite(&self) -> Result<(), SimError> {
        for (handle, body) in self.state.bodies.iter() {
            let p = body.position();
            let finite = p.translation.is_finite() && p.rotation.is_finite() && body.linvel().is_finite() && body.angvel().is_finite();
            if !finite || !body.is_enabled() {
                return Err(SimError::NotFinite { body: self.body_name(handle), time_s: self.time_s() });
            }
        }
        Ok(())
    }

    fn body_name(&self, handle: RigidBodyHandle) -> String {
        if let Some(i) = self.state.arm.links.iter().position(|link| *link == handle) {
            return match i {
                0 => "the base".into(),
                i => format!("the link of {}", self.robot.parts[i - 1].name),
            };
        }
        match self.state.props.iter().position(|prop| *prop == Some(handle)) {
            Some(i) => self.scene.props[i].name.clone(),
            None => "the table".into(),
        }
    }
}

impl Simulator for World {
    fn reset(&mut self, scene: Scene) -> Result<(), SimError> {
        self.state = State::new(&self.robot, &scene)?;
        self.scene = Arc::new(scene);
        self.pipeline = PhysicsPipeline::new();
        Ok(())
    }

    fn robot(&self) -> &Arc<RobotDescription> {
        &self.robot
    }

    fn scene(&self) -> &Arc<Scene> {
        &self.scene
    }

    fn view(&self) -> &Arc<View> {
        &self.view
    }

    fn time_s(&self) -> f64 {
        self.state.substep as f64 * SUBSTEP_S
    }

    fn advance_to(&mut self, time_s: f64) -> Result<(), SimError> {
        let target = (time_s * f64::from(SUBSTEPS_PER_SECOND)).round().max(0.0) as u64;
        while self.substep() < target {
            self.step()?;
        }
        Ok(())
    }

    fn enable(&mut self, part: usize) {
        let value = self.value(part);
        self.state.arm.servos[part].enable(value);
    }

    fn torque_is_on(&self, part: usize) -> bool {
        self.state.arm.servos[part].torque_is_on()
    }

    fn hold(&mut self, part: usize) {
        let value = self.value(part);
        let servo = &mut self.state.arm.servos[part];
        if servo.torque_is_on() {
            servo.enable(value);
        }
    }

    fn disable_torque(&mut self, part: usize) {
        self.state.arm.servos[part].disable();
    }

    fn set_goals(&mut self, goals: &[f64]) -> Result<(), SimError> {
        let expected = self.commanded.len();
        if goals.len() != expected {
            return Err(SimError::Width { doing: "setting goals", expected, found: goals.len() });
        }
        if let Some((part, goal)) = self.commanded.iter().zip(goals).find(|(_, goal)| !goal.is_finite()) {
            return Err(SimError::NonFiniteGoal { part: self.robot.parts[*part].name.clone(), value: *goal });
        }
        for (part, goal) in self.commanded.iter().zip(goals) {
            self.state.arm.servos[*part].set_goal(self.state.substep, *goal);
        }
        Ok(())
    }

    fn value(&self, i: usize) -> f64 {
        self.state.arm.part(i, &self.state.multibodies).value
    }

    fn velocity(&self, i: usize) -> f64 {
        self.state.arm.part(i, &self.state.multibodies).velocity
    }

    fn effort(&self, i: usize) -> f64 {
        let PartState { value, velocity } = self.state.arm.part(i, &self.state.multibodies);
        self.state.arm.servos[i].effort(value, velocity)
    }

    fn see(&self, seen: &mut Seen) {
        let (parts, props) = (0..self.robot.parts.len(), 0..self.scene.props.len());
        seen.robot.clone_from(&self.robot);
        seen.scene.clone_from(&self.scene);
        seen.time_s = self.time_s();
        refill(&mut seen.values, parts.clone().map(|i| self.value(i)));
        refill(&mut seen.velocities, parts.clone().map(|i| self.velocity(i)));
        refill(&mut seen.efforts, parts.map(|i| self.effort(i)));
        refill(&mut seen.world_from_links, (0..self.state.arm.links.len()).map(|i| self.world_from_link(i)));
        refill(&mut seen.world_from_props, props.clone().map(|i| self.world_from_prop(i)));
        refill(&mut seen.prop_velocities_m_per_s, props.map(|i| self.prop_velocity_m_per_s(i)));
        seen.state_hash = self.state_hash();
    }

    fn world_from_link(&self, i: usize) -> Isometry3<f64> {
        convert::isometry(self.state.bodies[self.state.arm.links[i]].position())
    }

    fn world_from_prop(&self, i: usize) -> Isometry3<f64> {
        match self.state.props[i] {
            Some(handle) => convert::isometry(self.state.bodies[handle].position()),
            None => self.scene.props[i].world_from_prop,
        }
    }

    fn prop_velocity_m_per_s(&self, i: usize) -> Vector3<f64> {
        self.state.props[i].map_or_else(Vector3::zeros, |handle| convert::vector3(self.state.bodies[handle].linvel()))
    }

    fn snapshot(&self) -> Snapshot {
        Snapshot::new((self.state.clone(), self.scene.clone()))
    }

    fn restore(&mut self, snapshot: &Snapshot) -> Result<(), SimError> {
        let (state, scene) = snapshot.state::<(State, Arc<Scene>)>().ok_or(SimError::ForeignSnapshot)?;
        self.state = state.clone();
        self.scene = scene.clone();
        self.pipeline = PhysicsPipeline::new();
        Ok(())
    }

    /// 64-bit FNV-1a over every body's pose and velocity, every part and every servo.
    fn state_hash(&self) -> u64 {
        let mut hash = Fnv1a::default();
        let mut word = |value: u64| hash.write(&value.to_le_bytes());
        word(self.state.substep);
        for (_, body) in self.state.bodies.iter() {
            let (p, v, w) = (body.position(), body.linvel(), body.angvel());
            for value in p.translation.to_array().iter().chain(&p.rotation.to_array()).chain(&v.to_array()).chain(&w.to_array()) {
                word(u64::from(value.to_bits()));
            }
        }
        for (i, servo) in self.state.arm.servos.iter().enumerate() {
            let PartState { value, velocity } = self.state.arm.part(i, &self.state.multibodies);
            word(value.to_bits());
            word(velocity.to_bits());
            servo.digest(&mut word);
        }
        hash.finish()
    }
}

/// Puts `values` in place of what is in `list`.
fn refill<T>(list: &mut Vec<T>, values: impl Iterator<Item = T>) {
    list.clear();
    list.extend(values);
}

impl State {
    fn new(robot: &RobotDescription, scene: &Scene) -> Result<Self, SimError> {
        let mut bodies = RigidBodySet::new();
        let mut colliders = ColliderSet::new();
        let mut multibodies = MultibodyJointSet::new();
        let table = bodies.insert(RigidBodyBuilder::fixed());
        let top =
            ColliderBuilder::cuboid(1.0, 1.0, 0.05).translation(Vector::new(0.0, 0.0, -0.05)).friction(0.6).collision_groups(groups::PROP);
        colliders.insert_with_parent(top, table, &mut bodies);
        let arm = Arm::build(robot, &scene.pose, SUBSTEP_S, &mut bodies, &mut colliders, &mut multibodies)?;
        let props = scene
            .props
            .iter()
            .map(|prop| {
                let (builder, mass_kg) = match prop.physics {
                    PropPhysics::Drawn => return None,
                    PropPhysics::Fixed => (RigidBodyBuilder::fixed(), 0.0),
                    PropPhysics::Moving { mass_kg } => (RigidBodyBuilder::dynamic().can_sleep(false), mass_kg),
                };
                let shape = match prop.shape {
                    PropShape::Box { half_extents_m: h } => SharedShape::cuboid(h.x as f32, h.y as f32, h.z as f32),
                    PropShape::Ball { radius_m } => SharedShape::ball(radius_m as f32),
                    PropShape::Disc { radius_m } => SharedShape::cylinder(0.0005, radius_m as f32),
                };
                let handle = bodies.insert(builder.pose(convert::pose(&prop.world_from_prop)));
                let collider =
                    ColliderBuilder::new(shape).mass(mass_kg as f32).friction(prop.friction as f32).collision_groups(groups::PROP);
                colliders.insert_with_parent(collider, handle, &mut bodies);
                Some(handle)
            })
            .collect();
        Ok(Self {
            substep: 0,
            arm,
            props,
            bodies,
            colliders,
            islands: IslandManager::new(),
            broad_phase: DefaultBroadPhase::new(),
            narrow_phase: NarrowPhase::new(),
            impulse_joints: ImpulseJointSet::new(),
            multibodies,
            soft_bodies: SoftBodySet::new(),
            ccd: CCDSolver::new(),
        })
    }
}
