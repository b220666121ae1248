//! Sinew for Python: the module `sinew._sinew` of the wheel. `packaging/python/sinew` puts Python's names around it, and
//! `_sinew.pyi` there says what there is.
//!
//! What takes longer than a call of Python itself runs without the interpreter's lock, and arrays that leave here are
//! memory that Rust gave away or both sides hold.

mod arrays;
mod dataset;
mod failure;
mod policy;

use pyo3::prelude::*;

#[pymodule]
fn _sinew(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add("SinewError", module.py().get_type::<failure::SinewError>())?;
    module.add_class::<policy::Policy>()?;
    module.add_class::<dataset::Dataset>()?;
    module.add_class::<dataset::Frames>()
}
