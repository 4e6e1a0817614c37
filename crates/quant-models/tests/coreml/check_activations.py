"""Compares what `quant` makes of activations with what coremltools 9.0 makes of them: of the fixtures,
and of programs put together at random. check.py runs it."""

import contextlib
import io
import json
import random
import subprocess
import tempfile
from pathlib import Path

import coremltools as ct
import coremltools.optimize as cto
import numpy as np
from coremltools.converters.mil import Builder as mb
from coremltools.converters.mil.converter import _reset_conversion_state
from make_activations import CONFIGURATIONS, PACKAGES, WEIGHTS_TOO, document, one_by_one, parsed
from make_activations import quantize_activations, ranges_of, skip_what_has_no_range
from make_fixtures import HERE, IOS17, IOS18, WEIGHTS, describe, program, save, saved_again, weight

RANDOM = 40


def different(ours, theirs):
    if (ours / WEIGHTS).read_bytes() != (theirs / WEIGHTS).read_bytes():
        return "weight.bin differs"
    left, right = describe(ours), describe(theirs)
    if left == right:
        return None
    first = next(((a, b) for a, b in zip(left, right) if a != b), (len(left), len(right)))
    return f"operations differ: {first}"


def check(quant, source, ranges, configuration, folder):
    """Whether both refuse, and what is wrong, or None."""
    ours, both, theirs = (folder / f"{name}.mlpackage" for name in ("ours", "both", "theirs"))
    file, config = folder / "ranges.json", folder / "configuration.json"
    file.write_text(json.dumps(document(ranges)))
    config.write_text(json.dumps(configuration))
    options = ["--ranges", file, "--quiet"]
    command = [quant, "activations", source, "-o", ours, "--config", config, *options]
    ran = subprocess.run(command, capture_output=True, text=True)
    model = ct.models.MLModel(str(source), skip_model_load=True)
    try:
        with contextlib.redirect_stderr(io.StringIO()):
            model = quantize_activations(model, ranges, configuration)
    except (ValueError, KeyError):
        _reset_conversion_state()
        return True, None if ran.returncode == 0 else f"quant: {ran.stderr}"
    if ran.returncode != 0:
        # Where a zero point overflows f16, coremltools stores one that is wrong.
        return True, None if "zero point overflows" in ran.stderr else f"quant: {ran.stderr}"
    save(model, theirs)
    if problem := different(ours, theirs):
        return False, problem
    # coremltools reads it.
    saved_again(ct.models.MLModel(str(ours), skip_model_load=True))
    if configuration != CONFIGURATIONS["int8"]:
        return False, None
    command = [quant, "quantize", source, "-o", both, "--min-elements", "100", *options]
    subprocess.run(command, check=True)
    save(cto.coreml.linear_quantize_weights(model, parsed(WEIGHTS_TOO)), theirs)
    problem = different(both, theirs)
    return False, problem and f"with weights: {problem}"


def random_program(seed):
    """Operations that are quantized, and others, of whatever has been computed before."""
    rng = random.Random(seed)

    def build(dtype, x):
        pool = [x, one_by_one(dtype, x, 4, name="first")]
        window = {"kernel_sizes": [3, 3], "strides": [1, 1], "pad_type": "same"}
        for count in range(rng.randint(4, 14)):
            x = rng.choice(pool[-4:])
            channels, same = x.shape[1], [other for other in pool if other.shape == x.shape]
            like = [other for other in pool if other.shape[2:] == x.shape[2:]]
            kind = rng.choice(KINDS)
            name = f"{kind}_{count}"
            if kind == "conv":
                x = one_by_one(dtype, x, 4, bias=weight(dtype, 4), name=name)
            elif kind in ("relu", "relu6", "sigmoid", "tanh", "silu"):
                x = getattr(mb, kind)(x=x, name=name)
            elif kind == "leaky_relu":
                x = mb.leaky_relu(x=x, alpha=dtype(0.1), name=name)
            elif kind in ("add", "sub"):
                x = getattr(mb, kind)(x=x, y=rng.choice(same), name=name)
            elif kind == "shift":
                x = mb.add(x=x, y=weight(dtype, 1, channels, 1, 1), name=name)
            elif kind in ("avg_pool", "max_pool"):
                x = getattr(mb, kind)(x=x, **window, name=name)
            elif kind == "concat":
                x = mb.concat(values=[x, rng.choice(like)], axis=1, name=name)
            elif kind == "transpose":
                x = mb.abs(x=mb.transpose(x=x, perm=[0, 1, 3, 2], name=name), name=f"{name}_abs")
            elif kind == "softmax":
                x = mb.softmax(x=x, axis=1, name=name)
            elif kind == "reshape":
                flat = mb.reshape(x=x, shape=[1, -1, 4], name=name)
                pool.append(flat) if rng.random() < 0.3 else None
                x = mb.reshape(x=flat, shape=list(x.shape), name=f"{name}_back")
            pool = [one for one in pool if len(one.shape) == 4] + [x]
        outputs = [one for one in pool[1:] if not one.child_ops] or [pool[-1]]
        return tuple(mb.exp(x=one, name=f"out_{count}") for count, one in enumerate(outputs))

    return program(rng.choice([IOS17, IOS18]), np.float16, build, (1, 4, 8, 8))


KINDS = ["conv", "conv", "relu", "relu", "relu6", "sigmoid", "tanh", "silu", "leaky_relu", "add", "add", "sub",
         "shift", "avg_pool", "max_pool", "concat", "transpose", "softmax", "reshape"]


def check_random(quant, seed, folder):
    source, again = folder / "source.mlpackage", folder / "again.mlpackage"
    save(saved_again(saved_again(random_program(seed))), source)
    save(saved_again(ct.models.MLModel(str(source), skip_model_load=True)), again)
    if describe(source) != describe(again):
        return True, None  # coremltools finds more to do whenever it saves.
    configuration = list(CONFIGURATIONS.values())[seed % 4]
    return check(quant, source, ranges_of(source, seed), configuration, folder)


def main(quant, only):
    """The number of what is wrong."""
    skip_what_has_no_range()
    ranges = json.loads((HERE / "expected_activations.json").read_text())["ranges"]
    equal = refused = wrong = 0

    def count(name, found):
        nonlocal equal, refused, wrong
        apart, problem = found
        if problem:
            wrong += 1
            print(f"{name}: {problem}", flush=True)
        elif apart:
            refused += 1
        else:
            equal += 1

    for source in sorted(PACKAGES.glob("*.mlpackage")):
        if only not in source.name:
            continue
        given = ranges[source.stem]["activations"]
        given = {name: (range["min"], range["max"]) for name, range in given.items()}
        for name, configuration in CONFIGURATIONS.items():
            with tempfile.TemporaryDirectory() as folder:
                found = check(quant, source, given, configuration, Path(folder))
            count(f"{source.stem} {name}", found)
    for seed in range(RANDOM if not only else 0):
        with tempfile.TemporaryDirectory() as folder:
            count(f"random program {seed}", check_random(quant, seed, Path(folder)))
    print(f"activations: {equal} of {equal + wrong} equal; {refused} that coremltools cannot do, or does wrong")
    return wrong
