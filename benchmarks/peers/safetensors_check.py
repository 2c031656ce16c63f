#!/usr/bin/env python3
"""Does a compressed folder say what it should? Reads it without any code of ours.

Every shard is loaded with the package safetensors, by NumPy and by PyTorch. Codes are unpacked by NumPy and compared with the
original: no element may be further from it than half a step, but for those that were pruned or whose range was cut. With
--expanded, what expand made has to be the same, bit for bit. Where the package compressed-tensors is installed, it reads the
configuration and decompresses every module too; where transformers is as well, --run loads both folders and compares what they
compute.
"""
import argparse
import importlib.util
import json
import re
import sys
from pathlib import Path

from common import need

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("folder", type=Path)
parser.add_argument("--original", type=Path, help="what was compressed")
parser.add_argument("--expanded", type=Path, help="what expand made of it")
parser.add_argument("--run", action="store_true", help="loads the folders with transformers")
args = parser.parse_args()
np, torch, safetensors = need("numpy", "torch", "safetensors")
from safetensors import safe_open  # noqa: E402
from safetensors.numpy import load_file as load_numpy  # noqa: E402

failures = []
pruned = set()
transposed = set()
stacked = set()


def check(right, message):
    if not right:
        failures.append(message)


def load(folder):
    """All tensors of a folder by name."""
    index = folder / "model.safetensors.index.json"
    tensors = {}
    if index.exists():
        index = json.loads(index.read_text())
        files = sorted(set(index["weight_map"].values()))
    else:
        files = [f.name for f in folder.glob("*.safetensors")]
    for file in files:
        with safe_open(folder / file, framework="pt") as f:
            here = {name: f.get_tensor(name) for name in f.keys()}
            for names, key in ((pruned, "pruned"), (transposed, "transposed"), (stacked, "stacked")):
                names.update(json.loads((f.metadata() or {}).get("tensorpress." + key, "{}")))
        if not any(t.dtype == torch.bfloat16 for t in here.values()):
            for name, t in load_numpy(folder / file).items():
                check(np.array_equal(t, here[name].numpy(), equal_nan=t.dtype.kind == "f"), f"{name} differs between NumPy and PyTorch")
        for name in here:
            check(name not in tensors, f"{name} is in two files")
            check(not isinstance(index, dict) or index["weight_map"].get(name) == file, f"{name} is in {file}, not where the index has it")
        tensors.update(here)
    if isinstance(index, dict):
        check(tensors.keys() == index["weight_map"].keys(), "the index has other tensors")
        total = sum(t.numel() * t.element_size() for t in tensors.values())
        check(index.get("metadata", {}).get("total_size", total) == total, f"total_size should be {total}")
    return tensors


def unpack(words, bits, n):
    """Fields of the words of each row, the first in the lowest bits, as signed numbers."""
    fields = np.arange(32 // bits, dtype=np.uint32) * bits
    codes = (words.view(np.uint32)[:, :, None] >> fields) & (2**bits - 1)
    return codes.reshape(words.shape[0], -1)[:, :n].astype(np.int32) - 2 ** (bits - 1)


def scheme_of(module, groups):
    for test in (lambda t: t == module, lambda t: t.startswith("re:") and re.match(t[3:], module), lambda t: t == "Linear"):
        for group in groups:
            if any(test(target) for target in group["targets"]):
                return group
    return None


def decode(module, tensors, scheme):
    """Codes, zero points and scales of each element's group, as arrays that multiply."""
    weights = scheme["weights"]
    bits = weights["num_bits"]
    scale = tensors[module + ".weight_scale"]
    if module + ".weight_packed" in tensors:
        rows, cols = tensors[module + ".weight_shape"].tolist()
        codes = unpack(tensors[module + ".weight_packed"].numpy(), bits, cols)
    else:
        codes = tensors[module + ".weight"].numpy().astype(np.int32)
        rows, cols = codes.shape
    check(codes.shape == (rows, cols), f"{module} has the shape {codes.shape}")
    groups = scale.shape[1]
    zeros = np.zeros((rows, groups), np.int32)
    if not weights["symmetric"]:
        stored = tensors[module + ".weight_zero_point"].numpy()
        zeros = unpack(np.ascontiguousarray(stored.T), bits, rows).T if stored.dtype == np.int32 else stored.astype(np.int32)
    wide = cols // groups
    return codes, np.repeat(zeros, wide, 1), np.repeat(scale.float().numpy(), wide, 1), scale.dtype


def weight_of(model, module):
    """A weight as the matrix that its codes are of."""
    if module in stacked:
        return model[module].reshape(-1, model[module].shape[-1])
    weight = model[module + ".weight"]
    return weight.T if module + ".weight" in transposed else weight


tensors = load(args.folder)
config = json.loads((args.folder / "config.json").read_text()).get("quantization_config") or {"config_groups": {}}
groups = list(config["config_groups"].values())
original = load(args.original) if args.original else {}
expanded = load(args.expanded) if args.expanded else {}
modules = sorted(name[:-len(".weight_scale")] for name in tensors if name.endswith(".weight_scale"))
worst = 0.0
cut = 0
kept = dict(tensors)
for module in modules:
    scheme = scheme_of(module, groups)
    check(scheme is not None, f"{module} has no scheme")
    for part in ("weight_packed", "weight", "weight_scale", "weight_zero_point", "weight_shape"):
        kept.pop(f"{module}.{part}", None)
    codes, zeros, scales, dtype = decode(module, tensors, scheme)
    values = (codes - zeros).astype(np.float32) * scales
    if original:
        steps = np.abs(weight_of(original, module).float().numpy().astype(np.float64) - values) / scales
        half = 2 ** (scheme["weights"]["num_bits"] - 1)
        outer = (codes == -half) | (codes == half - 1)
        gone = (codes == zeros) if module + ".weight" in pruned else np.zeros_like(outer)
        inside = float(steps[~outer & ~gone].max(initial=0))
        worst = max(worst, inside)
        cut += int((steps[outer & ~gone] > 0.5001).sum())
        check(inside <= 0.5001, f"{module} is up to {inside} steps from the original")
    if expanded:
        check(torch.equal(weight_of(expanded, module), torch.from_numpy(values).to(dtype)), f"{module} was expanded to something else")
for name, t in kept.items():
    for other in (original, expanded):
        if other and not name.endswith((".left", ".right")) and not (other is original and name in pruned):
            check(name in other and t.dtype == other[name].dtype and t.shape == other[name].shape
                  and t.reshape(-1).view(torch.uint8).equal(other[name].reshape(-1).view(torch.uint8)),
                  f"{name} did not stay as it was")
pairs = [name[:-len(".left")] for name in tensors if name.endswith(".left")]
for name in pairs if expanded else []:
    left, right = (tensors[f"{name}.{side}"].double() for side in ("left", "right"))
    product = (left @ right).reshape(-1)
    wanted = expanded[name].double()
    wanted = (wanted.T if left.shape[0] == wanted.shape[-1] and wanted.dim() == 2 else wanted).reshape(-1)
    bound = torch.finfo(expanded[name].dtype).eps * product.abs() + 1e-5 * (left.abs() @ right.abs()).reshape(-1)
    check(bool(((wanted - product).abs() <= bound).all()), f"{name} is not the product of its factors")
print(f"{args.folder}: {len(tensors)} tensors, {len(modules)} weights in {config.get('format')}, {len(pairs)} in factors"
      + (f", at most {worst:.4f} steps from the original; {cut} elements were cut" if original else ""))

if importlib.util.find_spec("compressed_tensors") and modules:
    from compressed_tensors.compressors import BaseCompressor
    from compressed_tensors.quantization import QuantizationConfig, QuantizationScheme

    read = QuantizationConfig.model_validate(config)
    for module in modules:
        scheme = QuantizationScheme.model_validate(scheme_of(module, groups))
        parts = {name[len(module) + 1:]: t for name, t in tensors.items() if name.startswith(module + ".weight")}
        compressor = BaseCompressor.get_value_from_registry(str(getattr(scheme.format, "value", scheme.format) or config["format"]))
        check(set(parts) == set(compressor.compression_param_names(scheme)), f"{module} has the tensors {sorted(parts)}")
        weight = compressor.decompress(parts, scheme)["weight"]
        if expanded:
            check(torch.equal(weight, weight_of(expanded, module)), f"compressed-tensors decompresses {module} to something else")
    print(f"compressed-tensors reads the configuration and decompresses {len(modules)} weights"
          + (", all to the same bits as expand" if expanded and not failures else ""))

if args.run:
    transformers, = need("transformers")
    ids = torch.arange(1, 17)[None]
    logits = []
    for folder in (args.folder, args.expanded):
        model = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype="auto")
        with torch.no_grad():
            logits.append(model(ids).logits.float())
    difference = ((logits[0] - logits[1]).norm() / logits[1].norm()).item()
    # Activations in 8 bits are rounded in the one, not in the other.
    check(difference < (0.05 if any(group["input_activations"] for group in groups) else 0.01),
          f"transformers computes something else of the compressed folder: {difference}")
    print(f"transformers: the logits of compressed and expanded differ by {difference:.2e} of their norm")

for failure in failures:
    print("WRONG:", failure)
sys.exit(bool(failures))
