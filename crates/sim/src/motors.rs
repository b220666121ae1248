//! A simulated world behind motors that somebody else plays.

use sinew_core::Timestamp;

use crate::error::SimError;
use crate::shared::SharedWorld;

/// What a world made of a motor's goal: radians or metres, a second, and a share of stall torque.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Turned {
    pub value: f64,
    pub velocity: f64,
    pub effort: f64,
}

/// Moves a world by the goals of motors that are played elsewhere, such as behind an emulated bus. Like
/// [`SimRobot`](crate::SimRobot), of which a world has one or the other, it moves the world on; its time is that of
/// the caller.
pub struct SimMotors {
    world: SharedWorld,
    /// Parts by channel of the action.
    commanded: Vec<usize>,
    goals: Vec<f64>,
    /// When the first motor had torque. Before that, time stands still: the scene begins when somebody holds the arm.
    begin: Option<Timestamp>,
}

impl SimMotors {
    pub fn new(world: SharedWorld) -> Self {
        let commanded: Vec<usize> = world.robot().parts.iter().enumerate().filter_map(|(i, part)| part.command.map(|_| i)).collect();
        Self { goals: vec![0.0; commanded.len()], world, commanded, begin: None }
    }

    /// The world at `now`: `goals` has a place for each part, `None` where its motor has no torque, and `turned` gets
    /// where each part is.
    ///
    /// # Errors
    /// When a body left the finite numbers.
    pub fn advance(&mut self, now: Timestamp, goals: &[Option<f64>], turned: &mut [Turned]) -> Result<(), SimError> {
        let mut world = self.world.lock();
        if self.begin.is_none() && goals.iter().any(Option::is_some) {
            self.begin = Some(now);
        }
        for (channel, &part) in self.commanded.iter().enumerate() {
            let goal = goals.get(part).copied().flatten();
            match (goal, world.torque_is_on(part)) {
                (Some(_), false) => world.enable(part),
                (None, true) => world.disable_torque(part),
                _ => {}
            }
            self.goals[channel] = goal.unwrap_or_else(|| world.value(part));
        }
        world.set_goals(&self.goals)?;
        if let Some(begin) = self.begin {
            world.advance_to(now.nanos_since(begin).max(0) as f64 * 1e-9)?;
        }
        world.read_at(now);
        for (part, turned) in turned.iter_mut().enumerate() {
            *turned = Turned { value: world.value(part), velocity: world.velocity(part), effort: world.effort(part) };
        }
        Ok(())
    }
}
