"""What NCCL itself tells of a training, outside captured windows too: through profiler plugins, and in its logs."""
