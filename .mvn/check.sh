#!/usr/bin/env bash
# Says in one line what the build needs and this machine lacks, and how to get it.
. "${BASH_SOURCE[0]%/*}/jdk.sh"
missing=

find_jdk || missing="; JDK 25 or newer (apt-get install openjdk-25-jdk, or a download from adoptium.net; JAVA_HOME may name it)"

compiler=
for name in "${CC:-cc}" cc gcc clang; do
    type -P "${name%% *}" >/dev/null && compiler=$name && break
done
[ -n "$compiler" ] || missing="$missing; a C compiler (apt-get install gcc libc6-dev)"

version=$(cmake --version 2>/dev/null)
version=${version#cmake version }
major=${version%%.*}
minor=${version#*.}
minor=${minor%%.*}
if [ -z "$version" ] || [ "$((major * 1000 + minor))" -lt 3025 ]; then
    missing="$missing; CMake 3.25 or newer (apt-get install cmake, or pip install cmake)"
fi

if [ -n "$missing" ]; then
    echo "tensorpress: this machine lacks${missing#;}" >&2
    exit 1
fi
