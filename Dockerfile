# fundus in a container. For a CPU, and for a graphics card (which needs NVIDIA's container toolkit):
#   docker build -t fundus .
#   docker build -t fundus:cuda --build-arg TORCH=cu130 .
# A run folder asked by page and by one HTTP call, from this computer alone; a training that writes into this folder:
#   docker run --rm -p 127.0.0.1:8779:8779 -v "$PWD/run:/run-folder:ro" fundus app /run-folder --host 0.0.0.0
#   docker run --rm --gpus all --user "$(id -u):$(id -g)" -e HOME=/tmp -e FUNDUS_HOME=/work/.fundus -v "$PWD:/work" fundus:cuda train oct --data scans.csv
# The key by which patients are called digests lies in FUNDUS_HOME: give it a volume (-v fundus:/home/fundus) to keep it.
# Nothing else is written but to /tmp, so the rest may be closed: --read-only --tmpfs /tmp -v fundus:/home/fundus --cap-drop ALL

FROM python:3.12.12-slim-bookworm AS build
WORKDIR /src
COPY settings.ini pyproject.toml setup.py README.md LICENSE MANIFEST.in ./
COPY fundus_fastai fundus_fastai
RUN pip wheel --no-cache-dir --no-deps --wheel-dir /dist .

FROM python:3.12.12-slim-bookworm
ARG TORCH=cpu
ARG EXTRAS=app,quiz,onnx,explain,stats,dicom,oct
RUN pip install --no-cache-dir torch torchvision --index-url "https://download.pytorch.org/whl/${TORCH}"
COPY --from=build /dist /dist
RUN pip install --no-cache-dir "$(echo /dist/*.whl)[${EXTRAS}]" && fundus --version
RUN useradd --create-home --uid 10001 fundus
USER fundus
ENV FUNDUS_HOME=/home/fundus/.fundus_fastai MPLCONFIGDIR=/tmp/matplotlib PYTHONUNBUFFERED=1
ENV ORT_DISABLE_TELEMETRY=1 HF_HUB_DISABLE_TELEMETRY=1 GRADIO_ANALYTICS_ENABLED=False
WORKDIR /work
EXPOSE 8779
STOPSIGNAL SIGINT
ENTRYPOINT ["fundus"]
CMD ["--help"]
