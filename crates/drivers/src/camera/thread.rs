//! The thread of a camera: it opens the source, reads, decodes, and opens it again when it was lost.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering::Relaxed};
use std::thread;
use std::time::Duration;

use sinew_core::{Brief, CameraDescription, Clock, ImageBuffers, Pixels, Timestamp};

use super::decode::Decoder;
use super::health::{CameraState, Notes};
use super::shape::Shape;
use super::{DecodeOptions, OpenSource, Picture, ShapeOptions, Source, SourceError};
use crate::net::Newest;

/// How long one call of a source may wait, so that the thread hears soon that it is to end.
const WAIT: Duration = Duration::from_millis(100);
/// How soon a lost source is opened again; twice as long after each time that it failed, up to the second.
const RETRY: Duration = Duration::from_millis(100);
const LATEST_RETRY: Duration = Duration::from_secs(1);
/// A source that delivers nothing for so long, or for ten periods, is taken for lost.
const FROZEN: Duration = Duration::from_secs(2);
const FROZEN_PERIODS: f64 = 10.0;
/// Opening one may take so long: networks, devices that start up.
const OPENING: Duration = Duration::from_secs(15);

/// What becomes of a camera whose source is lost while it runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WhenCameraLost {
    /// It is an error at once.
    End,
    /// Its source is opened again; when it gives no image within this time after it was lost, that is an error. Meanwhile the
    /// last image stands and grows old.
    Reopen { within: Duration },
}

impl WhenCameraLost {
    fn within(self) -> Duration {
        match self {
            Self::End => Duration::ZERO,
            Self::Reopen { within } => within,
        }
    }
}

/// The newest image, for the control thread.
#[derive(Debug, Default)]
pub(super) struct Seen {
    /// RGB, or the distances of a depth camera.
    pub pixels: Pixels,
    pub captured_at: Timestamp,
    /// 0 before the first.
    pub sequence: u64,
    /// Why there will be no more.
    pub over: Option<Brief>,
}

/// What a camera's thread shares.
#[derive(Debug)]
pub(super) struct Shared {
    pub camera: CameraDescription,
    pub source: String,
    pub seen: Newest<Seen>,
    pub notes: Newest<Notes>,
    pub is_closing: AtomicBool,
    /// Until when the source's call that is being made should be over, nanoseconds; far away while there is none.
    back_by: AtomicI64,
}

impl Shared {
    pub fn new(camera: CameraDescription, source: String) -> Self {
        let is_closing = AtomicBool::new(false);
        Self { camera, source, seen: Newest::default(), notes: Newest::default(), is_closing, back_by: AtomicI64::new(i64::MAX) }
    }

    /// For how long a call of the source has been overdue. Neither waits nor allocates.
    pub fn overdue(&self, now: Timestamp) -> Option<Duration> {
        let back_by = Timestamp::from_nanos(self.back_by.load(Relaxed));
        (now > back_by).then(|| Duration::from_nanos(now.nanos_since(back_by).unsigned_abs()))
    }

    fn end(&self, why: &str) {
        self.notes.lock().state = CameraState::Over { why: why.to_owned() };
        self.seen.lock().over = Some(Brief::of(why));
    }
}

/// Should a source panic, nobody takes its camera for a good one.
struct Ended<'a>(&'a Shared);

impl Drop for Ended<'_> {
    fn drop(&mut self) {
        let is_told = self.0.seen.lock().over.is_some();
        if !is_told {
            self.0.end(&format!("looking through {}: its thread has ended", self.0.source));
        }
    }
}

/// All that the thread has.
pub(super) struct CameraThread {
    shared: Arc<Shared>,
    clock: Arc<dyn Clock>,
    open: Box<dyn OpenSource>,
    when_lost: WhenCameraLost,
    taker: Taker,
    frozen: Duration,
}

impl CameraThread {
    pub fn new(
        shared: Arc<Shared>,
        clock: Arc<dyn Clock>,
        open: Box<dyn OpenSource>,
        when_lost: WhenCameraLost,
        shape: ShapeOptions,
        decode: DecodeOptions,
    ) -> Self {
        let period = shared.camera.fps.map_or(Duration::ZERO, |fps| Duration::from_secs_f64(1.0 / f64::from(fps)));
        let taker = Taker {
            decoder: Decoder::new(decode),
            is_depth: shared.camera.depth,
            shape: Shape::new(shape, &shared.camera),
            buffers: ImageBuffers::new(4, shared.camera.image_bytes()),
            staged: Vec::new(),
            last: None,
            numbers: Numbers::default(),
            broken: None,
        };
        Self { shared, clock, open, when_lost, taker, frozen: FROZEN.max(period.mul_f64(FROZEN_PERIODS)) }
    }

    pub fn run(mut self) {
        let shared = self.shared.clone();
        let _ended = Ended(&shared);
        let (mut lost_at, mut opened, mut retry) = (None, 0_u64, RETRY);
        while !self.is_closing() {
            let pictures = shared.notes.lock().pictures;
            if lost_at.is_none() {
                shared.notes.lock().state = CameraState::Opening;
            }
            let lost = match self.open() {
                Ok(source) => {
                    opened += 1;
                    self.serve(source, opened)
                }
                Err(error) => error,
            };
            if self.is_closing() {
                return;
            }
            let now = self.clock.now();
            // It did give images: what was lost before was found again.
            if shared.notes.lock().pictures != pictures {
                (lost_at, retry) = (None, RETRY);
            }
            let since = *lost_at.get_or_insert(now);
            let why = lost.to_string();
            // A device that has just come back may not be ours to open for a moment.
            let is_hopeless = opened == 0 && matches!(lost, SourceError::Unusable { .. });
            if is_hopeless || self.when_lost == WhenCameraLost::End || now.nanos_since(since) >= self.when_lost.within().as_nanos() as i64 {
                shared.end(&why);
                return;
            }
            shared.notes.lock().state = CameraState::Lost { why };
            self.rest(retry);
            retry = (retry * 2).min(LATEST_RETRY);
        }
    }

    fn is_closing(&self) -> bool {
        self.shared.is_closing.load(Relaxed)
    }

    fn rest(&self, time: Duration) {
        let until = self.clock.now() + time;
        while !self.is_closing() {
            let left = until.nanos_since(self.clock.now());
            if left <= 0 {
                break;
            }
            thread::park_timeout(Duration::from_nanos(left.unsigned_abs()));
        }
    }

    /// Makes a call that should be over after `most`, and as long again as one waits for what is lost.
    fn timed<T>(&mut self, most: Duration, call: impl FnOnce(&mut Self) -> T) -> T {
        let back_by = self.clock.now() + most + self.when_lost.within();
        self.shared.back_by.store(back_by.as_nanos(), Relaxed);
        let answer = call(self);
        self.shared.back_by.store(i64::MAX, Relaxed);
        answer
    }

    fn unusable(&self, what: impl ToString) -> SourceError {
        SourceError::Unusable { doing: "looking through", source_name: self.shared.source.clone(), what: what.to_string() }
    }

    fn lost(&self, what: String) -> SourceError {
        SourceError::Lost { doing: "looking through", source_name: self.shared.source.clone(), what }
    }

    fn open(&mut self) -> Result<Box<dyn Source>, SourceError> {
        let source = self.timed(OPENING, |it| it.open.open())?;
        let stream = source.stream();
        // Some know the size from the first picture on.
        if (stream.width, stream.height) != (0, 0) {
            self.taker.shape.check(stream.width, stream.height).map_err(|error| self.unusable(error))?;
        }
        Ok(source)
    }

    /// Takes what the source gives, until it is lost.
    fn serve(&mut self, mut source: Box<dyn Source>, opened: u64) -> SourceError {
        let shared = self.shared.clone();
        {
            let mut notes = shared.notes.lock();
            notes.stream = Some(source.stream());
            notes.reopened = opened - 1;
            notes.state = CameraState::Running;
        }
        self.taker.numbers.begin_anew();
        self.taker.broken = None;
        let mut good_at = self.clock.now();
        loop {
            let clock = self.clock.clone();
            let mut is_good = false;
            let frozen = self.frozen;
            let answer = self.timed(frozen, |it| source.next(WAIT, &mut |picture| is_good |= it.taker.take(picture, &shared, &*clock)));
            if self.is_closing() {
                return self.lost("it is not wanted any more".to_owned());
            }
            let now = self.clock.now();
            match answer {
                Err(error) => return error,
                Ok(_) if is_good => {
                    good_at = now;
                    self.taker.broken = None;
                }
                Ok(_) => {}
            }
            if now.nanos_since(good_at) > self.frozen.as_nanos() as i64 {
                let silent_s = now.nanos_since(good_at) as f64 * 1e-9;
                let what = match self.taker.broken.take() {
                    Some((count, why)) => format!("none of the last {count} pictures could be read: {why}"),
                    None => format!("it gave no new picture for {silent_s:.1} s"),
                };
                return self.lost(what);
            }
        }
    }
}

/// Makes images of pictures.
struct Taker {
    decoder: Decoder,
    /// Whether they are of distances.
    is_depth: bool,
    shape: Shape,
    buffers: ImageBuffers,
    /// A picture before it gets its shape.
    staged: Vec<u8>,
    /// When the newest image was taken.
    last: Option<Timestamp>,
    numbers: Numbers,
    /// How many pictures were broken since the last good one, and why the last was.
    broken: Option<(u64, String)>,
}

impl Taker {
    /// Makes `picture` the newest image. `false` where it is broken, or no newer than the last one.
    fn take(&mut self, picture: &Picture<'_>, shared: &Shared, clock: &dyn Clock) -> bool {
        let begun = clock.now();
        // What claims to come from the future would stay young.
        let captured_at = picture.captured_at.min(begun);
        if self.last.is_some_and(|last| captured_at <= last) {
            shared.notes.lock().repeated += 1;
            return false;
        }
        let (sequence, lost) = self.numbers.of(picture.sequence);
        match self.image(picture) {
            Ok(pixels) => {
                self.last = Some(captured_at);
                let decode_ns = clock.now().nanos_since(begun);
                {
                    let mut seen = shared.seen.lock();
                    (seen.pixels, seen.captured_at, seen.sequence) = (pixels, captured_at, sequence);
                }
                let mut notes = shared.notes.lock();
                notes.lost += lost;
                notes.picture(captured_at, decode_ns, clock.now());
                true
            }
            Err(why) => {
                let count = self.broken.as_ref().map_or(0, |(count, _)| *count);
                self.broken = Some((count + 1, why.clone()));
                let mut notes = shared.notes.lock();
                notes.lost += lost;
                notes.broken += 1;
                notes.broken_why = Some(why);
                false
            }
        }
    }

    fn image(&mut self, picture: &Picture<'_>) -> Result<Pixels, String> {
        let (width, height) = self.decoder.size(picture).map_err(|error| error.to_string())?;
        self.shape.check(width, height).map_err(|error| error.to_string())?;
        let decoder = &mut self.decoder;
        let mut decode =
            |pixels: &mut [u8]| if self.is_depth { decoder.distances(picture, pixels) } else { decoder.decode(picture, pixels) };
        let mut decoded = Ok(());
        let pixels = if self.shape.keeps(width, height) {
            self.buffers.fill(|pixels| decoded = decode(pixels))
        } else {
            self.staged.resize(width as usize * height as usize * self.shape.pixel_bytes(), 0);
            decoded = decode(&mut self.staged);
            if decoded.is_ok() { self.buffers.fill(|out| self.shape.make(&self.staged, width, height, out)) } else { Pixels::default() }
        };
        // A part of a picture goes back to the buffers here.
        decoded.map(|()| pixels).map_err(|error| error.to_string())
    }
}

/// Numbers of images that go on where a source begins anew.
#[derive(Debug, Default)]
struct Numbers {
    /// The last image's number; 0 before the first.
    last: u64,
    /// The source's number of it, since it was opened.
    last_of_source: Option<u64>,
}

impl Numbers {
    fn begin_anew(&mut self) {
        self.last_of_source = None;
    }

    /// The number of the image that its source calls `number`, and how many were lost before it.
    fn of(&mut self, number: u64) -> (u64, u64) {
        let ahead = self.last_of_source.map_or(1, |last| number.saturating_sub(last));
        // A source that counts backwards or not at all says nothing of what was lost.
        let step = ahead.max(1);
        self.last = self.last.saturating_add(step);
        self.last_of_source = Some(number);
        (self.last, step - 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_go_on_when_a_source_begins_anew() {
        let mut numbers = Numbers::default();
        assert_eq!([7, 8, 11].map(|number| numbers.of(number)), [(1, 0), (2, 0), (5, 2)]);
        numbers.begin_anew();
        assert_eq!([0, 1, 1, 0].map(|number| numbers.of(number)), [(6, 0), (7, 0), (8, 0), (9, 0)]);
    }
}
