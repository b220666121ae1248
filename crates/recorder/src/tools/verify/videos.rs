//! Videos against the rows.

use std::collections::BTreeMap;

use super::{Fault, MOST_FAULTS};
use crate::format::schema::is_depth;
use crate::format::stats::{PictureCounts, PictureStats, sampled_frames};
use crate::media::mp4_read::{VideoIndex, read_video};
use crate::media::video_reader::TOLERANCE_S;
use crate::progress::{Progress, Step, Waiting, step};
use crate::{DatasetReader, EpisodeStats, ReadError, ToolError, VideoReader};

/// The index of every video. `is_pending` says that files may be ahead of the tables.
pub(super) fn check(reader: &DatasetReader, is_pending: bool, faults: &mut Vec<Fault>) {
    let fps = f64::from(reader.fps());
    // Episodes and their lengths in each file, in episode order.
    let mut files: BTreeMap<&str, (&str, Vec<(u64, u64)>)> = BTreeMap::new();
    for episode in reader.episodes() {
        for span in &episode.videos {
            let (_, episodes) = files.entry(&span.path).or_insert((&span.key, Vec::new()));
            let before: u64 = episodes.iter().map(|(_, length)| length).sum();
            let (begin, end) = (before as f64 / fps, (before + episode.length) as f64 / fps);
            if (span.from_s - begin).abs() > TOLERANCE_S || (span.to_s - end).abs() > TOLERANCE_S {
                let what =
                    format!("episode {} is at {} s to {} s, expected {begin} s to {end} s", episode.episode_index, span.from_s, span.to_s);
                faults.push(Fault { path: span.path.clone().into(), what });
            }
            episodes.push((episode.episode_index, episode.length));
        }
    }
    for (path, (key, episodes)) in files {
        let shape = &reader.features()[key]["shape"];
        let size = (shape[1].as_u64().unwrap_or(0), shape[0].as_u64().unwrap_or(0));
        let what = match read_video(&reader.root().join(path)) {
            Err(ReadError::Io { source, .. }) => Some(format!("it cannot be read: {source}")),
            Err(ReadError::Invalid { what, .. }) => Some(what),
            Err(error) => Some(error.to_string()),
            Ok(video) => video_fault(&video, &episodes, reader.fps(), size, is_pending),
        };
        faults.extend(what.map(|what| Fault { path: path.into(), what }));
    }
}

fn video_fault(video: &VideoIndex, episodes: &[(u64, u64)], fps: u32, size: (u64, u64), is_pending: bool) -> Option<String> {
    if (u64::from(video.width), u64::from(video.height)) != size {
        return Some(format!("its pictures are {}x{}, expected {}x{}", video.width, video.height, size.0, size.1));
    }
    let rows: u64 = episodes.iter().map(|(_, length)| length).sum();
    // One more episode may be there when a commit is being put into place.
    if video.frames() < rows || (video.frames() > rows && !is_pending) {
        return Some(format!("it has {} frames, but its episodes have {rows} rows", video.frames()));
    }
    for frame in 0..rows {
        let (expected, found) = (frame as f64 / f64::from(fps), video.seconds(frame).unwrap_or(f64::INFINITY));
        if (found - expected).abs() >= TOLERANCE_S {
            return Some(format!("frame {frame} is shown at {found} s, expected {expected} s, {fps} frames a second"));
        }
    }
    let mut first = 0;
    for (episode, length) in episodes {
        if !video.samples[video.shown[first as usize] as usize].is_key {
            return Some(format!("episode {episode} begins at frame {first}, which cannot be decoded alone"));
        }
        first += length;
    }
    None
}

/// Decodes every image. Their mean colours may differ from the statistics, which are of images before
/// they were encoded, by this share of the range.
const MEAN_TOLERANCE: f64 = 0.04;

pub(super) fn decode_all(
    reader: &DatasetReader,
    mut stored: Option<&mut EpisodeStats>,
    faults: &mut Vec<Fault>,
    progress: &mut Progress<'_>,
) -> Result<(), ToolError> {
    let cameras: Vec<&str> = reader.cameras().collect();
    let total = reader.total_frames() * cameras.len() as u64;
    let mut done = 0;
    for key in cameras {
        let depth = is_depth(&reader.features()[key]);
        for episode in reader.episodes() {
            let number = episode.episode_index;
            let span = episode.videos.iter().find(|span| span.key == key);
            let path = span.map_or(&episode.data_path, |span| &span.path);
            let mut fault =
                |what: String| faults.push(Fault { path: path.clone().into(), what: format!("episode {number}, {key}: {what}") });
            step(progress, "decoding images", done, total)?;
            done += episode.length;
            if depth {
                let now = Step { doing: "decoding images", done: done - episode.length, total };
                let waiting = &mut || progress(now);
                match span.map(|span| decode_depth(reader, &reader.root().join(&span.path), span.from_s, episode.length, waiting)) {
                    Some(Err(ReadError::Stopped { .. })) => return Err(ToolError::Stopped),
                    Some(Err(error)) => fault(error.to_string()),
                    _ => {}
                }
                continue;
            }
            let sampled = sampled_frames(episode.length);
            let mut stats = PictureStats::new();
            let mut images = match reader.images(number, key, 0..episode.length) {
                Ok(images) => images,
                Err(error) => {
                    fault(error.to_string());
                    continue;
                }
            };
            let mut whole = true;
            for frame in 0..episode.length {
                let now = Step { doing: "decoding images", done: done - episode.length + frame, total };
                let Some(image) = images.next_while(&mut || progress(now)) else { break };
                match image {
                    Ok(image) if sampled.binary_search(&frame).is_ok() => {
                        stats.add(&PictureCounts::of_rgb(&image.rgb, image.width as usize, image.height as usize));
                    }
                    Ok(_) => {}
                    Err(ReadError::Stopped { .. }) => return Err(ToolError::Stopped),
                    Err(error) => {
                        fault(format!("frame {frame}: {error}"));
                        whole = false;
                        break;
                    }
                }
                if frame % 64 == 63 {
                    step(progress, "decoding images", done - episode.length + frame, total)?;
                }
            }
            let of_episode = stored.as_mut().map_or(Ok(None), |all| all.of(number))?;
            let wanted = of_episode.as_ref().and_then(|all| all.get(key)?.get("mean")).filter(|_| whole);
            let wanted: Option<Vec<f64>> = wanted.and_then(|mean| mean.as_array()?.iter().map(|channel| channel[0][0].as_f64()).collect());
            if let (Some(wanted), Some(found)) = (wanted, stats.finish()) {
                let off = found.mean.iter().zip(&wanted).find(|(found, wanted)| (*found - *wanted).abs() > MEAN_TOLERANCE);
                if let Some((found, wanted)) = off {
                    fault(format!("a colour's mean is {found:.3}, the statistics say {wanted:.3}"));
                }
            }
            if faults.len() > MOST_FAULTS {
                return Ok(());
            }
        }
    }
    step(progress, "decoding images", total, total)?;
    Ok(())
}

fn decode_depth(
    reader: &DatasetReader,
    path: &std::path::Path,
    from_s: f64,
    length: u64,
    waiting: &mut Waiting<'_>,
) -> Result<(), ReadError> {
    let mut video = VideoReader::open_depth(path)?;
    for frame in 0..length {
        let number = video.number_at(from_s + crate::read::row_time_s(frame, reader.fps()))?;
        video.codes(number, waiting)?;
    }
    Ok(())
}
