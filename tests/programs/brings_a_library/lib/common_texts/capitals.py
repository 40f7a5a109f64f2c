"""Capital letters."""


def loud(text):
    return text.upper()
