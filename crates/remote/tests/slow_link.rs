//! What is sent of images over links of different speeds: a relay in front of the server lets through so many bytes a second.

#![allow(clippy::unwrap_used, clippy::panic, reason = "what fails here fails the test")]

mod asker;
mod posted;

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use posted::{Plan, answer};
use serde_json::json;
use sinew_core::{Image, Observation, Policy as _, RobotDescription, Timestamp};
use sinew_remote::codec::{Packer, Value, is_picture, pack_json, picture};
use sinew_remote::{Answerer, RemoteOptions, RemotePolicy, Served, Server, ServerOptions};

/// Half a second at 50 actions a second, a third of which sending may take.
const ROWS: usize = 25;
const BUDGET_S: f64 = 0.5 / 3.0;
const CAMERAS: [&str; 2] = ["front", "wrist"];
const WIDTH: u32 = 640;
const HEIGHT: u32 = 480;

fn robot() -> RobotDescription {
    let arm = include_str!("../../runtime/tests/common/arm.toml");
    let (arm, _) = arm.split_once("[[camera]]").unwrap();
    let cameras = CAMERAS.map(|name| format!("[[camera]]\nname = \"{name}\"\nwidth = {WIDTH}\nheight = {HEIGHT}\n"));
    RobotDescription::from_toml("testarm", &format!("{arm}{}", cameras.concat())).unwrap()
}

/// A picture as a camera's is: slopes, edges, and a little noise.
fn pixels(seed: u32) -> Vec<u8> {
    let mut noise = seed.wrapping_mul(2_654_435_761) | 1;
    let mut out = Vec::with_capacity((WIDTH * HEIGHT * 3) as usize);
    for y in 0..HEIGHT {
        for x in 0..WIDTH {
            noise ^= noise << 13;
            noise ^= noise >> 17;
            noise ^= noise << 5;
            let edge = if (x / 40 + y / 30) % 2 == 0 { 60 } else { 0 };
            for c in 0..3 {
                out.push(((x / 5 + y / 7 + c * 20 + edge + noise % 12) % 256) as u8);
            }
        }
    }
    out
}

/// A link of so many bytes a second, there and back; 0 for all that the machine has.
struct Relay {
    address: SocketAddr,
    bytes_s: Arc<AtomicU64>,
}

impl Relay {
    fn before(server: SocketAddr, bytes_s: u64) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let (address, rate) = (listener.local_addr().unwrap(), Arc::new(AtomicU64::new(bytes_s)));
        let bytes_s = rate.clone();
        thread::spawn(move || {
            for near in listener.incoming().map_while(Result::ok) {
                let far = TcpStream::connect(server).unwrap();
                for (from, to) in [(near.try_clone().unwrap(), far.try_clone().unwrap()), (far, near)] {
                    let rate = rate.clone();
                    thread::spawn(move || forward(from, to, &rate));
                }
            }
        });
        Self { address, bytes_s }
    }
}

fn forward(mut from: TcpStream, mut to: TcpStream, bytes_s: &AtomicU64) {
    let mut piece = [0; 8192];
    let mut free = Instant::now();
    to.set_nodelay(true).unwrap();
    while let Ok(count) = from.read(&mut piece)
        && count > 0
    {
        let rate = bytes_s.load(SeqCst);
        if rate > 0 {
            free = free.max(Instant::now()) + Duration::from_secs_f64(count as f64 / rate as f64);
            thread::sleep(free.saturating_duration_since(Instant::now()));
        }
        if to.write_all(&piece[..count]).is_err() {
            break;
        }
    }
    drop(to.shutdown(Shutdown::Write));
}

/// What a server saw of the newest question.
#[derive(Clone, Debug, Default)]
struct Saw {
    jpegs: usize,
    raw: usize,
    first: Vec<u8>,
}

struct Looks {
    takes_jpegs: bool,
    saw: Mutex<Saw>,
}

impl Answerer for Looks {
    fn metadata(&self) -> Vec<u8> {
        let mut inputs = json!({ "observation.state": { "shape": [2] } });
        CAMERAS.iter().for_each(|name| inputs[format!("observation.images.{name}")] = json!({ "shape": [3, HEIGHT, WIDTH] }));
        let ours = json!({ "family": "looks", "inputs": inputs, "n_obs_steps": 1, "chunk_size": ROWS, "n_action_steps": ROWS, "numbers_answers": true, "takes_jpegs": self.takes_jpegs });
        let mut packer = Packer::default();
        pack_json(&mut packer, &json!({ "sinew": ours }));
        packer.into_bytes()
    }

    fn answer(&self, observation: &Value<'_>) -> Result<Served, String> {
        let mut saw = Saw::default();
        for name in CAMERAS {
            let value = observation.get(&format!("observation.images.{name}")).ok_or("an image is missing")?;
            let pixels = if is_picture(value) {
                saw.jpegs += 1;
                let (height, width, pixels) = picture(value)?;
                assert_eq!((height, width), (HEIGHT as usize, WIDTH as usize));
                pixels
            } else {
                saw.raw += 1;
                let Value::Tensor(tensor) = value else { return Err("expected an image".into()) };
                tensor.data.to_vec()
            };
            if saw.first.is_empty() {
                saw.first = pixels;
            }
        }
        *self.saw.lock().unwrap() = saw;
        Ok(Served { rows: ROWS, width: 2, values: vec![0.1; ROWS * 2], took: None })
    }
}

struct Bench {
    relay: Relay,
    looks: Arc<Looks>,
    policy: RemotePolicy,
    robot: RobotDescription,
    asked: u32,
    _server: Server,
}

impl Bench {
    fn new(bytes_s: u64, takes_jpegs: bool) -> Self {
        let server = Server::bind(ServerOptions::new("127.0.0.1:0".parse().unwrap())).unwrap();
        let looks = Arc::new(Looks { takes_jpegs, saw: Mutex::default() });
        server.serve(looks.clone());
        let relay = Relay::before(server.address(), bytes_s);
        let options = RemoteOptions::new(format!("ws://{}", relay.address).parse().unwrap());
        let robot = robot();
        let policy = RemotePolicy::connect(&options, &robot).unwrap();
        Self { relay, looks, policy, robot, asked: 0, _server: server }
    }

    /// Asks, and says how many bytes went and whether there was an answer.
    fn ask(&mut self) -> (u64, bool) {
        self.asked += 1;
        let observation = observation(&self.robot, self.asked);
        let before = self.policy.reporter().report().bytes_sent;
        let is_there = self.policy.infer(&[observation], "look").is_ok();
        (self.policy.reporter().report().bytes_sent - before, is_there)
    }
}

fn observation(robot: &RobotDescription, number: u32) -> Observation {
    let mut observation = Observation::for_robot(robot);
    observation.tick = u64::from(number);
    observation.state.set(0, f64::from(number) * 1e-3, Timestamp::ZERO);
    for (i, image) in observation.images.iter_mut().enumerate() {
        let rgb = pixels(number * 2 + i as u32);
        *image = Image { width: WIDTH, height: HEIGHT, sequence: u64::from(number), rgb: rgb.into(), ..Image::default() };
    }
    observation
}

const RAW_BYTES: u64 = (WIDTH * HEIGHT * 3 * 2) as u64;

#[test]
fn a_fast_link_carries_images_as_they_are() {
    let mut bench = Bench::new(0, true);
    for _ in 0..20 {
        let (bytes, is_there) = bench.ask();
        assert!(bytes > RAW_BYTES && is_there);
    }
    let report = bench.policy.reporter().report();
    assert!(report.image_quality.is_none() && report.worst_image_quality.is_none() && report.bytes_s.unwrap() > 20e6, "{report:?}");
    let saw = bench.looks.saw.lock().unwrap().clone();
    assert_eq!((saw.raw, saw.jpegs), (2, 0));
}

#[test]
fn a_slow_link_carries_jpegs_that_it_has_time_for_and_a_fast_one_again_all() {
    const BYTES_S: u64 = 1_500_000;
    let mut bench = Bench::new(BYTES_S, true);
    // It was measured before the first question.
    let answers: Vec<(u64, bool)> = (0..25).map(|_| bench.ask()).collect();
    assert!(answers.iter().all(|(bytes, _)| *bytes < RAW_BYTES / 3), "{answers:?}");
    assert!(answers.iter().filter(|(_, is_there)| *is_there).count() >= 24, "{answers:?}");
    let report = bench.policy.reporter().report();
    let last = answers[24].0 as f64 / BYTES_S as f64;
    assert!(last < BUDGET_S * 1.1 || report.image_quality == Some(30), "{last} {report:?}");
    assert!(report.image_quality.is_some() && (0.6..1.3).contains(&(report.bytes_s.unwrap() / BYTES_S as f64)), "{report:?}");
    let saw = bench.looks.saw.lock().unwrap().clone();
    assert_eq!((saw.jpegs, saw.raw), (2, 0));
    let differences = saw.first.iter().zip(pixels(50)).map(|(a, b)| f64::from(a.abs_diff(b))).sum::<f64>() / saw.first.len() as f64;
    assert!(differences < 12.0, "the picture is another by {differences} a value");
    let changes = answers.windows(2).skip(8).filter(|pair| (pair[0].0 as f64 / pair[1].0 as f64 - 1.0).abs() > 0.12).count();
    assert!(changes <= 2, "it swings: {answers:?}");
    // The other network is back.
    bench.relay.bytes_s.store(0, SeqCst);
    let taken = (1..60).find(|_| bench.ask().0 > RAW_BYTES);
    assert!(taken.is_some_and(|taken| taken <= 40), "{taken:?}");
    // And gone.
    bench.relay.bytes_s.store(400_000, SeqCst);
    let answers: Vec<(u64, bool)> = (0..14).map(|_| bench.ask()).collect();
    assert!(answers[6..].iter().all(|(bytes, _)| *bytes < RAW_BYTES / 3), "{answers:?}");
    let report = bench.policy.reporter().report();
    assert!(report.image_quality.is_some_and(|quality| quality <= 45), "{report:?}");
}

/// What was told while somebody waited.
static TOLD: Mutex<Vec<(String, Duration)>> = Mutex::new(Vec::new());

#[test]
fn who_waits_for_first_answers_over_a_slow_link_is_told_so() {
    let server = Server::bind(ServerOptions::new("127.0.0.1:0".parse().unwrap())).unwrap();
    server.serve(Arc::new(Looks { takes_jpegs: true, saw: Mutex::default() }));
    // Each of the two questions takes seven seconds.
    let relay = Relay::before(server.address(), RAW_BYTES / 7);
    let hears: fn(&str, Duration) = |what, waited| TOLD.lock().unwrap().push((what.to_owned(), waited));
    let options = RemoteOptions { on_wait: Some(hears), ..RemoteOptions::new(format!("ws://{}", relay.address).parse().unwrap()) };
    RemotePolicy::connect(&options, &robot()).unwrap();
    let told = TOLD.lock().unwrap().clone();
    for (number, (what, waited)) in ["first", "second"].iter().zip(&told) {
        assert!(what.contains(number) && what.contains("of two") && waited.as_secs() == 5, "{told:?}");
    }
    assert!(told.len() >= 2, "{told:?}");
}

#[test]
fn who_does_not_say_that_he_takes_jpegs_gets_none() {
    let mut bench = Bench::new(20_000_000, false);
    for _ in 0..3 {
        assert!(bench.ask().0 > RAW_BYTES);
    }
    assert!(bench.policy.reporter().report().bytes_s.is_none());
}

#[test]
fn an_endpoint_gets_smaller_jpegs_over_a_slow_link() {
    const KEYS: &str = "units = \"si\"\nprompt = \"prompt\"\n[[image]]\nkey = \"a\"\ncamera = \"front\"\nquality = 85\n[[image]]\nkey = \"b\"\ncamera = \"wrist\"\n\
                        [[state]]\nkey = \"state\"\ndtype = \"f64\"\n";
    let rows: Vec<[f64; 2]> = vec![[0.1, 0.2]; ROWS];
    let server = posted::start(move |_| Plan::Send(answer(200, "application/json", &json!({ "actions": rows }).to_string())));
    let relay = Relay::before(server.address, 0);
    let address = format!("http://{}", relay.address).parse().unwrap();
    let options = RemoteOptions { keys: Some(asker::keys(KEYS)), deadline: Some(Duration::from_secs(2)), ..RemoteOptions::new(address) };
    let robot = robot();
    let mut policy = RemotePolicy::connect(&options, &robot).unwrap();
    let (mut sizes, mut number) = (Vec::new(), 0);
    for bytes_s in [0, 600_000, 0] {
        relay.bytes_s.store(bytes_s, SeqCst);
        for _ in 0..30 {
            number += 1;
            let before = policy.reporter().report().bytes_sent;
            drop(policy.infer(&[observation(&robot, number)], "look"));
            sizes.push(policy.reporter().report().bytes_sent - before);
        }
    }
    let (fast, slow, again) = (sizes[29], sizes[59], sizes[89]);
    assert!(slow * 10 < fast * 7 && again * 10 > fast * 9, "{sizes:?}");
    let report = policy.reporter().report();
    assert!(report.image_quality.is_none() && report.worst_image_quality.is_some(), "{report:?}");
}
