//! A CAN bus behind a serial adapter: exchanges, registers, and what becomes of answers that come when nobody waits.

#![allow(clippy::unwrap_used, clippy::panic, reason = "what fails here fails the test")]

#[path = "common/can.rs"]
mod can;
mod common;

use std::sync::Arc;
use std::time::Duration;

use can::{CanRig, Faults, Motor};
use common::{RealClock, ids};
use sinew_core::{Clock, Timestamp};
use sinew_drivers::can::{CanAddress, CanAnswer, CanBus, CanModel, CanMotor, CanOptions, MitCommand, MotorState, Request};
use sinew_drivers::{Block, Bus, BusError, Bytes, Frame, MotorFault, MotorId, Operation, PortAddress, Reply};
use sinew_testkit::{CountingAllocator, allocator_calls};

#[global_allocator]
static ALLOCATOR: CountingAllocator = CountingAllocator;

struct Bench {
    rig: CanRig,
    bus: CanBus,
    clock: Arc<RealClock>,
    motors: Vec<CanMotor>,
}

impl Bench {
    fn new() -> Self {
        let rig = CanRig::new((1..=3).map(|id| Motor::damiao(id, "dm4310", 0.1 * f64::from(id))).collect());
        let model = CanModel::of("dm4310").unwrap();
        let motors: Vec<CanMotor> = (1..=3).map(|id| CanMotor { model, id, answer_id: id + 16 }).collect();
        let clock = RealClock::new();
        let address = CanAddress::Serial(PortAddress::Path(rig.port.clone()));
        let options = CanOptions { latency: Duration::from_millis(20), ..CanOptions::new(address, motors.clone()) };
        let bus = CanBus::open(options, clock.clone()).unwrap();
        Self { rig, bus, clock, motors }
    }

    fn within(&self, ms: u64) -> Timestamp {
        self.clock.now() + Duration::from_millis(ms)
    }

    /// The message of a request, as a bus's frames have it.
    fn frame(&self, id: u16, request: Request) -> Frame {
        let frame = self.motors[usize::from(id) - 1].ask(request).unwrap();
        let message = [&frame.id().to_le_bytes()[..], frame.data()].concat();
        Frame { motor: MotorId(id), bytes: Bytes::of(&message).unwrap() }
    }

    fn position(&self, reply: &Reply) -> f64 {
        match self.bus.answer(reply) {
            Some(CanAnswer::Feedback(feedback)) => feedback.position,
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn each_motor_gets_a_frame_and_gives_one() {
    let mut bench = Bench::new();
    let command = MitCommand { position: 0.2, stiffness: 10.0, damping: 1.0, ..MitCommand::default() };
    let frames = [bench.frame(3, Request::Command(command)), bench.frame(1, Request::Look), bench.frame(2, Request::Enable)];
    let mut replies = ids([3, 1, 2]).map(|motor| Reply::of(motor, Operation::Exchange));
    let deadline = bench.within(200);
    // The first time a socket or a port may make room for itself.
    bench.bus.exchange(&frames, &mut replies, deadline).unwrap();
    let before = allocator_calls();
    let deadline = bench.within(200);
    bench.bus.exchange(&frames, &mut replies, deadline).unwrap();
    assert_eq!(allocator_calls() - before, 0, "an exchange allocates nothing");
    for (reply, position) in replies.iter().zip([0.3, 0.1, 0.2]) {
        assert!((bench.position(reply) - position).abs() < 2e-4, "{reply:?}");
        assert_eq!(reply.answer.unwrap().alert, 0);
    }
    assert!(matches!(bench.bus.answer(&replies[2]), Some(CanAnswer::Feedback(said)) if said.state == Some(MotorState::Enabled)));
    let told = bench.rig.world().commands(3)[0];
    assert!((told.position - 0.2).abs() < 2e-4 && told.stiffness <= 10.0, "{told:?}");
    let off = bench.within(200);
    bench.bus.torque_off(&ids([1, 2, 3]), off).unwrap();
    assert!(bench.rig.world().motors.iter().all(|motor| motor.state == 0));
}

#[test]
fn registers_are_read_and_written() {
    let mut bench = Bench::new();
    let block = Block { address: 10, len: 4 };
    let mut replies = ids([1, 2, 3]).map(|motor| Reply::of(motor, Operation::Ping));
    let deadline = bench.within(200);
    bench.bus.read(block, &mut replies, deadline).unwrap();
    assert!(replies.iter().all(|reply| reply.answer.unwrap().bytes.as_slice() == [1, 0, 0, 0]));
    let frame = Frame { motor: MotorId(2), bytes: Bytes::of(&[3, 0, 0, 0]).unwrap() };
    let deadline = bench.within(200);
    bench.bus.write_one(10, &frame, deadline).unwrap();
    assert_eq!(bench.rig.world().motor(2).registers[&10], [3, 0, 0, 0]);
    let deadline = bench.within(200);
    bench.bus.write(10, &[frame, Frame { motor: MotorId(3), ..frame }], deadline).unwrap();
    assert_eq!(bench.rig.world().motor(3).registers[&10], [3, 0, 0, 0]);

    let deadline = bench.within(50);
    let fault = |result: Result<(), BusError>| match result {
        Err(BusError::Motor(error)) => error.fault,
        other => panic!("{other:?}"),
    };
    let short = bench.bus.read(Block { address: 10, len: 2 }, &mut replies, deadline);
    assert_eq!(fault(short), MotorFault::Length { found: 2, expected: 4 });
    assert!(matches!(bench.bus.ping(MotorId(9), deadline), Err(BusError::Motor(error)) if error.motor == MotorId(9)));
    assert!(matches!(bench.bus.reboot(MotorId(1), deadline), Err(BusError::NotInProtocol { .. })));
    let register = bench.bus.write_one(300, &frame, deadline);
    assert!(matches!(register, Err(BusError::NotInProtocol { .. })), "Damiao's registers have one byte");
}

#[test]
fn who_does_not_answer_is_an_error_of_that_motor() {
    let mut bench = Bench::new();
    bench.rig.world().motor(2).is_dead = true;
    let frames = [1, 2, 3].map(|id| bench.frame(id, Request::Look));
    let mut replies = ids([1, 2, 3]).map(|motor| Reply::of(motor, Operation::Exchange));
    let deadline = bench.within(100);
    bench.bus.exchange(&frames, &mut replies, deadline).unwrap();
    assert!(replies[0].answer.is_ok() && replies[2].answer.is_ok());
    assert_eq!(replies[1].answer.unwrap_err().to_string(), "an exchange of frames of motor 2: no answer before the deadline");
    assert_eq!(replies[1].attempts, 2);
    // Now that it is known to be silent it is asked once.
    let deadline = bench.within(100);
    bench.bus.exchange(&frames, &mut replies, deadline).unwrap();
    assert_eq!(replies[1].attempts, 1);
    // Too late to ask.
    let deadline = bench.clock.now();
    bench.bus.exchange(&frames, &mut replies, deadline).unwrap();
    assert!(replies.iter().all(|reply| reply.attempts == 0 && reply.answer.unwrap_err().fault == MotorFault::NotAsked));
}

#[test]
fn an_answer_that_comes_when_nobody_waits_is_nobodys() {
    let mut bench = Bench::new();
    bench.bus = {
        let address = CanAddress::Serial(PortAddress::Path(bench.rig.port.clone()));
        drop(bench.bus);
        let options = CanOptions { attempts: 1, latency: Duration::from_millis(20), ..CanOptions::new(address, bench.motors.clone()) };
        CanBus::open(options, bench.clock.clone()).unwrap()
    };
    let frames = [bench.motors[0].ask(Request::Look).unwrap()];
    let mut replies = [Reply::of(MotorId(1), Operation::Exchange)];
    bench.rig.world().faults = Faults { late: 1.0, late_by: Duration::from_millis(60), ..Faults::default() };
    let deadline = bench.within(30);
    bench.bus.transact(Operation::Exchange, &frames, &mut replies, deadline).unwrap();
    assert_eq!(replies[0].answer.unwrap_err().fault, MotorFault::NoAnswer);
    // It is elsewhere when its late answer comes, and is asked again after that.
    bench.rig.world().faults = Faults::default();
    bench.rig.world().motor(1).position = 1.0;
    std::thread::sleep(Duration::from_millis(90));
    let deadline = bench.within(100);
    bench.bus.transact(Operation::Exchange, &frames, &mut replies, deadline).unwrap();
    assert!((bench.position(&replies[0]) - 1.0).abs() < 1e-3);
    assert_eq!((bench.bus.counts().stale_frames, bench.bus.counts().late_answers), (1, 0));
}

#[test]
fn a_bus_that_is_gone_is_said_to_be_and_can_be_opened_again() {
    let mut bench = Bench::new();
    let CanRig { port, .. } = &bench.rig;
    let port = port.clone();
    let address = CanAddress::Serial(PortAddress::Path(port.clone()));
    let second = CanBus::open(CanOptions::new(address, Vec::new()), bench.clock.clone());
    assert!(matches!(second, Err(BusError::Open { .. })), "somebody else has it");
    bench.rig = CanRig::new(Vec::new());
    let deadline = bench.within(100);
    let error = bench.bus.ping(MotorId(1), deadline).unwrap_err();
    assert!(matches!(&error, BusError::Lost { port: lost, .. } if *lost == port), "{error}");
    assert!(!bench.bus.is_open() && bench.bus.torque_off_packets(&ids([1])).is_empty());
    assert!(matches!(bench.bus.ping(MotorId(1), deadline), Err(BusError::Lost { .. })));
}

#[test]
fn a_network_interface_that_is_not_there_is_an_error() {
    let clock = RealClock::new();
    let options = CanOptions::new(CanAddress::parse("can97"), Vec::new());
    let error = CanBus::open(options, clock).err().unwrap();
    assert!(matches!(&error, BusError::Open { port, .. } if port == "can97"), "{error}");
    assert_eq!(CanAddress::parse("/dev/ttyACM0"), CanAddress::Serial(PortAddress::Path("/dev/ttyACM0".into())));
}
