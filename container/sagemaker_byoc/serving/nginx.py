"""nginx.conf with its tokens filled in, and the command that runs it."""

import json
import os
import resource
import shutil
from importlib.resources import files
from pathlib import Path
from string import Template

from sagemaker_byoc.errors import PlatformInputError
from sagemaker_byoc.serving.deadlines import DRAIN_SECONDS
from sagemaker_byoc.serving.long_bodies import LONG_BYTES, STALL_SECONDS
from sagemaker_byoc.serving.settings import ServeSettings
from sagemaker_byoc.serving.slots import slots

# Debian's package libnginx-mod-http-headers-more-filter: without it nginx cannot leave its own name out.
HEADERS_MODULE = Path("/usr/lib/nginx/modules/ngx_http_headers_more_filter_module.so")
STREAM_SECONDS = 1900  # the platform ends a stream of both directions after 30 minutes
_UPGRADE = """map $http_upgrade $is_stream {
        default "";
        ~*^websocket$ yes;
    }"""
_STREAMS = f"""
        # A stream in both directions may come on any path.
        error_page 418 = @stream;
        if ($is_stream) {{
            return 418;
        }}

        location @stream {{
            proxy_pass http://workers;
            proxy_set_header Upgrade $http_upgrade;
            proxy_set_header Connection upgrade;
            proxy_set_header Host $http_host;
            proxy_read_timeout {STREAM_SECONDS}s;
            proxy_send_timeout {STREAM_SECONDS}s;
        }}"""

# Loading takes longer than answering; the answer comes when the model is there.
_MODELS = """
        location = /models {
            proxy_pass http://workers;
            proxy_read_timeout @{seconds}s;
            error_page 400 /.unreadable;
            error_page 413 = @too_large;
            error_page 502 = @not_answered;
            error_page 504 = @not_loaded;
        }

        location @not_loaded {
            return 504 '@{told}\\n';
        }"""


class NginxTemplate(Template):
    """A template whose tokens are `@{name}`, as nginx is full of `$names` of its own."""

    delimiter = "@"
    # Only braced tokens: a plain @name is one of nginx's named locations.
    pattern = r"@(?:(?P<escaped>@)|(?P<named>(?!))|\{(?P<braced>[a-z]+)\}|(?P<invalid>(?=\{)))"  # type: ignore[assignment]  # string.Template compiles it


def find_nginx(settings: ServeSettings) -> str | None:
    """Nginx's path, or None when it is absent or switched off. Raises PlatformInputError if it was demanded."""
    if settings.nginx == "off":
        return None
    found = shutil.which("nginx", path=os.environ.get("PATH", "") + ":/usr/sbin:/usr/local/sbin")
    if found is None and settings.nginx == "on":
        raise PlatformInputError(
            "BYOC_NGINX is 'on' and no nginx is on PATH; install nginx, or set BYOC_NGINX to auto or off."
        )
    return found


def render(settings: ServeSettings, run: Path) -> str:
    """The configuration file's text. Raises KeyError or ValueError for a token that nothing fills."""
    template = NginxTemplate((files("sagemaker_byoc") / "nginx.conf").read_text(encoding="utf-8"))
    return template.substitute(
        user="user root;" if os.geteuid() == 0 else "",
        run=run,
        slots=_slot_lines(settings, run),
        idle=min(1024, settings.workers * settings.places),
        body=settings.max_request_mb,
        overload=settings.overload_status,
        modules=f"load_module {HEADERS_MODULE};" if HEADERS_MODULE.exists() else "",
        banner="more_clear_headers Server;" if HEADERS_MODULE.exists() else "",
        upgrade=_UPGRADE if settings.lane == "asgi" else "",
        streams=(_STREAMS if settings.lane == "asgi" else "")
        + (_model_lines(settings) if settings.multi_model else ""),
        drain=DRAIN_SECONDS,
        connections=min(8192, resource.getrlimit(resource.RLIMIT_NOFILE)[0]),
        host=settings.bind_host,
        port=settings.port,
        timeout=max(1, round(settings.timeout)),
        digits=len(str(LONG_BYTES)) - 1,
        buffer=LONG_BYTES,
        stall=min(STALL_SECONDS, max(1, round(settings.timeout))),
    )


def _model_lines(settings: ServeSettings) -> str:
    seconds = max(1, round(settings.model_load_timeout))
    told = {"type": "TimedOut", "message": f"no answer within {seconds} s (BYOC_MODEL_LOAD_TIMEOUT)"}
    # The worker tells itself that another was too slow; nginx tells it of a worker that is alone.
    return NginxTemplate(_MODELS).substitute(seconds=seconds + 10, told=json.dumps({"error": told}))


def _slot_lines(settings: ServeSettings, run: Path) -> str:
    """One line a slot. What a worker's threads and its queue cannot hold is turned away here, at no cost to Python."""
    return "\n        ".join(
        f"server unix:{slot.path} max_fails=0 max_conns={settings.places};" for slot in slots(run, settings.workers)
    )


def command(nginx: str, run: Path) -> list[str]:
    """Errors go to standard error from the first line on, also where the usual log folder cannot be written."""
    return [nginx, "-e", "stderr", "-c", str(run / "nginx.conf")]
