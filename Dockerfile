# dane-relay with its resolver. Nothing is open by default: mount a config/relay.yaml that names the clients.
FROM node:24-bookworm-slim

# The validating resolver, which the relay runs as its child, and the root keys that it starts from.
RUN apt-get update \
    && apt-get install -y --no-install-recommends unbound dns-root-data \
    && rm -rf /var/lib/apt/lists/*

WORKDIR /opt/dane-relay

# Without install scripts: the only one would fetch a second copy of Node, and the image has Node 24.
COPY package.json package-lock.json ./
RUN npm ci --omit=dev --ignore-scripts --no-audit --no-fund && npm cache clean --force

COPY dane-relay LICENSE README.md ./
COPY config ./config
COPY src ./src

# The only folder that is written to: queue, keys, certificate.
RUN install -d -o node -g node -m 0750 /var/lib/dane-relay
ENV DANE_RELAY_STATE=/var/lib/dane-relay
VOLUME /var/lib/dane-relay

USER node
EXPOSE 2525
HEALTHCHECK --interval=30s --timeout=5s --start-period=30s \
    CMD ["node", "-e", "fetch('http://127.0.0.1:8025/healthz').then((answer) => process.exit(answer.ok ? 0 : 1), () => process.exit(1))"]
ENTRYPOINT ["./dane-relay"]
CMD ["run"]
