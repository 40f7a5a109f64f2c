#!/bin/sh
# serve_local.sh IMAGE: serve the newest model of the project in this directory on port 8080.
exec byoc serve . --engine docker --image "${1:?usage: serve_local.sh IMAGE}"
