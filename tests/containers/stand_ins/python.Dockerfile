# In the place of Python's image: Debian's Python under the names that it has there.
ARG DEBIAN_IMAGE
FROM ${DEBIAN_IMAGE}
RUN apt-get update -qq \
    && apt-get install -qq -y --no-install-recommends \
        ca-certificates libpython3.11 netbase python-is-python3 python3-pip python3-venv tzdata \
    && rm -rf /var/lib/apt/lists/*
CMD ["python3"]
