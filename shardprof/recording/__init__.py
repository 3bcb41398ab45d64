"""What happens on the training nodes: the launcher beside the job, and the agent inside every rank.

`launch` and what it uses run in the recorder's own process; `agent` and what it uses run inside the ranks, import
nothing but Python and the torch that is already there, and never let an exception of theirs reach the training.
"""
