"""Let ranks be recorded that run under `python -I` or `python -E`.

Puts a small module and a .pth file into this interpreter's site-packages (one command for each environment whose ranks
need it). In a process that is not recorded it looks into one variable and does nothing else.

examples:
  shardprof install-hook
  shardprof install-hook --remove
"""

from __future__ import annotations

import argparse
import sys

from shardprof.recording import site_hook


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's options."""
    parser.add_argument("--remove", action="store_true", help="take it away again")


def run(args: argparse.Namespace) -> int:
    """Install or remove it, and say so."""
    sys.stdout.write(f"shardprof: {site_hook.remove() if args.remove else site_hook.install()}\n")
    return 0
