#!/usr/bin/env bash
# The same work through other tools. They are Python's: PYTHON names one that has them (python3 if left out).
#   PYTHON=... benchmarks/peers/run.sh [MODEL [TEXTS TOKENIZER]]
# Without a model: quantization and sparsity of a matrix. With one, also: compression of it by whole processes, and a check of the
# results. With texts and tokenizer, also: what compression does to sentence embeddings.
set -euo pipefail
peers=$(cd "${BASH_SOURCE[0]%/*}" && pwd)
python=${PYTHON:-python3}
type -P "$python" >/dev/null || { echo "peers/run.sh: no Python at '$python'; PYTHON may name one" >&2; exit 1; }

"$python" "$peers/quantize.py"
echo
"$python" "$peers/sparse.py"
if [ $# -ge 1 ]; then
    results=$(mktemp -d)
    trap 'rm -rf "$results"' EXIT
    echo
    "$python" "$peers/minilm.py" "$1" --keep "$results"
    echo
    "$python" "$peers/check.py" "$results"/*.onnx
    if [ $# -ge 3 ]; then
        echo
        "$python" "$peers/fidelity.py" "$1" "$results"/*.onnx --texts "$2" --tokenizer "$3"
    fi
fi
