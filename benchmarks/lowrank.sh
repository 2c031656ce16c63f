#!/usr/bin/env bash
# What factors cost a model and what they save, and what int4 gains from a correction: tables of bytes and of sentence
# embeddings against those of the original, as mean cosine and as part of the ten nearest sentences that stay the same.
#   benchmarks/lowrank.sh MODEL TEXTS TOKENIZER [SENTENCES]
# MODEL is an ONNX file, TEXTS has a sentence to a line, of which the first SENTENCES (256) are taken. ENERGIES="80 60" takes
# other parts of the energy, in per cent, RANKS="4 128" other ranks of corrections; 0 is none.
set -euo pipefail
. "${BASH_SOURCE[0]%/*}/evaluation.sh"

# How many weights have factors, and the last cells of a row.
factors() {
    grep -c '"lowRank" : {' "$work/compressed.json" || true
}
cells() {
    awk -v "b=$bytes" -v "o=$(number compressed bytesBefore)" -v "c=$cosine" -v "n=$neighbours" \
        'BEGIN { printf " %d | %.1f %% | %.4f | %.1f %% |\n", b, 100 * b / o, c, 100 * n }'
}

echo "$(basename "$model"), $(wc -l <"$work/texts") sentences"
echo
echo "| energy kept | weights that became factors | bytes of the file | of the original | cosine, mean | neighbours kept |"
echo "|---:|---:|---:|---:|---:|---:|"
for energy in ${ENERGIES-99.9 99 95 90}; do
    echo "energy $energy %" >&2
    evaluate lowrank --set "energy=$(awk -v "e=$energy" 'BEGIN { print e / 100 }')"
    echo "| $energy % | $(factors) |$(cells)"
done
echo
echo "| int4, rank of the correction | weights with one | bytes of the file | of the original | cosine, mean | neighbours kept |"
echo "|---:|---:|---:|---:|---:|---:|"
for rank in ${RANKS-0 8 16 32 64}; do
    echo "rank $rank" >&2
    if [ "$rank" = 0 ]; then
        evaluate int4
    else
        evaluate int4-corrected --set "rank=$rank"
    fi
    echo "| $rank | $(factors) |$(cells)"
done
