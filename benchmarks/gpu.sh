#!/usr/bin/env bash
# The CUDA library on the GPU of this machine: builds it for that GPU alone, runs the conformance list of every kernel on it, compares
# its bytes with the processor's on large tensors, and times it, ceilings first. Needs nvcc, a C++ compiler, CMake, and no network.
# Where there is a JDK 25, and ./mvnw package -DskipTests has been run, the whole pipeline and JMH follow.
#
#     OUT=FOLDER benchmarks/gpu.sh        everything that is left behind lies in FOLDER, else in benchmarks/target/gpu
#     DEVICE=1 benchmarks/gpu.sh          another GPU than the first
#     EMULATED=1 benchmarks/gpu.sh        a rehearsal without a GPU, on the emulator and small tensors; its times mean nothing
set -euo pipefail
cd "$(dirname "$0")/.."
out=${OUT:-benchmarks/target/gpu}
mkdir -p "$out"
out=$(cd "$out" && pwd)
build=${BUILD:-$PWD/benchmarks/target/gpu-build}
export CUDA_VISIBLE_DEVICES=${DEVICE:-0}

step() {
    echo "=== $* (after ${SECONDS} s)"
}

step "device"
if [ -n "${EMULATED:-}" ]; then
    settings=(-DTENSORPRESS_TEST_CUDA=emulated -DTENSORPRESS_CUDA=OFF)
    small=--small size=256 recipes="int8 int4" patience=8 # beside other work, on two cores, too
    targets=(tensorpress_cuda_emulated_shared)
    library=$build/emulated
    echo "the emulator" >"$out/device.txt"
else
    nvidia-smi --query-gpu=name,driver_version,memory.total,clocks.max.sm,clocks.max.mem,power.limit --format=csv | tee "$out/device.txt"
    capability=$(nvidia-smi --id="$CUDA_VISIBLE_DEVICES" --query-gpu=compute_cap --format=csv,noheader | tr -d .)
    settings=(-DTENSORPRESS_TEST_CUDA=device -DTENSORPRESS_CUDA_ARCHITECTURES="$capability")
    small='' size=8192 recipes="w8a16 w4a16" patience=1
    targets=(tensorpress_cuda)
    library=$build
fi

step "build"
generator=()
if type -P ninja >/dev/null; then generator=(-G Ninja); fi
families="codebook coding feedback gemm prune quantize sparse spmm statistics svd"
targets+=(bench_cuda)
for family in $families; do targets+=("test_$family"); done
cmake -S . -B "$build" "${generator[@]}" -DCMAKE_BUILD_TYPE=Release "${settings[@]}" >"$out/build.txt" 2>&1
cmake --build "$build" --parallel "$(nproc)" --target "${targets[@]}" >>"$out/build.txt" 2>&1 || {
    tail -40 "$out/build.txt"
    exit 1
}

step "conformance"
status=0
declare -A running
for family in $families; do
    timeout $((150 * patience)) "$build/native/test/test_$family" >"$out/test_$family.txt" 2>&1 &
    running[$family]=$!
done
for family in $families; do
    wait "${running[$family]}" || {
        status=1
        echo "FAILED: $family"
        tail -12 "$out/test_$family.txt"
    }
done

step "times"
timeout $((200 * patience)) "$build/native/test/bench_cuda" $small "$out/kernels.md" >"$out/kernels.txt" 2>&1 || {
    status=1
    tail -5 "$out/kernels.txt"
}

# What was built before: the command line, and the benchmarks, if somebody ran ./mvnw package.
. .mvn/jdk.sh
if find_jdk && [ -f java/cli/target/dist/warmup.onnx ] && [ -f benchmarks/target/class-path.txt ]; then
    step "pipeline"
    export TENSORPRESS_JAVA_OPTS="-Dtensorpress.cuda.library.path=$library"
    java=("$jdk/bin/java" --enable-native-access=ALL-UNNAMED "-Dtensorpress.cuda.library.path=$library" -cp "benchmarks/target/classes:$(<benchmarks/target/class-path.txt)")
    model=java/cli/target/dist/warmup.onnx
    if [ -z "$small" ]; then
        model=$build/model
        [ -d "$model" ] || "${java[@]}" dev.tensorpress.benchmarks.MadeModel "$model" --layers 2 >"$out/model.txt"
    fi
    passed=1
    {
        ./tensorpress doctor || passed=0
        for recipe in $recipes; do
            for device in cpu cuda; do
                rm -rf "$build/$recipe-$device"
                echo "--- $recipe on $device"
                timeout $((60 * patience)) ./tensorpress compress "$model" -o "$build/$recipe-$device" --recipe "$recipe" --device $device || passed=0
                timeout $((60 * patience)) ./tensorpress profile "$model" --recipe "$recipe" --device $device || passed=0
            done
            diff -r --exclude='*.json' "$build/$recipe-cpu" "$build/$recipe-cuda" && echo "$recipe: the same bytes on both" || passed=0
        done
    } >"$out/pipeline.txt" 2>&1
    [ $passed = 1 ] || {
        status=1
        tail -5 "$out/pipeline.txt"
    }
    step "JMH"
    timeout $((100 * patience)) "${java[@]}" org.openjdk.jmh.Main QuantizeBenchmark -p work=ROW,COLUMN -p threads=0 -p device=cpu,cuda:0 -p size="$size" -wi 1 -i 3 \
        -jvmArgsAppend "-Dtensorpress.cuda.library.path=$library" >"$out/jmh.txt" 2>&1 || {
        status=1
        tail -5 "$out/jmh.txt"
    }
else
    echo "no JDK 25, or nothing was built with it: the second half, in Java, is left out"
fi

step "done, $([ $status = 0 ] && echo "everything passed" || echo "with failures")"
cat "$out/kernels.md"
exit $status
