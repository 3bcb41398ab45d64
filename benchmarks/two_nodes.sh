#!/usr/bin/env bash
# The study benchmarks/studies/two-nodes.toml between two hosts of this machine, at three rates of their links:
#
#   sudo benchmarks/two_nodes.sh [FOLDER]      results go there (default: shardprof-studies/two-nodes)
#
# The hosts are network namespaces that two_hosts.sh makes (SHARDPROF_TOOLS names its folder): each link carries no more
# than the rate, both ways. A study that was interrupted goes on where it stopped.
set -euo pipefail
cd "$(dirname "$0")/.."
folder=${1:-shardprof-studies/two-nodes}
tool=${SHARDPROF_TOOLS:-../shared/tools}/two_hosts.sh
[[ -x $tool || -r $tool ]] || { echo "$tool is not there: name its folder in SHARDPROF_TOOLS" >&2; exit 2; }
export TWO_HOSTS_PREFIX=study
trap 'bash "$tool" down' EXIT
for rate in 50 200 1000; do
  bash "$tool" down
  bash "$tool" up --rate "${rate}mbit"
  shardprof bench run benchmarks/studies/two-nodes.toml --out "$folder" --fabric "${rate}Mbit/s" \
    --hosts 10.77.0.1,10.77.0.2 --shell "bash $tool exec {index}"
done
