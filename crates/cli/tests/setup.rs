//! Verbs that set an arm up, where no motor is needed.

#![allow(clippy::unwrap_used, reason = "what fails here fails the test")]
#![cfg(target_os = "linux")]

mod common;

use std::io::{Read as _, Write as _};
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Stdio;

use common::Desk;

/// What Linux says of a USB adapter.
fn plug(root: &Path, name: &str, vendor: &str, product: &str, serial: &str) {
    let device = root.join("sys/devices/usb1").join(name);
    let interface = device.join("interface");
    std::fs::create_dir_all(&interface).unwrap();
    std::fs::create_dir_all(root.join("dev")).unwrap();
    for (what, text) in [("idVendor", vendor), ("idProduct", product), ("serial", serial)] {
        std::fs::write(device.join(what), text).unwrap();
    }
    let tty = root.join("sys/class/tty").join(name);
    std::fs::create_dir_all(&tty).unwrap();
    symlink(interface, tty.join("device")).unwrap();
    std::fs::write(root.join("dev").join(name), "").unwrap();
}

fn unplug(root: &Path, name: &str) {
    std::fs::remove_dir_all(root.join("sys/class/tty").join(name)).unwrap();
}

#[test]
fn a_port_is_found_by_unplugging_it() {
    let desk = Desk::new();
    let root = desk.path("root");
    let args = ["find-port", "--root", root.to_str().unwrap()];
    std::fs::create_dir_all(root.join("sys/class/tty")).unwrap();
    assert!(desk.error(&args).contains("found no serial port"));
    plug(&root, "ttyACM0", "1a86", "55d3", "58FA");
    plug(&root, "ttyUSB0", "0403", "6014", "FT1");
    let list: serde_json::Value = serde_json::from_str(&desk.ok(&[&args[..], &["--json"]].concat())).unwrap();
    assert_eq!(
        (&list[0]["path"], &list[0]["adapter"]["chip"], &list[0]["serial"]),
        (&"/dev/ttyACM0".into(), &"CH343".into(), &"58FA".into())
    );
    assert_eq!(list[1]["adapter"]["chip"], "FT232H");
    let text = desk.ok(&[&args[..], &["--list"]].concat());
    assert!(text.contains("/dev/ttyUSB0  FT232H: Robotis' U2D2 (Koch, OMX)  0403:6014  usb:FT1"), "{text}");

    let unplugging = |names: &[&str]| {
        let mut child = desk.sinew(&args).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        // It has looked when it asks.
        let mut asked = [0; 6];
        child.stderr.as_mut().unwrap().read_exact(&mut asked).unwrap();
        names.iter().for_each(|name| unplug(&root, name));
        child.stdin.take().unwrap().write_all(b"\n").unwrap();
        let output = child.wait_with_output().unwrap();
        (output.status.code(), String::from_utf8(output.stdout).unwrap() + &String::from_utf8(output.stderr).unwrap())
    };
    let (code, text) = unplugging(&["ttyACM0"]);
    assert!(code == Some(0) && text.contains("The arm is on /dev/ttyACM0, or usb:58FA, wherever it is plugged in."), "{text}");
    let (code, text) = unplugging(&[]);
    assert!(code == Some(1) && text.contains("no port has gone"), "{text}");
    std::fs::remove_dir_all(&root).unwrap();
    plug(&root, "ttyACM0", "1a86", "55d3", "58FA");
    plug(&root, "ttyUSB0", "0403", "6014", "FT1");
    let (code, text) = unplugging(&["ttyACM0", "ttyUSB0"]);
    assert!(code == Some(1) && text.contains("2 ports have gone (/dev/ttyACM0, /dev/ttyUSB0)"), "{text}");
}

#[test]
fn what_is_missing_is_said_plainly() {
    let desk = Desk::new();
    for (args, code, says) in [
        (&["calibrate", "--robot", "so101", "--id", "a"][..], 2, "so101 needs a port for its bus arm: --port PATH"),
        (&["calibrate", "--robot", "so101", "--id", "a", "--port", "leg=/dev/a"], 2, "has no bus leg, expected one of arm"),
        (
            &["calibrate", "--teleop", "so101", "--teleop-id", "a", "--teleop-port", "/dev/a"],
            2,
            "so101 is a robot, expected a leader arm: give it with --robot",
        ),
        (&["calibrate", "--robot", "so101", "--id", "../a", "--port", "/dev/a"], 2, "expected a name of at most 100 bytes"),
        (&["calibrate", "--robot", "so101", "--id", "a\nb\u{1b}", "--port", "/dev/a"], 2, "found \"a\\nb\\u{1b}\""),
        (
            &["calibrate", "--robot", "so101", "--id", "a", "--port", "/dev/no-such-port"],
            1,
            "opening /dev/no-such-port at 1000000 bits a second",
        ),
        (&["calibrate", "--robot", "so101", "--id", "a", "--check", "--port", "usb:none"], 1, "no USB adapter has the serial number none"),
        (&["setup-motors", "--robot", "so101", "--port", "/dev/a", "--only", "leg"], 2, "expected one of gripper, wrist_roll"),
        (&["setup-motors", "--robot", "so101", "--port", "/dev/a"], 1, "standard input ended before an answer to this question"),
    ] {
        let output = desk.sinew(args).stdin(Stdio::null()).output().unwrap();
        let text = String::from_utf8(output.stderr).unwrap();
        assert!(output.status.code() == Some(code) && text.contains(says) && !text.contains("panicked"), "{args:?}: {text}");
    }
    assert!(!desk.path(".cache").exists(), "nothing was written");
}
