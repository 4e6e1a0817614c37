//! When activations are quantized.

use std::fs;
use std::path::Path;

use quant_models::{ActivationOptions, ActivationRange, Error, Job, Ranges, Report};

use crate::coreml::{Item, MODEL, describe, kept};
use crate::package::{OPERATION, Package, along, field, random_from};

const ACTIVATIONS: &str = "../activations/consumers_18_f16.mlpackage";

/// A range for everything that has a name.
fn everything(package: &Path) -> ActivationOptions {
    let described = describe(package);
    let named = described.iter().flat_map(|line| line.split([' ', ':']));
    let (min, max) = (-1.5, 3.0);
    let range = ActivationRange { min, max };
    ActivationOptions::default()
        .with_ranges(Ranges {
            version: 1,
            activations: named.map(|name| (name.to_owned(), range)).collect(),
        })
        .with_path("ranges.json".into())
}

fn activations(package: &Package, options: &ActivationOptions) -> Result<Report, Error> {
    let job = Job::UNWATCHED.with_force(true);
    let (input, output) = (package.path(), package.out());
    let done = quant_models::quantize_activations(&input, &output, options, &job);
    kept(done, &input, &output)
}

/// Programs that contradict themselves are quantized or refused; what comes out can be read.
#[test]
fn any_byte_of_a_program_may_be_wrong() {
    let mut random = random_from(7);
    let (mut done, mut refused) = (0, 0);
    for name in [ACTIVATIONS, "../activations/nested_18_f16.mlpackage"] {
        let package = Package::of(name);
        let options = everything(&package.path());
        let path = package.path().join(MODEL);
        let whole = fs::read(&path).unwrap();
        // Twice: what is quantized already stands in the way of what is quantized now.
        for again in [false, true] {
            fs::write(&path, &whole).unwrap();
            if again {
                activations(&package, &options).unwrap();
                fs::copy(package.out().join(MODEL), &path).unwrap();
            }
            let whole = fs::read(&path).unwrap();
            for _ in 0..400 {
                let mut bytes = whole.clone();
                for _ in 0..=random() % 3 {
                    let place = random() % bytes.len();
                    match random() % 4 {
                        0 => bytes[place] ^= 1 << (random() % 8),
                        1 => bytes[place] = random() as u8,
                        // One name, dimension or type in another's place.
                        _ => bytes[place] = bytes[random() % bytes.len()],
                    }
                }
                fs::write(&path, &bytes).unwrap();
                let _ = quant_models::wanted_activations(&package.path(), &options);
                match activations(&package, &options) {
                    Ok(_) => {
                        quant_models::inspect(&package.out(), false).unwrap();
                        done += 1;
                    }
                    Err(error) => {
                        assert_eq!(error.to_string().lines().count(), 1, "{error}");
                        refused += 1;
                    }
                }
            }
        }
    }
    println!("{done} quantized, {refused} refused");
    assert!(done > 100 && refused > 100, "{done} {refused}");
}

/// Integers, strings and numbers of no type in a float's place stay as they are.
#[test]
fn operations_whose_types_disagree_are_left_alone() {
    for dtype in [0, 2, 21, 23, 99] {
        let package = Package::of(ACTIVATIONS);
        let options = everything(&package.path());
        let path = [&OPERATION[..], &[3, 2, 1]].concat();
        // f16, rank 4, and 1 first: all but weights.
        let images = [8, 10, 16, 4, 26, 4, 10, 2, 8, 1];
        package.edit(MODEL, |bytes| {
            *bytes = along(bytes, &path, &|inner| match inner.starts_with(&images) {
                true => [&[8, dtype], &inner[2..]].concat(),
                false => inner,
            });
        });
        let report = activations(&package, &options).unwrap();
        let reasons = report
            .operations
            .iter()
            .filter_map(|operation| operation.reason.clone());
        let typed = reasons.filter(|reason| reason.contains("` is "));
        assert!(typed.count() >= 3, "{dtype}: {:#?}", report.operations);
        let quantized = report
            .operations
            .iter()
            .flat_map(|operation| &operation.quantized);
        assert!(
            quantized.map(|one| &*one.activation).eq(["x", "flat"]),
            "{dtype}"
        );
    }
}

#[test]
fn unknown_fields_survive_beside_activations() {
    let mark = |mut inner: Vec<u8>| {
        inner.extend(field(1901, &Item::Bytes(b"survivor")));
        inner
    };
    let marks = |bytes: &[u8]| {
        bytes
            .windows(8)
            .filter(|window| window == b"survivor")
            .count()
    };
    let paths: [&[u32]; 4] = [
        &[&OPERATION[..], &[5, 2, 3]].concat(),
        &[&OPERATION[..], &[2, 2, 1]].concat(),
        &[&OPERATION[..], &[4, 3, 2, 2, 1]].concat(),
        &[502, 2, 2, 1, 2],
    ];
    for path in paths {
        let package = Package::of("../activations/nested_18_f16.mlpackage");
        let options = everything(&package.path());
        package.edit(MODEL, |bytes| *bytes = along(bytes, path, &mark));
        let before = fs::read(package.path().join(MODEL)).unwrap();
        activations(&package, &options).unwrap();
        let after = fs::read(package.out().join(MODEL)).unwrap();
        assert!(marks(&before) > 3, "{path:?}");
        // Codes have the type of what they stand for, with all that belongs to it.
        assert!(marks(&after) >= marks(&before), "{path:?}");
    }
}
