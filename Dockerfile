# ChatAPI for servers of your own (DATABASE_URL, EVENTSTORE_URL, REDIS_URL): without the embedded PostgreSQL's programs.
# The version is that of the package "node" in package.json; a test compares them.
ARG NODE_VERSION=24.21.0

FROM node:${NODE_VERSION}-trixie-slim AS packages
WORKDIR /app
COPY package.json package-lock.json ./
# The install scripts would fetch a second Node, the optional packages are PostgreSQL's programs; neither is wanted here.
# `bin/chatapi` looks for Node where the package would have put it.
RUN npm ci --omit=dev --omit=optional --ignore-scripts --no-audit --no-fund \
  && rm -rf node_modules/node \
  && ln -s /usr/local/bin/node node_modules/.bin/node

FROM node:${NODE_VERSION}-trixie-slim
ARG VERSION=0.1.0
LABEL org.opencontainers.image.title="ChatAPI" \
  org.opencontainers.image.description="Self-hosted, multi-tenant messaging and notification backend. Event-sourced: the log is the truth." \
  org.opencontainers.image.version="${VERSION}" \
  org.opencontainers.image.licenses="MIT"
# What installs packages has no place in what runs them.
RUN apt-get update \
  && apt-get install -y --no-install-recommends tini \
  && rm -rf /var/lib/apt/lists/* /usr/local/lib/node_modules /usr/local/bin/npm /usr/local/bin/npx /usr/local/bin/corepack \
    /opt/yarn-* /usr/local/bin/yarn /usr/local/bin/yarnpkg \
  && ln -s /app/bin/chatapi /usr/local/bin/chatapi
WORKDIR /app
COPY --from=packages /app/node_modules node_modules
COPY package.json LICENSE ./
COPY bin bin
COPY src src
ENV NODE_ENV=production HOST=0.0.0.0 PORT=8000
# It writes nothing below /app: the file system may be mounted read-only.
USER node
EXPOSE 8000
# Long enough for read models that have to be built first; a node is asked often until then, and seldom afterwards.
HEALTHCHECK --interval=10s --timeout=5s --retries=3 --start-period=10m --start-interval=1s \
  CMD ["node", "-e", "fetch(`http://127.0.0.1:${process.env.PORT}/readyz`).then((answer) => process.exit(answer.ok ? 0 : 1), () => process.exit(1))"]
# tini takes the signals that a first process would ignore until it has a handler, and passes them on.
ENTRYPOINT ["tini", "--", "chatapi"]
CMD ["serve"]
