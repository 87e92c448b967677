from tests.e2e.conftest import city, new_city, template  # noqa: F401 - fixtures
