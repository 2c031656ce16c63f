#!/usr/bin/env bash
# What pruning without training costs: a table of sentence embeddings against those of the original, by sparsity and by
# what elements are compared with. A cell is the mean cosine and the part of the ten nearest sentences that stay the same.
#   benchmarks/sparsity.sh MODEL TEXTS TOKENIZER [SENTENCES]
# MODEL is an ONNX file, TEXTS has a sentence to a line, of which the first SENTENCES (256) are taken. LEVELS="50 90" takes
# other sparsities, in per cent.
set -euo pipefail
. "${BASH_SOURCE[0]%/*}/evaluation.sh"

# The cell for a recipe and its options.
cell() {
    evaluate "$@"
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
