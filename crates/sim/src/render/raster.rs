//! Triangles to samples to pixels.

use nalgebra::{Matrix3, Point3, Vector3};

use super::Camera;
use super::color::Palette;

/// What is nearer to the camera than this is cut off.
const NEAR_M: f32 = 0.005;

/// A vertex in the picture: x to the right and y down, in samples.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct ScreenVertex {
    pub x: f32,
    pub y: f32,
    /// One over the distance along the camera's axis; 0 for what is not in front of it. Unlike
    /// distance it is linear in the picture.
    pub nearness: f32,
    pub shade: f32,
}

impl ScreenVertex {
    pub fn is_in_front(&self) -> bool {
        self.nearness > 0.0
    }
}

/// World to picture.
pub struct Lens {
    rotation: Matrix3<f32>,
    translation: Vector3<f32>,
    focal: f32,
    center: (f32, f32),
}

impl Lens {
    /// `width` and `height` in samples.
    pub fn new(camera: &Camera, width: usize, height: usize) -> Self {
        let camera_from_world = camera.world_from_camera.inverse();
        Self {
            rotation: camera_from_world.rotation.to_rotation_matrix().into_inner(),
            translation: camera_from_world.translation.vector,
            focal: focal_length(camera, height),
            center: (0.5 * width as f32, 0.5 * height as f32),
        }
    }

    pub fn to_camera(&self, world: &Point3<f32>) -> Vector3<f32> {
        self.rotation * world.coords + self.translation
    }

    pub fn project(&self, point: &Vector3<f32>, shade: f32) -> ScreenVertex {
        if -point.z < NEAR_M {
            return ScreenVertex::default();
        }
        let nearness = -1.0 / point.z;
        ScreenVertex {
            x: self.center.0 + self.focal * point.x * nearness,
            y: self.center.1 - self.focal * point.y * nearness,
            nearness,
            shade,
        }
    }

    /// The parts of a triangle that are in front of the camera: none, one or two triangles.
    pub fn clip(&self, corners: [(Vector3<f32>, f32); 3]) -> impl Iterator<Item = [ScreenVertex; 3]> {
        let mut polygon = [ScreenVertex::default(); 4];
        let mut count = 0;
        for i in 0..3 {
            let ((a, a_shade), (b, b_shade)) = (corners[i], corners[(i + 1) % 3]);
            let (a_ahead, b_ahead) = (-a.z - NEAR_M, -b.z - NEAR_M);
            if a_ahead >= 0.0 {
                polygon[count] = self.project(&a, a_shade);
                count += 1;
            }
            if (a_ahead >= 0.0) != (b_ahead >= 0.0) {
                let t = a_ahead / (a_ahead - b_ahead);
                let mut crossing = a + (b - a) * t;
                crossing.z = -NEAR_M;
                polygon[count] = self.project(&crossing, a_shade + (b_shade - a_shade) * t);
                count += 1;
            }
        }
        (2..count).map(move |i| [polygon[0], polygon[i - 1], polygon[i]])
    }
}

/// In the same unit as `height`.
pub fn focal_length(camera: &Camera, height: usize) -> f32 {
    0.5 * height as f32 / (0.5 * camera.vertical_field_of_view_rad.clamp(0.01, 3.1)).tan()
}

/// The two edges of a triangle, walked row by row. Neighbours that share an edge get the same bound
/// from it, so that no sample is covered twice or not at all.
#[inline]
pub fn scan([mut a, mut b, mut c]: [[f32; 2]; 3], width: usize, height: usize, mut span: impl FnMut(usize, usize, usize)) {
    // From top to bottom.
    if b[1] < a[1] {
        (a, b) = (b, a);
    }
    if c[1] < b[1] {
        (b, c) = (c, b);
        if b[1] < a[1] {
            (a, b) = (b, a);
        }
    }
    let (first, last) = (first_after(a[1], height), first_after(c[1], height));
    if first >= last {
        return;
    }
    let slope = |from: [f32; 2], to: [f32; 2]| (to[0] - from[0]) / (to[1] - from[1]);
    let long = slope(a, c);
    let long_is_left = a[0] + (b[1] - a[1]) * long <= b[0];
    let middle = first_after(b[1], height).clamp(first, last);
    for (rows, from, to) in [(first..middle, a, b), (middle..last, b, c)] {
        if rows.is_empty() {
            continue;
        }
        let short = slope(from, to);
        for y in rows {
            let center = y as f32 + 0.5;
            let on_long = a[0] + (center - a[1]) * long;
            let on_short = from[0] + (center - from[1]) * short;
            let (left, right) = if long_is_left { (on_long, on_short) } else { (on_short, on_long) };
            let (left, right) = (first_after(left, width), first_after(right, width));
            if left < right {
                span(y, left, right);
            }
        }
    }
}

/// The first of `count` rows (or columns) whose centre is not before `at`.
#[inline]
fn first_after(at: f32, count: usize) -> usize {
    // The cast takes NaN for 0. A call of `ceil` would cost more than the rest of a small triangle.
    let wanted = (at - 0.5).clamp(0.0, count as f32);
    let below = wanted as i32;
    (below + i32::from(wanted > below as f32)) as usize
}

/// 2 × 2 samples a pixel, each with its nearest surface.
#[derive(Default)]
pub struct Samples {
    width: usize,
    height: usize,
    /// 0 where there is nothing.
    nearness: Vec<f32>,
    color: Vec<u32>,
    /// The columns of each row that were drawn to: from, to.
    drawn: Vec<(usize, usize)>,
}

impl Samples {
    /// Empties all samples. `width` and `height` in samples.
    pub fn clear(&mut self, width: usize, height: usize) {
        if (width, height) != (self.width, self.height) {
            *self = Self {
                width,
                height,
                nearness: vec![0.0; width * height],
                color: vec![0; width * height],
                drawn: vec![(width, 0); height],
            };
            return;
        }
        for (row, (from, to)) in self.nearness.chunks_exact_mut(width).zip(&mut self.drawn) {
            if from < to {
                row[*from..*to].fill(0.0);
            }
            (*from, *to) = (width, 0);
        }
    }

    /// Draws a triangle in front of the camera, unless it shows its back.
    pub fn draw(&mut self, [a, b, c]: [ScreenVertex; 3], palette: &Palette) {
        let (bx, by, cx, cy) = (b.x - a.x, b.y - a.y, c.x - a.x, c.y - a.y);
        // y points down: counter-clockwise turns negative.
        let area = bx * cy - cx * by;
        if area >= 0.0 {
            return;
        }
        let gradient = |b: f32, c: f32| ((b * cy - c * by) / area, (c * bx - b * cx) / area);
        let (nearness_dx, nearness_dy) = gradient(b.nearness - a.nearness, c.nearness - a.nearness);
        let (shade_dx, shade_dy) = gradient(b.shade - a.shade, c.shade - a.shade);
        // Gradients of slivers are rough: no sample may come nearer than the nearest corner.
        let nearest = a.nearness.max(b.nearness).max(c.nearness);
        let Self { width, height, nearness, color, drawn } = self;
        scan([[a.x, a.y], [b.x, b.y], [c.x, c.y]], *width, *height, |y, from, to| {
            let extent = &mut drawn[y];
            *extent = (extent.0.min(from), extent.1.max(to));
            let (dx, dy) = (from as f32 + 0.5 - a.x, y as f32 + 0.5 - a.y);
            let mut near = a.nearness + dx * nearness_dx + dy * nearness_dy;
            let mut shade = a.shade + dx * shade_dx + dy * shade_dy;
            let row = y * *width;
            for (depth, color) in nearness[row + from..row + to].iter_mut().zip(&mut color[row + from..row + to]) {
                let here = near.min(nearest);
                if here > *depth {
                    *depth = here;
                    *color = palette.at(shade);
                }
                near += nearness_dx;
                shade += shade_dx;
            }
        });
    }

    /// Averages the samples into pixels; `behind(y)` gives the colours of row y's pixels that are not
    /// covered.
    pub fn resolve<Row: Fn(usize) -> u32>(&self, rgb: &mut [u8], behind: impl Fn(usize) -> Row) {
        let width = self.width / 2;
        for (y, out) in rgb.chunks_exact_mut(width * 3).enumerate() {
            let top = 2 * y * self.width;
            let bottom = top + self.width;
            let (upper, lower) = (self.drawn[2 * y], self.drawn[2 * y + 1]);
            let from = (upper.0.min(lower.0) / 2).min(width);
            let to = upper.1.max(lower.1).div_ceil(2).max(from);
            let behind = behind(y);
            let mut put = |x: usize, color: u32| {
                let [r, g, b, _] = color.to_le_bytes();
                out[3 * x..3 * x + 3].copy_from_slice(&[r, g, b]);
            };
            for x in (0..from).chain(to..width) {
                put(x, behind(x));
            }
            let pairs = |row: usize| row + 2 * from..row + 2 * to;
            let near = self.nearness[pairs(top)].as_chunks::<2>().0.iter().zip(self.nearness[pairs(bottom)].as_chunks::<2>().0);
            let colors = self.color[pairs(top)].as_chunks::<2>().0.iter().zip(self.color[pairs(bottom)].as_chunks::<2>().0);
            for ((x, (upper, lower)), (top, bottom)) in (from..to).zip(near).zip(colors) {
                let near = [upper[0], upper[1], lower[0], lower[1]];
                let mut colors = [top[0], top[1], bottom[0], bottom[1]];
                if near.contains(&0.0) {
                    let behind = behind(x);
                    for (color, near) in colors.iter_mut().zip(near) {
                        if near == 0.0 {
                            *color = behind;
                        }
                    }
                }
                put(x, average(colors));
            }
        }
    }
}

/// Byte by byte, two at a time in one word.
fn average(colors: [u32; 4]) -> u32 {
    let even: u32 = colors.iter().map(|c| c & 0x00ff_00ff).sum();
    let odd: u32 = colors.iter().map(|c| (c >> 8) & 0x00ff_00ff).sum();
    ((even + 0x0002_0002) >> 2 & 0x00ff_00ff) | ((odd + 0x0002_0002) >> 2 & 0x00ff_00ff) << 8
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn triangles_that_share_an_edge_cover_every_sample_once() {
        // A fan around a point that is nowhere special.
        let (width, height) = (64, 48);
        let center = [31.37, 22.91];
        let rim: Vec<[f32; 2]> = (0..17)
            .map(|i| {
                let angle = i as f32 * std::f32::consts::TAU / 17.0;
                [center[0] + 200.0 * angle.cos(), center[1] + 200.0 * angle.sin()]
            })
            .collect();
        let mut count = vec![0; width * height];
        for i in 0..rim.len() {
            scan([center, rim[i], rim[(i + 1) % rim.len()]], width, height, |y, from, to| {
                count[y * width + from..y * width + to].iter_mut().for_each(|c| *c += 1);
            });
        }
        assert!(count.iter().all(|&c| c == 1));
    }

    #[test]
    fn a_sample_is_covered_when_its_centre_is() {
        let mut covered = Vec::new();
        scan([[1.6, 0.0], [1.6, 4.0], [3.4, 2.0]], 8, 8, |y, from, to| covered.push((y, from, to)));
        // Row 1's centre is y = 1.5, where the triangle reaches to x = 2.95: columns centred 2.5 only.
        assert_eq!(covered, [(1, 2, 3), (2, 2, 3)]);
    }

    #[test]
    fn absurd_corners_are_survived() {
        for bad in [f32::NAN, f32::INFINITY, -f32::INFINITY, f32::MAX] {
            scan([[bad, 1.0], [3.0, bad], [2.0, 2.0]], 8, 8, |y, from, to| assert!(y < 8 && from < to && to <= 8));
        }
    }

    #[test]
    fn averaging_rounds() {
        assert_eq!(average([0x00ff_0003, 0x00ff_0004, 0x00ff_0004, 0x00ff_0004]), 0x00ff_0004);
        assert_eq!(average([0x0001_0100, 0, 0, 0x0001_ff00]), 0x0001_4000);
    }
}
