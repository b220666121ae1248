use thiserror::Error;

/// What the simulator could not do.
#[derive(Debug, Error)]
pub enum SimError {
    #[error("building the simulated {robot}: {what}")]
    Description { robot: String, what: String },
    #[error("looking up the task {name}: there is none of that name; there are {}", known.join(", "))]
    UnknownTask { name: String, known: Vec<&'static str> },
    #[error("stepping the world: {body} is no longer at a finite place or speed, {time_s:.3} s after the reset")]
    NotFinite { body: String, time_s: f64 },
    #[error("restoring a snapshot: another engine made it")]
    ForeignSnapshot,
    #[error("{doing}: found {found} values, expected {expected}")]
    Width { doing: &'static str, expected: usize, found: usize },
    #[error("rendering {images} images: the robot has {cameras} cameras")]
    Images { images: usize, cameras: usize },
    #[error("setting the goal of {part}: {value} is not finite")]
    NonFiniteGoal { part: String, value: f64 },
    #[error("setting the scene of {task}: {robot} has no tool to do it with")]
    NoTool { task: &'static str, robot: String },
    #[error("setting the scene of {task}, seed {seed}: no place that the tool reaches pointing down, in {attempts} attempts")]
    Unreachable { task: &'static str, seed: u64, attempts: u32 },
}
