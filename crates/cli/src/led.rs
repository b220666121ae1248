//! A robot that somebody leads, and the one who does.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use anyhow::{Context, bail};
use sinew_core::{Clock, RobotDescription, Role};
use sinew_drivers::camera::CameraAddress;
use sinew_drivers::teleop::{KeySource, StartOptions, TeleopKind, Tell, start};
use sinew_drivers::{ArmHealth, ByFeature, LeaderFeedback, SerialLeader};
use sinew_remote::RobotName;
use sinew_runtime::TeleopThread;

use crate::args::{HardwareArgs, LeaderArgs, Misuse, Teleop, refuse_given};
use crate::buses::{BusReport, Outages};
use crate::desk::Desk;
use crate::hardware::{self, Hardware};
use crate::terminal::TerminalKeys;
use crate::{lead, led_afar};

/// For how long at least one who leads may be silent before the run ends.
const PATIENCE: Duration = Duration::from_secs(3);
/// How fast a joint of a leader arm is carried.
const CARRIED_RAD_PER_S: f64 = 1.0;
/// For somebody who leads from afar: he may come back.
pub const FOR_EVER: Duration = Duration::from_secs(365 * 24 * 3600);

/// Who acts instead of a policy, or when he takes over from it, on his thread.
pub struct Human {
    pub thread: TeleopThread,
    arm: Option<Arm>,
    /// Those of the terminal, where he moves the robot by them.
    pub keys: Option<TerminalKeys>,
    /// Who it is, where it is no arm.
    words: Option<String>,
    /// Who is told what he wants of the session with the device in his hands.
    desk: Arc<OnceLock<Desk>>,
}

/// The leader arm that he moves.
struct Arm {
    name: String,
    title: String,
    id: String,
    health: ArmHealth,
}

impl Human {
    /// One who needs no arm and has no buttons.
    pub fn without_arm(thread: TeleopThread) -> Self {
        Self { thread, arm: None, keys: None, words: None, desk: Arc::default() }
    }

    /// One with a gamepad, a keyboard or the like in his hands.
    pub fn with_device(kind: &TeleopKind, robot: &RobotDescription, patience: Duration, clock: Arc<dyn Clock>) -> anyhow::Result<Self> {
        let desk: Arc<OnceLock<Desk>> = Arc::default();
        let used = kind.clone();
        let keys = kind.needs_keys().then(|| TerminalKeys::new(clock, move |key| used.uses(key)));
        let theirs = desk.clone();
        let tell: Tell = Arc::new(move |event| {
            if let Some(desk) = theirs.get() {
                desk.hear_teleoperator(event);
            }
        });
        let source = keys.clone().map(|keys| Box::new(keys) as Box<dyn KeySource>);
        let (teleoperator, way) = start(kind.clone(), robot, StartOptions { tell, keys: source, ..StartOptions::default() })?;
        let thread = TeleopThread::spawn(teleoperator, way, robot).context("starting the teleoperator's thread")?;
        Ok(Self {
            thread: thread.patient(patience.max(PATIENCE)),
            arm: None,
            keys,
            words: kind.keys_in_words().map(|keys| format!("your keys: {keys}")),
            desk,
        })
    }

    /// One who leads `robot` as `name` from another room. He may come later, and come back.
    pub fn from_afar(name: &RobotName, given: &LeaderArgs, robot: &RobotDescription, clock: &Arc<dyn Clock>) -> anyhow::Result<Self> {
        given.check_fleet()?;
        let place = given.fleet.as_ref().context("expected --fleet")?;
        lead::warn(place);
        let thread = led_afar::start(place, name, robot, clock)?;
        let words = format!("who runs `sinew teleop --to {name}` and meets at {place}");
        Ok(Self { words: Some(words), ..Self::without_arm(thread.patient(FOR_EVER)) })
    }

    /// Connects the leader arm `name` of `robot`; its bus is served like the robot's, just behind `priority`.
    fn with_arm(
        name: &str,
        given: &LeaderArgs,
        robot: &RobotDescription,
        hardware: &HardwareArgs,
        (priority, has_policy): (Option<u8>, bool),
        clock: Arc<dyn Clock>,
    ) -> anyhow::Result<Self> {
        let description = hardware::describe(name, Role::Teleoperator)?;
        let retarget = way_of(given, &description, robot)?;
        let (mut leader, id) = hardware::connect_leader(description, &given.teleop_port, given.teleop_id.as_deref(), hardware, clock)?;
        if has_policy && !given.loose {
            leader = carried(leader, &retarget)?;
        }
        let (title, health) = (leader.description().title.clone(), leader.health());
        let priority = priority.map(|priority| priority.saturating_sub(1).max(1));
        let thread = TeleopThread::spawn_first(Box::new(leader), retarget, robot, priority).context("starting the leader arm's thread")?;
        let arm = Arm { name: name.to_owned(), title, id, health };
        Ok(Self {
            thread: thread.patient(hardware.patience().max(PATIENCE)),
            arm: Some(arm),
            keys: None,
            words: None,
            desk: Arc::default(),
        })
    }

    /// One who leads a robot behind its port as `given` says, alone or `beside` a policy.
    ///
    /// # Errors
    /// When he is not there.
    pub fn of(
        given: &LeaderArgs,
        robot: &RobotDescription,
        hardware: &HardwareArgs,
        beside: (Option<u8>, bool),
        clock: Arc<dyn Clock>,
    ) -> anyhow::Result<Self> {
        match &given.teleop {
            Some(Teleop::Leader(name)) => Self::with_arm(name, given, robot, hardware, beside, clock),
            Some(Teleop::Device(kind)) => Self::with_device(kind, robot, hardware.patience(), clock),
            Some(Teleop::Afar(name)) => Self::from_afar(name, given, robot, &clock),
            Some(Teleop::Scripted) | None => bail!(nobody(given, robot)),
        }
    }

    /// The buttons of his device mean what the keys of `desk` do.
    pub fn sits_at(&self, desk: &Desk) {
        // He sits at one.
        let _ = self.desk.set(desk.clone());
    }

    /// The leader arm, or what his keys do, for people.
    pub fn in_words(&self) -> Option<String> {
        let arm = self.arm.as_ref().map(|arm| format!("{} ({})", arm.title, arm.id));
        arm.or_else(|| self.words.clone())
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

pub fn way_of(given: &LeaderArgs, leader: &RobotDescription, robot: &RobotDescription) -> anyhow::Result<ByFeature> {
    Ok(if given.mirror { ByFeature::mirrored(leader, robot)? } else { ByFeature::new(leader, robot)? })
}

/// The leader arm is carried to where the robot is while somebody else acts.
fn carried(leader: SerialLeader, way: &ByFeature) -> anyhow::Result<SerialLeader> {
    let name = leader.description().name.clone();
    let feedback = LeaderFeedback::Follow { back: way.back(), rad_per_s: CARRIED_RAD_PER_S };
    leader.with_feedback(feedback).with_context(|| format!("carrying {name} along; --loose leaves it alone"))
}

/// There is nobody who could lead `robot` behind its port.
fn nobody(given: &LeaderArgs, robot: &RobotDescription) -> Misuse {
    let name = &robot.name;
    Misuse(match given.teleop {
        Some(_) => format!("--teleop scripted is for the simulator, and {name} is behind --port; expected a leader arm or a device"),
        None => format!("leading {name}: expected --teleop TELEOPERATOR (`sinew robots` lists leader arms)"),
    })
}

/// Whether `given` names somebody who can lead `robot`, as far as that is known before anything is opened.
pub fn check(given: &LeaderArgs, robot: &RobotDescription) -> anyhow::Result<()> {
    let name = match &given.teleop {
        Some(Teleop::Leader(name)) => name,
        Some(Teleop::Device(_) | Teleop::Afar(_)) => {
            return Ok(refuse_given(&given.given(), "is for a leader arm, and --teleop names none")?);
        }
        Some(Teleop::Scripted) | None => bail!(nobody(given, robot)),
    };
    let kinds = || format!("--teleop {name}: expected a leader arm (`sinew robots` lists them), {}", TeleopKind::KINDS);
    let description = hardware::describe(name, Role::Teleoperator).with_context(kinds)?;
    way_of(given, &description, robot)?;
    hardware::serial_ports(&description, &given.teleop_port, "--teleop-port")?;
    Ok(())
}

/// Connects `robot` and the one who leads it, alone or `beside` a policy, both at once: they are on buses of their own. The
/// control thread is to have this priority. Nothing moves.
pub fn connect(
    robot: RobotDescription,
    args: &HardwareArgs,
    cameras: &[CameraAddress],
    leader: &LeaderArgs,
    beside: (Option<u8>, bool),
    clock: &Arc<dyn Clock>,
) -> anyhow::Result<(Hardware, Human)> {
    let led = robot.clone();
    let (leads, follows) = std::thread::scope(|scope| {
        let leads = scope.spawn(move || Human::of(leader, &led, args, beside, clock.clone()));
        let follows = hardware::connect(robot, args, cameras, clock.clone());
        (leads.join(), follows)
    });
    let follows = follows?;
    Ok((follows, leads.map_err(|_panic| anyhow::anyhow!("connecting the teleoperator: its thread panicked"))??))
}
