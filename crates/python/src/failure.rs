//! Errors as Python's.

use std::error::Error;
use std::process;
use std::sync::OnceLock;

use pyo3::PyErr;
use pyo3::exceptions::{PyRuntimeError, PyTypeError, PyValueError};

pyo3::create_exception!(sinew, SinewError, PyRuntimeError, "What Sinew was asked for did not work out; the text says why.");

/// With all its causes.
pub(crate) fn failed(error: &dyn Error) -> PyErr {
    SinewError::new_err(in_words(error))
}

/// What the caller gave is wrong.
pub(crate) fn wrong_value(error: &dyn Error) -> PyErr {
    PyValueError::new_err(in_words(error))
}

/// An argument is of a type that is not taken.
pub(crate) fn wrong_type(key: &str, found: &str, expected: &str) -> PyErr {
    PyTypeError::new_err(format!("reading the inputs: {key} is {found}, expected {expected}"))
}

fn in_words(error: &dyn Error) -> String {
    let mut words = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let text = error.to_string();
        // Some errors tell their cause themselves.
        if !words.ends_with(&text) {
            words = format!("{words}: {text}");
        }
        cause = error.source();
    }
    words
}

/// Refuses a process that was forked from one that computed already, as the threads that computed stayed there.
///
/// # Errors
/// In such a process.
pub(crate) fn check_not_forked() -> Result<(), PyErr> {
    static FIRST: OnceLock<u32> = OnceLock::new();
    let (first, now) = (*FIRST.get_or_init(process::id), process::id());
    if first == now {
        return Ok(());
    }
    Err(SinewError::new_err(format!(
        "this process ({now}) was forked from {first}, in which Sinew ran already, and its threads stayed there; start processes with \
         multiprocessing.set_start_method(\"spawn\"), or use Sinew in the new process alone"
    )))
}
