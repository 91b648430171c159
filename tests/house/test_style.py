"Style, measured: short cells, lines that fit, imports apart, everything documented"
import ast, io, re, statistics, tokenize
import pytest
from house.shared import IDS, MODULES, NBS, code, exported, name_of, plain, py_file

def body(src): return [l for l in src.splitlines() if l.strip() and not l.startswith('#|')]
def definition(src): return exported(src) and any(re.match(r'\s*(def|class|@)', l) for l in body(src))

SIZES = {(nb.name, src):len(body(src)) for nb in NBS for src in code(nb) if definition(src)}

def test_no_cell_over_40_lines(): assert [(nb, n, src[:80]) for (nb,src),n in SIZES.items() if n>40] == []

def test_cells_are_short():
    q = sorted(SIZES.values())
    by_nb = {nb:statistics.median(n for (o,_),n in SIZES.items() if o==nb) for nb,_ in SIZES}
    assert statistics.median(q) <= 8, f"medians by notebook: {by_nb}"
    assert q[int(.9*len(q))] <= 20

@pytest.mark.parametrize('nb', NBS, ids=IDS)
def test_lines_fit(nb): assert [l for src in code(nb) for l in src.splitlines() if len(l)>120] == []

def is_import(node): return isinstance(node, (ast.Import,ast.ImportFrom))

def mixed(src):
    "Does the cell import and do something else? If it is not exported, an import inside a function counts as well"
    tree = ast.parse(plain(src))
    return any(map(is_import, tree.body if exported(src) else ast.walk(tree))) and not all(map(is_import, tree.body))

def test_mixed_sees():
    assert mixed('import os\nos.sep') and mixed('def f(): import os') and mixed('#| export\nimport os\nx=1')
    assert not (mixed('import os') or mixed('os.sep') or mixed('#| export\ndef f(): import os'))

@pytest.mark.parametrize('nb', NBS, ids=IDS)
def test_imports_stand_alone(nb):
    "The docs build runs exported cells and cells with imports alone: what stands beside an import would miss its names"
    assert [src for src in code(nb) if mixed(src)] == []

def comments(src):
    "Line number -> comment"
    tokens = tokenize.generate_tokens(io.StringIO(src).readline)
    return {t.start[0]:t.string for t in tokens if t.type==tokenize.COMMENT}

def bare(fn, marks):
    "Parameters of `fn` without a comment of their own"
    a = fn.args
    args = [o for o in a.posonlyargs+a.args+a.kwonlyargs if o.arg not in ('self','cls') and o.arg[0]!='_']
    ends = {o.arg:o.end_lineno for o in args}
    for o,d in [*zip((a.posonlyargs+a.args)[::-1], a.defaults[::-1]), *zip(a.kwonlyargs, a.kw_defaults)]:
        if d is not None: ends[o.arg] = d.end_lineno
    lines = list(ends.values())
    return [k for i,(k,v) in enumerate(ends.items()) if v not in marks or v in lines[:i]]

def face(tree):
    "Names in `__all__`, which a module offers to users; `None` where it has no such list"
    lists = [n.value for n in tree.body if isinstance(n, ast.Assign) and name_of(n.targets[0])=='__all__']
    return set(ast.literal_eval(lists[0])) if lists and isinstance(lists[0], ast.List) else None

def docless(src):
    "Complaints about the definitions in `src`: those in `__all__` have docments, plain names a doc string"
    marks,tree = comments(src),ast.parse(src)
    offered = face(tree)
    for n in tree.body:
        if not isinstance(n, (ast.FunctionDef,ast.AsyncFunctionDef,ast.ClassDef)) or n.name[0]=='_': continue
        if not ast.get_docstring(n): yield f'{n.name}: no doc string'
        if isinstance(n, ast.ClassDef) or (offered is not None and n.name not in offered): continue
        yield from (f'{n.name}: parameter {o} has no comment' for o in bare(n, marks))
        end = n.body[0].lineno-1
        if n.returns is None and n.lineno<end and end in marks: yield f'{n.name}: docments pass over what it returns: it has no type'

def test_docless_sees():
    good = 'def f(a, # rows\n      b=1, # columns\n      **kwargs\n     ):\n    "Do"'
    assert list(docless(good)) == [] and list(docless('def _f(a): pass')) == []
    assert list(docless('def f(a, b # both\n     ): "Do"')) == ['f: parameter b has no comment']
    assert list(docless('def f(a): pass')) == ['f: no doc string', 'f: parameter a has no comment']
    assert list(docless('def f(a # rows\n     ): # the axes\n    "Do"')) == ['f: docments pass over what it returns: it has no type']
    assert list(docless("__all__ = ['f']\ndef f(a): 'Do'\ndef g(a): 'Do'")) == ['f: parameter a has no comment']
    assert list(docless("__all__ = []\ndef g(a): pass")) == ['g: no doc string']

@pytest.mark.parametrize('mod', MODULES)
def test_public_names_are_documented(mod): assert list(docless(py_file(mod).read_text(encoding='utf-8'))) == []
