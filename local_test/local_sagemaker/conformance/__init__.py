"""``byoc check``: SageMaker's contract as a suite of rules that any image is held to."""
