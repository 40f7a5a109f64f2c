"""Raise with a message beyond ASCII, each character several bytes long."""

raise ValueError("die Lernrate für Größe ∞ ist zu groß: " + "ß∞" * 1000)
