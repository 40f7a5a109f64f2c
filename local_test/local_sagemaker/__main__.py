"""``python -m local_sagemaker`` is ``byoc``."""

from local_sagemaker.cli import main

if __name__ == "__main__":
    main()
