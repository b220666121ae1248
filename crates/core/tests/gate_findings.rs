//! What went wrong once, and must not again: bad readings, failed writes, arms outside, lost channels, jams.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "what fails here fails the test")]

mod common;

use std::time::Duration;

use common::{Noise, Rig, joints, so101};
use sinew_core::{FAULT_AFTER, GateFault, Observation, RobotDescription, SafetyGate, Sent, Timestamp};

const DT_S: f64 = 1.0 / 30.0;
const GENTLE: &str = "position = [-2.0, 2.5], velocity = 3.0, acceleration = 15.0, jerk = 150.0, step = 0.35";

/// SO-101's own limits, and gentle ones, on as many joints.
fn both() -> [RobotDescription; 2] {
    [so101(), joints(&[GENTLE; 6], "")]
}

#[test]
fn one_bad_reading_moves_nothing() {
    for robot in both() {
        for bad in [vec![2.0], vec![2.0, 2.0], vec![2.0, -2.0, 1.0, 2.0], vec![0.9, -0.9]] {
            let mut rig = Rig::new(robot.clone(), &[0.0; 6]);
            for value in bad.iter().chain(&[0.0; 10]) {
                let sent = rig.turn(Some(&[0.0; 6]), &[0.0, *value, 0.0, 0.0, 0.0, 0.0], DT_S).unwrap();
                assert_eq!(sent, [0.0; 6], "{bad:?}");
            }
        }
    }
}

#[test]
fn a_bad_reading_leaves_a_motion_as_it_is() {
    for robot in both() {
        let (mut good, mut bad) = (Rig::new(robot.clone(), &[0.0; 6]), Rig::new(robot, &[0.0; 6]));
        for tick in 0..60 {
            let wanted = [0.8 * (f64::from(tick) * 0.1).sin(); 6];
            let mut present = good.sent();
            let expected = good.turn(Some(&wanted), &present, DT_S).unwrap();
            if tick % 3 == 2 {
                present[3] = if tick % 2 == 0 { 2.4 } else { -1.9 };
            }
            // Its step is counted from where it was known to be last.
            let sent = bad.turn(Some(&wanted), &present, DT_S).unwrap();
            assert!(
                sent.iter().zip(&expected).all(|(sent, expected)| (sent - expected).abs() < 3.0 * DT_S),
                "at {tick}: {sent:?}, {expected:?}"
            );
        }
    }
}

#[test]
fn a_lasting_jump_is_followed_to_rest() {
    for robot in both() {
        let mut rig = Rig::new(robot, &[0.0; 6]);
        let wanted = [0.0; 6];
        let mut last = [0.0; 6];
        for tick in 0..240 {
            // Somebody holds the joint at 1.5 from now on.
            let sent = rig.turn(Some(&wanted), &[0.0, 1.5, 0.0, 0.0, 0.0, 0.0], DT_S).unwrap();
            assert!((sent[1] - last[1]).abs() <= 3.0 * DT_S + 1e-9, "at {tick}: from {} to {}", last[1], sent[1]);
            assert!(tick >= 2 || sent[1] == 0.0, "not before three agree");
            last.copy_from_slice(&sent);
        }
        assert!((last[1] - 1.15).abs() < 1e-6, "a step before it: {}", last[1]);
        for _ in 0..10 {
            let sent = rig.turn(Some(&wanted), &[0.0, 1.5, 0.0, 0.0, 0.0, 0.0], DT_S).unwrap();
            assert!((sent[1] - last[1]).abs() < 1e-9, "it stands");
        }
    }
}

/// A motor's goal register as it is really written, and how it moved.
struct Register {
    values: Vec<f64>,
}

impl Register {
    fn write(&mut self, value: f64) {
        self.values.push(value);
    }

    /// The largest step, and the largest change from a step to the next.
    #[track_caller]
    fn assert_within(&self, velocity: f64, acceleration: f64) {
        for pair in self.values.windows(2) {
            assert!((pair[1] - pair[0]).abs() <= velocity * DT_S + 1e-9, "{pair:?}");
        }
        // Speed never rises faster than it may; where writes failed it fell at once, as nothing was told to move.
        for three in self.values.windows(3) {
            let (before, after) = (three[1] - three[0], three[2] - three[1]);
            let risen = if before * after < 0.0 { after.abs() } else { after.abs() - before.abs() };
            assert!(risen <= acceleration * DT_S * DT_S + 1e-9, "{three:?}");
        }
    }
}

#[test]
fn failed_writes_are_followed_by_a_start_from_rest() {
    let mut rig = Rig::new(joints(&[GENTLE], ""), &[0.0]);
    let mut register = Register { values: vec![0.0] };
    for tick in 0..60 {
        let present = *register.values.last().unwrap();
        rig.wait(DT_S);
        rig.measure(&[present]);
        rig.propose(Some(&[1.5]), DT_S).unwrap();
        let fails = (10..15).contains(&tick) || tick % 7 == 5;
        if fails {
            rig.send_only(&[]);
            register.write(present);
            assert_eq!(rig.sent(), [present], "what was not sent is not remembered");
        } else {
            rig.send();
            register.write(rig.sent()[0]);
        }
    }
    register.assert_within(3.0, 15.0);
    assert!(*register.values.last().unwrap() > 0.5);
}

#[test]
fn what_reached_some_motors_moved_only_those() {
    let mut rig = Rig::new(joints(&[GENTLE, GENTLE], ""), &[0.0, 0.0]);
    (0..6).for_each(|_| drop(rig.follow(Some(&[1.0, 1.0]), DT_S)));
    let before = rig.sent();
    rig.wait(DT_S);
    rig.measure(&before);
    rig.propose(Some(&[1.0, 1.0]), DT_S).unwrap();
    let proposed = rig.gate.proposed().goals().to_vec();
    rig.send_only(&[0]);
    assert_eq!(rig.sent(), [proposed[0], before[1]]);
    let next = rig.follow(Some(&[1.0, 1.0]), DT_S);
    assert!(next[0] - proposed[0] > 1.5 * (next[1] - before[1]), "one goes on, the other starts: {proposed:?} to {next:?}");
}

#[test]
fn a_driver_that_clamps_is_gone_on_from_where_it_stopped() {
    let mut rig = Rig::new(joints(&[GENTLE], ""), &[0.0]);
    let mut register = Register { values: vec![0.0] };
    for _ in 0..90 {
        let present = *register.values.last().unwrap();
        rig.wait(DT_S);
        rig.measure(&[present]);
        rig.propose(Some(&[1.5]), DT_S).unwrap();
        let mut sent = Sent::new(1);
        sent.reach(0, rig.gate.proposed().goals()[0].min(0.4));
        rig.gate.commit(&sent);
        register.write(sent.get(0).unwrap());
    }
    assert_eq!(rig.sent(), [0.4]);
    let mut sent = Sent::new(1);
    sent.reach(0, f64::NAN);
    rig.gate.commit(&sent);
    assert_eq!(rig.sent(), [0.4], "what is no number was not sent");
    for _ in 0..60 {
        register.write(rig.follow(Some(&[-1.0]), DT_S)[0]);
    }
    register.assert_within(3.0, 15.0);
}

/// What a motion that brakes may swing back in a tick.
const SWING: f64 = 0.02;

#[test]
fn an_arm_outside_its_limits_comes_in_slowly_and_smoothly() {
    for (found, wanted) in [(3.4, 0.0), (3.4, 3.4), (3.4, 9.0), (-2.9, 0.0)] {
        let mut rig = Rig::new(joints(&[GENTLE], ""), &[found]);
        let mut register = Register { values: vec![found] };
        assert_eq!(rig.sent(), [found], "it begins where it is");
        for _ in 0..150 {
            let before = rig.sent()[0];
            let sent = rig.follow(Some(&[wanted]), DT_S)[0];
            let is_out = !(-2.0..=2.5).contains(&before);
            assert!(!is_out || (sent - before).abs() <= 0.5 * DT_S + 1e-9, "from {before} to {sent}");
            assert!(!is_out || sent.abs() <= before.abs() + SWING, "never further out: from {before} to {sent}");
            register.write(sent);
        }
        register.assert_within(3.0, 15.0);
        let inside = wanted.clamp(-2.0, 2.5);
        assert!((rig.sent()[0] - inside).abs() < 1e-6, "{:?}", rig.sent());
    }
    // Without a wish it stays; and one that does not follow is not run away from.
    let mut rig = Rig::new(joints(&[GENTLE], ""), &[3.4]);
    assert_eq!((0..30).map(|_| rig.follow(None, DT_S)[0]).next_back(), Some(3.4));
    (0..150).for_each(|_| drop(rig.turn(Some(&[0.0]), &[3.4], DT_S).unwrap()));
    assert!((rig.sent()[0] - 3.05).abs() < 0.02, "a step from where it is: {:?}", rig.sent());
}

#[test]
fn an_arm_that_is_not_known_is_not_started() {
    let robot = so101();
    let mut gate = SafetyGate::of(&robot);
    let mut observed = Observation::for_robot(&robot);
    let unknown = |channel: &str| Err(GateFault::Unknown { channel: channel.into() });
    assert_eq!(gate.start(&observed), unknown("shoulder_pan.pos"));
    let time = Timestamp::from_nanos(1);
    observed.state.set_all(&[0.0, 0.0, f64::NAN, 0.0, 0.0, 0.0], time);
    assert_eq!(gate.start(&observed), unknown("elbow_flex.pos"));
    observed.state.set_all(&[0.0; 6], time);
    observed.state.miss(4);
    assert_eq!(gate.start(&observed), unknown("wrist_roll.pos"));
    observed.state.set(4, 0.1, time);
    assert_eq!(gate.start(&observed), Ok(()));
    let words = GateFault::Unknown { channel: "elbow_flex.pos".into() }.to_string();
    assert_eq!(words, "elbow_flex.pos is not known where the robot is given torque, expected a position");
}

/// A motion on which channel 1 is not measured from tick 5 on, and again from tick `back` on: missing, or repeated.
/// Says at which tick the robot began to brake, and how it ended.
fn with_silence(back: u32, is_missed: bool) -> (Option<u32>, Result<Rig, GateFault>) {
    let mut rig = Rig::new(joints(&[GENTLE, GENTLE], ""), &[0.0, 0.0]);
    let mut brakes_at = None;
    for tick in 0..40 {
        rig.wait(DT_S);
        let present = rig.sent();
        rig.observed.age();
        rig.observed.state.set(0, present[0], rig.now);
        match (5..back).contains(&tick) {
            false => rig.observed.state.set(1, present[1], rig.now),
            true if is_missed => rig.observed.state.miss(1),
            true => {}
        }
        let wanted = f64::from(tick) * 0.03;
        match rig.propose(Some(&[wanted, wanted]), DT_S) {
            Ok(verdict) => {
                assert_eq!(verdict.brakes, verdict.interventions.unknown == 1);
                assert!(!verdict.brakes || (5..back).contains(&tick), "at {tick}");
                brakes_at = brakes_at.or(verdict.brakes.then_some(tick));
            }
            Err(fault) => return (brakes_at, Err(fault)),
        }
        rig.send();
    }
    (brakes_at, Ok(rig))
}

#[test]
fn a_channel_that_falls_silent_stops_the_robot() {
    for is_missed in [true, false] {
        let (brakes_at, end) = with_silence(99, is_missed);
        // Tick 4 was measured; 150 ms later is between ticks 8 and 9.
        assert_eq!(brakes_at, Some(9));
        let fault = end.err().unwrap();
        assert_eq!(fault, GateFault::Silent { channel: "j1.pos".into(), age_ms: 533, limit_ms: 500 });
        assert_eq!(fault.to_string(), "j1.pos has not been known for 533 ms, expected to hear of it within 500 ms");
        // Back within the time.
        let (brakes_at, end) = with_silence(16, is_missed);
        assert_eq!(brakes_at, Some(9));
        let rig = end.unwrap();
        assert!(rig.sent().iter().all(|sent| *sent > 0.9), "it goes on: {:?}", rig.sent());
        let (brakes_at, end) = with_silence(8, is_missed);
        assert!(brakes_at.is_none() && end.is_ok(), "three ticks are no silence");
    }
}

/// What a joint at speed is sent when another falls silent, until that ends the episode.
fn braking() -> Vec<f64> {
    let mut rig = Rig::new(joints(&[GENTLE, GENTLE], ""), &[0.0, 0.0]);
    let mut register = Register { values: vec![0.0] };
    for tick in 0..24 {
        rig.wait(DT_S);
        let present = rig.sent();
        rig.observed.age();
        rig.observed.state.set(0, present[0], rig.now);
        if tick < 10 {
            rig.observed.state.set(1, present[1], rig.now);
        }
        rig.propose(Some(&[2.0, 2.0]), DT_S).unwrap();
        rig.send();
        register.write(rig.sent()[0]);
    }
    register.values
}

#[test]
fn braking_keeps_to_the_limits() {
    let values = braking();
    for three in values.windows(3) {
        assert!((three[2] - 2.0 * three[1] + three[0]).abs() <= 15.0 * DT_S * DT_S + 1e-9, "{three:?}");
    }
    let speed = |i: usize| (values[i + 1] - values[i]) / DT_S;
    assert!(speed(13) > 1.5 && speed(values.len() - 2) < 0.3, "{values:?}");
}

#[test]
fn braking_comes_to_rest_before_the_episode_ends() {
    let values = braking();
    let last = &values[values.len() - 2..];
    assert_eq!(last[0], last[1], "it stands");
}

/// A joint that is stuck at 0, with a servo that pushes as a spring, a tick late.
struct Jam {
    rig: Rig,
    stiffness: f64,
    noise: Noise,
    late: f64,
}

impl Jam {
    fn new(limits: &str, stiffness: f64) -> Self {
        let robot = joints(&[&format!("{limits}, effort = 0.6, temperature_c = 60.0")], "");
        Self { rig: Rig::new(robot, &[0.0]), stiffness, noise: Noise(3), late: 0.0 }
    }

    fn turn(&mut self, wanted: f64, noise: f64, dt_s: f64) -> Result<f64, GateFault> {
        self.rig.wait(dt_s);
        self.rig.measure(&[0.0]);
        let effort = (self.late * self.stiffness + noise * self.noise.next()).clamp(-1.0, 1.0);
        self.rig.observed.effort.set(0, effort, self.rig.now);
        self.late = self.rig.sent()[0];
        self.rig.propose(Some(&[wanted]), dt_s)?;
        self.rig.send();
        Ok(effort)
    }
}

#[test]
fn a_jammed_joint_is_led_back_to_its_ceiling_without_hunting() {
    let own = "position = [-2.0, 2.0], velocity = 3.0, step = 0.35";
    for (limits, stiffness) in [(own, 4.0), (own, 20.0), (GENTLE, 4.0), (GENTLE, 20.0)] {
        for rate_hz in [30.0, 60.0, 200.0] {
            for wanted in [1.0, -1.0] {
                let mut jam = Jam::new(limits, stiffness);
                let ticks = (6.0 * rate_hz) as usize;
                let mut effort =
                    || jam.turn(wanted, 0.0, 1.0 / rate_hz).unwrap_or_else(|fault| panic!("{limits}, {stiffness}, {rate_hz} Hz: {fault}"));
                let efforts: Vec<f64> = (0..ticks).map(|_| effort().abs()).collect();
                let settled = &efforts[ticks / 2..];
                let (least, most) = settled.iter().fold((9.0_f64, 0.0_f64), |(least, most), v| (least.min(*v), most.max(*v)));
                assert!((0.45..=0.6).contains(&least) && most <= 0.6, "stiffness {stiffness}, {rate_hz} Hz: {least} to {most}");
                assert!(most - least < 0.05, "stiffness {stiffness}, {rate_hz} Hz: it hunts between {least} and {most}");
            }
        }
    }
    // With noise too.
    let mut jam = Jam::new(own, 4.0);
    let efforts: Vec<f64> = (0..300).map(|_| jam.turn(1.0, 0.03, DT_S).unwrap()).collect();
    assert!(efforts[150..].iter().all(|effort| (0.4..0.65).contains(effort)), "{:?}", &efforts[150..]);
}

#[test]
fn a_joint_that_pushes_on_ends_the_episode() {
    let mut rig = Jam::new("position = [-2.0, 2.0], velocity = 3.0, step = 0.35", 4.0).rig;
    let began = rig.now;
    let fault = loop {
        rig.wait(DT_S);
        rig.measure(&[0.0]);
        rig.observed.effort.set(0, -0.9, rig.now);
        match rig.propose(Some(&[1.0]), DT_S) {
            Ok(_) => rig.send(),
            Err(fault) => break fault,
        }
        assert!(rig.sent()[0] >= 0.0, "away from what it pushes against");
    };
    assert_eq!(fault, GateFault::Effort { channel: "j0.pos".into(), found: -0.9, limit: 0.6 });
    let after = Duration::from_nanos(rig.now.nanos_since(began) as u64);
    assert!(after > FAULT_AFTER && after < FAULT_AFTER + Duration::from_millis(100), "{after:?}");
}

#[test]
fn a_hot_motor_stays_and_then_ends_the_episode() {
    let mut rig = Jam::new("position = [-2.0, 2.0], velocity = 3.0, step = 0.35", 4.0).rig;
    let began = rig.now;
    let mut goal: f64 = 0.0;
    let fault = loop {
        rig.wait(DT_S);
        let present = rig.sent();
        rig.measure(&present);
        rig.observed.temperature_c.set(0, 61.0, rig.now);
        goal += 0.02;
        match rig.propose(Some(&[goal]), DT_S) {
            Ok(verdict) => assert_eq!(verdict.interventions.temperature, 1),
            Err(fault) => break fault,
        }
        rig.send();
        assert_eq!(rig.sent(), [0.0]);
    };
    assert_eq!(fault.to_string(), "the motor of j0.pos has been at 61 °C for 3 s, expected at most 60 °C");
    assert!(rig.now.nanos_since(began) > FAULT_AFTER.as_nanos() as i64);
    // One that cools down in between goes on.
    let mut rig = Jam::new("position = [-2.0, 2.0], velocity = 3.0, step = 0.35", 4.0).rig;
    for tick in 0..300 {
        rig.wait(DT_S);
        let present = rig.sent();
        rig.measure(&present);
        rig.observed.temperature_c.set(0, if tick % 60 < 50 { 61.0 } else { 59.0 }, rig.now);
        rig.propose(Some(&[1.0]), DT_S).unwrap();
        rig.send();
    }
    assert!(rig.sent()[0] > 0.3);
}

/// The bound of a step goes along with the part, but the goal behind it stands.
#[test]
fn a_slow_servo_does_not_drag_the_command_past_its_goal() {
    for (rate_hz, lag, tau_s) in [(200.0, 3, 0.1), (60.0, 2, 0.02), (30.0, 1, 0.05)] {
        let mut rig = Rig::new(joints(&[GENTLE], ""), &[-1.0]);
        let (dt_s, mut servo, mut commands, mut highest) = (1.0 / rate_hz, -1.0, vec![-1.0; lag + 1], f64::MIN);
        for _ in 0..(20.0 * rate_hz) as usize {
            rig.wait(dt_s);
            let step = std::f64::consts::TAU / 4096.0;
            rig.measure(&[(servo / step).round() * step]);
            rig.propose(Some(&[1.5]), dt_s).unwrap();
            rig.send();
            commands.push(rig.sent()[0]);
            servo += (commands[commands.len() - 1 - lag] - servo) * (1.0 - f64::exp(-dt_s / tau_s));
            highest = f64::max(highest, rig.sent()[0]);
        }
        assert!(highest <= 1.5 + 1e-3, "at {rate_hz} Hz it went to {highest}");
        assert!((rig.sent()[0] - 1.5).abs() < 1e-9, "at {rate_hz} Hz it is at {:?}", rig.sent());
    }
}

#[test]
fn a_reading_of_a_time_to_come_makes_nothing_known_for_longer() {
    let mut rig = Rig::new(joints(&[GENTLE], ""), &[0.0]);
    let later = Timestamp::from_nanos(rig.now.as_nanos() + 20_000_000_000);
    rig.observed.state.set(0, 0.0, later);
    rig.gate.start(&rig.observed).unwrap();
    let mut turns = 0;
    let fault = loop {
        rig.wait(DT_S);
        rig.observed.age();
        rig.observed.state.miss(0);
        turns += 1;
        match rig.propose(Some(&[1.0]), DT_S) {
            Ok(_) => rig.send(),
            Err(fault) => break fault,
        }
    };
    assert!(matches!(fault, GateFault::Silent { .. }) && turns < 20, "{fault} after {turns} turns");
}

#[test]
fn what_stands_from_before_is_no_place_to_begin_at() {
    let mut rig = Rig::new(joints(&[GENTLE], ""), &[0.0]);
    rig.observed.age();
    assert!(matches!(rig.gate.start(&rig.observed), Err(GateFault::Unknown { .. })));
}
