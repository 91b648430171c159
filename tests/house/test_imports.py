"Who imports whom: by number and by room, and what may be imported when"
import ast
import pytest
from house.shared import MODULES, NBS, code, loaded, name_of, number, plain, syntax

def absolute(node, mod):
    "The package path that an import-from in module `mod` starts from"
    if not node.level: return node.module
    return '.'.join(mod.split('.')[:-node.level] + ([node.module] if node.module else []))

def imported(tree, mod):
    "Names of our modules that `tree` imports, wherever in it and in whatever way"
    for n in ast.walk(tree):
        if isinstance(n, ast.Import): names = [o.name for o in n.names]
        elif isinstance(n, ast.ImportFrom):
            base = absolute(n, mod)
            names = [base] + [f'{base}.{o.name}' for o in n.names]
        elif isinstance(n, ast.Call) and name_of(n.func) in {'import_module','__import__','need'}:
            names = [a.value for a in n.args if isinstance(a, ast.Constant)]
        else: continue
        yield from (o for o in names if o in MODULES)

def test_import_law_finds_imports():
    src = """import os
def f():
    from .core import need
    from fundus_fastai import core
    import_module('fundus_fastai.core')"""
    assert list(imported(ast.parse(src), 'fundus_fastai.x')) == ['fundus_fastai.core']*3
    assert list(imported(ast.parse('from ..core import need'), 'fundus_fastai.data.x')) == ['fundus_fastai.core']

@pytest.mark.parametrize('mod', MODULES)
def test_import_law(mod):
    "A module imports only modules of lower-numbered notebooks"
    bad = {o for o in imported(syntax(mod), mod) if number(MODULES[o]) >= number(MODULES[mod])}
    assert not bad, f"{mod} ({MODULES[mod].name}) imports {bad}, which do not come before it"

@pytest.mark.parametrize('nb', [o for o in NBS if number(o) is not None], ids=lambda o: o.name)
def test_import_law_in_cells(nb):
    "So do the cells of a notebook; its own module it may import"
    mods = {o for src in code(nb) for o in imported(ast.parse(plain(src)), 'fundus_fastai._')}
    bad = {o for o in mods if number(MODULES[o]) > number(nb)}
    assert not bad, f"{nb.name} imports {bad}, which do not come before it"

def test_numbers_are_unique():
    nums = [number(o) for o in NBS if number(o) is not None]
    assert len(nums)==len(set(nums))

@pytest.mark.parametrize('mod', MODULES)
def test_notebook_is_named_for_its_module(mod):
    assert MODULES[mod].stem.split('_', 1)[1] == mod.removeprefix('fundus_fastai.')

# --- by room

# Room -> the numbers of its pages, in the order in which rooms stand; those without pages yet are kept free
ROOMS = {'core':range(1), 'options':range(1,2), 'words':range(2,3), 'colab':range(3,4), 'hub':range(4,5), 'local':range(5,10),
         'phantom':range(10,13), 'image':range(13,20), 'score':range(20,30), 'data':range(30,40),
         'vision':range(40,50), 'explain':range(50,60), 'run':range(60,70), 'anatomy':range(70,80), 'ship':range(80,90),
         'quiz':range(91,94), 'app':range(94,97), 'commands':range(97,98), 'cli':range(98,99), 'all':range(99,100)}
ORDER = list(ROOMS)

def room(mod):
    "The room of module `mod`"
    return mod.split('.')[1]

def above(mods, here):
    "Modules of `mods` that stand in a room above that of `here`"
    return sorted(o for o in mods if ORDER.index(room(o)) > ORDER.index(here))

def test_room_law_sees():
    mods = [f'fundus_fastai.{o}' for o in ('core','data.read','vision.data','explain.maps','data.audit')]
    assert above(mods, 'data')==['fundus_fastai.explain.maps','fundus_fastai.vision.data'] and above(mods, 'run')==[]

@pytest.mark.parametrize('mod', MODULES)
def test_room_law(mod):
    "A room stands wholly above what it uses"
    bad = above(imported(syntax(mod), mod), room(mod))
    assert not bad, f"{mod} imports {bad}: {room(mod)} stands below ({' < '.join(ORDER)})"

@pytest.mark.parametrize('mod', MODULES)
def test_room_law_in_cells(mod):
    "So do its pages"
    mods = {o for src in code(MODULES[mod]) for o in imported(ast.parse(plain(src)), 'fundus_fastai._')}
    assert above(mods, room(mod))==[]

@pytest.mark.parametrize('mod', MODULES)
def test_pages_are_numbered_by_room(mod): assert number(MODULES[mod]) in ROOMS[room(mod)]

def test_rooms_do_not_overlap():
    nums = [n for o in ROOMS.values() for n in o]
    assert nums==sorted(set(nums))

# --- what is imported when

def test_import_is_light(): assert not loaded('import fundus_fastai') & {'torch','fastai','timm','pandas','kaggle'}

def test_help_is_light():
    src = """sys.argv = ['fundus','--help']
from fundus_fastai.cli import main
try: main()
except SystemExit as e: assert not e.code"""
    assert not loaded(src) & {'torch','fastai','timm','pandas','matplotlib','sklearn','kaggle'}

def test_nothing_authenticates_on_import(): assert 'kaggle' not in loaded('from fundus_fastai.all import *')

BELOW = ['core','options','words','colab','hub','local','phantom','image','score','data'] # pages that .ci/newest has no need to run

def outside(tree):
    "Packages of others that `tree` imports"
    for n in ast.walk(tree):
        if isinstance(n, ast.Import): yield from (o.name.split('.')[0] for o in n.names)
        if isinstance(n, ast.ImportFrom) and not n.level: yield n.module.split('.')[0]

@pytest.mark.parametrize('mod', [o for o in MODULES if room(o) in BELOW])
def test_science_knows_no_network(mod):
    "Neither a module of the lower rooms nor a cell of its page imports fastai, torch or timm"
    trees = [syntax(mod), *(ast.parse(plain(o)) for o in code(MODULES[mod]))]
    assert not {o for t in trees for o in outside(t)} & {'fastai','torch','torchvision','timm','nbdev'}
