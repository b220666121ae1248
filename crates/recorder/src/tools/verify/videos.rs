//! Videos against the rows.

use std::collections::BTreeMap;

use super::{Mend, Report};
use crate::format::schema::{is_depth, picture_size};
use crate::format::stats::{PictureCounts, PictureStats, sampled_frames};
use crate::media::mp4_read::{VideoIndex, read_video};
use crate::media::video_reader::TOLERANCE_S;
use crate::progress::{Progress, Step, Waiting, step};
use crate::read::row_time_s;
use crate::{DatasetReader, EpisodeStats, EpisodeVideoSpan, Rate, ReadError, ToolError, VideoReader};

/// An episode in a file of video.
struct Part {
    episode: u64,
    length: u64,
    from_s: f64,
    to_s: f64,
}

/// The index of every video. `is_pending` says that files may be ahead of the tables.
pub(super) fn check(reader: &DatasetReader, is_pending: bool, report: &mut Report) {
    // In episode order.
    let mut files: BTreeMap<&str, (&str, Vec<Part>)> = BTreeMap::new();
    for episode in reader.episodes() {
        for EpisodeVideoSpan { key, path, from_s, to_s } in &episode.videos {
            let (_, parts) = files.entry(path).or_insert((key, Vec::new()));
            parts.push(Part { episode: episode.episode_index, length: episode.length, from_s: *from_s, to_s: *to_s });
        }
    }
    for (path, (key, parts)) in files {
        match read_video(&reader.root().join(path)) {
            Err(ReadError::Io { source, .. }) => report.fault(path, format!("it cannot be read: {source}")),
            Err(ReadError::Invalid { what, .. }) => report.fault(path, what),
            Err(error) => report.fault(path, error.to_string()),
            Ok(video) => {
                let size = picture_size(&reader.features()[key]).unwrap_or_default();
                check_file(path, &video, &parts, reader.fps(), size, is_pending, report);
            }
        }
    }
}

fn check_file(
    path: &str,
    video: &VideoIndex,
    parts: &[Part],
    fps: Rate,
    (width, height): (u64, u64),
    is_pending: bool,
    report: &mut Report,
) {
    if (u64::from(video.width), u64::from(video.height)) != (width, height) {
        report.fault(path, format!("its pictures are {}x{}, expected {width}x{height}", video.width, video.height));
        return;
    }
    let rows: u64 = parts.iter().map(|part| part.length).sum();
    if video.frames() < rows {
        report.fault(path, format!("it has {} frames, but its episodes have {rows} rows", video.frames()));
        return;
    }
    let mut used = vec![false; video.frames() as usize];
    for Part { episode, length, from_s, to_s } in parts {
        if !from_s.is_finite() || *from_s < -TOLERANCE_S {
            report.fault(path, format!("episode {episode} begins at {from_s} s"));
            return;
        }
        for frame in 0..*length {
            let wanted = from_s + row_time_s(frame, fps);
            let nearest = video.nearest(wanted);
            let found = nearest.and_then(|number| video.seconds(number)).unwrap_or(f64::INFINITY);
            if (found - wanted).abs() >= TOLERANCE_S {
                let what =
                    format!("no frame is shown at {wanted} s, frame {frame} of episode {episode} at {fps} a second; the nearest is at");
                report.fault(path, format!("{what} {found} s"));
                return;
            }
            let number = nearest.unwrap_or(0);
            if std::mem::replace(&mut used[number as usize], true) {
                report.fault(path, format!("frame {frame} of episode {episode} is one that another row has as well"));
                return;
            }
            if frame == 0 && !video.samples[video.shown[number as usize] as usize].is_key {
                let what = format!("episode {episode} begins between two key frames, so that frames before it are decoded for its first");
                report.warn(path, what, None);
            }
        }
        let ends_s = from_s + fps.seconds(*length);
        if (to_s - ends_s).abs() > TOLERANCE_S {
            report.warn(path, format!("episode {episode} is said to end at {to_s} s, expected {ends_s} s"), Mend::Repair);
        }
    }
    // One more episode may be there when a commit is being put into place.
    let more = used.iter().filter(|used| !**used).count();
    if more > 0 && !is_pending {
        report.warn(path, format!("{more} of its {} frames belong to no row", video.frames()), Mend::Repair);
    }
}

/// Decodes every image. Their mean colours may differ from the statistics, which are of images before
/// they were encoded, by this share of the range.
const MEAN_TOLERANCE: f64 = 0.04;

pub(super) fn decode_all(
    reader: &DatasetReader,
    mut stored: Option<&mut EpisodeStats>,
    report: &mut Report,
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
            let mut fault = |what: String| report.fault(path, format!("episode {number}, {key}: {what}"));
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
            if report.is_enough() {
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
        let number = video.number_at(from_s + row_time_s(frame, reader.fps()))?;
        video.codes(number, waiting)?;
    }
    Ok(())
}
