//! Arrays: from floats to codes, scales and zero points, and back.

use numpy::{PyReadonlyArray1, PyReadwriteArray1};
use pyo3::prelude::*;
use quant_core::{
    Blocks, Dialect, ErrorStats, FloatType, Granularity, IntType, Mode, OffsetKind, Params,
    STATS_CHUNK, Scheme,
};
use quant_simd::{Backend, Buffers, TensorQuantizer};
use rayon::prelude::*;

use crate::errors::Raised;
use crate::floats::{Floats, with_floats};
use crate::pool::detached;

/// Names of integer type, mode and dialect.
type SchemeNames = (String, String, String);
/// `per_tensor`, `per_channel`, `per_block` or `blocks`; axis, block axis, block size; sizes.
type Cut = (String, isize, isize, usize, Vec<usize>);
/// Count, non-finite, saturated; SQNR in dB, mean and largest absolute error.
type Stats = (u64, u64, u64, f64, f64, f64);

fn scheme_of((dtype, mode, dialect): &SchemeNames) -> Result<Scheme, Raised> {
    Ok(Scheme {
        dtype: dtype.parse::<IntType>()?,
        mode: mode.parse::<Mode>()?,
        dialect: dialect.parse::<Dialect>()?,
    })
}

fn granularity_of((name, axis, block_axis, block_size, sizes): Cut) -> Result<Granularity, Raised> {
    Ok(match name.as_str() {
        "per_tensor" => Granularity::PerTensor,
        "per_channel" => Granularity::PerChannel { axis },
        "per_block" => Granularity::PerBlock {
            axis,
            block_axis,
            block_size,
        },
        "blocks" => Granularity::Blocks(sizes),
        _ => return Err(Raised::internal("a granularity")),
    })
}

fn told(stats: &ErrorStats) -> Stats {
    (
        stats.count,
        stats.non_finite,
        stats.saturated,
        stats.sqnr_db(),
        stats.mean_absolute(),
        stats.max_absolute,
    )
}

/// The backends of this machine, the best one first.
#[pyfunction]
pub fn backends() -> Vec<&'static str> {
    Backend::available().iter().map(|it| it.name()).collect()
}

/// A scheme and a geometry, ready for arrays of one type and shape, with codes packed or one per byte.
#[pyclass(frozen, module = "linquant._native")]
pub struct Quantizer {
    inner: TensorQuantizer,
    packed: bool,
}

#[pymethods]
impl Quantizer {
    #[new]
    fn new(
        shape: Vec<usize>,
        source: &str,
        scheme: SchemeNames,
        cut: Cut,
        packed: bool,
    ) -> PyResult<Self> {
        let (scheme, source) = (scheme_of(&scheme)?, source.parse().map_err(Raised::from)?);
        let blocks = Blocks::new(&shape, &granularity_of(cut)?).map_err(Raised::from)?;
        Ok(Self {
            inner: TensorQuantizer::new(scheme, source, blocks),
            packed: packed || !scheme.dtype.packing().is_packed(),
        })
    }

    /// Bytes of codes.
    #[getter]
    fn codes_len(&self) -> usize {
        match self.packed {
            true => self.inner.codes_len(),
            false => self.inner.blocks.element_count(),
        }
    }

    #[getter]
    fn scale_shape(&self) -> Vec<usize> {
        self.inner.blocks.scale_shape()
    }

    #[getter]
    fn block_sizes(&self) -> Vec<usize> {
        self.inner.blocks.block_sizes().to_vec()
    }

    /// The name of the type of scales and biases.
    #[getter]
    fn scale_type(&self) -> &'static str {
        self.inner.scale_type().name()
    }

    /// `none`, `zero_point` or `bias`.
    #[getter]
    fn offset(&self) -> PyResult<&'static str> {
        match self.inner.scheme.offset() {
            OffsetKind::None => Ok("none"),
            OffsetKind::ZeroPoint => Ok("zero_point"),
            OffsetKind::Bias => Ok("bias"),
            _ => Err(Raised::internal("an offset").into()),
        }
    }

    /// Fills codes, scales and offsets; returns statistics where `measured`.
    fn quantize(
        &self,
        py: Python<'_>,
        values: PyReadonlyArray1<'_, u8>,
        mut codes: PyReadwriteArray1<'_, u8>,
        mut scales: PyReadwriteArray1<'_, u8>,
        mut offsets: PyReadwriteArray1<'_, u8>,
        measured: bool,
    ) -> PyResult<Option<Stats>> {
        let values = values.as_slice()?;
        let (codes, scales) = (codes.as_slice_mut()?, scales.as_slice_mut()?);
        let offsets = offsets.as_slice_mut()?;
        let quantizer = &self.inner;
        self.check(codes.len(), scales.len(), offsets.len())?;
        check(values.len(), self.values_len(quantizer.source))?;
        let stats = detached(py, || {
            let mut run = |codes: &mut [u8]| {
                let sink = Buffers::new(codes, scales, offsets);
                match measured {
                    true => quantizer.quantize(values, &sink).map(Some),
                    false => quantizer.quantize_unmeasured(values, &sink).map(|()| None),
                }
            };
            if self.packed {
                return run(codes);
            }
            let mut packed = vec![0; quantizer.codes_len()];
            let stats = run(&mut packed)?;
            unpack(quantizer, &packed, codes);
            Ok(stats)
        })?;
        let stats = stats.map_err(Raised::from)?;
        Ok(stats.as_ref().map(told))
    }

    /// Fills `values`, floats of the type of that name.
    fn dequantize(
        &self,
        py: Python<'_>,
        codes: PyReadonlyArray1<'_, u8>,
        scales: PyReadonlyArray1<'_, u8>,
        offsets: PyReadonlyArray1<'_, u8>,
        target: &str,
        mut values: PyReadwriteArray1<'_, u8>,
    ) -> PyResult<()> {
        let (codes, scales, offsets) = (codes.as_slice()?, scales.as_slice()?, offsets.as_slice()?);
        let values = values.as_slice_mut()?;
        let target = target.parse().map_err(Raised::from)?;
        self.check(codes.len(), scales.len(), offsets.len())?;
        check(values.len(), self.values_len(target))?;
        let quantizer = &self.inner;
        let done = detached(py, || {
            let mut run = |codes: &[u8]| {
                let sink = Buffers::new(values, &mut [], &mut []);
                let done = quantizer.dequantize(codes, scales, offsets, target, &sink);
                done.map_err(Raised::from)
            };
            match self.packed {
                true => run(codes),
                false => run(&pack(quantizer, codes)?),
            }
        })?;
        Ok(done?)
    }
}

impl Quantizer {
    fn values_len(&self, float: FloatType) -> usize {
        self.inner.blocks.element_count() * float.size()
    }

    fn check(&self, codes: usize, scales: usize, offsets: usize) -> Result<(), Raised> {
        check(codes, self.codes_len())?;
        check(scales, self.inner.scales_len())?;
        check(offsets, self.inner.zero_points_len())
    }
}

fn check(bytes: usize, expected: usize) -> Result<(), Raised> {
    match bytes == expected {
        true => Ok(()),
        false => Err(Raised::internal("a buffer of another length")),
    }
}

/// Codes one per byte, sign-extended.
fn unpack(quantizer: &TensorQuantizer, packed: &[u8], codes: &mut [u8]) {
    let dtype = quantizer.scheme.dtype;
    let chunks = codes.par_chunks_mut(STATS_CHUNK).enumerate();
    chunks.for_each(|(i, codes)| {
        quantizer
            .backend
            .unpack(packed, i * STATS_CHUNK, dtype, codes);
    });
}

/// # Errors
/// A code outside of its type.
fn pack(quantizer: &TensorQuantizer, codes: &[u8]) -> Result<Vec<u8>, Raised> {
    let dtype = quantizer.scheme.dtype;
    let mut packed = vec![0; quantizer.codes_len()];
    let chunk = dtype.storage_len(STATS_CHUNK);
    let pairs = codes
        .par_chunks(STATS_CHUNK)
        .zip(packed.par_chunks_mut(chunk));
    let range = dtype.min_value()..=dtype.max_value();
    pairs.try_for_each(|(codes, packed)| {
        let outside = codes
            .iter()
            .find(|&&code| !range.contains(&dtype.value(code)));
        if let Some(&code) = outside {
            let code = dtype.value(code);
            let problem = format!("a code of {code}, which is outside of {dtype}");
            return Err(Raised::new("ArrayError", problem));
        }
        quantizer.backend.pack(codes, dtype, packed, 0);
        Ok(())
    })?;
    Ok(packed)
}

/// Fills `codes`, one per byte, with one given scale and zero point for all values.
#[pyfunction]
#[pyo3(signature = (values, source, scheme, scale, zero_point, codes))]
pub fn quantize_given(
    py: Python<'_>,
    values: PyReadonlyArray1<'_, u8>,
    source: &str,
    scheme: SchemeNames,
    scale: f32,
    zero_point: i32,
    mut codes: PyReadwriteArray1<'_, u8>,
) -> PyResult<()> {
    let values = Floats::new(values.as_slice()?, source)?;
    let (scheme, codes) = (scheme_of(&scheme)?, codes.as_slice_mut()?);
    let scale_type = scheme
        .dialect
        .scale_type(source.parse().map_err(Raised::from)?);
    let params = Params::new(scheme, scale, zero_point, scale_type).map_err(Raised::from)?;
    with_floats!(values, values => {
        check(codes.len(), values.len())?;
        detached(py, || {
            let (backend, dtype) = (Backend::detect(), scheme.dtype);
            let pairs = values.par_chunks(STATS_CHUNK).zip(codes.par_chunks_mut(STATS_CHUNK));
            pairs.for_each(|(values, codes)| {
                if !dtype.packing().is_packed() {
                    backend.quantize(values, scheme, params, codes);
                    return;
                }
                let mut packed = vec![0; dtype.storage_len(values.len())];
                backend.quantize(values, scheme, params, &mut packed);
                backend.unpack(&packed, 0, dtype, codes);
            });
        })?;
    });
    Ok(())
}
