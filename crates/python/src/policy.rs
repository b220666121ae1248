//! A policy for Python.

use std::sync::{Mutex, PoisonError};

use numpy::{IntoPyArray, PyArray1, PyArray2, PyArrayMethods};
use pyo3::prelude::*;
use pyo3::types::PyDict;
use sinew::{Device, Inputs, OpenOptions, PretrainedError, Quantization};

use crate::arrays;
use crate::failure::{check_not_forked, failed, wrong_value};

#[pyclass(frozen, module = "sinew._sinew")]
pub(crate) struct Policy {
    policy: sinew::Policy,
    /// The same with the queue of this object's `select_action`.
    stepped: Mutex<sinew::Policy>,
}

impl Policy {
    fn of(policy: sinew::Policy) -> Self {
        Self { stepped: Mutex::new(policy.clone()), policy }
    }

    fn stepped<T>(&self, act: impl FnOnce(&mut sinew::Policy) -> T) -> T {
        act(&mut self.stepped.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

fn inputs(observation: &Bound<'_, PyDict>, seed: u64) -> PyResult<Inputs> {
    let mut inputs = Inputs::new().seed(seed);
    for (key, value) in observation {
        inputs = arrays::put(inputs, &key.extract::<String>()?, &value)?;
    }
    Ok(inputs)
}

#[pymethods]
impl Policy {
    #[staticmethod]
    #[pyo3(signature = (name, *, device = "cpu", quantize = None, rename = None))]
    fn from_pretrained(
        py: Python<'_>,
        name: &str,
        device: &str,
        quantize: Option<&str>,
        rename: Option<Vec<(String, String)>>,
    ) -> PyResult<Self> {
        check_not_forked()?;
        let device: Device = device.parse().map_err(|error| wrong_value(&error))?;
        let quantize: Option<Quantization> = quantize.map(str::parse).transpose().map_err(|error| wrong_value(&error))?;
        let renames = rename.unwrap_or_default();
        let opened = py.detach(|| {
            let options = OpenOptions::new().device(device).quantize(quantize).rename(&renames);
            sinew::Policy::from_pretrained_with(name, options, |_| {})
        });
        opened.map(Self::of).map_err(|error| match error {
            PretrainedError::Name(error) => wrong_value(&error),
            PretrainedError::Hub(error) => failed(&error),
            PretrainedError::Checkpoint(error) => failed(&error),
        })
    }

    /// What `sinew policy check --json` tells, as JSON.
    fn info_json(&self) -> PyResult<String> {
        serde_json::to_string(self.policy.info()).map_err(|error| failed(&error))
    }

    /// Reads the weights now, and not when the first action is asked for.
    fn load(&self, py: Python<'_>) -> PyResult<()> {
        check_not_forked()?;
        py.detach(|| self.policy.checkpoint().load()).map_err(|error| failed(&error))
    }

    #[pyo3(signature = (observation, *, seed = 0))]
    fn infer<'py>(&self, py: Python<'py>, observation: &Bound<'py, PyDict>, seed: u64) -> PyResult<Bound<'py, PyArray2<f32>>> {
        check_not_forked()?;
        let inputs = inputs(observation, seed)?;
        let actions = py.detach(|| self.policy.infer(&inputs)).map_err(|error| arrays::refused(&error))?;
        let shape = [actions.rows, actions.width];
        actions.values.into_pyarray(py).reshape(shape)
    }

    #[pyo3(signature = (observation, *, seed = 0))]
    fn select_action<'py>(&self, py: Python<'py>, observation: &Bound<'py, PyDict>, seed: u64) -> PyResult<Bound<'py, PyArray1<f32>>> {
        check_not_forked()?;
        let inputs = inputs(observation, seed)?;
        let action = py.detach(|| self.stepped(|policy| policy.select_action(&inputs)));
        action.map(|action| action.into_pyarray(py)).map_err(|error| arrays::refused(&error))
    }

    fn reset(&self, py: Python<'_>) {
        py.detach(|| self.stepped(sinew::Policy::reset));
    }

    /// The same weights with a queue of its own.
    fn copy(&self) -> Self {
        Self::of(self.policy.clone())
    }

    fn __repr__(&self) -> String {
        let info = self.policy.info();
        format!("<sinew.Policy {} of {}>", info.family, info.dir.display())
    }
}
