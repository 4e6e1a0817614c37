//! Core AI models: what coreai-opt makes of some, ours beside it; damaged ones.
//! `../coreai/check.py` made the models.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;

use quant_core::{Dialect, IntType, Mode, Scheme};
use quant_models::{
    DequantizeOptions, Error, Grouping, Job, QuantizeOptions, TensorDifference, dequantize, diff,
    inspect, quantize,
};
use tempfile::TempDir;

const FILES: [&str; 3] = ["main.mlirb", "main.hash", "metadata.json"];

fn model(case: &str, which: &str) -> PathBuf {
    let models = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/coreai/models");
    models.join(case).join(which).with_extension("aimodel")
}

fn options(case: &str) -> QuantizeOptions {
    let (dtype, mode, granularity) = match case {
        "int8" => (
            IntType::Int8,
            Mode::Symmetric,
            Grouping::PerChannel { axis: None },
        ),
        _ => (
            IntType::Uint4,
            Mode::Affine,
            Grouping::PerBlock {
                axis: None,
                block_axis: None,
                block_size: 32,
            },
        ),
    };
    QuantizeOptions::default()
        .with_scheme(Scheme::new(dtype, mode).with_dialect(Dialect::Coreai))
        .with_granularity(granularity)
        .with_min_elements(1024)
}

fn job(cancelled: &AtomicBool) -> Job<'_> {
    Job::UNWATCHED.with_cancel(cancelled)
}

fn run(input: &Path, output: &Path, options: &QuantizeOptions) -> Result<(), Error> {
    quantize(input, output, options, &job(&AtomicBool::new(false))).map(drop)
}

#[test]
fn weights_are_those_of_coreai_opt() {
    for case in ["int8", "uint4"] {
        let folder = tempfile::tempdir().unwrap();
        let [ours, floats] = ["ours.aimodel", "floats.aimodel"].map(|it| folder.path().join(it));
        run(&model(case, "float"), &ours, &options(case)).unwrap();
        let theirs = model(case, "quantized");
        let found = diff(&ours, &theirs).unwrap();
        assert!(found.equal, "{found:?}");
        let quantized = |it: &&TensorDifference| it.codes_equal == Some(true);
        assert_eq!(found.tensors.iter().filter(quantized).count(), 6);
        let mut scales = found.tensors.iter().filter_map(|it| it.scales_equal);
        assert!(scales.all(|it| it));
        let [a, b] = [&ours, &theirs].map(|it| inspect(it, false).unwrap().tensors);
        assert_eq!(a.iter().filter(|it| it.scheme.is_some()).count(), 6);
        for (a, b) in a.iter().zip(&b) {
            assert_eq!(a.scheme, b.scheme, "{}", a.name);
            assert_eq!((a.scale_min, a.scale_max), (b.scale_min, b.scale_max));
        }
        // Half of the weights are the same ones, in another function.
        let size = |path: &Path| fs::metadata(path.join("main.mlirb")).unwrap().len();
        assert!(size(&ours) <= size(&theirs) + 256);
        let unwatched = DequantizeOptions::default();
        dequantize(&ours, &floats, &unwatched, &job(&AtomicBool::new(false))).unwrap();
        let found = diff(&ours, &floats).unwrap();
        for tensor in &found.tensors {
            let differs = tensor.reason.is_some() || tensor.sqnr_db.is_some();
            assert!(!differs, "{tensor:?}");
        }
        assert!(
            inspect(&floats, false)
                .unwrap()
                .tensors
                .iter()
                .all(|it| it.scheme.is_none())
        );
    }
}

#[test]
fn a_model_in_which_nothing_changes_is_the_same_files() {
    let folder = tempfile::tempdir().unwrap();
    let nothing = options("int8").with_min_elements(1 << 40);
    for which in ["float", "quantized"] {
        let (input, output) = (model("int8", which), folder.path().join(which));
        run(&input, &output, &nothing).unwrap();
        for file in FILES {
            let read = |path: &Path| fs::read(path.join(file)).unwrap();
            assert!(read(&input) == read(&output), "{which} {file}");
        }
    }
}

/// A copy of a model, to be damaged.
struct Copy(TempDir);

impl Copy {
    fn new() -> Self {
        Self::of("float")
    }

    fn of(which: &str) -> Self {
        let copy = Self(tempfile::tempdir().unwrap());
        fs::create_dir(copy.input()).unwrap();
        for file in FILES {
            fs::copy(model("int8", which).join(file), copy.input().join(file)).unwrap();
        }
        copy
    }

    /// Changes a weight by little.
    fn damage_a_weight(&self) {
        self.edit("main.mlirb", |it| {
            let resources = find(it, &[0xcb; 8]);
            it[(resources + 512).next_multiple_of(16)] ^= 1;
        });
    }

    fn input(&self) -> PathBuf {
        self.0.path().join("in.aimodel")
    }

    fn edit(&self, file: &str, edit: impl FnOnce(&mut Vec<u8>)) {
        let path = self.input().join(file);
        let mut bytes = fs::read(&path).unwrap();
        edit(&mut bytes);
        fs::write(path, bytes).unwrap();
    }

    /// One line, and nothing written.
    fn refuses(&self) -> String {
        let output = self.0.path().join("out.aimodel");
        let error = run(&self.input(), &output, &options("int8"))
            .unwrap_err()
            .to_string();
        assert_eq!(error.lines().count(), 1, "{error}");
        assert_eq!(fs::read_dir(self.0.path()).unwrap().count(), 1, "{error}");
        error
    }
}

fn find(bytes: &[u8], part: &[u8]) -> usize {
    bytes.windows(part.len()).position(|it| it == part).unwrap()
}

#[test]
fn damaged_models_are_refused_in_one_line() {
    type Edit = fn(&mut Vec<u8>);
    let cases: [(&str, Edit, &str); 9] = [
        (
            "main.mlirb",
            |it| it[4] = 0x0f,
            "MLIR bytecode of version 7",
        ),
        (
            "main.mlirb",
            |it| it.truncate(9),
            "no end to the name of its producer",
        ),
        ("main.mlirb", |it| it[0] = 0, "no MLIR bytecode"),
        (
            "main.mlirb",
            |it| it.truncate(it.len() - 1),
            "more than there are",
        ),
        (
            "main.mlirb",
            |it| it.extend([0x0e, 0x01]),
            "kind 14, which quant does not know",
        ),
        ("main.mlirb", |it| it.extend([0x08, 0x01]), "a second time"),
        (
            "main.mlirb",
            |it| {
                let at = find(it, b"aicode\0");
                it[at] = b'x';
            },
            "dialect `xicode` of version 2",
        ),
        (
            "metadata.json",
            |it| {
                let at = find(it, b"\"2.0\"");
                it[at + 1] = b'3';
            },
            "version `3.0`",
        ),
        (
            "metadata.json",
            |it| it.truncate(20),
            "fetch the model again",
        ),
    ];
    for (file, edit, words) in cases {
        let copy = Copy::new();
        copy.edit(file, edit);
        let error = copy.refuses();
        assert!(
            error.contains(words) && error.contains(file),
            "no `{words}` in: {error}"
        );
    }
    let copy = Copy::new();
    fs::remove_file(copy.input().join("main.mlirb")).unwrap();
    assert!(copy.refuses().contains("main.mlirb"));
}

#[test]
fn damaged_weights_are_refused() {
    let (float, quantized) = (Copy::of("float"), Copy::of("quantized"));
    let nothing = options("int8").with_min_elements(1 << 40);
    for copy in [&float, &quantized] {
        let (input, output) = (copy.input(), copy.0.path().join("out.aimodel"));
        copy.damage_a_weight();
        // It can be looked at.
        inspect(&input, true).unwrap();
        let never = AtomicBool::new(false);
        let restored = || dequantize(&input, &output, &DequantizeOptions::default(), &job(&never));
        let errors = [
            run(&input, &output, &options("int8")).err(),
            run(&input, &output, &nothing).err(),
            match std::ptr::eq(copy, &quantized) {
                true => restored().err(),
                false => None,
            },
        ];
        let is_quantized = std::ptr::eq(copy, &quantized);
        assert_eq!(
            errors.iter().flatten().count(),
            2 + usize::from(is_quantized)
        );
        let compared = [
            diff(&input, &model("int8", "float")),
            diff(&model("int8", "float"), &input),
        ];
        let compared = compared.map(Result::unwrap_err);
        for error in errors.into_iter().flatten().chain(compared) {
            let said = error.to_string();
            let words = "main.mlirb: its SHA-256 is not that in main.hash, so it is damaged";
            assert!(said.contains(words) && said.lines().count() == 1, "{said}");
        }
        assert_eq!(fs::read_dir(copy.0.path()).unwrap().count(), 1);
    }
    let copy = Copy::new();
    copy.edit("main.hash", |it| it.truncate(31));
    let said = copy.refuses();
    assert!(said.contains("main.hash: 31 bytes, where"), "{said}");
    copy.edit("main.hash", |it| it.resize(1 << 20, 0));
    let said = copy.refuses();
    assert!(said.contains("main.hash: more than 4096 bytes"), "{said}");
}

/// The reference's runtime loads it, too.
#[test]
fn a_model_without_a_hash_is_taken_with_a_warning() {
    let copy = Copy::new();
    let [with, without] = ["a.aimodel", "b.aimodel"].map(|it| copy.0.path().join(it));
    run(&copy.input(), &with, &options("int8")).unwrap();
    fs::remove_file(copy.input().join("main.hash")).unwrap();
    let never = AtomicBool::new(false);
    let report = quantize(&copy.input(), &without, &options("int8"), &job(&never)).unwrap();
    let told: Vec<_> = report.warnings.iter().map(ToString::to_string).collect();
    assert_eq!(
        told,
        ["no main.hash in the model: damage to its weights would not have been noticed"]
    );
    let found = diff(&copy.input(), &with).unwrap();
    let [told] = &found.warnings[..] else {
        panic!("{:?}", found.warnings);
    };
    assert!(told.contains("in.aimodel: no main.hash"), "{told}");
    for file in FILES {
        let read = |path: &Path| fs::read(path.join(file)).unwrap();
        assert!(read(&with) == read(&without), "{file}");
    }
}

/// By any name that leads to it.
#[test]
fn models_are_called_as_they_were_named() {
    let copy = Copy::new();
    let named = copy.0.path().join("named.aimodel");
    std::os::unix::fs::symlink(copy.input(), &named).unwrap();
    let output = copy.0.path().join("out.aimodel");
    let of_another_dialect = options("int8")
        .with_scheme(Scheme::new(IntType::Int8, Mode::Symmetric).with_dialect(Dialect::F32));
    let mut said = vec![
        run(&named, &output, &of_another_dialect)
            .unwrap_err()
            .to_string(),
    ];
    copy.damage_a_weight();
    said.push(
        run(&named, &output, &options("int8"))
            .unwrap_err()
            .to_string(),
    );
    copy.edit("main.mlirb", |it| {
        let at = find(it, b"aicode\0");
        it[at] = b'x';
    });
    said.push(inspect(&named, false).unwrap_err().to_string());
    for said in said {
        let begins = format!("{}/main.mlirb: ", named.display());
        assert!(said.starts_with(&begins), "{said}");
    }
    let program = inspect(&named.join("main.mlirb"), false).unwrap_err();
    assert!(
        program.to_string().contains("give the .aimodel with all"),
        "{program}"
    );
}

/// Wherever a model is cut or a byte of it is another one, it is refused, or read and written.
#[test]
fn any_damage_is_an_error_or_none() {
    let whole = fs::read(model("int8", "float").join("main.mlirb")).unwrap();
    let resources = find(&whole, &[0xcb; 8]);
    let copy = Copy::new();
    // Which would tell of any damage.
    fs::remove_file(copy.input().join("main.hash")).unwrap();
    for at in (0..whole.len()).step_by(997) {
        copy.edit("main.mlirb", |it| it.truncate(at));
        copy.refuses();
        copy.edit("main.mlirb", |it| it.clone_from(&whole));
    }
    // Before the weights: what is damaged there is not their values.
    for at in (4..resources).step_by(37) {
        copy.edit("main.mlirb", |it| it[at] ^= 1 << (at % 8));
        if let Err(error) = inspect(&copy.input(), false) {
            assert_eq!(error.to_string().lines().count(), 1, "{error}");
            copy.refuses();
        } else {
            let output = copy.0.path().join("out.aimodel");
            if run(&copy.input(), &output, &options("int8")).is_ok() {
                inspect(&output, false).unwrap();
                fs::remove_dir_all(output).unwrap();
            }
        }
        copy.edit("main.mlirb", |it| it.clone_from(&whole));
    }
}
