"""Writes down which configuration files coremltools 9.0 takes, and what it makes of a package with each.

    venv/bin/python crates/quant-models/tests/coreml/make_configurations.py

writes `expected_configurations.json` beside this file: for each file its text and the SHA-256 of
weight.bin, or null where coremltools refuses it, be it when it reads the file or when it quantizes.
"""

import io
import json
import sys
import tempfile
from pathlib import Path

import coremltools as ct
import coremltools.optimize as cto
from make_fixtures import HERE, WEIGHTS, digest, save

PACKAGE = HERE / "packages" / "linear_18_f16.mlpackage"
LINEAR = "OpLinearQuantizerConfig"
BLOCKS = {"granularity": "per_block"}


def only(**options):
    return {"config_type": LINEAR, "global_config": options}


DOCUMENTS = {
    "nothing": only(),
    # Sizes of blocks.
    "block 16": only(**BLOCKS, block_size=16),
    "block 0": only(**BLOCKS, block_size=0),
    "block 0, 4 bits": only(**BLOCKS, block_size=0, dtype="int4"),
    "block -1": only(**BLOCKS, block_size=-1),
    "block 16.0": only(**BLOCKS, block_size=16.0),
    "block as text": only(**BLOCKS, block_size="16"),
    "block true": only(**BLOCKS, block_size=True),
    "block null": only(**BLOCKS, block_size=None),
    "block without blocks": only(block_size=-1),
    "blocks 1, 16": only(**BLOCKS, block_size=[1, 16]),
    "blocks 0, 16": only(**BLOCKS, block_size=[0, 16]),
    "blocks 4, 0": only(**BLOCKS, block_size=[4, 0]),
    "blocks 0, 0": only(**BLOCKS, block_size=[0, 0]),
    "blocks 16": only(**BLOCKS, block_size=[16]),
    "blocks of three": only(**BLOCKS, block_size=[1, 16, 1]),
    "blocks of none": only(**BLOCKS, block_size=[]),
    "blocks 1, -1": only(**BLOCKS, block_size=[1, -1]),
    "blocks 1, 16.0": only(**BLOCKS, block_size=[1, 16.0]),
    "blocks true, 16": only(**BLOCKS, block_size=[True, 16]),
    "blocks too large": only(**BLOCKS, block_size=[1, 4096]),
    "block that divides some": only(**BLOCKS, block_size=48),
    # Thresholds.
    "threshold 100": only(weight_threshold=100),
    "threshold 2048.0": only(weight_threshold=2048.0),
    "threshold 2047.9": only(weight_threshold=2047.9),
    "threshold 1023.5": only(weight_threshold=1023.5),
    "threshold -0.5": only(weight_threshold=-0.5),
    "threshold -1": only(weight_threshold=-1),
    "threshold as text": only(weight_threshold="100"),
    "threshold as text with a point": only(weight_threshold="100.0"),
    "threshold null": only(weight_threshold=None),
    "threshold true": only(weight_threshold=True),
    "threshold of a list": only(weight_threshold=[1]),
    "threshold beyond all": only(weight_threshold=10**30),
    # Modes, types, granularities.
    "mode in capitals": only(mode="LINEAR"),
    "mode mixed": only(mode="Linear_Symmetric"),
    "mode 5": only(mode=5),
    "mode null": only(mode=None),
    "mode affine": only(mode="affine"),
    "dtype uint8": only(dtype="uint8"),
    "dtype uint4": only(dtype="uint4", mode="linear"),
    "dtype in capitals": only(dtype="INT8"),
    "dtype of numpy": only(dtype="np.int8"),
    "dtype int16": only(dtype="int16"),
    "dtype int2": only(dtype="int2"),
    "dtype fp16": only(dtype="fp16"),
    "dtype null": only(dtype=None),
    "dtype 8": only(dtype=8),
    "tensor": only(granularity="per_tensor"),
    "tensor in capitals": only(granularity="PER_TENSOR"),
    "grouped": only(granularity="per_grouped_channel"),
    "granularity null": only(granularity=None),
    # Types of configurations, and places.
    "unknown field": only(nbits=4),
    "palettizer": {"config_type": "OpPalettizerConfig", "global_config": {"mode": "kmeans", "nbits": 4}},
    "magnitude pruner": {"config_type": "OpMagnitudePrunerConfig", "global_config": {"target_sparsity": 0.5}},
    "threshold pruner": {"config_type": "OpThresholdPrunerConfig", "global_config": {"threshold": 0.5}},
    "one palettizer": {**only(), "op_name_configs": {"a": {"config_type": "OpPalettizerConfig", "nbits": 4}}},
    "one of ours": {"config_type": "OpPalettizerConfig", "op_name_configs": {"second": {"config_type": LINEAR}}},
    "unknown type": {"config_type": "Foo", "global_config": {}},
    "unknown type of nothing": {"config_type": "Foo"},
    "no type": {"global_config": {}},
    "type null": {"config_type": None, "global_config": {}},
    "type 5": {"config_type": 5, "global_config": {}},
    "entry of type null": {"config_type": LINEAR, "op_name_configs": {"a": {"config_type": None}}},
    "unknown key": {"config_type": LINEAR, "op_name_config": {}},
    "types as a list": {"config_type": LINEAR, "op_type_configs": ["linear"]},
    "types as an empty list": {"config_type": LINEAR, "op_type_configs": []},
    "types null": {**only(), "op_type_configs": None},
    "one type": {"config_type": LINEAR, "op_type_configs": {"linear": {}}},
    "one type null": {**only(), "op_type_configs": {"linear": None}},
    "one type as text": {**only(), "op_type_configs": {"linear": "int8"}},
    "const as a type": {**only(), "op_type_configs": {"const": {}}},
    "one name": {**only(), "op_name_configs": {"first": {"dtype": "uint8"}, "second": None}},
    "a weight's name": {**only(), "op_name_configs": {"first_weight_0": {"dtype": "uint8"}}},
    "global null": {"config_type": LINEAR, "global_config": None},
    "global as a list": {"config_type": LINEAR, "global_config": []},
    "global as text": {"config_type": LINEAR, "global_config": "int8"},
    "global false": {"config_type": LINEAR, "global_config": False},
    "a list": [],
    "null": None,
    "text": "x",
}
HEAD = f"config_type: {LINEAR}\n"
TEXTS = {
    "empty": "",
    "a key twice": HEAD + "global_config: {dtype: int4, dtype: uint8}",
    "a name twice": HEAD + "op_name_configs:\n  second: null\n  second: {dtype: uint8}",
    "all twice": HEAD + "global_config: {dtype: int4}\nglobal_config: {dtype: uint8}",
    "anchor": HEAD + "global_config: &all {dtype: uint8}\nop_name_configs:\n  second: *all",
    "merge": HEAD + "global_config: &all {dtype: uint8}\nop_name_configs:\n  second: {<<: *all, mode: linear}",
    "names of other types": HEAD + "op_name_configs: {yes: null, 12: {dtype: uint8}, second: {}}",
    "octal": HEAD + "global_config: {weight_threshold: 02000}",
    "hexadecimal": HEAD + "global_config: {weight_threshold: 0x400}",
    "underscores": HEAD + "global_config: {weight_threshold: 1_024}",
    "two documents": HEAD + "---\n" + HEAD,
    "tuple": HEAD + "global_config: {granularity: per_block, block_size: !!python/tuple [1, 16]}",
    "tab": HEAD + "global_config:\n\tdtype: int8",
    "tilde": HEAD + "global_config: ~",
    "comment": "# ours\n" + HEAD + "global_config:  # all of it\n  dtype: 'uint8'",
    "unfinished": HEAD + "global_config: {dtype: int8",
}


def quantized(parse, folder):
    try:
        model = ct.models.MLModel(str(PACKAGE), skip_model_load=True)
        save(cto.coreml.linear_quantize_weights(model, parse()), folder / "out.mlpackage")
    except Exception as error:  # Whatever it is, it is refused.
        print(f"{type(error).__name__}: {' '.join(str(error).split())[:90]}")
        return None
    return digest(folder / "out.mlpackage" / WEIGHTS)


def main():
    parser, found = cto.coreml.OptimizationConfig, []
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        for name, document in DOCUMENTS.items():
            text = json.dumps(document)
            weights = quantized(lambda: parser.from_dict(json.loads(text)), folder)
            found.append({"name": name, "file": "json", "text": text, "weights": weights})
        for name, text in TEXTS.items():
            weights = quantized(lambda: parser.from_yaml(io.StringIO(text)), folder)
            found.append({"name": name, "file": "yaml", "text": text, "weights": weights})
    (HERE / "expected_configurations.json").write_text(json.dumps(found, indent=1) + "\n")
    taken = sum(case["weights"] is not None for case in found)
    print(f"{taken} of {len(found)} are taken")


if __name__ == "__main__":
    sys.exit(main())
