# LoRA Lens in a container.  docker build -t lora-lens .  &&  docker run -p 7860:7860 lora-lens
#
# TORCH_INDEX: the wheel index that pytorch.org/get-started names for CPU, or for your CUDA. Left empty, torch comes
# from the same index as all else: on Linux x86-64 that build has CUDA and runs without a GPU as well, but is large.
ARG PYTHON_VERSION=3.12
FROM python:${PYTHON_VERSION}-slim

ARG TORCH_INDEX=""

ENV PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    GRADIO_SERVER_NAME=0.0.0.0 \
    GRADIO_SERVER_PORT=7860 \
    GRADIO_ANALYTICS_ENABLED=False \
    HF_HOME=/home/lens/models

RUN useradd --create-home --uid 1000 lens \
    && mkdir -p /app /data /home/lens/models /home/lens/runs \
    && chown -R lens:lens /data /home/lens

WORKDIR /app

# Packages change more seldom than the code: a layer of their own, at the locked versions.
COPY requirements.txt requirements.lock ./
RUN pip install --no-cache-dir --disable-pip-version-check -r requirements.txt -c requirements.lock \
    ${TORCH_INDEX:+--extra-index-url "${TORCH_INDEX}"}

COPY . .
RUN ln -s /home/lens/runs runs

# By number, so that a host or a cluster that knows no `lens` can tell it is not root.
USER 1000:1000
EXPOSE 7860
# Blind votes, models from the hub, what is trained in the container: mount them to keep them.
VOLUME ["/data", "/home/lens/models", "/home/lens/runs"]

# http.client knows no proxy: one that is set for the container must not be asked about the container itself.
HEALTHCHECK --interval=30s --timeout=5s --start-period=180s --retries=3 \
    CMD ["python", "-c", "import http.client, os, sys; page = http.client.HTTPConnection('127.0.0.1', int(os.environ['GRADIO_SERVER_PORT']), timeout=4); page.request('GET', '/health'); sys.exit(page.getresponse().status != 200)"]

CMD ["python", "app.py"]
