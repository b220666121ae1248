//! Arrays from and to numpy.

#![expect(unsafe_code, reason = "numpy arrays over memory that Rust keeps: the safe interface copies")]

use std::any::Any;

use numpy::ndarray::{ArrayView, ArrayViewD, IxDyn};
use numpy::{Element, PyArrayDyn, PyArrayMethods, PyReadonlyArrayDyn, PyUntypedArray, PyUntypedArrayMethods};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use sinew::Inputs;

use crate::failure::{wrong_type, wrong_value};

/// What keeps the memory of arrays for as long as numpy has one.
#[pyclass(frozen, module = "sinew._sinew")]
pub(crate) struct Keeper(#[expect(dead_code, reason = "is dropped last, which is all that it is for")] Box<dyn Any + Send + Sync>);

/// A read-only array of `shape` over `values`, which live as long as `owner` does.
///
/// # Errors
/// When `shape` has not as many entries as there are values.
///
/// # Safety
/// `values` stay where they are, and as they are, while `owner` exists.
unsafe fn view<'py, T: Element>(
    py: Python<'py>,
    values: &[T],
    shape: &[usize],
    owner: Box<dyn Any + Send + Sync>,
) -> PyResult<Bound<'py, PyArrayDyn<T>>> {
    let view = ArrayView::from_shape(IxDyn(shape), values).map_err(|error| PyValueError::new_err(error.to_string()))?;
    let keeper = Bound::new(py, Keeper(owner))?.into_any();
    // SAFETY: as the caller promises; the keeper is the array's base.
    let array = unsafe { PyArrayDyn::borrow_from_array(&view, keeper) };
    drop(array.readwrite().make_nonwriteable());
    Ok(array)
}

/// An array over the values of an arrow buffer.
pub(crate) fn of_buffer<'py, T: Element + arrow::datatypes::ArrowNativeType>(
    py: Python<'py>,
    buffer: &arrow::buffer::ScalarBuffer<T>,
    shape: &[usize],
) -> PyResult<Bound<'py, PyArrayDyn<T>>> {
    // SAFETY: a clone has the same memory, which nobody writes to.
    unsafe { view(py, buffer, shape, Box::new(buffer.clone())) }
}

/// An array `[height, width, 3]` over the image's bytes.
pub(crate) fn of_image(py: Python<'_>, image: sinew::core::Image) -> PyResult<Bound<'_, PyArrayDyn<u8>>> {
    let shape = [image.height as usize, image.width as usize, 3];
    let pixels = image.rgb.clone();
    // SAFETY: clones of an image's bytes share them, and who writes to shared ones copies them first.
    unsafe { view(py, &pixels[..], &shape, Box::new(image.rgb)) }
}

/// `value` under `key`, as whatever it stands for: an instruction, noise, an image or a vector. Anything that `numpy.asarray` makes an
/// array of is taken, such as a tensor of torch.
pub(crate) fn put(inputs: Inputs, key: &str, value: &Bound<'_, PyAny>) -> PyResult<Inputs> {
    if key == "task" {
        // LeRobot has a list of one for each environment.
        let sentence = value.extract::<String>().or_else(|_| value.extract::<[String; 1]>().map(|[sentence]| sentence));
        return sentence.map(|sentence| inputs.task(&sentence)).map_err(|_| wrong_type(key, &kind(value), "a sentence"));
    }
    let array = value.py().import("numpy")?.call_method1("asarray", (value,))?;
    let array = array.cast::<PyUntypedArray>().map_err(|_| wrong_type(key, &kind(value), "an array"))?;
    let found = || format!("{} {:?}", array.dtype(), array.shape());
    if let Ok(bytes) = array.extract::<PyReadonlyArrayDyn<'_, u8>>() {
        let (shape, expected) = (array.shape(), "uint8 [H, W, 3] or [T, H, W, 3] for an image");
        return match shape {
            [.., height, width, 3] if (3..=4).contains(&shape.len()) && height * width > 0 => {
                let bytes: Vec<u8> = bytes.as_array().iter().copied().collect();
                Ok(inputs.images(key, *height, *width, bytes.chunks_exact(height * width * 3).map(<[u8]>::to_vec).collect()))
            }
            _ => Err(wrong_type(key, &found(), expected)),
        };
    }
    if let Ok(values) = array.extract::<PyReadonlyArrayDyn<'_, f32>>() {
        return floats(inputs, key, &values.as_array(), |value| value);
    }
    if let Ok(values) = array.extract::<PyReadonlyArrayDyn<'_, f64>>() {
        return floats(inputs, key, &values.as_array(), |value| value as f32);
    }
    Err(wrong_type(key, &found(), "float32 for a vector, uint8 [H, W, 3] or float32 [3, H, W] in 0..1 for an image"))
}

/// A vector `[D]` or `[T, D]`, an image `[3, H, W]` or `[T, 3, H, W]` in 0..1, or noise `[rows, width]` with or without a batch axis of 1.
fn floats<T: Copy>(inputs: Inputs, key: &str, array: &ArrayViewD<'_, T>, float: impl Fn(T) -> f32) -> PyResult<Inputs> {
    let shape = array.shape().to_vec();
    let values = || array.iter().map(|value| float(*value)).collect::<Vec<f32>>();
    match (key, &shape[..]) {
        ("noise", [rows, width] | [1, rows, width]) => Ok(inputs.noise([*rows, *width], values())),
        (_, [.., 3, height, width]) if (3..=4).contains(&shape.len()) && height * width > 0 => {
            let area = height * width;
            let images = values().chunks_exact(area * 3).map(|planes| rgb(key, planes, area)).collect::<PyResult<_>>()?;
            Ok(inputs.images(key, *height, *width, images))
        }
        (_, [.., width]) if shape.len() <= 2 && *width > 0 => {
            Ok(inputs.vectors(key, values().chunks_exact(*width).map(<[f32]>::to_vec).collect()))
        }
        _ => Err(wrong_type(key, &format!("floats {shape:?}"), "[D] or [T, D] for a vector, [3, H, W] or [T, 3, H, W] for an image")),
    }
}

/// Colour planes in 0..1 as 8-bit RGB; a camera's bytes divided by 255 come back as they were.
fn rgb(key: &str, planes: &[f32], area: usize) -> PyResult<Vec<u8>> {
    if let Some(value) = planes.iter().find(|value| !(0.0..=1.0).contains(*value)) {
        let what = format!("reading the inputs: {key} holds {value}, expected 0..1 in an image of floats");
        return Err(PyValueError::new_err(what));
    }
    Ok((0..area * 3).map(|at| (planes[at % 3 * area + at / 3] * 255.0).round() as u8).collect())
}

fn kind(value: &Bound<'_, PyAny>) -> String {
    value.get_type().name().map_or_else(|_| "of an unknown type".into(), |name| format!("a {name}"))
}

/// That the inputs were refused, as Python says it.
pub(crate) fn refused(error: &sinew::InferError) -> PyErr {
    match error {
        sinew::InferError::MissingInput { .. } | sinew::InferError::WrongInput { .. } => wrong_value(error),
        other => crate::failure::failed(other),
    }
}
