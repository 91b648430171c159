"The house rules that no notebook can see: imports, steps, style, packaging, security"
import ast, base64, io, json, re, shutil, statistics, subprocess, sys, tokenize, tomllib, zipfile
from functools import cache
from importlib.metadata import distribution, version
from pathlib import Path
import pytest
import fundus_fastai

ROOT = Path(__file__).resolve().parents[2]
LIB = Path(fundus_fastai.__file__).parent
sys.path.insert(0, str(ROOT/'.ci'))
from links import badge, install, notebooks, settings

CFG = settings()
NBS = notebooks()
IDS = [o.relative_to(ROOT/'nbs').as_posix() for o in NBS]
SOURCE = (ROOT/'fundus_fastai').is_dir() # False in the newest lane, which tests the installed wheel
NBDEV2 = version('nbdev').startswith('2.')

# What is switched off on purpose: notebook -> reason, or 'notebook:text of the cell' -> reason
OFF = {}

def run(*args, **kwargs):
    "Run a program of this environment; its output is in the error if it fails"
    res = subprocess.run([str(o) for o in args], capture_output=True, text=True, **kwargs)
    assert res.returncode==0, f"{args}\n{res.stdout[-3000:]}\n{res.stderr[-3000:]}"
    return res.stdout

def nbdev(mod, name, cwd): run(sys.executable, '-c', f'from nbdev.{mod} import {name}; {name}()', cwd=cwd)

@cache
def cells(nb): return json.loads(nb.read_text(encoding='utf-8'))['cells']
def source(cell): return ''.join(cell['source'])
def code(nb): return [source(o) for o in cells(nb) if o['cell_type']=='code']
def exported(src): return re.search(r'^#\|\s*exports?\b', src, re.M)

def default_exp(nb):
    "The module that `nb` exports, if any"
    return next((m[1] for o in code(nb) if (m := re.search(r'^#\|\s*default_exp\s+(\S+)', o, re.M))), None)

def number(nb):
    "The number in front of a top-level notebook's name"
    m = re.match(r'(\d+)_', nb.name)
    return int(m[1]) if m and nb.parent==ROOT/'nbs' else None

MODULES = {f'fundus_fastai.{m}':nb for nb in NBS if (m := default_exp(nb))}

def py_file(mod):
    "The generated file of module `mod`"
    return LIB.joinpath(*mod.split('.')[1:]).with_suffix('.py')

# --- the import law

def absolute(node, mod):
    "The package path that an import-from in module `mod` starts from"
    if not node.level: return node.module
    return '.'.join(mod.split('.')[:-node.level] + ([node.module] if node.module else []))

def name_of(node):
    "`b` of the syntax `a.b` or `b`"
    return getattr(node, 'attr', getattr(node, 'id', ''))

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

def plain(src):
    "Cell text without shell lines and magics"
    return '\n'.join(l for l in src.splitlines() if not re.match(r'\s*[!%]', l))

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
    tree = ast.parse(py_file(mod).read_text(encoding='utf-8'))
    bad = {o for o in imported(tree, mod) if number(MODULES[o]) >= number(MODULES[mod])}
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

# --- settings

PROJECT = tomllib.loads((ROOT/'pyproject.toml').read_text(encoding='utf-8'))

def test_settings_agree():
    p,nbdev = PROJECT['project'],PROJECT['tool']['nbdev']
    assert p['name'] == CFG['lib_name']
    assert p['requires-python'] == f">={CFG['min_python']}"
    assert (p['license'], CFG['license']) == ('Apache-2.0', 'apache2')
    for k in ('lib_path','nbs_path','doc_path','branch','title','tst_flags'): assert nbdev[k] == CFG[k], k
    assert fundus_fastai.__version__ == CFG['version']
    marks = PROJECT['tool']['pytest']['ini_options']['markers']
    assert {o.split(':')[0] for o in marks} == set(CFG['tst_flags'].split())

def test_no_upper_bounds():
    "Colab must not have to downgrade anything for us"
    assert not re.search(r'<|==|~=', CFG['requirements'])

def test_installed_metadata():
    meta = distribution('fundus_fastai').metadata
    assert meta['Version'] == CFG['version']
    assert set(meta.get_all('Provides-Extra')) >= {'dev','app','explain','onnx','dist','test'}
    assert any(o == f"Repository, {CFG['git_url']}" for o in meta.get_all('Project-URL'))
    scripts = {o.name:o.value for o in distribution('fundus_fastai').entry_points if o.group=='console_scripts'}
    assert scripts == {'fundus': 'fundus_fastai.cli:main'}

# --- in step

@pytest.mark.parametrize('script', ['links','readme'])
def test_derived_text_is_in_step(script): run(sys.executable, ROOT/f'.ci/{script}.py', '--check')

def test_readme_commands():
    lines = (ROOT/'README.md').read_text(encoding='utf-8').splitlines()
    assert "pip install . && fundus demo" in lines
    assert "pip install -e '.[dev]' && nbdev_test && pytest -q tests" in lines

def test_readme_links_to_notebooks_that_exist():
    found = re.findall(r'/blob/[\w.-]+/(nbs/\S+?\.ipynb)\)', (ROOT/'README.md').read_text(encoding='utf-8'))
    assert found and [o for o in found if not (ROOT/o).exists()] == []

def tree(d):
    "Relative path -> content of all modules in `d`"
    files = [o for o in d.rglob('*.py') if '__pycache__' not in o.parts]
    return {o.relative_to(d).as_posix():o.read_bytes() for o in files}

def different(a, b): return sorted(k for k in a.keys()|b.keys() if a.get(k)!=b.get(k))

@pytest.fixture(scope='module')
def anew(tmp_path_factory):
    "A copy of the notebooks, cleaned, and the library exported from them into an empty folder"
    if not (NBDEV2 and SOURCE): pytest.skip("export and clean belong to nbdev 2 and a source tree")
    d = tmp_path_factory.mktemp('anew')/'repo'
    shutil.copytree(ROOT/'nbs', d/'nbs', ignore=shutil.ignore_patterns('.ipynb_checkpoints'))
    for o in ('settings.ini','pyproject.toml'): shutil.copy(ROOT/o, d)
    nbdev('clean', 'nbdev_clean', d)
    nbdev('doclinks', 'nbdev_export', d)
    return d

def test_library_is_what_the_notebooks_export(anew):
    assert different(tree(anew/'fundus_fastai'), tree(ROOT/'fundus_fastai')) == []

def test_notebooks_are_clean(anew):
    assert [o for o in NBS if (anew/o.relative_to(ROOT)).read_bytes()!=o.read_bytes()] == []

# --- pages

def switched_off(nb):
    "Whatever in `nb` the test tool passes over without a word"
    name = nb.relative_to(ROOT/'nbs').as_posix()
    if any(o[0] in '_.' for o in name.split('/')) or (nb.parent/'.notest').exists(): yield name
    if any('skip_exec' in source(o) for o in cells(nb)[:3] if o['cell_type']!='code'): yield name
    for src in code(nb):
        if re.search(r'^#\|\s*eval:\s*false', src, re.M|re.I) or 'nbdev_export(' in src: yield f'{name}:{src}'

def test_only_what_we_know_is_switched_off(): assert {o for nb in NBS for o in switched_off(nb)} == set(OFF)

@pytest.mark.parametrize('nb', NBS, ids=IDS)
def test_page_opens_with_title_promise_and_badge(nb):
    md = '\n\n'.join(source(o) for o in cells(nb)[:3] if o['cell_type']=='markdown')
    assert re.match(r'# \S.*\n+> \S', md), "first a title (# ...), then a promise (> ...)"
    if nb.name=='index.ipynb': return
    assert badge(nb, CFG) in [source(o).strip() for o in cells(nb)]
    assert install(CFG) in [source(o).strip() for o in cells(nb)]

def outputs(nb): return [o for c in cells(nb) for o in c.get('outputs', [])]

def picture_bytes(out):
    "Size of the pictures in an output, those inside HTML included"
    data = {k:''.join(v) if isinstance(v, list) else str(v) for k,v in out.get('data', {}).items()}
    inline = re.findall(r'data:image/[\w+]+;base64,([\w+/=]+)', data.get('text/html', ''))
    return (sum(len(base64.b64decode(v)) for k,v in data.items() if k in ('image/png','image/jpeg'))
            + len(data.get('image/svg+xml', '')) + sum(len(o)*3//4 for o in inline))

def text(out):
    "Everything in an output that is not a coded picture"
    shown = {k:v for k,v in out.get('data', {}).items() if not k.startswith('image/')}
    return re.sub(r'base64,[\w+/=]+', '', json.dumps(out | {'data':shown}))

@pytest.mark.parametrize('nb', NBS, ids=IDS)
def test_outputs_are_light_and_name_no_machine(nb):
    assert sum(map(picture_bytes, outputs(nb))) < 200_000
    shown = [m[0] for o in outputs(nb) if (m := re.search(r'.{0,40}/(tmp|root|work|home|opt|Users)/.{0,40}', text(o)))]
    assert shown == []

# --- style, measured

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

def docless(src):
    "Complaints about the public definitions in `src`"
    marks = comments(src)
    for n in ast.parse(src).body:
        if not isinstance(n, (ast.FunctionDef,ast.AsyncFunctionDef,ast.ClassDef)) or n.name[0]=='_': continue
        if not ast.get_docstring(n): yield f'{n.name}: no doc string'
        if isinstance(n, ast.ClassDef): continue
        yield from (f'{n.name}: parameter {o} has no comment' for o in bare(n, marks))

def test_docless_sees():
    good = 'def f(a, # rows\n      b=1, # columns\n      **kwargs\n     ):\n    "Do"'
    assert list(docless(good)) == [] and list(docless('def _f(a): pass')) == []
    assert list(docless('def f(a, b # both\n     ): "Do"')) == ['f: parameter b has no comment']
    assert list(docless('def f(a): pass')) == ['f: no doc string', 'f: parameter a has no comment']

@pytest.mark.parametrize('mod', MODULES)
def test_public_names_are_documented(mod): assert list(docless(py_file(mod).read_text(encoding='utf-8'))) == []

# --- packaging

@pytest.fixture(scope='module')
def packed(tmp_path_factory):
    "Names of the files in the wheel: built here from a source tree, or as installed"
    installed = distribution('fundus_fastai').files
    if not SOURCE: return {str(o) for o in installed if o.suffix!='.pyc' and '..' not in o.parts}
    d = tmp_path_factory.mktemp('wheel')
    shutil.copytree(ROOT/'fundus_fastai', d/'src/fundus_fastai', ignore=shutil.ignore_patterns('__pycache__'))
    for o in 'settings.ini pyproject.toml setup.py README.md LICENSE MANIFEST.in'.split(): shutil.copy(ROOT/o, d/'src')
    run(sys.executable, '-m', 'build', '--wheel', '--no-isolation', '--outdir', d, d/'src')
    return set(zipfile.ZipFile(next(d.glob('*.whl'))).namelist())

TEMPLATES = {f'fundus_fastai/run/templates/{o}' for o in ('report.html.j2','macros.html.j2','checklists.html.j2','words.j2',
                                                       'report.css','card.md.j2')}

def test_wheel_holds_the_library_and_nothing_else(packed):
    files = {o for o in packed if '.dist-info/' not in o}
    want = {o.replace('.', '/')+'.py' for o in MODULES}
    parents = {p.as_posix()+'/__init__.py' for o in want for p in Path(o).parents if p.name}
    assert files == want | parents | TEMPLATES | {'fundus_fastai/_modidx.py'}

# --- what is imported when

def loaded(src):
    "Names of the modules that a fresh Python has after `src`"
    return set(run(sys.executable, '-c', f"import sys\n{src}\nprint(*sys.modules)").split())

def test_import_is_light(): assert not loaded('import fundus_fastai') & {'torch','fastai','timm','pandas','kaggle'}

def test_help_is_light():
    src = """sys.argv = ['fundus','--help']
from fundus_fastai.cli import main
try: main()
except SystemExit as e: assert not e.code"""
    assert not loaded(src) & {'torch','fastai','timm','pandas','matplotlib','sklearn','kaggle'}

def test_nothing_authenticates_on_import(): assert 'kaggle' not in loaded('from fundus_fastai.all import *')

# --- no pickle

PICKLES = {'pickle','cPickle','_pickle','dill','cloudpickle','joblib','shelve','marshal','jsonpickle'}
UNSAFE = {'load_learner','read_pickle','to_pickle'}

def pickles(tree):
    "Whatever in `tree` could run code from a file"
    def kw(n, name, default=None):
        return next((getattr(o.value, 'value', None) for o in n.keywords if o.arg==name), default)
    for n in ast.walk(tree):
        if isinstance(n, ast.Import): yield from (o.name for o in n.names if o.name.split('.')[0] in PICKLES)
        if isinstance(n, ast.ImportFrom) and (n.module or '').split('.')[0] in PICKLES: yield n.module
        if isinstance(n, (ast.Attribute,ast.Name)) and name_of(n) in UNSAFE: yield name_of(n)
        if not isinstance(n, ast.Call): continue
        if ast.unparse(n.func)=='torch.load' and kw(n, 'weights_only') is not True: yield ast.unparse(n)
        if kw(n, 'allow_pickle', False) is not False: yield ast.unparse(n)

def test_pickles_sees():
    def seen(src): return list(pickles(ast.parse(src)))
    for o in ('import pickle', 'from joblib import load', 'torch.load(f)', 'torch.load(f, weights_only=False)',
              'torch.load(f, weights_only=w)', 'np.load(f, allow_pickle=True)', 'np.load(f, allow_pickle=a)',
              'load_learner(f)', 'pd.read_pickle(f)'): assert seen(o), o
    assert seen('torch.load(f, weights_only=True); np.load(f, allow_pickle=False)') == []

@pytest.mark.parametrize('path', sorted(LIB.rglob('*.py')), ids=lambda o: o.relative_to(LIB).as_posix())
def test_no_pickle(path): assert list(pickles(ast.parse(path.read_text(encoding='utf-8')))) == []

# --- workflows

WORKFLOWS = sorted((ROOT/'.github/workflows').glob('*.yml'))

@pytest.mark.parametrize('path', WORKFLOWS, ids=lambda o: o.name)
def test_workflow_is_pinned_and_modest(path):
    import yaml
    txt = path.read_text(encoding='utf-8')
    uses = re.findall(r'uses: (.*)', txt)
    assert uses and all(re.fullmatch(r'[\w./-]+@[0-9a-f]{40} # v[\d.]+', o) for o in uses)
    d = yaml.safe_load(txt)
    assert d['permissions'] == {'contents': 'read'} and 'concurrency' in d
    assert all('timeout-minutes' in o for o in d['jobs'].values())

def test_one_pin_per_action():
    pins = {o for p in WORKFLOWS for o in re.findall(r'uses: (\S+) #', p.read_text(encoding='utf-8'))}
    assert len({o.split('@')[0] for o in pins}) == len(pins)
