#!/usr/bin/env bash
# Builds what is needed, then measures.
#   benchmarks/run.sh [--rounds N] [--size N] [--threads 1,0] [--tiers ref,avx2,avx512] [--cases ROW,COLUMN,...]
#                               tables in Markdown, every case on every tier of this machine
#   benchmarks/run.sh jmh ...   JMH with these arguments, on the tier that TENSORPRESS_ISA names or the best one
set -euo pipefail
root=$(cd "${BASH_SOURCE[0]%/*}/.." && pwd)
. "$root/.mvn/jdk.sh"
find_jdk || { echo "benchmarks/run.sh: JDK 25 or newer not found; JAVA_HOME may name it" >&2; exit 1; }

"$root/mvnw" -q -f "$root/pom.xml" -pl benchmarks -am package -DskipTests >&2

main=dev.tensorpress.benchmarks.Ratios
if [ "${1-}" = jmh ]; then
    shift
    main=org.openjdk.jmh.Main
fi
# Else OpenMP's threads go on spinning after oneDNN is done.
export OMP_WAIT_POLICY=passive
exec "$jdk/bin/java" --enable-native-access=ALL-UNNAMED \
    -cp "$root/benchmarks/target/classes:$(<"$root/benchmarks/target/class-path.txt")" "$main" "$@"
