"""Prints the table of docs/accuracy.md: what a search gains in the weights that weights.py fetched.

    python table.py QUANT FOLDER

QUANT is the command. Figures are means of the tensors' SQNR in dB, of those that the command quantizes.
"""

import json
import pathlib
import subprocess
import sys
import tempfile

MODELS = ["minilm", "ppocr", "nudenet", "silero"]
WAYS = {
    "int4 per channel": ["--granularity", "per-channel"],
    "int4 per channel, affine": ["--granularity", "per-channel", "--mode", "affine"],
    "int4 in blocks of 32": ["--granularity", "per-block"],
    "int4 in blocks of 32, affine": ["--granularity", "per-block", "--mode", "affine"],
}


def mean(quant, model, options):
    with tempfile.TemporaryDirectory() as folder:
        line = [quant, "quantize", model, "-o", pathlib.Path(folder, "o.safetensors")]
        line += ["--json", "--dtype", "int4", *options]
        done = subprocess.run(line, check=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    tensors = json.loads(done.stdout)["tensors"]
    found = [tensor["sqnr_db"] for tensor in tensors if tensor["sqnr_db"] is not None]
    return sum(found) / len(found)


def main():
    quant, folder = sys.argv[1], pathlib.Path(sys.argv[2])
    print("| plain, searched |", " | ".join(MODELS), "|")
    print("|---" * (len(MODELS) + 1) + "|")
    for way, options in WAYS.items():
        cells = []
        for model in MODELS:
            path = folder / f"{model}.safetensors"
            plain, searched = (mean(quant, path, [*options, "--search", it]) for it in ("none", "mse"))
            cells.append(f"{plain:.2f}, {searched:.2f}")
        print(f"| {way} |", " | ".join(cells), "|")


if __name__ == "__main__":
    main()
