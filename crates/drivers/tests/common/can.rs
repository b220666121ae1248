//! CAN motors that are not there, behind a serial adapter that is not there either: a pseudo-terminal that speaks lines.
//!
//! Frames take the time that they take on a bus of 1 M bits a second, motors move under their load in real time, and answers
//! get lost, come late, or are garbled. What is read and written here is put together from the protocols anew.

#![allow(clippy::unwrap_used, clippy::panic, dead_code, reason = "what fails here fails the test, and no test uses all of it")]

use std::collections::BTreeMap;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};

/// A frame of 8 bytes at 1 M bits a second, with some stuffing.
const FRAME: Duration = Duration::from_micros(125);
/// How long a motor thinks.
const THINKS: Duration = Duration::from_micros(40);

/// A command on the wire, as numbers of the wire.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Mit {
    pub position: f64,
    pub velocity: f64,
    pub stiffness: f64,
    pub damping: f64,
    pub torque: f64,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Asked {
    Look,
    Command(Mit),
    Enable,
    Disable,
    Zero,
    Read(u16),
    Write(u16, [u8; 4]),
    Other,
}

/// What the motor with that identifier was asked.
#[derive(Clone, Copy, Debug)]
pub struct Entry {
    pub motor: u16,
    pub asked: Asked,
    /// Where the motor was then, its own radians.
    pub was_at: f64,
}

#[derive(Clone, Debug)]
pub struct Motor {
    pub id: u16,
    pub answer_id: u16,
    pub is_robstride: bool,
    /// rad, rad/s, N m, N m/rad, N m s/rad.
    pub spans: [f64; 5],
    pub position: f64,
    pub velocity: f64,
    /// What pulls at it, N m.
    pub load: f64,
    /// kg m².
    pub inertia: f64,
    /// The most that it gives, N m.
    pub strength: f64,
    pub torque: f64,
    /// 0 off, 1 on, 8 and more in a fault.
    pub state: u8,
    pub temperature: u8,
    pub command: Option<Mit>,
    pub registers: BTreeMap<u16, [u8; 4]>,
    pub is_dead: bool,
    /// Somebody holds the arm until it has torque.
    pub is_held: bool,
}

impl Motor {
    pub fn damiao(id: u16, model: &str, position: f64) -> Self {
        let (velocity, torque, strength, inertia) = match model {
            "dm4310" => (30.0, 10.0, 7.0, 0.01),
            "dm4340" => (8.0, 28.0, 27.0, 0.15),
            _ => (45.0, 54.0, 40.0, 0.3),
        };
        let float = |value: f64| {
            #[expect(clippy::cast_possible_truncation, reason = "small numbers")]
            let value = value as f32;
            value.to_le_bytes()
        };
        let registers = [
            (7, u32::from(id + 16).to_le_bytes()),
            (8, u32::from(id).to_le_bytes()),
            (9, [0; 4]),
            (10, [1, 0, 0, 0]),
            (21, float(12.5)),
            (22, float(velocity)),
            (23, float(torque)),
        ];
        Self {
            id,
            answer_id: id + 16,
            is_robstride: false,
            spans: [12.5, velocity, torque, 500.0, 5.0],
            position,
            velocity: 0.0,
            load: 0.0,
            inertia,
            strength,
            torque: 0.0,
            state: 0,
            temperature: 35,
            command: None,
            registers: registers.into(),
            is_dead: false,
            is_held: true,
        }
    }

    /// An RS01.
    pub fn robstride(id: u16, position: f64) -> Self {
        Self {
            is_robstride: true,
            spans: [4.0 * std::f64::consts::PI, 44.0, 17.0, 500.0, 5.0],
            strength: 17.0,
            registers: [(0x7005, [0; 4]), (0x7028, [0; 4])].into(),
            ..Self::damiao(id, "dm4310", position)
        }
    }

    fn advance(&mut self, dt: f64) {
        self.torque = match (self.state, self.command) {
            (1, Some(Mit { position, velocity, stiffness, damping, torque })) => {
                let push = stiffness * (position - self.position) + damping * (velocity - self.velocity) + torque;
                push.clamp(-self.strength, self.strength)
            }
            _ => 0.0,
        };
        if self.is_held {
            return;
        }
        let friction = 0.02 * self.velocity;
        self.velocity += (self.torque + self.load - friction) / self.inertia * dt;
        self.position += self.velocity * dt;
        if self.position.abs() > 3.0 {
            (self.position, self.velocity) = (self.position.clamp(-3.0, 3.0), 0.0);
        }
    }

    fn number(&self, value: f64, span: f64, bits: u32) -> u64 {
        let most = f64::from((1u32 << bits) - 1);
        ((value + span) / (2.0 * span) * most).round().clamp(0.0, most) as u64
    }

    fn feedback(&self) -> Vec<u8> {
        let [p, v, t, ..] = self.spans;
        if self.is_robstride {
            let mut data = Vec::new();
            for (value, span) in [(self.position, p), (self.velocity, v), (self.torque, t)] {
                data.extend(u16::try_from(self.number(value, span, 16)).unwrap().to_be_bytes());
            }
            data.extend((u16::from(self.temperature) * 10).to_be_bytes());
            return data;
        }
        let word = u64::from(self.state << 4 | self.id.to_le_bytes()[0] & 15) << 56
            | self.number(self.position, p, 16) << 40
            | self.number(self.velocity, v, 12) << 28
            | self.number(self.torque, t, 12) << 16
            | u64::from(self.temperature) << 8
            | u64::from(self.temperature + 3);
        word.to_be_bytes().to_vec()
    }

    fn status(&self) -> (u32, Vec<u8>) {
        if !self.is_robstride {
            return (self.answer_id.into(), self.feedback());
        }
        let (mode, faults) = match self.state {
            0 => (0, 0),
            1 => (2, 0),
            bits => (0, u32::from(bits & 0x3F)),
        };
        (2 << 24 | (mode << 14 | faults << 8 | u32::from(self.id)) << 8 | 0xFF, self.feedback())
    }

    fn mit(&self, id: u32, data: [u8; 8]) -> Mit {
        let word = u64::from_be_bytes(data);
        let bits = |from: u32, count: u32| (word >> from & ((1 << count) - 1)) as f64 / ((1u64 << count) - 1) as f64;
        let [p, v, t, kp, kd] = self.spans;
        let signed = |share: f64, span: f64| (2.0 * share - 1.0) * span;
        if self.is_robstride {
            let torque = signed(f64::from(id >> 8 & 0xFFFF) / 65535.0, t);
            let [position, velocity] = [signed(bits(48, 16), p), signed(bits(32, 16), v)];
            return Mit { position, velocity, stiffness: bits(16, 16) * kp, damping: bits(0, 16) * kd, torque };
        }
        Mit {
            position: signed(bits(48, 16), p),
            velocity: signed(bits(36, 12), v),
            stiffness: bits(24, 12) * kp,
            damping: bits(12, 12) * kd,
            torque: signed(bits(0, 12), t),
        }
    }

    /// What a frame is to this motor; `None` where it is for another.
    fn asked(&self, id: u32, is_extended: bool, data: [u8; 8]) -> Option<Asked> {
        let [a, b, c, d, value @ ..] = data;
        if self.is_robstride {
            if !is_extended || id & 0xFF != u32::from(self.id) {
                return None;
            }
            let index = u16::from_le_bytes([a, b]);
            return Some(match id >> 24 {
                1 => Asked::Command(self.mit(id, data)),
                3 => Asked::Enable,
                4 => Asked::Disable,
                6 => Asked::Zero,
                17 => Asked::Read(index),
                18 => Asked::Write(index, value),
                _ => Asked::Other,
            });
        }
        if is_extended {
            return None;
        }
        if id == 0x7FF {
            let is_me = u16::from_le_bytes([a, b]) == self.id;
            return is_me.then_some(match c {
                0xCC => Asked::Look,
                0x33 => Asked::Read(d.into()),
                0x55 => Asked::Write(d.into(), value),
                _ => Asked::Other,
            });
        }
        (id == u32::from(self.id)).then(|| match (data[..7] == [0xFF; 7], data[7]) {
            (true, 0xFC) => Asked::Enable,
            (true, 0xFD) => Asked::Disable,
            (true, 0xFE) => Asked::Zero,
            _ => Asked::Command(self.mit(id, data)),
        })
    }

    fn obey(&mut self, asked: Asked) -> Option<(u32, Vec<u8>)> {
        match asked {
            Asked::Look | Asked::Other => {}
            Asked::Command(mit) => self.command = Some(mit),
            Asked::Enable => {
                if self.state == 0 {
                    (self.state, self.is_held) = (1, false);
                }
            }
            Asked::Disable => self.state = 0,
            Asked::Zero => self.position = 0.0,
            Asked::Read(register) if self.is_robstride => {
                #[expect(clippy::cast_possible_truncation, reason = "a place in radians")]
                let place = (self.position as f32).to_le_bytes();
                let value = if register == 0x7019 { Some(place) } else { self.registers.get(&register).copied() };
                let [low, high] = register.to_le_bytes();
                let [a, b, c, d] = value.unwrap_or_default();
                let refuses = u32::from(value.is_none());
                let id = 17 << 24 | refuses << 16 | u32::from(self.id) << 8 | 0xFF;
                return Some((id, vec![low, high, 0, 0, a, b, c, d]));
            }
            Asked::Write(register, value) if self.is_robstride => {
                self.registers.insert(register, value);
            }
            Asked::Read(register) | Asked::Write(register, _) => {
                let code = if let Asked::Write(_, value) = asked {
                    self.registers.insert(register, value);
                    0x55
                } else {
                    0x33
                };
                let [a, b, c, d] = self.registers.get(&register).copied()?;
                let [low, high] = self.id.to_le_bytes();
                return Some((self.answer_id.into(), vec![low, high, code, register.to_le_bytes()[0], a, b, c, d]));
            }
        }
        Some(self.status())
    }
}

/// What goes wrong, each as a share of the answers.
#[derive(Clone, Copy, Debug, Default)]
pub struct Faults {
    pub lose: f64,
    pub late: f64,
    pub late_by: Duration,
    pub foreign: f64,
    pub garble: f64,
    /// A digit of the position becomes another one, which nobody can tell.
    pub wild: f64,
    /// Every line has a time stamp, and the adapter confirms each frame.
    pub is_chatty: bool,
    /// The adapter says no to every command.
    pub refuses: bool,
}

pub struct World {
    pub motors: Vec<Motor>,
    pub faults: Faults,
    pub log: Vec<Entry>,
    pub lost: u32,
    pub late: u32,
    pub garbled: u32,
    pub garbage_lines: u32,
    pub is_open: bool,
    /// The longest that this thread did not come round: a busy machine.
    pub stalled: Duration,
    rng: fastrand::Rng,
}

impl World {
    pub fn motor(&mut self, id: u16) -> &mut Motor {
        self.motors.iter_mut().find(|motor| motor.id == id).unwrap()
    }

    pub fn commands(&self, id: u16) -> Vec<Mit> {
        let of = |entry: &Entry| if let Asked::Command(mit) = entry.asked { Some(mit) } else { None };
        self.log.iter().filter(|entry| entry.motor == id).filter_map(of).collect()
    }
}

/// The adapter with its motors, in a thread of its own. Dropping it pulls the cable.
pub struct CanRig {
    pub port: String,
    world: Arc<Mutex<World>>,
    ends: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl CanRig {
    pub fn new(motors: Vec<Motor>) -> Self {
        let ours = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC).unwrap();
        grantpt(&ours).unwrap();
        unlockpt(&ours).unwrap();
        let port = ptsname(&ours, Vec::new()).unwrap().into_string().unwrap();
        fcntl_setfl(&ours, fcntl_getfl(&ours).unwrap() | OFlags::NONBLOCK).unwrap();
        let world = World {
            motors,
            faults: Faults::default(),
            log: Vec::new(),
            lost: 0,
            late: 0,
            garbled: 0,
            garbage_lines: 0,
            is_open: false,
            stalled: Duration::ZERO,
            rng: fastrand::Rng::with_seed(7),
        };
        let (world, ends) = (Arc::new(Mutex::new(world)), Arc::new(AtomicBool::new(false)));
        let thread = std::thread::spawn({
            let (world, ends) = (Arc::clone(&world), Arc::clone(&ends));
            move || play(&ours, &world, &ends)
        });
        Self { port, world, ends, thread: Some(thread) }
    }

    pub fn world(&self) -> MutexGuard<'_, World> {
        self.world.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    pub fn positions(&self) -> Vec<f64> {
        self.world().motors.iter().map(|motor| motor.position).collect()
    }
}

impl Drop for CanRig {
    fn drop(&mut self) {
        self.ends.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn play(port: &OwnedFd, world: &Mutex<World>, ends: &AtomicBool) {
    let (mut line, mut buffer) = (Vec::new(), [0; 1024]);
    let mut leaving: Vec<(Instant, Vec<u8>)> = Vec::new();
    let (mut before, mut free) = (Instant::now(), Instant::now());
    while !ends.load(Ordering::Relaxed) {
        let timeout = Timespec { tv_sec: 0, tv_nsec: 100_000 };
        let _ = poll(&mut [PollFd::new(port, PollFlags::IN)], Some(&timeout));
        let read = rustix::io::read(port, &mut buffer).unwrap_or(0);
        if read == 0 {
            // Nobody has it open, which a poll says at once.
            std::thread::sleep(Duration::from_micros(100));
        }
        let mut world = world.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let now = Instant::now();
        world.stalled = world.stalled.max(now.duration_since(before));
        let mut left = now.duration_since(before).as_secs_f64().min(0.5);
        before = now;
        while left > 0.0 {
            world.motors.iter_mut().for_each(|motor| motor.advance(left.min(1e-4)));
            left -= 1e-4;
        }
        for byte in &buffer[..read] {
            if *byte == b'\r' {
                heard(&mut world, &line, now, &mut free, &mut leaving);
                line.clear();
            } else {
                line.push(*byte);
            }
        }
        leaving.sort_by_key(|(due, _)| *due);
        while leaving.first().is_some_and(|(due, _)| *due <= now) {
            let _ = rustix::io::write(port, &leaving.remove(0).1);
        }
    }
}

fn heard(world: &mut World, line: &[u8], now: Instant, free: &mut Instant, leaving: &mut Vec<(Instant, Vec<u8>)>) {
    let Some(letter) = line.first() else { return };
    let faults = world.faults;
    match letter {
        b'C' => world.is_open = false,
        b'S' | b'Y' => {}
        b'O' => world.is_open = !faults.refuses,
        b't' | b'T' if world.is_open => {
            let Some((id, is_extended, data)) = frame(line) else {
                world.garbage_lines += 1;
                leaving.push((now, vec![7]));
                return;
            };
            if faults.is_chatty {
                leaving.push((now, b"z\r".to_vec()));
            }
            *free = (*free).max(now) + FRAME;
            let asked = world.motors.iter_mut().find_map(|motor| Some((motor.asked(id, is_extended, data)?, motor)));
            let Some((asked, motor)) = asked else { return };
            let entry = Entry { motor: motor.id, asked, was_at: motor.position };
            let is_dead = motor.is_dead;
            let answer = if is_dead { None } else { motor.obey(asked) };
            let is_long = motor.is_robstride;
            world.log.push(entry);
            let Some((id, mut data)) = answer else { return };
            if asked == Asked::Look && world.rng.f64() < faults.wild {
                data[1] ^= world.rng.u8(1..32) << 3;
            }
            if world.rng.f64() < faults.lose {
                world.lost += 1;
                return;
            }
            let mut due = (*free).max(now + FRAME) + THINKS + FRAME;
            if world.rng.f64() < faults.late {
                world.late += 1;
                due += faults.late_by;
            }
            let mut text = if is_long { format!("T{id:08X}8") } else { format!("t{id:03X}8") }.into_bytes();
            text.extend(data.iter().flat_map(|byte| format!("{byte:02X}").into_bytes()));
            if faults.is_chatty {
                text.extend(b"12AB");
            }
            text.push(b'\r');
            if world.rng.f64() < faults.garble {
                world.garbled += 1;
                let at = world.rng.usize(..text.len());
                if world.rng.bool() {
                    text.remove(at);
                } else {
                    text[at] = b'!';
                }
            }
            if world.rng.f64() < faults.foreign {
                leaving.push((due, b"t0772BEEF\r".to_vec()));
            }
            leaving.push((due, text));
            return;
        }
        _ => {
            world.garbage_lines += 1;
            leaving.push((now, vec![7]));
            return;
        }
    }
    leaving.push((now, vec![if faults.refuses { 7 } else { b'\r' }]));
}

fn frame(line: &[u8]) -> Option<(u32, bool, [u8; 8])> {
    let text = std::str::from_utf8(line).ok()?;
    let is_extended = text.starts_with('T');
    let (id, rest) = text.get(1..)?.split_at_checked(if is_extended { 8 } else { 3 })?;
    let digits = rest.strip_prefix('8')?;
    let mut data = [0; 8];
    if digits.len() != 16 {
        return None;
    }
    for (slot, at) in data.iter_mut().zip((0..).step_by(2)) {
        *slot = u8::from_str_radix(digits.get(at..at + 2)?, 16).ok()?;
    }
    Some((u32::from_str_radix(id, 16).ok()?, is_extended, data))
}
