"""One model, loaded by whoever asks first, a health check included; CSV under exactly that name, slowly."""

import os
import time

import flask

app = flask.Flask(__name__)


class Holder:
    """The process's only model, absent until somebody asks."""

    model = None

    @classmethod
    def get(cls):
        if cls.model is None:
            cls.model = open("/opt/ml/model/model.txt").read()
        return cls.model


@app.get("/ping")
def ping():
    return flask.Response("\n", status=200 if Holder.get() else 404, mimetype="application/json")


@app.post("/invocations")
def invocations():
    if flask.request.content_type != "text/csv":
        return flask.Response("only CSV", status=415, mimetype="text/plain")
    Holder.get()
    time.sleep(float(os.environ.get("SECONDS", "0")))
    return flask.Response("1\n", status=200, mimetype="text/csv")
