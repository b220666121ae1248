//! What somebody may ask for, before it becomes a verb's options: in the words of the interface.

use sinew_core::service::Refusal;

/// The longest instruction.
const MOST_CHARACTERS: usize = 1000;

/// A number of seconds from `least` on.
pub fn checked(name: &str, value: Option<f64>, least: f64) -> Result<Option<f64>, Refusal> {
    match value {
        Some(value) if !(value.is_finite() && value >= least && value < 1e6) => {
            let shown = if value.abs() < 1e6 { value.to_string() } else { format!("{value:e}") };
            let expected = if least > 0.0 && least < 0.1 { "above 0".to_owned() } else { format!("from {least} on") };
            Err(Refusal::Bad(format!("{name} is {shown}, expected seconds {expected}, below 1e6")))
        }
        value => Ok(value),
    }
}

/// How many episodes, and of which scene.
pub fn check_counts(episodes: Option<u64>, seed: Option<u64>) -> Result<(), Refusal> {
    if episodes == Some(0) {
        return Err(Refusal::Bad("episodes is 0, expected at least 1".to_owned()));
    }
    match seed.filter(|seed| i64::try_from(*seed).is_err()) {
        Some(seed) => Err(Refusal::Bad(format!("seed is {seed}, expected at most {}", i64::MAX))),
        None => Ok(()),
    }
}

/// An instruction is a sentence, which stands in each row of a dataset.
pub fn check_instruction(text: Option<&str>) -> Result<(), Refusal> {
    let Some(text) = text else { return Ok(()) };
    if text.chars().any(char::is_control) {
        return Err(Refusal::Bad("the instruction has line breaks or other control characters; expected a sentence".to_owned()));
    }
    match text.chars().count() {
        count if count > MOST_CHARACTERS => {
            Err(Refusal::Bad(format!("the instruction has {count} characters; expected at most {MOST_CHARACTERS}")))
        }
        _ => Ok(()),
    }
}
