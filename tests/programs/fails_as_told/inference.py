"""Fail in the way that the request names, or answer with the headers that it names."""


class Unspeakable(Exception):
    def __str__(self):
        raise RuntimeError("no text")


def model_fn(model_dir):
    return None


def predict_fn(data, model, context):
    if "header" in data:
        context.set_header(data["header"], data["value"])
    if "attributes" in data:
        context.set_custom_attributes(data["attributes"])
    kind = data.get("fail")
    if kind == "plain":
        raise RuntimeError("plain")
    if kind == "lines":
        raise ValueError('two\nlines\r\nand "quotes" \x00\x1b[31m')
    if kind == "group":
        raise ExceptionGroup("several", [KeyError("one"), OSError(2, "no such file", "/etc/shadow")])
    if kind == "cause":
        raise LookupError("outer") from ZeroDivisionError("inner")
    if kind == "unspeakable":
        raise Unspeakable
    if kind == "exit":
        raise SystemExit(3)
    if kind == "recursion":
        return predict_fn(data, model, context)
    if kind == "memory":
        raise MemoryError
    if kind == "stop":
        raise StopIteration
    if kind == "unencodable":
        return object()
    if kind == "surrogate":
        raise RuntimeError("half of one: \ud800")
    return data
