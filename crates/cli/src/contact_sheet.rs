//! Many small pictures on one: the last image of every episode, framed by how it went.

use std::fs::File;
use std::io::BufWriter;
use std::path::Path;

use anyhow::Context;
use sinew_core::Image;

const FRAME_PX: usize = 3;
const SUCCESS_RGB: [u8; 3] = [40, 170, 70];
const FAILURE_RGB: [u8; 3] = [205, 50, 45];

/// Writes `images` (all of one size) as a grid in their order, with a green frame around successes
/// and a red one around failures.
pub fn write(path: &Path, images: &[(Image, bool)]) -> anyhow::Result<()> {
    let doing = || format!("writing the contact sheet {}", path.display());
    let Some((first, _)) = images.first() else {
        anyhow::bail!("{}: there is no episode to show", doing());
    };
    let (width, height) = (first.width as usize, first.height as usize);
    let columns = (images.len() as f64).sqrt().ceil() as usize;
    let rows = images.len().div_ceil(columns);
    let (cell_width, cell_height) = (width + 2 * FRAME_PX, height + 2 * FRAME_PX);
    let stride = columns * cell_width * 3;
    let mut sheet = vec![255u8; rows * cell_height * stride];
    for (i, (image, success)) in images.iter().enumerate() {
        anyhow::ensure!(
            (image.width as usize, image.height as usize) == (width, height),
            "{}: image {i} is {}x{}, expected {width}x{height}",
            doing(),
            image.width,
            image.height
        );
        let frame = if *success { SUCCESS_RGB } else { FAILURE_RGB };
        let (left, top) = ((i % columns) * cell_width, (i / columns) * cell_height);
        for y in 0..cell_height {
            let row = &mut sheet[(top + y) * stride + left * 3..][..cell_width * 3];
            for pixel in row.chunks_exact_mut(3) {
                pixel.copy_from_slice(&frame);
            }
            if (FRAME_PX..FRAME_PX + height).contains(&y) {
                row[FRAME_PX * 3..][..width * 3].copy_from_slice(&image.rgb[(y - FRAME_PX) * width * 3..][..width * 3]);
            }
        }
    }
    write_png(path, (columns * cell_width) as u32, (rows * cell_height) as u32, &sheet).with_context(doing)
}

/// Writes 8-bit RGB rows as a PNG, making the folder it is in.
pub fn write_png(path: &Path, width: u32, height: u32, rgb: &[u8]) -> anyhow::Result<()> {
    if let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
        std::fs::create_dir_all(folder).with_context(|| format!("making the folder {}", folder.display()))?;
    }
    let file = File::create(path).with_context(|| format!("making the file {}", path.display()))?;
    let mut encoder = png::Encoder::new(BufWriter::new(file), width, height);
    encoder.set_color(png::ColorType::Rgb);
    encoder.set_depth(png::BitDepth::Eight);
    let mut writer = encoder.write_header()?;
    writer.write_image_data(rgb)?;
    writer.finish()?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_image_is_where_it_belongs_and_framed() {
        let image = |value: u8| Image { rgb: vec![value; 4 * 2 * 3].into(), ..Image::black(4, 2) };
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("new/sheet.png");
        write(&path, &[(image(1), true), (image(2), false), (image(3), true)]).unwrap();
        let mut reader = png::Decoder::new(std::io::BufReader::new(File::open(&path).unwrap())).read_info().unwrap();
        let mut rgb = vec![0; reader.output_buffer_size().unwrap()];
        let info = reader.next_frame(&mut rgb).unwrap();
        assert_eq!((info.width, info.height), (20, 16));
        let pixel = |x: usize, y: usize| [rgb[(y * 20 + x) * 3], rgb[(y * 20 + x) * 3 + 1], rgb[(y * 20 + x) * 3 + 2]];
        assert_eq!(pixel(0, 0), SUCCESS_RGB);
        assert_eq!(pixel(3, 3), [1; 3]);
        assert_eq!(pixel(10, 0), FAILURE_RGB);
        assert_eq!(pixel(16, 4), [2; 3]);
        assert_eq!(pixel(6, 12), [3; 3]);
        assert_eq!(pixel(19, 15), [255; 3]);
    }

    #[test]
    fn nothing_to_show_is_an_error() {
        assert!(write(Path::new("unused.png"), &[]).is_err());
    }
}
