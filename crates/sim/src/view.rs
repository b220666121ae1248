//! What the cameras of a world see.

use nalgebra::Isometry3;
use sinew_core::{Image, RobotDescription};

use crate::error::SimError;
use crate::mesh::Mesh;
use crate::render::{Camera, Decal, Instance, MeshId, Renderer};
use crate::robots::RobotModel;
use crate::scene::{PropShape, Scene};

/// What something that is seen is fixed to.
#[derive(Clone, Copy)]
enum Anchor {
    World,
    /// Index of a link: the base is 0.
    Link(usize),
    /// Index of a prop.
    Prop(usize),
}

/// Where everything is at one moment.
pub(crate) struct Poses {
    pub world_from_links: Vec<Isometry3<f64>>,
    pub world_from_props: Vec<Isometry3<f64>>,
}

impl Poses {
    fn world_from(&self, anchor: Anchor) -> Isometry3<f64> {
        match anchor {
            Anchor::World => Isometry3::identity(),
            Anchor::Link(i) => self.world_from_links[i],
            Anchor::Prop(i) => self.world_from_props[i],
        }
    }
}

/// The robot's parts and the cameras, found once.
pub(crate) struct View {
    model: RobotModel,
    /// One a camera, in the description's order.
    cameras: Vec<(Anchor, Isometry3<f64>, f64)>,
    /// Made for the present scene.
    stage: Option<Stage>,
}

struct Stage {
    renderer: Renderer,
    bodies: Vec<(Anchor, MeshId, [f32; 3])>,
    discs: Vec<(usize, f64, [f32; 3])>,
}

impl View {
    /// # Errors
    /// When a camera has no place, or its link does not exist.
    pub fn new(model: RobotModel) -> Result<Self, SimError> {
        let robot: &RobotDescription = &model.description;
        let invalid = |what: String| SimError::Description { robot: robot.name.clone(), what };
        let simulation = crate::arm::simulation(robot)?;
        let mut cameras = Vec::new();
        for wanted in &robot.cameras {
            let camera = simulation
                .cameras
                .iter()
                .find(|camera| camera.name == wanted.name)
                .ok_or_else(|| invalid(format!("camera {}: no simulation.camera is called that", wanted.name)))?;
            let anchor = match simulation.links.iter().position(|link| link.name == camera.link) {
                Some(i) => Anchor::Link(i),
                None if camera.link == "world" => Anchor::World,
                None => return Err(invalid(format!("camera {}: it is fixed to {}, which is no link", camera.name, camera.link))),
            };
            cameras.push((anchor, camera.link_from_camera.to_isometry(), camera.vertical_field_of_view_rad));
        }
        Ok(Self { model, cameras, stage: None })
    }

    /// Forgets the scene.
    pub fn reset(&mut self) {
        self.stage = None;
    }

    /// Draws what the cameras with the given indices see, each into its image at the image's size.
    ///
    /// # Errors
    /// When there is no such camera.
    pub fn draw<'images>(
        &mut self,
        scene: &Scene,
        poses: &Poses,
        wanted: impl Iterator<Item = (usize, &'images mut Image)>,
    ) -> Result<(), SimError> {
        let stage = self.stage.get_or_insert_with(|| Stage::new(&self.model, scene));
        let instances: Vec<Instance> = stage
            .bodies
            .iter()
            .map(|(anchor, mesh, color)| Instance { mesh: *mesh, world_from_mesh: poses.world_from(*anchor).cast(), color: *color })
            .collect();
        let decals: Vec<Decal> = stage
            .discs
            .iter()
            .map(|(prop, radius_m, color)| {
                let at = poses.world_from_props[*prop].translation.vector.cast::<f32>();
                Decal { center_m: [at.x, at.y], radius_m: *radius_m as f32, color: *color }
            })
            .collect();
        let mut staged = stage.renderer.stage(&scene.look, &instances, &decals);
        for (camera, image) in wanted {
            let (anchor, anchor_from_camera, field_of_view_rad) =
                self.cameras.get(camera).ok_or(SimError::NoCamera { camera, count: self.cameras.len() })?;
            let camera = Camera {
                world_from_camera: (poses.world_from(*anchor) * anchor_from_camera).cast(),
                vertical_field_of_view_rad: *field_of_view_rad as f32,
            };
            staged.draw(&camera, image);
        }
        Ok(())
    }
}

impl Stage {
    fn new(model: &RobotModel, scene: &Scene) -> Self {
        let mut renderer = Renderer::new();
        let mut bodies = Vec::new();
        let mut discs = Vec::new();
        let links = model.description.simulation.iter().flat_map(|simulation| &simulation.links);
        for (i, link) in links.enumerate() {
            for visual in &link.visuals {
                if let Some(mesh) = model.meshes.get(&visual.mesh) {
                    bodies.push((Anchor::Link(i), renderer.add_mesh(mesh.clone()), visual.color));
                }
            }
        }
        for (i, prop) in scene.props.iter().enumerate() {
            let mesh = match prop.shape {
                PropShape::Box { half_extents_m } => Mesh::cuboid(half_extents_m.cast()),
                PropShape::Ball { radius_m } => Mesh::ball(radius_m as f32),
                PropShape::Disc { radius_m } => {
                    discs.push((i, radius_m, prop.color));
                    continue;
                }
            };
            bodies.push((Anchor::Prop(i), renderer.add_mesh(mesh), prop.color));
        }
        Self { renderer, bodies, discs }
    }
}
