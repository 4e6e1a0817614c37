"""Compares what `quant` makes of the fixtures with what coremltools 9.0 makes of them.

    venv/bin/python crates/quant-models/tests/coreml/check.py target/release/quant

runs both on every package and configuration: weight.bin byte for byte, the operations, names, types
and values, and the weights that coremltools restores from both; then activations. `cargo xtask coreml`
does all of it.
"""

import argparse
import json
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import check_activations
import coremltools as ct
import coremltools.optimize as cto
import numpy as np
from make_fixtures import CONFIGURATIONS, HERE, describe, save, saved_again
from make_layouts import LAYOUTS, make_folders


def constants(model):
    """Every constant of a model, by name."""
    program = ct.models.utils._convert_model_spec_to_pymil_prog(
        model, model.get_spec().specificationVersion, ct.converters.mil.frontend.milproto.load.load
    )
    found = {}

    def walk(block):
        for op in block.operations:
            for inner in op.blocks:
                walk(inner)
            if op.op_type == "const":
                found[op.name] = op.outputs[0].val
    for function in program.functions.values():
        walk(function)
    return found


def differ(ours, theirs, again):
    """How the operations of two models differ. Since coremltools saves its own after passes that have
    nothing to do with quantization, ours goes through the same passes before they are compared."""
    save(saved_again(ours), again)
    left, right = plain(describe(again)), plain(describe(theirs))
    if left == right:
        return None
    first = next(((a, b) for a, b in zip(left, right) if a != b), (len(left), len(right)))
    return f"operations differ: {first}"


def files(package):
    """All files and folders, and the bytes of weight files."""
    paths = {str(path.relative_to(package)): path for path in package.rglob("*")}
    return {name: path.read_bytes() if path.suffix == ".bin" else None for name, path in paths.items()}


def plain(lines):
    """coremltools numbers updates of states anew in every program that it loads."""
    return [re.sub(r"coreml_update_state_\d+", "coreml_update_state", line) for line in lines]


def check(quant, source, configuration, folder):
    """What is wrong, or None."""
    ours, theirs, floats, again = (folder / f"{name}.mlpackage" for name in ("ours", "theirs", "floats", "again"))
    file = folder / "configuration.json"
    file.write_text(json.dumps(configuration))
    command = [quant, "quantize", source, "-o", ours, "--config", file, "--force", "--quiet", "--exact-selection"]
    ran = subprocess.run(command, capture_output=True, text=True)
    parsed = cto.coreml.OptimizationConfig.from_dict(json.loads(json.dumps(configuration)))
    try:
        model = ct.models.MLModel(str(source), skip_model_load=True)
        model = cto.coreml.linear_quantize_weights(model, parsed)
    except ValueError as error:
        if "conflict" in str(error) or "Only floating" in str(error):
            return None if ran.returncode == 0 else f"quant: {ran.stderr}"
        return None if ran.returncode == 1 else f"coremltools refuses: {error}"
    if ran.returncode != 0:
        return f"quant: {ran.stderr}"
    save(model, theirs)
    if "inline" in source.name and not any("constexpr_" in line for line in describe(ours)):
        return None  # With nothing to quantize, values stay in the model.
    if files(ours) != files(theirs):
        return "files, folders or weight.bin differ"
    loaded = ct.models.MLModel(str(ours), skip_model_load=True)
    if problem := differ(loaded, theirs, again):
        return problem
    loaded = ct.models.MLModel(str(again), skip_model_load=True)
    restored = constants(cto.coreml.decompress_weights(loaded))
    expected = constants(cto.coreml.decompress_weights(model))
    if restored.keys() != expected.keys():
        return f"constants differ: {restored.keys() ^ expected.keys()}"
    for name, value in restored.items():
        if not np.array_equal(value, expected[name]):
            return f"values of {name} differ"
    # And what quant restores itself: all but palettes and sparse weights.
    if "compressed" in source.name or not any("constexpr_" in line for line in describe(ours)):
        return None
    subprocess.run([quant, "dequantize", ours, "-o", floats, "--force", "--quiet"], check=True)
    loaded = ct.models.MLModel(str(ours), skip_model_load=True)
    save(cto.coreml.decompress_weights(loaded), theirs)
    if files(floats) != files(theirs):
        return "files, folders or weight.bin differ after dequantizing"
    problem = differ(ct.models.MLModel(str(floats), skip_model_load=True), theirs, again)
    return problem and f"after dequantizing: {problem}"


def main():
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("quant", type=Path, help="the command")
    options.add_argument("--only", default="", help="packages whose name holds this")
    options = options.parse_args()
    wrong = count = 0
    layouts = [path for path in LAYOUTS.glob("*.mlpackage") if "pipeline" not in path.name]
    for source in sorted([*(HERE / "packages").glob("*.mlpackage"), *layouts]):
        if options.only not in source.name:
            continue
        if source.name.startswith("functions"):
            continue  # coremltools refuses models of several functions.
        for name, configuration in CONFIGURATIONS.items():
            with tempfile.TemporaryDirectory() as folder:
                copied = Path(folder) / source.name
                shutil.copytree(source, copied)
                make_folders(copied)
                problem = check(options.quant.resolve(), copied, configuration, Path(folder))
            count += 1
            if problem:
                wrong += 1
                print(f"{source.stem} {name}: {problem}", flush=True)
    print(f"{count - wrong} of {count} equal")
    wrong += check_activations.main(options.quant.resolve(), options.only)
    return wrong > 0


if __name__ == "__main__":
    sys.exit(main())
