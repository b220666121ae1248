//! What the cameras of a world see.

use std::sync::Arc;

use nalgebra::Isometry3;
use sinew_core::{Image, ImageBuffers, RobotDescription, Timestamp};

use crate::error::SimError;
use crate::mesh::Mesh;
use crate::render::{Camera, Decal, Instance, MeshId, Renderer};
use crate::robots::RobotModel;
use crate::scene::{PropShape, Scene};
use crate::seen::Seen;

/// What something that is seen is fixed to.
#[derive(Clone, Copy)]
enum Anchor {
    World,
    /// Index of a link: the base is 0.
    Link(usize),
    /// Index of a prop.
    Prop(usize),
}

fn world_from(seen: &Seen, anchor: Anchor) -> Isometry3<f64> {
    match anchor {
        Anchor::World => Isometry3::identity(),
        Anchor::Link(i) => seen.world_from_links[i],
        Anchor::Prop(i) => seen.world_from_props[i],
    }
}

/// What a robot and its cameras look like: never changes.
pub struct View {
    model: RobotModel,
    /// One a camera, in the description's order.
    cameras: Vec<Eye>,
}

struct Eye {
    anchor: Anchor,
    anchor_from_camera: Isometry3<f64>,
    vertical_field_of_view_rad: f64,
    width: u32,
    height: u32,
}

impl View {
    /// # Errors
    /// When a camera has no place, or its link does not exist.
    pub(crate) fn new(model: RobotModel) -> Result<Self, SimError> {
        let robot: &RobotDescription = &model.description;
        let invalid = |what: String| SimError::Description { robot: robot.name.clone(), what };
        let simulation = crate::arm::simulation(robot)?;
        let mut cameras = Vec::new();
        for wanted in &robot.cameras {
            if wanted.depth {
                return Err(invalid(format!(
                    "camera {}: it is a depth camera, expected one of colours: the simulator draws no depth",
                    wanted.name
                )));
            }
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
            cameras.push(Eye {
                anchor,
                anchor_from_camera: camera.link_from_camera.to_isometry(),
                vertical_field_of_view_rad: camera.vertical_field_of_view_rad,
                width: wanted.width,
                height: wanted.height,
            });
        }
        Ok(Self { model, cameras })
    }

    /// The robot's cameras, of which nothing was drawn yet.
    pub(crate) fn black(&self) -> Vec<Image> {
        self.cameras.iter().map(|eye| Image::black(eye.width, eye.height)).collect()
    }
}

/// Buffers a camera: for those who look at images, and some that are on their way.
const BUFFERS: usize = 8;

/// Draws what the cameras of a [`View`] see, into memory of its own.
pub(crate) struct Painter {
    view: Arc<View>,
    /// Made for one scene.
    stage: Option<Stage>,
    /// One a camera.
    buffers: Vec<ImageBuffers>,
    /// How many sets of images were drawn.
    sequence: u64,
}

struct Stage {
    scene: Arc<Scene>,
    renderer: Renderer,
    bodies: Vec<(Anchor, MeshId, [f32; 3])>,
    discs: Vec<(usize, f64, [f32; 3])>,
    /// Kept from one time to the next, as room.
    instances: Vec<Instance>,
    decals: Vec<Decal>,
}

impl Painter {
    pub fn new(view: Arc<View>) -> Self {
        let bytes = |eye: &Eye| eye.width as usize * eye.height as usize * 3;
        let buffers = view.cameras.iter().map(|eye| ImageBuffers::new(BUFFERS, bytes(eye))).collect();
        Self { view, stage: None, buffers, sequence: 0 }
    }

    /// Draws what each camera sees, `captured_at` then. Allocates nothing once it has drawn this scene, while
    /// not too many of its images are kept.
    ///
    /// # Errors
    /// When there is not one image a camera.
    pub fn draw(&mut self, seen: &Seen, captured_at: Timestamp, images: &mut [Image]) -> Result<(), SimError> {
        let cameras = &self.view.cameras;
        if images.len() != cameras.len() {
            return Err(SimError::Images { images: images.len(), cameras: cameras.len() });
        }
        let stage = match &mut self.stage {
            Some(stage) if Arc::ptr_eq(&stage.scene, &seen.scene) => stage,
            stage => stage.insert(Stage::new(&self.view.model, &seen.scene)),
        };
        stage.instances.clear();
        stage.instances.extend(stage.bodies.iter().map(|(anchor, mesh, color)| Instance {
            mesh: *mesh,
            world_from_mesh: world_from(seen, *anchor).cast(),
            color: *color,
        }));
        stage.decals.clear();
        stage.decals.extend(stage.discs.iter().map(|(prop, radius_m, color)| {
            let at = seen.world_from_props[*prop].translation.vector.cast::<f32>();
            Decal { center_m: [at.x, at.y], radius_m: *radius_m as f32, color: *color }
        }));
        self.sequence += 1;
        let mut staged = stage.renderer.stage(&stage.scene.look, &stage.instances, &stage.decals);
        for ((eye, image), buffers) in cameras.iter().zip(images).zip(&mut self.buffers) {
            let camera = Camera {
                world_from_camera: (world_from(seen, eye.anchor) * eye.anchor_from_camera).cast(),
                vertical_field_of_view_rad: eye.vertical_field_of_view_rad as f32,
            };
            (image.width, image.height) = (eye.width, eye.height);
            image.rgb = buffers.fill(|rgb| staged.draw(&camera, (eye.width, eye.height), rgb));
            (image.captured_at, image.sequence) = (captured_at, self.sequence);
        }
        Ok(())
    }

    /// How many sets of images were drawn.
    pub fn sequence(&self) -> u64 {
        self.sequence
    }
}

impl Stage {
    fn new(model: &RobotModel, scene: &Arc<Scene>) -> Self {
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
        Self { scene: scene.clone(), renderer, bodies, discs, instances: Vec::new(), decals: Vec::new() }
    }
}
