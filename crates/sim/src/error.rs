use thiserror::Error;

/// What the simulator could not do.
#[derive(Debug, Error)]
pub enum SimError {
    #[error("building the simulated {robot}: {what}")]
    Description { robot: String, what: String },
    #[error("looking up the task {name}: there is none of that name; there are {}{}", known.join(", "), meant(name, known.iter().copied()))]
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

/// Ends an error about something called `wanted` that is not there: which of `known` may be meant.
pub(crate) fn meant<'a>(wanted: &str, known: impl IntoIterator<Item = &'a str>) -> String {
    // Alike enough that a typing error is likelier than another wish: 0.9 for one wrong letter of eight.
    const ALIKE: f64 = 0.85;
    let wanted = wanted.to_lowercase();
    let best = known.into_iter().map(|name| (strsim::jaro_winkler(&wanted, name), name)).max_by(|a, b| a.0.total_cmp(&b.0));
    best.filter(|(likeness, _)| *likeness > ALIKE).map_or_else(String::new, |(_, name)| format!("; did you mean {name}?"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_typing_error_is_answered_with_what_is_meant() {
        let tasks = ["reach", "push", "pick-place", "sort"];
        for wanted in ["pickplace", "pick_place", "Pick-Place", "pick-plcae"] {
            assert_eq!(meant(wanted, tasks), "; did you mean pick-place?", "{wanted}");
        }
        assert_eq!(meant("orbit", tasks), "");
    }
}
