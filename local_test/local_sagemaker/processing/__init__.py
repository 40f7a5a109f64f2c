"""Processing jobs: any program of an image over inputs and outputs below ``/opt/ml/processing``."""
