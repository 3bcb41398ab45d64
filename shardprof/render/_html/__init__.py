"""What `--format html` writes: `page.py` makes one file of sections, `figures.py` charts with their tables."""
