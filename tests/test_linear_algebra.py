import numpy as np
import scipy.linalg  # noqa: F401, with a library of its own
from threadpoolctl import threadpool_info, threadpool_limits

from fusion.linear_algebra import one_thread


def counts() -> set[int]:
    return {library["num_threads"] for library in threadpool_info() if library["user_api"] == "blas"}


def test_one_thread_within_the_block_and_as_many_as_before_after_it() -> None:
    with threadpool_limits(2, user_api="blas"):
        with one_thread():
            assert counts() == {1}
            with one_thread():
                np.eye(3) @ np.eye(3)
            assert counts() == {1}
        assert counts() == {2}


def test_libraries_that_are_loaded_later_are_found() -> None:
    with one_thread():
        pass
    import pyscf.lib  # noqa: F401

    with threadpool_limits(2, user_api="blas"), one_thread():
        assert counts() == {1}
