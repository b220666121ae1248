//! Between candle's tensors and the CPU kernels.

use std::ops::Deref;

use candle_core::{CpuStorage, DType, Device, Result, Shape, Storage, Tensor, bail};

pub(crate) use crate::device::kernels_on;
use crate::kernels::Matrix;

/// Calls `work` with the values of `x`, in their order.
pub(crate) fn with_values<R>(x: &Tensor, work: impl FnOnce(&[f32]) -> R) -> Result<R> {
    let x = x.contiguous()?;
    let (storage, layout) = x.storage_and_layout();
    match (storage.deref(), layout.contiguous_offsets()) {
        (Storage::Cpu(CpuStorage::F32(values)), Some((start, end))) => Ok(work(&values[start..end])),
        _ => bail!("a CPU kernel takes {:?} on the CPU, found {:?} on {:?}", DType::F32, x.dtype(), x.device()),
    }
}

/// Calls `work` with `x` as rows of its last axis, which may be part of wider rows.
pub(crate) fn with_rows<R>(x: &Tensor, work: impl FnOnce(Matrix<'_>) -> R) -> Result<R> {
    let [rows @ .., width] = x.dims() else { bail!("a CPU kernel takes rows, found a scalar") };
    let (rows, width) = (rows.iter().product::<usize>(), *width);
    if let ([_, _], [stride, 1]) = (x.dims(), x.stride())
        && *stride >= width
        && rows > 0
    {
        let (storage, layout) = x.storage_and_layout();
        if let Storage::Cpu(CpuStorage::F32(values)) = storage.deref() {
            let values = &values[layout.start_offset()..][..(rows - 1) * stride + width];
            return Ok(work(Matrix { values, rows, width, stride: *stride }));
        }
    }
    with_values(x, |values| work(Matrix { values, rows, width, stride: width }))
}

/// A tensor of what a kernel answered.
pub(crate) fn tensor(values: Vec<f32>, shape: impl Into<Shape>) -> Result<Tensor> {
    Tensor::from_vec(values, shape.into(), &Device::Cpu)
}

/// The shape of `x` with another last axis.
pub(crate) fn with_width(x: &Tensor, width: usize) -> Vec<usize> {
    let mut dims = x.dims().to_vec();
    if let Some(last) = dims.last_mut() {
        *last = width;
    }
    dims
}
