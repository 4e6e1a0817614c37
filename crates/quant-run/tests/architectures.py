"""Whole architectures with random weights: torch's answers beside those of `quant run`.

    python architectures.py QUANT FOLDER [NAME ..]

QUANT is the command. Each architecture is converted twice by coremltools, to float32 and to float16, and runs on one input. Prints
the signal-to-noise ratio of the worst output, and fails below 110 dB in float32 and 50 dB in float16.
Wants coremltools 9.0, torch 2.7, torchvision 0.22, timm 1.0 and transformers 4.53.
"""

import pathlib
import shutil
import subprocess
import sys
import warnings

import coremltools as ct
import numpy
import torch

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
    "convnext": lambda: timm_model("convnext_atto"),
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


def main(quant, folder, *names):
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
        types = [
            ct.TensorType(
                name=f"input{i}",
                shape=x.shape,
                dtype=numpy.int32 if x.dtype == torch.int64 else numpy.float32,
            )
            for i, x in enumerate(inputs)
        ]
        for i, x in enumerate(inputs):
            numpy.save(folder / f"input{i}.npy", x.numpy())
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
            command = [quant, "run", str(package), "-o", str(folder / "out.npy")]
            for i in range(len(inputs)):
                command += ["-i", f"input{i}={folder / f'input{i}.npy'}"]
            done = subprocess.run(
                command + ["--force", "--quiet"], capture_output=True, text=True
            )
            if done.returncode:
                print(f"{name:16} {precision.value}  {done.stderr.strip()}", flush=True)
                failed.append(name)
                continue
            found = numpy.load(folder / "out.npy").astype(numpy.float64)
            db = decibels(expected, found.reshape(expected.shape))
            print(f"{name:16} {precision.value}  {db:6.1f} dB  {expected.shape}", flush=True)
            if not db >= least:
                failed.append(name)
    if failed:
        sys.exit(f"too far from torch, or not run: {', '.join(failed)}")


main(*sys.argv[1:])
