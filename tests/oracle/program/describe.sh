python3 describe.py "$@"
