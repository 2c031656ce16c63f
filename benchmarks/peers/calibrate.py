#!/usr/bin/env python3
"""Statistics of a model in safetensors, which transformers runs, for `tensorpress compress --statistics`.

Each line of the texts is one sample. What every linear module reads is added up in f64: docs/calibration.md says what is kept, and how
the file names the weights. Modules that read the same tensor, as those of queries, keys and values do, share one entry.
"""
import argparse
import hashlib
import json
from pathlib import Path

from common import need

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("model", type=Path, help="a folder with config.json, tokenizer and safetensors")
parser.add_argument("-o", "--output", required=True)
parser.add_argument("--texts", type=Path, help="a text on each line")
parser.add_argument("--tokens", type=Path, help="instead of texts: a JSON list of lists of token numbers")
parser.add_argument("--no-gram", action="store_true", help="without Gram matrices")
args = parser.parse_args()
torch, tensors_of, transformers = need("torch", "safetensors.torch", "transformers")


def files():
    """Of the model, in the order in which tensorpress reads them: the index, then the files by name."""
    index = args.model / "model.safetensors.index.json"
    if not index.exists():
        return [args.model / "model.safetensors"]
    return [index] + [args.model / name for name in sorted(set(json.loads(index.read_text())["weight_map"].values()))]


def stored():
    """Names of all tensors in the files."""
    names = set()
    for file in files():
        if file.suffix == ".safetensors":
            with tensors_of.safe_open(file, "pt") as f:
                names |= set(f.keys())
    return names


class Sums:
    """Of what some modules read: rows are all but the last axis."""

    def __init__(self, channels):
        self.rows, self.weights = 0, []
        self.min, self.max = torch.full((channels,), torch.inf), torch.full((channels,), -torch.inf)
        self.sum, self.squares = torch.zeros(channels, dtype=torch.float64), torch.zeros(channels, dtype=torch.float64)
        self.gram = None if args.no_gram else torch.zeros(1, channels, channels, dtype=torch.float64)

    def add(self, x):
        x = x.detach().reshape(-1, x.shape[-1]).float().cpu()
        if not torch.isfinite(x).all():
            raise SystemExit(f"{self.weights[0]}: NaN or infinity")
        self.rows += len(x)
        self.min, self.max = torch.minimum(self.min, x.amin(0)), torch.maximum(self.max, x.amax(0))
        x = x.double()
        self.sum += x.sum(0)
        self.squares += (x * x).sum(0)
        if self.gram is not None:
            self.gram[0] += x.T @ x


model = transformers.AutoModelForCausalLM.from_pretrained(args.model, dtype=torch.float32).eval()
names = stored()
sums = {}  # of each module by its weight's name
last = None  # the tensor that was read last, and its sums: modules that share it run one after another


def hook(name):
    def read(module, inputs):
        global last
        x = inputs[0]
        if name not in sums:
            sums[name] = last[1] if last is not None and last[0] is x else Sums(x.shape[-1])
            sums[name].weights.append(name)
        if sums[name].weights[0] == name and x.numel() > 0:
            sums[name].add(x)
        last = (x, sums[name])
    return read


for name, module in model.named_modules():
    if isinstance(module, torch.nn.Linear) and name + ".weight" in names:
        module.register_forward_pre_hook(hook(name + ".weight"))
if args.tokens:
    samples = json.loads(args.tokens.read_text())
else:
    tokenizer = transformers.AutoTokenizer.from_pretrained(args.model)
    samples = [tokenizer(line)["input_ids"] for line in args.texts.read_text(encoding="utf-8").splitlines()]
with torch.no_grad():
    for sample in samples:
        model(input_ids=torch.tensor([sample]), use_cache=False)
        last = None

digest = hashlib.sha256()
for file in files():
    digest.update(file.read_bytes())
metadata = {"format": "tensorpress.statistics", "version": "1", "model": digest.hexdigest(), "samples": str(len(samples)),
            "source": "tokens" if args.tokens else "texts"}
tensors = {}
for i, s in enumerate(dict.fromkeys(sums.values())):
    if s.rows == 0:
        continue
    metadata |= {f"{i}.name": s.weights[0], f"{i}.axis": "-1", f"{i}.rows": str(s.rows)}
    metadata |= {f"{i}.weight.{j}": name for j, name in enumerate(s.weights)}
    tensors |= {f"{i}.{key}": getattr(s, key) for key in ("min", "max", "sum", "squares")}
    if s.gram is not None:
        tensors[f"{i}.gram"] = (s.gram + s.gram.transpose(1, 2)) / 2
tensors_of.save_file(tensors, args.output, metadata)
print(f"{args.output}: what {len(sums)} of {len(names)} weights are multiplied with, over {len(samples)} samples")
