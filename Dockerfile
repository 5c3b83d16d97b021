# The Valence service as a container image; docs/container.md has the commands. Targets:
#
#     cpu     the default: ONNX Runtime, and of each model what it reads; with the build argument
#             REQUIREMENTS=serve-otel also OpenTelemetry, for VALENCE_TRACING=otlp
#     gpu     TensorFlow with the libraries of CUDA
#     train   valence-train and valence score
#     load    Locust and the load tests
#     models  models alone, for a volume
#
# BASE is any image with Python 3.11 to 3.13, venv and pip; name it with its digest where builds must
# be repeatable. All stages use the same one, because a virtual environment refers to the interpreter
# that created it.
ARG BASE=python:3.11-slim-bookworm


# --- what the targets are made of

FROM ${BASE} AS tools

ENV PIP_DISABLE_PIP_VERSION_CHECK=1 \
    PIP_NO_CACHE_DIR=1 \
    PIP_ONLY_BINARY=:all: \
    PIP_REQUIRE_HASHES=1 \
    PIP_ROOT_USER_ACTION=ignore \
    PYTHONDONTWRITEBYTECODE=1
WORKDIR /build
RUN python3 -m venv --without-pip /opt/venv


# Every file is checked against its hash; wheels only, so no setup.py runs, and no compiler is needed.
FROM tools AS cpu-environment
COPY requirements/serve.txt requirements/serve.txt
COPY requirements/serve-otel.txt requirements/serve-otel.txt
ARG REQUIREMENTS=serve
RUN python3 -m pip --python /opt/venv/bin/python install --no-compile \
        -r requirements/${REQUIREMENTS}.txt
COPY k8s/image k8s/image
RUN python3 -m k8s.image.slim /opt/venv/lib/python3*/site-packages


FROM tools AS gpu-environment
COPY requirements/gpu.txt requirements/gpu.txt
RUN python3 -m pip --python /opt/venv/bin/python install --no-compile \
        -r requirements/gpu.txt


FROM tools AS train-environment
COPY requirements/train.txt requirements/train.txt
RUN python3 -m pip --python /opt/venv/bin/python install --no-compile \
        -r requirements/train.txt


FROM tools AS load-environment
COPY requirements/load.txt requirements/load.txt
RUN python3 -m pip --python /opt/venv/bin/python install --no-compile \
        -r requirements/load.txt


# Readable by any user, whatever the umask of the checkout.
FROM tools AS sources
COPY app /srv/valence/app
COPY training /srv/valence/training
COPY load_tests /srv/valence/load_tests
RUN chmod -R a+rX /srv/valence


# Of each version what the engine reads, with a manifest that lists it.
FROM cpu-environment AS cpu-models
COPY --from=sources /srv/valence/app app
COPY models models
RUN /opt/venv/bin/python -m app models --engine onnx --copy-to /srv/valence/models \
    && chmod -R a+rX /srv/valence/models


FROM gpu-environment AS gpu-models
COPY --from=sources /srv/valence/app app
COPY models models
RUN /opt/venv/bin/python -m app models --engine tensorflow --copy-to /srv/valence/models \
    && chmod -R a+rX /srv/valence/models


# --- what they have in common

FROM ${BASE} AS runtime

# USER below is numeric, so that Kubernetes can verify it is not root; the name is for `ps` and for
# libraries that look up the current user.
RUN useradd --uid 10001 --user-group --no-create-home --home-dir /nonexistent \
        --shell /usr/sbin/nologin valence
ENV PATH=/opt/venv/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1
WORKDIR /srv/valence
USER 10001:10001


FROM runtime AS server

# Without ONNX Runtime's telemetry: the service switches it off itself, this covers other commands.
ENV ORT_DISABLE_TELEMETRY=1 \
    VALENCE_HOST=0.0.0.0 \
    VALENCE_LOG_FORMAT=json \
    VALENCE_MODELS_DIR=/srv/valence/models \
    VALENCE_PORT=8000
EXPOSE 8000

# Probes liveness, because an orchestrator restarts an unhealthy container. Kubernetes ignores it,
# and images in OCI format do not store it.
HEALTHCHECK --interval=30s --timeout=5s --start-period=120s CMD ["python", "-c", \
    "import os, urllib.request as u; u.urlopen('http://127.0.0.1:' + os.environ['VALENCE_PORT'] + '/livez', timeout=4)"]

# Exec form: Python is process 1 and receives SIGTERM.
ENTRYPOINT ["python", "-m", "app"]
CMD ["serve"]


# --- targets; k8s/image/build adds the labels that all of them have

FROM scratch AS models
COPY --from=cpu-models /srv/valence/models /
LABEL org.opencontainers.image.title="Models of Valence"


FROM runtime AS load
COPY --from=load-environment /opt/venv /opt/venv
COPY --from=sources /srv/valence/load_tests load_tests
# With -m, so that the folder of the load tests can be imported.
ENTRYPOINT ["python", "-m", "locust", "-f", "load_tests/locustfile.py"]
LABEL org.opencontainers.image.title="Load tests of Valence"


FROM runtime AS train
COPY --from=train-environment /opt/venv /opt/venv
COPY --from=sources /srv/valence/app app
COPY --from=sources /srv/valence/training training
ENTRYPOINT ["python", "-m", "training"]
CMD ["--help"]
LABEL org.opencontainers.image.title="Training of Valence"


FROM server AS gpu
COPY --from=gpu-environment /opt/venv /opt/venv
COPY --from=gpu-models /srv/valence/models models
COPY --from=sources /srv/valence/app app
LABEL org.opencontainers.image.title="Valence on a GPU" \
      org.opencontainers.image.description="Sentiment analysis as a service"


# Bytecode of what a start imports, the standard library included, which has none in most images: the
# root file system is read-only at run time. What is imported later is compiled in memory.
FROM tools AS cpu-bytecode
ENV PATH=/opt/venv/bin:$PATH \
    PYTHONDONTWRITEBYTECODE= \
    PYTHONPYCACHEPREFIX=/opt/bytecode
WORKDIR /srv/valence
COPY --from=cpu-environment /opt/venv /opt/venv
COPY --from=cpu-models /srv/valence/models models
COPY --from=sources /srv/valence/app app
RUN python -c "import app.server" \
    && if python -c "import opentelemetry.sdk" 2> /dev/null; then python -c "import app.telemetry.tracing"; fi \
    && python -m app predict --engine onnx "A warm, funny film." \
    && chmod -R a+rX /opt/bytecode


# Last, so that it is the default.
FROM server AS cpu
ENV PYTHONPYCACHEPREFIX=/opt/bytecode
COPY --from=cpu-environment /opt/venv /opt/venv
COPY --from=cpu-models /srv/valence/models models
COPY --from=sources /srv/valence/app app
COPY --from=cpu-bytecode /opt/bytecode /opt/bytecode
LABEL org.opencontainers.image.title="Valence" \
      org.opencontainers.image.description="Sentiment analysis as a service"
