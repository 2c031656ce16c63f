#!/usr/bin/env bash
# The table of the kernels: threads of a block from the sources, registers and memory from what ptxas said when they were compiled.
# table.sh NVCC SOURCES LOGS...
set -euo pipefail
nvcc=$1 sources=$2
shift 2
cat <<'END'
# The kernels on CUDA devices

Written by the build, from the sources and from what ptxas says: `cmake --build build --target cuda_kernels` does it anew. Registers are per thread,
shared memory is per block and in bytes, without what the launch adds. `Blocks` is how many fit on a multiprocessor of sm_90
by registers, threads and static shared memory. No kernel spills registers: that is an error of the build, as is local memory.

END
"$nvcc" --version | sed -n 's/^Cuda compilation tools, release \([^,]*\).*/CUDA \1\n/p'
# "kernel threads file" of each TP_KERNEL, whose name may be on the next line; read twice, since a number may have its name in a later file.
threads() {
    local all
    all=$(find "$sources" -name '*.cu' -o -name '*.cuh' | LC_ALL=C sort)
    printf '%s\n' $all $all | xargs awk '
        function value(t) {
            while (t in known) t = known[t]
            return t
        }
        FNR == 1 { file = FILENAME; sub(/^.*src\/cuda\//, "", file) }
        /^ *\/\*|^ *\*|^ *\/\// { next }
        { line = $0
          while (match(line, /[A-Z][A-Z_0-9]* = [0-9]+/)) {
              split(substr(line, RSTART, RLENGTH), part, " = ")
              known[part[1]] = part[2]
              line = substr(line, RSTART + RLENGTH)
          } }
        pending != "" && match($0, /[a-z_][a-z_0-9]*\(/) { print substr($0, RSTART, RLENGTH - 1), pending, file; pending = "" }
        match($0, /TP_KERNEL\([A-Za-z_0-9]+\)/) {
            t = value(substr($0, RSTART + 10, RLENGTH - 11))
            rest = substr($0, RSTART + RLENGTH)
            if (match(rest, /[a-z_][a-z_0-9]*\(/)) print substr(rest, RSTART, RLENGTH - 1), t, file
            else pending = t
        }'
}
cat "$@" | c++filt | awk -v threads="$(threads)" '
    BEGIN {
        n = split(threads, lines, "\n")
        for (i = 1; i <= n; i++) {
            split(lines[i], part, " ")
            count[part[1]] = part[2]
            file[part[1]] = part[3]
        }
    }
    /Compiling entry function/ {
        arch = $NF
        gsub(/\x27/, "", arch)
        split($0, quoted, "\x27")
        name = quoted[2]
        gsub(/\(anonymous namespace\)::|_GLOBAL__N__[0-9a-z_]*::|tp::|\(int\)|\(bool\)|\(tp::[A-Za-z]*\)/, "", name)
        sub(/^void /, "", name)
        depth = 0
        for (i = 1; i <= length(name); i++) {
            c = substr(name, i, 1)
            if (c == "<") depth++
            if (c == ">") depth--
            if (c == "(" && depth == 0) break
        }
        name = substr(name, 1, i - 1)
    }
    /registers/ && /Used/ {
        for (i = 1; i <= NF; i++) if ($(i + 1) ~ /^registers/) registers[name, arch] = $i
        shared[name] = 0
        if (match($0, /[0-9]+ bytes smem/)) shared[name] = substr($0, RSTART, RLENGTH - 11)
        names[name] = 1
    }
    END {
        print "| Kernel | Source | Threads | Registers sm_80 | sm_90 | Shared | Blocks |"
        print "|---|---|---:|---:|---:|---:|---:|"
        for (name in names) {
            base = name
            sub(/<.*/, "", base)
            t = count[base]
            r = registers[name, "sm_90"]
            if (t == "" || r == "") {
                print "table.sh: nothing known of " name > "/dev/stderr"
                exit 1
            }
            warps = int((t + 31) / 32)
            fit = int(65536 / (int((r * 32 + 255) / 256) * 256 * warps))
            if (fit > int(2048 / t)) fit = int(2048 / t)
            if (fit > 32) fit = 32
            if (shared[name] > 0 && fit > int(232448 / (shared[name] + 1024))) fit = int(232448 / (shared[name] + 1024))
            print "| `" name "` | " file[base] " | " t " | " registers[name, "sm_80"] " | " r " | " shared[name] " | " fit " |" | "LC_ALL=C sort -t\"|\" -k3,3 -k2,2"
        }
    }'
