"""A helper."""

WHO = "second"


class Network:
    who = WHO
