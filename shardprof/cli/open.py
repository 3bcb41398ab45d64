"""Show a run in Perfetto, in the browser: every rank's steps, streams, collectives, counters, findings on one clock.

PATH is a run folder that `shardprof record` made, a folder of torch.profiler traces or one trace file; several paths
are the nodes of one run. Without PATH it is the newest run under shardprof-runs/. The timeline is made first, unless
it is there already, and kept as PATH/timeline.json.gz.

Nothing leaves the machine: Perfetto's own viewer is served from here, to this machine only, until Ctrl-C.

example:
  shardprof open
  shardprof open shardprof-runs/20260101-120000-train --steps 7:9
  shardprof open profile_traces/iteration_100 --ranks 0,7 --no-browser
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
import webbrowser
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory

from shardprof.cli import _reading, _timeline
from shardprof.trace.run import load
from shardprof.trace.schema import TIMELINE_FILE
from shardprof.trace.timeline import made_from
from shardprof.viewer import Viewer


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what to read, what to show and where."""
    _timeline.add_arguments(parser)
    where = parser.add_argument_group("where it is shown")
    where.add_argument("--online", action="store_true", help="by ui.perfetto.dev, which reads it from this machine")
    where.add_argument("--no-browser", action="store_true", help="print the address and open nothing")


def run(args: argparse.Namespace) -> int:
    """Show it until Ctrl-C; a path that cannot be read, or a viewer that is not there, raises ShardprofError."""
    for end in (signal.SIGTERM, signal.SIGHUP):  # a session that was cut off leaves no file behind
        signal.signal(end, signal.default_int_handler)
    with ExitStack() as stack:
        with _reading.interruptible():
            out = _timeline_in(args.paths) or _made(args, stack)
        made = made_from(out)
        shown_ns, first_ranks = (made.shown_ns, made.first_ranks) if made else (None, ())
        viewer = stack.enter_context(Viewer(out, online=args.online, shown_ns=shown_ns, first_ranks=first_ranks))
        _show(viewer, opens_browser=not args.no_browser)
    return 0


def _timeline_in(paths: list[str]) -> Path | None:
    """The timeline that a user names outright, as somebody else may have sent it."""
    file = Path(paths[0]) if len(paths) == 1 else None
    return file if file and file.is_file() and made_from(file) else None


def _made(args: argparse.Namespace, stack: ExitStack) -> Path:
    recorded = load(args.paths, _reading.reading(args))
    out = _timeline.beside(recorded)
    if out is None:
        out = Path(stack.enter_context(TemporaryDirectory(prefix="shardprof-"))) / TIMELINE_FILE
    _timeline.make(recorded, out, args)
    return out


def _show(viewer: Viewer, *, opens_browser: bool) -> None:
    tunnel = viewer.tunnel()
    way = (
        f"this machine is a remote one: on yours, first run\n  {tunnel}\nthen open the address there\n"
        if tunnel
        else ""
    )
    try:
        sys.stdout.write(f"{viewer.address}\n{way}serving it to this machine; Ctrl-C ends\n")
        sys.stdout.flush()
        if opens_browser and not tunnel and _has_screen():
            webbrowser.open(viewer.address)
        viewer.serve()
    except KeyboardInterrupt:
        sys.stdout.write("\n")


def _has_screen() -> bool:
    """Without one a browser of the terminal would be opened, which cannot show it."""
    return sys.platform != "linux" or bool(os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"))
