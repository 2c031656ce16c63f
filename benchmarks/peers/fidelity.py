#!/usr/bin/env python3
"""Sentence embeddings of compressed models against those of the original: what tensorpress evaluate reports, computed
without any of its code.

An embedding is the mean over the tokens of the model's first output. Sentences are run one at a time, without padding.
Latencies: one session at a time, opened afresh, models taking turns; the median over the rounds.
"""
import argparse
import os
import statistics
import time

from common import need, ratio, sentences, session, size

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("reference")
parser.add_argument("candidates", nargs="+", metavar="candidate")
parser.add_argument("--texts", required=True, help="a sentence to a line")
parser.add_argument("--tokenizer", required=True, help="a tokenizer.json")
parser.add_argument("--limit", type=int, help="of sentences")
parser.add_argument("--threads", type=int, default=2, help="within an operator")
parser.add_argument("--rounds", type=int, default=5, help="of the latencies")
parser.add_argument("--processor", action="store_true", help="time of processors instead of latencies, for a busy machine")
args = parser.parse_args()
np, ort, tokenizers = need("numpy", "onnxruntime", "tokenizers")

tokenizer = tokenizers.Tokenizer.from_file(args.tokenizer)
tokenizer.no_padding()
with open(args.texts, encoding="utf-8") as lines:
    texts = [line.strip() for line in lines if line.strip()][: args.limit]
encodings = [tokenizer.encode(text) for text in texts]


def one_pass(model):
    """Embeddings, and milliseconds per sentence."""
    s = session(model, args.threads, spin=not args.processor)
    feeds = sentences(s, encodings)
    output = s.get_outputs()[0].name
    for feed in feeds[:16]:
        s.run([output], feed)
    clock = time.process_time if args.processor else time.perf_counter
    start = clock()
    hidden = [s.run([output], feed)[0] for feed in feeds]
    ms = (clock() - start) * 1e3 / len(feeds)
    return np.stack([h[0].astype(np.float64).mean(axis=0) for h in hidden]), ms


models = [args.reference] + args.candidates
embeddings, latencies = {}, {model: [] for model in models}
for _ in range(args.rounds):
    for model in models:
        embeddings[model], ms = one_pass(model)
        latencies[model].append(ms)

reference = embeddings[args.reference]
print(f"{len(texts)} sentences; ONNX Runtime {ort.__version__}, {args.threads} threads, "
      f"{'processor time, ' if args.processor else ''}median of {args.rounds} rounds\n")
print("| | cosine mean | lowest | MB | of the original | ms per sentence | of the original |\n|---|---:|---:|---:|---:|---:|---:|")
for model in models:
    e = embeddings[model]
    cosine = (e * reference).sum(axis=1) / np.linalg.norm(e, axis=1) / np.linalg.norm(reference, axis=1)
    print(f"| {os.path.basename(model)} | {cosine.mean():.6f} | {cosine.min():.6f} | {size(model) / 1e6:.2f} | "
          f"{size(model) / size(args.reference):.4f} | {statistics.median(latencies[model]):.2f} | {ratio(latencies[model], latencies[args.reference]):.2f} |")
