"""What the tables are made of: speed, accuracy, limits, build time, calibration, scaling, placement, TensorRT.

A benchmark takes a recipe and returns one JSON document, which `tables` draws for the terminal and the docs. What they
share: `methods` (ways to run a model), `published` (random checkpoints of published shapes), `timing` (in turns, after
a call that is not timed) and `results` (the document with command, machine, date and versions, and its file). Outputs
are checked in the same run that times them.
"""
