"""One line an event, on standard error, in one format."""

import logging
import sys

NAME = "sagemaker_byoc"


def configure_logs(level: int = logging.INFO) -> None:
    """Send the runtime's own lines to standard error; safe to call twice."""
    logger = logging.getLogger(NAME)
    logger.setLevel(level)
    logger.propagate = False
    if not logger.handlers:
        handler = logging.StreamHandler(sys.stderr)
        handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
        logger.addHandler(handler)
