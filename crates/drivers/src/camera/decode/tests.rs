use image::ExtendedColorType;
use image::codecs::jpeg::JpegEncoder;
use proptest::prelude::*;
use sinew_core::Timestamp;

use super::*;
use crate::camera::{draw_counter, read_counter};

fn picture(format: PixelFormat, width: u32, height: u32, stride: usize, bytes: &[u8]) -> Picture<'_> {
    Picture { format, width, height, stride, bytes, captured_at: Timestamp::ZERO, sequence: 0 }
}

fn decoded(options: DecodeOptions, picture: &Picture<'_>) -> Result<Vec<u8>, DecodeError> {
    let mut decoder = Decoder::new(options);
    let (width, height) = decoder.size(picture)?;
    let mut rgb = vec![77; (width * height * 3) as usize];
    decoder.decode(picture, &mut rgb).map(|()| rgb)
}

/// Smooth, with a number, and noise of `noise` grades.
fn scene(width: u32, height: u32, number: u32, noise: u64) -> Vec<u8> {
    let mut random = fastrand::Rng::with_seed(u64::from(number));
    let mut rgb: Vec<u8> = (0..height)
        .flat_map(|y| (0..width).flat_map(move |x| [x * 200 / width, y * 200 / height, (x + y) * 100 / (width + height)]))
        .map(|value| value as u8 + random.u64(..=noise) as u8)
        .collect();
    draw_counter(&mut rgb, width, height, number);
    rgb
}

fn jpeg_of(rgb: &[u8], width: u32, height: u32) -> Vec<u8> {
    let mut jpeg = Vec::new();
    JpegEncoder::new_with_quality(&mut jpeg, 85).encode(rgb, width, height, ExtendedColorType::Rgb8).unwrap();
    jpeg
}

/// The JPEG without its Huffman tables, as UVC cameras send it.
fn without_tables(jpeg: &[u8]) -> Vec<u8> {
    let (mut out, mut at) = (jpeg[..2].to_vec(), 2);
    while jpeg[at + 1] != 0xda {
        let next = at + 2 + usize::from(u16::from_be_bytes([jpeg[at + 2], jpeg[at + 3]]));
        if jpeg[at + 1] != 0xc4 {
            out.extend_from_slice(&jpeg[at..next]);
        }
        at = next;
    }
    out.extend_from_slice(&jpeg[at..]);
    out
}

fn read_jpeg(bytes: &[u8]) -> Result<Vec<u8>, DecodeError> {
    decoded(DecodeOptions::default(), &picture(PixelFormat::Mjpeg, 0, 0, 0, bytes))
}

#[test]
fn a_jpeg_is_read_with_and_without_its_tables() {
    for (width, height) in [(640, 480), (64, 48), (33, 17), (1, 1)] {
        let jpeg = jpeg_of(&scene(width, height, 0xdead_beef, 3), width, height);
        let rgb = read_jpeg(&jpeg).unwrap();
        let reference = image::load_from_memory(&jpeg).unwrap().to_rgb8();
        let worst = rgb.iter().zip(reference.as_raw()).map(|(a, b)| a.abs_diff(*b)).max().unwrap();
        assert!(worst <= 4, "{width} by {height}: a byte is {worst} off");
        if width >= 64 {
            assert_eq!(read_counter(&rgb, width, height), Some(0xdead_beef));
        }
        let bare = without_tables(&jpeg);
        assert!(bare.len() + 400 < jpeg.len() + 20, "the tables are gone");
        assert_eq!(read_jpeg(&bare).unwrap(), rgb);
        // A device's buffer is longer than its picture.
        let padded: Vec<u8> = bare.iter().copied().chain([0; 999]).collect();
        assert_eq!(read_jpeg(&padded).unwrap(), rgb);
    }
    let mut grey = Vec::new();
    JpegEncoder::new(&mut grey).encode(&[200; 64], 8, 8, ExtendedColorType::L8).unwrap();
    assert!(read_jpeg(&grey).unwrap().iter().all(|byte| byte.abs_diff(200) < 4));
}

/// JPEGs of OpenCV, 4:2:0 and 4:2:2, with restart markers and without: `scripts/make_jpeg_golden.py`.
const OPENCV: [&[u8]; 3] = [include_bytes!("golden/420.jpg"), include_bytes!("golden/422_restarts.jpg"), include_bytes!("golden/444.jpg")];

#[test]
fn a_picture_that_ends_too_early_is_none_wherever_it_ends() {
    let ours = jpeg_of(&scene(96, 80, 7, 20), 96, 80);
    for jpeg in OPENCV.into_iter().chain([&ours[..]]) {
        read_jpeg(jpeg).unwrap();
        let scan = jpeg.windows(2).position(|pair| pair == [0xff, 0xda]).unwrap() + 14;
        for cut in (2..scan).step_by(7).chain(scan..jpeg.len() - 2) {
            assert!(read_jpeg(&jpeg[..cut]).is_err(), "cut off after {cut} of {}", jpeg.len());
            // A device that lost the rest may end it properly. Half a marker's bytes would make another one.
            if cut + 6 < jpeg.len() - 2 && jpeg[cut - 1] != 0xff {
                let ended: Vec<u8> = jpeg[..cut].iter().copied().chain([0xff, 0xd9]).collect();
                assert!(read_jpeg(&ended).is_err(), "cut off after {cut} of {} and ended", jpeg.len());
            }
        }
    }
}

#[test]
fn a_picture_that_lost_a_packet_is_none() {
    let (mut lost, mut unseen) = (0, 0);
    for jpeg in OPENCV {
        let whole = read_jpeg(jpeg).unwrap();
        let scan = jpeg.windows(2).position(|pair| pair == [0xff, 0xda]).unwrap() + 14;
        for at in (scan..jpeg.len() - 300).step_by(11) {
            let torn: Vec<u8> = jpeg[..at].iter().chain(&jpeg[at + 200..]).copied().collect();
            lost += 1;
            unseen += usize::from(read_jpeg(&torn).is_ok_and(|rgb| rgb != whole));
        }
    }
    assert!(lost > 100 && unseen == 0, "{unseen} of {lost}");
}

#[test]
fn what_is_no_jpeg_is_refused_by_what_it_is() {
    let jpeg = jpeg_of(&scene(64, 48, 7, 2), 64, 48);
    for (bytes, expected) in [
        (&b""[..], "found nothing"),
        (b"\x89PNG\r\n\x1a\n", "ff d8"),
        (&jpeg[..2], "headers"),
        (&[0xff, 0xd8, 0xff, 0xd9], "expected a header"),
    ] {
        let error = read_jpeg(bytes).unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
    }
    let mut progressive = jpeg.clone();
    let at = progressive.windows(2).position(|pair| pair == [0xff, 0xc0]).unwrap();
    progressive[at + 1] = 0xc2;
    assert!(read_jpeg(&progressive).unwrap_err().to_string().contains("baseline"));
    let mut joined = jpeg[..jpeg.len() - 40].to_vec();
    joined.extend_from_slice(&jpeg);
    assert!(read_jpeg(&joined).unwrap_err().to_string().contains("middle"));
}

proptest! {
    #[test]
    fn a_damaged_jpeg_is_a_picture_or_an_error(at in 2_usize..5000, value: u8, tables: bool) {
        let jpeg = jpeg_of(&scene(96, 80, 9, 9), 96, 80);
        let mut jpeg = if tables { jpeg } else { without_tables(&jpeg) };
        let at = at % jpeg.len();
        jpeg[at] = value;
        let _ = read_jpeg(&jpeg);
    }
}

/// What BT.601 says, in floating point.
fn bt601(y: u8, u: u8, v: u8) -> [f64; 3] {
    let (y, u, v) = (1.164_383 * (f64::from(y) - 16.0), f64::from(u) - 128.0, f64::from(v) - 128.0);
    [y + 1.596_027 * v, y - 0.391_762 * u - 0.812_968 * v, y + 2.017_232 * u].map(|value| value.clamp(0.0, 255.0))
}

#[test]
fn colours_are_those_of_bt601() {
    let mut worst = 0.0_f64;
    for u in (0..=255).step_by(5) {
        for v in (0..=255).step_by(5) {
            let row: Vec<u8> = (0..=255_u8).flat_map(|y| if y % 2 == 0 { [y, u] } else { [y, v] }).collect();
            let rgb = decoded(DecodeOptions::default(), &picture(PixelFormat::Yuyv, 256, 1, 0, &row)).unwrap();
            for (y, pixel) in rgb.chunks(3).enumerate() {
                for (found, expected) in pixel.iter().zip(bt601(y as u8, u, v)) {
                    worst = worst.max((f64::from(*found) - expected).abs());
                }
            }
        }
    }
    assert!(worst <= 1.5, "a byte is {worst} off");
    let one = |y, u, v| decoded(DecodeOptions::default(), &picture(PixelFormat::Yuyv, 2, 1, 0, &[y, u, y, v])).unwrap()[..3].to_vec();
    assert_eq!((one(16, 128, 128), one(235, 128, 128)), (vec![0; 3], vec![255; 3]));
}

#[test]
fn rows_may_be_longer_than_their_pixels_and_no_shorter() {
    // 70 is no multiple of what is turned at once.
    let (width, height, stride) = (70_u32, 4_u32, 160_usize);
    let mut random = fastrand::Rng::with_seed(1);
    let bytes: Vec<u8> = std::iter::repeat_with(|| random.u8(..)).take(stride * 6).collect();
    let tight =
        |row_bytes: usize, rows: usize| -> Vec<u8> { bytes.chunks(stride).take(rows).flat_map(|row| row[..row_bytes].to_vec()).collect() };
    for (format, row_bytes, rows) in [
        (PixelFormat::Yuyv, 140, 4),
        (PixelFormat::Nv12, 70, 6),
        (PixelFormat::Grey, 70, 4),
        (PixelFormat::Grey16, 140, 4),
        (PixelFormat::Depth16, 140, 4),
    ] {
        let options = DecodeOptions { depth_range_m: Some((0.1, 40.0)), ..DecodeOptions::default() };
        let wide = decoded(options, &picture(format, width, height, stride, &bytes)).unwrap();
        let tight = tight(row_bytes, rows);
        assert_eq!(wide, decoded(options, &picture(format, width, height, 0, &tight)).unwrap(), "{format:?}");
        let short = decoded(options, &picture(format, width, height, 0, &tight[..tight.len() - 1])).unwrap_err();
        assert!(matches!(short, DecodeError::Short { expected, found, .. } if expected == tight.len() && found + 1 == expected), "{short}");
        assert!(decoded(options, &picture(format, width, height, row_bytes - 1, &bytes)).is_err());
    }
    for (format, width, height) in
        [(PixelFormat::Yuyv, 3, 2), (PixelFormat::Nv12, 2, 3), (PixelFormat::Rgb, 0, 2), (PixelFormat::Grey, 9000, 1)]
    {
        assert!(decoded(DecodeOptions::default(), &picture(format, width, height, 0, &bytes)).is_err());
    }
}

#[test]
fn nv12_shares_colours_among_four_pixels() {
    let bytes = [10, 60, 110, 160, 20, 70, 120, 170, 90, 200, 140, 50];
    let rgb = decoded(DecodeOptions::default(), &picture(PixelFormat::Nv12, 4, 2, 0, &bytes)).unwrap();
    for (i, pixel) in rgb.chunks(3).enumerate() {
        let (u, v) = if i % 4 < 2 { (90, 200) } else { (140, 50) };
        let close = pixel.iter().zip(bt601(bytes[i], u, v)).all(|(found, expected)| (f64::from(*found) - expected).abs() <= 1.5);
        assert!(close, "{i}: {pixel:?}");
    }
}

#[test]
fn greys_and_depths_are_shown_on_a_fixed_scale() {
    let words = |words: [u16; 4]| words.into_iter().flat_map(u16::to_le_bytes).collect::<Vec<u8>>();
    let shown = |options, format, bytes: &[u8]| {
        decoded(options, &picture(format, 4, 1, 0, bytes)).map(|rgb| rgb.iter().step_by(3).copied().collect::<Vec<u8>>())
    };
    let greys = words([0, 0x0fff, 0x8000, 0xffff]);
    assert_eq!(shown(DecodeOptions::default(), PixelFormat::Grey16, &greys).unwrap(), [0, 15, 128, 255]);
    let twelve = DecodeOptions { grey16_bits: 12, ..DecodeOptions::default() };
    assert_eq!(shown(twelve, PixelFormat::Grey16, &greys).unwrap(), [0, 255, 255, 255]);
    let depths = words([0, 500, 1250, 9000]);
    let range = DecodeOptions { depth_range_m: Some((0.5, 2.0)), ..DecodeOptions::default() };
    assert_eq!(shown(range, PixelFormat::Depth16, &depths).unwrap(), [0, 255, 128, 1]);
    assert_eq!(shown(DecodeOptions::default(), PixelFormat::Depth16, &depths).unwrap_err(), DecodeError::NoDepthRange);
}

#[test]
fn distances_stay_what_they_are() {
    let known: [u16; 6] = [0, 1, 255, 256, 3000, u16::MAX];
    let tight: Vec<u8> = known.into_iter().flat_map(u16::to_le_bytes).collect();
    let wide: Vec<u8> = tight.chunks(6).flat_map(|row| row.iter().copied().chain([9; 4])).collect();
    let mut decoder = Decoder::new(DecodeOptions { grey16_bits: 12, ..DecodeOptions::default() });
    for format in [PixelFormat::Depth16, PixelFormat::Grey16] {
        for (stride, bytes) in [(0, &tight), (6, &tight), (10, &wide)] {
            let mut mm = vec![7; 12];
            decoder.distances(&picture(format, 3, 2, stride, bytes), &mut mm).unwrap();
            assert_eq!(mm, tight);
        }
        let cut = decoder.distances(&picture(format, 3, 2, 0, &tight[..11]), &mut [0; 12]).unwrap_err();
        assert!(matches!(cut, DecodeError::Short { expected: 12, found: 11, .. }), "{cut}");
        assert!(decoder.distances(&picture(format, 3, 2, 0, &tight), &mut [0; 10]).is_err());
    }
    let colours = decoder.distances(&picture(PixelFormat::Rgb, 2, 2, 0, &tight), &mut [0; 8]).unwrap_err();
    assert_eq!(colours.to_string(), "reading distances: expected them in Z16 or Y16, found a picture in RGB");
    assert!(decoder.decode(&picture(PixelFormat::Depth16, 3, 2, 0, &tight), &mut [0; 18]).is_err());

    let (greys, range) = show_distances(&tight[..10]);
    assert_eq!(greys.chunks(3).map(|grey| grey[0]).collect::<Vec<_>>(), [0, 255, 233, 233, 1]);
    assert_eq!((range, show_distances(&[0; 4])), (Some((1, 3000)), (vec![0; 6], None)));
    // All as far as each other.
    assert_eq!(show_distances(&[5, 0, 5, 0]), (vec![1; 6], Some((5, 5))));
}
