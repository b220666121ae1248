//! A robot that somebody leads, and the one who does.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use sinew_core::{Clock, RobotDescription, Role};
use sinew_drivers::camera::CameraAddress;
use sinew_drivers::{ArmHealth, ByFeature};
use sinew_runtime::TeleopThread;

use crate::args::{HardwareArgs, LeaderArgs, Teleop};
use crate::buses::{BusReport, Outages};
use crate::hardware::{self, Hardware};

/// For how long at least one who leads may be silent before the run ends.
const PATIENCE: Duration = Duration::from_secs(3);

/// Who acts instead of a policy, or when he takes over from it, on his thread.
pub struct Human {
    pub thread: TeleopThread,
    arm: Option<Arm>,
}

/// The leader arm that he moves.
struct Arm {
    name: String,
    title: String,
    id: String,
    health: ArmHealth,
}

impl Human {
    /// One who needs no arm.
    pub fn without_arm(thread: TeleopThread) -> Self {
        Self { thread, arm: None }
    }

    /// Connects the leader arm of `robot`; its bus is served like the robot's, just behind `priority`.
    fn connect(
        given: &LeaderArgs,
        robot: &RobotDescription,
        hardware: &HardwareArgs,
        priority: Option<u8>,
        clock: Arc<dyn Clock>,
    ) -> anyhow::Result<Self> {
        let name = arm_of(given, robot)?;
        let description = hardware::describe(name, Role::Teleoperator)?;
        let retarget = ByFeature::new(&description, robot)?;
        let (leader, id) = hardware::connect_leader(description, &given.teleop_port, given.teleop_id.as_deref(), hardware, clock)?;
        let (title, health) = (leader.description().title.clone(), leader.health());
        let priority = priority.map(|priority| priority.saturating_sub(1).max(1));
        let human = TeleopThread::spawn_first(Box::new(leader), retarget, robot, priority).context("starting the leader arm's thread")?;
        let arm = Arm { name: name.to_owned(), title, id, health };
        Ok(Self { thread: human.patient(hardware.patience().max(PATIENCE)), arm: Some(arm) })
    }

    /// The leader arm, for people.
    pub fn in_words(&self) -> Option<String> {
        self.arm.as_ref().map(|arm| format!("{} ({})", arm.title, arm.id))
    }

    /// Tells of its ports from now on.
    pub fn tell_outages(&self) -> Option<Outages> {
        self.arm.as_ref().map(|arm| Outages::tell(&arm.name, &arm.health))
    }

    /// How its motors did.
    pub fn report(&self) -> BusReport {
        self.arm.as_ref().map_or_else(BusReport::default, |arm| BusReport::of(&[(&arm.name, &arm.health)]))
    }
}

/// The name of the leader arm that was given.
fn arm_of<'a>(given: &'a LeaderArgs, robot: &RobotDescription) -> anyhow::Result<&'a str> {
    match &given.teleop {
        Some(Teleop::Leader(name)) => Ok(name),
        Some(Teleop::Scripted) => {
            anyhow::bail!("--teleop scripted: it knows the simulator's world, and {} is not in it; expected a leader arm", robot.name)
        }
        None => anyhow::bail!("leading {}: expected --teleop TELEOPERATOR (`sinew robots` lists leader arms)", robot.name),
    }
}

/// Whether `given` names a leader arm that fits `robot`: said before anything is opened.
pub fn check(given: &LeaderArgs, robot: &RobotDescription) -> anyhow::Result<()> {
    let description = hardware::describe(arm_of(given, robot)?, Role::Teleoperator)?;
    ByFeature::new(&description, robot)?;
    hardware::serial_ports(&description, &given.teleop_port, "--teleop-port")?;
    Ok(())
}

/// Connects `robot` and the one who leads it, both at once: they are on buses of their own. Nothing moves.
pub fn connect(
    robot: RobotDescription,
    args: &HardwareArgs,
    cameras: &[CameraAddress],
    leader: &LeaderArgs,
    priority: Option<u8>,
    clock: &Arc<dyn Clock>,
) -> anyhow::Result<(Hardware, Human)> {
    let led = robot.clone();
    let (leads, follows) = std::thread::scope(|scope| {
        let leads = scope.spawn(move || Human::connect(leader, &led, args, priority, clock.clone()));
        let follows = hardware::connect(robot, args, cameras, clock.clone());
        (leads.join(), follows)
    });
    let follows = follows?;
    Ok((follows, leads.map_err(|_panic| anyhow::anyhow!("connecting the leader arm: its thread panicked"))??))
}
