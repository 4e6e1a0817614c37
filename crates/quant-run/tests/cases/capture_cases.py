"""A pytest plugin that turns coremltools' own operator and converter tests into cases, on Linux.

These tests hand a converted package, its inputs and the expected outputs to a comparison that does
nothing off macOS. The plugin takes the comparison's place and writes each case as NAME.mlpackage and
NAME.io (in_X.npy, out_X.npy, meta.json). In an environment with coremltools 9.0, pytest, numpy,
pillow, torch and scipy:

    export CASES=cases EVERY=40 PYTHONPATH=.
    T=$(python -c 'import coremltools, os; print(os.path.dirname(coremltools.__file__))')/converters/mil
    pytest -q -p no:cacheprovider -p capture_cases "$T/mil/ops/tests"
    pytest -q -p no:cacheprovider -p capture_cases "$T/frontend/torch/test/test_torch_ops.py"

EVERY keeps one test in so many, from number FIRST on. `cargo xtask cases` does all this and runs the
cases; `choose.py` makes the archive of small ones that the tests run.
"""

import hashlib
import json
import os
import shutil

import numpy as np

CASES = os.environ.get("CASES", "cases")
current = {"id": "", "count": 0}


def as_array(value):
    value = np.asarray(value.detach().numpy() if hasattr(value, "detach") else value)
    kinds = {"f": np.float32, "b": np.int32, "i": np.int32, "u": np.int32}
    wanted = kinds.get(value.dtype.kind)
    return None if wanted is None else np.ascontiguousarray(value.astype(wanted))


def save(model, inputs, expected, **options):
    package = getattr(model, "package_path", None)
    if inputs is None or expected is None or not package or not os.path.isdir(package):
        return
    file, *names = current["id"].split("::")
    name = f"{os.path.basename(file)[:-3]}.{'.'.join(name.split('[')[0] for name in names)}"
    digest = hashlib.md5(current["id"].encode()).hexdigest()[:8]
    path = f"{CASES}/{name}.{digest}_{current['count']}"
    current["count"] += 1
    shutil.copytree(package, path + ".mlpackage", dirs_exist_ok=True)
    os.makedirs(path + ".io", exist_ok=True)
    if not isinstance(expected, dict):
        outputs = [output.name for output in model.get_spec().description.output]
        expected = dict(zip(outputs, expected))
    for prefix, values in (("in", inputs), ("out", expected)):
        for name, value in values.items():
            array = as_array(value)
            if array is not None:
                np.save(f"{path}.io/{prefix}_{name}.npy", array)
    with open(path + ".io/meta.json", "w") as out:
        json.dump({"id": current["id"]}, out)


def pytest_configure(config):
    os.makedirs(CASES, exist_ok=True)
    import coremltools.converters.mil.mil.ops.tests.testing_utils as op_tests
    import coremltools.converters.mil.testing_utils as common

    def compare(mlmodel, input_key_values, expected_outputs, *_, **options):
        save(mlmodel, input_key_values, expected_outputs, **options)

    common.compare_backend = op_tests.compare_backend = compare
    try:
        import torch
        import coremltools.converters.mil.frontend.torch.test.testing_utils as torch_tests
    except ImportError:
        return
    convert = torch_tests.convert_and_compare

    def convert_and_save(input_data, model_spec, expected_results=None, *rest, **options):
        results = expected_results
        if results is None:
            model = torch.jit.load(model_spec) if isinstance(model_spec, str) else model_spec
            if hasattr(model, "module") and not isinstance(model, torch.nn.Module):
                model = model.module()
            given = input_data if isinstance(input_data, (list, tuple)) else [input_data]
            results = model(*torch_tests._copy_input_data(given))
        flat = torch_tests.flatten_and_detach_torch_results(results)
        flat = [np.asarray(value) for value in flat]
        done = convert(input_data, model_spec, expected_results, *rest, **options)
        if done[1] is not None:
            save(done[1], done[2], flat)
        return done

    torch_tests.convert_and_compare = convert_and_save


def pytest_runtest_setup(item):
    current.update(id=item.nodeid.split("/tests/")[-1], count=0)


def pytest_collection_modifyitems(config, items):
    programs = [item for item in items if "neuralnetwork" not in item.name]
    first, every = (int(os.environ.get(name, "0")) for name in ("FIRST", "EVERY"))
    items[:] = programs[first :: every or 1]
