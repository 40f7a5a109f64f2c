"""Keep things in the caller's session, as the request says."""

import os
import time


def model_fn(model_dir):
    return None


def predict_fn(data, model, context):
    session = context.session
    told = {"pid": os.getpid(), "session": session.id if session else None}
    if data == "count":
        seen = session.get("count", 0)
        time.sleep(0.002)  # for another request to come in between, if it could
        session.put("count", seen + 1)
        told["count"] = seen + 1
    elif data == "read":
        told["count"] = session.get("count", 0)
    elif data == "close":
        session.close()
    elif data == "fail":
        session.put("count", -1)
        raise ValueError("no")
    elif data == "stream":
        return pieces(session)
    elif isinstance(data, dict):
        session.put("large", b"x" * data["bytes"])
        (session.path / "notes.txt").write_text("a file of its own")
        told["length"] = len(session.get("large"))
        told["path"] = str(session.path)
    return told


def pieces(session):
    for number in range(3):
        session.put("count", number)
        yield str(number)
