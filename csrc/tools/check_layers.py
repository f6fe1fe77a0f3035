#!/usr/bin/env python3
"""Fails, with file and line, where a file knows more than its layer may.

    python csrc/tools/check_layers.py [PROJECT]

In C: what each layer may include, where the operating system is called, and calls that are banned everywhere
because they cannot be used safely or end the process. In Python: what each part of the package may import. The
rules are the tables below, each with its reason.
"""

import ast
import re
import sys
from collections.abc import Iterator
from pathlib import Path

PACKAGE = "ibkr_oauth"

OAUTH_HEADERS = r"ibk/(oauth|key|mac|dh|lst|params|signer)\.h"
NETWORK_HEADERS = r"ibk/(http|mailbox|engine)\.h"
SESSION_HEADERS = r"ibk/keepalive\.h"
# Folders of C files, what they may not include, and why.
INCLUDE_RULES = [
    ("csrc/platform", r"Python\.h|curl/.*|openssl/.*", "the system is called without them"),
    ("csrc/platform", r"ibk/(?!(base|error|platform)\.h).*", "it is the lowest layer"),
    ("csrc/core", r"Python\.h", "the core must build without Python"),
    ("csrc/http", r"Python\.h", "the transport must build without Python"),
    ("csrc/session", r"Python\.h", "the session must build without Python"),
    ("csrc/include", r"Python\.h", "all below the binding must build without Python"),
    ("csrc/core", r"curl/.*", "the core knows no network"),
    ("csrc/include", r"curl/.*", "libcurl stays inside csrc/http"),
    ("csrc/session", r"curl/.*", "libcurl stays inside csrc/http"),
    ("csrc/session", r".*_internal\.h", "a layer's own header is for that layer"),
    ("csrc/core", NETWORK_HEADERS, "the core knows no network"),
    ("csrc/core", SESSION_HEADERS, "the core knows no session"),
    ("csrc/http", OAUTH_HEADERS, "the transport knows no OAuth"),
    ("csrc/http", SESSION_HEADERS, "the transport knows no session"),
    ("csrc/include/ibk/http.h", OAUTH_HEADERS, "the transport knows no OAuth"),
    ("csrc/include/ibk/mailbox.h", OAUTH_HEADERS, "the transport knows no OAuth"),
    ("csrc/include/ibk/engine.h", OAUTH_HEADERS, "the transport knows no OAuth"),
]

# Where the operating system is called, and what everybody else may include with < >: of C11 all but its threads, which
# some systems lack.
PLATFORM = ("csrc/platform", "csrc/include/ibk/platform.h")
PORTABLE_HEADERS = (
    r"(assert|ctype|errno|float|inttypes|limits|locale|math|setjmp|stdalign|stdarg|stdatomic|stdbool|stddef|stdint|stdio|"
    r"stdlib|stdnoreturn|string|time|wchar)\.h|Python\.h|pyconfig\.h|(openssl|curl|ibk)/.*"
)
SYSTEM_CALLS = (
    r"pthread_\w+|sig(action|addset|emptyset|fillset|procmask)|(v?fork|kill|waitpid|getpid|getppid|getuid|geteuid)|exec[lv]\w*|"
    r"open|openat|close|read|write|lseek|pipe2?|dup2?|fcntl|ioctl|isatty|l?stat|fstat|access|chmod|fchmod|unlink|rename|mkdir|mkstemp|"
    r"fdopen|fileno|getline|opendir|readdir|closedir|p?poll|p?select|epoll_\w+|kqueue|eventfd|"
    r"socket|socketpair|bind|listen|accept4?|connect|shutdown|recv|recvfrom|send|sendto|[gs]etsockopt|getpeername|getsockname|"
    r"getaddrinfo|hton[ls]|ntoh[ls]|clock_gettime|gettimeofday|localtime_r|gmtime_r|nanosleep|u?sleep|sysconf|mmap|munmap|mlock|"
    r"madvise|setenv|dlopen|dlsym|strdup|strndup|strnlen|strcasecmp|strncasecmp|strtok_r|asprintf"
)

# Calls that no C file of ours makes, and what to write instead.
BANNED_CALLS = {
    "alloca": "ibk_alloc",
    "assert": "return an ibk_code: a library does not end the process",
    "atoi": "a strict parser that sees overflow and trailing bytes",
    "gets": "a bounded read",
    "realloc": "ibk_buf or ibk_secret: realloc may leave a copy behind",
    "sprintf": "snprintf",
    "strcat": "ibk_buf",
    "strcpy": "ibk_buf",
    "strtok": "ibk_span and a loop",
    "system": "nothing: a library starts no shell",
    "vsprintf": "vsnprintf",
}

# Cryptography and bytes on the wire are the C core's work: none of these outside the parts below.
CORE_TASKS = {"hashlib", "hmac", "http.client", "socket", "ssl", "urllib.request"}
# Parts that come with an extra, and so with packages of other people.
WITH_EXTRAS = ("cli", "integrations", "sandbox")
# Single parts that may import something more: in the function that needs it, or since nobody else imports the part.
ALSO = {"config": {"keyring", "tomlkit"}, "pytest_plugin": {"pytest"}}
# Nothing of ours at all, so that the C module may import it at any time.
STANDALONE = ("errors",)
# An independent oracle: it checks our signatures with other people's code, never with our own.
ORACLE = "sandbox"


def blank(match: re.Match[str]) -> str:
    """As many spaces as were matched, line breaks kept, so that line numbers stay right."""
    return re.sub(r"[^\n]", " ", match[0])


def c_problems(path: str, text: str) -> Iterator[tuple[int, str]]:
    """Line and message of each include or call that the rules forbid."""
    # Literals come first, to be stepped over: a comment sign within one starts no comment.
    literal = r"\"(?:\\.|[^\"\\\n])*\"|'(?:\\.|[^'\\\n])*'"
    token = re.compile(rf"(?P<literal>{literal})|/\*.*?\*/|//[^\n]*", re.DOTALL)
    code = token.sub(lambda match: match[0] if match["literal"] else blank(match), text)
    system = any(inside(path, place) for place in PLATFORM)
    for number, line in enumerate(code.splitlines(), 1):
        included = re.match(r'\s*#\s*include\s*[<"]([^>"]+)[>"]', line)
        for folder, forbidden, reason in INCLUDE_RULES:
            if included and inside(path, folder) and re.fullmatch(forbidden, included[1]):
                yield number, f"includes {included[1]}: {reason}"
        if included and "<" in line and not system and not re.fullmatch(PORTABLE_HEADERS, included[1]):
            yield number, f"includes {included[1]}: the system is called in csrc/platform alone"
    for number, line in enumerate(re.sub(literal, blank, code).splitlines(), 1):
        for call in re.findall(rf"\b({'|'.join(BANNED_CALLS)})\s*\(", line):
            yield number, f"calls {call}(): use {BANNED_CALLS[call]}"
        for call in re.findall(r"(?<![\w.>])(\w+)\s*\(", line):
            if not system and re.fullmatch(SYSTEM_CALLS, call):
                yield number, f"calls {call}(): the system is called in csrc/platform alone"


def inside(path: str, folder: str) -> bool:
    return path == folder or path.startswith(folder + "/")


def imported(tree: ast.AST, package: str) -> Iterator[tuple[int, str]]:
    """Line and absolute name of everything imported, whether at the top or inside a function."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield node.lineno, alias.name
        elif isinstance(node, ast.ImportFrom):
            above = package.split(".")[: 1 - node.level or None] if node.level else []
            base = ".".join([*above, *([node.module] if node.module else [])])
            for alias in node.names:
                yield node.lineno, f"{base}.{alias.name}"


def python_problems(path: str, text: str) -> Iterator[tuple[int, str]]:
    """Line and message of each import that the rules forbid."""
    parts = Path(path).with_suffix("").parts
    part = parts[1]
    for number, name in imported(ast.parse(text, path), ".".join(parts[:-1])):
        ours = inside(name.replace(".", "/"), PACKAGE)
        own_part = inside(name.replace(".", "/"), f"{PACKAGE}/{part}")
        if part == ORACLE and ours and not own_part:
            yield number, f"imports {name}: the sandbox verifies with nothing of ours"
        if part in STANDALONE and ours:
            yield number, f"imports {name}: {part}.py imports nothing of ours"
        if part in WITH_EXTRAS or ours or name.partition(".")[0] in ALSO.get(part, ()):
            continue
        if any(name == task or name.startswith(task + ".") for task in CORE_TASKS):
            yield number, f"imports {name}: that work belongs to the C core"
        elif name.partition(".")[0] not in sys.stdlib_module_names:
            yield number, f"imports {name}: the library itself needs no other package"


def problems(project: Path) -> list[str]:
    checks = [
        *((file, c_problems) for file in (project / "csrc").rglob("*.[ch]")),
        *((file, python_problems) for file in (project / PACKAGE).rglob("*.py")),
    ]
    found = []
    for file, check in sorted(checks, key=lambda pair: pair[0]):
        path = file.relative_to(project).as_posix()
        found += [f"{path}:{line}: {text}" for line, text in check(path, file.read_text("utf-8"))]
    if not checks:
        found.append(f"{project}: no source files found")
    return found


def main() -> int:
    project = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parents[2]
    found = problems(project)
    print("\n".join(found), end="\n" if found else "")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
