//! Cameras of Linux, played to this program by `stand_in/video.c`: what was agreed on is what comes, each picture with its own
//! number and time, and whatever breaks is noticed in time and found again.

#![cfg(all(target_os = "linux", target_pointer_width = "64"))]
#![allow(clippy::unwrap_used, clippy::panic, reason = "what fails here fails the test")]

mod stand_in;

use std::time::Duration;

use sinew_drivers::camera::v4l2::{
    Controls, FoundCamera, NodeState, PowerLine, Roots, Setting, UsbUser, V4l2Camera, V4l2Options, cameras as found_cameras, offers_of,
    usb_load,
};
use sinew_drivers::camera::{OpenSource, Picture, PixelFormat, Source, SourceError};
use stand_in::{Camera, Cameras, JPEGS, KernelClock, Shot, burned_in};

/// Long enough for a picture to come on any machine.
const SOON: Duration = Duration::from_secs(20);

fn camera(address: &str, options: V4l2Options) -> V4l2Camera {
    V4l2Camera::new(address.parse().unwrap(), options, KernelClock::shared())
}

fn vga() -> V4l2Options {
    V4l2Options { size: Some((640, 480)), fps: Some(30.0), ..V4l2Options::default() }
}

fn small(format: PixelFormat) -> V4l2Options {
    V4l2Options { size: Some((320, 240)), fps: Some(30.0), format: Some(format), ..V4l2Options::default() }
}

/// What a test keeps of a picture.
#[derive(Clone, Debug, PartialEq)]
struct Kept {
    sequence: u64,
    captured_ns: i64,
    /// The number in its pixels, and the time below it in units of 100 us.
    burned: u32,
    burned_time: u32,
    bytes: usize,
}

fn keep(picture: &Picture<'_>) -> Kept {
    let Picture { stride, bytes, width, .. } = *picture;
    let read = |row| match picture.format {
        PixelFormat::Mjpeg => {
            let decoded = image::load_from_memory(bytes).map(|decoded| decoded.to_luma8());
            decoded.map_or(u32::MAX, |decoded| burned_in(width, |x, y| f64::from(decoded.get_pixel(x, y).0[0]) / 255.0, row))
        }
        PixelFormat::Yuyv => burned_in(width, |x, y| f64::from(bytes[y as usize * stride + 2 * x as usize]) / 255.0, row),
        PixelFormat::Grey | PixelFormat::Nv12 => burned_in(width, |x, y| f64::from(bytes[y as usize * stride + x as usize]) / 255.0, row),
        PixelFormat::Grey16 | PixelFormat::Depth16 => {
            let full = if picture.format == PixelFormat::Depth16 { 4096.0 } else { 65536.0 };
            let at = |x, y| y as usize * stride + 2 * x as usize;
            burned_in(width, |x, y| f64::from(u16::from_le_bytes([bytes[at(x, y)], bytes[at(x, y) + 1]])) / full, row)
        }
        PixelFormat::Rgb => panic!("the stand-in has none"),
    };
    let (burned, burned_time) = (read(0), read(1));
    Kept { sequence: picture.sequence, captured_ns: picture.captured_at.as_nanos(), burned, burned_time, bytes: bytes.len() }
}

fn next(source: &mut dyn Source, wait: Duration) -> Result<Option<Kept>, SourceError> {
    let mut kept = None;
    let is_taken = source.next(wait, &mut |picture| kept = Some(keep(picture)))?;
    assert_eq!(is_taken, kept.is_some());
    Ok(kept)
}

fn take(source: &mut dyn Source, count: usize) -> Vec<Kept> {
    (0..count).map(|index| next(source, SOON).unwrap().unwrap_or_else(|| panic!("no picture {index}"))).collect()
}

/// Each is the shot of its number: in its pixels, and in its time.
fn check(kept: &[Kept], shots: &[Shot]) {
    for picture in kept {
        let shot = shots.iter().find(|shot| shot.number == picture.sequence).unwrap_or_else(|| panic!("{picture:?} was never taken"));
        let off_ns = picture.captured_ns - shot.taken_ns;
        // The kernel's stamps are in microseconds.
        assert!((-1000..=0).contains(&off_ns), "{picture:?} was taken at {} ns", shot.taken_ns);
    }
    assert!(kept.windows(2).all(|pair| pair[0].sequence < pair[1].sequence && pair[0].captured_ns < pair[1].captured_ns), "{kept:?}");
}

fn is_lost(error: &SourceError, words: &str) -> bool {
    matches!(error, SourceError::Lost { .. }) && error.to_string().contains(words)
}

fn is_unusable(error: &SourceError, words: &[&str]) -> bool {
    matches!(error, SourceError::Unusable { .. }) && words.iter().all(|words| error.to_string().contains(words))
}

fn refused(address: &str, options: V4l2Options) -> SourceError {
    camera(address, options).open().err().unwrap()
}

#[test]
fn what_was_agreed_on_is_what_comes() {
    stand_in::run("what_was_agreed_on_is_what_comes", |cameras| {
        let modes = vec![
            "YUYV 640x480 30 15",
            "MJPG 640x480 30 15",
            "YUYV 320x240 60 7.5",
            "NV12 320x240 30",
            "GREY 160x120 30",
            "Y16  96x64 30",
            "Z16  848x480 30",
        ];
        cameras.plug_in(0, &Camera { modes, ..Camera::default() });
        let cases = [
            (640, 480, 30.0, PixelFormat::Yuyv, 1280, 614_400),
            (640, 480, 15.0, PixelFormat::Yuyv, 1280, 614_400),
            (640, 480, 30.0, PixelFormat::Mjpeg, 0, 0),
            (320, 240, 60.0, PixelFormat::Yuyv, 640, 153_600),
            (320, 240, 7.5, PixelFormat::Yuyv, 640, 153_600),
            (320, 240, 30.0, PixelFormat::Nv12, 320, 115_200),
            (160, 120, 30.0, PixelFormat::Grey, 160, 19_200),
            (96, 64, 30.0, PixelFormat::Grey16, 192, 12_288),
            (848, 480, 30.0, PixelFormat::Depth16, 1696, 814_080),
        ];
        for pad in [0, 32] {
            cameras.set(0, "pad", pad);
            for (width, height, fps, format, row, bytes) in cases {
                let options = V4l2Options { size: Some((width, height)), fps: Some(fps), format: Some(format), ..V4l2Options::default() };
                let mut source = camera("usb:A", options).open().unwrap();
                let stream = source.stream();
                assert_eq!((stream.width, stream.height, stream.format, stream.fps), (width, height, format, Some(fps)));
                let before = cameras.shots(0).len();
                let mut kept = Vec::new();
                while kept.len() < 4 {
                    let is_taken = source.next(SOON, &mut |picture| {
                        assert_eq!((picture.width, picture.height, picture.format), (width, height, format));
                        let pad = if row == 0 { 0 } else { pad as usize };
                        assert_eq!(picture.stride, row + pad);
                        let rows = height as usize * if format == PixelFormat::Nv12 { 3 } else { 2 } / 2;
                        assert!(bytes == 0 || picture.bytes.len() == bytes + pad * rows);
                        kept.push(keep(picture));
                    });
                    assert!(is_taken.unwrap());
                }
                drop(source);
                check(&kept, &cameras.shots(0)[before..]);
                for picture in kept {
                    match format {
                        PixelFormat::Mjpeg => assert_eq!(u64::from(picture.burned), picture.sequence % u64::from(JPEGS)),
                        _ => {
                            assert_eq!(u64::from(picture.burned), picture.sequence, "{format:?}");
                            assert!(picture.burned_time.abs_diff((picture.captured_ns / 100_000) as u32) <= 1, "{picture:?}");
                        }
                    }
                }
            }
        }
    });
}

#[test]
fn without_a_format_the_best_one_is_chosen() {
    stand_in::run("without_a_format_the_best_one_is_chosen", |cameras| {
        let modes =
            vec!["GREY 640x480 30", "YUYV 640x480 30 15", "MJPG 640x480 30 15", "NV12 320x240 30", "YUYV 1280x720 10", "MJPG 1280x720 30"];
        cameras.plug_in(0, &Camera { modes, ..Camera::default() });
        let format = |size, fps| {
            let options = V4l2Options { size, fps, ..V4l2Options::default() };
            let stream = camera("usb:A", options).open().unwrap().stream();
            (stream.width, stream.height, stream.format, stream.fps)
        };
        assert_eq!(format(Some((640, 480)), Some(30.0)), (640, 480, PixelFormat::Mjpeg, Some(30.0)));
        assert_eq!(format(Some((640, 480)), Some(15.0)), (640, 480, PixelFormat::Yuyv, Some(15.0)));
        assert_eq!(format(Some((320, 240)), Some(30.0)), (320, 240, PixelFormat::Nv12, Some(30.0)));
        assert_eq!(format(Some((1280, 720)), Some(10.0)), (1280, 720, PixelFormat::Yuyv, Some(10.0)));
        // The size that it is set to, and the rate that it chooses.
        assert_eq!(format(None, None), (640, 480, PixelFormat::Mjpeg, Some(30.0)));
        // It is not on USB.
        cameras.set(0, "bus", "platform:csi");
        assert_eq!(format(Some((640, 480)), Some(30.0)), (640, 480, PixelFormat::Yuyv, Some(30.0)));
    });
}

#[test]
fn what_a_camera_does_not_do_is_an_error_that_lists_what_it_does() {
    stand_in::run("what_a_camera_does_not_do_is_an_error_that_lists_what_it_does", |cameras| {
        cameras.plug_in(0, &Camera::default());
        let offers = ["YUYV 640x480 at 30, 15; 320x240 at 30", "MJPG 640x480 at 60, 30", "NV12 320x240 at 30"];
        let listed = |error: &SourceError, first: &str| is_unusable(error, &[&[first], &offers[..]].concat());
        let sized = V4l2Options { size: Some((800, 600)), ..vga() };
        let error = refused("usb:A", sized);
        assert!(listed(&error, "choosing a format of usb:A: expected 800x600 at 30 pictures a second in any format"), "{error}");
        let error = refused("usb:A", V4l2Options { fps: Some(25.0), ..vga() });
        assert!(listed(&error, "640x480 at 25 pictures a second"), "{error}");
        let error = refused("usb:A", V4l2Options { format: Some(PixelFormat::Depth16), ..vga() });
        assert!(listed(&error, "640x480 at 30 pictures a second in Z16"), "{error}");
        assert_eq!(offers_of(&"usb:A".parse().unwrap(), &Roots::default()).unwrap().len(), 4);
        cameras.set(0, "ignore_size", 1);
        let error = refused("usb:A", small(PixelFormat::Yuyv));
        assert!(listed(&error, "setting the format of usb:A: expected 320x240 in YUYV, found 640x480 in YUYV"), "{error}");
        cameras.set(0, "ignore_size", 0);
        cameras.set(0, "ignore_fps", 1);
        let error = refused("usb:A", V4l2Options { fps: Some(15.0), ..vga() });
        assert!(listed(&error, "setting the rate of usb:A: expected 15 pictures a second of 640x480 in YUYV, found 30"), "{error}");
    });
}

#[test]
fn stamps_are_of_the_shutter_however_late_pictures_come() {
    stand_in::run("stamps_are_of_the_shutter_however_late_pictures_come", |cameras| {
        cameras.plug_in(0, &Camera::default());
        cameras.set(0, "delay_ms", 80);
        cameras.set(0, "jitter_ms", 20);
        let mut source = camera("usb:A", small(PixelFormat::Yuyv)).open().unwrap();
        let clock = KernelClock::shared();
        let mut kept = Vec::new();
        for _ in 0..20 {
            kept.extend(take(source.as_mut(), 1));
            let age_ns = clock.now().as_nanos() - kept[kept.len() - 1].captured_ns;
            assert!(age_ns >= 79_000_000, "a picture of {age_ns} ns ago was on its way for 80 ms");
        }
        check(&kept, &cameras.shots(0));
        // Of other clocks the time of arrival is what is known.
        for clock_of in ["none", "realtime"] {
            cameras.set(0, "clock", clock_of);
            let mut source = camera("usb:A", small(PixelFormat::Yuyv)).open().unwrap();
            let before = clock.now().as_nanos();
            let kept = take(source.as_mut(), 3);
            assert!(kept.iter().all(|picture| (before..=clock.now().as_nanos()).contains(&picture.captured_ns)), "{clock_of}: {kept:?}");
        }
    });
}

#[test]
fn broken_pictures_are_left_out_and_show_as_gaps() {
    stand_in::run("broken_pictures_are_left_out_and_show_as_gaps", |cameras| {
        cameras.plug_in(0, &Camera { modes: vec!["YUYV 320x240 100", "MJPG 640x480 100"], ..Camera::default() });
        for (key, n) in [("lost_frames", 5), ("half_frames", 6), ("error_frames", 7), ("empty_frames", 8)] {
            cameras.set(0, key, n);
        }
        let options = V4l2Options { fps: Some(100.0), ..small(PixelFormat::Yuyv) };
        let mut source = camera("usb:A", options).open().unwrap();
        let kept = take(source.as_mut(), 40);
        let shots = cameras.shots(0);
        check(&kept, &shots);
        assert!(kept.iter().all(|picture| u64::from(picture.burned) == picture.sequence && picture.bytes == 153_600));
        // Exactly those that came whole: what lies between two of them was lost or broken.
        let last = kept[kept.len() - 1].sequence;
        let whole: Vec<u64> = shots.iter().filter(|shot| shot.what == "whole" && shot.number <= last).map(|shot| shot.number).collect();
        assert_eq!(kept.iter().map(|picture| picture.sequence).collect::<Vec<_>>(), whole);
        let missing = last + 1 - kept.len() as u64;
        let broken = shots.iter().filter(|shot| shot.what != "whole" && shot.number <= last).count() as u64;
        assert!(missing == broken && missing >= 20, "{missing} are missing, {broken} were broken");
        drop(source);
        // Of a JPEG a part may still be read, or not: it is handed on as it came.
        cameras.set(0, "corrupt", 2);
        let options = V4l2Options { format: Some(PixelFormat::Mjpeg), size: Some((640, 480)), fps: Some(100.0), ..V4l2Options::default() };
        let mut source = camera("usb:A", options).open().unwrap();
        let before = shots.len();
        let kept = take(source.as_mut(), 10);
        check(&kept, &cameras.shots(0)[before..]);
    });
}

#[test]
fn a_slow_reader_gets_the_pictures_that_fit_and_gaps_for_the_others() {
    stand_in::run("a_slow_reader_gets_the_pictures_that_fit_and_gaps_for_the_others", |cameras| {
        cameras.plug_in(0, &Camera { modes: vec!["GREY 160x120 100"], ..Camera::default() });
        let mut source = camera("usb:A", V4l2Options::default()).open().unwrap();
        let mut kept = take(source.as_mut(), 2);
        std::thread::sleep(Duration::from_millis(200));
        kept.extend(take(source.as_mut(), 12));
        drop(source);
        let shots = cameras.shots(0);
        check(&kept, &shots);
        let last = kept[kept.len() - 1].sequence;
        let whole: Vec<u64> = shots.iter().filter(|shot| shot.what == "whole" && shot.number <= last).map(|shot| shot.number).collect();
        assert_eq!(kept.iter().map(|picture| picture.sequence).collect::<Vec<_>>(), whole);
        assert!(last + 1 - kept.len() as u64 >= 10, "of 200 ms at 100 pictures a second few fit: {whole:?}");
    });
}

#[test]
fn a_frozen_camera_is_waited_for_as_long_as_was_said() {
    stand_in::run("a_frozen_camera_is_waited_for_as_long_as_was_said", |cameras| {
        cameras.plug_in(0, &Camera::default());
        let mut source = camera("usb:A", small(PixelFormat::Yuyv)).open().unwrap();
        take(source.as_mut(), 3);
        cameras.set(0, "freeze", 1);
        let clock = KernelClock::shared();
        // What was on its way when it froze.
        while next(source.as_mut(), Duration::from_millis(300)).unwrap().is_some() {}
        for wait_ms in [0, 1, 50, 300] {
            let before = clock.now();
            assert_eq!(next(source.as_mut(), Duration::from_millis(wait_ms)), Ok(None));
            let waited_ms = clock.now().nanos_since(before) / 1_000_000;
            assert!(waited_ms >= wait_ms as i64 && waited_ms < wait_ms as i64 + 5000, "{waited_ms} ms instead of {wait_ms}");
        }
        cameras.set(0, "freeze", 0);
        take(source.as_mut(), 3);
        // Broken pictures without end are none, either.
        cameras.set(0, "error_frames", 1);
        while next(source.as_mut(), Duration::from_millis(300)).unwrap().is_some() {}
        let before = clock.now();
        assert_eq!(next(source.as_mut(), Duration::from_millis(300)), Ok(None));
        assert!(clock.now().nanos_since(before) < 5_000_000_000);
    });
}

#[test]
fn a_camera_that_comes_back_as_another_number_is_found_by_its_serial_number() {
    stand_in::run("a_camera_that_comes_back_as_another_number_is_found_by_its_serial_number", |cameras| {
        let (one, two) = (Camera::at("A", "1-1.1"), Camera::at("B", "1-1.2"));
        cameras.plug_in(0, &one);
        cameras.plug_in(2, &two);
        let mut camera = camera("usb:A", small(PixelFormat::Yuyv));
        let mut source = camera.open().unwrap();
        take(source.as_mut(), 2);
        cameras.unplug(0);
        let error = loop {
            if let Err(error) = next(source.as_mut(), SOON) {
                break error;
            }
        };
        assert!(is_lost(&error, "reading a picture of usb:A: No such device"), "{error}");
        drop(source);
        let error = camera.open().err().unwrap();
        assert!(is_lost(&error, "it is not connected; there are video2 (Stand-in Camera, 1bcf:2c99, 1-1.2, serial number B)"), "{error}");
        cameras.plug_in(5, &one);
        let mut source = camera.open().unwrap();
        let kept = take(source.as_mut(), 3);
        check(&kept, &cameras.shots(5));
        drop(source);
        // Where the number of the first is another one's now, it is not taken for it.
        cameras.unplug(2);
        cameras.plug_in(0, &two);
        let mut source = camera.open().unwrap();
        let kept = take(source.as_mut(), 3);
        assert_eq!(cameras.shots(0).iter().filter(|shot| shot.taken_ns >= kept[0].captured_ns).count(), 0);
    });
}

#[test]
fn cameras_that_swap_their_numbers_keep_their_names() {
    stand_in::run("cameras_that_swap_their_numbers_keep_their_names", |cameras| {
        let (one, two) = (Camera::at("A", "1-1.1"), Camera::at("B", "1-1.2"));
        let plug_in = |cameras: &mut Cameras, first: &Camera, second: &Camera| {
            cameras.plug_in(0, first);
            cameras.plug_in(2, second);
        };
        plug_in(cameras, &one, &two);
        let mut by_serial = camera("usb:A", small(PixelFormat::Yuyv));
        let mut by_port = camera("path:1-1.2", small(PixelFormat::Yuyv));
        let mut by_number = camera("/dev/video0", small(PixelFormat::Yuyv));
        let mut source = by_number.open().unwrap();
        take(source.as_mut(), 1);
        drop(source);
        let mut sources = [by_serial.open().unwrap(), by_port.open().unwrap()];
        sources.iter_mut().for_each(|source| drop(take(source.as_mut(), 1)));
        cameras.unplug(0);
        cameras.unplug(2);
        plug_in(cameras, &two, &one);
        for source in &mut sources {
            let error = loop {
                if let Err(error) = next(source.as_mut(), SOON) {
                    break error;
                }
            };
            assert!(matches!(error, SourceError::Lost { .. }), "{error}");
        }
        drop(sources);
        for (opener, number) in [(&mut by_serial, 2), (&mut by_port, 0)] {
            let before = cameras.shots(number).len();
            let mut source = opener.open().unwrap();
            let kept = take(source.as_mut(), 2);
            check(&kept, &cameras.shots(number)[before..]);
        }
        // A number says nothing of the camera behind it, so that who uses one is told.
        let error = by_number.open().err().unwrap();
        assert!(is_lost(&error, "another camera is there now"), "{error}");
    });
}

#[test]
fn two_cameras_with_one_serial_number_are_named_by_their_ports() {
    stand_in::run("two_cameras_with_one_serial_number_are_named_by_their_ports", |cameras| {
        cameras.plug_in(0, &Camera::at("A", "1-1.1"));
        cameras.plug_in(2, &Camera::at("A", "2-3"));
        let error = refused("usb:A", vga());
        let words = ["video0 (Stand-in Camera, 1bcf:2c99, 1-1.1", "video2 (Stand-in Camera, 1bcf:2c99, 2-3", "path:1-1.1 or path:2-3"];
        assert!(is_unusable(&error, &words), "{error}");
        let mut source = camera("path:2-3", small(PixelFormat::Yuyv)).open().unwrap();
        check(&take(source.as_mut(), 2), &cameras.shots(2));
    });
}

#[test]
fn pictures_of_one_device_are_told_apart() {
    stand_in::run("pictures_of_one_device_are_told_apart", |cameras| {
        let depth = Camera { modes: vec!["Z16  640x480 30"], ..Camera::default() };
        let colour = Camera { interface: 3, ..Camera::default() };
        cameras.plug_in(3, &depth);
        cameras.plug_in_metadata(4, &depth);
        cameras.plug_in(1, &colour);
        let error = refused("usb:A", vga());
        assert!(is_unusable(&error, &["it gives 2 pictures", "name one as usb:A@0, usb:A@1"]), "{error}");
        let error = refused("usb:A@2", vga());
        assert!(is_unusable(&error, &["it gives 2 pictures, counted from 0"]), "{error}");
        let found = found_cameras(&Roots::default()).unwrap();
        assert_eq!(found.iter().map(FoundCamera::address).collect::<Vec<_>>(), ["usb:A@1", "usb:A@0"]);
        assert_eq!(camera("usb:A@0", vga()).open().unwrap().stream().format, PixelFormat::Depth16);
        assert_eq!(camera("path:1-1.1@1", vga()).open().unwrap().stream().format, PixelFormat::Mjpeg);
        let error = refused("/dev/video4", vga());
        assert!(is_unusable(&error, &["expected a node that streams pictures"]), "{error}");
    });
}

#[test]
fn a_camera_that_is_busy_or_denied_says_so() {
    stand_in::run("a_camera_that_is_busy_or_denied_says_so", |cameras| {
        cameras.plug_in(0, &Camera::default());
        let _source = camera("usb:A", small(PixelFormat::Yuyv)).open().unwrap();
        // Ours, and then another program's.
        let error = refused("usb:A", small(PixelFormat::Yuyv));
        assert!(is_lost(&error, "another program holds /dev/video0"), "{error}");
        assert!(matches!(found_cameras(&Roots::default()).unwrap()[0].state, NodeState::Busy(_)));
        cameras.plug_in(1, &Camera::at("B", "1-1.2"));
        cameras.set(1, "busy", 1);
        let error = refused("usb:B", small(PixelFormat::Yuyv));
        assert!(is_lost(&error, "another program holds /dev/video1"), "{error}");
        cameras.set(1, "busy", 0);
        cameras.set(1, "denied", 1);
        let error = refused("usb:B", small(PixelFormat::Yuyv));
        assert!(is_unusable(&error, &["opening usb:B: Permission denied", "sudo usermod -aG"]), "{error}");
        cameras.set(1, "denied", 0);
        cameras.set(1, "no_bandwidth", 1);
        let error = refused("usb:B", small(PixelFormat::Yuyv));
        assert!(is_unusable(&error, &["starting to stream from usb:B", "its USB link has no room for it"]), "{error}");
        cameras.set(1, "no_bandwidth", 0);
        // The system gives a node that is new to its group only a moment later.
        let mut camera = camera("usb:B", small(PixelFormat::Yuyv));
        drop(camera.open().unwrap());
        cameras.set(1, "denied", 1);
        assert!(is_lost(&camera.open().err().unwrap(), "Permission denied"));
    });
}

#[test]
fn controls_are_locked_and_read_back() {
    stand_in::run("controls_are_locked_and_read_back", |cameras| {
        cameras.plug_in(0, &Camera::default());
        let with = |controls| V4l2Options { controls, ..small(PixelFormat::Yuyv) };
        let locked = Controls {
            exposure: Some(Setting::Value(100)),
            white_balance: Some(Setting::Value(4500)),
            focus: Some(Setting::Value(50)),
            gain: Some(Setting::Value(10)),
            power_line: Some(PowerLine::Hz50),
        };
        drop(camera("usb:A", with(locked)).open().unwrap());
        let expected = [
            ("auto_exposure", 1),
            ("exposure_time_absolute", 100),
            ("exposure_dynamic_framerate", 0),
            ("white_balance_automatic", 0),
            ("white_balance_temperature", 4500),
            ("focus_automatic_continuous", 0),
            ("focus_absolute", 50),
            ("gain", 10),
            ("power_line_frequency", 1),
        ];
        let set = cameras.controls(0);
        assert_eq!(set.iter().map(|(name, value)| (name.as_str(), *value)).collect::<Vec<_>>(), expected);
        // None is touched that was not asked for, and the camera chooses again.
        drop(camera("usb:A", with(Controls::default())).open().unwrap());
        assert_eq!(cameras.controls(0).len(), set.len());
        let auto = Controls { exposure: Some(Setting::Auto), white_balance: Some(Setting::Auto), ..Controls::default() };
        drop(camera("usb:A", with(auto)).open().unwrap());
        let set = cameras.controls(0).split_off(set.len());
        assert_eq!(set, [("auto_exposure".to_owned(), 3), ("exposure_dynamic_framerate".into(), 0), ("white_balance_automatic".into(), 1)]);

        let refuse = |controls| refused("usb:A", with(controls));
        let error = refuse(Controls { exposure: Some(Setting::Value(5000)), ..Controls::default() });
        assert!(is_unusable(&error, &["exposure: expected Exposure Time, Absolute from 3 to 2047, found 5000"]), "{error}");
        let error = refuse(Controls { focus: Some(Setting::Value(52)), ..Controls::default() });
        assert!(is_unusable(&error, &["it was given Focus, Absolute = 52 and has 50, steps are 5"]), "{error}");
        let error = refuse(Controls { gain: Some(Setting::Auto), ..Controls::default() });
        assert!(is_unusable(&error, &["it has no control for gain; it has ", "Gain (0..255), Power Line Frequency (0..2)"]), "{error}");
        cameras.set(0, "stuck_controls", 1);
        let error = refuse(Controls { white_balance: Some(Setting::Value(3000)), ..Controls::default() });
        assert!(is_unusable(&error, &["setting the controls of usb:A", "White Balance, Automatic = 0 and has 1"]), "{error}");
        cameras.set(0, "stuck_controls", 0);
        cameras.set(0, "forgets_controls", 1);
        let error = refuse(Controls { gain: Some(Setting::Value(11)), ..Controls::default() });
        assert!(is_unusable(&error, &["it was given Gain = 11 and has 64 now that it streams"]), "{error}");
        cameras.plug_in(1, &Camera { controls: vec![], ..Camera::at("B", "1-1.2") });
        let error = refused("usb:B", with(Controls { focus: Some(Setting::Auto), ..Controls::default() }));
        assert!(is_unusable(&error, &["it has no control for focus; it has none"]), "{error}");
    });
}

#[test]
fn cameras_are_listed_with_where_they_hang() {
    stand_in::run("cameras_are_listed_with_where_they_hang", |cameras| {
        assert_eq!(found_cameras(&Roots::default()), Ok(vec![]));
        assert!(is_lost(&refused("usb:A", vga()), "it is not connected; there is no camera"));
        assert!(is_lost(&refused("/dev/video0", vga()), "No such file or directory (os error 2); there is no camera"));
        for (number, port) in [(0, "1-1.1"), (2, "1-1.2"), (4, "1-1.3")] {
            let camera = Camera::at(&format!("S{number}"), port);
            cameras.plug_in(number, &camera);
            cameras.plug_in_metadata(number + 1, &camera);
        }
        cameras.set(2, "denied", 1);
        let found = found_cameras(&Roots::default()).unwrap();
        assert_eq!(found.iter().map(FoundCamera::address).collect::<Vec<_>>(), ["usb:S0", "usb:S2", "usb:S4"]);
        assert_eq!(found[0].state, NodeState::Free);
        assert_eq!(found[1].state, NodeState::Refused("Permission denied (os error 13)".into()));
        assert_eq!((found[2].node.as_str(), found[2].card.as_str()), ("video4", "Stand-in Camera"));
        let raw = |camera| UsbUser { camera, width: 640, height: 480, fps: 30.0, format: PixelFormat::Yuyv };
        let load = usb_load(&found.iter().map(raw).collect::<Vec<_>>());
        assert_eq!(load.too_much().map(|link| link.link.as_str()).collect::<Vec<_>>(), ["1-1", "usb1"]);
    });
}
