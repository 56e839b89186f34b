"""What is wrong with a descriptor, before it is known which file it came from."""


class DescriptorProblem(ValueError):
    """A text or tree that cannot be used. `line` (from 1, 0 unknown) or `paths` say where.

    `paths` name facts of a set of descriptors, such as `trained_model.model_version`: one fact that is wrong, or the
    two that contradict each other. Who knows the files turns them into file and line.
    """

    def __init__(self, message: str, line: int = 0, *paths: str) -> None:
        super().__init__(message)
        self.line = line
        self.paths = paths
