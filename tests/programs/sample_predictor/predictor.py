"""In the shape of the public sample: its own Flask app, a model that loads at the first ping, 404 until then."""

import os
from pathlib import Path

import flask


class ScoringService:
    model = None

    @classmethod
    def get_model(cls):
        if cls.model is None and Path(os.environ["TEST_GATE"]).exists():
            cls.model = "loaded"
        return None if Path(os.environ.get("TEST_ILL", "/nowhere")).exists() else cls.model


app = flask.Flask(__name__)


@app.route("/ping", methods=["GET"])
def ping():
    status = 200 if ScoringService.get_model() is not None else 404
    return flask.Response(response="\n", status=status, mimetype="application/json")


@app.route("/invocations", methods=["POST"])
def transformation():
    if flask.request.content_type != "text/csv":
        return flask.Response(response="This predictor only supports CSV data", status=415, mimetype="text/plain")
    rows = flask.request.data.decode("utf-8").splitlines()
    return flask.Response(response="".join(f"{len(row)}\n" for row in rows), status=200, mimetype="text/csv")
