"""What runs inside a rank, in the job's own processes: nothing here may change or break the training.

`agent.py` finds out whether a process is a rank, `recorder.py` records it, `capture.py` opens the windows.
"""
