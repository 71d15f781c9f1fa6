# One image with all programs: sse-gateway, sse-publisher, sse-loadtest. Needs BuildKit, which docker has by default.
#
#   docker build -t sse .
#   docker run --rm -p 127.0.0.1:8080:8080 -e SSE_GATEWAY__LISTEN=0.0.0.0:8080 -e SSE_GATEWAY__INSECURE=true sse
#   docker run --rm sse sse-publisher --help
#
# There is no entry point: what follows the image's name is the whole command, and a gateway where nothing follows.
# The program is process 1 and gets SIGTERM itself. Let `docker stop` wait longer than drain.deadline (30 s): -t 40.

FROM rust:1.95.0-trixie AS build
WORKDIR /src
COPY . .
# Dependencies stay compiled between builds in the caches, which are no part of the image: the programs are copied out.
RUN --mount=type=cache,target=/usr/local/cargo/registry \
    --mount=type=cache,target=/src/target,sharing=locked \
    cargo build --release --locked -p gateway -p publisher -p loadtest \
    && install -D -t /out target/release/sse-gateway target/release/sse-publisher target/release/sse-loadtest

# The same Debian as above: what is built there needs no newer C library than this one has.
FROM debian:13.6-slim
# Certificates for Redis over TLS (rediss://): those of today. A version that was pinned is gone from Debian with the next one.
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install --yes --no-install-recommends ca-certificates \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --uid 10001 --user-group --no-create-home --shell /usr/sbin/nologin sse
COPY --from=build /out/ /usr/local/bin/
# By number, so that Kubernetes can see that it is not root.
USER 10001:10001
# Public and operator port of the gateway, and of the publisher.
EXPOSE 8080 9090 8090 9091
STOPSIGNAL SIGTERM
CMD ["sse-gateway"]
