"""A study's report for people: in the terminal, as Markdown, as an HTML page. Prints, never computes."""
