"""One file a format that traces come in."""
