"""The public scikit-learn sample's stack: nginx, gunicorn's sync workers on a unix socket, Flask.

A miniature in the sample's shape, written from its described behaviour; its pandas is left out, which makes it faster.
"""

from __future__ import annotations

from benchmarks.serving.peer import Case, Peer, Start
from benchmarks.serving.workloads import INSIDE

NGINX = """daemon off;
worker_processes 1;
pid {work}/nginx.pid;
error_log stderr crit;

events {{
    worker_connections 1024;
}}

http {{
    access_log {work}/access.log combined;
    client_body_temp_path {work}/body;
    proxy_temp_path {work}/proxy;
    fastcgi_temp_path {work}/fastcgi;
    uwsgi_temp_path {work}/uwsgi;
    scgi_temp_path {work}/scgi;

    server {{
        listen {port};
        client_max_body_size 5m;
        keepalive_timeout 5;

        location ~ ^/(ping|invocations)$ {{
            proxy_pass http://unix:{work}/gunicorn.sock;
            proxy_set_header Host $http_host;
            proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;
            proxy_redirect off;
        }}

        location / {{
            return 404;
        }}
    }}
}}
"""


def start(case: Case) -> Start:
    configuration = case.work / "nginx.conf"
    configuration.write_text(NGINX.format(work=case.work, port=case.port), encoding="utf-8")
    return Start((case.python, str(INSIDE / "sample" / "serve.py"), str(configuration), f"{case.work}/gunicorn.sock"))


PEER = Peer(
    name="sample",
    title="public sample's stack",
    requirements="sample",
    start=start,
    setting="nginx, a sync gunicorn worker a core, Flask; nginx's access log; it has no metrics and no batches",
    distributions=("gunicorn", "flask"),
)
