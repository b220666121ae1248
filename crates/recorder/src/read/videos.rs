//! Videos that are kept open, and the images of an item out of several at once.

use std::ops::Range;
use std::thread;

use sinew_core::Image;

use super::recent::Recent;
use super::{DatasetReader, Episode, row_time_s};
use crate::ReadError;
use crate::media::video_reader::VideoReader;

/// The videos that were used last, with their decoders.
pub(super) struct OpenVideos {
    open: Recent<String, Option<VideoReader>>,
}

/// Videos are kept open up to so many bytes of indices and pictures.
const MOST_BYTES: usize = 128 << 20;
/// Pictures that a decoder holds.
const HELD_PICTURES: usize = 8;

/// What is wanted of one camera.
struct Job {
    path: String,
    video: Option<VideoReader>,
    seconds: Vec<f64>,
}

impl OpenVideos {
    pub(super) fn new() -> Self {
        Self { open: Recent::new(MOST_BYTES) }
    }

    /// The images of each camera in these frames of an episode, which are in rising order; each camera on a
    /// thread of its own.
    pub(super) fn images(
        &mut self,
        reader: &DatasetReader,
        episode: &Episode,
        wanted: &[(&str, &[u64])],
    ) -> Result<Vec<Vec<Image>>, ReadError> {
        let mut jobs = Vec::new();
        for (key, frames) in wanted {
            let span = episode.videos.iter().find(|span| span.key == *key);
            let span = span.ok_or_else(|| ReadError::Missing { root: reader.root().to_owned(), what: format!("the images of {key}") })?;
            let seconds = frames.iter().map(|frame| span.from_s + row_time_s(*frame, reader.fps())).collect();
            let video = self.open.get(&span.path).and_then(Option::take);
            jobs.push(Job { path: span.path.clone(), video, seconds });
        }
        let results: Vec<Result<Vec<Image>, ReadError>> = match jobs.split_last_mut() {
            None => Vec::new(),
            Some((own, others)) => thread::scope(|scope| {
                let others: Vec<_> = others.iter_mut().map(|job| scope.spawn(|| job.run(reader))).collect();
                let own = own.run(reader);
                let results = others.into_iter().map(|thread| thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)));
                results.chain([own]).collect()
            }),
        };
        for (job, result) in jobs.into_iter().zip(&results) {
            let picture = result.as_ref().ok().and_then(|images| images.first()).map_or(0, |image| image.rgb.len());
            let bytes = job.video.as_ref().map_or(0, VideoReader::index_bytes) + HELD_PICTURES * picture;
            self.open.insert(job.path, job.video, bytes);
        }
        results.into_iter().collect()
    }

    /// Lets the images of one camera come, of the videos that are open: those that are shown from `seconds.start` to
    /// `seconds.end` of the file.
    pub(super) fn expect(&mut self, path: &str, seconds: Range<f64>, most_bytes: u64) {
        if let Some(Some(video)) = self.open.get(path) {
            video.expect(seconds, most_bytes);
        }
    }
}

impl Job {
    fn run(&mut self, reader: &DatasetReader) -> Result<Vec<Image>, ReadError> {
        let video = match &mut self.video {
            Some(video) => video,
            none => none.insert(reader.video(&self.path)?),
        };
        self.seconds.iter().map(|seconds| video.frame_at(*seconds)).collect()
    }
}
