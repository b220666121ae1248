//! A dataset for Python.

use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch};
use arrow::datatypes::{ArrowPrimitiveType, DataType, Float32Type, Float64Type, Int64Type};
use numpy::{Element, IntoPyArray};
use pyo3::exceptions::{PyIndexError, PyKeyError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyList};
use sinew::{DatasetError, DatasetReader};

use crate::arrays;
use crate::failure::{failed, wrong_value};

#[pyclass(frozen, module = "sinew._sinew")]
pub(crate) struct Dataset {
    reader: Arc<DatasetReader>,
    name: String,
}

#[pymethods]
impl Dataset {
    #[new]
    #[pyo3(signature = (name, *, streaming = false))]
    fn new(py: Python<'_>, name: String, streaming: bool) -> PyResult<Self> {
        let open = || match streaming {
            true => sinew::open_dataset_streaming(&name, Arc::new(|_| {})),
            false => sinew::open_dataset(&name, Arc::new(|_| {})),
        };
        match py.detach(open) {
            Ok(reader) => Ok(Self { reader: Arc::new(reader), name }),
            Err(DatasetError::Name(error)) => Err(wrong_value(&error)),
            Err(DatasetError::Hub(error)) => Err(failed(&error)),
            Err(DatasetError::Read(error)) => Err(failed(&error)),
        }
    }

    /// Frames a second.
    #[getter]
    fn fps(&self) -> f64 {
        self.reader.fps().hz()
    }

    #[getter]
    fn num_episodes(&self) -> usize {
        self.reader.episodes().len()
    }

    #[getter]
    fn num_frames(&self) -> u64 {
        self.reader.total_frames()
    }

    #[getter]
    fn robot_type(&self) -> Option<&str> {
        self.reader.robot_type()
    }

    #[getter]
    fn cameras(&self) -> Vec<&str> {
        self.reader.cameras().collect()
    }

    #[getter]
    fn tasks(&self) -> &[String] {
        self.reader.tasks()
    }

    /// The features of info.json, as JSON.
    fn features_json(&self) -> PyResult<String> {
        serde_json::to_string(self.reader.features()).map_err(|error| failed(&error))
    }

    /// The rows of an episode: a dict of arrays `[T]` or `[T, D]` by the columns' names.
    fn rows<'py>(&self, py: Python<'py>, episode: u64) -> PyResult<Bound<'py, PyDict>> {
        let frames = self.frames_of(episode)?;
        let rows: RecordBatch = py.detach(|| self.reader.rows(episode, frames)).map_err(|error| failed(&error))?;
        let columns = PyDict::new(py);
        for (field, column) in rows.schema().fields().iter().zip(rows.columns()) {
            columns.set_item(field.name(), array(py, field.name(), column)?)?;
        }
        Ok(columns)
    }

    /// The images of a camera in an episode, from `start` to before `stop`.
    #[pyo3(signature = (episode, camera, start = 0, stop = None))]
    fn frames(&self, py: Python<'_>, episode: u64, camera: &str, start: u64, stop: Option<u64>) -> PyResult<Frames> {
        let all = self.frames_of(episode)?;
        let range = start..stop.unwrap_or(all.end);
        if range.start > range.end || range.end > all.end {
            return Err(PyIndexError::new_err(format!(
                "frames {start}..{} of episode {episode}, expected within 0..{}",
                range.end, all.end
            )));
        }
        let known = |key: &str| self.reader.cameras().any(|camera| camera == key);
        let long = format!("observation.images.{camera}");
        let key = [camera, &long].into_iter().find(|key| known(key));
        let Some(key) = key else {
            let cameras = self.cameras().join(", ");
            return Err(PyKeyError::new_err(format!("there is no camera {camera} in {}, which has: {cameras}", self.name)));
        };
        let images = py.detach(|| self.reader.images(episode, key, range)).map_err(|error| failed(&error))?;
        Ok(Frames(Mutex::new(images)))
    }

    fn __len__(&self) -> usize {
        self.reader.episodes().len()
    }

    fn __repr__(&self) -> String {
        format!("<sinew.Dataset {}: {} episodes, {} frames>", self.name, self.num_episodes(), self.num_frames())
    }
}

impl Dataset {
    fn frames_of(&self, episode: u64) -> PyResult<Range<u64>> {
        match self.reader.episode(episode) {
            Ok(entry) => Ok(0..entry.length),
            Err(_) => {
                let count = self.reader.episodes().len();
                Err(PyIndexError::new_err(format!("there is no episode {episode} in {}, which has {count}", self.name)))
            }
        }
    }
}

/// A column as numpy has it: numbers over the table's own memory, what numpy has no such array for as a copy or a list.
fn array<'py>(py: Python<'py>, name: &str, column: &ArrayRef) -> PyResult<Bound<'py, PyAny>> {
    if column.null_count() > 0 {
        return Err(PyValueError::new_err(format!("the column {name} has rows without a value")));
    }
    let rows = column.len();
    let (values, shape): (ArrayRef, Vec<usize>) = match column.data_type() {
        DataType::FixedSizeList(..) => {
            let lists = column.as_fixed_size_list();
            let width = lists.value_length().max(0) as usize;
            (lists.values().slice(lists.value_offset(0) as usize, rows * width), vec![rows, width])
        }
        DataType::List(_) => {
            let lists = column.as_list::<i32>();
            let (first, last) = (lists.value_offsets()[0] as usize, lists.value_offsets()[rows] as usize);
            let width = (last - first).checked_div(rows).unwrap_or(0);
            if (0..rows).any(|row| lists.value_length(row) as usize != width) {
                return Err(PyValueError::new_err(format!("the rows of column {name} have different lengths")));
            }
            (lists.values().slice(first, last - first), vec![rows, width])
        }
        _ => (Arc::clone(column), vec![rows]),
    };
    if values.null_count() > 0 {
        return Err(PyValueError::new_err(format!("the column {name} has entries without a value")));
    }
    match values.data_type() {
        DataType::Float32 => numbers::<Float32Type>(py, &values, &shape),
        DataType::Float64 => numbers::<Float64Type>(py, &values, &shape),
        DataType::Int64 => numbers::<Int64Type>(py, &values, &shape),
        DataType::Boolean => {
            // Arrow has eight in a byte.
            let flags: Vec<bool> = values.as_boolean().values().iter().collect();
            Ok(flags.into_pyarray(py).into_any())
        }
        DataType::Utf8 => Ok(PyList::new(py, values.as_string::<i32>().iter())?.into_any()),
        DataType::Struct(_) | DataType::Binary => Ok(py.None().into_bound(py)),
        other => {
            Err(PyValueError::new_err(format!("the column {name} has values of {other}, expected float32, float64, int64, bool or text")))
        }
    }
}

fn numbers<'py, T: ArrowPrimitiveType>(py: Python<'py>, values: &ArrayRef, shape: &[usize]) -> PyResult<Bound<'py, PyAny>>
where
    T::Native: Element,
{
    Ok(arrays::of_buffer(py, values.as_primitive::<T>().values(), shape)?.into_any())
}

/// An iterator over images, uint8 `[H, W, 3]`.
#[pyclass(frozen, module = "sinew._sinew")]
pub(crate) struct Frames(Mutex<sinew::Images>);

#[pymethods]
impl Frames {
    fn __iter__(this: PyRef<'_, Self>) -> PyRef<'_, Self> {
        this
    }

    fn __next__<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyAny>>> {
        let next = py.detach(|| self.0.lock().unwrap_or_else(PoisonError::into_inner).next());
        match next {
            None => Ok(None),
            Some(Ok(image)) => arrays::of_image(py, image).map(|array| Some(array.into_any())),
            Some(Err(error)) => Err(failed(&error)),
        }
    }
}
