"""Which rank a trace file is of: what its header says, else what its name says, else what the user says.

A number is taken only where a writer is known to put the rank there. Process ids, times, steps, hosts and places in one
dimension of a parallel layout are numbers too; a file that tells nothing else has no rank.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import PurePath
from typing import Any

from shardprof.trace.groups import distributed_info, rank_list

_MOST_RANKS = 1 << 20  # a damaged header may claim any number
_NUMERAL = re.compile(r"[0-9]{1,7}")

# What is called a rank, or a worker, and does not count the processes of the job.
_OTHER_COUNTS = re.compile(
    r"(?<![a-z])(?:node|local|group|role|lora|low|parallel|tensor|pipe|pipeline|expert|context|[tpdecsm]p|vpp|etp|dcp)"
    r"[-_.]?rank[-_=]?\d+"
    r"|(?:num|loader)[-_.]?worker[-_]?\d+",
    re.IGNORECASE | re.ASCII,
)

# Each form of a file name, and who writes it; the first that occurs decides.
_NAME_FORMS = tuple(
    re.compile(form, re.IGNORECASE | re.ASCII)
    for form in (
        # torchtitan, composer, HTA, TraceLens, verl, vLLM and most users: rank0_trace, rank-0, trace_rank_3, rank[3].
        r"(?<![a-z0-9])rank[-_=\[]?(\d{1,7})(?!\d)",
        # Users' worker_name for TensorBoard. By itself that is HOST_PID, of hosts that may be called worker-0; dynolog
        # appends _PID, too.
        r"(?<![a-z0-9])(?:worker|trainer)[-_]?(\d{1,7})(?!\d)(?!.*_\d+\.(?:\d+\.pt\.trace\.)?json)",
        # torchtune: r3-2024-11-5-10-30.TIME.pt.trace.json.
        r"^r(\d{1,7})-\d{4}(?:-\d{1,2}){4}\.",
        # Hugging Face Accelerate.
        r"^profile_(\d{1,7})\.json",
        # Lightning: the stage, the file name if there is one, the rank on its node, which on one node is the rank.
        r"^(?:fit|validate|test|predict)-(?:.*-)?(\d{1,2})\.\d+\.pt\.trace\.json",
    )
)
_FOLDER_FORM = re.compile(r"(?:^|/)rank(?:[-_=]?|s?/)(\d{1,7})(?=/|$)", re.IGNORECASE | re.ASCII)


def rank_of_file(metadata: Mapping[str, Any], path: PurePath, rank_regex: re.Pattern[str] | None) -> int | None:
    """The rank of the trace in `path` with that header; None where nothing tells it.

    Asked in order: `distributedInfo.rank`; the process groups, where only one rank is in all of them; the file's name;
    the two folders around it; `rank_regex`, whose group `rank`, else its first group, else its whole match in the
    path's text is the rank. So an expression decides only where nothing before it did.
    """
    header = distributed_info(metadata)
    asked = (
        _rank(header.get("rank")),
        _member_of_all_groups(header),
        _in_file_name(path.name),
        _in_folder_names(path),
        _matched(rank_regex, path) if rank_regex else None,
    )
    return next((rank for rank in asked if rank is not None), None)


def _rank(value: object) -> int | None:
    if isinstance(value, str) and _NUMERAL.fullmatch(value):
        value = int(value)
    return value if type(value) is int and 0 <= value < _MOST_RANKS else None


def _member_of_all_groups(header: Mapping[str, Any]) -> int | None:
    """A header lists only groups that its process is in: a row and a column of a mesh name one rank."""
    if _rank(header.get("world_size")) == 1:
        return 0
    configured = header.get("pg_config")
    groups = [members for group in configured if (members := _members(group))] if isinstance(configured, list) else []
    common = set.intersection(*groups) if groups else set()
    return common.pop() if len(common) == 1 else None


def _members(group: object) -> set[int]:
    """The ranks of a group; empty where they are not told, or not all of them."""
    ranks = rank_list(group.get("ranks")) if isinstance(group, dict) else None
    if not isinstance(group, dict) or ranks is None or group.get("pg_size", len(ranks)) != len(ranks):
        return set()
    members = {_rank(rank) for rank in ranks}
    return {rank for rank in members if rank is not None} if None not in members else set()


def _in_file_name(name: str) -> int | None:
    name = _OTHER_COUNTS.sub("", name)
    found = next((told for form in _NAME_FORMS if (told := set(map(int, form.findall(name))))), set())
    return _rank(found.pop()) if len(found) == 1 else None


def _in_folder_names(path: PurePath) -> int | None:
    found = _FOLDER_FORM.findall("/".join(path.parts[-3:-1]))
    return _rank(found[-1]) if found else None


def _matched(rank_regex: re.Pattern[str], path: PurePath) -> int | None:
    match = rank_regex.search(str(path))
    group = "rank" if "rank" in rank_regex.groupindex else min(rank_regex.groups, 1)
    return _rank(match[group]) if match else None
