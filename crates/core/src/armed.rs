//! The one door to a robot's motors.

use std::time::Duration;

use thiserror::Error;

use crate::{
    Clock, GateFault, Interventions, Lease, LeaseError, LeaseState, Observation, Robot, RobotDescription, RobotError, SafetyGate, Sent,
    Tick, Timestamp, Wanted,
};

/// What opens a robot's motors. Only [`Armed`] has one, and it hands out no more than a look at it for the
/// time of a call, so nobody else can switch torque or reach a motor.
///
/// ```compile_fail,E0423
/// let door = sinew_core::Door(());
/// ```
pub struct Door<'a>(&'a dyn Lease);

impl Door<'_> {
    /// One more device has answered. A robot says so in a call that takes longer than some 50 ms, so that the watchdog
    /// does not take it for hung. `false` when the robot is no longer this process's to drive: it then switches nothing
    /// more on. Never waits.
    pub fn alive(&self) -> bool {
        self.0.beat();
        self.0.state() == LeaseState::Held
    }
}

/// How often the safe action is tried.
const STOP_TRIES: u32 = 3;
/// How long each try may take.
const STOP_WITHIN: Duration = Duration::from_millis(25);
/// How long switching torque on may take.
const ENABLE_WITHIN: Duration = Duration::from_millis(1000);
/// How often an arm is looked at again that seems to be elsewhere than before torque went on, and how long after.
const LOOKS: u32 = 16;
const LOOKS_EVERY: Duration = Duration::from_millis(5);
/// How long the lease may be unconfirmed before the robot counts as somebody else's.
const UNCONFIRMED_FOR: Duration = Duration::from_millis(500);

/// A robot that could not be given torque. Whatever had been done by then was undone.
#[derive(Debug, Error)]
pub enum ArmError {
    #[error("reading the robot before it is given torque")]
    Read(#[source] RobotError),
    #[error("holding the robot where it is")]
    Gate(#[source] GateFault),
    #[error("giving the robot's lifeline away")]
    Lifeline(#[source] RobotError),
    #[error(transparent)]
    Lease(#[from] LeaseError),
    #[error("giving the robot torque")]
    Enable(#[source] RobotError),
}

/// Why a command did not reach the robot.
#[derive(Clone, Debug, Error, PartialEq)]
pub enum DriveError {
    #[error(transparent)]
    Gate(#[from] GateFault),
    #[error(transparent)]
    Robot(#[from] RobotError),
    /// The watchdog has acted, or is gone, or has confirmed nothing for too long.
    #[error("the watchdog has taken the robot over, or is gone")]
    Lease,
}

impl DriveError {
    /// Whether the next turn may do better.
    pub fn is_transient(&self) -> bool {
        matches!(self, Self::Robot(error) if error.is_transient())
    }
}

/// What became of a wish.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Driven {
    pub interventions: Interventions,
    /// Something about the robot is unknown, and it comes to rest.
    pub brakes: bool,
    /// Channels that the command did not reach; all of them while the lease is not confirmed.
    pub unreached: usize,
}

/// A robot with its torque on, and all that stands between a wish and its motors: the gate, what was sent
/// last, and the lease. Dropping it, on whatever path, ends in the robot's declared safe action.
pub struct Armed<'a> {
    robot: &'a mut dyn Robot,
    lease: &'a dyn Lease,
    clock: &'a dyn Clock,
    gate: SafetyGate,
    door: Door<'a>,
    /// What the last command was, as far as it was sent: a value a channel.
    commanded: Vec<f64>,
    sent: Sent,
    unconfirmed_since: Option<Timestamp>,
    is_on: bool,
}

impl<'a> Armed<'a> {
    /// Reads where the robot is, lets the watchdog hold its lifeline, switches torque on with every goal at the
    /// present, and reads again: what is commanded first goes on from there. `observation` then holds what was
    /// read last.
    ///
    /// # Errors
    /// When one of these fails; the robot then was brought into its safe action if torque may have been on.
    pub fn new(
        robot: &'a mut dyn Robot,
        lease: &'a dyn Lease,
        clock: &'a dyn Clock,
        tick: &Tick,
        observation: &mut Observation,
    ) -> Result<Self, ArmError> {
        let mut gate = SafetyGate::of(robot.description());
        look(robot, &mut gate, (lease, clock), tick, observation)?;
        let lifeline = robot.lifeline().map_err(ArmError::Lifeline)?;
        lease.arm(lifeline)?;
        let width = gate.sent().len();
        let mut armed = Self {
            robot,
            lease,
            clock,
            gate,
            door: Door(lease),
            commanded: vec![0.0; width],
            sent: Sent::new(width),
            unconfirmed_since: None,
            is_on: true,
        };
        armed.lease.beat();
        // From here on leaving, on whatever path, is by the safe action.
        armed.robot.enable(&armed.door, clock.now() + ENABLE_WITHIN).map_err(ArmError::Enable)?;
        armed.lease.beat();
        armed.confirm(tick, observation)?;
        armed.note();
        Ok(armed)
    }

    /// Reads until two readings in a row agree: one alone may be wild, and the first goals would go there at once.
    fn confirm(&mut self, tick: &Tick, observation: &mut Observation) -> Result<(), ArmError> {
        let mut unsteady = None;
        for i in 0..=LOOKS {
            if i > 0 {
                self.clock.sleep_until(self.clock.now() + LOOKS_EVERY);
            }
            let before = self.gate.clone();
            look(self.robot, &mut self.gate, (self.lease, self.clock), tick, observation)?;
            unsteady = before.moved(observation).map(str::to_owned);
            if unsteady.is_none() {
                break;
            }
        }
        unsteady.map_or(Ok(()), |channel| Err(ArmError::Gate(GateFault::Unsteady { channel })))
    }

    pub fn description(&self) -> &RobotDescription {
        self.robot.description()
    }

    /// What the robot was commanded last: a value a channel of action.
    pub fn commanded(&self) -> &[f64] {
        &self.commanded
    }

    /// Whether something of the robot is away that is expected back.
    pub fn is_away(&self) -> bool {
        self.robot.is_away()
    }

    /// What was really sent of the last command.
    pub fn sent(&self) -> &Sent {
        &self.sent
    }

    /// Reads the robot, within what is left of the tick's period.
    ///
    /// # Errors
    /// As [`Robot::finish_read`].
    pub fn read(&mut self, tick: &Tick, observation: &mut Observation) -> Result<(), RobotError> {
        self.lease.beat();
        read(self.robot, tick, self.clock, observation)
    }

    /// Moves the robot towards what is `wanted`, as far as its limits let it within the `dt_s` seconds of a
    /// turn; without a wish it comes to rest. The robot is as `observed`. What could not be sent stands still.
    ///
    /// Nothing is sent while the lease is not confirmed, and nothing any more once it is lost.
    ///
    /// # Errors
    /// When the command did not reach the robot, or it must not be driven any further.
    pub fn drive(&mut self, wanted: Option<&Wanted>, observed: &Observation, dt_s: f64) -> Result<Driven, DriveError> {
        self.lease.beat();
        let now = self.clock.now();
        self.sent.clear();
        let verdict = match self.gate.propose(wanted, observed, now, dt_s) {
            Ok(verdict) => verdict,
            Err(fault) => {
                // Nothing moved the robot in this turn.
                self.gate.commit(&self.sent);
                self.note();
                return Err(fault.into());
            }
        };
        let written = match self.lease.state() {
            LeaseState::Held => {
                self.unconfirmed_since = None;
                let deadline = now + Duration::from_secs_f64(if dt_s.is_finite() { dt_s.clamp(0.0, 1.0) } else { 0.0 });
                self.robot.write(&self.door, self.gate.proposed(), deadline, &mut self.sent).map_err(DriveError::Robot)
            }
            LeaseState::Unconfirmed => {
                let since = *self.unconfirmed_since.get_or_insert(now);
                if now.nanos_since(since) > UNCONFIRMED_FOR.as_nanos() as i64 { Err(DriveError::Lease) } else { Ok(()) }
            }
            LeaseState::Lost => Err(DriveError::Lease),
        };
        // After an error too: what had been sent by then was sent.
        self.gate.commit(&self.sent);
        self.note();
        written?;
        let unreached = (0..self.commanded.len()).filter(|i| self.sent.get(*i).is_none()).count();
        Ok(Driven { interventions: verdict.interventions, brakes: verdict.brakes, unreached })
    }

    /// Keeps what was commanded, as far as it was sent.
    fn note(&mut self) {
        self.commanded.iter_mut().zip(self.gate.sent()).for_each(|(slot, sent)| *slot = sent);
    }

    /// Ends in the safe action and says whether it worked, after some tries. The lease is given back only
    /// then: after a safe action that failed the watchdog does it once more. It is done without a lease, too, as
    /// the watchdog may be gone.
    ///
    /// # Errors
    /// As [`Robot::stop`].
    pub fn disarm(mut self) -> Result<(), RobotError> {
        self.make_safe()
    }

    fn make_safe(&mut self) -> Result<(), RobotError> {
        self.is_on = false;
        let mut result = Ok(());
        for _ in 0..STOP_TRIES {
            self.lease.beat();
            result = self.robot.stop(&self.door, self.clock.now() + STOP_WITHIN);
            if result.is_ok() {
                self.lease.disarm();
                break;
            }
        }
        result
    }
}

impl Drop for Armed<'_> {
    fn drop(&mut self) {
        if self.is_on {
            // Nobody is left to tell; without a disarmed lease the watchdog acts.
            let _ = self.make_safe();
        }
    }
}

/// Reads until every position is known, now and not from before, and has the gate begin there.
fn look(
    robot: &mut dyn Robot,
    gate: &mut SafetyGate,
    (lease, clock): (&dyn Lease, &dyn Clock),
    tick: &Tick,
    observation: &mut Observation,
) -> Result<(), ArmError> {
    let mut result = Ok(());
    for i in 0..=LOOKS {
        if i > 0 {
            clock.sleep_until(clock.now() + LOOKS_EVERY);
            lease.beat();
        }
        result = match read(robot, tick, clock, observation) {
            Err(error) if !error.is_transient() => return Err(ArmError::Read(error)),
            Err(error) => Err(ArmError::Read(error)),
            Ok(()) => gate.start(observation).map_err(ArmError::Gate),
        };
        if result.is_ok() {
            break;
        }
    }
    result
}

fn read(robot: &mut dyn Robot, tick: &Tick, clock: &dyn Clock, observation: &mut Observation) -> Result<(), RobotError> {
    observation.age();
    observation.tick = tick.turn;
    robot.begin_read(tick)?;
    robot.finish_read(tick, clock.now() + tick.period, observation)
}
