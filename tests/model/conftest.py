import pytest

pytest.register_assert_rewrite("model.laws", "model.stage")
