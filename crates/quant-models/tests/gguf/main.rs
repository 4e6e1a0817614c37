//! GGUF files: those that gguf-py writes, what is made of them, and damaged ones. `check.py` beside this
//! made the models.

mod hostile;

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;

use quant_core::{FloatType, GgmlType};
use quant_models::{
    DequantizeOptions, Encoding, Error, Grouping, Job, Plan, QuantizeOptions, Report, convert,
    dequantize, diff, encoding_of, inspect, patterns, plan, quantize, quantized_kind,
};
use quant_simd::Backend;

static NEVER: AtomicBool = AtomicBool::new(false);
const JOB: Job<'_> = Job::UNWATCHED.with_force(true).with_cancel(&NEVER);

fn models() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/gguf/models")
}

fn options(block_type: GgmlType) -> QuantizeOptions {
    QuantizeOptions::for_encoding(Encoding::Gguf).with_block_type(block_type)
}

fn run(model: &Path, output: &Path, options: &QuantizeOptions) -> Result<Report, Error> {
    quantize(model, output, options, &JOB)
}

/// Names and types.
fn types(model: &Path) -> Vec<(String, String)> {
    let found = inspect(model, true).unwrap().tensors;
    found.into_iter().map(|it| (it.name, it.dtype)).collect()
}

fn type_of(model: &Path, name: &str) -> String {
    let found = types(model).into_iter().find(|(found, _)| found == name);
    found.unwrap().1
}

/// All bytes: the header, the order, what stays in which float type, and the blocks.
#[test]
fn files_are_those_of_gguf_py() {
    let folder = tempfile::tempdir().unwrap();
    let output = folder.path().join("out.gguf");
    let mut compared = 0;
    for family in ["flux", "wan", "sd1", "unknown"] {
        let place = models().join(family);
        for block_type in GgmlType::ALL {
            let Ok(expected) = fs::read(place.join(format!("{block_type}.gguf"))) else {
                continue;
            };
            for backend in [Backend::Scalar, Backend::detect()] {
                let options = options(block_type).with_backend(backend);
                run(&place.join("model.safetensors"), &output, &options).unwrap();
                assert!(
                    fs::read(&output).unwrap() == expected,
                    "{family} {block_type}"
                );
            }
            compared += 1;
        }
    }
    assert_eq!(compared, 5 + 3 * 2);
}

#[test]
fn a_safetensors_model_is_told_of_and_compared() {
    let folder = tempfile::tempdir().unwrap();
    let output = folder.path().join("out.gguf");
    let model = models().join("sd1/model.safetensors");
    let report = run(&model, &output, &options(GgmlType::Q8_0)).unwrap();
    let made = report.tensors.iter().filter(|it| it.scheme.is_some());
    for tensor in made.clone() {
        assert_eq!(tensor.scheme.as_ref().unwrap().dtype, "q8_0");
        assert!(tensor.sqnr_db.unwrap() > 40.0, "{}", tensor.name);
    }
    assert_eq!(made.count(), 3);
    // Rows are cut anew in the file, which says what the shape was.
    let difference = diff(&model, &output).unwrap();
    for tensor in difference.tensors {
        assert_eq!(tensor.reason, None, "{}", tensor.name);
        assert!(tensor.sqnr_db.is_none_or(|db| db > 40.0), "{}", tensor.name);
    }
    let floats = folder.path().join("floats.gguf");
    dequantize(&output, &floats, &DequantizeOptions::default(), &JOB).unwrap();
    assert!(
        types(&floats)
            .iter()
            .all(|(_, dtype)| !dtype.starts_with('Q'))
    );
    let difference = diff(&output, &floats).unwrap();
    assert!(difference.tensors.iter().all(|it| it.sqnr_db.is_none()));
    let nothing = dequantize(&floats, &output, &DequantizeOptions::default(), &JOB);
    assert!(nothing.unwrap_err().to_string().contains("nothing to do"));
}

#[test]
fn a_checkpoint_gives_its_diffusion_model_alone() {
    let folder = tempfile::tempdir().unwrap();
    let (model, output) = (
        folder.path().join("m.safetensors"),
        folder.path().join("o.gguf"),
    );
    let names = [
        "model.diffusion_model.double_blocks.0.img_attn.proj.weight",
        "first_stage_model.decoder.weight",
    ];
    write_f32(&model, &names);
    let report = run(&model, &output, &options(GgmlType::Q4_0)).unwrap();
    let told: Vec<_> = report.warnings.iter().map(ToString::to_string).collect();
    let told = told.join("; ");
    assert!(told.contains("1 of 2 tensors are no part"), "{told}");
    let expected = ("double_blocks.0.img_attn.proj.weight".into(), "Q4_0".into());
    assert_eq!(types(&output), [expected]);
    // Both names are known to patterns.
    for name in ["^double_blocks", "^model.diffusion_model"] {
        let options = options(GgmlType::Q4_0)
            .with_include(patterns("include", &[name.to_string()]).unwrap())
            .with_strict(true);
        run(&model, &output, &options).unwrap();
    }
    write_f32(&model, &["transformer_blocks.0.attn.norm_added_k.weight"]);
    let refused = run(&model, &output, &options(GgmlType::Q4_0)).unwrap_err();
    assert!(
        refused.to_string().contains("names of diffusers"),
        "{refused}"
    );
}

/// Tensors of 48 x 64.
fn write_f32(path: &Path, names: &[&str]) {
    let (mut entries, mut data) = (Vec::new(), Vec::new());
    for name in names {
        let start = data.len();
        for i in 0..48 * 64 {
            data.extend((i as f32 * 0.37).sin().to_le_bytes());
        }
        entries.push(format!(
            r#""{name}":{{"dtype":"F32","shape":[48,64],"data_offsets":[{start},{}]}}"#,
            data.len()
        ));
    }
    let header = format!("{{{}}}", entries.join(","));
    let mut file = (header.len() as u64).to_le_bytes().to_vec();
    file.extend(header.bytes());
    file.extend(data);
    fs::write(path, file).unwrap();
}

#[test]
fn gguf_files_are_quantized_and_what_is_quantized_stays() {
    let folder = tempfile::tempdir().unwrap();
    let (output, again) = (
        folder.path().join("out.gguf"),
        folder.path().join("again.gguf"),
    );
    let model = models().join("llm.gguf");
    assert_eq!(encoding_of(&model), Encoding::Gguf);
    let result = quantized_kind(&model, Encoding::Gguf);
    assert_eq!(result.extension(), Some("gguf"));
    let report = run(&model, &output, &options(GgmlType::Q5_1)).unwrap();
    let reason = |name: &str| {
        let tensor = report.tensors.iter().find(|it| it.name == name).unwrap();
        tensor.reason.clone().unwrap_or_default()
    };
    assert_eq!(reason("blk.0.attn_k.weight"), "already quantized, q8_0");
    assert_eq!(reason("blk.0.ffn_down.weight"), "type Q4_K");
    assert_eq!(reason("blk.0.attn_q_norm.weight"), "a norm, in float");
    assert_eq!(type_of(&output, "token_embd.weight"), "Q5_1");
    assert_eq!(type_of(&output, "blk.0.attn_k.weight"), "Q8_0");
    // Nothing is left to do: all bytes stay.
    let report = run(&output, &again, &options(GgmlType::Q4_0)).unwrap();
    assert!(
        report.warnings[0]
            .to_string()
            .contains("nothing was quantized")
    );
    assert!(fs::read(&output).unwrap() == fs::read(&again).unwrap());
    let anew = options(GgmlType::Q4_0).with_requantize(true);
    run(&output, &again, &anew).unwrap();
    for name in ["blk.0.attn_k.weight", "token_embd.weight"] {
        assert_eq!(type_of(&again, name), "Q4_0");
    }
    assert_eq!(type_of(&again, "blk.0.ffn_down.weight"), "Q4_K");
    // Metadata is kept byte for byte.
    let tokens = b"tokenizer.ggml.tokens";
    let part = |path: &Path| {
        let bytes = fs::read(path).unwrap();
        let start = bytes
            .windows(tokens.len())
            .position(|it| it == tokens)
            .unwrap();
        bytes[start..start + 4000].to_vec()
    };
    assert_eq!(part(&model), part(&again));
    let floats = folder.path().join("floats.gguf");
    let restored = dequantize(&again, &floats, &DequantizeOptions::default(), &JOB).unwrap();
    assert!(
        restored.warnings[0]
            .to_string()
            .contains("`blk.0.ffn_down.weight` of Q4_K")
    );
}

/// Native values are of the float model's type, those of GGUF f32: that is all by which they differ.
#[test]
fn diff_compares_what_each_format_says() {
    let folder = tempfile::tempdir().unwrap();
    let [float, native, blocks, back, wide] =
        ["m", "n", "b.gguf", "back", "wide.gguf"].map(|name| {
            let path = folder.path().join(name);
            match path.extension() {
                Some(_) => path,
                None => path.with_extension("safetensors"),
            }
        });
    let in_blocks = QuantizeOptions::default().with_granularity(Grouping::PerBlock {
        axis: None,
        block_axis: None,
        block_size: 32,
    });
    let unwatched = DequantizeOptions::default();
    for source in [FloatType::Bf16, FloatType::F16] {
        write_matrix(&float, source);
        quantize(&float, &native, &in_blocks, &JOB).unwrap();
        convert(&native, &blocks, Encoding::Gguf, &unwatched, &JOB).unwrap();
        dequantize(&native, &back, &unwatched, &JOB).unwrap();
        dequantize(&blocks, &wide, &unwatched, &JOB).unwrap();
        // What is restored is what is compared, of each.
        for (quantized, restored) in [(&native, &back), (&blocks, &wide)] {
            assert_eq!(diff(quantized, restored).unwrap().tensors[0].sqnr_db, None);
        }
        let values = |path: &Path, size: usize| {
            let bytes = fs::read(path).unwrap();
            bytes[bytes.len() - 48 * 64 * size..].to_vec()
        };
        let rounded = quant_simd::widen(&values(&back, 2), source);
        let exact = quant_simd::widen(&values(&wide, 4), FloatType::F32);
        let pairs = || rounded.iter().zip(&exact);
        assert!(pairs().all(|(rounded, exact)| *rounded == source.round(*exact)));
        let largest = pairs().map(|(a, b)| f64::from((a - b).abs()));
        let largest = largest.fold(0.0, f64::max);
        assert!(largest > 0.0);
        let found = diff(&native, &blocks).unwrap().tensors;
        assert_eq!(found[0].max_abs_error, Some(largest), "{source}");
    }
}

/// One tensor of 48 x 64.
fn write_matrix(path: &Path, float: FloatType) {
    // The upper half of an f32; in f16 from 0.125 to 1, of both signs.
    let bits = |i: u16| match float {
        FloatType::Bf16 => ((f32::from(i) * 0.37).sin().to_bits() >> 16) as u16,
        FloatType::F32 => unreachable!("written as it is elsewhere"),
        FloatType::F16 => 0x3000 | (i * 7 % 0x0c00) | (i << 15),
    };
    let data: Vec<u8> = (0..48 * 64).flat_map(|i| bits(i).to_le_bytes()).collect();
    let dtype = float.to_string().to_ascii_uppercase();
    let header = format!(
        r#"{{"w":{{"dtype":"{dtype}","shape":[48,64],"data_offsets":[0,{}]}}}}"#,
        data.len()
    );
    let mut file = (header.len() as u64).to_le_bytes().to_vec();
    file.extend(header.bytes());
    file.extend(data);
    fs::write(path, file).unwrap();
}

#[test]
fn plans_hold_block_types() {
    let folder = tempfile::tempdir().unwrap();
    let output = folder.path().join("out.gguf");
    let model = models().join("flux/model.safetensors");
    let (made, _) = plan(&model, &options(GgmlType::Q4_1), &JOB).unwrap();
    let text = serde_json::to_string(&made).unwrap();
    assert!(text.contains(r#""format":"gguf""#) && text.contains(r#"{"type":"q4_1"}"#));
    let with = |text: &str| {
        QuantizeOptions::default().with_plan(serde_json::from_str::<Plan>(text).unwrap())
    };
    run(&model, &output, &with(&text)).unwrap();
    let expected = fs::read(models().join("flux/q4_1.gguf")).unwrap();
    assert!(fs::read(&output).unwrap() == expected);
    let other = text.replacen(r#"{"type":"q4_1"}"#, r#"{"type":"q8_0"}"#, 1);
    run(&model, &output, &with(&other)).unwrap();
    let count = |dtype: &str| types(&output).iter().filter(|it| it.1 == dtype).count();
    assert_eq!((count("Q8_0"), count("Q4_1")), (1, 1));
    for (from, to, words) in [
        (
            r#"{"type":"q4_1"}"#,
            r#"{"type":"q4_1","bits":4}"#,
            "give it alone",
        ),
        (r#"{"type":"q4_1"}"#, r#"{"dtype":"int8"}"#, "give it alone"),
        (r#""format":"gguf""#, r#""format":"native""#, "`type`"),
    ] {
        let options = with(&text.replacen(from, to, 1));
        let refused = run(&model, &output, &options).unwrap_err().to_string();
        assert!(refused.contains(words), "{refused}");
    }
}
