"""Python reads this where ``PYTHONPATH`` names its directory: what was compiled once is not compiled again.

Ansible sends a module to a host as an archive of sources, and Python compiles what it imports out of an archive each time,
a hundred times in a playbook: a quarter of the processors' time of the end-to-end tests. The same code runs; it is only
kept, under the name of its content, for whatever version of Python it was compiled by. A product's user has none of this.

To make the archive, each playbook parses every source in it again to see what that imports: a tenth of its time. Of a
source that was parsed once, the statements that import are kept, and only these are parsed.

Nor does Python look for garbage as often: Ansible's processes live for a moment and leave little, and looking for it took a
sixth of their time. It does not look for it a last time in what it leaves to the system anyway, either.
"""

import atexit
import contextlib
import gc
import hashlib
import marshal
import os
import sys
import zipimport

_KEPT = os.path.join(os.path.dirname(os.path.abspath(__file__)), *[os.pardir] * 3, ".cache", "compiled")
# Where Ansible asks Python for a source's syntax tree, and for nothing else.
_PARSES = "ansible.executor.module_common"
_compile = zipimport._compile_source


def _compile_once(path, source):
    """The code of a source in an archive."""
    kept = _place(b"code", source)
    try:
        with open(kept, "rb") as file:
            return marshal.loads(file.read())
    except (OSError, EOFError, ValueError, TypeError):
        code = _compile(path, source)
    _keep(kept, marshal.dumps(code))
    return code


def _parse_once(source, filename, mode, flags=0):
    """The syntax tree of a source's imports; what cannot be parsed is refused each time."""
    if flags != _ast().PyCF_ONLY_AST:
        return compile(source, filename, mode, flags)
    kept = _place(b"imports", source.encode() if isinstance(source, str) else source)
    try:
        with open(kept, "rb") as file:
            imports = file.read()
    except OSError:
        imports = _imports_of(compile(source, filename, mode, flags)).encode()
        _keep(kept, imports)
    return compile(imports, filename, mode, flags)


def _imports_of(tree):
    """The source of a module's imports: those of its top level, which it cannot do without, and all others in a block.

    What METADATA says to Ansible stays, too.
    """
    ast = _ast()
    imports = (ast.Import, ast.ImportFrom)
    top = [node for node in tree.body if isinstance(node, imports) or _is_metadata(node)]
    rest = [inner for node in tree.body if node not in top for inner in ast.walk(node) if isinstance(inner, imports)]
    block = [ast.If(test=ast.Constant(value=True), body=rest, orelse=[])] if rest else []
    return ast.unparse(ast.Module(body=top + block, type_ignores=[]))


def _is_metadata(node):
    return isinstance(node, _ast().Assign) and [getattr(target, "id", "") for target in node.targets] == ["METADATA"]


def _ast():
    """Only a controller needs it."""
    import ast

    return ast


class _Parser:
    """Stands before the finders of modules until Ansible imports what parses, and gives that one the parser of above."""

    @classmethod
    def find_spec(cls, name, path=None, target=None):
        if name != _PARSES:
            return None
        sys.meta_path.remove(cls)
        from importlib.machinery import PathFinder

        spec = PathFinder.find_spec(name, path, target)
        if spec:
            spec.loader.exec_module = _with_parser(spec.loader.exec_module)
        return spec


def _with_parser(execute):
    def execute_with_parser(module):
        module.compile = _parse_once  # goes before the builtin of that name
        execute(module)

    return execute_with_parser


def _place(what, source):
    content = hashlib.sha256(b"%s %s\n%s" % (what, sys.implementation.cache_tag.encode(), source)).hexdigest()
    return os.path.join(_KEPT, content)


def _keep(path, content):
    """Write a file that others see whole or not at all; what cannot be kept is made again."""
    import tempfile  # Takes as long as all else here, and only a first run needs it.

    with contextlib.suppress(OSError):
        os.makedirs(_KEPT, exist_ok=True)
        handle, unfinished = tempfile.mkstemp(dir=_KEPT)
        with os.fdopen(handle, "wb") as file:
            file.write(content)
        os.replace(unfinished, path)


zipimport._compile_source = _compile_once
sys.meta_path.insert(0, _Parser)
gc.set_threshold(200_000, 50, 50)
atexit.register(gc.freeze)
