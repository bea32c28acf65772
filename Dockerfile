# Two stages: wheels and a virtual environment are made in the first, the second holds only what runs.
# Pin the base by digest in your own build; it is left open here so that security updates arrive.
FROM python:3.12-slim-bookworm AS build
WORKDIR /src
COPY requirements.txt requirements-build.txt ./
RUN python -m venv /opt/bridge \
    && /opt/bridge/bin/pip install --no-cache-dir --require-hashes -r requirements.txt \
    && python -m venv /opt/build \
    && /opt/build/bin/pip install --no-cache-dir --require-hashes -r requirements-build.txt
COPY pyproject.toml README.md LICENSE ./
COPY bridge ./bridge
COPY deploy ./deploy
RUN /opt/build/bin/pip wheel --no-cache-dir --no-deps --no-build-isolation --wheel-dir /wheels . \
    && /opt/bridge/bin/pip install --no-cache-dir --no-deps /wheels/*.whl

FROM python:3.12-slim-bookworm
LABEL org.opencontainers.image.title="Kickoff Bridge" \
      org.opencontainers.image.description="A durable bridge from RabbitMQ, HTTP, and webhooks to crews on CrewAI AMP" \
      org.opencontainers.image.version="1.0.0" \
      org.opencontainers.image.source="https://github.com/kickoff-bridge/kickoff-bridge" \
      org.opencontainers.image.documentation="https://github.com/kickoff-bridge/kickoff-bridge/tree/main/docs" \
      org.opencontainers.image.licenses="Apache-2.0"
RUN useradd --uid 10001 --user-group --no-create-home --shell /usr/sbin/nologin bridge \
    && install --directory --mode 0700 --owner bridge --group bridge /data
COPY --from=build /opt/bridge /opt/bridge
ENV PATH=/opt/bridge/bin:$PATH PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 BRIDGE_CONFIG=/etc/kickoff-bridge/bridge.yaml
USER 10001:10001
WORKDIR /data
VOLUME ["/data"]
EXPOSE 8080
STOPSIGNAL SIGTERM
ENTRYPOINT ["kickoff-bridge"]
CMD ["run"]
