//! What the log of `lerobot-train` 0.6.1 says of how far it is.
//!
//! Two things are read. The bar of tqdm (`desc="Training"`, `unit="step"`), drawn anew after a carriage return, has the
//! exact step: `Training:  10%|█  | 10/100 [00:04<00:37,  2.41step/s]`. The line of its `MetricsTracker` has the loss,
//! and a step in round thousands: `INFO 2026-11-29 19:00:00 _train.py:603 step:1K smpl:8K ep:9 epch:0.90 loss:0.532
//! grdn:9.281 lr:1.0e-05 updt_s:0.211 data_s:0.004 smp/s:37`.

use serde::Serialize;

/// How far a training is.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Progress {
    /// Updates that are done.
    pub step: u64,
    pub steps: u64,
    /// The mean since the line before.
    pub loss: Option<f64>,
    /// Seconds that an update takes, with what it waits for data.
    pub seconds_per_step: Option<f64>,
}

impl Progress {
    pub fn new(steps: u64) -> Self {
        Self { steps, ..Self::default() }
    }

    /// Whether the line says a new loss.
    pub fn read(&mut self, line: &str) -> bool {
        if let Some(bar) = line.trim_start().strip_prefix("Training:") {
            let step = bar.split('|').nth(2).and_then(|count| count.split('[').next()?.trim().split_once('/'));
            self.step = step.and_then(|(step, _)| step.parse().ok()).unwrap_or(self.step).min(self.steps);
        }
        // Both may stand in one line: the bar ends without one.
        let Some((_, said)) = line.split_once(" step:") else { return false };
        let value = |key: &str| said.split_whitespace().find_map(|word| word.strip_prefix(key)?.strip_prefix(':'));
        let number = |key: &str| value(key)?.parse::<f64>().ok().filter(|number| number.is_finite());
        let Some(loss) = number("loss") else { return false };
        self.loss = Some(loss);
        if let (Some(update), Some(data)) = (number("updt_s"), number("data_s")) {
            self.seconds_per_step = Some(update + data).filter(|seconds| *seconds > 0.0);
        }
        if let Some(step) = said.split_whitespace().next().and_then(rounded) {
            // Exact below a thousand. Above, the bar knows better, where there is one.
            self.step = if step < 1000 { step } else { self.step.max(step.min(self.steps)) };
        }
        true
    }

    /// Seconds until the last update.
    pub fn left_s(&self) -> Option<f64> {
        Some(self.seconds_per_step? * self.steps.saturating_sub(self.step) as f64)
    }

    /// In a few words, without the step.
    pub fn in_words(&self) -> String {
        let loss = self.loss.map(|loss| format!("loss {loss:.3}"));
        let left = self.left_s().map(|seconds| format!("{} left", duration(seconds)));
        loss.into_iter().chain(left).collect::<Vec<_>>().join(", ")
    }
}

/// LeRobot's `format_big_number` backwards: `12`, `1K`, `3M`.
fn rounded(text: &str) -> Option<u64> {
    let digits = text.trim_end_matches(['K', 'M', 'B', 'T']);
    let factor = match text.strip_prefix(digits)? {
        "" => 1,
        "K" => 1_000,
        "M" => 1_000_000,
        "B" => 1_000_000_000,
        _ => return None,
    };
    digits.parse::<u64>().ok()?.checked_mul(factor)
}

fn duration(seconds: f64) -> String {
    let minutes = (seconds / 60.0) as u64;
    match minutes {
        0 => format!("{seconds:.0} s"),
        1..60 => format!("{minutes} min"),
        _ => format!("{} h {} min", minutes / 60, minutes % 60),
    }
}

/// Makes lines of pieces of a log, whose lines end with a line feed or, where a bar is drawn anew, a carriage return.
#[derive(Debug, Default)]
pub struct Lines {
    begun: Vec<u8>,
}

impl Lines {
    /// More than any line of a log is worth, bytes.
    const LONGEST: usize = 64 << 10;

    pub fn take(&mut self, bytes: &[u8], mut each: impl FnMut(&str)) {
        for byte in bytes {
            let is_end = matches!(byte, b'\n' | b'\r') || self.begun.len() >= Self::LONGEST;
            if is_end {
                self.finish(&mut each);
            }
            if !matches!(byte, b'\n' | b'\r') {
                self.begun.push(*byte);
            }
        }
    }

    /// What stands at the end without one.
    pub fn finish(&mut self, mut each: impl FnMut(&str)) {
        if !self.begun.is_empty() {
            each(&String::from_utf8_lossy(&self.begun));
            self.begun.clear();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LINE: &str = "INFO 2026-11-29 19:00:00 t_train.py:603 step:10 smpl:20 ep:0 epch:0.10 loss:6.532 grdn:91.281 lr:1.0e-05 \
                        updt_s:0.200 data_s:0.050 smp/s:8 l1_loss:0.612 kld_loss:0.592";

    fn read(text: &str, steps: u64) -> (Progress, usize) {
        let (mut lines, mut progress, mut losses) = (Lines::default(), Progress::new(steps), 0);
        // In pieces of any size.
        for piece in text.as_bytes().chunks(7) {
            lines.take(piece, |line| losses += usize::from(progress.read(line)));
        }
        lines.finish(|line| losses += usize::from(progress.read(line)));
        (progress, losses)
    }

    #[test]
    fn steps_loss_and_time_left_are_read() {
        let (progress, losses) = read(&format!("Logs will be saved locally.\n{LINE}\n"), 50);
        assert_eq!((progress.step, progress.loss, losses), (10, Some(6.532), 1));
        assert!((progress.left_s().unwrap() - 10.0).abs() < 1e-9);
        assert_eq!(progress.in_words(), "loss 6.532, 10 s left");
    }

    #[test]
    fn a_bar_says_the_step_that_a_line_rounds() {
        let bar = "Training:   1%|▏         | 1234/100000 [10:00<13:20:00,  2.06step/s]";
        let line = LINE.replace("step:10 ", "step:1K ");
        let (progress, losses) = read(&format!("Training:   1%|▏ | 1233/100000 [10:00<13:20:00]\r{bar}{line}\n"), 100_000);
        assert_eq!((progress.step, losses), (1234, 1));
        // Without a bar, as in a job of a scheduler, the thousands are what there is.
        assert_eq!(read(&line, 100_000).0.step, 1000);
    }

    #[test]
    fn what_is_no_progress_changes_nothing() {
        for line in ["Training: soon", "a step: forward", "INFO step:x loss:nan", "Training:  |||| 7/", "step:5 loss:1.0"] {
            assert_eq!(read(line, 9), (Progress::new(9), 0), "{line}");
        }
        assert_eq!(rounded("2Q"), None);
        assert_eq!(duration(3_725.0), "1 h 2 min");
    }
}
