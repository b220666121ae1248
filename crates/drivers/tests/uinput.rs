//! A gamepad that Linux itself shows, made with `/dev/uinput`, which this needs, and may be read by the group `input` or root.

#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stdout, reason = "what fails here fails the test, and figures are printed")]
#![allow(unsafe_code, reason = "devices are made by ioctl")]

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use rustix::ioctl::{IntegerSetter, NoArg, Opcode, ioctl, opcode};
use sinew_core::{Observation, RobotDescription, Teleoperator, Tick, Timestamp};
use sinew_drivers::teleop::{Gamepad, InputFacts, PadLayout, PadOptions, TeleopEvent, input_devices};

/// `linux/uinput.h`.
const SET_TYPE: Opcode = opcode::write::<i32>(b'U', 100);
const SET_KEY: Opcode = opcode::write::<i32>(b'U', 101);
const SET_AXIS: Opcode = opcode::write::<i32>(b'U', 103);
const CREATE: Opcode = opcode::none(b'U', 1);
const NAME: &str = "Sinew's pad for tests";
const PATIENCE: Duration = Duration::from_secs(10);
const KEYS: [u16; 10] = [0x130, 0x131, 0x133, 0x134, 0x136, 0x137, 0x138, 0x139, 0x13a, 0x13b];
const AXES: [u16; 6] = [0, 1, 2, 3, 4, 5];

/// Dropped, it is unplugged.
struct Pad(File);

impl Pad {
    fn plug_in() -> Self {
        let file = OpenOptions::new().write(true).open("/dev/uinput").expect("this test needs /dev/uinput");
        // SAFETY: these operations take a number.
        unsafe {
            ioctl(&file, IntegerSetter::<SET_TYPE>::new_usize(1)).unwrap();
            ioctl(&file, IntegerSetter::<SET_TYPE>::new_usize(3)).unwrap();
            for key in KEYS {
                ioctl(&file, IntegerSetter::<SET_KEY>::new_usize(key.into())).unwrap();
            }
            for axis in AXES {
                ioctl(&file, IntegerSetter::<SET_AXIS>::new_usize(axis.into())).unwrap();
            }
        }
        // `struct uinput_user_dev`: a name, four numbers of what it is, effects, then ends of axes.
        let mut device = vec![0; 80 + 8 + 4 + 4 * 64 * 4];
        device[..NAME.len()].copy_from_slice(NAME.as_bytes());
        for (at, number) in [3u16, 0x045e, 0x028e, 1].into_iter().enumerate() {
            device[80 + 2 * at..][..2].copy_from_slice(&number.to_ne_bytes());
        }
        for axis in AXES.map(usize::from) {
            let ends: [i32; 2] = if axis == 2 || axis == 5 { [255, 0] } else { [32767, -32768] };
            for (at, end) in ends.into_iter().enumerate() {
                device[92 + at * 256 + 4 * axis..][..4].copy_from_slice(&end.to_ne_bytes());
            }
        }
        let mut file = file;
        file.write_all(&device).unwrap();
        // SAFETY: this operation takes nothing.
        unsafe { ioctl(&file, NoArg::<CREATE>::new()) }.unwrap();
        Self(file)
    }

    fn does(&mut self, events: &[(u16, u16, i32)]) {
        for (kind, code, value) in events.iter().chain(&[(0, 0, 0)]) {
            let mut bytes = vec![0; 16];
            bytes.extend([kind.to_ne_bytes(), code.to_ne_bytes()].concat());
            bytes.extend(value.to_ne_bytes());
            self.0.write_all(&bytes).unwrap();
        }
    }
}

fn find() -> InputFacts {
    let begin = Instant::now();
    loop {
        if let Some(facts) = input_devices().unwrap().into_iter().find(|facts| facts.name == NAME && File::open(&facts.path).is_ok()) {
            return facts;
        }
        assert!(begin.elapsed() < PATIENCE, "{:?}", input_devices());
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn a_pad_of_linux_moves_a_tool_is_lost_and_comes_back() {
    let mut plugged = Pad::plug_in();
    let facts = find();
    let layout = PadLayout::of(facts.vendor, |code| facts.has_key(code), |code| facts.has_axis(code)).unwrap();
    assert_eq!(layout, PadLayout::XBOX);
    let heard: Arc<Mutex<Vec<TeleopEvent>>> = Arc::default();
    let hearing = heard.clone();
    let tell = Arc::new(move |event| hearing.lock().unwrap().push(event));
    let options = PadOptions { speed_m_per_s: 1.0, dead_man: false };
    let mut pad = Gamepad::new(facts.open(true).unwrap(), layout, options, tell);
    let seen = Observation::for_robot(&RobotDescription::from_toml("so101", include_str!("../../../robots/so101/robot.toml")).unwrap());
    let begin = Instant::now();
    let mut action = [f64::NAN; 7];
    let mut ask = |pad: &mut Gamepad| {
        let due = Timestamp::from_nanos(i64::try_from(begin.elapsed().as_nanos()).unwrap());
        let tick = Tick { turn: 0, due, period: Duration::from_millis(33), wants_images: false };
        pad.action(&tick, &seen, &mut action).map(|_| action)
    };
    assert_eq!(ask(&mut pad).unwrap(), [0.0; 7]);
    plugged.does(&[(3, 1, -32768), (3, 4, 16384), (1, 0x134, 1), (3, 5, 255)]);
    let found = ask(&mut pad).unwrap();
    assert!((found[0] - 1.0).abs() < 1e-3 && (found[2] + 0.5).abs() < 1e-3 && found[6] == 1.0, "{found:?}");
    // More than the kernel keeps: what is lost is made good.
    for i in 0..5000 {
        plugged.does(&[(3, 0, i % 2 * 1000), (1, 0x136, i % 2)]);
    }
    plugged.does(&[(3, 1, 0), (3, 0, 32767), (3, 4, 0), (3, 5, 0)]);
    let found = ask(&mut pad).unwrap();
    assert!(found[0] == 0.0 && (found[1] + 1.0).abs() < 1e-3 && found[2] == 0.0 && found[6] == 0.0, "{found:?}");
    assert_eq!(*heard.lock().unwrap(), [TeleopEvent::Success]);
    drop(plugged);
    let begin_loss = Instant::now();
    let error = loop {
        match ask(&mut pad) {
            Err(error) => break error,
            Ok(_) => assert!(begin_loss.elapsed() < PATIENCE),
        }
        std::thread::sleep(Duration::from_millis(20));
    };
    println!("lost after {} ms: {error}", begin_loss.elapsed().as_millis());
    let mut plugged = Pad::plug_in();
    plugged.does(&[(3, 1, -32768)]);
    let begin_back = Instant::now();
    while ask(&mut pad).is_err() {
        assert!(begin_back.elapsed() < PATIENCE);
        std::thread::sleep(Duration::from_millis(20));
    }
    println!("back after {} ms", begin_back.elapsed().as_millis());
    // Its stick is out: it counts once it was let go of.
    assert_eq!(ask(&mut pad).unwrap(), [0.0; 7]);
    plugged.does(&[(3, 1, 0)]);
    assert_eq!(ask(&mut pad).unwrap(), [0.0; 7]);
    plugged.does(&[(3, 1, -32768)]);
    assert!((ask(&mut pad).unwrap()[0] - 1.0).abs() < 1e-3);
}
