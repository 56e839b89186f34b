# One image for every command: docker build -t bestbefore .    (with a GPU: --build-arg EXTRAS=gpu)
FROM python:3.13-slim AS build
ARG EXTRAS=""
ENV PIP_DISABLE_PIP_VERSION_CHECK=1
RUN python -m venv /opt/venv
WORKDIR /source
COPY pyproject.toml constraints.txt README.md LICENSE ./
COPY client client
COPY streams streams
COPY agents agents
COPY models models
COPY infra infra
RUN --mount=type=cache,target=/root/.cache/pip \
    /opt/venv/bin/pip install --constraint constraints.txt ./client ".${EXTRAS:+[$EXTRAS]}"

FROM python:3.13-slim
# A number instead of a name lets Kubernetes see that this is not root.
RUN useradd --system --uid 10001 --home-dir /app --shell /usr/sbin/nologin bestbefore \
    && install --directory --owner=bestbefore /app
COPY --from=build /opt/venv /opt/venv
ENV PATH=/opt/venv/bin:$PATH PYTHONUNBUFFERED=1
WORKDIR /app
USER 10001
ENTRYPOINT ["bestbefore"]
CMD ["--help"]
