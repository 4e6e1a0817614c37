"""Opens packages with coremltools: whatever any test has written, when `cargo xtask coreml` runs them.

    venv/bin/python crates/quant-models/tests/coreml/opens.py FOLDER

looks at FOLDER/NAME.in.mlpackage and NAME.out.mlpackage, which quant made of it. What coremltools opens
before, with all weights and of every model of a pipeline, it must open after.
"""

import contextlib
import hashlib
import io
import sys
from pathlib import Path

import coremltools as ct
from coremltools.converters.mil.frontend.milproto.load import load


def opens(package):
    """Reads the package, every program and every value in it."""
    model = ct.models.MLModel(str(package), skip_model_load=True)

    def program(spec):
        kind = spec.WhichOneof("Type")
        if kind == "mlProgram":
            weights = model.weights_dir
            load(model_spec=spec, specification_version=spec.specificationVersion, file_weights_dir=weights)
        elif kind.startswith("pipeline"):
            pipeline = spec.pipeline if kind == "pipeline" else getattr(spec, kind).pipeline
            assert spec.specificationVersion >= max(inner.specificationVersion for inner in pipeline.models)
            for inner in pipeline.models:
                program(inner)
    program(model.get_spec())


def problem(package):
    try:
        with contextlib.redirect_stderr(io.StringIO()):
            opens(package)
    except Exception as error:  # Whatever it is, it does not open.
        return f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
    return None


def digest(package):
    found = hashlib.sha256()
    for path in sorted(package.rglob("*")):
        found.update(str(path.relative_to(package)).encode() + b"\0")
        if path.is_file():
            content = path.read_bytes()
            found.update(len(content).to_bytes(8, "little") + content)
    return found.digest()


def main(folder):
    known, wrong, opened, neither = {}, 0, 0, 0

    def looked_at(package):
        key = digest(package)
        if key not in known:
            known[key] = problem(package)
        return known[key]
    packages = sorted(Path(folder).glob("*.out.mlpackage"))
    for after in packages:
        before = after.with_name(after.name.replace(".out.", ".in."))
        told = looked_at(after)
        if told is None:
            opened += 1
        elif not before.exists() or looked_at(before) is None:
            wrong += 1
            print(f"{after.name}: {told}", flush=True)
        else:
            neither += 1
    print(f"{opened} of {len(packages)} packages of the tests open; {neither} as little as what they were made of")
    return wrong > 0 or opened < 300


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
