#!/usr/bin/env python3
"""Compression that goes by texts: ONNX Runtime's quantizers against ours, each in a process of its own.

Four bits in blocks of 32, asymmetric, tables too: its rounding to nearest, HQQ and GPTQ, and our quantize and gptq. Eight bits: its static
quantization of products and tables by smallest and largest values, percentiles and entropy, and our recipes int8 and int8-dynamic. All
of the texts that calibrate are used. Seconds and peak memory are those of whole processes, ours being calibrate and compress one after
the other; then fidelity.py compares the results on other texts.
"""
import argparse
import os
import subprocess
import sys
import tempfile

from common import LAUNCHER, measure, require, size

HERE = os.path.dirname(os.path.abspath(__file__))
CODES = "{bits: 4, block: 32, symmetric: false, clip: {steps: 20, min: 0.7}}"
RECIPE = """name: %(method)s4
steps:
  - name: linear
    select: {role: [linear, head]}
    %(method)s: %(codes)s
  - name: embedding
    select: {role: embedding}
    quantize: %(codes)s
"""
PEERS = ["nbits4-table4", "hqq4-table4", "gptq4-table4", "qdq-minmax", "qdq-percentile", "qdq-entropy"]

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("model", help="an ONNX file, such as all-minilm-l6-v2.onnx")
parser.add_argument("--calibrate", required=True, help="a sentence to a line")
parser.add_argument("--texts", required=True, help="others, on which results are compared")
parser.add_argument("--tokenizer", required=True, help="a tokenizer.json")
parser.add_argument("--only", nargs="+", default=PEERS, help="of the peers: " + " ".join(PEERS))
args = parser.parse_args()
require("onnx", "onnxruntime", "tokenizers")
with open(args.calibrate, encoding="utf-8") as lines:
    samples = len(lines.read().splitlines())

with tempfile.TemporaryDirectory() as folder:
    statistics = os.path.join(folder, "statistics.safetensors")
    calibrate = [LAUNCHER, "calibrate", args.model, "-o", statistics, "--texts", args.calibrate, "--tokenizer", args.tokenizer]
    runs = {}
    for name in args.only:
        peer = [sys.executable, os.path.join(HERE, "ort.py"), args.model, folder, "--texts", args.calibrate, "--samples", str(samples),
                "--tokenizer", args.tokenizer, "--only", name]
        runs[f"ort-{name}"] = [peer]
    for method in ("quantize", "gptq"):
        recipe = os.path.join(folder, method + ".yaml")
        with open(recipe, "w", encoding="utf-8") as file:
            file.write(RECIPE % {"method": method, "codes": CODES})
        compress = [LAUNCHER, "compress", args.model, "-o", os.path.join(folder, method + "4.onnx"), "--recipe", recipe]
        runs[method + "4"] = [compress] if method == "quantize" else [calibrate, compress + ["--statistics", statistics]]
    for recipe in ("int8", "int8-dynamic"):
        runs[recipe] = [[LAUNCHER, "compress", args.model, "-o", os.path.join(folder, recipe + ".onnx"), "--recipe", recipe]]
    print(f"{os.path.basename(args.model)}; {samples} texts calibrate; {os.cpu_count()} processors\n")
    print("| | wall s | processor s | peak MiB | result bytes |\n|---|---:|---:|---:|---:|", flush=True)
    results = []
    for name, commands in runs.items():
        try:
            walls, processors, peaks = zip(*map(measure, commands))
        except SystemExit as failure:
            print(f"| {name} | failed: {str(failure).splitlines()[-1]} |", flush=True)
            continue
        results.append(os.path.join(folder, name + ".onnx"))
        print(f"| {name} | {sum(walls):.1f} | {sum(processors):.1f} | {max(peaks):.0f} | {size(results[-1]):,} |", flush=True)
    print(flush=True)
    subprocess.run([sys.executable, os.path.join(HERE, "fidelity.py"), args.model, *results, "--texts", args.texts, "--tokenizer", args.tokenizer,
                    "--processor", "--rounds", "1"], check=True)
