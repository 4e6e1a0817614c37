//! What `config.json` says, against what the tensors are.

use serde_json::{Value, json};

use crate::broken::{Tensors, changed, is_refused};
use crate::{Q_PROJ, same_values, tensors};

const AS_THEY_ARE: fn(&mut Tensors) = |_| {};

/// A case whose `quantization_config` has another value at a JSON pointer.
fn with(case: &str, pointer: &str, value: &Value) -> crate::folder::Folder {
    changed(case, AS_THEY_ARE, |config| {
        let (parent, key) = pointer.rsplit_once('/').unwrap();
        let key = key.replace('~', "/");
        config.pointer_mut(parent).unwrap()[key] = value.clone();
    })
}

/// Long: what may be wrong, a line each.
#[test]
fn what_it_says_otherwise_is_refused() {
    for (case, field, value, words) in [
        (
            "llama-w4a16",
            "num_bits",
            json!(3),
            &["is 3, and the codes are of 4 bits"][..],
        ),
        (
            "llama-w4a16",
            "num_bits",
            json!(8),
            &["is 8, and the codes are of 4 bits"],
        ),
        ("llama-w4a16", "num_bits", json!("four"), &["is \"four\""]),
        (
            "llama-w8a16",
            "num_bits",
            json!(4),
            &["is 4, and the codes are of 8 bits"],
        ),
        ("llama-w8a8", "num_bits", json!(9), &["is 9"]),
        ("llama-w8a8", "num_bits", json!(0), &["is 0"]),
        (
            "llama-w4a16",
            "group_size",
            json!(-5),
            &["is -5", "strategy group"],
        ),
        (
            "llama-w4a16",
            "group_size",
            json!(-1),
            &["is -1", "strategy group"],
        ),
        (
            "llama-w4a16",
            "group_size",
            json!(0),
            &["is 0", "strategy group"],
        ),
        (
            "llama-w4a16",
            "group_size",
            Value::Null,
            &["is null", "strategy group"],
        ),
        (
            "llama-w4a16",
            "group_size",
            json!(64),
            &["is 64, and a row has one scale"],
        ),
        (
            "llama-w4a16",
            "group_size",
            json!(1_u64 << 40),
            &["is 1099511627776"],
        ),
        (
            "llama-w8a8",
            "group_size",
            json!(32),
            &["is 32", "strategy channel"],
        ),
        (
            "llama-w8a8",
            "group_size",
            json!(-5),
            &["is -5", "strategy channel"],
        ),
        (
            "llama-w4a16",
            "type",
            json!("float"),
            &["is float, and the codes are integers"],
        ),
        ("llama-w4a16", "type", json!("complex"), &["is \"complex\""]),
        (
            "llama-w8a8",
            "strategy",
            json!("tensor"),
            &["is tensor, and a row has one scale"],
        ),
        (
            "llama-w8a8",
            "strategy",
            json!("attn_head"),
            &["is attn_head"],
        ),
        ("llama-w8a8", "strategy", json!("token"), &["is token"]),
        (
            "llama-w8a8",
            "strategy",
            json!("rows"),
            &["is \"rows\", which is none of tensor"],
        ),
        (
            "llama-w8a8",
            "strategy",
            json!("group"),
            &["is null", "strategy group"],
        ),
        (
            "llama-w4a16",
            "symmetric",
            json!(false),
            &["is false", "no `weight_zero_point`"],
        ),
        (
            "llama-tied-w4a16-asym",
            "symmetric",
            json!(true),
            &["is true", "a `weight_zero_point`"],
        ),
        (
            "llama-w4a16",
            "actorder",
            json!("group"),
            &["is \"group\": columns in another order"],
        ),
        (
            "llama-w4a16",
            "actorder",
            json!(true),
            &["is true: columns in another order"],
        ),
        (
            "llama-w4a16",
            "dynamic",
            json!(true),
            &["is true, and the scales are in the file"],
        ),
        (
            "llama-w4a16",
            "block_structure",
            json!([128, 128]),
            &["strategy group"],
        ),
        ("llama-w4a16", "spin", json!(1), &["unknown field `spin`"]),
    ] {
        let group = match case {
            "llama-tied-w4a16-asym" => "W4A16_ASYM",
            other => &other[6..].to_uppercase(),
        };
        let pointer = format!("/config_groups/{group}/weights/{field}");
        let of = format!("group `{group}`");
        let words = [words, &["config.json", &of, field]].concat();
        is_refused(&with(case, &pointer, &value), &words);
    }
}

/// Long: what may be wrong, a line each.
#[test]
fn groups_and_formats_that_do_not_fit_are_refused() {
    let group = "/config_groups/W4A16";
    for (pointer, value, words) in [
        (
            "/config_groups",
            json!({}),
            &["no group of `config_groups` targets it"][..],
        ),
        (
            "/config_groups",
            (0..300)
                .map(|i| (i.to_string(), json!(["Linear"])))
                .collect(),
            &["`config_groups` has 300 groups"],
        ),
        ("/config_groups", json!([]), &["`config_groups` is missing"]),
        ("/config_groups/W4A16", json!(["Linear"]), &[]),
        (
            "/config_groups/W4A16",
            json!(7),
            &["group `W4A16`: is no object"],
        ),
        (
            "/ignore",
            json!([&Q_PROJ[..Q_PROJ.len() - 7]]),
            &["`ignore` names it", Q_PROJ],
        ),
        (
            "/ignore",
            json!(["re:.*q_proj"]),
            &["`ignore` names it", Q_PROJ],
        ),
        (
            "/quantization_status",
            json!("squeezed"),
            &["`quantization_status` is \"squeezed\""],
        ),
        ("/format", json!("some-format"), &[]),
        (
            "/transform_config",
            json!({"config_groups": {"u": {}}}),
            &["`transform_config` turns weights"],
        ),
        ("/transform_config", json!({"config_groups": {}}), &[]),
        ("/transform_config", Value::Null, &[]),
        (
            "/transform_config",
            json!({"config_groups": [{"type": "hadamard"}]}),
            &["`transform_config.config_groups` is [{", "no object"],
        ),
        (
            "/transform_config",
            json!([]),
            &["`transform_config` is [], and no object"],
        ),
        (
            "/transform_config",
            json!({"turn": {}}),
            &["`transform_config` has an unknown field `turn`"],
        ),
    ] {
        match words {
            [] => restores(&with("llama-w4a16", pointer, &value)),
            words => is_refused(&with("llama-w4a16", pointer, &value), words),
        }
    }
    for (field, value, words) in [
        (
            "targets",
            json!(["re:.*mlp"]),
            &["no group of `config_groups` targets it"][..],
        ),
        ("weights", Value::Null, &["it has no `weights`"]),
        (
            "format",
            json!("int-quantized"),
            &["`format` is int-quantized", "as pack-quantized"],
        ),
        (
            "format",
            json!("nvfp4-pack-quantized"),
            &["`format` is nvfp4-pack-quantized"],
        ),
        (
            "format",
            json!("mixed-precision"),
            &["`format` is \"mixed-precision\", which is none of"],
        ),
        ("extra", json!(1), &["unknown field `extra`"]),
    ] {
        let words = [
            words,
            &["config.json", "group `W4A16`"][..usize::from(field != "targets") * 2],
        ]
        .concat();
        is_refused(
            &with("llama-w4a16", &format!("{group}/{field}"), &value),
            &words,
        );
    }
    // A format for all counts where a group has none.
    for (format, is_read) in [
        (json!("pack-quantized"), true),
        (json!("mixed-precision"), true),
        (Value::Null, true),
        (json!("int-quantized"), false),
        (json!("some-format"), false),
    ] {
        let folder = changed("llama-w4a16", AS_THEY_ARE, |config| {
            config["config_groups"]["W4A16"]["format"] = Value::Null;
            config["format"] = format.clone();
        });
        match is_read {
            true => restores(&folder),
            false => is_refused(&folder, &["`format` is", "group `W4A16`"]),
        }
    }
}

fn restores(folder: &crate::folder::Folder) {
    folder.succeeds(&["dequantize", "theirs", "-o", "back"]);
    same_values(folder, "theirs", "back");
}

/// What the reference loads.
#[test]
fn other_ways_to_say_the_same_are_read() {
    for status in [
        "initialized",
        "calibration",
        "frozen",
        "compressed",
        "decompressed",
    ] {
        restores(&with("llama-w4a16", "/quantization_status", &json!(status)));
    }
    restores(&with("llama-w4a16", "/version", &json!("9.9.9")));
    restores(&with("llama-w4a16", "/kv_cache_scheme", &Value::Null));
    restores(&with("llama-w4a16", "/ignore", &Value::Null));
    restores(&with("llama-w8a8", "/format", &json!("naive-quantized")));
    for (case, group, field, value) in [
        ("llama-w4a16", "W4A16", "weights/actorder", json!("weight")),
        ("llama-w4a16", "W4A16", "weights/actorder", json!("static")),
        ("llama-w4a16", "W4A16", "weights/actorder", json!(false)),
        ("llama-w4a16", "W4A16", "weights/observer", json!("mse")),
        ("llama-w4a16", "W4A16", "weights/type", json!("INT")),
        ("llama-w4a16", "W4A16", "weights/strategy", Value::Null),
        ("llama-w8a8", "W8A8", "weights/group_size", json!(-1)),
        ("llama-w8a8", "W8A8", "weights/group_size", json!(0)),
        ("llama-w8a8", "W8A8", "weights/num_bits", json!(4)),
        ("llama-w8a8", "W8A8", "format", json!("naive-quantized")),
        ("llama-w4a16", "W4A16", "targets", json!(["re:.*layers"])),
        // A pattern that looks ahead cannot be told.
        (
            "llama-w4a16",
            "W4A16",
            "targets",
            json!(["re:^(?!.*vision).*"]),
        ),
    ] {
        restores(&with(
            case,
            &format!("/config_groups/{group}/{field}"),
            &value,
        ));
    }
    // Patterns that take too much are told no more, and end no work.
    let large = json!([
        "re:.{0,50000}z",
        "re:".to_owned() + &"(a|b|ab|ba|a.)*".repeat(5000)
    ]);
    for field in ["/config_groups/W4A16/targets", "/ignore"] {
        restores(&with("llama-w4a16", field, &large));
    }
    let pair = |config: &mut Value| {
        let own = config["config_groups"]["W8A16"].take();
        let mut other = own.clone();
        other["weights"]["num_bits"] = json!(2);
        other["targets"] = json!(["Embedding"]);
        config["config_groups"] = json!({"a": other, "b": own});
    };
    restores(&changed("llama-w8a16", AS_THEY_ARE, pair));
    // It may be another layer that such a pattern means.
    let pair = |config: &mut Value| {
        pair(config);
        config["config_groups"]["a"]["targets"] = json!(["re:^(?!.*mlp).*vision"]);
    };
    restores(&changed("llama-w8a16", AS_THEY_ARE, pair));
}

/// Shapes of I32, which the reference takes like those of I64.
#[test]
fn shapes_of_four_bytes_are_read() {
    let shape = format!("{Q_PROJ}_shape");
    let narrow = |all: &mut Tensors| {
        let numbers = [128_i32, 128].iter().flat_map(|it| it.to_le_bytes());
        all.insert(shape.clone(), ("I32".into(), vec![2], numbers.collect()));
    };
    restores(&changed("llama-w4a16", narrow, |_| {}));
    let negative = |all: &mut Tensors| {
        let numbers = [128_i32, -128].iter().flat_map(|it| it.to_le_bytes());
        all.insert(shape.clone(), ("I32".into(), vec![2], numbers.collect()));
    };
    is_refused(
        &changed("llama-w4a16", negative, |_| {}),
        &["do not fit", Q_PROJ],
    );
}

/// One scale for all of a matrix: the strategy `tensor`.
#[test]
fn one_scale_for_all_rows_is_read() {
    let scale = format!("{Q_PROJ}_scale");
    for (case, group) in [("llama-w8a8", "W8A8"), ("llama-w8a16", "W8A16")] {
        let one = |all: &mut Tensors| {
            for (name, tensor) in all.iter_mut() {
                if name.ends_with("_scale") {
                    *tensor = ("F32".into(), vec![1], 0.5_f32.to_le_bytes().into());
                }
            }
        };
        let strategy = |config: &mut Value| {
            let weights = &mut config["config_groups"][group]["weights"];
            weights["strategy"] = json!("tensor");
            weights["group_size"] = Value::Null;
        };
        let folder = changed(case, one, strategy);
        restores(&folder);
        let (codes, back) = (
            tensors(&folder.path("theirs")),
            tensors(&folder.path("back")),
        );
        assert_eq!(back[Q_PROJ].1, "F32");
        let (values, _) = back[Q_PROJ].3.as_chunks::<4>();
        let codes: Vec<i8> = match codes.get(Q_PROJ) {
            Some(codes) => codes.3.iter().map(|it| *it as i8).collect(),
            None => {
                let words = &codes[&format!("{Q_PROJ}_packed")].3;
                words.iter().map(|it| (*it ^ 0x80) as i8).collect()
            }
        };
        assert_eq!(codes.len(), values.len());
        for (code, value) in codes.iter().zip(values) {
            assert_eq!(f32::from_le_bytes(*value), f32::from(*code) * 0.5);
        }
        let native = ["convert", "theirs", "--format", "native", "-o", "native"];
        folder.succeeds(&native);
        same_values(&folder, "theirs", "native");
        // The configuration says a scale per row, or a group.
        let folder = changed(case, one, |_| {});
        is_refused(&folder, &["all rows have one scale", group]);
        // One layer has others.
        let rows = |all: &mut Tensors| {
            one(all);
            let ones = 1_f32.to_le_bytes().repeat(128);
            all.insert(scale.clone(), ("F32".into(), vec![128, 1], ones));
        };
        is_refused(
            &changed(case, rows, strategy),
            &["`weights.strategy` is tensor, and a row has one scale"],
        );
    }
}
