#!/usr/bin/env bash
# Regenerates the committed bindings below native/include/tensorpress and from oneDNN's C headers.
# Needs jextract for JDK 25 on PATH, or named by JEXTRACT.
# "generate.sh --stamp" only records the present headers, for changes that alter no binding: say so in the commit.
set -euo pipefail
cd "$(dirname "$0")/.."

stamp() {
    cmake -DMODE=write -DONEDNN="$onednn" -P bindings/headers.cmake
}

onednn=$(sed -n 's:.*<onednn.version>\(.*\)</onednn.version>.*:\1:p' pom.xml)
if [ "${1-}" = --stamp ]; then
    stamp
    exit
fi

jextract=${JEXTRACT:-jextract}
command -v "$jextract" >/dev/null || {
    echo "generate.sh: jextract is not on PATH: get it from https://jdk.java.net/jextract or set JEXTRACT" >&2
    exit 1
}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# Our own headers: every symbol in them.
for header in native/include/tensorpress/*.h native/include/tensorpress/cuda/*.h; do
    echo "#include \"${header#native/include/}\""
done >"$work/tensorpress.h"
"$jextract" -I native/include --dump-includes "$work/all" "$work/tensorpress.h"
sed -n 's/^\(--include-[a-z]* tp_[^ ]*\).*/\1/Ip' "$work/all" | grep -v ' TP_API$' >"$work/wanted"
"$jextract" -I native/include --output "$work/out" --target-package dev.tensorpress.bindings \
    --header-class-name Kernels @"$work/wanted" "$work/tensorpress.h"

# oneDNN: the symbols listed in onednn.txt.
include=bindings/target/onednn/org/bytedeco/dnnl/linux-x86_64/include
./mvnw -q -N -f bindings dependency:unpack@onednn-headers
printf '#include "oneapi/dnnl/%s"\n' dnnl.h dnnl_debug.h >"$work/onednn.h"
sed 's/#.*//' bindings/onednn.txt | awk 'NF == 2 { print "--include-" $1, $2 }' >"$work/wanted"
"$jextract" -I "$include" --output "$work/out" --target-package dev.tensorpress.bindings.onednn \
    --header-class-name Dnnl @"$work/wanted" "$work/onednn.h"

# Everything under bindings/src/main/java but the module descriptor and three classes is generated.
generated=bindings/src/main/java/dev/tensorpress/bindings
find "$generated" -name '*.java' ! -name LibraryLoader.java ! -name LinuxFiles.java ! -name DeviceHandles.java -delete
cp -r "$work/out/dev/tensorpress/bindings/." "$generated/"
stamp
