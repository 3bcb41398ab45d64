"""What NCCL's lines tell, in the wording of every version: hand-made lines, results worked out by hand."""

from __future__ import annotations

import gzip
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shardprof.analysis.nccl_log import Account, account
from shardprof.errors import ShardprofError
from shardprof.trace.collectives import UNKNOWN
from shardprof.trace.importers.nccl_log import operations, read_nccl_logs
from shardprof.trace.nccl import log_calls, log_processes, log_reader
from shardprof.trace.nccl.log_lines import line_of
from shardprof.trace.nccl.log_meaning import MEANINGS, Weight, code_of
from shardprof.trace.nccl.log_reader import LogReader
from shardprof.trace.nccl.log_record import Choice, Link, LogCommunicator, NcclLog

POINTER = "0x7f00"
INITS = {
    "2.4": (f"comm {POINTER} rank 1 nranks 8 cudaDev 1 nvmlDev 1 - Init COMPLETE", None),
    "2.5": (f"comm {POINTER} rank 1 nranks 8 cudaDev 1 busId 2000 - Init COMPLETE", None),
    "2.16": (f"comm {POINTER} rank 1 nranks 8 cudaDev 1 busId 2000 commId 0xfeed - Init COMPLETE", 0xFEED),
    "2.18.3": (f"comm {POINTER} rank 1 nranks 8 cudaDev 1 nvmlDev 1 busId 2000 commId 0xfeed - Init COMPLETE", 0xFEED),
    "2.21": (
        f"ncclCommInitRank comm {POINTER} rank 1 nranks 8 cudaDev 1 nvmlDev 1 busId 2000 commId 0xfeed - Init COMPLETE",
        0xFEED,
    ),
    "2.29": (
        f"[Rank 1] ncclCommInitRankConfig comm {POINTER} rank 1 nranks 8 cudaDev 1 nvmlDev 1 busId 2000"
        " commId 0xfeed - Init COMPLETE",
        0xFEED,
    ),
    "RCCL": (
        f"ncclCommInitRank comm {POINTER} rank 1 nranks 8 cudaDev 1 nvmlDev 1 busId 2000 commId 0xfeed"
        " localSize 224 used 21806664 bytes on core 4 - Init COMPLETE",
        0xFEED,
    ),
}
LINKS = {
    "Ring 00 : 0 -> 1 [send] via NET/Socket/0": Link(source=0, target=1, transport="NET", kind="Socket", device=0),
    "Ring 00 : 0[0] -> 1[1] via P2P/IPC": Link(source=0, target=1, transport="P2P", kind="IPC"),
    "Channel 00 : 0[1000] -> 1[2000] via direct shared memory": Link(
        source=0, target=1, transport="SHM", kind="direct"
    ),
    "Channel 03 : 0[0] -> 1[1] via SHM/direct/direct": Link(source=0, target=1, transport="SHM", kind="direct/direct"),
    "Channel 00/0 : 0[0] -> 1[1] via P2P/direct pointer/read": Link(
        source=0, target=1, transport="P2P", kind="direct pointer/read"
    ),
    "Channel 00/0 : 0[0] -> 1[1] via P2P/indirect/2[2]": Link(
        source=0, target=1, transport="P2P", kind="indirect/2[2]"
    ),
    "Channel 01/1 : 0[0] -> 9[1] [send] via NET/IBext_v8/3(2)/GDRDMA(PCI)/Shared": Link(
        source=0, target=9, transport="NET", kind="IBext_v8", device=3, is_gdr=True, proxy=2
    ),
    "Channel 01/0 : 8[0] -> 0[0] [receive] via NET/AWS Libfabric/0/GDRDMA": Link(
        source=8, target=0, transport="NET", kind="AWS Libfabric", device=0, is_gdr=True
    ),
    "Channel 00/0 : 0[0] -> 1[1] via P2P/IPC comm 0x12 nRanks 02": Link(
        source=0, target=1, transport="P2P", kind="IPC"
    ),
}
CALL = (
    "AllReduce: opCount 1f sendbuff 0x7 recvbuff 0x7 count 1000 datatype 7 op 0 root 0 comm 0x7f00 [nranks=2]"
    " stream 0x1"
)
TUNINGS = {
    "2.6": ("4000 Bytes -> Algo 1 proto 0 time 12.300000", Choice(algorithm="RING", protocol="LL")),
    "2.23": ("AllReduce: 4000 Bytes -> Algo 5 proto 2 time 1.5", Choice(algorithm="NVLS_TREE", protocol="SIMPLE")),
    "2.24": (
        "AllReduce: 4000 Bytes -> Algo TREE proto LL128 channel{Lo..Hi}={2..5}",
        Choice(algorithm="TREE", protocol="LL128", channels=4),
    ),
    "2.27 symmetric": (
        "AllReduce [Symmetric]: 4000 Bytes -> Kernel AllReduce_AGxLL_R nchannels 8 nthreads 512",
        Choice(algorithm="SYMMETRIC", protocol="ALLREDUCE_AGXLL_R", channels=8),
    ),
    "2.29 copies": (
        "AllReduce [Copy Engine]: 4000 Bytes -> cudaMemcpy; CE synchronization with NVLS",
        Choice(algorithm="COPY ENGINE", protocol="CUDAMEMCPY"),
    ),
    "2.30 copies": (
        "AllReduce [Hierarchical CE]: 4000 Bytes -> RMA proxy + CE",
        Choice(algorithm="HIERARCHICAL CE", protocol="RMA PROXY + CE"),
    ),
}


def log_of(*messages: str, host: str = "h", pid: int = 1) -> NcclLog:
    return read(*(f"{host}:{pid}:{pid} [0] NCCL INFO {message}" for message in messages))


def read(*lines: str) -> NcclLog:
    reader = LogReader()
    for line in lines:
        reader.take(line_of(line))
    return reader.done()


def the_communicator(*messages: str) -> LogCommunicator:
    (found,) = log_of(*messages).communicators
    return found


@pytest.mark.parametrize("version", INITS)
def test_a_communicator_is_known_in_every_wording(version: str) -> None:
    line, hash_ = INITS[version]
    found = the_communicator(line)
    assert (found.pointer, found.rank, found.ranks, found.device, found.id) == (0x7F00, 1, 8, 1, hash_)
    assert found.is_complete
    assert log_of(line).processes[0].rank == 1


@pytest.mark.parametrize(
    "child",
    [
        "parent 0xaa color 3 key 1 commId 0xfeed",
        "parent 0xaa splitCount 4 color 3 key 1",
        "parent 0xaa childCount 4 color 3 key 1",
    ],
)
def test_a_split_names_its_parent(child: str) -> None:
    parent = "comm 0xaa rank 1 nranks 8 cudaDev 1 nvmlDev 1 busId 2000 commId 0x1 - Init COMPLETE"
    split = f"ncclCommSplit comm {POINTER} rank 0 nranks 2 cudaDev 1 nvmlDev 1 busId 2000 {child}- Init START"
    made = log_of(parent, split).communicators[1]
    assert (made.parent, made.color, made.key, made.is_complete) == (0, 3, 1, False)
    assert made.child == (None if "commId" in child else 4)


def test_an_address_that_is_used_again_is_another_communicator() -> None:
    line, _ = INITS["2.21"]
    gone = f"comm {POINTER} rank 1 nranks 8 cudaDev 1 busId 2000 - Destroy COMPLETE"
    start = line.replace("COMPLETE", "START")
    assert len(log_of(start, line, gone, start, line).communicators) == 2
    assert len(log_of(line, line).communicators) == 2
    assert len(log_of(start, line).communicators) == 1


@pytest.mark.parametrize("wording", ["Init timings", "Init timings - ncclCommInitRank"])
def test_nodes_and_timings_belong_to_the_communicator(wording: str) -> None:
    line, _ = INITS["2.21"]
    timings = f"{wording}: rank 1 nranks 8 total 1.50 (kernels 0.25, rest 1.25)"
    nodes = f"comm {POINTER} rank 1 nRanks 8 nNodes 2 localRanks 4 localRank 1 MNNVL 0"
    found = the_communicator(line.replace("COMPLETE", "START"), nodes, line, timings)
    assert found.nodes == 2
    assert found.init_ns == {"total": 1_500_000_000, "kernels": 250_000_000, "rest": 1_250_000_000}


@pytest.mark.parametrize("line", LINKS)
def test_a_link_is_known_in_every_wording(line: str) -> None:
    found = the_communicator(line, INITS["2.4"][0])
    assert found.topology.links == {LINKS[line]: 1}


def test_rings_trees_and_channels_are_known() -> None:
    topology = the_communicator(
        "Channel 00/02 :    0   1  10   3",
        "Channel 01/02 : 0 3 1 1...",
        "Trees [0] 1/2/-1->0->-1 [1] -1/-1/-1->0->3",
        "2 coll channels, 1 collnet channels, 0 nvls channels, 4 p2p channels, 2 p2p channels per peer",
        "Pattern 4, crossNic 0, nChannels 2, bw 24.000000/24.000000, type NVL/PIX, sameChannels 1",
        "Connected all rings, use ring PXN 0 GDR 1",
        INITS["2.4"][0],
    ).topology
    assert topology.rings == {0: (0, 1, 10, 3), 1: (0, 3, 1)}
    assert topology.trees == {0: (None, (1, 2)), 1: (3, ())}
    assert topology.channels == {"coll": 2, "collnet": 1, "nvls": 0, "p2p": 4}
    assert topology.patterns == {4: (2, "NVL", "PIX")}
    assert (topology.pxn, topology.gdr) == (False, True)


def test_before_starts_were_logged_rings_go_to_the_next_communicator() -> None:
    second = INITS["2.4"][0].replace(POINTER, "0x7f01")
    first, other = log_of("Channel 00 : 0 1", INITS["2.4"][0], "Channel 00 : 1 0", second).communicators
    assert (first.topology.rings, other.topology.rings) == ({0: (0, 1)}, {0: (1, 0)})


def test_links_that_come_with_the_first_call_belong_to_what_was_called() -> None:
    other = INITS["2.21"][0].replace(POINTER, "0x7f01").replace("feed", "beef")
    link = "Channel 00/0 : 0[0] -> 1[1] via P2P/IPC"
    called, latest = log_of(INITS["2.21"][0], other, CALL, link).communicators
    assert (len(called.topology.links), len(latest.topology.links)) == (1, 0)
    _, latest = log_of(INITS["2.21"][0], other, link).communicators
    assert len(latest.topology.links) == 1


@pytest.mark.parametrize("version", TUNINGS)
def test_how_a_call_was_run_is_known_in_every_wording(version: str) -> None:
    line, choice = TUNINGS[version]
    calls = log_of(CALL, line).calls
    assert calls.chosen[calls.choices[0]] == choice
    assert not calls.tuned


def test_choices_go_to_calls_by_size_and_what_is_left_is_counted() -> None:
    larger = CALL.replace("count 1000", "count 2000")
    log = log_of(
        CALL,
        larger,
        "AllReduce: 8000 Bytes -> Algo RING proto SIMPLE channel{Lo..Hi}={0..1}",
        "AllReduce: 4000 Bytes -> Algo RING proto LL channel{Lo..Hi}={0..0}",
        "AllGather: 4000 Bytes -> Algo RING proto LL channel{Lo..Hi}={0..0}",
    )
    table = operations(log, 0)
    assert [table.words[word] for word in table.protocol] == ["LL", "SIMPLE"]
    assert table.channels.tolist() == [1, 2]
    assert [(tuned.function, tuned.told_bytes, count) for tuned, count in log.calls.tuned.items()] == [
        ("AllGather", 4000, 1)
    ]


def test_operations_are_counted_by_function_and_communicator_and_have_payloads() -> None:
    other = CALL.replace("comm 0x7f00", "comm 0x7f01")
    gather = CALL.replace("AllReduce", "AllGather").replace("datatype 7", "datatype 9")
    send = CALL.replace("AllReduce", "Send").replace("root 0", "root 1").replace("opCount 1f", "opCount 0")
    rccl = CALL.replace("count 1000", "acc (nil) count 1000") + " task 0 globalrank 0"
    lines = [CALL, gather, other, CALL, send, rccl]
    log = read(*(f"[176722560{at}.5] h:1:1 [0] NCCL INFO {line}" for at, line in enumerate(lines)))
    table = operations(log, 0)
    assert [table.words[word] for word in table.function] == [
        "AllReduce", "AllGather", "AllReduce", "AllReduce", "Send", "AllReduce",
    ]  # fmt: skip
    assert table.sequence.tolist() == [0, 0, 0, 1, 0, 2]
    assert table.payload_bytes.tolist() == [4000, 4000, 4000, 4000, 4000, 4000]
    assert table.wire_bytes.tolist() == [4000, 2000, 4000, 4000, 4000, 4000]
    assert table.peer.tolist() == [-1, -1, -1, -1, 1, -1]
    assert table.enqueued_ns.tolist() == [1_767_225_600_500_000_000 + at * 10**9 for at in range(6)]
    assert set(table.begin_ns.tolist()) == {UNKNOWN}


def test_a_process_without_calls_has_no_operations() -> None:
    assert len(operations(log_of("Using network IB"), 0)) == 0


@given(st.lists(st.tuples(st.sampled_from(["AllReduce", "AllGather", "Send"]), st.integers(0, 3), st.integers(1, 3))))
def test_counting_agrees_with_counting_one_by_one(calls: list[tuple[str, int, int]]) -> None:
    lines = [
        f"h:{pid}:{pid} [0] NCCL INFO {CALL.replace('AllReduce', function).replace('0x7f00', f'0x{pointer + 1}')}"
        for function, pointer, pid in calls
    ]
    log = read(*lines)
    for index, process in enumerate(log.processes):
        seen: Counter[tuple[str, int]] = Counter()
        expected = []
        for function, pointer, pid in calls:
            if pid == process.pid:
                expected.append((function, seen[function, pointer]))
                seen[function, pointer] += 1
        table = operations(log, index)
        assert list(zip((table.words[word] for word in table.function), table.sequence, strict=True)) == expected


def test_a_host_behind_what_a_torn_line_left_is_the_same_process() -> None:
    whole, glued = "node1:5:5 [0] NCCL INFO Using network IB", "00/0node1:5:5 [0] NCCL INFO Using network IB"
    for lines in ((whole, glued), (glued, whole), (glued, whole, glued)):
        assert [process.host for process in read(*lines).processes] == ["node1"]
    assert len(read(whole, whole.replace("node1", "node2")).processes) == 2


@pytest.mark.parametrize(
    ("line", "name", "value"),
    [
        ("NCCL_IB_DISABLE set by environment to 1.", "NCCL_IB_DISABLE", "1"),
        ("NCCL_SOCKET_IFNAME set by environment to eth0", "NCCL_SOCKET_IFNAME", "eth0"),
        ("NCCL_SOCKET_IFNAME set to ^lo", "NCCL_SOCKET_IFNAME", "^lo"),
        ("TUNER/Plugin: NCCL_TUNER_PLUGIN set to x.so", "NCCL_TUNER_PLUGIN", "x.so"),
    ],
)
def test_settings_are_what_nccl_found(line: str, name: str, value: str) -> None:
    assert log_of(line).processes[0].settings == {name: value}


def test_versions_of_library_and_runtime_are_known() -> None:
    log = read("NCCL version 2.28.9+cuda13.0", "h:1:1 [0] NCCL INFO cudaDriverVersion 13000")
    assert (log.nccl, log.runtime, log.is_rccl) == (("2.28.9",), ("CUDA 13.0", "CUDA driver 13000"), False)
    amd = read("RCCL version : 2.22.3-HEAD:9ad6f18", "HIP version  : 6.4.43482-0f2d", "ROCm version : 6.4.0.0-47-")
    assert (amd.nccl, amd.runtime, amd.is_rccl) == (("2.22.3",), ("HIP 6.4.43482", "ROCm 6.4.0.0"), True)


WARNINGS = {
    "NET/Socket : peer 10.0.0.1<4> message truncated : receiving 8 bytes instead of 4.": "mismatched_collectives",
    "Duplicate GPU detected : rank 0 and rank 1 both on CUDA device 1b000": "duplicate_gpu",
    "Mismatched NCCL version detected : rank 0 version 22703 rank 1 version 22809": "version_mismatch",
    "CUDA Driver version found is 11000. Minimum requirement is 11030": "driver_too_old",
    "Bootstrap Root : rank 1 of 8 ranks has already checked in": "bootstrap_mismatch",
    "Bootstrap : no socket interface found": "no_interface",
    "Call to ibv_reg_mr_iova2 failed with error Cannot allocate memory errno 12": "memory_lock",
    "Call to ibv_reg_mr_iova2 failed with error Bad address errno 14": "gpu_memory_registration",
    "Error: failed to extend /dev/shm/nccl-ab to 4 bytes, error: No space left on device (28)": "shared_memory",
    "Error while creating shared memory segment nccl-shm-send-1 (size 9637888)": "shared_memory",
    "NET/IB : Got completion with error 12, opcode 1, len 0, vendor err 129": "ib_completion",
    "NET/IB: Got completion from peer 1.1.1.1<1> with status=IBV_WC_RETRY_EXC_ERR(12) opcode=x(0)": "ib_completion",
    "NET/IB : mlx5_0:1 async fatal event: port error": "ib_link",
    "Call to ibv_modify_qp failed with 110 Connection timed out, on dev mlx5_0": "ib_connect",
    "Net : Connection closed by remote peer": "remote_closed",
    "socketProgress: Connection closed by remote peer n<1>": "remote_closed",
    "Call to connect returned Connection refused, retrying": "connect_failed",
    "socketPollConnect: connect to 10.0.0.1<4> failed : No route to host": "connect_failed",
    "Proxy append out of bounds": "proxy_bounds",
    "[Proxy Service 3] Failed to execute operation Connect from rank 3, retcode 3": "proxy",
    "Failed to bind NVLink SHARP (NVLS) Multicast memory of size 16 : CUDA error 1 'x'.": "nvls",
    "P2P is disabled between NVLINK connected GPUs 0 and 1.": "nvlink_p2p",
    "No transport found for rank 0[1b000] -> rank 1[1c000]": "peer_access",
    "GDRCOPY failure 1": "gdr_unavailable",
    "Error: network Foo not found.": "network_missing",
    "NET/Plugin: no plugin found, Could not find: libnccl-net.so": "plugin_missing",
    "Cuda failure 2 'out of memory'": "cuda_memory",
    "Cuda failure 'an illegal memory access was encountered'": "cuda",
    "Detected mixed local Net device counts across ranks (min 7, max 8).": "mixed_nics",
    "Call to posix_fallocate failed : No space left on device": "shared_memory",
    "Call to setrlimit failed: Operation not permitted": "system",
    "AllReduce : invalid argument": "usage",
    "internal error": "internal",
    "a poem": "",
}


@pytest.mark.parametrize("text", WARNINGS)
def test_known_warnings_are_recognised(text: str) -> None:
    assert code_of(text) == WARNINGS[text]


def test_every_meaning_says_what_it_is_and_what_to_try() -> None:
    assert all(each.title and each.means and each.attempt for each in MEANINGS.values())
    assert set(WARNINGS.values()) - set(MEANINGS) == {""}


def test_warnings_that_differ_in_numbers_are_one_and_torch_is_heard_too() -> None:
    log = read(
        "[1767225600.5] h:1:1 [0] a.cc:1 NCCL WARN Connection closed by remote peer n<1>",
        "h:1:1 [0] a.cc:1 NCCL WARN Connection closed by remote peer n<2>",
        "[rank3]:[E1 ProcessGroupNCCL.cpp:6] [Rank 3] Watchdog caught collective operation timeout: WorkNCCL(x) ran",
    )
    closed, timeout = log.warnings
    assert (closed.code, closed.count, closed.time_ns) == ("remote_closed", 2, 1_767_225_600_500_000_000)
    assert (timeout.code, log.processes[timeout.process].rank) == ("watchdog_timeout", 3)


def test_what_torch_says_of_a_rank_is_of_its_process() -> None:
    line = INITS["2.4"][0]
    log = read(f"h:1:1 [0] NCCL INFO {line}", "[Rank 1] Watchdog caught collective operation timeout: WorkNCCL(x)")
    assert [process.pid for process in log.processes] == [1]
    assert [warning.process for warning in log.warnings] == [0]


def _account(*lines: str) -> Account:
    return account(read(*lines))


def test_groups_are_joined_across_ranks() -> None:
    def init(pid: int, pointer: str, rank: int, how: str) -> str:
        return (
            f"h:{pid}:{pid} [0] NCCL INFO comm {pointer} rank {rank} nranks 2 cudaDev 0 busId 1 {how} - Init COMPLETE"
        )

    told = _account(
        init(1, "0xa", 0, "commId 0x5"),
        init(2, "0xb", 1, "commId 0x5"),
        init(1, "0xc", 0, "parent 0xa splitCount 0 color 7 key 0"),
        init(2, "0xd", 1, "parent 0xb splitCount 0 color 7 key 1"),
        init(1, "0xe", 0, "parent 0xa splitCount 1 color 7 key 0"),
    )
    assert [(group.id, group.seen, group.parent, group.color) for group in told.groups] == [
        (5, (0, 1), None, None),
        (None, (0, 1), 0, 7),
        (None, (0,), 0, 7),
    ]
    assert (told.ranks, told.nodes) == (2, 1)


def test_a_communicator_that_is_its_own_parent_is_no_trouble() -> None:
    line = f"comm {POINTER} rank 0 nranks 2 cudaDev 0 busId 1 parent {POINTER} color 0 key 0 - Init COMPLETE"
    (group,) = account(log_of(line)).groups
    assert group.parent == 0


def test_settings_that_differ_come_first_and_causes_before_consequences() -> None:
    told = _account(
        "h:1:1 [0] NCCL INFO NCCL_DEBUG set by environment to INFO",
        "h:1:1 [0] NCCL INFO NCCL_IB_HCA set by environment to a",
        "h:2:2 [0] NCCL INFO NCCL_IB_HCA set by environment to b",
        "h:1:1 [0] a.cc:1 NCCL WARN Connection closed by remote peer",
        "h:2:2 [0] a.cc:1 NCCL WARN Cuda failure 'an illegal memory access was encountered'",
    )
    assert [(setting.name, setting.differs) for setting in told.settings] == [
        ("NCCL_IB_HCA", True),
        ("NCCL_DEBUG", False),
    ]
    assert [(warning.code, warning.weight) for warning in told.warnings] == [
        ("cuda", Weight.FAILURE),
        ("remote_closed", Weight.CONSEQUENCE),
    ]


def test_what_is_beyond_the_limits_is_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(log_calls, "MOST_CALLS", 2)
    monkeypatch.setattr(log_processes, "MOST_PROCESSES", 1)
    log = read(*[f"h:1:1 [0] NCCL INFO {CALL}"] * 3, "h:2:2 [0] NCCL INFO x", "h:3:3 [0] NCCL INFO x")
    assert [(note.code, note.count) for note in log.quality] == [("beyond_limits", 3)]
    assert len(operations(log, 0)) == 2


def test_connections_are_kept_as_long_as_there_is_room(monkeypatch: pytest.MonkeyPatch) -> None:
    lines = [f"Channel 00/0 : 0[0] -> {rank}[1] via P2P/IPC" for rank in range(1, 9)]
    monkeypatch.setattr(log_reader, "MOST_TOPOLOGY", 3 * len(lines[0]))
    log = log_of(*lines, INITS["2.4"][0])
    assert sum(log.communicators[0].topology.links.values()) == 3
    assert [(note.code, note.count) for note in log.quality] == [("beyond_limits", 5)]


def test_packed_logs_are_read_as_far_as_they_go(tmp_path: Path) -> None:
    whole = gzip.compress(b"h:1:1 [0] NCCL INFO Using network IB\n" * 5000)
    (tmp_path / "whole.gz").write_bytes(whole)
    (tmp_path / "cut.gz").write_bytes(whole[: len(whole) // 2])
    assert read_nccl_logs([str(tmp_path / "whole.gz")]).lines == 5000
    both = read_nccl_logs([str(tmp_path / "whole.gz"), str(tmp_path / "cut.gz")])
    assert both.lines > 5000
    assert [note.code for note in both.quality] == ["truncated_log"]


def test_without_a_line_of_nccl_there_is_nothing_to_read(tmp_path: Path) -> None:
    (tmp_path / "train.log").write_text("loss 0.3\nbackend nccl\n")
    with pytest.raises(ShardprofError, match="no line of NCCL"):
        read_nccl_logs([str(tmp_path / "train.log")])


KNOWN = [CALL, *(line for line, _ in INITS.values()), *LINKS, *(line for line, _ in TUNINGS.values()), *WARNINGS]


@given(st.data())
def test_damaged_lines_are_never_an_error(data: st.DataObject) -> None:
    lines = []
    for message in data.draw(st.lists(st.sampled_from(KNOWN), max_size=8)):
        at = data.draw(st.integers(0, len(message)))
        junk = data.draw(st.text(st.characters(codec="utf-8"), max_size=6) | st.integers(0, 10**20).map(str))
        level = data.draw(st.sampled_from(["NCCL INFO", "a.cc:1 NCCL WARN"]))
        lines.append(f"h:1:1 [0] {level} {message[:at]}{junk}{message[at:]}")
    log = read(*lines)
    account(log)
    for process in range(len(log.processes)):
        operations(log, process)
