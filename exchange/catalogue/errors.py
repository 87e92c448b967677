"""What is wrong with a file that should describe fields."""


class SchemaError(Exception):
    """A file cannot be read as a list of fields: `FILE:PLACE: what is wrong`.

    Args:
        where: the file, with the line, sheet or column where there is one.
        problem: what is wrong there, without a full stop.
        hint: what to do.
    """

    def __init__(self, where: str, problem: str, hint: str = "") -> None:
        super().__init__(f"{where}: {problem}")
        self.hint = hint
