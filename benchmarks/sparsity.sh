#!/usr/bin/env bash
# What pruning without training costs: a table of sentence embeddings against those of the original, by sparsity and by
# what elements are compared with. A cell is the mean cosine and the part of the ten nearest sentences that stay the same.
#   benchmarks/sparsity.sh MODEL TEXTS TOKENIZER [SENTENCES]
# MODEL is an ONNX file, TEXTS has a sentence to a line, of which the first SENTENCES (256) are taken. LEVELS="50 90" takes
# other sparsities, in per cent.
set -euo pipefail
root=$(cd "${BASH_SOURCE[0]%/*}/.." && pwd)
[ $# -ge 3 ] || { sed -n '2,6s/^# \{0,1\}//p' "${BASH_SOURCE[0]}" >&2; exit 2; }
model=$1 texts=$2 tokenizer=$3 sentences=${4:-256}
for file in "$model" "$texts" "$tokenizer"; do
    [ -r "$file" ] || { echo "sparsity.sh: cannot read $file" >&2; exit 1; }
done
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
head -n "$sentences" "$texts" >"$work/texts"

# A figure of the report; fails if there is none.
number() {
    sed -n "s/^ *\"$1\" : \([-0-9.Ee]*\),\{0,1\}$/\1/p" "$work/report.json" | grep -m 1 .
}

# The cell for a recipe and its options.
cell() {
    "$root/tensorpress" compress "$model" -o "$work/pruned.onnx" --force --recipe "$@" >"$work/log" 2>&1 &&
        "$root/tensorpress" evaluate "$model" "$work/pruned.onnx" --texts "$work/texts" --tokenizer "$tokenizer" \
            --report "$work/report.json" --force >"$work/log" 2>&1 ||
        { cat "$work/log" >&2; echo "sparsity.sh: failed: $*" >&2; exit 1; }
    local cosine neighbours
    cosine=$(number cosineMean) && neighbours=$(number neighbours) ||
        { echo "sparsity.sh: no figures in the report of: $*" >&2; exit 1; }
    awk -v "c=$cosine" -v "n=$neighbours" 'BEGIN { printf " %.4f, %.1f %% |", c, 100 * n }'
}

echo "$(basename "$model"), $(wc -l <"$work/texts") sentences; products and convolutions pruned, embeddings not"
echo
echo "| zeros | elements, all weights together | elements, by weight | elements, by output channel | blocks of 4 x 4, by weight |"
echo "|---:|---:|---:|---:|---:|"
for level in ${LEVELS-0 10 20 30 40 50 60 70 80 90}; do
    echo "$level %" >&2
    part=$(awk -v "level=$level" 'BEGIN { print level / 100 }')
    row=$(
        printf '| %s %% |' "$level"
        for scope in global tensor channel; do
            cell prune50 --set "sparsity=$part" --set "scope=$scope"
            [ "$level" != 0 ] || { printf ' the same | the same | the same |'; exit; }
        done
        cell prune50 --set "sparsity=$part" --set scope=tensor --set pattern=4x4
    )
    echo "$row"
done
pairs=$(cell sparse24)
echo
echo "Two of four (2:4, half of the elements):${pairs% |}."
