# The shim with its page. Build: docker build -t creneau . Run it with PostgreSQL: compose.yaml.

FROM node:24-slim AS page
WORKDIR /app
COPY package.json package-lock.json ./
RUN npm ci --ignore-scripts --no-audit --no-fund
COPY web ./web
RUN npm run build

FROM python:3.11-slim AS packages
WORKDIR /app
RUN python -m venv /venv
COPY requirements-shim.lock ./
RUN /venv/bin/pip install --no-cache-dir --require-hashes -r requirements-shim.lock

FROM python:3.11-slim
WORKDIR /app
RUN useradd --create-home --uid 10001 creneau && install -d -o creneau /app/.data
COPY --from=packages /venv /venv
COPY --from=page /app/web/dist ./web/dist
COPY creneau ./creneau
COPY api ./api
USER creneau
ENV PATH=/venv/bin:$PATH PYTHONUNBUFFERED=1 CRENEAU_HOST=0.0.0.0 CRENEAU_LOG_FORMAT=json
EXPOSE 8000
HEALTHCHECK --interval=10s --timeout=5s --start-period=30s --retries=3 \
  CMD ["python", "-c", "import urllib.request as u; u.urlopen('http://127.0.0.1:8000/readyz', timeout=4)"]
# It brings the database to its version first; several may start at once.
CMD ["python", "-m", "api", "serve"]
