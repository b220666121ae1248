//! What the daemon's viewers see: the newest state and the newest images, each compressed once for all of them.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use image::ExtendedColorType;
use image::codecs::jpeg::JpegEncoder;
use sinew_core::service::{Quality, Shot, State};
use sinew_core::{Clock, Image, Observation, RobotDescription, Samples, Timestamp};

/// Whoever has asked for an image within this looks at them.
const LOOKED_AT_NS: i64 = 2_000_000_000;

/// The newest of all.
pub struct Board {
    clock: Arc<dyn Clock>,
    begun: Timestamp,
    shown: Mutex<Shown>,
    news: Condvar,
}

struct Shown {
    state: Arc<State>,
    cameras: Vec<Camera>,
    changed: Timestamp,
    /// When somebody asked for an image.
    asked: Option<Timestamp>,
}

#[derive(Default)]
struct Camera {
    /// Counts the images that were seen here: a session may begin to count anew.
    number: u64,
    newest: Option<Arc<Seen>>,
}

struct Seen {
    number: u64,
    image: Image,
    /// By quality; `None` where it can't be compressed.
    jpegs: [OnceLock<Option<Arc<[u8]>>>; 3],
}

impl Board {
    pub fn new(robot: &RobotDescription, clock: Arc<dyn Clock>) -> Self {
        let cameras = robot.cameras.iter().map(|_| Camera::default()).collect();
        let begun = clock.now();
        let shown = Shown { state: Arc::default(), cameras, changed: begun, asked: None };
        Self { begun, clock, shown: Mutex::new(shown), news: Condvar::new() }
    }

    pub fn state(&self) -> Arc<State> {
        self.lock().state.clone()
    }

    /// Waits for a state after `seen`; says the number of the newest.
    pub fn wait(&self, seen: u64, within: Duration) -> u64 {
        let shown = self.lock();
        let waited = self.news.wait_timeout_while(shown, within, |shown| shown.state.sequence <= seen);
        waited.unwrap_or_else(PoisonError::into_inner).0.state.sequence
    }

    /// When the state changed last.
    pub fn changed_at(&self) -> Timestamp {
        self.lock().changed
    }

    /// Shows another state.
    pub fn change(&self, change: impl FnOnce(&mut State)) {
        let mut shown = self.lock();
        let mut state = (*shown.state).clone();
        change(&mut state);
        state.sequence += 1;
        let now = self.clock.now();
        shown.changed = now;
        state.time_s = now.nanos_since(self.begun) as f64 * 1e-9;
        state.image_age_s = shown.cameras.iter().map(|camera| Some(age_s(&camera.newest.as_ref()?.image, now))).collect();
        shown.state = Arc::new(state);
        self.news.notify_all();
    }

    /// Shows what a robot sees and feels, and what it was `sent`, where it was.
    pub fn see(&self, observation: &Observation, sent: Option<&[f64]>, change: impl FnOnce(&mut State)) {
        let mut shown = self.lock();
        for (camera, image) in shown.cameras.iter_mut().zip(&observation.images) {
            let is_new = |seen: &Arc<Seen>| (seen.image.sequence, seen.image.captured_at) != (image.sequence, image.captured_at);
            if image.sequence > 0 && camera.newest.as_ref().is_none_or(is_new) {
                camera.number += 1;
                let seen = Seen { number: camera.number, image: image.clone(), jpegs: Default::default() };
                camera.newest = Some(Arc::new(seen));
            }
        }
        drop(shown);
        let values = |samples: &Samples| (0..samples.width()).map(|i| samples.get(i)).collect();
        self.change(|state| {
            state.position = values(&observation.state);
            state.velocity = values(&observation.velocity);
            state.effort = values(&observation.effort);
            state.temperature_c = values(&observation.temperature_c);
            if let Some(sent) = sent {
                state.goal = sent.to_vec();
            }
            change(state);
        });
    }

    /// Whether somebody looks at images.
    pub fn is_watched(&self) -> bool {
        let now = self.clock.now();
        self.lock().asked.is_some_and(|asked| now.nanos_since(asked) < LOOKED_AT_NS)
    }

    /// The newest image of a camera after the one of number `seen`.
    pub fn shot(&self, camera: usize, seen: u64, quality: Quality) -> Option<Shot> {
        let newest = {
            let mut shown = self.lock();
            shown.asked = Some(self.clock.now());
            shown.cameras.get(camera)?.newest.clone().filter(|newest| newest.number > seen)?
        };
        let (slot, percent) = match quality {
            Quality::Low => (0, 35),
            Quality::Medium => (1, 60),
            Quality::High => (2, 85),
        };
        // Nobody else is kept waiting by this but those who want the same.
        let jpeg = newest.jpegs[slot].get_or_init(|| jpeg(&newest.image, percent)).clone()?;
        let age = Duration::from_secs_f64(age_s(&newest.image, self.clock.now()).max(0.0));
        Some(Shot { sequence: newest.number, width: newest.image.width, height: newest.image.height, age, jpeg })
    }

    fn lock(&self) -> MutexGuard<'_, Shown> {
        self.shown.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn age_s(image: &Image, now: Timestamp) -> f64 {
    now.nanos_since(image.captured_at) as f64 * 1e-9
}

/// The JPEG of an image in colours, or of a depth camera's in greys: black is near, white 2 m and beyond or not known.
pub fn jpeg(image: &Image, percent: u8) -> Option<Arc<[u8]>> {
    const FAR_MM: u32 = 2000;
    let pixels = (image.width as usize).checked_mul(image.height as usize)?;
    let grey: Vec<u8>;
    let (bytes, kind) = if image.rgb.len() == pixels * 3 {
        (&image.rgb[..], ExtendedColorType::Rgb8)
    } else if image.depth_mm.len() == pixels * 2 {
        let level = |pair: &[u8]| match u32::from(u16::from_le_bytes([pair[0], pair[1]])) {
            0 => u8::MAX,
            mm => (mm.min(FAR_MM) * u32::from(u8::MAX) / FAR_MM) as u8,
        };
        grey = image.depth_mm.chunks_exact(2).map(level).collect();
        (&grey[..], ExtendedColorType::L8)
    } else {
        return None;
    };
    let mut jpeg = Vec::new();
    JpegEncoder::new_with_quality(&mut jpeg, percent).encode(bytes, image.width, image.height, kind).ok()?;
    Some(jpeg.into())
}

#[cfg(test)]
mod tests {
    use sinew_core::MockClock;

    use super::*;

    #[test]
    fn an_image_is_compressed_once_and_shown_until_there_is_another() {
        let robot = sinew_sim::robots::get("so101").unwrap().description;
        let clock = Arc::new(MockClock::new());
        let board = Board::new(&robot, clock.clone());
        let mut observation = Observation::for_robot(&robot);
        board.see(&observation, None, |_| {});
        assert!(board.shot(0, 0, Quality::High).is_none(), "it has shown nothing yet");
        assert!(board.is_watched());
        observation.images[0].sequence = 1;
        board.see(&observation, Some(&[0.5; 6]), |state| state.armed = true);
        let first = board.shot(0, 0, Quality::High).unwrap();
        let again = board.shot(0, 0, Quality::High).unwrap();
        assert!(Arc::ptr_eq(&first.jpeg, &again.jpeg));
        assert!(board.shot(0, first.sequence, Quality::High).is_none());
        assert!(board.shot(0, 0, Quality::Low).unwrap().jpeg.len() < first.jpeg.len() + 1);
        // A session that counts anew.
        observation.images[0].captured_at = Timestamp::from_nanos(7);
        board.see(&observation, None, |_| {});
        assert_eq!(board.shot(0, first.sequence, Quality::High).unwrap().sequence, first.sequence + 1);
        let state = board.state();
        assert!(state.armed && state.goal == [0.5; 6] && state.position == [None; 6]);
        assert_eq!(board.wait(state.sequence, Duration::from_millis(1)), state.sequence);
        assert!(board.wait(state.sequence - 1, Duration::from_secs(9)) == state.sequence);
        clock.sleep_until(Timestamp::from_nanos(LOOKED_AT_NS + 1));
        assert!(!board.is_watched());
    }

    #[test]
    fn distances_are_greys() {
        let depth: Vec<u8> = [0_u16, 1, 1000, 9000].iter().flat_map(|mm| mm.to_le_bytes()).collect();
        let image = Image { width: 2, height: 2, depth_mm: depth.into(), ..Image::default() };
        assert!(jpeg(&image, 90).is_some());
        assert!(jpeg(&Image { width: 3, ..image }, 90).is_none());
    }
}
