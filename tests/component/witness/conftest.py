from tests.fixtures import logged

__all__ = ["logged"]
