"""Run one function of a module as the user's program: `python -m sagemaker_byoc.training.module MODULE:FUNCTION ...`.

The function is called without arguments and finds the job's in sys.argv, as a script does.
"""

import importlib
import sys
from types import TracebackType

from sagemaker_byoc.errors import UserCodeError
from sagemaker_byoc.user_code import find_callable

_MACHINERY = {
    __file__,
    importlib.__file__,
    *("<frozen runpy>", "<frozen importlib._bootstrap>", "<frozen importlib._bootstrap_external>"),
}


def main() -> None:
    """Import the module, call the function. A name that is missing ends the process with 66 and a sentence."""
    module_name, _, function_name = sys.argv.pop(1).partition(":")
    sys.excepthook = _show_users_part
    module = importlib.import_module(module_name)
    sys.argv[0] = module.__file__ or module_name
    try:
        function = find_callable(module, function_name, "SAGEMAKER_TRAINING_MODULE")
    except UserCodeError as error:
        print(f"sagemaker-byoc: {type(error).__name__}: {error}", file=sys.stderr, flush=True)
        sys.exit(error.exit_code)
    function()


def _show_users_part(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """Python's own report, from the first frame that is not of this runner on."""
    first = trace
    while first and first.tb_frame.f_code.co_filename in _MACHINERY:
        first = first.tb_next
    sys.__excepthook__(kind, error.with_traceback(first), first)


if __name__ == "__main__":
    main()
