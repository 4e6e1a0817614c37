"""Compares ways to find scales and float offsets: what docs/accuracy.md says of HQQ.

    pip install torch==2.7.0 "numpy<2.3" safetensors
    python offsets.py QUANT FOLDER

FOLDER is that of models.py, which has to be run before; QUANT is the command. All weights get codes of 4
bits in groups of 32, as MLX has them, along the inputs of a linear layer or a convolution's windows: those
of MLX, those that `--search mse` finds, and those of HQQ. *Weights* is the mean SQNR of the tensors,
*outputs* that of the model's outputs on the test samples.
"""

import pathlib
import subprocess
import sys
import tempfile

import numpy
import torch
from safetensors.numpy import load_file, save_file

import models

MODELS = ["minilm", "silero", "digits", "crepe"]
GROUP, MOST = 32, 15


def hqq(weights, rounds=20, p=0.7, beta=10.0, growth=1.01):
    """Half-quadratic quantization (Badri and Shaji, 2023): the scale of the range, and the float offset
    that is found by turns with what a norm of p < 1 takes for outliers."""
    groups = weights.reshape(-1, GROUP)
    low, high = groups.min(1, keepdims=True), groups.max(1, keepdims=True)
    inverse = numpy.minimum(MOST / numpy.where(high > low, high - low, 1), 2e4).astype(numpy.float32)
    offset, best = numpy.rint(-low * inverse), numpy.inf
    for _ in range(rounds):
        codes = numpy.clip(numpy.rint(groups * inverse + offset), 0, MOST)
        away = groups - (codes - offset) / inverse
        size = numpy.abs(away)
        if size.mean() >= best:
            break
        best = size.mean()
        outliers = numpy.sign(away) * numpy.maximum(size - (size + 1e-8) ** (p - 1) / beta, 0)
        offset = (codes - (groups - outliers) * inverse).mean(1, keepdims=True, dtype=numpy.float32)
        beta *= growth
    codes = numpy.clip(numpy.rint(groups * inverse + offset), 0, MOST)
    return ((codes - offset) / inverse).astype(numpy.float32).reshape(weights.shape)


def by_command(quant, tensors, options):
    """What MLX restores from the file that the command writes."""
    with tempfile.TemporaryDirectory() as folder:
        source, target = pathlib.Path(folder, "float"), pathlib.Path(folder, "small")
        source.mkdir()
        (source / "config.json").write_text('{"model_type": "llama"}')
        save_file(tensors, source / "model.safetensors")
        line = [quant, "quantize", source, "-o", target, "--format", "mlx", "--quiet"]
        subprocess.run([*line, "--group-size", str(GROUP), "--bits", "4", *options], check=True)
        made = load_file(target / "model.safetensors")
    restored = {}
    for name, weights in tensors.items():
        words, base = made[name], name.removesuffix(".weight")
        codes = (words[..., None] >> numpy.arange(0, 32, 4, dtype=numpy.uint32) & MOST).reshape(-1, GROUP)
        scales, biases = (made[f"{base}.{it}"].reshape(-1, 1) for it in ("scales", "biases"))
        restored[name] = (scales * codes.astype(numpy.float32) + biases).reshape(weights.shape)
    return restored


def sqnr(exact, found):
    noise = numpy.square(exact.astype(float) - found).sum()
    return 10 * numpy.log10(numpy.square(exact.astype(float)).sum() / noise)


def outputs(net, samples):
    with torch.no_grad():
        all_outputs = [net(*sample) for sample in samples]
    if isinstance(all_outputs[0], tuple):
        return [torch.stack(one).numpy() for one in zip(*all_outputs)]
    return [torch.stack(all_outputs).numpy()]


def quantized(net):
    """Weights by name, as matrices."""
    found = {}
    for name, weights in net.named_parameters():
        inputs = weights[0].numel()
        if weights.ndim >= 2 and inputs % GROUP == 0 and not name.startswith("words"):
            matrix = weights.detach().reshape(len(weights), -1).numpy().copy()
            if not name.endswith(".weight"):
                name = f"{name}.weight"
            found[name] = matrix
    return found


def measure(quant, folder, model):
    net = getattr(models, f"{model}_net")(folder).eval()
    files = sorted((folder / model / "test").glob("*.npz"))[:100]
    samples = [[torch.tensor(it) for it in numpy.load(file).values()] for file in files]
    exact, tensors = outputs(net, samples), quantized(net)
    parameters = dict(net.named_parameters())
    ways = {
        "MLX": lambda: by_command(quant, tensors, []),
        "searched": lambda: by_command(quant, tensors, ["--search", "mse"]),
        "HQQ": lambda: {name: hqq(weights) for name, weights in tensors.items()},
    }
    for way, restore in ways.items():
        restored = restore()
        for name, weights in restored.items():
            parameter = parameters.get(name)
            if parameter is None:
                parameter = parameters[name.removesuffix(".weight")]
            parameter.data = torch.tensor(weights).reshape(parameter.shape)
        of_weights = numpy.mean([sqnr(tensors[name], it) for name, it in restored.items()])
        of_outputs = numpy.mean([sqnr(*pair) for pair in zip(exact, outputs(net, samples))])
        yield way, of_weights, of_outputs


def main():
    quant, folder = sys.argv[1], pathlib.Path(sys.argv[2])
    # Sums in the same order, however many processors there are.
    torch.set_num_threads(1)
    print("| weights, outputs | MLX | searched | HQQ |")
    print("|---|---|---|---|")
    for model in MODELS:
        cells = [f"{weights:.2f}, {of_outputs:.2f}" for _, weights, of_outputs in measure(quant, folder, model)]
        print(f"| {model} |", " | ".join(cells), "|", flush=True)


if __name__ == "__main__":
    main()
