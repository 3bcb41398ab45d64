"""Warnings that are known: what each means and what to try, by its text. The first that fits decides."""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import IntEnum


class Weight(IntEnum):
    """How much a warning matters, the worst last. CONSEQUENCE is an error that mostly follows another one."""

    NOTE = 0
    SLOW = 1
    CONSEQUENCE = 2
    FAILURE = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Meaning:
    """A known warning: a stable `code`, a `title` of a few words, what it means and what to try."""

    code: str
    weight: Weight
    text: str
    title: str
    means: str
    attempt: str


def code_of(text: str) -> str:
    """The code of a warning, "" if it is not known."""
    return next((code for code, pattern in _PATTERNS if pattern.search(text)), "")


_FAILS, _AFTER, _SLOW, _NOTE = Weight.FAILURE, Weight.CONSEQUENCE, Weight.SLOW, Weight.NOTE
_OTHERS_FIRST = "look for the rank that has another error, or that ended first: what this rank says is its consequence"


def _known(code: str, weight: Weight, text: str, title: str, means: str, attempt: str) -> Meaning:
    return Meaning(code=code, weight=weight, text=text, title=title, means=means, attempt=attempt)


_TABLE = (
    _known(
        "mismatched_collectives",
        _FAILS,
        r"message truncated|collective mismatch error|posted incorrect receive info|mismatch in collective",
        "ranks call different collectives",
        "two ranks are in different collectives, or in the same with different sizes",
        "compare what the ranks call (branches that depend on data or rank, uneven last batches);"
        " TORCH_DISTRIBUTED_DEBUG=DETAIL checks each call",
    ),
    _known(
        "duplicate_gpu",
        _FAILS,
        r"Duplicate GPU detected",
        "two ranks on one GPU",
        "two ranks of a communicator use the same GPU",
        "call torch.cuda.set_device(LOCAL_RANK) before the first collective, and look at CUDA_VISIBLE_DEVICES",
    ),
    _known(
        "version_mismatch",
        _FAILS,
        r"Mismatched NCCL version|NCCL version mismatch|not backwards compatible|NCCL library is too old"
        r"|too old version of NCCL",
        "NCCL versions differ",
        "ranks run different versions of NCCL, or another one than they were built with",
        "install the same torch on all nodes; look for a libnccl.so in LD_LIBRARY_PATH or LD_PRELOAD",
    ),
    _known(
        "driver_too_old",
        _FAILS,
        r"CUDA Driver version found is|driver version is insufficient|requires CUDA driver",
        "the driver is too old",
        "the GPU's driver is older than this build of NCCL needs",
        "update the driver, or install a torch for an older CUDA",
    ),
    _known(
        "bootstrap_mismatch",
        _FAILS,
        r"Bootstrap Root ?: (?:mismatch|rank \d+ of \d+ ranks has already)|has already checked in",
        "ranks disagree who takes part",
        "processes disagree about the number of ranks, or two have the same rank: often one is left of an earlier job",
        "look at RANK and WORLD_SIZE of all processes, at leftover ones and at MASTER_PORT",
    ),
    _known(
        "no_interface",
        _FAILS,
        r"no socket interface found|no interface found|No IP interface found|No usable listening interface"
        r"|No interface found in the same subnet|no device found (?:matching|after excluding)",
        "no network interface is left",
        "no network interface fits what is asked for, so ranks cannot meet",
        "correct NCCL_SOCKET_IFNAME (`ip -br addr` lists names; ^docker,lo excludes some); containers need the"
        " host's network",
    ),
    _known(
        "memory_lock",
        _FAILS,
        r"ibv_(?:exp_)?reg_mr\w* failed.*(?:Cannot allocate memory|errno 12)|ibv_create_(?:cq|qp)\w* failed"
        r".*Cannot allocate memory|[Mm]emlock|fi_mr_reg.*Cannot allocate memory",
        "too little memory may be locked",
        "the network card could not pin memory: the limit of locked memory is too low",
        "set memlock to unlimited (limits.conf, LimitMEMLOCK= of the launcher's service, --ulimit memlock=-1 in"
        " containers); `ulimit -l` inside the job has to say unlimited",
    ),
    _known(
        "gpu_memory_registration",
        _FAILS,
        r"ibv_(?:exp_)?reg_mr\w* failed|nv_peer_mem|peermem",
        "GPU memory could not be registered",
        "the network card could not register GPU memory: GPUDirect RDMA is half set up",
        "load nvidia-peermem (`lsmod | grep peermem`) or use a driver with DMA-BUF; NCCL_NET_GDR_LEVEL=LOC avoids it,"
        " slower",
    ),
    _known(
        "shared_memory",
        _FAILS,
        r"No space left on device|shared memory (?:segment|file|mapping)|failed to extend .*(?:shm|bytes)"
        r"|Could not map .*(?:shm|size)|/dev/shm",
        "shared memory is full or closed",
        "a segment in /dev/shm could not be made or opened; containers get 64 MB of it unless told otherwise",
        "give it more (--shm-size=1g, --ipc=host, an emptyDir of medium Memory in Kubernetes), and remove old"
        " /dev/shm/nccl-* files",
    ),
    _known(
        "ib_completion",
        _FAILS,
        r"Got completion (?:from peer|with error)|Got CQE with error|IBV_WC_|local work queue error",
        "the network card gave up on a peer",
        "a transfer over InfiniBand or RoCE failed. Status 12 is retries exceeded (a peer that died, a bad link, wrong"
        " routes or GID), 5 a queue flushed after an earlier error, 4 and 10 access to memory",
        "look at which hosts are named: always the same one is a bad card, cable or switch (ibstat, perfquery,"
        " dmesg); on RoCE check NCCL_IB_GID_INDEX and the traffic class; raise NCCL_IB_TIMEOUT for congestion",
    ),
    _known(
        "ib_link",
        _FAILS,
        r"async (?:fatal|error|event)|Got async|[Nn]on-fatal async|GID table changed|Port error|port.*(?:down|error)",
        "the network card reports an event",
        "a port, queue or address of a network card changed or failed while the job ran",
        "look at dmesg and the switch's log of that time; a link that flaps has to be mended or excluded (NCCL_IB_HCA)",
    ),
    _known(
        "ib_connect",
        _FAILS,
        r"ibv_modify_qp failed|Call to ibv_(?:modify_qp|create_ah)|incompatible devices|device is incompatible"
        r"|different link_layer",
        "network cards cannot reach each other",
        "the queue between two network cards could not be connected: different fabrics or link types, or on RoCE"
        " addresses (GIDs) that do not reach each other",
        "name the cards of one fabric with NCCL_IB_HCA; on RoCE look at NCCL_IB_GID_INDEX (show_gids)",
    ),
    _known(
        "ib_other",
        _FAILS,
        r"Call to ibv_\w+|ibv_post_\w+\(\) failed|NET/IB ?: (?:Unable|Trying|Fatal|The error is fatal)",
        "a call to the network card failed",
        "a function of the InfiniBand library failed",
        "look at ibstat and dmesg on that host; NCCL_IB_DISABLE=1 shows whether the rest works, slower",
    ),
    _known(
        "remote_closed",
        _AFTER,
        r"[Cc]onnection closed by remote peer|peer closed|Connection reset by peer|Broken pipe|ncclRemoteError"
        r"|remote process exited|socket progress error",
        "another rank went away",
        "the other end of a connection closed: that rank crashed, ran out of memory or was killed",
        _OTHERS_FIRST,
    ),
    _known(
        "watchdog_timeout",
        _AFTER,
        r"Watchdog caught collective operation timeout|[Tt]imeout at NCCL work|collective operation timeout",
        "a collective did not end in time",
        "torch's watchdog waited for a collective longer than its timeout: some rank did not come, or the"
        " network stands",
        "look which rank did not reach that collective (its flight recorder dump, py-spy on it); only if it is merely"
        " slow raise timeout= of init_process_group",
    ),
    _known(
        "connect_failed",
        _FAILS,
        r"[Cc]onnect to .* (?:failed|returned)|Connection refused|No route to host|Connection timed out"
        r"|exceeded error retry|PollConnect|Call to (?:connect|accept|bind|socket|poll)\b"
        r"|Net ?: Connect",
        "a rank could not be reached",
        "a connection between ranks failed or timed out: a firewall, a wrong interface, or a rank that is not there",
        "check that NCCL_SOCKET_IFNAME names an interface that all nodes reach each other by, that no firewall blocks"
        " high ports, and that the other rank is alive",
    ),
    _known(
        "timeout",
        _AFTER,
        r"\b[Tt]imed? ?out\b|ETIMEDOUT",
        "something took too long",
        "NCCL waited for another rank or the network longer than it may",
        _OTHERS_FIRST,
    ),
    _known(
        "proxy_bounds",
        _FAILS,
        r"Proxy append out of bounds",
        "an error of NCCL with profiler plugins",
        "NCCL's list of network operations overflowed; 2.27 is known to do so with a profiler plugin loaded",
        "update NCCL, or record without the plugin (NCCL_PROFILER_PLUGIN=none)",
    ),
    _known(
        "proxy",
        _AFTER,
        r"Proxy (?:Service|Progress|append|call|response)|[Pp]roxy.*(?:failed|error|mismatch)|\[Service thread\]",
        "NCCL's network thread failed",
        "the thread that moves data for a rank hit an error, mostly after another one",
        _OTHERS_FIRST,
    ),
    _known(
        "nvls",
        _FAILS,
        r"NVLink SHARP|NVLS.*[Mm]ulticast|Multicast memory",
        "NVLink multicast is not working",
        "memory for NVLink SHARP could not be set up: often the fabric manager is not running or has an error",
        "restart nvidia-fabricmanager; NCCL_NVLS_ENABLE=0 goes without, slower for large all-reduces",
    ),
    _known(
        "nvlink_p2p",
        _SLOW,
        r"P2P is disabled between",
        "GPUs cannot reach each other directly",
        "peer access is off between GPUs that a link connects, so data goes through the host",
        "look at `nvidia-smi topo -p2p r` and the link state; virtual machines and ACS or IOMMU settings turn it off;"
        " is NCCL_P2P_DISABLE set?",
    ),
    _known(
        "peer_access",
        _FAILS,
        r"failed to peer with device|cudaIpc\w+ failed|cudaIpcGetMemHandle|No transport found|has no transport for",
        "two ranks have no way to talk",
        "neither peer access, shared memory nor a network connects two ranks: often containers of one node that see"
        " different GPUs or do not share IPC",
        "run the ranks of a node in one container or with --ipc=host --pid=host; look at NCCL_P2P_DISABLE,"
        " NCCL_SHM_DISABLE and CUDA_VISIBLE_DEVICES",
    ),
    _known(
        "gdr_unavailable",
        _SLOW,
        r"GDRCOPY|gdr_\w+\(|libgdrapi|GPU ?Direct.*(?:[Dd]isabled|not)",
        "GPUDirect is not available",
        "GPUDirect RDMA or GDRCopy could not be used, so data between nodes goes through the host's memory",
        "load nvidia-peermem or use a driver with DMA-BUF; check that GPU and card share a PCIe switch (nvidia-smi"
        " topo -m)",
    ),
    _known(
        "network_missing",
        _FAILS,
        r"network \S* ?not found|Couldn't find net with name|Failed to initialize any NET plugin",
        "the network asked for is missing",
        "NCCL_NET or the communicator asks for a network that this installation has not",
        "look at NCCL_NET and NCCL_NET_PLUGIN: the plugin's folder has to be in LD_LIBRARY_PATH",
    ),
    _known(
        "ofi",
        _FAILS,
        r"NET/OFI|fi_\w+\(\)|libfabric|[Ll]ibfabric",
        "the libfabric plugin reports a problem",
        "the plugin for EFA or another libfabric network failed",
        "check FI_PROVIDER and FI_EFA_USE_DEVICE_RDMA, the versions of plugin and libfabric, and on AWS that the"
        " security group lets the nodes talk to each other",
    ),
    _known(
        "plugin_missing",
        _NOTE,
        r"[Pp]lugin.*(?:not found|unsupported|incompatible|[Ff]ailed|could not)|No plugin found|Could not find: lib",
        "a plugin was not used",
        "a plugin of NCCL could not be loaded; NCCL goes on with its own",
        "if it was meant to be used, look at NCCL_NET_PLUGIN, NCCL_TUNER_PLUGIN or NCCL_PROFILER_PLUGIN and at"
        " LD_LIBRARY_PATH",
    ),
    _known(
        "cuda_memory",
        _FAILS,
        r"[Cc]uda failure.*out of memory|out of memory|cudaMalloc|cuMemCreate.*failed"
        r"|Failed to (?:CUDA )?(?:host )?alloc",
        "no memory left",
        "memory for NCCL's buffers could not be allocated; they do not come from torch's allocator",
        "leave some GPU memory free (a smaller batch, expandable_segments:True), use fewer communicators, or set"
        " NCCL_BUFFSIZE or NCCL_MAX_CTAS lower",
    ),
    _known(
        "cuda",
        _FAILS,
        r"[Cc]uda failure|CUDA error|unhandled cuda error|ncclUnhandledCudaError|HIP failure",
        "a CUDA call failed",
        "CUDA returned an error inside NCCL: often of an earlier kernel of the program itself, or of the GPU (Xid in"
        " dmesg)",
        "run once with CUDA_LAUNCH_BLOCKING=1 to see which call it is, and look for Xid in dmesg",
    ),
    _known(
        "topology_files",
        _NOTE,
        r"XML (?:Topology|Graph|Import|Export|Mismatch)|NCCL_TOPO_FILE|Could not (?:open|find) .*topolog",
        "a topology file does not fit",
        "a topology or graph file (NCCL_TOPO_FILE, NCCL_GRAPH_FILE) is of another machine or version",
        "unset it, or take the one of this kind of machine",
    ),
    _known(
        "mixed_nics",
        _FAILS,
        r"Detected mixed local (?:Net|CollNet) device counts",
        "nodes have different numbers of network cards",
        "a rank sees fewer network cards than another one: one failed, or is hidden",
        "find the node with a card less (ibstat); NCCL_IGNORE_NET_MISMATCH=1 goes on, slower",
    ),
    _known(
        "system",
        _AFTER,
        r"unhandled system error|ncclSystemError|Too many open files|Thread creation failed|Call to \w+ failed",
        "a system call failed",
        "the operating system refused something that NCCL needs",
        "the error's name is in the line or in the warning before it; look at limits of files and threads (ulimit -n,"
        " -u)",
    ),
    _known(
        "usage",
        _FAILS,
        r"invalid (?:argument|usage)|ncclInvalid(?:Usage|Argument)|is not a valid pointer"
        r"|Invalid (?:root|datatype|count|reduction|config)|mismatchs? with NCCL device"
        r"|different comms|is not within valid range",
        "a call that NCCL refuses",
        "an argument of a call is wrong: a tensor on another GPU than the rank's, a wrong root or type",
        "check that each tensor lies on the rank's own GPU (torch.cuda.set_device first)",
    ),
    _known(
        "internal",
        _AFTER,
        r"internal error|ncclInternalError",
        "an error inside NCCL",
        "NCCL met what it did not expect, mostly after another warning",
        "look at the first warning of each rank; try another version of NCCL",
    ),
    _known(
        "numa_balancing",
        _SLOW,
        r"[Nn]uma.?balancing|iommu=pt",
        "the kernel is not set up for GPUs",
        "automatic NUMA balancing, or an IOMMU that is not in pass-through mode, slows transfers down or hangs them",
        "sysctl kernel.numa_balancing=0; add iommu=pt to the kernel's command line",
    ),
)

MEANINGS = {meaning.code: meaning for meaning in _TABLE}
"""By code."""

_PATTERNS = tuple((meaning.code, re.compile(meaning.text)) for meaning in _TABLE)
