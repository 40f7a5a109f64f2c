"""A package whose module is not in the folder that a job names."""

from setuptools import find_packages, setup

setup(name="digits", version="1.0", package_dir={"": "src"}, packages=find_packages("src"))
