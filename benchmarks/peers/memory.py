#!/usr/bin/env python3
"""What a session of a model of sentences takes in memory: resident MB after one run over 48 tokens, and at most until then, above
what the process had before. Each model has a process of its own; the median of three. Set MALLOC_MMAP_THRESHOLD_=65536 to see
memory that the C library gives back.
"""
import argparse
import statistics
import subprocess
import sys

from common import need, session

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("models", nargs="+", metavar="model")
parser.add_argument("--one", action="store_true", help="in this process; prints both numbers")
args = parser.parse_args()


def resident():
    with open("/proc/self/status", encoding="ascii") as status:
        lines = dict(line.split(":", 1) for line in status)
    return [int(lines[key].split()[0]) / 1024 for key in ("VmRSS", "VmHWM")]


if args.one:
    np, _ = need("numpy", "onnxruntime")
    before = resident()[0]
    s = session(args.models[0], 1)
    s.run(None, {i.name: np.ones((1, 48), np.int64) for i in s.get_inputs()})
    print(*(mb - before for mb in resident()))
else:
    print("| | memory, MB | peak, MB |\n|---|---:|---:|")
    for model in args.models:
        runs = [subprocess.run([sys.executable, __file__, "--one", model], check=True, capture_output=True, text=True).stdout
                for _ in range(3)]
        after, peak = (statistics.median(numbers) for numbers in zip(*(map(float, run.split()) for run in runs)))
        print(f"| {model} | {after:.0f} | {peak:.0f} |", flush=True)
