# The image of one bot. Docker is not part of the checks: see CONTRIBUTING.md.
ARG PYTHON=3.11-slim

FROM python:${PYTHON} AS build
WORKDIR /src
RUN python -m venv /app/venv
ENV PATH=/app/venv/bin:$PATH
COPY requirements/build.txt requirements/runtime.txt requirements/
# Every wheel is checked against the lock; where the index is, is the builder's affair.
RUN pip install --no-cache-dir --require-hashes -r requirements/build.txt -r requirements/runtime.txt
COPY pyproject.toml README.md LICENSE ./
COPY tbh tbh
# Without bytecode each start would take five times as long, and the runtime user can't write it.
RUN pip install --no-cache-dir --no-deps --no-build-isolation . \
    && python -m compileall -q -j 0 /app/venv/lib

FROM python:${PYTHON}
RUN useradd --system --uid 10001 --home-dir /app --shell /usr/sbin/nologin tbh \
    && install -d -o tbh -g tbh /app /app/logs /app/state
WORKDIR /app
COPY --from=build /app/venv /app/venv
COPY --chmod=0755 docker-entrypoint.sh /app/docker-entrypoint.sh
COPY newrelic.ini /app/newrelic.ini
ENV PATH=/app/venv/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    TBH_STATE_DIR=/app/state
USER tbh
# The store must outlive the container: a bot that lost it has to rebuild the truth from the exchange.
VOLUME ["/app/state", "/app/logs"]
STOPSIGNAL SIGTERM
ENTRYPOINT ["/app/docker-entrypoint.sh"]
CMD ["python", "-m", "tbh.actors.main"]
