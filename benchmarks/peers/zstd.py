"""Bytes of a model's weights as f32, bf16 and f16, each in one file of safetensors: by zstd, and by pack. zstd.py MODEL.onnx [--levels 3 19] [--ours TENSORPRESS]

The peer of `benchmarks/run.sh coding`, which codes blocks. Needs numpy, onnx and the command zstd, which finds what repeats at any distance; with --ours the
launcher, whose archive is expanded again and compared.
"""

import argparse
import json
import pathlib
import subprocess
import tempfile

import numpy
import onnx
import onnx.numpy_helper


def bf16(x):
    bits = x.view(numpy.uint32)
    return ((bits + 0x7FFF + (bits >> 16 & 1)) >> 16).astype(numpy.uint16)


def write(path, kind, tensors):
    header, at = {}, 0
    for name, (shape, data) in tensors.items():
        header[name] = {"dtype": kind, "shape": shape, "data_offsets": [at, at + data.nbytes]}
        at += data.nbytes
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with open(path, "wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for _, data in tensors.values():
            file.write(data.tobytes())


arguments = argparse.ArgumentParser()
arguments.add_argument("model")
arguments.add_argument("--levels", nargs="*", default=["3", "19"])
arguments.add_argument("--ours")
arguments = arguments.parse_args()
weights = {t.name: onnx.numpy_helper.to_array(t) for t in onnx.load(arguments.model).graph.initializer if t.data_type == onnx.TensorProto.FLOAT}
print("| Type | bytes | " + " | ".join(f"zstd -{level}" for level in arguments.levels) + (" | pack |" if arguments.ours else " |"))
print("|---|---:|" + "---:|" * (len(arguments.levels) + bool(arguments.ours)))
with tempfile.TemporaryDirectory() as folder:
    for kind, cast in (("F32", lambda x: x), ("BF16", bf16), ("F16", lambda x: x.astype(numpy.float16))):
        path = pathlib.Path(folder) / f"{kind}.safetensors"
        write(path, kind, {name: (list(w.shape), cast(numpy.ascontiguousarray(w).ravel())) for name, w in weights.items()})
        size = path.stat().st_size
        row = []
        for level in arguments.levels:
            row.append(len(subprocess.run(["zstd", f"-{level}", "-c", path], stdout=subprocess.PIPE, check=True).stdout))
        if arguments.ours:
            packed, again = path.with_suffix(".tpa"), pathlib.Path(folder) / "again"
            subprocess.run([arguments.ours, "pack", path, "-o", packed], stdout=subprocess.DEVNULL, check=True)
            subprocess.run([arguments.ours, "expand", packed, "-o", again], stdout=subprocess.DEVNULL, check=True)
            assert again.read_bytes() == path.read_bytes()
            again.unlink()
            row.append(packed.stat().st_size)
        print(f"| {kind} | {size:,} | " + " | ".join(f"{100 * bytes / size:.2f} %" for bytes in row) + " |", flush=True)
