//! A serial bus with emulated motors on a real terminal.

#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stdout, reason = "what fails here fails the test, and figures are printed")]

mod common;

use std::time::{Duration, Instant};

use common::{Bench, ids, light};
use sinew_core::Timestamp;
use sinew_drivers::wire::Protocol;
use sinew_drivers::{
    Block, Bus, BusError, Bytes, ControlTable, Frame, MotorFault, MotorId, Operation, PortAddress, Register, Reply, SerialBus,
    SerialOptions,
};
use sinew_emulator::{Asked, Event, Fault, Options, Rates, Robot};

const POSITION: Block = Block { address: 56, len: 2 };
const ARM: [&str; 6] = ["shoulder_pan", "shoulder_lift", "elbow_flex", "wrist_flex", "wrist_roll", "gripper"];

fn replies<const N: usize>(motors: [u16; N], block: Block) -> [Reply; N] {
    motors.map(|id| Reply::of(MotorId(id), Operation::Read(block)))
}

fn frame(table: &ControlTable, register: Register, motor: u16, value: i32) -> (u16, Frame) {
    let motor = MotorId(motor);
    let (bytes, len) = table.encode(register, motor, value).unwrap();
    let bytes = Bytes::of(&bytes[..usize::from(len)]).unwrap();
    (table.field(register, motor).unwrap().address, Frame { motor, bytes })
}

fn faults(replies: &[Reply]) -> Vec<Option<MotorFault>> {
    replies.iter().map(|reply| reply.answer.err().map(|error| error.fault)).collect()
}

/// Positions as read, or `None`.
fn positions(table: &ControlTable, replies: &[Reply]) -> Vec<Option<i32>> {
    let value = |reply: &Reply| {
        let bytes = reply.answer.ok()?.bytes;
        let address = table.field(Register::PresentPosition, reply.motor).unwrap().address;
        Some(table.decode(Register::PresentPosition, reply.motor, address, bytes.as_slice()).unwrap())
    };
    replies.iter().map(value).collect()
}

/// Whether positions are as expected, but for what an encoder trembles.
fn are_near(found: &[Option<i32>], expected: &[Option<i32>]) -> bool {
    let is_near = |(found, expected): (&Option<i32>, &Option<i32>)| match (found, expected) {
        (Some(found), Some(expected)) => (found - expected).abs() <= 2,
        (found, expected) => found == expected,
    };
    found.len() == expected.len() && found.iter().zip(expected).all(is_near)
}

#[test]
fn every_protocol_reads_writes_and_pings_all_motors_of_its_robots() {
    for robot in [light(Robot::so101_follower()), light(Robot::koch_follower()), light(Robot::hope_jr_hand())] {
        let bench = Bench::new(&robot, Options::default());
        let table = robot.joints[0].table;
        let mut bus = bench.bus(table.protocol);
        let block = table.block(&[Register::PresentPosition], MotorId(0)).unwrap();
        for joint in &robot.joints {
            bus.ping(MotorId(joint.id.into()), bench.within(100)).unwrap();
        }
        let mut all: Vec<Reply> = robot.joints.iter().map(|joint| Reply::of(MotorId(joint.id.into()), Operation::Read(block))).collect();
        bench.emulator.move_by_hand(&robot.joints[1].name, 700.0).unwrap();
        bus.read(block, &mut all, bench.within(500)).unwrap();
        let middle = i32::from(table.resolution) / 2;
        let mut expected = vec![Some(middle); all.len()];
        expected[1] = Some(700);
        let found = positions(table, &all);
        assert!(are_near(&found, &expected), "{}: {found:?}", robot.name);
        let (address, first) = frame(table, Register::GoalPosition, robot.joints[0].id.into(), middle + 40);
        let (_, second) = frame(table, Register::GoalPosition, robot.joints[1].id.into(), 650);
        bus.write(address, &[first, second], bench.within(100)).unwrap();
        let (address, on) = frame(table, Register::TorqueEnable, robot.joints[0].id.into(), 1);
        bus.write_one(address, &on, bench.within(100)).unwrap();
        let goal = |name: &str| bench.emulator.register(name, Register::GoalPosition).unwrap();
        assert_eq!(goal(&robot.joints[1].name), 650, "{}", robot.name);
        assert_eq!(bench.emulator.register(&robot.joints[0].name, Register::TorqueEnable).unwrap(), 1);
        let log = bench.emulator.log();
        assert_eq!((log.sync_reads(), log.sync_writes()), (usize::from(table.protocol != Protocol::Feetech1), 1), "{}", robot.name);
        assert_eq!((log.garbage, log.collisions, bus.counts().retries), (0, 0, 0), "{}: {:?}", robot.name, bus.counts());
        let motors: Vec<MotorId> = robot.joints.iter().map(|joint| MotorId(joint.id.into())).collect();
        bus.torque_off(&motors, bench.within(500)).unwrap();
        assert_eq!(bench.emulator.register(&robot.joints[0].name, Register::TorqueEnable).unwrap(), 0);
    }
}

#[test]
fn a_port_that_is_not_there_or_taken_is_an_error_that_names_it() {
    let bench = Bench::so101();
    let first = bench.bus(Protocol::Feetech0);
    let error = SerialBus::open(bench.options(Protocol::Feetech0), bench.clock.clone()).err().unwrap();
    assert!(matches!(error, BusError::Open { .. }), "{error:?}");
    assert!(error.to_string().contains(" at 1000000 bits a second"), "{error}");
    drop(first);
    drop(bench.bus(Protocol::Feetech0));
    for address in [PortAddress::Path("no-such-port".into()), PortAddress::Usb { serial: "none has this".into() }] {
        let options = SerialOptions::new(address, Protocol::Feetech0, 1_000_000);
        let error = SerialBus::open(options, bench.clock.clone()).err().unwrap();
        assert!(matches!(error, BusError::Open { .. }), "{error:?}");
    }
    let file = bench.folder.path().join("file");
    std::fs::write(&file, b"no port").unwrap();
    let options = SerialOptions::new(PortAddress::Path(file.to_str().unwrap().into()), Protocol::Feetech0, 1_000_000);
    assert!(SerialBus::open(options, bench.clock.clone()).is_err());
    assert_eq!(std::fs::read(&file).unwrap(), b"no port");
}

#[test]
fn only_those_are_asked_again_that_did_not_answer() {
    let bench = Bench::so101();
    let mut bus = bench.bus(Protocol::Feetech0);
    for name in ["shoulder_lift", "wrist_roll"] {
        bench.emulator.happen(Event::Answer(name.into(), Fault::Drop)).unwrap();
    }
    let mut all = replies([1, 2, 3, 4, 5, 6], POSITION);
    bus.read(POSITION, &mut all, bench.within(300)).unwrap();
    assert_eq!(faults(&all), [None; 6]);
    assert_eq!(all.map(|reply| reply.attempts), [1, 2, 1, 1, 2, 1]);
    let asked: Vec<Vec<u8>> = bench
        .emulator
        .log()
        .entries
        .into_iter()
        .map(|entry| match entry.asked {
            Asked::SyncRead { mut ids, .. } => {
                ids.sort_unstable();
                ids
            }
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(asked, [vec![1, 2, 3, 4, 5, 6], vec![2, 5]]);
}

#[test]
fn every_fault_is_survived_and_no_value_is_wrong() {
    let faults_there_are = [
        Fault::Drop,
        Fault::Truncate(5),
        Fault::FlipBit(45),
        Fault::FlipBit(3),
        Fault::FlipBit(25),
        Fault::Delay(Duration::from_millis(12)),
        Fault::Foreign(vec![0xff, 0xff, 2, 4, 0]),
        Fault::Foreign(vec![0xff, 0xff, 0xfd, 0, 2, 7]),
        Fault::Duplicate,
        Fault::ErrorBits(32),
    ];
    for robot in [light(Robot::so101_follower()), light(Robot::koch_follower())] {
        let bench = Bench::new(&robot, Options::default());
        let table = robot.joints[0].table;
        let mut bus = bench.bus(table.protocol);
        let block = table.block(&[Register::PresentPosition], MotorId(0)).unwrap();
        for (i, fault) in faults_there_are.iter().enumerate() {
            // Of Dynamixel the lower bits are a refusal.
            let is_refusal = table.protocol == Protocol::Dynamixel2 && *fault == Fault::ErrorBits(32);
            let fault = if is_refusal { &Fault::ErrorBits(0x80) } else { fault };
            for (place, name) in ARM.iter().enumerate() {
                bench.emulator.move_by_hand(name, 1000.0 + 100.0 * i as f64 + place as f64).unwrap();
            }
            bench.emulator.happen(Event::Answer("shoulder_lift".into(), fault.clone())).unwrap();
            let mut all = replies([1, 2, 3, 4, 5, 6], block);
            bus.read(block, &mut all, bench.within(400)).unwrap();
            let expected: Vec<Option<i32>> = (0..6).map(|place| Some(1000 + 100 * i as i32 + place)).collect();
            let found = positions(table, &all);
            assert!(are_near(&found, &expected), "{}: {fault:?} {found:?} {:?}", robot.name, faults(&all));
        }
        // A motor that keeps the wire busy for long costs values, and makes none wrong.
        bench.emulator.happen(Event::Answer("shoulder_lift".into(), Fault::Delay(Duration::from_millis(40)))).unwrap();
        let mut all = replies([1, 2, 3, 4, 5, 6], block);
        bus.read(block, &mut all, bench.within(30)).unwrap();
        bench.emulator.move_by_hand("shoulder_pan", 900.0).unwrap();
        std::thread::sleep(Duration::from_millis(60));
        bus.read(block, &mut all, bench.within(300)).unwrap();
        let found = positions(table, &all);
        assert!(are_near(&found[..2], &[Some(900), Some(1901)]), "{}: {found:?}", robot.name);
    }
}

#[test]
fn an_alarm_comes_with_its_value() {
    let bench = Bench::so101();
    let mut bus = bench.bus(Protocol::Feetech0);
    bench.emulator.happen(Event::Answer("gripper".into(), Fault::ErrorBits(32))).unwrap();
    let mut all = replies([5, 6], POSITION);
    bus.read(POSITION, &mut all, bench.within(200)).unwrap();
    assert_eq!(all.map(|reply| reply.answer.unwrap().alert), [0, 32]);
}

#[test]
fn an_echo_is_no_answer() {
    for robot in [light(Robot::so101_follower()), light(Robot::koch_follower())] {
        let bench = Bench::new(&robot, Options { echo: true, ..Options::default() });
        let table = robot.joints[0].table;
        let mut bus = bench.bus(table.protocol);
        let block = table.block(&[Register::PresentPosition], MotorId(0)).unwrap();
        for _ in 0..3 {
            let mut one = replies([1], block);
            bus.read(block, &mut one, bench.within(200)).unwrap();
            assert!(are_near(&positions(table, &one), &[Some(2048)]));
            let mut all = replies([1, 2, 3, 4, 5, 6], block);
            bus.read(block, &mut all, bench.within(200)).unwrap();
            assert!(are_near(&positions(table, &all), &[Some(2048); 6]));
            bus.ping(MotorId(3), bench.within(200)).unwrap();
        }
    }
}

#[test]
fn a_late_answer_belongs_to_nobody() {
    let bench = Bench::so101();
    let mut bus = bench.bus(Protocol::Feetech0);
    bench.emulator.happen(Event::Answer("shoulder_pan".into(), Fault::Delay(Duration::from_millis(30)))).unwrap();
    let mut one = replies([1], POSITION);
    // Time for one attempt.
    bus.read(POSITION, &mut one, bench.within(12)).unwrap();
    assert_eq!(faults(&one), [Some(MotorFault::NoAnswer)]);
    std::thread::sleep(Duration::from_millis(60));
    // Another question of the same length: what lies there is no answer to it.
    let limits = Block { address: 11, len: 2 };
    let mut other = replies([1], limits);
    bus.read(limits, &mut other, bench.within(200)).unwrap();
    assert_eq!(other[0].answer.unwrap().bytes.as_slice(), [0xff, 0x0f]);
    assert!(bus.counts().stale_bytes >= 8, "{:?}", bus.counts());
}

#[test]
fn a_dead_motor_costs_the_others_little_and_is_named() {
    for robot in [light(Robot::so101_follower()), light(Robot::koch_follower()), light(Robot::hope_jr_hand())] {
        let bench = Bench::new(&robot, Options::default());
        let table = robot.joints[0].table;
        let mut bus = bench.bus(table.protocol);
        let block = table.block(&[Register::PresentPosition], MotorId(0)).unwrap();
        for place in [1, 3] {
            bench.emulator.happen(Event::Die(robot.joints[place].name.clone())).unwrap();
        }
        let expected = [false, true, false, true, false, false];
        for turn in 0..3 {
            let mut all = replies([1, 2, 3, 4, 5, 6], block);
            let begin = Instant::now();
            bus.read(block, &mut all, bench.within(400)).unwrap();
            let took = begin.elapsed();
            assert_eq!(all.map(|reply| reply.answer.is_err()), expected, "{}", robot.name);
            let error = all[1].answer.unwrap_err();
            assert_eq!(error.fault, MotorFault::NoAnswer);
            assert!(error.to_string().contains("of motor 2: no answer before the deadline"), "{error}");
            if turn > 0 {
                assert_eq!((all[1].attempts, all[0].attempts), (1, 1), "{}", robot.name);
                assert!(took < Duration::from_millis(60), "{}: {took:?}", robot.name);
            }
        }
    }
}

#[test]
fn nothing_is_begun_that_can_not_be_finished_in_time() {
    let bench = Bench::so101();
    let mut bus = bench.bus(Protocol::Feetech0);
    let mut all = replies([1, 2, 3], POSITION);
    bus.read(POSITION, &mut all, bench.within(1)).unwrap();
    assert_eq!(faults(&all), [Some(MotorFault::NotAsked); 3]);
    assert!(bus.ping(MotorId(1), Timestamp::ZERO).unwrap_err().to_string().ends_with("it was not asked before the deadline"));
    let (address, goal) = frame(&sinew_drivers::STS3215, Register::GoalPosition, 1, 5);
    assert!(bus.write(address, &[goal], Timestamp::ZERO).is_err());
    assert!(bench.emulator.log().entries.is_empty());
    // And what nobody answers ends at its deadline.
    let begin = Instant::now();
    let error = bus.ping(MotorId(99), bench.within(30)).unwrap_err();
    assert!(begin.elapsed() < Duration::from_millis(60));
    assert_eq!(error.to_string(), "a ping of motor 99: no answer before the deadline");
}

#[test]
fn a_wrong_speed_is_silence_and_garbage_without_end_is_said() {
    let bench = Bench::so101();
    let options = SerialOptions { baud: 115_200, ..bench.options(Protocol::Feetech0) };
    let mut bus = SerialBus::open(options, bench.clock.clone()).unwrap();
    assert!(matches!(bus.ping(MotorId(1), bench.within(100)), Err(BusError::Motor(_))));
    drop(bus);
    let mut bus = bench.bus(Protocol::Feetech0);
    let options = Options { rates: Rates { truncate: 1.0, foreign: 1.0, ..Rates::default() }, ..Options::default() };
    bench.emulator.happen(Event::Rates(options.rates)).unwrap();
    let mut garbage = 0;
    for _ in 0..20 {
        let mut all = replies([1, 2, 3, 4, 5, 6], POSITION);
        match bus.read(POSITION, &mut all, bench.within(300)) {
            Err(BusError::Garbage { bytes, .. }) => {
                garbage += 1;
                assert!(bytes > 0);
                assert_eq!(faults(&all), [Some(MotorFault::NotAsked); 6]);
            }
            other => other.unwrap(),
        }
    }
    println!("{garbage} of 20 reads said that all is garbage");
    bench.emulator.happen(Event::Rates(Rates::default())).unwrap();
    std::thread::sleep(Duration::from_millis(20));
    bus.ping(MotorId(1), bench.within(200)).unwrap();
}

#[test]
fn a_lost_port_is_known_at_once_and_can_be_opened_again() {
    let bench = Bench::so101();
    let mut bus = bench.bus(Protocol::Feetech0);
    bus.ping(MotorId(1), bench.within(100)).unwrap();
    bench.emulator.happen(Event::Unplug).unwrap();
    let begin = Instant::now();
    let mut all = replies([1, 2, 3], POSITION);
    let error = bus.read(POSITION, &mut all, bench.within(300)).unwrap_err();
    assert!(matches!(error, BusError::Lost { .. }), "{error:?}");
    assert!(begin.elapsed() < Duration::from_millis(50));
    assert!(!bus.is_open());
    assert!(matches!(bus.ping(MotorId(1), bench.within(100)), Err(BusError::Lost { .. })));
    assert!(matches!(bus.reopen(), Err(BusError::Open { .. })));
    bench.emulator.happen(Event::Replug).unwrap();
    bus.reopen().unwrap();
    bus.read(POSITION, &mut all, bench.within(300)).unwrap();
    assert_eq!(faults(&all), [None; 3]);
}

#[test]
fn torque_goes_off_at_those_that_are_named_and_one_that_is_dead_keeps_no_other_from_it() {
    let bench = Bench::so101();
    let mut bus = bench.bus(Protocol::Feetech0);
    for id in 1..=6 {
        let (address, on) = frame(&sinew_drivers::STS3215, Register::TorqueEnable, id, 1);
        bus.write_one(address, &on, bench.within(100)).unwrap();
    }
    bench.emulator.happen(Event::Die("shoulder_pan".into())).unwrap();
    let error = bus.torque_off(&ids([1, 2, 3, 4, 5]), bench.within(200)).unwrap_err();
    assert!(error.to_string().starts_with("switching off the torque of motor 1"), "{error}");
    let torque = |name: &str| bench.emulator.register(name, Register::TorqueEnable).unwrap();
    assert_eq!(ARM[1..].iter().map(|name| torque(name)).collect::<Vec<_>>(), [0, 0, 0, 0, 1]);
}

#[test]
fn packets_alone_switch_the_torque_off() {
    for robot in [light(Robot::so101_follower()), light(Robot::koch_follower()), light(Robot::hope_jr_hand())] {
        let bench = Bench::new(&robot, Options::default());
        let table = robot.joints[0].table;
        let mut bus = bench.bus(table.protocol);
        for joint in &robot.joints {
            let (address, on) = frame(table, Register::TorqueEnable, joint.id.into(), 1);
            bus.write_one(address, &on, bench.within(100)).unwrap();
        }
        let motors: Vec<MotorId> = robot.joints.iter().map(|joint| MotorId(joint.id.into())).collect();
        let packets = bus.torque_off_packets(&motors);
        assert_eq!(packets.len(), 1 + motors.len());
        let mut port: std::fs::File = bus.descriptor().unwrap().into();
        let gap = bus.gap();
        drop(bus);
        for packet in packets {
            std::io::Write::write_all(&mut port, &packet).unwrap();
            std::thread::sleep(gap);
        }
        std::thread::sleep(Duration::from_millis(20));
        for joint in &robot.joints {
            assert_eq!(bench.emulator.register(&joint.name, Register::TorqueEnable).unwrap(), 0, "{} {}", robot.name, joint.name);
        }
    }
}

#[test]
fn what_the_protocol_does_not_have_is_refused() {
    let bench = Bench::so101();
    let mut bus = bench.bus(Protocol::Feetech0);
    assert!(matches!(bus.reboot(MotorId(1), bench.within(100)), Err(BusError::NotInProtocol { .. })));
    assert!(matches!(bus.exchange(&[], &mut [], bench.within(100)), Err(BusError::NotInProtocol { .. })));
    let error = bus.ping(MotorId(300), bench.within(100)).unwrap_err();
    assert_eq!(error.to_string(), "a ping of motor 300: a ping of motor 255: ids go to 253, and 254 means all");
    let long = Block { address: 0, len: 65 };
    assert!(bus.read(long, &mut replies([1], long), bench.within(100)).is_err());
    assert!(bench.emulator.log().entries.is_empty());
    let koch = Bench::new(&light(Robot::koch_follower()), Options::default());
    let mut bus = koch.bus(Protocol::Dynamixel2);
    bus.reboot(MotorId(1), koch.within(100)).unwrap();
    let error = bus.write_one(116, &Frame { motor: MotorId(1), bytes: Bytes::of(&[0, 0, 1, 0]).unwrap() }, koch.within(100)).unwrap_err();
    assert!(matches!(error, BusError::Motor(error) if matches!(error.fault, MotorFault::Refused { .. })), "{error:?}");
}

/// Long and random: no value is ever wrong, whatever is on the wire.
fn noise(rates: Rates, reads: usize) -> (usize, usize) {
    let bench = Bench::new(&light(Robot::so101_follower()), Options { rates, seed: 7, ..Options::default() });
    let mut bus = bench.bus(Protocol::Feetech0);
    let table = &sinew_drivers::STS3215;
    let (mut missed, mut wrong) = (0, 0);
    for _ in 0..reads {
        let mut all = replies([1, 2, 3, 4, 5, 6], POSITION);
        match bus.read(POSITION, &mut all, bench.within(100)) {
            Ok(()) | Err(BusError::Garbage { .. }) => {}
            Err(error) => panic!("{error:?}"),
        }
        let read = positions(table, &all);
        missed += read.iter().filter(|position| position.is_none()).count();
        wrong += read.iter().filter(|position| position.is_some_and(|position| (position - 2048).abs() > 2)).count();
    }
    println!("{rates:?}: of {} values {missed} missed, {wrong} wrong; {:?}", 6 * reads, bus.counts());
    (missed, wrong)
}

#[test]
fn noise_makes_no_wrong_value() {
    let drop = noise(Rates { drop: 0.05, flip_bit: 0.001, ..Rates::default() }, 400);
    assert!(drop.0 <= 2 && drop.1 == 0, "{drop:?}");
    let all = Rates {
        drop: 0.02,
        truncate: 0.02,
        flip_bit: 0.02,
        foreign: 0.02,
        duplicate: 0.02,
        lost_instruction: 0.02,
        delay: 0.02,
        longest_delay: Duration::from_millis(5),
    };
    let all = noise(all, 400);
    assert!(all.0 <= 12 && all.1 == 0, "{all:?}");
}
