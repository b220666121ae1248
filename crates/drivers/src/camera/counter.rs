//! A number that is drawn into a picture, so that whoever sees the picture knows which it is.
//!
//! The picture's top holds 32 blocks side by side, black for 0 and white for 1, the most significant bit first, as high as
//! a sixteenth of the picture and at least 8 pixels. They survive a JPEG, and another size of at least 128 rows.

const BITS: usize = 32;

/// First and last column (exclusive) of a block.
fn block(bit: usize, width: usize) -> std::ops::Range<usize> {
    bit * width / BITS..(bit + 1) * width / BITS
}

fn block_height(height: usize) -> usize {
    (height / 16).max(8).min(height)
}

/// Draws `number` into an image of `width` by `height` pixels, RGB, row by row. Does nothing where it does not fit: below 32
/// columns, or with another number of bytes.
pub fn draw_counter(rgb: &mut [u8], width: u32, height: u32, number: u32) {
    let (width, height) = (width as usize, height as usize);
    if width < BITS || rgb.len() != width * height * 3 {
        return;
    }
    for row in rgb.chunks_exact_mut(width * 3).take(block_height(height)) {
        for bit in 0..BITS {
            let value = if number >> (BITS - 1 - bit) & 1 == 1 { 255 } else { 0 };
            let columns = block(bit, width);
            row[columns.start * 3..columns.end * 3].fill(value);
        }
    }
}

/// The number that is drawn into an image of `width` by `height` pixels, RGB, row by row; `None` where it shows none.
pub fn read_counter(rgb: &[u8], width: u32, height: u32) -> Option<u32> {
    let (columns, rows) = (width as usize, height as usize);
    if columns < BITS || rgb.len() != columns * rows * 3 {
        return None;
    }
    let y = block_height(rows) / 2;
    (0..BITS).try_fold(0_u32, |number, bit| {
        let columns_of_it = block(bit, columns);
        let x = usize::midpoint(columns_of_it.start, columns_of_it.end);
        let at = (y * columns + x) * 3;
        let brightness: u32 = rgb.get(at..at + 3)?.iter().map(|value| u32::from(*value)).sum();
        // In between is neither black nor white, as in a picture that shows something else.
        match brightness / 3 {
            0..=79 => Some(number << 1),
            176.. => Some(number << 1 | 1),
            _ => None,
        }
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn what_is_drawn_is_read(number: u32, width in 32_u32..700, height in 1_u32..500) {
            let mut rgb = vec![100; (width * height * 3) as usize];
            draw_counter(&mut rgb, width, height, number);
            prop_assert_eq!(read_counter(&rgb, width, height), Some(number));
        }
    }

    #[test]
    fn a_picture_without_a_number_has_none() {
        assert_eq!(read_counter(&[128; 64 * 32 * 3], 64, 32), None);
        assert_eq!(read_counter(&[0; 31 * 32 * 3], 31, 32), None);
        assert_eq!(read_counter(&[0; 5], 64, 32), None);
    }
}
