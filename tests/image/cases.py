"""The list of cases. A case is a function that takes a `Device`; its name is a sentence."""

CASES = []


def case(on=("systemd", "busybox"), quick=False):
    """Adds a function to the list, for images with one of these programs as init; `quick`: also in the short form."""

    def add(function):
        CASES.append((function, on, quick))
        return function

    return add
