# The toolkit with CUDA, TensorRT and pycuda. Build and use:
#   docker build -t fasterseg .
#   docker run --rm --gpus all -v "$PWD/data:/app/data" -v "$PWD/runs:/app/runs" fasterseg python pipeline.py --config configs/toy.yaml
#   docker run --rm -p 6006:6006 -v "$PWD/runs:/app/runs" fasterseg tensorboard --logdir runs --bind_all
# The devel image is needed once: pycuda is compiled from source against the CUDA toolkit's headers.
FROM nvidia/cuda:13.0.1-devel-ubuntu24.04

# the cache lies with the runs, so that TensorRT's built engines outlive the container
ENV DEBIAN_FRONTEND=noninteractive \
    PIP_NO_CACHE_DIR=1 \
    PIP_DISABLE_PIP_VERSION_CHECK=1 \
    PYTHONUNBUFFERED=1 \
    VIRTUAL_ENV=/opt/venv \
    CUDA_ROOT=/usr/local/cuda \
    XDG_CACHE_HOME=/app/runs/.cache \
    PATH=/opt/venv/bin:/usr/local/cuda/bin:$PATH

RUN apt-get update \
    && apt-get install --yes --no-install-recommends python3 python3-venv python3-dev g++ make git \
    && rm -rf /var/lib/apt/lists/*

WORKDIR /app
RUN python3 -m venv "$VIRTUAL_ENV"

# dependencies first, so that a change of code does not install them again
COPY requirements.txt ./
RUN pip install -r requirements.txt
COPY pyproject.toml README.md LICENSE ./
COPY fasterseg fasterseg
# TensorRT's libraries come from NVIDIA's own index, through the tensorrt package
RUN pip install --editable '.[dev,tensorrt]'
COPY . .

# every stage is a command of its own (python -m latency table, python -m search pretrain, ...); the default runs them all
EXPOSE 6006
VOLUME ["/app/data", "/app/runs"]
CMD ["python", "pipeline.py", "--config", "configs/toy.yaml"]
