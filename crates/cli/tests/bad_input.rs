//! What users get wrong, and what they are told.

#![allow(clippy::unwrap_used, reason = "what fails here fails the test")]

mod common;

use std::process::Command;

use common::{Desk, contains_all, demo_policy};

#[test]
fn a_folder_that_is_no_checkpoint() {
    let desk = Desk::new();
    std::fs::create_dir(desk.path("empty")).unwrap();
    let error = desk.error(&["policy", "info", "./empty"]);
    contains_all(&error, &["empty", "config.json"]);
    let error = desk.error(&["rollout", "--policy", "./nothing_there"]);
    contains_all(&error, &["nothing_there"]);
}

#[test]
fn a_truncated_weight_file() {
    let desk = Desk::new();
    let policy = desk.policy("cut");
    let weights = policy.join("model.safetensors");
    let length = std::fs::metadata(&weights).unwrap().len();
    std::fs::OpenOptions::new().write(true).open(&weights).unwrap().set_len(length / 2).unwrap();
    let error = desk.error(&["rollout", "--policy", "./cut", "--pace", "fast"]);
    contains_all(&error, &["model.safetensors"]);
    assert!(!desk.path("outputs").exists(), "nothing may be written for a policy that cannot run");
}

#[test]
fn a_policy_whose_camera_the_robot_does_not_have_is_shown_beside_the_robot() {
    let desk = Desk::new();
    let policy = desk.policy("renamed");
    // A name of the same length, so that the headers of the safetensors files stay right.
    for entry in std::fs::read_dir(&policy).unwrap() {
        let path = entry.unwrap().path();
        let mut bytes = std::fs::read(&path).unwrap();
        let (front, above) = (b"observation.images.front", b"observation.images.above");
        for start in 0..bytes.len().saturating_sub(front.len()) {
            if bytes[start..].starts_with(front) {
                bytes[start..start + front.len()].copy_from_slice(above);
            }
        }
        std::fs::write(&path, bytes).unwrap();
    }
    let error = desk.error(&["eval", "--policy", "./renamed", "--episodes", "1"]);
    contains_all(&error, &["observation.images.above", "observation.images.front"]);
}

#[test]
fn a_robot_whose_camera_has_another_size_is_shown_beside_the_policy() {
    let desk = Desk::new();
    let built_in = std::path::Path::new(&std::env::var("CARGO_MANIFEST_DIR").unwrap()).join("../../robots/so101");
    let robot = desk.path("big_eyes");
    std::fs::create_dir_all(robot.join("meshes")).unwrap();
    for entry in std::fs::read_dir(built_in.join("meshes")).unwrap() {
        let entry = entry.unwrap();
        std::fs::copy(entry.path(), robot.join("meshes").join(entry.file_name())).unwrap();
    }
    let text = std::fs::read_to_string(built_in.join("robot.toml")).unwrap();
    std::fs::write(robot.join("robot.toml"), text.replace("width = 128", "width = 160")).unwrap();
    let error = desk.error(&["rollout", "--robot", "./big_eyes", "--pace", "fast", "--episodes", "1"]);
    contains_all(&error, &["128", "160", "observation.images.front"]);
}

#[test]
fn a_task_that_does_not_exist_names_those_that_do() {
    let error = Desk::new().misused(&["eval", "--task", "juggle"]);
    contains_all(&error, &["juggle", "reach", "push", "pick-place", "sort"]);
}

#[test]
fn a_robot_that_does_not_exist_names_those_that_do() {
    contains_all(&Desk::new().misused(&["robots", "show", "r2d2"]), &["r2d2", "so101"]);
}

#[test]
fn an_output_folder_that_holds_something_is_left_alone() {
    let desk = Desk::new();
    std::fs::create_dir(desk.path("full")).unwrap();
    std::fs::write(desk.path("full/notes.txt"), "mine").unwrap();
    let record = ["record", "--sim", "--teleop", "scripted", "--task", "reach", "--episodes", "1", "--out", "full"];
    contains_all(&desk.error(&record), &["full"]);
    contains_all(&desk.error(&["rollout", "--pace", "fast", "--no-rerun", "--out", "full"]), &["full"]);
    assert_eq!(std::fs::read_to_string(desk.path("full/notes.txt")).unwrap(), "mine");
    assert_eq!(std::fs::read_dir(desk.path("full")).unwrap().count(), 1);
}

#[test]
fn where_one_output_is_refused_no_trace_of_the_other_is_left() {
    let desk = Desk::new();
    std::fs::write(desk.path("old.rrd"), "mine").unwrap();
    let error = desk.error(&["rollout", "--pace", "fast", "--out", "new", "--rerun", "old.rrd"]);
    contains_all(&error, &["old.rrd", "exists"]);
    assert!(!desk.path("new").exists());
    std::fs::create_dir(desk.path("full")).unwrap();
    std::fs::write(desk.path("full/notes.txt"), "mine").unwrap();
    desk.error(&["rollout", "--pace", "fast", "--out", "full", "--rerun", "new.rrd"]);
    assert!(!desk.path("new.rrd").exists());
}

#[test]
fn a_check_says_what_is_wrong_and_ends_with_1() {
    let desk = Desk::new();
    let check = |args: &[&str]| {
        let output = desk.run(&[&["policy", "check"], args].concat());
        (output.status.code(), String::from_utf8(output.stdout).unwrap())
    };
    let (code, text) = check(&["--robot", "so101"]);
    assert_eq!(code, Some(0), "{text}");
    contains_all(&text, &["observation.images.front", "128x96", "shoulder_pan.pos", "control rate", "fits the robot so101"]);

    let policy = desk.policy("wider");
    let config = std::fs::read_to_string(policy.join("config.json")).unwrap();
    std::fs::write(policy.join("config.json"), config.replace("\"dim_model\": 128", "\"dim_model\": 192")).unwrap();
    let (code, text) = check(&["./wider"]);
    assert_eq!(code, Some(1), "{text}");
    contains_all(&text, &["model.safetensors", "128", "192"]);
    let (code, text) = check(&["./wider", "--json", "--robot", "so101"]);
    let verdict: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!((code, verdict["ok"].as_bool()), (Some(1), Some(false)));
    contains_all(verdict["error"].as_str().unwrap(), &["128", "192"]);
}

#[test]
fn a_folder_that_is_no_dataset() {
    let desk = Desk::new();
    std::fs::create_dir(desk.path("empty")).unwrap();
    contains_all(&desk.error(&["dataset", "info", "empty"]), &["empty", "info.json"]);
}

#[test]
fn a_policy_that_is_not_in_the_cache_when_offline() {
    contains_all(&Desk::new().error(&["policy", "info", "someone/not_here"]), &["someone/not_here"]);
}

#[test]
fn counts_that_make_no_sense() {
    let desk = Desk::new();
    for words in [
        "eval --episodes 0",
        "rollout --episodes 0",
        "rollout --episodes many",
        "record --teleop scripted --out ds --episodes 0",
        "eval --jobs 0",
        "policy bench --repeat 0",
    ] {
        contains_all(&desk.misuse(words), &["expected a whole number"]);
    }
    contains_all(&desk.misuse("sim render --width 100000 --height 100000"), &["--width", "from 1 to 8192"]);
    contains_all(&desk.misuse("sim render --width 0 --height 10"), &["--width", "from 1 to 8192"]);
    contains_all(&desk.misuse("eval --contact-sheet x.txt"), &["ends in .png"]);
}

#[test]
fn words_of_lerobot_are_answered_with_those_of_sinew() {
    let desk = Desk::new();
    for (words, says) in [
        ("teleoperate --help", "LeRobot's teleoperate is here: sinew teleop\n"),
        ("dataset-viz", "sinew dataset view"),
        ("edit-dataset", "sinew dataset delete, split, merge"),
        ("lerobot-record", "LeRobot's record is here: sinew record"),
        ("lerobot-find-port", "sinew find-port"),
        ("record --robot.type=so101_follower", "LeRobot's --robot.type is here: --robot\n"),
        ("record --dataset.single_task=x", "LeRobot's --dataset.single_task is here: --instruction"),
        ("rollout --policy.device=cpu", "LeRobot's --policy.device is here: --device"),
    ] {
        contains_all(&desk.misuse(words), &[says]);
    }
}

#[test]
fn what_is_not_there_and_what_differs_is_named() {
    let desk = Desk::new();
    contains_all(&desk.error(&["dataset", "info", "./nowhere"]), &["nowhere: no such folder"]);
    std::fs::write(desk.path("file"), "").unwrap();
    contains_all(&desk.error(&["dataset", "info", "file"]), &["expected a folder, found a file"]);
    std::fs::create_dir(desk.path("folder")).unwrap();
    contains_all(&desk.error(&["dataset", "info", "folder"]), &["a folder without meta/info.json"]);
    (0..20).for_each(|i| std::fs::write(desk.path("folder").join(i.to_string()), "").unwrap());
    contains_all(&desk.error(&["policy", "info", "folder"]), &["there is no config.json (it holds 20 other files)"]);

    let robot = desk.path("wide");
    std::fs::create_dir(&robot).unwrap();
    let text = include_str!("../../../robots/example/robot.toml").replacen("width = 128", "width = 160", 1);
    std::fs::write(robot.join("robot.toml"), text).unwrap();
    for (robot, out) in [("example", "one"), ("wide", "two")] {
        desk.ok(&["record", "--robot", robot, "--teleop", "scripted", "--task", "reach", "--episodes", "1", "--out", out]);
    }
    let error = desk.error(&["dataset", "merge", "one", "two", "--out", "both"]);
    contains_all(&error, &["observation.images.front is \"video\" [96,128,3] in one, but \"video\" [96,160,3] in two"]);
    assert!(!error.contains("observation.state"), "what is the same is not told: {error}");
    let whole: serde_json::Value = serde_json::from_str(&desk.ok(&["dataset", "verify", "one", "--json"])).unwrap();
    assert_eq!((&whole["whole"], &whole["faults"]), (&true.into(), &0.into()));
}

/// What one strategy or pace alone knows is not passed over in silence by the others.
#[test]
fn options_that_mean_nothing_beside_others() {
    let desk = Desk::new();
    for (words, says) in [
        ("--reset-time 3", "--reset-time is for --strategy episodic, and this is base"),
        ("--strategy highlight --rotate 3", "--rotate is for --strategy sentry or dagger, and this is highlight"),
        ("--strategy sentry --ring-mb 9", "--ring-mb is for --strategy highlight, and this is sentry"),
        ("--strategy episodic --record-autonomous", "--record-autonomous is for --strategy dagger"),
        ("--inference async --rtc-horizon 3", "--rtc-horizon is for --inference rtc"),
        ("--pace fast --cpu 0", "--cpu needs real time, and --pace is fast"),
        ("--cpu 9999", "there is no processor 9999"),
        ("--pace fast --interactive", "--interactive needs real time"),
        ("--no-record --codec av1", "--codec says how a dataset is recorded, and --no-record records none"),
        ("--fps 10", "--fps is for a robot behind --port, and without --port the simulator runs"),
        ("--sim --fps 10", "--fps is for a robot behind --port"),
        ("--strategy dagger --teleop scripted --mirror --teleop-port /dev/a", "--teleop-port is for a robot behind --port"),
        ("--teleop scripted", "--teleop is for --strategy dagger"),
        ("--strategy dagger", "expected --teleop TELEOPERATOR with it"),
        ("--threads 0", "expected a whole number from 1"),
    ] {
        contains_all(&desk.misuse(&format!("rollout {words}")), &[says]);
    }
    for words in ["record --teleop scripted --out ds --fps 10", "replay ds --latency-ms 9", "record --sim --say --teleop scripted --out ds"]
    {
        contains_all(&desk.misuse(words), &["is for a robot behind --port, and without --port the simulator runs"]);
    }
    contains_all(&desk.misuse("record --out ds"), &["expected --teleop scripted"]);
    contains_all(&desk.misuse("teleop"), &["expected --port PORT"]);
}

#[test]
fn a_task_is_named_and_an_instruction_told() {
    let desk = Desk::new();
    let sentence = desk.run(&["eval", "--task", "put the cubes into orbit"]);
    assert_eq!(sentence.status.code(), Some(2));
    contains_all(&String::from_utf8(sentence.stderr).unwrap(), &["--instruction \"put the cubes into orbit\""]);
    contains_all(&desk.misused(&["eval", "--task", "pickplace"]), &["did you mean pick-place?"]);
    contains_all(&desk.misused(&["eval", "--robot", "so-101"]), &["did you mean so101?"]);
    let told = desk.ok(&["eval", "--episodes", "1", "--instruction", "Orbit it."]);
    contains_all(&told, &["pick-place (that is what success is judged on), the policy is told \"Orbit it.\""]);
    let other = desk.run(&["eval", "--episodes", "1", "--task", "reach"]);
    contains_all(&String::from_utf8(other.stderr).unwrap(), &["warning: the demonstration policy was trained for pick-place alone"]);
}

#[test]
fn pictures_that_are_there_are_not_written_over() {
    let desk = Desk::new();
    let render = ["sim", "render", "--out", "pictures"];
    desk.ok(&render);
    contains_all(&desk.error(&render), &["front.png", "--force"]);
    desk.ok(&[&render[..], &["--force"]].concat());
    let eval = ["eval", "--episodes", "1", "--contact-sheet", "sheet.png"];
    desk.ok(&eval);
    contains_all(&desk.error(&eval), &["sheet.png", "--force"]);
}

/// The file size limit stands for a full disk: a write in the middle of the recording fails.
#[test]
fn a_disk_that_fills_while_recording_costs_only_the_episode_at_hand() {
    let desk = Desk::new();
    let mut command = Command::new("sh");
    desk.prepare(&mut command);
    let script = format!(
        "trap '' XFSZ; ulimit -f 400; exec {} record --sim --teleop scripted --task reach --episodes 400 --seed 5 --out ds",
        env!("CARGO_BIN_EXE_sinew")
    );
    let output = command.args(["-c", &script]).output().unwrap();
    let error = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{error}");
    contains_all(&error, &["ds", "the dataset has", "--resume offers to keep an episode"]);
    let committed: u64 =
        error.split_once("the dataset has ").unwrap().1.split(" episode").next().unwrap().rsplit(' ').next().unwrap().parse().unwrap();
    assert!(committed > 0, "the limit struck before the first episode: {error}");
    let info: serde_json::Value = serde_json::from_str(&desk.ok(&["dataset", "info", "ds", "--json"])).unwrap();
    assert_eq!(info["total_episodes"], committed);
    assert_eq!(sinew_recorder::verify(&desk.path("ds")).unwrap(), []);
}

#[test]
fn inputs_that_the_policy_cannot_use() {
    let desk = Desk::new();
    std::fs::write(desk.path("in.safetensors"), b"not a safetensors file").unwrap();
    let policy = demo_policy();
    let infer = ["policy", "infer", policy.to_str().unwrap(), "--inputs", "in.safetensors", "--out", "out.safetensors"];
    contains_all(&desk.error(&infer), &["in.safetensors"]);
    assert!(!desk.path("out.safetensors").exists());
}

#[test]
fn weights_that_are_no_numbers_are_refused_unless_allowed() {
    let desk = Desk::new();
    let weights = desk.policy("spoilt").join("model.safetensors");
    let mut bytes = std::fs::read(&weights).unwrap();
    let header = 8 + u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
    let json: serde_json::Value = serde_json::from_slice(&bytes[8..header]).unwrap();
    let at = header + json["model.action_head.bias"]["data_offsets"][0].as_u64().unwrap() as usize;
    // Two bytes of ones are NaN, or make a number of four bytes one.
    bytes[at..at + 4].copy_from_slice(&[0xff; 4]);
    std::fs::write(&weights, bytes).unwrap();
    contains_all(&desk.error(&["policy", "bench", "./spoilt"]), &["model.action_head.bias", "NaN"]);
    // Then it is read, and its answer is checked all the same.
    let allowed = desk.run(&["policy", "bench", "./spoilt", "--allow-nan"]);
    assert_eq!(allowed.status.code(), Some(1));
    contains_all(&String::from_utf8(allowed.stderr).unwrap(), &["going on, as told", "row 0 of its answer holds NaN"]);
    let wrong = desk.run(&["policy", "bench", "--quantize", "q4"]);
    assert_eq!(wrong.status.code(), Some(2));
    contains_all(&String::from_utf8(wrong.stderr).unwrap(), &["q4", "expected q8"]);
}

#[test]
fn keys_that_nobody_knows_are_told() {
    let desk = Desk::new();
    let path = desk.policy("newer").join("config.json");
    let mut config: serde_json::Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
    config["colour"] = "red".into();
    std::fs::write(&path, config.to_string()).unwrap();
    contains_all(&desk.ok(&["policy", "info", "./newer"]), &["unknown keys", "colour"]);
}

/// A copy of the example with `from` made `to`.
fn example(desk: &Desk, name: &str, from: &str, to: &str) {
    let built_in = std::path::Path::new(&std::env::var("CARGO_MANIFEST_DIR").unwrap()).join("../../robots/example/robot.toml");
    let text = std::fs::read_to_string(built_in).unwrap();
    assert!(text.contains(from), "{from}");
    std::fs::create_dir(desk.path(name)).unwrap();
    std::fs::write(desk.path(name).join("robot.toml"), text.replacen(from, to, 1)).unwrap();
}

#[test]
fn who_copies_the_example_can_simulate_it_and_what_cannot_be_recorded_leaves_nothing() {
    let desk = Desk::new();
    example(&desk, "copied", "\"Example: ", "\"Mine: ");
    let record = |robot: &'static str| {
        ["record", "--sim", "--teleop", "scripted", "--robot", robot, "--task", "reach", "--episodes", "1", "--out", "data"]
    };
    // Its hand does not come down.
    example(&desk, "stiff", "position = [-1.0, 1.9], velocity = 3.0, step = 0.35 }\nrest = 0.5", {
        "position = [-1.0, -0.5], velocity = 3.0, step = 0.35 }\nrest = -0.7"
    });
    for _ in 0..2 {
        let error = desk.error(&record("./stiff"));
        contains_all(&error, &["setting the scene of reach, seed 0: no place that the tool reaches pointing down, in 200 attempts"]);
        assert!(!error.contains("Some(") && !desk.path("data").exists(), "{error}");
    }
    // A folder that was there stays.
    std::fs::create_dir(desk.path("data")).unwrap();
    desk.error(&record("./stiff"));
    assert_eq!(std::fs::read_dir(desk.path("data")).unwrap().count(), 0);
    desk.ok(&record("./copied"));
    assert_eq!(desk.recorded("data", "recorded with the example")["total_episodes"], 1);
    desk.ok(&["sim", "render", "--robot", "example", "--task", "reach", "--out", "pictures"]);
    assert!(desk.path("pictures/front.png").exists());
}

#[test]
fn motors_that_make_no_sense_are_refused_where_a_robot_is_shown() {
    let desk = Desk::new();
    example(&desk, "mode", "id = 1 }", "id = 1, registers = { operating_mode = 1 } }");
    example(&desk, "wire", "\"feetech\"", "\"dynamixel\"");
    example(&desk, "fast", "control_rate_hz = 30", "control_rate_hz = 1001");
    for (name, says) in [
        ("mode", "turn: expected registers that a description may set, found operating_mode = 1"),
        ("wire", "turn: a sts3215 speaks feetech, and its bus arm is dynamixel"),
        ("fast", "control_rate_hz is 1001, expected 1 to 1000"),
    ] {
        contains_all(&desk.error(&["robots", "show", &format!("./{name}")]), &[says]);
    }
    let link = desk.path("link");
    contains_all(&desk.error(&["emulate", "./wire", "--link", link.to_str().unwrap(), "--seconds", "0.1"]), &["speaks feetech"]);
    let file = desk.error(&["robots", "show", "./wire/robot.toml"]);
    contains_all(&file, &["./wire/robot.toml: that is a file, expected the folder that it is in: ./wire"]);
    // All that are built in are fine.
    for robot in sinew_sim::robots::list() {
        desk.ok(&["robots", "show", robot]);
    }
}

#[test]
fn an_option_that_would_be_ignored_is_refused() {
    let desk = Desk::new();
    let (robot, teleop) = (["--robot", "so101", "--port", "/dev/a"], ["--teleop", "so101_leader", "--teleop-port", "/dev/b"]);
    for (verb, arm, other) in [
        (&["robots", "monitor"][..], robot, ["--teleop-port", "/dev/b"]),
        (&["robots", "monitor"], teleop, ["--port", "/dev/a"]),
        (&["setup-motors"], robot, ["--teleop-port", "/dev/b"]),
        (&["setup-motors"], teleop, ["--port", "/dev/a"]),
        (&["calibrate", "--id", "x"], robot, ["--teleop-id", "y"]),
        (&["calibrate", "--id", "x"], robot, ["--teleop-port", "/dev/b"]),
        (&["calibrate", "--teleop-id", "x"], teleop, ["--id", "y"]),
        (&["calibrate", "--teleop-id", "x"], teleop, ["--port", "/dev/a"]),
    ] {
        let args = [verb, &arm[..], &other[..]].concat();
        let output = desk.run(&args);
        let text = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{args:?}: {text}");
        contains_all(&text, &["cannot be used with"]);
    }
    let latency = ["robots", "monitor", "--robot", "lekiwi", "--port", "zmq://127.0.0.1", "--latency-ms", "9"];
    contains_all(&desk.misused(&latency), &["--latency-ms is for motors on a serial port"]);
}

#[test]
fn what_no_dataset_can_be_recorded_with_is_told_before_anything_is_touched() {
    let desk = Desk::new();
    let record = ["record", "--sim", "--teleop", "scripted", "--task", "reach", "--episodes", "1", "--out", "ds"];
    let port = ["record", "--robot", "so101", "--port", "/dev/none", "--teleop", "keyboard", "--task", "x", "--out", "ds"];
    for (options, expected) in [
        (&["--codec", "foo"][..], "with ffmpeg's foo"),
        (&["--quality", "5"], "the quality is 5, expected 10 to 51"),
        (&["--preset", "fast"], "the preset is fast, but openh264 has none"),
    ] {
        let refused = |args: &[&str]| if options[0] == "--codec" { desk.error(args) } else { desk.misused(args) };
        contains_all(&refused(&[&record[..], options].concat()), &["recording to ds", expected]);
        // On a robot before its port, and with a camera to encode.
        let error = refused(&[&port[..], &["--camera", "front=pattern,64x48@30"], options].concat());
        assert!(error.contains(expected) && !error.contains("/dev/none"), "{error}");
    }
    assert!(!desk.path("ds").exists());
    std::fs::write(desk.path("ds"), "mine").unwrap();
    contains_all(&desk.error(&record), &["recording to ds: it is a file, expected a folder"]);
    assert_eq!(std::fs::read_to_string(desk.path("ds")).unwrap(), "mine");
    let twice = ["--camera", "front=usb:1", "--camera", "wrist=usb:1"];
    contains_all(&desk.misused(&[&port[..], &twice].concat()), &["--camera wrist=usb:1: that is camera front"]);
    contains_all(&desk.misused(&["rig", "init", ""]), &["expected a text"]);
}

#[test]
fn a_place_that_no_motor_can_be_at_is_told_at_once() {
    let desk = Desk::new();
    let link = format!("left={}", desk.path("link").display());
    contains_all(&desk.misused(&["emulate", "so101", "--link", &link]), &["expected --link arm=PATH: it has no bus left"]);
    std::fs::create_dir(desk.path("folder")).unwrap();
    // Before anybody is asked to plug anything in.
    let error = desk.error(&["setup-motors", "--robot", "so101", "--port", "./folder"]);
    contains_all(&error, &["./folder", "it is no serial port"]);
    assert!(!error.contains("ENTER"), "{error}");
}
