//! What a motor does to its joint, and the joint to it.

/// Ambient temperature, in degrees Celsius.
const AMBIENT: f64 = 27.0;
/// Degrees a second at full torque.
const HEATING: f64 = 2.0;
/// Seconds after which a difference to the ambience has fallen to a third.
const COOLING: f64 = 120.0;
/// Part of the full torque that the gears' friction holds without power.
const FRICTION: f64 = 0.04;
/// What the greatest load makes of the position, times gain, in ticks: a proportional controller yields.
const YIELD: f64 = 800.0;

/// What the electronics want.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Drive {
    Off,
    /// A place in ticks of the body, on the way there at most so fast (ticks a second) and with at most so much
    /// acceleration (ticks per square second), with a stiffness (1 is the factory's) and whether an integral part takes
    /// away what the load makes of it.
    Position {
        goal: f64,
        fastest: f64,
        acceleration: f64,
        stiffness: f64,
        is_exact: bool,
    },
    /// A speed in ticks a second.
    Velocity {
        goal: f64,
        acceleration: f64,
    },
    /// Part of the full torque.
    Torque(f64),
}

/// The mechanical side. Positions are the output shaft's in ticks, over many turns, before offset and direction.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Body {
    pub position: f64,
    /// Ticks a second.
    pub velocity: f64,
    /// What pulls at the joint, as a part of the full torque; positive towards larger positions.
    pub load: f64,
    /// Where the joint can't go on.
    pub stops: (f64, f64),
    /// What the motor gives, as a part of the full torque.
    pub effort: f64,
    /// Degrees Celsius.
    pub temperature: f64,
    /// Ticks a second without load.
    pub fastest: f64,
    /// Somebody else says where the joint is.
    pub is_carried: bool,
}

impl Body {
    pub fn new(position: f64, load: f64, stops: (f64, f64), fastest: f64) -> Self {
        Self { position, velocity: 0.0, load, stops, effort: 0.0, temperature: AMBIENT + 3.0, fastest, is_carried: false }
    }

    /// Goes on by `dt` seconds, with at most `limit` of the full torque.
    pub fn advance(&mut self, dt: f64, drive: Drive, limit: f64) {
        // A motor that was not looked at for long is not worth more than some thousand steps.
        let step = f64::max(0.001, dt / 4000.0);
        let mut left = dt;
        while left > 0.0 {
            let now = left.min(step);
            self.step(now, drive, limit);
            left -= now;
        }
    }

    fn step(&mut self, dt: f64, drive: Drive, limit: f64) {
        if self.is_carried {
            self.warm(dt);
            return;
        }
        let strongest = 60.0 * self.fastest;
        let is_too_weak = self.load.abs() > limit && drive != Drive::Off;
        match drive {
            Drive::Off => {
                self.give_way(dt, self.load);
                self.effort = 0.0;
            }
            _ if is_too_weak => {
                let rest = self.load.abs() - limit + FRICTION;
                self.give_way(dt, rest.copysign(self.load));
                self.effort = limit.copysign(-self.load);
            }
            Drive::Position { goal, fastest, acceleration, stiffness, is_exact } => {
                let give = if is_exact { 0.0 } else { self.load * YIELD / (16.0 * stiffness.max(0.1)) };
                let away = goal + give - self.position;
                let acceleration = acceleration.min(strongest);
                let brake = (2.0 * acceleration * away.abs()).sqrt();
                let wanted = brake.min(fastest.min(self.fastest)).min(away.abs() / dt).copysign(away);
                self.follow(dt, wanted, acceleration);
                let push = if self.is_blocked(away) { away * stiffness / 300.0 } else { 0.0 };
                self.effort = self.effort_of(push).clamp(-limit, limit);
            }
            Drive::Velocity { goal, acceleration } => {
                self.follow(dt, goal.clamp(-self.fastest, self.fastest), acceleration.min(strongest));
                let push = if self.is_blocked(goal) { goal.signum() } else { 0.0 };
                self.effort = self.effort_of(push).clamp(-limit, limit);
            }
            Drive::Torque(torque) => {
                let torque = torque.clamp(-limit, limit);
                let sum = torque + self.load;
                self.give_way(dt, sum);
                self.effort = torque;
            }
        }
        self.position += self.velocity * dt;
        if self.position < self.stops.0 || self.position > self.stops.1 {
            self.position = self.position.clamp(self.stops.0, self.stops.1);
            self.velocity = 0.0;
        }
        self.warm(dt);
    }

    fn warm(&mut self, dt: f64) {
        self.temperature += dt * (HEATING * self.effort * self.effort - (self.temperature - AMBIENT) / COOLING);
    }

    fn effort_of(&self, push: f64) -> f64 {
        push - self.load + 0.15 * self.velocity / self.fastest
    }

    fn is_blocked(&self, way: f64) -> bool {
        way > 0.5 && self.position >= self.stops.1 || way < -0.5 && self.position <= self.stops.0
    }

    fn follow(&mut self, dt: f64, wanted: f64, acceleration: f64) {
        let most = acceleration * dt;
        self.velocity += (wanted - self.velocity).clamp(-most, most);
    }

    /// Moves as a force makes it that nothing but friction holds.
    fn give_way(&mut self, dt: f64, force: f64) {
        let left = (force.abs() - FRICTION).max(0.0).copysign(force);
        let wanted = left * self.fastest;
        self.follow(dt, wanted, 20.0 * self.fastest);
    }
}
