//! `sinew calibrate` and `sinew setup-motors` with emulated motors and a script that plays the human, in real time.

#![allow(clippy::unwrap_used, clippy::panic, reason = "what fails here fails the test")]
#![cfg(target_os = "linux")]

mod common;

use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{Child, ChildStdin, Stdio};
use std::time::{Duration, Instant};

use common::Desk;
use sinew_drivers::{Register, tables};
use sinew_emulator::{Emulator, Options, Robot};

const ARM: [&str; 6] = ["shoulder_pan", "shoulder_lift", "elbow_flex", "wrist_flex", "wrist_roll", "gripper"];

/// A process that asks, and the human.
struct Talk {
    child: Child,
    answers: ChildStdin,
    questions: BufReader<std::process::ChildStderr>,
}

impl Talk {
    fn begin(desk: &Desk, args: &[&str]) -> Self {
        let mut command = desk.sinew(args);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let (answers, questions) = (child.stdin.take().unwrap(), BufReader::new(child.stderr.take().unwrap()));
        Self { child, answers, questions }
    }

    /// Reads until it says that.
    #[track_caller]
    fn hears(&mut self, words: &str) {
        let mut all = String::new();
        while self.questions.read_line(&mut all).unwrap() > 0 {
            if all.lines().last().is_some_and(|line| line.contains(words)) {
                return;
            }
        }
        panic!("expected {words:?}, heard {all}");
    }

    fn says(&mut self, line: &str) {
        writeln!(self.answers, "{line}").unwrap();
    }

    /// Its exit code, stdout, and the rest of stderr.
    fn ends(mut self) -> (Option<i32>, String, String) {
        drop(self.answers);
        let mut rest = String::new();
        std::io::Read::read_to_string(&mut self.questions, &mut rest).unwrap();
        let output = self.child.wait_with_output().unwrap();
        (output.status.code(), String::from_utf8(output.stdout).unwrap(), rest)
    }
}

fn emulator(robot: &Robot, link: &Path) -> Emulator {
    let mut robot = robot.clone();
    robot.joints.iter_mut().for_each(|joint| joint.load = 0.0);
    Emulator::start(&robot, link, Options::default()).unwrap()
}

fn sweep(emulator: &Emulator, names: &[&str], [lower, upper]: [f64; 2]) {
    for (i, name) in names.iter().enumerate() {
        let mut place = emulator.motor(name, |motor| motor.position()).unwrap();
        for goal in [lower, upper, 2000.0 + 20.0 * i as f64] {
            while (goal - place).abs() > 1e-9 {
                place += (goal - place).clamp(-40.0, 40.0);
                emulator.move_by_hand(name, place).unwrap();
                std::thread::sleep(Duration::from_millis(10));
            }
            std::thread::sleep(Duration::from_millis(300));
        }
    }
}

#[test]
fn an_arm_is_calibrated_used_again_and_checked() {
    let desk = Desk::new();
    let port = desk.path("port");
    let emulator = emulator(&Robot::so101_follower(), &port);
    let args = ["calibrate", "--robot", "so101", "--port", port.to_str().unwrap(), "--id", "mine", "--latency-ms", "20"];
    let file = desk.path(".cache/huggingface/lerobot/calibration/robots/so_follower/mine.json");
    let with = |more: &[&'static str]| [&args[..], more].concat();

    // Without a file a check says so, and writes none.
    let output = desk.sinew(&with(&["--check"])).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.code() == Some(1) && text.contains("there is no") && text.contains("cable"), "{text}");

    // A human who moves nothing.
    let mut talk = Talk::begin(&desk, &args);
    talk.hears("hold the arm");
    talk.says("");
    talk.hears("Move every joint");
    std::thread::sleep(Duration::from_millis(500));
    talk.says("");
    let (code, _, text) = talk.ends();
    assert!(
        code == Some(1) && text.contains("shoulder_pan was moved by 0.0 degrees, expected its whole range and at least 110.0"),
        "{text}"
    );
    assert!(text.contains("nothing was written") && !file.exists(), "{text}");

    let mut talk = Talk::begin(&desk, &with(&["--json"]));
    talk.hears("hold the arm");
    talk.says("");
    talk.hears("Move every joint");
    std::thread::sleep(Duration::from_millis(300));
    sweep(&emulator, &["shoulder_pan", "shoulder_lift", "elbow_flex", "wrist_flex", "gripper"], [600.0, 3000.0]);
    talk.says("");
    talk.hears("Hold wrist_roll in the middle");
    emulator.move_by_hand("wrist_roll", 1000.0).unwrap();
    std::thread::sleep(Duration::from_millis(50));
    talk.says("");
    let (code, json, text) = talk.ends();
    assert_eq!(code, Some(0), "{text}");
    let report: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!((&report["robot"], &report["used_file"]), (&"so101".into(), &false.into()));
    let known = std::fs::read_to_string(&file).unwrap();
    assert!(
        known.starts_with("{\n    \"shoulder_pan\": {\n        \"id\": 1,\n        \"drive_mode\": 0,\n        \"homing_offset\": -24"),
        "{known}"
    );
    assert_eq!(emulator.register("wrist_roll", Register::HomingOffset).unwrap(), -1047);
    assert_eq!(emulator.register("gripper", Register::OperatingMode).unwrap(), 0);

    let began = Instant::now();
    let checked: serde_json::Value = serde_json::from_str(&desk.ok(&with(&["--check", "--json"]))).unwrap();
    assert!(checked["ok"] == true && checked["motors"][5]["voltage_v"].as_f64().unwrap() > 4.0, "{checked}");
    assert!(began.elapsed() < Duration::from_secs(2), "{:?}", began.elapsed());

    // Somebody else's calibration in the motors.
    emulator.motor("elbow_flex", |motor| motor.put(Register::MaxPositionLimit, 3333)).unwrap();
    let output = desk.sinew(&with(&["--check"])).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.code() == Some(1) && text.contains("elbow_flex: max_position_limit is 3333, the file has 3"), "{text}");
    let mut talk = Talk::begin(&desk, &args);
    talk.hears("ENTER switches the torque off");
    talk.says("");
    let (code, text, _) = talk.ends();
    assert!(code == Some(0) && text.contains("1 registers were written") && text.contains("used   "), "{text}");
    assert_eq!(std::fs::read_to_string(&file).unwrap(), known);
    desk.ok(&with(&["--check"]));

    // Whoever leaves in the middle changes nothing.
    let mut talk = Talk::begin(&desk, &args);
    talk.hears("c and ENTER calibrates anew");
    talk.says("c");
    talk.hears("hold the arm");
    talk.says("");
    talk.hears("Move every joint");
    let (code, _, text) = talk.ends();
    assert!(code == Some(1) && text.contains("standard input ended before an answer"), "{text}");
    assert_eq!(std::fs::read_to_string(&file).unwrap(), known);
    desk.ok(&with(&["--check"]));
}

#[test]
fn motors_get_their_ids_one_by_one() {
    let desk = Desk::new();
    let port = desk.path("port");
    let args = ["setup-motors", "--robot", "so101", "--port", port.to_str().unwrap(), "--latency-ms", "20"];
    let mut talk = Talk::begin(&desk, &args);
    let mut before: Option<(Emulator, i32)> = None;
    for (id, name) in [1, 2, 3, 4, 5, 6].into_iter().zip(ARM).rev() {
        talk.hears(&format!("Connect the motor of {name} (a sts3215)"));
        if let Some((motor, id)) = before.take() {
            assert_eq!(motor.register("motor", Register::Id).unwrap(), id);
        }
        if name == "wrist_flex" {
            let wrong = emulator(&Robot::new_motor(&tables::STS3250), &port);
            talk.says("");
            talk.hears("expected a sts3215, found a sts3250");
            talk.hears("Connect the motor of wrist_flex");
            assert_eq!(wrong.register("motor", Register::Id).unwrap(), 1);
        }
        let motor = emulator(&Robot::new_motor(&tables::STS3215), &port);
        if name == "wrist_roll" {
            motor.motor("motor", |motor| motor.put(Register::Id, 5)).unwrap();
        }
        talk.says("");
        if name == "shoulder_pan" {
            let (code, text, _) = talk.ends();
            assert_eq!(code, Some(0), "{text}");
            assert!(text.starts_with("gripper has id 6 now (it was 1 at 1000000 bits a second)\nwrist_roll has id 5 already\n"), "{text}");
            assert!(
                text.ends_with("shoulder_pan has id 1 already\nAll 6 motors are set. Connect them all, then: sinew calibrate\n"),
                "{text}"
            );
            assert_eq!(motor.register("motor", Register::Id).unwrap(), id);
            return;
        }
        before = Some((motor, id));
    }
}

#[test]
fn what_can_t_be_kept_is_refused_before_a_motor_changes() {
    let desk = Desk::new();
    let port = desk.path("port");
    let emulator = emulator(&Robot::so101_follower(), &port);
    let args = ["calibrate", "--robot", "so101", "--port", port.to_str().unwrap(), "--id", "mine", "--latency-ms", "20"];
    let limits = || ARM.map(|name| emulator.register(name, Register::MaxPositionLimit).unwrap());
    let before = limits();

    // The folder can't be made.
    let place = desk.path(".cache/huggingface/lerobot/calibration");
    std::fs::create_dir_all(place.parent().unwrap()).unwrap();
    std::fs::write(&place, "").unwrap();
    let talk = Talk::begin(&desk, &args);
    let (code, _, text) = talk.ends();
    assert!(
        code == Some(1) && text.contains("making room for the calibration, which is as it was") && !text.contains("Move every joint"),
        "{text}"
    );
    std::fs::remove_file(&place).unwrap();

    // The last motor's value fits no register.
    let file = place.join("robots/so_follower/mine.json");
    let motor = |(name, id)| {
        let range_max = if id == 6 { 100_000 } else { 3000 };
        let known = serde_json::json!({"id": id, "drive_mode": 0, "homing_offset": 5, "range_min": 900, "range_max": range_max});
        (String::from(name), known)
    };
    let known: serde_json::Map<String, serde_json::Value> = ARM.into_iter().zip(1..).map(motor).collect();
    std::fs::create_dir_all(file.parent().unwrap()).unwrap();
    std::fs::write(&file, serde_json::to_string(&known).unwrap()).unwrap();
    let mut talk = Talk::begin(&desk, &args);
    talk.hears("expected a range within the turn of a sts3215, 0..4095, found 900..100000");
    let (code, _, text) = talk.ends();
    assert!(code == Some(1), "{text}");
    assert_eq!(limits(), before);
}

#[test]
fn one_of_two_files_is_not_replaced_without_a_word() {
    let desk = Desk::new();
    let (left, right) = (desk.path("left"), desk.path("right"));
    let _arms = [emulator(&Robot::so101_follower(), &left), emulator(&Robot::so101_follower(), &right)];
    let (left, right) = (format!("left={}", left.display()), format!("right={}", right.display()));
    let args = ["calibrate", "--robot", "bi_so", "--port", &left, "--port", &right, "--id", "two", "--latency-ms", "20"];
    let folder = desk.path(".cache/huggingface/lerobot/calibration/robots/so_follower");
    std::fs::create_dir_all(&folder).unwrap();
    std::fs::write(folder.join("two_left.json"), "{}").unwrap();
    let mut talk = Talk::begin(&desk, &args);
    talk.hears("two_right.json");
    talk.hears("ENTER calibrates all anew and replaces what there is");
    assert_eq!(talk.ends().0, Some(1));
    assert_eq!(std::fs::read_to_string(folder.join("two_left.json")).unwrap(), "{}");
}

#[test]
fn who_presses_enter_twice_gives_no_motor_two_ids() {
    let desk = Desk::new();
    let port = desk.path("port");
    let motor = emulator(&Robot::new_motor(&tables::STS3215), &port);
    let mut talk = Talk::begin(&desk, &["setup-motors", "--robot", "so101", "--port", port.to_str().unwrap(), "--latency-ms", "20"]);
    talk.hears("Connect the motor of gripper");
    talk.says("\n");
    talk.hears("setting up wrist_roll: the motor that answers has id 6, as gripper was just given");
    talk.hears("set it with --only wrist_roll");
    talk.hears("Connect the motor of wrist_roll");
    assert_eq!(motor.register("motor", Register::Id).unwrap(), 6);
    assert_eq!(talk.ends().0, Some(1));
}

#[test]
fn what_was_typed_before_a_question_is_no_answer_to_it() {
    let desk = Desk::new();
    let port = desk.path("port");
    let emulator = emulator(&Robot::so101_follower(), &port);
    let args = ["calibrate", "--robot", "so101", "--port", port.to_str().unwrap(), "--id", "mine", "--latency-ms", "20"];
    let mut terminal = common::pty::Terminal::run(&desk.sinew(&args), None);
    terminal.heard.wait_for("hold the arm", 1);
    terminal.press("\n");
    terminal.heard.wait_for("Move every joint", 1);
    std::thread::sleep(Duration::from_millis(300));
    sweep(&emulator, &["shoulder_pan", "shoulder_lift", "elbow_flex", "wrist_flex", "gripper"], [600.0, 3000.0]);
    terminal.press("\n\n");
    terminal.heard.wait_for("Hold wrist_roll in the middle", 1);
    emulator.move_by_hand("wrist_roll", 1000.0).unwrap();
    std::thread::sleep(Duration::from_millis(300));
    assert_eq!(terminal.heard.count("saved"), 0);
    terminal.press("\n");
    let (code, text) = terminal.end();
    assert_eq!(code, Some(0), "{text}");
    assert_eq!(emulator.register("wrist_roll", Register::HomingOffset).unwrap(), -1047);
}

#[test]
fn a_motor_that_dies_while_somebody_moves_or_holds_the_arm_ends_it_at_once() {
    let desk = Desk::new();
    let port = desk.path("port");
    let args = ["calibrate", "--robot", "so101", "--port", port.to_str().unwrap(), "--id", "mine", "--latency-ms", "20"];
    for (asked, dies, told) in
        [("hold the arm", "gripper", "gripper did not answer"), ("Move every joint", "elbow_flex", "elbow_flex did not answer")]
    {
        let emulator = emulator(&Robot::so101_follower(), &port);
        let mut talk = Talk::begin(&desk, &args);
        talk.hears("hold the arm");
        if asked != "hold the arm" {
            talk.says("");
            talk.hears(asked);
        }
        std::thread::sleep(Duration::from_millis(300));
        emulator.motor(dies, |motor| motor.die()).unwrap();
        let begun = Instant::now();
        // Nobody answers, and standard input stays open.
        talk.hears(told);
        assert!(begun.elapsed() < Duration::from_millis(1500), "{asked}: {:?}", begun.elapsed());
        assert_eq!(talk.ends().0, Some(1));
    }
}
