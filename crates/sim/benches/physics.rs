//! How much faster than real time the world runs on one core: `cargo bench -p sinew-sim`.

#![allow(clippy::print_stdout, reason = "printing is what it is for")]

use std::time::{Duration, Instant};

use sinew_core::{Cameras, Environment, Image, Tick, Timestamp};
use sinew_sim::{SUBSTEPS_PER_SECOND, SharedWorld, SimCameras, SimEnvironment, World, robots, tasks};

/// Simulated seconds a task.
const SECONDS: u32 = 20;
const PICTURES: u32 = 100;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let model = robots::get("so101")?;
    for task in tasks::list() {
        let shared = SharedWorld::new(World::new(&model)?);
        SimEnvironment::new(shared.clone(), *task).reset(1)?;
        let mut world = shared.lock();
        world.enable_torque();
        let rest = world.values();
        let start = Instant::now();
        for substep in 0..SECONDS * SUBSTEPS_PER_SECOND {
            let t = world.time_s();
            let goals: Vec<f64> = rest.iter().enumerate().map(|(i, rest)| rest + 0.4 * (t * (1.5 + 0.4 * i as f64)).sin()).collect();
            world.set_goals(&goals)?;
            world.advance_to(f64::from(substep + 1) / f64::from(SUBSTEPS_PER_SECOND))?;
        }
        let physics_s = start.elapsed().as_secs_f64();
        drop(world);
        let mut cameras = SimCameras::in_step(shared);
        let tick = Tick { turn: 0, due: Timestamp::ZERO, period: Duration::from_millis(33), wants_images: true };
        let mut images: Vec<Image> = model.description.cameras.iter().map(|camera| Image::black(camera.width, camera.height)).collect();
        let start = Instant::now();
        for _ in 0..PICTURES {
            cameras.newest(&tick, &mut images)?;
        }
        let render_ms = start.elapsed().as_secs_f64() * 1e3 / f64::from(PICTURES);
        println!(
            "{:<10} physics {:6.0} substeps/s, {:5.1} x real time; {} images in {render_ms:.2} ms",
            task.name(),
            f64::from(SECONDS * SUBSTEPS_PER_SECOND) / physics_s,
            f64::from(SECONDS) / physics_s,
            images.len(),
        );
    }
    Ok(())
}
