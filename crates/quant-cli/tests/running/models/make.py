"""Makes the models and pictures of this folder, and what torch answers.

Wants coremltools 9.0, torch, numpy and Pillow.
"""

import json
import pathlib
import shutil
import subprocess
import sys

import coremltools as ct
import numpy
import torch
from PIL import Image

HERE = pathlib.Path(__file__).parent


# What NumPy writes into a pipe, where it cannot go back.
STREAM = """
import numpy, sys
for i, save in ((1, numpy.savez), (2, numpy.savez), (3, numpy.savez_compressed)):
    save(sys.stdout.buffer, x=numpy.full((1, 4), i, numpy.float32))
"""


def stream():
    made = subprocess.run([sys.executable, "-c", STREAM], stdout=subprocess.PIPE, check=True)
    (HERE / "stream.npz").write_bytes(made.stdout)


class Net(torch.nn.Module):
    def __init__(self, channels):
        super().__init__()
        self.conv = torch.nn.Conv2d(channels, 4, 3, stride=2, bias=True)

    def forward(self, image):
        return self.conv(image).relu()


class Sum(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.register_buffer("total", torch.zeros(1, 4))

    def forward(self, x):
        self.total.add_(x)
        return (self.total * 2).relu()


def stateful():
    net = Sum().eval()
    model = ct.convert(
        torch.jit.trace(net, torch.zeros(1, 4)),
        inputs=[ct.TensorType(name="x", shape=(1, 4))],
        outputs=[ct.TensorType(name="y")],
        states=[
            ct.StateType(
                wrapped_type=ct.TensorType(shape=(1, 4), dtype=numpy.float16),
                name="total",
            )
        ],
        minimum_deployment_target=ct.target.iOS18,
        skip_model_load=True,
    )
    package = HERE / "sum.mlpackage"
    shutil.rmtree(package, ignore_errors=True)
    model.save(str(package))
    # It has no weights, and git keeps no empty folder.
    (package / "Data/com.apple.CoreML/weights").rmdir()
    manifest = json.loads((package / "Manifest.json").read_text())
    items = manifest["itemInfoEntries"]
    weights = next(key for key in items if items[key]["name"] == "weights")
    del items[weights]
    (package / "Manifest.json").write_text(json.dumps(manifest, indent=4))


def picture(seed, width, height):
    x, y = numpy.meshgrid(numpy.arange(width), numpy.arange(height))
    planes = [(x * (7 + seed) + y * (13 + i) + 50 * i) % 256 for i in range(3)]
    return Image.fromarray(numpy.stack(planes, -1).astype(numpy.uint8))


def main():
    layouts = {
        "rgb": (3, ct.colorlayout.RGB),
        "bgr": (3, ct.colorlayout.BGR),
        "gray": (1, ct.colorlayout.GRAYSCALE),
    }
    for i in range(3):
        picture(i, 8, 6).save(HERE / f"photo{i}.png")
    for name, (channels, layout) in layouts.items():
        torch.manual_seed(1)
        net = Net(channels).eval()
        shape = (1, channels, 6, 8)
        scale, bias = 1 / 128, [-0.9, -1.0, -1.1][:channels]
        model = ct.convert(
            torch.jit.trace(net, torch.rand(shape)),
            inputs=[
                ct.ImageType(
                    name="image",
                    shape=shape,
                    color_layout=layout,
                    scale=scale,
                    bias=bias if channels == 3 else bias[0],
                )
            ],
            outputs=[ct.TensorType(name="y")],
            minimum_deployment_target=ct.target.iOS17,
            compute_precision=ct.precision.FLOAT32,
            skip_model_load=True,
        )
        package = HERE / f"{name}.mlpackage"
        shutil.rmtree(package, ignore_errors=True)
        model.save(str(package))
        image = Image.open(HERE / "photo0.png").convert("L" if channels == 1 else "RGB")
        pixels = numpy.asarray(image, numpy.float32).reshape(6, 8, channels)
        if name == "bgr":
            pixels = pixels[..., ::-1]
        planes = torch.from_numpy(pixels.transpose(2, 0, 1).copy())[None]
        planes = planes * scale + torch.tensor(bias).reshape(1, -1, 1, 1)
        numpy.save(HERE / f"{name}.npy", net(planes).detach().numpy())

    stateful()

    stream()


main()
