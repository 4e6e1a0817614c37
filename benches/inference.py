"""Processor time of one pass on one thread: quant, torch and onnxruntime beside each other.

    cargo build --release -p quant-run --example time_passes
    python benches/inference.py target/release/examples/time_passes FOLDER [PASSES]

MobileNetV2 at 224 x 224 and a MiniLM-L6 (BERT of 6 layers, width 384) at 128 tokens, with random
weights, in float32: torch's module, onnxruntime on torch's export of it, and quant on the package that
coremltools makes of the same trace. The three take turns, so that what else the machine does meets all
of them; the least time of each counts. FOLDER keeps the models. Wants coremltools 9.0, torch 2.7,
torchvision 0.22, transformers 4.53, onnx and onnxruntime, on Linux.
"""

import os

os.environ.update(OMP_NUM_THREADS="1", MKL_NUM_THREADS="1", RAYON_NUM_THREADS="1")

import ast
import pathlib
import subprocess
import sys
import time
import warnings

import numpy
import torch

warnings.filterwarnings("ignore")
torch.set_num_threads(1)


class Hidden(torch.nn.Module):
    """A model of transformers, of which the last hidden state is the answer."""

    def __init__(self, model):
        super().__init__()
        self.model = model

    def forward(self, tokens):
        return self.model(tokens, return_dict=True).last_hidden_state


def mobilenet():
    import torchvision

    model = torchvision.models.mobilenet_v2(weights=None)
    return model, torch.rand(1, 3, 224, 224)


def minilm():
    from transformers import BertConfig, BertModel

    config = BertConfig(
        hidden_size=384,
        num_hidden_layers=6,
        num_attention_heads=12,
        intermediate_size=1536,
        attn_implementation="eager",
    )
    model = Hidden(BertModel(config, add_pooling_layer=False))
    return model, torch.randint(0, 30000, (1, 128))


MODELS = {"MobileNetV2 224": mobilenet, "MiniLM-L6, 128 tokens": minilm}


def convert(model, x, package, onnx):
    import coremltools as ct

    is_int = x.dtype == torch.int64
    traced = torch.jit.trace(model, x)
    dtype = numpy.int32 if is_int else numpy.float32
    ct.convert(
        traced,
        inputs=[ct.TensorType(name="x", shape=x.shape, dtype=dtype)],
        compute_precision=ct.precision.FLOAT32,
        minimum_deployment_target=ct.target.iOS17,
        skip_model_load=True,
    ).save(str(package))
    torch.onnx.export(model, (x,), str(onnx), input_names=["x"], dynamo=False)


class Quant:
    """The program that passes its inputs through a package for every line."""

    def __init__(self, program, package, inputs):
        command = [program, str(package), str(inputs)]
        pipes = dict(stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.process = subprocess.Popen(command, **pipes)

    def ask(self, line):
        self.process.stdin.write(line + "\n")
        self.process.stdin.flush()
        answer = self.process.stdout.readline()
        if not answer:
            sys.exit("quant did not answer")
        return answer

    def nanoseconds(self):
        tasks = pathlib.Path(f"/proc/{self.process.pid}/task").glob("*/schedstat")
        return sum(int(task.read_text().split()[0]) for task in tasks)

    def timed(self):
        before = self.nanoseconds()
        self.ask("pass")
        return (self.nanoseconds() - before) / 1e6


def timed(call):
    before = time.process_time_ns()
    call()
    return (time.process_time_ns() - before) / 1e6


def contenders(name, program, folder):
    import onnxruntime

    torch.manual_seed(0)
    model, x = MODELS[name]()
    model.eval()
    stem = name.split()[0].split("-")[0]
    package, onnx, inputs = (folder / f"{stem}{end}" for end in (".mlpackage", ".onnx", ".npz"))
    if not package.exists() or not onnx.exists():
        convert(model, x, package, onnx)
    given = x.numpy().astype(numpy.int32 if x.dtype == torch.int64 else numpy.float32)
    numpy.savez(inputs, x=given)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(str(onnx), options)
    quant = Quant(program, package, inputs)
    return quant, {
        "quant": quant.timed,
        "torch": lambda: timed(lambda: model(x)),
        "onnxruntime": lambda: timed(lambda: session.run(None, {"x": x.numpy()})),
    }


def main(program, folder, passes=60):
    folder = pathlib.Path(folder)
    folder.mkdir(exist_ok=True)
    for name in MODELS:
        with torch.inference_mode():
            quant, calls = contenders(name, program, folder)
            least = dict.fromkeys(calls, float("inf"))
            for turn in range(int(passes) + 3):
                for who, call in calls.items():
                    # The first passes prepare buffers and constants.
                    taken = call()
                    if turn >= 3:
                        least[who] = min(least[who], taken)
        times = ", ".join(f"{who} {taken:.1f} ms" for who, taken in least.items())
        ratios = [f"{least['quant'] / least[who]:.2f} of {who}" for who in ("torch", "onnxruntime")]
        print(f"{name}: {times}; quant takes {' and '.join(ratios)}", flush=True)
        profiles = [ast.literal_eval(quant.ask("profile")) for _ in range(10)]
        kinds = {kind: min(profile[kind] for profile in profiles) for kind in profiles[0]}
        most = sorted(kinds.items(), key=lambda pair: -pair[1])[:8]
        print("  " + ", ".join(f"{kind} {taken / 1e6:.1f}" for kind, taken in most), flush=True)


main(*sys.argv[1:])
