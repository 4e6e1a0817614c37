"""Measures what ways of quantizing cost the models that models.py made: the tables of docs/accuracy.md.

    python measure.py QUANT FOLDER [DOCUMENT]

QUANT is the command. The tables are printed; in DOCUMENT they replace what stands between the lines
`<!-- accuracy -->` and `<!-- end of accuracy -->`.
"""

import json
import pathlib
import statistics
import subprocess
import sys
import tempfile

MODELS = ["digits", "silero", "minilm", "crepe"]
#: Embeddings are looked up, not multiplied by: they stay in float.
OPTIONS = {"minilm": ["--exclude", "^words"]}
BLOCKS = "int4 in blocks of 32"
PRECISIONS = {
    "int4 per channel": ["--dtype", "int4"],
    BLOCKS: ["--dtype", "int4", "--granularity", "per-block"],
    "int8 per channel": ["--dtype", "int8"],
}
SEARCH = ["--search", "mse"]
WEIGHTED = [*SEARCH, "--importance", "{importance}"]
GPTQ = ["--method", "gptq", "--samples", "{calibration}"]
WAYS = {
    "plain": [],
    "affine": ["--mode", "affine"],
    "searched": SEARCH,
    "weighted": WEIGHTED,
    "GPTQ": GPTQ,
    "GPTQ, searched": [*SEARCH, *GPTQ],
    "GPTQ, searched, by size": [*SEARCH, *GPTQ, "--act-order"],
}
#: Plans of the size of the plain package in blocks of 32: by the weights, and by what the model answers.
MIXED = {
    "mixed": [],
    "mixed, by answers": ["--samples", "{calibration}"],
}
#: What plans of the same size are compared with, all with searched scales.
UNIFORM = {
    f"{dtype} in blocks of {size}": ["--dtype", "int4", "--granularity", "per-block", "--block-size", str(size), *mode]
    for dtype, mode, sizes in (("int4", [], (64, 32, 16)), ("int4 affine", ["--mode", "affine"], (64, 32, 16)))
    for size in sizes
} | {"int8 per channel": ["--dtype", "int8"]}
#: A layer of 8,192 inputs takes its time.
FEWER = {"crepe": ["--samples-limit", "16"]}
START, END = "<!-- accuracy -->\n", "<!-- end of accuracy -->\n"


class Measure:
    def __init__(self, quant, folder):
        self.quant, self.folder = quant, folder
        help = self.run("calibrate", "--help", json_wanted=False)
        self.has_importance = "--importance" in help
        self.temporary = tempfile.TemporaryDirectory()
        self.out = pathlib.Path(self.temporary.name)

    def run(self, *line, json_wanted=True):
        line = [self.quant, *map(str, line)]
        done = subprocess.run(line, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        if done.returncode != 0:
            sys.exit(f"{' '.join(line)}\n{done.stderr}")
        return json.loads(done.stdout) if json_wanted else done.stdout

    def importance(self, model):
        path = self.folder / model / "importance.safetensors"
        if not path.exists() and self.has_importance:
            package, samples = self.package(model), self.folder / model / "calibration"
            line = ["calibrate", package, "--samples", samples, "--importance", "-o", path, "--quiet"]
            self.run(*line, json_wanted=False)
        return path

    def package(self, model):
        return self.folder / f"{model}.mlpackage"

    def filled(self, model, options):
        return [
            option.format(
                calibration=self.folder / model / "calibration",
                importance=self.importance(model) if "{importance}" in option else "",
            )
            for option in options
        ]

    def quantized(self, model, options):
        """Bytes, weight SQNR, and what `evaluate` says."""
        small = self.out / "small.mlpackage"
        if "--method" in options:
            options = [*options, *FEWER.get(model, [])]
        options = self.filled(model, options)
        line = ["quantize", self.package(model), "-o", small, "--force", "--json", *options]
        report = self.run(*line)
        sqnr = [tensor["sqnr_db"] for tensor in report["tensors"] if tensor["sqnr_db"] is not None]
        labels = self.folder / model / "labels.csv"
        line = ["evaluate", self.package(model), small, "--json", "--samples", self.folder / model / "test"]
        if labels.exists():
            line += ["--labels", labels]
        outputs = self.run(*line)["outputs"]
        return {
            "bytes": report["bytes_after"],
            "weights": statistics.mean(sqnr),
            "output": statistics.mean(output["sqnr_db"] for output in outputs),
            "right": outputs[0]["accuracy"],
            "cosine": outputs[0]["cosine"],
        }

    def mixed(self, model, size, more):
        """The plan that fits the size of a uniform one."""
        plan = self.out / "plan.json"
        line = ["plan", self.package(model), *OPTIONS.get(model, []), "--target-size", size, *SEARCH]
        line += [*self.filled(model, more), "-o", plan, "--force"]
        self.run(*line, json_wanted=False)
        return self.quantized(model, ["--plan", plan.as_posix()])

    def sizes(self):
        """Outputs of uniform precisions, and of plans of the same size."""
        found = {}
        for model in MODELS:
            for precision, options in UNIFORM.items():
                uniform = self.quantized(model, [*OPTIONS.get(model, []), *options, *SEARCH])
                plans = [self.mixed(model, uniform["bytes"], more) for more in MIXED.values()]
                found[model, precision] = [uniform, *plans]
                print(model, precision, found[model, precision], file=sys.stderr, flush=True)
        return found

    def all(self):
        found = {}
        for model in MODELS:
            for precision, options in PRECISIONS.items():
                for way, more in WAYS.items():
                    if "--importance" in more and not self.has_importance:
                        continue
                    line = [*OPTIONS.get(model, []), *options, *more]
                    found[model, precision, way] = self.quantized(model, line)
                    print(model, precision, way, found[model, precision, way], file=sys.stderr, flush=True)
                size = found[model, precision, "plain"]["bytes"]
                for way, more in MIXED.items() if precision == BLOCKS else ():
                    found[model, precision, way] = self.mixed(model, size, more)
                    print(model, precision, way, found[model, precision, way], file=sys.stderr, flush=True)
        return found


def tables(found):
    text = ""
    for model in MODELS:
        rows = {key[1:]: one for key, one in found.items() if key[0] == model}
        first = next(iter(rows.values()))
        last = f"accuracy (float: {100 * first['right'][0]:.1f} %)" if first["right"] else "cosine"
        text += f"**{model}**\n\n| | | bytes | weights | outputs | {last} |\n|---|---|---|---|---|---|\n"
        before = None
        for (precision, way), one in rows.items():
            shown = precision if precision != before else ""
            before = precision
            right = f"{100 * one['right'][1]:.1f} %" if one["right"] else f"{one['cosine']:.5f}"
            size, weights, output = one["bytes"], one["weights"], one["output"]
            text += f"| {shown} | {way} | {size:,} | {weights:.1f} dB | {output:.1f} dB | {right} |\n"
        text += "\n"
    text += "Output SQNR above that of the plain scales, median over the models:\n\n"
    ways = [way for way in [*WAYS, *MIXED] if way != "plain" and any(key[2] == way for key in found)]
    text += "| | " + " | ".join(ways) + " |\n|" + "---|" * (len(ways) + 1) + "\n"
    for precision in PRECISIONS:
        cells = []
        for way in ways:
            pairs = [[found.get((model, precision, it)) for it in (way, "plain")] for model in MODELS]
            gains = [one["output"] - plain["output"] for one, plain in pairs if one and plain]
            of = f" ({len(gains)})" if len(gains) < len(MODELS) else ""
            cells.append(f"{statistics.median(gains):+.1f} dB{of}" if gains else "")
        text += f"| {precision} | " + " | ".join(cells) + " |\n"
    return text


def table_of_sizes(found):
    text = "Outputs of a uniform precision; of a plan of its size, by the weights; by what the model answers, in dB:\n\n"
    text += "| | " + " | ".join(MODELS) + " |\n|" + "---|" * (len(MODELS) + 1) + "\n"
    for precision in UNIFORM:
        cells = (", ".join(f"{one['output']:.1f}" for one in found[model, precision]) for model in MODELS)
        text += f"| {precision} | " + " | ".join(cells) + " |\n"
    plans = [(uniform, plan) for uniform, *plans in found.values() for plan in plans]
    least = min(100 * plan["bytes"] / uniform["bytes"] for uniform, plan in plans)
    return text + f"\nThe smallest of these plans has {least:.1f} % of its target's bytes.\n"


def main():
    measure = Measure(sys.argv[1], pathlib.Path(sys.argv[2]))
    text = tables(measure.all()) + "\n" + table_of_sizes(measure.sizes())
    print(text)
    if len(sys.argv) > 3:
        document = pathlib.Path(sys.argv[3])
        before, rest = document.read_text().split(START)
        document.write_text(before + START + "\n" + text + "\n" + END + rest.split(END)[1])


main()
