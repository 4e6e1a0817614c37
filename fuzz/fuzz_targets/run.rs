//! A program of any operations on small tensors: it is refused in one line, or runs within its memory,
//! and gives the same values when it runs again.
#![no_main]

use std::collections::HashMap;

use arbitrary::{Result, Unstructured};
use libfuzzer_sys::fuzz_target;
use quant_run::{Model, Quiet, RunOptions, Tensor};

#[path = "../../crates/quant-run/tests/packages/mod.rs"]
#[allow(dead_code)]
mod packages;

use packages::{BOOL, FLOAT16, FLOAT32, INT32, block, bools, bytes, floats, ints, named, text};

/// Operations and the names of their inputs, as they stand in coremltools' own tests.
const OPERATIONS: &str = include_str!("run_operations.txt");
/// Inputs that are vectors of integers, single numbers, truth values and words; others are tensors.
const VECTORS: &str = "axes axis_list begin begins block_shape crop_height crop_width crops dilations \
    end ends kernel_sizes num_splits output_shape pad paddings perm reps resized_dims shape \
    split_sizes strides vector_axis begin size lengths";
const INTEGERS: &str = "axis batch_axis batch_dims downscale_factor groups index k lower upper \
    one_hot_vector_size seq_axis stride target_height target_size_height target_size_width \
    target_width upscale_factor block_size max_boxes";
const FLOATS: &str = "alpha beta clip constant_val epsilon pad_value padding_value spatial_scale \
    scale_factor_height scale_factor_width off_value on_value iou_threshold score_threshold high low \
    mean stddev";
const TRUTHS: &str = "align_corners ascending begin_mask ceil_mode end_mask \
    exclude_padding_from_average exclusive half_pixel_centers interleave keep_dims \
    normalized_coordinates output_sequence pred return_indices reverse sort squeeze_mask transpose_x \
    transpose_y validate_indices reset_after";
const TEXTS: &str = "activation box_coordinate_mode cell_activation coordinates_mode direction dtype \
    equation interpolation_mode mode output_dtype output_indices_dtype pad_type padding_mode \
    recurrent_activation sampling_mode";
const WORDS: &str = "valid same same_lower custom constant reflect replicate reflection border add \
    update mul div max min sum EXACT TANH_APPROXIMATION SIGMOID_APPROXIMATION forward reverse \
    bidirectional tanh sigmoid relu linear hard_sigmoid scaled_tanh nearest bilinear LINEAR \
    DEFAULT ALIGN_CORNERS STRICT_ALIGN_CORNERS UNALIGN_CORNERS OFFSET_CORNERS NEAREST_NEIGHBOR \
    CORNERS_HEIGHT_FIRST CORNERS_WIDTH_FIRST CENTER_SIZE_HEIGHT_FIRST CENTER_SIZE_WIDTH_FIRST \
    normalized_minus_one_to_one normalized_zero_to_one unnormalized fp16 fp32 int32 int8 uint8 \
    int16 uint16 bool ab,bc->ac abc,acd->abd a->a";

struct Maker<'u, 'd> {
    u: &'u mut Unstructured<'d>,
    /// Constants and operations, in order.
    operations: Vec<Vec<u8>>,
    /// What may be bound to an argument.
    names: Vec<String>,
    /// The shape of the input.
    dims: Vec<i64>,
    count: usize,
}

impl Maker<'_, '_> {
    fn fresh(&mut self) -> String {
        self.count += 1;
        format!("v{}", self.count)
    }

    fn shape(&mut self) -> Result<Vec<i64>> {
        let rank = self.u.int_in_range(0..=5)?;
        (0..rank)
            .map(|_| match self.u.int_in_range(0..=30)? {
                0 => Ok(0),
                1 => self.u.int_in_range(9..=40),
                _ => self.u.int_in_range(1..=4),
            })
            .collect()
    }

    fn small(&mut self) -> Result<i32> {
        Ok(match self.u.int_in_range(0..=24)? {
            0 => self.u.arbitrary()?,
            1 => self.u.int_in_range(-70_000..=70_000)?,
            2..=5 => self.u.int_in_range(-8..=40)?,
            _ => self.u.int_in_range(-1..=3)?,
        })
    }

    fn float(&mut self) -> Result<f32> {
        Ok(match self.u.int_in_range(0..=12)? {
            0 => f32::from_bits(self.u.arbitrary()?),
            _ => f32::from(self.u.arbitrary::<i8>()?) / 16.0,
        })
    }

    fn constant(&mut self, dims: &[i64], kind: u8) -> Result<String> {
        let name = self.fresh();
        let count = dims.iter().product::<i64>().clamp(0, 4096) as usize;
        let operation = match kind {
            0 => {
                let values = (0..count).map(|_| self.small()).collect::<Result<Vec<_>>>()?;
                ints(&name, dims, &values)
            }
            1 => {
                let values = (0..count).map(|_| self.u.arbitrary()).collect::<Result<Vec<_>>>()?;
                bools(&name, dims, &values)
            }
            2 => {
                let words: Vec<&str> = WORDS.split_whitespace().collect();
                text(&name, self.u.choose(&words)?)
            }
            _ => {
                let values = (0..count).map(|_| self.float()).collect::<Result<Vec<_>>>()?;
                floats(&name, dims, &values)
            }
        };
        self.operations.push(operation);
        Ok(name)
    }

    /// Something for an argument of a class; now and then of another.
    fn argument(&mut self, class: usize) -> Result<String> {
        let class = match self.u.int_in_range(0..=60)? {
            0 => self.u.int_in_range(0..=5)?,
            _ => class,
        };
        match class {
            0 => {
                let len = match self.u.int_in_range(0..=4)? {
                    0 => self.u.int_in_range(0..=8)?,
                    1 => 2,
                    2 => 2 * self.dims.len() as i64,
                    _ => self.dims.len() as i64,
                };
                self.constant(&[len], 0)
            }
            1 => self.constant(&[], 0),
            2 => self.constant(&[], 3),
            3 if self.u.ratio(1, 4)? => self.constant(&[self.dims.len() as i64], 1),
            3 => self.constant(&[], 1),
            4 => self.constant(&[], 2),
            _ if self.u.ratio(1, 2)? => Ok(self.u.choose(&self.names)?.clone()),
            _ => {
                let dims = match self.u.int_in_range(0..=3)? {
                    0 => self.dims.clone(),
                    1 => vec![*self.u.choose(&self.dims)?],
                    _ => self.shape()?,
                };
                let kind = *self.u.choose(&[0, 1, 3, 3, 3, 3])?;
                self.constant(&dims, kind)
            }
        }
    }

    fn step(&mut self, blocks: bool) -> Result<()> {
        let lines: Vec<&str> = OPERATIONS.lines().collect();
        let mut words = self.u.choose(&lines)?.split_whitespace();
        let kind = words.next().unwrap_or_default();
        let classes = [VECTORS, INTEGERS, FLOATS, TRUTHS, TEXTS];
        let mut inputs = Vec::new();
        for name in words {
            let found = classes.iter().position(|names| {
                let mut names = names.split_whitespace();
                names.any(|other| other == name)
            });
            // Without a parameter there is often a default.
            if !self.u.ratio(if found.is_some() { 7 } else { 19 }, 20)? {
                continue;
            }
            let many = ["values", "loop_vars", "ref_tensors"].contains(&name);
            let bound = if many { self.u.int_in_range(1..=3)? } else { 1 };
            let bound = (0..bound).map(|_| self.argument(found.unwrap_or(5)));
            inputs.push((name, bound.collect::<Result<Vec<_>>>()?));
        }
        let mut inner = Vec::new();
        if blocks && ["cond", "while_loop"].contains(&kind) {
            for _ in 0..2 {
                inner.push(self.block()?);
            }
        }
        let results = *self.u.choose(&[1, 1, 1, 1, 1, 1, 2, 3])?;
        let mut out = bytes(1, kind.as_bytes());
        for (name, bound) in &inputs {
            let bound = bound.iter().flat_map(|name| bytes(1, &bytes(1, name.as_bytes())));
            let entry = [bytes(1, name.as_bytes()), bytes(2, &bound.collect::<Vec<_>>())];
            out.extend(bytes(2, &entry.concat()));
        }
        for _ in 0..results {
            let name = self.fresh();
            // Without a type anything will do.
            out.extend(match self.u.int_in_range(0..=12)? {
                0 => named(3, &name, *self.u.choose(&[BOOL, FLOAT16, FLOAT32, INT32])?, &[-1]),
                _ => bytes(3, &bytes(1, name.as_bytes())),
            });
            self.names.push(name);
        }
        inner.iter().for_each(|block| out.extend(bytes(4, block)));
        self.operations.push(out);
        Ok(())
    }

    fn block(&mut self) -> Result<Vec<u8>> {
        let (outside, known) = (std::mem::take(&mut self.operations), self.names.len());
        let given = self.u.int_in_range(0..=2)?;
        let parameters: Vec<String> = (0..given).map(|_| self.fresh()).collect();
        self.names.extend(parameters.iter().cloned());
        for _ in 0..self.u.int_in_range(0..=2)? {
            self.step(false)?;
        }
        let results = self.u.int_in_range(1..=2)?;
        let results = (0..results).map(|_| self.u.choose(&self.names).cloned());
        let results = results.collect::<Result<Vec<_>>>()?;
        let parameters: Vec<_> = parameters.iter().map(|name| named(1, name, FLOAT32, &[-1])).collect();
        let results: Vec<&str> = results.iter().map(String::as_str).collect();
        let made = block(&parameters, &results, &self.operations);
        self.operations = outside;
        self.names.truncate(known);
        Ok(made)
    }
}

fn program(u: &mut Unstructured<'_>) -> Result<(Vec<u8>, Vec<u8>)> {
    let mut maker = Maker {
        u,
        operations: Vec::new(),
        names: vec!["x".into(), "x".into(), "tokens".into()],
        dims: vec![2],
        count: 0,
    };
    maker.dims = maker.shape()?;
    if maker.dims.is_empty() {
        maker.dims.push(3);
    }
    let dims = maker.dims.clone();
    let inputs = [named(1, "x", FLOAT32, &dims), named(1, "tokens", INT32, &[3])].concat();
    for _ in 0..*maker.u.choose(&[1, 1, 1, 2, 4])? {
        maker.step(true)?;
    }
    let output = maker.names[maker.names.len() - 1].clone();
    Ok((inputs, block(&[], &[&output], &maker.operations)))
}

/// The bits of a result.
fn bits(tensor: &Tensor) -> Vec<u32> {
    let floats = tensor.floats().unwrap_or_default().iter().map(|value| value.to_bits());
    let ints = tensor.ints().unwrap_or_default().iter().map(|&value| value as u32);
    floats.chain(ints).collect()
}

fuzz_target!(|data: &[u8]| {
    let Ok((inputs, block)) = program(&mut Unstructured::new(data)) else {
        return;
    };
    let (_folder, package) = packages::package(&[inputs], &block);
    let mut options = RunOptions::default();
    options.memory = 1 << 18;
    options.max_iterations = 50;
    let model = match Model::open(&package, options) {
        Ok(model) => model,
        Err(error) => return assert_eq!(error.to_string().lines().count(), 1, "{error}"),
    };
    let values: HashMap<&str, Tensor> = (model.inputs().iter())
        .map(|input| {
            let shape: Vec<usize> = input.dims.iter().map(|dim| dim.unwrap_or(2)).collect();
            let count: usize = shape.iter().product();
            let tensor = match &*input.name {
                "x" => Tensor::from_floats(&shape, (0..count).map(|i| i as f32 - 3.0).collect()),
                _ => Tensor::from_ints(&shape, (0..count).map(|i| i as i32).collect()),
            };
            (&*input.name, tensor.unwrap())
        })
        .collect();
    let given: Vec<(&str, Tensor)> = values.iter().map(|(name, value)| (*name, value.clone())).collect();
    let run = || model.run(&given, &mut model.states().unwrap(), &mut Quiet);
    match (run(), run()) {
        (Ok(first), Ok(second)) => {
            for ((_, a), (_, b)) in first.iter().zip(&second) {
                assert_eq!((a.shape(), bits(a)), (b.shape(), bits(b)));
            }
        }
        (Err(error), Err(_)) => assert_eq!(error.to_string().lines().count(), 1, "{error}"),
        (first, second) => panic!("{:?}, then {:?}", first.err(), second.err()),
    }
});
