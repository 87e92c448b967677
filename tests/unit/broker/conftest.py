from tests.fixtures import logged, world

__all__ = ["logged", "world"]
