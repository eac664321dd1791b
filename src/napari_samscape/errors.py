"""The one exception type that users meet."""


class InputError(ValueError):
    """Something the user gave cannot be used; the message is one sentence that says what and where.

    The command line prints the sentence and exits with code 2, napari shows it as a notification.
    """
