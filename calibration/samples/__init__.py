"""Generators of sample data with exact labels: drawn scenes with masks, and passages with questions."""
