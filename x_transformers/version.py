"""The one place where the version stands, and the oldest PyTorch it runs with."""

from packaging.version import Version

__version__ = '3.0.0.dev0'

OLDEST_TORCH = '2.5'


def check_torch(installed: str) -> None:
    """ImportError where PyTorch is too old."""
    if Version(installed).release < Version(OLDEST_TORCH).release:
        raise ImportError(f'x_transformers needs torch>={OLDEST_TORCH}, found {installed}; upgrade with `pip install -U torch`')
