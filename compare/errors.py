"""What can go wrong, as a small tree. Libraries raise these; entry points print them.

    LensError
    ├── BadQuestion   an empty or too long question, a setting out of range
    ├── BadBase       a base model that cannot be loaded
    ├── BadAdapter    a directory that is no adapter, or not one for this base
    └── Unavailable   nothing wrong with what was asked: memory ran out, or the model's thread is gone
"""


class LensError(ValueError):
    """The message is one sentence meant for the user."""


class BadQuestion(LensError):
    pass


class BadBase(LensError):
    pass


class BadAdapter(LensError):
    pass


class Unavailable(LensError):
    pass
