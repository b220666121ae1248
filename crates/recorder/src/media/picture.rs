//! Single images: those that a table holds, and those that are written into one.

use arrow::array::{Array, ArrayRef, AsArray};
use arrow::datatypes::DataType;
use image::codecs::png::{CompressionType, FilterType, PngEncoder};
use image::{ExtendedColorType, ImageEncoder, ImageReader, Limits};
use sinew_core::Image;

/// The files of a column of images, which are structs of bytes and path.
pub(crate) fn encoded(column: &ArrayRef) -> Option<Vec<Vec<u8>>> {
    let bytes = column.as_struct_opt()?.column_by_name("bytes")?;
    let owned = |value: Option<&[u8]>| value.map(<[u8]>::to_vec);
    if bytes.null_count() > 0 {
        return None;
    }
    match bytes.data_type() {
        DataType::Binary => bytes.as_binary::<i32>().iter().map(owned).collect(),
        DataType::LargeBinary => bytes.as_binary::<i64>().iter().map(owned).collect(),
        _ => None,
    }
}

/// A PNG or JPEG file as RGB.
pub(crate) fn decode(bytes: &[u8]) -> Result<Image, String> {
    let mut reader = ImageReader::new(std::io::Cursor::new(bytes)).with_guessed_format().map_err(|error| error.to_string())?;
    let mut limits = Limits::default();
    (limits.max_image_width, limits.max_image_height) = (Some(1 << 14), Some(1 << 14));
    reader.limits(limits);
    let picture = reader.decode().map_err(|error| format!("it is neither PNG nor JPEG that can be read: {error}"))?.into_rgb8();
    Ok(Image { width: picture.width(), height: picture.height(), rgb: picture.into_raw().into(), ..Image::default() })
}

/// An image as a PNG file.
pub(crate) fn to_png(image: &Image) -> Result<Vec<u8>, image::ImageError> {
    let mut png = Vec::new();
    let encoder = PngEncoder::new_with_quality(&mut png, CompressionType::Default, FilterType::Adaptive);
    encoder.write_image(&image.rgb, image.width, image.height, ExtendedColorType::Rgb8)?;
    Ok(png)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_png_comes_back_as_it_was() {
        let image = Image { rgb: (0..5 * 3 * 3).map(|at| at as u8 * 5).collect::<Vec<_>>().into(), ..Image::black(5, 3) };
        assert_eq!(decode(&to_png(&image).unwrap()).unwrap(), image);
        assert!(decode(b"no picture").is_err());
        assert!(decode(&to_png(&image).unwrap()[..40]).is_err());
    }
}
