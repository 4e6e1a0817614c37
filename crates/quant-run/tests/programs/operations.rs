//! Single operations: inputs that make no sense, and what definitions say of odd ones.

use quant_run::{RunOptions, Tensor};

use super::packages::*;
use super::{message, run, x};

/// Inputs that are numbers, and inputs that are tensors, of one operation or another.
const NUMBERS: &str = "axis axes k size stride strides pad shape begin end reps perm block_size \
    upscale_factor downscale_factor batch_dims num_splits split_sizes kernel_sizes groups dilations \
    indices lengths max_boxes target_height target_width target_size_height target_size_width \
    output_shape crop_height crop_width block_shape paddings crops resized_dims lower upper \
    one_hot_vector_size seq_axis batch_axis vector_axis output_height output_width";
const TENSORS: &str = "x data query key value input boxes scores a b updates update y coordinates \
    values initial_h initial_c ref_tensor start step cond roi mean variance alpha beta scale zero_point \
    lut quantized_data source_val nonzero_data mask transform_matrix";

/// Operations with inputs that make no sense: an error, and never a panic.
#[test]
fn hostile_operations_are_errors() {
    let mut refused = 0;
    for kind in quant_run::operations() {
        if kind.contains("state") || ["cond", "while_loop", "const"].contains(&kind) {
            continue;
        }
        for (i, number) in [i32::MIN, -1, 0, 1, 7, i32::MAX].into_iter().enumerate() {
            let count = [1, 2, 4][i % 3];
            let mut operations = vec![ints("n", &[count], &vec![number; count as usize])];
            operations.push(floats("f", &[1, 2, 3, 2], &[0.5; 12]));
            operations.push(floats("w", &[2, 2, 3, 2], &[0.5; 24]));
            let numbers = NUMBERS.split_whitespace().map(|name| (name, &["n"][..]));
            let tensors = TENSORS.split_whitespace().map(|name| (name, &["f"][..]));
            let weights = ["weight", "weight_ih", "weight_hh"].map(|name| (name, &["w"][..]));
            let inputs: Vec<_> = numbers.chain(tensors).chain(weights).collect();
            operations.push(operation(kind, &inputs, &[("y", FLOAT32, &[-1])], &[]));
            let (_folder, package) = simple(&[-1], &operations);
            let mut options = RunOptions::default();
            options.memory = 1 << 24;
            refused += usize::from(run(&package, x(&[1.0]), options).is_err());
        }
    }
    assert!(refused > 500, "{refused}");
}

#[test]
fn a_single_value_is_not_put_together_with_a_tensor() {
    for values in [["s", "x"], ["x", "s"]] {
        let operations = [
            floats("s", &[], &[1.0]),
            operation(
                "concat",
                &[("values", &values)],
                &[("y", FLOAT32, &[-1])],
                &[],
            ),
        ];
        let (_folder, package) = simple(&[-1], &operations);
        let said = message(run(&package, x(&[1.0, 2.0]), RunOptions::default()));
        assert!(said.contains("concat"), "{said}");
    }
}

#[test]
fn a_linear_of_floats_takes_a_bias_of_integers() {
    let inputs: [(&str, &[&str]); 3] = [("x", &["x"]), ("weight", &["w"]), ("bias", &["b"])];
    let operations = [
        floats("w", &[2, 3], &[1.0, 0.5, -2.0, 0.0, 4.0, 1.0]),
        ints("b", &[2], &[10, -7]),
        operation("linear", &inputs, &[("y", FLOAT32, &[1, 2])], &[]),
    ];
    let (_folder, package) = simple(&[1, 3], &operations);
    let given = Tensor::from_floats(&[1, 3], vec![1.0, 2.0, 3.0]).unwrap();
    let y = run(&package, given, RunOptions::default()).unwrap();
    assert_eq!(y.floats().unwrap(), &[6.0, 4.0]);
}

#[test]
fn resizing_takes_the_nearest_center_and_upsampling_the_nearest_start() {
    let y = [("y", FLOAT32, &[1, 5, 1][..])];
    type Inputs = [(&'static str, &'static [&'static str])];
    let kinds: [(&str, &Inputs); 3] = [
        (
            "resize_nearest_neighbor",
            &[
                ("x", &["x"]),
                ("target_size_height", &["five"]),
                ("target_size_width", &["one"]),
            ],
        ),
        (
            "resize",
            &[
                ("x", &["x"]),
                ("shape", &["size"]),
                ("resized_dims", &["two"]),
                ("interpolation_mode", &["nearest"]),
            ],
        ),
        (
            "upsample_nearest_neighbor",
            &[("x", &["x"]), ("scale_factor_height", &["factor"])],
        ),
    ];
    for (kind, inputs) in kinds {
        let operations = [
            ints("one", &[], &[1]),
            ints("two", &[], &[2]),
            ints("five", &[], &[5]),
            ints("size", &[2], &[5, 1]),
            text("nearest", "NEAREST_NEIGHBOR"),
            floats("factor", &[], &[5.0 / 3.0]),
            operation(kind, inputs, &y, &[]),
        ];
        let (_folder, package) = simple(&[1, 3, 1], &operations);
        let given = Tensor::from_floats(&[1, 3, 1], vec![1.0, 2.0, 3.0]).unwrap();
        let found = run(&package, given, RunOptions::default()).unwrap();
        let wanted = match kind {
            "upsample_nearest_neighbor" => [1.0, 1.0, 2.0, 2.0, 3.0],
            _ => [1.0, 1.0, 2.0, 3.0, 3.0],
        };
        assert_eq!(found.floats().unwrap(), &wanted, "{kind}");
    }
}

#[test]
fn zeros_of_a_shape_are_dimensions_counted_from_the_last() {
    let operations = [
        ints("shape", &[4], &[1, 0, -1, 0]),
        operation(
            "reshape",
            &[("x", &["x"]), ("shape", &["shape"])],
            &[("y", FLOAT32, &[1, 1, 2, 3])],
            &[],
        ),
    ];
    let (_folder, package) = simple(&[2, 3], &operations);
    let given = Tensor::from_floats(&[2, 3], vec![1.0; 6]).unwrap();
    let found = run(&package, given, RunOptions::default()).unwrap();
    assert_eq!(found.shape(), [1, 1, 2, 3]);
}
