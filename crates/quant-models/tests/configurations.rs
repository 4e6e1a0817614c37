//! Configuration files: what coremltools 9.0 takes is taken, and makes the same weights; what it refuses
//! is refused.

#[allow(dead_code)]
mod coreml;

use std::fs;
use std::sync::atomic::AtomicBool;

use coreml::{WEIGHTS, fixture};
use quant_core::Dialect;
use quant_models::{Config, Error, Job, QuantizeOptions};
use serde_json::Value;
use sha2::{Digest, Sha256};

#[test]
fn configurations_are_taken_as_coremltools_takes_them() {
    let text = fs::read(fixture("../expected_configurations.json")).unwrap();
    let cases: Vec<Value> = serde_json::from_slice(&text).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("out.mlpackage");
    let input = fixture("linear_18_f16.mlpackage");
    let (flag, mut wrong) = (AtomicBool::new(false), Vec::new());
    let (mut taken, mut refused) = (0, 0);
    for case in &cases {
        let of = |key: &str| case[key].as_str().unwrap();
        let file = folder.path().join(format!("c.{}", of("file")));
        fs::write(&file, of("text")).unwrap();
        let run = || -> Result<String, Error> {
            let options = QuantizeOptions::default()
                .with_config(Config::open(&file, Dialect::Coremltools)?)
                .with_exact_selection(true);
            let job = Job::UNWATCHED.with_force(true).with_cancel(&flag);
            quant_models::quantize(&input, &out, &options, &job)?;
            let digest = Sha256::digest(fs::read(out.join(WEIGHTS)).unwrap());
            Ok(digest.iter().map(|byte| format!("{byte:02x}")).collect())
        };
        match (run(), case["weights"].as_str()) {
            (Ok(ours), Some(theirs)) if ours == theirs => taken += 1,
            (Err(error), None) => {
                let error = error.to_string();
                assert_eq!(error.lines().count(), 1, "{error}");
                // What a parser would say of itself is no help.
                for word in [
                    "Policy", "Options", "enum", "struct", "untagged", "expected",
                ] {
                    assert!(!error.contains(word), "{}: {error}", of("name"));
                }
                refused += 1;
            }
            (ours, theirs) => wrong.push(format!("{}: {ours:?}, not {theirs:?}", of("name"))),
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    println!("{taken} taken, {refused} refused");
    assert!(taken > 40 && refused > 40, "{taken} {refused}");
}

/// The type of a configuration is looked at before its fields, and every message says where.
#[test]
fn what_is_wrong_is_said() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("c.yaml");
    let refuses = |text: &str, words: &[&str]| {
        fs::write(&file, text).unwrap();
        let error = Config::open(&file, Dialect::Coremltools).unwrap_err();
        let error = error.to_string();
        for word in words {
            assert!(error.contains(word), "no `{word}` in: {error}");
        }
        assert!(!error.contains("unknown field"), "{error}");
    };
    refuses(
        "config_type: OpPalettizerConfig\nglobal_config: {mode: kmeans, nbits: 4}",
        &[
            "c.yaml",
            "global_config",
            "OpPalettizerConfig",
            "palettization",
        ],
    );
    refuses(
        "config_type: OpMagnitudePrunerConfig\nop_name_configs: {a: {target_sparsity: 0.5}}",
        &["op_name_configs: `a`", "OpMagnitudePrunerConfig", "pruning"],
    );
    refuses(
        "config_type: OpLinearQuantizerConfig\nop_type_configs: {conv: {config_type: OpThresholdPrunerConfig, threshold: 1.0}}",
        &["op_type_configs: `conv`", "OpThresholdPrunerConfig"],
    );
    // Also before keys that only another type has.
    refuses(
        "config_type: OpPalettizerConfig\nnbits: 4",
        &["c.yaml: `OpPalettizerConfig`", "palettization"],
    );
    // The parser's own words are for programmers.
    let lists = (0..9).map(|i| match i {
        0 => "a0: &a0 [x]".to_owned(),
        _ => format!(
            "a{i}: &a{i} [{}]",
            vec![format!("*a{}", i - 1); 9].join(",")
        ),
    });
    refuses(
        &lists.collect::<Vec<_>>().join("\n"),
        &["not a configuration: larger than"],
    );
    refuses("a: &a [*a]", &["an alias stands within itself"]);
    refuses(
        "global_config: {}",
        &["config_type", "OpLinearQuantizerConfig"],
    );
}
