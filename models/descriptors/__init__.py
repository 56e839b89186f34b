"""The eight descriptors of a system element: their types, their paths, their versions."""
