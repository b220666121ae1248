//! Shows datasets elsewhere.

mod html;
mod rrd;

pub use html::{PageOptions, write_html};
pub use rrd::write_rrd;

use image::codecs::jpeg::JpegEncoder;
use image::{ExtendedColorType, ImageError};
use sinew_core::Image;

fn to_jpeg(image: &Image, quality: u8) -> Result<Vec<u8>, ImageError> {
    let mut jpeg = Vec::new();
    JpegEncoder::new_with_quality(&mut jpeg, quality).encode(&image.rgb, image.width, image.height, ExtendedColorType::Rgb8)?;
    Ok(jpeg)
}
