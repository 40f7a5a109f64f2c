"""A model behind multi-model-server: `mms_app.py CONFIGURATION` starts it, and this module is its handler as well."""

import json
import sys
from typing import Any

import asked
import models
from sagemaker_inference import model_server
from sagemaker_inference.default_handler_service import DefaultHandlerService
from sagemaker_inference.default_inference_handler import DefaultInferenceHandler
from sagemaker_inference.transformer import Transformer


class Handler(DefaultInferenceHandler):
    """The toolkit's four functions."""

    def default_model_fn(self, _model_dir: str, _context: Any = None) -> models.Predict:
        case = asked.read()
        return models.load(case.workload, case.folder)

    def default_input_fn(self, input_data: Any, _content_type: str, _context: Any = None) -> list[Any]:
        instances: list[Any] = json.loads(input_data)["instances"]
        return instances

    def default_predict_fn(self, data: list[Any], model: models.Predict, _context: Any = None) -> list[Any]:
        return model(data)

    def default_output_fn(self, prediction: list[Any], _accept: str, _context: Any = None) -> str:
        return json.dumps({"predictions": prediction})


class Service(DefaultHandlerService):
    """What the server calls."""

    def __init__(self) -> None:
        super().__init__(transformer=Transformer(default_inference_handler=Handler()))


_service = Service()


def handle(data: Any, context: Any) -> Any:
    return _service.handle(data, context)


if __name__ == "__main__":
    model_server.MMS_CONFIG_FILE = sys.argv[1]
    model_server.start_model_server(handler_service="mms_app")
