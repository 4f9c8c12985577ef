# fedmosaic for the CPU: docs/containers.md. Of torch the index's build for the CPU is taken where it has one; with an
# index of CPU builds (--build-arg PIP_EXTRA_INDEX_URL=...) the image is several gigabytes smaller.
FROM python:3.12-slim AS build
ARG PIP_INDEX_URL
ARG PIP_EXTRA_INDEX_URL
WORKDIR /src
COPY constraints.txt ./
RUN python -m venv /opt/fedmosaic \
 && /opt/fedmosaic/bin/pip install --no-cache-dir --constraint constraints.txt torch==2.13.0
COPY pyproject.toml README.md LICENSE ./
COPY src src
RUN /opt/fedmosaic/bin/pip install --no-cache-dir --constraint constraints.txt .

FROM python:3.12-slim
COPY --from=build /opt/fedmosaic /opt/fedmosaic
RUN useradd --uid 10001 --create-home fedmosaic \
 && install --directory --mode 1777 /work /home/fedmosaic/cache
ENV PATH=/opt/fedmosaic/bin:$PATH HOME=/home/fedmosaic/cache FEDMOSAIC_HOME=/home/fedmosaic/cache HF_HUB_OFFLINE=1
WORKDIR /work
USER 10001
ENTRYPOINT ["fedmosaic"]
CMD ["--help"]
