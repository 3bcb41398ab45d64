"""What only several ranks together tell: which of their calls are one collective, and how their clocks relate."""
