"""What is measured here: the machine, memory, latency."""
