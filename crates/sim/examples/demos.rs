//! Runs scripted demonstrations and says how they went:
//! `demos TASK [EPISODES] [FIRST_SEED]`.

#![allow(clippy::print_stdout, reason = "printing is what it is for")]

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use sinew_core::{Armed, Environment, Interventions, Observation, Outcome, RobotDescription, SafetyGate, TeleopStatus, Tick, Timestamp};
use sinew_sim::{SimEnvironment, SimRobot, World, tasks};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut args = std::env::args().skip(1);
    let task = tasks::get(&args.next().unwrap_or_else(|| "push".into()))?;
    let episodes: u64 = args.next().map_or(Ok(20), |n| n.parse())?;
    let first: u64 = args.next().map_or(Ok(0), |n| n.parse())?;
    let verbose = std::env::var("TRACE").is_ok();
    let strips: u64 = std::env::var("STRIPS").map_or(Ok(0), |n| n.parse())?;
    let model = sinew_sim::robots::get("so101")?;
    let robot = Arc::new(model.description.clone());
    let world = Arc::new(Mutex::new(World::new(&model)?));
    let mut arm = SimRobot::new(world.clone());
    let mut environment = SimEnvironment::new(world.clone(), task);
    let period = Duration::from_nanos(1_000_000_000 / u64::from(robot.control_rate_hz));
    let gate = SafetyGate::of(&robot);
    let (mut successes, mut done, mut ticks, mut interventions) = (0u64, 0u64, 0u64, Interventions::default());
    let start = Instant::now();
    for seed in first..first + episodes {
        let setup = environment.reset(seed)?;
        let mut teleoperator = task.teleoperator(world.clone(), seed);
        teleoperator.reset()?;
        let mut armed = Armed::new(&mut arm)?;
        let mut observation = Observation::for_robot(&robot);
        let mut tick = Tick { index: 0, due: Timestamp::ZERO, period, wants_images: seed < first + strips };
        let mut strip = Strip::default();
        armed.observe(&tick, &mut observation)?;
        let mut command = gate.hold(&observation.position_rad);
        let mut wanted = vec![0.0; robot.joints.len()];
        let mut applied = wanted.clone();
        let mut outcome = Outcome::Running;
        let mut status = TeleopStatus::Active;
        while tick.index < setup.max_ticks {
            armed.observe(&tick, &mut observation)?;
            status = teleoperator.action(&tick, &mut wanted)?;
            interventions += gate.advance(&mut command, &wanted, &observation.position_rad, period.as_secs_f64());
            armed.apply(&command, &mut applied)?;
            outcome = environment.outcome();
            if verbose && tick.index % std::env::var("TRACE").unwrap().parse::<u64>().unwrap() == 0 {
                let world = world.lock().unwrap();
                let (tool, cube) = (world.world_from_tool().translation.vector * 1e3, world.world_from_prop(0).translation.vector * 1e3);
                                let r = world.world_from_prop(0).rotation; let cx = r * nalgebra::Vector3::x(); let ty = world.world_from_tool().rotation * nalgebra::Vector3::x();
                print!("cube yaw {:.2} up {:.2} head {:.2} ", cx.y.atan2(cx.x), (r * nalgebra::Vector3::z()).z, ty.y.atan2(ty.x));
                println!(
                    "{:4} tool {:6.0} {:6.0} {:5.0} cube {:6.0} {:6.0} {:5.0} grip {:.2} effort {:.2} {outcome:?} {}",
                    tick.index,
                    tool.x,
                    tool.y,
                    tool.z,
                    cube.x,
                    cube.y,
                    cube.z,
                    observation.position_rad.last().unwrap(),
                    observation.effort.last().unwrap(),
                    teleoperator_note(&robot, &wanted),
                );
            }
            if status == TeleopStatus::Done || matches!(outcome, Outcome::Failure(_)) || (outcome == Outcome::Success && task.name() == "reach") {
                break;
            }
            if tick.wants_images && tick.index % 10 == 0 {
                strip.push(&observation);
            }
            tick.index += 1;
            tick.due = tick.due + period;
        }
        if seed < first + strips {
            strip.write(&format!("{}_{seed}.png", task.name()))?;
        }
        successes += u64::from(outcome == Outcome::Success);
        done += u64::from(status == TeleopStatus::Done);
        ticks += tick.index;
        if outcome != Outcome::Success {
            println!("seed {seed}: {outcome:?} after {} ticks", tick.index);
        }
    }
    let elapsed = start.elapsed().as_secs_f64();
    println!(
        "{}: {successes}/{episodes} succeeded, {done} done, mean {:.0} ticks, gate {interventions:?}, {:.0} x real time",
        task.name(),
        ticks as f64 / episodes as f64,
        ticks as f64 * period.as_secs_f64() / elapsed
    );
    Ok(())
}

fn teleoperator_note(robot: &RobotDescription, wanted: &[f64]) -> String {
    let t = robot.base_from_tool(wanted); let x = t.rotation * nalgebra::Vector3::x(); let z = t.rotation * nalgebra::Vector3::z();
    print!("[cmd {:.0} {:.0} {:.0} head {:.2} tilt {:.2}] ", t.translation.x*1e3, t.translation.y*1e3, t.translation.z*1e3, x.y.atan2(x.x), (-z.z).acos());
    wanted.iter().map(|v| format!("{v:.2} ")).collect()
}

/// The pictures of an episode, the cameras above each other, wrapped into rows.
#[derive(Default)]
struct Strip(Vec<Vec<sinew_core::Image>>);

impl Strip {
    fn push(&mut self, observation: &Observation) {
        self.0.push(observation.images.clone());
    }

    fn write(&self, path: &str) -> Result<(), Box<dyn std::error::Error>> {
        const COLUMNS: usize = 8;
        let (w, h) = (self.0[0][0].width as usize, self.0[0][0].height as usize);
        let cameras = self.0[0].len();
        let rows = self.0.len().div_ceil(COLUMNS) * cameras;
        let mut rgb = vec![0u8; COLUMNS * w * rows * h * 3];
        for (i, images) in self.0.iter().enumerate() {
            for (c, image) in images.iter().enumerate() {
                let (x, y) = ((i % COLUMNS) * w, ((i / COLUMNS) * cameras + c) * h);
                for line in 0..h {
                    let at = ((y + line) * COLUMNS * w + x) * 3;
                    rgb[at..at + w * 3].copy_from_slice(&image.rgb[line * w * 3..][..w * 3]);
                }
            }
        }
        let mut encoder = png::Encoder::new(std::fs::File::create(path)?, (COLUMNS * w) as u32, (rows * h) as u32);
        encoder.set_color(png::ColorType::Rgb);
        encoder.write_header()?.write_image_data(&rgb)?;
        Ok(())
    }
}
