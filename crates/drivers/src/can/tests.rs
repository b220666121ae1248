//! Frames and lines beside those that other programs made (`scripts/make_can_golden.py`), and what is not as it should be.

use proptest::prelude::*;
use serde_json::Value;

use super::slcan::{Decoder, Heard};
use super::*;

fn golden() -> Value {
    serde_json::from_str(include_str!("golden.json")).unwrap()
}

fn cases<'a>(golden: &'a Value, maker: &str, what: &str) -> &'a Vec<Value> {
    let cases = golden[maker][what].as_array().unwrap();
    assert!(cases.len() > 3);
    cases
}

fn bytes(hex: &Value) -> Vec<u8> {
    let hex = hex.as_str().unwrap().as_bytes();
    hex.chunks(2).map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap()).collect()
}

fn frame(case: &Value, is_extended: bool) -> CanFrame {
    let id = u32::try_from(case["id"].as_u64().unwrap()).unwrap();
    CanFrame::new(id, is_extended, CanFormat::Classic, &bytes(&case["data"])).unwrap()
}

fn motor(maker: &str, case: &Value) -> CanMotor {
    let (default, id, answer_id) = if maker == "damiao" { ("dm4310", 3, 0x13) } else { ("rs01", 5, 5) };
    CanMotor { model: CanModel::of(case["model"].as_str().unwrap_or(default)).unwrap(), id, answer_id }
}

fn command(case: &Value) -> MitCommand {
    let value = |i: usize| case["command"][i].as_f64().unwrap();
    MitCommand { position: value(0), velocity: value(1), stiffness: value(2), damping: value(3), torque: value(4) }
}

/// Position, velocity, stiffness, damping, torque.
fn numbers(maker: &str, frame: &CanFrame) -> [u32; 5] {
    let data: [u8; 8] = frame.data().try_into().unwrap();
    let all = u64::from_be_bytes(data);
    let bits = |from: u32, count: u32| u32::try_from(all >> from & ((1 << count) - 1)).unwrap();
    match maker {
        "damiao" => [bits(48, 16), bits(36, 12), bits(24, 12), bits(12, 12), bits(0, 12)],
        _ => [bits(48, 16), bits(32, 16), bits(16, 16), bits(0, 16), frame.id() >> 8 & 0xFFFF],
    }
}

#[test]
fn commands_are_those_of_other_programs() {
    let golden = golden();
    for case in cases(&golden, "damiao", "commands") {
        assert_eq!(motor("damiao", case).ask(Request::Command(command(case))).unwrap(), frame(case, false), "{case}");
    }
    // Others cut off, and take the middle of a span to be elsewhere: a step at most is between.
    for (maker, what) in [("damiao", "between"), ("robstride", "commands")] {
        for case in cases(&golden, maker, what) {
            let ours = motor(maker, case).ask(Request::Command(command(case))).unwrap();
            let theirs = frame(case, maker == "robstride");
            assert_eq!((ours.id() & 0xFF, ours.id() >> 24), (theirs.id() & 0xFF, theirs.id() >> 24));
            for (i, (ours, theirs)) in numbers(maker, &ours).into_iter().zip(numbers(maker, &theirs)).enumerate() {
                let most = u32::from(i != 2 && i != 3);
                assert!(ours.abs_diff(theirs) <= most, "number {i} is {ours}, theirs {theirs}: {case}");
            }
        }
    }
}

#[test]
fn requests_are_those_of_other_programs() {
    let golden = golden();
    for maker in ["damiao", "robstride"] {
        for case in cases(&golden, maker, "frames") {
            let what = case["request"].as_str().unwrap();
            let (verb, register) = what.split_once(' ').map_or((what, 0), |(verb, register)| (verb, register.parse().unwrap()));
            let request = match verb {
                "enable" => Request::Enable,
                "disable" => Request::Disable,
                "set_zero" => Request::SetZero,
                "look" => Request::Look,
                "read" => Request::Read(register),
                "write" => Request::Write(register, [1, 0, 0, 0]),
                "store" => Request::Store,
                other => panic!("{other}"),
            };
            assert_eq!(motor(maker, case).ask(request).unwrap(), frame(case, maker == "robstride"), "{what}");
        }
    }
}

#[test]
fn feedback_is_read_as_other_programs_read_it() {
    let golden = golden();
    for maker in ["damiao", "robstride"] {
        for case in cases(&golden, maker, "feedback") {
            let motor = motor(maker, case);
            let Some(CanAnswer::Feedback(found)) = motor.answer(&frame(case, maker == "robstride")) else { panic!("{case}") };
            // For Robstride a step, as the middle of their span is elsewhere.
            let near = |found: Option<f64>, key: &str, span: f64| {
                let slack = if maker == "damiao" { 1e-9 } else { 2.0 * span / 65534.0 };
                let expected = case[key].as_f64().unwrap();
                assert!((found.unwrap() - expected).abs() <= slack, "{key}: {found:?}: {case}");
            };
            near(Some(found.position), "position", motor.model.position);
            near(found.velocity, "velocity", motor.model.velocity);
            near(found.torque, "torque", motor.model.torque);
            assert!((found.temperature_c.unwrap() - case["temperature_c"].as_f64().unwrap()).abs() < 1e-9);
            let (state, alert) = match (maker, case["state"].as_u64().or(case["mode"].as_u64()).unwrap()) {
                ("robstride", 2) => (MotorState::Enabled, case["alert"].as_u64().unwrap()),
                ("robstride", _) => {
                    let alert = case["alert"].as_u64().unwrap();
                    (if alert == 0 { MotorState::Disabled } else { MotorState::Fault }, alert)
                }
                (_, 0) => (MotorState::Disabled, 0),
                (_, 1) => (MotorState::Enabled, 0),
                (_, code) => (MotorState::Fault, 1 << code),
            };
            assert_eq!((found.state, u64::from(found.alert)), (Some(state), alert), "{case}");
        }
    }
}

#[test]
fn lines_are_those_of_python_can() {
    let golden = golden();
    let cases = golden["lines"].as_array().unwrap();
    assert!(cases.len() > 15);
    for case in cases {
        let is = |key: &str| case[key].as_bool().unwrap();
        let format = if is("fd") { CanFormat::Flexible { is_fast: is("fast") } } else { CanFormat::Classic };
        let id = u32::try_from(case["id"].as_u64().unwrap()).unwrap();
        let frame = CanFrame::new(id, is("extended"), format, &bytes(&case["data"])).unwrap();
        let mut line = Vec::new();
        slcan::encode(&frame, &mut line);
        assert_eq!(std::str::from_utf8(&line).unwrap(), case["line"].as_str().unwrap());
        assert_eq!(heard(&line), [Heard::Frame(frame)]);
        // With a time stamp, and in small letters.
        let mut stamped = line[..line.len() - 1].to_vec();
        stamped.extend(b"1a2B\r");
        assert_eq!(heard(&stamped), [Heard::Frame(frame)]);
        let letter = line[0];
        let small: Vec<u8> = line.iter().enumerate().map(|(i, byte)| if i == 0 { letter } else { byte.to_ascii_lowercase() }).collect();
        assert_eq!(heard(&small), [Heard::Frame(frame)]);
    }
}

fn heard(bytes: &[u8]) -> Vec<Heard> {
    let mut decoder = Decoder::default();
    bytes.iter().filter_map(|byte| decoder.take(*byte)).collect()
}

#[test]
fn a_line_that_is_none_costs_itself_and_no_other() {
    let good = Heard::Frame(CanFrame::standard(0x123, &[0xAB]).unwrap());
    let after = |bad: &[u8]| heard(&[bad, b"\rt1231AB\r"].concat());
    // Cut, too long, no digits, an identifier or a length that there is not, a request for a frame, a letter that is none.
    for bad in [&b"t12"[..], b"t1232AB", b"t1231ABC", b"t1231AB12345", b"t1x31AB", b"t8001AB", b"t1239ABABABABABABABABAB", b"r1231", b"q"] {
        assert_eq!(after(bad), [Heard::Garbage(bad.len() + 1), good], "{}", String::from_utf8_lossy(bad));
    }
    assert_eq!(heard(b"\r"), [Heard::Done]);
    assert_eq!(heard(b"z\rZ\rV1013\r\n"), [Heard::Done; 3]);
    assert_eq!(heard(b"\x07t1231AB\r"), [Heard::Refused, good]);
    // A bell within a line, as where bytes were lost.
    assert_eq!(heard(b"t12\x07t1231AB\r"), [Heard::Garbage(4), good]);
    let endless = vec![b't'; 5000];
    assert_eq!(after(&endless), [Heard::Garbage(5001), good]);
}

#[test]
fn a_frame_is_refused_that_no_bus_has() {
    assert!(CanFrame::standard(0x800, &[]).is_none() && CanFrame::standard(1, &[0; 9]).is_none());
    assert!(CanFrame::extended(1 << 29, &[]).is_none());
    let fd = CanFormat::Flexible { is_fast: false };
    assert!(CanFrame::new(1, false, fd, &[0; 9]).is_none() && CanFrame::new(1, false, fd, &[0; 65]).is_none());
    assert_eq!(CanFrame::new(1, false, fd, &[0; 12]).unwrap().in_format(CanFormat::Classic).format(), fd);
}

#[test]
fn an_answer_is_of_the_motor_that_says_so() {
    let motor = motor("damiao", &Value::Null);
    let feedback = |id: u32, first: u8| motor.answer(&CanFrame::standard(id, &[first, 0x80, 0, 0x80, 0x08, 0, 30, 40]).unwrap());
    assert!(matches!(feedback(0x13, 0x13), Some(CanAnswer::Feedback(_))));
    assert!(feedback(0x14, 0x13).is_none(), "another identifier");
    assert!(feedback(0x13, 0x14).is_none(), "another motor with this one's answer identifier");
    assert!(motor.answer(&CanFrame::standard(0x13, &[0x13; 7]).unwrap()).is_none(), "too short");
    assert!(motor.answer(&CanFrame::extended(0x13, &[0x13; 8]).unwrap()).is_none(), "of 29 bits");
    let read = motor.ask(Request::Read(10)).unwrap();
    let register = CanFrame::standard(0x13, &[3, 0, 0x33, 10, 1, 0, 0, 0]).unwrap();
    assert_eq!(motor.answer(&register), Some(CanAnswer::Register(10, [1, 0, 0, 0])));
    assert!(motor.answers(&read, &register) && !motor.answers(&motor.ask(Request::Read(9)).unwrap(), &register));
    assert!(!motor.answers(&motor.ask(Request::Look).unwrap(), &register));

    let motor = self::motor("robstride", &Value::Null);
    let place = 1.25f32.to_le_bytes();
    let read = |id: u32| CanFrame::extended(id, &[0x19, 0x70, 0, 0, place[0], place[1], place[2], place[3]]).unwrap();
    let Some(CanAnswer::Feedback(found)) = motor.answer(&read(0x1100_05FF)) else { panic!() };
    assert_eq!((found.position, found.state, found.velocity), (1.25, None, None));
    assert!(motor.answer(&read(0x1101_05FF)).is_none(), "refused");
    assert!(motor.answer(&read(0x1100_06FF)).is_none() && motor.answer(&read(0x1100_05FE)).is_none(), "another motor, another host");
    let none = CanFrame::extended(0x1100_05FF, &[0x19, 0x70, 0, 0, 0, 0, 0xC0, 0x7F]).unwrap();
    assert!(motor.answer(&none).is_none(), "a place that is no number");
}

fn any_frame() -> impl Strategy<Value = CanFrame> {
    let formats = prop_oneof![Just(CanFormat::Classic), any::<bool>().prop_map(|is_fast| CanFormat::Flexible { is_fast })];
    (any::<u32>(), any::<bool>(), formats, prop::collection::vec(any::<u8>(), 0..=8)).prop_map(|(id, is_extended, format, data)| {
        CanFrame::new(id & if is_extended { 0x1FFF_FFFF } else { 0x7FF }, is_extended, format, &data).unwrap()
    })
}

proptest! {
    #[test]
    fn a_frame_survives_its_line_its_message_and_its_socket(frame in any_frame()) {
        let mut line = Vec::new();
        slcan::encode(&frame, &mut line);
        prop_assert_eq!(heard(&line), [Heard::Frame(frame)]);
        let mut socket = Vec::new();
        frame.to_socket(&mut socket);
        prop_assert_eq!(CanFrame::of_socket(&socket), Some(frame));
        let mut message = [0; 12];
        let len = frame.to_message(&mut message).unwrap();
        prop_assert_eq!(CanFrame::of_message(&message[..len], frame.format()), Some(frame));
    }

    /// A decoder takes anything, and after two ends of lines nothing of it is left.
    #[test]
    fn what_is_heard_after_noise_is_what_was_said(noise in prop::collection::vec(any::<u8>(), 0..400), frame in any_frame()) {
        let mut bytes = noise;
        bytes.push(b'\r');
        slcan::encode(&frame, &mut bytes);
        prop_assert_eq!(heard(&bytes).pop(), Some(Heard::Frame(frame)));
    }

    /// Whatever is asked for: gains and torques on the wire are never above it, and within what a motor has.
    #[test]
    fn what_is_commanded_is_never_exceeded(
        at in 0..CAN_MODELS.len(), position in -20.0..20.0, stiffness in -1.0..600.0, damping in -1.0..6.0, torque in -200.0..200.0,
    ) {
        let model = CAN_MODELS[at];
        let motor = CanMotor { model, id: 3, answer_id: 0x13 };
        let wanted = MitCommand { position, velocity: 0.0, stiffness, damping, torque };
        let frame = motor.ask(Request::Command(wanted)).unwrap();
        let (maker, bits) = if model.maker == Maker::Damiao { ("damiao", 12) } else { ("robstride", 16) };
        let [p, v, kp, kd, t] = numbers(maker, &frame).map(f64::from);
        let most = f64::from((1 << bits) - 1);
        let signed = |number: f64, span: f64, most: f64| (number / most * 2.0 - 1.0) * span;
        prop_assert!((signed(p, model.position, 65535.0) - position.clamp(-model.position, model.position)).abs() <= model.position / 65535.0 + 1e-9);
        prop_assert!(signed(v, model.velocity, most).abs() <= model.velocity / most + 1e-9);
        prop_assert!(kp / most * model.stiffness <= stiffness.max(0.0) + 1e-6);
        prop_assert!(kd / most * model.damping <= damping.max(0.0) + 1e-6);
        let said = signed(t, model.torque, most);
        prop_assert!(said.abs() <= torque.abs().max(model.torque / most) + 1e-6, "{said} of {torque}");
    }

    #[test]
    fn no_frame_makes_a_motor_panic(frame in any_frame(), at in 0..CAN_MODELS.len(), id in any::<u16>(), answer_id in any::<u16>()) {
        let motor = CanMotor { model: CAN_MODELS[at], id, answer_id };
        if let Some(CanAnswer::Feedback(feedback)) = motor.answer(&frame) {
            prop_assert!(feedback.position.is_finite());
        }
    }
}

#[test]
fn what_is_no_number_commands_nothing() {
    for model in CAN_MODELS {
        let motor = CanMotor { model: *model, id: 3, answer_id: 0x13 };
        let none = MitCommand { position: f64::NAN, velocity: f64::NAN, stiffness: f64::NAN, damping: f64::INFINITY, torque: f64::NAN };
        assert_eq!(
            motor.ask(Request::Command(none)).unwrap(),
            motor.ask(Request::Command(MitCommand::default())).unwrap(),
            "{}",
            model.name
        );
    }
}
