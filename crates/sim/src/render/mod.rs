//! Pictures of the simulated scene: a z-buffer rasteriser on the CPU, made for small images at a
//! high rate and for the same bytes every time.
//!
//! The work is split in two so that several cameras share the first part:
//!
//! 1. [`Renderer::stage`] moves every mesh into the world, casts its shadow and lights its vertices;
//! 2. [`Staged::draw`] projects the lit vertices into one camera's image.
//!
//! Edges are smoothed by 2 × 2 samples a pixel. The table is no mesh but the plane z = 0, shaded a
//! pixel: its grain, marks and shadows need no sampling of their own. Buffers are kept between
//! images, so that a steady scene allocates nothing.
//!
//! What is deliberately absent: reflections, transparency, textures on meshes, lens distortion. The
//! camera must be above the table, and objects upon it; what is below z = 0 is drawn as if nothing
//! covered it.

mod color;
mod raster;
mod shadow;
mod table;
#[cfg(test)]
mod tests;

use nalgebra::{Isometry3, Point3, Vector3};

use crate::mesh::Mesh;
use crate::scene::Look;
use color::{Encoder, Palette};
use raster::{Lens, Samples, ScreenVertex};
use shadow::ShadowMap;
use table::Table;

/// A mesh that a [`Renderer`] holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MeshId(usize);

/// A mesh somewhere in the world.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Instance {
    pub mesh: MeshId,
    pub world_from_mesh: Isometry3<f32>,
    /// Linear RGB, 0..1.
    pub color: [f32; 3],
}

/// A flat disc on the table; later ones cover earlier ones. It takes shadows and casts none.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Decal {
    pub center_m: [f32; 2],
    pub radius_m: f32,
    /// Linear RGB, 0..1.
    pub color: [f32; 3],
}

/// A pinhole camera, looking along its own −z with y up.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Camera {
    pub world_from_camera: Isometry3<f32>,
    /// The image's height as an angle; square pixels decide the width.
    pub vertical_field_of_view_rad: f32,
}

/// Holds the meshes and the buffers.
pub struct Renderer {
    meshes: Vec<Mesh>,
    encoder: Encoder,
    table: Table,
    shadows: ShadowMap,
    vertices: Vec<LitVertex>,
    staged: Vec<StagedInstance>,
    palettes: Vec<Palette>,
    samples: Samples,
    screen: Vec<ScreenVertex>,
}

struct LitVertex {
    position_m: Point3<f32>,
    /// Index into the instance's palette.
    shade: f32,
}

struct StagedInstance {
    mesh: usize,
    first_vertex: usize,
}

/// A scene that is lit and ready for any number of cameras.
pub struct Staged<'renderer> {
    renderer: &'renderer mut Renderer,
}

impl Default for Renderer {
    fn default() -> Self {
        Self::new()
    }
}

impl Renderer {
    pub fn new() -> Self {
        Self {
            meshes: Vec::new(),
            encoder: Encoder::new(),
            table: Table::new(),
            shadows: ShadowMap::new(),
            vertices: Vec::new(),
            staged: Vec::new(),
            palettes: Vec::new(),
            samples: Samples::default(),
            screen: Vec::new(),
        }
    }

    pub fn add_mesh(&mut self, mesh: Mesh) -> MeshId {
        self.meshes.push(mesh);
        MeshId(self.meshes.len() - 1)
    }

    /// Places and lights `instances` and `decals`.
    ///
    /// # Panics
    /// When an instance's mesh belongs to another renderer.
    pub fn stage(&mut self, look: &Look, instances: &[Instance], decals: &[Decal]) -> Staged<'_> {
        self.vertices.clear();
        self.staged.clear();
        self.palettes.resize_with(instances.len(), Palette::default);
        self.shadows.begin(Vector3::from(look.light_direction));
        for (instance, palette) in instances.iter().zip(&mut self.palettes) {
            let mesh = &self.meshes[instance.mesh.0];
            palette.fill(&self.encoder, instance.color, look.exposure);
            let first_vertex = self.vertices.len();
            let world_from_mesh = instance.world_from_mesh.to_matrix();
            let placed = mesh.positions_m.iter().map(|p| LitVertex { position_m: world_from_mesh.transform_point(p), shade: 0.0 });
            self.vertices.extend(placed);
            self.staged.push(StagedInstance { mesh: instance.mesh.0, first_vertex });
            let vertices = &self.vertices[first_vertex..];
            for triangle in &mesh.triangles {
                self.shadows.cast(triangle.map(|v| vertices[v as usize].position_m));
            }
        }
        self.shadows.soften();

        // All of a mesh's shadows are cast by now, its own too.
        let light = self.shadows.direction();
        for (instance, staged) in instances.iter().zip(&self.staged) {
            let mesh = &self.meshes[staged.mesh];
            let vertices = &mut self.vertices[staged.first_vertex..];
            let turn = instance.world_from_mesh.rotation.to_rotation_matrix();
            for (vertex, normal) in vertices.iter_mut().zip(&mesh.normals) {
                let normal = turn * normal;
                let facing = normal.dot(&light).max(0.0);
                let reached = |point| if facing > 0.0 { self.shadows.light_reaching(&point) } else { 0.0 };
                let lit = facing * reached(vertex.position_m + normal * shadow::BIAS_M);
                vertex.shade = color::shade(look.light_share, lit, normal.z);
            }
        }
        self.table.begin(look, light.z, decals, &self.encoder);
        Staged { renderer: self }
    }
}

impl Staged<'_> {
    /// Draws an image of `width` and `height` pixels into `rgb`, which has three bytes for each.
    pub fn draw(&mut self, camera: &Camera, (width, height): (u32, u32), rgb: &mut [u8]) {
        let (width, height) = (width as usize, height as usize);
        if rgb.is_empty() {
            return;
        }
        let Renderer { meshes, staged, palettes, vertices, screen, samples, table, shadows, .. } = &mut *self.renderer;
        let lens = Lens::new(camera, 2 * width, 2 * height);
        screen.clear();
        screen.extend(vertices.iter().map(|vertex| lens.project(&lens.to_camera(&vertex.position_m), vertex.shade)));
        samples.clear(2 * width, 2 * height);
        for (instance, palette) in staged.iter().zip(palettes) {
            let (on_screen, lit) = (&screen[instance.first_vertex..], &vertices[instance.first_vertex..]);
            for triangle in &meshes[instance.mesh].triangles {
                let corners = triangle.map(|v| on_screen[v as usize]);
                if corners.iter().all(ScreenVertex::is_in_front) {
                    samples.draw(corners, palette);
                } else {
                    let corners = triangle.map(|v| (lens.to_camera(&lit[v as usize].position_m), lit[v as usize].shade));
                    for part in lens.clip(corners) {
                        samples.draw(part, palette);
                    }
                }
            }
        }
        let view = table::View::new(camera, width, height);
        samples.resolve(rgb, |y| table.row(&view, y, shadows));
    }
}
