"""Bytes that zstd makes of the matrices of an ONNX model, as f32, bf16 and f16: zstd.py MODEL [LEVEL...]

The peer of `benchmarks/run.sh coding`. Needs numpy, onnx and the command zstd. All of a type is one file, so zstd finds what repeats at any distance.
"""

import subprocess
import sys

import numpy
import onnx
import onnx.numpy_helper

weights = [onnx.numpy_helper.to_array(t) for t in onnx.load(sys.argv[1]).graph.initializer if t.data_type == onnx.TensorProto.FLOAT and len(t.dims) == 2]
f32 = numpy.concatenate([w.ravel() for w in weights])
bits = f32.view(numpy.uint32)
bf16 = ((bits + 0x7FFF + (bits >> 16 & 1)) >> 16).astype(numpy.uint16)
for name, values in (("bf16", bf16), ("f16", f32.astype(numpy.float16)), ("f32", f32)):
    for level in sys.argv[2:] or ["3", "19"]:
        out = subprocess.run(["zstd", f"-{level}", "-c"], input=values.tobytes(), stdout=subprocess.PIPE, check=True).stdout
        print(f"{name} zstd -{level}: {100 * len(out) / values.nbytes:.2f} % of {values.nbytes / 1e6:.1f} MB", flush=True)
