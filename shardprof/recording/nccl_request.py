"""Has NCCL tell of itself: points it to our profiler plugin and its log to a file, before it is loaded.

What the user has set, in the environment or in NCCL's own files, stays. Everything is set in the process alone: NCCL
reads it when the first communicator is made, which is before this process is known to be a rank.
"""

from __future__ import annotations

import os
from collections.abc import MutableMapping
from pathlib import Path

from shardprof.recording.nccl_places import is_ours, ring_folder
from shardprof.trace.schema import NcclSetup

PLUGIN = "NCCL_PROFILER_PLUGIN"
FOLDER, EVENTS = "SHARDPROF_NCCL_FOLDER", "SHARDPROF_NCCL_EVENTS"
OFF, LOG, DEFAULT, PROXY = "off", "log", "plugin", "proxy"
MODES = (DEFAULT, PROXY, LOG, OFF)
LOG_WANTED = "the log was asked for"
SINCE = (2, 26)
"""The first NCCL that has an interface which our plugin speaks."""
_MOST_PATH_BYTES = 254

# Bits of the interface's event mask.
_COLLECTIVES, _PROXIES, _CHANNELS, _CALLS, _COPY_ENGINES = 2 | 4, 8 | 16, 64, 512 | 1024, 4096
_EVENTS = {DEFAULT: _COLLECTIVES | _CHANNELS | _CALLS | _COPY_ENGINES}
_EVENTS[PROXY] = _EVENTS[DEFAULT] | _PROXIES
_LOG_LEVEL, _LOG_FILE = "NCCL_DEBUG", "NCCL_DEBUG_FILE"
_LOG_ALSO = {"NCCL_DEBUG_TIMESTAMP_LEVELS": "ALL", "NCCL_DEBUG_TIMESTAMP_FORMAT": "[%s.%9f]_"}


def ask(
    mode: str, plugin: str, folder: Path, variables: MutableMapping[str, str], version: tuple[int, ...]
) -> NcclSetup:
    """Set what an NCCL of this `version` is to tell, for a plan's `mode` that is not "off"; what it was asked for in
    the end. `folder` is this node's, `plugin` the path of our plugin, `variables` the process's environment."""
    known = {**_of_files(variables), **variables}
    other = known.get(PLUGIN, plugin)
    folder.mkdir(parents=True, exist_ok=True)
    rings = ring_folder(folder)
    why = _why_not(mode, plugin, other, version) or (
        "" if is_ours(rings) else f"{rings} cannot be made, or is another's"
    )
    if not why:
        variables.update({PLUGIN: plugin, FOLDER: str(rings), EVENTS: str(_EVENTS[mode])})
    log = _ask_for_log(folder, known, variables, calls=bool(why))
    return NcclSetup(
        version=".".join(map(str, version)),
        plugin="" if why and other == plugin else other,
        mode=LOG if why else mode,
        log=log,
        why=why,
    )


def _why_not(mode: str, plugin: str, other: str, version: tuple[int, ...]) -> str:
    """Why our plugin does not record; empty where it does."""
    if mode == LOG:
        return LOG_WANTED
    if other != plugin:
        return f"{PLUGIN} is set to {other}"
    if version < SINCE:
        return f"NCCL {'.'.join(map(str, version))} has no interface that it knows: that came with 2.26"
    if not Path(plugin).exists():
        return f"{plugin} does not exist: shardprof was built without it"
    if len(os.fsencode(plugin)) > _MOST_PATH_BYTES:
        return f"NCCL takes no path as long as {plugin}"
    return ""


def _ask_for_log(folder: Path, known: dict[str, str], variables: MutableMapping[str, str], *, calls: bool) -> str:
    """Have NCCL's log written to files, calls too where nothing else tells of them; the name of the files, or where
    the user's own setting sends it."""
    file = str(folder / "nccl.%h.%p.log")
    of_this_run = known.get(_LOG_FILE, "").startswith(
        f"{folder.parent}/"
    )  # a launcher on another node hands its own on
    if _LOG_LEVEL in known and not of_this_run:
        return known.get(_LOG_FILE, "")
    parts = "INIT,ENV,GRAPH,COLL,TUNING" if calls else "INIT,ENV,GRAPH"
    variables.update({_LOG_LEVEL: "INFO", _LOG_FILE: file})
    for name, value in {"NCCL_DEBUG_SUBSYS": parts, **_LOG_ALSO}.items():
        variables.setdefault(name, value)
    return file


def _of_files(variables: MutableMapping[str, str]) -> dict[str, str]:
    """What NCCL's configuration files set."""
    own = variables.get("NCCL_CONF_FILE")
    files = [Path("/etc/nccl.conf"), Path(own) if own else Path(variables.get("HOME", "/")) / ".nccl.conf"]
    told: dict[str, str] = {}
    for file in files:
        try:
            lines = file.read_text(errors="replace").splitlines()
        except OSError:
            continue
        pairs = (line.partition("=") for line in lines if not line.lstrip().startswith("#"))
        told |= {name.strip(): value.strip() for name, found, value in pairs if found}
    return told
