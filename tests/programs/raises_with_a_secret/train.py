"""Say too much in an exception."""

import os

raise ValueError(f"401 for {os.environ['SM_HP_API_TOKEN']} at {os.environ['DATABASE']} with {os.environ['HF_TOKEN']!r}")
