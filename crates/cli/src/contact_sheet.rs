//! Many small pictures on one: the last image of every episode, framed by how it went.

use std::path::Path;

use anyhow::Context;
use rustix::fs::Access;
use sinew_core::Image;

const FRAME_PX: usize = 3;
const SUCCESS_RGB: [u8; 3] = [40, 170, 70];
const FAILURE_RGB: [u8; 3] = [205, 50, 45];

/// The last image of an episode.
pub struct Picture {
    pub image: Image,
    pub is_success: bool,
    pub seed: u64,
}

/// Digits of 3 by 5 dots, each row's in the lowest three bits.
const DIGITS: [[u8; 5]; 10] = [
    [7, 5, 5, 5, 7],
    [2, 6, 2, 2, 7],
    [7, 1, 7, 4, 7],
    [7, 1, 7, 1, 7],
    [5, 5, 7, 1, 1],
    [7, 4, 7, 1, 7],
    [7, 4, 7, 5, 7],
    [7, 1, 1, 1, 1],
    [7, 5, 7, 5, 7],
    [7, 5, 7, 1, 7],
];

/// Draws `number` at the upper left of a picture of so many rows that begins at `rgb`, white on black.
fn draw_number(rgb: &mut [u8], stride: usize, (width, height): (usize, usize), number: u64) {
    let dot = (height / 60).max(1);
    for (i, digit) in number.to_string().bytes().enumerate() {
        let left = i * 4 * dot;
        if left + 5 * dot > width || 7 * dot > height {
            return;
        }
        for (y, x) in (0..7 * dot).flat_map(|y| (0..5 * dot).map(move |x| (y, x))) {
            let (row, column) = ((y / dot).wrapping_sub(1), (x / dot).wrapping_sub(1));
            let is_lit = row < 5 && column < 3 && DIGITS[usize::from(digit - b'0')][row] >> (2 - column) & 1 == 1;
            rgb[y * stride + (left + x) * 3..][..3].fill(if is_lit { 255 } else { 0 });
        }
    }
}

/// Writes `pictures` (all of one size) as a grid in their order, each with its seed, with a green frame around successes
/// and a red one around failures.
pub fn write(path: &Path, pictures: &[Picture]) -> anyhow::Result<()> {
    let doing = || format!("writing the contact sheet {}", path.display());
    let Some(Picture { image: first, .. }) = pictures.first() else {
        anyhow::bail!("{}: there is no episode to show", doing());
    };
    let (width, height) = (first.width as usize, first.height as usize);
    let columns = (pictures.len() as f64).sqrt().ceil() as usize;
    let rows = pictures.len().div_ceil(columns);
    let (cell_width, cell_height) = (width + 2 * FRAME_PX, height + 2 * FRAME_PX);
    let stride = columns * cell_width * 3;
    let mut sheet = vec![255u8; rows * cell_height * stride];
    for (i, Picture { image, is_success, seed }) in pictures.iter().enumerate() {
        anyhow::ensure!(
            (image.width as usize, image.height as usize) == (width, height),
            "{}: image {i} is {}x{}, expected {width}x{height}",
            doing(),
            image.width,
            image.height
        );
        let frame = if *is_success { SUCCESS_RGB } else { FAILURE_RGB };
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
        draw_number(&mut sheet[(top + FRAME_PX) * stride + (left + FRAME_PX) * 3..], stride, (width, height), *seed);
    }
    write_png(path, (columns * cell_width) as u32, (rows * cell_height) as u32, &sheet).with_context(doing)
}

/// Makes the folder that a file is to be in, and sees that files may be made there: before the work whose result it is.
pub fn make_room(path: &Path) -> anyhow::Result<()> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let made = std::fs::create_dir_all(folder);
    let may_write = || Ok(rustix::fs::access(folder, Access::WRITE_OK | Access::EXEC_OK)?);
    made.and_then(|()| may_write()).with_context(|| format!("making the file {}", path.display()))
}

/// Writes 8-bit RGB rows as a PNG, making the folder it is in.
pub fn write_png(path: &Path, width: u32, height: u32, rgb: &[u8]) -> anyhow::Result<()> {
    make_room(path)?;
    let mut bytes = Vec::new();
    let mut encoder = png::Encoder::new(&mut bytes, width, height);
    encoder.set_color(png::ColorType::Rgb);
    encoder.set_depth(png::BitDepth::Eight);
    let mut writer = encoder.write_header()?;
    writer.write_image_data(rgb)?;
    writer.finish()?;
    let was_there = path.metadata().is_ok_and(|file| !file.is_file() || file.len() > 0);
    std::fs::write(path, bytes)
        .inspect_err(|_| {
            // A part of a picture is none, and would stand in the way of the next.
            if !was_there {
                let _ = std::fs::remove_file(path);
            }
        })
        .with_context(|| format!("writing {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_image_is_where_it_belongs_and_framed() {
        let image = |value: u8, is_success| Picture {
            image: Image { rgb: vec![value; 4 * 2 * 3].into(), ..Image::black(4, 2) },
            is_success,
            seed: 7,
        };
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("new/sheet.png");
        write(&path, &[image(1, true), image(2, false), image(3, true)]).unwrap();
        let mut reader = png::Decoder::new(std::io::BufReader::new(std::fs::File::open(&path).unwrap())).read_info().unwrap();
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
    fn a_picture_with_room_shows_its_seed() {
        let mut rgb = vec![9; 24 * 8 * 3];
        draw_number(&mut rgb, 24 * 3, (24, 8), 107);
        let lit: Vec<String> = (0..8)
            .map(|y| {
                (0..24)
                    .map(|x| match rgb[(y * 24 + x) * 3] {
                        255 => '#',
                        0 => '.',
                        _ => ' ',
                    })
                    .collect::<String>()
                    .trim_end()
                    .to_owned()
            })
            .collect();
        assert_eq!(
            lit,
            [".............", "..#..###.###.", ".##..#.#...#.", "..#..#.#...#.", "..#..#.#...#.", ".###.###...#.", ".............", ""]
        );
    }

    #[test]
    fn nothing_to_show_is_an_error() {
        assert!(write(Path::new("unused.png"), &[]).is_err());
    }
}
