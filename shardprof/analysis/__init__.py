"""From a Run to a Result. One file an analysis; an analysis computes and never prints."""
