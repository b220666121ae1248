//! Cells in processes of their own: this test program starts itself as the one that runs a session, and that one starts
//! it again as the watchdog. The arm's port is a pipe to the test: goals, torque and safe actions come as lines in the
//! order in which they were written.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Write};
use std::os::fd::AsFd;
use std::process::{Child, Command, Stdio};
use std::str::FromStr;
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use sinew_core::{Clock, Lifeline, LifelinePort};
use sinew_runtime::{
    Fault, MonotonicClock, ReturnToRest, Session, SessionConfig, StopFlag, WATCHDOG_PATIENCE, Watchdog, watch, write_lifeline,
};

use super::actors::Eyes;
use super::arm::{Arm, Body, Hang, Port};
use super::local::{self, Came};
use super::model::Model;
use super::script::Script;
use super::trouble::{PHASES, Phase, Plan, TROUBLES, Trouble, Venue, WHOS, Who};

const ROLE: &str = "SINEW_MATRIX_ROLE";
const CELL: &str = "SINEW_MATRIX_CELL";
/// What the watchdog writes of itself, for who wants to kill it.
const NOTE: &str = "SINEW_MATRIX_NOTE";

/// Where the control thread lives, and where the watchdog acts for it.
const SOON_NS: i64 = 100_000_000;
const WATCHED_NS: i64 = 150_000_000;
/// How long a cell may take, seconds.
const CELL_S: u64 = 20;

/// This program as somebody else.
fn as_role(role: &str, cell: &str, note: &str) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command
        .args(["--exact", role, "--nocapture"])
        .envs([(ROLE, role), (CELL, cell), (NOTE, note)])
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    command
}

fn role(role: &str) -> Option<(String, String)> {
    (std::env::var(ROLE).ok()? == role).then(|| (std::env::var(CELL).unwrap(), std::env::var(NOTE).unwrap()))
}

/// The watchdog, where this process is to be it.
pub fn be_the_watchdog() {
    let Some((_, note)) = role("role_of_the_watchdog") else { return };
    std::fs::write(note, std::process::id().to_string()).unwrap();
    drop(watch(io::stdin().as_fd().try_clone_to_owned().unwrap(), WATCHDOG_PATIENCE, write_lifeline));
}

fn number<T: FromStr>(words: &mut std::str::Split<'_, char>) -> T {
    words.next().and_then(|word| word.parse().ok()).unwrap_or_else(|| panic!("a number is missing"))
}

fn told(plan: &Plan, hang: Hang) -> String {
    let place = |found: Option<usize>| found.unwrap_or_else(|| panic!("{plan:?}"));
    let trouble = place(TROUBLES.iter().position(|trouble| *trouble == plan.trouble));
    let phase = place(PHASES.iter().position(|phase| *phase == plan.phase));
    let who = place(WHOS.iter().position(|who| *who == plan.who));
    format!("{trouble} {phase} {who} {} {}", plan.venue.rate_hz(), u8::from(hang == Hang::ForGood))
}

/// The session's configuration in a process: fast ways, so that cells are short.
fn config(plan: &Plan) -> SessionConfig {
    let rests = plan.phase == Phase::WayToRest;
    let return_to_rest = if rests { ReturnToRest::WhenInterrupted } else { ReturnToRest::Never };
    SessionConfig { return_to_rest, rest_velocity_per_s: 1.2, ..local::config(plan) }
}

/// The one that runs a session, where this process is to be it. Its standard input is the arm's port.
pub fn be_the_main_process() {
    let Some((cell, note)) = role("role_of_the_main_process") else { return };
    let mut words = cell.split(' ');
    let (trouble, phase, who) =
        (TROUBLES[number::<usize>(&mut words)], PHASES[number::<usize>(&mut words)], WHOS[number::<usize>(&mut words)]);
    let plan = Plan { trouble, phase, who, venue: Venue::Process(number(&mut words)) };
    let hang = if number::<u8>(&mut words) == 1 { Hang::ForGood } else { Hang::Short };

    let port: Port = Arc::new(Mutex::new(Box::new(File::from(io::stdin().as_fd().try_clone_to_owned().unwrap()))));
    let say = |port: &Port, words: String| drop(port.lock().unwrap().write_all(format!("{words}\n").as_bytes()));
    let stop = StopFlag::new();
    stop.escalate_on_signals().unwrap();
    let lease = Arc::new(Watchdog::start(&mut as_role("role_of_the_watchdog", "", &note), stop.clone(), None).unwrap());
    let clock = Arc::new(MonotonicClock::new());
    let script = Script::new(plan, clock.clone(), stop.clone());
    let begun = port.clone();
    drop(script.on_begin.set(Box::new(move || drop(begun.lock().unwrap().write_all(b"now\n")))));

    let description = local::description(plan.venue.rate_hz());
    let rest: Vec<f64> = description.rest().into_iter().map(Option::unwrap).collect();
    let mut arm = Arm::new(description, Body::Model(Model::new(&rest)), script.clone());
    arm.hang = hang;
    arm.port = Some((port.clone(), lifeline));
    let (camera, looks) = (port.clone(), clock.clone());
    let on_hang = Box::new(move || drop(camera.lock().unwrap().write_all(format!("hang {}\n", looks.now().as_nanos()).as_bytes())));
    let mut eyes = Eyes { script, hang, on_hang };
    let mut session = Session::new(config(&plan), clock, stop).watched_by(lease.clone());
    let report = local::run(&mut session, &mut arm, &mut eyes, None);
    let faults: Vec<String> = report.faults.iter().map(Fault::chain).collect();
    say(&port, format!("report {:?} {}", report.outcome, faults.join("; ")));
    drop((session, lease));
    say(&port, "end".to_owned());
}

fn lifeline() -> Lifeline {
    let descriptor = io::stdin().as_fd().try_clone_to_owned().unwrap();
    let frames = vec![b"lifeline\n".to_vec()];
    Lifeline { ports: vec![LifelinePort { name: "arm".into(), descriptor, frames, gap: Duration::from_millis(1), checks: vec![] }] }
}

/// A line of the arm's port, and when it came.
type Lines = Arc<Mutex<Vec<(i64, String)>>>;

struct Main {
    process: Child,
    lines: Lines,
    note: tempfile::TempPath,
}

impl Drop for Main {
    fn drop(&mut self) {
        drop(self.process.kill());
        drop(self.process.wait());
    }
}

fn now_ns() -> i64 {
    MonotonicClock::new().now().as_nanos()
}

impl Main {
    fn start(plan: &Plan, hang: Hang) -> Self {
        let note = tempfile::NamedTempFile::new().unwrap().into_temp_path();
        let (arm, end) = io::pipe().unwrap();
        let mut command = as_role("role_of_the_main_process", &told(plan, hang), note.to_str().unwrap());
        let process = command.stdin(end).spawn().unwrap();
        // The command keeps its copy of the pipe's end.
        drop(command);
        let lines = Lines::default();
        let taken = lines.clone();
        thread::spawn(move || {
            for line in BufReader::new(arm).lines().map_while(Result::ok) {
                taken.lock().unwrap().push((now_ns(), line));
            }
        });
        Self { process, lines, note }
    }

    fn lines(&self) -> Vec<(i64, String)> {
        self.lines.lock().unwrap().clone()
    }

    /// Waits for a line that begins so, and gives its place.
    fn wait_for(&mut self, words: &str) -> Result<usize, String> {
        for _ in 0..CELL_S * 1000 {
            if let Some(at) = self.lines.lock().unwrap().iter().position(|(_, line)| line.starts_with(words)) {
                return Ok(at);
            }
            thread::sleep(Duration::from_millis(1));
        }
        Err(format!("no {words:?} within {CELL_S} s: {:?}", self.tail()))
    }

    fn tail(&self) -> Vec<String> {
        let lines = self.lines();
        lines[lines.len().saturating_sub(12)..].iter().map(|(at, line)| format!("{} {line}", at / 1_000_000 % 100_000)).collect()
    }

    fn signal(&self, name: &str) {
        signal(self.process.id(), name);
    }
}

fn signal(process: u32, name: &str) {
    // It may be gone by itself.
    drop(Command::new("kill").args([&format!("-{name}"), &process.to_string()]).stderr(Stdio::null()).status());
}

fn is_safe(line: &str) -> bool {
    line == "lifeline" || line.starts_with("stop")
}

/// What there is to see from a trouble on.
struct Seen {
    /// When it was done, or began.
    since_ns: i64,
    /// Nothing is to come of it before a stop is asked for.
    is_borne: bool,
}

/// One try of a cell.
fn attempt(plan: &Plan, hang: Hang) -> Came {
    let mut main = Main::start(plan, hang);
    main.wait_for("now")?;
    let seen = strike(plan, &mut main)?;
    let found = follow(plan, hang, &mut main, &seen);
    found.map_err(|what| format!("{what}: {:?}", main.tail()))
}

/// Does to the process what the plan says.
fn strike(plan: &Plan, main: &mut Main) -> Result<Seen, String> {
    let mut seen = Seen { since_ns: now_ns(), is_borne: false };
    let signals: &[&str] = match plan.trouble {
        Trouble::Int => &["INT"],
        Trouble::IntTwice => &["INT", "INT"],
        Trouble::Term => &["TERM"],
        Trouble::Quit => &["QUIT"],
        Trouble::Tstp => &["TSTP"],
        Trouble::Hup => &["HUP"],
        Trouble::Ttin => &["TTIN"],
        _ => &[],
    };
    match plan.trouble {
        Trouble::Kill => main.process.kill().unwrap(),
        Trouble::Freeze => {
            main.signal("STOP");
            thread::sleep(Duration::from_millis(300));
            main.signal("CONT");
        }
        Trouble::WatchdogKilled => {
            let watchdog = std::fs::read_to_string(&main.note).unwrap();
            signal(watchdog.parse().unwrap(), "KILL");
        }
        trouble if trouble.is_signal() => {
            for (i, name) in signals.iter().enumerate() {
                if i > 0 {
                    thread::sleep(Duration::from_millis(20));
                }
                seen.since_ns = now_ns();
                main.signal(name);
            }
            let is_gentle = !matches!(trouble, Trouble::IntTwice | Trouble::Quit);
            // A gentle stop lets the way to rest go on.
            seen.is_borne =
                trouble == Trouble::Ttin || is_gentle && plan.phase == Phase::WayToRest || trouble == Trouble::Hup && hup_is_ignored();
        }
        _ => {
            // The process does it to itself, and says when.
            let at = main.wait_for("hang")?;
            let (_, line) = &main.lines()[at];
            seen.since_ns = line.split(' ').next_back().and_then(|word| word.parse().ok()).unwrap();
        }
    }
    Ok(seen)
}

/// Whether this process, and so its children, were started with SIGHUP ignored, as by `nohup`.
fn hup_is_ignored() -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:")).map(str::trim);
    let mask = mask.and_then(|mask| u64::from_str_radix(mask, 16).ok()).unwrap_or(0);
    mask & 1 != 0
}

/// From the trouble to the end of the cell.
fn follow(plan: &Plan, hang: Hang, main: &mut Main, seen: &Seen) -> Came {
    if seen.is_borne && plan.phase != Phase::WayToRest {
        // It goes on, and is told to end.
        let goals = |main: &Main| main.lines().iter().filter(|(_, line)| line.starts_with("goal")).count();
        let before = goals(main);
        thread::sleep(Duration::from_millis(250));
        if goals(main) < before + 4 {
            return Err("it did not go on".to_owned());
        }
        main.signal("QUIT");
    }
    // The watchdog's safe action is repeated; a process that lives ends by itself.
    let is_gone = plan.trouble == Trouble::Kill || hang == Hang::ForGood && is_hang(plan.trouble);
    let first = main.wait_for_safe()?;
    if is_gone {
        thread::sleep(Duration::from_millis(180));
    } else {
        main.wait_for("end")?;
    }
    let lines = main.lines();
    nothing_follows(plan, &lines, first, seen)?;
    speed(&lines)?;
    if !is_gone {
        said(plan, &lines)?;
    }
    let repeats = lines.iter().filter(|(_, line)| line == "lifeline").count();
    let is_watchdogs =
        matches!(plan.trouble, Trouble::Kill | Trouble::Freeze | Trouble::StopFails | Trouble::StopPanics) || is_hang(plan.trouble);
    if is_watchdogs != (repeats > 0) || is_watchdogs && repeats < 2 {
        return Err(format!("the watchdog acted {repeats} times"));
    }
    if seen.is_borne {
        return Ok(None);
    }
    // What a process says of its own is by its own time; the watchdog's line has the time at which it came.
    let (came_ns, line) = &lines[first];
    let at_ns = line.strip_prefix("stop ").and_then(|ns| ns.parse().ok()).unwrap_or(*came_ns);
    Ok(Some(at_ns - seen.since_ns))
}

fn is_hang(trouble: Trouble) -> bool {
    matches!(trouble, Trouble::ReadHangs | Trouble::WriteHangs | Trouble::StopHangs | Trouble::EnableHangs | Trouble::CameraHangs)
}

impl Main {
    fn wait_for_safe(&mut self) -> Result<usize, String> {
        for _ in 0..CELL_S * 1000 {
            if let Some(at) = self.lines.lock().unwrap().iter().position(|(_, line)| is_safe(line)) {
                return Ok(at);
            }
            thread::sleep(Duration::from_millis(1));
        }
        Err(format!("no safe action within {CELL_S} s"))
    }
}

/// No goal comes after the first safe action. Only what a freeze caught between the lease and the port may, when it
/// thaws: nobody can hold that back; the watchdog's next safe action then follows.
fn nothing_follows(plan: &Plan, lines: &[(i64, String)], first: usize, seen: &Seen) -> Result<(), String> {
    for (at, (_, line)) in lines.iter().enumerate().skip(first) {
        if !(line.starts_with("goal") || line.starts_with("torque")) {
            continue;
        }
        let begun_ns: i64 = line.split(' ').next_back().and_then(|word| word.parse().ok()).unwrap_or(i64::MAX);
        let was_caught = plan.trouble == Trouble::Freeze && begun_ns < seen.since_ns + 5_000_000;
        let is_undone = lines[at..].iter().any(|(_, line)| is_safe(line));
        if !(was_caught && is_undone) {
            return Err(format!("{line:?} came after the safe action"));
        }
    }
    Ok(())
}

/// A model of the arm's own, to which all that came is done, never moves too fast.
fn speed(lines: &[(i64, String)]) -> Result<(), String> {
    let description = local::description(30);
    let mut model = Model::new(&description.rest().into_iter().map(Option::unwrap).collect::<Vec<_>>());
    for (came_ns, line) in lines {
        model.advance_to(*came_ns);
        let mut words = line.split(' ');
        match words.next() {
            Some("torque") => model.enable(number(&mut words)),
            Some("goal") => (0..3).for_each(|joint| model.set_goal(joint, number(&mut words))),
            Some("stop" | "lifeline") => model.hold(),
            _ => {}
        }
    }
    model.advance_to(lines.last().map_or(0, |(came_ns, _)| came_ns + 1_000_000_000));
    if model.fastest_per_s < local::FASTEST_PER_S { Ok(()) } else { Err(format!("a joint moved at {:.2} rad/s", model.fastest_per_s)) }
}

/// The report says what it was.
fn said(plan: &Plan, lines: &[(i64, String)]) -> Result<(), String> {
    let report = lines.iter().find_map(|(_, line)| line.strip_prefix("report ")).ok_or("no report")?;
    let ended = if plan.phase == Phase::WayToRest { "Ended" } else { "Interrupted" };
    let (outcome, words) = report.split_once(' ').unwrap_or((report, ""));
    let lease = "the watchdog has taken the robot over";
    let is_right = match plan.trouble {
        Trouble::StopFails => outcome == ended && words.contains("ending in the safe action"),
        Trouble::StopPanics => outcome == "Fault" && words.contains("the control panicked"),
        // Whichever of the two is seen first: the stop that the watchdog asks for, or that the lease is lost.
        trouble if is_hang(trouble) || matches!(trouble, Trouble::Freeze | Trouble::WatchdogKilled) => {
            (outcome == ended && (words.is_empty() || words.contains(lease))) || outcome == "Fault" && words.contains(lease)
        }
        _ => outcome == ended && words.is_empty(),
    };
    if is_right { Ok(()) } else { Err(format!("it reported {report:?}")) }
}

/// A cell, whose time is the median of at most three tries; what is unsafe is so at once.
pub fn cell(plan: Plan, hang: Hang) -> Came {
    let lives = plan.trouble.is_signal() || plan.trouble == Trouble::WatchdogKilled;
    local::in_time(3, if lives { SOON_NS } else { WATCHED_NS }, || attempt(&plan, hang))
}

/// At which rates a process meets a trouble; it alone is met at a rate so low that nobody may wait for a tick.
fn rates(trouble: Trouble, either: u32) -> Vec<u32> {
    match trouble {
        Trouble::Kill | Trouble::Freeze => vec![30, 120],
        Trouble::Quit => vec![4, either],
        _ => vec![either],
    }
}

/// The cells of processes. For signals it matters little who acts, so they take turns.
pub fn plans() -> Vec<(Plan, Hang)> {
    let mut plans = Vec::new();
    for trouble in TROUBLES {
        for phase in PHASES {
            let of = |who: Who, rate_hz: u32| Plan { trouble: *trouble, phase, who, venue: Venue::Process(rate_hz) };
            let whos: Vec<Who> = WHOS.into_iter().filter(|who| local::has(&of(*who, 30))).collect();
            if whos.is_empty() {
                continue;
            }
            for rate_hz in rates(*trouble, [30, 120][plans.len() % 2]) {
                let hang = if plans.len() % 3 == 0 { Hang::ForGood } else { Hang::Short };
                plans.push((of(whos[plans.len() % whos.len()], rate_hz), hang));
            }
        }
    }
    plans
}
