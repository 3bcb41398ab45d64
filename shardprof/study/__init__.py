"""The FSDP versus DeepSpeed benchmark: what is trained, how it is sharded, and on what data.

Nothing in here records: a workload is an ordinary training script, as a user would write it.
"""
