#!/usr/bin/env python3
"""What ONNX Runtime's own quantizers make of a model, for fidelity.py and ocr.py to compare with ours.

dynamic-s8, dynamic-u8: quantize_dynamic per channel. nbits4, nbits8: MatMulNBitsQuantizer (which wants onnx_ir too) in blocks of
32, four bits asymmetric; hqq4 and gptq4 the same by its HQQ (with torch) and GPTQ; with -table4 embeddings in four bits as well, if there are
any. qdq: quantize_static per channel, u8 activations and s8 weights, ranges by smallest and largest value; qdq-minmax the same of products and
tables alone, qdq-percentile and qdq-entropy by its other ways, which take inputs of one shape alone (sentences are padded) and no constant
values, as masks have them. Inputs that calibrate are sentences with --tokenizer, else rendered lines.
Weights in Constant nodes become initializers first, since these tools leave them alone otherwise; -table4 and qdq take operator sets
21 and 13, to which older models are converted.
"""
import argparse
import os

import lines as rendered
from common import need, sentences, session

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("model")
parser.add_argument("folder", help="for the results")
parser.add_argument("--texts", default=rendered.SENTENCES, help="a sentence to a line; the last ones calibrate")
parser.add_argument("--tokenizer", help="a tokenizer.json, if the model takes sentences")
parser.add_argument("--samples", type=int, default=64, help="that calibrate")
parser.add_argument("--only", nargs="+", help="of these names")
args = parser.parse_args()
onnx, _, quantization, nbits = need("onnx", "onnx.version_converter", "onnxruntime.quantization",
                                    "onnxruntime.quantization.matmul_nbits_quantizer")
os.makedirs(args.folder, exist_ok=True)


def initializers(path):
    """The model without Constant nodes."""
    model = onnx.load(path)
    rest = []
    for node in model.graph.node:
        value = node.attribute[0] if node.op_type == "Constant" else None
        if value is not None and value.name == "value":
            tensor = model.graph.initializer.add()
            tensor.CopyFrom(value.t)
            tensor.name = node.output[0]
        else:
            rest.append(node)
    del model.graph.node[:]
    model.graph.node.extend(rest)
    return model


class Reader(quantization.CalibrationDataReader):
    def __init__(self, padded=False):
        with open(args.texts, encoding="utf-8") as file:
            texts = file.read().splitlines()[-args.samples:]
        s = session(plain, 1)
        if args.tokenizer:
            (tokenizers,) = need("tokenizers")
            tokenizer = tokenizers.Tokenizer.from_file(args.tokenizer)
            if padded:
                tokenizer.enable_padding()
            else:
                tokenizer.no_padding()
            self.feeds = iter(sentences(s, tokenizer.encode_batch(texts)))
        else:
            self.feeds = iter([{s.get_inputs()[0].name: image} for image in rendered.render(texts)[1]])

    def get_next(self):
        return next(self.feeds, None)


def converted(opset):
    """The model at least at this operator set."""
    model = onnx.load(plain)
    if next(o.version for o in model.opset_import if o.domain in ("", "ai.onnx")) < opset:
        model = onnx.version_converter.convert_version(model, opset)
    for i, node in enumerate(model.graph.node):
        node.name = node.name or f"node_{i}"  # GPTQ takes nodes without a name for one
    return model


def dynamic(out, weights):
    quantization.quantize_dynamic(plain, out, per_channel=True, weight_type=weights)


def blocks(model, out, config):
    made = nbits.MatMulNBitsQuantizer(model, block_size=32, algo_config=config)
    made.process()
    onnx.save(made.model.model, out)


def rounded(bits, *operators):
    return nbits.DefaultWeightOnlyQuantConfig(block_size=32, is_symmetric=bits == 8, bits=bits, op_types_to_quantize=operators)


def tables(out, config):
    """Products, then tables in four bits, which the tool gives no bits of their own."""
    blocks(converted(21), out, config)
    blocks(onnx.load(out), out, rounded(4, "Gather"))


def static(out, method, *operators):
    padded = method != quantization.CalibrationMethod.MinMax
    quantization.quantize_static(converted(13), out, Reader(padded), per_channel=True, quant_format=quantization.QuantFormat.QDQ,
                                 calibrate_method=method, op_types_to_quantize=operators or None,
                                 activation_type=quantization.QuantType.QUInt8, weight_type=quantization.QuantType.QInt8)


plain = os.path.join(args.folder, "plain.onnx")
onnx.save(initializers(args.model), plain)
kinds = {
    "dynamic-s8": lambda out: dynamic(out, quantization.QuantType.QInt8),
    "dynamic-u8": lambda out: dynamic(out, quantization.QuantType.QUInt8),
    "qdq": lambda out: static(out, quantization.CalibrationMethod.MinMax),
    "qdq-minmax": lambda out: static(out, quantization.CalibrationMethod.MinMax, "MatMul", "Gather"),
    "qdq-percentile": lambda out: static(out, quantization.CalibrationMethod.Percentile, "MatMul", "Gather"),
    "qdq-entropy": lambda out: static(out, quantization.CalibrationMethod.Entropy, "MatMul", "Gather"),
}
products = {
    "nbits4": lambda: rounded(4, "MatMul"),
    "nbits8": lambda: rounded(8, "MatMul"),
    "hqq4": lambda: nbits.HQQWeightOnlyQuantConfig(block_size=32, bits=4),
    "gptq4": lambda: nbits.GPTQWeightOnlyQuantConfig(Reader()),
}
graph = onnx.load(plain).graph
large = {i.name for i in graph.initializer if len(i.dims) == 2}
tabled = any(n.op_type == "Gather" and n.input[0] in large for n in graph.node)
for name, config in products.items():
    kinds[name] = lambda out, config=config: blocks(onnx.load(plain), out, config())
    if tabled:
        kinds[name + "-table4"] = lambda out, config=config: tables(out, config())
for name, make in kinds.items():
    if not args.only or name in args.only:
        make(os.path.join(args.folder, f"ort-{name}.onnx"))
os.remove(plain)
