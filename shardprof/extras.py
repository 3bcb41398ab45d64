"""What needs a package that is not always installed says so before it begins."""

from __future__ import annotations

from importlib.util import find_spec

from shardprof.errors import ShardprofError


def require(package: str, *, extra: str) -> None:
    """Raises ShardprofError, with what to install, where `package` of the extra is not there."""
    spec = find_spec(package)
    if spec is None or spec.origin is None:  # a folder of that name (W&B makes one) is no package
        raise ShardprofError(f"{package} is not installed", f"pip install 'shardprof[{extra}]'")
