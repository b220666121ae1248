//! What the daemon answers to those who were let in.

use std::sync::Arc;
use std::sync::atomic::Ordering::SeqCst;
use std::time::Duration;

use serde_json::Value as Json;
use sinew_core::service::{
    CalibrationAnswer, CameraInfo, ChannelInfo, DatasetItem, EpisodeItem, EpisodeWish, HandPose, LogLine, PolicyItem, Quality, Refusal,
    RobotInfo, Service, Shot, State, StopWish, Task, TaskState, Unit, Work, WorkEnd,
};
use sinew_core::{Channel, ChannelSource, CommandMode, PartKind, RobotDescription};
use sinew_drivers::teleop::TeleopKind;
use sinew_runtime::StopLevel;
use sinew_sim::robots;

use super::asked::check_instruction;
use super::{LOG, Owned, lock, store};
use crate::args::Teleop;
use crate::commands::rollout::Setting;

/// A daemon's robot, shared by its server and its own thread.
pub struct Served(pub Arc<Owned>);

impl Service for Served {
    fn robot(&self) -> RobotInfo {
        let owned = &self.0;
        let robot = owned.description();
        let links = robot.simulation.iter().flat_map(|simulation| &simulation.links);
        let mut meshes: Vec<String> = links.flat_map(|link| &link.visuals).map(|visual| visual.mesh.clone()).collect();
        meshes.sort();
        meshes.dedup();
        let (task, is_simulated) = match &owned.setting {
            Setting::Simulator(scenario) => (Some(scenario.task.name().to_owned()), true),
            Setting::Hardware(_) => (None, false),
        };
        RobotInfo {
            name: robot.name.clone(),
            title: robot.title.clone(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            is_simulated,
            rate_hz: robot.control_rate_hz,
            state: channels(&robot.state_channels(), robot),
            action: channels(&robot.action_channels(), robot),
            parts: robot.parts.iter().map(|part| part.name.clone()).collect(),
            cameras: robot
                .cameras
                .iter()
                .map(|camera| CameraInfo { name: camera.name.clone(), width: camera.width, height: camera.height, fps: camera.fps })
                .collect(),
            meshes,
            teleoperator: owned.args.leader.teleop.as_ref().map(|teleop| match teleop {
                Teleop::Scripted => "scripted".to_owned(),
                Teleop::Device(TeleopKind::Gamepad(_)) => "gamepad".to_owned(),
                Teleop::Device(TeleopKind::SpaceMouse(_)) => "spacemouse".to_owned(),
                Teleop::Device(TeleopKind::Phone) => "phone".to_owned(),
                Teleop::Device(_) => "keyboard".to_owned(),
                Teleop::Leader(name) => name.clone(),
                Teleop::Afar(name) => format!("zenoh:{name}"),
            }),
            task,
            calibrate: owned.calibratable.clone(),
            tools: owned.hands.as_ref().map_or_else(|_| Vec::new(), |hands| hands.tools().to_vec()),
        }
    }

    fn description(&self) -> Json {
        serde_json::to_value(self.0.description()).unwrap_or_default()
    }

    fn mesh(&self, name: &str) -> Option<Vec<u8>> {
        robots::mesh_file(&self.0.args.rig.robot, self.0.description(), name)
    }

    fn wait(&self, seen: u64, within: Duration) -> u64 {
        self.0.board.wait(seen, within)
    }

    fn state(&self) -> Arc<State> {
        self.0.board.state()
    }

    fn shot(&self, camera: usize, seen: u64, quality: Quality) -> Option<Shot> {
        self.0.board.shot(camera, seen, quality)
    }

    fn steer(&self, goals: &[f64]) -> Result<(), Refusal> {
        let owned = &self.0;
        let width = owned.description().action_channels().len();
        if goals.len() != width || goals.iter().any(|goal| !goal.is_finite()) {
            return Err(Refusal::Bad(format!(
                "found {} goals, expected {width} finite numbers, one for each channel of action",
                goals.len()
            )));
        }
        owned.check_led_remotely()?;
        if let Ok(hands) = &owned.hands {
            hands.forget();
        }
        owned.goals.put(owned.clock.now(), goals);
        Ok(())
    }

    fn hold(&self, by: u64, poses: &[HandPose], age: Duration) -> Result<(), Refusal> {
        let owned = &self.0;
        let hands = owned.hands.as_ref().map_err(|error| Refusal::Conflict(error.to_string()))?;
        owned.check_led_remotely()?;
        owned.goals.forget();
        hands.put(by, poses, age, owned.clock.now())
    }

    fn stop(&self, wish: StopWish) {
        self.0.stop(wish);
    }

    fn clear_emergency(&self) -> bool {
        let owned = &self.0;
        let was_there = owned.is_emergency.swap(false, SeqCst);
        if let Some(current) = &*lock(&owned.current) {
            // What it broke off does not go on by itself, not for a moment.
            if was_there {
                current.stop.request(StopLevel::Stop);
            }
            current.stop.clear_emergency();
        }
        owned.show();
        was_there
    }

    fn start(&self, work: Work) -> Result<(), Refusal> {
        self.0.start_work(work)
    }

    fn last(&self) -> Option<WorkEnd> {
        lock(&self.0.last).clone()
    }

    fn wish(&self, wish: EpisodeWish) -> Result<(), Refusal> {
        let wish = match wish {
            EpisodeWish::Instruct { instruction } => {
                check_instruction(Some(&instruction))?;
                let instruction = instruction.trim().to_owned();
                if instruction.is_empty() {
                    return Err(Refusal::Bad("the instruction is empty; expected a sentence".to_owned()));
                }
                EpisodeWish::Instruct { instruction }
            }
            wish => wish,
        };
        let desk = lock(&self.0.current).as_ref().map(|current| current.desk.clone());
        let desk = desk.ok_or_else(|| Refusal::Conflict("nothing runs".to_owned()))?;
        let desk = desk.ok_or_else(|| Refusal::Conflict("it has not begun yet".to_owned()))?;
        let told = if let EpisodeWish::Instruct { instruction } = &wish { Some(instruction.clone()) } else { None };
        if !desk.wish(wish) {
            return Err(Refusal::Conflict("what runs has no use for that".to_owned()));
        }
        // The episode under other words begins with the next tick.
        if told.is_some() {
            self.0.update(|current| current.work.instruction = told);
        }
        Ok(())
    }

    fn log(&self, after: u64) -> Vec<LogLine> {
        let Some(log) = LOG.get() else { return Vec::new() };
        lock(log).1.iter().filter(|line| line.number > after).cloned().collect()
    }

    fn datasets(&self) -> Result<Vec<DatasetItem>, Refusal> {
        store::datasets(&self.0.datasets)
    }

    fn episodes(&self, dataset: &str) -> Result<Vec<EpisodeItem>, Refusal> {
        store::episodes(&self.0.place_of(dataset)?)
    }

    fn thumbnail(&self, dataset: &str, episode: u64) -> Result<Vec<u8>, Refusal> {
        store::thumbnail(&self.0.place_of(dataset)?, episode)
    }

    fn policies(&self) -> Result<Vec<PolicyItem>, Refusal> {
        store::policies(&self.0.policies)
    }

    fn begin_task(&self, task: Task) -> Result<u64, Refusal> {
        let order = self.0.order_of(&task)?;
        let fetched = if let Task::FetchPolicy { policy } = &task { Some(policy.clone()) } else { None };
        let policies = self.0.policies.clone();
        self.0.tasks.begin(task, order, move || fetched.iter().for_each(|name| policies.fetched(name)))
    }

    fn tasks(&self) -> Vec<TaskState> {
        self.0.tasks.list()
    }

    fn cancel_task(&self, number: u64) -> Result<(), Refusal> {
        self.0.tasks.cancel(number)
    }

    fn answer(&self, answer: CalibrationAnswer) -> Result<(), Refusal> {
        self.0.hear(answer)
    }
}

/// What channels are, for those who show them.
pub fn channels(channels: &[Channel], robot: &RobotDescription) -> Vec<ChannelInfo> {
    channels.iter().map(|channel| info(channel, robot)).collect()
}

/// What a channel is, for those who show it.
fn info(channel: &Channel, robot: &RobotDescription) -> ChannelInfo {
    let part = match channel.source {
        ChannelSource::Part(part) => robot.parts.get(part),
        ChannelSource::Base(_) | ChannelSource::Sensor(..) => None,
    };
    let is_speed = channel.mode == Some(CommandMode::Velocity);
    let unit = match (part.map(|part| part.kind), channel.source) {
        (Some(PartKind::Prismatic), _) if is_speed => Unit::MetrePerSecond,
        (Some(PartKind::Prismatic), _) => Unit::Metre,
        (Some(_), _) if is_speed => Unit::RadianPerSecond,
        (Some(_), _) => Unit::Radian,
        (None, ChannelSource::Base(2)) => Unit::RadianPerSecond,
        (None, ChannelSource::Base(_)) => Unit::MetrePerSecond,
        (None, _) => Unit::Other,
    };
    let limits = part.filter(|_| !is_speed).and_then(|part| part.limits.position);
    let (scale, offset) = channel.scale_offset;
    ChannelInfo {
        name: channel.name.clone(),
        unit,
        lower: limits.map(|[lower, _]| lower),
        upper: limits.map(|[_, upper]| upper),
        scale,
        offset,
    }
}
