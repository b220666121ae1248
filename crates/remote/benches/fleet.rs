//! What a fleet costs: so many daemons, each a process with its HTTP server and its place in the fleet, around one router, and somebody
//! who looks. The robot in a daemon is played: a new state a hundred times a second, and an image of 25 kB.
//!
//! `cargo bench -p sinew-remote --bench fleet -- ROBOTS SECONDS [downsample]` prints it. With `downsample` the router hands on one state a second.

#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stdout, clippy::print_stderr, reason = "a measurement for people")]

#[path = "../tests/robot/mod.rs"]
mod robot;

use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::time::{Duration, Instant};

use sinew_core::service::{LoopState, State, StopWish, WorkState};
use sinew_remote::{Fleet, FleetPlace, FleetView, Stopped};
use zenoh::{Config, Session, Wait as _};

const IMAGE_BYTES: usize = 25_000;
const WITHIN: Duration = Duration::from_secs(10);

fn main() {
    let args: Vec<String> = std::env::args().skip(1).filter(|word| word != "--bench").collect();
    let words: Vec<&str> = args.iter().map(String::as_str).collect();
    match *words {
        ["robot", name, address] => robot(name, address),
        ["router", address, thinned] => router(address, thinned.parse().unwrap()),
        [robots, seconds, ref rest @ ..] => measure(robots.parse().unwrap(), seconds.parse().unwrap(), rest == ["downsample"]),
        _ => println!("expected ROBOTS SECONDS [downsample], for example 200 30"),
    }
}

/// Lives until its standard input ends.
fn until_told() {
    println!("ready");
    std::io::stdout().flush().unwrap();
    let mut line = String::new();
    while std::io::stdin().read_line(&mut line).unwrap_or(0) > 0 {}
}

fn robot(name: &str, address: &str) {
    let joints = || vec![Some(0.123_456_789); 6];
    let work =
        WorkState { episode: 2, episodes: 10, tick: 311, instruction: Some("Put the cube into the bin.".into()), ..WorkState::default() };
    let template = State {
        armed: true,
        position: joints(),
        goal: vec![0.123_456_789; 6],
        velocity: joints(),
        effort: joints(),
        temperature_c: vec![Some(31.0); 6],
        image_age_s: vec![Some(0.021), Some(0.019)],
        control: Some(LoopState { rate_hz: 30.0, ..LoopState::default() }),
        work: Some(work),
        ..State::default()
    };
    let served = robot::served_as(IMAGE_BYTES, template);
    let place: FleetPlace = address.parse().unwrap();
    let daemon = served.daemon.as_ref().unwrap();
    let _fleet = Fleet::join(place, name.parse().unwrap(), daemon, |line| eprintln!("{line}")).unwrap();
    until_told();
}

fn open(settings: &[(&str, String)]) -> Session {
    let mut config = Config::default();
    for (key, value) in settings {
        config.insert_json5(key, value).unwrap();
    }
    config.insert_json5("scouting/multicast/enabled", "false").unwrap();
    zenoh::open(config).wait().unwrap()
}

/// A router that hands on a state a second of so many robots, and all of the others. A rule counts for all keys that it names together: each
/// robot has its own.
fn router(address: &str, thinned: usize) {
    let mut settings =
        vec![("mode", "\"router\"".into()), ("listen/endpoints", format!("[\"{address}\"]")), ("timestamping/enabled", "false".into())];
    if thinned > 0 {
        let rule = |robot| serde_json::json!({ "key_expr": format!("sinew/v1/robot-{robot}/state"), "freq": 1.0 });
        let rules: Vec<_> = (0..thinned).map(rule).collect();
        settings.push(("downsampling", serde_json::json!([{ "flows": ["egress"], "messages": ["put"], "rules": rules }]).to_string()));
    }
    let _session = open(&settings);
    until_told();
}

/// A process of this program.
struct Part {
    child: Child,
    says: BufReader<ChildStdout>,
}

impl Part {
    fn start(words: &[&str]) -> Self {
        let mut command = Command::new(std::env::current_exe().unwrap());
        let mut child = command.args(words).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
        let says = BufReader::new(child.stdout.take().unwrap());
        Self { child, says }
    }

    fn ready(&mut self) {
        let mut line = String::new();
        assert!(self.says.read_line(&mut line).unwrap() > 0, "a part did not start");
    }

    /// Seconds of processor so far.
    fn cpu_s(&self) -> f64 {
        cpu_s(&self.child.id().to_string())
    }

    /// Bytes of memory that are its own: shared pages count by their share.
    fn bytes(&self) -> f64 {
        let rollup = std::fs::read_to_string(format!("/proc/{}/smaps_rollup", self.child.id())).unwrap();
        let line = rollup.lines().find(|line| line.starts_with("Pss:")).unwrap();
        line.split_whitespace().nth(1).unwrap().parse::<f64>().unwrap() * 1024.0
    }
}

impl Drop for Part {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

fn cpu_s(process: &str) -> f64 {
    let stat = std::fs::read_to_string(format!("/proc/{process}/stat")).unwrap();
    let fields: Vec<&str> = stat.rsplit_once(") ").unwrap().1.split(' ').collect();
    // Hundredths of a second.
    (fields[11].parse::<f64>().unwrap() + fields[12].parse::<f64>().unwrap()) / 100.0
}

/// Bytes that went over loopback so far, with what TCP and IP say around them.
fn loopback() -> f64 {
    let text = std::fs::read_to_string("/proc/net/dev").unwrap();
    let line = text.lines().find_map(|line| line.trim().strip_prefix("lo:")).unwrap();
    line.split_whitespace().next().unwrap().parse().unwrap()
}

fn measure(count: usize, seconds: u64, downsamples: bool) {
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let address = format!("tcp/127.0.0.1:{port}");
    let mut router = Part::start(&["router", &address, &(if downsamples { count } else { 0 }).to_string()]);
    router.ready();
    let begun = Instant::now();
    let mut robots = Vec::new();
    for number in 0..count {
        let mut robot = Part::start(&["robot", &format!("robot-{number}"), &address]);
        robot.ready();
        robots.push(robot);
    }
    let view = FleetView::open(address.parse().unwrap()).unwrap();
    while view.robots(WITHIN).unwrap().values().filter(|robot| robot.state.is_some()).count() < count {
        assert!(begun.elapsed() < Duration::from_secs(120), "they are not all there");
        std::thread::sleep(Duration::from_millis(200));
    }
    println!("{count} daemons, a process each, were there after {:.1} s", begun.elapsed().as_secs_f64());
    let n = count as f64;
    let window = |what: &str, heard: &dyn Fn() -> (u64, u64)| {
        std::thread::sleep(Duration::from_secs(2));
        let robots_cpu = || robots.iter().map(Part::cpu_s).sum::<f64>();
        let begin = (robots_cpu(), router.cpu_s(), cpu_s("self"), loopback(), heard());
        let since = Instant::now();
        std::thread::sleep(Duration::from_secs(seconds));
        let time = since.elapsed().as_secs_f64();
        let end = (robots_cpu(), router.cpu_s(), cpu_s("self"), loopback(), heard());
        println!(
            "{what}: a robot {:.2} % of a core; the router {:.1} %; who looks {:.1} %; over the wire {:.2} kB/s a robot (there and on); \
             heard {:.2} states a second a robot, {:.0} bytes each",
            (end.0 - begin.0) / time / n * 100.0,
            (end.1 - begin.1) / time * 100.0,
            (end.2 - begin.2) / time * 100.0,
            (end.3 - begin.3) / time / n / 1e3,
            (end.4.0 - begin.4.0) as f64 / time / n,
            (end.4.1 - begin.4.1) as f64 / ((end.4.0 - begin.4.0) as f64).max(1.0),
        );
    };
    window("nobody looks", &|| (0, 0));
    let (states, bytes) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
    let session = open(&[("mode", "\"client\"".into()), ("connect/endpoints", format!("[\"{address}\"]"))]);
    let (count_in, bytes_in) = (states.clone(), bytes.clone());
    let all = session.declare_subscriber("sinew/v1/*/state").callback(move |sample| {
        count_in.fetch_add(1, SeqCst);
        bytes_in.fetch_add(sample.payload().len() as u64, SeqCst);
    });
    let all = all.wait().unwrap();
    let heard = || (states.load(SeqCst), bytes.load(SeqCst));
    window("somebody watches all states", &heard);
    let cameras = session.declare_subscriber("sinew/v1/*/cam/*/jpeg").callback(|_| {}).wait().unwrap();
    window("and all cameras, 25 kB an image", &heard);
    drop((cameras, all));
    let memory: f64 = robots.iter().map(Part::bytes).sum();
    println!("memory: a robot {:.1} MB (with its daemon), the router {:.1} MB", memory / n / 1e6, router.bytes() / 1e6);
    let since = Instant::now();
    let listed = view.robots(WITHIN).unwrap().len();
    println!("listing {listed} took {:.0} ms", since.elapsed().as_secs_f64() * 1e3);
    let since = Instant::now();
    let stopped = view.stop(&[], StopWish::Now, WITHIN).unwrap();
    let confirmed = stopped.values().filter(|how| matches!(how, Stopped::Confirmed(_))).count();
    println!("stopping all took {:.0} ms; {confirmed} of {} confirmed", since.elapsed().as_secs_f64() * 1e3, stopped.len());
}
