//! Answers that come late: to the question before, which nobody waits for any more.

#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stdout, reason = "what fails here fails the test, and figures are printed")]

mod common;

use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use common::arm::{ARM, Loop, PERIOD, connect, so101, try_connect};
use common::{Bench, RealClock, light};
use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use sinew_core::{Armed, Clock, Lease, LeaseError, LeaseState, Lifeline, Observation, Robot as _, Tick, Timestamp};
use sinew_drivers::wire::{Instruction, Kind, Protocol, Scanned, Scanner, Side};
use sinew_drivers::{
    Block, Bus, BusError, Bytes, ConnectError, Frame, MotorError, MotorFault, MotorId, Operation, PortAddress, Register, Reply, SerialBus,
    SerialOptions,
};
use sinew_emulator::{Event, Options, Rates, Robot};

const POSITION: Block = Block { address: 56, len: 2 };

/// Motors that answer as a function says: all that is to be sent, after each instruction.
struct Fake {
    port: String,
    ends: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Fake {
    fn new(mut answer: impl FnMut(&Instruction<'_>, u8) -> Vec<u8> + Send + 'static) -> Self {
        let ours: OwnedFd = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC).unwrap();
        grantpt(&ours).unwrap();
        unlockpt(&ours).unwrap();
        let port = ptsname(&ours, Vec::new()).unwrap().into_string().unwrap();
        fcntl_setfl(&ours, fcntl_getfl(&ours).unwrap() | OFlags::NONBLOCK).unwrap();
        let ends = Arc::new(AtomicBool::new(false));
        let thread = std::thread::spawn({
            let ends = Arc::clone(&ends);
            move || {
                let (mut scanner, mut buffer) = (Scanner::new(Protocol::Feetech0, Side::Motor), [0; 256]);
                while !ends.load(Ordering::Relaxed) {
                    let read = rustix::io::read(&ours, &mut buffer).unwrap_or(0);
                    scanner.feed(&buffer[..read]);
                    let mut out = Vec::new();
                    while let Some(scanned) = scanner.scan() {
                        if let Scanned::Packet(packet) = scanned
                            && let Kind::Instruction { code } = packet.kind
                        {
                            let instruction = Instruction::parse(Protocol::Feetech0, code, packet.params).unwrap();
                            out.extend(answer(&instruction, packet.id));
                        }
                    }
                    // Later than the wire's speed alone could tell.
                    std::thread::sleep(Duration::from_millis(1));
                    if !out.is_empty() {
                        rustix::io::write(&ours, &out).unwrap();
                    }
                }
            }
        });
        Self { port, ends, thread: Some(thread) }
    }

    fn bus(&self, clock: &Arc<RealClock>) -> SerialBus {
        let options = SerialOptions::new(PortAddress::Path(self.port.clone()), Protocol::Feetech0, 1_000_000);
        SerialBus::open(SerialOptions { latency: Duration::from_millis(8), attempts: 1, ..options }, clock.clone()).unwrap()
    }
}

impl Drop for Fake {
    fn drop(&mut self) {
        self.ends.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            thread.join().unwrap();
        }
    }
}

fn status(id: u8, data: &[u8]) -> Vec<u8> {
    let mut packet = Vec::new();
    Protocol::Feetech0.status(&mut packet, id, 0, data).unwrap();
    packet
}

fn fault(result: Result<impl Sized, BusError>) -> Option<MotorFault> {
    match result {
        Ok(_) => None,
        Err(BusError::Motor(MotorError { fault, .. })) => Some(fault),
        Err(error) => panic!("{error}"),
    }
}

#[test]
fn an_answer_to_the_question_before_is_no_answer_to_this_one() {
    for ids in [&[1u16][..], &[1, 2, 3]] {
        // All bytes of a motor's memory are the number of the question; every second one is answered too late.
        let (mut number, mut late) = (0u8, Vec::new());
        let fake = Fake::new(move |instruction, id| {
            number += 1;
            let (block, ids): (Block, Vec<u8>) = match instruction {
                Instruction::Read(block) => (*block, vec![id]),
                Instruction::SyncRead { block, ids, .. } => (*block, ids.to_vec()),
                other => panic!("{other:?}"),
            };
            let answers: Vec<u8> = ids.iter().flat_map(|id| status(*id, &vec![number; block.len.into()])).collect();
            if number % 2 == 1 {
                late = answers;
                return Vec::new();
            }
            [std::mem::take(&mut late), answers].concat()
        });
        let clock = RealClock::new();
        let mut bus = fake.bus(&clock);
        for number in 1..=20u8 {
            let mut replies: Vec<Reply> = ids.iter().map(|id| Reply::of(MotorId(*id), Operation::Read(POSITION))).collect();
            bus.read(POSITION, &mut replies, clock.now() + Duration::from_millis(30)).unwrap();
            for reply in &replies {
                let found = reply.answer.map(|answer| answer.bytes.as_slice().to_vec()).map_err(|error| error.fault);
                let expected = if number % 2 == 1 { Err(MotorFault::NoAnswer) } else { Ok(vec![number; 2]) };
                assert_eq!(found, expected, "question {number} to {ids:?}");
            }
        }
        assert_eq!(bus.counts().late_answers, 10 * u64::try_from(ids.len()).unwrap());
    }
}

#[test]
fn an_acknowledgement_of_the_write_before_is_none_of_this_one() {
    let mut number = 0;
    let fake = Fake::new(move |_, id| {
        number += 1;
        // The first is acknowledged late, and the second is not. With the third all is well.
        if number == 1 { Vec::new() } else { status(id, &[]) }
    });
    let clock = RealClock::new();
    let mut bus = fake.bus(&clock);
    let frame = Frame { motor: MotorId(1), bytes: Bytes::of(&[7]).unwrap() };
    let mut write = || bus.write_one(40, &frame, clock.now() + Duration::from_millis(30));
    assert_eq!(fault(write()), Some(MotorFault::NoAnswer));
    assert_eq!(fault(write()), Some(MotorFault::NoAnswer), "that one was the first's");
    assert_eq!(fault(write()), Some(MotorFault::NoAnswer), "that one may have been the second's");
    std::thread::sleep(Duration::from_millis(1100));
    let mut write = || bus.write_one(40, &frame, clock.now() + Duration::from_millis(30));
    assert_eq!(fault(write()), None, "what is a second old was lost");
}

fn late(seed: u64, longest_ms: u64) -> Options {
    let rates = Rates { delay: 0.05, longest_delay: Duration::from_millis(longest_ms), ..Rates::default() };
    Options { seed, rates, ..Options::default() }
}

#[test]
fn a_position_is_never_older_than_its_question() {
    for (robot, block) in [(Robot::so101_follower(), POSITION), (Robot::koch_follower(), Block { address: 132, len: 4 })] {
        for longest_ms in [20, 60, 400] {
            let mut options = late(longest_ms, longest_ms);
            if longest_ms > 100 {
                // As often as the others it would be later and later.
                options.rates.delay = 0.002;
            }
            let bench = Bench::new(&light(robot.clone()), options);
            let table = robot.joints[0].table;
            let options = SerialOptions { latency: Duration::from_millis(3), ..bench.options(table.protocol) };
            let mut bus = SerialBus::open(options, bench.clock.clone()).unwrap();
            let (mut known, mut missed, mut ticks) = (0, 0, Loop::new(&bench));
            for tick in 0..600u16 {
                ticks.tick(&bench);
                // Every joint is elsewhere than before, and further on.
                let place = 200 + 12 * i32::from(tick % 300);
                for name in ARM {
                    bench.emulator.move_by_hand(name, place.into()).unwrap();
                }
                let mut replies: [Reply; 6] = std::array::from_fn(|i| Reply::of(MotorId(i as u16 + 1), Operation::Read(block)));
                match bus.read(block, &mut replies, bench.within(14)) {
                    // Late answers and questions meet on the wire.
                    Ok(()) | Err(BusError::Garbage { .. }) => {}
                    Err(error) => panic!("{error}"),
                }
                for reply in replies {
                    let Ok(answer) = reply.answer else {
                        missed += 1;
                        continue;
                    };
                    known += 1;
                    let found = table.decode(Register::PresentPosition, reply.motor, block.address, answer.bytes.as_slice()).unwrap();
                    assert!((found - place).abs() <= 3, "{}: tick {tick}: {found}, is at {place}", robot.name);
                }
            }
            println!("{}, up to {longest_ms} ms late: {known} positions, {missed} missed, {:?}", robot.name, bus.counts());
            assert!(known > 300, "{}", robot.name);
        }
    }
}

#[test]
fn what_a_motor_holds_is_never_another_registers_value() {
    for (longest_ms, times) in [(20, 120), (60, 60), (400, 30)] {
        let (mut connected, mut failed) = (0, 0);
        for seed in 0..times {
            let bench = Bench::new(&light(Robot::so101_follower()), late(7 * seed, longest_ms));
            match try_connect(&bench, so101()) {
                Ok(mut arm) => {
                    connected += 1;
                    for name in ARM {
                        let held = |register| bench.emulator.register(name, register).unwrap();
                        assert_eq!((held(Register::ReturnDelayTime), held(Register::PCoefficient)), (0, 16), "{name}");
                    }
                    let tick = Tick { turn: 0, due: bench.clock.now(), period: Duration::from_millis(16), wants_images: false };
                    let mut observation = Observation::for_robot(&so101());
                    arm.begin_read(&tick).unwrap();
                    let _ = arm.finish_read(&tick, tick.due + tick.period, &mut observation);
                }
                Err(ConnectError::Silent { .. } | ConnectError::Nobody { .. }) => failed += 1,
                Err(ConnectError::Bus { source: BusError::Motor(MotorError { fault: MotorFault::NoAnswer, .. }), .. }) => failed += 1,
                Err(error) => panic!("seed {seed}, up to {longest_ms} ms late: {error}"),
            }
        }
        println!("up to {longest_ms} ms late: {connected} connected, {failed} had no answer");
        assert!(connected > failed || longest_ms > 100);
    }
}

/// Notes the longest time between two beats since it was armed.
struct Beats {
    clock: Arc<RealClock>,
    last_longest: Mutex<(Option<Timestamp>, Duration)>,
}

impl Lease for Beats {
    fn arm(&self, _: Lifeline) -> Result<(), LeaseError> {
        *self.last_longest.lock().unwrap() = (Some(self.clock.now()), Duration::ZERO);
        Ok(())
    }

    fn beat(&self) {
        let (now, mut noted) = (self.clock.now(), self.last_longest.lock().unwrap());
        let Some(last) = noted.0 else { return };
        let gap = Duration::from_nanos(u64::try_from(now.nanos_since(last)).unwrap());
        *noted = (Some(now), noted.1.max(gap));
    }

    fn state(&self) -> LeaseState {
        LeaseState::Held
    }

    fn disarm(&self) {}
}

#[test]
fn a_slow_bus_keeps_nobody_from_hearing_that_torque_goes_on() {
    for (longest_ms, times) in [(60, 40), (400, 20)] {
        let (mut armed, mut failed, mut longest) = (0, Vec::new(), Duration::ZERO);
        for seed in 0..times {
            let bench = Bench::new(&light(Robot::so101_follower()), Options { seed, ..Options::default() });
            let mut arm = connect(&bench, so101());
            bench.emulator.happen(Event::Rates(late(seed, longest_ms).rates)).unwrap();
            let lease = Beats { clock: bench.clock.clone(), last_longest: Mutex::default() };
            let mut observation = Observation::for_robot(&so101());
            let tick = Tick { turn: 0, due: bench.clock.now(), period: PERIOD, wants_images: false };
            match Armed::new(&mut arm, &lease, bench.clock.as_ref(), &tick, &mut observation) {
                Ok(driven) => {
                    armed += 1;
                    for name in ARM {
                        assert_eq!(bench.emulator.register(name, Register::TorqueEnable).unwrap(), 1);
                    }
                    drop(driven);
                }
                Err(error) => failed.push(format!("{error}: {:?}", std::error::Error::source(&error).map(ToString::to_string))),
            }
            longest = longest.max(lease.last_longest.lock().unwrap().1);
        }
        println!("up to {longest_ms} ms late: {armed} armed, at most {longest:?} between two beats; {failed:#?}");
        let says_so = |error: &String| {
            ["no answer", "no time was left", ".pos is not known", ": silent for "].iter().any(|words| error.contains(words))
        };
        assert!(failed.iter().all(says_so), "{failed:#?}");
        assert!(longest < Duration::from_millis(80), "{longest:?}");
        assert!(armed > times / 2 || longest_ms > 100);
    }
}

#[test]
fn what_a_second_attempt_mends_is_counted_by_its_kind() {
    let bench = Bench::so101();
    let mut arm = connect(&bench, so101());
    bench.emulator.happen(Event::Rates(Rates { flip_bit: 0.03, drop: 0.03, ..Rates::default() })).unwrap();
    let (health, mut ticks) = (arm.health(), Loop::new(&bench));
    let mut observation = Observation::for_robot(&so101());
    for _ in 0..200 {
        let tick = ticks.tick(&bench);
        arm.begin_read(&tick).unwrap();
        arm.finish_read(&tick, tick.due + PERIOD, &mut observation).unwrap();
    }
    let motors = health.motors();
    let sum = |count: fn(&sinew_drivers::FaultCounts) -> u32| motors.iter().map(|motor| count(&motor.errors)).sum::<u32>();
    let (garbled, silent) = (sum(|errors| errors.checksum + errors.length), sum(|errors| errors.no_answer));
    let retries: u32 = motors.iter().map(|motor| motor.retries).sum();
    println!("{garbled} garbled, {silent} lost, {retries} asked again");
    assert!(garbled > 5 && silent > 10 && retries > 20, "{motors:?}");
    assert!(garbled + silent >= retries, "each attempt that was made again had failed");
}
