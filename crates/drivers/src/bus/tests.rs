use std::collections::BTreeMap;
use std::io;

use super::*;
use crate::{Register, STS3215};

/// Motors as memory; one of them deaf, one with an alarm, and a cable that can be pulled.
struct Double {
    memory: BTreeMap<u16, [u8; 128]>,
    deaf: MotorId,
    alarmed: MotorId,
    unplugged: bool,
}

impl Double {
    fn port(&self, operation: Operation) -> Result<(), BusError> {
        if self.unplugged {
            return Err(BusError::Lost { operation, port: "/dev/ttyACM0".into(), source: io::Error::from(io::ErrorKind::BrokenPipe) });
        }
        Ok(())
    }

    fn answer(&self, motor: MotorId, operation: Operation, bytes: &[u8]) -> Result<Answer, MotorError> {
        if motor == self.deaf || !self.memory.contains_key(&motor.0) {
            return Err(MotorError { operation, motor, fault: MotorFault::NoAnswer });
        }
        let alert = if motor == self.alarmed { 0b10_0000 } else { 0 };
        Ok(Answer { bytes: Bytes::of(bytes).unwrap(), alert })
    }
}

impl Bus for Double {
    fn read(&mut self, block: Block, replies: &mut [Reply], _: Timestamp) -> Result<(), BusError> {
        let operation = Operation::Read(block);
        self.port(operation)?;
        for reply in replies {
            let memory = self.memory.get(&reply.motor.0).copied().unwrap_or([0; 128]);
            let at = usize::from(block.address);
            reply.answer = self.answer(reply.motor, operation, &memory[at..at + usize::from(block.len)]);
            reply.attempts += 1;
        }
        Ok(())
    }

    fn write(&mut self, address: u16, frames: &[Frame], _: Timestamp) -> Result<(), BusError> {
        let len = frames.first().map_or(0, |frame| frame.bytes.as_slice().len());
        let operation = Operation::Write(Block { address, len: len as u8 });
        self.port(operation)?;
        if let Some(other) = frames.iter().find(|frame| frame.bytes.as_slice().len() != len) {
            let fault = MotorFault::Length { found: other.bytes.as_slice().len(), expected: len };
            return Err(MotorError { operation, motor: other.motor, fault }.into());
        }
        for Frame { motor, bytes } in frames {
            if let Some(memory) = self.memory.get_mut(&motor.0) {
                memory[usize::from(address)..][..len].copy_from_slice(bytes.as_slice());
            }
        }
        Ok(())
    }

    fn write_one(&mut self, address: u16, frame: &Frame, deadline: Timestamp) -> Result<Answer, BusError> {
        let operation = Operation::Write(Block { address, len: frame.bytes.as_slice().len() as u8 });
        self.write(address, &[*frame], deadline)?;
        Ok(self.answer(frame.motor, operation, &[])?)
    }

    fn exchange(&mut self, _: &[Frame], _: &mut [Reply], _: Timestamp) -> Result<(), BusError> {
        Err(BusError::NotInProtocol { operation: Operation::Exchange, port: "/dev/ttyACM0".into(), protocol: "feetech" })
    }

    fn ping(&mut self, motor: MotorId, _: Timestamp) -> Result<Answer, BusError> {
        self.port(Operation::Ping)?;
        Ok(self.answer(motor, Operation::Ping, &[])?)
    }

    fn torque_off(&mut self, motors: &[MotorId], deadline: Timestamp) -> Result<(), BusError> {
        let off = Bytes::of(&[0]).unwrap();
        let results = motors.iter().map(|motor| self.write_one(40, &Frame { motor: *motor, bytes: off }, deadline)).collect::<Vec<_>>();
        results.into_iter().find_map(Result::err).map_or(Ok(()), Err)
    }

    fn reboot(&mut self, motor: MotorId, deadline: Timestamp) -> Result<(), BusError> {
        self.ping(motor, deadline).map(|_| ())
    }

    fn torque_off_packets(&self, motors: &[MotorId]) -> Vec<Vec<u8>> {
        motors.iter().map(|motor| vec![motor.0 as u8, 40, 0]).collect()
    }
}

fn double() -> Double {
    let memory = [1, 2, 9].map(|motor| (motor, [7; 128])).into();
    Double { memory, deaf: MotorId(9), alarmed: MotorId(2), unplugged: false }
}

#[test]
fn one_motor_that_is_deaf_leaves_the_others_their_values_and_an_alarm_leaves_its_own() {
    let mut double = double();
    let bus: &mut dyn Bus = &mut double;
    let goal = STS3215.encode(Register::GoalPosition, MotorId(1), 2048).unwrap();
    let frame = Frame { motor: MotorId(1), bytes: Bytes::of(&goal.0[..usize::from(goal.1)]).unwrap() };
    bus.write_one(56, &frame, Timestamp::ZERO).unwrap();
    let block = STS3215.block(&[Register::PresentPosition, Register::PresentTemperature], MotorId(1)).unwrap();
    let mut replies = [1, 9, 2].map(|id| Reply::of(MotorId(id), Operation::Read(block)));
    bus.read(block, &mut replies, Timestamp::ZERO).unwrap();
    let first = replies[0].answer.unwrap();
    assert_eq!(STS3215.decode(Register::PresentPosition, MotorId(1), block.address, first.bytes.as_slice()), Ok(2048));
    assert_eq!(replies[1].answer.unwrap_err().to_string(), "reading 8 bytes at 56 of motor 9: no answer before the deadline");
    let alarmed = replies[2].answer.unwrap();
    assert_eq!((alarmed.bytes.as_slice().len(), alarmed.alert, replies[2].attempts), (8, 0b10_0000, 1));
}

#[test]
fn torque_goes_off_at_every_motor_that_hears_it() {
    let mut bus = double();
    let error = bus.torque_off(&[MotorId(9), MotorId(1), MotorId(2)], Timestamp::ZERO).unwrap_err();
    assert!(error.to_string().contains("of motor 9: no answer"), "{error}");
    assert_eq!((bus.memory[&1][40], bus.memory[&2][40]), (0, 0));
}

#[test]
fn frames_of_different_lengths_are_refused_and_nothing_is_written() {
    let mut bus = double();
    let frames = [(1, &[1u8, 2][..]), (2, &[1])].map(|(id, bytes)| Frame { motor: MotorId(id), bytes: Bytes::of(bytes).unwrap() });
    let error = bus.write(42, &frames, Timestamp::ZERO).unwrap_err();
    assert_eq!(error.to_string(), "writing 2 bytes at 42 of motor 2: 1 bytes, expected 2");
    assert_eq!(bus.memory[&1][42], 7);
    assert!(Bytes::of(&[0; MOST_BYTES + 1]).is_none());
}

#[test]
fn a_lost_port_is_the_bus_s_error_and_leaves_motors_unasked() {
    let mut bus = Double { unplugged: true, ..double() };
    let block = Block { address: 56, len: 2 };
    let mut replies = [Reply::of(MotorId(1), Operation::Read(block))];
    let error = bus.read(block, &mut replies, Timestamp::ZERO).unwrap_err();
    assert_eq!(error.to_string(), "reading 2 bytes at 56 on /dev/ttyACM0: the port is lost");
    assert_eq!((replies[0].answer.unwrap_err().fault, replies[0].attempts), (MotorFault::NotAsked, 0));
}

#[test]
fn faults_say_what_was_found_and_expected() {
    let fault = MotorFault::Checksum { found: 0x1f, expected: 0x2a };
    let error = MotorError { operation: Operation::Ping, motor: MotorId(3), fault };
    assert_eq!(error.to_string(), "a ping of motor 3: checksum 0x1f, expected 0x2a");
    assert_eq!(MotorFault::Refused { bits: 0b10_0100 }.to_string(), "the motor refuses, with error bits 0b00100100");
}
