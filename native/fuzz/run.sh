#!/usr/bin/env bash
# Fuzzes every target with libFuzzer under ASan and UBSan, then merges what it found worth keeping into the corpus.
#
#   native/fuzz/run.sh [EXECUTIONS]      of each target; default 10 million. Needs clang (Debian: clang libclang-rt-dev)
set -euo pipefail
cd "$(dirname "$0")/../.."
executions=${1:-10000000}
build=build/fuzz
largest_input=2048
clang=${CLANGXX:-$(command -v clang++ clang++-19 clang++-16 clang++-14 | head -1)}

cmake -S native -B $build -G Ninja -DCMAKE_CXX_COMPILER="$clang" -DCMAKE_C_COMPILER="${clang/clang++/clang}" \
  -DCMAKE_BUILD_TYPE=RelWithDebInfo -DSHARDPROF_FUZZ=ON -DSHARDPROF_SANITIZE=address,undefined >/dev/null
cmake --build $build
for target in byte_source intervals json_mender trace_parser; do
  found=$build/found/$target
  mkdir -p "$found"
  echo "$target: $executions executions, log in $build/$target.log"
  $build/fuzz/fuzz_$target -runs="$executions" -max_len=$largest_input -timeout=10 -rss_limit_mb=2048 \
    -dict=native/fuzz/trace.dict -print_final_stats=1 "$found" native/fuzz/corpus/$target >$build/$target.log 2>&1 ||
    { tail -40 $build/$target.log; exit 1; }
  grep -E 'stat::(number_of_executed_units|average_exec_per_sec|peak_rss_mb)' $build/$target.log
done
