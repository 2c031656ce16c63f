#!/usr/bin/env python3
"""Another version of Tensorpress against this one, on one model: are the bytes that all recipes and targets write the same,
and what processor time do whole processes take, in turns.

OTHER is a checkout of the other version. Ratios are this one by the other: of the medians, and in brackets the median of those
of a round. What "differs" has other bytes, or is refused by one of both.
"""
import argparse
import hashlib
import os
import re
import statistics
import subprocess
import tempfile

from common import measure

THIS = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..")

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("other", help="a checkout")
parser.add_argument("model", help="an ONNX file")
parser.add_argument("--targets", nargs="+", default=["onnxruntime", "onnx"])
parser.add_argument("--recipe", default="int8", help="that is timed")
parser.add_argument("--rounds", type=int, default=21)
args = parser.parse_args()
launchers = [os.path.join(root, "tensorpress") for root in (args.other, THIS)]
for launcher in launchers:
    measure([launcher, "--version"])  # builds it


def digest(launcher, recipe, target, out):
    """None if there is no output."""
    command = [launcher, "compress", args.model, "-o", out, "--recipe", recipe, "--target", target, "--force"]
    if subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL).returncode != 0:
        return None
    with open(out, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


with tempfile.TemporaryDirectory() as folder:
    out = os.path.join(folder, "out")
    listed = subprocess.run([launchers[1], "recipe"], capture_output=True, text=True, check=True).stdout
    recipes = re.match("Recipes: (.*), or a", listed)[1].split(", ")
    same = 0
    for recipe in recipes:
        for target in args.targets:
            digests = [digest(launcher, recipe, target, out) for launcher in launchers]
            if None not in digests and len(set(digests)) == 1:
                same += 1
            else:
                print(f"{recipe} for {target} differs")
    print(f"{same} of {len(recipes) * len(args.targets)} outputs are the same: {len(recipes)} recipes, {len(args.targets)} targets\n")

    print(f"Processor time, median of {args.rounds} rounds, taking turns; load average {os.getloadavg()[0]:.2f}\n")
    print("| | other, s | this, s | ratio |\n|---|---:|---:|---:|")
    compress = ["compress", args.model, "-o", out, "--recipe", args.recipe, "--force"]
    for name, command in (("--version", ["--version"]), (f"compress --recipe {args.recipe}", compress)):
        rounds = [[measure([launcher, *command])[1] for launcher in launchers] for _ in range(args.rounds + 1)][1:]
        other, this = (statistics.median(column) for column in zip(*rounds))
        pairs = statistics.median(b / a for a, b in rounds)
        print(f"| `{name}` | {other:.3f} | {this:.3f} | {this / other:.2f} ({pairs:.2f}) |")
