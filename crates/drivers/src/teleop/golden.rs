//! What LeRobot's own teleoperators make of the same keys, buttons, sticks and poses.

use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use serde_json::Value;
use sinew_core::{Clock, MockClock, Observation, RobotDescription, Teleoperator, Tick, Timestamp};

use super::evdev::{AxisState, DeviceState, EV_ABS, EV_KEY};
use super::keys::tests::Fingers;
use super::recorded::{Part, Recorded, event};
use super::*;

fn golden(of: &str) -> Value {
    let all: Value = serde_json::from_str(include_str!("golden.json")).unwrap();
    all[of].clone()
}

fn list(value: &Value) -> &[Value] {
    value.as_array().unwrap()
}

fn numbers(value: &Value) -> Vec<f64> {
    list(value).iter().map(|value| value.as_f64().unwrap()).collect()
}

fn is_near(found: &[f64], expected: &[f64], what: &Value) {
    assert!(found.len() == expected.len() && found.iter().zip(expected).all(|(a, b)| (a - b).abs() < 1e-6), "{found:?} for {what}");
}

fn seen() -> Observation {
    static ROBOT: OnceLock<RobotDescription> = OnceLock::new();
    let read = || RobotDescription::from_toml("so101", include_str!("../../../../robots/so101/robot.toml")).unwrap();
    Observation::for_robot(ROBOT.get_or_init(read))
}

fn tick(turn: u64) -> Tick {
    let due = Timestamp::from_nanos(turn as i64 * 33_000_000);
    Tick { turn, due, period: Duration::from_millis(33), wants_images: false }
}

/// What was told, and who tells it.
fn ear() -> (Arc<Mutex<Vec<TeleopEvent>>>, Tell) {
    let heard: Arc<Mutex<Vec<TeleopEvent>>> = Arc::default();
    let hearing = heard.clone();
    (heard, Arc::new(move |event| hearing.lock().unwrap().push(event)))
}

/// How a pad shows what pygame has as button or axis of a number.
struct Shown {
    layout: PadLayout,
    axes: [u16; 4],
    /// A code of a button, or of an axis that is one.
    buttons: [(u16, u16); 8],
    /// The value of a share of 0..255.
    value: fn(i32) -> i32,
    ends: [i32; 2],
}

#[test]
fn pads_of_each_kind_are_lerobots() {
    let keys = |codes: [u16; 8]| codes.map(|code| (EV_KEY, code));
    let (byte, word): (fn(i32) -> i32, fn(i32) -> i32) = (|raw| raw, |raw| raw * 257 - 32768);
    let mut xbox = keys([0x133, 0x130, 0x131, 0x134, 0x136, 0x137, 0, 0]);
    (xbox[6], xbox[7]) = ((EV_ABS, 2), (EV_ABS, 5));
    let playstation = keys([0x134, 0x130, 0x131, 0x133, 0x136, 0x137, 0x138, 0x139]);
    let joystick = keys([0x120, 0x121, 0x122, 0x123, 0x124, 0x125, 0x126, 0x127]);
    let pads = [
        Shown { layout: PadLayout::JOYSTICK, axes: [0, 1, 2, 5], buttons: joystick, value: byte, ends: [0, 255] },
        Shown { layout: PadLayout::XBOX, axes: [0, 1, 3, 4], buttons: xbox, value: word, ends: [-32768, 32767] },
        Shown { layout: PadLayout::PLAYSTATION, axes: [0, 1, 3, 4], buttons: playstation, value: byte, ends: [0, 255] },
    ];
    for Shown { layout, axes, buttons, value, ends: [low, high] } in pads {
        let steps = golden("gamepad");
        let mut first = DeviceState::default();
        for code in axes {
            first.axes[usize::from(code)] = Some(AxisState { value: value(127), low, high });
        }
        for (_, code) in buttons.iter().filter(|(kind, _)| *kind == EV_ABS) {
            first.axes[usize::from(*code)] = Some(AxisState { value: 0, low: 0, high: 255 });
        }
        let mut parts = vec![Part::State(first.into()), Part::Nothing];
        let (mut down, mut raw) = (Vec::new(), vec![127; 4]);
        for step in list(&steps) {
            let mut bytes = Vec::new();
            let now: Vec<usize> = numbers(&step["buttons"]).iter().map(|button| *button as usize).collect();
            for (button, (kind, code)) in buttons.iter().enumerate() {
                let is_down = now.contains(&button);
                if is_down != down.contains(&button) {
                    let pulled = if *kind == EV_ABS { 255 } else { 1 };
                    bytes.extend(event(*kind, *code, if is_down { pulled } else { 0 }));
                }
            }
            for (i, to) in numbers(&step["axes"]).into_iter().enumerate().map(|(i, to)| (i, to as i32)) {
                if raw[i] != to {
                    raw[i] = to;
                    bytes.extend(event(EV_ABS, axes[i], value(to)));
                }
            }
            bytes.extend(event(0, 0, 0));
            down = now;
            parts.extend([Part::Bytes(bytes), Part::Nothing]);
        }
        let (heard, tell) = ear();
        let options = PadOptions { speed_m_per_s: 1.0, dead_man: false };
        let mut pad = Gamepad::new(Recorded::device("pad", false, parts), layout, options, tell);
        let (mut action, mut intervenes) = ([f64::NAN; 7], false);
        pad.action(&tick(0), &seen(), &mut action).unwrap();
        assert_eq!(action, [0.0; 7]);
        for (i, step) in list(&steps).iter().enumerate() {
            pad.action(&tick(i as u64 + 1), &seen(), &mut action).unwrap();
            is_near(&action[..3], &numbers(&step["delta"]), step);
            is_near(&action[6..], &[step["gripper"].as_f64().unwrap() - 1.0], step);
            let mut told: Vec<TeleopEvent> = std::mem::take(&mut heard.lock().unwrap());
            told.retain(|event| {
                if let TeleopEvent::Intervene(is_down) = event {
                    intervenes = *is_down;
                    false
                } else {
                    true
                }
            });
            assert_eq!(intervenes, step["intervene"], "{step}");
            for (name, what) in [("success", TeleopEvent::Success), ("failure", TeleopEvent::Failure), ("rerecord", TeleopEvent::Rerecord)]
            {
                assert_eq!(told.contains(&what), step[name], "{step}");
            }
        }
    }
}

#[test]
fn a_pad_is_told_by_what_it_has() {
    let of = |vendor, keys: &[u16], axes: &[u16]| PadLayout::of(vendor, |code| keys.contains(&code), |code| axes.contains(&code));
    assert_eq!(of(0x045e, &[0x130, 0x137], &[0, 1, 2, 3, 4, 5]), Some(PadLayout::XBOX));
    assert_eq!(of(0x054c, &[0x130, 0x137], &[0, 1, 2, 3, 4, 5]), Some(PadLayout::PLAYSTATION));
    assert_eq!(of(0x046d, &[0x120, 0x125], &[0, 1, 2, 5]), Some(PadLayout::JOYSTICK));
    // A pad with its right stick on Z and RZ.
    assert_ne!(of(0x2dc8, &[0x130, 0x137], &[0, 1, 2, 5]), Some(PadLayout::XBOX));
    // A keyboard, a mouse, and an accelerometer.
    assert_eq!(of(0x046d, &[30, 48], &[]), None);
    assert_eq!(of(0x046d, &[0x110], &[0, 1]), None);
    assert_eq!(of(0x054c, &[], &[0, 1, 2]), None);
}

#[test]
fn a_pad_waits_until_its_sticks_are_let_go_of_and_its_dead_man_holds() {
    let state = |value: i32, intervenes: bool| {
        let mut state = DeviceState::default();
        [0, 1, 5].iter().for_each(|code| state.axes[*code] = Some(AxisState { value: 128, low: 0, high: 255 }));
        state.axes[1] = Some(AxisState { value, low: 0, high: 255 });
        state.keys[0x125 / 8] = u8::from(intervenes) << (0x125 % 8);
        state
    };
    let parts = vec![
        // Taken over with the stick out.
        Part::State(state(0, false).into()),
        Part::Nothing,
        Part::Nothing,
        // Let go of, and out again, without and with the button.
        Part::Bytes(event(EV_ABS, 1, 128)),
        Part::Nothing,
        Part::Bytes(event(EV_ABS, 1, 0)),
        Part::Nothing,
        Part::Bytes([event(EV_KEY, 0x125, 1), event(EV_KEY, 0x123, 1)].concat()),
        Part::Nothing,
        // Some events are lost, among them that the button was let go of.
        Part::Bytes([event(0, 3, 0), event(0, 0, 0)].concat()),
        Part::State(state(0, false).into()),
        Part::Nothing,
    ];
    let (heard, tell) = ear();
    let options = PadOptions { speed_m_per_s: 0.1, dead_man: true };
    let mut pad = Gamepad::new(Recorded::device("pad", false, parts), PadLayout::JOYSTICK, options, tell);
    let seen = seen();
    pad.reset(&seen).unwrap();
    let mut action = [f64::NAN; 7];
    let mut ask = |expected: f64| {
        pad.action(&tick(0), &seen, &mut action).unwrap();
        assert!((action[0] - expected).abs() < 1e-12 && action[1..].iter().all(|value| *value == 0.0), "{action:?}");
    };
    [0.0, 0.0, 0.0, 0.1, 0.0].into_iter().for_each(&mut ask);
    assert_eq!(*heard.lock().unwrap(), [TeleopEvent::Intervene(true), TeleopEvent::Success, TeleopEvent::Intervene(false)]);
    assert!(
        pad.action(&tick(0), &seen, &mut action)
            .unwrap_err()
            .to_string()
            .starts_with("reading the input device: the teleoperator is lost: pad")
    );
}

/// A key by pynput's name.
fn key(name: &str) -> TeleopKey {
    match name {
        "up" => TeleopKey::Up,
        "down" => TeleopKey::Down,
        "left" => TeleopKey::Left,
        "right" => TeleopKey::Right,
        "shift" => TeleopKey::LeftShift,
        "shift_r" => TeleopKey::RightShift,
        "ctrl_l" => TeleopKey::LeftControl,
        "ctrl_r" => TeleopKey::RightControl,
        letter => TeleopKey::Char(letter.chars().next().unwrap()),
    }
}

fn names(step: &Value) -> Vec<TeleopKey> {
    list(&step["keys"]).iter().map(|name| key(name.as_str().unwrap())).collect()
}

#[test]
fn keys_that_move_a_tool_are_lerobots() {
    let all = golden("keyboard_ee");
    for step in list(&all["held"]) {
        let fingers = Fingers::default();
        let mut board = KeyboardTool::new(Box::new(fingers.clone()), 1.0, ear().1);
        names(step).into_iter().for_each(|key| fingers.does(key, KeyChange::Pressed));
        let mut action = [f64::NAN; 7];
        // Held, they count for as long as they are.
        for turn in 0..100 {
            board.action(&tick(turn), &seen(), &mut action).unwrap();
        }
        is_near(&action[..3], &numbers(&step["delta"]), step);
        is_near(&action[3..], &[0.0, 0.0, 0.0, step["gripper"].as_f64().unwrap() - 1.0], step);
        names(step).into_iter().for_each(|key| fingers.does(key, KeyChange::Released));
        board.action(&tick(100), &seen(), &mut action).unwrap();
        assert_eq!(action, [0.0; 7], "{step}");
    }
    for step in list(&all["events"]) {
        let (heard, tell) = ear();
        let fingers = Fingers::default();
        let mut board = KeyboardTool::new(Box::new(fingers.clone()), 1.0, tell);
        fingers.does(key(step["key"].as_str().unwrap()), KeyChange::Pressed);
        for turn in 0..5 {
            board.action(&tick(turn), &seen(), &mut [0.0; 7]).unwrap();
        }
        let expected = match (step["success"] == true, step["rerecord"] == true, step["ends"] == true) {
            (true, ..) => vec![TeleopEvent::Success],
            (_, true, _) => vec![TeleopEvent::Rerecord],
            (_, _, true) => vec![TeleopEvent::Quit],
            _ => Vec::new(),
        };
        assert_eq!(*heard.lock().unwrap(), expected, "{step}");
    }
}

#[test]
fn who_presses_a_key_that_moves_intervenes() {
    let (heard, tell) = ear();
    let fingers = Fingers::default();
    let mut board = KeyboardTool::new(Box::new(fingers.clone()), 1.0, tell);
    let mut follow = |turn, change: Option<KeyChange>| {
        change.into_iter().for_each(|change| fingers.does(TeleopKey::Up, change));
        board.follow(&tick(turn), &seen(), &[]);
    };
    follow(0, None);
    follow(1, Some(KeyChange::Pressed));
    follow(2, None);
    board.reset(&seen()).unwrap();
    let mut action = [f64::NAN; 7];
    board.action(&tick(3), &seen(), &mut action).unwrap();
    // The key that took over moves it, too.
    assert_eq!(action[1], -1.0);
    fingers.does(TeleopKey::Up, KeyChange::Released);
    board.action(&tick(4), &seen(), &mut action).unwrap();
    assert_eq!(*heard.lock().unwrap(), [TeleopEvent::Intervene(true), TeleopEvent::Intervene(false)]);
}

/// Presses a step's keys, asks, and lets them go.
fn drive(board: &mut KeyboardBase, fingers: &Fingers, turn: u64, keys: &[TeleopKey]) -> [f64; 3] {
    keys.iter().for_each(|key| fingers.does(*key, KeyChange::Pressed));
    let mut twist = [f64::NAN; 3];
    board.action(&tick(turn), &seen(), &mut twist).unwrap();
    keys.iter().for_each(|key| fingers.does(*key, KeyChange::Released));
    board.action(&tick(turn), &seen(), &mut [0.0; 3]).unwrap();
    twist
}

#[test]
fn keys_of_a_rover_are_lerobots() {
    let fingers = Fingers::default();
    let mut board = KeyboardBase::new(Box::new(fingers.clone()), DriveKeys::Rover { m_per_s: 0.5, rad_per_s: 2.0 }, ear().1);
    for (i, step) in list(&golden("rover")).iter().enumerate() {
        // Here a speed changes as its key is pressed, and counts at once; LeRobot's counts from its next turn on.
        let (speed, steering): (Vec<_>, Vec<_>) = names(step).into_iter().partition(|key| matches!(key, TeleopKey::Char('+' | '=' | '-')));
        let [linear, left, angular] = drive(&mut board, &fingers, i as u64, &steering);
        is_near(&[linear / 0.5, left, angular / 2.0], &[step["twist"][0].as_f64().unwrap(), 0.0, step["twist"][1].as_f64().unwrap()], step);
        drive(&mut board, &fingers, i as u64, &speed);
        let [linear, _, angular] = drive(&mut board, &fingers, i as u64, &[TeleopKey::Char('w'), TeleopKey::Char('a')]);
        is_near(&[linear / 0.5, angular / 2.0], &numbers(&step["speeds"]), step);
    }
}

#[test]
fn keys_of_lekiwi_are_lerobots() {
    let (heard, tell) = ear();
    let fingers = Fingers::default();
    let mut board = KeyboardBase::new(Box::new(fingers.clone()), DriveKeys::LeKiwi, tell);
    for (i, step) in list(&golden("lekiwi")).iter().enumerate() {
        // In LeRobot faster comes before slower, whichever key was pressed first.
        let mut keys = names(step);
        keys.sort_by_key(|key| *key == TeleopKey::Char('f'));
        let [x, y, theta] = drive(&mut board, &fingers, i as u64, &keys);
        is_near(&[x, y, theta.to_degrees()], &numbers(&step["twist"]), step);
        let quits = std::mem::take(&mut *heard.lock().unwrap());
        assert_eq!(quits, if keys.contains(&TeleopKey::Char('q')) { vec![TeleopEvent::Quit] } else { Vec::new() });
    }
}

#[test]
fn a_phone_is_lerobots() {
    let clock = Arc::new(MockClock::new());
    let inbox = PhoneInbox::new(clock.clone());
    let mut phone = Phone::new(inbox.clone(), PhoneOptions { scale: 1.0, ..PhoneOptions::default() });
    let mut action = [f64::NAN; 8];
    for (i, step) in list(&golden("phone")).iter().enumerate() {
        clock.advance(Duration::from_millis(33));
        let (position, rotation) = (numbers(&step["position_m"]), numbers(&step["rotation_wxyz"]));
        let enabled = step["enabled"] == true;
        inbox.put(PhonePose {
            position_m: position.try_into().unwrap(),
            rotation_wxyz: rotation.try_into().unwrap(),
            enabled,
            gripper: step["gripper"].as_f64().unwrap(),
        });
        phone.action(&Tick { due: clock.now(), ..tick(i as u64) }, &seen(), &mut action).unwrap();
        is_near(&action[..6], &numbers(&step["target"]), step);
        is_near(&action[6..], &[step["gripper_vel"].as_f64().unwrap(), f64::from(step["is_enabled"] == true)], step);
    }
}

#[test]
fn keys_move_joints_from_where_they_are_and_no_farther_than_they_may() {
    let robot = RobotDescription::from_toml("so101", include_str!("../../../../robots/so101/robot.toml")).unwrap();
    let mut seen = Observation::for_robot(&robot);
    let fingers = Fingers::default();
    let mut board = KeyboardJoints::new(&robot, Box::new(fingers.clone()), 0.5, ear().1);
    let mut action = [f64::NAN; 6];
    let error = board.action(&tick(0), &seen, &mut action).unwrap_err();
    assert_eq!(error.to_string(), "moving joints by keys: where channel 0 of the action is is not known");
    let start = [0.1, -1.7, 0.2, 0.3, 0.4, 0.5];
    start.iter().enumerate().for_each(|(i, value)| seen.state.set(i, *value, Timestamp::ZERO));
    board.action(&tick(0), &seen, &mut action).unwrap();
    assert_eq!(action, start);
    fingers.does(TeleopKey::Char('q'), KeyChange::Pressed);
    fingers.does(TeleopKey::Char('2'), KeyChange::Pressed);
    board.action(&tick(1), &seen, &mut action).unwrap();
    let step = 0.5 * 3.0 * 0.033;
    is_near(&action, &[0.1 + step, -1.7453293, 0.2, 0.3, 0.4, 0.5], &Value::Null);
    // Whoever holds the arm is not pushed from afar.
    for turn in 2..40 {
        board.action(&tick(turn), &seen, &mut action).unwrap();
    }
    is_near(&action[..1], &[0.1 + 0.35], &Value::Null);
    // After taking over anew it goes on from where the arm is.
    fingers.does(TeleopKey::Char('q'), KeyChange::Released);
    seen.state.set(0, -0.2, Timestamp::ZERO);
    board.reset(&seen).unwrap();
    board.action(&tick(50), &seen, &mut action).unwrap();
    assert_eq!(action[0], -0.2);
}

struct Reported(Vec<Option<Vec<u8>>>);

impl Reports for Reported {
    fn read(&mut self, report: &mut [u8]) -> std::io::Result<usize> {
        if self.0.is_empty() {
            return Err(std::io::Error::from_raw_os_error(19));
        }
        let Some(bytes) = self.0.remove(0) else { return Err(std::io::ErrorKind::WouldBlock.into()) };
        report[..bytes.len()].copy_from_slice(&bytes);
        Ok(bytes.len())
    }
}

#[test]
fn a_space_mouse_moves_a_tool_in_both_of_its_dialects() {
    let report = |number: u8, axes: &[i16]| Some([vec![number], axes.iter().flat_map(|axis| axis.to_le_bytes()).collect()].concat());
    let reports = vec![
        // Out when it takes over, let go of, then out again: all in one report, as newer ones have it.
        report(1, &[0, -350, 0, 0, 0, 0]),
        None,
        None,
        report(1, &[0, 3, 0, 0, 0, 0]),
        None,
        report(1, &[-175, -350, -700, 350, 0, -175]),
        None,
        // In two reports, and the right button.
        report(1, &[0, 0, 350]),
        report(2, &[0, 0, 0]),
        Some(vec![3, 2, 0]),
        None,
        // What makes no sense.
        Some(vec![23, 1, 2]),
        Some(vec![1, 9]),
        Some(vec![]),
    ];
    let mut reports =
        Some(Reported(reports.into_iter().filter(|report| report.as_ref().is_none_or(|report| !report.is_empty())).collect()));
    let open =
        Box::new(move || reports.take().map(|reports| Box::new(reports) as Box<dyn Reports>).ok_or(std::io::ErrorKind::NotFound.into()));
    let options = SpaceMouseOptions { m_per_s: 1.0, rad_per_s: 2.0, reconnects: false };
    let mut mouse = SpaceMouse::new(open, options).unwrap();
    let seen = seen();
    mouse.reset(&seen).unwrap();
    let mut action = [f64::NAN; 7];
    let mut ask = |turn: u64, expected: [f64; 7]| {
        mouse.action(&tick(turn), &seen, &mut action).unwrap();
        is_near(&action, &expected, &Value::Null);
    };
    ask(0, [0.0; 7]);
    ask(1, [0.0; 7]);
    // Forward, half to the left, up; its own x axis, to the right, is −y of the robot.
    ask(2, [1.0, 0.5, 1.0, 0.0, -2.0, 1.0, 0.0]);
    ask(3, [0.0, 0.0, -1.0, 0.0, 0.0, 0.0, 1.0]);
    let error = mouse.action(&tick(4), &seen, &mut action).unwrap_err();
    assert!(error.to_string().starts_with("reading the SpaceMouse: the teleoperator is lost"), "{error}");
}

#[test]
fn names_are_read_and_what_is_missing_is_said() {
    let kind = |text: &str| text.parse::<TeleopKind>();
    assert_eq!(kind("gamepad").unwrap(), TeleopKind::Gamepad(None));
    assert_eq!(kind("gamepad:Wireless Controller").unwrap(), TeleopKind::Gamepad(Some("Wireless Controller".into())));
    assert_eq!(kind("spacemouse:/dev/hidraw3").unwrap(), TeleopKind::SpaceMouse(Some("/dev/hidraw3".into())));
    assert_eq!(kind("keyboard_ee").unwrap(), TeleopKind::KeyboardTool);
    for text in ["", "gamepad:", "keyboard:x", "mouse"] {
        let error = kind(text).unwrap_err().to_string();
        assert!(
            error.starts_with("reading the name of a teleoperator: expected gamepad[:DEVICE], ")
                && error.ends_with(&format!("found {text:?}")),
            "{error}"
        );
    }
    let robot = |name: &str, text: &str| RobotDescription::from_toml(name, text).unwrap();
    let (so101, koch) = (include_str!("../../../../robots/so101/robot.toml"), include_str!("../../../../robots/koch/robot.toml"));
    let (so101, koch) = (robot("so101", so101), robot("koch", koch));
    let refused = |kind, robot| start(kind, robot, StartOptions::default()).err().unwrap().to_string();
    assert!(refused(TeleopKind::Phone, &koch).ends_with("expected a tool in its description, found none"));
    assert_eq!(refused(TeleopKind::Phone, &so101), "starting a phone: expected a service that hears it, found none");
    assert_eq!(refused(TeleopKind::KeyboardRover, &so101), "driving so101: expected a base in its description, found none");
    assert_eq!(refused(TeleopKind::Keyboard, &so101), "starting a keyboard: expected a terminal that keys can be read from, found none");
    let error = refused(TeleopKind::Gamepad(Some("no such pad".into())), &so101);
    assert!(error.starts_with("looking for a gamepad: expected \"no such pad\" to be one, found "), "{error}");
    let error = open_keyboard("no such keyboard", true).err().unwrap().to_string();
    assert!(error.starts_with("looking for a keyboard: expected \"no such keyboard\" to be one with letters, found "), "{error}");
    let error = refused(TeleopKind::SpaceMouse(Some("/dev/no/such".into())), &so101);
    assert_eq!(error, "opening /dev/no/such");
    let options = StartOptions { keys: Some(Box::new(Fingers::default())), ..StartOptions::default() };
    let (teleoperator, way) = start(TeleopKind::KeyboardTool, &so101, options).unwrap();
    assert_eq!((teleoperator.action_space().width(), way.action_width()), (Some(7), 7));
}
