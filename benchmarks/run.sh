#!/usr/bin/env bash
# Builds what is needed, then measures.
#   benchmarks/run.sh [--rounds N] [--size N] [--threads 1,0] [--tiers ref,avx2,avx512] [--cases ROW,COLUMN,...]
#                               tables in Markdown, every case on every tier of this machine
#   benchmarks/run.sh sparse [--rounds N] [--size N] [--threads N] [--sparsity 50,90] [--columns 1,128] [--cases CSR16,...]
#                               the same for sparsity, on the tier that TENSORPRESS_ISA names or the best one
#   benchmarks/run.sh gemm [--rounds N] [--threads N] [--milliseconds N]
#                               dense products beside oneDNN's; with TENSORPRESS_ISA=avx2 ONEDNN_MAX_CPU_ISA=AVX2 those of AVX2
#   benchmarks/run.sh svd [--rounds N] [--threads N] [--size N] [--rank N]
#                               singular value decompositions, full and of a rank
#   benchmarks/run.sh tucker THREADS
#                               decompositions of kernels of convolutions that peers/tucker.py asks for
#   benchmarks/run.sh features THREADS
#                               scores of features and components of sparse data that peers/features.py asks for
#   benchmarks/run.sh coding MODEL.onnx [--rounds N] [--threads N]
#                               coding of its weights beside zstd and a copy, on the tier that TENSORPRESS_ISA names or the best one
#   benchmarks/run.sh model FOLDER [--layers N] [--shards N] [--seed N]
#                               writes a made language model of 12 GB (29 layers, 0.4 GB each) as sharded safetensors
#   benchmarks/run.sh jmh ...   JMH with these arguments, on the tier that TENSORPRESS_ISA names or the best one
set -euo pipefail
root=$(cd "${BASH_SOURCE[0]%/*}/.." && pwd)
. "$root/.mvn/jdk.sh"
find_jdk || { echo "benchmarks/run.sh: JDK 25 or newer not found; JAVA_HOME may name it" >&2; exit 1; }

"$root/mvnw" -q -f "$root/pom.xml" -pl benchmarks -am package -DskipTests </dev/null >&2

main=dev.tensorpress.benchmarks.Ratios
case ${1-} in
    jmh) shift; main=org.openjdk.jmh.Main ;;
    sparse) shift; main=dev.tensorpress.benchmarks.SparseRatios ;;
    gemm) shift; main=dev.tensorpress.benchmarks.GemmRatios ;;
    svd) shift; main=dev.tensorpress.benchmarks.SvdRatios ;;
    coding) shift; main=dev.tensorpress.benchmarks.CodingRatios ;;
    tucker) shift; main=dev.tensorpress.benchmarks.TuckerWork ;;
    features) shift; main=dev.tensorpress.benchmarks.FeatureWork ;;
    model) shift; main=dev.tensorpress.benchmarks.MadeModel ;;
esac
# Else OpenMP's threads go on spinning after oneDNN is done.
export OMP_WAIT_POLICY=passive
exec "$jdk/bin/java" --enable-native-access=ALL-UNNAMED \
    -cp "$root/benchmarks/target/classes:$(<"$root/benchmarks/target/class-path.txt")" "$main" "$@"
