"""The one exception that users see as a sentence."""


class UserError(Exception):
    """Something the user can mend: wrong input, missing extra, unreachable endpoint.

    The message is one sentence: what is wrong, where (file, line, field), what would be right.
    The command line prints it without a traceback.

    Args:
        message: The sentence.
        code: Exit code: 1 failed, 2 wrong usage.
    """

    def __init__(self, message: str, code: int = 1) -> None:
        super().__init__(message)
        self.code = code
