//! Goes through what is exported, row by row.

use crate::format::arrays::numbers;
use crate::format::schema::is_depth;
use crate::progress::{Progress, Step, step};
use crate::{DatasetReader, Episode, ReadError, ToolError};

use super::to_jpeg;

const JPEG_QUALITY: u8 = 85;

/// Another program's form of a dataset.
pub(super) trait Target {
    /// What follows is of row `row` of all that is exported, which is the first of `begins`, if any.
    fn row(&mut self, row: u64, begins: Option<&Episode>) -> Result<(), ToolError>;
    /// The row's numbers of a feature.
    fn numbers(&mut self, key: &str, values: &[f64]) -> Result<(), ToolError>;
    /// The row's image of a camera.
    fn image(&mut self, key: &str, jpeg: Vec<u8>) -> Result<(), ToolError>;
}

/// The features of numbers that are exported: those that LeRobot adds to every dataset are not.
pub(super) fn is_own(key: &str) -> bool {
    !crate::format::schema::DEFAULT_FEATURES.iter().any(|(name, _)| *name == key)
}

/// Shows `target` the rows of these episodes, one after another.
pub(super) fn walk(
    reader: &DatasetReader,
    episodes: &[u64],
    doing: &str,
    target: &mut dyn Target,
    progress: &mut Progress<'_>,
) -> Result<(), ToolError> {
    let total: u64 = episodes.iter().map(|episode| Ok(reader.episode(*episode)?.length)).sum::<Result<u64, ReadError>>()?;
    let mut done = 0;
    for number in episodes {
        let episode = reader.episode(*number)?;
        let rows = reader.rows(*number, 0..episode.length)?;
        let mut features = Vec::new();
        for key in reader.features().keys().filter(|key| is_own(key)) {
            features.extend(rows.column_by_name(key).and_then(numbers).map(|(values, width)| (key, values, width)));
        }
        let mut cameras = Vec::new();
        for key in reader.cameras().filter(|key| !is_depth(&reader.features()[*key])) {
            cameras.push((key, reader.images(*number, key, 0..episode.length)?));
        }
        for frame in 0..episode.length {
            step(progress, doing, done, total)?;
            target.row(done, (frame == 0).then_some(episode))?;
            for (key, values, width) in &features {
                target.numbers(key, &values[frame as usize * width..(frame as usize + 1) * width])?;
            }
            for (key, images) in &mut cameras {
                let Some(image) = images.next_while(&mut || progress(Step { doing, done, total })) else { continue };
                let unusable = |error: image::ImageError| ReadError::Decode { path: reader.root().to_owned(), what: error.to_string() };
                target.image(key, to_jpeg(&image?, JPEG_QUALITY).map_err(unusable)?)?;
            }
            done += 1;
        }
    }
    Ok(step(progress, doing, total, total)?)
}
