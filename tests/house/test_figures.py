"The figures of the house: its size, its width, its signatures, its private names, its face"
import ast, builtins
from functools import cache
import pytest
from house.shared import MODULES, NBS, code, name_of, plain, py_file, syntax

@cache
def lines(mod):
    "Lines of code of `mod`: neither blank nor a marker of nbdev"
    src = py_file(mod).read_text(encoding='utf-8')
    return [l for l in src.splitlines() if l.strip() and not l.startswith('# %%')]

# --- size and width

# What a room may hold; raise it on purpose, after looking for what can go
SHARE = dict(core=300, options=235, words=103, colab=74, hub=147, local=90, phantom=1389, image=1480, score=2812, data=3550, vision=2711, explain=2730, run=2271, anatomy=2338,
             commands=521, cli=192, all=66, ship=890, quiz=766, app=640)

@pytest.mark.parametrize('room', SHARE)
def test_size(room):
    n = sum(len(lines(o)) for o in MODULES if o.removeprefix('fundus_fastai.').split('.')[0]==room)
    assert .8*SHARE[room]<n<=SHARE[room], f"{room} has {n} lines of code"

def test_each_room_has_its_share(): assert {o.removeprefix('fundus_fastai.').split('.')[0] for o in MODULES} <= {*SHARE, 'fundus_fastai'}

def wide(rows): return [l for l in rows if len(l)>100]

def test_wide_sees(): assert wide(['x'*100, 'x'*101])==['x'*101]

def test_width():
    rows = [l for o in MODULES for l in lines(o)]
    assert len(wide(rows))<.06*len(rows), f"{len(wide(rows))} of {len(rows)} lines have more than 100 columns"

def crowded(tree):
    "How many statements of `tree` share their line with one before them, after a semicolon"
    parts = [getattr(o, k, None) for o in ast.walk(tree) for k in ('body','orelse','finalbody')]
    return sum(a.end_lineno==b.lineno for o in parts if isinstance(o, list) for a,b in zip(o, o[1:]))

def test_crowded_sees():
    assert crowded(ast.parse('a = 1; b = 2\nif a: b; a\nfor o in b: o'))==2

def test_one_act_a_line():
    n,all_lines = sum(crowded(syntax(o)) for o in MODULES),sum(len(lines(o)) for o in MODULES)
    assert n<.005*all_lines, f"{n} extra statements in {all_lines} lines"

# --- private names

def borrowed(tree):
    "Private names that `tree` takes from our other modules: imported, or as an attribute of an imported module"
    ours = [n for n in ast.walk(tree) if isinstance(n, ast.ImportFrom) and (n.level or (n.module or '').startswith('fundus_fastai'))]
    yield from (o.name for n in ours for o in n.names if private(o.name))
    mods = {o.asname or o.name for n in ours for o in n.names if any(m.endswith('.'+o.name) for m in MODULES)}
    for n in ast.walk(tree):
        if isinstance(n, ast.Attribute) and name_of(n.value) in mods and private(n.attr): yield f'{name_of(n.value)}.{n.attr}'

def private(name): return name[0]=='_' and not name.startswith('__')

def test_borrowed_sees():
    src = "from .core import _a, b, __version__\nfrom ..score import metrics as M, estimate\nM._b(estimate.c, self._d); from os import _e"
    assert list(borrowed(ast.parse(src)))==['_a','M._b']

def test_private_names_stay_at_home():
    found = {o:list(borrowed(syntax(o))) for o in MODULES}
    assert sum(map(len, found.values()))<15, {k:v for k,v in found.items() if v}

def definitions(tree):
    "Names of functions, methods and classes of `tree`, those of Python's own (`__x__`) left out"
    return [n.name for n in ast.walk(tree) if isinstance(n, (ast.FunctionDef,ast.ClassDef)) and not n.name.startswith('__')]

def test_definitions_sees():
    src = "class A:\n  def __init__(self): pass\n  def b(self):\n    def _c(): pass"
    assert definitions(ast.parse(src))==['A','b','_c']

def test_fewer_private_definitions_than_public_ones():
    names = [n for o in MODULES for n in definitions(syntax(o))]
    n = sum(map(private, names))
    assert n<len(names)-n, f"{n} private definitions, {len(names)-n} public ones"

# --- signatures

FACES = {'fundus_fastai.commands','fundus_fastai.cli'} # their options are the flags of the command

def functions(tree):
    "Functions and methods of `tree`, each with its parameters: positional, keyword-only; `self` left out"
    for n in ast.walk(tree):
        if not isinstance(n, ast.FunctionDef): continue
        args = [o.arg for o in n.args.posonlyargs+n.args.args]
        yield n,args[args[:1] in (['self'],['cls']):],[o.arg for o in n.args.kwonlyargs]

def long(tree, most=10): return [n.name for n,a,k in functions(tree) if len(a)+len(k)>most]

def test_long_sees():
    assert long(ast.parse('def f(a, b, *, c): pass\ndef g(self, a): pass'), 2)==['f']

@pytest.mark.parametrize('mod', [o for o in MODULES if o not in FACES])
def test_signatures_are_short(mod): assert long(syntax(mod))==[]

def positional(tree):
    "Public functions at the top of `tree` that take a fourth parameter without its name"
    top = {n for o in tree.body for n in [o, *(o.body if isinstance(o, ast.ClassDef) and not private(o.name) else [])]}
    return [n.name for n,a,_ in functions(tree) if n in top and n.name[0]!='_' and len(a)>3]

def test_positional_sees():
    src = ("def f(a, b, c, d): pass\ndef g(a, b, c, *, d): pass\ndef _h(a, b, c, d): pass\n"
           "class A:\n  def m(self, a, b, c): pass\n  def n(self, a, b, c, d): pass")
    assert positional(ast.parse(src))==['f','n']

INNER = {'fundus_fastai.explain.windowed':['like'], # where a rectangle lies, said twenty times within one module
         'fundus_fastai.vision.learner':['show_results']} # as fastai calls it

@pytest.mark.parametrize('mod', [o for o in MODULES if o not in FACES])
def test_keyword_only_after_the_third(mod): assert positional(syntax(mod))==INNER.get(mod, [])

# --- kinds

KINDS = {'category','multilabel','number','grades','ordered','both'}
OTHER = {'fundus_fastai.phantom.layouts':["df['number']"]} # the same word for another thing

def quoted(src):
    "Lines of `src` that name a kind in quotes, `__all__` left out"
    tree,rows = ast.parse(src),src.splitlines()
    out = {id(o) for n in tree.body if isinstance(n, ast.Assign) and name_of(n.targets[0])=='__all__' for o in ast.walk(n)}
    found = {n.lineno for n in ast.walk(tree) if isinstance(n, ast.Constant) and n.value in KINDS and id(n) not in out}
    return [rows[o-1].strip() for o in sorted(found)]

def test_quoted_sees():
    assert quoted("__all__ = ['number']\nx = 'numbers'\nif k=='number': pass\nd = {\n'both':1}")==["if k=='number': pass", "'both':1}"]

@pytest.mark.parametrize('mod', [o for o in MODULES if o!='fundus_fastai.score.kinds'])
def test_kinds_are_named_in_one_room(mod):
    found = quoted(py_file(mod).read_text(encoding='utf-8'))
    assert [o for o in found if not any(k in o for k in OTHER.get(mod, ()))]==[]

# --- the face

def listed(tree):
    "The names that `tree` exports by `__all__`"
    for n in tree.body:
        if isinstance(n, ast.Assign) and name_of(n.targets[0])=='__all__': return ast.literal_eval(n.value)
    return []

def face():
    "Name -> module, of all that `from fundus_fastai.all import *` brings beside fastai's own"
    names = {}
    for n in syntax('fundus_fastai.all').body:
        if not isinstance(n, ast.ImportFrom) or not n.level or not n.module: continue
        mod = f'fundus_fastai.{n.module}'
        for o in n.names: names |= dict.fromkeys(listed(syntax(mod)) if o.name=='*' else [o.name], mod)
    return names

def test_the_face_can_be_learned():
    assert 100<len(face())<=181, f"{len(face())} names"

def test_the_face_shadows_nothing():
    from fastai.vision import all as fastai
    agreed = {'load_model','save_model'} # our users' names from the first day on; fastai's own hardly anybody types
    assert sorted(set(face()) & (set(vars(fastai)) | set(vars(builtins))) - agreed)==[]

def names_in(src):
    "Names that the cell `src` uses; imports, attributes, strings and comments do not count"
    return {n.id for n in ast.walk(ast.parse(plain(src))) if isinstance(n, ast.Name)}

def test_names_in_sees():
    assert names_in('#| hide\nfrom a import b\n%time 1\nc(d.e, "f") # g')=={'c','d'}

@cache
def users():
    "Name -> pages on which a cell uses it"
    found = {}
    for nb in NBS:
        for n in set().union(*map(names_in, code(nb))): found.setdefault(n, set()).add(nb)
    return found

def test_the_face_is_used():
    "Each public name is used on a page other than its own"
    idle = {k:m for k,m in face().items() if not users().get(k, set())-{MODULES[m]}}
    assert idle=={}
