"""A miniature of the public scikit-learn sample's server, written from its described behaviour.

What is kept, because it decides the figures: nginx before gunicorn's sync workers on a Unix socket, a Flask
application, a model held by a class and loaded by the first request that needs it, in each worker by itself, and a
health check that is such a request. What is left out makes it faster: there is no pandas to import and no pickle to
read.
"""

import os
import time

import flask

app = flask.Flask(__name__)


class Holder:
    """The process's only model, absent until somebody asks."""

    model: str | None = None

    @classmethod
    def get(cls) -> str:
        if cls.model is None:
            time.sleep(float(os.environ["BENCH_LOAD_SECONDS"]))
            cls.model = "/opt/ml/model"
        return cls.model


@app.get("/ping")
def ping() -> flask.Response:
    return flask.Response("\n", status=200 if Holder.get() else 404, mimetype="application/json")


@app.post("/invocations")
def invocations() -> flask.Response:
    if flask.request.content_type != "text/csv":
        return flask.Response("only CSV", status=415, mimetype="text/plain")
    Holder.get()
    return flask.Response(f"{os.getpid()}\n", status=200, mimetype="text/csv")
