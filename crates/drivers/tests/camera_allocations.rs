//! Asking for the newest images allocates nothing, also of cameras that are broken, lost or opened again.

#![allow(clippy::unwrap_used, clippy::panic, reason = "what fails here fails the test")]

mod common;

use std::time::Duration;

use common::RealClock;
use sinew_core::{CameraDescription, Cameras, Clock, Image, Tick};
use sinew_drivers::camera::{
    CameraSet, CameraSetup, OpenSource, Pattern, Picture, PixelFormat, Source, SourceError, Stream, WhenCameraLost,
};
use sinew_testkit::{CountingAllocator, allocator_calls};

#[global_allocator]
static ALLOCATOR: CountingAllocator = CountingAllocator;

/// Gives a few pictures, one of them broken, and is lost then.
struct Short(std::sync::Arc<RealClock>, u64);

impl OpenSource for Short {
    fn name(&self) -> String {
        "short".to_owned()
    }

    fn open(&mut self) -> Result<Box<dyn Source>, SourceError> {
        Ok(Box::new(Self(self.0.clone(), 0)))
    }
}

impl Source for Short {
    fn stream(&self) -> Stream {
        Stream { width: 64, height: 48, format: PixelFormat::Grey, fps: None }
    }

    fn next(&mut self, _: Duration, take: &mut dyn FnMut(&Picture<'_>)) -> Result<bool, SourceError> {
        std::thread::sleep(Duration::from_millis(7));
        self.1 += 1;
        if self.1 > 6 {
            return Err(SourceError::Lost { doing: "reading", source_name: self.name(), what: "it was short".to_owned() });
        }
        let bytes = vec![self.1 as u8; if self.1 == 4 { 10 } else { 64 * 48 }];
        let (format, captured_at) = (PixelFormat::Grey, self.0.now());
        take(&Picture { format, width: 64, height: 48, stride: 64, bytes: &bytes, captured_at, sequence: self.1 });
        Ok(true)
    }
}

#[test]
fn newest_images_are_had_without_allocating() {
    let clock = RealClock::new();
    let described = |name: &str| -> CameraDescription { toml::from_str(&format!("name = {name:?}\nwidth = 64\nheight = 48")).unwrap() };
    let when_lost = WhenCameraLost::Reopen { within: Duration::from_secs(600) };
    let setups = vec![
        CameraSetup::new(described("front"), Box::new(Pattern::new(64, 48, 200.0, clock.clone()))),
        CameraSetup { when_lost, ..CameraSetup::new(described("wrist"), Box::new(Short(clock.clone(), 0))) },
    ];
    let mut set = CameraSet::start(setups, clock.clone()).unwrap();
    let mut images = vec![Image::black(64, 48); 2];
    let tick = |turn| Tick { turn, due: clock.now(), period: Duration::from_millis(5), wants_images: true };
    // The first ones take the place of what the images were made with.
    while images.iter().any(|image| image.sequence == 0) {
        set.newest(&tick(0), &mut images).unwrap();
    }
    let before_all = images.clone();
    let mut calls = 0;
    for turn in 1..400 {
        let tick = tick(turn);
        let before = allocator_calls();
        set.newest(&tick, &mut images).unwrap();
        calls += allocator_calls() - before;
        clock.sleep_until(tick.due + Duration::from_millis(4));
    }
    assert_eq!(calls, 0);
    let health = set.monitor().health();
    assert!(images.iter().zip(&before_all).all(|(image, before)| image.sequence > before.sequence + 5), "{health:?}");
    assert!(health[1].reopened > 0 && health[1].broken > 0, "{health:?}");

    // An error neither.
    let gone = CameraSetup::new(described("gone"), Box::new(Short(clock.clone(), 0)));
    let mut set = CameraSet::start(vec![gone], clock.clone()).unwrap();
    let failed = loop {
        let before = allocator_calls();
        let result = set.newest(&tick(0), &mut images[..1]);
        let calls = allocator_calls() - before;
        match result {
            Ok(()) => clock.sleep_until(clock.now() + Duration::from_millis(2)),
            Err(error) => break (calls, error),
        }
    };
    assert_eq!((failed.0, failed.1.to_string().as_str()), (0, "looking through camera gone: reading short: it was short"));
}
