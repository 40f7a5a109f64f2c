#!/bin/sh
# predict.sh PAYLOAD [CONTENT_TYPE]: send a file to the endpoint on port 8080.
exec byoc invoke "${1:?usage: predict.sh PAYLOAD [CONTENT_TYPE]}" ${2:+--content-type "$2"}
