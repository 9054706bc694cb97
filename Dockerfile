# The image of the receiver. Build it with BuildKit or buildah:
#   docker build --build-arg COMMIT="$(git rev-parse --short=12 HEAD)" --tag matrix-alertmanager-receiver .
# The bases are arguments, for mirrors and digests, and so that scripts/image can put stand-ins where no registry is.
ARG BUILD_BASE=docker.io/library/rust:1.95-slim-bookworm
# A C library and CA certificates, no shell and no package manager. The same Debian release as the build's: a program built
# on a newer C library would not run on an older one here.
ARG RUNTIME_BASE=gcr.io/distroless/cc-debian12

FROM ${BUILD_BASE} AS build
# make: the allocator is built with it.
RUN apt-get update && DEBIAN_FRONTEND=noninteractive apt-get install --yes --no-install-recommends make
WORKDIR /src
COPY . .
# .git is not in the context, so build.rs cannot ask for the commit.
ARG COMMIT=unknown
# The cache remembers the last tree built with it, and cargo goes by time stamps: an older checkout would look unchanged
# and get the newer one's binary. Touching the roots has our own crate built anew; the dependencies stay.
RUN --mount=type=cache,target=/usr/local/cargo/registry,sharing=locked \
    --mount=type=cache,target=/src/target,sharing=locked \
    touch build.rs src/lib.rs src/main.rs \
    && MAR_BUILD_COMMIT="${COMMIT}" cargo build --locked --release \
    && install -D -m 0755 target/release/matrix-alertmanager-receiver /out/bin/matrix-alertmanager-receiver \
    # Runbooks probe the homeserver from the pod, `wget -qO- --spider https://HOMESERVER/_matrix/client/versions`: the
    # receiver answers to that name.
    && ln -s matrix-alertmanager-receiver /out/bin/wget \
    && install -d -m 0700 /out/state/matrix-alertmanager-receiver

FROM ${RUNTIME_BASE}
COPY --from=build /out/bin/ /usr/local/bin/
# The store's directory is the user's own, so that a new volume put there is too.
COPY --from=build --chown=65532:65532 /out/state/ /var/lib/

# Reachable from outside of the container, hence with WEBHOOK_TOKEN (or MAR_HTTP__ALLOW_UNAUTHENTICATED=true) only.
ENV MAR_HTTP__LISTEN=0.0.0.0:9088
EXPOSE 9088
# All that is ever written, temporary files included.
VOLUME /var/lib/matrix-alertmanager-receiver
WORKDIR /var/lib/matrix-alertmanager-receiver
# By number: Kubernetes' runAsNonRoot cannot tell that a name is not root.
USER 65532:65532
# Name a config file with MAR_CONFIG rather than with --config: then the health check reads it as well.
# The command gives up by itself, and says why, before the timeout here ends it.
HEALTHCHECK --interval=30s --timeout=10s --start-period=30s --retries=3 \
    CMD ["matrix-alertmanager-receiver", "healthcheck"]
# The receiver is process 1: it handles SIGTERM itself and starts no processes, so it needs no init.
STOPSIGNAL SIGTERM
ENTRYPOINT ["matrix-alertmanager-receiver"]

# Last, since they change with every commit. COMMIT, VERSION, CREATED (of the commit, as RFC 3339) and SOURCE come from who
# builds; the source is a placeholder, like the image's name in deploy/.
ARG RUNTIME_BASE
ARG COMMIT=unknown
ARG VERSION=unknown
ARG CREATED=1970-01-01T00:00:00Z
ARG SOURCE=https://github.com/example/matrix-alertmanager-receiver
LABEL org.opencontainers.image.title="matrix-alertmanager-receiver" \
      org.opencontainers.image.description="Carries Prometheus Alertmanager notifications into Matrix rooms" \
      org.opencontainers.image.authors="The authors of matrix-alertmanager-receiver" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.url="${SOURCE}" \
      org.opencontainers.image.source="${SOURCE}" \
      org.opencontainers.image.documentation="${SOURCE}#readme" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${COMMIT}" \
      org.opencontainers.image.created="${CREATED}" \
      org.opencontainers.image.base.name="${RUNTIME_BASE}"
