//! Depth cameras of Linux, played to this program by `stand_in/video.c`: each distance comes out where it belongs, in millimetres,
//! and no other one.

#![cfg(all(target_os = "linux", target_pointer_width = "64"))]
#![allow(clippy::unwrap_used, clippy::panic, reason = "what fails here fails the test")]

mod stand_in;

use std::time::{Duration, Instant};

use sinew_core::{CameraDescription, Cameras as _, Image, Tick};
use sinew_drivers::camera::v4l2::{V4l2Camera, V4l2Options};
use sinew_drivers::camera::{CameraAddress, CameraSet, CameraSetup, PixelFormat, WhenCameraLost};
use stand_in::{Camera, KernelClock, burned_in};

const SOON: Duration = Duration::from_secs(20);
const SIZE: (usize, usize) = (640, 480);

fn set_of(text: &str) -> (CameraDescription, CameraSet) {
    let given: CameraAddress = text.parse().unwrap();
    let mut described = CameraDescription::new(given.name.clone(), 1, 1);
    given.describe(&mut described);
    let options = V4l2Options {
        size: Some(given.capture_size(&described)),
        fps: described.fps.map(f64::from),
        format: described.format.as_deref().and_then(PixelFormat::named),
        ..V4l2Options::default()
    };
    let source = V4l2Camera::new(given.source.to_string().parse().unwrap(), options, KernelClock::shared());
    let setup = CameraSetup { shape: given.shape(), decode: given.decode(), ..CameraSetup::new(described.clone(), Box::new(source)) };
    (described, start(setup))
}

/// The camera before may still be held for a moment.
fn start(setup: CameraSetup) -> CameraSet {
    let setup = CameraSetup { when_lost: WhenCameraLost::Reopen { within: SOON }, ..setup };
    CameraSet::start(vec![setup], KernelClock::shared()).unwrap()
}

/// The first image.
fn image_of(text: &str) -> Image {
    let (described, mut set) = set_of(text);
    let mut images = [described.blank()];
    let begin = Instant::now();
    let tick = Tick { turn: 0, due: KernelClock::shared().now(), period: Duration::ZERO, wants_images: true };
    while images[0].sequence == 0 {
        set.newest(&tick, &mut images).unwrap();
        assert!(begin.elapsed() < SOON, "{:?}", set.monitor().health());
        std::thread::sleep(Duration::from_millis(2));
    }
    let [image] = images;
    assert_eq!(described.image_fault(&image), None);
    image
}

fn distances(image: &Image) -> Vec<u16> {
    image.depth_mm.chunks(2).map(|mm| u16::from_le_bytes([mm[0], mm[1]])).collect()
}

/// What the stand-in draws, where it draws no number, time or LED.
fn drawn(number: u32, x: usize, y: usize) -> Option<u16> {
    let (width, height) = SIZE;
    let block = width / 32;
    let in_led = y.abs_diff(height / 2) <= width / 16 && x.abs_diff(width / 2) <= width / 16;
    match y {
        _ if y + block >= height => Some(if x < width / 2 { 0 } else { 12_000 }),
        _ if y < 2 * block || in_led => None,
        _ => Some(16 * (40 + ((x + y / 2) as u16 + 4 * number as u16) % 160)),
    }
}

/// Each pixel of `mm`, whose place in the camera's own picture `place` says, against what was drawn there.
fn check(mm: &[u16], number: u32, width: usize, place: impl Fn(usize, usize) -> (usize, usize)) {
    let mut compared = 0;
    for (at, mm) in mm.iter().enumerate() {
        let (x, y) = place(at % width, at / width);
        if let Some(expected) = drawn(number, x, y) {
            assert_eq!(*mm, expected, "at {x}, {y} of picture {number}");
            compared += 1;
        }
    }
    assert!(compared > mm.len() / 2);
}

fn number_of(mm: &[u16]) -> u32 {
    burned_in(640, |x, y| f64::from(mm[(y * 640 + x) as usize]) / 4096.0, 0)
}

#[test]
fn distances_come_as_the_camera_counts_them_however_they_are_shaped() {
    stand_in::run("distances_come_as_the_camera_counts_them_however_they_are_shaped", |cameras| {
        cameras.plug_in(0, &Camera { modes: vec!["Z16  640x480 30"], ..Camera::default() });
        for pad in [0, 32] {
            cameras.set(0, "pad", pad);
            let mm = distances(&image_of("wrist_depth=usb:A,640x480@30,Z16"));
            check(&mm, number_of(&mm), 640, |x, y| (x, y));
            // Clockwise: what was the top row is the right column.
            let turned = distances(&image_of("wrist_depth=usb:A,480x640@30,Z16,rotate=90"));
            let back: Vec<u16> = (0..480).flat_map(|y| (0..640).map(move |x| (x, y))).map(|(x, y)| turned[x * 480 + 479 - y]).collect();
            check(&back, number_of(&back), 640, |x, y| (x, y));
            // A part at half its size: of four distances one, and no mean of them. The number is not in it, so it is told by a pixel.
            let part = distances(&image_of("wrist_depth=usb:A,160x200@30,depth=yes,capture=640x480,crop=0:80:320:400,resize=yes"));
            let place = |x: usize, y: usize| (2 * x + 1, 80 + 2 * y + 1);
            let number = (0..40).find(|number| drawn(*number, 1, 81) == Some(part[0])).unwrap();
            check(&part, number, 160, place);
        }
    });
}

#[test]
fn a_camera_of_greys_or_colours_is_none_of_distances() {
    stand_in::run("a_camera_of_greys_or_colours_is_none_of_distances", |cameras| {
        cameras.plug_in(0, &Camera { modes: vec!["Y16  96x64 30", "Z16  96x64 30", "YUYV 96x64 30"], ..Camera::default() });
        let grey = image_of("a=usb:A,96x64@30,Y16");
        assert_eq!((grey.rgb.len(), grey.depth_mm.len()), (3 * 96 * 64, 0));
        let shown = image_of("a=usb:A,96x64@30,Z16,depth=100:4000");
        assert_eq!((shown.rgb.len(), shown.depth_mm.len()), (3 * 96 * 64, 0));
        let counted = image_of("a=usb:A,96x64@30,Y16,depth=yes");
        assert_eq!((counted.rgb.len(), counted.depth_mm.len()), (0, 2 * 96 * 64));
        // A robot's camera of distances that its user points at one of colours.
        let described = CameraDescription { depth: true, ..CameraDescription::new("a".into(), 96, 64) };
        let options = V4l2Options { size: Some((96, 64)), format: Some(PixelFormat::Yuyv), ..V4l2Options::default() };
        let source = V4l2Camera::new("usb:A".parse().unwrap(), options, KernelClock::shared());
        let set = start(CameraSetup::new(described, Box::new(source)));
        let error = set.wait_until_all_deliver(SOON / 2).unwrap_err().to_string();
        assert!(error.contains("reading distances: expected them in Z16 or Y16, found a picture in YUYV"), "{error}");
    });
}
