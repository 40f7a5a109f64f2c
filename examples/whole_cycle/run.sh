#!/usr/bin/env bash
# The whole life of a model on this machine, by `byoc` alone: trained on two hosts, tuned, served as two variants,
# shifted, captured, run over 100,000 rows, and its image held to the contract.
#
#   examples/whole_cycle/run.sh IMAGE [DIRECTORY]
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
image=${1:?usage: run.sh IMAGE [DIRECTORY]}
directory=${2:-$(mktemp -d)}
accuracy='validation_accuracy=validation_accuracy=([0-9.]+)'

say() { printf '\n== %s\n' "$*"; }
field() { python3 -c "import json, sys; print(json.load(sys.stdin)$1)"; }

say "a project, and its data"
byoc init "$directory/digits"
python3 "$directory/digits/prepare_data.py"
cd "$directory/digits"
trap 'byoc endpoint delete digits >/dev/null 2>&1 || true' EXIT

say "one training job on two hosts"
byoc train --image "$image" --job-name two-hosts --hosts 2 --distribution torchrun \
    --hyperparameter epochs=2 --metric "$accuracy" --env OMP_NUM_THREADS=1

say "twelve training jobs, two at a time, to find better hyperparameters"
byoc tune --image "$image" --job-name tuned --objective validation_accuracy:Maximize --metric "$accuracy" \
    --range learning-rate=0.0005..0.02:log --range batch-size=32..128 --static epochs=2 \
    --max-jobs 12 --parallel 2 --seed 1 --env OMP_NUM_THREADS=1 --json >tuned.json
best=$(field "['BestTrainingJob']['TrainingJobName']" <tuned.json)
echo "the best of them is $best"

say "both behind one endpoint, nine requests of ten to the first"
byoc endpoint create digits --image "$image" --variant "blue=two-hosts:90" --variant "green=$best:10" \
    --capture 100 --seed 1
byoc invoke --endpoint digits --repeat 200 --concurrency 4 "$here/seven.json"

say "half of the requests to each"
byoc endpoint weights digits blue=50 green=50
byoc invoke --endpoint digits --repeat 200 --concurrency 4 "$here/seven.json"

say "which of them is better"
byoc endpoint compare digits

say "what was captured"
find .byoc/s3 -name '*.jsonl' -path '*capture*' -print -exec head -c 300 {} \; -exec echo \;

say "100,000 rows through the better model"
python3 "$here/make_rows.py" 100000 test/digits.npz >rows.csv
byoc transform --image "$image" --model "$best" --input rows.csv --split-type Line --assemble-with Line \
    --accept text/csv --max-concurrent 2 --output predictions
wc -l predictions/rows.csv.out

say "the image against the contract"
byoc check "$image" --hyperparameter epochs=1 --junit contract.xml

say "what there is now"
byoc endpoint delete digits
byoc ps --all
