//! Triangle meshes for the rasteriser: read from STL or made as simple shapes.

use std::collections::HashMap;

use nalgebra::{Point3, Vector3};
use thiserror::Error;

/// Faces that meet at less than this share a smooth normal.
const CREASE_COSINE: f32 = 0.77;
/// More than any robot part needs; keeps a damaged header from asking for gigabytes.
const MAX_TRIANGLES: usize = 1 << 20;

/// A mesh file that cannot be used.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum MeshError {
    #[error("reading a binary STL: found {found} bytes, expected {expected}")]
    Length { found: usize, expected: usize },
    #[error("reading a binary STL: it announces {0} triangles, expected 1 to 1048576")]
    Count(usize),
    #[error("reading a binary STL: triangle {0} has a corner that is not finite")]
    NotFinite(usize),
}

/// Triangles with a normal at each corner. Counter-clockwise seen from outside.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Mesh {
    pub(crate) positions_m: Vec<Point3<f32>>,
    /// Of unit length, one a position.
    pub(crate) normals: Vec<Vector3<f32>>,
    pub(crate) triangles: Vec<[u32; 3]>,
}

impl Mesh {
    /// Reads a binary STL in metres. Its own normals are ignored: they are made from the corners,
    /// smooth across gentle edges and sharp across hard ones.
    ///
    /// # Errors
    /// When the length does not fit the announced count, or a corner is not finite.
    pub fn from_stl(bytes: &[u8]) -> Result<Self, MeshError> {
        const HEADER: usize = 84;
        const RECORD: usize = 50;
        let count_bytes = bytes.get(80..HEADER).and_then(|b| <[u8; 4]>::try_from(b).ok());
        let Some(count_bytes) = count_bytes else {
            return Err(MeshError::Length { found: bytes.len(), expected: HEADER });
        };
        let count = u32::from_le_bytes(count_bytes) as usize;
        if !(1..=MAX_TRIANGLES).contains(&count) {
            return Err(MeshError::Count(count));
        }
        if bytes.len() != HEADER + RECORD * count {
            return Err(MeshError::Length { found: bytes.len(), expected: HEADER + RECORD * count });
        }
        let mut corners = Vec::with_capacity(count);
        for (i, record) in bytes[HEADER..].chunks_exact(RECORD).enumerate() {
            let mut values = [0.0f32; 9];
            for (value, bytes) in values.iter_mut().zip(record[12..48].as_chunks::<4>().0) {
                *value = f32::from_le_bytes(*bytes);
            }
            if values.iter().any(|v| !v.is_finite()) {
                return Err(MeshError::NotFinite(i));
            }
            let [ax, ay, az, bx, by, bz, cx, cy, cz] = values;
            corners.push([Point3::new(ax, ay, az), Point3::new(bx, by, bz), Point3::new(cx, cy, cz)]);
        }
        Ok(Self::from_triangles(&corners))
    }

    /// Welds equal corners and makes normals. Triangles without area are dropped.
    pub fn from_triangles(corners: &[[Point3<f32>; 3]]) -> Self {
        let mut welded = HashMap::new();
        let mut faces = Vec::with_capacity(corners.len());
        for [a, b, c] in corners {
            let normal = (b - a).cross(&(c - a));
            if normal.norm_squared() > 0.0 {
                let index = [a, b, c].map(|p| {
                    let next = welded.len();
                    *welded.entry([p.x.to_bits(), p.y.to_bits(), p.z.to_bits()]).or_insert(next)
                });
                faces.push(([a, b, c], index, normal));
            }
        }
        let mut faces_at = vec![Vec::new(); welded.len()];
        for (i, (_, index, _)) in faces.iter().enumerate() {
            for &corner in index {
                faces_at[corner].push(i);
            }
        }

        let mut mesh = Self::default();
        // Every welded corner's vertices so far: one for each normal it has.
        let mut vertices_at: Vec<Vec<u32>> = vec![Vec::new(); welded.len()];
        for (points, index, face_normal) in &faces {
            let unit = face_normal.normalize();
            let triangle = std::array::from_fn(|k| {
                let smooth: Vector3<f32> = faces_at[index[k]]
                    .iter()
                    .map(|&face| faces[face].2)
                    .filter(|other| other.dot(&unit) > CREASE_COSINE * other.norm())
                    .sum();
                let normal = smooth.try_normalize(1e-20).unwrap_or(unit);
                let known = vertices_at[index[k]].iter().copied().find(|&v| mesh.normals[v as usize].dot(&normal) > 0.999);
                known.unwrap_or_else(|| {
                    let vertex = mesh.positions_m.len() as u32;
                    mesh.positions_m.push(*points[k]);
                    mesh.normals.push(normal);
                    vertices_at[index[k]].push(vertex);
                    vertex
                })
            });
            mesh.triangles.push(triangle);
        }
        mesh
    }

    /// A box around the origin. Its faces are cut into a grid, because shadows are looked up at the
    /// vertices.
    pub fn cuboid(half_extents_m: Vector3<f32>) -> Self {
        const CELLS: usize = 5;
        let mut corners = Vec::new();
        for axis in 0..3 {
            for side in [-1.0f32, 1.0] {
                // u × v points along the axis, so that the outside is where `side` says.
                let (u, v) = ((axis + 1) % 3, (axis + 2) % 3);
                let at = |i: usize, j: usize| {
                    let mut point = Point3::origin();
                    point[axis] = side * half_extents_m[axis];
                    point[u] = half_extents_m[u] * (2.0 * i as f32 / CELLS as f32 - 1.0);
                    point[v] = half_extents_m[v] * (2.0 * j as f32 / CELLS as f32 - 1.0);
                    point
                };
                for i in 0..CELLS {
                    for j in 0..CELLS {
                        let quad = [at(i, j), at(i + 1, j), at(i + 1, j + 1), at(i, j + 1)];
                        let [a, b, c, d] = if side > 0.0 { quad } else { [quad[0], quad[3], quad[2], quad[1]] };
                        corners.extend([[a, b, c], [a, c, d]]);
                    }
                }
            }
        }
        Self::from_triangles(&corners)
    }

    /// A ball around the origin.
    pub fn ball(radius_m: f32) -> Self {
        const RINGS: usize = 12;
        const SEGMENTS: usize = 20;
        let at = |ring: usize, segment: usize| {
            let polar = std::f32::consts::PI * ring as f32 / RINGS as f32;
            let around = std::f32::consts::TAU * (segment % SEGMENTS) as f32 / SEGMENTS as f32;
            Point3::new(polar.sin() * around.cos(), polar.sin() * around.sin(), polar.cos()) * radius_m
        };
        let mut corners = Vec::new();
        for ring in 0..RINGS {
            for segment in 0..SEGMENTS {
                let [a, b, c, d] = [at(ring, segment), at(ring + 1, segment), at(ring + 1, segment + 1), at(ring, segment + 1)];
                if ring + 1 < RINGS {
                    corners.push([a, b, c]);
                }
                if ring > 0 {
                    corners.push([a, c, d]);
                }
            }
        }
        Self::from_triangles(&corners)
    }

    pub fn triangle_count(&self) -> usize {
        self.triangles.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stl(corners: &[[f32; 9]]) -> Vec<u8> {
        let mut bytes = vec![b' '; 80];
        bytes.extend((corners.len() as u32).to_le_bytes());
        for triangle in corners {
            bytes.extend([0; 12]);
            bytes.extend(triangle.iter().flat_map(|v| v.to_le_bytes()));
            bytes.extend([0; 2]);
        }
        bytes
    }

    #[test]
    fn stl_is_read_and_welded() {
        let quad = stl(&[[0., 0., 0., 1., 0., 0., 1., 1., 0.], [0., 0., 0., 1., 1., 0., 0., 1., 0.]]);
        let mesh = Mesh::from_stl(&quad).unwrap();
        assert_eq!((mesh.positions_m.len(), mesh.triangle_count()), (4, 2));
        assert!(mesh.normals.iter().all(|n| (n - Vector3::z()).norm() < 1e-6));
    }

    #[test]
    fn damaged_stl_is_refused() {
        let good = stl(&[[0., 0., 0., 1., 0., 0., 1., 1., 0.]]);
        assert_eq!(Mesh::from_stl(&good[..50]), Err(MeshError::Length { found: 50, expected: 84 }));
        assert_eq!(Mesh::from_stl(&good[..133]), Err(MeshError::Length { found: 133, expected: 134 }));
        assert_eq!(Mesh::from_stl(&stl(&[])), Err(MeshError::Count(0)));
        let mut huge = good.clone();
        huge[80..84].copy_from_slice(&u32::MAX.to_le_bytes());
        assert_eq!(Mesh::from_stl(&huge), Err(MeshError::Count(u32::MAX as usize)));
        assert_eq!(Mesh::from_stl(&stl(&[[0., 0., 0., 1., f32::NAN, 0., 1., 1., 0.]])), Err(MeshError::NotFinite(0)));
    }

    #[test]
    fn a_box_keeps_hard_edges_and_a_ball_is_smooth() {
        let cube = Mesh::cuboid(Vector3::new(0.1, 0.2, 0.3));
        for (position, normal) in cube.positions_m.iter().zip(&cube.normals) {
            let axis = normal.iamax();
            assert!(normal[axis].abs() > 0.999);
            assert!((position[axis] * normal[axis].signum() - [0.1, 0.2, 0.3][axis]).abs() < 1e-6, "faces look outwards");
        }
        let ball = Mesh::ball(0.5);
        for (position, normal) in ball.positions_m.iter().zip(&ball.normals) {
            assert!(position.coords.normalize().dot(normal) > 0.98, "{position} {normal}");
        }
    }
}
