"""`make gpu-test`: what TensorRT makes of our graphs on a real GPU, from artifact folders that torch made elsewhere.

subjects.py   which models, and their folders
options.py    int8 engines that differ from ours in one choice; ours and the float ones are methods of `bench`
steps.py      one engine built and judged, or all of a model timed, in a process of its own: a crash costs that step
run.py        the steps that are left to do
record.py     the result file, written after every step
targets.py    what was met and what was missed

It needs numpy, TensorRT, polygraphy and what EXTRA names: no torch and no transformers. The options need OPTIONAL too.
"""

EXTRA = ("onnx", "pydantic", "typer", "pyyaml", "pillow")  # packages beside numpy, tensorrt and polygraphy
OPTIONAL = ("onnx-ir", "onnxruntime", "psutil")
