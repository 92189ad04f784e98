"""Number of threads of the linear algebra libraries."""

import numpy as np
import scipy.linalg  # noqa: F401, with a library of its own
from threadpoolctl import threadpool_info, threadpool_limits

from fusion.parallel.blas_threads import one_thread


def most_threads() -> int:
    return max(library["num_threads"] for library in threadpool_info() if library["user_api"] == "blas")


def test_one_thread_within_the_block_and_as_many_as_before_after_it() -> None:
    with threadpool_limits(2, user_api="blas"):
        with one_thread():
            assert most_threads() == 1
            with one_thread():
                np.eye(3) @ np.eye(3)
            assert most_threads() == 1
        assert most_threads() == 2
