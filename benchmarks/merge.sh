#!/usr/bin/env bash
# Two models merged, from disk to disk, as part of the speed at which this machine copies, and how much memory that takes. A table in Markdown.
#   benchmarks/merge.sh FOLDER [--layers N] [--rounds N] [--methods mean,slerp,task-arithmetic,ties,dare-linear,dare-ties] [--memory 512MB] [--keep]
# Copied is what is merged: both models are read, and as much is written as one of them has, in pieces that take turns. Makes the models in
# FOLDER/a, FOLDER/b and FOLDER/base, unless they are there, and takes them away at the end, unless told to keep them. FOLDER needs room for
# four models (N layers: four times 0.41 N + 0.53 GB), on the disk that is to be measured. Page caches are emptied before each run where root
# may do so, else the models' pages are dropped. Linux only.
set -euo pipefail
root=$(cd "${BASH_SOURCE[0]%/*}/.." && pwd)
usage() {
    sed -n '2,/^set /{/^#/s/^# \{0,1\}//p}' "$0" >&2
    exit 2
}
[ $# -ge 1 ] || usage
folder=$1
shift
layers=2 rounds=5 methods=mean,slerp,task-arithmetic,ties,dare-linear,dare-ties memory=512MB keep=
while [ $# -gt 0 ]; do
    case $1 in
        --keep) keep=yes; shift; continue ;;
        --layers | --rounds | --methods | --memory) [ $# -ge 2 ] || usage; printf -v "${1#--}" %s "$2"; shift 2 ;;
        *) usage ;;
    esac
done
mkdir -p "$folder"
out=$folder/out copy=$folder/copy
work=$(mktemp -d)
clean() {
    rm -rf "$work" "$out" "$out.partial" "$copy"
    [ -n "$keep" ] || rm -rf "$folder/a" "$folder/b" "$folder/base"
}
trap clean EXIT
trap 'exit 130' INT TERM

seed=1
for name in a b base; do
    if ! grep -qs "\"num_hidden_layers\": $layers," "$folder/$name/config.json"; then
        rm -rf "${folder:?}/$name"
        "$root/benchmarks/run.sh" model "$folder/$name" --layers "$layers" --shards 1 --seed "$seed"
    fi
    seed=$((seed + 1))
done
"$root/tensorpress" --version >/dev/null # builds it and what it starts from
bytes=$(cat "$folder"/a/*.safetensors | wc -c)

# Leaves no page of a model or of an output in memory.
cold() {
    sync
    if ! { echo 3 >/proc/sys/vm/drop_caches; } 2>/dev/null; then
        local f
        for f in "$folder"/{a,b,base}/*; do
            dd if="$f" iflag=nocache count=0 status=none
        done
    fi
}

now() { # microseconds
    local t=$EPOCHREALTIME
    echo "${t/[.,]/}"
}

# Reads pieces of two models in turns, and writes those of the first, then waits for the disk.
copy() {
    local piece=$((64 << 20)) at
    : >"$copy"
    for ((at = 0; at < bytes; at += piece)); do
        dd if="$(echo "$folder"/b/*.safetensors)" bs=1M iflag=skip_bytes,count_bytes skip="$at" count="$piece" of=/dev/null status=none
        dd if="$(echo "$folder"/a/*.safetensors)" bs=1M iflag=skip_bytes,count_bytes skip="$at" count="$piece" of="$copy" oflag=append \
            conv=notrunc status=none
    done
    sync "$copy"
}

# Merges, and watches the memory all the while. Sets wall in ms, and anonymous and resident, the largest memory in KiB.
merge() {
    local start
    start=$(now)
    "$root/tensorpress" merge "$@" -o "$out" --memory "$memory" >"$work/log" &
    local pid=$! status=0 key value rest
    resident=0 anonymous=0
    while kill -0 "$pid" 2>/dev/null; do
        while read -r key value rest; do
            case $key in
                RssAnon:) anonymous=$((value > anonymous ? value : anonymous)) ;;
                VmHWM:) resident=$((value > resident ? value : resident)) ;;
            esac
        done 2>/dev/null <"/proc/$pid/status" || true
        read -r -t 0.02 <>"$work/never" || true
    done
    wait "$pid" || status=$?
    wall=$((($(now) - start) / 1000))
    [ "$status" = 0 ] || exit 1
}
mkfifo "$work/never"

median() { # of lines
    sort -n | awk '{ a[NR] = $1 } END { print (a[int((NR + 1) / 2)] + a[int(NR / 2) + 1]) / 2 }'
}

for ((round = 1; round <= rounds; round++)); do
    for method in ${methods//,/ }; do
        echo "round $round, $method" >&2
        base=()
        case $method in mean | slerp) ;; *) base=(--base "$folder/base") ;; esac
        rm -rf "$out"
        cold
        merge "$folder/a" "$folder/b" "${base[@]}" --method "$method"
        rm -rf "$out"
        cold
        start=$(now)
        copy
        copied=$((($(now) - start) / 1000))
        rm -f "$copy"
        echo "$copied $wall $(awk -v "a=$copied" -v "b=$wall" 'BEGIN { print a / b }') $anonymous $resident" >>"$work/$method"
    done
done

echo "$(sed -n 's/^model name[^:]*: //p' /proc/cpuinfo | head -n 1), $(nproc) processors, load average $(cut -d ' ' -f 1 /proc/loadavg);" \
    "two models of $bytes bytes; medians of $rounds rounds"
echo
echo "| \`--method\` | s, copy | s | speed, copy = 1 | lowest | anonymous memory, largest | resident with pages of files |"
echo "|---|---:|---:|---:|---:|---:|---:|"
for method in ${methods//,/ }; do
    f=$work/$method
    awk -v "r=$method" -v "c=$(cut -d ' ' -f 1 "$f" | median)" -v "m=$(cut -d ' ' -f 2 "$f" | median)" -v "q=$(cut -d ' ' -f 3 "$f" | median)" \
        -v "l=$(cut -d ' ' -f 3 "$f" | sort -n | head -n 1)" -v "a=$(cut -d ' ' -f 4 "$f" | sort -n | tail -n 1)" \
        -v "h=$(cut -d ' ' -f 5 "$f" | sort -n | tail -n 1)" \
        'BEGIN { printf "| `%s` | %.1f | %.1f | %.2f | %.2f | %.0f MB | %.0f MB |\n", r, c / 1000, m / 1000, q, l, a * 1.024e-3, h * 1.024e-3 }'
done
