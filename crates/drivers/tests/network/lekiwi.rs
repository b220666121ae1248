//! A LeKiwi that is not there, with a session that drives it, and the other side of ZeroMQ's wire by hand.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use sinew_core::{
    Armed, CameraDescription, ChannelSource, Clock, Door, Frame, FrameSink, Image, Observation, Robot, RobotDescription, RobotError,
    SafeCommand, Sent, Teleoperator, Tick, Timestamp, Unwatched, Wanted,
};
use sinew_drivers::{EncodeJpeg, LeKiwiHost};

use super::{description, patient, tick};
use crate::common::RealClock;

pub const PERIOD: Duration = Duration::from_millis(10);

pub fn lekiwi() -> RobotDescription {
    patient(description(include_str!("../../../../robots/lekiwi/robot.toml")))
}

pub fn with_camera(width: u32, height: u32) -> RobotDescription {
    let mut robot = lekiwi();
    let text = format!("name = \"front\"\nwidth = {width}\nheight = {height}\n");
    robot.cameras = vec![toml::from_str::<CameraDescription>(&text).unwrap()];
    robot
}

/// What becomes of its channels of action.
#[derive(Debug, Default)]
pub struct Body {
    pub goals: Vec<f64>,
    pub stops: usize,
    /// Its bus does not answer.
    pub is_mute: bool,
    /// It is not looked at any more.
    pub is_over: bool,
}

/// Is where it was told to be, at once.
pub struct Fake {
    robot: RobotDescription,
    clock: Arc<RealClock>,
    body: Arc<Mutex<Body>>,
}

impl Robot for Fake {
    fn description(&self) -> &RobotDescription {
        &self.robot
    }

    fn finish_read(&mut self, _: &Tick, _: Timestamp, observation: &mut Observation) -> Result<(), RobotError> {
        let body = self.body.lock().unwrap();
        if body.is_mute {
            (0..observation.state.width()).for_each(|i| observation.state.miss(i));
            return Err(RobotError::transient("reading the fake", "its bus is mute"));
        }
        observation.state.set_all(&body.goals, self.clock.now());
        Ok(())
    }

    fn enable(&mut self, _: &Door, _: Timestamp) -> Result<(), RobotError> {
        Ok(())
    }

    fn write(&mut self, _: &Door, command: &SafeCommand, _: Timestamp, sent: &mut Sent) -> Result<(), RobotError> {
        self.body.lock().unwrap().goals.copy_from_slice(command.goals());
        sent.reach_all(command);
        Ok(())
    }

    fn stop(&mut self, _: &Door, _: Timestamp) -> Result<(), RobotError> {
        let mut body = self.body.lock().unwrap();
        let channels = self.robot.action_channels();
        for (goal, _) in body.goals.iter_mut().zip(channels).filter(|(_, channel)| matches!(channel.source, ChannelSource::Base(_))) {
            *goal = 0.0;
        }
        body.stops += 1;
        Ok(())
    }
}

/// A session on a thread: read, choose, drive, publish.
pub struct Playing {
    pub body: Arc<Mutex<Body>>,
    ends: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Playing {
    pub fn start(host: &LeKiwiHost, robot: RobotDescription, clock: &Arc<RealClock>, encode: Option<EncodeJpeg>) -> Self {
        let width = robot.action_channels().len();
        let body = Arc::new(Mutex::new(Body { goals: vec![0.0; width], ..Body::default() }));
        let ends = Arc::new(AtomicBool::new(false));
        let (mut teleoperator, mut publisher) = (host.teleoperator(), host.publisher(encode));
        let mut fake = Fake { robot: robot.clone(), clock: clock.clone(), body: body.clone() };
        let (clock, is_over, shared) = (clock.clone(), ends.clone(), body.clone());
        let thread = thread::spawn(move || {
            let mut frame = Frame::for_robot(&robot);
            let mut wanted = Wanted::for_robot(&robot);
            let mut armed =
                Armed::new(&mut fake, &Unwatched, clock.as_ref(), &tick(clock.as_ref(), 0, PERIOD), &mut frame.observation).unwrap();
            teleoperator.reset(&frame.observation).unwrap();
            for turn in 1.. {
                if is_over.load(Relaxed) {
                    break;
                }
                let tick = tick(clock.as_ref(), turn, PERIOD);
                let _ = armed.read(&tick, &mut frame.observation);
                for image in &mut frame.observation.images {
                    (image.sequence, image.captured_at) = (turn, clock.now());
                    image.rgb.iter_mut().enumerate().for_each(|(i, byte)| *byte = (i / 3 % 7 * 30 + turn as usize % 2) as u8);
                }
                teleoperator.feel(armed.commanded());
                teleoperator.action(&tick, &frame.observation, &mut wanted.goals).unwrap();
                wanted.time = clock.now();
                if let Err(error) = armed.drive(Some(&wanted), &frame.observation, PERIOD.as_secs_f64()) {
                    assert!(!error.is_transient(), "{error}");
                    break;
                }
                if !shared.lock().unwrap().is_over {
                    publisher.frame(&frame).unwrap();
                }
                clock.sleep_until(clock.now() + PERIOD);
            }
        });
        Self { body, ends, thread: Some(thread) }
    }

    pub fn goals(&self) -> Vec<f64> {
        self.body.lock().unwrap().goals.clone()
    }
}

impl Drop for Playing {
    fn drop(&mut self) {
        self.ends.store(true, Relaxed);
        self.thread.take().map(JoinHandle::join);
    }
}

pub fn encode(image: &Image) -> Option<Vec<u8>> {
    let mut jpeg = Vec::new();
    image::codecs::jpeg::JpegEncoder::new_with_quality(&mut jpeg, 90)
        .encode(&image.rgb, image.width, image.height, image::ExtendedColorType::Rgb8)
        .ok()?;
    Some(jpeg)
}

pub fn decode(jpeg: &[u8]) -> Result<(u32, u32, Vec<u8>), String> {
    let image = image::load_from_memory_with_format(jpeg, image::ImageFormat::Jpeg).map_err(|error| error.to_string())?.to_rgb8();
    Ok((image.width(), image.height(), image.into_raw()))
}

/// Greeting and READY of a socket of `kind`, as libzmq sends them.
pub fn greeting(kind: &str) -> Vec<u8> {
    let mut bytes = vec![0xff, 0, 0, 0, 0, 0, 0, 0, 1, 0x7f, 3, 1];
    bytes.extend(b"NULL");
    bytes.resize(64, 0);
    bytes.extend([4, 26, 5]);
    bytes.extend(b"READY\x0bSocket-Type\0\0\0\x04");
    bytes.extend(kind.as_bytes());
    bytes
}

pub fn message(parts: &[&[u8]]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for (i, part) in parts.iter().enumerate() {
        bytes.push(2 | u8::from(i + 1 < parts.len()));
        bytes.extend((part.len() as u64).to_be_bytes());
        bytes.extend(*part);
    }
    bytes
}

/// A client without a token, such as LeRobot's.
pub fn push(port: u16) -> TcpStream {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
    stream.write_all(&greeting("PUSH")).unwrap();
    stream
}

/// A host of another kind: says `script` to each of its clients, byte for byte, and then nothing, or ends.
pub fn scripted_host(script: Vec<u8>, ends: bool) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let script = script.clone();
            thread::spawn(move || {
                let _ = stream.write_all(&script);
                if !ends {
                    let _ = stream.read_to_end(&mut Vec::new());
                } else {
                    // Not before all of it was taken.
                    thread::sleep(Duration::from_millis(50));
                }
            });
        }
    });
    port
}
