"""One file per runtime: what prepares networks for it, runs and times them. `selection` chooses one of them.

The runners are `onnxruntime`, `openvino`, `pytorch` and `tensorrt`. What they share is no runner: `base` (the classes
`Runner` and `Session`), `cuda` (clocks and times of a CUDA device), `graphs` (runners that read ONNX graphs) and
`tensorrt_engine` (building and keeping TensorRT engines).

To add a runner:

1. Write `latency/runners/NAME.py` with a `Runner` and a `Session`, the runner's `name` being NAME. Import the runtime
   inside their methods. A runtime that reads ONNX graphs starts from `GraphRunner`.
2. In `latency/config.py` add NAME to `RunnerChoice` and what it can do to `SUPPORT`; a new way of execution to `Mode`.
3. In `latency/runners/selection.py` add the class to `RUNNERS`, and to `_PREFERENCE` if `auto` may take it.

`tests/latency/runners/test_selection.py` checks that the three agree; `test_base.py` runs the same checks on every
runner of `RUNNERS`.
"""
