#!/usr/bin/env python3
"""Recurrent layers and a model whose table is tied to its head, with random weights, as both of PyTorch's exporters write them.

Wants onnxscript too. NAME-torchscript-plain.onnx and NAME-dynamo-plain.onnx are written without folding and optimizing.
"""
import argparse
import os

from common import need

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("folder", help="for the models")
args = parser.parse_args()
torch, _ = need("torch", "onnxscript")
os.makedirs(args.folder, exist_ok=True)
torch.manual_seed(0)


class Recurrent(torch.nn.Module):
    def __init__(self, kind, both):
        super().__init__()
        self.layer = kind(256, 512, 2, bidirectional=both, batch_first=True)

    def forward(self, x):
        return self.layer(x)[0]


class Tied(torch.nn.Module):
    """Of the shapes of GPT-2, with one block of products."""

    def __init__(self):
        super().__init__()
        self.words = torch.nn.Embedding(50257, 768)
        self.up = torch.nn.Linear(768, 3072)
        self.down = torch.nn.Linear(3072, 768)
        self.head = torch.nn.Linear(768, 50257, bias=False)
        self.head.weight = self.words.weight

    def forward(self, x):
        return self.head(self.down(torch.nn.functional.gelu(self.up(self.words(x)))))


frames = torch.randn(1, 7, 256)
models = {"lstm": (Recurrent(torch.nn.LSTM, False), frames), "lstm-both": (Recurrent(torch.nn.LSTM, True), frames),
          "gru": (Recurrent(torch.nn.GRU, False), frames), "rnn": (Recurrent(torch.nn.RNN, False), frames),
          "tied": (Tied(), torch.randint(0, 50257, (1, 7)))}
for name, (model, x) in models.items():
    for plain in False, True:
        for exporter in "torchscript", "dynamo":
            path = os.path.join(args.folder, f"{name}-{exporter}{'-plain' if plain else ''}.onnx")
            options = {"dynamo": False, "do_constant_folding": not plain} if exporter == "torchscript" else {
                "dynamo": True, "optimize": not plain, "external_data": False}
            torch.onnx.export(model.eval(), (x,), path, input_names=["x"], output_names=["y"], verbose=False, **options)
