//! Pipelines: every ML program in them is quantized, the rest stays byte for byte.

use std::fs;
use std::path::Path;

use quant_models::QuantizeOptions;

use crate::coreml::{Item, MODEL, contents, field, parse};
use crate::folder::{Copy, digest, names, quantize};

const STAGES: [&str; 8] = [
    "0/wide_weight_0",
    "0/wide_bias_0",
    "1/wide_weight_0",
    "1/wide_bias_0",
    "1/deep_weight_0",
    "1/deep_bias_0",
    "2/last_weight_0",
    "2/last_bias_0",
];

#[test]
fn pipelines_are_listed_compared_and_restored() {
    let copy = Copy::of("pipeline_18_f16");
    assert_eq!(names(&copy.input()), STAGES);
    let report = copy.quantize();
    assert!(report.warnings.is_empty(), "{:?}", report.warnings);
    let reported = report.tensors.iter().map(|tensor| tensor.name.as_str());
    assert_eq!(reported.collect::<Vec<_>>(), STAGES);
    let quantized = report.tensors.iter().filter(|one| one.scheme.is_some());
    assert_eq!(quantized.count(), 4);
    assert_eq!(names(&copy.out())[2], "1/wide_weight_0_quantized");
    assert!(
        quant_models::diff(&copy.input(), &copy.input())
            .unwrap()
            .equal
    );
    let apart = quant_models::diff(&copy.input(), &copy.out()).unwrap();
    assert!(!apart.equal && apart.tensors.len() == 8);
    assert!(
        apart.tensors.iter().all(|one| one.reason.is_none()),
        "{apart:?}"
    );
    let floats = copy.dequantize();
    let back = quant_models::diff(&copy.out(), &floats).unwrap();
    assert!(
        back.tensors
            .iter()
            .all(|one| one.max_abs_error.unwrap_or(0.0) == 0.0 && one.reason.is_none()),
        "{back:?}"
    );
    assert_eq!(contents(&floats), contents(&copy.input()));
}

/// Of a pipeline, a model of another kind stays as it is, and is named.
#[test]
fn other_models_of_a_pipeline_stay() {
    let copy = Copy::of("pipeline_16_f16");
    let report = copy.quantize();
    let told = report
        .warnings
        .iter()
        .find(|line| line.to_string().contains("neural network"));
    assert!(
        told.unwrap().to_string().contains("`1`"),
        "{:?}",
        report.warnings
    );
    let models = |package: &Path| {
        let bytes = fs::read(package.join(MODEL)).unwrap();
        let pipeline = only(&bytes, 202);
        all(&pipeline, 1)
    };
    let (before, after) = (models(&copy.input()), models(&copy.out()));
    assert_eq!(before.len(), 4);
    assert!(before[1] == after[1] && before[3] == after[3] && before[0] != after[0]);
}

fn all(bytes: &[u8], number: u32) -> Vec<Vec<u8>> {
    let fields = parse(bytes).into_iter();
    let found = fields.filter_map(|(other, item)| match item {
        Item::Bytes(bytes) if other == number => Some(bytes.to_vec()),
        _ => None,
    });
    found.collect()
}

fn only(bytes: &[u8], number: u32) -> Vec<u8> {
    let mut found = all(bytes, number);
    assert_eq!(found.len(), 1);
    found.remove(0)
}

/// Pipelines within pipelines, of every kind, with names and without.
#[test]
fn nested_pipelines_are_quantized() {
    let plain = Copy::of("pipeline_18_f16");
    plain.quantize();
    let weights = |copy: &Copy| {
        let files = contents(&copy.out()).into_iter();
        let files = files.filter(|file| file.ends_with(".bin"));
        files
            .map(|file| digest(&copy.out().join(file)))
            .collect::<Vec<_>>()
    };
    let version = field(1, &Item::Number(9));
    let around = |model: &[u8], names: &[&str], kind: u32| {
        let mut pipeline = field(1, &Item::Bytes(model));
        for name in names {
            pipeline.extend(field(2, &Item::Bytes(name.as_bytes())));
        }
        let body = match kind {
            202 => field(202, &Item::Bytes(&pipeline)),
            kind => field(kind, &Item::Bytes(&field(1, &Item::Bytes(&pipeline)))),
        };
        [version.clone(), body].concat()
    };
    let copy = Copy::of("pipeline_18_f16");
    copy.edit(|model| around(&around(&model, &["inner"], 200), &[], 201));
    assert_eq!(names(&copy.input())[4], "0/inner/1/deep_weight_0");
    copy.quantize();
    assert_eq!(weights(&copy), weights(&plain));
    let read = |copy: &Copy| fs::read(copy.out().join(MODEL)).unwrap();
    let expected = around(&around(&read(&plain), &["inner"], 200), &[], 201);
    assert!(read(&copy) == expected, "all around it is byte for byte");

    // The version of what is around a program that needs a higher one rises with it.
    let copy = Copy::of("pipeline_16_f16");
    let version = |bytes: &[u8]| match parse(bytes)[0] {
        (1, Item::Number(version)) => version,
        _ => panic!("no version"),
    };
    copy.edit(|model| {
        let old = [field(1, &Item::Number(5)), model[2..].to_vec()].concat();
        assert_eq!(version(&old), 5);
        old
    });
    let report = copy.quantize();
    assert!(
        report
            .warnings
            .iter()
            .any(|line| line.to_string().contains("iOS16"))
    );
    assert_eq!(version(&read(&copy)), 7);
}

#[test]
fn pipelines_without_programs_are_refused() {
    let copy = Copy::of("pipeline_16_f16");
    copy.edit(|model| {
        let network = all(&only(&model, 202), 1).remove(1);
        field(202, &Item::Bytes(&field(1, &Item::Bytes(&network))))
    });
    let options = QuantizeOptions::default();
    let error = quantize(&copy.input(), &copy.out(), &options).unwrap_err();
    let error = error.to_string();
    for words in ["a pipeline", "neural network", "mlprogram"] {
        assert!(error.contains(words), "{error}");
    }
    assert!(!error.contains("field"), "{error}");
    let deep = |depth: usize| {
        let mut model = field(500, &Item::Bytes(&[]));
        for _ in 0..depth {
            model = field(202, &Item::Bytes(&field(1, &Item::Bytes(&model))));
        }
        model
    };
    for depth in [40, 60, 20_000] {
        copy.edit(|_| deep(depth));
        let error = quantize(&copy.input(), &copy.out(), &options).unwrap_err();
        let deep = error.to_string().contains("50 deep");
        assert_eq!(deep, depth > 50, "{error}");
        assert_eq!(error.to_string().lines().count(), 1);
    }
}
