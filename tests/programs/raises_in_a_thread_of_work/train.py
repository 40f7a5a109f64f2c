"""Raise inside a function of a library, called from the user's code."""

import json

json.loads("{broken")
