from types import TracebackType

class Room:
    refused: int
    left: int
    used: int
    def __init__(self, most: int, trips: int = ..., used: int = ...) -> None: ...
    def __enter__(self) -> Room: ...
    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None: ...

def ask(nbytes: int) -> None: ...
def count_trip() -> None: ...
