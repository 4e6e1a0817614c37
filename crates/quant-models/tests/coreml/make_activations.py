"""Builds small Core ML packages, and writes down what coremltools 9.0 makes of their activations.

    venv/bin/python crates/quant-models/tests/coreml/make_activations.py

writes `activations/NAME.mlpackage` and `expected_activations.json` beside this file: for each package
its ranges; and for each configuration one line per operation after `linear_quantize_activations`, and
after `linear_quantize_weights` of the result.

A model runs on macOS only. So the statistics that running it would have collected are put in their
place; everything else is done by coremltools.
"""

import json
import random
import sys
import tempfile
from pathlib import Path

import coremltools as ct
import coremltools.optimize as cto
import numpy as np
from coremltools.converters.mil import Builder as mb
from coremltools.converters.mil.mil.passes.defs import optimize_activation_quantization as suffix
from coremltools.optimize.coreml import _quantization_passes as prefix
from coremltools.optimize.coreml.experimental._model_debugger import ModelDebugger
from make_fixtures import HERE, IOS17, IOS18, describe, program, result, save, saved_again, weight, write

PACKAGES = HERE / "activations"
WEIGHTS_TOO = {"config_type": "OpLinearQuantizerConfig", "global_config": {"weight_threshold": 100}}


def one_by_one(dtype, x, channels, **more):
    return mb.conv(x=x, weight=weight(dtype, channels, x.shape[1], 1, 1), pad_type="same", **more)


def conv(dtype, x):
    """Alone, with each activation, with one that is no activation, and as a result."""
    x = mb.conv(x=x, weight=weight(dtype, 8, 4, 3, 3), bias=weight(dtype, 8), pad_type="same", name="plain")
    x = mb.softmax(x=x, axis=1, name="not_an_activation")
    for kind in ("relu", "relu6", "sigmoid", "tanh"):
        x = getattr(mb, kind)(x=one_by_one(dtype, x, 8, name=f"before_{kind}"), name=f"after_{kind}")
        x = mb.exp(x=x, name=f"{kind}_consumer")
    x = mb.leaky_relu(x=one_by_one(dtype, x, 8, name="before_leaky"), alpha=dtype(0.1), name="after_leaky")
    x = mb.sigmoid_hard(x=one_by_one(dtype, x, 8, name="next"), alpha=dtype(0.2), beta=dtype(0.5), name="after_hard")
    x = mb.gelu(x=one_by_one(dtype, mb.exp(x=x, name="e"), 8, name="before_gelu"), name="after_gelu")
    return mb.relu(x=one_by_one(dtype, x, 4, name="last"), name="out")


def linear(dtype, x):
    x = mb.linear(x=x, weight=weight(dtype, 24, 16), bias=weight(dtype, 24), name="first")
    return mb.linear(x=x, weight=weight(dtype, 8, 24), name="second")


def linear_relu(dtype, x):
    x = mb.relu(x=mb.linear(x=x, weight=weight(dtype, 24, 16), bias=weight(dtype, 24), name="first"), name="relu_0")
    x = mb.layer_norm(x=x, axes=[-1], name="norm")
    return mb.square(x=mb.linear(x=x, weight=weight(dtype, 8, 24), name="second"), name="out")


def pools(dtype, x):
    window = {"kernel_sizes": [3, 3], "strides": [1, 1], "pad_type": "same"}
    x = mb.avg_pool(x=one_by_one(dtype, x, 8, name="c"), **window, name="average")
    x = mb.max_pool(x=x, **window, name="largest")
    x = mb.relu(x=mb.avg_pool(x=x, **window, name="again"), name="relu_0")
    return mb.exp(x=mb.max_pool(x=x, **window, name="and_again"), name="out")


def add(dtype, x):
    """Two variables, one twice, with a constant, with an activation; with another sum."""
    a, b = one_by_one(dtype, x, 8, name="a"), one_by_one(dtype, x, 8, name="b")
    s = mb.add(x=a, y=b, name="sum")
    t = mb.relu(x=mb.add(x=s, y=s, name="twice"), name="relu_0")
    t = mb.add(x=t, y=weight(dtype, 1, 8, 1, 1), name="shifted")
    u = mb.add(x=mb.add(x=t, y=a, name="three"), y=b, name="four")
    v = mb.sub(x=one_by_one(dtype, u, 8, name="c"), y=u, name="difference")
    return mb.exp(x=one_by_one(dtype, v, 8, name="d"), name="out")


def concat(dtype, x):
    a = mb.relu(x=one_by_one(dtype, x, 8, name="a"), name="relu_a")
    b, c = one_by_one(dtype, x, 4, name="b"), one_by_one(dtype, a, 4, name="c")
    first = mb.concat(values=[a, b], axis=1, name="first")
    second = mb.concat(values=[mb.exp(x=first, name="e"), c, b], axis=1, name="second")
    x = mb.sigmoid(x=one_by_one(dtype, second, 8, name="d"), name="sigmoid_0")
    return mb.concat(values=[x, mb.exp(x=a, name="f")], axis=1, name="out")


def consumers(dtype, x):
    """Several of one variable: of equal pairs one is enough, and some cancel."""
    x = mb.relu(x=one_by_one(dtype, x, 8, name="stem"), name="relu_0")
    a, b = one_by_one(dtype, x, 8, name="a"), one_by_one(dtype, x, 8, name="b")
    c = mb.max_pool(x=x, kernel_sizes=[3, 3], strides=[1, 1], pad_type="same", name="c")
    d = mb.exp(x=x, name="d")
    e = mb.add(x=mb.add(x=a, y=b, name="ab"), y=mb.mul(x=c, y=d, name="cd"), name="e")
    e = mb.relu6(x=e, name="relu_1")
    e = mb.reshape(x=e, shape=[1, -1], name="flat")
    return mb.linear(x=e, weight=weight(dtype, 8, 512), name="head"), mb.tanh(x=a, name="other")


def moved(dtype, x):
    """Casts and transposes stand right before what takes them."""
    x = mb.cast(x=mb.transpose(x=x, perm=[0, 2, 3, 1], name="in_order"), dtype="fp16", name="halves")
    x = mb.transpose(x=mb.abs(x=x, name="positive"), perm=[0, 3, 1, 2], name="back")
    y = mb.relu(x=one_by_one(np.float16, x, 8, name="a"), name="relu_0")
    y = mb.transpose(x=y, perm=[0, 1, 3, 2], name="turned")
    y = mb.conv(x=mb.exp(x=y, name="e"), weight=weight(np.float16, 8, 8, 3, 3), pad_type="same", name="b")
    return mb.cast(x=mb.square(x=y, name="squares"), dtype="fp32", name="out")


def nested(dtype, x):
    x = one_by_one(dtype, x, 4, name="before")
    small = mb.less(x=mb.reduce_sum(x=x, axes=[0, 1, 2, 3], keep_dims=False), y=dtype(0.5))

    def yes():
        return mb.exp(x=mb.relu(x=one_by_one(dtype, x, 4, name="inner"), name="relu_0"), name="inner_out")

    def no():
        return mb.avg_pool(x=x, kernel_sizes=[3, 3], strides=[1, 1], pad_type="same", name="pool")

    x = mb.cond(pred=small, _true_fn=yes, _false_fn=no, name="choice")
    return mb.exp(x=one_by_one(dtype, x, 4, name="after"), name="out")


IMAGE, ROWS = (1, 4, 8, 8), (4, 16)
FIXTURES = {
    "conv_17_f16": (IOS17, np.float16, conv, IMAGE),
    "conv_18_f16": (IOS18, np.float16, conv, IMAGE),
    "linear_17_f32": (IOS17, np.float32, linear, ROWS),
    "linear_18_f16": (IOS18, np.float16, linear_relu, ROWS),
    "pools_18_f16": (IOS18, np.float16, pools, IMAGE),
    "add_17_f16": (IOS17, np.float16, add, IMAGE),
    "add_18_f16": (IOS18, np.float16, add, IMAGE),
    "concat_18_f16": (IOS18, np.float16, concat, IMAGE),
    "consumers_17_f16": (IOS17, np.float16, consumers, IMAGE),
    "consumers_18_f16": (IOS18, np.float16, consumers, IMAGE),
    "moved_17_f32": (IOS17, np.float32, moved, IMAGE),
    "nested_18_f16": (IOS18, np.float16, nested, IMAGE),
    # Without a range for some; their weights are quantized already; a range of zeros.
    "partial_18_f16": (IOS18, np.float16, consumers, IMAGE),
    "quantized_17_f16": (IOS17, np.float16, add, IMAGE),
    "quantized_18_f16": (IOS18, np.float16, consumers, IMAGE),
    "zeros_18_f16": (IOS18, np.float16, linear, ROWS),
}
WITHOUT = {"partial_18_f16": ["relu_0", "ab", "head"]}
ZEROS = {"zeros_18_f16": ["x", "first"]}


def only(**options):
    return {"config_type": "OpLinearQuantizerConfig", "global_config": options}


CONFIGURATIONS = {
    "int8": only(),
    "int8_linear": only(mode="linear"),
    "uint8": only(dtype="uint8"),
    "uint8_linear": only(dtype="uint8", mode="linear"),
    "mixed": {
        "config_type": "OpLinearQuantizerConfig",
        "global_config": {"mode": "linear"},
        "op_type_configs": {"max_pool": None, "linear": {"mode": "linear"}, "avg_pool": {"dtype": "uint8"}},
        "op_name_configs": {"a": None, "b": {"mode": "linear_symmetric"}, "before_relu": None},
    },
}


def parsed(configuration):
    return cto.coreml.OptimizationConfig.from_dict(json.loads(json.dumps(configuration)))


def variables(package):
    """Kind, name and first input of what is no constant, in order."""
    for line in describe(package):
        words = line.strip()
        if " -> " in words and words.split()[0] != "const" and not words.startswith("constexpr"):
            taken = words.split(" x(")[1].split(")")[0] if " x(" in words else None
            for output in words.split(" -> ")[1].split():
                yield words.split()[0], output.split(":")[0], taken


def ranges_of(package, seed, without=(), zeros=()):
    """A range for each variable; a reshape does not change it."""
    rng = random.Random(seed)
    ranges = {"x": (-2.0, 1.0)}
    for kind, name, taken in variables(package):
        low = 0.0 if "relu" in kind or kind in ("exp", "sigmoid") else rng.choice([-1.0, -2.5, -6 * rng.random()])
        ranges[name] = (low, rng.choice([1.0, 0.5, 6 * rng.random(), 300 * rng.random()]))
        if kind == "reshape":
            ranges[name] = ranges[taken]
    ranges = {name: tuple(float(np.float32(bound)) for bound in pair) for name, pair in ranges.items()}
    for name in zeros:
        ranges[name] = (0.0, 0.0)
    return {name: pair for name, pair in ranges.items() if name not in without}


def document(ranges):
    activations = {name: {"min": low, "max": high} for name, (low, high) in ranges.items()}
    return {"version": 1, "activations": activations}


def skip_what_has_no_range():
    """coremltools fails where a statistic is missing; here it goes on with the next operation."""
    transform, apply = prefix.insert_prefix_quantize_dequantize_pair, suffix.insert_suffix_quantize_dequantize_pair
    old_transform, old_apply = transform.transform_op, apply._try_apply_transform

    def transform_op(self, op):
        needed = [op.inputs[key] for key in ("x", "y") if key in op.inputs and op.op_type in self.SUPPORTED_OP_TYPES]
        missing = lambda var: "rmin" not in self._activation_stats[var.name]
        if not any(missing(var) for var in needed if var.op is None or var.op.op_type != "const"):
            old_transform(self, op)

    def apply_transform(self, last_op, child, block, visited, config):
        if "rmin" not in self._activation_stats[last_op.outputs[0].name]:
            return False
        return old_apply(self, last_op, child, block, visited, config)

    transform.transform_op, apply._try_apply_transform = transform_op, apply_transform


def quantize_activations(model, ranges, configuration):
    """What coremltools makes of a model, as if running it had given these ranges."""
    def step(self, inputs, activation_stats_dict, intermediate_output_names=None, **_):
        for name in intermediate_output_names:
            if name in ranges:
                low, high = map(np.float32, ranges[name])
                activation_stats_dict[name].update(rmin=low, rmax=high)

    ModelDebugger.step = step
    inputs = [one.name for one in model.get_spec().description.input]
    sample = {name: np.array(ranges[name], np.float32) for name in inputs if name in ranges}
    return cto.coreml.linear_quantize_activations(model, parsed(configuration), [sample])


def source(name):
    """A package as coremltools leaves it: its passes find nothing more to do."""
    target, dtype, build, shape = FIXTURES[name]
    model = saved_again(saved_again(program(target, dtype, build, shape)))
    if name.startswith("quantized"):
        model = cto.coreml.linear_quantize_weights(model, parsed(WEIGHTS_TOO))
    return model


def main():
    skip_what_has_no_range()
    PACKAGES.mkdir(exist_ok=True)
    kept = Path(tempfile.mkdtemp())
    expected = {"configurations": CONFIGURATIONS, "weights": WEIGHTS_TOO, "ranges": {}, "packages": {}}
    for seed, name in enumerate(FIXTURES):
        package = PACKAGES / f"{name}.mlpackage"
        save(source(name), package)
        save(saved_again(ct.models.MLModel(str(package), skip_model_load=True)), kept / "again.mlpackage")
        assert result(kept / "again.mlpackage") == result(package), name
        ranges = ranges_of(package, seed, WITHOUT.get(name, ()), ZEROS.get(name, ()))
        expected["ranges"][name] = document(ranges)
        cases = expected["packages"][name] = {}
        for key, configuration in CONFIGURATIONS.items():
            model = ct.models.MLModel(str(package), skip_model_load=True)
            try:
                model = quantize_activations(model, ranges, configuration)
            except ValueError as error:
                cases[key] = {"error": str(error).split("\n")[0].split(":")[0]}
                print(f"{name} {key}: {cases[key]['error']}")
                continue
            save(model, kept / "out.mlpackage")
            cases[key] = result(kept / "out.mlpackage")
            if key == "int8":
                save(cto.coreml.linear_quantize_weights(model, parsed(WEIGHTS_TOO)), kept / "both.mlpackage")
                cases[key]["both"] = result(kept / "both.mlpackage")
    write(expected, HERE / "expected_activations.json")


if __name__ == "__main__":
    sys.exit(main())
