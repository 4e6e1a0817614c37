"""Whole architectures with random weights: torch's answers beside those of `quant run`.

    cargo build --release -p quant-run --example record_values
    python architectures.py target/release/examples/record_values FOLDER [NAME ..]

Each architecture is converted twice by coremltools, to float32 and to float16, and runs on one input.
Every value of the program that has the name and shape of a value in torch's graph is compared with it.
Prints the signal-to-noise ratio of the output, and of the worst of the values, and fails below 110 dB
in float32 and 50 dB in float16. Wants coremltools 9.0, torch 2.7, torchvision 0.22, timm 1.0,
transformers 4.53 and safetensors.
"""

import pathlib
import re
import shutil
import subprocess
import sys
import warnings

import coremltools as ct
import numpy
import torch
from safetensors.numpy import load_file

warnings.filterwarnings("ignore")


class Only(torch.nn.Module):
    """A model of transformers, of which one tensor is the answer."""

    def __init__(self, model, pick, **fixed):
        super().__init__()
        self.model, self.pick, self.fixed = model, pick, fixed

    def forward(self, *inputs):
        return self.pick(self.model(*inputs, return_dict=True, **self.fixed))


def image(size=64, channels=3):
    return [torch.rand(1, channels, size, size)]


def tokens(count=24, vocabulary=100):
    return [torch.randint(0, vocabulary, (1, count))]


def torchvision_model(name, size=64, **options):
    import torchvision

    return getattr(torchvision.models, name)(weights=None, **options), image(size)


def timm_model(name, size=64, **options):
    import timm

    return timm.create_model(name, pretrained=False, **options), image(size)


SMALL = dict(
    vocab_size=100,
    hidden_size=64,
    num_hidden_layers=2,
    num_attention_heads=4,
    intermediate_size=128,
)


def bert():
    from transformers import BertConfig, BertModel

    model = BertModel(BertConfig(**SMALL), add_pooling_layer=False)
    model.config._attn_implementation = "eager"
    return Only(model, lambda out: out.last_hidden_state), tokens()


def gpt2():
    from transformers import GPT2Config, GPT2LMHeadModel

    config = GPT2Config(vocab_size=100, n_embd=64, n_layer=2, n_head=4, n_positions=64)
    config._attn_implementation = "eager"
    return Only(GPT2LMHeadModel(config), lambda out: out.logits, use_cache=False), tokens()


def clip_image():
    from transformers import CLIPVisionConfig, CLIPVisionModel

    config = CLIPVisionConfig(
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=2,
        num_attention_heads=4,
        image_size=64,
        patch_size=16,
    )
    return Only(CLIPVisionModel(config), lambda out: out.pooler_output), image()


def wav2vec2():
    from transformers import Wav2Vec2Config, Wav2Vec2Model

    config = Wav2Vec2Config(
        hidden_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=128,
        conv_dim=(32,) * 7,
        num_conv_pos_embeddings=16,
        num_conv_pos_embedding_groups=4,
    )
    model = Wav2Vec2Model(config)
    torch.nn.utils.parametrize.remove_parametrizations(
        model.encoder.pos_conv_embed.conv, "weight"
    )
    return Only(model, lambda out: out.last_hidden_state), [torch.randn(1, 4000)]


def whisper_encoder():
    from transformers import WhisperConfig
    from transformers.models.whisper.modeling_whisper import WhisperEncoder

    config = WhisperConfig(
        d_model=64,
        encoder_layers=2,
        encoder_attention_heads=4,
        encoder_ffn_dim=128,
        max_source_positions=50,
        num_mel_bins=16,
    )
    config._attn_implementation = "eager"
    encoder = WhisperEncoder(config)
    return Only(encoder, lambda out: out.last_hidden_state), [torch.randn(1, 16, 100)]


class RotaryBlock(torch.nn.Module):
    """A Llama layer: RMS norm, rotary positions, grouped queries, gated units."""

    def __init__(self, width=64, heads=4, groups=2):
        super().__init__()
        self.heads, self.groups, self.size = heads, groups, width // heads
        linear = lambda a, b: torch.nn.Linear(a, b, bias=False)
        self.q, self.o = linear(width, width), linear(width, width)
        self.k, self.v = linear(width, groups * self.size), linear(width, groups * self.size)
        self.gate, self.up, self.down = linear(width, 128), linear(width, 128), linear(128, width)
        self.norms = torch.nn.ParameterList(torch.rand(width) + 0.5 for _ in range(2))

    def norm(self, x, which):
        return x * torch.rsqrt((x * x).mean(-1, keepdim=True) + 1e-6) * self.norms[which]

    def rotated(self, x, cos, sin):
        a, b = x.chunk(2, -1)
        return x * cos + torch.cat((-b, a), -1) * sin

    def forward(self, x):
        length = x.shape[1]
        half = self.size // 2
        angles = torch.arange(length)[:, None] / 10000 ** (torch.arange(half) / half)[None]
        angles = torch.cat((angles, angles), -1)
        cos, sin = angles.cos(), angles.sin()
        y = self.norm(x, 0)
        split = lambda t, n: t.view(1, length, n, self.size).transpose(1, 2)
        q = self.rotated(split(self.q(y), self.heads), cos, sin)
        k = self.rotated(split(self.k(y), self.groups), cos, sin)
        v = split(self.v(y), self.groups)
        each = self.heads // self.groups
        k, v = k.repeat_interleave(each, 1), v.repeat_interleave(each, 1)
        mask = torch.full((length, length), -1e4).triu(1)
        weights = (q @ k.transpose(-1, -2) / self.size**0.5 + mask).softmax(-1)
        x = x + self.o((weights @ v).transpose(1, 2).reshape(1, length, -1))
        y = self.norm(x, 1)
        return x + self.down(torch.nn.functional.silu(self.gate(y)) * self.up(y))


def llama_like():
    layers = [torch.nn.Embedding(100, 64), RotaryBlock(), RotaryBlock()]
    return torch.nn.Sequential(*layers, torch.nn.Linear(64, 100)), tokens()


class Recurrent(torch.nn.Module):
    def __init__(self, kind):
        super().__init__()
        # coremltools does not convert a plain RNN that goes both ways.
        both = kind is not torch.nn.RNN
        self.cells = kind(16, 24, num_layers=2, bidirectional=both, batch_first=True)

    def forward(self, x):
        return self.cells(x)[0]


def recurrent(kind):
    return Recurrent(kind), [torch.randn(1, 20, 16)]


class UNet(torch.nn.Module):
    def __init__(self):
        super().__init__()
        conv = lambda a, b: torch.nn.Sequential(
            torch.nn.Conv2d(a, b, 3, padding=1), torch.nn.GroupNorm(4, b), torch.nn.SiLU()
        )
        self.a, self.b, self.c = conv(3, 16), conv(16, 32), conv(32, 32)
        self.up = torch.nn.ConvTranspose2d(32, 32, 2, stride=2)
        self.d, self.e = conv(48, 16), torch.nn.Conv2d(16, 3, 1)

    def forward(self, x):
        a = self.a(x)
        b = self.b(torch.nn.functional.max_pool2d(a, 2))
        c = torch.nn.functional.interpolate(self.up(self.c(b)), scale_factor=0.5)
        c = torch.nn.functional.interpolate(c, size=a.shape[-2:], mode="bilinear")
        return self.e(self.d(torch.cat((a, c), 1)))


ARCHITECTURES = {
    "mobilenet_v2": lambda: torchvision_model("mobilenet_v2"),
    "mobilenet_v3": lambda: torchvision_model("mobilenet_v3_small"),
    "resnet18": lambda: torchvision_model("resnet18"),
    "densenet121": lambda: torchvision_model("densenet121"),
    "efficientnet_b0": lambda: torchvision_model("efficientnet_b0"),
    "shufflenet": lambda: torchvision_model("shufflenet_v2_x0_5"),
    "squeezenet": lambda: torchvision_model("squeezenet1_1"),
    "regnet": lambda: torchvision_model("regnet_y_400mf"),
    "vit": lambda: timm_model("vit_tiny_patch16_224", img_size=64),
    # Its blocks would be scaled by 1e-6, and their errors hidden.
    "convnext": lambda: timm_model("convnext_atto", ls_init_value=0.1),
    "mobilevit": lambda: timm_model("mobilevit_xxs"),
    "bert": bert,
    "gpt2": gpt2,
    "clip_image": clip_image,
    "wav2vec2": wav2vec2,
    "whisper_encoder": whisper_encoder,
    "llama_like": llama_like,
    "lstm": lambda: recurrent(torch.nn.LSTM),
    "gru": lambda: recurrent(torch.nn.GRU),
    "rnn": lambda: recurrent(torch.nn.RNN),
    "unet": lambda: (UNet(), image()),
}


def decibels(expected, found):
    noise = numpy.square(expected - found).sum()
    return float("inf") if noise == 0 else 10 * numpy.log10(numpy.square(expected).sum() / noise)


def graph_values(traced, inputs):
    """What torch computes on the way, by the names that the converter gives it."""
    graph, parameters = torch._C._jit_pass_lower_graph(traced.forward.graph, traced._c)
    torch._C._jit_pass_inline(graph)
    every = (value for node in graph.nodes() for value in node.outputs())
    kept = [value for value in every if value.type().kind() == "TensorType"]
    # Operations in place change what is to be compared.
    none = graph.create("prim::Constant", 1)
    none.output().setType(torch._C.NoneType.get())
    graph.prependNode(none)
    copies = []
    for value in kept:
        copy = graph.create("aten::clone", [value, none.output()], 1)
        copy.insertAfter(value.node())
        copy.output().setType(value.type())
        copies.append(copy.output())
    # A graph has one output.
    together = graph.create("prim::TupleConstruct", copies, 1)
    graph.appendNode(together)
    together.output().setType(torch._C.TupleType([value.type() for value in copies]))
    graph.eraseOutput(0)
    graph.registerOutput(together.output())
    found = torch._C._create_function_from_graph("values", graph)(*inputs, *parameters)
    names = (re.sub(r"\W", "_", value.debugName()) for value in kept)
    return {name: value.numpy() for name, value in zip(names, found) if value.is_floating_point()}


def compare(package, folder, expected, values, is_half):
    """The output's decibels, and those of the worst of the values that have the same name."""
    found = load_file(folder / "out.safetensors")
    spec = ct.models.utils.load_spec(str(package))
    output = found[spec.description.output[0].name].astype(numpy.float64)
    worst, matched = (float("inf"), ""), 0
    for name, value in found.items():
        other = values.get(re.sub(r"_cast_fp16$", "", name))
        if other is None or other.shape != value.shape or not numpy.isfinite(other).all():
            continue
        # float16 cannot hold it, or not its digits.
        if is_half and not 1e-3 < numpy.abs(other).max() < 65504:
            continue
        matched += 1
        db = decibels(other.astype(numpy.float64), value.astype(numpy.float64))
        worst = min(worst, (db, name))
    return decibels(expected, output.reshape(expected.shape)), worst, matched, len(found)


def main(program, folder, *names):
    folder = pathlib.Path(folder)
    folder.mkdir(exist_ok=True)
    failed = []
    for name in names or ARCHITECTURES:
        torch.manual_seed(0)
        model, inputs = ARCHITECTURES[name]()
        model = model.eval()
        with torch.no_grad():
            expected = model(*inputs).numpy().astype(numpy.float64)
            traced = torch.jit.trace(model, inputs)
            values = graph_values(traced, inputs)
        types = [
            ct.TensorType(
                name=f"input{i}",
                shape=x.shape,
                dtype=numpy.int32 if x.dtype == torch.int64 else numpy.float32,
            )
            for i, x in enumerate(inputs)
        ]
        arrays = {f"input{i}": x.numpy() for i, x in enumerate(inputs)}
        numpy.savez(folder / "in.npz", **arrays)
        for precision, least in ((ct.precision.FLOAT32, 110), (ct.precision.FLOAT16, 50)):
            package = folder / f"{name}.mlpackage"
            shutil.rmtree(package, ignore_errors=True)
            converted = ct.convert(
                traced,
                inputs=types,
                compute_precision=precision,
                minimum_deployment_target=ct.target.iOS17,
                skip_model_load=True,
            )
            converted.save(str(package))
            command = [program, str(package), str(folder / "in.npz")]
            done = subprocess.run(
                command + [str(folder / "out.safetensors")], capture_output=True, text=True
            )
            if done.returncode:
                print(f"{name:16} {precision.value}  {done.stderr.strip()}", flush=True)
                failed.append(name)
                continue
            is_half = precision == ct.precision.FLOAT16
            found = compare(package, folder, expected, values, is_half)
            db, (worst, where), matched, count = found
            print(
                f"{name:16} {precision.value}  {db:6.1f} dB  {expected.shape}, "
                f"of {count} values {matched} compared: {worst:.1f} dB and more ({where})",
                flush=True,
            )
            if not min(db, worst) >= least:
                failed.append(name)
    if failed:
        sys.exit(f"too far from torch, or not run: {', '.join(failed)}")


main(*sys.argv[1:])
