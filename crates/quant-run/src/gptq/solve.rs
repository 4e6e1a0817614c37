//! Codes of a weight, input by input.

use std::ops::Range;

use half::{bf16, f16};
use quant_models::quant_core::{FloatType, Params, Scheme, reference};
use quant_models::quant_simd::{QuantizedTensor, TensorQuantizer};
use rayon::prelude::*;

use super::GptqOptions;
use super::linear::{GoOn, Part, add_product};
use super::moments::{Factor, Moments};

/// Inputs after which what they have lost is given to all later ones.
const BLOCK: usize = 128;
/// Outputs that are computed together. A constant, so that results do not depend on the number of
/// threads.
const ROWS: usize = 64;

/// How a weight is a matrix of outputs and inputs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WeightMatrix {
    /// Outputs, of all groups.
    pub outputs: usize,
    /// Inputs of each output.
    pub inputs: usize,
    /// Groups of outputs that have the same inputs.
    pub groups: usize,
    /// Whether the outputs of an input follow one another, not the inputs of an output.
    pub inputs_first: bool,
}

impl WeightMatrix {
    fn element(&self, output: usize, input: usize) -> usize {
        match self.inputs_first {
            true => input * self.outputs + output,
            false => output * self.inputs + input,
        }
    }
}

/// What [`solve`] finds.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Solved {
    /// Codes, packed.
    pub codes: Vec<u8>,
    /// The values that they stand for.
    pub restored: Vec<f32>,
    /// The squared error of the layer's outputs with damped moments: by rounding, and by these codes.
    pub loss: (f64, f64),
}

/// Codes of a weight by GPTQ, for the scales and zero points that `quantizer` finds. An output that would
/// lose more than by rounding is rounded.
///
/// # Errors
/// In words: values that cannot be quantized, moments of other inputs, or such that no inputs have.
pub fn solve(
    quantizer: &TensorQuantizer,
    values: &[f32],
    matrix: WeightMatrix,
    moments: &Moments,
    options: GptqOptions,
) -> Result<Solved, String> {
    let solved = solve_while(quantizer, values, matrix, moments, options, &|| true)?;
    solved.ok_or_else(|| "was not to be ended".into())
}

/// The same, as long as `go_on` says so, which is asked every now and then: a weight of many inputs takes
/// minutes. `None` if it was ended.
///
/// # Errors
/// As [`solve`].
pub fn solve_while(
    quantizer: &TensorQuantizer,
    values: &[f32],
    matrix: WeightMatrix,
    moments: &Moments,
    options: GptqOptions,
    go_on: &(dyn Fn() -> bool + Sync),
) -> Result<Option<Solved>, String> {
    check(quantizer, values, matrix, moments)?;
    let plain = rounded(quantizer, values)?;
    let work = Work::new(quantizer, values, matrix, &plain)?;
    let mut solved = Solved {
        codes: vec![0; plain.codes.len()],
        restored: vec![0.0; values.len()],
        loss: (0.0, 0.0),
    };
    let mut codes = work.plain.clone();
    let per_group = matrix.outputs / matrix.groups.max(1);
    // Many groups are small; a group at a time is in memory otherwise.
    let groups: Vec<usize> = (0..matrix.groups).collect();
    for groups in groups.chunks(if matrix.inputs <= BLOCK { 64 } else { 1 }) {
        let factors = groups.par_iter().map(|&group| {
            let factor = moments.factor(group, options.damping, options.by_size, go_on);
            factor.map_err(|error| error.to_string())
        });
        let factors = factors.collect::<Result<Vec<Factor>, String>>();
        if !go_on() {
            return Ok(None);
        }
        let factors = factors?;
        let starts = groups.iter().zip(&factors).flat_map(|(&group, factor)| {
            let starts = (0..per_group).step_by(ROWS);
            starts.map(move |row| {
                let count = ROWS.min(per_group - row);
                (group * per_group + row, count, factor)
            })
        });
        let starts: Vec<_> = starts.collect();
        let done = starts
            .par_iter()
            .map(|&(start, count, factor)| work.rows(start, count, factor, go_on));
        let Some(done) = done.collect::<Option<Vec<Rows>>>() else {
            return Ok(None);
        };
        for rows in done {
            for (i, &code) in rows.codes.iter().enumerate() {
                let (row, input) = (i / matrix.inputs, i % matrix.inputs);
                codes[matrix.element(rows.start + row, input)] = code;
            }
            solved.loss.0 += rows.loss.0;
            solved.loss.1 += rows.loss.1;
        }
    }
    let dtype = quantizer.scheme.dtype;
    quantizer.backend.pack(&codes, dtype, &mut solved.codes, 0);
    for (element, &code) in codes.iter().enumerate() {
        solved.restored[element] = work.restored(element, code);
    }
    Ok(Some(solved))
}

/// Whether values, weight and moments go together.
fn check(
    quantizer: &TensorQuantizer,
    values: &[f32],
    matrix: WeightMatrix,
    moments: &Moments,
) -> Result<(), String> {
    let fits = matrix.outputs.checked_mul(matrix.inputs) == Some(values.len())
        && values.len() == quantizer.blocks.element_count()
        && (moments.groups(), moments.inputs()) == (matrix.groups, matrix.inputs)
        && matrix.outputs.is_multiple_of(matrix.groups.max(1));
    if fits {
        return Ok(());
    }
    let (groups, inputs) = (moments.groups(), moments.inputs());
    Err(format!(
        "moments of {groups} groups of {inputs} inputs, for a weight of {} groups of {}",
        matrix.groups, matrix.inputs
    ))
}

/// What rounding makes of a weight.
pub(crate) fn rounded(
    quantizer: &TensorQuantizer,
    values: &[f32],
) -> Result<QuantizedTensor, String> {
    let done = match quantizer.source {
        FloatType::F32 => quantizer.quantize_to_vec(values),
        FloatType::F16 => {
            let values: Vec<f16> = values.iter().map(|&value| f16::from_f32(value)).collect();
            quantizer.quantize_to_vec(&values)
        }
        FloatType::Bf16 => {
            let values: Vec<bf16> = values.iter().map(|&value| bf16::from_f32(value)).collect();
            quantizer.quantize_to_vec(&values)
        }
    };
    done.map_err(|error| error.to_string())
}

/// Some outputs of a group that are done.
struct Rows {
    start: usize,
    /// In the order of the inputs.
    codes: Vec<u8>,
    loss: (f64, f64),
}

struct Work<'w> {
    scheme: Scheme,
    source: FloatType,
    quantizer: &'w TensorQuantizer,
    values: &'w [f32],
    matrix: WeightMatrix,
    params: Vec<Params>,
    /// A code per byte.
    plain: Vec<u8>,
}

impl<'w> Work<'w> {
    fn new(
        quantizer: &'w TensorQuantizer,
        values: &'w [f32],
        matrix: WeightMatrix,
        plain: &QuantizedTensor,
    ) -> Result<Self, String> {
        let (scheme, scale_type) = (quantizer.scheme, quantizer.scale_type());
        let size = scheme.offset().size(scale_type);
        let scales = plain.scales_f32();
        let params = scales.iter().enumerate().map(|(i, &scale)| {
            let offset = &plain.zero_points[i * size..(i + 1) * size];
            Params::from_stored(scheme, scale, offset, scale_type)
        });
        let params = params.collect::<Result<_, _>>();
        let mut codes = vec![0; values.len()];
        quantizer
            .backend
            .unpack(&plain.codes, 0, scheme.dtype, &mut codes);
        Ok(Self {
            scheme: quantizer.encoding_scheme(),
            source: quantizer.source,
            quantizer,
            values,
            matrix,
            params: params.map_err(|error| error.to_string())?,
            plain: codes,
        })
    }

    /// The value that a code stands for at an element.
    fn restored(&self, element: usize, code: u8) -> f32 {
        let params = self.params[self.quantizer.blocks.scale_of(element)];
        let mut value = [0.0_f32];
        reference::dequantize(&[code], self.scheme, params, &mut value);
        self.source.round(value[0])
    }

    /// The code for a value in the place of an element.
    fn code(&self, element: usize, value: f64) -> u8 {
        let params = &self.params[self.quantizer.blocks.scale_of(element)];
        let scale = f64::from(params.scale());
        if scale == 0.0 {
            return self.plain[element];
        }
        let bias = f64::from(params.bias().unwrap_or(0.0));
        let steps = ((value - bias) / scale).round_ties_even() + f64::from(params.zero_point());
        let (least, most) = (self.scheme.qmin(), self.scheme.qmax());
        steps.clamp(least.into(), most.into()) as i32 as u8
    }

    /// The codes of some outputs of one group; `None` if it was ended.
    fn rows(&self, start: usize, count: usize, factor: &Factor, go_on: GoOn<'_>) -> Option<Rows> {
        let n = self.matrix.inputs;
        let element = |row: usize, at: usize| self.matrix.element(start + row, factor.order[at]);
        let mut weights = Vec::with_capacity(count * n);
        for row in 0..count {
            weights.extend((0..n).map(|at| f64::from(self.values[element(row, at)])));
        }
        let mut codes = vec![0; count * n];
        let mut errors = vec![0.0; count * BLOCK];
        for first in (0..n).step_by(BLOCK) {
            if !go_on() {
                return None;
            }
            let last = (first + BLOCK).min(n);
            for row in 0..count {
                let left = &mut weights[row * n..(row + 1) * n];
                let errors = &mut errors[row * BLOCK..(row + 1) * BLOCK];
                let codes = &mut codes[row * n..(row + 1) * n];
                self.block(start + row, first..last, factor, (left, errors, codes));
            }
            if last < n {
                let (width, rest) = (last - first, n - last);
                let errors = (&errors[..], Part::new(count, width, BLOCK));
                let upper = (&factor.upper[first * n + last..], Part::new(width, rest, n));
                let later = (&mut weights[last..], Part::new(count, rest, n));
                add_product(later, errors, upper, -1.0);
            }
        }
        let mut rows = Rows {
            start,
            codes: vec![0; count * n],
            loss: (0.0, 0.0),
        };
        let plain = |row, at| self.plain[element(row, at)];
        let (by_plain, by_gptq) = (
            self.losses(start, count, factor, &plain),
            self.losses(start, count, factor, &|row, at| codes[row * n + at]),
        );
        for row in 0..count {
            // A loss that is not a number is no gain.
            let is_better = by_gptq[row] < by_plain[row];
            for at in 0..n {
                rows.codes[row * n + factor.order[at]] = match is_better {
                    true => codes[row * n + at],
                    false => plain(row, at),
                };
            }
            rows.loss.0 += by_plain[row];
            rows.loss.1 += if is_better {
                by_gptq[row]
            } else {
                by_plain[row]
            };
        }
        Some(rows)
    }

    /// The codes of some inputs of an output: what each has lost goes to those after it, and stays for
    /// all later ones.
    fn block(
        &self,
        output: usize,
        inputs: Range<usize>,
        factor: &Factor,
        (left, errors, codes): (&mut [f64], &mut [f64], &mut [u8]),
    ) {
        let n = self.matrix.inputs;
        for at in inputs.clone() {
            let element = self.matrix.element(output, factor.order[at]);
            let upper = &factor.upper[at * n..(at + 1) * n];
            codes[at] = self.code(element, left[at]);
            let restored = self.restored(element, codes[at]);
            let error = (left[at] - f64::from(restored)) / upper[at];
            errors[at - inputs.start] = error;
            let later = left[at + 1..inputs.end].iter_mut();
            for (value, upper) in later.zip(&upper[at + 1..inputs.end]) {
                *value -= error * upper;
            }
        }
    }

    /// What each output loses by codes.
    fn losses(
        &self,
        start: usize,
        count: usize,
        factor: &Factor,
        code: &dyn Fn(usize, usize) -> u8,
    ) -> Vec<f64> {
        let n = self.matrix.inputs;
        let mut errors = Vec::with_capacity(count * n);
        for row in 0..count {
            errors.extend((0..n).map(|at| {
                let element = self.matrix.element(start + row, factor.order[at]);
                let restored = self.restored(element, code(row, at));
                f64::from(self.values[element]) - f64::from(restored)
            }));
        }
        let mut products = vec![0.0; count * n];
        let (rows, square) = (Part::whole(count, n), Part::whole(n, n));
        add_product(
            (&mut products, rows),
            (&errors, rows),
            (&factor.matrix, square),
            1.0,
        );
        let pairs = products.chunks(n).zip(errors.chunks(n));
        pairs
            .map(|(products, errors)| products.iter().zip(errors).map(|(a, b)| a * b).sum())
            .collect()
    }
}
