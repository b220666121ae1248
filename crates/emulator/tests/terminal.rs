//! Through the terminal, as any program on the other side sees it.

#![allow(clippy::unwrap_used, clippy::panic, reason = "what fails here fails the test")]

use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use rustix::fs::OFlags;
use rustix::termios::{OptionalActions, tcgetattr, tcsetattr};
use sinew_core::RobotDescription;
use sinew_drivers::wire::{BROADCAST, FastAnswers, Kind, Protocol, Scanned, Scanner, Side};
use sinew_drivers::{Block, ControlTable, MotorId, Register};
use sinew_emulator::{Asked, Emulator, Event, Fault, Options, Rates, Robot, RobotError};
use tempfile::TempDir;

/// Long enough for answers on a machine that has other things to do.
const PATIENCE: Duration = Duration::from_millis(400);
/// Long enough to know that there is none.
const SILENCE: Duration = Duration::from_millis(100);

#[derive(Clone, Debug, PartialEq, Eq)]
struct Seen {
    id: u8,
    error: u8,
    data: Vec<u8>,
}

/// The program on the other side.
struct Host {
    file: File,
    protocol: Protocol,
    scanner: Scanner,
    skipped: usize,
}

impl Host {
    fn open(emulator: &Emulator, protocol: Protocol, speed: u32) -> Self {
        let flags = (OFlags::NOCTTY | OFlags::NONBLOCK).bits() as i32;
        let file = OpenOptions::new().read(true).write(true).custom_flags(flags).open(emulator.port()).unwrap();
        let mut settings = tcgetattr(&file).unwrap();
        settings.make_raw();
        settings.set_speed(speed).unwrap();
        tcsetattr(&file, OptionalActions::Now, &settings).unwrap();
        Self { file, protocol, scanner: Scanner::new(protocol, Side::Master), skipped: 0 }
    }

    fn send(&mut self, packet: &[u8]) {
        self.file.write_all(packet).unwrap();
    }

    /// The next `count` answers, or those that came in time.
    fn hear(&mut self, count: usize, patience: Duration) -> Vec<Seen> {
        let until = Instant::now() + patience;
        let mut seen = Vec::new();
        let mut buffer = [0; 512];
        loop {
            while let Some(found) = self.scanner.scan() {
                match found {
                    Scanned::Packet(packet) => {
                        if let Kind::Status { error } = packet.kind {
                            seen.push(Seen { id: packet.id, error, data: packet.params.to_vec() });
                        }
                    }
                    Scanned::Skipped { bytes, .. } => self.skipped += bytes,
                }
                if seen.len() == count {
                    return seen;
                }
            }
            // Looked at first: this program may have been held up, and what came meanwhile counts.
            let is_late = Instant::now() > until;
            match self.file.read(&mut buffer) {
                Ok(len) => assert_eq!(self.scanner.feed(&buffer[..len]), len),
                Err(error) if error.kind() == ErrorKind::WouldBlock && is_late => break,
                Err(error) if error.kind() == ErrorKind::WouldBlock => std::thread::sleep(Duration::from_micros(100)),
                Err(error) => panic!("{error}"),
            }
        }
        self.scanner.end();
        while let Some(found) = self.scanner.scan() {
            if let Scanned::Skipped { bytes, .. } = found {
                self.skipped += bytes;
            }
        }
        seen
    }

    fn read(&mut self, id: u8, block: Block, patience: Duration) -> Option<Seen> {
        let mut packet = Vec::new();
        self.protocol.read(&mut packet, id, block).unwrap();
        self.send(&packet);
        self.hear(1, patience).pop()
    }

    fn write(&mut self, id: u8, table: &ControlTable, register: Register, value: i32) -> Option<Seen> {
        let field = table.field(register, MotorId(id.into())).unwrap();
        let (bytes, len) = table.encode(register, MotorId(id.into()), value).unwrap();
        let mut packet = Vec::new();
        self.protocol.write(&mut packet, id, field.address, &bytes[..usize::from(len)]).unwrap();
        self.send(&packet);
        self.hear(1, if id == BROADCAST { SILENCE } else { PATIENCE }).pop()
    }
}

struct Bench {
    emulator: Emulator,
    _folder: TempDir,
}

fn start(robot: &Robot, options: Options) -> Bench {
    let folder = TempDir::new().unwrap();
    let link: PathBuf = folder.path().join("port");
    Bench { emulator: Emulator::start(robot, &link, options).unwrap(), _folder: folder }
}

fn so101(options: Options) -> (Bench, Host) {
    let bench = start(&Robot::so101_follower(), options);
    let host = Host::open(&bench.emulator, Protocol::Feetech0, 1_000_000);
    (bench, host)
}

const POSITION: Block = Block { address: 56, len: 2 };

#[test]
fn six_motors_answer_one_question_in_their_order_and_it_takes_the_wire_s_time() {
    let (bench, mut host) = so101(Options::default());
    let mut packet = Vec::new();
    host.protocol.sync_read(&mut packet, POSITION, 1..=6).unwrap();
    let begin = Instant::now();
    host.send(&packet);
    let seen = host.hear(6, PATIENCE);
    let took = begin.elapsed();
    assert_eq!(seen.iter().map(|seen| seen.id).collect::<Vec<_>>(), [1, 2, 3, 4, 5, 6]);
    assert!(seen.iter().all(|seen| seen.error == 0 && seen.data.len() == 2));
    // 14 bytes there and 48 back at 10 us, and 500 us of return delay for each motor.
    assert!(took >= Duration::from_micros(620 + 6 * 500), "{took:?}");
    let log = bench.emulator.log();
    assert_eq!((log.entries.len(), log.sync_reads(), log.garbage, host.skipped), (1, 1, 0, 0));
    assert_eq!(log.entries[0].asked, Asked::SyncRead { block: POSITION, ids: vec![1, 2, 3, 4, 5, 6], is_fast: false });
    assert_eq!(log.entries[0].said.len(), 6);
    assert!(log.entries[0].at.duration_since(begin) >= Duration::from_micros(140));
}

#[test]
fn at_another_speed_nobody_understands() {
    let (bench, _) = so101(Options::default());
    let mut host = Host::open(&bench.emulator, Protocol::Feetech0, 115_200);
    assert_eq!(host.read(1, POSITION, SILENCE), None);
    assert!(!bench.emulator.log().entries.iter().any(|entry| entry.is_heard));
    let mut host = Host::open(&bench.emulator, Protocol::Feetech0, 1_000_000);
    assert!(host.read(1, POSITION, PATIENCE).is_some());
    // And a motor that was told to change is from then on alone with its speed.
    let table = bench.emulator.table("gripper").unwrap();
    assert!(host.write(6, table, Register::BaudRate, 4).is_some());
    assert_eq!(host.read(6, POSITION, SILENCE), None);
    let mut host = Host::open(&bench.emulator, Protocol::Feetech0, 115_200);
    assert!(host.read(6, POSITION, PATIENCE).is_some());
}

#[test]
fn a_pulled_cable_is_gone_and_comes_back_as_another_terminal() {
    let (bench, mut host) = so101(Options::default());
    let device = std::fs::read_link(bench.emulator.port()).unwrap();
    let table = bench.emulator.table("gripper").unwrap();
    host.write(1, table, Register::TorqueEnable, 1).unwrap();
    bench.emulator.happen(Event::Unplug).unwrap();
    assert!(!bench.emulator.port().exists());
    let error = host.file.write(&[1]).unwrap_err();
    assert!(error.raw_os_error().is_some(), "{error}");
    let mut buffer = [0; 8];
    // End of file or an error, as the system has it; never just nothing.
    assert!(!host.file.read(&mut buffer).is_err_and(|error| error.kind() == ErrorKind::WouldBlock));
    bench.emulator.happen(Event::Replug).unwrap();
    let again = std::fs::read_link(bench.emulator.port()).unwrap();
    assert!(again.exists() && device.starts_with("/dev/pts"));
    let mut host = Host::open(&bench.emulator, Protocol::Feetech0, 1_000_000);
    assert!(host.read(1, POSITION, PATIENCE).is_some());
    assert_eq!(bench.emulator.register("shoulder_pan", Register::TorqueEnable).unwrap(), 1);
}

#[test]
fn each_fault_is_what_it_says() {
    let (bench, mut host) = so101(Options::default());
    let name = || "shoulder_lift".to_owned();
    let next = |fault| bench.emulator.happen(Event::Answer(name(), fault)).unwrap();
    next(Fault::Drop);
    assert_eq!(host.read(2, POSITION, SILENCE), None);
    next(Fault::Truncate(5));
    assert_eq!(host.read(2, POSITION, PATIENCE), None);
    assert_eq!(host.skipped, 5);
    next(Fault::FlipBit(45));
    assert_eq!(host.read(2, POSITION, PATIENCE), None);
    assert_eq!(host.skipped, 13);
    next(Fault::Foreign(vec![0xff, 0xff, 2, 4, 0]));
    host.scanner.expect_at_most(2);
    assert!(host.read(2, POSITION, PATIENCE).is_some());
    assert_eq!(host.skipped, 18);
    next(Fault::ErrorBits(32));
    assert_eq!(host.read(2, POSITION, PATIENCE).unwrap().error, 32);
    next(Fault::Delay(Duration::from_millis(40)));
    let begin = Instant::now();
    assert!(host.read(2, POSITION, PATIENCE).is_some());
    assert!(begin.elapsed() >= Duration::from_millis(40));
    next(Fault::Duplicate);
    assert!(host.read(2, POSITION, PATIENCE).is_some());
    assert_eq!(host.hear(1, PATIENCE).len(), 1);
    // What happened is in the log, with what the motor had said.
    let log = bench.emulator.log();
    assert_eq!(log.count(|entry| entry.said.iter().any(|said| !said.is_whole)), 7);
    assert!(log.entries.iter().all(|entry| entry.said.len() == 1));
}

#[test]
fn two_motors_of_one_id_garble_each_other() {
    let (bench, mut host) = so101(Options::default());
    let table = bench.emulator.table("gripper").unwrap();
    host.write(6, table, Register::Id, 5).unwrap();
    let mut heard = 0;
    for _ in 0..20 {
        heard += usize::from(host.read(5, POSITION, SILENCE).is_some());
    }
    // A checksum of 8 bits lets one of 256 pass.
    assert!(heard <= 2, "{heard}");
    assert_eq!(host.read(6, POSITION, SILENCE), None);
    assert!(host.read(4, POSITION, PATIENCE).is_some());
}

#[test]
fn an_adapter_that_echoes_sends_back_what_it_gets() {
    let (_bench, mut host) = so101(Options { echo: true, ..Options::default() });
    let mut packet = Vec::new();
    host.protocol.read(&mut packet, 1, POSITION).unwrap();
    host.send(&packet);
    let seen = host.hear(2, PATIENCE);
    // To a scanner of Feetech's answers the echo looks like one, of error 2.
    assert_eq!(seen.iter().map(|seen| (seen.id, seen.error)).collect::<Vec<_>>(), [(1, 2), (1, 0)]);
    assert_eq!(seen[0].data, [56, 2]);
}

#[test]
fn who_speaks_while_motors_answer_is_not_understood() {
    let (bench, mut host) = so101(Options::default());
    let table = bench.emulator.table("gripper").unwrap();
    for id in 1..=6 {
        host.write(id, table, Register::ReturnDelayTime, 0).unwrap();
    }
    bench.emulator.take_log();
    let mut packet = Vec::new();
    host.protocol.sync_read(&mut packet, POSITION, 1..=6).unwrap();
    let twice = [packet.as_slice(), &packet].concat();
    host.send(&twice);
    let seen = host.hear(7, PATIENCE);
    assert!(seen.len() <= 6, "{}", seen.len());
    let log = bench.emulator.log();
    assert_eq!((log.collisions, log.entries.len()), (1, 1));
}

#[test]
fn an_answer_that_comes_too_late_comes_before_the_next() {
    let (bench, mut host) = so101(Options { noise_ticks: 0.0, ..Options::default() });
    let late = Fault::Delay(Duration::from_millis(250));
    bench.emulator.happen(Event::Answer("wrist_roll".to_owned(), late)).unwrap();
    assert_eq!(host.read(5, POSITION, SILENCE), None);
    bench.emulator.move_by_hand("wrist_roll", 3000.0).unwrap();
    let mut packet = Vec::new();
    host.protocol.read(&mut packet, 5, POSITION).unwrap();
    host.send(&packet);
    let positions: Vec<u16> = host.hear(2, 2 * PATIENCE).iter().map(|seen| u16::from_le_bytes([seen.data[0], seen.data[1]])).collect();
    assert_eq!((positions, bench.emulator.log().collisions), (vec![2048, 3000], 0));
}

#[test]
fn a_dead_motor_leaves_feetech_s_others_and_silences_dynamixel_s() {
    let (bench, mut host) = so101(Options::default());
    bench.emulator.happen(Event::Die("elbow_flex".to_owned())).unwrap();
    let mut packet = Vec::new();
    host.protocol.sync_read(&mut packet, POSITION, 1..=6).unwrap();
    host.send(&packet);
    let ids = |seen: Vec<Seen>| seen.into_iter().map(|seen| seen.id).collect::<Vec<_>>();
    assert_eq!(ids(host.hear(5, PATIENCE)), [1, 2, 4, 5, 6]);

    let bench = start(&Robot::koch_follower(), Options::default());
    let mut host = Host::open(&bench.emulator, Protocol::Dynamixel2, 1_000_000);
    let block = Block { address: 132, len: 4 };
    host.protocol.sync_read(&mut packet, block, 1..=6).unwrap();
    host.send(&packet);
    assert_eq!(ids(host.hear(6, PATIENCE)), [1, 2, 3, 4, 5, 6]);
    host.protocol.fast_sync_read(&mut packet, block, 1..=6).unwrap();
    host.send(&packet);
    let together = host.hear(1, PATIENCE).pop().unwrap();
    let parts: Vec<u8> = FastAnswers::new(together.error, &together.data, |_| Some(4)).map(|part| part.id).collect();
    assert_eq!(parts, [1, 2, 3, 4, 5, 6]);
    bench.emulator.happen(Event::Die("elbow_flex".to_owned())).unwrap();
    host.protocol.sync_read(&mut packet, block, 1..=6).unwrap();
    host.send(&packet);
    assert_eq!(ids(host.hear(6, SILENCE)), [1, 2]);
    host.protocol.fast_sync_read(&mut packet, block, 1..=6).unwrap();
    host.send(&packet);
    assert_eq!(ids(host.hear(1, SILENCE)), Vec::<u8>::new());
}

#[test]
fn the_log_tells_the_order_of_goal_and_torque() {
    let (bench, mut host) = so101(Options::default());
    let table = bench.emulator.table("gripper").unwrap();
    let mut packet = Vec::new();
    let goals: Vec<(u8, [u8; 2])> = (1..=6).map(|id| (id, 2100u16.to_le_bytes())).collect();
    let block = Block { address: 42, len: 2 };
    host.protocol.sync_write(&mut packet, block, goals.iter().map(|(id, bytes)| (*id, bytes.as_slice()))).unwrap();
    host.send(&packet);
    host.write(3, table, Register::TorqueEnable, 1).unwrap();
    host.protocol.torque_off(&mut packet, BROADCAST).unwrap();
    host.send(&packet);
    assert!(host.read(3, POSITION, PATIENCE).is_some());
    let log = bench.emulator.take_log();
    let goals = log.writes(table, Register::GoalPosition);
    let torque = log.writes(table, Register::TorqueEnable);
    assert_eq!(goals.iter().map(|(_, id, value)| (*id, *value)).collect::<Vec<_>>(), (1..=6).map(|id| (id, 2100)).collect::<Vec<_>>());
    assert_eq!(torque.iter().map(|(_, id, value)| (*id, *value)).collect::<Vec<_>>(), [(3, 1), (BROADCAST, 0)]);
    assert_eq!(log.persistent_bytes(table), 0);
    assert!(goals[0].0 < torque[0].0 && torque[0].0 < torque[1].0);
    assert_eq!(bench.emulator.register("elbow_flex", Register::TorqueEnable).unwrap(), 0);
    assert!(bench.emulator.log().entries.is_empty());
    host.write(3, table, Register::MaxTorqueLimit, 500).unwrap();
    assert_eq!(bench.emulator.log().persistent_bytes(table), 2);
}

#[test]
fn chance_is_the_same_for_the_same_seed() {
    let lost = |seed| {
        let rates = Rates { drop: 0.3, ..Rates::default() };
        let (bench, mut host) = so101(Options { seed, rates, ..Options::default() });
        for _ in 0..30 {
            host.read(1, POSITION, SILENCE);
        }
        let log = bench.emulator.log();
        log.entries.iter().flat_map(|entry| entry.said.iter().map(|said| said.is_whole)).collect::<Vec<_>>()
    };
    // On a busy machine the last instructions may not have come before the log was taken.
    let agree = |one: &[bool], other: &[bool]| one.iter().zip(other).take(20).all(|(one, other)| one == other);
    let first = lost(5);
    assert!(first.len() >= 20, "{first:?}");
    let (same, different) = (lost(5), lost(6));
    assert!(agree(&first, &same) && !agree(&first, &different), "{first:?} {same:?} {different:?}");
    let count = first.iter().filter(|is_heard| !**is_heard).count();
    assert!((2..20).contains(&count), "{count}");
}

#[test]
fn what_is_scheduled_happens() {
    let schedule = vec![(Duration::from_millis(1500), Event::Die("gripper".to_owned())), (Duration::from_millis(1600), Event::Unplug)];
    let (bench, mut host) = so101(Options { schedule, ..Options::default() });
    assert!(host.read(6, POSITION, PATIENCE).is_some());
    let until = Instant::now() + Duration::from_secs(5);
    while bench.emulator.port().exists() {
        assert!(Instant::now() < until);
        std::thread::sleep(Duration::from_millis(5));
    }
    assert!(bench.emulator.motor("gripper", |motor| motor.is_dead()).unwrap());
    let error = bench.emulator.happen(Event::Die("tail".to_owned())).unwrap_err().to_string();
    assert!(error.starts_with("there is no motor tail; there are shoulder_pan, "), "{error}");
}

/// The serial robots of robots/, a wire for each of their buses.
fn serial_robots() -> Vec<Robot> {
    let folder = std::path::Path::new(&std::env::var("CARGO_MANIFEST_DIR").unwrap()).join("../../robots");
    let text = |name: &str| std::fs::read_to_string(folder.join(name).join("robot.toml")).ok();
    let mut names: Vec<String> =
        std::fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    let mut wires = Vec::new();
    for name in names {
        let Some(own) = text(&name) else { continue };
        let description = RobotDescription::from_toml_with(&name, &own, &text).unwrap();
        match Robot::from_description(&description) {
            Ok(found) => wires.extend(found.into_iter().map(|(_, robot)| robot)),
            // Motors on CAN, or behind a daemon.
            Err(error) => assert!(matches!(error, RobotError::Protocol { .. }), "{error}"),
        }
    }
    wires
}

#[test]
fn every_motor_of_every_serial_robot_answers() {
    let robots = serial_robots();
    let names: Vec<&str> = robots.iter().map(|robot| robot.name.as_str()).collect();
    for name in ["so100", "bi_so right", "koch_leader", "omx", "lekiwi", "hope_jr_hand", "bi_openarm_mini left", "example"] {
        assert!(names.contains(&name), "{names:?}");
    }
    for robot in &robots {
        let protocol = robot.joints[0].table.protocol;
        let bench = start(robot, Options::default());
        let mut host = Host::open(&bench.emulator, protocol, 1_000_000);
        for joint in &robot.joints {
            let (motor, at) = (MotorId(joint.id.into()), || format!("{} of {}", joint.name, robot.name));
            // A busy machine may be late: it is asked again.
            let mut read = |register| {
                let block = joint.table.block(&[register], motor).unwrap();
                let seen = (0..5).find_map(|_| host.read(joint.id, block, PATIENCE)).unwrap_or_else(|| panic!("{}", at()));
                joint.table.decode(register, motor, block.address, &seen.data).unwrap()
            };
            assert_eq!(read(Register::ModelNumber), i32::from(joint.table.number), "{}", at());
            let middle = i32::from(joint.table.resolution) / 2;
            assert!((read(Register::PresentPosition) - middle).abs() < 60, "{}", at());
        }
    }
}

#[test]
fn what_is_no_link_is_not_replaced() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("mine");
    std::fs::write(&path, "text").unwrap();
    let error = Emulator::start(&Robot::so101_follower(), &path, Options::default()).err().unwrap();
    assert!(error.to_string().starts_with("emulating so101: opening a terminal at "), "{error}");
    assert_eq!(std::fs::read_to_string(&path).unwrap(), "text");
}
