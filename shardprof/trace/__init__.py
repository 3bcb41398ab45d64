"""The run folder and the traces in it: what recording writes and everything else reads."""
