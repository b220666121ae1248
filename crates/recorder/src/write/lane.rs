//! A camera's way to the disk: a bounded queue, and a thread that counts, encodes and writes.

use std::collections::VecDeque;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::JoinHandle;

use sinew_core::Pixels;

use crate::RecordError;
use crate::commit::{Change, OutFile};
use crate::format::feature::PictureFeature;
use crate::format::stats::{FeatureStats, PictureCounts, PictureStats, sampled_frames};
use crate::media::encode::PictureEncoder;
use crate::media::mp4::Samples;
use crate::write::growing_video::GrowingVideo;
use crate::write::journal::{FrameMark, Journal, digest};

/// Where encoded frames go.
#[derive(Debug)]
pub(crate) enum Target {
    Video(Box<GrowingVideo>),
    /// Stills that a table will hold, one after another.
    Stills(OutFile),
}

impl Target {
    pub(crate) fn append(&mut self, frame: &[u8]) -> Result<(), RecordError> {
        match self {
            Self::Video(video) => video.append(frame),
            Self::Stills(file) => file.append(frame),
        }
    }

    pub(crate) fn again(&self) -> Result<OutFile, RecordError> {
        match self {
            Self::Video(video) => video.again(),
            Self::Stills(file) => file.again(),
        }
    }
}

/// What an encoder's thread leaves.
#[derive(Debug)]
pub(crate) struct LaneEnd {
    pub(crate) target: Target,
    pub(crate) samples: Samples,
    /// Of an episode that was closed.
    pub(crate) closed: Option<Closed>,
}

/// A camera's part of an episode, on the disk.
#[derive(Debug)]
pub(crate) struct Closed {
    pub(crate) stats: Option<FeatureStats>,
    /// What commits the video.
    pub(crate) changes: Vec<Change>,
    /// The first frame's number in the video.
    pub(crate) first_frame: u64,
}

enum Job {
    Picture(Pixels),
    Close,
}

pub(crate) struct Lane {
    key: String,
    jobs: Option<SyncSender<Job>>,
    waiting: Arc<AtomicUsize>,
    dropped: Arc<AtomicBool>,
    thread: Option<JoinHandle<Result<LaneEnd, RecordError>>>,
}

/// What a thread works with.
struct Worker {
    feature: PictureFeature,
    encoder: Box<dyn PictureEncoder>,
    output: Output,
    /// Of pictures that the encoder holds back.
    counts: VecDeque<Vec<u8>>,
    waiting: Arc<AtomicUsize>,
    dropped: Arc<AtomicBool>,
    #[cfg(test)]
    frame_takes: std::time::Duration,
}

/// Of what was encoded so far.
pub(crate) struct Output {
    camera: u16,
    journal: Arc<Journal>,
    target: Target,
    samples: Samples,
    entry: Vec<u8>,
    /// Where in the journal each frame's counts are, and how long.
    marks: Vec<(u64, u32)>,
}

impl Output {
    pub(crate) fn new(camera: u16, journal: Arc<Journal>, target: Target) -> Self {
        Self { camera, journal, target, samples: Samples::default(), entry: Vec::new(), marks: Vec::new() }
    }

    /// Takes a frame: its bytes first, so that the journal never names what is not there.
    pub(crate) fn frame(&mut self, entry: &[u8], bytes: &[u8], is_key: bool, counts: &[u8]) -> Result<(), RecordError> {
        if self.entry.is_empty() && !entry.is_empty() {
            self.entry = entry.to_vec();
            self.journal.entry(self.camera, entry)?;
        }
        self.target.append(bytes)?;
        let mark = FrameMark { size: bytes.len() as u32, is_key, digest: digest(bytes) };
        let at = self.journal.frame(self.camera, mark, counts)?;
        self.marks.push((at, counts.len() as u32));
        self.samples.push(mark.size, is_key);
        Ok(())
    }

    pub(crate) fn frames(&self) -> u64 {
        self.marks.len() as u64
    }

    /// Closes the episode: its statistics, and all of it on the disk.
    pub(crate) fn close(mut self, picture: &PictureFeature) -> Result<LaneEnd, RecordError> {
        let channels = if picture.is_depth() { 1 } else { 3 };
        let mut read = self.journal.reader()?;
        let mut stats = PictureStats::new();
        if !self.marks.is_empty() {
            for frame in sampled_frames(self.frames()) {
                let (at, length) = self.marks[frame as usize];
                if let Some(counts) = PictureCounts::from_bytes(&read(at, length as usize)?, channels) {
                    stats.add(&counts);
                }
            }
        }
        let (first_frame, changes) = match &mut self.target {
            Target::Video(video) if !video.takes(&self.entry) => {
                let what = "its parameters are not those of the episode before".to_owned();
                return Err(RecordError::Encoder { camera: picture.key.clone(), encoder: "the encoder".to_owned(), what });
            }
            Target::Video(video) => (video.frames(), video.finish(&self.samples, &self.entry)?),
            Target::Stills(_) => (0, Vec::new()),
        };
        let closed = Closed { stats: stats.finish(), changes, first_frame };
        Ok(LaneEnd { target: self.target, samples: self.samples, closed: Some(closed) })
    }
}

impl Lane {
    /// Starts the thread of the camera `feature`, the `camera`th of the dataset.
    pub(crate) fn start(
        camera: u16,
        feature: &PictureFeature,
        encoder: Box<dyn PictureEncoder>,
        (journal, target): (Arc<Journal>, Target),
        options: &crate::RecorderOptions,
    ) -> Result<Self, RecordError> {
        let (jobs, queue) = sync_channel(options.queue_frames + 1);
        let (waiting, dropped) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicBool::new(false)));
        let worker = Worker {
            feature: feature.clone(),
            encoder,
            output: Output::new(camera, journal, target),
            counts: VecDeque::new(),
            waiting: waiting.clone(),
            dropped: dropped.clone(),
            #[cfg(test)]
            frame_takes: options.frame_takes,
        };
        let thread = std::thread::Builder::new().name(format!("encode {}", feature.key)).spawn(move || worker.run(&queue));
        let thread = thread.map_err(crate::commit::io_error("starting the encoder's thread of", Path::new(&feature.key)))?;
        Ok(Self { key: feature.key.clone(), jobs: Some(jobs), waiting, dropped, thread: Some(thread) })
    }

    /// Pictures that wait or are being encoded.
    pub(crate) fn waiting(&self) -> usize {
        self.waiting.load(Ordering::Acquire)
    }

    /// Queues a picture; waits when the queue is full.
    pub(crate) fn push(&mut self, picture: Pixels) -> Result<(), RecordError> {
        self.waiting.fetch_add(1, Ordering::AcqRel);
        let taken = self.jobs.as_ref().is_some_and(|jobs| jobs.send(Job::Picture(picture)).is_ok());
        if taken { Ok(()) } else { Err(self.join().err().unwrap_or_else(|| self.lost())) }
    }

    /// Asks the thread to close the episode.
    pub(crate) fn close(&mut self) {
        // Whether there still is one is known when it is joined.
        let _ = self.jobs.take().map(|jobs| jobs.send(Job::Close));
    }

    /// Asks the thread to forget what waits.
    pub(crate) fn discard(&mut self) {
        self.dropped.store(true, Ordering::Release);
        self.jobs = None;
    }

    /// Waits for the thread's end.
    pub(crate) fn join(&mut self) -> Result<LaneEnd, RecordError> {
        self.jobs = None;
        match self.thread.take().map(JoinHandle::join) {
            Some(Ok(result)) => result,
            Some(Err(panic)) => {
                let said = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
                let said = said.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_default();
                let what = format!("its thread panicked: {said}");
                Err(RecordError::Encoder { camera: self.key.clone(), encoder: "the encoder".to_owned(), what })
            }
            None => Err(self.lost()),
        }
    }

    fn lost(&self) -> RecordError {
        RecordError::Encoder { camera: self.key.clone(), encoder: "the encoder".to_owned(), what: "its thread has ended".to_owned() }
    }
}

impl Drop for Lane {
    fn drop(&mut self) {
        if self.thread.is_some() {
            // What was handed over reaches the journal.
            let _ = self.join();
        }
    }
}

impl Worker {
    fn run(mut self, queue: &Receiver<Job>) -> Result<LaneEnd, RecordError> {
        let mut pushed = 0;
        loop {
            match queue.recv() {
                Ok(Job::Picture(picture)) => {
                    if !self.dropped.load(Ordering::Acquire) {
                        self.picture(&picture)?;
                        pushed += 1;
                    }
                    self.waiting.fetch_sub(1, Ordering::AcqRel);
                }
                Ok(Job::Close) => {
                    self.flush(pushed)?;
                    return self.output.close(&self.feature);
                }
                Err(_) => {
                    if !self.dropped.load(Ordering::Acquire) {
                        self.flush(pushed)?;
                    }
                    return Ok(LaneEnd { target: self.output.target, samples: self.output.samples, closed: None });
                }
            }
        }
    }

    fn picture(&mut self, picture: &[u8]) -> Result<(), RecordError> {
        let (width, height) = (self.feature.width as usize, self.feature.height as usize);
        let counts = if self.feature.is_depth() {
            PictureCounts::of_depth(picture, width, height)
        } else {
            PictureCounts::of_rgb(picture, width, height)
        };
        self.counts.push_back(counts.to_bytes());
        #[cfg(test)]
        self.dawdle();
        let Self { encoder, output, counts, .. } = self;
        encoder.push(picture, &mut |entry, bytes, is_key| output.frame(entry, bytes, is_key, &counts.pop_front().unwrap_or_default()))
    }

    fn flush(&mut self, pushed: u64) -> Result<(), RecordError> {
        let Self { encoder, output, counts, .. } = self;
        encoder.finish(&mut |entry, bytes, is_key| output.frame(entry, bytes, is_key, &counts.pop_front().unwrap_or_default()))?;
        let found = self.output.frames();
        if found != pushed {
            let what = format!("it answered {found} frames for {pushed} images");
            return Err(RecordError::Encoder { camera: self.feature.key.clone(), encoder: "the encoder".to_owned(), what });
        }
        Ok(())
    }

    #[cfg(test)]
    fn dawdle(&self) {
        // A quarter of an hour for a frame stands for an encoder that breaks.
        assert!(self.frame_takes.as_secs() < 900 || self.output.camera != 0 || self.output.frames() < 5, "an encoder that breaks");
        if self.frame_takes.as_secs() < 900 {
            std::thread::sleep(self.frame_takes);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::feature::Feature;
    use crate::write::journal::{Beginning, JOURNAL, VERSION};

    /// Notes where in memory each picture is that it gets.
    struct Places(Arc<std::sync::Mutex<Vec<usize>>>);

    impl PictureEncoder for Places {
        fn push(&mut self, picture: &[u8], ready: &mut crate::media::encode::Ready<'_>) -> Result<(), RecordError> {
            self.0.lock().unwrap().push(picture.as_ptr().addr());
            ready(&[], b"frame", true)
        }

        fn finish(&mut self, _: &mut crate::media::encode::Ready<'_>) -> Result<(), RecordError> {
            Ok(())
        }
    }

    #[test]
    fn the_encoder_gets_the_very_bytes_that_were_handed_over() {
        let folder = tempfile::tempdir().unwrap();
        let feature = Feature::image("observation.images.front", 8, 4).picture().unwrap();
        let beginning = Beginning {
            version: VERSION,
            episode_index: 0,
            fps: 30.into(),
            features: serde_json::Map::new(),
            side: serde_json::Map::new(),
            note: serde_json::Map::new(),
            cameras: vec![("stills".to_owned(), 0)],
        };
        let journal = Arc::new(Journal::create(&folder.path().join(JOURNAL), &beginning).unwrap());
        let target = Target::Stills(OutFile::create(&folder.path().join("stills")).unwrap());
        let places = Arc::default();
        let options = crate::RecorderOptions::default();
        let mut lane = Lane::start(0, &feature, Box::new(Places(Arc::clone(&places))), (journal, target), &options).unwrap();
        let pictures: Vec<Pixels> = (0..5).map(|level| vec![level; 8 * 4 * 3].into()).collect();
        pictures.iter().for_each(|picture| lane.push(picture.clone()).unwrap());
        lane.close();
        lane.join().unwrap();
        assert_eq!(*places.lock().unwrap(), pictures.iter().map(|picture| picture.as_ptr().addr()).collect::<Vec<_>>());
    }
}
