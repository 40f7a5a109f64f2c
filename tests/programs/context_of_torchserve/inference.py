"""Ask the context what scripts for AWS's PyTorch images ask it."""


def model_fn(model_dir, context):
    return {"same folder": context.system_properties.get("model_dir") == model_dir}


def predict_fn(data, model, context):
    gpu = context.system_properties.get("gpu_id")
    return {
        **model,
        "device": "cpu" if gpu is None else f"cuda:{gpu}",
        "asked": context.get_request_header(0, "X-Asked"),
    }
