"""Functions as usual, and a route of its own beside them that uses the same model."""

from flask import Flask, request

app = Flask(__name__)


@app.route("/v1/chat/completions", methods=["POST"])
def chat():
    model = request.environ["sagemaker_byoc.model"]
    return {"model": model, "messages": len(request.get_json()["messages"])}


def model_fn(model_dir):
    return "the model"


def predict_fn(data, model):
    return {"model": model, "data": data}
