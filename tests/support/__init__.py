"""What the tests share: trees laid out as /opt/ml, running processes, and waiting for what is promised."""
