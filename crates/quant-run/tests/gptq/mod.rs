//! GPTQ: its codes beside those of reference.py, and what becomes of a small network.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};

use quant_models::quant_core::{Blocks, FloatType, Granularity, IntType, Mode, Scheme};
use quant_models::quant_simd::TensorQuantizer;
use quant_models::{Job, QuantizeOptions};
use quant_run::{
    Gptq, GptqOptions, Model, Moments, Quiet, RunOptions, Samples, Tensor, WeightMatrix, gptq,
    solve, solve_while, write_npy,
};
use serde_json::Value;

use crate::packages::*;

/// As in reference.py.
fn made(count: usize, salt: u64) -> Vec<f64> {
    let one = |i: u64| {
        let mixed = i.wrapping_mul(2_654_435_761).wrapping_add(salt * 40_503) & 0xffff_ffff;
        let mixed = (mixed ^ (mixed >> 15)).wrapping_mul(2_246_822_519) & 0xffff_ffff;
        ((mixed >> 13) % 193) as f64 / 64.0 - 1.5
    };
    (0..count as u64).map(one).collect()
}

/// As in reference.py.
fn inputs_of(groups: usize, inputs: usize, rows: usize) -> Vec<f32> {
    let made = made(groups * rows * inputs, 7);
    let mut values = Vec::with_capacity(made.len());
    for row in made.chunks(inputs) {
        for i in 0..inputs {
            let before = if i > 0 { 0.75 * row[i - 1] } else { 0.0 };
            let value = (row[i] + before) * (1 + i % 5) as f64;
            values.push(if i == 3 { 0.0 } else { value as f32 });
        }
    }
    values
}

fn golden() -> Vec<(String, Value)> {
    let all: Value = serde_json::from_str(include_str!("golden.json")).unwrap();
    let all = all.as_object().unwrap().clone();
    assert_eq!(all.len(), 6);
    all.into_iter().collect()
}

#[test]
fn codes_are_those_of_the_reference_in_numpy() {
    const ROWS: usize = 60;
    for (name, case) in golden() {
        let number = |key: &str| case[key].as_u64().unwrap() as usize;
        let shape: Vec<usize> = serde_json::from_value(case["shape"].clone()).unwrap();
        let (groups, inputs) = (number("groups"), shape[1]);
        let mode: Mode = case["mode"].as_str().unwrap().parse().unwrap();
        let dtype = IntType::new(number("bits") as u32, true).unwrap();
        let block = [1, number("block")];
        let blocks = Blocks::new(&shape, &Granularity::Blocks(block.to_vec())).unwrap();
        let quantizer = TensorQuantizer::new(Scheme::new(dtype, mode), FloatType::F32, blocks);
        let values = made(shape[0] * inputs, 3);
        let values: Vec<f32> = values.iter().map(|&value| value as f32).collect();
        let mut moments = Moments::new(groups, inputs);
        for (group, rows) in inputs_of(groups, inputs, ROWS)
            .chunks(ROWS * inputs)
            .enumerate()
        {
            // In parts, as samples come.
            rows.chunks(7 * inputs)
                .for_each(|rows| moments.add(group, rows));
        }
        let matrix = WeightMatrix {
            outputs: shape[0],
            inputs,
            groups,
            inputs_first: false,
        };
        let options = GptqOptions::default().with_by_size(case["by_size"].as_bool().unwrap());
        let solved = solve(&quantizer, &values, matrix, &moments, options).unwrap();
        let mut codes = vec![0; values.len()];
        quantizer
            .backend
            .unpack(&solved.codes, 0, dtype, &mut codes);
        let codes: Vec<i64> = codes.iter().map(|&code| dtype.value(code).into()).collect();
        let wanted: Vec<i64> = serde_json::from_value(case["codes"].clone()).unwrap();
        assert_eq!(codes, wanted, "{name}");
        let wanted: (f64, f64) = serde_json::from_value(case["loss"].clone()).unwrap();
        let close = |a: f64, b: f64| (a - b).abs() <= 1e-9 * b;
        assert!(
            close(solved.loss.0, wanted.0),
            "{name} {:?} {wanted:?}",
            solved.loss
        );
        assert!(
            close(solved.loss.1, wanted.1),
            "{name} {:?} {wanted:?}",
            solved.loss
        );
        assert!(solved.loss.1 < 0.7 * solved.loss.0, "{name}");

        // The other way round in memory, it is the same weight.
        let at = |output: usize, input: usize| output * inputs + input;
        let turned = |input: usize, output: usize| values[at(output, input)];
        let turned: Vec<f32> = (0..inputs)
            .flat_map(|input| (0..shape[0]).map(move |output| turned(input, output)))
            .collect();
        let block = [number("block"), 1];
        let blocks = Blocks::new(&[inputs, shape[0]], &Granularity::Blocks(block.to_vec()));
        let quantizer = TensorQuantizer {
            blocks: blocks.unwrap(),
            ..quantizer
        };
        let matrix = WeightMatrix {
            inputs_first: true,
            ..matrix
        };
        let other = solve(&quantizer, &turned, matrix, &moments, options).unwrap();
        assert_eq!(other.restored[1], solved.restored[at(1, 0)], "{name}");
        assert_eq!(other.loss, solved.loss, "{name}");
    }
}

#[test]
fn a_weight_is_left_whenever_it_is_to_end() {
    let (outputs, inputs) = (70, 300);
    let blocks = Blocks::new(&[outputs, inputs], &Granularity::PerChannel { axis: 0 });
    let scheme = Scheme::new(IntType::Int4, Mode::Symmetric);
    let quantizer = TensorQuantizer::new(scheme, FloatType::F32, blocks.unwrap());
    let values: Vec<f32> = made(outputs * inputs, 1)
        .iter()
        .map(|&it| it as f32)
        .collect();
    let rows: Vec<f32> = made(400 * inputs, 2).iter().map(|&it| it as f32).collect();
    let mut moments = Moments::new(1, inputs);
    moments.add(0, &rows);
    let matrix = WeightMatrix {
        outputs,
        inputs,
        groups: 1,
        inputs_first: false,
    };
    let options = GptqOptions::default();
    let solve_while = |go_on: &(dyn Fn() -> bool + Sync)| {
        solve_while(&quantizer, &values, matrix, &moments, options, go_on)
    };
    let asked = AtomicUsize::new(0);
    let whole = solve_while(&|| asked.fetch_add(1, Ordering::Relaxed) < usize::MAX);
    let wanted = solve(&quantizer, &values, matrix, &moments, options).unwrap();
    assert_eq!(whole, Ok(Some(wanted)));
    let asked = asked.into_inner();
    assert!(asked > 10, "{asked}");
    for times in (0..asked).step_by(asked / 8) {
        let left = AtomicUsize::new(0);
        let ended = solve_while(&|| left.fetch_add(1, Ordering::Relaxed) < times);
        assert_eq!(ended, Ok(None), "after {times} of {asked}");
    }
}

#[test]
fn moments_that_no_inputs_have_are_refused() {
    assert!(Moments::from_values(1, 2, vec![1.0; 3]).is_err());
    assert!(Moments::from_values(usize::MAX, 2, vec![1.0; 4]).is_err());
    assert!(Moments::from_values(1, 1, vec![f64::NAN]).is_err());
    assert!(Moments::from_values(1, 1, vec![-1.0]).is_err());
    let quantizer = |shape: &[usize]| {
        let blocks = Blocks::new(shape, &Granularity::PerChannel { axis: 0 }).unwrap();
        TensorQuantizer::new(
            Scheme::new(IntType::Int4, Mode::Symmetric),
            FloatType::F32,
            blocks,
        )
    };
    let matrix = WeightMatrix {
        outputs: 1,
        inputs: 2,
        groups: 1,
        inputs_first: false,
    };
    let moments = Moments::from_values(1, 2, vec![1.0, 5.0, 5.0, 1.0]).unwrap();
    // Ten times as much damping each time makes something of any.
    let options = GptqOptions::default();
    assert!(solve(&quantizer(&[1, 2]), &[0.5, 1.0], matrix, &moments, options).is_ok());
    let problem = solve(&quantizer(&[1, 3]), &[0.5; 3], matrix, &moments, options);
    assert!(
        problem
            .unwrap_err()
            .contains("moments of 1 groups of 2 inputs")
    );
    let problem = solve(
        &quantizer(&[1, 2]),
        &[0.5, f32::NAN],
        matrix,
        &moments,
        options,
    );
    assert!(problem.unwrap_err().contains("NaN"));
}

fn weights(name: &str, dims: &[i64], salt: u64) -> Vec<u8> {
    let count: i64 = dims.iter().product();
    let values = made(count as usize, salt);
    let values: Vec<f32> = values.iter().map(|&value| value as f32 / 8.0).collect();
    floats(name, dims, &values)
}

/// A convolution in two groups, a product by a matrix of inputs first, a linear layer.
fn network() -> (tempfile::TempDir, std::path::PathBuf) {
    let shape = |to: &str, kind: &str, inputs: &[(&str, &[&str])], dims: &[i64]| {
        operation(kind, inputs, &[(to, FLOAT32, dims)], &[])
    };
    let operations = [
        weights("kernel", &[8, 2, 3, 3], 11),
        weights("matrix", &[32, 24], 12),
        weights("rows", &[6, 24], 13),
        ints("strides", &[2], &[2, 1]),
        text("same", "same"),
        ints("two", &[], &[2]),
        ints("flat", &[2], &[8, 32]),
        shape(
            "a",
            "conv",
            &[
                ("x", &["x"]),
                ("weight", &["kernel"]),
                ("strides", &["strides"]),
                ("pad_type", &["same"]),
                ("groups", &["two"]),
            ],
            &[1, 8, 4, 8],
        ),
        shape("b", "relu", &[("x", &["a"])], &[1, 8, 4, 8]),
        shape(
            "c",
            "reshape",
            &[("x", &["b"]), ("shape", &["flat"])],
            &[8, 32],
        ),
        shape(
            "d",
            "matmul",
            &[("x", &["c"]), ("y", &["matrix"])],
            &[8, 24],
        ),
        shape("e", "relu", &[("x", &["d"])], &[8, 24]),
        shape(
            "y",
            "linear",
            &[("x", &["e"]), ("weight", &["rows"])],
            &[8, 6],
        ),
    ];
    simple(&[1, 4, 8, 8], &operations)
}

fn sample(index: u64) -> Tensor {
    let mut values = made(256, 100 + index);
    for i in 1..256 {
        values[i] = 0.7 * values[i - 1] + 0.3 * values[i];
    }
    let values = values.iter().map(|&value| value as f32).collect();
    Tensor::from_floats(&[1, 4, 8, 8], values).unwrap()
}

fn found(package: &std::path::Path, options: &QuantizeOptions, threads: usize) -> Gptq {
    found_with(package, options, threads, &sample)
}

fn found_with(
    package: &std::path::Path,
    options: &QuantizeOptions,
    threads: usize,
    sample: &dyn Fn(u64) -> Tensor,
) -> Gptq {
    let folder = tempfile::tempdir().unwrap();
    for index in 0..12 {
        let bytes = write_npy(&sample(index)).unwrap();
        std::fs::write(folder.path().join(format!("{index:02}.npy")), bytes).unwrap();
    }
    let samples = Samples::list(&[folder.path().to_owned()]).unwrap();
    let mut wanted = BTreeMap::new();
    let visit = &mut |name: &str, quantizer: &TensorQuantizer, _: &dyn Fn() -> _| {
        wanted.insert(name.to_owned(), quantizer.clone());
        Ok(())
    };
    quant_models::visit_quantized(package, options, &Job::UNWATCHED, visit).unwrap();
    let mut model = Model::open(package, RunOptions::default()).unwrap();
    let pool = rayon::ThreadPoolBuilder::new()
        .num_threads(threads)
        .build()
        .unwrap();
    let run = || {
        gptq(
            &mut model,
            &samples,
            &wanted,
            GptqOptions::default(),
            &|| true,
            &|_| {},
        )
    };
    pool.install(run).unwrap()
}

/// What samples that GPTQ has not seen give.
fn outputs(package: &std::path::Path) -> Vec<f32> {
    let model = Model::open(package, RunOptions::default()).unwrap();
    let mut all = Vec::new();
    for index in 50..70 {
        let inputs = [("x", sample(index))];
        let outputs = model
            .run(&inputs, &mut model.states().unwrap(), &mut Quiet)
            .unwrap();
        all.extend_from_slice(outputs[0].1.floats().unwrap());
    }
    all
}

/// Zeros say nothing of the weight that they go into.
#[test]
fn a_weight_that_only_sees_zeros_is_rounded_and_told() {
    let (_folder, package) = network();
    let options = QuantizeOptions::default().with_min_elements(0);
    let zeros = |_| Tensor::from_floats(&[1, 4, 8, 8], vec![0.0; 256]).unwrap();
    let codes = found_with(&package, &options, 1, &zeros);
    let kernel = codes.left.iter().find(|(name, _)| name == "kernel");
    let reason = &kernel.unwrap().1;
    assert!(reason.contains("inputs are 0 in the samples"), "{reason}");
}

#[test]
fn a_network_answers_better_and_the_threads_do_not_matter() {
    let (folder, package) = network();
    let options = QuantizeOptions::default()
        .with_scheme(Scheme::new(IntType::Int4, Mode::Symmetric))
        .with_min_elements(0);
    let codes = found(&package, &options, 1);
    let names: Vec<&str> = codes
        .layers
        .iter()
        .map(|layer| layer.name.as_str())
        .collect();
    assert_eq!(names, ["kernel", "matrix", "rows"]);
    assert_eq!(codes.left, []);
    assert!(codes.layers.iter().all(|layer| layer.loss.1 < layer.loss.0));
    assert_eq!(codes, found(&package, &options, 3));

    let float = outputs(&package);
    let error = |options: &QuantizeOptions, name: &str| {
        let output = folder.path().join(name);
        let report = quant_models::quantize(&package, &output, options, &Job::UNWATCHED).unwrap();
        assert!(report.tensors.iter().all(|tensor| tensor.sqnr_db.is_some()));
        let all = outputs(&output);
        let errors = all
            .iter()
            .zip(&float)
            .map(|(a, b)| f64::from((a - b) * (a - b)));
        (errors.sum::<f64>(), report)
    };
    let (rounded, report) = error(&options, "Rounded.mlpackage");
    assert!(report.tensors.iter().all(|tensor| tensor.method.is_none()));
    let with_codes = options.with_codes(std::sync::Arc::new(codes.codes));
    let (by_gptq, report) = error(&with_codes, "Gptq.mlpackage");
    assert!(
        report
            .tensors
            .iter()
            .all(|tensor| tensor.method.as_deref() == Some("gptq"))
    );
    assert!(by_gptq < 0.7 * rounded, "{by_gptq} {rounded}");
}
