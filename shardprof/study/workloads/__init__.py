"""Training scripts that torchrun, deepspeed and plain python can start."""
