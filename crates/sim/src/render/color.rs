//! From light to bytes: linear colour, how bright a surface is, sRGB.

/// The brightest shade that a palette can hold; brighter surfaces are cut off.
const BRIGHTEST: f32 = 1.4;
/// A surface that faces the light fully is this bright when all brightness is the light's.
const LIGHT_GAIN: f32 = 1.25;

/// How bright a surface is, as an index into palettes, 0..=255 of [`BRIGHTEST`]: `lit` (0..1) is how
/// squarely the light reaches it, `up` its normal's z. What comes from everywhere comes more from
/// above than from below.
pub fn shade(light_share: f32, lit: f32, up: f32) -> f32 {
    (light_share * LIGHT_GAIN * lit + (1.0 - light_share) * (0.72 + 0.28 * up)) * (255.0 / BRIGHTEST)
}

/// Linear 0..1 to sRGB bytes, by table.
pub struct Encoder {
    srgb: Vec<u8>,
}

impl Encoder {
    const STEPS: f32 = 4095.0;

    pub fn new() -> Self {
        let encode = |i: u32| {
            let linear = f64::from(i) / f64::from(Self::STEPS);
            let srgb = if linear <= 0.003_130_8 { 12.92 * linear } else { 1.055 * linear.powf(1.0 / 2.4) - 0.055 };
            (srgb * 255.0).round() as u8
        };
        Self { srgb: (0..=Self::STEPS as u32).map(encode).collect() }
    }

    /// `0x00BBGGRR`.
    pub fn encode(&self, linear: [f32; 3]) -> u32 {
        // The cast saturates and takes NaN for 0.
        let [r, g, b] = linear.map(|v| u32::from(self.srgb[((v * Self::STEPS + 0.5) as usize).min(Self::STEPS as usize)]));
        r | g << 8 | b << 16
    }
}

/// A surface's colour at every shade.
pub struct Palette([u32; 256]);

impl Default for Palette {
    fn default() -> Self {
        Self([0; 256])
    }
}

impl Palette {
    /// `0x00BBGGRR`; a shade outside of the palette counts as its end.
    #[inline]
    pub fn at(&self, shade: f32) -> u32 {
        self.0[usize::from(shade as u8)]
    }

    pub fn fill(&mut self, encoder: &Encoder, color: [f32; 3], exposure: f32) {
        for (i, entry) in self.0.iter_mut().enumerate() {
            let brightness = exposure * BRIGHTEST * i as f32 / 255.0;
            *entry = encoder.encode(color.map(|v| v * brightness));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn encoding_is_srgb_and_total() {
        let encoder = Encoder::new();
        assert_eq!(encoder.encode([0.0, 0.5, 1.0]), 0x00ff_bc00);
        assert_eq!(encoder.encode([-1.0, f32::NAN, 9.0]), 0x00ff_0000);
    }

    #[test]
    fn a_palette_rises_with_the_shade() {
        let mut palette = Palette::default();
        palette.fill(&Encoder::new(), [0.5, 0.5, 0.5], 1.0);
        assert!(palette.0.windows(2).all(|pair| pair[0] <= pair[1]));
        assert_eq!(palette.0[0], 0);
        let neutral = palette.0[(255.0 / BRIGHTEST).round() as usize] & 0xff;
        assert!((i64::from(neutral) - 188).abs() <= 1, "{neutral}");
    }
}
