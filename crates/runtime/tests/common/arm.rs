//! The arm and its camera.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::time::Instant;

use sinew_core::{
    CameraError, Cameras, Door, Image, ImageBuffers, Observation, Robot, RobotDescription, RobotError, SafeCommand, Sent, Tick, Timestamp,
};

use super::{Hook, description};

pub fn lost() -> RobotError {
    RobotError::lost("reading the arm", "unplugged")
}

pub fn transient() -> RobotError {
    RobotError::transient("reading the arm", "checksum")
}

/// What of a write that fails arrives.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Arrives {
    Nothing,
    HalfAndIsTold,
    AllAndIsNotTold,
}

/// Two joints that go half of the way to their goals each turn. The image is made of the positions.
pub struct Arm {
    pub description: RobotDescription,
    pub position: Vec<f64>,
    /// What the motors hold: their registers.
    pub goals: Vec<f64>,
    pub eyes: Eyes,
    /// Called with the turn's index before its observation.
    pub on_observe: Hook<Result<(), RobotError>>,
    /// May spoil what is measured in a turn: what is no number then is told as it is, what is endless is missed.
    pub spoil: Box<dyn FnMut(u64, &mut [f64]) + Send>,
    pub on_write: Hook<Result<(), RobotError>>,
    /// What of a write that fails has reached the motors all the same.
    pub arrives: Arrives,
    /// May let the arm sag while torque goes on, or fail.
    pub on_enable: Box<dyn FnMut(&mut [f64]) -> Result<(), RobotError> + Send>,
    /// Called with how often it was told before.
    pub on_stop: Hook<Result<(), RobotError>>,
    /// Something holds it fast.
    pub stuck: bool,
    pub enables: u64,
    pub stops: u64,
    /// When it was last told to be safe.
    pub stopped_at: Option<Instant>,
    /// Whether all below is kept, tick by tick.
    pub keeps: bool,
    pub writes: Vec<Vec<f64>>,
    /// The turns of the writes, those that failed too.
    pub write_ticks: Vec<u64>,
    /// All that the registers held, whatever the caller was told.
    pub registers: Vec<Vec<f64>>,
    pub observed_ticks: Vec<u64>,
    last_tick: u64,
    seen: Vec<f64>,
}

impl Arm {
    pub fn new() -> Self {
        let eyes = Eyes::default();
        let position: Vec<f64> = vec![0.1, -0.2];
        eyes.sees.store(position[0].to_bits(), SeqCst);
        Self {
            description: description(),
            goals: position.clone(),
            seen: position.clone(),
            position,
            eyes,
            on_observe: Box::new(|_| Ok(())),
            spoil: Box::new(|_, _| {}),
            on_write: Box::new(|_| Ok(())),
            arrives: Arrives::Nothing,
            on_enable: Box::new(|_| Ok(())),
            on_stop: Box::new(|_| Ok(())),
            stuck: false,
            enables: 0,
            stops: 0,
            stopped_at: None,
            keeps: true,
            writes: Vec::new(),
            write_ticks: Vec::new(),
            registers: Vec::new(),
            observed_ticks: Vec::new(),
            last_tick: 0,
        }
    }

    /// At `position`, for example so near to a policy's first row that the episode begins at once.
    pub fn at(position: [f64; 2]) -> Self {
        let mut arm = Self::new();
        arm.position = position.to_vec();
        arm.goals = position.to_vec();
        arm
    }

    pub fn rate_hz(mut self, rate_hz: u32) -> Self {
        self.description.control_rate_hz = rate_hz;
        self
    }

    /// Keeps nothing of what it is asked, for long runs and for those who count what is allocated.
    pub fn forgetting(mut self) -> Self {
        self.keeps = false;
        self.eyes.keeps = false;
        self
    }

    /// The most that a register changed from one write to the next, both joints together, from where torque went on.
    pub fn largest_step(&self) -> f64 {
        let steps = self.registers.windows(2).flat_map(|pair| pair[0].iter().zip(&pair[1]).map(|(a, b)| (a - b).abs()));
        steps.fold(0.0, f64::max)
    }
}

impl Robot for Arm {
    fn description(&self) -> &RobotDescription {
        &self.description
    }

    fn finish_read(&mut self, tick: &Tick, _: Timestamp, observation: &mut Observation) -> Result<(), RobotError> {
        if self.keeps {
            self.observed_ticks.push(tick.turn);
        }
        let heard = (self.on_observe)(tick.turn);
        // It moves whether or not anybody hears of it.
        for _ in self.last_tick..if self.stuck { 0 } else { tick.turn } {
            for (position, goal) in self.position.iter_mut().zip(&self.goals) {
                *position += 0.5 * (goal - *position);
            }
        }
        self.last_tick = tick.turn;
        self.eyes.sees.store(self.position[0].to_bits(), SeqCst);
        heard?;
        observation.tick = tick.turn;
        observation.time = tick.due;
        self.seen.copy_from_slice(&self.position);
        (self.spoil)(tick.turn, &mut self.seen);
        for (i, value) in self.seen.iter().enumerate() {
            if value.is_infinite() { observation.state.miss(i) } else { observation.state.set(i, *value, tick.due) }
        }
        Ok(())
    }

    fn enable(&mut self, _: &Door, _: Timestamp) -> Result<(), RobotError> {
        self.enables += 1;
        (self.on_enable)(&mut self.position)?;
        self.goals.copy_from_slice(&self.position);
        if self.keeps {
            self.registers.push(self.goals.clone());
        }
        Ok(())
    }

    fn write(&mut self, _: &Door, command: &SafeCommand, _: Timestamp, sent: &mut Sent) -> Result<(), RobotError> {
        let written = (self.on_write)(self.last_tick);
        if self.keeps {
            self.write_ticks.push(self.last_tick);
        }
        let reached = match self.arrives {
            _ if written.is_ok() => 2,
            Arrives::Nothing => 0,
            Arrives::HalfAndIsTold => 1,
            Arrives::AllAndIsNotTold => 2,
        };
        if reached > 0 {
            self.goals[..reached].copy_from_slice(&command.goals()[..reached]);
            if self.arrives == Arrives::HalfAndIsTold {
                sent.reach(0, self.goals[0]);
            }
            if self.keeps {
                self.registers.push(self.goals.clone());
            }
        }
        written?;
        sent.reach_all(command);
        if self.keeps {
            self.writes.push(command.goals().to_vec());
        }
        Ok(())
    }

    fn stop(&mut self, _: &Door, _: Timestamp) -> Result<(), RobotError> {
        self.stops += 1;
        self.stopped_at = Some(Instant::now());
        (self.on_stop)(self.stops - 1)
    }
}

/// A camera whose image is made of the first joint's position, anew for each tick unless it is told otherwise.
pub struct Eyes {
    /// The bits of what it looks at.
    sees: Arc<AtomicU64>,
    /// Called with the tick's index: whether there is a new image.
    pub on_look: Hook<bool>,
    /// The ticks for which images were asked for.
    pub ticks: Vec<u64>,
    pub keeps: bool,
    pixels: ImageBuffers,
}

impl Default for Eyes {
    fn default() -> Self {
        // Enough for a tape that keeps a whole episode.
        Self {
            sees: Arc::default(),
            on_look: Box::new(|_| true),
            ticks: Vec::new(),
            keeps: true,
            pixels: ImageBuffers::new(300, 4 * 3 * 3),
        }
    }
}

impl Cameras for Eyes {
    fn newest(&mut self, tick: &Tick, images: &mut [Image]) -> Result<(), CameraError> {
        if self.keeps {
            self.ticks.push(tick.turn);
        }
        if !(self.on_look)(tick.turn) {
            return Ok(());
        }
        let bits = self.sees.load(SeqCst).to_le_bytes();
        for image in images {
            image.captured_at = tick.due;
            image.sequence = tick.turn;
            image.rgb = self.pixels.fill(|rgb| rgb.iter_mut().enumerate().for_each(|(i, byte)| *byte = bits[i % 8] ^ i as u8));
        }
        Ok(())
    }
}
