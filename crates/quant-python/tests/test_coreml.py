"""Core ML packages beside what coremltools itself makes of them."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import linquant
from linquant import coreml, errors

ct = pytest.importorskip("coremltools")
cto = ct.optimize.coreml


def program(target: Any, rng: np.random.Generator) -> Any:
    from coremltools.converters.mil import Builder as mb

    weight = rng.normal(size=(32, 16, 3, 3)).astype(np.float32)
    matrix = rng.normal(size=(64, 32 * 6 * 6)).astype(np.float32)

    @mb.program(input_specs=[mb.TensorSpec(shape=(1, 16, 8, 8))], opset_version=target)
    def model(x: Any) -> Any:
        x = mb.conv(x=x, weight=weight, name="conv")
        x = mb.relu(x=x, name="relu")
        x = mb.reshape(x=x, shape=(1, -1), name="flat")
        return mb.linear(x=x, weight=matrix, bias=np.zeros(64, np.float32), name="linear")

    return ct.convert(model, convert_to="mlprogram", minimum_deployment_target=target)


@pytest.fixture(scope="module")
def models() -> dict[str, Any]:
    rng = np.random.default_rng(3)
    return {name: program(getattr(ct.target, name), rng) for name in ("iOS16", "iOS17", "iOS18")}


def weights(model: Any, folder: Path, name: str) -> bytes:
    """The weight file of a model."""
    path = folder / f"{name}.mlpackage"
    model.save(str(path))
    return (path / "Data/com.apple.CoreML/weights/weight.bin").read_bytes()


CASES = [
    ("iOS16", {}),
    ("iOS16", {"mode": "linear", "dtype": "uint8"}),
    ("iOS17", {"granularity": "per_tensor"}),
    ("iOS18", {"dtype": "int4"}),
    ("iOS18", {"dtype": "uint4", "granularity": "per_block", "block_size": 16, "mode": "linear"}),
    ("iOS18", {"dtype": "int4", "granularity": "per_block", "block_size": 8}),
    ("iOS18", {"weight_threshold": 10_000}),
]


@pytest.mark.parametrize(("target", "options"), CASES)
def test_weights_are_coremltools(target: str, options: dict[str, Any], models: dict[str, Any], tmp_path: Path) -> None:
    config = cto.OptimizationConfig(global_config=cto.OpLinearQuantizerConfig(**options))
    theirs = cto.linear_quantize_weights(models[target], config)
    ours = coreml.linear_quantize_weights(models[target], config)
    assert isinstance(ours, ct.models.MLModel)
    wanted = weights(theirs, tmp_path, "theirs")
    assert weights(ours, tmp_path, "ours") == wanted
    assert ours.get_spec().specificationVersion == theirs.get_spec().specificationVersion
    with coreml.accelerated():
        faster = cto.linear_quantize_weights(models[target], config)
    assert weights(faster, tmp_path, "faster") == wanted
    # From path to path.
    models[target].save(str(tmp_path / "Model.mlpackage"))
    path = coreml.linear_quantize_weights(tmp_path / "Model.mlpackage", config, output=tmp_path / "Small.mlpackage")
    assert path == tmp_path / "Small.mlpackage"
    assert (path / "Data/com.apple.CoreML/weights/weight.bin").read_bytes() == wanted


def test_some_operations_are_configured(models: dict[str, Any], tmp_path: Path) -> None:
    entry = cto.OpLinearQuantizerConfig
    config = cto.OptimizationConfig(
        global_config=entry(mode="linear"), op_type_configs={"conv": None}, op_name_configs={"linear_cast_fp16": entry(dtype="int4")}
    )
    theirs = cto.linear_quantize_weights(models["iOS18"], config)
    ours = coreml.linear_quantize_weights(models["iOS18"], config)
    assert weights(ours, tmp_path, "ours") == weights(theirs, tmp_path, "theirs")
    document = coreml.config_dict(config)
    assert document["op_type_configs"] == {"conv": None}
    assert document["op_name_configs"]["linear_cast_fp16"]["dtype"] == "int4"


def test_changes_of_the_description_are_kept(models: dict[str, Any], tmp_path: Path) -> None:
    models["iOS18"].save(str(tmp_path / "Model.mlpackage"))
    model = ct.models.MLModel(str(tmp_path / "Model.mlpackage"), skip_model_load=True)
    before = (tmp_path / "Model.mlpackage/Data/com.apple.CoreML/model.mlmodel").read_bytes()
    model.author = "somebody"
    config = cto.OptimizationConfig(global_config=cto.OpLinearQuantizerConfig())
    assert coreml.linear_quantize_weights(model, config).author == "somebody"
    after = (tmp_path / "Model.mlpackage/Data/com.apple.CoreML/model.mlmodel").read_bytes()
    assert before == after


def test_activations_are_quantized(models: dict[str, Any], tmp_path: Path) -> None:
    rng = np.random.default_rng(5)
    name = models["iOS17"].get_spec().description.input[0].name
    samples = [{name: rng.normal(size=(1, 16, 8, 8)).astype(np.float32)} for _ in range(3)]
    config = cto.OptimizationConfig(global_config=cto.OpLinearQuantizerConfig(mode="linear_symmetric"))
    ours = coreml.linear_quantize_activations(models["iOS17"], config, samples)
    kinds = [operation.type for operation in operations(ours)]
    assert kinds.count("quantize") >= 2 and kinds.count("dequantize") >= 2
    unnamed = coreml.linear_quantize_activations(models["iOS17"], config, [{None: sample[name]} for sample in samples])
    assert [one.type for one in operations(unnamed)] == kinds
    both = coreml.linear_quantize_weights(ours, config)
    both.save(str(tmp_path / "both.mlpackage"))
    models["iOS17"].save(str(tmp_path / "float.mlpackage"))
    found = linquant.evaluate(tmp_path / "float.mlpackage", tmp_path / "both.mlpackage", samples, labels=[0, 1, 2])
    assert found.samples == 3 and found.outputs[0].sqnr_db > 20 and found.outputs[0].accuracy is not None
    for bad in [[], [{None: samples[0][name], "y": samples[0][name]}]]:
        with pytest.raises(errors.OptionError):
            coreml.linear_quantize_activations(models["iOS17"], config, bad)


def operations(model: Any) -> Any:
    function = model.get_spec().mlProgram.functions["main"]
    return function.block_specializations[function.opset].operations


def test_what_is_not_supported_is_said(models: dict[str, Any], tmp_path: Path) -> None:
    config = cto.OptimizationConfig(global_config=cto.OpLinearQuantizerConfig())
    with pytest.raises(errors.UnsupportedError, match="joint_compression"):
        coreml.linear_quantize_weights(models["iOS18"], config, joint_compression=True)
    palettes = cto.OptimizationConfig(global_config=cto.OpPalettizerConfig(nbits=4))
    with pytest.raises(errors.FileError, match="palettization"):
        coreml.linear_quantize_weights(models["iOS18"], palettes)
    with pytest.raises(errors.OptionError):
        coreml.linear_quantize_weights(models["iOS18"], cto.OpLinearQuantizerConfig())
    assert not [name for name in os.listdir(tmp_path)]


def test_a_model_is_not_written_over_itself(models: dict[str, Any], tmp_path: Path) -> None:
    config = cto.OptimizationConfig(global_config=cto.OpLinearQuantizerConfig())
    path = tmp_path / "own.mlpackage"
    models["iOS17"].save(str(path))
    model = ct.models.MLModel(str(path), skip_model_load=True)
    before = (path / "Data/com.apple.CoreML/weights/weight.bin").read_bytes()
    for output in (path, path / "Data/in.mlpackage", tmp_path):
        with pytest.raises(errors.OptionError, match="the model itself"):
            coreml.linear_quantize_weights(model, config, output=output, force=True)
    assert (path / "Data/com.apple.CoreML/weights/weight.bin").read_bytes() == before


def test_accelerated_is_undone() -> None:
    from coremltools.optimize import _utils

    before = _utils.compute_qparams_by_dtype
    with pytest.raises(RuntimeError), coreml.accelerated():
        assert _utils.compute_qparams_by_dtype is not before
        raise RuntimeError
    assert _utils.compute_qparams_by_dtype is before


def test_what_the_command_knows_of_activations(models: dict[str, Any], tmp_path: Path) -> None:
    package, rng = tmp_path / "model.mlpackage", np.random.default_rng(5)
    models["iOS17"].save(str(package))
    sample = rng.normal(size=(1, 16, 8, 8)).astype(np.float32)
    wanted = linquant.wanted_activations(package)
    assert [one.taken_by[0].operation for one in wanted][:2] == ["conv", "reshape"]
    by_name, alone = linquant.run(package, {"x": sample}), linquant.run(package, sample)
    np.save(tmp_path / "x.npy", sample)
    stored = linquant.run(package, {"x": tmp_path / "x.npy"}, round_f16=True)
    assert by_name.keys() == alone.keys() == stored.keys() == {"linear"}
    np.testing.assert_array_equal(by_name["linear"], alone["linear"])
    np.testing.assert_allclose(by_name["linear"], stored["linear"], rtol=0.1, atol=0.5)
    with pytest.raises(errors.FileError, match="no such input"):
        linquant.run(package, {"y": sample})
    linquant.calibrate(package, tmp_path / "ranges.json", samples=[sample], observer="entropy")
    assert linquant.plot(tmp_path / "ranges.json") == tmp_path / "ranges.html"
    picture = linquant.plot(tmp_path / "ranges.json", tmp_path / "ranges.svg")
    assert picture.read_text().startswith("<svg")
