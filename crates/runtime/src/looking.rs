//! Looking: at the robot and at its images, before anything moves and at every tick.

use std::time::Duration;

use sinew_core::{Armed, CameraDescription, Cameras, Image, Robot, Tick, Timestamp, WhenOld};

use crate::Fault;
use crate::control::{Control, Shared};

/// How long the first images are waited for before anything moves.
const FIRST_WITHIN: Duration = Duration::from_secs(5);
/// How many of a camera's periods ago an image may have been taken that is the first of an episode.
const PERIODS: i64 = 2;

impl Control<'_> {
    /// Reads the robot, torque being off, into an observation that is a turn older; whether it answered. That it does not is
    /// no fault until `transient_s` after `heard_at`, when it did so last.
    fn look_at(&mut self, robot: &mut dyn Robot, now: Timestamp, heard_at: Timestamp) -> Result<bool, Fault> {
        let tick = self.tick_of(0, now, true);
        let observation = &mut self.frames.current.observation;
        observation.age();
        observation.tick = 0;
        match robot.begin_read(&tick).and_then(|()| robot.finish_read(&tick, now + tick.period, observation)) {
            Ok(()) => Ok(true),
            Err(error) if error.is_transient() && now.nanos_since(heard_at) as f64 * 1e-9 <= self.shared.config.transient_s => Ok(false),
            Err(source) => Err(Fault::Observe { tick: 0, source }),
        }
    }

    /// What the robot sees and feels, torque being off. Images are those that were taken from now on, or, where nobody has changed
    /// the scene, just before: who records one episode after the other waits for no camera.
    fn look(&mut self, robot: &mut dyn Robot, cameras: &mut dyn Cameras) -> Result<bool, Fault> {
        let Shared { clock, stop, .. } = self.shared;
        let since = clock.now();
        loop {
            let now = clock.now();
            let is_read = self.look_at(robot, now, since)?;
            let tick = self.tick_of(0, now, true);
            let observation = &mut self.frames.current.observation;
            cameras.newest(&tick, &mut observation.images).map_err(Fault::Camera)?;
            let room_ns = |camera: &CameraDescription| {
                let fps = camera.fps.unwrap_or(self.robot.control_rate_hz).max(1);
                if self.is_set_up { 0 } else { PERIODS * 1_000_000_000 / i64::from(fps) }
            };
            let mut images = observation.images.iter().zip(&self.robot.cameras);
            let needs = self.shared.config.needs_images;
            let old = images.position(|(image, camera)| needs && since.nanos_since(image.captured_at) > room_ns(camera));
            if old.is_none() && is_read {
                return Ok(true);
            }
            if stop.is_requested() {
                return Ok(false);
            }
            if let Some(camera) = old
                && clock.now().nanos_since(since) > FIRST_WITHIN.as_nanos() as i64
            {
                let age_s = clock.now().nanos_since(observation.images[camera].captured_at) as f64 * 1e-9;
                return Err(self.stale_image(0, camera, age_s));
            }
            clock.sleep_until(now + Duration::from_millis(5));
        }
    }

    /// Images grow old while the policy thinks and the robot goes to its start: waits for young ones, the robot being looked
    /// after at every turn. `false` when a stop was asked for meanwhile.
    pub(crate) fn look_again(&mut self, armed: &mut Armed<'_>, cameras: &mut dyn Cameras) -> Result<bool, Fault> {
        let Shared { clock, stop, .. } = self.shared;
        let since = clock.now();
        loop {
            let now = clock.now();
            let mut images = self.frames.current.observation.images.iter().zip(&self.robot.cameras);
            let age_ns = |image: &Image| now.nanos_since(image.captured_at);
            // Half of what is allowed leaves the first ticks some room.
            let limit_ns = |camera: &CameraDescription| i64::from(camera.max_age_ms) * 500_000;
            let old = images.position(|(image, camera)| camera.when_old == WhenOld::Stop && age_ns(image) > limit_ns(camera));
            let Some(camera) = old.filter(|_| clock.runs_by_itself()) else { return Ok(true) };
            if now.nanos_since(since) > FIRST_WITHIN.as_nanos() as i64 {
                let age_s = age_ns(&self.frames.current.observation.images[camera]) as f64 * 1e-9;
                return Err(self.stale_image(0, camera, age_s));
            }
            let turn = self.wait();
            if stop.is_requested() {
                return Ok(false);
            }
            let tick = self.tick_of(turn.index, turn.due, true);
            self.read(armed, &tick, 0)?;
            cameras.newest(&tick, &mut self.frames.current.observation.images).map_err(Fault::Camera)?;
            self.drive(armed, false, 0)?;
        }
    }

    fn stale_image(&self, tick: u64, camera: usize, age_s: f64) -> Fault {
        let camera = &self.robot.cameras[camera];
        Fault::StaleImage { tick, camera: camera.name.clone(), age_s, limit_s: f64::from(camera.max_age_ms) * 1e-3 }
    }

    /// The source's first actions, before anything moves. `false` when a stop was asked for.
    pub(crate) fn prepare(&mut self, robot: &mut dyn Robot, cameras: &mut dyn Cameras) -> Result<bool, Fault> {
        let clock = self.shared.clock;
        if let Some(policy) = &mut self.acting.policy
            && !policy.begin()?
        {
            return Ok(false);
        }
        if !self.look(robot, cameras)? {
            return Ok(false);
        }
        if self.acting.lone_human().is_some() {
            // On a clock that doesn't run by itself he is waited for at each tick.
            return if clock.runs_by_itself() { self.wait_for_human(robot) } else { Ok(true) };
        }
        if let Some(policy) = self.acting.policy.as_mut().filter(|policy| policy.is_cold())
            && (!policy.warm_up(&self.frames.current.observation)? || !self.look(robot, cameras)?)
        {
            return Ok(false);
        }
        let mut pause_ns = 0;
        loop {
            let Some(policy) = &mut self.acting.policy else { return Ok(true) };
            policy.ask_first(&self.frames.current.observation);
            match policy.first(true)? {
                // It is asked about the robot as it is then.
                Some(false) if policy.back_off(&mut pause_ns) && self.look(robot, cameras)? => {}
                there => return Ok(there == Some(true)),
            }
        }
    }

    /// Asks the one who acts alone until he says something: each time about the robot as it is then, as what was not known
    /// of it may be what he waits for. `false` when a stop was asked for.
    fn wait_for_human(&mut self, robot: &mut dyn Robot) -> Result<bool, Fault> {
        let Shared { clock, stop, .. } = self.shared;
        let mut heard_at = clock.now();
        loop {
            let now = clock.now();
            let Some(human) = self.acting.lone_human() else { return Ok(true) };
            if human.has_spoken(clock, &mut self.wanted)? {
                return Ok(true);
            }
            let tick = Tick { turn: 0, due: now, period: self.schedule.period(), wants_images: false };
            human.ask(&tick, clock, &self.frames.current.observation, &self.motion)?;
            if stop.is_requested() {
                return Ok(false);
            }
            clock.sleep_until(now + Duration::from_millis(2));
            if self.look_at(robot, clock.now(), heard_at)? {
                heard_at = clock.now();
            }
        }
    }

    /// Takes the cameras' newest images, none of which may be too old where that ends the episode.
    pub(crate) fn see(&mut self, cameras: &mut dyn Cameras, tick: &Tick, policy_tick: u64) -> Result<(), Fault> {
        let images = &mut self.frames.current.observation.images;
        cameras.newest(tick, images).map_err(Fault::Camera)?;
        let now = self.shared.clock.now();
        for (i, (image, camera)) in images.iter().zip(&self.robot.cameras).enumerate() {
            let age_ns = now.nanos_since(image.captured_at);
            let ends = self.shared.config.needs_images && camera.when_old == WhenOld::Stop;
            if ends && age_ns > i64::from(camera.max_age_ms) * 1_000_000 {
                return Err(self.stale_image(policy_tick, i, age_ns as f64 * 1e-9));
            }
        }
        Ok(())
    }
}
