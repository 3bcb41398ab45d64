"""What NCCL's lines look like, 2.4 to 2.30 and RCCL: one expression a kind of line, for all of its wordings."""

from __future__ import annotations

import re

from shardprof.trace.nccl.log_record import Choice, Link, Tuned

DATATYPES = (
    "ncclInt8", "ncclUint8", "ncclInt32", "ncclUint32", "ncclInt64", "ncclUint64", "ncclFloat16", "ncclFloat32",
    "ncclFloat64", "ncclBfloat16", "ncclFloat8e4m3", "ncclFloat8e5m2",
)  # fmt: skip
_ALGORITHMS = ("TREE", "RING", "COLLNET_DIRECT", "COLLNET_CHAIN", "NVLS", "NVLS_TREE")
_PROTOCOLS = ("LL", "LL128", "SIMPLE")
_POINTER = r"(?:0x)?([0-9a-f]{1,16})"
_N = r"(-?\d{1,9})"
_RANK = r"(\d{1,6})"
_COUNT = r"(\d{1,11})"  # times ranks and bytes of an element it still is an int64

VERSION = re.compile(r"\b[NR]CCL version *:? *(\d+\.\d+(?:\.\d+)?)")
RUNTIMES = (
    ("CUDA", re.compile(r"\b[NR]CCL version.{0,40}?\+cuda([\d.]+)")),
    ("HIP", re.compile(r"\b[NR]CCL version.{0,40}?\+hip([\d.]+)")),
    ("HIP", re.compile(r"\bHIP version *: *([\d.]+)")),
    ("ROCm", re.compile(r"\bROCm version *: *([\d.]+)")),
    ("CUDA driver", re.compile(r"\bcudaDriverVersion (\d{4,6})$")),
)

CALL = re.compile(
    rf"(\w{{1,32}}): opCount [0-9a-f]{{1,16}} sendbuff \S{{1,18}} recvbuff \S{{1,18}} (?:acc \S{{1,18}} )?"
    rf"count {_COUNT} datatype {_N} op {_N} root {_N} comm {_POINTER}(?: \[nranks={_RANK}\])?"
)
TUNING = re.compile(r"(?:(\w{1,32})(?: \[([\w ]{1,32})\])?: )?(\d{1,18}) Bytes -> (.{1,200})")
_CHOICES = (
    re.compile(
        r"Algo (?P<algorithm>\w{1,32}) proto (?P<protocol>\w{1,32}) channel\{Lo\.\.Hi\}=\{(\d{1,4})\.\.(\d{1,4})\}"
    ),
    re.compile(r"Algo (?P<algorithm>-?\d{1,3}) proto (?P<protocol>-?\d{1,3}) time "),
    re.compile(r"Kernel (?P<protocol>\w{1,64}) nchannels (\d{1,4}) "),
    re.compile(r"(?P<protocol>cudaMemcpy|RMA proxy \+ CE)"),
)

INIT = re.compile(
    rf"comm {_POINTER} rank {_RANK} n[rR]anks {_RANK} cudaDev {_N}(?: nvmlDev {_N})?(?: busId \w{{1,16}})?"
    rf"(?: parent {_POINTER}(?: (?:splitCount|childCount) {_N})? color {_N} key {_N})?"
    rf"(?: ?commId {_POINTER})?(?: localSize .{{1,80}})? ?- ?Init (START|COMPLETE)"
)
GONE = re.compile(rf"comm {_POINTER} rank {_RANK} n[rR]anks {_RANK} .{{0,80}}- (?:Destroy|Abort|Revoke) COMPLETE")
NODES = re.compile(rf"comm {_POINTER} rank {_RANK} nRanks {_RANK} nNodes {_RANK} localRanks")
TIMINGS = re.compile(
    r"Init timings(?: - \w{1,64})?: rank (\d{1,9}) nranks \d{1,9} total (\d{1,9}(?:\.\d{1,9})?) \(([^)]{1,300})\)"
)
TIMED = re.compile(r"(\w{1,20}) (\d{1,9}\.\d{1,6})")
SETTING = re.compile(r"(?:^|: )((?:NCCL|RCCL|OFI_NCCL|FI|UCX|MSCCL)_\w{1,100}) set (?:by environment )?to (.{0,400})$")

LINK = re.compile(
    r"(?:Ring|Channel) (\d{1,4})(?:/(\d{1,4}))? : (\d{1,9})(?:\[\w{1,16}\])? -> (\d{1,9})(?:\[\w{1,16}\])?"
    r" (?:\[(send|receive)\] )?via (.{1,120}?)(?: comm \S{1,18} nRanks \d{1,9})?$"
)
_NET = re.compile(r"(NET|COLLNET)/(.{1,64}?)/(\d{1,6})(?:\((\d{1,9})\))?(/.{0,60})?$")
RING = re.compile(r"Channel (\d{1,4})(?:/\d{1,4})? :((?: +\d{1,9})+)( ?\.\.\.)?$")
TREES = re.compile(r"Trees((?: \[\d{1,4}\] [-\d/>]{1,120})+)")
TREE = re.compile(r"\[(\d{1,4})\] ([-\d/]{1,100})->(-?\d{1,9})->([-\d/]{1,60})")
CHANNELS = re.compile(r"(\d{1,5}) (coll|collnet|nvls|p2p) channels?\b(?! per)")
PATTERN = re.compile(r"Pattern (\d{1,2}), crossNic \d, nChannels (\d{1,4}), .{1,60}, type (\w{1,8})/(\w{1,8})")
RINGS_UP = re.compile(r"Connected all rings(?:, use ring PXN (\d) GDR (\d))?$")

NOTES = (
    ("bootstrap", re.compile(r"Bootstrap ?: ?(Using.{1,200})")),
    ("network", re.compile(r"(Using network .{1,64})$")),
    ("network", re.compile(r"(?:Assigned NET plugin (.{1,64}) to comm)$")),
    ("found", re.compile(r"(NET/\w{1,16} ?: ?(?:Using ?\[.{1,800}|No device found\.?))$")),
    ("found", re.compile(r"((?:NET/OFI) (?:Selected [Pp]rovider is|Initializing|Using) .{1,200})$")),
    ("found", re.compile(r"((?:Failed to|Co?unt? not|Could not) open libibverbs\S{0,20})")),
    ("gdr", re.compile(r"((?:NET/.{1,32} : )?GPU Direct RDMA (?:Enabled|Disabled) .{1,200})$")),
    ("gdr", re.compile(r"(DMA-BUF is available on GPU device \d{1,4})")),
    ("p2p", re.compile(r"(P2P is disabled between (?:connected )?GPUs \d{1,4} and \d{1,4})")),
    ("nvls", re.compile(r"(NVLS multicast support is (?:not )?available) on dev")),
    ("plugin", re.compile(r"((?:NET|TUNER|PROFILER|ENV|GIN|RMA)/Plugin ?: ?(?!Failed to find|Closing).{1,200})$")),
    ("plugin", re.compile(r"((?:Successfully loaded|Failed to initialize|Disabling) .{0,20}[Pp]lugin.{1,200})$")),
    ("plugin", re.compile(r"(Profiler event mask: .{1,200})$")),
)  # fmt: skip


def link_of(text: str, source: int, target: int) -> Link:
    """A connection by what NCCL says after "via"."""
    if net := _NET.search(text):
        transport, kind, device, proxy, flags = net.groups()
        return Link(
            source=source,
            target=target,
            transport=transport,
            kind=kind,
            device=int(device),
            is_gdr="GDRDMA" in (flags or ""),
            proxy=int(proxy) if proxy else None,
        )
    if text == "direct shared memory":
        return Link(source=source, target=target, transport="SHM", kind="direct")
    transport, _, kind = text.partition("/")
    return Link(source=source, target=target, transport=transport, kind=kind)


def tuned_of(function: str | None, how: str | None, told_bytes: int, text: str) -> Tuned | None:
    """A choice by what NCCL says after "Bytes ->"; `how` is what stands in brackets (Symmetric, Copy Engine). Of
    those the kernel or the copy stands for the protocol."""
    match = next((found for choice in _CHOICES if (found := choice.match(text))), None)
    if match is None:
        return None
    told = match.groupdict()
    numbers = [int(number) for number in match.groups()[len(told) :] if number is not None]
    choice = Choice(
        algorithm=how.upper() if how else _word(told.get("algorithm") or "", _ALGORITHMS),
        protocol=_word(told["protocol"], _PROTOCOLS),
        channels=numbers[-1] - (numbers[0] if len(numbers) > 1 else 0) + (len(numbers) > 1) if numbers else None,
    )
    return Tuned(function=function or "", told_bytes=told_bytes, choice=choice)


def _word(told: str, words: tuple[str, ...]) -> str:
    """A name, where NCCL gives its number."""
    return words[int(told)] if told.isdecimal() and int(told) < len(words) else told.upper()
