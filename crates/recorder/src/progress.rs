//! How long operations say how far they are, and are asked to stop.

use std::ops::ControlFlow;

/// How far an operation is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Step<'a> {
    /// Such as "checking episodes".
    pub doing: &'a str,
    pub done: u64,
    pub total: u64,
}

/// Is told each step of a long operation; answering [`ControlFlow::Break`] stops it, and then nothing
/// has changed on disk. A closure does for one:
///
/// ```
/// # use std::ops::ControlFlow;
/// # use sinew_recorder::{Progress, Step};
/// let mut bar = |step: Step<'_>| {
///     println!("{}: {} of {}", step.doing, step.done, step.total);
///     ControlFlow::Continue(())
/// };
/// let progress: &mut Progress<'_> = &mut bar;
/// ```
pub type Progress<'a> = dyn FnMut(Step<'_>) -> ControlFlow<()> + 'a;

/// Is asked again and again while something is waited for; answering [`ControlFlow::Break`] ends the wait.
pub(crate) type Waiting<'a> = dyn FnMut() -> ControlFlow<()> + 'a;

/// Nobody wants to end the wait.
pub(crate) fn patient() -> ControlFlow<()> {
    ControlFlow::Continue(())
}

/// The operation was stopped by its [`Progress`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Stopped;

pub(crate) fn step(progress: &mut Progress<'_>, doing: &str, done: u64, total: u64) -> Result<(), Stopped> {
    match progress(Step { doing, done, total }) {
        ControlFlow::Continue(()) => Ok(()),
        ControlFlow::Break(()) => Err(Stopped),
    }
}
