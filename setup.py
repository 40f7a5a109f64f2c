"""Packaging of sagemaker-byoc: the image's runtime and the local harness, two source roots, one distribution."""

import shutil
from pathlib import Path

from setuptools import find_packages, setup
from setuptools.command.build_py import build_py

RUNTIME = find_packages("container")
HARNESS = find_packages("local_test")
# What `byoc init` copies and `byoc build` sends to the builder; a checkout has them in place.
REPOSITORY = ("Dockerfile", ".dockerignore", "container", "opt_ml_template")
LEFT_OUT = ("__pycache__", "*.pyc", "*.egg-info", "*.whl", "*.npz", ".byoc")


class BuildWithRepository(build_py):
    """Puts what the package uses of the repository into the wheel, too."""

    def run(self) -> None:
        """Copy the packages, then the rest."""
        super().run()
        if self.editable_mode:
            return
        copy = self._copy_of_the_repository
        shutil.rmtree(copy, ignore_errors=True)
        for name in REPOSITORY:
            source, target = Path(name), copy / name
            if source.is_dir():
                shutil.copytree(source, target, ignore=shutil.ignore_patterns(*LEFT_OUT))
            else:
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(source, target)

    def get_outputs(self, include_bytecode: bool = True) -> list[str]:
        """All files that are made."""
        copied = [str(path) for path in self._copy_of_the_repository.rglob("*") if path.is_file()]
        return [*super().get_outputs(include_bytecode), *copied]

    @property
    def _copy_of_the_repository(self) -> Path:
        return Path(self.build_lib) / "local_sagemaker" / "repository"


setup(
    name="sagemaker-byoc",
    version="0.1.0",
    description="Bring your own container to Amazon SageMaker, and know before you push that it will work",
    license="Apache-2.0",
    python_requires=">=3.11",
    packages=RUNTIME + HARNESS,
    cmdclass={"build_py": BuildWithRepository},
    package_dir={"": "container", "local_sagemaker": "local_test/local_sagemaker"},
    package_data={
        "sagemaker_byoc": ["nginx.conf", "py.typed", "train", "serve", "default"],
        "local_sagemaker": ["py.typed"],
    },
    install_requires=[
        "a2wsgi>=1.10,<2",
        "flask>=3.1,<4",
        "gunicorn>=27.0.1,<28",
        "gunicorn_h1c>=0.6.9,<1",
        "numpy>=1.26,<3",
        "orjson>=3.10,<4",
        "prometheus-client>=0.23,<1",
        "uvloop>=0.21,<1",
    ],
    extras_require={
        "formats": ["pillow>=11,<14", "protobuf>=5,<8", "pyarrow>=18,<27"],
        "models": ["onnxruntime>=1.20,<2", "pydantic>=2.10,<3", "safetensors>=0.5,<1"],
        "export": ["onnx>=1.17,<2", "onnxruntime>=1.20,<2", "onnxscript>=0.5,<1"],
        "traces": ["opentelemetry-exporter-otlp-proto-http>=1.30,<2", "opentelemetry-sdk>=1.30,<2"],
        "local": [
            "backports.tarfile>=1.2,<2; python_full_version < '3.11.4'",
            "boto3>=1.40,<2",
            "click>=8.1,<9",
            "docker>=7.1,<8",
            "httptools>=0.6,<1",
            "httpx>=0.27,<1",
            "matplotlib>=3.9,<4",
            "optuna>=4.5,<6",
            "pyyaml>=6,<7",
            "rich>=13.7,<16",
            "scikit-learn>=1.5,<2",
            "scipy>=1.14,<2",
        ],
        "dev": [
            "aiohttp>=3.11,<4",
            "hypothesis>=6.100,<7",
            "jsonpath-ng>=1.7,<2",
            "moto[ecr,sagemaker]>=5.1,<6",
            "mypy>=1.15,<3",
            "onnx>=1.17,<2",
            "onnxruntime>=1.20,<2",
            "onnxscript>=0.5,<1",
            "opentelemetry-exporter-otlp-proto-http>=1.30,<2",
            "opentelemetry-sdk>=1.30,<2",
            "pillow>=11,<14",
            "protobuf>=5,<8",
            "pyarrow>=18,<27",
            "pydantic>=2.10,<3",
            "pytest>=8.3,<10",
            "pytest-timeout>=2.3,<3",
            "pytest-xdist>=3.6,<4",
            "ruff>=0.9,<1",
            "safetensors>=0.5,<1",
            "schemathesis>=4,<5",
            "types-docker>=7.1,<8",
            "types-pyyaml>=6,<7",
            "websockets>=14,<18",
        ],
    },
    # No `train` or `serve` here: sagemaker-training declares its own `train`, and the last one installed would win.
    entry_points={
        "console_scripts": ["byoc=local_sagemaker.cli:main"],
        "pytest11": ["sagemaker_byoc=local_sagemaker.pytest_plugin"],
    },
)
