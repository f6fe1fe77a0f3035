"""The sandbox, judged by a reference client that shares no code with it."""
