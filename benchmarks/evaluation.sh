# For scripts that compress a model and compare its sentence embeddings with those of the original; to be sourced with the
# script's arguments MODEL TEXTS TOKENIZER [SENTENCES]. Sets $model, $texts, $tokenizer and $work, a folder for the time of the run.
root=$(cd "${BASH_SOURCE[0]%/*}/.." && pwd)
script=${0##*/}
[ $# -ge 3 ] || { sed -n '2,/^set /{/^#/s/^# \{0,1\}//p}' "$0" >&2; exit 2; }
model=$1 texts=$2 tokenizer=$3 sentences=${4:-256}
for file in "$model" "$texts" "$tokenizer"; do
    [ -r "$file" ] || { echo "$script: cannot read $file" >&2; exit 1; }
done
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
head -n "$sentences" "$texts" >"$work/texts"

# A figure of a report in $work, the first of its name; fails if there is none.
number() { # report name
    sed -n "s/^ *\"$2\" : \([-0-9.Ee]*\),\{0,1\}$/\1/p" "$work/$1.json" | grep -m 1 .
}

# Compresses by a recipe and its options and evaluates, for the reports "compressed" and "evaluated".
evaluate() {
    "$root/tensorpress" compress "$model" -o "$work/compressed.onnx" --force --report "$work/compressed.json" --recipe "$@" \
        >"$work/log" 2>&1 &&
        "$root/tensorpress" evaluate "$model" "$work/compressed.onnx" --texts "$work/texts" --tokenizer "$tokenizer" \
            --report "$work/evaluated.json" --force >"$work/log" 2>&1 ||
        { cat "$work/log" >&2; echo "$script: failed: $*" >&2; exit 1; }
    cosine=$(number evaluated cosineMean) && neighbours=$(number evaluated neighbours) && bytes=$(number compressed bytesAfter) ||
        { echo "$script: no figures in the reports of: $*" >&2; exit 1; }
}
