"""What can go wrong in a way that the user can mend: one message, one hint, exit code 2."""

from __future__ import annotations


class ShardprofError(Exception):
    """A failure to tell the user about in one line: what is wrong (`message`) and what to try (`hint`)."""

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.message}; {self.hint}" if self.hint else self.message


class UnreadableTraceError(ShardprofError):
    """A path that is no readable trace or run."""
