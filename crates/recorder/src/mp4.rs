//! Just enough of ISO 14496-12 and -15 to hold one H.264 track: progressive, the index in front
//! (so that a reader needs one pass), constant frame rate, starting at 0, no B-frames.

/// Media time units of one frame. The timescale is `fps * FRAME_DURATION`, so a frame's time is
/// exact (15360 a second at 30 fps, as ffmpeg has it).
pub(crate) const FRAME_DURATION: u32 = 512;

/// What every frame of a track has in common.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Track {
    pub(crate) width: u16,
    pub(crate) height: u16,
    pub(crate) fps: u32,
    /// Sequence and picture parameter sets, without start codes.
    pub(crate) sps: Vec<u8>,
    pub(crate) pps: Vec<u8>,
}

/// The frames of a track in order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Samples {
    /// Bytes of each frame.
    pub(crate) sizes: Vec<u32>,
    /// Which frames are key frames, rising.
    pub(crate) key_frames: Vec<u32>,
}

impl Samples {
    pub(crate) fn push(&mut self, size: u32, is_key: bool) {
        if is_key {
            self.key_frames.push(self.sizes.len() as u32);
        }
        self.sizes.push(size);
    }

    pub(crate) fn extend(&mut self, other: &Self) {
        let offset = self.sizes.len() as u32;
        self.key_frames.extend(other.key_frames.iter().map(|frame| frame + offset));
        self.sizes.extend(&other.sizes);
    }

    pub(crate) fn total_bytes(&self) -> u64 {
        self.sizes.iter().map(|size| u64::from(*size)).sum()
    }
}

/// All of the file that comes before the first frame's bytes; the frames follow back to back.
pub(crate) fn head(track: &Track, samples: &Samples) -> Vec<u8> {
    let kind = make_box(b"ftyp", &[b"isom", &512u32.to_be_bytes(), b"isomiso2avc1mp41"]);
    // The offset's width is fixed, so the index has the same length whatever it says.
    let data_offset = kind.len() + moov(track, samples, 0).len() + 16;
    let mut head = kind;
    head.extend(moov(track, samples, data_offset as u64));
    // Size 1 announces a 64-bit size after the type.
    head.extend(1u32.to_be_bytes());
    head.extend(b"mdat");
    head.extend((samples.total_bytes() + 16).to_be_bytes());
    head
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

fn moov(track: &Track, samples: &Samples, data_offset: u64) -> Vec<u8> {
    let timescale = (track.fps * FRAME_DURATION).to_be_bytes();
    let duration = (samples.sizes.len() as u64 * u64::from(FRAME_DURATION)).to_be_bytes();
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
    let minf = make_box(b"minf", &[&vmhd, &dinf, &sample_table(track, samples, data_offset)]);
    let mdia = make_box(b"mdia", &[&mdhd, &hdlr, &minf]);
    let trak = make_box(b"trak", &[&tkhd, &mdia]);
    make_box(b"moov", &[&mvhd, &trak])
}

fn sample_table(track: &Track, samples: &Samples, data_offset: u64) -> Vec<u8> {
    let count = samples.sizes.len() as u32;
    let stsd = full_box(b"stsd", 0, 0, &[&1u32.to_be_bytes(), &sample_entry(track)]);
    let stts = full_box(b"stts", 0, 0, &[&words(&[1, count, FRAME_DURATION])]);
    let key_frames: Vec<u32> = samples.key_frames.iter().map(|frame| frame + 1).collect();
    let stss = full_box(b"stss", 0, 0, &[&words(&[key_frames.len() as u32]), &words(&key_frames)]);
    // One chunk holds every frame.
    let stsc = full_box(b"stsc", 0, 0, &[&words(&[1, 1, count, 1])]);
    let stsz = full_box(b"stsz", 0, 0, &[&words(&[0, count]), &words(&samples.sizes)]);
    let co64 = full_box(b"co64", 0, 0, &[&1u32.to_be_bytes(), &data_offset.to_be_bytes()]);
    make_box(b"stbl", &[&stsd, &stts, &stss, &stsc, &stsz, &co64])
}

fn sample_entry(track: &Track) -> Vec<u8> {
    let Track { sps, pps, .. } = track;
    // Profile, constraints and level come from the sequence parameter set; lengths take four bytes.
    let profile = sps.get(1..4).unwrap_or(&[66, 0xc0, 30]);
    let avcc = make_box(
        b"avcC",
        &[&[1], profile, &[0xff, 0xe1], &(sps.len() as u16).to_be_bytes(), sps, &[1], &(pps.len() as u16).to_be_bytes(), pps],
    );
    // Primaries, transfer and matrix of BT.601 (525 lines), limited range.
    let colr = make_box(b"colr", &[b"nclx", &[0, 6, 0, 6, 0, 6, 0]]);
    let size = [track.width.to_be_bytes(), track.height.to_be_bytes()].concat();
    let resolution = words(&[0x48_0000, 0x48_0000]);
    let frames_per_sample = 1u16.to_be_bytes();
    // 24-bit colour, no palette.
    let depth = [0, 0x18, 0xff, 0xff];
    make_box(
        b"avc1",
        &[&[0; 6], &1u16.to_be_bytes(), &[0; 16], &size, &resolution, &[0; 4], &frames_per_sample, &[0; 32], &depth, &avcc, &colr],
    )
}
