# One replica. It needs a PostgreSQL: docker run -e DATABASE_URL=… -p 127.0.0.1:3001:3001 balanced
# Let only a buffering proxy reach the port, as deploy/haproxy.cfg is one.

FROM rust:1-slim-bookworm AS build
WORKDIR /build

# The dependencies alone, over empty programs: this layer lasts until Cargo.lock changes.
COPY Cargo.toml Cargo.lock ./
COPY loadtest/Cargo.toml loadtest/
COPY loadtest/checker/Cargo.toml loadtest/checker/
RUN mkdir -p src loadtest/src loadtest/checker/src \
    && echo 'fn main() {}' | tee src/main.rs > loadtest/src/main.rs \
    && touch src/lib.rs loadtest/checker/src/lib.rs \
    && cargo build --release --locked

COPY src src
COPY sql sql
# Newer than the empty programs, or cargo would take those for up to date.
RUN touch src/main.rs src/lib.rs && cargo build --release --locked

FROM debian:bookworm-slim
# Time zones change by law several times a year: these are newer than the image.
RUN apt-get update && apt-get install --yes --no-install-recommends tzdata \
    && rm -rf /var/lib/apt/lists/*
COPY --from=build /build/target/release/balanced /usr/local/bin/balanced
USER 10001:10001
# A drain ends before the engine loses its patience, after 10 s. A connection costs a thread, and
# glibc keeps about 8 KB of freed memory for each.
ENV LISTEN_ADDR=0.0.0.0:3001 SHUTDOWN_GRACE_SECONDS=8 GLIBC_TUNABLES=glibc.malloc.tcache_count=0
EXPOSE 3001
STOPSIGNAL SIGTERM
# Asks for readiness, so a container is "unhealthy" while the database is away: to start it again then
# mends nothing. (Other builders than Docker keep this line with `--format docker` only.)
HEALTHCHECK --interval=5s --timeout=5s --start-period=30s CMD ["balanced", "health"]
CMD ["balanced"]
