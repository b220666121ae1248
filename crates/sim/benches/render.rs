//! How many images of the SO-101's scene one core draws: `cargo bench -p sinew-sim --bench render`.

#![allow(clippy::print_stdout, reason = "printing is what it is for")]

use std::time::{Duration, Instant};

use sinew_core::{Cameras, Environment, Image, Tick, Timestamp};
use sinew_sim::{SharedWorld, SimCameras, SimEnvironment, World, robots, tasks};

const ROUNDS: usize = 30;
const IMAGES: usize = 10;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut model = robots::get("so101")?;
    let triangles: usize = model.meshes.values().map(sinew_sim::Mesh::triangle_count).sum();
    println!("the arm has {triangles} triangles");
    let task = *tasks::list().first().ok_or("there is no task")?;
    let tick = Tick { turn: 0, due: Timestamp::ZERO, period: Duration::from_millis(33), wants_images: true };
    for (width, height) in [(128, 96), (224, 224), (640, 480)] {
        model.description.cameras.iter_mut().for_each(|camera| (camera.width, camera.height) = (width, height));
        let shared = SharedWorld::new(World::new(&model)?);
        SimEnvironment::new(shared.clone(), task).reset(1)?;
        let mut cameras = SimCameras::in_step(shared);
        let mut images: Vec<Image> = model.description.cameras.iter().map(|_| Image::black(width, height)).collect();
        let mut fastest_s = f64::MAX;
        for _ in 0..ROUNDS {
            let start = Instant::now();
            for _ in 0..IMAGES {
                cameras.newest(&tick, &mut images)?;
            }
            fastest_s = fastest_s.min(start.elapsed().as_secs_f64());
        }
        let count = (IMAGES * images.len()) as f64;
        println!("{width} x {height}: {:.0} images/s", count / fastest_s);
    }
    Ok(())
}
