"""`make gpu-test`: what TensorRT makes of our graphs on a real GPU, in two steps on two machines.

pack.py, on a machine with torch       variants.py   which models, and which engines of each
                                       stored.py     graphs, and the weights that they share
                                       samples.py    inputs, float outputs, labels, predictions
                                       parts.py      the folder as files that are small enough to copy
run.py, on a machine with a GPU        opened.py     the folder, checked
                                       engines.py    building, loading, what is timed
                                       judge.py      outputs against the graph's, batches, accuracy, int8 share
                                       gpu.py        name, driver and clocks
                                       record.py     the result file, written after every step
                                       targets.py    what was met and what was missed
                                       guard.py      a crash costs one engine, not the run

The second step needs numpy, TensorRT and what EXTRA names: no torch, no transformers, no ONNX Runtime.
"""

EXTRA = ("onnx", "pydantic", "typer", "pyyaml", "pillow")  # packages beside numpy and tensorrt
