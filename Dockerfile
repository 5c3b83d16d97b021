# The Valence service as a container image; docs/container.md has the commands.
#
# BASE is any image with Python 3.11 to 3.13, venv and pip. Both stages use the same one, because
# the virtual environment refers to the interpreter that created it.
ARG BASE=python:3.11-slim-bookworm


FROM ${BASE} AS build

ENV PIP_DISABLE_PIP_VERSION_CHECK=1 \
    PIP_NO_CACHE_DIR=1 \
    PIP_ROOT_USER_ACTION=ignore

# A layer of its own, rebuilt only when the lock file changes. The environment has no pip; every
# file is checked against its hash; wheels only, so no setup.py runs.
COPY requirements/serve.txt /build/serve.txt
RUN python3 -m venv --without-pip /opt/venv \
    && python3 -m pip --python /opt/venv/bin/python install \
        --require-hashes --only-binary :all: -r /build/serve.txt

# Readable by any user, whatever the umask of the checkout. Bytecode is compiled here, because the
# root file system is read-only at run time.
COPY models /srv/valence/models
COPY app /srv/valence/app
RUN /opt/venv/bin/python -m compileall -q --invalidation-mode unchecked-hash /srv/valence/app \
    && chmod -R a+rX /srv/valence


FROM ${BASE}

LABEL org.opencontainers.image.title="Valence" \
      org.opencontainers.image.description="Sentiment analysis as a service" \
      org.opencontainers.image.licenses="Apache-2.0"

# USER below is numeric, so that Kubernetes can verify it is not root; the name is for `ps` and for
# libraries that look up the current user.
RUN useradd --uid 10001 --user-group --no-create-home --home-dir /nonexistent \
        --shell /usr/sbin/nologin valence

COPY --from=build /opt/venv /opt/venv
COPY --from=build /srv/valence/models /srv/valence/models
COPY --from=build /srv/valence/app /srv/valence/app

# Without ONNX Runtime's telemetry: the service switches it off itself, this covers other commands.
ENV ORT_DISABLE_TELEMETRY=1 \
    PATH=/opt/venv/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    VALENCE_HOST=0.0.0.0 \
    VALENCE_LOG_FORMAT=json \
    VALENCE_MODELS_DIR=/srv/valence/models \
    VALENCE_PORT=8000

WORKDIR /srv/valence
USER 10001:10001
EXPOSE 8000

# Probes liveness, because an orchestrator restarts an unhealthy container. Kubernetes ignores it,
# and images in OCI format do not store it.
HEALTHCHECK --interval=30s --timeout=5s --start-period=120s CMD ["python", "-c", \
    "import os, urllib.request as u; u.urlopen('http://127.0.0.1:' + os.environ['VALENCE_PORT'] + '/livez', timeout=4)"]

# Exec form: Python is process 1 and receives SIGTERM.
ENTRYPOINT ["python", "-m", "app"]
CMD ["serve"]

# Last, so that a new version or revision reuses all layers above.
ARG VERSION=unversioned
ARG REVISION=unknown
LABEL org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"
