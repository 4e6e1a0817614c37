"""The digit classifier as a Core ML package, and its images as samples.

    pip install coremltools numpy safetensors
    python convert.py FOLDER

Writes into FOLDER:

  Digits.mlpackage   the model, f32, its one input `image` of shape [1, 1, 8, 8]
  calibration/       200 images of those the training saw, an npy file each
  heldout/           500 images the training never saw
  heldout.csv        their labels
"""

import sys
from pathlib import Path

import coremltools as ct
import numpy as np
from coremltools.converters.mil import Builder as mb
from safetensors.numpy import load_file

HERE = Path(__file__).parent
# What quantize and dequantize operations for activations need.
TARGET = ct.target.iOS17


def program(weights):
    def parameters(name):
        return {part: weights[f"{name}.{part}"] for part in ("weight", "bias")}

    def convolution(x, name):
        return mb.relu(x=mb.conv(x=x, **parameters(name), pad_type="same", name=name))

    def halved(x):
        return mb.max_pool(x=x, kernel_sizes=[2, 2], strides=[2, 2], pad_type="valid")

    @mb.program(input_specs=[mb.TensorSpec(shape=(1, 1, 8, 8))], opset_version=TARGET)
    def net(image):
        x = convolution(image, "conv1")
        x = halved(convolution(x, "conv2"))
        x = halved(convolution(x, "conv3"))
        x = mb.reshape(x=x, shape=[1, 256])
        x = mb.relu(x=mb.linear(x=x, **parameters("fc1"), name="fc1"))
        return mb.linear(x=x, **parameters("fc2"), name="digit")

    return net


def write_samples(folder, pixels):
    folder.mkdir()
    for i, image in enumerate(pixels.astype(np.float32) / 16):
        np.save(folder / f"{i:03}.npy", image[np.newaxis])


def main():
    if len(sys.argv) != 2:
        sys.exit("python convert.py FOLDER")
    folder = Path(sys.argv[1])
    folder.mkdir(exist_ok=True)
    model = ct.convert(
        program(load_file(HERE / "digits.safetensors")),
        convert_to="mlprogram",
        compute_precision=ct.precision.FLOAT32,
        minimum_deployment_target=TARGET,
        skip_model_load=True,
    )
    model.save(str(folder / "Digits.mlpackage"))
    calibration = load_file(HERE / "digits-calibration.safetensors")
    write_samples(folder / "calibration", calibration["images"])
    held_out = load_file(HERE / "digits-heldout.safetensors")
    write_samples(folder / "heldout", held_out["images"])
    (folder / "heldout.csv").write_text("".join(f"{label}\n" for label in held_out["labels"]))


main()
