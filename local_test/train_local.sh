#!/bin/sh
# train_local.sh IMAGE: train the project in this directory.
exec byoc train . --engine docker --image "${1:?usage: train_local.sh IMAGE}"
