//! A dataset for the Rerun viewer.

use std::path::Path;

use re_sdk_types::archetypes;
use rerun::{RecordingStream, RecordingStreamBuilder, RecordingStreamError};

use super::walk::{Target, is_own, walk};
use super::{create_parent, names_of, remove_partial};
use crate::export::live::connect;
use crate::format::schema::is_camera;
use crate::progress::Progress;
use crate::{DatasetReader, Episode, Rate, ToolError, ViewError};

/// Writes episodes of the dataset, one after another on the timelines `frame` and `time`, to the new file
/// `path`, an `.rrd`: each camera as images, each feature of numbers as plots of its named values, tasks as text.
///
/// # Errors
/// When the dataset can't be read, has no such episode, the file can't be written, or `progress` says
/// stop; a file that was begun is then removed.
pub fn write_rrd(reader: &DatasetReader, episodes: &[u64], path: &Path, progress: &mut Progress<'_>) -> Result<(), ToolError> {
    // An empty file is a name that was taken for this one.
    if path.symlink_metadata().is_ok_and(|file| !file.is_file() || file.len() > 0) {
        return Err(ToolError::Exists { path: path.to_owned(), found: "a file" });
    }
    create_parent(path)?;
    let stream = builder(reader).save(path).map_err(failed)?;
    let written = log(&stream, &path.display().to_string(), reader, episodes, progress);
    drop(stream);
    written.inspect_err(|_| remove_partial(path))
}

/// The same to the Rerun viewer that listens at `address`, such as `127.0.0.1:9876`.
///
/// # Errors
/// When nobody answers there, the dataset can't be read, has no such episode, or `progress` says stop.
pub fn show_in_rerun(reader: &DatasetReader, episodes: &[u64], address: &str, progress: &mut Progress<'_>) -> Result<(), ToolError> {
    let stream = connect(builder(reader), address)?;
    log(&stream, &format!("the viewer at {address}"), reader, episodes, progress)
}

fn builder(reader: &DatasetReader) -> RecordingStreamBuilder {
    let name = reader.root().file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    RecordingStreamBuilder::new("sinew").recording_name(name)
}

fn log(stream: &RecordingStream, to: &str, reader: &DatasetReader, episodes: &[u64], progress: &mut Progress<'_>) -> Result<(), ToolError> {
    stream.set_log_tick_enabled(false);
    stream.set_log_time_enabled(false);
    for (key, feature) in reader.features().iter().filter(|(key, feature)| is_own(key) && !is_camera(feature)) {
        stream.log_static(key.as_str(), &archetypes::SeriesLines::new().with_names(names_of(key, feature)?)).map_err(failed)?;
    }
    walk(reader, episodes, "writing frames for Rerun", &mut Viewer { stream, fps: reader.fps() }, progress)?;
    let lost = |source| ViewError::Flush { to: to.to_owned(), source };
    Ok(stream.flush_with_timeout(std::time::Duration::from_secs(60)).map_err(lost)?)
}

struct Viewer<'a> {
    stream: &'a RecordingStream,
    fps: Rate,
}

fn failed(source: RecordingStreamError) -> ToolError {
    ViewError::Rerun { doing: "showing a dataset in Rerun", source: Box::new(source) }.into()
}

impl Target for Viewer<'_> {
    fn row(&mut self, row: u64, begins: Option<&Episode>) -> Result<(), ToolError> {
        self.stream.set_time_sequence("frame", row as i64);
        self.stream.set_duration_secs("time", self.fps.seconds(row));
        let Some(episode) = begins else { return Ok(()) };
        let text = format!("episode {}: {}", episode.episode_index, episode.tasks.join("; "));
        self.stream.log("episodes", &archetypes::TextLog::new(text)).map_err(failed)
    }

    fn numbers(&mut self, key: &str, values: &[f64]) -> Result<(), ToolError> {
        self.stream.log(key, &archetypes::Scalars::new(values.iter().copied())).map_err(failed)
    }

    fn image(&mut self, key: &str, jpeg: Vec<u8>) -> Result<(), ToolError> {
        self.stream.log(key, &archetypes::EncodedImage::new(jpeg).with_media_type("image/jpeg")).map_err(failed)
    }
}
