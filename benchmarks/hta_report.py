"""What HolisticTraceAnalysis does for the same question: load one trace, then where its time went and what overlapped.

python benchmarks/hta_report.py TRACE.json.gz     prints both tables
"""

from __future__ import annotations

import logging
import sys
from pathlib import Path

from hta.trace_analysis import TraceAnalysis


def main() -> None:
    logging.disable(logging.CRITICAL)
    analysis = TraceAnalysis(trace_files={0: str(Path(sys.argv[1]).resolve())})
    print(analysis.get_temporal_breakdown(visualize=False))
    print(analysis.get_comm_comp_overlap(visualize=False))


if __name__ == "__main__":
    main()
