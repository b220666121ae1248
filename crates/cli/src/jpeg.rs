//! JPEGs, as LeKiwi's host sends them to its clients: with red and blue exchanged. LeRobot's host gives RGB to an encoder that
//! takes BGR, and its client takes what a decoder gives as BGR for RGB (`lerobot/robots/lekiwi` of LeRobot 0.6.1).

use std::io::Cursor;

use image::codecs::jpeg::{JpegDecoder, JpegEncoder};
use image::{ColorType, ExtendedColorType, ImageDecoder};
use sinew_core::Image;

/// LeRobot's host takes it.
const QUALITY: u8 = 90;
/// What a picture may take in memory: somebody else made it.
const MOST_BYTES: u64 = 64 << 20;

/// The JPEG of an image; `None` where that can't be made, as of one that has no colours.
pub fn encode(image: &Image) -> Option<Vec<u8>> {
    let bytes = (image.width as usize).checked_mul(image.height as usize)?.checked_mul(3)?;
    if image.rgb.len() != bytes {
        return None;
    }
    let (mut jpeg, mut bgr) = (Vec::new(), image.rgb.to_vec());
    exchange(&mut bgr);
    JpegEncoder::new_with_quality(&mut jpeg, QUALITY).encode(&bgr, image.width, image.height, ExtendedColorType::Rgb8).ok()?;
    Some(jpeg)
}

/// Red and blue.
fn exchange(pixels: &mut [u8]) {
    pixels.chunks_exact_mut(3).for_each(|pixel| pixel.swap(0, 2));
}

/// Width, height and RGB bytes of a JPEG; the error says what is wrong with it.
pub fn decode(jpeg: &[u8]) -> Result<(u32, u32, Vec<u8>), String> {
    let failed = |error: image::ImageError| error.to_string();
    let decoder = JpegDecoder::new(Cursor::new(jpeg)).map_err(failed)?;
    let ((width, height), bytes) = (decoder.dimensions(), decoder.total_bytes());
    let length = usize::try_from(bytes).ok().filter(|_| bytes <= MOST_BYTES);
    let length = length.ok_or_else(|| format!("expected a picture of at most {MOST_BYTES} bytes, found {width} by {height}"))?;
    let color = decoder.color_type();
    let mut pixels = vec![0; length];
    decoder.read_image(&mut pixels).map_err(failed)?;
    match color {
        ColorType::Rgb8 => {
            exchange(&mut pixels);
            Ok((width, height, pixels))
        }
        ColorType::L8 => Ok((width, height, pixels.iter().flat_map(|grey| [*grey; 3]).collect())),
        other => Err(format!("expected a picture in colours or greys of 8 bits, found {other:?}")),
    }
}

#[cfg(test)]
mod tests {
    use sinew_core::Pixels;

    use super::*;

    #[test]
    fn a_picture_comes_back_much_as_it_was() {
        let (width, height) = (32, 16);
        let rgb: Vec<u8> = (0..height).flat_map(|y| (0..width).flat_map(move |x| [x * 8, y * 16, 128])).map(|v: u32| v as u8).collect();
        let image = Image { rgb: Pixels::from(rgb.clone()), sequence: 1, ..Image::black(width, height) };
        let jpeg = encode(&image).unwrap();
        let (found_width, found_height, found) = decode(&jpeg).unwrap();
        assert_eq!((found_width, found_height, found.len()), (width, height, rgb.len()));
        let worst = found.iter().zip(&rgb).map(|(a, b)| a.abs_diff(*b)).max().unwrap();
        assert!(worst < 24, "a byte is {worst} off");
        for bad in [&jpeg[..20], b"", b"\x89PNG\r\n\x1a\n"] {
            assert!(decode(bad).is_err());
        }
        // What LeRobot's host makes of a red picture is a blue JPEG.
        let mut blue = Vec::new();
        JpegEncoder::new(&mut blue).encode(&[0, 0, 255].repeat(64), 8, 8, ExtendedColorType::Rgb8).unwrap();
        let (_, _, found) = decode(&blue).unwrap();
        assert!(found.chunks(3).all(|pixel| pixel[0] > 240 && pixel[2] < 15), "{found:?}");
        let red = Image { rgb: Pixels::from([255, 0, 0].repeat(64)), sequence: 1, ..Image::black(8, 8) };
        let seen = image::load_from_memory(&encode(&red).unwrap()).unwrap().to_rgb8();
        assert!(seen.pixels().all(|pixel| pixel[2] > 240 && pixel[0] < 15));
        let mut grey = Vec::new();
        JpegEncoder::new(&mut grey).encode(&[200; 64], 8, 8, ExtendedColorType::L8).unwrap();
        let (_, _, found) = decode(&grey).unwrap();
        assert!(found.len() == 192 && found.iter().all(|byte| byte.abs_diff(200) < 4), "{found:?}");
    }
}
