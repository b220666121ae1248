//! The table: the plane z = 0, and what is seen beyond its edge.

use nalgebra::{Matrix3, Point3};

use super::color::{Encoder, Palette, shade};
use super::raster::focal_length;
use super::shadow::ShadowMap;
use super::{Camera, Decal};
use crate::scene::Look;

/// The table's edge.
const CENTER_M: [f32; 2] = [0.25, 0.0];
const HALF_EXTENTS_M: [f32; 2] = [0.62, 0.75];

/// Rays that meet the table's plane beyond this show the background.
const FARTHEST: f32 = 20.0;

const GRAIN_SIZE: usize = 256;
const GRAIN_TEXEL_M: f32 = 0.004;
/// How far the grain changes the table's colour, either way.
const GRAIN: f32 = 0.07;

/// The rays of an image's pixels.
pub struct View {
    eye: Point3<f32>,
    world_from_camera: Matrix3<f32>,
    center: (f32, f32),
    /// Width of a pixel at distance 1.
    pixel: f32,
}

impl View {
    pub fn new(camera: &Camera, width: usize, height: usize) -> Self {
        Self {
            eye: camera.world_from_camera.translation.vector.into(),
            world_from_camera: camera.world_from_camera.rotation.to_rotation_matrix().into_inner(),
            center: (0.5 * width as f32, 0.5 * height as f32),
            pixel: 1.0 / focal_length(camera, height),
        }
    }
}

/// The table's look, ready for shading.
pub struct Table {
    /// 1 and a little more or less; smooth, and repeats without a seam.
    grain: Vec<f32>,
    palette: Palette,
    decals: Vec<(Decal, Palette)>,
    background: u32,
    /// Shade in full light, and what of it the light brings.
    bright: f32,
    light: f32,
}

impl Table {
    pub fn new() -> Self {
        Self { grain: grain(), palette: Palette::default(), decals: Vec::new(), background: 0, bright: 0.0, light: 0.0 }
    }

    /// `light_z` is how squarely the light falls on the table.
    pub fn begin(&mut self, look: &Look, light_z: f32, decals: &[Decal], encoder: &Encoder) {
        self.palette.fill(encoder, look.table_color, look.exposure);
        self.decals.resize_with(decals.len(), || (Decal::default(), Palette::default()));
        for (mine, decal) in self.decals.iter_mut().zip(decals) {
            mine.0 = *decal;
            mine.1.fill(encoder, decal.color, look.exposure);
        }
        self.background = encoder.encode(look.background_color.map(|v| v * look.exposure));
        self.bright = shade(look.light_share, light_z, 1.0);
        self.light = self.bright - shade(look.light_share, 0.0, 1.0);
    }

    /// What the pixels of row `y` show where nothing stands before them, by column.
    pub fn row<'a>(&'a self, view: &View, y: usize, shadows: &'a ShadowMap) -> impl Fn(usize) -> u32 + 'a {
        let m = &view.world_from_camera;
        let down = (y as f32 + 0.5 - view.center.1) * view.pixel;
        let start: [f32; 3] = std::array::from_fn(|i| m[(i, 0)] * (0.5 - view.center.0) * view.pixel - m[(i, 1)] * down - m[(i, 2)]);
        let step: [f32; 3] = std::array::from_fn(|i| m[(i, 0)] * view.pixel);
        let (eye, pixel) = (view.eye, view.pixel);
        move |x| {
            let ray = |i: usize| start[i] + step[i] * x as f32;
            let distance = -eye.z / ray(2);
            if !(distance > 0.0 && distance < FARTHEST) {
                return self.background;
            }
            self.place(eye.x + distance * ray(0), eye.y + distance * ray(1), distance * pixel, shadows)
        }
    }

    /// The colour of a place of the table of which a pixel covers `footprint` metres.
    fn place(&self, x_m: f32, y_m: f32, footprint: f32, shadows: &ShadowMap) -> u32 {
        let inside = (HALF_EXTENTS_M[0] - (x_m - CENTER_M[0]).abs()).min(HALF_EXTENTS_M[1] - (y_m - CENTER_M[1]).abs());
        if inside <= -0.5 * footprint {
            return self.background;
        }
        let shade = self.bright - self.light * shadows.darkness(x_m, y_m);
        let mut color = self.palette.at(shade * self.grain_at(x_m, y_m));
        for (decal, palette) in &self.decals {
            let (dx, dy) = (x_m - decal.center_m[0], y_m - decal.center_m[1]);
            let reach = decal.radius_m + footprint;
            let square = dx * dx + dy * dy;
            if square < reach * reach {
                color = mix(color, palette.at(shade), coverage(decal.radius_m - square.sqrt(), footprint));
            }
        }
        if inside < 0.5 * footprint { mix(self.background, color, coverage(inside, footprint)) } else { color }
    }

    fn grain_at(&self, x_m: f32, y_m: f32) -> f32 {
        // The table has no place below −GRAIN_SIZE texels: the sum is positive and the cast rounds down.
        let wrap = |m: f32| (m * (1.0 / GRAIN_TEXEL_M) + GRAIN_SIZE as f32) as usize % GRAIN_SIZE;
        self.grain[wrap(y_m) * GRAIN_SIZE + wrap(x_m)]
    }
}

/// How much of a pixel lies inside an edge that is `inside` metres away.
fn coverage(inside: f32, footprint: f32) -> f32 {
    (inside / footprint + 0.5).clamp(0.0, 1.0)
}

/// Byte by byte, `t` of `b` and the rest of `a`.
fn mix(a: u32, b: u32, t: f32) -> u32 {
    let (a, b) = (a.to_le_bytes(), b.to_le_bytes());
    u32::from_le_bytes(std::array::from_fn(|i| (f32::from(a[i]) + (f32::from(b[i]) - f32::from(a[i])) * t + 0.5) as u8))
}

/// Noise of three sizes, longer along x as in wood.
fn grain() -> Vec<f32> {
    let mut total = vec![1.0; GRAIN_SIZE * GRAIN_SIZE];
    for (octave, (cells_x, cells_y, share)) in [(4, 16, 0.5), (8, 64, 0.35), (32, 128, 0.15)].into_iter().enumerate() {
        let at = |x: usize, y: usize| {
            // An integer hash (xorshift-multiply); only its bits' disorder matters.
            let mut h = ((x % cells_x) as u32) ^ ((y % cells_y) as u32) << 8 ^ (octave as u32) << 16;
            h = (h ^ h >> 15).wrapping_add(0x9e37_79b9).wrapping_mul(0x85eb_ca6b);
            h = (h ^ h >> 13).wrapping_mul(0xc2b2_ae35);
            ((h ^ h >> 16) as f32 / u32::MAX as f32) * 2.0 - 1.0
        };
        for y in 0..GRAIN_SIZE {
            for x in 0..GRAIN_SIZE {
                let (u, v) = ((x * cells_x) as f32 / GRAIN_SIZE as f32, (y * cells_y) as f32 / GRAIN_SIZE as f32);
                let (i, j) = (u as usize, v as usize);
                let smooth = |t: f32| t * t * (3.0 - 2.0 * t);
                let (fu, fv) = (smooth(u.fract()), smooth(v.fract()));
                let upper = at(i, j) + (at(i + 1, j) - at(i, j)) * fu;
                let lower = at(i, j + 1) + (at(i + 1, j + 1) - at(i, j + 1)) * fu;
                total[y * GRAIN_SIZE + x] += GRAIN * share * (upper + (lower - upper) * fv);
            }
        }
    }
    total
}
