#!/usr/bin/env bash
# Neither exec nor set -e: SIGTERM stays here, and the exit code is that of the last line.
if [ "$1" = train ]; then
    python3 /opt/wrapper/training.py
else
    python3 /opt/wrapper/serving.py
fi
echo "$1: done"
