"""A helper."""

WHO = "first"


class Network:
    who = WHO
