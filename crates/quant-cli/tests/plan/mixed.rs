//! Plans that mix precisions, and what decides everything.

use std::fs;

use serde_json::Value;

use super::folder::{Folder, f32_bytes, wave};
use super::{bytes, model, read};

/// Weights of which some are harder to quantize than others.
fn uneven() -> Folder {
    let folder = Folder::new();
    let spikes = |every: usize| {
        f32_bytes(128 * 96, move |i| {
            let spike = if i % every == 0 { 5.0 } else { 0.0 };
            wave(i) + spike
        })
    };
    let tensors: Vec<(String, Vec<u8>)> = (0..12)
        .map(|i| (format!("layer{i:02}.weight"), spikes(31 + 60 * i)))
        .collect();
    let tensors: Vec<(&str, &str, &[usize], &[u8])> = tensors
        .iter()
        .map(|(name, bytes)| (name.as_str(), "F32", &[128, 96][..], &bytes[..]))
        .collect();
    folder.model("u.safetensors", &tensors);
    folder
}

#[test]
fn mixed_plans_keep_to_their_target_and_lose_no_more_than_uniform_ones() {
    let folder = uneven();
    let size = |name: &str| fs::metadata(folder.path(name)).unwrap().len();
    let noise = |name: &str| {
        let line = ["diff", "u.safetensors", name, "--json"];
        let diff: Value = serde_json::from_slice(&folder.quant(&line).stdout).unwrap();
        let tensors = diff["tensors"].as_array().unwrap().iter();
        let db = tensors.filter_map(|tensor| tensor["sqnr_db"].as_f64());
        db.map(|db| 10_f64.powf(-db / 10.0)).sum::<f64>()
    };
    let carry_out = |target: &[&str], name: &str| {
        let line = ["plan", "u.safetensors", "-o", "p.json", "--force"];
        let said = folder.succeeds(&[&line[..], target].concat());
        let line = ["quantize", "u.safetensors", "--plan", "p.json", "-o", name];
        folder.succeeds(&line);
        said
    };
    folder.succeeds(&[
        "quantize",
        "u.safetensors",
        "-o",
        "uniform",
        "--dtype",
        "int4",
        "--granularity",
        "per-block",
    ]);
    let uniform = size("uniform").to_string();
    let said = carry_out(&["--target-size", &uniform], "mixed");
    // That no tensor loses more than in the uniform one may cost 1.5 dB, and no more.
    let gap = said.split("; at most ").nth(1);
    let gap = gap.map_or(0.0, |rest| rest.split(' ').next().unwrap().parse().unwrap());
    assert!((0.0..=1.52).contains(&gap), "{said}");
    assert!(size("mixed") <= size("uniform"));
    assert!(noise("mixed") <= noise("uniform") * 1.000_001);

    for target in [100_000, 120_000, 150_000_u64] {
        let name = format!("s{target}");
        let said = carry_out(&["--target-size", &target.to_string()], &name);
        let size = size(&name);
        assert!(
            size <= target && size * 100 >= target * 99,
            "{target}: {size}"
        );
        assert!(said.contains(&format!("{size} bytes")), "{said}");
    }
    // The smallest of all plans fits its own size.
    let least = [
        "quantize",
        "u.safetensors",
        "--dtype",
        "int4",
        "-o",
        "least",
    ];
    folder.succeeds(&least);
    let target = size("least").to_string();
    let candidates = ["--candidates", "int4,int8,int8:block8"];
    carry_out(
        &[&["--target-size", &target][..], &candidates].concat(),
        "s",
    );
    assert_eq!(size("s"), size("least"));
    let said = carry_out(&["--target-bits", "5.5"], "bits");
    let bits: f64 = said.split(' ').next().unwrap().parse().unwrap();
    assert!(bits <= 5.5 && bits > 5.0, "{said}");
    carry_out(&["--target-sqnr", "30", "--search", "mse"], "sqnr");
    assert!(noise("sqnr") < 0.001);
    let plan = read(&folder, "p.json");
    assert!(plan.to_string().contains(r#""search":"mse""#), "{plan}");

    for (line, words) in [
        (
            &["--target-bits", "2"][..],
            &["2 bits per weight", "--candidates"][..],
        ),
        (&["--target-size", "1KB"], &["1000 bytes", "--candidates"]),
        (&["--target-sqnr", "90", "--candidates", "int4"], &["90 dB"]),
        (&["--target-bits", "4", "--dtype", "int4"], &["--dtype"]),
        (&["--candidates", "int8"], &["--target-bits"]),
        (
            &["--target-bits", "4", "--candidates", "int4:32"],
            &["int4:32"],
        ),
    ] {
        let line = [&["plan", "u.safetensors"][..], line].concat();
        let status = match words[0] {
            _ if line.contains(&"--dtype") => 2,
            _ => folder.quant(&line).status.code().unwrap(),
        };
        assert_ne!(status, 0);
        folder.refuses(&line, status, words);
    }
}

/// Few tensors come near a size by blocks that only they have; how far they stay from it is said.
#[test]
fn few_tensors_have_many_sizes() {
    let folder = Folder::new();
    // The larger the blocks of the large one, the more its small values lose.
    let large = f32_bytes(32 * 360, |i| wave(i) * (40 + i % 360) as f32);
    let small = f32_bytes(48 * 70, wave);
    folder.model(
        "two.safetensors",
        &[
            ("a.weight", "F32", &[32, 360], &large),
            ("b.weight", "F32", &[48, 70], &small),
        ],
    );
    let alone = f32_bytes(128 * 90, wave);
    folder.model(
        "one.safetensors",
        &[("a.weight", "F32", &[128, 90], &alone)],
    );
    let plan = |model: &str, target: u64| {
        let target = target.to_string();
        let line = [
            "plan",
            model,
            "-o",
            "p.json",
            "-f",
            "--target-size",
            &target,
        ];
        folder.succeeds(&line)
    };
    let mut divided = 0;
    for target in [
        8_600_u64, 8_900, 9_200, 9_500, 9_800, 10_100, 10_400, 10_800, 11_500,
    ] {
        let said = plan("two.safetensors", target);
        let line = ["quantize", "two.safetensors", "--plan", "p.json", "-f"];
        folder.succeeds(&[&line[..], &["-o", "q.safetensors"]].concat());
        let size = fs::metadata(folder.path("q.safetensors")).unwrap().len();
        assert!(
            size <= target && size * 100 >= target * 95,
            "{target}: {size}"
        );
        let is_near = size * 100 >= target * 99;
        assert_ne!(said.contains("% less than the target"), is_near, "{said}");
        let tensors = read(&folder, "p.json")["tensors"].clone();
        let blocks = tensors.as_array().unwrap().iter();
        let sizes = blocks.filter_map(|tensor| tensor["quantize"]["blocks"][1].as_u64());
        // Candidates by themselves have other sizes: multiples of 8, or the whole axis.
        divided += sizes
            .filter(|&size| [180, 120, 90, 72, 60, 45].contains(&size))
            .count();
    }
    assert!(divided > 3, "{divided}");
    // Between codes of 4 bits whose scales are as large, and those of 8 bits in channels.
    let said = plan("one.safetensors", 11_600);
    assert!(said.contains("% less than the target"), "{said}");
}

#[test]
fn everything_is_decided() {
    let folder = model();
    let line = [
        "quantize",
        "m.safetensors",
        "--auto",
        "--quality",
        "30dB",
        "-o",
        "s.safetensors",
    ];
    let report: Value =
        serde_json::from_str(&folder.succeeds(&[&line[..], &["--json"]].concat())).unwrap();
    let estimate = report["auto"]["estimated_sqnr_db"].as_f64().unwrap();
    assert!((30.0..60.0).contains(&estimate), "{report}");
    assert_eq!(report["auto"]["quality_db"], 30.0);
    // It is what a plan of the same target does.
    let plan = [
        "plan",
        "m.safetensors",
        "--target-sqnr",
        "30",
        "--search",
        "mse",
        "-o",
        "p.json",
    ];
    folder.succeeds(&plan);
    folder.succeeds(&[
        "quantize",
        "m.safetensors",
        "--plan",
        "p.json",
        "-o",
        "t.safetensors",
    ]);
    assert_eq!(
        bytes(&folder, "s.safetensors"),
        bytes(&folder, "t.safetensors")
    );
    let text = folder.succeeds(&[&line[..], &["--force"]].concat());
    assert!(!text.contains("int8 in blocks"), "{text}");
    assert!(
        text.contains("of 4 tensors: ") && text.contains("bits per weight"),
        "{text}"
    );

    for (more, words) in [
        (
            &["--dtype", "int4"][..],
            "--auto and --dtype exclude each other",
        ),
        (
            &["--plan", "p.json"],
            "--auto and --plan exclude each other",
        ),
        (&["--format", "gguf"], "GGUF"),
    ] {
        let output = folder.quant(&[&line[..], more, &["--force"]].concat());
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert!(
            !output.status.success() && stderr.contains(words),
            "{more:?}: {stderr}"
        );
    }
    let output = folder.quant(&["quantize", "m.safetensors", "--auto", "--quality", "none"]);
    assert!(String::from_utf8_lossy(&output.stderr).contains("such as 40dB"));
    let output = folder.quant(&["quantize", "m.safetensors", "--quality", "30"]);
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(
        stderr.contains("--quality has no effect without --auto"),
        "{stderr}"
    );
}

/// Of a package, too, with records that functions share and operations of either system; what turns out
/// to be equal is stored once.
#[test]
fn the_size_of_a_package_is_known_before() {
    for name in [
        "functions_18_f16",
        "shared_18_f16",
        "linear_18_f16",
        "linear_16_f16",
    ] {
        for candidates in ["int4:block32", "int8-affine", "int8,float"] {
            // Codes of 4 bits came with iOS18.
            if name.contains("16_f16") && candidates.contains("int4") {
                continue;
            }
            let folder = Folder::with_package(name);
            let plan = ["plan", "m.mlpackage", "-o", "p.json", "--min-elements", "0"];
            let target = ["--target-sqnr", "5", "--candidates", candidates];
            let said = folder.succeeds(&[&plan[..], &target].concat());
            let words: Vec<&str> = said.split_whitespace().collect();
            let at = words.iter().position(|word| *word == "bytes,").unwrap();
            let known: usize = words[at - 1].parse().unwrap();
            let line = [
                "quantize",
                "m.mlpackage",
                "--plan",
                "p.json",
                "-o",
                "q.mlpackage",
            ];
            folder.succeeds(&line);
            let real: usize = bytes(&folder, "q.mlpackage").iter().map(Vec::len).sum();
            match name {
                // Equal weights, or the zero points that operations before iOS18 always have.
                "shared_18_f16" | "linear_16_f16" => {
                    assert!(known >= real, "{name}, {candidates}: {known}, {real}");
                }
                _ => assert_eq!(known, real, "{name}, {candidates}"),
            }
        }
    }
}

/// What tensors do to the outputs one by one need not add up: a plan that was solved from that is no worse
/// than those that give every tensor the same.
#[test]
fn a_plan_by_damage_is_compared_with_uniform_ones() {
    use quant_models::{Job, MixedOptions, MixedTarget, QuantizeOptions, plan_mixed};

    let folder = uneven();
    let candidates = ["int4", "int4:block32", "int8"].map(|one| one.parse().unwrap());
    let mixed = |target| MixedOptions::new(target).with_candidates(candidates.to_vec());
    let types = |target, least_of_blocks: bool| {
        // One by one, fewer bits do more. Together, blocks do the least, or the most.
        let mut damage = |_, weights: &[(&str, &quant_models::quant_simd::TensorQuantizer)]| {
            let scales = |at: usize| weights[at].1.blocks.scale_count() as f64;
            let alike = weights.windows(2).all(|two| {
                two[0].1.scheme == two[1].1.scheme && two[0].1.blocks == two[1].1.blocks
            });
            Ok(Some(match weights.len() {
                1 => 1.0 / scales(0) / f64::from(weights[0].1.scheme.dtype.bits()).exp2(),
                _ if alike && scales(0) > 128.0 => f64::from(u8::from(!least_of_blocks)),
                _ => 0.5,
            }))
        };
        let model = folder.path("u.safetensors");
        let options = QuantizeOptions::default();
        let done = plan_mixed(
            &model,
            &options,
            &mixed(target),
            &Job::UNWATCHED,
            Some(&mut damage),
        );
        let (plan, summary, _) = done.unwrap();
        let quantized = plan
            .tensors
            .iter()
            .map(|one| one.quantize.as_ref().unwrap());
        let blocks = quantized.filter(|spec| spec.blocks.as_deref() == Some(&[1, 32][..]));
        (blocks.count(), summary)
    };
    // Blocks are the best by the sum, and not where they do the most together.
    let (in_blocks, summary) = types(MixedTarget::Bits(5.1), true);
    assert_eq!((in_blocks, summary.gap), (12, 0.0));
    let (in_blocks, summary) = types(MixedTarget::Bits(5.1), false);
    assert!(in_blocks < 12, "{in_blocks} in blocks");
    assert!(summary.gap > 1.0 && summary.bits <= 5.1, "{}", summary.gap);
    // What is larger than the target is no choice.
    assert!(types(MixedTarget::Bits(4.6), true).0 < 12);
}

/// A plan that was solved from what single tensors do is compared with the one from the weights as well.
#[test]
fn a_plan_by_damage_is_compared_with_the_one_by_the_weights() {
    use quant_models::quant_simd::TensorQuantizer;
    use quant_models::{
        Candidate, FoundBy, Job, MixedOptions, MixedTarget, Part, QuantizeOptions, plan_mixed,
    };

    let folder = uneven();
    let model = folder.path("u.safetensors");
    let options = QuantizeOptions::default();
    let mixed = MixedOptions::new(MixedTarget::Bits(6.0))
        .with_candidates(["int4", "int8"].map(|one| one.parse().unwrap()).into());
    let (by_weights, summary, _) =
        plan_mixed(&model, &options, &mixed, &Job::UNWATCHED, None).unwrap();
    assert_eq!(
        (summary.found_by, summary.compared),
        (FoundBy::Weights, None)
    );
    let eights = |plan: &quant_models::Plan| {
        let tensors = plan.tensors.iter();
        let eights =
            tensors.filter(|one| one.quantize.as_ref().unwrap().dtype.unwrap().bits() == 8);
        eights.map(|one| one.name.clone()).collect::<Vec<_>>()
    };
    let wanted = eights(&by_weights);
    assert!((1..12).contains(&wanted.len()), "{wanted:?}");
    // One by one, what the weights leave at 4 bits does the most; `best` is what does the least as a whole.
    let taken = |best: &[String]| {
        let mut damage = |part, weights: &[(&str, &TensorQuantizer)]| {
            let eights = weights
                .iter()
                .filter(|(_, one)| one.scheme.dtype.bits() == 8);
            let eights: Vec<&str> = eights.map(|(name, _)| *name).collect();
            Ok(Some(match part {
                Part::Tensor if !eights.is_empty() => 0.0,
                Part::Tensor if wanted.iter().any(|name| name == weights[0].0) => 0.1,
                Part::Tensor => 1.0,
                Part::Plan if eights == best => 0.01,
                Part::Plan => 0.1,
            }))
        };
        let done = plan_mixed(&model, &options, &mixed, &Job::UNWATCHED, Some(&mut damage));
        let (plan, summary, _) = done.unwrap();
        let compared = summary.compared.unwrap();
        assert!(compared.plans > 2, "{compared:?}");
        (eights(&plan), summary.found_by, compared.sqnr_db)
    };
    let int4: Candidate = "int4".parse().unwrap();
    assert_eq!(taken(&wanted), (wanted.clone(), FoundBy::Weights, 20.0));
    assert_eq!(taken(&[]), (Vec::new(), FoundBy::Uniform(int4), 20.0));
    let (chosen, found_by, db) = taken(&["none".into()]);
    assert_eq!((found_by, db), (FoundBy::Answers, 10.0));
    assert!(
        !chosen.iter().any(|name| wanted.contains(name)),
        "{chosen:?}"
    );
}

/// A candidate that fits few tensors says so of a plan of its own, which nobody made.
#[test]
fn warnings_are_of_the_plan_that_was_made() {
    let folder = Folder::new();
    let rows = [40, 36, 64].map(|row| f32_bytes(128 * row, wave));
    folder.model(
        "m.safetensors",
        &[
            ("a.weight", "F32", &[128, 40], &rows[0]),
            ("b.weight", "F32", &[128, 36], &rows[1]),
            ("c.weight", "F32", &[128, 64], &rows[2]),
        ],
    );
    let blocks = ["--granularity", "per-block", "--block-size", "64"];
    let line = ["quantize", "m.safetensors", "-o", "q.safetensors"];
    let output = folder.quant(&[&line[..], &blocks].concat());
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(stderr.contains("most of what was selected"), "{stderr}");
    for line in [
        &[
            "plan",
            "m.safetensors",
            "--target-bits",
            "5",
            "-o",
            "p.json",
        ][..],
        &[
            "quantize",
            "m.safetensors",
            "--auto",
            "-o",
            "q.safetensors",
            "-f",
        ],
    ] {
        let output = folder.quant(line);
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert!(
            output.status.success() && !stderr.contains("warning"),
            "{line:?}: {stderr}"
        );
    }
}
