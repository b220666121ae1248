//! Cameras whose sources slow down, freeze, vanish, come back, hang, and send what is no picture.

#![allow(clippy::unwrap_used, clippy::panic, reason = "what fails here fails the test")]

mod common;

use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use common::RealClock;
use sinew_core::{CameraDescription, CameraError, Cameras, Clock, Image, MockClock, Tick, Timestamp};
use sinew_drivers::camera::{
    CameraHealth, CameraSet, CameraSetError, CameraSetup, CameraState, OpenSource, Pattern, Picture, PixelFormat, ShapeOptions, Source,
    SourceError, Stream, WhenCameraLost, draw_counter, read_counter,
};

/// A busy machine may be late, but not by so much.
const PATIENCE: Duration = Duration::from_secs(30);

fn camera(name: &str, width: u32, height: u32, fps: u32) -> CameraDescription {
    toml::from_str(&format!("name = {name:?}\nwidth = {width}\nheight = {height}\nfps = {fps}")).unwrap()
}

/// What a played source does at the moment.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Play {
    Deliver,
    Freeze,
    /// Neither opening nor reading comes back.
    Hang,
    Gone,
    Denied,
    Broken,
    Size(u32, u32),
    /// The picture of before, again and again.
    Repeat,
    /// Taken an hour from now.
    Future,
}

#[derive(Debug)]
struct Script {
    play: Play,
    period: Duration,
    opened: u64,
    /// Counts what was delivered, and is drawn into it.
    number: u32,
}

#[derive(Clone)]
struct Played {
    script: Arc<Mutex<Script>>,
    clock: Arc<RealClock>,
}

impl Played {
    fn new(clock: &Arc<RealClock>, hz: f64) -> Self {
        let script = Script { play: Play::Deliver, period: Duration::from_secs_f64(1.0 / hz), opened: 0, number: 0 };
        Self { script: Arc::new(Mutex::new(script)), clock: clock.clone() }
    }

    fn play(&self, play: Play) {
        self.script.lock().unwrap().play = play;
    }

    fn now_playing(&self) -> Play {
        let play = self.script.lock().unwrap().play;
        if play == Play::Hang {
            thread::sleep(Duration::from_secs(3600));
        }
        play
    }
}

fn lost(what: &str) -> SourceError {
    SourceError::Lost { doing: "reading", source_name: "played".to_owned(), what: what.to_owned() }
}

impl OpenSource for Played {
    fn name(&self) -> String {
        "played".to_owned()
    }

    fn open(&mut self) -> Result<Box<dyn Source>, SourceError> {
        self.script.lock().unwrap().opened += 1;
        match self.now_playing() {
            Play::Gone => Err(lost("it was unplugged")),
            Play::Denied => {
                let (doing, source_name) = ("opening", "played".to_owned());
                Err(SourceError::Unusable { doing, source_name, what: "permission denied".to_owned() })
            }
            _ => Ok(Box::new(Reading { played: self.clone(), sequence: 100, last: Timestamp::ZERO })),
        }
    }
}

struct Reading {
    played: Played,
    sequence: u64,
    last: Timestamp,
}

impl Source for Reading {
    fn stream(&self) -> Stream {
        Stream { width: 0, height: 0, format: PixelFormat::Rgb, fps: None }
    }

    fn next(&mut self, wait: Duration, take: &mut dyn FnMut(&Picture<'_>)) -> Result<bool, SourceError> {
        let clock = &self.played.clock;
        let (mut width, mut height, mut captured_at) = (64, 48, clock.now());
        let mut cut = 0;
        match self.played.now_playing() {
            Play::Gone | Play::Denied => return Err(lost("it was unplugged")),
            Play::Freeze => {
                thread::sleep(wait);
                return Ok(false);
            }
            Play::Broken => cut = 1,
            Play::Size(other_width, other_height) => (width, height) = (other_width, other_height),
            Play::Repeat => captured_at = self.last,
            Play::Future => captured_at = captured_at + Duration::from_secs(3600),
            Play::Deliver | Play::Hang => {}
        }
        let (period, number) = {
            let mut script = self.played.script.lock().unwrap();
            script.number += 1;
            (script.period, script.number)
        };
        let mut rgb = vec![90; (width * height * 3) as usize];
        draw_counter(&mut rgb, width, height, number);
        let bytes = &rgb[..rgb.len() - cut];
        self.sequence += 1;
        let stride = width as usize * 3;
        take(&Picture { format: PixelFormat::Rgb, width, height, stride, bytes, captured_at, sequence: self.sequence });
        self.last = captured_at;
        thread::sleep(period);
        Ok(true)
    }
}

/// A set with one camera, and what a control thread has of it.
struct Looking {
    clock: Arc<RealClock>,
    played: Played,
    set: CameraSet,
    images: Vec<Image>,
}

impl Looking {
    fn at(hz: f64, when_lost: WhenCameraLost) -> Self {
        Self::playing(hz, when_lost, Play::Deliver)
    }

    fn playing(hz: f64, when_lost: WhenCameraLost, play: Play) -> Self {
        let clock = RealClock::new();
        let played = Played::new(&clock, hz);
        played.play(play);
        let setup = CameraSetup { when_lost, ..CameraSetup::new(camera("wrist", 64, 48, 30), Box::new(played.clone())) };
        let set = CameraSet::start(vec![setup], clock.clone()).unwrap();
        Self { clock, played, set, images: vec![Image::black(64, 48)] }
    }

    fn newest(&mut self) -> Result<&Image, CameraError> {
        let tick = Tick { turn: 0, due: self.clock.now(), period: Duration::from_millis(20), wants_images: true };
        self.set.newest(&tick, &mut self.images)?;
        Ok(&self.images[0])
    }

    fn health(&self) -> CameraHealth {
        self.set.monitor().health().remove(0)
    }

    /// Looks on until `is_there`; the image then.
    fn until(&mut self, what: &str, is_there: impl Fn(&Image, &CameraHealth) -> bool) -> Image {
        let start = Instant::now();
        loop {
            let image = self.newest().unwrap().clone();
            let health = self.health();
            if is_there(&image, &health) {
                return image;
            }
            assert!(start.elapsed() < PATIENCE, "{what}: image {} of {:?}, {health:?}", image.sequence, image.captured_at);
            thread::sleep(Duration::from_millis(3));
        }
    }

    fn until_error(&mut self) -> CameraError {
        let start = Instant::now();
        loop {
            if let Err(error) = self.newest() {
                return error;
            }
            assert!(start.elapsed() < PATIENCE, "{:?}", self.health());
            thread::sleep(Duration::from_millis(3));
        }
    }
}

const REOPEN: WhenCameraLost = WhenCameraLost::Reopen { within: Duration::from_secs(60) };

#[test]
fn newest_images_come_at_any_rate_and_size() {
    let clock = RealClock::new();
    let cameras = [camera("front", 64, 48, 50), camera("wrist", 97, 33, 100), camera("top", 320, 240, 20)];
    let pattern = |camera: &CameraDescription| Pattern::new(camera.width, camera.height, f64::from(camera.fps.unwrap()), clock.clone());
    let setups = cameras.iter().map(|camera| CameraSetup::new(camera.clone(), Box::new(pattern(camera)))).collect();
    let mut set = CameraSet::start(setups, clock.clone()).unwrap();
    let deliveries = set.wait_until_all_deliver(PATIENCE).unwrap();
    for (delivery, camera) in deliveries.iter().zip(&cameras) {
        assert_eq!((&delivery.name, delivery.asked_hz), (&camera.name, camera.fps.map(f64::from)));
        assert!(delivery.rate_hz <= delivery.asked_hz.unwrap() * 1.05, "{delivery:?}");
    }
    let mut images: Vec<Image> = cameras.iter().map(|camera| Image::black(camera.width, camera.height)).collect();
    let mut last = vec![(0, Timestamp::ZERO); cameras.len()];
    let mut firsts = vec![None; cameras.len()];
    for turn in 0..100 {
        let tick = Tick { turn, due: clock.now(), period: Duration::from_millis(10), wants_images: true };
        set.newest(&tick, &mut images).unwrap();
        for (((image, camera), last), first) in images.iter().zip(&cameras).zip(&mut last).zip(&mut firsts) {
            assert_eq!((image.width, image.height), (camera.width, camera.height));
            // What is drawn into it says when it was due: the first at the beginning.
            let number = read_counter(&image.rgb, image.width, image.height).unwrap();
            if image.sequence != last.0 {
                assert!(image.captured_at > last.1 && image.captured_at <= clock.now());
                let period_ns = 1e9 / f64::from(camera.fps.unwrap());
                let (passed, numbers) = (image.captured_at.nanos_since(last.1) as f64 / period_ns, image.sequence - last.0);
                assert!(last.0 == 0 || (passed - numbers as f64).abs() < 0.01, "numbers count what was left out");
            }
            // Numbers count from 1, from the first that there was time for.
            assert_eq!(*first.get_or_insert(u64::from(number) + 1 - image.sequence), u64::from(number) + 1 - image.sequence);
            *last = (image.sequence, image.captured_at);
        }
        clock.sleep_until(tick.due + tick.period);
    }
    assert!(last.iter().all(|(sequence, _)| *sequence > 5), "{last:?}");
    let health = set.monitor().health();
    assert!(health.iter().all(|camera| camera.state == CameraState::Running && camera.broken == 0 && camera.reopened == 0), "{health:?}");
}

#[test]
fn a_slow_camera_is_told_with_its_rate() {
    let looking = Looking::at(12.0, REOPEN);
    let deliveries = looking.set.wait_until_all_deliver(PATIENCE).unwrap();
    assert!(deliveries[0].is_slow && deliveries[0].rate_hz < 12.5 && deliveries[0].asked_hz == Some(30.0), "{deliveries:?}");
}

#[test]
fn who_does_not_deliver_is_named_with_the_reason() {
    let clock = RealClock::new();
    let with = |name: &str, play: Play, when_lost| {
        let played = Played::new(&clock, 30.0);
        played.play(play);
        CameraSetup { when_lost, ..CameraSetup::new(camera(name, 64, 48, 30), Box::new(played)) }
    };
    let error = |setups, within| CameraSet::start(setups, clock.clone()).unwrap().wait_until_all_deliver(within).unwrap_err().to_string();
    let all = vec![
        with("good", Play::Deliver, REOPEN),
        with("frozen", Play::Freeze, REOPEN),
        with("gone", Play::Gone, REOPEN),
        with("hung", Play::Hang, REOPEN),
        with("broken", Play::Broken, REOPEN),
        with("large", Play::Size(128, 96), REOPEN),
    ];
    let said = error(all, Duration::from_millis(1500));
    for part in [
        "camera frozen: looking through played: it is open and gives no picture",
        "camera gone: reading played: it was unplugged",
        "camera hung: played is still being opened",
        "camera broken: looking through played: none of",
        "expected 9216 bytes for 64 by 48, found 9215",
        "camera large: looking through played: none of",
        "expected pictures of 64 by 48 pixels, found 128 by 96",
    ] {
        assert!(said.contains(part), "{part}: {said}");
    }
    assert!(!said.contains("good"), "{said}");
    // What never will come is told at once, and alone.
    let start = Instant::now();
    let said = error(vec![with("slow", Play::Freeze, REOPEN), with("mine", Play::Denied, REOPEN)], PATIENCE);
    assert!(start.elapsed() < PATIENCE / 2 && said.ends_with("camera mine: opening played: permission denied"), "{said}");
    let said = error(vec![with("gone", Play::Gone, WhenCameraLost::End)], PATIENCE);
    assert!(said.ends_with("camera gone: reading played: it was unplugged"), "{said}");
    assert!(matches!(CameraSet::start(Vec::new(), Arc::new(MockClock::new())), Err(CameraSetError::Clock)));
}

#[test]
fn a_frozen_source_is_opened_again_and_its_image_grows_old_meanwhile() {
    let mut looking = Looking::at(50.0, REOPEN);
    looking.until("it runs", |image, _| image.sequence > 3);
    looking.played.play(Play::Freeze);
    thread::sleep(Duration::from_millis(300));
    let stale = looking.newest().unwrap().clone();
    let health = looking.health();
    looking.until("it is opened again", |image, health| {
        assert_eq!((image.sequence, image.captured_at), (stale.sequence, stale.captured_at), "no new image is made up");
        health.reopened > 0
    });
    let frozen_s = looking.clock.now().nanos_since(stale.captured_at) as f64 * 1e-9;
    assert!(frozen_s > 1.9, "after {frozen_s} s");
    assert!(health.age.unwrap() > Duration::from_millis(100), "{health:?}");
    looking.played.play(Play::Deliver);
    let fresh = looking.until("it runs again", |image, _| image.sequence > stale.sequence + 2);
    assert!(fresh.captured_at > stale.captured_at);
    assert_eq!(looking.health().state, CameraState::Running);
    assert!(looking.health().longest_gap > Duration::from_secs(2), "{:?}", looking.health());
}

#[test]
fn a_source_that_vanishes_is_waited_for_as_long_as_was_said() {
    let mut looking = Looking::at(50.0, REOPEN);
    let before = looking.until("it runs", |image, _| image.sequence > 3);
    looking.played.play(Play::Gone);
    looking.until("it is lost", |_, health| matches!(&health.state, CameraState::Lost { why } if why.contains("unplugged")));
    thread::sleep(Duration::from_millis(700));
    looking.played.play(Play::Deliver);
    let after =
        looking.until("it runs again", |image, health| image.sequence > before.sequence + 5 && health.state == CameraState::Running);
    assert!(after.captured_at > before.captured_at && looking.health().reopened == 1, "{:?}", looking.health());

    let mut looking = Looking::at(50.0, WhenCameraLost::Reopen { within: Duration::from_millis(500) });
    looking.until("it runs", |image, _| image.sequence > 3);
    looking.played.play(Play::Gone);
    let gone = Instant::now();
    let error = looking.until_error().to_string();
    assert_eq!(error, "looking through camera wrist: reading played: it was unplugged");
    assert!(gone.elapsed() > Duration::from_millis(400), "{:?}", gone.elapsed());
    assert!(looking.played.script.lock().unwrap().opened >= 3, "it was tried again");
    assert!(matches!(looking.health().state, CameraState::Over { .. }));

    let mut looking = Looking::at(50.0, WhenCameraLost::End);
    looking.until("it runs", |image, _| image.sequence > 3);
    looking.played.play(Play::Gone);
    assert_eq!(looking.until_error().to_string(), "looking through camera wrist: reading played: it was unplugged");
    assert_eq!(looking.played.script.lock().unwrap().opened, 1);
}

#[test]
fn a_broken_picture_is_no_picture() {
    for play in [Play::Broken, Play::Size(32, 24)] {
        let mut looking = Looking::at(100.0, WhenCameraLost::Reopen { within: Duration::from_millis(100) });
        looking.until("it runs", |image, _| image.sequence > 3);
        looking.played.play(play);
        let broken = looking.until("some are broken", |_, health| health.broken >= 5);
        let shown = read_counter(&broken.rgb, 64, 48).unwrap();
        looking.played.play(Play::Deliver);
        let next = looking.until("it goes on", |image, _| image.sequence > broken.sequence);
        // The numbers of those that were broken are left out.
        let drawn = read_counter(&next.rgb, 64, 48).unwrap();
        assert_eq!(u64::from(drawn - shown), next.sequence - broken.sequence);
        assert!(drawn - shown > 5 && looking.health().reopened == 0 && looking.health().lost == 0, "{:?}", looking.health());
        looking.played.play(play);
        let error = looking.until_error().to_string();
        assert!(error.starts_with("looking through camera wrist: looking through played: none of the last "), "{error}");
        assert!(error.contains("expected"), "{error}");
    }
}

#[test]
fn an_old_picture_is_never_taken_for_a_new_one() {
    let mut looking = Looking::at(100.0, REOPEN);
    looking.until("it runs", |image, _| image.sequence > 3);
    looking.played.play(Play::Repeat);
    looking.until("they repeat", |_, health| health.repeated > 3);
    let stale = looking.newest().unwrap().clone();
    looking.until("it is taken for frozen", |image, health| {
        assert_eq!((image.sequence, image.captured_at, &image.rgb), (stale.sequence, stale.captured_at, &stale.rgb));
        health.reopened > 0
    });
    looking.played.play(Play::Future);
    let number = looking.newest().unwrap().sequence;
    looking.until("it goes on", |image, _| image.sequence > number + 3);
    let now = looking.clock.now();
    assert!(looking.newest().unwrap().captured_at <= now + Duration::from_secs(60), "nothing was taken in the future");
}

#[test]
fn a_source_that_hangs_holds_nobody_up() {
    for within in [None, Some(Duration::from_millis(500))] {
        let when_lost = within.map_or(WhenCameraLost::End, |within| WhenCameraLost::Reopen { within });
        let mut looking = Looking::at(100.0, when_lost);
        looking.until("it runs", |image, _| image.sequence > 3);
        looking.played.play(Play::Hang);
        let mut slowest = Duration::ZERO;
        let error = loop {
            let start = Instant::now();
            let result = looking.newest().cloned();
            slowest = slowest.max(start.elapsed());
            match result {
                Ok(_) => thread::sleep(Duration::from_millis(2)),
                Err(error) => break error.to_string(),
            }
        };
        assert!(error.starts_with("looking through camera wrist: played hangs, and should have answered"), "{error}");
        assert!(matches!(looking.health().state, CameraState::Lost { why } if why.contains("it hangs")));
        let start = Instant::now();
        drop(looking);
        assert!(slowest < Duration::from_secs(1) && start.elapsed() < Duration::from_secs(1), "{slowest:?} {:?}", start.elapsed());
    }
}

#[test]
fn threads_end_with_their_set() {
    for play in [Play::Deliver, Play::Freeze, Play::Gone] {
        let looking = Looking::playing(50.0, REOPEN, play);
        thread::sleep(Duration::from_millis(100));
        let script = Arc::downgrade(&looking.played.script);
        drop(looking);
        let start = Instant::now();
        while script.strong_count() > 0 {
            assert!(start.elapsed() < PATIENCE, "{play:?}: its thread has its source still");
            thread::sleep(Duration::from_millis(5));
        }
    }
}

#[test]
fn pictures_are_turned_cut_and_resized_as_described() {
    let clock = RealClock::new();
    let pattern = |width, height| Box::new(Pattern::new(width, height, 25.0, clock.clone()));
    let mut turned = camera("turned", 96, 128, 25);
    turned.rotation_deg = 90;
    let small = camera("small", 256, 192, 25);
    let resize = ShapeOptions { crop: None, resize: true };
    let setups =
        vec![CameraSetup::new(turned, pattern(128, 96)), CameraSetup { shape: resize, ..CameraSetup::new(small, pattern(512, 384)) }];
    let mut set = CameraSet::start(setups, clock.clone()).unwrap();
    set.wait_until_all_deliver(PATIENCE).unwrap();
    let mut images = vec![Image::black(96, 128), Image::black(256, 192)];
    let tick = Tick { turn: 0, due: clock.now(), period: Duration::from_millis(10), wants_images: true };
    set.newest(&tick, &mut images).unwrap();
    let small = read_counter(&images[1].rgb, 256, 192);
    assert!(small.is_some_and(|number| u64::from(number) + 1 >= images[1].sequence));
    // What was the top row is the right column, from top to bottom.
    let back: Vec<u8> = (0..96_usize)
        .flat_map(|y| (0..128_usize).map(move |x| (x * 96 + 95 - y) * 3))
        .flat_map(|at| images[0].rgb[at..at + 3].to_vec())
        .collect();
    assert!(read_counter(&back, 128, 96).is_some_and(|number| u64::from(number) + 1 >= images[0].sequence));
}
