//! A dataset for the Rerun viewer.

use std::path::Path;

use rerun::{RecordingStream, RecordingStreamBuilder};

use super::{create_parent, remove_partial, to_jpeg};
use crate::progress::{Progress, step};
use crate::reader::{is_depth, numbers};
use crate::rerun_view::connect;
use crate::{DatasetReader, ReadError, ToolError, ViewError};

const JPEG_QUALITY: u8 = 85;

/// Writes episodes of the dataset, one after another on the timelines `frame` and `time`, to the new file
/// `path`, an `.rrd`: each camera as images, each feature of numbers as plots, tasks as text.
///
/// # Errors
/// When the dataset can't be read, has no such episode, the file can't be written, or `progress` says
/// stop; a file that was begun is then removed.
pub fn write_rrd(reader: &DatasetReader, episodes: &[u64], path: &Path, progress: &mut Progress<'_>) -> Result<(), ToolError> {
    if path.exists() {
        return Err(ToolError::NotEmpty { root: path.to_owned(), found: "a file".to_owned() });
    }
    create_parent(path)?;
    let failed = |source| ViewError::Rerun { doing: "writing a dataset for Rerun", source: Box::new(source) };
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
    let failed = |source| ViewError::Rerun { doing: "showing a dataset in Rerun", source: Box::new(source) };
    let total: u64 = episodes.iter().map(|episode| Ok(reader.episode(*episode)?.length)).sum::<Result<u64, ReadError>>()?;
    let mut done = 0;
    for number in episodes {
        let episode = reader.episode(*number)?;
        let rows = reader.rows(*number, 0..episode.length)?;
        let mut features = Vec::new();
        for key in reader.features().keys().filter(|key| !crate::schema::DEFAULT_FEATURES.iter().any(|(name, _)| name == key)) {
            features.extend(rows.column_by_name(key).and_then(numbers).map(|(values, width)| (key, values, width)));
        }
        let mut cameras = Vec::new();
        for key in reader.cameras().filter(|key| !is_depth(&reader.features()[*key])) {
            cameras.push((key, reader.images(*number, key, 0..episode.length)?));
        }
        for frame in 0..episode.length {
            step(progress, "writing frames for Rerun", done, total)?;
            stream.set_time_sequence("frame", done as i64);
            stream.set_duration_secs("time", done as f64 / f64::from(reader.fps()));
            if frame == 0 {
                let text = format!("episode {number}: {}", episode.tasks.join("; "));
                stream.log("episodes", &rerun::TextLog::new(text)).map_err(failed)?;
            }
            for (key, values, width) in &features {
                let row = &values[frame as usize * width..(frame as usize + 1) * width];
                stream.log(key.as_str(), &rerun::Scalars::new(row.iter().copied())).map_err(failed)?;
            }
            for (key, images) in &mut cameras {
                let Some(image) = images.next() else { continue };
                let unusable = |error: image::ImageError| ReadError::Decode { path: reader.root().to_owned(), what: error.to_string() };
                let jpeg = to_jpeg(&image?, JPEG_QUALITY).map_err(unusable)?;
                stream.log(*key, &rerun::EncodedImage::new(jpeg).with_media_type("image/jpeg")).map_err(failed)?;
            }
            done += 1;
        }
    }
    stream.flush_with_timeout(std::time::Duration::from_secs(60)).map_err(|source| ViewError::Flush { to: to.to_owned(), source })?;
    step(progress, "writing frames for Rerun", total, total)?;
    Ok(())
}
