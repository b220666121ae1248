//! Cameras for tests: `video.c` plays them to this test program, which starts itself again with it.
//!
//! A test's body runs in a process of its own, which finds the cameras of a new folder and may break them as it goes:
//!
//! ```ignore
//! #[test]
//! fn a_frozen_camera_gives_none() {
//!     stand_in::run("a_frozen_camera_gives_none", |cameras| {
//!         cameras.plug_in(0, &Camera::default());
//!         cameras.set(0, "freeze", 1);
//!     });
//! }
//! ```

#![allow(clippy::unwrap_used, clippy::panic, dead_code, reason = "what fails here fails the test, and no test uses all of it")]
#![allow(unsafe_code, reason = "the standard library hides the epoch of the kernel's clock")]

use std::collections::BTreeMap;
use std::fmt::Display;
use std::fs;
use std::io::Read;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Arc, OnceLock};
use std::thread;
use std::time::{Duration, Instant};

use image::codecs::jpeg::JpegEncoder;
use image::{GrayImage, Luma};
use sinew_core::{Clock, Timestamp};
use tempfile::TempDir;

/// Where the cameras lie; set in the process that finds them.
const FOLDER: &str = "SINEW_STAND_IN";
/// Longer than any test takes, also on a busy machine.
const PATIENCE: Duration = Duration::from_secs(120);
/// A JPEG's number is its picture's modulo this.
pub const JPEGS: u32 = 16;

/// The clock that the kernel stamps pictures with.
pub struct KernelClock;

impl KernelClock {
    pub fn shared() -> Arc<dyn Clock> {
        Arc::new(Self)
    }
}

impl Clock for KernelClock {
    fn now(&self) -> Timestamp {
        let mut now = libc::timespec { tv_sec: 0, tv_nsec: 0 };
        // SAFETY: it is a valid timespec to write to, and the clock exists on Linux.
        unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &raw mut now) };
        Timestamp::from_nanos(now.tv_sec * 1_000_000_000 + now.tv_nsec)
    }

    fn sleep_until(&self, deadline: Timestamp) {
        let left = deadline.nanos_since(self.now());
        thread::sleep(Duration::from_nanos(u64::try_from(left).unwrap_or(0)));
    }

    fn runs_by_itself(&self) -> bool {
        true
    }
}

/// What a camera is.
#[derive(Clone, Debug)]
pub struct Camera {
    pub name: String,
    pub serial: String,
    /// Bus and ports.
    pub port: String,
    /// The number of its USB interface.
    pub interface: u8,
    pub modes: Vec<&'static str>,
    pub controls: Vec<&'static str>,
}

impl Default for Camera {
    fn default() -> Self {
        Self {
            name: "Stand-in Camera".into(),
            serial: "A".into(),
            port: "1-1.1".into(),
            interface: 0,
            modes: vec!["YUYV 640x480 30 15", "MJPG 640x480 60 30", "YUYV 320x240 30", "NV12 320x240 30", "GREY 160x120 30"],
            controls: vec![
                "auto_exposure 0 3 1 3",
                "exposure_time_absolute 3 2047 1 250",
                "exposure_dynamic_framerate 0 1 1 1",
                "white_balance_automatic 0 1 1 1",
                "white_balance_temperature 2000 6500 10 4000",
                "gain 0 255 1 64",
                "power_line_frequency 0 2 1 2",
                "focus_automatic_continuous 0 1 1 1",
                "focus_absolute 0 250 5 0",
            ],
        }
    }
}

impl Camera {
    pub fn at(serial: &str, port: &str) -> Self {
        Self { serial: serial.into(), port: port.into(), ..Self::default() }
    }
}

/// A picture that a camera took: what became of it is `whole`, `lost`, `half`, `error`, `empty` or `corrupt`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shot {
    pub number: u64,
    pub taken_ns: i64,
    pub what: String,
}

/// The cameras of this process.
pub struct Cameras {
    folder: PathBuf,
    lines: BTreeMap<u32, BTreeMap<String, Vec<String>>>,
}

/// Runs `body`, that of the test with this name (with its modules), where there are cameras to be plugged in.
pub fn run(test: &str, body: impl FnOnce(&mut Cameras)) {
    if let Some(folder) = std::env::var_os(FOLDER) {
        body(&mut Cameras { folder: folder.into(), lines: BTreeMap::new() });
        return;
    }
    let folder = TempDir::new().unwrap();
    for part in ["dev", "log", "sys/class/video4linux"] {
        fs::create_dir_all(folder.path().join(part)).unwrap();
    }
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", test, "--nocapture"]).env("LD_PRELOAD", library()).env(FOLDER, folder.path());
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let read = |mut pipe: Box<dyn Read + Send>| {
        thread::spawn(move || {
            let mut text = Vec::new();
            pipe.read_to_end(&mut text).unwrap();
            String::from_utf8_lossy(&text).into_owned()
        })
    };
    let output = [read(Box::new(child.stdout.take().unwrap())), read(Box::new(child.stderr.take().unwrap()))];
    let start = Instant::now();
    let status = loop {
        match child.try_wait().unwrap() {
            Some(status) => break Some(status),
            None if start.elapsed() > PATIENCE => {
                child.kill().unwrap();
                child.wait().unwrap();
                break None;
            }
            None => thread::sleep(Duration::from_millis(5)),
        }
    };
    let [out, err] = output.map(|thread| thread.join().unwrap());
    assert!(out.contains("1 passed") || status.is_none_or(|status| !status.success()), "there is no test {test}: {out}");
    assert!(status.is_some_and(|status| status.success()), "{test}: {status:?} after {:?}\n{out}\n{err}", start.elapsed());
}

/// `video.c`, compiled once for all tests of this process.
fn library() -> &'static Path {
    static LIBRARY: OnceLock<PathBuf> = OnceLock::new();
    LIBRARY.get_or_init(|| {
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR"));
        let (library, new) = (folder.join("video.so"), folder.join(format!("video-{}.so", std::process::id())));
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/stand_in/video.c");
        let mut command = Command::new("cc");
        command.args(["-shared", "-fPIC", "-O2", "-o"]).arg(&new).arg(source).args(["-ldl", "-lpthread"]);
        let compiled = command.output().unwrap_or_else(|error| panic!("a C compiler is needed: cc: {error}"));
        assert!(compiled.status.success(), "cc: {}", String::from_utf8_lossy(&compiled.stderr));
        // Another test program may have loaded the one that is there.
        fs::rename(new, &library).unwrap();
        library
    })
}

impl Cameras {
    fn path(&self, of: impl AsRef<Path>) -> PathBuf {
        self.folder.join(of)
    }

    /// Makes `camera` /dev/video`number`. One that is there already loses the number, as at a new enumeration.
    pub fn plug_in(&mut self, number: u32, camera: &Camera) {
        let port = &camera.port;
        let (bus, ports) = port.split_once('-').unwrap();
        let mut device = self.path(format!("sys/devices/pci0000:00/0000:00:14.0/usb{bus}"));
        let steps: Vec<&str> = ports.split('.').collect();
        let hubs = (1..=steps.len()).map(|count| format!("{bus}-{}", steps[..count].join(".")));
        for name in std::iter::once(String::new()).chain(hubs) {
            device = if name.is_empty() { device } else { device.join(name) };
            fs::create_dir_all(&device).unwrap();
            for (file, text) in [("idVendor", "1d6b\n"), ("idProduct", "0002\n"), ("speed", "480\n")] {
                fs::write(device.join(file), text).unwrap();
            }
        }
        for (file, text) in [("idVendor", "1bcf"), ("idProduct", "2c99"), ("serial", &camera.serial), ("product", &camera.name)] {
            fs::write(device.join(file), format!("{text}\n")).unwrap();
        }
        let interface = format!("{port}:1.{}", camera.interface);
        let node = device.join(&interface).join(format!("video4linux/video{number}"));
        fs::create_dir_all(&node).unwrap();
        fs::write(device.join(&interface).join("bInterfaceNumber"), format!("{:02x}\n", camera.interface)).unwrap();
        fs::write(node.join("name"), format!("{}\n", camera.name)).unwrap();
        fs::write(node.join("index"), "0\n").unwrap();
        let link = self.path(format!("sys/class/video4linux/video{number}"));
        let _ = fs::remove_file(&link);
        let _ = symlink(format!("../../../{interface}"), node.join("device"));
        let target = node.strip_prefix(self.path("sys")).unwrap().to_owned();
        symlink(Path::new("../..").join(target), &link).unwrap();
        let jpegs = self.path("jpegs");
        if !jpegs.exists() && camera.modes.iter().any(|mode| mode.starts_with("MJPG 640x480")) {
            make_jpegs(&jpegs.join("640x480"));
        }
        let one = |text: String| vec![text];
        let all = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect();
        let lines = [
            ("name", one(camera.name.clone())),
            ("id", one(format!("{}@{port}", camera.serial))),
            ("bus", one(format!("usb-0000:00:14.0-{ports}"))),
            ("mode", all(&camera.modes)),
            ("control", all(&camera.controls)),
            ("jpegs", one(jpegs.display().to_string())),
            ("jpeg_count", one(JPEGS.to_string())),
        ];
        self.lines.insert(number, lines.into_iter().map(|(key, values)| (key.to_owned(), values)).collect());
        self.write(number);
    }

    /// Adds a node with data about pictures, as webcams have one beside their pictures.
    pub fn plug_in_metadata(&mut self, number: u32, camera: &Camera) {
        self.plug_in(number, camera);
        let node = self.path(format!("sys/class/video4linux/video{number}"));
        fs::write(node.join("index"), "1\n").unwrap();
        self.set(number, "metadata", 1);
    }

    /// Whoever has it open learns of it.
    pub fn unplug(&mut self, number: u32) {
        let link = self.path(format!("sys/class/video4linux/video{number}"));
        let node = link.canonicalize().unwrap();
        fs::remove_file(link).unwrap();
        // Of the device, as the kernel removes all of it.
        fs::remove_dir_all(node.ancestors().nth(3).unwrap()).unwrap();
        fs::remove_file(self.path(format!("dev/video{number}"))).unwrap();
        self.lines.remove(&number);
    }

    /// Changes a line of a camera's file, which `video.c` explains, while it is in use.
    pub fn set(&mut self, number: u32, key: &str, value: impl Display) {
        self.lines.get_mut(&number).unwrap().insert(key.to_owned(), vec![value.to_string()]);
        self.write(number);
    }

    fn write(&self, number: u32) {
        let lines = self.lines[&number].iter().flat_map(|(key, values)| values.iter().map(move |value| format!("{key} = {value}\n")));
        // Whoever reads it meanwhile reads the one or the other.
        let new = self.path(format!("video{number}.new"));
        fs::write(&new, lines.collect::<String>()).unwrap();
        fs::rename(new, self.path(format!("dev/video{number}"))).unwrap();
    }

    fn log(&self, number: u32) -> String {
        fs::read_to_string(self.path(format!("log/video{number}"))).unwrap_or_default()
    }

    /// The pictures that /dev/video`number` took, of all cameras that were it.
    pub fn shots(&self, number: u32) -> Vec<Shot> {
        let log = self.log(number);
        let shot = |line: &str| {
            let mut words = line.strip_prefix("frame ")?.split(' ');
            let mut next = || words.next().unwrap();
            Some(Shot { number: next().parse().unwrap(), taken_ns: next().parse().unwrap(), what: next().to_owned() })
        };
        log.lines().filter_map(shot).collect()
    }

    /// What it was told to be set to, in this order: names and the values that it has then.
    pub fn controls(&self, number: u32) -> Vec<(String, i32)> {
        let log = self.log(number);
        let control = |line: &str| {
            let (name, value) = line.strip_prefix("control ")?.split_once(' ')?;
            Some((name.to_owned(), value.parse().unwrap()))
        };
        log.lines().filter_map(control).collect()
    }
}

/// A JPEG for each number, grey but for the number's blocks.
fn make_jpegs(folder: &Path) {
    fs::create_dir_all(folder).unwrap();
    for number in 0..JPEGS {
        let picture = GrayImage::from_fn(640, 480, |x, y| match y < 20 {
            true => Luma([if number >> (x / 20) & 1 == 1 { 235 } else { 16 }]),
            false => Luma([(40 + (x + y / 2 + 4 * number) % 160) as u8]),
        });
        let mut bytes = Vec::new();
        JpegEncoder::new_with_quality(&mut bytes, 90).encode_image(&picture).unwrap();
        fs::write(folder.join(format!("{number:06}.jpg")), bytes).unwrap();
    }
}

/// The number in a row of blocks, of the pixels' brightness from 0 to 1.
pub fn burned_in(width: u32, brightness: impl Fn(u32, u32) -> f64, row: u32) -> u32 {
    let block = width / 32;
    let is_white = |bit: u32| brightness(bit * block + block / 2, row * block + block / 2) > 0.5;
    (0..32).map(|bit| u32::from(is_white(bit)) << bit).sum()
}
