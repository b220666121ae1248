//! Runs scripted demonstrations of a task without the runtime and says how they went:
//!
//! ```text
//! cargo run --release -p sinew-sim --example demos -- pick-place 200
//! cargo run --release -p sinew-sim --example demos -- push 4 1000 strips
//! ```
//!
//! Arguments: the task, how many episodes, the first seed, and a folder that receives a picture of
//! each episode: every tenth tick, the cameras above each other.

#![allow(clippy::print_stdout, reason = "printing is what it is for")]

use std::error::Error;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use sinew_core::{
    Armed, Cameras, Clock, Environment, Image, Interventions, MockClock, Observation, Outcome, TeleopStatus, Tick, Unwatched, Wanted,
};
use sinew_sim::{SharedWorld, SimCameras, SimEnvironment, SimRobot, World, robots, tasks};

fn main() -> Result<(), Box<dyn Error>> {
    let mut args = std::env::args().skip(1);
    let task = tasks::get(&args.next().unwrap_or_else(|| "push".into()))?;
    let episodes: u64 = args.next().map_or(Ok(20), |n| n.parse())?;
    let first_seed: u64 = args.next().map_or(Ok(0), |n| n.parse())?;
    let folder: Option<PathBuf> = args.next().map(Into::into);

    let model = robots::get("so101")?;
    let robot = &model.description;
    let world = SharedWorld::new(World::new(&model)?);
    let mut arm = SimRobot::new(world.clone());
    let mut cameras = SimCameras::in_step(world.clone());
    let mut environment = SimEnvironment::new(world.clone(), task);
    let period = Duration::from_nanos(1_000_000_000 / u64::from(robot.control_rate_hz));
    let clock = MockClock::new();
    let (mut successes, mut done, mut ticks, mut interventions) = (0u64, 0u64, 0u64, Interventions::default());
    let mut digest = 0u64;
    let start = Instant::now();
    for seed in first_seed..first_seed + episodes {
        let setup = environment.reset(seed)?;
        let mut teleoperator = task.teleoperator(world.clone(), seed);
        let mut observation = Observation::for_robot(robot);
        let mut wanted = Wanted::for_robot(robot);
        let mut tick = Tick { turn: 0, due: clock.now(), period, wants_images: folder.is_some() };
        let mut armed = Armed::new(&mut arm, &Unwatched, &clock, &tick, &mut observation)?;
        teleoperator.reset(&observation)?;
        let mut pictures = Vec::new();
        let (mut outcome, mut status) = (Outcome::Running, TeleopStatus::Active);
        while status == TeleopStatus::Active && tick.turn < setup.max_ticks {
            clock.sleep_until(tick.due);
            armed.read(&tick, &mut observation)?;
            cameras.newest(&tick, &mut observation.images)?;
            if tick.wants_images && tick.turn.is_multiple_of(10) {
                pictures.push(observation.images.clone());
            }
            status = teleoperator.action(&tick, &observation, &mut wanted.goals)?;
            wanted.time = clock.now();
            interventions += armed.drive(Some(&wanted), &observation, period.as_secs_f64())?.interventions;
            outcome = environment.outcome();
            // Who reaches a marker stays there and is never done.
            if matches!(outcome, Outcome::Failure(_)) || outcome == Outcome::Success && task.name() == "reach" {
                break;
            }
            tick.turn += 1;
            tick.due = tick.due + period;
        }
        if let Some(folder) = &folder {
            write_strip(&pictures, &folder.join(format!("{}_{seed}.png", task.name())))?;
        }
        successes += u64::from(outcome == Outcome::Success);
        done += u64::from(status == TeleopStatus::Done);
        ticks += tick.turn;
        digest = digest.rotate_left(1) ^ environment.state_hash();
        if outcome != Outcome::Success {
            println!("seed {seed}: {outcome:?} after {} ticks", tick.turn);
        }
    }
    println!(
        "{}: {successes} of {episodes} succeeded, {done} done, {:.0} ticks each, {} gate interventions, {:.0} x real time, digest {digest:016x}",
        task.name(),
        ticks as f64 / episodes as f64,
        interventions.total(),
        ticks as f64 * period.as_secs_f64() / start.elapsed().as_secs_f64(),
    );
    Ok(())
}

/// Lays the ticks' pictures out in rows, a tick's cameras above each other; all are of one size.
fn write_strip(ticks: &[Vec<Image>], path: &Path) -> Result<(), Box<dyn Error>> {
    const COLUMNS: usize = 8;
    let Some(first) = ticks.first().and_then(|images| images.first()) else { return Ok(()) };
    let (width, height, cameras) = (first.width as usize, first.height as usize, ticks[0].len());
    let rows = ticks.len().div_ceil(COLUMNS) * cameras;
    let mut rgb = vec![0u8; COLUMNS * width * rows * height * 3];
    for (i, images) in ticks.iter().enumerate() {
        for (camera, image) in images.iter().enumerate() {
            let (left, top) = (i % COLUMNS * width, (i / COLUMNS * cameras + camera) * height);
            for (line, pixels) in image.rgb.chunks_exact(width * 3).enumerate() {
                let at = ((top + line) * COLUMNS * width + left) * 3;
                rgb[at..at + width * 3].copy_from_slice(pixels);
            }
        }
    }
    let mut encoder = png::Encoder::new(File::create(path)?, (COLUMNS * width) as u32, (rows * height) as u32);
    encoder.set_color(png::ColorType::Rgb);
    encoder.write_header()?.write_image_data(&rgb)?;
    Ok(())
}
