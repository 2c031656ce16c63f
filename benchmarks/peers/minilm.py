#!/usr/bin/env python3
"""Whole processes on one model: quantize_dynamic of ONNX Runtime against tensorpress compress, taking turns.

Wall time, processor time and peak resident memory are those of the process and its children, start of Python or of the
JVM included. Resident memory counts pages of mapped files too.
"""
import argparse
import os
import statistics
import sys
import tempfile

from common import LAUNCHER, measure, require, size

CALL = """
import sys
from onnxruntime.quantization import QuantType, quantize_dynamic
quantize_dynamic(sys.argv[1], sys.argv[2], per_channel=True, weight_type=QuantType[sys.argv[3]])
"""

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("model", help="an ONNX file, such as all-minilm-l6-v2.onnx")
parser.add_argument("--recipe", default="int8")
parser.add_argument("--rounds", type=int, default=5)
parser.add_argument("--weight-type", default="QInt8", choices=["QInt8", "QUInt8"], help="of quantize_dynamic")
parser.add_argument("--keep", metavar="FOLDER", help="leave the results there: peer.onnx and tensorpress.onnx")
args = parser.parse_args()
require("onnx", "onnxruntime")  # imports would count: a child starts with the pages of its parent
if not os.access(LAUNCHER, os.X_OK):
    sys.exit("minilm.py: no launcher at " + os.path.normpath(LAUNCHER))


def run(folder):
    results = {"quantize_dynamic": os.path.join(folder, "peer.onnx"), "tensorpress": os.path.join(folder, "tensorpress.onnx")}
    commands = {
        "quantize_dynamic": [sys.executable, "-c", CALL, args.model, results["quantize_dynamic"], args.weight_type],
        "tensorpress": [LAUNCHER, "compress", args.model, "-o", results["tensorpress"], "--recipe", args.recipe],
    }
    runs = {name: [] for name in commands}
    for i in range(args.rounds + 1):
        for name, command in commands.items():
            if os.path.exists(results[name]):
                os.remove(results[name])
            sample = measure(command)
            if i > 0:  # the first run may build, unpack or read from a cold disk
                runs[name].append(sample)

    print(f"{os.path.basename(args.model)}, {size(args.model) / 1e6:.1f} MB; {os.cpu_count()} processors; "
          f"median of {args.rounds} runs, taking turns\n")
    print("| | wall s | lowest to highest | processor s | peak MiB | result MB |\n|---|---:|---:|---:|---:|---:|")
    for name, samples in runs.items():
        wall, cpu, memory = (statistics.median(column) for column in zip(*samples))
        walls = sorted(s[0] for s in samples)
        print(f"| {name} | {wall:.3f} | {walls[0]:.3f} to {walls[-1]:.3f} | {cpu:.2f} | {memory:.0f} | "
              f"{size(results[name]) / 1e6:.2f} |")
    ratio = statistics.median(a[0] / b[0] for a, b in zip(runs["tensorpress"], runs["quantize_dynamic"]))
    highest = max(s[2] for s in runs["tensorpress"])
    print(f"\nRecipe {args.recipe} takes {ratio:.3f} of the time of quantize_dynamic (1/{1 / ratio:.1f}; target at most 1/8), "
          f"with a peak of at most {highest:.0f} MiB (target at most 256).")


if args.keep:
    os.makedirs(args.keep, exist_ok=True)
    run(args.keep)
else:
    with tempfile.TemporaryDirectory() as folder:
        run(folder)
