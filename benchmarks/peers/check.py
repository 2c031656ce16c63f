#!/usr/bin/env python3
"""Is this a valid model? Asks ONNX's own checker, shape inference included, and ONNX Runtime, which must load it."""
import argparse
import sys

from common import need

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("models", nargs="+", metavar="model")
args = parser.parse_args()
onnx, ort = need("onnx", "onnxruntime")
ort.set_default_logger_severity(3)

failed = False
for model in args.models:
    try:
        onnx.checker.check_model(model, full_check=True)
        ort.InferenceSession(model, providers=["CPUExecutionProvider"])
        opsets = {o.domain or "ai.onnx": o.version for o in onnx.load(model, load_external_data=False).opset_import}
        print(f"valid: {model}: " + ", ".join(f"{domain} {version}" for domain, version in opsets.items()))
    except Exception as e:  # whatever they raise is the answer
        failed = True
        print(f"INVALID: {model}: {type(e).__name__}: {e}")
sys.exit(failed)
