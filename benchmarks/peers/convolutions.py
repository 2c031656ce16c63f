#!/usr/bin/env python3
"""What decomposed convolutions save in ONNX Runtime: part of the multiply-adds, and part of the time.

Models of one convolution of 3x3 with as many outputs as inputs, and random weights, are compressed by the method `decompose` with ranks
that are parts of the channels, or with as many terms of CP as have the same multiply-adds. Models take turns, one session at a time; times
are processor times of all threads, whose ratio to the whole convolution's is taken round by round, and the median of these.
"""
import argparse
import os
import statistics
import subprocess
import tempfile
import time

from common import LAUNCHER, need, session

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("--shapes", nargs="*", default=["64x56", "128x28", "256x28", "256x14", "512x14"], help="channels x height of the image")
parser.add_argument("--parts", type=float, nargs="*", default=[0.125, 0.25, 0.375, 0.5, 0.625, 0.75], help="ranks of the channels")
parser.add_argument("--threads", type=int, default=1)
parser.add_argument("--rounds", type=int, default=7)
parser.add_argument("--seconds", type=float, default=0.15, help="of each model in each round")
args = parser.parse_args()
np, onnx, ort = need("numpy", "onnx", "onnxruntime")
helper, numpy_helper = need("onnx.helper", "onnx.numpy_helper")


def convolution(channels, file):
    w = np.random.default_rng(channels).standard_normal((channels, channels, 3, 3)).astype(np.float32) / np.float32(3 * channels ** 0.5)
    node = helper.make_node("Conv", ["x", "w"], ["y"], pads=[1, 1, 1, 1])
    values = [helper.make_tensor_value_info(name, 1, [1, channels, "h", "w"]) for name in "xy"]
    graph = helper.make_graph([node], "one", values[:1], values[1:], [numpy_helper.from_array(w, "w")])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), file)


def compressed(file, how, out):
    recipe = out + ".yaml"
    with open(recipe, "w", encoding="utf-8") as f:
        f.write(f"name: one\nsteps:\n  - name: conv\n    select: {{role: conv, min-size: 0}}\n    decompose: {{{how}}}\n")
    done = subprocess.run([LAUNCHER, "compress", file, "-o", out, "--recipe", recipe, "--force"], capture_output=True, text=True)
    if done.returncode != 0 or not os.path.exists(out):
        raise SystemExit(f"convolutions.py: {how}: {done.stdout}{done.stderr}")
    return len(onnx.load(out).graph.node) > 1


def timed(file, x):
    s = session(file, args.threads, spin=False)
    s.run(None, {"x": x})
    start = time.process_time()
    runs = 0
    while time.process_time() - start < args.seconds:
        s.run(None, {"x": x})
        runs += 1
    return (time.process_time() - start) / runs


print(f"ONNX Runtime {ort.__version__}, threads: {args.threads}, processor time, medians of {args.rounds} rounds, load average {os.getloadavg()[0]:.1f}\n")
print("| channels x places | by | ranks | multiply-adds | time |\n|---|---|---|---:|---:|")
with tempfile.TemporaryDirectory() as folder:
    for shape in args.shapes:
        channels, height = map(int, shape.split("x"))
        whole = os.path.join(folder, "whole.onnx")
        convolution(channels, whole)
        models = {}
        for part in args.parts:
            rank = max(1, round(part * channels))
            share = (2 * channels * rank + 9 * rank * rank) / (9 * channels * channels)
            terms = round(share * 9 * channels * channels / (2 * channels + 9))
            for by, how, ranks in (("tucker", f"rank: {rank}, input-rank: {rank}", rank), ("cp", f"by: cp, rank: {terms}", terms)):
                # More terms than channels, and as many places of their own, are not worth the wait.
                if by == "cp" and terms > channels:
                    continue
                out = os.path.join(folder, f"{by}{ranks}.onnx")
                if compressed(whole, how, out):
                    models[out] = (by, ranks, share if by == "tucker" else terms * (2 * channels + 9) / (9 * channels * channels))
        x = np.random.default_rng(0).standard_normal((1, channels, height, height)).astype(np.float32)
        ratios = {model: [] for model in models}
        for _ in range(args.rounds):
            base = timed(whole, x)
            for model in models:
                ratios[model].append(timed(model, x) / base)
        for model, (by, ranks, share) in models.items():
            print(f"| {channels} x {height}² | {by} | {ranks} | {share:.2f} | {statistics.median(ratios[model]):.2f} |", flush=True)
print(f"\nLoad average at the end: {os.getloadavg()[0]:.1f}")
