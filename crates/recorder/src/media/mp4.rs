//! Just enough of ISO 14496-12 and -15 to write one track of video: constant frame rate, starting at 0.

use crate::Rate;

/// What a frame is divided into: its time is exact in units of a fraction's numerator times this a second
/// (15360 at 30 fps, as ffmpeg has it), of which it lasts the denominator times this.
const PARTS_OF_FRAME: u32 = 512;

/// What every frame of a track has in common.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Track {
    pub(crate) width: u16,
    pub(crate) height: u16,
    pub(crate) fps: Rate,
}

impl Track {
    /// Units of time a second, and how many a frame lasts.
    fn time(&self) -> (u32, u32) {
        let (frames, seconds) = self.fps.fraction();
        // Fewer where a frame that is shown some frames late would be too many units late for 32 bits.
        let parts = PARTS_OF_FRAME.min((1 << 27) / frames.max(seconds));
        (frames * parts, seconds * parts)
    }
}

/// The frames of a track in order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Samples {
    /// Bytes of each frame.
    pub(crate) sizes: Vec<u32>,
    /// Which frames are key frames, rising.
    pub(crate) key_frames: Vec<u32>,
    /// Where runs of frames that lie back to back begin in the file, and how many frames each has.
    pub(crate) runs: Vec<(u64, u32)>,
    /// How many frames later than it is decoded each is shown; empty when none is. The video begins
    /// when the first is shown.
    pub(crate) late: Vec<u32>,
}

impl Samples {
    pub(crate) fn push(&mut self, size: u32, is_key: bool) {
        if is_key {
            self.key_frames.push(self.sizes.len() as u32);
        }
        self.sizes.push(size);
    }

    /// Adds an episode whose frames lie at `offset`.
    pub(crate) fn extend(&mut self, episode: &Self, offset: u64) {
        let first = self.sizes.len() as u32;
        self.key_frames.extend(episode.key_frames.iter().map(|frame| frame + first));
        self.sizes.extend(&episode.sizes);
        self.runs.push((offset, episode.sizes.len() as u32));
    }
}

/// The box that says what kind of file this is; 32 bytes.
pub(crate) fn file_type() -> Vec<u8> {
    make_box(b"ftyp", &[b"isom", &512u32.to_be_bytes(), b"isomiso2avc1mp41"])
}

/// The header, 16 bytes long, of a box of frames; `size` counts the header.
pub(crate) fn data_header(size: u64) -> Vec<u8> {
    // Size 1 announces a 64-bit size after the type.
    [&1u32.to_be_bytes()[..], b"mdat", &size.to_be_bytes()].concat()
}

/// The header of a box of `size` bytes that readers skip; 0 stands for all the rest of the file.
pub(crate) fn skipped_header(size: u32) -> Vec<u8> {
    [&size.to_be_bytes()[..], b"free"].concat()
}

fn make_box(kind: &[u8; 4], parts: &[&[u8]]) -> Vec<u8> {
    let size = 8 + parts.iter().map(|part| part.len()).sum::<usize>();
    let mut bytes = Vec::with_capacity(size);
    bytes.extend((size as u32).to_be_bytes());
    bytes.extend(kind);
    parts.iter().for_each(|part| bytes.extend(*part));
    bytes
}

/// A box that begins with a version and flags.
fn full_box(kind: &[u8; 4], version: u8, flags: u32, parts: &[&[u8]]) -> Vec<u8> {
    let word = ((u32::from(version) << 24) | flags).to_be_bytes();
    let mut all: Vec<&[u8]> = vec![&word];
    all.extend(parts);
    make_box(kind, &all)
}

fn words(values: &[u32]) -> Vec<u8> {
    values.iter().flat_map(|value| value.to_be_bytes()).collect()
}

const UNITY_MATRIX: [u32; 9] = [0x10000, 0, 0, 0, 0x10000, 0, 0, 0, 0x4000_0000];

/// The index of the file. `entry` is the sample entry: what a decoder has to know.
pub(crate) fn moov(track: &Track, entry: &[u8], samples: &Samples) -> Vec<u8> {
    let (timescale, frame_duration) = track.time();
    let timescale = timescale.to_be_bytes();
    let duration = (samples.sizes.len() as u64 * u64::from(frame_duration)).to_be_bytes();
    let matrix = words(&UNITY_MATRIX);
    let no_dates = [0u8; 16];

    let mvhd = full_box(
        b"mvhd",
        1,
        0,
        &[
            &no_dates,
            &timescale,
            &duration,
            &0x10000u32.to_be_bytes(),
            &0x100u16.to_be_bytes(),
            &[0; 10],
            &matrix,
            &[0; 24],
            &2u32.to_be_bytes(),
        ],
    );
    let size = words(&[u32::from(track.width) << 16, u32::from(track.height) << 16]);
    // Flags: enabled, in the movie.
    let tkhd = full_box(b"tkhd", 1, 3, &[&no_dates, &1u32.to_be_bytes(), &[0; 4], &duration, &[0; 16], &matrix, &size]);
    // Language "und", packed five bits a letter.
    let mdhd = full_box(b"mdhd", 1, 0, &[&no_dates, &timescale, &duration, &0x55c4u16.to_be_bytes(), &[0; 2]]);
    let hdlr = full_box(b"hdlr", 0, 0, &[&[0; 4], b"vide", &[0; 12], b"video\0"]);
    let vmhd = full_box(b"vmhd", 0, 1, &[&[0; 8]]);
    // Flag 1: the data is in this file.
    let url = full_box(b"url ", 0, 1, &[]);
    let dinf = make_box(b"dinf", &[&full_box(b"dref", 0, 0, &[&1u32.to_be_bytes(), &url])]);
    let minf = make_box(b"minf", &[&vmhd, &dinf, &sample_table(entry, samples, frame_duration)]);
    let mdia = make_box(b"mdia", &[&mdhd, &hdlr, &minf]);
    let edts = if samples.late.is_empty() {
        Vec::new()
    } else {
        // A frame is decoded at its number; the first to be shown is as late as it can be.
        let first = samples.late.iter().zip(0u64..).map(|(late, decoded)| decoded + u64::from(*late)).min().unwrap_or(0);
        let start = (first * u64::from(frame_duration)).to_be_bytes();
        make_box(b"edts", &[&full_box(b"elst", 1, 0, &[&1u32.to_be_bytes(), &duration, &start, &0x10000u32.to_be_bytes()])])
    };
    let trak = make_box(b"trak", &[&tkhd, &edts, &mdia]);
    make_box(b"moov", &[&mvhd, &trak])
}

fn sample_table(entry: &[u8], samples: &Samples, frame_duration: u32) -> Vec<u8> {
    let count = samples.sizes.len() as u32;
    let stsd = full_box(b"stsd", 0, 0, &[&1u32.to_be_bytes(), entry]);
    let stts = full_box(b"stts", 0, 0, &[&words(&[1, count, frame_duration])]);
    let ctts = if samples.late.is_empty() {
        Vec::new()
    } else {
        let late: Vec<u32> = samples.late.iter().flat_map(|late| [1, late * frame_duration]).collect();
        full_box(b"ctts", 0, 0, &[&count.to_be_bytes(), &words(&late)])
    };
    let key_frames: Vec<u32> = samples.key_frames.iter().map(|frame| frame + 1).collect();
    let stss = full_box(b"stss", 0, 0, &[&words(&[key_frames.len() as u32]), &words(&key_frames)]);
    // A chunk a run: its number, its frames, the only sample entry.
    let chunks: Vec<u32> = samples.runs.iter().zip(1..).flat_map(|((_, frames), chunk)| [chunk, *frames, 1]).collect();
    let stsc = full_box(b"stsc", 0, 0, &[&words(&[samples.runs.len() as u32]), &words(&chunks)]);
    let stsz = full_box(b"stsz", 0, 0, &[&words(&[0, count]), &words(&samples.sizes)]);
    let offsets: Vec<u8> = samples.runs.iter().flat_map(|(offset, _)| offset.to_be_bytes()).collect();
    let co64 = full_box(b"co64", 0, 0, &[&words(&[samples.runs.len() as u32]), &offsets]);
    make_box(b"stbl", &[&stsd, &stts, &ctts, &stss, &stsc, &stsz, &co64])
}

/// The sample entry of H.264 with these parameter sets (without start codes).
pub(crate) fn avc1_entry(width: u16, height: u16, sps: &[u8], pps: &[u8]) -> Vec<u8> {
    // Profile, constraints and level come from the sequence parameter set; lengths take four bytes.
    let profile = sps.get(1..4).unwrap_or(&[66, 0xc0, 30]);
    let avcc = make_box(
        b"avcC",
        &[&[1], profile, &[0xff, 0xe1], &(sps.len() as u16).to_be_bytes(), sps, &[1], &(pps.len() as u16).to_be_bytes(), pps],
    );
    // Primaries, transfer and matrix of BT.601 (525 lines), limited range.
    let colr = make_box(b"colr", &[b"nclx", &[0, 6, 0, 6, 0, 6, 0]]);
    let size = [width.to_be_bytes(), height.to_be_bytes()].concat();
    let resolution = words(&[0x48_0000, 0x48_0000]);
    let frames_per_sample = 1u16.to_be_bytes();
    // 24-bit colour, no palette.
    let depth = [0, 0x18, 0xff, 0xff];
    make_box(
        b"avc1",
        &[&[0; 6], &1u16.to_be_bytes(), &[0; 16], &size, &resolution, &[0; 4], &frames_per_sample, &[0; 32], &depth, &avcc, &colr],
    )
}
