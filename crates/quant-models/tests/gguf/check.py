"""Compares GGUF files that quant writes with those that gguf-py writes, on small models of random
weights.

    python check.py QUANT [--candle PROGRAM] [--golden FOLDER]

Prints a line per case: safetensors models of families of diffusion models, and one of none, into each
block type, where the whole file is to have the bytes that gguf-py's quantizer and writer give with the
rules of ComfyUI-GGUF; GGUF files, of which metadata and all that is not quantized must stay; what
`quant dequantize` restores, beside gguf-py's values. With --candle, PROGRAM loads each file, and must
restore the same values; a tensor of five axes, as Wan has one, it must refuse. With --golden, writes
small models and the files that they become, which a test reads. Needs gguf 0.19 and numpy; `cargo xtask
formats` makes the environment.
"""

import json
import shutil
import struct
import subprocess
import sys
import tempfile
from pathlib import Path

import gguf
import numpy as np

Type = gguf.GGMLQuantizationType
TYPES = {
    "q8_0": gguf.LlamaFileType.MOSTLY_Q8_0,
    "q4_0": gguf.LlamaFileType.MOSTLY_Q4_0,
    "q4_1": gguf.LlamaFileType.MOSTLY_Q4_1,
    "q5_0": gguf.LlamaFileType.MOSTLY_Q5_0,
    "q5_1": gguf.LlamaFileType.MOSTLY_Q5_1,
}
DTYPES = ("F32", "F16", "BF16")

# Per family: tensors and their shapes, and which of these stay in float.
FLUX = {
    "double_blocks.0.img_attn.proj.weight": (48, 64),
    "double_blocks.0.img_attn.proj.bias": (48,),
    "double_blocks.0.img_attn.norm.key_norm.scale": (64,),
    "single_blocks.0.linear1.weight": (20, 160),
    "single_blocks.0.odd.weight": (36, 100),
    "single_blocks.0.small.weight": (16, 64),
    "single_blocks.0.row.weight": (1, 2048),
    "single_blocks.0.table": (40, 64),
    "img_in.weight": (32, 64),
    "final_layer.linear.weight": (32, 96),
}
WAN = {
    "blocks.0.self_attn.norm_q.weight": (64,),
    "blocks.0.self_attn.q.weight": (40, 64),
    "blocks.0.modulation": (1, 6, 256),
    "text_embedding.2.weight": (40, 64),
    "head.modulation": (1, 2, 64),
    "patch_embedding.weight": (8, 16, 1, 2, 8),
}
SD1 = {
    "down_blocks.0.downsamplers.0.conv.weight": (32, 16, 3, 3),
    "down_blocks.0.attentions.0.proj_in.weight": (64, 64, 1, 1),
    "down_blocks.0.to_q.weight": (8, 768),
    "conv_in.weight": (32, 4, 3, 3),
    "time_embedding.linear_1.weight": (64, 32),
    "down_blocks.0.norm.weight": (64,),
}
SDXL = {**SD1, "add_embedding.linear_1.weight": (64, 64)}
OTHER = {
    "model.layers.0.q_proj.weight": (48, 64),
    "model.layers.0.q_proj.bias": (48,),
    "model.embed_tokens.weight": (96, 32),
    "model.layers.0.conv.weight": (16, 8, 32),
}
KEPT = {"flux": ("img_in.", "final_layer."), "wan": ("text_embedding.", "head.", "patch_embedding."),
        "sd1": ("conv_in.", "time_embedding."), "sdxl": ("conv_in.", "time_embedding.", "add_embedding.")}
FAMILIES = {"flux": FLUX, "wan": WAN, "sd1": SD1, "sdxl": SDXL, "unknown": OTHER}
PREFIX = "model.diffusion_model."


def bf16(values):
    return gguf.quants.quantize(values, Type.BF16).view(np.uint16)


def make(shapes, dtype, seed):
    """Tensors as they lie in a file, and their values."""
    random = np.random.default_rng(seed)
    tensors = {}
    for name, shape in shapes.items():
        values = (random.standard_normal(shape) * 0.1).astype(np.float32)
        stored = {"F32": values, "F16": values.astype(np.float16), "BF16": bf16(values)}[dtype]
        if dtype == "BF16":
            values = (stored.astype(np.uint32) << 16).view(np.float32)
        tensors[name] = (dtype, stored.reshape(shape), values if dtype == "BF16" else stored.astype(np.float32))
    return tensors


def save(tensors, path):
    header, data = {}, b""
    for name, (dtype, stored, _) in tensors.items():
        start = len(data)
        data += stored.tobytes()
        header[name] = {"dtype": dtype, "shape": list(stored.shape), "data_offsets": [start, len(data)]}
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    path.write_bytes(struct.pack("<Q", len(text)) + text + data)


def float_type(family, name, shape, dtype):
    """The type of what is not quantized."""
    if family == "unknown":
        return Type[dtype]
    if len(shape) > 4:
        return Type.F32
    precise = len(shape) == 1 or np.prod(shape) <= 1024 or family == "wan" and ".modulation" in name
    if dtype == "F16":
        return Type.F16
    if precise:
        return Type.F32
    return Type.BF16 if dtype == "BF16" else Type.F16


def is_quantized(family, name, shape):
    if shape[-1] % 32:
        return False
    if family == "unknown":
        return len(shape) > 1 and np.prod(shape) > 2048
    axes = len(np.trim_zeros([dim - 1 for dim in shape], "f"))
    kept = any(part in name for part in KEPT[family]) or family == "wan" and ".modulation" in name
    return not kept and axes == 2 and np.prod(shape) > 1024 and name.endswith("weight")


def rows(family, shape):
    elements = int(np.prod(shape))
    if family in ("sd1", "sdxl") and len(shape) > 1 and elements >= 512 and elements % 256 == 0 and shape[-1] % 256:
        return (elements // 256, 256)
    return shape


def write(writer, path):
    writer.write_header_to_file(path=path)
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def expect(family, tensors, kind, path):
    """The file that gguf-py makes of a model with these rules."""
    writer = gguf.GGUFWriter(path=None, arch=family)
    writer.add_quantization_version(gguf.GGML_QUANT_VERSION)
    writer.add_file_type(TYPES[kind])
    quantized = 0
    for name, (dtype, stored, values) in tensors.items():
        if PREFIX in name:
            name = name.replace(PREFIX, "")
        elif name.startswith("first_stage"):
            continue
        shape = rows(family, stored.shape)
        if shape != stored.shape:
            writer.add_array(f"comfy.gguf.orig_shape.{name}", tuple(int(it) for it in stored.shape))
        to = float_type(family, name, stored.shape, dtype)
        if is_quantized(family, name, shape):
            to = Type[kind.upper()]
            quantized += 1
        writer.add_tensor(name, gguf.quants.quantize(values.reshape(shape), to), raw_dtype=to)
    write(writer, path)
    return quantized


def run(*arguments):
    done = subprocess.run([str(it) for it in arguments], capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"{arguments}: {done.stderr}")
    return done.stdout


def digest(values):
    hashed = 0xCBF29CE484222325
    for byte in np.ascontiguousarray(values, np.float32).tobytes():
        hashed = (hashed ^ byte) * 0x100000001B3 & 0xFFFFFFFFFFFFFFFF
    return f"{hashed:016x}"


def values(tensor):
    shape = tuple(int(dim) for dim in reversed(tensor.shape))
    return gguf.quants.dequantize(tensor.data, tensor.tensor_type).reshape(shape)


def loaded(candle, path):
    """Whether candle restores what gguf-py restores, or refuses the file for a tensor of five axes."""
    tensors = gguf.GGUFReader(path).tensors
    five = [it.name for it in tensors if len(it.shape) > 4]
    if five:
        done = subprocess.run([candle, path], capture_output=True, text=True)
        return f"'{five[0]}' has 5 dimensions, max is 4" in done.stderr
    found = {line.split()[0]: line.split()[-1] for line in run(candle, path).splitlines()}
    # Random bits of K blocks are NaN here and there.
    known = {it.name: digest(values(it)) for it in tensors if it.tensor_type != Type.Q4_K}
    return known.items() <= found.items() and len(found) == len(tensors)


def restored(quant, path, folder):
    """Whether `quant dequantize` gives gguf-py's values, and keeps the rest."""
    back = folder / "back.gguf"
    run(quant, "dequantize", path, "-o", back, "--quiet", "--force")
    for before, after in zip(gguf.GGUFReader(path).tensors, gguf.GGUFReader(back).tensors, strict=True):
        if before.name != after.name:
            return False
        if after.tensor_type != before.tensor_type and after.tensor_type != Type.F32:
            return False
        if before.tensor_type.name in ("Q4_K", "I32"):
            same = before.data.tobytes() == after.data.tobytes()
        else:
            same = values(before).tobytes() == values(after).tobytes()
        if not same:
            return False
    return True


def tell(line, checks):
    wrong = [name for name, good in checks.items() if not good]
    print(f"{line}: {'equal' if not wrong else 'WRONG in ' + ', '.join(wrong)}", flush=True)
    return not wrong


def safetensors_case(quant, candle, family, dtype, kind, folder, prefix):
    source, ours, theirs = folder / "m.safetensors", folder / "ours.gguf", folder / "theirs.gguf"
    shapes = FAMILIES[family]
    if prefix:
        shapes = {PREFIX + name: shape for name, shape in shapes.items()}
        shapes["first_stage_model.x.weight"] = (64, 64)
    tensors = make(shapes, dtype, len(shapes))
    save(tensors, source)
    count = expect(family, tensors, kind, theirs)
    run(quant, "quantize", source, "--format", "gguf", "--type", kind, "-o", ours, "--quiet", "--force")
    checks = {"bytes": ours.read_bytes() == theirs.read_bytes(), "dequantize": restored(quant, ours, folder)}
    if candle:
        checks["candle"] = loaded(candle, ours)
    return tell(f"{family:8} {dtype:4} {kind} {'with prefix, ' if prefix else ''}{count} quantized tensors", checks)


def llm(path, dtype, alignment, integers=True):
    """A GGUF file with metadata of all kinds, and a tensor of a type that quant does not know how to
    restore; one of integers, too."""
    writer = gguf.GGUFWriter(path=None, arch="llama")
    writer.add_custom_alignment(alignment)
    writer.add_file_type(gguf.LlamaFileType.ALL_F32)
    writer.add_string("general.name", "a model")
    writer.add_array("tokenizer.ggml.tokens", [f"token {i} \u00fc" for i in range(200)])
    writer.add_array("tokenizer.ggml.scores", [float(i) / 3 for i in range(200)])
    writer.add_float32("llama.rope.freq_base", 1e6)
    writer.add_float64("x.float64", 0.1)
    writer.add_bool("x.bool", True)
    for bits in (8, 16, 32, 64):
        getattr(writer, f"add_int{bits}")(f"x.int{bits}", -bits)
        getattr(writer, f"add_uint{bits}")(f"x.uint{bits}", bits)
    shapes = {"token_embd.weight": (96, 64), "blk.0.attn_q.weight": (48, 64), "blk.0.attn_norm.weight": (64,),
              "blk.0.ffn_gate_inp.weight": (8, 512), "blk.0.attn_q_norm.weight": (2, 2048), "rope_freqs": (32, 128)}
    for name, (_, _, wide) in make(shapes, dtype, 5).items():
        to = Type.F32 if wide.ndim == 1 else Type[dtype]
        writer.add_tensor(name, gguf.quants.quantize(wide, to), raw_dtype=to)
    random = np.random.default_rng(7)
    writer.add_tensor("blk.0.ffn_down.weight", random.integers(0, 256, (16, 144), np.uint8), raw_dtype=Type.Q4_K)
    old = gguf.quants.quantize(random.standard_normal((48, 64)).astype(np.float32), Type.Q8_0)
    writer.add_tensor("blk.0.attn_k.weight", old, raw_dtype=Type.Q8_0)
    if integers:
        writer.add_tensor("ids", np.arange(24, dtype=np.int32))
    write(writer, path)


def metadata(reader):
    keys = ("GGUF.kv_count", "general.file_type", "general.quantization_version")
    return {name: [bytes(part) for part in it.parts] for name, it in reader.fields.items() if name not in keys}


def gguf_case(quant, candle, dtype, kind, folder, again, alignment):
    source, ours = folder / "m.gguf", folder / "ours.gguf"
    llm(source, dtype, alignment)
    more = ["--requantize"] if again else []
    run(quant, "quantize", source, "--type", kind, "-o", ours, "--quiet", "--force", *more)
    before, after = gguf.GGUFReader(source), gguf.GGUFReader(ours)
    to = Type[kind.upper()]
    wanted = {"token_embd.weight", "blk.0.attn_q.weight"} | ({"blk.0.attn_k.weight"} if again else set())
    good = True
    for old, new in zip(before.tensors, after.tensors, strict=True):
        good &= old.name == new.name and list(old.shape) == list(new.shape)
        data, dtype_wanted = old.data, old.tensor_type
        if old.name in wanted:
            data, dtype_wanted = gguf.quants.quantize(values(old), to), to
        good &= new.tensor_type == dtype_wanted and data.tobytes() == new.data.tobytes()
    field = after.fields["general.file_type"]
    checks = {
        "tensors": good,
        "metadata": metadata(before) == metadata(after),
        "alignment": after.alignment == alignment and after.data_offset % alignment == 0,
        "file type": field.contents() == TYPES[kind].value,
        "dequantize": restored(quant, ours, folder),
    }
    if candle:
        # It knows no tensors of integers.
        llm(source, dtype, alignment, integers=False)
        run(quant, "quantize", source, "--type", kind, "-o", ours, "--quiet", "--force", *more)
        checks["candle"] = loaded(candle, ours)
    return tell(f"GGUF     {dtype:4} {kind} {'anew, ' if again else ''}alignment {alignment}", checks)


def golden(folder):
    for family in ("flux", "wan", "sd1", "unknown"):
        place = folder / family
        shutil.rmtree(place, ignore_errors=True)
        place.mkdir(parents=True)
        dtype = {"flux": "BF16", "wan": "F32", "sd1": "F16", "unknown": "F32"}[family]
        tensors = make(FAMILIES[family], dtype, 1)
        save(tensors, place / "model.safetensors")
        for kind in TYPES if family == "flux" else ["q8_0", "q4_1"]:
            expect(family, tensors, kind, place / f"{kind}.gguf")
    llm(folder / "llm.gguf", "F16", 64)


def main():
    quant, rest = sys.argv[1], sys.argv[2:]
    if rest[:1] == ["--golden"]:
        return golden(Path(rest[1]))
    candle = rest[1] if rest[:1] == ["--candle"] else None
    results = []
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        for family in FAMILIES:
            for dtype in DTYPES:
                for kind in TYPES:
                    results.append(safetensors_case(quant, candle, family, dtype, kind, folder, False))
        for kind in TYPES:
            results.append(safetensors_case(quant, candle, "sd1", "F16", kind, folder, True))
        for dtype in DTYPES:
            for kind in TYPES:
                for again in (False, True):
                    alignment = 64 if again else 32
                    results.append(gguf_case(quant, candle, dtype, kind, folder, again, alignment))
    print(f"{len(results)} cases, {sum(results)} equal" + (", loaded by candle" if candle else ""))
    return 0 if all(results) else 1


if __name__ == "__main__":
    sys.exit(main())
