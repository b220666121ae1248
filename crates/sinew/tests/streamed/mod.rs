//! Datasets that are made for a test, and a fake Hub that serves them.

use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use sinew::open_dataset_streaming_of;
use sinew_core::{EpisodeEnd, EpisodeStart, Frame, FrameSink, Outcome, RobotDescription, Timestamp};
use sinew_hub::{Hub, HubOptions, Token};
use sinew_recorder::{Conversion, DatasetReader, DatasetRecorder, Output, RecorderOptions, Version, plan_convert, plan_merge};
use sinew_testkit::hub::{FakeHub, HubOptions as Serving, Rights};

pub const NAME: &str = "someone/pushes";

/// Records `episodes` episodes of about `frames` frames of two small cameras.
pub fn record(root: &Path, episodes: u64, frames: u64) {
    let robot = RobotDescription::from_toml("two_joint_arm.toml", include_str!("../../../recorder/examples/two_joint_arm.toml")).unwrap();
    let mut recorder = DatasetRecorder::create(root, &robot, 30, RecorderOptions::default()).unwrap();
    for episode in 0..episodes {
        let task = ["Push the cube", "Touch the marker"][(episode % 2) as usize];
        recorder.begin(&EpisodeStart { attempt: episode, seed: episode, task: task.to_owned() }).unwrap();
        for tick in 0..frames + episode % 3 {
            let mut frame = Frame { tick, wanted: vec![0.3, 0.4], sent: vec![0.3, 0.4], ..Frame::for_robot(&robot) };
            frame.observation.tick = tick;
            frame.observation.state.set_all(&[(tick as f64 * 0.1).sin(), 0.5 + 0.01 * episode as f64], Timestamp::ZERO);
            for image in &mut frame.observation.images {
                paint(image, episode * 1000 + tick);
            }
            recorder.frame(&frame).unwrap();
        }
        recorder.end(&EpisodeEnd { outcome: Outcome::Success, keep: true, lost_frames: 0 }).unwrap();
    }
}

/// Blocks of colours that no other frame has, and that compress little.
fn paint(image: &mut sinew_core::Image, seed: u64) {
    let width = image.width as usize;
    for (at, pixel) in image.rgb.chunks_exact_mut(3).enumerate() {
        let block = (at % width / 4) as u64 + 1000 * (at / width / 4) as u64;
        let mixed = (block + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15).wrapping_mul(seed + 1);
        pixel.copy_from_slice(&[(mixed >> 40) as u8, (mixed >> 48) as u8, (mixed >> 56) as u8]);
    }
}

/// The dataset in `root` so many times, as one of which a tool has laid out the files.
pub fn times(root: &Path, count: usize, to: &Path) {
    let plan = plan_merge(&vec![root.to_owned(); count]).unwrap();
    plan.run(&Output::Folder(to.to_owned()), &mut |_| ControlFlow::Continue(())).unwrap();
}

/// The dataset in `root` in an older version of the format.
pub fn older(root: &Path, version: Version, to: &Path) {
    let conversion = Conversion { version: Some(Version::V21), cameras: None };
    plan_convert(root, &conversion).unwrap().run(&Output::Folder(to.to_owned()), &mut |_| ControlFlow::Continue(())).unwrap();
    if version == Version::V20 {
        let path = to.join("meta/info.json");
        let info = std::fs::read_to_string(&path).unwrap();
        std::fs::write(&path, info.replace("v2.1", "v2.0")).unwrap();
        std::fs::remove_file(to.join("meta/episodes_stats.jsonl")).unwrap();
    }
    assert_eq!(DatasetReader::open(to).unwrap().version(), version);
}

/// Where in the folder `root` of a fake Hub the dataset goes; the folder above is there.
pub fn place(root: &Path) -> PathBuf {
    let folder = root.join("datasets").join(NAME);
    std::fs::create_dir_all(folder.parent().unwrap()).unwrap();
    folder
}

/// A dataset of a thousand short episodes, as a tool lays them out, in the folder `root` of a fake Hub.
pub fn thousand(root: &Path) -> PathBuf {
    let (raw, folder) = (root.join("raw"), place(root));
    record(&raw, 40, 24);
    times(&raw, 25, &folder);
    folder
}

/// A fake Hub with what is in the folder `root`, whose large files are on another host, as the Hub has them.
pub fn serve(root: &Path, serving: Serving) -> FakeHub {
    let server = FakeHub::with(Serving { cdn_host: Some("127.0.0.2".to_owned()), ..serving }).unwrap();
    server.token("hf_reader", "reader", Rights::Read);
    server.load(root).unwrap();
    server
}

/// The dataset of a fake Hub, with a token and a cache of its own.
pub fn stream(server: &FakeHub, cache: &Path) -> DatasetReader {
    let token = Token::new("hf_reader");
    let hub = Hub::new(HubOptions { endpoint: server.endpoint(), cache_dir: cache.to_owned(), token, ..HubOptions::from_env() });
    open_dataset_streaming_of(&hub, NAME, Arc::new(|_| {})).unwrap()
}
