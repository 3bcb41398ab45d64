"""FSDP or DeepSpeed for a model and machines: what fits, what is moved, what of it can hide, and how sure that is."""
