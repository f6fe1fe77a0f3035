"""The version, where reading it costs nothing: asking for a package's metadata takes as long as our whole import."""

VERSION = "0.1.0"
