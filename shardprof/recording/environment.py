"""Which environment variables a run may remember: those that change performance and cannot hold a secret."""

from __future__ import annotations

from collections.abc import Mapping

NAMES = frozenset({
    "CROSS_RANK", "CROSS_SIZE", "CUDA_DEVICE_MAX_CONNECTIONS", "CUDA_DEVICE_ORDER", "CUDA_LAUNCH_BLOCKING",
    "CUDA_VISIBLE_DEVICES", "DS_ACCELERATOR", "GLOO_SOCKET_IFNAME", "GOMP_CPU_AFFINITY", "HIP_VISIBLE_DEVICES",
    "KMP_AFFINITY", "KMP_BLOCKTIME", "LOCAL_SIZE", "LOCAL_WORLD_SIZE", "MALLOC_CONF", "MKL_NUM_THREADS",
    "NVIDIA_TF32_OVERRIDE", "OMP_NUM_THREADS", "OMP_PROC_BIND", "PYTHONHASHSEED", "PYTORCH_ALLOC_CONF",
    "PYTORCH_CUDA_ALLOC_CONF", "ROCR_VISIBLE_DEVICES", "SLURM_JOB_NUM_NODES", "SLURM_NTASKS", "TP_SOCKET_IFNAME",
    "WORLD_SIZE",
})  # fmt: skip
PREFIXES = ("NCCL_", "TORCH_NCCL_", "TORCH_DISTRIBUTED_", "TORCH_CUDNN_", "TORCHINDUCTOR_")
SECRET_WORDS = ("KEY", "TOKEN", "SECRET", "PASS", "CREDENTIAL", "AUTH")


def allowed(environment: Mapping[str, str]) -> dict[str, str]:
    """The part of `environment` that a run remembers."""
    return {name: environment[name] for name in sorted(environment) if _is_allowed(name)}


def _is_allowed(name: str) -> bool:
    if name in NAMES:
        return True
    return name.startswith(PREFIXES) and not any(word in name for word in SECRET_WORDS)
