"""A helper that fails."""

import no_such_package
