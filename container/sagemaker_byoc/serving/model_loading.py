"""From a model directory to a model that answers: its code or runtime, its warm-up, and how requests are joined."""

import inspect
import logging
import os
import sys
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

from sagemaker_byoc.errors import HandlerError, UserCodeError
from sagemaker_byoc.serving.event_loops import give_loops
from sagemaker_byoc.serving.handlers import Context, Handler, check_lane, resolve_handlers
from sagemaker_byoc.serving.model import Model, Observer
from sagemaker_byoc.serving.readiness import RUN_DIRECTORY
from sagemaker_byoc.serving.runtimes import Choice, choose_code, find_runtime
from sagemaker_byoc.serving.settings import ServeSettings
from sagemaker_byoc.settings import available_cpus
from sagemaker_byoc.user_code import find_module, import_module

log = logging.getLogger(__name__)
Predict = Callable[[Context, Any], Any]


def load_model(
    settings: ServeSettings, observer: Observer, import_code: Callable[[Path], ModuleType] = import_module
) -> Model:
    """Import inference.py, if there is one to import, and load the model.

    Raises UserCodeError, or whatever the user's code raises.
    """
    paths = settings.paths
    context = Context(model_dir=paths.model, device=settings.device)
    choice = choose_code(settings.program, settings.own_folders, paths.image_code, paths.model, settings.runtime)
    log.info("the code that serves: %s", choice.reason)
    handlers = _handlers(settings, choice, import_code)
    value = _value(settings, choice, handlers, context)
    predict = _predict(handlers, value, settings.device)
    model = Model(
        value=value,
        handlers=handlers,
        context=context,
        default_accept=settings.default_accept,
        limit=settings.max_decoded_mb * 1_000_000,
        predict=predict,
        observer=observer,
    )
    return _with_tensors(_with_types(_with_batches(model, settings)))


def _handlers(settings: ServeSettings, choice: Choice, import_code: Callable[[Path], ModuleType]) -> dict[str, Handler]:
    """The user's functions; none where the model is served as it is."""
    if choice.program is None:
        if not choice.has_runtime:
            find_module(settings.program, settings.code_folders)  # which says where it was looked for
        return {}
    give_loops(choice.program.parent)
    handlers = resolve_handlers(import_code(choice.program), needs_model=not choice.has_runtime)
    check_lane(handlers, settings.lane)
    if not choice.uses_model_fn:
        handlers.pop("model_fn", None)
    return handlers


def _value(settings: ServeSettings, choice: Choice, handlers: Mapping[str, Handler], context: Context) -> Any:
    """What model_fn returns, between what is to happen before it and the warm-up."""
    model_dir = str(context.model_dir)
    if "pre_model_fn" in handlers:
        handlers["pre_model_fn"](context, model_dir)
    if "model_fn" in handlers:
        value = handlers["model_fn"](context, model_dir)
    else:
        value = _runtime(settings, handlers, context) if choice.has_runtime else None
    if settings.torch_compile:
        from sagemaker_byoc.serving.torch_runtime import compile_model  # noqa: PLC0415 - only who asks pays for it

        value = compile_model(value)
    if "model_warmup_fn" in handlers:
        handlers["model_warmup_fn"](context, model_dir, value)
    return value


def _runtime(settings: ServeSettings, handlers: Mapping[str, Handler], context: Context) -> Any:
    """A model that needs no model_fn."""
    from sagemaker_byoc.serving.onnx_runtime import OnnxOptions  # noqa: PLC0415 - only who serves such a model needs it

    options = OnnxOptions(
        device=settings.device,
        threads=_math_threads(settings),
        providers=settings.onnx_providers,
        shared_folder=_shared_folder(settings),
    )
    own = bool({"predict_fn", "transform_fn"} & set(handlers))
    return find_runtime(context.model_dir, options, allow_pickle=settings.allow_pickle, for_predict_fn=own)


def _math_threads(settings: ServeSettings) -> int:
    text = os.environ.get("OMP_NUM_THREADS", "")
    return int(text) if text.isdecimal() and int(text) > 0 else max(1, available_cpus() // settings.workers)


def _shared_folder(settings: ServeSettings) -> Path | None:
    """Where workers share what ONNX Runtime has made of a model; not for many models, which come and go."""
    if settings.workers == 1 or settings.multi_model or RUN_DIRECTORY not in os.environ:
        return None
    return Path(os.environ[RUN_DIRECTORY])


def _predict(handlers: Mapping[str, Handler], value: Any, device: str) -> Predict:
    """What makes a prediction of decoded data: predict_fn, or what the model itself offers."""
    predict_fn = handlers.get("predict_fn")
    if predict_fn:
        return lambda context, data: predict_fn(context, data, value)
    if hasattr(value, "predict"):
        return Handler("model.predict", value.predict, "")
    if callable(value):
        from sagemaker_byoc.serving.torch_runtime import find_module_predict  # noqa: PLC0415 - most need it not

        return Handler("model", find_module_predict(value, device) or value, "")
    return _cannot_predict(value)


def _cannot_predict(value: Any) -> Predict:
    def refuse(_context: Context, _data: Any) -> Any:
        raise HandlerError(
            f"model_fn returned a {type(value).__name__}, which cannot be called and has no predict method; "
            "define predict_fn in inference.py."
        )

    return refuse


def _with_batches(model: Model, settings: ServeSettings) -> Model:
    """The model, with a queue before it where requests are to be joined."""
    from sagemaker_byoc.serving.batching import BatchPolicy, find_policy  # noqa: PLC0415

    predict_fn = model.handlers.get("predict_fn")
    policy = find_policy(predict_fn.function) if predict_fn else None
    if policy is None and settings.batch_max_rows and "transform_fn" not in model.handlers:
        policy = BatchPolicy(settings.batch_max_rows, 4 * settings.batch_max_rows, gather=settings.batch_gather)
    if policy is None:
        return model
    if predict_fn and (predict_fn.is_async or inspect.isgeneratorfunction(predict_fn.function)):
        raise UserCodeError(
            "predict_fn in inference.py is async, or yields, and is batched; expected a plain function that returns "
            "one answer for each row, or no batches (@batched, BYOC_BATCH_MAX_ROWS)."
        )
    log.info("requests are joined, up to %d rows at once", policy.max_rows)
    return model.with_batches(policy, _joint_predict(model, predict_fn))


def _joint_predict(model: Model, predict_fn: Handler | None) -> Callable[[Any], Any]:
    """What is called with the rows of many: the function itself, for an error is told only to whom it belongs, in a
    context without headers.
    """
    if predict_fn is None:
        return lambda data: model.predict(model.context, data)
    function, value, context = predict_fn.function, model.value, model.context
    if predict_fn.takes_context == "keyword":
        return lambda data: function(data, value, context=context)
    if predict_fn.takes_context:
        return lambda data: function(data, value, context)
    return lambda data: function(data, value)


def _with_types(model: Model) -> Model:
    """The model, with bodies checked where predict_fn's annotation says what it takes."""
    predict_fn = model.handlers.get("predict_fn")
    if predict_fn is None or "input_fn" in model.handlers:
        return model
    from sagemaker_byoc.serving.typed import typed_input  # noqa: PLC0415

    return model.with_types(typed_input(predict_fn.function))


def _with_tensors(model: Model) -> Model:
    """The model, with arrays as tensors where predict_fn is for a module of PyTorch, as in AWS's PyTorch images."""
    torch = sys.modules.get("torch")
    wants = "predict_fn" in model.handlers and "input_fn" not in model.handlers and model.typed is None
    if torch is None or not wants or not isinstance(model.value, torch.nn.Module):
        return model
    from sagemaker_byoc.serving.torch_runtime import tensor_of  # noqa: PLC0415 - where torch is imported anyway

    device = model.context.device
    return replace(model, convert=lambda data, content_type: tensor_of(data, content_type, device))
