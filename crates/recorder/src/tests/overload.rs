//! What is left out when an encoder can't keep up, and that every row keeps its own images.

use std::fs;
use std::path::Path;
use std::time::Duration;

use openh264::decoder::Decoder;
use openh264::formats::YUVSource;
use sinew_core::{ImageBuffers, Pixels};

use super::{assert_whole, chain};
use crate::format::arrays::integers;
use crate::format::parquet_read::read_parquet;
use crate::media::mp4_read::{boxes, child, word};
use crate::{DatasetSchema, DatasetWriter, Dtype, Feature, Overload, RecorderOptions, Row, Taken, Value};

const WIDTH: u32 = 128;
const HEIGHT: u32 = 64;
const CAMERAS: [&str; 2] = ["observation.images.left", "observation.images.right"];
/// How long the test's encoder takes for a frame, and how often a row comes.
const FRAME_TAKES: Duration = Duration::from_millis(8);
const ROW_EVERY: Duration = Duration::from_millis(4);

/// A picture with a number burned in: eight columns, white for a set bit.
fn picture(number: u64) -> Pixels {
    let column = |at: usize| at % WIDTH as usize / 16;
    let level = |at: usize| if number >> column(at) & 1 == 1 { 235 } else { 20 };
    (0..(WIDTH * HEIGHT) as usize).flat_map(|at| [level(at); 3]).collect::<Vec<_>>().into()
}

fn schema() -> DatasetSchema {
    let mut features = vec![Feature::numbers("counter", Dtype::I64, &[1])];
    features.extend(CAMERAS.map(|camera| Feature::video(camera, WIDTH, HEIGHT)));
    DatasetSchema::new(30, features)
}

fn add(writer: &mut DatasetWriter, number: u64) -> Result<Taken, crate::RecordError> {
    let (counter, left, right) = (number as i64, picture(number), picture(255 - number));
    let values = [Value::from(&[counter][..]), Value::Rgb(&left), Value::Rgb(&right)];
    writer.add_row(&Row { task: "Count", values: &values, side: &[] })
}

/// The numbers that a video shows, frame by frame.
fn numbers_in(path: &Path) -> Vec<u64> {
    let file = fs::read(path).unwrap();
    let moov = child(&file, b"moov").unwrap();
    let table =
        ["trak", "mdia", "minf", "stbl"].iter().fold(moov, |inner, kind| child(inner, kind.as_bytes().try_into().unwrap()).unwrap());
    let avc1 = boxes(&child(table, b"stsd").unwrap()[8..]).next().unwrap().1;
    let avcc = child(&avc1[78..], b"avcC").unwrap();
    let sps_bytes = usize::from(u16::from_be_bytes(avcc[6..8].try_into().unwrap()));
    let pps = &avcc[8 + sps_bytes + 3..];
    let mut decoder = Decoder::new().unwrap();
    let start_code = [0, 0, 0, 1];
    let mut stream = [&start_code, &avcc[8..8 + sps_bytes], &start_code, pps].concat();
    let [stsz, stsc, co64] = [b"stsz", b"stsc", b"co64"].map(|kind| child(table, kind).unwrap());
    let (mut sample, mut numbers) = (0, Vec::new());
    for chunk in 0..word(co64, 4).unwrap() as usize {
        let mut at = u64::from_be_bytes(co64[8 + 8 * chunk..16 + 8 * chunk].try_into().unwrap()) as usize;
        for _ in 0..word(stsc, 8 + 12 * chunk + 4).unwrap() {
            let end = at + word(stsz, 12 + 4 * sample).unwrap() as usize;
            while at < end {
                let unit = u32::from_be_bytes(file[at..at + 4].try_into().unwrap()) as usize;
                stream.extend([&start_code, &file[at + 4..at + 4 + unit]].concat());
                at += 4 + unit;
            }
            sample += 1;
            let shown = decoder.decode(&stream).unwrap().unwrap();
            let bit = |column: usize| u64::from(shown.y()[shown.strides().0 * 30 + column * 16 + 8] > 128) << column;
            numbers.push((0..8).map(bit).sum());
            stream.clear();
        }
    }
    numbers
}

/// Records with encoders that take twice as long as there is time. Answers the rows' counters, the
/// episode's line, and how many rows were kept.
fn record(on_overload: Overload) -> (Vec<u64>, serde_json::Value, u64) {
    let folder = tempfile::tempdir().unwrap();
    let options = RecorderOptions { on_overload, queue_frames: 4, frame_takes: FRAME_TAKES, ..RecorderOptions::default() };
    let mut writer = DatasetWriter::create(folder.path(), &schema(), options).unwrap();
    writer.begin_episode(serde_json::Map::new()).unwrap();
    let mut kept = 0;
    for number in 0..150 {
        let due = std::time::Instant::now() + ROW_EVERY;
        match add(&mut writer, number) {
            Ok(Taken::Kept) => kept += 1,
            Ok(Taken::Dropped) => {}
            Err(error) => {
                assert!(on_overload == Overload::Stop && chain(&error).contains("images waiting for its encoder"), "{error}");
                break;
            }
        }
        std::thread::sleep(due.saturating_duration_since(std::time::Instant::now()));
    }
    writer.save_episode(serde_json::Map::new()).unwrap();
    drop(writer);
    assert_whole(folder.path());
    let batches = read_parquet(&folder.path().join("data/chunk-000/file-000.parquet"), &["counter"]).unwrap();
    let rows: Vec<u64> = batches.iter().flat_map(|batch| integers(batch, "counter").unwrap()).collect();
    for (camera, shown) in CAMERAS.iter().zip([&rows, &rows.iter().map(|number| 255 - number).collect()]) {
        let path = folder.path().join(format!("videos/{camera}/chunk-000/file-000.mp4"));
        assert_eq!(&numbers_in(&path), shown, "{camera}: an image belongs to another row");
    }
    let line = fs::read_to_string(folder.path().join("meta/sinew_episodes.jsonl")).unwrap();
    (rows, serde_json::from_str(&line).unwrap(), kept)
}

#[test]
fn with_an_encoder_at_half_speed_every_row_has_its_own_images() {
    let (rows, line, kept) = record(Overload::DropTick);
    assert!(rows.len() < 140, "{} rows were kept of 150 that came twice as fast as they can be encoded", rows.len());
    assert_eq!((rows.len() as u64, line["dropped_ticks"].as_u64()), (kept, Some(150 - kept)));
    assert_eq!(line["frames"], kept);
}

#[test]
fn a_lower_rate_leaves_out_rows_in_even_steps() {
    let (rows, line, kept) = record(Overload::LowerRate);
    assert_eq!((rows.len() as u64, line["dropped_ticks"].as_u64()), (kept, Some(150 - kept)));
    let every = line["kept_every"].as_u64().unwrap();
    assert!(every >= 2);
    let steps: std::collections::BTreeSet<u64> = rows.windows(2).map(|pair| pair[1] - pair[0]).collect();
    // Single steps at first, steps of 2 after the first overload, of 4 after the second, …
    assert!(steps.iter().all(|step| step.is_power_of_two() && *step <= every), "steps of {steps:?}");
}

#[test]
fn stopping_keeps_the_rows_before() {
    let (rows, _, kept) = record(Overload::Stop);
    assert!(rows.len() < 150);
    assert_eq!(rows, (0..kept).collect::<Vec<_>>());
}

#[test]
fn waiting_loses_nothing() {
    let (rows, line, _) = record(Overload::Wait);
    assert_eq!((rows.len(), line["dropped_ticks"].as_u64()), (150, Some(0)));
}

/// The camera's memory is what the encoder reads: it is in use until the encoder is done with it, then used again.
#[test]
fn a_picture_is_not_copied_on_its_way_to_the_encoder() {
    let folder = tempfile::tempdir().unwrap();
    let options = RecorderOptions { frame_takes: Duration::from_millis(100), ..RecorderOptions::default() };
    let schema = DatasetSchema::new(30, vec![Feature::video(CAMERAS[0], WIDTH, HEIGHT)]);
    let mut writer = DatasetWriter::create(folder.path(), &schema, options).unwrap();
    writer.begin_episode(serde_json::Map::new()).unwrap();
    let mut camera = ImageBuffers::new(2, (WIDTH * HEIGHT * 3) as usize);
    let mut shoot = |writer: &mut DatasetWriter| {
        let picture = camera.fill(|rgb| rgb.fill(90));
        writer.add_row(&Row { task: "Look", values: &[Value::Rgb(&picture)], side: &[] }).unwrap();
        picture.as_ptr()
    };
    let waiting: std::collections::BTreeSet<_> = (0..3).map(|_| shoot(&mut writer)).collect();
    assert_eq!(waiting.len(), 3, "the encoder's thread has something else than what the camera wrote");
    std::thread::sleep(Duration::from_secs(1));
    assert!(waiting.contains(&shoot(&mut writer)), "what is encoded is held");
    writer.save_episode(serde_json::Map::new()).unwrap();
    drop(writer);
    assert_whole(folder.path());
}
