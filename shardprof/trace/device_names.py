"""What the name of a device activity tells: whether a kernel communicates and how, and which way a copy goes."""

from __future__ import annotations

import re
from functools import lru_cache

from shardprof.trace.classes import OTHER_COMM, named_kind

_COMPUTE = "compute"
_BY_WORD = ""  # the word for a collective in the function's name tells the kind

# In order: the first pattern found in a kernel's qualified name decides. Every pattern holds a library or a whole
# collective, since "send", "gather", "scatter", "dispatch", "combine" and "broadcast" are words of compute, too.
_KERNELS = tuple(
    (re.compile(pattern, re.IGNORECASE), kind)
    for pattern, kind in (
        # Inductor names a fused kernel after the operators around it, all_gather_into_tensor among them.
        (r"\btriton_\w+_fused|\bat::native::", _COMPUTE),
        # What multiplies while it communicates computes all the time.
        (r"gemm|matmul", _COMPUTE),
        # What prepares or finishes an exchange on its own GPU.
        (r"deep_ep::.*(?:layout|epilogue)|moea2a(?:prepare|sanitize)|lamport_init", _COMPUTE),
        # Tokens to their experts and back: DeepEP, HybridEP, UCCL, NCCL EP; MORI; TensorRT-LLM.
        (r"\b(?:deep_ep|hybrid_ep|uccl|nccl_ep)::.*(?:dispatch|combine|notify)", "all_to_all"),
        (r"\bep(?:dispatch|combine)|moea2a|_a2av?(?![a-z])", "all_to_all"),
        (r"\bdeep_ep::|\bhybrid_ep::device_sync", _BY_WORD),
        # NVSHMEM's and ROC_SHMEM's own kernels and what PyTorch builds on them.
        (r"\brdxn_on_stream", "all_reduce"),
        (r"\bfcollect_on_stream", "all_gather"),
        (r"(?:nv|roc)_?shmem\w*_(?:put|get|signal)", "p2p"),
        (r"(?:nv|roc)_?shmem|_on_stream_kernel", _BY_WORD),
        # Userbuffers of Transformer Engine and TensorRT-LLM.
        (r"userbuffers\w*_ag(?![a-z])", "all_gather"),
        (r"userbuffers\w*_rs(?![a-z])", "reduce_scatter"),
        (r"kuserbuffers", "p2p"),
        (r"userbuffers", "all_reduce"),
        # Symmetric memory of PyTorch; collectives of vLLM, SGLang, FlashInfer, AITER, MSCCL++, oneCCL, NCCL and others.
        (r"symmetric_memory::\w*signal", "p2p"),
        (r"(?:all_?reduce|reduce_?scatter|all_?gather|all_?to_?all|all_?2_?all)[^:]*$", _BY_WORD),
        (r"multimem_|symmetric_memory::\w*barrier", _BY_WORD),
        (r"cross_device_reduce|lamport", "all_reduce"),
        (r"nccl|rccl|msccl|hccl|\bhcom_|\b(?:one)?ccl(?:_|::)", _BY_WORD),
    )
)

_LONGEST_NAME = 1000  # of what a name means nothing stands behind it; patterns are slow on names without end

_DIRECTION = re.compile(r"([HMDP])(?:ost|evice|eer)?(?:_?to_?|2)([HMDP])", re.IGNORECASE)
COPY_KINDS = ("HtoD", "DtoH", "DtoD", "PtoP", "HtoH", "other")
"""Which way a copy goes: H the host, D the device, P a peer device; "other" for arrays and what is not told."""


@lru_cache(maxsize=1 << 12)
def kernel_kind(name: str) -> str | None:
    """The kind of communication that a kernel's name tells, of `classes.COMM_KINDS`; None if it tells none."""
    qualified = _qualified_name(name)
    kind = next((kind for pattern, kind in _KERNELS if pattern.search(qualified)), _COMPUTE)
    if kind == _BY_WORD:
        return named_kind(qualified.rpartition("::")[2]) or OTHER_COMM
    return None if kind == _COMPUTE else kind


def copy_kind(name: str) -> str:
    """Which way a copy goes by its name, one of `COPY_KINDS`: Kineto's and XPU's "Memcpy HtoD (…)", ROCm's too."""
    found = _DIRECTION.search(name)
    if not found:
        return "other"
    source, target = (end.upper().replace("M", "H") for end in found.groups())
    kind = f"{source}to{target}"
    return kind if kind in COPY_KINDS else "other"


def _qualified_name(signature: str) -> str:
    """The function in a signature, without template arguments and parameters: types named there do not communicate."""
    return re.split(r"[(<]", signature[:_LONGEST_NAME].replace("(anonymous namespace)::", ""), maxsplit=1)[0]
