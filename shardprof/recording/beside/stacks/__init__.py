"""Python stacks of a node's ranks, sampled from outside by py-spy: `recorder.py` has it done, the rest makes files."""
