//! An episode on the Hub is read from parts of its files, as if they were here.
#![cfg(feature = "datasets")]
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test stops at the first surprise")]
#![allow(clippy::print_stdout, reason = "its figures are to be seen")]

#[allow(dead_code, reason = "each test uses a part of it")]
mod streamed;

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::path::Path;

use parquet::file::reader::{FileReader, SerializedFileReader};
use sinew::{DatasetReader, Loader, Windows, episode_frames};
use sinew_recorder::Version;
use sinew_testkit::hub::{Fault, Harm, HubOptions as Serving};
use streamed::{older, place, record, serve, stream, thousand, times};

fn files(folder: &Path, all: &mut BTreeSet<String>) {
    for path in fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()) {
        if path.is_dir() {
            files(&path, all);
        } else {
            all.insert(path.to_string_lossy().into_owned());
        }
    }
}

#[test]
fn rows_and_images_are_those_of_the_files_bit_for_bit() {
    let folder = tempfile::tempdir().unwrap();
    let raw = folder.path().join("raw");
    record(&raw, 6, 11);
    let make: [(&str, &dyn Fn(&Path)); 4] = [
        ("as recorded", &|to| record(to, 6, 11)),
        ("v3.0 as a tool lays it out", &|to| times(&raw, 2, to)),
        ("v2.1", &|to| older(&raw, Version::V21, to)),
        ("v2.0", &|to| older(&raw, Version::V20, to)),
    ];
    for (what, make) in make {
        let (root, cache) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let here = place(root.path());
        make(&here);
        let server = serve(root.path(), Serving::default());
        let (there, here) = (stream(&server, cache.path()), DatasetReader::open(&here).unwrap());
        assert_eq!(there.episodes(), here.episodes(), "{what}");
        assert_eq!(there.stats().unwrap(), here.stats().unwrap(), "{what}");
        let camera = here.cameras().next().unwrap().to_owned();
        let windows = Windows { deltas_s: [(camera, vec![-0.2, 0.0, 0.1])].into(), cameras: None };
        for windows in [Windows::default(), windows] {
            let (mut ours, mut theirs) = (Loader::new(&there, &windows).unwrap(), Loader::new(&here, &windows).unwrap());
            // In an order that jumps between files and back.
            for at in 0..here.total_frames() {
                let index = at * 29 % here.total_frames();
                assert!(ours.item(index).unwrap() == theirs.item(index).unwrap(), "{what}: row {index}");
            }
        }
        for episode in [0, 3] {
            assert!(there.rows(episode, 2..7).unwrap() == here.rows(episode, 2..7).unwrap(), "{what}: rows of {episode}");
            let mut theirs = Loader::new(&here, &Windows::default()).unwrap();
            let first = here.episode(episode).unwrap().first_index;
            for (index, item) in (first..).zip(episode_frames(&there, episode, &Windows::default()).unwrap()) {
                assert!(item.unwrap() == theirs.item(index).unwrap(), "{what}: row {index}");
            }
        }
        let mut cached = BTreeSet::new();
        files(cache.path(), &mut cached);
        assert!(!cached.iter().any(|file| file.contains("/data/") || file.contains("/videos/")), "{what}: {cached:?}");
        // The token is for the Hub alone.
        let requests = server.requests();
        let of_store = |path: &str| path.starts_with("/cdn/");
        assert!(requests.iter().any(|request| of_store(&request.path)), "{what}");
        assert!(requests.iter().all(|request| request.authorized != of_store(&request.path)), "{what}");
    }
}

#[test]
fn what_goes_wrong_on_the_way_is_mended_or_told() {
    let (root, cache) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let here = place(root.path());
    record(&here, 3, 20);
    let server = serve(root.path(), Serving::default());
    let here = DatasetReader::open(&here).unwrap();
    let mut theirs = Loader::new(&here, &Windows::default()).unwrap();
    for harm in [
        Harm::ExpiredUrl,
        Harm::Status { status: 404, code: None, message: None, retry_after_s: None },
        Harm::CutAnswer { at: Some(10), reset: false },
        Harm::CutAnswer { at: Some(10), reset: true },
        Harm::Refuse,
    ] {
        let there = stream(&server, cache.path());
        let mut ours = Loader::new(&there, &Windows::default()).unwrap();
        assert!(ours.item(0).unwrap() == theirs.item(0).unwrap());
        server.fault(Fault::on("/cdn/*", harm.clone()).times(2));
        assert!(ours.item(45).unwrap() == theirs.item(45).unwrap(), "{harm:?}");
        server.clear_faults();
    }
    for (harm, expected) in [
        (Harm::ChangedEtag, "HTTP 200"),
        (Harm::WrongLength { by: 3 }, "verifying"),
        (Harm::Status { status: 404, code: None, message: None, retry_after_s: None }, "404"),
    ] {
        let there = stream(&server, cache.path());
        let mut ours = Loader::new(&there, &Windows::default()).unwrap();
        ours.item(0).unwrap();
        server.fault(Fault::on("/cdn/*", harm.clone()));
        let error = ours.item(45).unwrap_err();
        let (mut said, mut cause) = (error.to_string(), std::error::Error::source(&error));
        while let Some(inner) = cause {
            said = format!("{said}: {inner}");
            cause = inner.source();
        }
        assert!(said.contains(expected), "{harm:?}: {said}");
        server.clear_faults();
        // What failed is not remembered as failed.
        assert!(ours.item(45).unwrap() == theirs.item(45).unwrap(), "{harm:?}");
    }
}

/// Bytes of the frames `first..first + count` of a video, by its table of sizes.
fn frame_bytes(video: &Path, first: usize, count: usize) -> u64 {
    let bytes = fs::read(video).unwrap();
    let at = bytes.windows(4).position(|word| word == b"stsz").unwrap() + 4;
    let word = |at: usize| u64::from(u32::from_be_bytes(*bytes[at..].first_chunk().unwrap()));
    assert_eq!(word(at + 4), 0, "frames have sizes of their own");
    (first..first + count).map(|frame| word(at + 12 + 4 * frame)).sum()
}

/// Bytes of the row group and of the groups of pictures that the frames of an episode are in.
fn asked_for(root: &Path, dataset: &DatasetReader, episode: u64) -> u64 {
    let episode = dataset.episode(episode).unwrap();
    let table = SerializedFileReader::new(File::open(root.join(&episode.data_path)).unwrap()).unwrap();
    let mut rows = 0;
    let group = table.metadata().row_groups().iter().find(|group| {
        rows += group.num_rows() as u64;
        rows > episode.rows_before
    });
    let first = |from_s: f64| (from_s * f64::from(dataset.fps())).round() as usize;
    let videos = episode.videos.iter().map(|span| frame_bytes(&root.join(&span.path), first(span.from_s), episode.length as usize));
    group.unwrap().compressed_size() as u64 + videos.sum::<u64>()
}

#[test]
fn one_of_a_thousand_episodes_costs_little_more_than_itself() {
    let (root, cache) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let folder = thousand(root.path());
    let server = serve(root.path(), Serving::default());
    let there = stream(&server, cache.path());
    assert_eq!(there.episodes().len(), 1000);
    let opening = server.requests();
    println!("opening: {} requests, {} bytes", opening.len(), server.bytes_sent());
    for request in &opening {
        println!("  {} {} {} bytes", request.method, request.path.split('?').next().unwrap_or_default(), request.sent);
    }
    assert!(opening.len() <= 8, "{opening:#?}");

    // The index of a file comes with the first that is read of it.
    let mut loader = Loader::new(&there, &Windows::default()).unwrap();
    let [before, episode] = [516, 517].map(|episode| there.episode(episode).unwrap().clone());
    let paths = |episode: &sinew_recorder::Episode| episode.videos.iter().map(|span| span.path.clone()).collect::<Vec<_>>();
    assert_eq!((before.data_path.clone(), paths(&before)), (episode.data_path.clone(), paths(&episode)), "they share their files");
    server.forget_requests();
    loader.item(before.first_index).unwrap();
    println!("the first frame, with the index of each file: {} requests, {} bytes", server.requests().len(), server.bytes_sent());

    server.forget_requests();
    let here = DatasetReader::open(&folder).unwrap();
    let mut theirs = Loader::new(&here, &Windows::default()).unwrap();
    for index in episode.first_index..episode.first_index + episode.length {
        loader.expect(517, index - episode.first_index..episode.length, 1 << 20).unwrap();
        assert!(loader.item(index).unwrap() == theirs.item(index).unwrap(), "row {index}");
    }
    let (sent, asked) = (server.bytes_sent(), asked_for(&folder, &here, 517));
    println!(
        "an episode: {} requests, {sent} bytes, {:.3} times its row group and groups of pictures",
        server.requests().len(),
        sent as f64 / asked as f64
    );
    assert!(sent as f64 <= 1.2 * asked as f64, "{sent} of {asked} bytes: {:#?}", server.requests());
    assert!(sent >= asked, "{sent} of {asked}");

    // A single frame of it costs no more than what it needs: a row group, and a group of pictures of each camera.
    let single = there.episode(530).unwrap();
    server.forget_requests();
    loader.item(single.first_index + 4).unwrap();
    println!("a frame: {} requests, {} bytes", server.requests().len(), server.bytes_sent());
    assert!(server.bytes_sent() < asked / 2, "{:#?}", server.requests());

    let whole: u64 = episode.videos.iter().map(|span| fs::metadata(folder.join(&span.path)).unwrap().len()).sum();
    println!("its files have {} bytes", whole + fs::metadata(folder.join(&episode.data_path)).unwrap().len());
}
