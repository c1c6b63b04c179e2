"""Whether an engine may ship: held-out samples, the float reference, accuracy, parity, verdict."""
