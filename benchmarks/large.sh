#!/usr/bin/env bash
# A model of 12 GB from disk to disk: how fast it is compressed, packed, and made again of its archive, as part of the speed at which
# this machine copies, and how much memory that takes. Tables in Markdown.
#   benchmarks/large.sh FOLDER [--layers N] [--rounds N] [--recipes w8a16,w4a16] [--memory 512MB] [--keep]
# `--recipes ''` leaves compression out. Beside compression a copy writes as much as it; beside `pack` and `expand`, the whole model.
# Makes the model in FOLDER/made, unless it is there, and takes it away at the end, unless told to keep it. FOLDER needs room
# for it, its archive and one output (N layers: three times 0.41 N + 0.53 GB), on the disk that is to be measured. Page caches
# are emptied before each run where root may do so, else the model's pages are dropped. Linux only.
set -euo pipefail
root=$(cd "${BASH_SOURCE[0]%/*}/.." && pwd)
usage() {
    sed -n '2,/^set /{/^#/s/^# \{0,1\}//p}' "$0" >&2
    exit 2
}
[ $# -ge 1 ] || usage
folder=$1
shift
layers=29 rounds=3 recipes=w8a16,w4a16 memory=512MB keep=
while [ $# -gt 0 ]; do
    case $1 in
        --keep) keep=yes; shift; continue ;;
        --layers | --rounds | --recipes | --memory) [ $# -ge 2 ] || usage; printf -v "${1#--}" %s "$2"; shift 2 ;;
        *) usage ;;
    esac
done
mkdir -p "$folder"
made=$folder/made out=$folder/out copy=$folder/copy archive=$folder/made.tpa
work=$(mktemp -d)
clean() {
    rm -rf "$work" "$out" "$out.partial" "$copy" "$archive"
    [ -n "$keep" ] || rm -rf "$made"
}
trap clean EXIT
trap 'exit 130' INT TERM

# The folder of another number of layers is not this one.
if ! grep -qs "\"num_hidden_layers\": $layers," "$made/config.json" || [ ! -e "$made/tokenizer.json" ]; then
    rm -rf "$made"
    "$root/benchmarks/run.sh" model "$made" --layers "$layers"
fi
"$root/tensorpress" --version >/dev/null # builds it and what it starts from
bytes=$(cat "$made"/*.safetensors | wc -c)

# Leaves no page of the model or of an output in memory.
cold() {
    sync
    if ! { echo 3 >/proc/sys/vm/drop_caches; } 2>/dev/null; then
        local f
        for f in "$made"/*; do
            dd if="$f" iflag=nocache count=0 status=none
        done
    fi
}

now() { # microseconds
    local t=$EPOCHREALTIME
    echo "${t/[.,]/}"
}

# Runs a command, whose messages go to $work/log, and watches its memory all the while. Sets wall, cpu (user and system) and first
# (until its first line of messages), all in ms, and anonymous and resident, both in KiB: the largest seen, every 20 ms, and
# the kernel's own mark.
run() {
    local start pid children child key value rest status
    rm -f "$work"/{log,first,times}
    anonymous=0 resident=0
    start=$(now)
    {
        TIMEFORMAT='%U %S'
        time "$@" 2> >(
            IFS= read -r line || true
            now >"$work/first"
            printf '%s\n' "$line" >"$work/log"
            exec cat >>"$work/log"
        ) >/dev/null
    } 2>"$work/times" &
    pid=$!
    while kill -0 "$pid" 2>/dev/null; do
        # The process, and what reads its messages, which is small.
        children=
        read -r children 2>/dev/null <"/proc/$pid/task/$pid/children" || true
        for child in $children; do
            while read -r key value rest; do
                case $key in
                    RssAnon:) anonymous=$((value > anonymous ? value : anonymous)) ;;
                    VmHWM:) resident=$((value > resident ? value : resident)) ;;
                esac
            done 2>/dev/null <"/proc/$child/status" || true
        done
        read -r -t 0.02 <>"$work/never" || true
    done
    status=0
    wait "$pid" || status=$?
    wall=$((($(now) - start) / 1000))
    cpu=$(awk '{ print int(1000 * ($1 + $2)) }' "$work/times")
    first=$((($(<"$work/first") - start) / 1000))
    [ "$status" = 0 ] || { cat "$work/log" >&2; echo "benchmarks/large.sh: failed: $*" >&2; exit 1; }
}
mkfifo "$work/never"

# Reads the model in pieces of 64 MiB and writes of each the part that makes $1 bytes in all, then waits for the disk. Pieces of
# output and input take turns, as a program's do that writes what it makes of what it reads.
copy() {
    local piece=$((64 << 20)) part f size at n
    part=$(awk -v "p=$piece" -v "w=$1" -v "b=$bytes" 'BEGIN { printf "%d", p * w / b / 4096 }')
    part=$((part * 4096))
    : >"$copy"
    for f in "$made"/*.safetensors; do
        size=$(stat -L -c %s "$f")
        for ((at = 0; at < size; at += piece)); do
            n=$((size - at < piece ? size - at : piece))
            dd if="$f" bs=1M iflag=skip_bytes,count_bytes skip="$at" count="$((n < part ? n : part))" of="$copy" \
                oflag=append conv=notrunc status=none
            [ "$n" -le "$part" ] || dd if="$f" bs=1M iflag=skip_bytes,count_bytes skip="$((at + part))" count="$((n - part))" \
                of=/dev/null status=none
        done
    done
    sync "$copy"
}

median() { # of lines
    sort -n | awk '{ a[NR] = $1 } END { print (a[int((NR + 1) / 2)] + a[int(NR / 2) + 1]) / 2 }'
}
column() { # file column
    cut -d ' ' -f "$2" "$1" | median
}
largest() { # file column
    cut -d ' ' -f "$2" "$1" | sort -n | tail -n 1
}

# Does what a name says: a recipe, or pack, or expand of what was packed. Sets written, and how many of that a copy writes.
perform() {
    case $1 in
        pack)
            run "$root/tensorpress" pack "$made" -o "$archive" --memory "$memory" --force
            written=$(stat -c %s "$archive") copied=$bytes
            ;;
        expand)
            run "$root/tensorpress" expand "$archive" -o "$out" --memory "$memory"
            written=$(cat "$out"/*.safetensors | wc -c) copied=$bytes
            cmp -s "$out/config.json" "$made/config.json" && [ "$written" = "$bytes" ]
            ;;
        *)
            run "$root/tensorpress" compress "$made" -o "$out" --recipe "$1" --memory "$memory"
            written=$(cat "$out"/*.safetensors | wc -c) copied=$written
            ;;
    esac
}

works="${recipes//,/ } pack expand"
for ((round = 1; round <= rounds; round++)); do
    for name in $works; do
        echo "round $round, $name" >&2
        rm -rf "$out"
        cold
        perform "$name"
        mine=$wall line="$cpu $anonymous $resident $first"
        rm -rf "$out"
        cold
        run copy "$copied"
        echo "$wall $mine $(awk -v "a=$wall" -v "b=$mine" 'BEGIN { print a / b }') $line $written $cpu" >>"$work/$name"
        rm -f "$copy"
    done
    for state in cold warm; do
        [ "$state" = warm ] || cold
        run "$root/tensorpress" inspect "$made"
        echo "$wall $cpu" >>"$work/inspect-$state"
    done
done

echo "$(sed -n 's/^model name[^:]*: //p' /proc/cpuinfo | head -n 1), $(nproc) processors, load average $(cut -d ' ' -f 1 /proc/loadavg);" \
    "$layers layers, $bytes bytes in $(ls "$made"/*.safetensors | wc -l) files; medians of $rounds rounds"
echo
echo "| | bytes written | s, copy | s | speed, copy = 1 | lowest | processor s | anonymous memory, largest |" \
    "resident with pages of files | first line after |"
echo "|---|---:|---:|---:|---:|---:|---:|---:|---:|---:|"
for name in $works; do
    f=$work/$name
    awk -v "r=$name" -v "c=$(column "$f" 1)" -v "m=$(column "$f" 2)" -v "q=$(column "$f" 3)" \
        -v "l=$(cut -d ' ' -f 3 "$f" | sort -n | head -n 1)" -v "p=$(column "$f" 4)" -v "a=$(largest "$f" 5)" \
        -v "h=$(largest "$f" 6)" -v "i=$(largest "$f" 7)" -v "w=$(column "$f" 8)" \
        'BEGIN { printf "| `%s` | %.0f | %.1f | %.1f | %.2f | %.2f | %.1f | %.0f MB | %.0f MB | %.2f s |\n", r, w, c / 1000,
            m / 1000, q, l, p / 1000, a * 1.024e-3, h * 1.024e-3, i / 1000 }'
done
echo
echo "| | s | processor s |"
echo "|---|---:|---:|"
for state in cold warm; do
    awk -v "s=$state" -v "w=$(column "$work/inspect-$state" 1)" -v "p=$(column "$work/inspect-$state" 2)" \
        'BEGIN { printf "| `inspect`, %s | %.2f | %.2f |\n", s, w / 1000, p / 1000 }'
done
