"""What runs in the recorder's process while the job does: samples counters and stacks, watches over the ranks."""
