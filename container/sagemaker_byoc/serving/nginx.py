"""nginx.conf with its tokens filled in, and the command that runs it."""

import os
import resource
import shutil
from importlib.resources import files
from pathlib import Path
from string import Template

from sagemaker_byoc.errors import PlatformInputError
from sagemaker_byoc.serving.deadlines import DRAIN_SECONDS
from sagemaker_byoc.settings import ServeSettings


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
        drain=DRAIN_SECONDS,
        connections=min(4096, resource.getrlimit(resource.RLIMIT_NOFILE)[0]),
        host=settings.bind_host,
        port=settings.port,
        timeout=max(1, round(settings.timeout)),
    )


def command(nginx: str, run: Path) -> list[str]:
    """Errors go to standard error from the first line on, also where the usual log folder cannot be written."""
    return [nginx, "-e", "stderr", "-c", str(run / "nginx.conf")]
