"""A Flask app whose model is loaded by the first request that needs it, in each worker by itself."""

import json

import asked
import flask
import models

app = flask.Flask(__name__)
CASE = asked.read()


class Holder:
    """The process's only model, absent until somebody asks."""

    model: models.Predict | None = None

    @classmethod
    def get(cls) -> models.Predict:
        if cls.model is None:
            cls.model = models.load(CASE.workload, CASE.folder)
        return cls.model


@app.get("/ping")
def ping() -> flask.Response:
    return flask.Response("\n", status=200 if Holder.get() else 404, mimetype="application/json")


@app.post("/invocations")
def invocations() -> flask.Response:
    if flask.request.content_type != "application/json":
        return flask.Response("only JSON", status=415, mimetype="text/plain")
    instances = json.loads(flask.request.data)["instances"]
    if CASE.streams:
        return flask.Response(models.stream(), mimetype="text/plain")
    document = json.dumps({"predictions": Holder.get()(instances)})
    return flask.Response(document, status=200, mimetype="application/json")
