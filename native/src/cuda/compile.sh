#!/bin/sh
# Compiles one source of the CUDA library (all arguments but the first), and keeps what ptxas says of its kernels: log FILE.
log=$1
shift
"$@" 2>"$log.part"
status=$?
grep -v -e '^ptxas info' -e 'bytes stack frame' "$log.part" >&2
mv "$log.part" "$log"
exit $status
