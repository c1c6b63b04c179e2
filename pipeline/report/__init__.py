"""The report: its schema, the sections read off the artifacts, the page drawn from it, and the baseline."""
