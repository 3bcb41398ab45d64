"""What NCCL's profiler plugin costs the threads that tell it of events: `python benchmarks/nccl_plugin_cost.py`.

A program plays NCCL to the built plugin (native/tests/fake_nccl/stress.cpp): collectives of one channel, seven events
each, while a reader empties the ring. What playing itself takes is inside, so the figure is an upper bound.
"""

from __future__ import annotations

import argparse
import json
import re

from measuring import ROOT, machine, measure, spread

BUILD = ROOT / "build" / "native"
RESULT = ROOT / "benchmarks" / "results" / "nccl_plugin_cost.json"
_LINE = re.compile(r"(\d+) events a thread on (\d+) threads: ([\d.]+) ns an event; (\d+) records, (\d+) dropped")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--millions", type=int, default=100, help="events a run")
    parser.add_argument("--runs", type=int, default=5)
    args = parser.parse_args()
    samples = {threads: [_run(args.millions, threads) for _ in range(args.runs)] for threads in (1, 2)}
    for threads, found in samples.items():
        print(f"{threads} threads: {spread([sample['ns_an_event'] for sample in found])} ns an event of a thread")
    told = {"machine": machine(), "millions_of_events": args.millions, "samples": samples}
    RESULT.write_text(json.dumps(told, indent=1) + "\n")


def _run(millions: int, threads: int) -> dict[str, float]:
    program, plugin = BUILD / "tests" / "stress", BUILD / "libshardprof_nccl.so"
    _, printed = measure([program, plugin, str(millions), str(threads)], {})
    line = _LINE.search(printed)
    assert line is not None, printed
    return {"ns_an_event": float(line[3]), "records": int(line[4]), "dropped": int(line[5])}


if __name__ == "__main__":
    main()
