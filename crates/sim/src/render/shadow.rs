//! Which parts of the scene the light does not reach.

use nalgebra::{Point3, Vector3};

use super::raster::scan;

/// How far above a surface something must be to shade it.
pub const BIAS_M: f32 = 0.003;

const SIZE: usize = 512;
const TEXEL_M: f32 = 1.1 / SIZE as f32;
/// The table's part that can hold shadows: in front of the base and around it.
const ORIGIN_M: [f32; 2] = [-0.35, -0.55];
/// A light lower than this is raised, or shadows had no end.
const LOWEST_LIGHT: f32 = 0.25;

/// The scene seen from the light, drawn onto the table: every place of the table holds how high the
/// highest thing between it and the light is.
pub struct ShadowMap {
    direction: Vector3<f32>,
    height_m: Vec<f32>,
    /// 0 lit, DARKEST in shadow, with soft borders.
    dark: Vec<u8>,
    scratch: Vec<u8>,
    row_sums: Vec<u8>,
    drawn: Extent,
}

#[derive(Clone, Copy)]
struct Extent {
    rows: (usize, usize),
    columns: (usize, usize),
}

impl Extent {
    const NONE: Self = Self { rows: (SIZE, 0), columns: (SIZE, 0) };

    fn grown(self, by: usize) -> Self {
        let grow = |(from, to): (usize, usize)| (from.saturating_sub(by), (to + by).min(SIZE));
        if self.rows.0 < self.rows.1 {
            Self { rows: grow(self.rows), columns: grow(self.columns) }
        } else {
            Self { rows: (0, 0), columns: (0, 0) }
        }
    }
}

impl ShadowMap {
    const BLUR: usize = 2;
    const DARKEST: f32 = 250.0;

    pub fn new() -> Self {
        Self {
            direction: Vector3::z(),
            height_m: vec![0.0; SIZE * SIZE],
            dark: vec![0; SIZE * SIZE],
            scratch: vec![0; SIZE * SIZE],
            row_sums: vec![0; SIZE * SIZE],
            drawn: Extent::NONE,
        }
    }

    /// Forgets all shadows; `direction` points towards the light.
    pub fn begin(&mut self, direction: Vector3<f32>) {
        let old = self.drawn.grown(2 * Self::BLUR);
        for row in old.rows.0..old.rows.1 {
            let range = row * SIZE + old.columns.0..row * SIZE + old.columns.1;
            self.height_m[range.clone()].fill(0.0);
            self.dark[range.clone()].fill(0);
            self.row_sums[range].fill(0);
        }
        self.drawn = Extent::NONE;
        let mut direction = direction.try_normalize(1e-6).unwrap_or_else(Vector3::z);
        direction.z = direction.z.max(LOWEST_LIGHT);
        self.direction = direction.normalize();
    }

    /// Towards the light, of unit length.
    pub fn direction(&self) -> Vector3<f32> {
        self.direction
    }

    /// Where the light's ray through `point` meets the table, in texels.
    fn on_table(&self, point: &Point3<f32>) -> [f32; 2] {
        let reach = point.z / self.direction.z;
        [(point.x - self.direction.x * reach - ORIGIN_M[0]) / TEXEL_M, (point.y - self.direction.y * reach - ORIGIN_M[1]) / TEXEL_M]
    }

    /// Draws a triangle's shadow, if it faces the light.
    pub fn cast(&mut self, corners: [Point3<f32>; 3]) {
        let [a, b, c] = corners;
        let [ta, tb, tc] = corners.map(|p| self.on_table(&p));
        let (bx, by, cx, cy) = (tb[0] - ta[0], tb[1] - ta[1], tc[0] - ta[0], tc[1] - ta[1]);
        let area = bx * cy - cx * by;
        if area.is_nan() || area <= 0.0 {
            return;
        }
        let dz_dx = ((b.z - a.z) * cy - (c.z - a.z) * by) / area;
        let dz_dy = ((c.z - a.z) * bx - (b.z - a.z) * cx) / area;
        let highest = a.z.max(b.z).max(c.z);
        let Self { height_m, drawn, .. } = self;
        scan([ta, tb, tc], SIZE, SIZE, |y, from, to| {
            drawn.rows = (drawn.rows.0.min(y), drawn.rows.1.max(y + 1));
            drawn.columns = (drawn.columns.0.min(from), drawn.columns.1.max(to));
            let mut z = a.z + (from as f32 + 0.5 - ta[0]) * dz_dx + (y as f32 + 0.5 - ta[1]) * dz_dy;
            for height in &mut height_m[y * SIZE + from..y * SIZE + to] {
                *height = height.max(z.min(highest));
                z += dz_dx;
            }
        });
    }

    /// Makes the table's soft shadow of what was cast: each place's share of shadowed texels among
    /// the 5 × 5 around it.
    pub fn soften(&mut self) {
        const { assert!(Self::BLUR == 2) };
        let wide = self.drawn.grown(2 * Self::BLUR);
        let (from, to) = wide.columns;
        if to - from < 5 {
            return;
        }
        for y in wide.rows.0..wide.rows.1 {
            let row = y * SIZE + from..y * SIZE + to;
            for (out, height) in self.scratch[row.clone()].iter_mut().zip(&self.height_m[row.clone()]) {
                *out = u8::from(*height > 0.0) * 10;
            }
            let shadowed = &self.scratch[row.clone()];
            let sums = &mut self.row_sums[row][2..];
            for (out, five) in sums.iter_mut().zip(shadowed.windows(5)) {
                *out = five[0] + five[1] + five[2] + five[3] + five[4];
            }
        }
        let columns = from + Self::BLUR..to - Self::BLUR;
        for y in wide.rows.0 + Self::BLUR..wide.rows.1.saturating_sub(Self::BLUR) {
            let row = |dy: usize| &self.row_sums[(y + dy - 2) * SIZE..][columns.clone()];
            let rows = row(0).iter().zip(row(1)).zip(row(2)).zip(row(3)).zip(row(4));
            for (out, ((((a, b), c), d), e)) in self.dark[y * SIZE..][columns.clone()].iter_mut().zip(rows) {
                // At most 5 × 50.
                *out = a + b + c + d + e;
            }
        }
    }

    /// How much of the light reaches a point above the table, 0..1.
    pub fn light_reaching(&self, point: &Point3<f32>) -> f32 {
        let [u, v] = self.on_table(point);
        let Some(cell) = Cell::at(u, v) else { return 1.0 };
        cell.blend(|i| if self.height_m[i] > point.z + BIAS_M { 0.0 } else { 1.0 })
    }

    /// How much of the light does not reach a place of the table, 0..1.
    pub fn darkness(&self, x_m: f32, y_m: f32) -> f32 {
        let (u, v) = ((x_m - ORIGIN_M[0]) / TEXEL_M, (y_m - ORIGIN_M[1]) / TEXEL_M);
        let outside = |at: f32, (from, to): (usize, usize)| at + 3.0 < from as f32 || at > (to + 3) as f32;
        if outside(u, self.drawn.columns) || outside(v, self.drawn.rows) {
            return 0.0;
        }
        let Some(cell) = Cell::at(u, v) else { return 0.0 };
        cell.blend(|i| f32::from(self.dark[i])) / Self::DARKEST
    }
}

/// Four neighbouring texels and how much each counts.
struct Cell {
    index: usize,
    fraction: (f32, f32),
}

impl Cell {
    fn at(u: f32, v: f32) -> Option<Self> {
        let (u, v) = (u - 0.5, v - 0.5);
        let last = (SIZE - 1) as f32;
        if !(u >= 0.0 && u < last && v >= 0.0 && v < last) {
            return None;
        }
        let (x, y) = (u as usize, v as usize);
        Some(Self { index: y * SIZE + x, fraction: (u - x as f32, v - y as f32) })
    }

    fn blend(&self, texel: impl Fn(usize) -> f32) -> f32 {
        let (fx, fy) = self.fraction;
        let mix = |a: f32, b: f32, t: f32| a + (b - a) * t;
        let upper = mix(texel(self.index), texel(self.index + 1), fx);
        let lower = mix(texel(self.index + SIZE), texel(self.index + SIZE + 1), fx);
        mix(upper, lower, fy)
    }
}
