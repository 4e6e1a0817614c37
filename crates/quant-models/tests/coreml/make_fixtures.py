"""Builds small Core ML packages, and writes down what coremltools 9.0 makes of each.

    python -m venv venv && venv/bin/pip install coremltools==9.0
    venv/bin/python crates/quant-models/tests/coreml/make_fixtures.py

writes `packages/NAME.mlpackage` and `expected.json` beside this file: for each package and each
configuration (in coremltools' own form) the SHA-256 of weight.bin and one line per operation.
`--keep FOLDER` also keeps the packages that coremltools wrote.
"""

import argparse
import hashlib
import json
import shutil
import struct
import sys
import tempfile
from pathlib import Path

import coremltools as ct
import coremltools.optimize as cto
import numpy as np
from coremltools.converters.mil import Builder as mb
from coremltools.converters.mil.mil import types

HERE = Path(__file__).resolve().parent
MODEL = "Data/com.apple.CoreML/model.mlmodel"
WEIGHTS = "Data/com.apple.CoreML/weights/weight.bin"
IOS15, IOS16, IOS17, IOS18 = (getattr(ct.target, f"iOS{n}") for n in (15, 16, 17, 18))

rng = np.random.default_rng(20240)


def weight(dtype, *shape):
    """Values of different magnitude per row, so that every channel has a scale of its own."""
    values = rng.standard_normal(shape) * rng.uniform(0.02, 1.5, (shape[0],) + (1,) * (len(shape) - 1))
    return (values + rng.uniform(-0.1, 0.1)).astype(dtype)


def program(target, dtype, build, *shapes, **more):
    tensor = types.fp16 if dtype == np.float16 else types.fp32
    specs = [mb.TensorSpec(shape, dtype=tensor) for shape in shapes]
    specs += [mb.StateTensorSpec(shape, dtype=tensor) for shape in more.get("states", [])]
    if len(specs) == 1:
        function = lambda x: build(dtype, x)
    else:
        function = lambda x, y: build(dtype, x, y)
    prog = mb.program(input_specs=specs, opset_version=target)(function)
    precision = ct.precision.FLOAT16 if dtype == np.float16 else ct.precision.FLOAT32
    return ct.convert(
        prog,
        convert_to="mlprogram",
        minimum_deployment_target=target,
        compute_precision=precision,
        skip_model_load=True,
    )


def linear(dtype, x):
    x = mb.linear(x=x, weight=weight(dtype, 128, 48), bias=weight(dtype, 128), name="first")
    x = mb.relu(x=x)
    x = mb.linear(x=x, weight=weight(dtype, 128, 128), name="second")
    return mb.linear(x=x, weight=weight(dtype, 8, 128), bias=weight(dtype, 8), name="small")


def conv(dtype, x):
    x = mb.conv(x=x, weight=weight(dtype, 32, 16, 3, 3), bias=weight(dtype, 32), pad_type="same", name="plain")
    x = mb.conv(x=x, weight=weight(dtype, 64, 16, 3, 3), groups=2, pad_type="same", name="grouped")
    x = mb.conv_transpose(x=x, weight=weight(dtype, 64, 24, 2, 2), name="transposed")
    return mb.conv_transpose(x=x, weight=weight(dtype, 24, 32, 2, 2), groups=2, name="transposed_grouped")


def matmul(dtype, x):
    x = mb.matmul(x=x, y=weight(dtype, 48, 64), name="y_plain")
    x = mb.matmul(x=x, y=weight(dtype, 96, 64), transpose_y=True, name="y_turned")
    x = mb.matmul(x=x, y=weight(dtype, 2, 96, 32), name="y_batch")
    x = mb.matmul(x=weight(dtype, 160, 16), y=x, name="x_plain")
    return mb.matmul(x=weight(dtype, 160, 32), y=x, transpose_x=True, name="x_turned")


def gather(dtype, x):
    indices = mb.cast(x=mb.reduce_argmax(x=x, axis=-1, keep_dims=False), dtype="int32")
    table = mb.const(val=weight(dtype, 160, 32), name="embedding.weight")
    y = mb.gather(x=table, indices=indices, axis=0, name="lookup")
    return mb.linear(x=y, weight=weight(dtype, 32, 80).T.copy(), name="head")


def shared(dtype, x):
    same = mb.const(val=weight(dtype, 64, 64), name="same")
    a = mb.linear(x=x, weight=same, name="a")
    b = mb.linear(x=a, weight=same, name="b")
    torn = mb.const(val=weight(dtype, 64, 64), name="torn")
    c = mb.linear(x=b, weight=torn, name="c")
    d = mb.matmul(x=c, y=torn, name="d")
    shown = mb.const(val=weight(dtype, 64, 64), name="shown")
    e = mb.linear(x=d, weight=shown, name="e")
    # Twice as large, and twice as large again: other scales, the same codes.
    base = weight(dtype, 112, 64)
    f = mb.linear(x=e, weight=base, name="f")
    g = mb.linear(x=e, weight=base * dtype(2), name="g")
    h = mb.linear(x=e, weight=base * dtype(4), name="h")
    total = mb.add(x=mb.add(x=f, y=g), y=h)
    also = mb.add(x=mb.const(val=weight(dtype, 4, 112), name="elementwise"), y=total)
    return also, mb.identity(x=shown, name="shown_out")


def control(dtype, x):
    outer = mb.const(val=weight(dtype, 64, 64), name="outer")
    first = mb.slice_by_index(x=x, begin=[0, 0], end=[1, 1])
    small = mb.less(x=mb.squeeze(x=first), y=dtype(0.5))

    def yes():
        inner = mb.const(val=weight(dtype, 64, 64), name="inner_yes")
        return mb.linear(x=mb.linear(x=x, weight=inner, name="yes_1"), weight=outer, name="yes_2")

    def no():
        inner = mb.const(val=weight(dtype, 64, 64), name="inner_no")
        return mb.matmul(x=x, y=inner, name="no_1")

    y = mb.cond(pred=small, _true_fn=yes, _false_fn=no, name="choice")

    def going(i, value):
        return mb.less(x=i, y=np.float32(3) if dtype == np.float32 else np.float16(3))

    def step(i, value):
        def deep():
            return mb.linear(x=value, weight=weight(dtype, 64, 64), name="deep_yes")

        def flat():
            return mb.linear(x=value, weight=outer, name="deep_no")

        return mb.add(x=i, y=dtype(1)), mb.cond(pred=small, _true_fn=deep, _false_fn=flat, name="inner_choice")

    start = mb.squeeze(x=first)
    y = mb.while_loop(_cond=going, _body=step, loop_vars=(start, y), name="loop")
    return mb.linear(x=y[1], weight=weight(dtype, 64, 64), name="last")


def stateful(dtype, x, y):
    old = mb.read_state(input=y)
    z = mb.add(x=old, y=mb.linear(x=x, weight=weight(dtype, 64, 64), name="into"))
    mb.coreml_update_state(state=y, value=z)
    return mb.linear(x=z, weight=weight(dtype, 40, 64), name="out")


def odd(dtype, x):
    x = mb.linear(x=x, weight=weight(dtype, 33, 65), name="odd")
    zeros = weight(dtype, 48, 64)
    zeros[5] = 0
    zeros[7] = dtype(0.5)
    zeros[9] = -dtype(0.25)
    x = mb.linear(x=x, weight=weight(dtype, 64, 33).copy(), name="even")
    x = mb.linear(x=x, weight=zeros, name="zeros")
    x = mb.add(x=x, y=weight(dtype, 48), name="vector")
    ints = mb.const(val=rng.integers(0, 47, (50, 60)).astype(np.int32), name="ints")
    return mb.gather(x=mb.transpose(x=x, perm=[1, 0]), indices=ints, axis=0, name="pick")


def integers(dtype, x):
    table = mb.const(val=rng.integers(0, 100, (64, 64)).astype(np.int8), name="table")
    indices = mb.cast(x=mb.reduce_argmax(x=x, axis=-1, keep_dims=False), dtype="int32")
    rows = mb.cast(x=mb.gather(x=table, indices=indices, axis=0), dtype="fp16")
    return mb.linear(x=rows, weight=weight(dtype, 48, 64), name="head")


def twin(seed):
    """Two of these share all weights but the last."""
    def build(dtype, x):
        global rng
        rng = np.random.default_rng(1)
        x = mb.linear(x=x, weight=weight(dtype, 128, 48), bias=weight(dtype, 128), name="first")
        x = mb.linear(x=x, weight=weight(dtype, 128, 128), name="second")
        rng = np.random.default_rng(seed)
        return mb.linear(x=x, weight=weight(dtype, 32, 128), name="last")
    return build


def compressed(model):
    """Palettized, pruned and quantized weights, and one that is still float."""
    coreml = cto.coreml
    def config(op_config, name):
        return coreml.OptimizationConfig(op_name_configs={name: op_config})
    model = coreml.palettize_weights(model, config(coreml.OpPalettizerConfig(nbits=4, mode="uniform"), "first"))
    model = coreml.prune_weights(model, config(coreml.OpMagnitudePrunerConfig(target_sparsity=0.6), "second"))
    return coreml.linear_quantize_weights(model, config(coreml.OpLinearQuantizerConfig(), "third"))


def several(dtype, x):
    x = mb.linear(x=x, weight=weight(dtype, 96, 48), name="first")
    x = mb.linear(x=x, weight=weight(dtype, 64, 96), name="second")
    x = mb.linear(x=x, weight=weight(dtype, 64, 64), name="third")
    return mb.linear(x=x, weight=weight(dtype, 40, 64), name="fourth")


FIXTURES = {
    "linear_16_f16": (IOS16, np.float16, linear, (4, 48)),
    "linear_17_f32": (IOS17, np.float32, linear, (4, 48)),
    "linear_18_f16": (IOS18, np.float16, linear, (4, 48)),
    "linear_15_f16": (IOS15, np.float16, linear, (4, 48)),
    "conv_17_f16": (IOS17, np.float16, conv, (1, 16, 8, 8)),
    "conv_18_f16": (IOS18, np.float16, conv, (1, 16, 8, 8)),
    "matmul_16_f16": (IOS16, np.float16, matmul, (2, 16, 48)),
    "matmul_18_f32": (IOS18, np.float32, matmul, (2, 16, 48)),
    "gather_18_f16": (IOS18, np.float16, gather, (3, 100)),
    "shared_16_f16": (IOS16, np.float16, shared, (4, 64)),
    "shared_18_f16": (IOS18, np.float16, shared, (4, 64)),
    "control_17_f16": (IOS17, np.float16, control, (4, 64)),
    "control_18_f16": (IOS18, np.float16, control, (4, 64)),
    "stateful_18_f16": (IOS18, np.float16, stateful, (4, 64), (4, 64)),
    "odd_18_f32": (IOS18, np.float32, odd, (4, 65)),
    "odd_18_f16": (IOS18, np.float16, odd, (4, 65)),
    "integers_18_f16": (IOS18, np.float16, integers, (4, 64)),
    "compressed_16_f16": (IOS16, np.float16, several, (4, 48)),
    "compressed_18_f16": (IOS18, np.float16, several, (4, 48)),
    "functions_18_f16": (IOS18, np.float16, None, (4, 48)),
}


def only(**options):
    return {"config_type": "OpLinearQuantizerConfig", "global_config": options}


CONFIGURATIONS = {
    "int8": only(),
    "int8_linear": only(mode="linear", dtype="int8"),
    "uint8": only(mode="linear_symmetric", dtype="uint8"),
    "uint8_linear": only(mode="LINEAR", dtype="uint8"),
    "int8_tensor": only(granularity="per_tensor"),
    "uint8_linear_tensor": only(mode="linear", dtype="uint8", granularity="per_tensor"),
    "int4": only(dtype="int4"),
    "uint4_linear": only(mode="linear", dtype="uint4"),
    "uint4_tensor": only(dtype="uint4", granularity="per_tensor"),
    "int4_blocks": only(dtype="int4", granularity="per_block", block_size=16),
    "int4_linear_blocks": only(mode="linear", dtype="int4", granularity="per_block", block_size=32),
    "uint8_blocks": only(dtype="uint8", granularity="per_block", block_size=8),
    "small_too": only(weight_threshold=100),
    "by_type": {
        "config_type": "OpLinearQuantizerConfig",
        "global_config": None,
        "op_type_configs": {"linear": {"mode": "linear", "weight_threshold": 500}, "matmul": {"dtype": "uint8"}},
    },
    "by_name": {
        "config_type": "OpLinearQuantizerConfig",
        "global_config": {"dtype": "uint8"},
        "op_type_configs": {"conv": None, "gather": {"mode": "linear"}},
        "op_name_configs": {
            "second": None,
            "y_turned": {"granularity": "per_tensor"},
            "embedding.weight": {"granularity": "per_tensor", "mode": "linear"},
            "inner_yes": {"mode": "linear"},
        },
    },
}


def blobs(path):
    """Offset of each record -> type and data."""
    content = path.read_bytes()
    count, version = struct.unpack_from("<II", content)
    assert version == 2, version
    found, at = {}, 64
    for _ in range(count):
        magic, kind, size, start, padding = struct.unpack_from("<IIQQQ", content, at)
        assert magic == 0xDEADBEEF and start == at + 64, (magic, at)
        found[at] = f"{kind}/{padding}/{hashlib.sha256(content[start:start + size]).hexdigest()[:16]}"
        at = (start + size + 63) // 64 * 64
    return found


def type_text(value):
    kind = value.WhichOneof("type")
    if kind == "tensorType":
        dims = []
        for dim in value.tensorType.dimensions:
            dims.append(str(dim.constant.size) if dim.WhichOneof("dimension") == "constant" else "?")
        return f"{value.tensorType.dataType}[{','.join(dims)}]"
    if kind == "stateType":
        return f"state {type_text(value.stateType.wrappedType)}"
    return str(kind)


def value_text(value, records):
    kind = value.WhichOneof("value")
    if kind == "blobFileValue":
        blob = value.blobFileValue
        return f"{type_text(value.type)}@{records(blob.fileName)[blob.offset]}"
    tensor = value.immediateValue.tensor
    kind = tensor.WhichOneof("value")
    if kind is None:
        return f"{type_text(value.type)}=?"
    held = getattr(tensor, kind).values
    if kind == "bytes":
        text = bytes(held).hex()
    elif kind == "strings":
        text = ",".join(held)
    elif kind == "floats":
        text = struct.pack(f"<{len(held)}f", *held).hex()
    elif kind == "bools":
        text = ",".join("true" if item else "false" for item in held)
    else:
        text = ",".join(map(str, held))
    return f"{type_text(value.type)}={kind}:{text}"


def lines_of(block, records, depth, lines):
    indent = "  " * depth
    for op in block.operations:
        parts = [f"{indent}{op.type}"]
        for name in sorted(op.inputs):
            bound = []
            for binding in op.inputs[name].arguments:
                if binding.WhichOneof("binding") == "name":
                    bound.append(binding.name)
                else:
                    bound.append(value_text(binding.value, records))
            parts.append(f"{name}({' '.join(bound)})")
        for name in sorted(op.attributes):
            parts.append(f"{name}<{value_text(op.attributes[name], records)}>")
        parts.append("->")
        for output in op.outputs:
            parts.append(f"{output.name}:{type_text(output.type)}")
        lines.append(" ".join(parts))
        for inner in op.blocks:
            inputs = " ".join(f"{one.name}:{type_text(one.type)}" for one in inner.inputs)
            lines.append(f"{indent} block {inputs}")
            lines_of(inner, records, depth + 1, lines)
            lines.append(f"{indent} gives {' '.join(inner.outputs)}")


def describe(package):
    """One line per operation of every function, of every model of a pipeline."""
    model = ct.proto.Model_pb2.Model()
    model.ParseFromString((package / MODEL).read_bytes())
    files = {}

    def records(name):
        if name not in files:
            files[name] = blobs(package / MODEL.replace("model.mlmodel", name.removeprefix("@model_path/")))
        return files[name]
    return describe_model(model, records)


def describe_model(model, records):
    lines = [f"version {model.specificationVersion}"]
    kind = model.WhichOneof("Type")
    if kind.startswith("pipeline"):
        pipeline = model.pipeline if kind == "pipeline" else getattr(model, kind).pipeline
        for index, inner in enumerate(pipeline.models):
            lines += [f"model {index}", *describe_model(inner, records)]
        return lines
    if kind != "mlProgram":
        return lines + ["another kind"]
    for name in sorted(model.mlProgram.functions):
        function = model.mlProgram.functions[name]
        inputs = " ".join(f"{one.name}:{type_text(one.type)}" for one in function.inputs)
        lines.append(f"function {name} {function.opset} {inputs}")
        for opset in sorted(function.block_specializations):
            block = function.block_specializations[opset]
            lines.append(f"specialization {opset}")
            lines_of(block, records, 0, lines)
            lines.append(f"gives {' '.join(block.outputs)}")
    return lines


def digest(path):
    return hashlib.sha256(path.read_bytes()).hexdigest()


def saved_again(model):
    """What coremltools makes of a model that it loads and saves: its passes find more to do."""
    return ct.models.utils._apply_graph_pass(model, [])


def save(model, path):
    shutil.rmtree(path, ignore_errors=True)
    model.save(str(path))


def result(package):
    return {"weights": digest(package / WEIGHTS), "operations": describe(package)}


def two_functions(source, target, dtype, shapes, kept):
    """coremltools refuses to quantize a model of several functions; it is shown each alone."""
    parts, described = ct.utils.MultiFunctionDescriptor(), {}
    for name, seed in (("one", 5), ("two", 6)):
        alone = kept / f"{name}.mlpackage"
        save(program(target, dtype, twin(seed), *shapes), alone)
        parts.add_function(str(alone), "main", name)
        model = ct.models.MLModel(str(alone), skip_model_load=True)
        config = cto.coreml.OptimizationConfig.from_dict(json.loads(json.dumps(CONFIGURATIONS["int8"])))
        save(cto.coreml.linear_quantize_weights(model, config), kept / f"{name}.int8.mlpackage")
        described[name] = describe(kept / f"{name}.int8.mlpackage")[3:]
    parts.default_function_name = "one"
    shutil.rmtree(source, ignore_errors=True)
    ct.utils.save_multifunction(parts, str(source))
    return {"functions": described}


def write(expected, path):
    """Writes expectations; most lines stand in many places, and so as numbers."""
    lines, places = [], {}

    def number(line):
        if line not in places:
            places[line] = len(lines)
            lines.append(line)
        return places[line]

    def numbered(node):
        if isinstance(node, dict):
            return {key: numbered(value) for key, value in node.items()}
        return [number(line) for line in node] if isinstance(node, list) else node

    expected["packages"] = numbered(expected["packages"])
    expected["lines"] = lines
    text = json.dumps(expected, sort_keys=True, separators=(",", ":"))
    path.write_text(text.replace('","', '",\n"') + "\n")


def main():
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--keep", type=Path, help="keep what coremltools wrote in this folder")
    options = options.parse_args()
    kept = options.keep or Path(tempfile.mkdtemp())
    kept.mkdir(parents=True, exist_ok=True)
    packages = HERE / "packages"
    packages.mkdir(exist_ok=True)
    expected = {"configurations": CONFIGURATIONS, "packages": {}}
    for name, (target, dtype, build, *shapes) in FIXTURES.items():
        states = shapes[1:] if build is stateful else []
        shapes = shapes[:1] if build is stateful else shapes
        source = packages / f"{name}.mlpackage"
        if build is None:
            expected["packages"][name] = two_functions(source, target, dtype, shapes, kept)
            continue
        model = program(target, dtype, build, *shapes, states=states)
        if build is several:
            model = compressed(model)
        save(model if target == IOS15 else saved_again(model), source)
        # Some of coremltools' passes find more to do whenever it saves.
        again = kept / f"{name}.again.mlpackage"
        save(saved_again(ct.models.MLModel(str(source), skip_model_load=True)), again)
        kinds = [[line.split()[0] for line in describe(path)] for path in (source, again)]
        cases = {"stable": kinds[0] == kinds[1]}
        for key, configuration in CONFIGURATIONS.items():
            configuration = json.loads(json.dumps(configuration))
            configuration = cto.coreml.OptimizationConfig.from_dict(configuration)
            model = ct.models.MLModel(str(source), skip_model_load=True)
            try:
                model = cto.coreml.linear_quantize_weights(model, configuration)
            except ValueError as error:
                cases[key] = {"error": str(error).split(".")[0]}
                print(f"{name} {key}: {cases[key]['error']}")
                continue
            out = kept / f"{name}.{key}.mlpackage"
            save(model, out)
            cases[key] = result(out)
            if key in ("int8", "int4_linear_blocks", "uint8_linear") and build is not several:
                floats = cto.coreml.decompress_weights(model)
                save(floats, kept / f"{name}.{key}.float.mlpackage")
                cases[key]["decompressed"] = result(kept / f"{name}.{key}.float.mlpackage")
        expected["packages"][name] = cases
    write(expected, HERE / "expected.json")
    if not options.keep:
        shutil.rmtree(kept)


if __name__ == "__main__":
    sys.exit(main())
