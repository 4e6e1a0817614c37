//! Programs that run, and programs that must not.

#[path = "../gptq/mod.rs"]
mod gptq;
mod operations;
#[path = "../packages/mod.rs"]
mod packages;

use packages::*;
use quant_run::{Error, Model, NonFinite, Quiet, RunOptions, Tensor, Watch};

fn run(package: &std::path::Path, x: Tensor, options: RunOptions) -> Result<Tensor, Error> {
    let model = Model::open(package, options)?;
    let mut outputs = model.run(&[("x", x)], &mut model.states()?, &mut Quiet)?;
    Ok(outputs.swap_remove(0).1)
}

fn x(values: &[f32]) -> Tensor {
    Tensor::from_floats(&[values.len()], values.to_vec()).unwrap()
}

fn message(result: Result<Tensor, Error>) -> String {
    result.unwrap_err().to_string()
}

/// An operation on `x` alone.
fn unary(kind: &str, from: &str, to: &str) -> Vec<u8> {
    operation(kind, &[("x", &[from])], &[(to, FLOAT32, &[-1])], &[])
}

#[test]
fn unknown_operations_are_refused_by_name_before_anything_runs() {
    let operations = [
        unary("warp", "x", "a"),
        unary("warp", "a", "b"),
        unary("foo", "b", "y"),
    ];
    let (_folder, package) = simple(&[-1], &operations);
    let error = Model::open(&package, RunOptions::default()).unwrap_err();
    let Error::Unsupported(kinds) = &error else {
        panic!("{error}");
    };
    assert_eq!(kinds, &[("foo".to_string(), 1), ("warp".to_string(), 2)]);
    assert!(
        error.to_string().contains("`foo`, `warp` (2 times)"),
        "{error}"
    );
}

#[test]
fn inputs_that_do_not_fit_are_named() {
    let (_folder, package) = simple(&[3], &[unary("relu", "x", "y")]);
    let model = Model::open(&package, RunOptions::default()).unwrap();
    let mut states = model.states().unwrap();
    let mut run = |inputs: &[(&str, Tensor)]| {
        let outcome = model.run(inputs, &mut states, &mut Quiet);
        outcome.map(|_| ()).unwrap_err().to_string()
    };
    assert_eq!(run(&[]), "input `x`: missing");
    assert_eq!(
        run(&[("x", x(&[1.0]))]),
        "input `x`: shape [1], where the model needs [3]"
    );
    let unknown = run(&[("z", x(&[1.0]))]);
    assert_eq!(unknown, "input `z`: the model has no such input; it has x");
    let twice = run(&[("x", x(&[0.0; 3])), ("x", x(&[0.0; 3]))]);
    assert_eq!(twice, "input `x`: given twice");
}

fn counting_loop(limit: f32) -> Vec<u8> {
    let pred = operation(
        "less",
        &[("x", &["i"]), ("y", &["limit"])],
        &[("p", BOOL, &[1])],
        &[],
    );
    let squeeze = operation("squeeze", &[("x", &["p"])], &[("q", BOOL, &[])], &[]);
    let next = operation(
        "add",
        &[("x", &["j"]), ("y", &["one"])],
        &[("k", FLOAT32, &[1])],
        &[],
    );
    let condition = block(&[named(1, "i", FLOAT32, &[1])], &["q"], &[pred, squeeze]);
    let body = block(&[named(1, "j", FLOAT32, &[1])], &["k"], &[next]);
    let repeat = operation(
        "while_loop",
        &[("loop_vars", &["x"])],
        &[("y", FLOAT32, &[1])],
        &[condition, body],
    );
    let constants = [floats("limit", &[1], &[limit]), floats("one", &[1], &[1.0])];
    block(&[], &["y"], &[constants.to_vec(), vec![repeat]].concat())
}

#[test]
fn a_loop_runs_until_its_condition_is_false() {
    let (_folder, package) =
        packages::package(&[named(1, "x", FLOAT32, &[1])], &counting_loop(10.0));
    let y = run(&package, x(&[2.5]), RunOptions::default()).unwrap();
    assert_eq!(y.floats(), Some(&[10.5][..]));
}

#[test]
fn an_endless_loop_ends_with_an_error() {
    let (_folder, package) = packages::package(
        &[named(1, "x", FLOAT32, &[1])],
        &counting_loop(f32::INFINITY),
    );
    let mut options = RunOptions::default();
    options.max_iterations = 1000;
    let error = message(run(&package, x(&[0.0]), options));
    assert!(
        error.contains("`y` (while_loop)") && error.contains("more than 1000 times"),
        "{error}"
    );
}

#[test]
fn a_condition_takes_one_of_two_blocks() {
    let branch = |kind: &str, name: &str| block(&[], &[name], &[unary(kind, "x", name)]);
    let pick = |truth: bool| {
        let cond = operation(
            "cond",
            &[("pred", &["p"])],
            &[("y", FLOAT32, &[-1])],
            &[branch("square", "a"), branch("abs", "b")],
        );
        let (_folder, package) = simple(&[-1], &[bools("p", &[], &[truth]), cond]);
        run(&package, x(&[-3.0]), RunOptions::default()).unwrap()
    };
    assert_eq!(pick(true).floats(), Some(&[9.0][..]));
    assert_eq!(pick(false).floats(), Some(&[3.0][..]));
}

#[test]
fn a_result_that_is_too_large_is_refused() {
    let tile = operation(
        "tile",
        &[("x", &["x"]), ("reps", &["reps"])],
        &[("y", FLOAT32, &[-1])],
        &[],
    );
    let (_folder, package) = simple(&[-1], &[ints("reps", &[1], &[i32::MAX]), tile]);
    let mut options = RunOptions::default();
    options.memory = 1 << 20;
    let error = message(run(&package, x(&[1.0, 2.0]), options));
    assert!(
        error.contains("`y` (tile)") && error.contains("of the 1.0 MB"),
        "{error}"
    );
}

#[test]
fn memory_does_not_grow_with_depth() {
    let names: Vec<String> = (0..200).map(|i| format!("v{i}")).collect();
    let mut operations = vec![unary("relu", "x", &names[0])];
    for pair in names.windows(2) {
        operations.push(unary("square", &pair[0], &pair[1]));
    }
    operations.push(unary("abs", &names[199], "y"));
    let (_folder, package) = simple(&[-1], &operations);
    let mut options = RunOptions::default();
    // One value: each operation takes the place of what it is given.
    options.memory = 4 * 10_000;
    let y = run(&package, x(&[1.0; 10_000]), options.clone()).unwrap();
    assert_eq!(y.len(), 10_000);
    options.memory -= 1;
    assert!(message(run(&package, x(&[1.0; 10_000]), options)).contains("are in use"));
}

#[test]
fn weights_that_may_not_stay_are_read_for_each_use() {
    let side = 192_usize;
    let dims = [side as i64; 2];
    let mut operations = Vec::new();
    for i in 0..6 {
        let value = |k: usize| ((k * 31 + i * 17) % 29) as f32 / 290.0 - 0.05;
        let weight: Vec<f32> = (0..side * side).map(value).collect();
        operations.push(floats(&format!("w{i}"), &dims, &weight));
        let (from, to) = (format!("v{i}"), format!("v{}", i + 1));
        let (from, to) = (
            if i == 0 { "x" } else { &from },
            if i == 5 { "y" } else { &to },
        );
        let inputs: [(&str, &[&str]); 2] = [("x", &[from]), ("weight", &[&format!("w{i}")])];
        operations.push(operation(
            "linear",
            &inputs,
            &[(to, FLOAT32, &[3, -1])],
            &[],
        ));
    }
    let (_folder, package) = simple(&[3, side as i64], &operations);
    let given = || Tensor::from_floats(&[3, side], vec![0.5; 3 * side]).unwrap();
    let weight = 4 * side * side;
    // One weight at a time and what goes through it, or all of them.
    let mut found = Vec::new();
    for (memory, keep, once) in [
        (weight + 20_000, 0, false),
        (weight + 20_000, usize::MAX, true),
        (3 * weight + 20_000, usize::MAX, false),
        (13 * weight, usize::MAX, false),
    ] {
        let mut options = RunOptions::default();
        (options.memory, options.keep_weights, options.single_pass) = (memory, keep, once);
        let model = Model::open(&package, options).unwrap();
        for _ in 0..2 {
            let states = &mut model.states().unwrap();
            let y = model.run(&[("x", given())], states, &mut Quiet).unwrap();
            found.push(y[0].1.floats().unwrap().to_vec());
        }
    }
    assert!(found.iter().all(|y| *y == found[0]));
    let mut options = RunOptions::default();
    options.memory = weight - 1;
    let error = message(run(&package, given(), options));
    assert!(
        error.contains("(linear)") && error.contains("allow more"),
        "{error}"
    );
}

#[test]
fn results_do_not_depend_on_the_number_of_threads() {
    let value = |k: usize| ((k * 37) % 101) as f32 / 50.0 - 1.0;
    let many = |name: &str, dims: &[i64]| {
        let count = dims.iter().product::<i64>() as usize;
        floats(name, dims, &(0..count).map(value).collect::<Vec<_>>())
    };
    let one = |kind: &str, inputs: &[(&str, &[&str])], to: &str| {
        operation(kind, inputs, &[(to, FLOAT32, &[1, -1])], &[])
    };
    let operations = [
        many("w", &[300, 77]),
        many("m", &[300, 500]),
        many("n", &[500, 500]),
        many("k", &[1, 20, 1, 1]),
        ints("shape", &[4], &[1, 20, 5, 5]),
        text("equation", "ab,bc->ac"),
        one("linear", &[("x", &["x"]), ("weight", &["w"])], "a"),
        one("matmul", &[("x", &["a"]), ("y", &["m"])], "b"),
        one(
            "einsum",
            &[("values", &["b", "n"]), ("equation", &["equation"])],
            "c",
        ),
        one("reshape", &[("x", &["c"]), ("shape", &["shape"])], "d"),
        one("conv", &[("x", &["d"]), ("weight", &["k"])], "y"),
    ];
    let (_folder, package) = simple(&[1, 77], &operations);
    let mut found = Vec::new();
    for (threads, keep) in [(1, 0), (1, usize::MAX), (2, 0), (3, usize::MAX), (7, 0)] {
        let mut options = RunOptions::default();
        options.keep_weights = keep;
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build();
        let given = Tensor::from_floats(&[1, 77], (0..77).map(value).collect()).unwrap();
        let y = pool
            .unwrap()
            .install(|| run(&package, given, options))
            .unwrap();
        found.push(y.floats().unwrap().to_vec());
    }
    assert!(found.iter().all(|y| *y == found[0]));
}

/// Each channel convolved as the definition says.
fn convolved(x: &[f32], weights: &[f32], g: [usize; 7]) -> (usize, usize, Vec<f32>) {
    let [rows, columns, size, stride, dilation, before, after] = g;
    let extent = (size - 1) * dilation + 1;
    let results = |input: usize| (input + before + after - extent) / stride + 1;
    let (h, w) = (results(rows), results(columns));
    let mut out = vec![0.0_f32; 2 * h * w];
    for (at, sum) in out.iter_mut().enumerate() {
        let (channel, r, c) = (at / (h * w), at / w % h, at % w);
        for tap in 0..size * size {
            let i = (r * stride + tap / size * dilation).checked_sub(before);
            let j = (c * stride + tap % size * dilation).checked_sub(before);
            if let (Some(i), Some(j)) = (i.filter(|&i| i < rows), j.filter(|&j| j < columns)) {
                let value = x[(channel * rows + i) * columns + j];
                *sum += value * weights[channel * size * size + tap];
            }
        }
    }
    (h, w, out)
}

#[test]
fn channels_are_convolved_one_by_one() {
    let kinds = [1, 2, 3, 5].iter().flat_map(|&size| {
        let more = [(1, 1), (2, 1), (3, 2), (1, 2)];
        more.map(move |(stride, dilation)| (size, stride, dilation))
    });
    for (i, (size, stride, dilation)) in kinds.enumerate() {
        let (rows, columns) = (9 + i % 3, [9, 16, 17, 40][i % 4]);
        let (before, after) = (i % 3, i % 2);
        let value = |k: usize| ((k * 37 + i * 11) % 23) as f32 / 8.0 - 1.0;
        let data: Vec<f32> = (0..2 * rows * columns).map(value).collect();
        let weights: Vec<f32> = (0..2 * size * size).map(value).collect();
        let g = [rows, columns, size, stride, dilation, before, after];
        let (h, w, wanted) = convolved(&data, &weights, g);
        let [s, d] = [stride, dilation].map(|value| [value as i32; 2]);
        let pad = [before as i32, after as i32].repeat(2);
        let operations = [
            floats("weight", &[2, 1, size as i64, size as i64], &weights),
            ints("strides", &[2], &s),
            ints("dilations", &[2], &d),
            ints("pad", &[4], &pad),
            ints("groups", &[], &[2]),
            text("pad_type", "custom"),
            operation(
                "conv",
                &[
                    ("x", &["x"]),
                    ("weight", &["weight"]),
                    ("strides", &["strides"]),
                    ("dilations", &["dilations"]),
                    ("pad", &["pad"]),
                    ("groups", &["groups"]),
                    ("pad_type", &["pad_type"]),
                ],
                &[("y", FLOAT32, &[1, 2, -1, -1])],
                &[],
            ),
        ];
        let (_folder, package) = simple(&[1, 2, rows as i64, columns as i64], &operations);
        let given = Tensor::from_floats(&[1, 2, rows, columns], data).unwrap();
        let y = run(&package, given, RunOptions::default()).unwrap();
        assert_eq!(y.shape(), [1, 2, h, w], "{g:?}");
        let found = y.floats().unwrap().iter().zip(&wanted);
        assert!(found.clone().all(|(a, b)| (a - b).abs() < 1e-4), "{g:?}");
    }
}

#[test]
fn the_first_value_that_is_not_finite_is_named() {
    let mul = operation(
        "mul",
        &[("x", &["x"]), ("y", &["mask"])],
        &[("masked", FLOAT32, &[-1])],
        &[],
    );
    let mask = floats("mask", &[2], &[1.0, f32::NEG_INFINITY]);
    let (_folder, package) = simple(&[-1], &[mask, mul, unary("relu", "masked", "y")]);
    let model = Model::open(&package, RunOptions::default()).unwrap();
    let mut found = NonFinite::default();
    model
        .run(
            &[("x", x(&[1.0, 0.0]))],
            &mut model.states().unwrap(),
            &mut found,
        )
        .unwrap();
    let wanted = "operation `masked` (mul) gives NaN at element 1 of `masked`";
    assert_eq!(found.nan.as_deref(), Some(wanted));
    assert_eq!(found.infinity, None);
}

#[test]
fn float16_is_rounded_where_that_is_asked_for() {
    let cast = operation(
        "cast",
        &[("x", &["x"]), ("dtype", &["to"])],
        &[("y", FLOAT16, &[-1])],
        &[],
    );
    let (_folder, package) = simple(&[-1], &[text("to", "fp16"), cast]);
    let mut options = RunOptions::default();
    let y = run(&package, x(&[0.1, 1e5]), options.clone()).unwrap();
    assert_eq!(y.floats(), Some(&[0.1, 1e5][..]));
    options.round_f16 = true;
    let y = run(&package, x(&[0.1, 1e5]), options).unwrap();
    assert_eq!(y.floats(), Some(&[0.099_975_586, f32::INFINITY][..]));
}

#[test]
fn states_keep_what_is_written_until_they_are_reset() {
    let state = {
        let tensor = named(1, "s", FLOAT32, &[1]);
        // The type within the name's message becomes that of a state.
        let inner = &tensor[2..];
        let name_len = 2 + inner[1] as usize;
        let mut out = inner[..name_len].to_vec();
        out.extend(bytes(2, &bytes(5, &bytes(1, &inner[name_len + 2..]))));
        bytes(1, &out)
    };
    let operations = [
        operation(
            "read_state",
            &[("input", &["s"])],
            &[("old", FLOAT32, &[1])],
            &[],
        ),
        operation(
            "add",
            &[("x", &["old"]), ("y", &["x"])],
            &[("y", FLOAT32, &[1])],
            &[],
        ),
        operation(
            "write_state",
            &[("input", &["s"]), ("data", &["y"])],
            &[],
            &[],
        ),
    ];
    let inputs = [named(1, "x", FLOAT32, &[1]), state];
    let (_folder, package) = packages::package(&inputs, &block(&[], &["y"], &operations));
    let model = Model::open(&package, RunOptions::default()).unwrap();
    let mut states = model.states().unwrap();
    let mut step = |value: f32| {
        let outputs = model
            .run(&[("x", x(&[value]))], &mut states, &mut Quiet)
            .unwrap();
        outputs[0].1.floats().unwrap()[0]
    };
    assert_eq!([step(1.0), step(2.0), step(4.0)], [1.0, 3.0, 7.0]);
    states = model.states().unwrap();
    let outputs = model
        .run(&[("x", x(&[5.0]))], &mut states, &mut Quiet)
        .unwrap();
    assert_eq!(outputs[0].1.floats(), Some(&[5.0][..]));
}

#[test]
fn a_value_is_seen_before_it_is_given_up() {
    struct Names(Vec<String>);
    impl Watch for Names {
        fn value(&mut self, _: &str, _: &str, name: &str, value: &Tensor) -> Result<(), Error> {
            self.0.push(format!("{name} {:?}", value.floats().unwrap()));
            Ok(())
        }
    }
    let operations = [unary("square", "x", "a"), unary("relu", "a", "y")];
    let (_folder, package) = simple(&[-1], &operations);
    let model = Model::open(&package, RunOptions::default()).unwrap();
    let mut names = Names(Vec::new());
    model
        .run(
            &[("x", x(&[-2.0]))],
            &mut model.states().unwrap(),
            &mut names,
        )
        .unwrap();
    assert_eq!(names.0, ["x [-2.0]", "a [4.0]", "y [4.0]"]);
}
