# The one program and the tools it calls. Debian's QEMU 10.0.13 is the one whose data path is proven (docs/architecture.md).
FROM node:24-trixie-slim AS build
WORKDIR /lamina
COPY package.json package-lock.json ./
RUN npm ci --no-audit --no-fund --loglevel=error
COPY . .
RUN node scripts/build.ts

FROM node:24-trixie-slim
RUN apt-get update \
 && apt-get install -y --no-install-recommends \
      btrfs-progs e2fsprogs gzip kmod mount perl-base qemu-utils util-linux xfsprogs xz-utils zstd \
 && rm -rf /var/lib/apt/lists/* /var/cache/apt /var/log/*.log /var/log/apt \
      /usr/local/lib/node_modules /usr/local/bin/npm /usr/local/bin/npx
COPY --from=build /lamina/dist /opt/lamina/dist
COPY bin /opt/lamina/bin
COPY package.json LICENSE /opt/lamina/
RUN ln -s /opt/lamina/bin/lamina /usr/local/bin/lamina
# Runs on a read-only root file system: it writes to the pool, to the socket's directory and to /run/lamina only.
ENV NODE_ENV=production HOME=/tmp
ARG VERSION=0.1.0
ARG REVISION=
LABEL org.opencontainers.image.title="Lamina" \
      org.opencontainers.image.description="Copy-on-write disk images for Kubernetes on any node's plain directory" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"
ENTRYPOINT ["/opt/lamina/bin/lamina"]
CMD ["--help"]
