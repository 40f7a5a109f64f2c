"""Tell what a function finds around it: variables, headers, files; or answer what was sent."""

import os
import signal


def model_fn(model_dir):
    return model_dir


def predict_fn(data, model, context):
    match data.get("do") if isinstance(data, dict) else None:
        case "environment":
            return dict(os.environ)
        case "headers":
            return {name.lower(): context.headers[name] for name in context.headers}
        case "files":
            return files_below(context.model_dir.parent / data["folder"])
        case "set":
            context.set_custom_attributes(data["attributes"])
            context.set_header("X-Amzn-Inference-Metering", data["metering"])
        case "die":
            print("dying", flush=True)
            os.kill(os.getpid(), signal.SIGKILL)
    return data


def files_below(folder):
    files = (path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): path.read_text(encoding="utf-8") for path in files}
