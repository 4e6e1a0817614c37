"""Model files: what functions do is what the command does."""

from __future__ import annotations

import json
import os
import pickle
import signal
import struct
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest

import linquant
from linquant import _native, errors


def write_safetensors(path: Path, tensors: dict[str, np.ndarray]) -> Path:
    header, offset = {}, 0
    names = {"float32": "F32", "float16": "F16", "int64": "I64"}
    for name, array in tensors.items():
        end = offset + array.nbytes
        header[name] = {
            "dtype": names[array.dtype.name],
            "shape": list(array.shape),
            "data_offsets": [offset, end],
        }
        offset = end
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with path.open("wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        for array in tensors.values():
            file.write(array.tobytes())
    return path


@pytest.fixture
def model(tmp_path: Path, rng: np.random.Generator) -> Path:
    tensors = {
        "a.weight": rng.normal(size=(64, 128)).astype(np.float32),
        "b.weight": rng.normal(size=(32, 256)).astype(np.float16),
        "b.bias": rng.normal(size=32).astype(np.float32),
    }
    return write_safetensors(tmp_path / "model.safetensors", tensors)


def test_the_whole_way(model: Path, tmp_path: Path) -> None:
    small, back = tmp_path / "small.safetensors", tmp_path / "back.safetensors"
    report = linquant.quantize_file(model, small, dtype="int4", block_size=32)
    assert (report.input, report.output) == (model, small) and small.exists()
    assert [tensor.name for tensor in report.tensors] == ["a.weight", "b.weight", "b.bias"]
    first, _, bias = report.tensors
    assert first.scheme is not None and first.scheme.dtype == "int4" and first.scheme.blocks == [1, 32]
    assert bias.scheme is None and bias.reason == "rank 1" and not bias.skipped
    assert first.sqnr_db > 15 and report.bytes_after < report.bytes_before / 3
    found = linquant.inspect(small, values=True)
    kinds = {tensor.name: tensor.dtype for tensor in found.tensors}
    assert kinds == {"a.weight": "int4", "b.weight": "int4", "b.bias": "F32"}
    assert found.bits_per_weight < 6 and all(tensor.unique_values > 20 for tensor in found.tensors)
    restored = linquant.dequantize_file(small, back)
    assert restored.output == back and restored.bytes == back.stat().st_size
    different = linquant.diff(model, back)
    equal = {tensor.name for tensor in different.tensors if tensor.equal}
    assert not different.equal and equal == {"b.bias"}
    assert linquant.diff(model, model).equal
    assert pickle.loads(pickle.dumps(report)) == report


def test_functions_are_the_command(model: Path, tmp_path: Path) -> None:
    ours, theirs = tmp_path / "ours.safetensors", tmp_path / "theirs.safetensors"
    linquant.quantize_file(
        os.fspath(model), os.fspath(ours), dtype="uint8", mode="linear", granularity="per_channel", axis=1,
        include=["weight", "bias"], exclude="^b", min_elements=10, stats=False, threads=1,
    )
    line = ["quantize", str(model), "-o", str(theirs), "--dtype", "uint8", "--mode", "affine", "--axis", "1"]
    line += ["--include", "weight", "--include", "bias", "--exclude", "^b", "--min-elements", "10"]
    program = "import sys, linquant._command as it; sys.exit(it.main())"
    done = subprocess.run([sys.executable, "-c", program, *line], capture_output=True, text=True)
    assert done.returncode == 0 and "theirs.safetensors" in done.stdout
    assert ours.read_bytes() == theirs.read_bytes()


def test_block_sizes_for_each_axis(model: Path, tmp_path: Path) -> None:
    report = linquant.quantize_file(model, tmp_path / "o.safetensors", block_size=(0, 64))
    assert report.tensors[0].scheme.blocks == [64, 64]
    with pytest.raises(errors.OptionError):
        linquant.quantize_file(model, tmp_path / "p.safetensors", block_size=(0, -1))


def test_configurations(model: Path, tmp_path: Path) -> None:
    entry = {"dtype": "uint8", "mode": "linear"}
    config = {"config_type": "OpLinearQuantizerConfig", "global_config": None, "op_name_configs": {"a.*": entry}}
    report = linquant.quantize_file(model, tmp_path / "o.safetensors", config=config)
    schemes = [tensor.scheme and tensor.scheme.dtype for tensor in report.tensors]
    assert schemes == ["uint8", None, None]
    path = tmp_path / "config.json"
    path.write_text(json.dumps(config))
    linquant.quantize_file(model, tmp_path / "p.safetensors", config=path)
    assert (tmp_path / "o.safetensors").read_bytes() == (tmp_path / "p.safetensors").read_bytes()
    with pytest.raises(errors.OptionError, match="no configuration"):
        linquant.quantize_file(model, config=object())


def test_plans_can_be_changed(model: Path, tmp_path: Path) -> None:
    plan = linquant.plan_file(model, dtype="int4", block_size=32)
    plain, planned, changed = (tmp_path / f"{name}.safetensors" for name in ("plain", "planned", "changed"))
    linquant.quantize_file(model, plain, dtype="int4", block_size=32)
    linquant.quantize_file(model, planned, plan=plan)
    assert plain.read_bytes() == planned.read_bytes()
    entry = next(one for one in plan["tensors"] if one["name"] == "a.weight")
    entry["quantize"] = None
    path = tmp_path / "plan.json"
    path.write_text(json.dumps(plan))
    report = linquant.quantize_file(model, changed, plan=path)
    assert {tensor.name for tensor in report.tensors if tensor.scheme} == {"b.weight"}
    with pytest.raises(errors.Error):
        linquant.quantize_file(model, changed, plan={"version": 77}, force=True)


def test_what_is_wrong_names_the_file(model: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.safetensors"
    with pytest.raises(errors.FileAccessError) as raised:
        linquant.inspect(tmp_path / "none.safetensors")
    assert raised.value.file == tmp_path / "none.safetensors" and isinstance(raised.value, OSError)
    with pytest.raises(errors.FileError) as raised:
        linquant.quantize_file(model, tmp_path / "out.gguf")
    assert raised.value.file == tmp_path / "out.gguf"
    assert pickle.loads(pickle.dumps(raised.value)).file == raised.value.file
    for options in [{"dtype": "int7"}, {"axis": 3}, {"include": "("}, {"backend": "abacus"}, {"threads": -1},
                    {"granularity": "per_tensor", "block_size": 8}]:
        with pytest.raises((errors.OptionError, errors.StrictError)):
            linquant.quantize_file(model, out, strict=True, **options)
    bad = write_safetensors(tmp_path / "bad.safetensors", {"w": np.full((64, 64), np.nan, np.float32)})
    with pytest.raises(errors.TensorError) as raised:
        linquant.quantize_file(bad, out)
    assert (raised.value.file, raised.value.tensor) == (bad, "w")
    assert not out.exists()
    linquant.quantize_file(model, out)
    with pytest.raises(errors.Error, match="out.safetensors") as raised:
        linquant.quantize_file(model, out)
    # Options are keywords here.
    assert raised.value.hint == "force" and "--" not in str(raised.value)
    again = pickle.loads(pickle.dumps(raised.value))
    assert again.hint == "force" and str(again) == str(raised.value)
    linquant.quantize_file(model, out, force=True)


def test_functions_that_messages_name_exist() -> None:
    for name in _native.functions_of_hints():
        assert name in linquant.__all__ and callable(getattr(linquant, name)), name


def test_warnings_are_pythons(model: Path, tmp_path: Path) -> None:
    with pytest.warns(linquant.LinquantWarning, match="nowhere"):
        report = linquant.quantize_file(model, tmp_path / "o.safetensors", exclude="nowhere")
    # Options are keywords here too.
    assert report.warnings and report.warnings[0].startswith("exclude `nowhere` matches no tensor")
    with pytest.raises(errors.StrictError):
        linquant.quantize_file(model, tmp_path / "p.safetensors", exclude="nowhere", strict=True)


def test_a_dry_run_writes_nothing(model: Path, tmp_path: Path) -> None:
    report = linquant.quantize_file(model, tmp_path / "o.safetensors", dry_run=True)
    assert report.output is None and report.bytes_after is None and report.tensors
    assert list(tmp_path.iterdir()) == [model]


def test_names_of_files_are_taken_as_they_are(tmp_path: Path, rng: np.random.Generator) -> None:
    for name in ["--dry-run.safetensors", "a b=c.safetensors", "ä.safetensors", os.fsdecode(b"\xff.safetensors")]:
        model = write_safetensors(tmp_path / name, {"w": rng.normal(size=(64, 64)).astype(np.float32)})
        out = tmp_path / ("o" + name)
        linquant.quantize_file(model, out)
        assert out.exists()
    before = Path.cwd()
    os.chdir(tmp_path)
    try:
        assert linquant.inspect("--dry-run.safetensors").elements == 4096
    finally:
        os.chdir(before)


class Bar:
    total: int | None = None

    def __init__(self) -> None:
        self.n = 0

    def update(self, n: float = 1) -> None:
        self.n += n


def test_progress_is_told(model: Path, tmp_path: Path) -> None:
    told: list[tuple[int, int]] = []
    linquant.quantize_file(model, tmp_path / "o.safetensors", progress=lambda *turn: told.append(turn))
    assert told[-1][1] == model.stat().st_size and 0 < told[-1][0] <= told[-1][1]
    bar = Bar()
    linquant.quantize_file(model, tmp_path / "p.safetensors", progress=bar)
    assert bar.total == told[-1][1] and bar.n == told[-1][0]


@pytest.fixture(scope="session")
def large(tmp_path_factory: pytest.TempPathFactory) -> Path:
    array = np.random.default_rng(1).normal(size=(4096, 8192)).astype(np.float32)
    path = tmp_path_factory.mktemp("large") / "large.safetensors"
    return write_safetensors(path, {f"w{i}": array for i in range(4)})


def test_what_progress_raises_ends_the_work(large: Path, tmp_path: Path) -> None:
    def stop(done: int, total: int) -> None:
        raise RuntimeError("enough")

    with pytest.raises(RuntimeError, match="enough"):
        linquant.quantize_file(large, tmp_path / "o.safetensors", threads=1, progress=stop)
    # It may have been done by then.
    assert {path.name for path in tmp_path.iterdir()} <= {"o.safetensors"}


def test_ctrl_c_leaves_nothing_behind(large: Path, tmp_path: Path) -> None:
    # What a shell starts in the background is born with the signal switched off, and so are its children.
    program = f"""
import linquant, signal
signal.signal(signal.SIGINT, signal.default_int_handler)
print("ready", flush=True)
try:
    while True:
        linquant.quantize_file({str(large)!r}, {str(tmp_path / "o.safetensors")!r}, force=True, threads=1)
except KeyboardInterrupt:
    print("interrupted")
"""
    child = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True)
    try:
        assert child.stdout is not None and child.stdout.readline() == "ready\n"
        time.sleep(0.5)
        child.send_signal(signal.SIGINT)
        out, _ = child.communicate(timeout=60)
    finally:
        child.kill()
    assert (child.returncode, out) == (0, "interrupted\n")
    assert {path.name for path in tmp_path.iterdir()} <= {"o.safetensors"}


def test_other_threads_may_work_on_files(model: Path, tmp_path: Path) -> None:
    outs = [tmp_path / f"{i}.safetensors" for i in range(4)]
    threads = [threading.Thread(target=linquant.quantize_file, args=(model, out)) for out in outs]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len({out.read_bytes() for out in outs}) == 1


def test_children_may_work_on_files(model: Path, tmp_path: Path) -> None:
    linquant.inspect(model, values=True)
    child = os.fork()
    if child == 0:
        try:
            linquant.quantize_file(model, tmp_path / "o.safetensors")
            assert linquant.inspect(tmp_path / "o.safetensors").tensors
            assert not linquant.diff(model, tmp_path / "o.safetensors").equal
        except BaseException:
            os._exit(1)
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert (tmp_path / "o.safetensors").exists()


def test_recordings_are_calibrated(tmp_path: Path, rng: np.random.Generator) -> None:
    folder = tmp_path / "recorded" / "x"
    folder.mkdir(parents=True)
    samples = [rng.normal(size=100).astype(np.float32) for _ in range(4)]
    for i, sample in enumerate(samples):
        np.save(folder / f"{i}.npy", sample)
    found = linquant.calibrate(tmp_path / "recorded", tmp_path / "ranges.json")
    whole = np.concatenate(samples)
    assert (found.activations["x"].min, found.activations["x"].max) == (whole.min(), whole.max())
    assert found.activations["x"].samples == 4
    halves = []
    for i in (0, 2):
        halves.append(tmp_path / f"half{i}.json")
        linquant.calibrate([folder / f"{j}.npy" for j in (i, i + 1)], halves[-1], name="x")
    merged = linquant.calibrate(halves, tmp_path / "merged.json", merge=True)
    assert merged.activations == found.activations
    with pytest.raises(errors.OptionError):
        linquant.calibrate("-", tmp_path / "o.json")


def test_the_command_is_a_program(tmp_path: Path) -> None:
    for name in ("quant", "linquant"):
        path = Path(sys.executable).with_name(name)
        if not path.exists():
            pytest.skip("the package is not installed in this environment")
        done = subprocess.run([path, "backends", "--json"], capture_output=True, text=True)
        assert done.returncode == 0 and "scalar" in json.loads(done.stdout)["available"]
        done = subprocess.run([path, "inspect", tmp_path / "none"], capture_output=True, text=True)
        assert done.returncode == 1 and done.stderr.startswith("quant: ")
        done = subprocess.run([path, "--version"], capture_output=True, text=True)
        assert done.stdout.strip() == f"quant {linquant.__version__}"


def test_shards_that_were_made_one_by_one_are_a_model(tmp_path: Path, rng: np.random.Generator) -> None:
    for number in (1, 2):
        name = f"model-0000{number}-of-00002.safetensors"
        shard = write_safetensors(tmp_path / name, {f"w{number}": rng.normal(size=(64, 64)).astype(np.float32)})
        (tmp_path / "small").mkdir(exist_ok=True)
        linquant.quantize_file(shard, tmp_path / "small" / name)
    report = linquant.index(tmp_path / "small")
    assert report.output == tmp_path / "small" / "model.safetensors.index.json"
    # Codes and scales.
    assert (report.shards, report.tensors) == (2, 4) and report.bytes > 2 * 64 * 64
    assert [tensor.name for tensor in linquant.inspect(tmp_path / "small").tensors] == ["w1", "w2"]
    with pytest.raises(errors.Error, match="index.json"):
        linquant.index(tmp_path / "small")
    linquant.index(tmp_path / "small", force=True)
    with pytest.raises(errors.FileAccessError):
        linquant.index(tmp_path / "small" / "none")


def test_options_pass_through_to_the_command(model: Path, tmp_path: Path) -> None:
    document = tmp_path / "report.json"
    linquant.quantize_file(model, tmp_path / "o.safetensors", report=document)
    assert json.loads(document.read_text())["tensors"]
    with pytest.raises(errors.OptionError, match="colour"):
        linquant.quantize_file(model, tmp_path / "p.safetensors", colour="red")
    for option in ["output", "quiet", "json", "block"]:
        with pytest.raises(errors.OptionError, match=option):
            linquant.quantize_file(model, tmp_path / "p.safetensors", **{option: "1"})
    found = linquant.command("inspect", model, values=True)
    assert found["elements"] == linquant.inspect(model).elements
    assert linquant.command("plan", model, output=tmp_path / "plan.json").keys() == {"text"}
    assert json.loads((tmp_path / "plan.json").read_text()) == linquant.plan_file(model)


def test_every_command_has_its_function() -> None:
    functions = {
        "activations": [linquant.quantize_activations_file, linquant.wanted_activations],
        "backends": [linquant.backends],
        "calibrate": [linquant.calibrate],
        "convert": [linquant.convert_file],
        "dequantize": [linquant.dequantize_file],
        "diff": [linquant.diff],
        "evaluate": [linquant.evaluate],
        "index": [linquant.index],
        "inspect": [linquant.inspect],
        "plan": [linquant.plan_file],
        "plot": [linquant.plot],
        "quantize": [linquant.quantize_file],
        "run": [linquant.run],
    }
    # For shells and people.
    others = {"completions", "help", "man"}
    program = "import sys, linquant._command as it; sys.exit(it.main())"
    done = subprocess.run([sys.executable, "-c", program, "--help"], capture_output=True, text=True, check=True)
    listed = done.stdout.split("Commands:\n")[1].split("\n\n")[0].splitlines()
    names = {line.split()[0] for line in listed if line.startswith("  ") and not line.startswith("   ")}
    assert names == functions.keys() | others
