"""Builds packages that are laid out in other ways than those of make_fixtures.py, and writes down what
coremltools 9.0 makes of each:

- without any weight: coremltools writes an empty folder `weights`, which the manifest names;
- with weights that stand in the model itself, all of them or some;
- pipelines. coremltools refuses to quantize these, so each of their programs is quantized alone and put
  into a pipeline again.

    venv/bin/python crates/quant-models/tests/coreml/make_layouts.py

writes `layouts/NAME.mlpackage` and `expected_layouts.json` beside this file. git keeps no empty folders:
whoever uses the packages makes them, as `make_folders` does.
"""

import argparse
import json
import shutil
import sys
import tempfile
from pathlib import Path

import coremltools as ct
import coremltools.optimize as cto
import make_activations
import make_fixtures
import numpy as np
from coremltools.converters.mil import Builder as mb
from coremltools.models import datatypes
from coremltools.models.neural_network import NeuralNetworkBuilder
from make_fixtures import CONFIGURATIONS, HERE, IOS15, IOS16, IOS17, IOS18, MODEL, conv, describe, digest, linear
from make_fixtures import program, save, saved_again, several, shared, weight, write

LAYOUTS = HERE / "layouts"
NAMES = ("int8", "uint8_linear", "int8_tensor", "small_too", "int4_blocks", "uint4_linear")
BYTES = {ct.proto.MIL_pb2.FLOAT16: 2, ct.proto.MIL_pb2.FLOAT32: 4}


def make_folders(package):
    """The folders that the manifest names."""
    manifest = json.loads((package / "Manifest.json").read_text())
    for item in manifest["itemInfoEntries"].values():
        place = package / "Data" / item["path"]
        if not place.exists():
            place.mkdir(parents=True)


def relu(dtype, x):
    return mb.relu(x=x, name="y")


def pool(dtype, x):
    x = mb.max_pool(x=x, kernel_sizes=[2, 2], strides=[1, 1], pad_type="valid", name="pool")
    return mb.relu(x=x, name="y")


def inline(package, chosen=lambda name: True):
    """Puts the values of float constants whose name is chosen into the model itself."""
    model = ct.proto.Model_pb2.Model()
    model.ParseFromString((package / MODEL).read_bytes())
    content = {}

    def data(blob):
        path = package / MODEL.replace("model.mlmodel", blob.fileName.removeprefix("@model_path/"))
        whole = content.setdefault(path, path.read_bytes())
        size, start = (int.from_bytes(whole[blob.offset + at:blob.offset + at + 8], "little") for at in (8, 16))
        return whole[start:start + size]

    def walk(block):
        for op in block.operations:
            for inner in op.blocks:
                walk(inner)
            value = op.attributes["val"] if "val" in op.attributes else None
            if value is None or value.WhichOneof("value") != "blobFileValue" or not chosen(op.outputs[0].name):
                continue
            values, kind = data(value.blobFileValue), value.type.tensorType.dataType
            if kind not in BYTES:
                continue
            value.ClearField("blobFileValue")
            tensor = value.immediateValue.tensor
            if kind == ct.proto.MIL_pb2.FLOAT32:
                tensor.floats.values.extend(np.frombuffer(values, np.float32))
            else:
                tensor.bytes.values = values
    for function in model.mlProgram.functions.values():
        for block in function.block_specializations.values():
            walk(block)
    (package / MODEL).write_bytes(model.SerializeToString(deterministic=True))
    left = any("@" in line for line in describe(package))
    if not left:
        for path in content:
            path.unlink()


def part(build, source, result, target, shape, dtype=np.float16):
    """A program whose input and output have these names."""
    model = saved_again(program(target, dtype, build, shape)) if target != IOS15 else program(target, dtype, build, shape)
    spec = model.get_spec()
    ct.utils.rename_feature(spec, spec.description.input[0].name, source)
    ct.utils.rename_feature(spec, spec.description.output[0].name, result)
    return ct.models.MLModel(spec, weights_dir=model.weights_dir, skip_model_load=True)


def network(source, result, width):
    """A neural network of the older kind."""
    features = datatypes.Array(4, width)
    builder = NeuralNetworkBuilder([(source, features)], [(result, features)], disable_rank5_shape_mapping=True)
    builder.add_activation("act", "RELU", source, result)
    return ct.models.MLModel(builder.spec, skip_model_load=True)


def wide(dtype, x):
    return mb.linear(x=x, weight=weight(dtype, 64, 48), bias=weight(dtype, 64), name="wide")


def deep(dtype, x):
    x = mb.linear(x=x, weight=weight(dtype, 80, 64), bias=weight(dtype, 80), name="wide")
    return mb.linear(x=x, weight=weight(dtype, 48, 80), name="deep")


def last(dtype, x):
    return mb.linear(x=mb.relu(x=x), weight=weight(dtype, 96, 48), name="last")


def plain(dtype, x):
    return mb.relu(x=x)


INLINE = {
    "inline_16_f16": (IOS16, np.float16, linear, (4, 48), lambda name: True),
    "inline_17_f32": (IOS17, np.float32, linear, (4, 48), lambda name: True),
    "inline_18_f16": (IOS18, np.float16, conv, (1, 16, 8, 8), lambda name: True),
    "inline_18_f32": (IOS18, np.float32, several, (4, 48), lambda name: True),
    "mixed_18_f16": (IOS18, np.float16, shared, (4, 64), lambda name: "base" in name or "same" in name or "f_" in name),
    "mixed_16_f16": (IOS16, np.float16, linear, (4, 48), lambda name: "second" in name or "bias" in name),
}
WITHOUT = {
    "relu_17_f16": (IOS17, np.float16, relu, (4, 8)),
    "pool_17_f16": (IOS17, np.float16, pool, (1, 4, 8, 8)),
}
PIPELINES = {
    "pipeline_18_f16": lambda: [
        part(wide, "a", "b", IOS18, (4, 48)),
        part(deep, "b", "c", IOS18, (4, 64)),
        part(last, "c", "d", IOS18, (4, 48)),
    ],
    "pipeline_16_f16": lambda: [
        part(wide, "a", "b", IOS15, (4, 48)),
        network("b", "c", 64),
        part(deep, "c", "d", IOS16, (4, 64)),
        part(plain, "d", "e", IOS18, (4, 48)),
    ],
}


def configuration(name):
    return cto.coreml.OptimizationConfig.from_dict(json.loads(json.dumps(CONFIGURATIONS[name])))


def result(package):
    inner = sorted(str(path.relative_to(package)) for path in package.rglob("*"))
    weights = {path: digest(package / path) for path in inner if path.endswith(".bin")}
    return {"contents": inner, "weights": weights, "operations": describe(package)}


def alone(source, kept):
    """The results of one program, by configuration."""
    cases = {}
    for name in NAMES:
        model = ct.models.MLModel(str(source), skip_model_load=True)
        out = kept / f"{source.stem}.{name}.mlpackage"
        try:
            save(cto.coreml.linear_quantize_weights(model, configuration(name)), out)
        except ValueError as error:
            cases[name] = {"error": str(error).split(".")[0]}
            continue
        cases[name] = result(out)
        save(cto.coreml.decompress_weights(ct.models.MLModel(str(out), skip_model_load=True)), kept / "floats.mlpackage")
        cases[name]["decompressed"] = result(kept / "floats.mlpackage")
    return cases


def pipeline(parts, kept):
    cases = {}
    for name in NAMES:
        done = []
        try:
            for model in parts():
                if model.get_spec().WhichOneof("Type") == "mlProgram":
                    model = cto.coreml.linear_quantize_weights(model, configuration(name))
                done.append(model)
        except ValueError as error:
            cases[name] = {"error": str(error).split(".")[0]}
            continue
        out = kept / f"{name}.mlpackage"
        save(ct.utils.make_pipeline(*done), out)
        cases[name] = result(out)
    return cases


def with_activations(models, ranges, out):
    """What coremltools makes of the activations of each model, and then of its weights."""
    activations, weights = [], []
    for model in models:
        model = make_activations.quantize_activations(model, ranges, make_activations.CONFIGURATIONS["int8"])
        activations.append(model)
        weights.append(cto.coreml.linear_quantize_weights(model, make_activations.parsed(make_activations.WEIGHTS_TOO)))
    cases = {}
    for name, done in (("activations", activations), ("both", weights)):
        save(ct.utils.make_pipeline(*done) if len(done) > 1 else done[0], out)
        cases[name] = result(out)
    return cases


def seeded(build):
    """The same weights whenever it is built."""
    def again():
        make_fixtures.rng = np.random.default_rng(7)
        return build()
    return again


def main():
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--keep", type=Path, help="keep what coremltools wrote in this folder")
    options = options.parse_args()
    kept = options.keep or Path(tempfile.mkdtemp())
    kept.mkdir(parents=True, exist_ok=True)
    shutil.rmtree(LAYOUTS, ignore_errors=True)
    LAYOUTS.mkdir()
    expected = {"packages": {}}
    for name, (target, dtype, build, shape) in WITHOUT.items():
        save(program(target, dtype, build, shape), LAYOUTS / f"{name}.mlpackage")
        expected["packages"][name] = alone(LAYOUTS / f"{name}.mlpackage", kept)
    for name, (target, dtype, build, shape, chosen) in INLINE.items():
        source = LAYOUTS / f"{name}.mlpackage"
        save(saved_again(seeded(lambda: program(target, dtype, build, shape))()), source)
        inline(source, chosen)
        expected["packages"][name] = alone(source, kept)
    for name, parts in PIPELINES.items():
        save(ct.utils.make_pipeline(*seeded(parts)()), LAYOUTS / f"{name}.mlpackage")
        expected["packages"][name] = pipeline(seeded(parts), kept)
        # coremltools moves casts when it saves a program for iOS15 again.
        expected["packages"][name]["stable"] = all(one.get_spec().specificationVersion > 6 for one in parts()
                                                   if one.get_spec().WhichOneof("Type") == "mlProgram")
    expected["ranges"] = {}
    make_activations.skip_what_has_no_range()
    for name in ("pool_17_f16", "pipeline_18_f16"):
        source = LAYOUTS / f"{name}.mlpackage"
        ranges = make_activations.ranges_of(source, 1)
        ranges["a"] = (-2.0, 1.0)
        alone_or_parts = [ct.models.MLModel(str(source), skip_model_load=True)]
        if name in PIPELINES:
            alone_or_parts = seeded(PIPELINES[name])()
        expected["ranges"][name] = make_activations.document(ranges)
        expected["packages"][f"{name}/activations"] = with_activations(alone_or_parts, ranges, kept / "activations.mlpackage")
    write(expected, HERE / "expected_layouts.json")
    if not options.keep:
        shutil.rmtree(kept)


if __name__ == "__main__":
    sys.exit(main())
