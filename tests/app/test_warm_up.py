"""What the server imports before its first visitor: a name that has moved would stop it at its start."""

from __future__ import annotations

from importlib.util import find_spec

import pytest

pytest.importorskip("streamlit", reason="no Streamlit: pip install 'evalkit[app]'")

from app.warm_up import MODULES


@pytest.mark.parametrize("name", MODULES)
def test_a_module_is_where_the_server_looks_for_it(name: str) -> None:
    assert find_spec(name) is not None
