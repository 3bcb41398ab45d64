"""R20: NCCL is kept from the fast way: sockets beside InfiniBand, no peer-to-peer, no shared memory."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping

from shardprof.analysis.result import Evidence, Finding, Host
from shardprof.analysis.rules._case import Case, Turn, said
from shardprof.words import milliseconds

LEAST_SHARE = 0.03
SLOW_GBPS = 2.0
LARGE_BYTES = 10_000_000
MOST_OF_SOCKETS = 2.0
"""As much as interfaces carry InfiniBand's ports do at most where NCCL talks over sockets: interfaces may be ports."""

_BETWEEN_NODES = ("NCCL_IB_DISABLE", "NCCL_NET")
_INSIDE_NODES: Mapping[str, str] = {
    "NCCL_P2P_DISABLE": "copy from GPU to GPU directly",
    "NCCL_SHM_DISABLE": "use shared memory inside a node",
}


def find(case: Case) -> Iterator[Finding]:
    """Where GPUs' communication takes LEAST_SHARE of a step or more, the environment forbids a way that the job could
    use, or nodes that have InfiniBand leave it idle at a low bandwidth."""
    if not case.on_gpu or case.steps.share("communication") < LEAST_SHARE:
        return
    yield from _between_nodes(case)
    if max(Counter(rank.host for rank in case.result.ranks if rank.host).values(), default=0) > 1:
        forbidden = [name for name in _INSIDE_NODES if _is_set(name, case)]
        for name in forbidden:
            yield _finding(case, f"NCCL is told not to {_INSIDE_NODES[name]}: {name}=1", [], f"unset {name}")


def _between_nodes(case: Case) -> Iterator[Finding]:
    nodes = [host for host in case.result.source.hosts if host.ranks]
    if len(nodes) < 2 or not all(_has_idle_infiniband(host) for host in nodes):
        return
    evidence = [said(f"{_ports(nodes[0])} of {nodes[0].name} carried no more than its interfaces, as on other nodes")]
    forbidding = [name for name in _BETWEEN_NODES if _is_set(name, case)]
    environment = case.result.source.environment
    if forbidding:
        told = " ".join(f"{name}={environment[name]}" for name in forbidding)
        yield _finding(case, f"NCCL is told not to use InfiniBand: {told}", evidence, f"unset {' '.join(forbidding)}")
        return
    slow = [row for row in case.result.collectives if (row.nodes or 1) > 1 and row.busbw_gbps and row.payload_bytes]
    slow = [row for row in slow if (row.payload_bytes or 0) >= LARGE_BYTES * row.calls]
    fastest = max((row.busbw_gbps or 0 for row in slow), default=SLOW_GBPS)
    if fastest < SLOW_GBPS:
        evidence += [said(f"large collectives between nodes reach {fastest:.2f} GB/s of bus bandwidth")]
        knob = (
            "NCCL_DEBUG=INFO tells why (`NET/Socket`); NCCL_IB_HCA, ulimit -l unlimited, /dev/infiniband in containers"
        )
        yield _finding(case, "Nodes communicate over sockets though they have InfiniBand", evidence, knob)


def _is_set(name: str, case: Case) -> bool:
    value = case.result.source.environment.get(name, "0")
    return value.lower() == "socket" if name == "NCCL_NET" else value not in ("", "0")


def _has_idle_infiniband(host: Host) -> bool:
    """Has the node ports, which are named after device and port, that carried little beside its interfaces?"""
    sent = host.link_tx_bytes or {}
    ports = [carried for link, carried in sent.items() if "/" in link]
    others = sum(carried for link, carried in sent.items() if "/" not in link and link != "lo")
    return bool(ports) and sum(ports) < MOST_OF_SOCKETS * others


def _ports(host: Host) -> str:
    return ", ".join(sorted(link for link in host.link_tx_bytes or {} if "/" in link))


def _finding(case: Case, title: str, evidence: list[Evidence], knob: str) -> Finding:
    moving_ns = case.moving_ns()
    return case.finding(
        "R20",
        title,
        [*evidence, said(f"steps wait {milliseconds(moving_ns)} for communication")],
        moving_ns,
        Turn(
            advice="let NCCL choose its way",
            knob=knob,
            side_effect="none, unless it was set since the other way fails here: then mend that (ACS, IOMMU, MTU)",
            disproof="NCCL_DEBUG=INFO shows the same transport afterwards",
        ),
    )
