use std::path::Path;

use fastrand::Rng;
use sinew_core::{CalibrationKind, RobotDescription, Timestamp};

use super::calibrate::{least, ranged, turned};
use super::sweep::{Refusal, Sweep, SweepJoint, Swept};
use super::{ChainMotor, serial_ports_in};
use crate::tables::{STS3215, XL330_M288};
use crate::{ControlTable, MotorId};

const TURN: f64 = 4096.0;

fn so101() -> RobotDescription {
    RobotDescription::from_toml("so101", include_str!("../../../../robots/so101/robot.toml")).unwrap()
}

fn motor(table: &'static ControlTable) -> ChainMotor {
    ChainMotor { name: "elbow_flex".into(), part: 2, bus: 0, motor: MotorId(3), table, calibration: CalibrationKind::Range }
}

fn joint(name: &str, wraps: bool) -> SweepJoint {
    SweepJoint { name: name.into(), resolution: 4096, wraps, least: 600 }
}

/// A joint, where its encoder stands in it, and what somebody does with it.
struct Hand {
    /// Where the joint ends, in ticks over turns, before the offset.
    ends: [f64; 2],
    /// What the motor's register of the offset holds.
    offset: i32,
    /// Places to go to, in order; there it rests.
    way: Vec<f64>,
    /// Ticks a second.
    speed: f64,
    rest_s: f64,
    is_dynamixel: bool,
}

/// How the answers suffer.
struct Cable {
    period_s: f64,
    lost: f64,
    /// How probable it is that all is lost for a while, at each answer, and the longest.
    breaks: f64,
    longest_break_s: f64,
    flipped: f64,
}

impl Hand {
    fn drawn(rng: &mut Rng) -> Self {
        let is_dynamixel = rng.u8(..4) == 0;
        let span = 620.0 + rng.f64() * 3400.0;
        let lower = if is_dynamixel { rng.f64() * (TURN - span) } else { (rng.f64() - 0.5) * 3.0 * TURN };
        let ends = [lower.round(), (lower + span).round()];
        let within = |rng: &mut Rng| ends[0] + rng.f64() * (ends[1] - ends[0]);
        let mut way = vec![within(rng), ends[0], ends[1]];
        if rng.bool() {
            way.swap(1, 2);
        }
        for _ in 0..rng.usize(..3) {
            way.push(within(rng));
            way.push(ends[usize::from(rng.bool())]);
        }
        way.push(within(rng));
        let (speed, rest_s) = (200.0 + rng.f64() * 7500.0, 0.3 + 0.3 * rng.f64());
        Self { ends, offset: rng.i32(-2047..=2047), way, speed, rest_s, is_dynamixel }
    }

    /// What the motor says at a place.
    fn says(&self, place: f64, offset: i32) -> i32 {
        let place = place.round() as i32;
        if self.is_dynamixel { place + offset } else { (place - offset).rem_euclid(4096) }
    }

    /// Answers with their times, and the place at the end.
    fn sweep(&self, cable: &Cable, rng: &mut Rng, sweep: &mut Sweep, others: &[i32]) -> Timestamp {
        let (mut at_s, mut told_s, mut place, mut broken_until) = (0.0, 0.0, self.way[0], 0.0);
        let mut next = self.way.iter().skip(1);
        let (mut goal, mut rests_until) = (self.way[0], self.rest_s);
        loop {
            let step = cable.period_s * (0.5 + rng.f64());
            at_s += step;
            let way: f64 = goal - place;
            if way != 0.0 {
                place += way.clamp(-self.speed * step, self.speed * step);
                rests_until = at_s + self.rest_s;
            } else if at_s > rests_until {
                let Some(place) = next.next() else { break };
                goal = *place;
            }
            if rng.f64() < cable.breaks {
                broken_until = at_s + rng.f64() * cable.longest_break_s;
            }
            let noise = f64::from(rng.i32(-1..=1));
            let mut said = self.says(place + noise, self.offset);
            if rng.f64() < cable.flipped {
                said ^= 1 << rng.u32(..12);
            }
            let is_lost = at_s < broken_until || rng.f64() < cable.lost;
            let mut all = vec![(!is_lost).then_some(said)];
            all.extend(others.iter().map(|other| Some(*other)));
            // It is handed over a little later.
            told_s = f64::max(told_s, at_s + 0.04 * rng.f64());
            sweep.take(Timestamp::from_nanos((told_s * 1e9) as i64), &all);
        }
        Timestamp::from_nanos((told_s * 1e9) as i64)
    }
}

/// How far the calibration that comes of a range is off, in ticks: at the ends, and in what counts degrees.
fn wrong_by(hand: &Hand, range: Swept) -> Result<i32, Refusal> {
    let robot = so101();
    let table = if hand.is_dynamixel { &XL330_M288 } else { &STS3215 };
    let known = ranged(&motor(table), &robot.parts[2], range, hand.offset)?;
    assert!(known.range_min >= 0 && known.range_max <= 4095, "{known:?}");
    // With it the motor is read again at both ends.
    let [lower, upper] = hand.ends.map(|end| hand.says(end, known.homing_offset));
    Ok((known.range_min - lower).abs().max((known.range_max - upper).abs()))
}

#[test]
fn a_range_is_right_within_two_ticks_or_refused() {
    let (mut rng, mut right, mut refused, mut refused_at_best) = (Rng::with_seed(1), 0, 0, 0);
    for case in 0..10_000 {
        let hand = Hand::drawn(&mut rng);
        // A third of all at a good cable, and no faster than hands are.
        let is_good = case % 3 == 0;
        let bad = |rng: &mut Rng, most: f64| if is_good { 0.0 } else { rng.f64() * most };
        let cable = Cable {
            period_s: 0.004 + rng.f64() * 0.016,
            lost: if is_good { 0.05 } else { rng.f64() * 0.4 },
            breaks: bad(&mut rng, 0.005),
            longest_break_s: 0.5,
            flipped: bad(&mut rng, 0.01),
        };
        let hand = if is_good { Hand { speed: hand.speed.min(5500.0), ..hand } } else { hand };
        let mut sweep = Sweep::new(vec![joint("elbow_flex", !hand.is_dynamixel)]);
        let now = hand.sweep(&cable, &mut rng, &mut sweep, &[]);
        match sweep.finish(now).and_then(|ranges| wrong_by(&hand, ranges[0])) {
            Ok(ticks) => {
                assert!(ticks <= 2, "case {case}: {ticks} ticks off, {:?}, speed {}", hand.ends, hand.speed);
                right += 1;
            }
            Err(refusal) => {
                refused += 1;
                refused_at_best += u32::from(is_good);
                assert!(!is_good || !matches!(refusal, Refusal::BeyondTurn { .. } | Refusal::Outside { .. }), "case {case}: {refusal}");
            }
        }
    }
    // What is refused all the time is right, too.
    assert_eq!(refused_at_best, 0, "{right} right, {refused} refused");
    assert!(right > 5_000, "{right} right, {refused} refused");
}

const GOOD: Cable = Cable { period_s: 0.01, lost: 0.0, breaks: 0.0, longest_break_s: 0.0, flipped: 0.0 };

fn hand(way: &[f64]) -> Hand {
    let ends = [way.iter().copied().fold(f64::MAX, f64::min), way.iter().copied().fold(f64::MIN, f64::max)];
    Hand { ends, offset: 0, way: way.to_vec(), speed: 2000.0, rest_s: 0.4, is_dynamixel: false }
}

fn refusal(hand: &Hand, cable: &Cable) -> Refusal {
    let mut sweep = Sweep::new(vec![joint("elbow_flex", true)]);
    let now = hand.sweep(cable, &mut Rng::with_seed(7), &mut sweep, &[]);
    sweep.finish(now).and_then(|ranges| wrong_by(hand, ranges[0])).unwrap_err()
}

#[test]
fn what_can_t_be_is_refused_with_its_reason() {
    let little = refusal(&hand(&[1000.0, 1200.0, 900.0, 1000.0]), &GOOD).to_string();
    assert!(little.starts_with("elbow_flex was moved by 26.") && little.ends_with("at least 52.7"), "{little}");
    let turns = refusal(&hand(&[0.0, 5000.0, 100.0]), &GOOD);
    assert!(matches!(turns, Refusal::BeyondTurn { .. }), "{turns}");
    let fast = refusal(&Hand { speed: 200_000.0, ..hand(&[0.0, 1800.0, 0.0, 1000.0]) }, &GOOD);
    assert!(matches!(fast, Refusal::Jump { .. }), "{fast}");
    let broken = refusal(&hand(&[0.0, 1800.0, 0.0, 1000.0]), &Cable { breaks: 0.01, longest_break_s: 3.0, ..GOOD });
    assert!(matches!(broken, Refusal::Gap { .. }), "{broken}");
    let silent = refusal(&hand(&[0.0, 1800.0, 0.0]), &Cable { lost: 1.0, ..GOOD });
    assert!(matches!(silent, Refusal::Silent { .. }), "{silent}");

    // One answer beyond an end, not far enough to be no hand's.
    let mut sweep = Sweep::new(vec![joint("elbow_flex", true)]);
    let at = |ms: u64| Timestamp::from_nanos((ms * 1_000_000) as i64);
    for ms in 0..200 {
        sweep.take(at(10 * ms), &[Some(1000 + if ms == 150 { 850 } else { 8 * ms.saturating_sub(20).min(100) as i32 })]);
    }
    assert!(matches!(sweep.finish(at(1990)), Err(Refusal::NotHeld { .. })), "{:?}", sweep.finish(at(1990)));
    // One that a hand can't have made is passed over.
    let mut sweep = Sweep::new(vec![joint("elbow_flex", true)]);
    for ms in 0..200 {
        sweep.take(at(10 * ms), &[Some(if ms == 150 { 4000 } else { 1000 + 8 * ms.saturating_sub(20).min(100) as i32 })]);
    }
    assert_eq!(sweep.finish(at(1990)), Ok(vec![Swept { lower: 1000, upper: 1800 }]));
    assert!(matches!(sweep.finish(at(2500)), Err(Refusal::Gap { .. })), "nothing is known of what came after");
}

#[test]
fn joints_that_do_the_same_are_mixed_up() {
    let mut sweep = Sweep::new(vec![joint("shoulder_pan", true), joint("elbow_flex", true), joint("gripper", true)]);
    let mut other = sweep.clone();
    for ms in 0..500_i64 {
        let at = Timestamp::from_nanos(ms * 10_000_000);
        let way = ((ms - 20).clamp(0, 230) * 6) as i32;
        let late = ((ms - 240).clamp(0, 230) * 6) as i32;
        sweep.take(at, &[Some(100 + way), Some((3800 + way) % 4096), Some(late)]);
        other.take(at, &[Some(100 + way), Some((3800 - way + 4096) % 4096), Some(late)]);
    }
    let now = Timestamp::from_nanos(5_000_000_000);
    let refusal = sweep.finish(now).unwrap_err().to_string();
    assert!(refusal.starts_with("shoulder_pan and elbow_flex moved alike all the time"), "{refusal}");
    assert!(other.finish(now).is_ok(), "{:?}", other.finish(now));
}

#[test]
fn an_offset_fits_its_register_wherever_the_middle_is() {
    let robot = so101();
    for table in [&STS3215, &XL330_M288] {
        let is_dynamixel = table == &XL330_M288;
        for (place, now) in (0..4096).flat_map(|place| [0, 2047, -2047, -85].map(|now| (place, now))) {
            let range = Swept { lower: place - 700, upper: place + 701 };
            // A Dynamixel forgets turns when it is switched off.
            let shaft = place - now;
            let pose = turned(&motor(table), &robot.parts[2], place, now);
            if is_dynamixel && !(-24..4120).contains(&shaft) {
                let refusal = pose.unwrap_err().to_string();
                assert!(refusal.contains(&format!("is at {shaft} ticks, turns away")), "{refusal}");
                continue;
            }
            let pose = pose.unwrap();
            let known = ranged(&motor(table), &robot.parts[2], range, now);
            if is_dynamixel && !(676..3419).contains(&shaft) {
                let refusal = known.unwrap_err().to_string();
                assert!(refusal.contains("reads a turn off when it is switched on beyond it"), "{refusal}");
                continue;
            }
            let known = known.unwrap();
            for offset in [known.homing_offset, pose.homing_offset] {
                assert!(table.encode(crate::Register::HomingOffset, MotorId(1), offset).is_ok(), "{place} {now} {offset}");
                let reads = if is_dynamixel { place - now + offset } else { (place + now - offset).rem_euclid(4096) };
                assert!(reads == 2047 || reads == 2048, "{place} {now} {offset}: {reads}");
            }
            assert_eq!((pose.range_min, pose.range_max), (0, 4095));
            assert_eq!(known.range_max - known.range_min, 1401);
        }
    }
}

#[test]
fn the_least_way_is_half_the_range_that_is_known() {
    let robot = so101();
    let degrees = |i: usize| f64::from(least(&robot.parts[i], &STS3215)) * 360.0 / TURN;
    assert!((degrees(0) - 110.0).abs() < 0.1, "{}", degrees(0));
    assert!((degrees(5) - 55.0).abs() < 0.1, "{}", degrees(5));
}

/// What Linux says of a USB adapter.
fn plug(root: &Path, name: &str, [vendor, product, serial]: [&str; 3]) {
    let device = root.join("sys/devices/usb1").join(format!("1-{name}"));
    let interface = device.join(format!("1-{name}:1.0"));
    std::fs::create_dir_all(&interface).unwrap();
    std::fs::create_dir_all(root.join("dev/serial/by-id")).unwrap();
    for (what, text) in [("idVendor", vendor), ("idProduct", product), ("serial", serial), ("product", "USB Single Serial")] {
        std::fs::write(device.join(what), format!("{text}\n")).unwrap();
    }
    let tty = root.join("sys/class/tty").join(name);
    std::fs::create_dir_all(&tty).unwrap();
    std::os::unix::fs::symlink(interface, tty.join("device")).unwrap();
    std::fs::write(root.join("dev").join(name), "").unwrap();
    std::os::unix::fs::symlink(format!("../../{name}"), root.join("dev/serial/by-id").join(format!("usb-{serial}-if00"))).unwrap();
}

#[test]
#[cfg(unix)]
fn ports_are_those_with_a_device_and_known_adapters_come_first() {
    let root = tempfile::tempdir().unwrap();
    std::fs::create_dir_all(root.path().join("sys/class/tty/tty0")).unwrap();
    plug(root.path(), "ttyACM0", ["dead", "beef", "X"]);
    plug(root.path(), "ttyACM1", ["1a86", "55d3", "58FA0834"]);
    let ports = serial_ports_in(root.path()).unwrap();
    let paths: Vec<&str> = ports.iter().map(|port| port.path.as_str()).collect();
    assert_eq!(paths, ["/dev/ttyACM1", "/dev/ttyACM0"]);
    assert_eq!((ports[0].adapter.unwrap().chip, ports[0].serial.as_deref()), ("CH343", Some("58FA0834")));
    assert_eq!(ports[0].by_id.as_deref(), Some("/dev/serial/by-id/usb-58FA0834-if00"));
    assert_eq!((ports[1].vendor, ports[1].adapter, ports[1].title.as_deref()), (Some(0xdead), None, Some("USB Single Serial")));
    std::fs::remove_file(root.path().join("dev/ttyACM1")).unwrap();
    assert_eq!(serial_ports_in(root.path()).unwrap().len(), 1);
    assert!(serial_ports_in(&root.path().join("no")).unwrap_err().to_string().starts_with("listing serial ports"));
}
